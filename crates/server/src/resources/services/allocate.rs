//! The addresses and ports that a write takes and gives back, in the same transaction.

use std::collections::HashMap;
use std::net::IpAddr;

use serde_json::Value;

use super::{Spec, invalid, node_port, number, text};
use crate::allocation::addresses::{self, family};
use crate::allocation::ports::{self, Ports, Refusal};
use crate::field::FieldError;
use crate::metadata::time_text;
use crate::object::Object;
use crate::registry::{Context, Transaction};
use crate::status::ApiError;
use crate::store::{Key, Write};

/// Works out what `new` needs that `old` does not have, writes it into `new`, and gives back what only `old` had.
pub(super) fn allocate(
    context: &Context<'_>,
    new: Option<&mut Object>,
    old: Option<&Object>,
) -> Result<Transaction, ApiError> {
    let mut transaction = Transaction::default();
    let Some(new) = new else {
        let Some(old) = old else { return Ok(transaction) };
        held_addresses(old).iter().for_each(|address| release(&mut transaction, addresses::key(*address)));
        held_ports(old).iter().for_each(|port| release(&mut transaction, ports::key(*port)));
        release(&mut transaction, Key::object("", "endpoints", old.namespace(), old.name()));
        return Ok(transaction);
    };
    allocate_addresses(context, new, old, &mut transaction)?;
    allocate_ports(context, new, old, &mut transaction)?;
    if context.dry_run {
        return Ok(Transaction::default());
    }
    Ok(transaction)
}

fn release(transaction: &mut Transaction, key: Key) {
    transaction.writes.push(Write { key, value: None });
}

fn take(transaction: &mut Transaction, write: Write) {
    // Two servers that choose the same at once: the store lets one of them in.
    transaction.expectations.push((write.key.clone(), None));
    transaction.writes.push(write);
}

fn held_addresses(object: &Object) -> Vec<IpAddr> {
    match Spec(object).needs_cluster_ip() {
        true => Spec(object).texts("clusterIPs").iter().filter_map(|address| address.parse().ok()).collect(),
        false => Vec::new(),
    }
}

fn held_ports(object: &Object) -> Vec<u16> {
    let health = Spec(object).health_check_port();
    let mut held = Spec(object).node_ports();
    held.extend(Some(health).filter(|port| *port != 0 && !held.contains(port)));
    held.into_iter().filter_map(|port| u16::try_from(port).ok()).collect()
}

fn allocate_addresses(
    context: &Context<'_>,
    new: &mut Object,
    old: Option<&Object>,
    transaction: &mut Transaction,
) -> Result<(), ApiError> {
    let before = old.map(held_addresses).unwrap_or_default();
    if Spec(new).needs_cluster_ip() && !Spec(new).is_headless() {
        let families = Spec(new).texts("ipFamilies");
        let mut wanted = Spec(new).texts("clusterIPs");
        wanted.resize(families.len().max(wanted.len()), String::new());
        let mut taken: Vec<IpAddr> = Vec::new();
        for (index, of) in families.iter().enumerate() {
            let shown = Value::from(wanted.clone());
            let Some(slot) = wanted.get_mut(index) else { continue };
            let asked: Option<IpAddr> = slot.parse().ok();
            if asked.is_some_and(|address| before.contains(&address)) || (asked.is_none() && !slot.is_empty())
            {
                continue;
            }
            let address = match asked {
                Some(address) => {
                    check_asked(context, new, address, &taken, shown)?;
                    address
                }
                None => {
                    let found = automatic(context, of, &taken).ok_or_else(|| {
                        ApiError::internal(format!(
                            "failed to allocate a serviceIP for Service {:?}: range is full",
                            new.name()
                        ))
                    })?;
                    *slot = found.to_string();
                    found
                }
            };
            taken.push(address);
        }
        wanted.retain(|address| !address.is_empty());
        new.set(&["spec", "clusterIP"], wanted.first().cloned().unwrap_or_default());
        new.set(&["spec", "clusterIPs"], wanted);
        let created = time_text(context.now);
        for address in taken {
            let uid = uuid::Uuid::new_v4().to_string();
            take(transaction, addresses::entry(address, new.namespace(), new.name(), &uid, &created));
        }
    }
    let kept = held_addresses(new);
    before.into_iter().filter(|address| !kept.contains(address)).for_each(|address| {
        release(transaction, addresses::key(address));
    });
    Ok(())
}

fn check_asked(
    context: &Context<'_>,
    object: &Object,
    address: IpAddr,
    taken: &[IpAddr],
    shown: Value,
) -> Result<(), ApiError> {
    let refusal = match addresses::check(context.snapshot, address, taken) {
        Ok(()) => return Ok(()),
        // What is taken now may be free when it is done in earnest.
        Err(addresses::Refusal::Taken) if context.dry_run => return Ok(()),
        Err(refusal) => refusal,
    };
    let detail = match (refusal, context.dry_run) {
        (addresses::Refusal::OutOfRange, true) => {
            let ranges = addresses::usable_ranges(context.snapshot, family(address));
            let range = ranges.first().map(ToString::to_string).unwrap_or_default();
            format!(
                "the provided IP ({address}) is not in the valid range. The range of valid IPs is {range}"
            )
        }
        (refusal, _) => refusal.text().to_owned(),
    };
    let detail = format!("failed to allocate IP {address}: {detail}");
    Err(invalid(object, &[FieldError::invalid("spec.clusterIPs", shown, &detail)]))
}

fn automatic(context: &Context<'_>, family: &str, taken: &[IpAddr]) -> Option<IpAddr> {
    if context.dry_run {
        // Upstream shows the address of the network, which no Service can have.
        return addresses::usable_ranges(context.snapshot, family).first().map(ipnet::IpNet::network);
    }
    // Another one on every try, so that two who collide do not collide again.
    addresses::automatic(context.snapshot, family, rand::random()).filter(|found| !taken.contains(found))
}

fn allocate_ports(
    context: &Context<'_>,
    new: &mut Object,
    old: Option<&Object>,
    transaction: &mut Transaction,
) -> Result<(), ApiError> {
    let before = old.map(held_ports).unwrap_or_default();
    let mut ports = Ports::new(context.snapshot, context.cluster.node_ports.clone(), rand::random());
    if Spec(new).may_have_node_ports() {
        match old {
            Some(_) => update_node_ports(new, &before, &mut ports)?,
            None => create_node_ports(new, &mut ports)?,
        }
    }
    if Spec(new).needs_health_check_port() {
        health_check_port(new, &before, &mut ports)?;
    }
    let taken = std::mem::take(&mut ports.taken);
    taken.iter().for_each(|port| take(transaction, ports::entry(*port, new.namespace(), new.name())));
    let kept = held_ports(new);
    before
        .into_iter()
        .filter(|port| !kept.contains(port))
        .for_each(|port| release(transaction, ports::key(port)));
    Ok(())
}

/// Ports of one number share a node port, whatever their protocols: DNS wants one for both.
fn create_node_ports(object: &mut Object, ports: &mut Ports<'_>) -> Result<(), ApiError> {
    let mut list = Spec(object).ports().to_vec();
    let asked: Vec<(i64, i64)> = list.iter().map(|port| (number(port, "port"), node_port(port))).collect();
    let mut chosen: HashMap<i64, i64> = HashMap::new();
    for index in 0..list.len() {
        let Some((port, own)) = asked.get(index).copied() else { continue };
        if own == 0 && !Spec(object).wants_node_ports() {
            continue;
        }
        let given = match chosen.get(&port).copied() {
            None => {
                let explicit =
                    asked.iter().find(|(other, node)| *other == port && *node != 0).map(|(_, node)| *node);
                let given = match explicit {
                    Some(node) => take_asked(object, ports, index, node)?,
                    None => take_any(ports)?,
                };
                chosen.insert(port, given);
                given
            }
            Some(same) if own == 0 || own == same => same,
            Some(_) => take_asked(object, ports, index, own)?,
        };
        set_node_port(&mut list, index, given);
    }
    object.set(&["spec", "ports"], list);
    Ok(())
}

fn update_node_ports(object: &mut Object, before: &[u16], ports: &mut Ports<'_>) -> Result<(), ApiError> {
    let mut list = Spec(object).ports().to_vec();
    let mut seen: Vec<(String, i64)> = Vec::new();
    for index in 0..list.len() {
        let Some(port) = list.get(index) else { continue };
        let (protocol, own) = (text(port, "protocol").to_owned(), node_port(port));
        if own == 0 {
            if Spec(object).wants_node_ports() {
                let given = take_any(ports)?;
                set_node_port(&mut list, index, given);
            }
            continue;
        }
        if seen.contains(&(protocol.clone(), own)) {
            let message = format!("duplicate nodePort: {{{protocol} {own}}}");
            return Err(ApiError::new(http::StatusCode::INTERNAL_SERVER_ERROR, "", message));
        }
        let has = |list: &[u16]| list.iter().any(|port| i64::from(*port) == own);
        if !has(before) && !has(&ports.taken) {
            take_asked(object, ports, index, own)?;
        }
        seen.push((protocol, own));
    }
    object.set(&["spec", "ports"], list);
    Ok(())
}

fn set_node_port(list: &mut [Value], index: usize, given: i64) {
    if let Some(Value::Object(fields)) = list.get_mut(index) {
        fields.insert("nodePort".to_owned(), given.into());
    }
}

fn take_asked(object: &Object, ports: &mut Ports<'_>, index: usize, port: i64) -> Result<i64, ApiError> {
    ports.take(port).map(|()| port).map_err(|refusal| {
        let path = format!("spec.ports[{index}].nodePort");
        invalid(object, &[FieldError::invalid(path, port, &refusal.text())])
    })
}

fn take_any(ports: &mut Ports<'_>) -> Result<i64, ApiError> {
    let found = ports.take_any().map(i64::from);
    found.ok_or_else(|| ApiError::internal("failed to allocate a nodePort: range is full"))
}

fn health_check_port(object: &mut Object, before: &[u16], ports: &mut Ports<'_>) -> Result<(), ApiError> {
    let asked = Spec(object).health_check_port();
    if asked != 0 && before.iter().any(|port| i64::from(*port) == asked) {
        return Ok(());
    }
    let given = match asked {
        0 => ports.take_any().map(i64::from).ok_or_else(|| {
            ApiError::internal("failed to allocate a HealthCheck NodePort 0: range is full")
        })?,
        asked => ports.take(asked).map(|()| asked).map_err(|refusal: Refusal| {
            ApiError::internal(format!(
                "failed to allocate requested HealthCheck NodePort {asked}: {}",
                refusal.text()
            ))
        })?,
    };
    object.set(&["spec", "healthCheckNodePort"], given);
    Ok(())
}
