//! The command, from its words to its text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use switchyard_api::{IpFamily, Protocol};

use super::answer::{Answer, answer};
use super::cluster::Cluster;
use super::question::{Defaults, Question};
use super::text::text;
use crate::config::ProxyMode;
use crate::flags::{Exit, Extra};
use crate::inspect::{Asked, MODE, failure};
use crate::mode::iptables::{HostFeatures, settings};

/// What `outside` stands for where nobody says: addresses that documentation keeps for itself (RFC 5737, RFC 3849).
const OUTSIDE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

const USAGE: &str = "\
switchyard trace FROM TO says what would become of a connection, and why, without sending a packet.

FROM  pod/NAME, pod/NAMESPACE/NAME, a node's name, an IP address, or outside
TO    SERVICE:PORT, NAMESPACE/SERVICE:PORT, NODE:PORT, or IP:PORT; the port's name will do, and a service's only port may be left out

  switchyard trace pod/blue db-service:3306
  switchyard trace outside node-2:30080
";

const NODE: Extra = Extra {
    name: "node",
    letter: None,
    type_name: "string",
    default: "",
    doc: "The node where a packet from outside comes in, if its destination is no node's own. Default: the first.",
};
const NAMESPACE: Extra = Extra {
    name: "namespace",
    letter: Some('n'),
    type_name: "string",
    default: "default",
    doc: "The namespace of pods and services that are given without one.",
};
const PROTOCOL: Extra = Extra {
    name: "protocol",
    letter: Some('p'),
    type_name: "string",
    default: "tcp",
    doc: "tcp, udp or sctp, where the port's service does not tell.",
};
const OUTPUT: Extra = Extra {
    name: "output",
    letter: Some('o'),
    type_name: "string",
    default: "",
    doc: "json, or empty for text.",
};
const SEND: Extra = Extra {
    name: "send",
    letter: None,
    type_name: "",
    default: "",
    doc: "Then open one connection from there, and show whether it went as foretold.",
};

/// Opens a connection as a question asks, and tells what became of it.
pub type Probe<'a> = dyn Fn(&Question, &Answer) -> Result<String, String> + 'a;

/// `switchyard trace`. `probe` is what `--send` uses.
pub fn trace(arguments: &[String], probe: &Probe<'_>) -> Result<String, Exit> {
    let words = arguments.iter().map(String::as_str);
    let ends: Vec<&str> = words.take_while(|word| !word.starts_with('-')).collect();
    let (from, to) = match ends[..] {
        [from, to] => (from, to),
        _ if arguments.iter().any(|word| word == "--help" || word == "-h") => ("", ""),
        _ => {
            return Err(failure(format!("FROM and TO come first, and nothing else beside flags\n\n{USAGE}")));
        }
    };
    let extras = [NODE, NAMESPACE, PROTOCOL, OUTPUT, MODE, SEND];
    let asked = Asked::read("switchyard trace", &arguments[ends.len()..], &extras).map_err(with_usage)?;
    if asked.config.mode != ProxyMode::Iptables {
        let mode = asked.config.mode.name();
        return Err(failure(format!("mode {mode} cannot be traced yet; use --mode iptables")));
    }
    let node = Some(asked.extra("node")).filter(|node| !node.is_empty());
    let defaults = Defaults {
        namespace: asked.extra("namespace"),
        protocol: protocol(asked.extra("protocol"))?,
        node,
        host: &asked.node,
        outside: OUTSIDE,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failure)?;
    let cluster = runtime.block_on(Cluster::read(&asked.config)).map_err(failure)?;
    let question = cluster.question(from, to, &defaults).map_err(failure)?;
    let family = IpFamily::of(question.destination.ip());
    let (forwarding, facts) = cluster.seen_from(&question.node, family, &asked.config);
    let settings = settings(family, &asked.config, &facts, HostFeatures::ALL);
    let answer = answer(&cluster, &question, &forwarding, &settings);
    let mut out = match asked.extra("output") {
        "json" => serde_json::to_string_pretty(&answer).map_err(failure)? + "\n",
        "" => text(&answer),
        other => return Err(failure(format!("--output must be json or empty, not {other:?}"))),
    };
    if asked.extra("send") == "true" {
        out.push_str(&format!("\nSENT  {}\n", probe(&question, &answer).map_err(failure)?));
    }
    Ok(out)
}

fn with_usage(exit: Exit) -> Exit {
    match exit.code {
        0 => Exit { stdout: format!("{USAGE}\n{}", exit.stdout), ..exit },
        _ => exit,
    }
}

fn protocol(word: &str) -> Result<Protocol, Exit> {
    match word.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        _ => Err(failure(format!("--protocol must be tcp, udp or sctp, not {word:?}"))),
    }
}
