//! The programs of a lab, each as one would start it in a real cluster.

use ipnet::IpNet;

use super::credentials::API_PORT;
use super::settings::{CONTROL, Settings};
use super::state::Folder;
use crate::topology::Node;

/// The part that everything else needs.
pub(super) const API_SERVER: &str = "control/apiserver";

/// A program of the lab, in one of its places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The place and the program's role there: `node-1/proxy`.
    pub(super) name: String,
    pub(super) place: String,
    /// For this very binary.
    pub(super) arguments: Vec<String>,
    /// On top of the keeper's.
    pub(super) environment: Vec<(&'static str, String)>,
}

/// The namespace of a place, by the name that `ip netns` shows.
pub(super) fn namespace(lab: &str, place: &str) -> String {
    format!("{lab}-{place}")
}

/// The API server.
pub(super) fn control(settings: &Settings, folder: &Folder) -> Part {
    let advertised = settings.control_address().map(|address| address.to_string()).unwrap_or_default();
    let arguments = [
        "apiserver".to_owned(),
        flag("data-dir", folder.api_server().display()),
        flag("token-auth-file", folder.tokens().display()),
        flag("service-cluster-ip-range", list(&settings.service_ranges)),
        flag("cluster-cidr", list(&settings.pod_ranges)),
        flag("advertise-address", advertised),
        flag("secure-port", API_PORT),
    ];
    Part {
        name: API_SERVER.to_owned(),
        place: CONTROL.to_owned(),
        arguments: arguments.into(),
        environment: Vec::new(),
    }
}

/// What runs on the nodes, node by node.
pub(super) fn nodes(settings: &Settings, folder: &Folder) -> Vec<Part> {
    let nodes = settings.topology().nodes;
    nodes.iter().flat_map(|node| [proxy(settings, folder, node), agent(settings, folder, node)]).collect()
}

fn proxy(settings: &Settings, folder: &Folder, node: &Node) -> Part {
    let own = folder.node(&node.name);
    let arguments = [
        "proxy".to_owned(),
        flag("kubeconfig", own.join("proxy.kubeconfig").display()),
        flag("hostname-override", &node.name),
        // A few services cost little to write, and whoever looks on is not kept waiting.
        flag("iptables-min-sync-period", "0s"),
        // Both are settings of the whole machine, not of a network namespace.
        flag("conntrack-max-per-core", 0),
        flag("oom-score-adj", 0),
        // From 4 the log tells of every service port that comes and goes.
        "-v=4".to_owned(),
    ];
    Part {
        name: format!("{}/proxy", node.name),
        place: node.name.clone(),
        arguments: arguments.into_iter().chain(deciding_flags(settings)).collect(),
        // A lock of the node's own: that of the machine is for the machine's rules.
        environment: vec![("XTABLES_LOCKFILE", own.join("xtables.lock").display().to_string())],
    }
}

/// What of a proxy's flags shapes what it does with packets.
pub(super) fn deciding_flags(settings: &Settings) -> Vec<String> {
    vec![flag("proxy-mode", &settings.proxy_mode), flag("cluster-cidr", list(&settings.pod_ranges))]
}

fn agent(settings: &Settings, folder: &Folder, node: &Node) -> Part {
    let own = folder.node(&node.name);
    let addresses: Vec<String> = node.addresses.iter().map(|address| address.addr().to_string()).collect();
    let arguments = [
        "agent".to_owned(),
        flag("kubeconfig", own.join("agent.kubeconfig").display()),
        flag("hostname-override", &node.name),
        flag("node-ip", addresses.join(",")),
        flag("root-dir", own.join("agent").display()),
        flag("namespace-prefix", namespace(&settings.name, &node.name)),
        flag("cni-conf-dir", own.join("cni").display()),
        flag("cni-bin-dir", folder.plugins().display()),
        flag("network", settings.network.word()),
    ];
    Part {
        name: format!("{}/agent", node.name),
        place: node.name.clone(),
        arguments: arguments.into(),
        environment: Vec::new(),
    }
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

fn list(ranges: &[IpNet]) -> String {
    ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::flags::UpFlags;
    use super::*;

    #[test]
    fn every_program_is_told_who_and_where_it_is() {
        let flags = UpFlags::parse_from(["up", "--nodes=2", "--network=vxlan"]);
        let settings = Settings::check(&flags).unwrap();
        let folder = Folder::of("lab");
        let control = control(&settings, &folder);
        assert!(control.arguments.contains(&"--advertise-address=172.30.0.2".to_owned()));
        let parts = nodes(&settings, &folder);
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["node-1/proxy", "node-1/agent", "node-2/proxy", "node-2/agent"]);
        assert!(parts[2].arguments.contains(&"--hostname-override=node-2".to_owned()));
        assert!(parts[3].arguments.contains(&"--node-ip=172.30.0.12".to_owned()));
        assert!(parts[3].arguments.contains(&"--network=vxlan".to_owned()));
        assert_eq!(parts[3].place, "node-2");
    }
}
