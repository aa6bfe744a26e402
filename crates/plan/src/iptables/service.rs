//! What one service port becomes: rules that catch its addresses, and chains that pick an endpoint.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use switchyard_model::{PortForwarding, Protocol, ServicePort, ServicePortName, TrafficPolicy, Verdict};

use super::balance::Balancing;
use super::{
    Addresses, Chain, ChainRef, Counter, Match, PortNames, Rule, RuleCounts, Settings, Table, Target,
};
use crate::node::DetectLocal;

pub(super) const LOOPBACK: Addresses =
    Addresses::Range(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)));

/// The chains that hold rules of every service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DispatchChain {
    /// filter: rejects and drops for cluster IPs.
    Services,
    /// filter: rejects and drops for everything that is reached from outside.
    ExternalServices,
    /// filter: lets load balancers' health checks in.
    HealthChecks,
    /// filter: drops what load balancer source ranges exclude.
    ProxyFirewall,
    /// nat: by address and port.
    NatServices,
    /// nat: by node port.
    NatNodePorts,
}

impl DispatchChain {
    pub const ALL: [DispatchChain; 6] = [
        DispatchChain::Services,
        DispatchChain::ExternalServices,
        DispatchChain::HealthChecks,
        DispatchChain::ProxyFirewall,
        DispatchChain::NatServices,
        DispatchChain::NatNodePorts,
    ];

    pub fn table(self) -> Table {
        self.place().table
    }

    pub fn chain(self) -> Chain {
        self.place().chain
    }

    pub fn place(self) -> ChainRef {
        let (table, chain) = match self {
            DispatchChain::Services => (Table::Filter, Chain::KubeServices),
            DispatchChain::ExternalServices => (Table::Filter, Chain::KubeExternalServices),
            DispatchChain::HealthChecks => (Table::Filter, Chain::KubeNodePorts),
            DispatchChain::ProxyFirewall => (Table::Filter, Chain::KubeProxyFirewall),
            DispatchChain::NatServices => (Table::Nat, Chain::KubeServices),
            DispatchChain::NatNodePorts => (Table::Nat, Chain::KubeNodePorts),
        };
        ChainRef { table, chain }
    }
}

/// A rule in a chain that all service ports share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DispatchRule {
    pub chain: DispatchChain,
    pub rule: Rule,
}

/// All rules of one service port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortRules {
    pub dispatch: Vec<DispatchRule>,
    /// The port's own chains (all in nat), in the order in which they are declared. None is shared with another port.
    pub chains: Vec<Chain>,
    /// The rules of these chains in the order in which they are written, which goes back and forth between chains.
    pub rules: Vec<(Chain, Rule)>,
}

impl PortRules {
    /// The rules of one of the port's own chains, in order.
    pub fn of_chain(&self, chain: Chain) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |(of, _)| *of == chain).map(|(_, rule)| rule)
    }

    pub(super) fn counts(&self) -> RuleCounts {
        let mut counts = RuleCounts::of(Table::Nat, self.rules.len());
        for dispatch in &self.dispatch {
            counts += RuleCounts::of(dispatch.chain.table(), 1);
        }
        counts
    }
}

/// Plans one service port. In a large cluster the rules of endpoints carry no comments.
pub fn port_rules(
    settings: &Settings,
    name: &ServicePortName,
    forwarding: &PortForwarding,
    large_cluster: bool,
) -> PortRules {
    let planner = Planner::new(settings, name, forwarding);
    let mut rules = PortRules { dispatch: planner.dispatch(), ..PortRules::default() };
    planner.chains(large_cluster, &mut rules);
    rules
}

/// Plans only the rules in shared chains: much less work for a service with many endpoints.
pub(super) fn dispatch_rules(
    settings: &Settings,
    name: &ServicePortName,
    forwarding: &PortForwarding,
) -> Vec<DispatchRule> {
    Planner::new(settings, name, forwarding).dispatch()
}

/// A service port with everything that is decided about it before the first rule is written.
struct Planner<'a> {
    settings: &'a Settings,
    names: PortNames,
    forwarding: &'a PortForwarding,
    service: &'a ServicePort,
    internal: Verdict,
    external: Verdict,
    /// Where traffic to the cluster IP goes.
    internal_chain: Chain,
    /// Whether load balancer addresses are for some clients only.
    restricted: bool,
}

impl<'a> Planner<'a> {
    fn new(settings: &'a Settings, name: &ServicePortName, forwarding: &'a PortForwarding) -> Planner<'a> {
        let names = PortNames::new(name);
        let service = &forwarding.service_port;
        let internal_chain = policy_chain(&names, service.internal_policy);
        Planner {
            settings,
            names,
            forwarding,
            service,
            internal: forwarding.internal_verdict(),
            external: forwarding.external_verdict(),
            internal_chain,
            restricted: forwarding.has_any_endpoint
                && !service.load_balancer_ips.is_empty()
                && !service.source_ranges.is_empty(),
        }
    }

    fn dispatch(&self) -> Vec<DispatchRule> {
        let mut rules = Vec::with_capacity(4);
        self.dispatch_cluster_ip(&mut rules);
        self.dispatch_external_ips(&mut rules);
        self.dispatch_load_balancer_ips(&mut rules);
        self.dispatch_node_port(&mut rules);
        if let Some(port) = self.service.health_check_node_port {
            let comment = self.comment(" health check node port");
            let rule = Rule::new(
                [comment, Match::Protocol(Protocol::Tcp), Match::DestinationPort(port)],
                Target::Accept,
            );
            rules.push(DispatchRule { chain: DispatchChain::HealthChecks, rule });
        }
        rules
    }

    fn dispatch_cluster_ip(&self, rules: &mut Vec<DispatchRule>) {
        let service = self.service;
        let (chain, what, target) = match refusal(self.internal) {
            None => (DispatchChain::NatServices, " cluster IP", Target::Jump(self.internal_chain)),
            Some((why, target)) => (DispatchChain::Services, why, target),
        };
        rules.push(DispatchRule { chain, rule: self.to_address(what, service.cluster_ip, target) });
    }

    fn dispatch_external_ips(&self, rules: &mut Vec<DispatchRule>) {
        for &address in &self.service.external_ips {
            if self.forwarding.has_any_endpoint {
                let rule = self.to_address(" external IP", address, Target::Jump(self.names.ext()));
                rules.push(DispatchRule { chain: DispatchChain::NatServices, rule });
            }
            self.refuse_external(address, rules);
        }
    }

    fn dispatch_load_balancer_ips(&self, rules: &mut Vec<DispatchRule>) {
        let chain = if self.restricted { self.names.fw() } else { self.names.ext() };
        for &address in &self.service.load_balancer_ips {
            if self.forwarding.has_any_endpoint {
                let rule = self.to_address(" loadbalancer IP", address, Target::Jump(chain));
                rules.push(DispatchRule { chain: DispatchChain::NatServices, rule });
            }
            if self.restricted {
                let what = format!(" traffic not accepted by {chain}");
                let rule = self.to_address(&what, address, Target::Drop);
                rules.push(DispatchRule { chain: DispatchChain::ProxyFirewall, rule });
            }
        }
        for &address in &self.service.load_balancer_ips {
            self.refuse_external(address, rules);
        }
    }

    fn dispatch_node_port(&self, rules: &mut Vec<DispatchRule>) {
        let Some(node_port) = self.service.node_port else { return };
        let protocol = Match::Protocol(self.service.protocol);
        let port = Match::DestinationPort(node_port);
        if self.forwarding.has_any_endpoint {
            let (comment, target) = (self.comment(""), Target::Jump(self.names.ext()));
            if self.settings.serves_localhost() && self.settings.count_localhost_node_ports {
                let counted = Match::Counted(Counter::LocalhostNodePortsAccepted);
                let to_loopback = Match::Destination(LOOPBACK);
                let matches = [comment.clone(), protocol.clone(), to_loopback, port.clone(), counted];
                rules.push(DispatchRule {
                    chain: DispatchChain::NatNodePorts,
                    rule: Rule::new(matches, target),
                });
            }
            let rule = Rule::new([comment, protocol.clone(), port.clone()], target);
            rules.push(DispatchRule { chain: DispatchChain::NatNodePorts, rule });
        }
        if let Some((why, target)) = refusal(self.external) {
            let rule = Rule::new([self.comment(why), Match::DestinationIsLocal, protocol, port], target);
            rules.push(DispatchRule { chain: DispatchChain::ExternalServices, rule });
        }
    }

    fn refuse_external(&self, address: IpAddr, rules: &mut Vec<DispatchRule>) {
        if let Some((why, target)) = refusal(self.external) {
            let rule = self.to_address(why, address, target);
            rules.push(DispatchRule { chain: DispatchChain::ExternalServices, rule });
        }
    }

    /// Declares chains and writes rules in the orders of upstream's text: declarations go EXT, FW, SVC, SVL, SEP; of
    /// the rules, the one that masquerades traffic to the cluster IP comes before everything else.
    fn chains(&self, large_cluster: bool, out: &mut PortRules) {
        let (forwarding, service) = (self.forwarding, self.service);
        let balancing = Balancing {
            names: &self.names,
            protocol: service.protocol,
            affinity_seconds: service.affinity_seconds,
            comments: !large_cluster,
        };
        if self.internal == Verdict::Forward {
            self.masquerade_off_cluster(out);
        }
        if forwarding.has_any_endpoint && service.externally_accessible {
            out.chains.push(self.names.ext());
            self.external_chain(out);
        }
        if self.restricted {
            out.chains.push(self.names.fw());
            self.firewall_chain(out);
        }
        let cluster = forwarding.cluster_endpoints();
        if cluster.len() > 0 && service.uses_cluster_endpoints() {
            out.chains.push(self.names.svc());
            balancing.choose(self.names.svc(), cluster, out);
        }
        let local = forwarding.local_endpoints();
        if local.len() > 0 && service.uses_local_endpoints() {
            out.chains.push(self.names.svl());
            balancing.choose(self.names.svl(), local, out);
        }
        for endpoint in forwarding.reachable_endpoints() {
            balancing.translate(endpoint, out);
        }
    }

    // The address is matched again since traffic from outside may come through the same chain.
    fn masquerade_off_cluster(&self, out: &mut PortRules) {
        let to_masquerade = Target::Jump(Chain::KubeMarkMasq);
        let mut rule = self.to_address(" cluster IP", self.service.cluster_ip, to_masquerade);
        if !self.settings.masquerade_all {
            match &self.settings.detect_local {
                DetectLocal::Unknown => return,
                DetectLocal::Source(range) => rule.matches.push(Match::NotSource(Addresses::Range(*range))),
                DetectLocal::Interface(name) => rule.matches.push(Match::NotInInterface(name.clone())),
            }
        }
        out.rules.push((self.internal_chain, rule));
    }

    fn external_chain(&self, out: &mut PortRules) {
        let (ext, svc) = (self.names.ext(), Target::Jump(self.names.svc()));
        let masquerade = Target::Jump(Chain::KubeMarkMasq);
        let comment = |what: &str| {
            Match::Comment(Cow::Owned(format!("{what} for {} external destinations", self.names.text)))
        };
        if self.service.external_policy == TrafficPolicy::Cluster {
            out.rules.push((ext, Rule::new([comment("masquerade traffic")], masquerade)));
        } else {
            // Pods and the node itself are not outside: they may use endpoints on any node.
            let from_pods = match &self.settings.detect_local {
                DetectLocal::Unknown => None,
                DetectLocal::Source(range) => Some(Match::Source(Addresses::Range(*range))),
                DetectLocal::Interface(name) => Some(Match::InInterface(name.clone())),
            };
            if let Some(from_pods) = from_pods {
                out.rules.push((ext, Rule::new([comment("pod traffic"), from_pods], svc)));
            }
            let local = |what, target| Rule::new([comment(what), Match::SourceIsLocal], target);
            out.rules.push((ext, local("masquerade LOCAL traffic", masquerade)));
            out.rules.push((ext, local("route LOCAL traffic", svc)));
        }
        if self.external == Verdict::Forward {
            let chain = policy_chain(&self.names, self.service.external_policy);
            out.rules.push((ext, Rule::new([], Target::Jump(chain))));
        }
    }

    fn firewall_chain(&self, out: &mut PortRules) {
        let fw = self.names.fw();
        let mut allow = |source: Addresses| {
            let matches = [self.comment(" loadbalancer IP"), Match::Source(source)];
            out.rules.push((fw, Rule::new(matches, Target::Jump(self.names.ext()))));
        };
        for &range in &self.service.source_ranges {
            allow(Addresses::Range(range));
        }
        // A connection that the node opens to a load balancer address has that same address as its source, as the
        // address is local to the node; it has to be let in where the node is.
        if self.service.source_ranges.iter().any(|range| range.contains(&self.settings.node_ip)) {
            for &address in &self.service.load_balancer_ips {
                allow(Addresses::Host(address));
            }
        }
        // Decides nothing: what gets here keeps its destination, by which KUBE-PROXY-FIREWALL knows it.
        let text = format!("other traffic to {} will be dropped by KUBE-PROXY-FIREWALL", self.names.text);
        out.rules.push((fw, Rule::new([Match::Comment(Cow::Owned(text))], Target::None)));
    }

    fn to_address(&self, what: &str, address: IpAddr, target: Target) -> Rule {
        let matches = [
            self.comment(what),
            Match::Protocol(self.service.protocol),
            Match::Destination(Addresses::Host(address)),
            Match::DestinationPort(self.service.port),
        ];
        Rule::new(matches, target)
    }

    /// The port's name with `what` behind it.
    fn comment(&self, what: &str) -> Match {
        Match::Comment(Cow::Owned([&self.names.text, what].concat()))
    }
}

fn policy_chain(names: &PortNames, policy: TrafficPolicy) -> Chain {
    match policy {
        TrafficPolicy::Cluster => names.svc(),
        TrafficPolicy::Local => names.svl(),
    }
}

/// How the filter table refuses what is not forwarded; `None` if it is.
fn refusal(verdict: Verdict) -> Option<(&'static str, Target)> {
    match verdict {
        Verdict::Forward => None,
        Verdict::Reject => Some((" has no endpoints", Target::Reject)),
        Verdict::Drop => Some((" has no local endpoints", Target::Drop)),
    }
}
