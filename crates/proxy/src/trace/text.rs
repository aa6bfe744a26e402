//! An answer as people read it.

use std::fmt::Write;

use super::answer::{Answer, Way, WayVerdict};
use crate::inspect::columns;

/// The answer on a page: who and where, what can become of it, who is left out and why, and the rules.
pub(super) fn text(answer: &Answer) -> String {
    let mut text = columns(&head(answer));
    text.push('\n');
    text.push_str(&columns(&ways(answer)));
    if !answer.unused.is_empty() {
        text.push('\n');
        text.push_str(&columns(&unused(answer)));
    }
    if let Some(first) = answer.ways.iter().find(|way| !way.rules.is_empty()) {
        let _ = write!(text, "\nRULES ON {}, {}\n", answer.node.to_uppercase(), aim(first));
        for rule in &first.rules {
            let _ = writeln!(text, "  {rule}");
        }
    }
    text
}

fn head(answer: &Answer) -> Vec<Vec<String>> {
    let destination = format!("{}/{}", answer.destination, answer.protocol);
    let target = match &answer.service {
        None => format!("{destination}, which is no service's address"),
        Some(service) => {
            let policy = format!("{:?}", service.policy);
            let affinity = service
                .affinity_seconds
                .map(|seconds| format!(", a client stays with its endpoint for {seconds} s"));
            format!(
                "{destination}, {} of {}, policy {policy}{}",
                service.kind.as_str(),
                service.name,
                affinity.unwrap_or_default()
            )
        }
    };
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    vec![
        row("FROM", format!("{}, {}", answer.source, answer.from)),
        row("TO", target),
        row("DECIDED", format!("on {}, mode {}", answer.node, answer.mode)),
    ]
}

fn ways(answer: &Answer) -> Vec<Vec<String>> {
    let header = ["CHANCE", "WHAT", "BACKEND", "POD", "NODE", "SOURCE IT SEES"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for way in &answer.ways {
        rows.push(vec![
            format!("{:.1} %", way.chance * 100.0),
            verdict(way).to_owned(),
            way.backend.map_or_else(dash, |backend| backend.to_string()),
            way.backend_pod.clone().unwrap_or_else(dash),
            way.backend_node.clone().unwrap_or_else(dash),
            seen(way),
        ]);
    }
    rows
}

fn verdict(way: &Way) -> &'static str {
    match way.verdict {
        WayVerdict::Forwarded => "DNAT",
        WayVerdict::Untouched => "as it is",
        WayVerdict::Rejected => "rejected",
        WayVerdict::Dropped => "dropped",
    }
}

fn seen(way: &Way) -> String {
    let Some(seen) = &way.seen else { return dash() };
    let address = seen.address.map_or_else(|| "the node's address".to_owned(), |address| address.to_string());
    match seen.masqueraded {
        true => format!("{address}, masqueraded: {}", seen.why),
        false => format!("{address}, its own"),
    }
}

fn unused(answer: &Answer) -> Vec<Vec<String>> {
    let mut rows = vec![["NOT USED", "NODE", "WHY"].map(str::to_owned).to_vec()];
    for unused in &answer.unused {
        rows.push(vec![unused.backend.clone(), unused.node.clone().unwrap_or_else(dash), unused.why.clone()]);
    }
    rows
}

fn aim(way: &Way) -> String {
    match way.backend {
        Some(backend) => format!("to {backend}"),
        None => format!("until it is {}", verdict(way)),
    }
}

fn dash() -> String {
    "-".to_owned()
}
