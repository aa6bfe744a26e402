//! Keeps the rules of mapped ports and masquerading in the kernel.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use switchyard_kernel::child;
use switchyard_kernel::conntrack::{Conntrack, KernelConntrack};
use switchyard_kernel::iptables::command::Programs;
use switchyard_kernel::iptables::{IpFamily, Iptables, IptablesError, Table};

use super::identity::Identity;
use super::leases::lock;
use super::plan::Address;
use super::rules::{self, HOST_PORTS, MASQUERADE, Rule};
use super::settings::{Mapping, Protocol, Settings};
use crate::types::{Error, code};

/// All networks' rules are in the same chains, so one lock is for all.
const LOCK: &str = "rules.lock";
/// Others may hold the lock while iptables waits for a lock of its own.
const PATIENCE: Duration = Duration::from_secs(60);
const CHAINS: [&str; 2] = [HOST_PORTS, MASQUERADE];

/// Writes the rules of an attachment, in the place of any that it had.
pub(super) fn install(settings: &Settings, identity: &Identity, addresses: &[Address]) -> Result<(), Error> {
    if settings.mappings.is_empty() && !settings.masquerade {
        return Ok(());
    }
    let note = identity.note(&settings.network);
    let _lock = take_lock(&settings.data)?;
    for address in addresses {
        let address = address.on_link;
        let wanted = rules::wanted(&settings.mappings, settings.masquerade, address, &note);
        if wanted.is_empty() {
            continue;
        }
        let family = family(address.addr());
        let mut tables = Programs::detect(family).map_err(|error| failed("writing rules", &error))?;
        let made = CHAINS.iter().try_for_each(|chain| tables.ensure_chain(Table::Nat, chain).map(drop));
        made.map_err(|error| failed("writing rules", &error))?;
        let listed = list(&mut tables)?.unwrap_or_default();
        for mapping in &settings.mappings {
            if let Some(other) = rules::conflict(&listed, mapping, &note) {
                let (port, protocol) = (mapping.host_port, mapping.protocol.as_str());
                let msg =
                    format!("port {port}/{protocol} of the host is mapped to another container ({other})");
                let details = "remove that container, or choose another hostPort";
                return Err(Error::new(code::FAILED, msg).with_details(details));
            }
        }
        let is_own = |line: &String| rules::owner(line, &settings.network) == Some(identity.hash());
        let old: Vec<String> = listed.into_iter().filter(is_own).collect();
        write(&mut tables, family, &old, &wanted).map_err(|error| failed("writing rules", &error))?;
    }
    forget_flows(settings, addresses);
    Ok(())
}

fn write(
    tables: &mut Programs,
    family: IpFamily,
    old: &[String],
    wanted: &[Rule],
) -> Result<(), IptablesError> {
    tables.restore(&rules::restore(old, wanted))?;
    for Rule { chain, words } in rules::jumps(family) {
        tables.ensure_rule(Table::Nat, chain, &words)?;
    }
    Ok(())
}

/// Removes the rules of this network that `gone` picks by the attachment's hash; and our chains, once they are empty.
///
/// `needed` says whether there have to be any: without iptables there are none, and that is no error then.
pub(super) fn remove(
    settings: &Settings,
    needed: bool,
    gone: &(dyn Fn(&str) -> bool + Sync),
) -> Result<(), Error> {
    if !settings.data.exists() && !needed {
        return Ok(());
    }
    let _lock = take_lock(&settings.data)?;
    // Both at once: most of the time goes into starting programs.
    let [v4, v6] = thread::scope(|scope| {
        let families = [IpFamily::V4, IpFamily::V6];
        let workers =
            families.map(|family| scope.spawn(move || remove_family(settings, family, needed, gone)));
        workers.map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    v4.and(v6)
}

fn remove_family(
    settings: &Settings,
    family: IpFamily,
    needed: bool,
    gone: &(dyn Fn(&str) -> bool + Sync),
) -> Result<(), Error> {
    let mut tables = match Programs::detect(family) {
        Ok(tables) => tables,
        // A host without ip6tables, or without nat for IPv6, has no rules of ours there.
        Err(error)
            if needed && settings.ranges.iter().any(|range| self::family(range.gateway()) == family) =>
        {
            return Err(failed("removing rules", &error));
        }
        Err(_) => return Ok(()),
    };
    let Some(listed) = list(&mut tables)? else { return Ok(()) };
    let is_gone = |line: &&String| rules::owner(line, &settings.network).is_some_and(gone);
    let remove: Vec<String> = listed.iter().filter(is_gone).cloned().collect();
    let all = remove.len() == listed.len();
    erase(&mut tables, family, &remove, all).map_err(|error| failed("removing rules", &error))
}

fn erase(tables: &mut Programs, family: IpFamily, remove: &[String], all: bool) -> Result<(), IptablesError> {
    if all {
        match tables.restore(&rules::restore_without_chains(remove, &rules::jumps(family), &CHAINS)) {
            Err(error) if error.is_lock_busy() => return Err(error),
            // All or nothing: a rule that somebody removed already made it fail. Then one by one.
            Err(_) => {}
            Ok(()) => return Ok(()),
        }
    }
    if !remove.is_empty() {
        tables.restore(&rules::restore(remove, &[]))?;
    }
    if all {
        for Rule { chain, words } in rules::jumps(family) {
            tables.delete_rule(Table::Nat, chain, &words)?;
        }
        for chain in CHAINS {
            tables.delete_chain(Table::Nat, chain)?;
        }
    }
    Ok(())
}

/// The rules of an attachment that should be there and are not.
pub(super) fn missing(
    settings: &Settings,
    identity: &Identity,
    addresses: &[Address],
) -> Result<Vec<String>, Error> {
    let note = identity.note(&settings.network);
    let mut missing = Vec::new();
    for address in addresses {
        let address = address.on_link;
        let wanted = rules::wanted(&settings.mappings, settings.masquerade, address, &note);
        if wanted.is_empty() {
            continue;
        }
        let family = family(address.addr());
        let tables = Programs::detect(family);
        let mut tables = tables.map_err(|error| failed("checking rules", &error))?;
        let own = list(&mut tables)?.unwrap_or_default();
        let is_own = |line: &&String| rules::owner(line, &settings.network) == Some(identity.hash());
        let own: Vec<&String> = own.iter().filter(is_own).collect();
        // iptables lists a rule in words and an order of its own; their number and targets tell enough.
        for rule in &wanted {
            let prefix = format!("-A {} ", rule.chain);
            let in_chain = |line: &&&String| line.starts_with(&prefix);
            let needed = wanted.iter().filter(|other| other.chain == rule.chain).count();
            if own.iter().filter(in_chain).count() < needed {
                missing.push(format!("-A {} {}", rule.chain, rule.words.join(" ")));
            }
        }
        for Rule { chain, words } in rules::jumps(family) {
            let listed = tables.chain_rules(Table::Nat, chain);
            let listed = listed.map_err(|error| failed("checking rules", &error))?.unwrap_or_default();
            let target = words.last().cloned().unwrap_or_default();
            if !listed.iter().any(|line| line.ends_with(&format!("-j {target}"))) {
                missing.push(format!("-A {chain} {}", words.join(" ")));
            }
        }
    }
    Ok(missing)
}

/// Whether rules can be written, for the families of the network's ranges.
pub(super) fn usable(settings: &Settings) -> Result<(), Error> {
    for range in &settings.ranges {
        let tables = Programs::detect(family(range.gateway()));
        tables.map_err(|error| failed("looking at the nat table", &error))?;
    }
    Ok(())
}

/// What is in our chains; none if there is neither.
fn list(tables: &mut Programs) -> Result<Option<Vec<String>>, Error> {
    let mut listed: Option<Vec<String>> = None;
    for chain in CHAINS {
        let rules = tables.chain_rules(Table::Nat, chain);
        if let Some(rules) = rules.map_err(|error| failed("listing rules", &error))? {
            listed.get_or_insert_default().extend(rules);
        }
    }
    Ok(listed)
}

/// UDP flows that came before the port was mapped stay with the host as long as they go on; connection tracking has to
/// forget them. Where it cannot be asked, they end by themselves in a while.
fn forget_flows(settings: &Settings, addresses: &[Address]) {
    let is_udp = |mapping: &&Mapping| mapping.protocol == Protocol::Udp;
    let ports: Vec<u16> = settings.mappings.iter().filter(is_udp).map(|mapping| mapping.host_port).collect();
    if ports.is_empty() {
        return;
    }
    for address in addresses {
        let Ok(mut table) = KernelConntrack::open(family(address.on_link.addr())) else { continue };
        let mut flows = Vec::new();
        let listed = table.for_each_udp_flow(&mut |flow| {
            if ports.contains(&flow.original.destination.port()) {
                flows.push(flow);
            }
        });
        if listed.is_ok() {
            flows.iter().for_each(|flow| drop(table.delete(flow)));
        }
    }
}

fn take_lock(data: &Path) -> Result<fs::File, Error> {
    fs::create_dir_all(data)
        .map_err(|source| Error::new(code::IO, format!("making {}: {source}", data.display())))?;
    let path = data.join(LOCK);
    let file = lock(&path, PATIENCE)?;
    // Were we killed, an iptables of ours might go on and write after somebody else has looked.
    child::share_with_programs(&file)
        .map_err(|source| Error::new(code::IO, format!("sharing {}: {source}", path.display())))?;
    Ok(file)
}

fn family(address: IpAddr) -> IpFamily {
    if address.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 }
}

fn failed(doing: &str, error: &IptablesError) -> Error {
    let code = if error.is_lock_busy() { code::TRY_AGAIN_LATER } else { code::FAILED };
    let because = Error::because(code, error);
    Error { msg: format!("{doing} of mapped ports and masquerading: {}", because.msg), ..because }
}
