//! The node as the API has it: functions of what is known of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use super::facts::{Facts, architecture};
use crate::flags::Settings;

/// The version of Kubernetes whose node this one is like.
const VERSION: &str = concat!("v1.36.2+switchyard-", env!("CARGO_PKG_VERSION"));

/// Why the node cannot take pods, if so.
pub(super) type Health = Result<(), String>;

/// What a node's status is made from.
#[derive(Debug, Clone)]
pub(super) struct Told<'a> {
    pub(super) settings: &'a Settings,
    pub(super) facts: &'a Facts,
    pub(super) port: u16,
    pub(super) health: Health,
    /// As told before: their times stay where nothing has changed.
    pub(super) before: &'a [NodeCondition],
    pub(super) now: Timestamp,
}

/// The pod ranges that a node was given.
pub(crate) fn pod_cidrs(node: &Node) -> Vec<IpNet> {
    let spec = node.spec.as_ref();
    let listed = spec.and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
    let single = spec.and_then(|spec| spec.pod_cidr.clone());
    let all = if listed.is_empty() { single.into_iter().collect() } else { listed };
    all.iter().filter_map(|text| text.parse().ok()).collect()
}

pub(super) fn labels(settings: &Settings) -> BTreeMap<String, String> {
    let own = [
        ("kubernetes.io/hostname", settings.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
    ];
    let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
    own.into_iter().chain(settings.node_labels.clone()).collect()
}

/// As it is made known.
pub(super) fn node(told: &Told<'_>) -> Node {
    Node {
        metadata: ObjectMeta {
            name: Some(told.settings.node_name.clone()),
            labels: Some(labels(told.settings)),
            ..ObjectMeta::default()
        },
        spec: None,
        status: Some(status(told)),
    }
}

/// As a strategic merge patch: others have conditions of their own.
pub(super) fn status_patch(told: &Told<'_>) -> Value {
    let mut status = json!(status(told));
    // They are merged by type, of which a node with two families has two.
    if let Some(Value::Array(addresses)) = status.get_mut("addresses") {
        addresses.insert(0, json!({"$patch": "replace"}));
    }
    json!({"status": status})
}

fn status(told: &Told<'_>) -> NodeStatus {
    let Told { settings, facts, .. } = told;
    let quantity = |text: String| Quantity(text);
    let resources: BTreeMap<String, Quantity> = [
        ("cpu", facts.cpus.to_string()),
        ("memory", format!("{}Ki", facts.memory_kib)),
        ("pods", settings.max_pods.to_string()),
        ("ephemeral-storage", "0".to_owned()),
    ]
    .map(|(name, amount)| (name.to_owned(), quantity(amount)))
    .into();
    NodeStatus {
        addresses: Some(addresses(&settings.node_ips, &settings.node_name)),
        capacity: Some(resources.clone()),
        allocatable: Some(resources),
        conditions: Some(conditions(told)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: told.port.into() }),
        }),
        node_info: Some(NodeSystemInfo {
            machine_id: facts.machine_id.clone(),
            system_uuid: facts.system_uuid.clone(),
            boot_id: facts.boot_id.clone(),
            kernel_version: facts.kernel_version.clone(),
            os_image: facts.os_image.clone(),
            container_runtime_version: format!("switchyard://{}", env!("CARGO_PKG_VERSION")),
            kubelet_version: VERSION.to_owned(),
            operating_system: "linux".to_owned(),
            architecture: architecture().to_owned(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

fn addresses(ips: &[IpAddr], name: &str) -> Vec<NodeAddress> {
    let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
    let internal = ips.iter().map(|ip| address("InternalIP", ip.to_string()));
    internal.chain([address("Hostname", name.to_owned())]).collect()
}

fn conditions(told: &Told<'_>) -> Vec<NodeCondition> {
    let ready = match &told.health {
        Ok(()) => ("True", "KubeletReady", "kubelet is posting ready status".to_owned()),
        Err(cause) => ("False", "KubeletNotReady", format!("container runtime network not ready: {cause}")),
    };
    let calm = |reason, message: &str| ("False", reason, message.to_owned());
    [
        ("MemoryPressure", calm("KubeletHasSufficientMemory", "kubelet has sufficient memory available")),
        ("DiskPressure", calm("KubeletHasNoDiskPressure", "kubelet has no disk pressure")),
        ("PIDPressure", calm("KubeletHasSufficientPID", "kubelet has sufficient PID available")),
        ("Ready", ready),
    ]
    .into_iter()
    .map(|(kind, (status, reason, message))| {
        let before = told.before.iter().find(|before| before.type_ == kind && before.status == status);
        NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_heartbeat_time: Some(Time(told.now)),
            last_transition_time: before
                .and_then(|before| before.last_transition_time.clone())
                .or(Some(Time(told.now))),
        }
    })
    .collect()
}

pub(super) fn is_ready(conditions: &[NodeCondition]) -> Option<bool> {
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    ready.map(|ready| ready.status == "True")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::flags::{Flags, Host};

    fn settings() -> Settings {
        let flags = [
            "a",
            "--kubeconfig=/k",
            "--hostname-override=node-1",
            "--node-ip=192.0.2.1,fd00::1",
            "--node-labels=zone=a",
        ];
        Settings::check(&Flags::try_parse_from(flags).unwrap(), &Host::default()).unwrap()
    }

    fn told<'a>(
        settings: &'a Settings,
        facts: &'a Facts,
        health: Health,
        before: &'a [NodeCondition],
    ) -> Told<'a> {
        Told { settings, facts, port: 10250, health, before, now: Timestamp::from_second(1000).unwrap() }
    }

    #[test]
    fn a_node_is_known_by_its_name_and_addresses() {
        let (settings, facts) = (settings(), Facts::default());
        let node = node(&told(&settings, &facts, Ok(()), &[]));
        let labels = node.metadata.labels.unwrap();
        assert_eq!((labels["kubernetes.io/hostname"].as_str(), labels["zone"].as_str()), ("node-1", "a"));
        let status = node.status.unwrap();
        let addresses: Vec<(String, String)> =
            status.addresses.unwrap().into_iter().map(|one| (one.type_, one.address)).collect();
        let expected = [("InternalIP", "192.0.2.1"), ("InternalIP", "fd00::1"), ("Hostname", "node-1")];
        assert_eq!(addresses, expected.map(|(kind, address)| (kind.to_owned(), address.to_owned())));
        assert_eq!(status.daemon_endpoints.unwrap().kubelet_endpoint.unwrap().port, 10250);
        assert_eq!(is_ready(&status.conditions.unwrap()), Some(true));
    }

    #[test]
    fn a_node_without_a_network_says_why_it_is_not_ready() {
        let (settings, facts) = (settings(), Facts::default());
        let conditions = conditions(&told(&settings, &facts, Err("no pod range".to_owned()), &[]));
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
        assert_eq!(ready.status, "False");
        assert!(ready.message.as_ref().unwrap().contains("no pod range"));
    }

    #[test]
    fn a_condition_keeps_its_time_as_long_as_it_holds() {
        let (settings, facts) = (settings(), Facts::default());
        let mut before = conditions(&told(&settings, &facts, Ok(()), &[]));
        let long_ago = Time(Timestamp::from_second(1).unwrap());
        for condition in &mut before {
            condition.last_transition_time = Some(long_ago.clone());
        }
        let times = |health| -> Vec<bool> {
            let all = conditions(&told(&settings, &facts, health, &before));
            all.iter().map(|condition| condition.last_transition_time.as_ref() == Some(&long_ago)).collect()
        };
        assert_eq!(times(Ok(())), [true, true, true, true]);
        assert_eq!(times(Err(String::new())), [true, true, true, false]);
    }

    #[test]
    fn ranges_are_taken_from_either_field() {
        let node =
            |spec: Value| -> Node { serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap() };
        let two =
            pod_cidrs(&node(json!({"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd00::/64"]})));
        assert_eq!(two.len(), 2);
        assert_eq!(pod_cidrs(&node(json!({"podCIDR": "10.1.0.0/24"}))).len(), 1);
        assert!(pod_cidrs(&node(json!({}))).is_empty());
    }
}
