//! A rule as a value, and its two texts: what `iptables-restore` is given and what `iptables-save` shows.
//!
//! Both matter. The written form has upstream's order of words; the saved form is how the kernel tells it back, and
//! how people and tools see it.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use switchyard_model::{IpFamily, Protocol};

use super::Chain;

/// What a packet must be for a rule to count (all matches together), and what then happens to it.
/// The order of matches is that of the written text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    pub matches: Vec<Match>,
    pub target: Target,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Match {
    /// Matches always; at most 255 bytes.
    Comment(Cow<'static, str>),
    Protocol(Protocol),
    /// Needs a [`Match::Protocol`] before it.
    DestinationPort(u16),
    Source(Addresses),
    NotSource(Addresses),
    Destination(Addresses),
    NotDestination(Addresses),
    /// A name, or the beginning of one followed by `+`.
    InInterface(String),
    NotInInterface(String),
    /// Any of these states, separated by commas.
    ConntrackState(&'static str),
    NotConntrackState(&'static str),
    /// The bits of the mask are set in the packet's mark.
    Mark(u32),
    NotMark(u32),
    SourceIsLocal,
    DestinationIsLocal,
    /// Matches always, and counts.
    Counted(Counter),
    /// Matches always, and remembers the source address in the list of that name.
    RememberSource(Chain),
    /// The source address was remembered within so many seconds.
    SourceRemembered {
        list: Chain,
        seconds: u32,
    },
    /// One packet in so many, at random.
    OneIn(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// The rule decides nothing.
    None,
    Jump(Chain),
    Return,
    Accept,
    Drop,
    /// With the family's "port unreachable".
    Reject,
    SetMarkBits(u32),
    FlipMarkBits(u32),
    Masquerade {
        random_fully: bool,
    },
    Dnat(SocketAddr),
}

/// One address, written bare, or a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Addresses {
    Host(IpAddr),
    Range(IpNet),
}

/// The kernel's accounting objects (nfacct) that rules refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counter {
    InvalidDropped,
    LocalhostNodePortsAccepted,
}

impl Counter {
    pub const ALL: [Counter; 2] = [Counter::InvalidDropped, Counter::LocalhostNodePortsAccepted];

    pub fn name(self) -> &'static str {
        match self {
            Counter::InvalidDropped => "ct_state_invalid_dropped_pkts",
            Counter::LocalhostNodePortsAccepted => "localhost_nps_accepted_pkts",
        }
    }
}

impl Rule {
    pub fn new(matches: impl Into<Vec<Match>>, target: Target) -> Rule {
        Rule { matches: matches.into(), target }
    }

    /// The words after `-A CHAIN`, as arguments of an `iptables` command line.
    pub fn arguments(&self) -> Vec<String> {
        super::restore::words(&self.to_string())
    }

    pub fn comment(&self) -> Option<&str> {
        self.matches.iter().find_map(|matched| match matched {
            Match::Comment(text) => Some(text.as_ref()),
            _ => None,
        })
    }

    /// Appends the written form, from the blank after the chain's name to the end.
    pub fn write_restore(&self, out: &mut String) {
        for matched in &self.matches {
            matched.write_restore(out);
        }
        self.target.write_restore(out);
    }

    /// Appends the saved form, from the blank after the chain's name to the end.
    pub fn write_save(&self, family: IpFamily, out: &mut String) {
        // iptables prints what is in the rule's fixed header first, in this order, whatever was written.
        for rank in 0..4 {
            for matched in self.matches.iter().filter(|matched| matched.header_rank() == Some(rank)) {
                matched.write_save_header(out);
            }
        }
        let port = self.matches.iter().find_map(|matched| match matched {
            Match::DestinationPort(port) => Some(*port),
            _ => None,
        });
        for matched in &self.matches {
            matched.write_save_module(family, port, out);
        }
        self.target.write_save(family, out);
    }
}

/// The written form, as it stands after `-A CHAIN `.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write_restore(&mut text);
        f.write_str(text.trim_start())
    }
}

impl Match {
    fn write_restore(&self, out: &mut String) {
        match self {
            Match::Comment(text) => push_comment(text, text.contains(' '), out),
            Match::Protocol(protocol) => push(out, &[" -m ", protocol.lower(), " -p ", protocol.lower()]),
            Match::DestinationPort(port) => put(out, format_args!(" --dport {port}")),
            Match::Source(addresses) => addresses.write(" -s ", out),
            Match::NotSource(addresses) => addresses.write(" ! -s ", out),
            Match::Destination(addresses) => addresses.write(" -d ", out),
            Match::NotDestination(addresses) => addresses.write(" ! -d ", out),
            Match::InInterface(name) => push(out, &[" -i ", name]),
            Match::NotInInterface(name) => push(out, &[" ! -i ", name]),
            Match::ConntrackState(states) => push(out, &[" -m conntrack --ctstate ", states]),
            Match::NotConntrackState(states) => push(out, &[" -m conntrack ! --ctstate ", states]),
            Match::Mark(mask) => put(out, format_args!(" -m mark --mark {mask:#010x}/{mask:#010x}")),
            Match::NotMark(mask) => put(out, format_args!(" -m mark ! --mark {mask:#010x}/{mask:#010x}")),
            Match::SourceIsLocal => out.push_str(" -m addrtype --src-type LOCAL"),
            Match::DestinationIsLocal => out.push_str(" -m addrtype --dst-type LOCAL"),
            Match::Counted(counter) => push(out, &[" -m nfacct --nfacct-name ", counter.name()]),
            Match::RememberSource(list) => {
                out.push_str(" -m recent --name ");
                list.write(out);
                out.push_str(" --set");
            }
            Match::SourceRemembered { list, seconds } => {
                out.push_str(" -m recent --name ");
                list.write(out);
                put(out, format_args!(" --rcheck --seconds {seconds} --reap"));
            }
            Match::OneIn(n) => {
                put(out, format_args!(" -m statistic --mode random --probability {:.10}", 1.0 / *n as f64));
            }
        }
    }

    fn header_rank(&self) -> Option<u8> {
        match self {
            Match::Source(_) | Match::NotSource(_) => Some(0),
            Match::Destination(_) | Match::NotDestination(_) => Some(1),
            Match::InInterface(_) | Match::NotInInterface(_) => Some(2),
            Match::Protocol(_) => Some(3),
            _ => None,
        }
    }

    fn write_save_header(&self, out: &mut String) {
        match self {
            Match::Source(addresses) => addresses.range().write(" -s ", out),
            Match::NotSource(addresses) => addresses.range().write(" ! -s ", out),
            Match::Destination(addresses) => addresses.range().write(" -d ", out),
            Match::NotDestination(addresses) => addresses.range().write(" ! -d ", out),
            Match::Protocol(protocol) => push(out, &[" -p ", protocol.lower()]),
            other => other.write_restore(out),
        }
    }

    fn write_save_module(&self, family: IpFamily, port: Option<u16>, out: &mut String) {
        match self {
            Match::Protocol(protocol) => {
                push(out, &[" -m ", protocol.lower()]);
                if let Some(port) = port {
                    put(out, format_args!(" --dport {port}"));
                }
            }
            Match::DestinationPort(_) => {}
            // Everything of ours holds a blank, a slash or a colon, and is quoted for it.
            Match::Comment(text) => push_comment(text, true, out),
            Match::Mark(mask) => put(out, format_args!(" -m mark --mark {mask:#x}/{mask:#x}")),
            Match::NotMark(mask) => put(out, format_args!(" -m mark ! --mark {mask:#x}/{mask:#x}")),
            Match::Counted(counter) => push(out, &[" -m nfacct --nfacct-name  ", counter.name()]),
            Match::RememberSource(list) => {
                put(
                    out,
                    format_args!(" -m recent --set --name {list} --mask {} --rsource", all_ones(family)),
                );
            }
            Match::SourceRemembered { list, seconds } => {
                let mask = all_ones(family);
                put(out, format_args!(" -m recent --rcheck --seconds {seconds} --reap --name {list}"));
                put(out, format_args!(" --mask {mask} --rsource"));
            }
            Match::OneIn(n) => {
                put(out, format_args!(" -m statistic --mode random --probability {:.11}", in_kernel(*n)));
            }
            other if other.header_rank().is_none() => other.write_restore(out),
            _ => {}
        }
    }
}

impl Target {
    fn write_restore(self, out: &mut String) {
        match self {
            Target::None => {}
            Target::Jump(chain) => {
                out.push_str(" -j ");
                chain.write(out);
            }
            Target::Return => out.push_str(" -j RETURN"),
            Target::Accept => out.push_str(" -j ACCEPT"),
            Target::Drop => out.push_str(" -j DROP"),
            Target::Reject => out.push_str(" -j REJECT"),
            Target::SetMarkBits(bits) => put(out, format_args!(" -j MARK --or-mark {bits:#010x}")),
            Target::FlipMarkBits(bits) => put(out, format_args!(" -j MARK --xor-mark {bits:#010x}")),
            Target::Masquerade { random_fully: true } => out.push_str(" -j MASQUERADE --random-fully"),
            Target::Masquerade { random_fully: false } => out.push_str(" -j MASQUERADE"),
            Target::Dnat(endpoint) => put(out, format_args!(" -j DNAT --to-destination {endpoint}")),
        }
    }

    fn write_save(self, family: IpFamily, out: &mut String) {
        match self {
            Target::Reject => {
                let kind = match family {
                    IpFamily::V4 => "icmp",
                    IpFamily::V6 => "icmp6",
                };
                push(out, &[" -j REJECT --reject-with ", kind, "-port-unreachable"]);
            }
            Target::SetMarkBits(bits) => put(out, format_args!(" -j MARK --set-xmark {bits:#x}/{bits:#x}")),
            Target::FlipMarkBits(bits) => put(out, format_args!(" -j MARK --set-xmark {bits:#x}/0x0")),
            other => other.write_restore(out),
        }
    }
}

impl Addresses {
    pub fn contains(self, address: IpAddr) -> bool {
        match self {
            Addresses::Host(host) => host == address,
            Addresses::Range(range) => range.contains(&address),
        }
    }

    fn range(self) -> Addresses {
        match self {
            Addresses::Host(host) => Addresses::Range(IpNet::from(host)),
            Addresses::Range(_) => self,
        }
    }

    fn write(self, option: &str, out: &mut String) {
        out.push_str(option);
        match self {
            Addresses::Host(host) => put(out, format_args!("{host}")),
            Addresses::Range(range) => put(out, format_args!("{range}")),
        }
    }
}

/// What remains of the probability 1/n in the kernel, which keeps it as a fraction of 2^31.
fn in_kernel(n: usize) -> f64 {
    let scale = f64::from(1u32 << 31);
    // iptables reads the ten written digits, not the exact number.
    let written = (1e10 / n as f64).round_ties_even() / 1e10;
    (written * scale).round() / scale
}

fn all_ones(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "255.255.255.255",
        IpFamily::V6 => "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    }
}

// A manifest's names are not checked as an API server would: what could end the quotes or the line must not get out.
fn push_comment(text: &str, quoted: bool, out: &mut String) {
    let quote = if quoted { "\"" } else { "" };
    push(out, &[" -m comment --comment ", quote]);
    if text.contains(|c: char| c.is_control() || matches!(c, '"' | '\\' | '\'')) {
        out.extend(
            text.chars().map(|c| if c.is_control() || matches!(c, '"' | '\\' | '\'') { '?' } else { c }),
        );
    } else {
        out.push_str(text);
    }
    out.push_str(quote);
}

fn push(out: &mut String, parts: &[&str]) {
    for part in parts {
        out.push_str(part);
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text); // writing to a String cannot fail
}
