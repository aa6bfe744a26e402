//! What is told of a kernel that does not hold what was planned.
#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

mod common;

use common::{forwarding, settings};
use switchyard_model::IpFamily;
use switchyard_plan::iptables::verify::Listing;
use switchyard_plan::iptables::{Ruleset, Table};

const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: NodePort, clusterIP: 10.96.0.20, clusterIPs: [10.96.0.20], ports: [{port: 80, nodePort: 30080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.244.1.2]}, {addresses: [10.244.2.2]}]
";

fn plan(objects: &str) -> Ruleset {
    Ruleset::new(&settings(IpFamily::V4), &forwarding(objects, IpFamily::V4))
}

/// The lines of `iptables-save` where all is as planned.
fn lines(plan: &Ruleset) -> Vec<(Table, String)> {
    let lines_of = |place: &switchyard_plan::iptables::ChainRef| {
        let declaration = format!(":{} - [0:0]", place.chain);
        std::iter::once(declaration)
            .chain(plan.saved(*place))
            .map(|line| (place.table, line))
            .collect::<Vec<_>>()
    };
    plan.chains.keys().flat_map(lines_of).collect()
}

fn told(lines: &[(Table, String)], plan: &Ruleset) -> Vec<String> {
    let mut listing = Listing::default();
    lines.iter().for_each(|(table, line)| listing.read(*table, line));
    listing.differences(plan).iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_as_planned_has_no_difference_whatever_others_add() {
    let plan = plan(WEB);
    let mut lines = lines(&plan);
    assert_eq!(told(&lines, &plan), [""; 0]);
    lines.push((Table::Filter, "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT".into()));
    lines.push((Table::Nat, ":CNI-HOSTPORT - [0:0]".into()));
    assert_eq!(told(&lines, &plan), [""; 0]);
}

#[test]
fn lost_and_added_rules_and_chains_are_told() {
    let plan = plan(WEB);
    let mut lines = lines(&plan);
    let at = lines.iter().position(|(_, line)| line.starts_with("-A KUBE-SVC-")).unwrap();
    let lost = lines.remove(at).1;
    let chain = lost.split(' ').nth(1).unwrap().to_owned();
    lines.push((Table::Nat, format!("-A {chain} -j ACCEPT")));
    assert_eq!(
        told(&lines, &plan),
        [format!("missing rule: -t nat {lost}"), format!("unplanned rule: -t nat -A {chain} -j ACCEPT")]
    );
    lines.retain(|(_, line)| {
        ![format!(":{chain} "), format!("-A {chain} ")].iter().any(|start| line.starts_with(start))
    });
    let told_now = told(&lines, &plan);
    assert!(told_now[0].starts_with(&format!("missing chain: nat {chain}, with ")), "{told_now:?}");
}

#[test]
fn chains_of_services_that_are_gone_are_stale() {
    let told = told(&lines(&plan(WEB)), &plan(""));
    assert!(told.iter().any(|line| line.starts_with("stale chain: nat KUBE-SEP-")), "{told:?}");
    assert!(told.iter().any(|line| line.starts_with("unplanned rule: -t nat -A KUBE-NODEPORTS")), "{told:?}");
}

#[test]
fn order_counts_where_it_decides() {
    let plan = plan(WEB);
    let (mut services, others): (Vec<_>, Vec<_>) = lines(&plan)
        .into_iter()
        .partition(|(table, line)| *table == Table::Nat && line.starts_with("-A KUBE-SERVICES"));
    services.reverse();
    assert_eq!(told(&[others, services].concat(), &plan), ["rules in another order: nat KUBE-SERVICES"]);
}
