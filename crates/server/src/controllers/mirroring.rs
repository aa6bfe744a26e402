//! EndpointSlices from Endpoints that somebody keeps by hand, for a Service without a selector: proxies read slices only.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{self as core, EndpointAddress, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};

use super::endpointslice::{MANAGED_BY, SERVICE_NAME, TRIGGER_TIME, port_key};
use super::events::Events;
use super::informer::Key;
use super::queue::{Queue, work};
use super::{Cluster, is_out_of_date, is_refused_by_namespace};

const OWN_NAME: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints that are only held as a lock have nothing behind them.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Of one subset and family (`--mirroring-max-endpoints-per-subset` of upstream).
const MOST_ADDRESSES: usize = 1000;
const WORKERS: usize = 5;

pub(super) async fn run(client: Client, cluster: Arc<Cluster>) {
    let queue = Queue::default();
    watch(&cluster, &queue);
    cluster.synced().await;
    let events = Arc::new(Events::new(client.clone(), "endpoint-slice-mirroring-controller"));
    work(queue, WORKERS, "endpointslicemirroring", |key| {
        let (client, cluster, events) = (client.clone(), cluster.clone(), events.clone());
        async move { sync(&client, &cluster, &events, &key).await }
    })
    .await;
}

fn watch(cluster: &Arc<Cluster>, queue: &Queue<Key>) {
    let own = queue.clone();
    cluster
        .endpoints
        .on_change(move |change| change.latest().into_iter().for_each(|it| own.add(Key::of(it))));
    let own = queue.clone();
    cluster.services.on_change(move |change| change.latest().into_iter().for_each(|it| own.add(Key::of(it))));
    let own = queue.clone();
    cluster.endpoint_slices.on_change(move |change| {
        for slice in change.both().filter(|slice| is_own(slice)) {
            let service = slice.labels().get(SERVICE_NAME).map(String::as_str).unwrap_or_default();
            own.add(Key::new(&slice.namespace().unwrap_or_default(), service));
        }
    });
}

fn is_own(slice: &EndpointSlice) -> bool {
    slice.labels().get(MANAGED_BY).is_some_and(|manager| manager == OWN_NAME)
}

async fn sync(client: &Client, cluster: &Cluster, events: &Events, key: &Key) -> Result<(), kube::Error> {
    let api = Api::<EndpointSlice>::namespaced(client.clone(), &key.namespace);
    let endpoints = cluster.endpoints.get(key);
    let service = cluster.services.get(key);
    let mirror = match endpoints.as_deref().filter(|endpoints| is_mirrored(endpoints, service.as_deref())) {
        Some(endpoints) => {
            let mirror = mirror(endpoints);
            tell(events, endpoints, &mirror).await;
            mirror
        }
        None => Mirror::default(),
    };
    // Asked for, not watched: what was written a moment ago has to be among them.
    let selector = format!("{SERVICE_NAME}={},{MANAGED_BY}={OWN_NAME}", key.name);
    let existing = api.list(&ListParams::default().labels(&selector)).await?.items;
    let writes = writes(mirror.slices, existing);
    for slice in &writes.create {
        match api.create(&PostParams::default(), slice).await {
            Err(error) if is_refused_by_namespace(&error) => return Ok(()),
            result => drop(result?),
        }
    }
    for slice in &writes.update {
        api.replace(&slice.name_any(), &PostParams::default(), slice).await?;
    }
    for name in &writes.delete {
        match api.delete(name, &DeleteParams::default()).await {
            Err(error) if is_out_of_date(&error) => {}
            result => drop(result?),
        }
    }
    Ok(())
}

async fn tell(events: &Events, endpoints: &Endpoints, mirror: &Mirror) {
    let about = endpoints.object_ref(&());
    if mirror.invalid > 0 {
        let note =
            format!("Skipped {} invalid IP addresses when mirroring to EndpointSlices", mirror.invalid);
        events.warning(&about, "InvalidIPAddress", &note).await;
    }
    if mirror.too_many > 0 {
        let note = format!(
            "A max of {MOST_ADDRESSES} addresses can be mirrored to EndpointSlices per Endpoints subset. \
             {} addresses were skipped",
            mirror.too_many
        );
        events.warning(&about, "TooManyAddressesToMirror", &note).await;
    }
}

fn is_mirrored(endpoints: &Endpoints, service: Option<&Service>) -> bool {
    endpoints.labels().get(SKIP).is_none_or(|skip| skip != "true")
        && !endpoints.annotations().contains_key(LEADER)
        && endpoints.metadata.deletion_timestamp.is_none()
        && service.is_some_and(|service| service.spec.as_ref().is_some_and(|spec| spec.selector.is_none()))
}

/// The slices that Endpoints should have, and how many addresses are in none.
#[derive(Debug, Default, PartialEq)]
struct Mirror {
    slices: Vec<EndpointSlice>,
    invalid: usize,
    too_many: usize,
}

fn mirror(endpoints: &Endpoints) -> Mirror {
    let mut mirror = Mirror::default();
    for (ports, addresses) in repacked(endpoints) {
        for family in ["IPv4", "IPv6"] {
            let of_family: Vec<Endpoint> = addresses
                .iter()
                .filter(|(ip, _, _)| (family == "IPv4") == ip.is_ipv4())
                .map(|(ip, address, ready)| endpoint(*ip, address, *ready))
                .collect();
            mirror.too_many += of_family.len().saturating_sub(MOST_ADDRESSES);
            if !of_family.is_empty() {
                let of_slice = of_family.into_iter().take(MOST_ADDRESSES).collect();
                mirror.slices.push(slice(endpoints, family, ports.clone(), of_slice));
            }
        }
    }
    let subsets = endpoints.subsets.iter().flatten();
    let all = subsets.flat_map(|subset| subset.addresses.iter().chain(&subset.not_ready_addresses).flatten());
    mirror.invalid = all.filter(|address| address.ip.parse::<IpAddr>().is_err()).count();
    mirror
}

type Addresses<'a> = Vec<(IpAddr, &'a EndpointAddress, bool)>;

/// The subsets, those with equal ports as one; in each the ready addresses first. One that is both ready and not is ready.
fn repacked(endpoints: &Endpoints) -> Vec<(Vec<EndpointPort>, Addresses<'_>)> {
    let mut packed: BTreeMap<String, (Vec<EndpointPort>, Addresses<'_>)> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<EndpointPort> = subset.ports.iter().flatten().map(port).collect();
        let (_, addresses) = packed.entry(port_key(&ports)).or_insert_with(|| (ports, Vec::new()));
        for (list, ready) in [(&subset.addresses, true), (&subset.not_ready_addresses, false)] {
            let parsed =
                list.iter().flatten().filter_map(|address| Some((address.ip.parse().ok()?, address)));
            addresses.extend(parsed.map(|(ip, address)| (ip, address, ready)));
        }
    }
    for (_, addresses) in packed.values_mut() {
        addresses.sort_by(|one, other| other.2.cmp(&one.2).then(one.0.cmp(&other.0)));
        let mut seen = std::collections::BTreeSet::new();
        addresses.retain(|(ip, _, _)| seen.insert(*ip));
    }
    packed.into_values().collect()
}

fn port(port: &core::EndpointPort) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    }
}

fn endpoint(ip: IpAddr, address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        target_ref: address.target_ref.clone(),
        node_name: address.node_name.clone(),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        ..Endpoint::default()
    }
}

fn slice(endpoints: &Endpoints, family: &str, ports: Vec<EndpointPort>, of: Vec<Endpoint>) -> EndpointSlice {
    let mut slice = EndpointSlice {
        address_type: family.to_owned(),
        endpoints: Some(of),
        ports: Some(ports),
        ..EndpointSlice::default()
    };
    slice.metadata.generate_name = Some(format!("{}-", endpoints.name_any()));
    slice.metadata.namespace = endpoints.namespace();
    let mut labels = endpoints.labels().clone();
    labels.insert(SERVICE_NAME.to_owned(), endpoints.name_any());
    labels.insert(MANAGED_BY.to_owned(), OWN_NAME.to_owned());
    slice.metadata.labels = Some(labels);
    let mut annotations = endpoints.annotations().clone();
    annotations.retain(|name, _| name != TRIGGER_TIME && name != LAST_APPLIED);
    slice.metadata.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
    slice.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Endpoints".to_owned(),
        name: endpoints.name_any(),
        uid: endpoints.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }]);
    slice
}

/// What turns the slices that exist into those that should.
#[derive(Debug, Default, PartialEq)]
struct Writes {
    create: Vec<EndpointSlice>,
    update: Vec<EndpointSlice>,
    /// By name.
    delete: Vec<String>,
}

fn writes(wanted: Vec<EndpointSlice>, existing: Vec<EndpointSlice>) -> Writes {
    let key = |slice: &EndpointSlice| {
        (slice.address_type.clone(), port_key(slice.ports.as_deref().unwrap_or_default()))
    };
    let mut by_key: BTreeMap<_, Vec<EndpointSlice>> = BTreeMap::new();
    for slice in existing {
        by_key.entry(key(&slice)).or_default().push(slice);
    }
    let mut writes = Writes::default();
    for mut slice in wanted {
        let Some(found) = by_key.get_mut(&key(&slice)).and_then(Vec::pop) else {
            writes.create.push(slice);
            continue;
        };
        if !is_same(&found, &slice) {
            slice.metadata.name = found.metadata.name;
            slice.metadata.resource_version = found.metadata.resource_version;
            writes.update.push(slice);
        }
    }
    writes.delete = by_key.into_values().flatten().map(|slice| slice.name_any()).collect();
    writes
}

fn is_same(found: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    found.endpoints == wanted.endpoints
        && found.labels() == wanted.labels()
        && found.annotations() == wanted.annotations()
        && found.owner_references() == wanted.owner_references()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn endpoints(subsets: Value) -> Endpoints {
        serde_json::from_value(json!({
            "metadata": {
                "name": "db", "namespace": "default", "uid": "u1", "labels": {"team": "a"},
                "annotations": {"note": "x", LAST_APPLIED: "{}", TRIGGER_TIME: "2026-01-02T03:04:05Z"},
            },
            "subsets": subsets,
        }))
        .unwrap()
    }

    fn service(selector: Value) -> Service {
        serde_json::from_value(json!({"spec": {"selector": selector}})).unwrap()
    }

    fn addresses(slice: &EndpointSlice) -> Vec<(String, bool)> {
        let endpoints = slice.endpoints.iter().flatten();
        endpoints
            .map(|endpoint| {
                let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready);
                (endpoint.addresses[0].clone(), ready.unwrap())
            })
            .collect()
    }

    #[test]
    fn only_those_of_services_without_a_selector_are_mirrored() {
        let own = endpoints(json!([]));
        assert!(is_mirrored(&own, Some(&service(Value::Null))));
        assert!(!is_mirrored(&own, Some(&service(json!({"app": "db"})))));
        assert!(!is_mirrored(&own, None));
        let mut skipped = own.clone();
        skipped.labels_mut().insert(SKIP.into(), "true".into());
        assert!(!is_mirrored(&skipped, Some(&service(Value::Null))));
        let mut lock = own;
        lock.annotations_mut().insert(LEADER.into(), "{}".into());
        assert!(!is_mirrored(&lock, Some(&service(Value::Null))));
    }

    #[test]
    fn subsets_become_a_slice_for_each_family_and_set_of_ports() {
        let found = mirror(&endpoints(json!([
            {"addresses": [{"ip": "10.0.0.2"}, {"ip": "fd00::1"}], "ports": [{"port": 3306}]},
            {"addresses": [{"ip": "10.0.0.1", "nodeName": "n1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}, {"ip": "10.0.0.3"}],
             "ports": [{"port": 3306, "protocol": "TCP"}]},
            {"addresses": [{"ip": "10.0.0.9"}, {"ip": "nonsense"}], "ports": [{"name": "x", "port": 1}]},
        ])));
        let of: Vec<_> =
            found.slices.iter().map(|slice| (slice.address_type.as_str(), addresses(slice))).collect();
        let list =
            |of: &[(&str, bool)]| of.iter().map(|(ip, ready)| ((*ip).to_owned(), *ready)).collect::<Vec<_>>();
        assert_eq!(of.len(), 3);
        assert!(of.contains(&("IPv4", list(&[("10.0.0.1", true), ("10.0.0.2", true), ("10.0.0.3", false)]))));
        assert!(of.contains(&("IPv6", list(&[("fd00::1", true)]))));
        assert!(of.contains(&("IPv4", list(&[("10.0.0.9", true)]))));
        assert_eq!((found.invalid, found.too_many), (1, 0));
        let labels = found.slices[0].labels();
        assert_eq!((labels["team"].as_str(), labels[MANAGED_BY].as_str()), ("a", OWN_NAME));
        assert_eq!(Vec::from_iter(found.slices[0].annotations()), [(&"note".to_owned(), &"x".to_owned())]);
        assert_eq!(found.slices[0].owner_references()[0].kind, "Endpoints");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let many: Vec<Value> =
            (0..1002).map(|n| json!({"ip": format!("10.0.{}.{}", n / 250, n % 250)})).collect();
        let found = mirror(&endpoints(json!([{"addresses": many, "ports": [{"port": 1}]}])));
        assert_eq!((addresses(&found.slices[0]).len(), found.too_many), (1000, 2));
    }

    #[test]
    fn nothing_is_written_where_nothing_differs() {
        let own = endpoints(json!([{"addresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 1}]}]));
        let stored = |name: &str| {
            let mut slice = mirror(&own).slices.remove(0);
            slice.metadata.name = Some(name.to_owned());
            slice
        };
        assert_eq!(writes(mirror(&own).slices, vec![stored("db-1")]), Writes::default());
        let two = writes(mirror(&own).slices, vec![stored("db-1"), stored("db-2")]);
        assert_eq!((two.create.len(), two.update.len(), two.delete), (0, 0, vec!["db-1".to_owned()]));
        let mut other = stored("db-1");
        other.endpoints = None;
        let changed = writes(mirror(&own).slices, vec![other]);
        assert_eq!(changed.update[0].name_any(), "db-1");
        let gone = writes(Vec::new(), vec![stored("db-1")]);
        assert_eq!(gone.delete, ["db-1"]);
    }
}
