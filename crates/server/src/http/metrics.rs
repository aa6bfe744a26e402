//! What the server counts: `/metrics`, under upstream's names.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use super::RequestInfo;
use super::version::{GIT_VERSION, MINOR};
use crate::handlers::Verb;

/// Seconds. Fewer than upstream's: each costs memory for every verb and resource.
const BUCKETS: &[f64] = &[0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0];

#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    long_running: IntGaugeVec,
}

/// What a request is counted under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
}

impl Labels {
    /// `is_known` says that the resource exists: what clients make up is not counted by its name.
    pub fn of(info: &RequestInfo, method: &http::Method, is_known: bool) -> Labels {
        let resource = info.resource.as_ref().filter(|_| is_known);
        let verb = match resource.and_then(|resource| resource.verb) {
            Some(Verb::Get) => "GET",
            Some(Verb::List) => "LIST",
            Some(Verb::Watch) => "WATCH",
            Some(Verb::Create) => "POST",
            Some(Verb::Update) => "PUT",
            Some(Verb::Patch) => "PATCH",
            Some(Verb::Delete) => "DELETE",
            Some(Verb::DeleteCollection) => "DELETECOLLECTION",
            None => match *method {
                http::Method::GET => "GET",
                http::Method::POST => "POST",
                _ => "other",
            },
        };
        let Some(resource) = resource else {
            let none = String::new();
            let (group, version, resource, subresource) = (none.clone(), none.clone(), none.clone(), none);
            return Labels { verb, group, version, resource, subresource, scope: "" };
        };
        let scope = match (resource.name.is_empty(), resource.namespace.is_empty()) {
            (false, _) => "resource",
            (true, false) => "namespace",
            (true, true) => "cluster",
        };
        Labels {
            verb,
            group: resource.group.clone(),
            version: resource.version.clone(),
            resource: resource.resource.clone(),
            subresource: resource.subresource.clone(),
            scope,
        }
    }

    fn values(&self) -> [&str; 7] {
        [self.verb, &self.group, &self.version, &self.resource, &self.subresource, self.scope, "apiserver"]
    }
}

const LABELS: [&str; 7] = ["verb", "group", "version", "resource", "subresource", "scope", "component"];

impl Metrics {
    /// # Errors
    /// When two have the same name.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let mut with_code = LABELS.to_vec();
        with_code.push("code");
        let requests = IntCounterVec::new(
            Opts::new(
                "apiserver_request_total",
                "Counter of apiserver requests broken out for each verb, API resource and HTTP response code.",
            ),
            &with_code,
        )?;
        let durations = HistogramVec::new(
            HistogramOpts::new(
                "apiserver_request_duration_seconds",
                "Response latency distribution in seconds for each verb, group, version, resource, subresource, scope and component.",
            )
            .buckets(BUCKETS.to_vec()),
            &LABELS,
        )?;
        let long_running = IntGaugeVec::new(
            Opts::new(
                "apiserver_longrunning_requests",
                "Gauge of all active long-running apiserver requests.",
            ),
            &LABELS,
        )?;
        let build = IntGaugeVec::new(
            Opts::new("kubernetes_build_info", "Which version of Kubernetes this server speaks."),
            &["major", "minor", "git_version"],
        )?;
        build.with_label_values(&["1", MINOR, GIT_VERSION]).set(1);
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(durations.clone()))?;
        registry.register(Box::new(long_running.clone()))?;
        registry.register(Box::new(build))?;
        Ok(Metrics { registry, requests, durations, long_running })
    }

    /// A request was answered; `took` is `None` for those that may take as long as they like.
    pub fn count(&self, labels: &Labels, code: u16, took: Option<Duration>) {
        let values = labels.values();
        let code = code.to_string();
        let mut with_code = values.to_vec();
        with_code.push(&code);
        self.requests.with_label_values(&with_code).inc();
        if let Some(took) = took {
            self.durations.with_label_values(&values).observe(took.as_secs_f64());
        }
    }

    /// Counts a long-running request for as long as the result lives.
    pub fn enter(&self, labels: &Labels) -> Running {
        let gauge = self.long_running.with_label_values(&labels.values());
        gauge.inc();
        Running(gauge)
    }

    /// As the text that is scraped.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

#[derive(Debug)]
pub struct Running(prometheus::IntGauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::http::Query;

    #[test]
    fn requests_are_counted_by_what_they_are() {
        let metrics = Metrics::new().unwrap();
        let query = Query::parse("watch=1");
        let info = RequestInfo::parse(&Method::GET, "/api/v1/namespaces/default/services", &query).unwrap();
        let watch = Labels::of(&info, &Method::GET, true);
        let running = metrics.enter(&watch);
        metrics.count(&watch, 200, None);
        metrics.count(&Labels::of(&info, &Method::GET, false), 404, Some(Duration::from_millis(2)));
        let text = metrics.text().unwrap();
        let services = r#"component="apiserver",group="",resource="services",scope="namespace",subresource="",verb="WATCH",version="v1""#;
        assert!(text.contains(&format!("apiserver_longrunning_requests{{{services}}} 1")), "{text}");
        assert!(
            text.contains(
                r#"apiserver_request_total{code="404",component="apiserver",group="",resource="","#
            ),
            "{text}"
        );
        drop(running);
        assert!(metrics.text().unwrap().contains(&format!("apiserver_longrunning_requests{{{services}}} 0")));
    }
}
