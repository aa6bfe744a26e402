//! The rules of mapped ports and of masquerading, as text: which there have to be, which are whose.
//!
//! All are in two chains of the nat table that are ours alone. Each carries its attachment's note as its comment, so
//! that it can be found and removed when nothing else is known any more.

use std::net::IpAddr;

use ipnet::IpNet;
use switchyard_kernel::iptables::IpFamily;

use super::identity::hash_in;
use super::settings::Mapping;

/// Translates the ports; reached from PREROUTING and OUTPUT for what goes to an address of the host.
pub(super) const HOST_PORTS: &str = "SWITCHYARD-HOSTPORT";
/// Changes the source of what has to come back through this host; reached from POSTROUTING.
pub(super) const MASQUERADE: &str = "SWITCHYARD-MASQ";

/// A rule and the chain that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) chain: &'static str,
    pub(super) words: Vec<String>,
}

/// The rules that lead into our chains. Connections that the host makes to its own loopback addresses are left alone:
/// to let those out to a container, the bridge would have to take packets for 127.0.0.0/8 from containers as well.
pub(super) fn jumps(family: IpFamily) -> Vec<Rule> {
    let loopback = match family {
        IpFamily::V4 => "127.0.0.0/8",
        IpFamily::V6 => "::1/128",
    };
    vec![
        rule("PREROUTING", &format!("-m addrtype --dst-type LOCAL -j {HOST_PORTS}")),
        rule("OUTPUT", &format!("! -d {loopback} -m addrtype --dst-type LOCAL -j {HOST_PORTS}")),
        rule("POSTROUTING", &format!("-j {MASQUERADE}")),
    ]
}

/// The rules of one attachment for one of its addresses.
pub(super) fn wanted(mappings: &[Mapping], masquerade: bool, address: IpNet, note: &str) -> Vec<Rule> {
    let (range, pod) = (address.trunc(), IpNet::from(address.addr()));
    let comment = format!("-m comment --comment {note}");
    let mut rules = Vec::new();
    for mapping in mappings.iter().filter(|mapping| applies(mapping, address.addr())) {
        let (protocol, host_port, port) =
            (mapping.protocol.as_str(), mapping.host_port, mapping.container_port);
        let on = match mapping.host_address.filter(|address| !address.is_unspecified()) {
            Some(address) => format!("-d {} ", IpNet::from(address)),
            None => String::new(),
        };
        let to = match address.addr() {
            IpAddr::V4(address) => format!("{address}:{port}"),
            IpAddr::V6(address) => format!("[{address}]:{port}"),
        };
        rules.push(rule(
            HOST_PORTS,
            &format!(
                "{on}-p {protocol} -m {protocol} --dport {host_port} {comment} -j DNAT --to-destination {to}"
            ),
        ));
        // A container of the same bridge, or the same container, would be answered past this host, by an address
        // that it did not ask. Only what came by this port: services keep their clients' addresses.
        rules.push(rule(
            MASQUERADE,
            &format!(
                "-s {range} -d {pod} -p {protocol} -m {protocol} --dport {port} -m conntrack --ctstate DNAT \
                 --ctorigdstport {host_port} {comment} -j MASQUERADE"
            ),
        ));
    }
    if masquerade {
        rules.push(rule(
            MASQUERADE,
            &format!("-s {pod} ! -d {range} -m addrtype ! --dst-type MULTICAST {comment} -j MASQUERADE"),
        ));
    }
    rules
}

/// A mapping to a given address of the host exists in that address's family only.
fn applies(mapping: &Mapping, address: IpAddr) -> bool {
    mapping.host_address.is_none_or(|on| on.is_ipv4() == address.is_ipv4())
}

/// Input of iptables-restore: away with these lines of a listing, and in with these rules, all or nothing.
pub(super) fn restore(remove: &[String], add: &[Rule]) -> String {
    let mut input = "*nat\n".to_owned();
    for line in remove {
        input.push_str(&line.replacen("-A ", "-D ", 1));
        input.push('\n');
    }
    for rule in add {
        input.push_str(&format!("-A {} {}\n", rule.chain, rule.words.join(" ")));
    }
    input.push_str("COMMIT\n");
    input
}

/// Input of iptables-restore: away with these lines, then with what leads into our chains, and with those.
pub(super) fn restore_without_chains(remove: &[String], jumps: &[Rule], chains: &[&str]) -> String {
    let jumps = jumps.iter().map(|rule| format!("-A {} {}", rule.chain, rule.words.join(" ")));
    let remove: Vec<String> = remove.iter().cloned().chain(jumps).collect();
    let chains: String = chains.iter().map(|chain| format!("-X {chain}\n")).collect();
    restore(&remove, &[]).replace("COMMIT\n", &format!("{chains}COMMIT\n"))
}

/// The hash of the attachment that a listed rule belongs to, if it is one of this network.
pub(super) fn owner<'a>(line: &'a str, network: &str) -> Option<&'a str> {
    let comment = line.split(" --comment ").nth(1)?.split(' ').next()?;
    // Some versions quote every comment.
    hash_in(comment.trim_matches('"'), network)
}

/// The note of somebody else's rule that takes the same port of the host, in the listing of our own chain.
pub(super) fn conflict<'a>(lines: &'a [String], mapping: &Mapping, note: &str) -> Option<&'a str> {
    lines.iter().find_map(|line| {
        let value = |flag: &str| {
            let mut words = line.split(' ').skip_while(move |word| *word != flag);
            words.nth(1)
        };
        let other = value("--comment")?.trim_matches('"');
        let port = value("--dport")?.parse::<u16>().ok()?;
        let same = port == mapping.host_port && value("-p")? == mapping.protocol.as_str() && other != note;
        // A mapping without an address takes the port on all of them.
        let on = value("-d").and_then(|text| text.split('/').next()).and_then(|text| text.parse().ok());
        let mine = mapping.host_address.filter(|address| !address.is_unspecified());
        let overlap = match (on, mine) {
            (Some::<IpAddr>(theirs), Some(mine)) => theirs == mine,
            _ => true,
        };
        (same && overlap).then_some(other)
    })
}

fn rule(chain: &'static str, text: &str) -> Rule {
    Rule { chain, words: text.split(' ').map(str::to_owned).collect() }
}

#[cfg(test)]
mod tests {
    use super::super::settings::Protocol;
    use super::*;

    fn mapping(protocol: Protocol, host_port: u16, on: Option<&str>) -> Mapping {
        let host_address = on.map(|text| text.parse().unwrap());
        Mapping { host_port, container_port: 80, protocol, host_address }
    }

    fn texts(rules: &[Rule]) -> Vec<String> {
        rules.iter().map(|rule| format!("{} {}", rule.chain, rule.words.join(" "))).collect()
    }

    const NOTE: &str = "switchyard-cni:pods:0123456789abcdef";

    #[test]
    fn a_mapped_port_is_translated_and_its_neighbours_are_masqueraded() {
        let rules = wanted(
            &[mapping(Protocol::Tcp, 8080, Some("192.0.2.1"))],
            false,
            "10.244.1.2/24".parse().unwrap(),
            NOTE,
        );
        assert_eq!(
            texts(&rules),
            [
                format!(
                    "{HOST_PORTS} -d 192.0.2.1/32 -p tcp -m tcp --dport 8080 -m comment --comment {NOTE} -j DNAT \
                     --to-destination 10.244.1.2:80"
                ),
                format!(
                    "{MASQUERADE} -s 10.244.1.0/24 -d 10.244.1.2/32 -p tcp -m tcp --dport 80 -m conntrack --ctstate DNAT \
                     --ctorigdstport 8080 -m comment --comment {NOTE} -j MASQUERADE"
                ),
            ]
        );
    }

    #[test]
    fn families_are_kept_apart() {
        let mappings = [mapping(Protocol::Udp, 53, Some("192.0.2.1")), mapping(Protocol::Udp, 54, None)];
        let rules = texts(&wanted(&mappings, false, "fd00::2/64".parse().unwrap(), NOTE));
        assert_eq!(rules.len(), 2, "{rules:?}");
        assert!(rules[0].contains("--dport 54") && rules[0].ends_with("[fd00::2]:80"), "{rules:?}");
    }

    #[test]
    fn masquerading_spares_the_own_range() {
        let rules = texts(&wanted(&[], true, "10.244.1.2/24".parse().unwrap(), NOTE));
        assert_eq!(rules.len(), 1);
        assert!(rules[0].contains("-s 10.244.1.2/32 ! -d 10.244.1.0/24"), "{rules:?}");
    }

    #[test]
    fn rules_are_found_again_by_their_comment() {
        let plain = format!("-A {HOST_PORTS} -p tcp -m comment --comment {NOTE} -j DNAT");
        let quoted = format!("-A {HOST_PORTS} -p tcp -m comment --comment \"{NOTE}\" -j DNAT");
        for line in [&plain, &quoted] {
            assert_eq!(owner(line, "pods"), Some("0123456789abcdef"));
            assert_eq!(owner(line, "other"), None);
        }
        let all = restore_without_chains(&[], &jumps(IpFamily::V6)[2..], &[MASQUERADE]);
        assert_eq!(all, "*nat\n-D POSTROUTING -j SWITCHYARD-MASQ\n-X SWITCHYARD-MASQ\nCOMMIT\n");
        let input = restore(&[quoted], &jumps(IpFamily::V4)[..1]);
        assert!(input.starts_with(&format!("*nat\n-D {HOST_PORTS} -p tcp")), "{input}");
        assert!(
            input.ends_with("-A PREROUTING -m addrtype --dst-type LOCAL -j SWITCHYARD-HOSTPORT\nCOMMIT\n")
        );
    }

    #[test]
    fn a_port_is_mapped_once() {
        let lines = [
            format!("-A {HOST_PORTS} -p tcp -m tcp --dport 80 -m comment --comment one -j DNAT"),
            format!(
                "-A {HOST_PORTS} -d 192.0.2.1/32 -p udp -m udp --dport 53 -m comment --comment two -j DNAT"
            ),
        ];
        let taken = |mapping: Mapping, note| conflict(&lines, &mapping, note);
        assert_eq!(taken(mapping(Protocol::Tcp, 80, Some("192.0.2.9")), "three"), Some("one"));
        assert_eq!(taken(mapping(Protocol::Tcp, 80, None), "one"), None);
        assert_eq!(taken(mapping(Protocol::Udp, 80, None), "three"), None);
        assert_eq!(taken(mapping(Protocol::Udp, 53, Some("192.0.2.9")), "three"), None);
        assert_eq!(taken(mapping(Protocol::Udp, 53, Some("192.0.2.1")), "three"), Some("two"));
        assert_eq!(taken(mapping(Protocol::Udp, 53, None), "three"), Some("two"));
    }
}
