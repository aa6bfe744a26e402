//! What a lab consists of right now.

use std::process::ExitCode;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::Api;
use kube::api::ListParams;
use serde::Serialize;
use switchyard_kernel::process::Process;

use super::client;
use super::credentials::inner_server;
use super::error::LabError;
use super::flags::{Output, StatusFlags};
use super::kubeconfig::entry_name;
use super::progress::print;
use super::state::{self, Folder, KeeperRecord, LabRecord};

const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// All that is told of a lab; the form of `-o json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    name: String,
    /// Whether its keeper runs.
    up: bool,
    /// Where kubectl reaches the API server from this machine.
    server: String,
    /// Where the lab's own machines reach it.
    inner_server: String,
    kubeconfig: String,
    context: String,
    proxy_mode: String,
    network: &'static str,
    service_ranges: Vec<String>,
    pod_ranges: Vec<String>,
    lan: Vec<String>,
    parts: Vec<Part>,
    nodes: Vec<Node>,
    /// Why the nodes are not known, if they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    name: String,
    /// None while it does not run.
    pid: Option<i32>,
    restarts: u32,
    /// What it has mapped, in KiB.
    rss: u64,
    /// The same, with what is shared divided by those who share it.
    pss: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_end: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    name: String,
    addresses: Vec<String>,
    pod_ranges: Vec<String>,
    /// `Ready`, `NotReady`, or `Unknown` as long as no agent has said anything.
    status: String,
}

/// `switchyard status`; fails if the lab has crashed.
pub(super) fn run(flags: &StatusFlags) -> Result<ExitCode, LabError> {
    let (folder, record) = state::meant_lab(flags.name.as_deref())?;
    let keeper = folder.keeper()?;
    let status = look(&folder, &record, keeper.as_ref());
    match flags.output {
        Some(Output::Json) => {
            let text = serde_json::to_string_pretty(&status);
            print(&format!("{}\n", text.map_err(|error| LabError::Other(error.to_string()))?));
        }
        None => print(&text(&status)),
    }
    Ok(if status.up { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn look(folder: &Folder, record: &LabRecord, keeper: Option<&KeeperRecord>) -> Status {
    let texts = |ranges: &[ipnet::IpNet]| ranges.iter().map(ToString::to_string).collect();
    let settings = &record.settings;
    let (nodes, problem) = match nodes(folder) {
        Ok(nodes) => (nodes, None),
        Err(error) => (Vec::new(), Some(super::error::chain(&error))),
    };
    Status {
        name: settings.name.clone(),
        up: keeper.is_some_and(KeeperRecord::is_running),
        server: format!("https://127.0.0.1:{}", keeper.map_or(0, |keeper| keeper.port)),
        inner_server: settings.control_address().map(inner_server).unwrap_or_default(),
        kubeconfig: record.kubeconfig.path.display().to_string(),
        context: entry_name(&settings.name),
        proxy_mode: settings.proxy_mode.clone(),
        network: settings.network.word(),
        service_ranges: texts(&settings.service_ranges),
        pod_ranges: texts(&settings.pod_ranges),
        lan: texts(&settings.lan),
        parts: keeper.map(parts).unwrap_or_default(),
        nodes,
        problem,
    }
}

fn parts(keeper: &KeeperRecord) -> Vec<Part> {
    let part = |name: &str, process: Option<Process>, restarts, last_end: Option<&String>| {
        // The record of a keeper that was killed may name processes that have ended since.
        let process = process.filter(|process| keeper.boot == state::boot() && process.is_running());
        let memory = process.and_then(|process| process.memory().ok()).unwrap_or_default();
        Part {
            name: name.to_owned(),
            pid: process.map(|process| process.pid),
            restarts,
            rss: memory.resident,
            pss: memory.proportional,
            last_end: last_end.cloned(),
        }
    };
    let kept = keeper.parts.iter();
    let kept = kept.map(|own| part(&own.name, own.process, own.restarts, own.last_end.as_ref()));
    std::iter::once(part("keeper", Some(keeper.process), 0, None)).chain(kept).collect()
}

fn nodes(folder: &Folder) -> Result<Vec<Node>, LabError> {
    let list = client::block_on(ANSWER_LIMIT, async {
        let api = Api::<NodeObject>::all(client::connect(&folder.kubeconfig()).await?);
        client::told("listing nodes", api.list(&ListParams::default()).await)
    })?;
    Ok(list.items.into_iter().map(Node::from).collect())
}

impl From<NodeObject> for Node {
    fn from(object: NodeObject) -> Node {
        let status = object.status.unwrap_or_default();
        let addresses = status.addresses.into_iter().flatten();
        let conditions = status.conditions.into_iter().flatten();
        let ready = conditions
            .filter(|condition| condition.type_ == "Ready")
            .map(|condition| condition.status)
            .next();
        Node {
            name: object.metadata.name.unwrap_or_default(),
            addresses: addresses
                .filter(|address| address.type_ == "InternalIP")
                .map(|address| address.address)
                .collect(),
            pod_ranges: object.spec.and_then(|spec| spec.pod_cidrs).unwrap_or_default(),
            status: match ready.as_deref() {
                Some("True") => "Ready",
                Some("False") => "NotReady",
                _ => "Unknown",
            }
            .to_owned(),
        }
    }
}

fn text(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |parts: &[&str]| {
        text.push_str(&parts.concat());
        text.push('\n');
    };
    let state = if status.up {
        "is up"
    } else {
        "has crashed: `switchyard up` makes it anew, `switchyard down` takes it away"
    };
    line(&["Lab ", &status.name, " ", state]);
    line(&["  API server  ", &status.server, "; in the lab ", &status.inner_server]);
    line(&["  context     ", &status.context, " in ", &status.kubeconfig]);
    line(&["  services    ", &status.service_ranges.join(", ")]);
    line(&["  pods        ", &status.pod_ranges.join(", "), " over ", status.network]);
    line(&["  LAN         ", &status.lan.join(", ")]);
    line(&["  proxy mode  ", &status.proxy_mode]);
    line(&[]);
    let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
    let mut rows = vec![["PART", "PID", "RESTARTS", "PSS", "RSS"].map(str::to_owned)];
    for part in &status.parts {
        let pid = part.pid.map_or("-".to_owned(), |pid| pid.to_string());
        rows.push([part.name.clone(), pid, part.restarts.to_string(), mib(part.pss), mib(part.rss)]);
    }
    let sum = |of: fn(&Part) -> u64| mib(status.parts.iter().map(of).sum());
    rows.push(["all".to_owned(), String::new(), String::new(), sum(|part| part.pss), sum(|part| part.rss)]);
    line(&[&table(&rows)]);
    let mut rows = vec![["NODE", "STATUS", "ADDRESS", "PODS"].map(str::to_owned)];
    for node in &status.nodes {
        let (addresses, ranges) = (node.addresses.join(","), node.pod_ranges.join(","));
        rows.push([node.name.clone(), node.status.clone(), addresses, ranges]);
    }
    match &status.problem {
        Some(problem) => line(&["The nodes are not known: ", problem]),
        None => text.push_str(&table(&rows)),
    }
    text
}

/// Columns as wide as their widest cell.
fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}   "));
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["NODE".to_owned(), "X".to_owned()], ["n".to_owned(), "long".to_owned()]];
        assert_eq!(table(&rows), "NODE   X\nn      long\n");
    }
}
