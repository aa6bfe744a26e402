use super::*;
use crate::http_server::testing::{get, runtime, send, serve};
use crate::metrics::PacketCounters;

const PERIOD: Duration = Duration::from_secs(30);

/// Moments counted in seconds from a fixed start.
struct Clock(Instant);

impl Clock {
    fn at(&self, seconds: u64) -> Moment {
        let wall: Timestamp = "2026-11-23T09:00:00.5Z".parse().unwrap();
        Moment { instant: self.0 + Duration::from_secs(seconds), wall: wall + Duration::from_secs(seconds) }
    }
}

fn clock() -> Clock {
    Clock(Instant::now())
}

fn node(deleted: bool, taint: Option<&str>) -> Node {
    let mut node = Node::default();
    node.metadata.deletion_timestamp = deleted;
    node.spec.taints.extend(taint.map(|key| switchyard_api::Taint { key: key.into() }));
    node
}

#[test]
fn an_idle_proxy_is_healthy_for_ever() {
    let clock = clock();
    let mut state = HealthState::new(PERIOD);
    assert!(state.report(clock.at(1_000_000)).healthy);
    state.updated(IpFamily::V4, clock.at(0));
    assert!(state.report(clock.at(1_000_000)).healthy);
}

#[test]
fn a_sync_outstanding_for_two_periods_is_unhealthy() {
    let clock = clock();
    let mut state = HealthState::new(PERIOD);
    state.queued(IpFamily::V4, clock.at(10));
    assert!(state.report(clock.at(69)).healthy);
    assert!(!state.report(clock.at(70)).healthy);
}

#[test]
fn asking_again_does_not_restart_the_wait_but_a_success_ends_it() {
    let clock = clock();
    let mut state = HealthState::new(PERIOD);
    state.queued(IpFamily::V4, clock.at(0));
    state.queued(IpFamily::V4, clock.at(50));
    assert!(!state.report(clock.at(60)).healthy);
    state.updated(IpFamily::V4, clock.at(61));
    assert!(state.report(clock.at(1000)).healthy);
}

#[test]
fn one_late_family_is_enough() {
    let clock = clock();
    let mut state = HealthState::new(PERIOD);
    state.queued(IpFamily::V6, clock.at(0));
    state.updated(IpFamily::V4, clock.at(59));
    state.node_seen(&node(false, None));
    let (status, body) = state.report(clock.at(60)).healthz();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        body,
        "{\"lastUpdated\":\"2026-11-23T09:00:59.5Z\",\"currentTime\":\"2026-11-23T09:01:00.5Z\",\"nodeEligible\":true,\
         \"healthy\":false,\"status\":{\"IPv4\":{\"lastUpdated\":\"2026-11-23T09:00:59.5Z\",\"healthy\":true},\
         \"IPv6\":{\"lastUpdated\":\"0001-01-01T00:00:00Z\",\"healthy\":false}}}"
    );
}

#[test]
fn a_stepped_wall_clock_changes_nothing() {
    let clock = clock();
    let mut state = HealthState::new(PERIOD);
    state.queued(IpFamily::V4, clock.at(0));
    let stepped = Moment { wall: clock.at(100_000).wall, ..clock.at(1) };
    assert!(state.report(stepped).healthy);
}

#[test]
fn a_node_is_eligible_unless_it_is_about_to_go() {
    let clock = clock();
    for (seen, eligible) in [
        (None, false),
        (Some(node(false, None)), true),
        (Some(node(false, Some("example.com/other"))), true),
        (Some(node(true, None)), false),
        (Some(node(false, Some(TO_BE_DELETED))), false),
    ] {
        let mut state = HealthState::new(PERIOD);
        if let Some(node) = &seen {
            state.node_seen(node);
        }
        let report = state.report(clock.at(0));
        let expected = if eligible { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        assert_eq!(report.healthz().0, expected, "{seen:?}");
        assert_eq!(report.livez().0, StatusCode::OK, "a restart would not help: {seen:?}");
    }
}

#[test]
fn an_ineligible_node_still_shows_its_sync_health() {
    let clock = clock();
    let report = HealthState::new(PERIOD).report(clock.at(0));
    assert_eq!(
        report.healthz().1,
        "{\"lastUpdated\":\"0001-01-01T00:00:00Z\",\"currentTime\":\"2026-11-23T09:00:00.5Z\",\
         \"nodeEligible\":false,\"healthy\":true}"
    );
    assert_eq!(
        report.livez().1,
        "{\"lastUpdated\":\"2026-11-23T09:00:00.5Z\",\"currentTime\":\"2026-11-23T09:00:00.5Z\",\"healthy\":true}"
    );
}

#[test]
fn the_server_answers_exact_paths_by_any_method_and_counts() {
    let runtime = runtime();
    let packets = PacketCounters {
        ct_state_invalid_dropped: Box::new(|| None),
        localhost_node_ports_accepted: Box::new(|| None),
    };
    let (health, metrics) = (Arc::new(ProxyHealth::new(PERIOD)), Arc::new(Metrics::new(packets).unwrap()));
    let server = serve(&runtime, handler(health.clone(), metrics.clone()));

    let before = get(server.address(), "/healthz");
    assert_eq!(before.status, 503, "no node object yet");
    assert!(before.has_header("content-type: application/json"));
    assert!(before.has_header("x-content-type-options: nosniff"));
    health.node_seen(&node(false, None));
    health.updated(IpFamily::V4);
    let after = get(server.address(), "/healthz?verbose");
    assert_eq!(after.status, 200);
    assert!(after.body.contains("\"status\":{\"IPv4\":{"), "{}", after.body);
    let posted = send(server.address(), "POST /livez HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert_eq!(posted.status, 200);
    assert!(!posted.body.contains("nodeEligible"));
    for path in ["/", "/healthz/", "/metrics"] {
        let answer = get(server.address(), path);
        assert_eq!((answer.status, answer.body.as_str()), (404, "404 page not found\n"), "{path}");
    }

    let text = metrics.text().unwrap();
    for line in [
        "kubeproxy_proxy_healthz_total{code=\"200\"} 1",
        "kubeproxy_proxy_healthz_total{code=\"503\"} 1",
        "kubeproxy_proxy_livez_total{code=\"200\"} 1",
    ] {
        assert!(text.contains(line), "{text}");
    }
}
