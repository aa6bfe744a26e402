use std::net::SocketAddr;

use serde_json::Value;
use tokio::runtime::Runtime;

use super::*;
use crate::http_server::Server;
use crate::http_server::testing::{Answer, get, runtime, send, serve};
use crate::metrics::PacketCounters;

struct Scene {
    address: SocketAddr,
    _server: Server,
    _runtime: Runtime,
}

fn scene(profiling: bool) -> Scene {
    let facts = Facts {
        mode: "iptables".to_owned(),
        configz: "{\"kubeproxy.config.k8s.io\":{\"kind\":\"KubeProxyConfiguration\"}}".to_owned(),
        flags: BTreeMap::from([
            ("v".to_owned(), "2".to_owned()),
            ("bind-address".to_owned(), "0.0.0.0".to_owned()),
        ]),
        profiling,
        version: "1.36.2".to_owned(),
        compiler_version: "rustc 1.95.0".to_owned(),
        started: "2026-11-23T09:00:00.5Z".parse().unwrap(),
    };
    let packets = PacketCounters {
        ct_state_invalid_dropped: Box::new(|| None),
        localhost_node_ports_accepted: Box::new(|| None),
    };
    let runtime = runtime();
    let server = serve(&runtime, handler(facts, Arc::new(Metrics::new(packets).unwrap())));
    Scene { address: server.address(), _server: server, _runtime: runtime }
}

impl Scene {
    fn get(&self, path: &str) -> Answer {
        get(self.address, path)
    }

    fn accept(&self, path: &str, accept: &str) -> Answer {
        send(
            self.address,
            &format!("GET {path} HTTP/1.1\r\nHost: test\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"),
        )
    }

    fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}"
        );
        send(self.address, &format!("{head}\r\n\r\n{body}"))
    }
}

#[test]
fn fixed_pages_answer_as_upstream_does() {
    let scene = scene(false);
    for (path, body, content_type) in [
        ("/healthz", "ok", "text/plain; charset=utf-8"),
        ("/healthz?verbose", "[+]ping ok\nhealthz check passed\n", "text/plain; charset=utf-8"),
        ("/healthz?verbose=1&x", "[+]ping ok\nhealthz check passed\n", "text/plain; charset=utf-8"),
        ("/healthz/ping", "ok", "text/plain; charset=utf-8"),
        ("/proxyMode", "iptables", "text/plain; charset=utf-8"),
        (
            "/configz",
            "{\"kubeproxy.config.k8s.io\":{\"kind\":\"KubeProxyConfiguration\"}}",
            "application/json",
        ),
    ] {
        let answer = scene.get(path);
        assert_eq!((answer.status, answer.body.as_str()), (200, body), "{path}");
        assert!(answer.has_header(&format!("content-type: {content_type}")), "{path}: {}", answer.head);
        assert!(answer.has_header("x-content-type-options: nosniff"), "{path}");
    }
}

#[test]
fn unknown_paths_are_not_found() {
    let scene = scene(false);
    for path in ["/", "/livez", "/readyz", "/metrics/", "/debug/pprof/", "/debug/flags/v"] {
        let answer = scene.get(path);
        assert_eq!((answer.status, answer.body.as_str()), (404, "404 page not found\n"), "{path}");
    }
}

#[test]
fn metrics_are_prometheus_text_with_the_start_time_in_a_header() {
    let scene = scene(false);
    let answer = scene.accept("/metrics", "application/openmetrics-text");
    assert_eq!(answer.status, 200);
    assert!(answer.has_header(&format!("content-type: {}", METRICS_TEXT.to_lowercase())));
    let header = answer.head.lines().find_map(|line| line.strip_prefix("process-start-time-unix: ")).unwrap();
    assert!(header.parse::<u64>().unwrap() > 1_000_000_000);
    assert!(answer.body.contains("kubeproxy_sync_proxy_rules_service_changes_total 0\n"));
}

#[test]
fn service_level_indicators_count_health_checks_until_reset() {
    let scene = scene(false);
    assert!(!scene.get("/metrics/slis").body.contains("healthcheck"));
    scene.get("/healthz");
    scene.get("/healthz");
    let body = scene.get("/metrics/slis").body;
    assert!(body.contains("kubernetes_healthcheck{name=\"ping\",type=\"healthz\"} 1\n"), "{body}");
    assert!(
        body.contains("kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"healthz\"} 2\n"),
        "{body}"
    );
    assert!(body.contains("\nprocess_start_time_seconds "), "{body}");
    assert_eq!(scene.call("DELETE", "/metrics/slis", "").body, "metrics reset\n");
    assert!(!scene.get("/metrics/slis").body.contains("healthcheck"));
}

#[test]
fn flagz_is_text_for_people() {
    let scene = scene(false);
    for answer in [scene.get("/flagz"), scene.accept("/flagz", "text/plain"), scene.accept("/flagz", "*/*")] {
        assert_eq!(answer.status, 200);
        assert!(answer.body.starts_with("\nkube-proxy flagz\nWarning: "), "{}", answer.body);
        let delimiters = [":", ": ", "=", " "];
        assert!(delimiters.iter().any(|d| answer.body.contains(&format!("\nbind-address{d}0.0.0.0\n"))));
    }
}

#[test]
fn flagz_and_statusz_are_objects_for_those_who_name_the_version() {
    let scene = scene(false);
    let flagz = scene.accept("/flagz", "application/json;v=v1beta1;g=config.k8s.io;as=Flagz");
    assert!(flagz.has_header("content-type: application/json"));
    assert!(!flagz.head.contains("warning:"));
    assert_eq!(
        serde_json::from_str::<Value>(&flagz.body).unwrap(),
        serde_json::json!({
            "kind": "Flagz",
            "apiVersion": "config.k8s.io/v1beta1",
            "metadata": { "name": "kube-proxy" },
            "flags": { "bind-address": "0.0.0.0", "v": "2" },
        })
    );

    let old = scene
        .accept("/statusz", "application/yaml, application/json; v=v1alpha1; g=config.k8s.io; as=Statusz");
    assert!(old.head.contains("warning: 299 - "), "{}", old.head);
    let statusz: Value = serde_json::from_str(&old.body).unwrap();
    assert_eq!(statusz["apiVersion"], "config.k8s.io/v1alpha1");
    assert_eq!(statusz["startTime"], "2026-11-23T09:00:00Z");
    assert_eq!((&statusz["binaryVersion"], &statusz["emulationVersion"]), (&"1.36.2".into(), &"1.36".into()));
    assert_eq!(statusz["paths"].as_array().unwrap().len(), 5);

    let yaml = scene.accept("/flagz", "application/yaml;v=v1beta1;g=config.k8s.io;as=Flagz");
    assert!(yaml.has_header("content-type: application/yaml"));
    assert!(yaml.body.contains("kind: Flagz\n"), "{}", yaml.body);
}

#[test]
fn a_form_that_does_not_exist_is_refused() {
    let scene = scene(false);
    for (path, accept) in [
        ("/flagz", "application/json"),
        ("/statusz", "application/json;v=v1;g=config.k8s.io;as=Statusz"),
        ("/statusz", "application/json;v=v1beta1;g=config.k8s.io;as=Flagz"),
        ("/flagz", "image/png"),
    ] {
        let answer = scene.accept(path, accept);
        let status: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(
            (answer.status, &status["kind"], &status["code"]),
            (406, &"Status".into(), &406.into()),
            "{accept}"
        );
    }
}

#[test]
fn the_verbosity_can_be_put_when_profiling_is_on() {
    let scene = scene(true);
    let answer = scene.call("PUT", "/debug/flags/v", "3");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, "successfully set klog.logging.verbosity to 3\n");
    // No other test asks for more.
    assert_eq!(logger().verbosity(), 3);
    assert_eq!(scene.call("PUT", "/debug/flags/v", "many").status, 400);
    assert_eq!(scene.get("/debug/flags/v").status, 406);
    let redirect = scene.get("/debug/pprof");
    assert!(redirect.status == 302 && redirect.has_header("location: /debug/pprof/"));
    assert_eq!(scene.get("/debug/pprof/heap").status, 404);
}
