//! The Forwarding as a table.

use std::fmt::Write;

use switchyard_model::TrafficPolicy;

use super::view::{AddressView, EndpointView, ServicePortView};

/// How much to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// A line for every virtual address.
    Normal,
    /// And below, a line for every endpoint with its node and the reason why it is in or out.
    Wide,
}

const HEADER: [&str; 6] = ["SERVICE PORT", "KIND", "ADDRESS", "POLICY", "ENDPOINTS", "NOT USED"];
/// How many endpoints a cell lists before it only counts the rest.
const LISTED: usize = 3;

/// Lays service ports out in columns, as kubectl does: padded with blanks, no lines.
pub fn table(ports: &[ServicePortView], width: Width) -> String {
    let mut rows = vec![HEADER.map(str::to_owned)];
    for port in ports {
        let out = port.endpoints.iter().filter(|endpoint| !endpoint.used);
        let not_used =
            shorten(out.map(|endpoint| format!("{} ({})", endpoint.address, endpoint.why)).collect());
        for (index, address) in port.addresses.iter().enumerate() {
            let first = index == 0;
            rows.push([
                if first { format!("{}/{}", port.name, port.protocol) } else { String::new() },
                address.kind.as_str().to_owned(),
                format!("{}/{}", address.address, port.protocol),
                policy(address.policy).to_owned(),
                targets(address),
                if first && width == Width::Normal { not_used.clone() } else { String::new() },
            ]);
        }
        if width == Width::Wide {
            rows.extend(port.endpoints.iter().map(endpoint_row));
        }
    }
    columns(&rows)
}

fn endpoint_row(endpoint: &EndpointView) -> [String; 6] {
    let node = endpoint.node.clone().unwrap_or_else(|| "-".to_owned());
    let (used, unused) = if endpoint.used {
        (endpoint.why.clone(), String::new())
    } else {
        (String::new(), endpoint.why.clone())
    };
    [String::new(), "  endpoint".to_owned(), endpoint.address.clone(), node, used, unused]
}

fn policy(policy: TrafficPolicy) -> &'static str {
    match policy {
        TrafficPolicy::Cluster => "Cluster",
        TrafficPolicy::Local => "Local",
    }
}

fn targets(address: &AddressView) -> String {
    match address.verdict {
        "reject" => "none: rejected".to_owned(),
        "drop" => "none on this node: dropped".to_owned(),
        _ => shorten(address.endpoints.clone()),
    }
}

fn shorten(mut cells: Vec<String>) -> String {
    let more = cells.len().saturating_sub(LISTED);
    cells.truncate(LISTED);
    let mut text = cells.join(", ");
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text
}

/// Pads all but the last cell of each row to the width of its column.
pub(crate) fn columns<Row: AsRef<[String]>>(rows: &[Row]) -> String {
    let mut widths = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.as_ref().len()), 0);
        for (width, cell) in widths.iter_mut().zip(row.as_ref()) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.as_ref().iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("   ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
