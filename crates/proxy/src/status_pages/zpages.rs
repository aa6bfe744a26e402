//! `/flagz` and `/statusz`.

use std::fmt::Write;

use http::HeaderMap;
use jiff::Timestamp;
use serde_json::json;

use super::Facts;
use super::negotiation::{answer, form};
use crate::http_server::Reply;

/// The name that tools look for, whoever does its job.
pub(super) const COMPONENT: &str = "kube-proxy";

const PATHS: [&str; 5] = ["/configz", "/flagz", "/healthz", "/metrics", "/proxyMode"];

pub(super) fn flagz(facts: &Facts, headers: &HeaderMap) -> Reply {
    answer(form(headers, "Flagz"), "Flagz", json!({ "flags": facts.flags }), || {
        text_page("flagz", facts.flags.iter().map(|(name, value)| (name.as_str(), value.clone())))
    })
}

pub(super) fn statusz(facts: &Facts, headers: &HeaderMap, now: Timestamp) -> Reply {
    let uptime = now.as_second().saturating_sub(facts.started.as_second()).max(0);
    // Kubernetes times have whole seconds.
    let started = facts.started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let emulated = emulation_version(&facts.version);
    let fields = json!({
        "startTime": started,
        "uptimeSeconds": uptime,
        "goVersion": facts.compiler_version,
        "binaryVersion": facts.version,
        "emulationVersion": emulated,
        "paths": PATHS,
    });
    answer(form(headers, "Statusz"), "Statusz", fields, || {
        let up = format!("{} hr {:02} min {:02} sec", uptime / 3600, uptime / 60 % 60, uptime % 60);
        let rows = [
            ("Started", started),
            ("Up", up),
            ("Go version", facts.compiler_version.clone()),
            ("Binary version", facts.version.clone()),
            ("Emulation version", emulated.to_owned()),
            ("Paths", PATHS.join(" ")),
        ];
        text_page("statusz", rows.into_iter())
    })
}

/// `1.36` of `1.36.2`.
fn emulation_version(version: &str) -> &str {
    version.match_indices('.').nth(1).map_or(version, |(second_dot, _)| &version[..second_dot])
}

/// For eyes only: the delimiter changes from one answer to the next, so that nobody starts to parse it.
fn text_page<'a>(name: &str, rows: impl Iterator<Item = (&'a str, String)>) -> String {
    let delimiters = [":", ": ", "=", " "];
    let delimiter = delimiters[Timestamp::now().subsec_nanosecond() as usize / 1000 % delimiters.len()];
    let mut text = format!(
        "\n{COMPONENT} {name}\nWarning: This endpoint is not meant to be machine parseable, has no formatting \
         compatibility guarantees and is for debugging purposes only.\n\n"
    );
    for (key, value) in rows {
        let _ = writeln!(text, "{key}{delimiter}{value}");
    }
    text
}
