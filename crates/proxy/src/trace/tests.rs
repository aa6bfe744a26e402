use std::net::IpAddr;

use switchyard_api::{IpFamily, Protocol, manifest};
use switchyard_kernel::conntrack::Tuple;

use super::answer::{Answer, WayVerdict, answer};
use super::cluster::{Cluster, Pod};
use super::question::{Defaults, Place, Question};
use super::text::text;
use crate::config::{complete, validate};
use crate::flags::parse;
use crate::mode::iptables::{HostFeatures, settings};

/// Three nodes; `web` with a node port that stays on its node, ready on the first two; `db-service` without endpoints.
const OBJECTS: &str = include_str!("tests.yaml");

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    for object in manifest::parse(OBJECTS).unwrap() {
        match object.unwrap() {
            manifest::Object::Node(node) => cluster.nodes.push(node),
            manifest::Object::Service(service) => cluster.services.push(service),
            manifest::Object::EndpointSlice(slice) => cluster.slices.push(slice),
            other => panic!("{other:?}"),
        }
    }
    let pod = |name: &str, node: &str, address: &str| Pod {
        namespace: "default".into(),
        name: name.into(),
        node: node.into(),
        addresses: address.parse().into_iter().collect(),
        host_network: node == address,
    };
    cluster.pods =
        vec![pod("web-1", "node-1", "10.244.1.2"), pod("blue", "node-1", "10.244.1.9"), pod("new", "", "")];
    cluster
}

fn asked(from: &str, to: &str) -> Result<Answer, String> {
    let cluster = cluster();
    let outside: [IpAddr; 2] = ["203.0.113.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    let defaults =
        Defaults { namespace: "default", protocol: Protocol::Tcp, node: None, host: "here", outside };
    let question = cluster.question(from, to, &defaults).map_err(|error| error.to_string())?;
    let parsed = parse("trace", &["--cluster-cidr=10.244.0.0/16".to_owned()]).unwrap();
    let config = validate(&complete(&parsed).unwrap()).unwrap();
    let family = IpFamily::of(question.destination.ip());
    let (forwarding, facts) = cluster.seen_from(&question.node, family, &config);
    Ok(answer(&cluster, &question, &forwarding, &settings(family, &config, &facts, HostFeatures::ALL)))
}

/// Chance in percent, verdict, backend, source at the backend.
fn ways(answer: &Answer) -> Vec<(u32, WayVerdict, String, String)> {
    let way = |way: &super::Way| {
        let seen = way.seen.as_ref().and_then(|seen| seen.address);
        (
            (way.chance * 100.0).round() as u32,
            way.verdict,
            way.backend.map(|backend| backend.to_string()).unwrap_or_default(),
            seen.map(|seen| seen.to_string()).unwrap_or_default(),
        )
    };
    answer.ways.iter().map(way).collect()
}

fn forwarded(chance: u32, backend: &str, seen: &str) -> (u32, WayVerdict, String, String) {
    (chance, WayVerdict::Forwarded, backend.into(), seen.into())
}

#[test]
fn a_pod_reaches_a_service_with_its_own_address_and_itself_with_the_nodes() {
    let answer = asked("pod/blue", "web:http").unwrap();
    assert_eq!(
        ways(&answer),
        [forwarded(50, "10.244.1.2:8080", "10.244.1.9"), forwarded(50, "10.244.2.2:8080", "10.244.1.9")]
    );
    assert_eq!((answer.node.as_str(), answer.unused[0].why.as_str()), ("node-1", "not ready"));
    assert_eq!(answer.ways[0].backend_pod.as_deref(), Some("default/web-1"));
    let hairpin = asked("web-1", "web.default.svc:80").unwrap();
    assert_eq!(
        ways(&hairpin),
        [forwarded(50, "10.244.1.2:8080", "10.244.1.1"), forwarded(50, "10.244.2.2:8080", "10.244.1.2")]
    );
}

#[test]
fn a_local_policy_depends_on_the_node_that_is_asked() {
    let first = asked("outside", "node-1:30080").unwrap();
    assert_eq!(ways(&first), [forwarded(100, "10.244.1.2:8080", "203.0.113.1")]);
    let why = &first.unused[0].why;
    assert!(why.contains("the policy is Local"), "{why}");
    let third = asked("outside", "node-3:30080").unwrap();
    assert_eq!(third.ways[0].verdict, WayVerdict::Dropped);
    // A pod of another node is a stranger there, but for its address.
    let from_pod = asked("pod/blue", "node-2:30080").unwrap();
    assert_eq!((from_pod.node.as_str(), from_pod.ways[0].verdict), ("node-2", WayVerdict::Forwarded));
}

#[test]
fn no_endpoint_and_no_service_are_told_apart() {
    let rejected = asked("node-2", "db-service").unwrap();
    assert_eq!((rejected.node.as_str(), rejected.ways[0].verdict), ("node-2", WayVerdict::Rejected));
    let untouched = asked("10.244.3.7", "10.244.1.2:8080").unwrap();
    assert_eq!((untouched.service.is_none(), untouched.ways[0].verdict), (true, WayVerdict::Untouched));
    assert_eq!(untouched.from, "a pod on node-3");
}

#[test]
fn the_text_names_the_service_the_backends_and_the_rules() {
    let text = text(&asked("pod/blue", "web:80").unwrap());
    for part in [
        "10.244.1.9, pod default/blue on node-1",
        "10.96.0.20:80/TCP, ClusterIP of default/web:http, policy Cluster",
        "50.0 %   DNAT   10.244.2.2:8080   -               node-2   10.244.1.9, its own",
        "10.244.3.2:8080   node-3   not ready",
        "-t nat -A KUBE-SEP-UIQK3OSOSTRHRPBX -p tcp -m comment --comment \"default/web:http\" -m tcp -j DNAT",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    // A jump that led nowhere says nothing.
    assert!(!text.contains("KUBE-PROXY-FIREWALL"), "{text}");
}

#[test]
fn what_names_nothing_is_told_with_what_there_is() {
    let cases = [
        (
            ("pod/red", "web:80"),
            "there is no pod or node \"default/red\"; there is web-1, blue, new, node-1, node-2, node-3",
        ),
        (("pod/new", "web:80"), "pod default/new has no address yet; `kubectl describe pod` tells why"),
        (("node-1", "web"), "service default/web has several ports; give one of 80 (http), 53 (dns)"),
        (("node-1", "web:81"), "service default/web has no port \"81\"; it has 80 (http), 53 (dns)"),
        (
            ("node-1", "wob:80"),
            "there is no service or node \"default/wob\"; there is web, db-service, headless",
        ),
        (("node-1", "node-2"), "\"node-2\" has no port; write it as HOST:PORT"),
        (
            ("node-1", "headless:80"),
            "service default/headless has no virtual address: it is headless, so DNS leads its clients to its pods directly",
        ),
        (("2001:db8::7", "web:80"), "service default/web has no IPv6 address"),
    ];
    for ((from, to), complaint) in cases {
        assert_eq!(asked(from, to).map(drop), Err(complaint.to_owned()));
    }
}

/// Tries what `question` asks with a socket of this host, to whatever listens there.
fn tried(destination: &str) -> super::Tried {
    let question = Question {
        from: Place::Node { name: "node-1".into() },
        source: "127.0.0.1".parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol: Protocol::Tcp,
        node: "node-1".into(),
        is_source_made_up: false,
    };
    super::open(&question).unwrap()
}

fn reply(from: &str, to: &str) -> Option<Tuple> {
    Some(Tuple { source: from.parse().unwrap(), destination: to.parse().unwrap() })
}

#[test]
fn a_connection_is_as_foretold_if_backend_and_source_are() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tried = tried(&listener.local_addr().unwrap().to_string());
    let mut answer = asked("node-1", "web:80").unwrap();
    // From the node itself: masqueraded, with the address that leads to each backend.
    let told = |answer: &Answer, from, to| tried.compare(answer, reply(from, to)).1;
    assert!(told(&answer, "10.244.2.2:8080", "172.18.0.11:4711"));
    assert!(told(&answer, "10.244.1.2:8080", "10.244.1.1:4711"));
    assert!(!told(&answer, "10.244.3.2:8080", "172.18.0.11:4711"), "that one is not ready");
    assert!(!told(&answer, "10.244.2.2:8080", "172.18.0.12:4711"), "that is another node's address");
    answer.ways.iter_mut().for_each(|way| way.verdict = WayVerdict::Dropped);
    let (line, is_foretold) = tried.compare(&answer, reply("10.244.2.2:8080", "172.18.0.11:4711"));
    assert!(
        !is_foretold && line.contains("connected, to 10.244.2.2:8080") && line.ends_with(": NOT as foretold")
    );
}

#[test]
fn a_refused_connection_is_as_foretold_if_it_is_to_be_rejected() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let tried = tried(&port.to_string());
    let (line, is_foretold) = tried.compare(&asked("node-1", "db-service").unwrap(), None);
    assert!(is_foretold && line.ends_with(": refused: as foretold"), "{line}");
    assert!(!tried.compare(&asked("node-1", "web:80").unwrap(), None).1);
}
