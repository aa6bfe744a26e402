//! Every recorded case: what is planned from its objects is what `iptables-save` showed after kube-proxy's sync.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on stops

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Failed, Trial};
use switchyard_model::IpFamily;
use switchyard_plan::iptables::{Chain, ChainRef, Ruleset, Settings, Table};
use switchyard_plan::node::{DetectLocal, NodePortAddresses};

/// Every recorded cluster has this service besides the case's own.
const KUBERNETES: &str = "
apiVersion: v1
kind: Service
metadata: {name: kubernetes, namespace: default}
spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ipFamilies: [IPv4], ports: [{name: https, port: 443, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kubernetes, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}
addressType: IPv4
ports: [{name: https, port: 6443, protocol: TCP}]
endpoints: [{addresses: [192.168.56.1], conditions: {ready: true}}]
---
";

/// The order of services in these chains has no meaning.
const SHARED: [&str; 4] =
    ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL"];

type Chains = BTreeMap<String, Vec<String>>;

fn main() {
    let arguments = Arguments::from_args();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cases/iptables");
    let mut cases: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty(), "no cases in {}", folder.display());
    let trials = cases.into_iter().flat_map(|case| {
        IpFamily::BOTH.map(|family| {
            let (name, case) = (case.file_name().unwrap().to_string_lossy().into_owned(), case.clone());
            Trial::test(format!("{name}_{family}"), move || compare(&case, family))
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn compare(case: &Path, family: IpFamily) -> Result<(), Failed> {
    let read = |name: &str| fs::read_to_string(case.join(name)).unwrap();
    let settings = settings(&read("args"), family);
    let forwarding = common::forwarding(&(KUBERNETES.to_owned() + &read("objects.yaml")), family);
    let planned = saved(&common::ruleset(&settings, &forwarding));
    let recorded = read(match family {
        IpFamily::V4 => "iptables-save.txt",
        IpFamily::V6 => "ip6tables-save.txt",
    });
    let recorded = parse(&recorded);
    for chain in recorded.keys().chain(planned.keys()) {
        let (recorded, planned) = (recorded.get(chain), planned.get(chain));
        if recorded != planned {
            return Err(format!("{chain}\nrecorded {recorded:#?}\nplanned {planned:#?}").into());
        }
    }
    Ok(())
}

fn settings(args: &str, family: IpFamily) -> Settings {
    let mut settings = common::settings(family);
    for arg in args.lines() {
        match arg.split_once('=').unwrap_or((arg, "")) {
            ("--masquerade-all", _) => settings.masquerade_all = true,
            ("--iptables-localhost-nodeports", "false") => {
                (settings.localhost_node_ports, settings.count_localhost_node_ports) = (false, false);
            }
            ("--detect-local-mode", "NodeCIDR") => {
                let pods = ["10.244.1.0/24", "fd00:10:244:1::/64"][usize::from(family == IpFamily::V6)];
                settings.detect_local = DetectLocal::Source(pods.parse().unwrap());
            }
            ("--detect-local-mode", "InterfaceNamePrefix") => {}
            ("--pod-interface-name-prefix", prefix) => {
                settings.detect_local = DetectLocal::Interface(format!("{prefix}+"));
            }
            // node-1 has one address in this range; no range is left for IPv6, which means all.
            ("--nodeport-addresses", "192.168.56.0/24") if family == IpFamily::V4 => {
                settings.node_port_addresses = NodePortAddresses::Addresses(vec![settings.node_ip]);
                (settings.localhost_node_ports, settings.count_localhost_node_ports) = (false, false);
            }
            ("--nodeport-addresses", _) => {}
            other => panic!("a flag that this test does not know: {other:?}"),
        }
    }
    settings
}

fn saved(ruleset: &Ruleset) -> Chains {
    let mut chains: Chains =
        ruleset.chains.keys().map(|place| (place.to_string(), ruleset.saved(*place))).collect();
    for table in [Table::Filter, Table::Nat, Table::Mangle] {
        // Made by the flush watch, not by a sync.
        chains.insert(ChainRef { table, chain: Chain::KubeProxyCanary }.to_string(), Vec::new());
    }
    sort_shared(&mut chains);
    chains
}

fn parse(dump: &str) -> Chains {
    let (mut chains, mut table) = (Chains::new(), "");
    for line in dump.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split(' ');
            let (name, policy) = (words.next().unwrap(), words.next().unwrap());
            if policy == "-" {
                chains.insert(format!("{table} {name}"), Vec::new());
            }
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let chain = rule.split(' ').next().unwrap();
            chains.entry(format!("{table} {chain}")).or_default().push(line.to_owned());
        }
    }
    sort_shared(&mut chains);
    chains
}

fn sort_shared(chains: &mut Chains) {
    for (place, rules) in
        chains.iter_mut().filter(|(place, _)| SHARED.iter().any(|name| place.ends_with(name)))
    {
        let tail =
            rules.iter().position(|rule| rule.contains("must be the last rule")).unwrap_or(rules.len());
        rules[..tail].sort();
        assert!(rules[tail..].iter().all(|rule| rule.contains("must be the last rule")), "{place}");
    }
}
