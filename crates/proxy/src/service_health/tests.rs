use std::net::TcpListener;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::*;
use crate::http_server::testing::{Answer, get, runtime, send};

fn service_health(runtime: &Runtime, health: Arc<ProxyHealth>, addresses: &[&str]) -> ServiceHealth {
    let addresses =
        ListenAddresses::These(addresses.iter().map(|address| address.parse().unwrap()).collect());
    ServiceHealth::new(IpFamily::V4, &addresses, "node-1", runtime.handle().clone(), health)
}

fn healthy() -> Arc<ProxyHealth> {
    Arc::new(ProxyHealth::new(Duration::from_secs(30)))
}

fn lb() -> ObjectKey {
    ObjectKey::new("default", "lb")
}

fn map<T>(value: T) -> BTreeMap<ObjectKey, T> {
    BTreeMap::from([(lb(), value)])
}

/// A port that was free a moment ago on loopback.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Syncs onto a free port, another one if somebody else was faster.
fn open(ports: &mut ServiceHealth, count: usize) -> u16 {
    for _ in 0..20 {
        let port = free_port();
        if ports.sync(&map(port), &map(count)).is_empty() {
            return port;
        }
    }
    panic!("no free port");
}

fn ask(port: u16) -> Answer {
    get(SocketAddr::from(([127, 0, 0, 1], port)), "/any/path")
}

#[test]
fn a_service_with_local_endpoints_answers_200() {
    let runtime = runtime();
    let mut ports = service_health(&runtime, healthy(), &["127.0.0.1"]);
    let port = open(&mut ports, 1);
    let answer = ask(port);
    assert_eq!(answer.status, 200);
    assert!(answer.has_header("content-type: application/json"));
    assert!(answer.has_header("x-content-type-options: nosniff"));
    assert!(answer.has_header("x-load-balancing-endpoint-weight: 1"));
    assert_eq!(
        answer.body,
        "{\n\t\"service\": {\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"lb\"\n\t},\n\t\"localEndpoints\": 1,\n\
         \t\"serviceProxyHealthy\": true\n}"
    );
    let posted =
        send(ports.listening(&lb())[0], "POST / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert_eq!(posted.status, 200);
}

#[test]
fn counts_follow_the_endpoints() {
    let runtime = runtime();
    let mut ports = service_health(&runtime, healthy(), &["127.0.0.1"]);
    let port = open(&mut ports, 0);
    assert_eq!(ask(port).status, 503);
    ports.sync(&map(port), &map(3));
    assert!(ask(port).has_header("x-load-balancing-endpoint-weight: 3"));
    ports.sync(&map(port), &BTreeMap::new());
    let answer = ask(port);
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("\"localEndpoints\": 0"));
}

#[test]
fn an_unhealthy_proxy_answers_503_but_tells_its_endpoints() {
    let reply = answer(&lb(), 2, false);
    assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reply.headers()["X-Load-Balancing-Endpoint-Weight"], "2");
}

#[test]
fn a_late_sync_makes_the_service_unhealthy() {
    let runtime = runtime();
    let health = Arc::new(ProxyHealth::new(Duration::ZERO));
    let mut ports = service_health(&runtime, health.clone(), &["127.0.0.1"]);
    let port = open(&mut ports, 1);
    assert_eq!(ask(port).status, 200);
    health.queued(IpFamily::V6);
    assert_eq!(ask(port).status, 503, "every family counts");
}

#[test]
fn a_service_that_goes_or_changes_its_port_closes_the_old_one() {
    let runtime = runtime();
    let mut ports = service_health(&runtime, healthy(), &["127.0.0.1"]);
    let first = open(&mut ports, 1);
    let second = open(&mut ports, 1);
    assert!(std::net::TcpStream::connect(("127.0.0.1", first)).is_err());
    assert_eq!(ask(second).status, 200);
    ports.sync(&BTreeMap::new(), &BTreeMap::new());
    assert!(std::net::TcpStream::connect(("127.0.0.1", second)).is_err());
    assert!(ports.listening(&lb()).is_empty());
}

#[test]
fn two_services_can_swap_a_port_in_one_sync() {
    let runtime = runtime();
    let mut ports = service_health(&runtime, healthy(), &["127.0.0.1"]);
    let port = open(&mut ports, 1);
    let other = ObjectKey::new("default", "another");
    let failures = ports.sync(&BTreeMap::from([(other.clone(), port)]), &BTreeMap::from([(other, 5)]));
    assert!(failures.is_empty(), "{failures:?}");
    assert!(ask(port).body.contains("\"name\": \"another\""));
}

#[test]
fn a_taken_port_is_reported_and_tried_again() {
    let runtime = runtime();
    let captured = logging::logger().capture(2);
    let mut ports = service_health(&runtime, healthy(), &["127.0.0.2", "127.0.0.1"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let failures = ports.sync(&map(port), &map(1));
    assert_eq!(
        failures[0].to_string(),
        format!(
            "node node-1 failed to start healthcheck \"default/lb\" on port {port}: listen 127.0.0.1:{port}: \
             Address already in use (os error 98)"
        )
    );
    assert!(captured.contains(&format!("node=\"node-1\" service=\"default/lb\" port={port}\n")));
    assert!(std::net::TcpStream::connect(("127.0.0.2", port)).is_err(), "all addresses or none");
    drop(taken);
    assert!(ports.sync(&map(port), &map(1)).is_empty());
    assert_eq!(ask(port).status, 200);
    assert_eq!(ports.listening(&lb()).len(), 2);
}

#[test]
fn without_an_address_of_the_family_nothing_listens_and_nothing_is_said() {
    let runtime = runtime();
    let mut ports = service_health(&runtime, healthy(), &["::1"]);
    assert!(ports.sync(&map(free_port()), &map(1)).is_empty());
    assert!(ports.listening(&lb()).is_empty());
}

#[test]
fn wildcards_of_both_families_share_a_port() {
    let runtime = runtime();
    let open = |family| {
        ServiceHealth::new(family, &ListenAddresses::Wildcard, "node-1", runtime.handle().clone(), healthy())
    };
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let (mut v4, mut v6) = (open(IpFamily::V4), open(IpFamily::V6));
    let port = self::open(&mut v4, 4);
    assert!(v6.sync(&map(port), &map(6)).is_empty());
    assert!(ask(port).body.contains("\"localEndpoints\": 4"));
    let v6_answer = get(SocketAddr::from((Ipv6Addr::LOCALHOST, port)), "/");
    assert!(v6_answer.body.contains("\"localEndpoints\": 6"));
}
