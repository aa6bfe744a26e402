//! `switchyard verify`: holds this node's kernel against what the proxy would have written. Changes nothing.

use std::thread;
use std::time::Duration;

use switchyard_kernel::iptables::command::Programs;
use switchyard_kernel::iptables::{Iptables, IptablesError};
use switchyard_kernel::sysctl::KernelSysctls;
use switchyard_model::IpFamily;
use switchyard_plan::iptables::verify::{Difference, Listing};
use switchyard_plan::iptables::{Counter, Ruleset, Table};

use crate::config::ProxyMode;
use crate::flags::{Exit, Extra};
use crate::inspect::{Asked, MODE, Seen, failure};
use crate::mode::iptables::{HostFeatures, settings};
use crate::run::{conntrack_is_liberal, live_facts};

const TABLES: [Table; 3] = [Table::Mangle, Table::Filter, Table::Nat];
/// A change may be on its way from the API to the kernel, so only what stays different is told.
const LOOKS: usize = 3;
/// As long as a proxy waits between two syncs by default.
const PAUSE: Duration = Duration::from_secs(1);

const NODE: Extra = Extra {
    name: "node",
    letter: None,
    type_name: "string",
    default: "",
    doc: "The node whose kernel this is. Default: --hostname-override, or this host.",
};

/// `switchyard verify`, to be run on the node, as root, with the flags of its proxy. Fails if anything differs.
pub fn verify(arguments: &[String]) -> Result<String, Exit> {
    let asked = Asked::read("switchyard verify", arguments, &[MODE, NODE])?;
    if asked.config.mode != ProxyMode::Iptables {
        let mode = asked.config.mode.name();
        return Err(failure(format!("mode {mode} cannot be verified yet; use --mode iptables")));
    }
    let mut report = String::new();
    let mut count = 0;
    for family in IpFamily::BOTH {
        let mut programs = match Programs::detect(family) {
            Ok(programs) => programs,
            Err(error) => {
                report.push_str(&format!("{family}: not looked at: {error}\n"));
                continue;
            }
        };
        let looked = look_until_equal(&asked, family, &mut programs)?;
        match looked.differences.len() {
            0 => report.push_str(&format!(
                "{family}: as planned: {} rules for {} service ports\n",
                looked.rules, looked.ports
            )),
            found => count += found,
        }
        report.extend(looked.differences.iter().map(|difference| format!("{family}: {difference}\n")));
    }
    match count {
        0 => Ok(report),
        count => Err(Exit {
            stdout: report,
            stderr: format!(
                "Error: {count} {} from the plan; is a proxy running here, with these flags? Its log tells why they stay\n",
                if count == 1 { "difference" } else { "differences" }
            ),
            code: 1,
        }),
    }
}

struct Looked {
    differences: Vec<Difference>,
    rules: usize,
    ports: usize,
}

fn look_until_equal(asked: &Asked, family: IpFamily, programs: &mut Programs) -> Result<Looked, Exit> {
    let mut looked = look(&mut asked.look()?, asked, family, programs).map_err(failure)?;
    for _ in 1..LOOKS {
        if looked.differences.is_empty() {
            break;
        }
        thread::sleep(PAUSE);
        looked = look(&mut asked.look()?, asked, family, programs).map_err(failure)?;
    }
    Ok(looked)
}

fn look(
    seen: &mut Seen,
    asked: &Asked,
    family: IpFamily,
    programs: &mut Programs,
) -> Result<Looked, IptablesError> {
    let mut listing = Listing::default();
    for table in TABLES {
        programs.list(table, &mut |line| listing.read(table, line))?;
    }
    // A rule works with its counter and without; which of both the proxy could write shows in the rule.
    let features = HostFeatures {
        random_fully: programs.random_fully(),
        conntrack_is_liberal: conntrack_is_liberal(&KernelSysctls::default()),
        count_invalid: listing.mentions(Counter::InvalidDropped.name()),
        count_localhost_node_ports: listing.mentions(Counter::LocalhostNodePortsAccepted.name()),
    };
    let forwarding = seen.table.commit(family).forwarding;
    let facts = live_facts(&asked.config, seen.node.as_ref());
    let plan = Ruleset::new(&settings(family, &asked.config, &facts, features), &forwarding);
    Ok(Looked {
        differences: listing.differences(&plan),
        rules: plan.chains.values().map(Vec::len).sum(),
        ports: forwarding.ports.len(),
    })
}
