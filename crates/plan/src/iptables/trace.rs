//! Sends an imaginary packet, the first of its connection, through a ruleset, and tells what would become of it.
//!
//! The tables are passed as in the kernel: nat PREROUTING (or OUTPUT, from the node itself), then the routing
//! decision, filter INPUT or FORWARD (or OUTPUT), and nat POSTROUTING. Where chance decides, every way is followed.

use std::net::{IpAddr, SocketAddr};

use switchyard_model::Protocol;

use super::{Chain, ChainRef, Match, Rule, Ruleset, Table, Target};

/// The first packet of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub source: IpAddr,
    /// `None` for a packet that a process on the node sends.
    pub in_interface: Option<String>,
    pub destination: SocketAddr,
    pub protocol: Protocol,
}

/// What the rules look up besides the packet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The node's own addresses; 127.0.0.0/8 and ::1 need not be listed.
    pub local_addresses: Vec<IpAddr>,
    /// The endpoint chains that remember the packet's source, not longer ago than the rules ask.
    pub remembered_by: Vec<Chain>,
    /// Connection tracking finds the packet invalid: of no connection, and not the beginning of one.
    pub invalid: bool,
}

/// One of the ways that a packet can take.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub probability: f64,
    pub verdict: PacketVerdict,
    /// Every rule that matched, as its chain and its index therein.
    pub path: Vec<(ChainRef, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketVerdict {
    /// Goes to `destination`, which is the original one unless `translated`, with the node's address as its source if
    /// `masqueraded`.
    Passed {
        destination: SocketAddr,
        translated: bool,
        masqueraded: bool,
    },
    Rejected,
    Dropped,
}

/// Follows the packet on all its ways. The probabilities add up to 1.
pub fn trace(ruleset: &Ruleset, packet: &Packet, surroundings: &Surroundings) -> Vec<Outcome> {
    let tracer = Tracer { ruleset, packet, surroundings };
    let start = Way { probability: 1.0, mark: 0, translated_to: None, masqueraded: false, path: Vec::new() };
    let mut ways = vec![start];
    let mut outcomes = Vec::new();
    let from_outside = packet.in_interface.is_some();
    let first = if from_outside { Chain::Prerouting } else { Chain::Output };
    tracer.pass(Table::Nat, |_| Some(first), &mut ways, &mut outcomes);
    let routed = |way: &Way| {
        Some(match (from_outside, tracer.is_local(tracer.destination(way).ip())) {
            (false, _) => Chain::Output,
            (true, true) => Chain::Input,
            (true, false) => Chain::Forward,
        })
    };
    tracer.pass(Table::Filter, routed, &mut ways, &mut outcomes);
    tracer.pass(
        Table::Nat,
        |way| (routed(way) != Some(Chain::Input)).then_some(Chain::Postrouting),
        &mut ways,
        &mut outcomes,
    );
    // What the node sends to itself comes in again through the loopback device.
    let looped =
        |way: &Way| (!from_outside && tracer.is_local(tracer.destination(way).ip())).then_some(Chain::Input);
    tracer.pass(Table::Filter, looped, &mut ways, &mut outcomes);
    outcomes.extend(ways.into_iter().map(|way| tracer.passed(way)));
    outcomes
}

/// A way under way.
#[derive(Debug, Clone)]
struct Way {
    probability: f64,
    mark: u32,
    translated_to: Option<SocketAddr>,
    masqueraded: bool,
    path: Vec<(ChainRef, usize)>,
}

/// What a chain did with a packet.
enum End {
    /// Came to the chain's end, or was sent back.
    Returned(Way),
    /// No further rule of this table counts.
    Settled(Way),
    Refused(Way, PacketVerdict),
}

struct Tracer<'a> {
    ruleset: &'a Ruleset,
    packet: &'a Packet,
    surroundings: &'a Surroundings,
}

impl Tracer<'_> {
    /// Takes all ways through the built-in chain that `chain` names for them; no chain, no change.
    fn pass(
        &self,
        table: Table,
        chain: impl Fn(&Way) -> Option<Chain>,
        ways: &mut Vec<Way>,
        outcomes: &mut Vec<Outcome>,
    ) {
        for way in std::mem::take(ways) {
            let Some(chain) = chain(&way) else {
                ways.push(way);
                continue;
            };
            for end in self.walk(ChainRef { table, chain }, 0, way) {
                match end {
                    End::Returned(way) | End::Settled(way) => ways.push(way),
                    End::Refused(way, verdict) => {
                        outcomes.push(Outcome { probability: way.probability, verdict, path: way.path });
                    }
                }
            }
        }
    }

    fn walk(&self, place: ChainRef, from: usize, mut way: Way) -> Vec<End> {
        let mut ends = Vec::new();
        for (index, rule) in self.ruleset.rules(place.table, place.chain).iter().enumerate().skip(from) {
            if !rule.matches.iter().all(|matched| self.matches(matched, &way)) {
                continue;
            }
            let mut hit = way.clone();
            way.probability -= way.probability * chance(rule);
            hit.probability -= way.probability;
            hit.path.push((place, index));
            for end in self.act(place, rule.target, hit) {
                match end {
                    // Back from a chain, or a target that lets the packet go on: the next rule is for it.
                    End::Returned(back) if rule.target != Target::Return => {
                        ends.extend(self.walk(place, index + 1, back));
                    }
                    end => ends.push(end),
                }
            }
            if way.probability <= f64::EPSILON {
                return ends;
            }
        }
        ends.push(End::Returned(way));
        ends
    }

    fn act(&self, place: ChainRef, target: Target, mut way: Way) -> Vec<End> {
        match target {
            Target::Jump(chain) => return self.walk(ChainRef { chain, ..place }, 0, way),
            Target::SetMarkBits(bits) => way.mark |= bits,
            Target::FlipMarkBits(bits) => way.mark ^= bits,
            Target::Accept => return vec![End::Settled(way)],
            Target::Drop => return vec![End::Refused(way, PacketVerdict::Dropped)],
            Target::Reject => return vec![End::Refused(way, PacketVerdict::Rejected)],
            Target::Masquerade { .. } => {
                way.masqueraded = true;
                return vec![End::Settled(way)];
            }
            Target::Dnat(endpoint) => {
                way.translated_to = Some(endpoint);
                return vec![End::Settled(way)];
            }
            Target::Return | Target::None => {}
        }
        vec![End::Returned(way)]
    }

    fn matches(&self, matched: &Match, way: &Way) -> bool {
        let (packet, destination) = (self.packet, self.destination(way));
        let interface = packet.in_interface.as_deref();
        match matched {
            Match::Comment(_) | Match::Counted(_) | Match::RememberSource(_) | Match::OneIn(_) => true,
            Match::Protocol(protocol) => packet.protocol == *protocol,
            Match::DestinationPort(port) => destination.port() == *port,
            Match::Source(addresses) => addresses.contains(packet.source),
            Match::NotSource(addresses) => !addresses.contains(packet.source),
            Match::Destination(addresses) => addresses.contains(destination.ip()),
            Match::NotDestination(addresses) => !addresses.contains(destination.ip()),
            Match::InInterface(pattern) => interface.is_some_and(|name| interface_matches(pattern, name)),
            Match::NotInInterface(pattern) => !interface.is_some_and(|name| interface_matches(pattern, name)),
            Match::ConntrackState(states) => self.is_in_state(states, way),
            Match::NotConntrackState(states) => !self.is_in_state(states, way),
            Match::Mark(mask) => way.mark & mask == *mask,
            Match::NotMark(mask) => way.mark & mask != *mask,
            Match::SourceIsLocal => self.is_local(packet.source),
            Match::DestinationIsLocal => self.is_local(destination.ip()),
            Match::SourceRemembered { list, .. } => self.surroundings.remembered_by.contains(list),
        }
    }

    fn is_in_state(&self, states: &str, way: &Way) -> bool {
        states.split(',').any(|state| match state {
            "NEW" => !self.surroundings.invalid,
            "INVALID" => self.surroundings.invalid,
            "DNAT" => way.translated_to.is_some(),
            _ => false, // the first packet of a connection belongs to none
        })
    }

    fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.surroundings.local_addresses.contains(&address)
    }

    fn destination(&self, way: &Way) -> SocketAddr {
        way.translated_to.unwrap_or(self.packet.destination)
    }

    fn passed(&self, way: Way) -> Outcome {
        let destination = self.destination(&way);
        let (translated, masqueraded) = (way.translated_to.is_some(), way.masqueraded);
        let verdict = PacketVerdict::Passed { destination, translated, masqueraded };
        Outcome { probability: way.probability, verdict, path: way.path }
    }
}

fn chance(rule: &Rule) -> f64 {
    let one_in = |matched: &Match| if let Match::OneIn(n) = matched { Some(1.0 / *n as f64) } else { None };
    rule.matches.iter().find_map(one_in).unwrap_or(1.0)
}

fn interface_matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('+').map_or(pattern == name, |prefix| name.starts_with(prefix))
}
