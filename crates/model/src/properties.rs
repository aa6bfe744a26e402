//! Laws that hold for any objects and any order of changes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};
use switchyard_api::{EndpointSlice, IpFamily, Name, ObjectKey, Service};

use crate::{Forwarding, PortForwarding, ServicePortName, ServiceTable, TableOptions};

/// What a cluster may hold: few names, so that changes meet.
#[derive(Debug, Clone, Default, PartialEq)]
struct World {
    services: BTreeMap<&'static str, Value>,
    slices: BTreeMap<&'static str, Value>,
    zone: Option<&'static str>,
}

/// `None` removes the object.
#[derive(Debug, Clone)]
enum Change {
    Service(&'static str, Option<Value>),
    Slice(&'static str, Option<Value>),
    Zone(Option<&'static str>),
}

const SERVICES: [&str; 3] = ["a", "b", "c"];
const SLICES: [&str; 4] = ["p", "q", "r", "s"];

fn change() -> impl Strategy<Value = Change> {
    let zone = select(vec![None, Some("za"), Some("zb")]);
    prop_oneof![
        4 => (select(&SERVICES[..]), prop::option::weighted(0.8, service_spec()))
            .prop_map(|(name, spec)| Change::Service(name, spec)),
        6 => (select(&SLICES[..]), prop::option::weighted(0.8, slice_fields()))
            .prop_map(|(name, fields)| Change::Slice(name, fields)),
        1 => zone.prop_map(Change::Zone),
    ]
}

fn service_spec() -> impl Strategy<Value = Value> {
    let policy = || select(vec!["Cluster", "Local"]);
    let kind = select(vec!["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]);
    let addresses = select(vec![
        json!({"clusterIP": "10.96.0.1"}),
        json!({"clusterIP": "10.96.0.2", "clusterIPs": ["10.96.0.2", "fd00::2"], "ipFamilies": ["IPv4", "IPv6"]}),
        json!({"clusterIP": "fd00::3", "externalIPs": ["2001:db8::3", "192.0.2.3", "broken"]}),
        json!({"clusterIP": "None"}),
        json!({"clusterIP": "broken"}),
    ]);
    let port = (select(vec!["", "web"]), select(vec!["TCP", "UDP"]), 80..82u16, select(vec![0, 30080u16]));
    let port = port.prop_map(|(name, protocol, port, node_port)| {
        json!({"name": name, "protocol": protocol, "port": port, "nodePort": node_port})
    });
    let ports = prop::collection::vec(port, 0..3);
    (kind, addresses, policy(), policy(), ports).prop_map(|(kind, mut spec, internal, external, ports)| {
        spec["type"] = kind.into();
        spec["internalTrafficPolicy"] = internal.into();
        spec["externalTrafficPolicy"] = external.into();
        spec["ports"] = ports.into();
        spec
    })
}

fn slice_fields() -> impl Strategy<Value = Value> {
    let node = select(vec![json!(null), json!("n1"), json!("n2")]);
    let condition = || select(vec![json!(null), json!(true), json!(false)]);
    let hints = select(vec![
        json!(null),
        json!({"forZones": [{"name": "za"}]}),
        json!({"forZones": [{"name": "zb"}], "forNodes": [{"name": "n1"}]}),
        json!({"forZones": [{"name": "za"}, {"name": "zb"}], "forNodes": [{"name": "n2"}]}),
    ]);
    let endpoint = (1..12u8, node, condition(), condition(), condition(), hints);
    let endpoints = prop::collection::vec(endpoint, 0..5);
    let family = select(vec![("IPv4", "10.0.0."), ("IPv6", "fd01::")]);
    let ports = select(vec![
        json!([{"name": "", "port": 8080}]),
        json!([{"name": "web", "port": 8081}, {"name": "", "port": 8080, "protocol": "UDP"}]),
        json!([{"name": "web", "port": 9090}, {"name": "web"}]),
        json!([]),
    ]);
    let service = select(vec!["a", "b", "c", ""]);
    (service, family, ports, endpoints).prop_map(|(service, (family, prefix), ports, endpoints)| {
        let endpoints = endpoints.into_iter().map(|(host, node, ready, serving, terminating, hints)| {
            let conditions = json!({"ready": ready, "serving": serving, "terminating": terminating});
            let address = format!("{prefix}{host}");
            json!({"addresses": [address], "nodeName": node, "conditions": conditions, "hints": hints})
        });
        json!({
            "labels": {"kubernetes.io/service-name": service},
            "addressType": family, "ports": ports, "endpoints": endpoints.collect::<Vec<_>>(),
        })
    })
}

impl World {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Service(name, Some(spec)) => drop(self.services.insert(name, spec.clone())),
            Change::Service(name, None) => drop(self.services.remove(name)),
            Change::Slice(name, Some(fields)) => drop(self.slices.insert(name, fields.clone())),
            Change::Slice(name, None) => drop(self.slices.remove(name)),
            Change::Zone(zone) => self.zone = *zone,
        }
    }

    /// What takes `change` back, if this is the world before it.
    fn reverse(&self, change: &Change) -> Change {
        match change {
            Change::Service(name, _) => Change::Service(name, self.services.get(name).cloned()),
            Change::Slice(name, _) => Change::Slice(name, self.slices.get(name).cloned()),
            Change::Zone(_) => Change::Zone(self.zone),
        }
    }

    /// All of it as changes to an empty world.
    fn changes(&self) -> Vec<Change> {
        let services = self.services.iter().map(|(name, spec)| Change::Service(name, Some(spec.clone())));
        let slices = self.slices.iter().map(|(name, fields)| Change::Slice(name, Some(fields.clone())));
        services.chain(slices).chain([Change::Zone(self.zone)]).collect()
    }
}

fn table(changes: &[Change]) -> ServiceTable {
    let mut table = ServiceTable::new(TableOptions { node_name: "n1".into(), allow_external_ips: true });
    changes.iter().for_each(|change| tell(&mut table, change));
    table
}

fn tell(table: &mut ServiceTable, change: &Change) {
    let key = |name: &str| ObjectKey::new("default", name);
    match change {
        Change::Service(name, Some(spec)) => {
            let object = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
            table.set_service(&serde_json::from_value::<Service>(object).unwrap());
        }
        Change::Service(name, None) => drop(table.remove_service(&key(name))),
        Change::Slice(name, Some(fields)) => {
            let mut object = fields.clone();
            object["metadata"] = json!({"namespace": "default", "name": name, "labels": fields["labels"]});
            table.set_slice(&serde_json::from_value::<EndpointSlice>(object).unwrap());
        }
        Change::Slice(name, None) => drop(table.remove_slice(&key(name))),
        Change::Zone(zone) => drop(table.set_zone(zone.map(Name::from))),
    }
}

/// Ports that are in one of both only, or different.
fn difference(before: &Forwarding, after: &Forwarding) -> BTreeSet<ServicePortName> {
    let names = before.ports.keys().chain(after.ports.keys());
    names.filter(|name| before.ports.get(name) != after.ports.get(name)).cloned().collect()
}

fn check_lists(family: IpFamily, port: &PortForwarding) {
    let texts: Vec<String> = port.endpoints.iter().map(ToString::to_string).collect();
    assert!(texts.is_sorted_by(|a, b| a < b), "endpoints are sorted, each once: {texts:?}");
    assert!(port.endpoints.iter().all(|endpoint| IpFamily::of(endpoint.address) == family));
    let lists = [&port.cluster, &port.local, &port.reachable];
    for list in lists {
        assert!(list.is_sorted_by(|a, b| a < b));
        assert!(list.iter().all(|&index| (index as usize) < port.endpoints.len()));
    }
    let union: BTreeSet<u32> = port.cluster.iter().chain(&port.local).copied().collect();
    assert!(port.reachable.iter().eq(&union));
    for endpoint in port.reachable_endpoints() {
        assert!(endpoint.conditions.ready || endpoint.conditions.serving_terminating());
    }
    assert!(port.local_endpoints().all(|endpoint| endpoint.is_local));
    assert!(port.service_port.uses_cluster_endpoints() || port.cluster.is_empty());
    assert!(port.service_port.uses_local_endpoints() || port.local.is_empty());
    assert!(port.has_any_endpoint || port.reachable.is_empty());
    // Whatever traffic there is finds a ready endpoint where a Cluster policy asks for one.
    let any_ready = port.endpoints.iter().any(|endpoint| endpoint.conditions.ready);
    assert!(!any_ready || !port.service_port.uses_cluster_endpoints() || !port.cluster.is_empty());
}

proptest! {
    #[test]
    fn any_history_ends_like_a_fresh_start_from_its_last_objects(
        history in prop::collection::vec((change(), any::<bool>()), 1..30),
    ) {
        let mut world = World::default();
        let mut lived = table(&[]);
        for (change, commit) in &history {
            world.apply(change);
            tell(&mut lived, change);
            if *commit {
                lived.commit(IpFamily::V4);
            }
        }
        let mut fresh = table(&world.changes());
        for family in IpFamily::BOTH {
            prop_assert_eq!(lived.commit(family).forwarding, fresh.commit(family).forwarding);
        }
    }

    #[test]
    fn the_order_in_which_objects_arrive_does_not_matter(
        changes in prop::collection::vec(change(), 1..20),
        order in prop::collection::vec(any::<Index>(), 20),
    ) {
        let mut world = World::default();
        changes.iter().for_each(|change| world.apply(change));
        let sorted = world.changes();
        let mut shuffled = sorted.clone();
        for (position, other) in order.iter().enumerate().take(sorted.len()) {
            shuffled.swap(position, other.index(sorted.len()));
        }
        for family in IpFamily::BOTH {
            prop_assert_eq!(table(&sorted).commit(family).forwarding, table(&shuffled).commit(family).forwarding);
        }
    }

    #[test]
    fn a_commit_names_exactly_the_ports_that_differ(changes in prop::collection::vec(change(), 1..20)) {
        let mut table = table(&[]);
        for change in &changes {
            tell(&mut table, change);
            for family in IpFamily::BOTH {
                let before = table.forwarding(family).clone();
                let commit = table.commit(family);
                prop_assert_eq!(difference(&before, &commit.forwarding), commit.changed);
                prop_assert_eq!((table.pending_services(family), table.pending_endpoints(family)), (0, 0));
            }
        }
    }

    #[test]
    fn a_change_and_its_reverse_change_nothing(
        changes in prop::collection::vec(change(), 1..20),
        passing in change(),
    ) {
        let mut world = World::default();
        changes.iter().for_each(|change| world.apply(change));
        let mut table = table(&changes);
        for family in IpFamily::BOTH {
            table.commit(family);
        }
        tell(&mut table, &passing);
        tell(&mut table, &world.reverse(&passing));
        for family in IpFamily::BOTH {
            prop_assert_eq!(table.pending_services(family), 0);
            prop_assert_eq!(table.commit(family).changed, BTreeSet::new());
        }
    }

    #[test]
    fn lists_hold_only_endpoints_that_may_take_traffic(changes in prop::collection::vec(change(), 1..30)) {
        let mut table = table(&changes);
        for family in IpFamily::BOTH {
            table.commit(family).forwarding.ports.values().for_each(|port| check_lists(family, port));
        }
    }
}
