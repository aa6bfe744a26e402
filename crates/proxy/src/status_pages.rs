//! What the metrics port answers besides metrics: who this is, how it was configured, how verbose it is.

mod negotiation;
mod sli;
mod zpages;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::{Method, Request, StatusCode};
use jiff::Timestamp;

use crate::http_server::{Handler, Reply, json, not_found, plain};
use crate::logging::logger;
use crate::metrics::Metrics;
use sli::HealthChecks;

/// The content type of the Prometheus text format, as newer scrapers ask for it.
const METRICS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// What does not change while the process runs.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The proxy mode in effect: `iptables`.
    pub mode: String,
    /// The body of `/configz`: a JSON object with the configuration under `kubeproxy.config.k8s.io`.
    pub configz: String,
    /// Every flag with its value, also the hidden ones.
    pub flags: BTreeMap<String, String>,
    /// Whether `/debug/…` exists.
    pub profiling: bool,
    /// The Kubernetes version whose behaviour is offered, without the `v`: `1.36.2`.
    pub version: String,
    /// Of rustc: what stands where a Go program names its runtime.
    pub compiler_version: String,
    pub started: Timestamp,
}

/// What the metrics server answers: exact paths.
pub fn handler(facts: Facts, metrics: Arc<Metrics>) -> Handler {
    let pages = Pages { facts, metrics, checks: HealthChecks::default() };
    Arc::new(move |request| pages.answer(request))
}

struct Pages {
    facts: Facts,
    metrics: Arc<Metrics>,
    checks: HealthChecks,
}

impl Pages {
    fn answer(&self, request: &Request<Bytes>) -> Reply {
        match request.uri().path() {
            "/healthz" => {
                self.checks.ping_succeeded();
                let verbose = request.uri().query().is_some_and(is_verbose);
                plain(StatusCode::OK, if verbose { "[+]ping ok\nhealthz check passed\n" } else { "ok" })
            }
            "/healthz/ping" => plain(StatusCode::OK, "ok"),
            "/metrics" => self.metrics(),
            "/metrics/slis" => self.slis(request.method()),
            "/proxyMode" => plain(StatusCode::OK, self.facts.mode.clone()),
            "/configz" => json(StatusCode::OK, self.facts.configz.clone()),
            "/flagz" => zpages::flagz(&self.facts, request.headers()),
            "/statusz" => zpages::statusz(&self.facts, request.headers(), Timestamp::now()),
            path if self.facts.profiling => debug_page(path, request),
            _ => not_found(),
        }
    }

    fn metrics(&self) -> Reply {
        match self.metrics.text() {
            Ok(text) => {
                let mut reply = metrics_text(text);
                if let Some(start) = self.metrics.process_start_seconds() {
                    let name = HeaderName::from_static("process-start-time-unix");
                    reply.headers_mut().insert(name, HeaderValue::from(start as u64));
                }
                reply
            }
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    fn slis(&self, method: &Method) -> Reply {
        if method == Method::DELETE {
            self.checks.reset();
            return plain(StatusCode::OK, "metrics reset\n");
        }
        metrics_text(self.checks.text(self.metrics.process_start_seconds()))
    }
}

fn metrics_text(text: String) -> Reply {
    let mut reply = plain(StatusCode::OK, text);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(METRICS_TEXT));
    reply
}

fn is_verbose(query: &str) -> bool {
    query.split('&').any(|pair| pair.split('=').next() == Some("verbose"))
}

fn debug_page(path: &str, request: &Request<Bytes>) -> Reply {
    match path {
        "/debug/flags" => plain(StatusCode::OK, "/debug/flags/v\n"),
        "/debug/flags/v" => set_verbosity(request),
        "/debug/pprof" => {
            let mut reply = plain(StatusCode::FOUND, "/debug/pprof/\n");
            reply.headers_mut().insert(LOCATION, HeaderValue::from_static("/debug/pprof/"));
            reply
        }
        path if path.starts_with("/debug/pprof/") => {
            plain(StatusCode::NOT_FOUND, "profiles are not available: this proxy has no Go runtime\n")
        }
        _ => not_found(),
    }
}

fn set_verbosity(request: &Request<Bytes>) -> Reply {
    if request.method() != Method::PUT {
        return plain(StatusCode::NOT_ACCEPTABLE, "unsupported http method\n");
    }
    let text = String::from_utf8_lossy(request.body());
    match text.parse::<i32>() {
        Ok(level) => {
            logger().set_verbosity(u32::try_from(level).unwrap_or(0));
            plain(StatusCode::OK, format!("successfully set klog.logging.verbosity to {text}\n"))
        }
        Err(error) => {
            plain(StatusCode::BAD_REQUEST, format!("failed set klog.logging.verbosity {text:?}: {error}\n"))
        }
    }
}

#[cfg(test)]
mod tests;
