//! The two commands, from their words to their text.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use switchyard_api::address::parse_cidr;
use switchyard_api::{IpFamily, Node};
use switchyard_model::{ServiceTable, TableOptions};
use switchyard_plan::iptables::whole_text;
use tokio::sync::mpsc;

use super::table::{Width, table};
use super::view::view;
use crate::config::{Configuration, ProxyMode, complete, validate};
use crate::flags::{Exit, Extra, Parsed, parse_with};
use crate::mode::iptables::{HostFeatures, NodeFacts, settings};
use crate::node::{NodeAddresses, node_name};
use crate::source::opened::Source;
use crate::source::{CHANNEL_CAPACITY, Change, Kind, Update};
use crate::{klog_warning, logging};

/// How long the API server may take to deliver what it has.
const PATIENCE: Duration = Duration::from_secs(30);

const NODE: Extra = Extra {
    name: "node",
    letter: None,
    type_name: "string",
    default: "",
    doc: "The node to look from; its zone, addresses and pod ranges are read from its Node object. \
          Default: --hostname-override, or this host.",
};
const FAMILY: Extra = Extra {
    name: "family",
    letter: None,
    type_name: "string",
    default: "both",
    doc: "The address family to show: ipv4, ipv6 or both.",
};
pub(crate) const MODE: Extra = Extra {
    name: "mode",
    letter: None,
    type_name: "string",
    default: "",
    doc: "The proxy mode whose rules to show; the same as --proxy-mode.",
};
const OUTPUT: Extra = Extra {
    name: "output",
    letter: Some('o'),
    type_name: "string",
    default: "",
    doc: "The form: empty for a table, wide for one with every endpoint, json, or yaml.",
};

/// `switchyard services`: what every service address does, as a table.
pub fn services(arguments: &[String]) -> Result<String, Exit> {
    let asked = Asked::read("switchyard services", arguments, &[NODE, FAMILY, OUTPUT])?;
    let output = asked.extra("output");
    if !matches!(output, "" | "wide" | "json" | "yaml") {
        return Err(failure(format!("--output must be wide, json or yaml, not {output:?}")));
    }
    let mut seen = asked.look()?;
    let families = asked.families()?;
    let ports: Vec<_> =
        families.into_iter().flat_map(|family| view(&seen.table.commit(family).forwarding)).collect();
    match output {
        "json" => serde_json::to_string_pretty(&ports).map(|text| text + "\n").map_err(failure),
        "yaml" => serde_saphyr::to_string(&ports).map_err(failure),
        "wide" => Ok(table(&ports, Width::Wide)),
        _ => Ok(table(&ports, Width::Normal)),
    }
}

/// `switchyard rules`: what the proxy would give to iptables-restore, for a host with every feature.
pub fn rules(arguments: &[String]) -> Result<String, Exit> {
    let asked = Asked::read("switchyard rules", arguments, &[MODE, NODE, FAMILY])?;
    if asked.config.mode != ProxyMode::Iptables {
        let mode = asked.config.mode.name();
        return Err(failure(format!("rules of mode {mode} cannot be shown yet; use --mode iptables")));
    }
    let mut seen = asked.look()?;
    let facts = node_facts(seen.node.as_ref(), &asked.config);
    let mut text = String::new();
    for family in asked.families()? {
        let forwarding = seen.table.commit(family).forwarding;
        let settings = settings(family, &asked.config, &facts, HostFeatures::ALL);
        text.push_str(&format!(
            "# {family}, for {}\n",
            if family == IpFamily::V4 { "iptables-restore" } else { "ip6tables-restore" }
        ));
        text.push_str(&whole_text(&settings, &forwarding));
    }
    Ok(text)
}

/// A command line that was understood.
pub(crate) struct Asked {
    parsed: Parsed,
    pub(crate) config: Configuration,
    pub(crate) node: String,
}

impl Asked {
    pub(crate) fn read(program: &str, arguments: &[String], extras: &[Extra]) -> Result<Asked, Exit> {
        let mut parsed = parse_with(program, arguments, extras)?;
        if let Some(mode) = parsed.extras.get("mode").filter(|mode| !mode.is_empty()) {
            parsed.flags.proxy_mode.clone_from(mode);
        }
        if names_no_source(&parsed) {
            parsed.flags.kubeconfig = usual_kubeconfig();
        }
        let completed = complete(&parsed).map_err(failure)?;
        let config = validate(&completed).map_err(failure)?;
        let wanted = parsed.extras.get("node").filter(|node| !node.is_empty());
        let node =
            node_name(wanted.or(config.hostname_override.as_ref()).map(String::as_str)).map_err(failure)?;
        Ok(Asked { parsed, config, node })
    }

    pub(crate) fn extra(&self, name: &str) -> &str {
        self.parsed.extras.get(name).map_or("", String::as_str)
    }

    fn families(&self) -> Result<Vec<IpFamily>, Exit> {
        match self.extra("family").to_ascii_lowercase().as_str() {
            "ipv4" => Ok(vec![IpFamily::V4]),
            "ipv6" => Ok(vec![IpFamily::V6]),
            "both" => Ok(IpFamily::BOTH.into()),
            other => Err(failure(format!("--family must be ipv4, ipv6 or both, not {other:?}"))),
        }
    }

    /// Reads the source once, to the end of its initial objects.
    pub(crate) fn look(&self) -> Result<Seen, Exit> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failure)?;
        let looking = async {
            let (sender, updates) = mpsc::channel(CHANNEL_CAPACITY);
            let mut source = Source::open(&self.config, &self.node, sender, None).await.map_err(failure)?;
            source.check().await.map_err(failure)?;
            source.watch_node();
            source.watch_services();
            let seen = tokio::time::timeout(PATIENCE, collect(&self.config, &self.node, updates)).await;
            drop(source);
            seen.map_err(|_| {
                failure(format!("the API server did not deliver its objects within {} s", PATIENCE.as_secs()))
            })
        };
        runtime.block_on(looking)
    }
}

fn names_no_source(parsed: &Parsed) -> bool {
    let flags = &parsed.flags;
    [&flags.kubeconfig, &flags.master, &flags.manifests, &flags.config].into_iter().all(String::is_empty)
}

/// Where kubectl would look, since these commands are typed by people as kubectl is; empty if nothing is there.
fn usual_kubeconfig() -> String {
    let variable = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty());
    let first = variable.as_ref().and_then(|value| std::env::split_paths(value).next());
    let of_home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
    let path = first.or_else(of_home).filter(|path| path.exists());
    path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What the source had.
pub(crate) struct Seen {
    pub(crate) table: ServiceTable,
    pub(crate) node: Option<Node>,
}

async fn collect(config: &Configuration, node: &str, mut updates: mpsc::Receiver<Update>) -> Seen {
    let allow_external_ips = config.feature_gates.enabled("AllowServiceExternalIPs");
    let table = ServiceTable::new(TableOptions { node_name: node.into(), allow_external_ips });
    let mut seen = Seen { table, node: None };
    let mut missing = BTreeSet::from([Kind::Service, Kind::EndpointSlice, Kind::Node]);
    while !missing.is_empty() {
        match updates.recv().await {
            Some(Update::Service(Change::Set(service))) => drop(seen.table.set_service(&service)),
            Some(Update::EndpointSlice(Change::Set(slice))) => drop(seen.table.set_slice(&slice)),
            Some(Update::Node(Change::Set(node))) => {
                seen.table.set_zone(node.zone().cloned());
                seen.node = Some(node);
            }
            Some(Update::Malformed(malformed)) => {
                klog_warning!(
                    "Skipping an object that cannot be read",
                    err = logging::error(&malformed.object)
                );
            }
            Some(Update::Synced(kind)) => drop(missing.remove(&kind)),
            Some(_) => {}
            None => break,
        }
    }
    seen
}

/// A node's facts as its Node object has them; its addresses stand for those of its interfaces.
pub(crate) fn node_facts(node: Option<&Node>, config: &Configuration) -> NodeFacts {
    let ips = node.map(Node::ips).unwrap_or_default();
    let pod_cidrs = node.map_or(&[][..], |node| &node.spec.pod_cidrs);
    let pod_cidrs: Vec<IpNet> = pod_cidrs.iter().filter_map(|text| parse_cidr(text)).collect();
    NodeFacts {
        addresses: NodeAddresses::new(&ips, config.bind_address),
        pod_cidrs,
        node_port_addresses: config.node_port_addresses.resolve(&ips),
        local_addresses: ips,
    }
}

pub(crate) fn failure(error: impl std::fmt::Display) -> Exit {
    Exit { stdout: String::new(), stderr: format!("Error: {error}\n"), code: 1 }
}
