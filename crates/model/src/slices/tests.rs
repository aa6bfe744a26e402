use std::mem::size_of;

use serde_json::{Value, json};

use super::*;

fn slice(endpoints: Value, ports: Value) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {
            "namespace": "default", "name": "web-a", "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
    }))
    .unwrap()
}

fn read_v4(slice: &EndpointSlice) -> (Slice, Vec<Problem>) {
    let mut problems = Vec::new();
    (read(slice, IpFamily::V4, &mut Sites::default(), &mut problems), problems)
}

/// The endpoints of port 80 of slices named a, b, ..., each with the given entries.
fn merged(slices: &[Value]) -> Vec<Endpoint> {
    let slices = slices.iter().zip(["a", "b", "c"]);
    let slices = slices.map(|(entries, name)| {
        (Name::from(name), read_v4(&slice(entries.clone(), json!([{"name": "", "port": 80}]))).0)
    });
    merge(&ObjectKey::new("default", "web"), &slices.collect(), "n1").into_values().next().unwrap_or_default()
}

fn texts(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(ToString::to_string).collect()
}

#[test]
fn endpoints_are_sorted_by_the_bytes_of_their_text() {
    let entries =
        json!([{"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.10"]}, {"addresses": ["10.0.0.1"]}]);
    assert_eq!(texts(&merged(&[entries])), ["10.0.0.10:80", "10.0.0.1:80", "10.0.0.2:80"]);
}

#[test]
fn only_the_first_address_of_an_endpoint_is_used() {
    let entries = json!([{"addresses": ["10.0.0.2", "10.0.0.3"]}]);
    assert_eq!(texts(&merged(&[entries])), ["10.0.0.2:80"]);
}

#[test]
fn unknown_conditions_mean_ready_and_serving() {
    let conditions = |conditions: Value| {
        merged(&[json!([{"addresses": ["10.0.0.1"], "conditions": conditions}])])[0].conditions
    };
    assert_eq!(conditions(json!({})), Conditions::READY);
    assert_eq!(conditions(json!(null)), Conditions::READY);
    assert!(conditions(json!({"ready": false, "terminating": true})).serving_terminating());
    assert!(
        !conditions(json!({"ready": false, "serving": false, "terminating": true})).serving_terminating()
    );
}

#[test]
fn an_endpoint_is_local_only_if_its_node_is_named_so() {
    let endpoints = merged(&[json!([
        {"addresses": ["10.0.0.1"], "nodeName": "n1"}, {"addresses": ["10.0.0.2"], "nodeName": "n2"},
        {"addresses": ["10.0.0.3"]},
    ])]);
    assert_eq!(endpoints.iter().map(|endpoint| endpoint.is_local).collect::<Vec<_>>(), [true, false, false]);
}

#[test]
fn of_copies_in_several_slices_one_that_stays_beats_those_that_go() {
    let stays = json!([{"addresses": ["10.0.0.1"]}]);
    let goes = json!([{"addresses": ["10.0.0.1"], "conditions": {"ready": false, "terminating": true}}]);
    for slices in [[stays.clone(), goes.clone()], [goes.clone(), stays.clone()]] {
        let endpoints = merged(&slices);
        assert_eq!(endpoints.len(), 1);
        assert!(!endpoints[0].conditions.terminating, "{slices:?}");
    }
}

#[test]
fn of_copies_that_stay_the_one_in_the_last_slice_by_name_counts() {
    let on = |node: &str| json!([{"addresses": ["10.0.0.1"], "nodeName": node}]);
    let endpoints = merged(&[on("n2"), on("n3"), on("n1")]);
    assert_eq!(endpoints[0].node.as_deref(), Some("n1"));
}

#[test]
fn slices_with_different_numbers_for_a_port_both_count() {
    let of = |address: &str, port: u16| {
        read_v4(&slice(json!([{"addresses": [address]}]), json!([{"name": "web", "port": port}]))).0
    };
    let slices = [("a".into(), of("10.0.0.1", 8080)), ("b".into(), of("10.0.0.2", 9090))].into();
    let merged = merge(&ObjectKey::new("default", "web"), &slices, "n1");
    let (name, endpoints) = merged.into_iter().next().unwrap();
    assert_eq!(name.to_string(), "default/web:web");
    assert_eq!(texts(&endpoints), ["10.0.0.1:8080", "10.0.0.2:9090"]);
}

#[test]
fn what_cannot_be_forwarded_to_is_left_out_and_told() {
    let broken = slice(
        json!([{"addresses": []}, {"addresses": ["pod.example"]}, {"addresses": ["fd00::1"]}, {"addresses": ["10.0.0.1"]}]),
        json!([{"name": "all"}, {"name": "zero", "port": 0}, {"name": "web", "port": 80}]),
    );
    let (read, problems) = read_v4(&broken);
    assert_eq!((read.endpoints.len(), read.ports.len()), (1, 1));
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    for text in ["\"all\"", "\"zero\"", "\"\"", "\"pod.example\"", "\"fd00::1\""] {
        assert!(told.iter().any(|problem| problem.contains(text)), "{text} in {told:?}");
    }
    assert_eq!(told.len(), 5);
}

#[test]
fn slices_without_a_service_or_with_host_names_belong_to_nobody() {
    let good = slice(json!([]), json!([]));
    assert_eq!(owner(&good), Ok(Some((IpFamily::V4, ObjectKey::new("default", "web")))));

    let mut headless = good.clone();
    headless.metadata.labels.insert(label::HEADLESS, "".into());
    assert_eq!(owner(&headless), Ok(None));

    let mut orphan = good.clone();
    orphan.metadata.labels.insert(label::SERVICE_NAME, "".into());
    assert!(matches!(owner(&orphan), Err(Problem::OrphanSlice { .. })));

    let names = EndpointSlice { address_type: AddressType::FQDN, ..good };
    assert!(matches!(owner(&names), Err(Problem::UnsupportedAddressType { .. })));
}

/// 100,000 endpoints fit in 12 MB: once in their slices, once merged, and twice as an index (cluster and reachable).
/// Names of nodes and zones are shared.
#[test]
fn an_endpoint_takes_less_than_120_bytes() {
    let bytes = size_of::<SliceEndpoint>() + size_of::<Endpoint>() + 2 * size_of::<u32>();
    assert!(bytes <= 120, "{bytes} bytes");

    let entry = |number: u8| json!({"addresses": [format!("10.0.0.{number}")], "nodeName": "n1", "hints": {"forZones": [{"name": "za"}]}});
    let (read, _) = read_v4(&slice((0..100).map(entry).collect(), json!([])));
    assert!(read.endpoints.iter().all(|endpoint| Arc::ptr_eq(&endpoint.site, &read.endpoints[0].site)));
}
