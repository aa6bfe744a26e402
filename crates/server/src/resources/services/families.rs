//! Which IP families a Service has: what its author asks for, within what the cluster has.

use std::net::IpAddr;

use serde_json::Value;

use super::{Spec, invalid, validation};
use crate::allocation::ClusterSettings;
use crate::allocation::addresses::{family, family_of_range};
use crate::field::FieldError;
use crate::object::Object;
use crate::status::ApiError;

/// Fills policy and families in, for a create (without `old`) or an update.
pub(super) fn set(cluster: &ClusterSettings, new: &mut Object, old: Option<&Object>) -> Result<(), ApiError> {
    if Spec(new).is_external_name() || old.is_some_and(|old| stays_as_it_is(new, old)) {
        return Ok(());
    }
    let configured: Vec<&str> = cluster.service_ranges.iter().map(family_of_range).collect();
    let primary = configured.first().copied().unwrap_or("IPv4");
    let is_bare = Spec(new).is_headless() && !Spec(new).has_selector();
    if Spec(new).text("ipFamilyPolicy").is_empty() {
        let before = old.map(|old| Spec(old).text("ipFamilyPolicy")).filter(|policy| !policy.is_empty());
        let policy = before.unwrap_or(if is_bare { "RequireDualStack" } else { "SingleStack" });
        new.set(&["spec", "ipFamilyPolicy"], policy);
    }
    let mut errors = validation::cluster_ips(new, old);
    if !errors.is_empty() {
        return Err(invalid(new, &errors));
    }
    if let Some(old) = old {
        release_secondary(new, old, &mut errors);
    }
    let policy = Spec(new).text("ipFamilyPolicy").to_owned();
    let refuse = |path: &str, detail: &str| FieldError::invalid(path, policy.as_str(), detail);
    if policy == "SingleStack" {
        let many = "must be 'RequireDualStack' or 'PreferDualStack' when multiple";
        if Spec(new).texts("clusterIPs").len() == 2 {
            errors.push(refuse("spec.ipFamilyPolicy", &format!("{many} cluster IPs are specified")));
        }
        if Spec(new).texts("ipFamilies").len() == 2 {
            errors.push(refuse("spec.ipFamilyPolicy", &format!("{many} IP families are specified")));
        }
    }
    let mut families = Spec(new).texts("ipFamilies");
    let addresses = Spec(new).texts("clusterIPs");
    for (index, address) in addresses.iter().enumerate().take_while(|(_, address)| *address != "None") {
        let Some(of) = address.parse::<IpAddr>().ok().map(family).filter(|_| index >= families.len()) else {
            continue;
        };
        if !configured.contains(&of) {
            let value = Value::from(addresses.clone());
            errors.push(FieldError::invalid(
                format!("spec.clusterIPs[{index}]"),
                value,
                &format!("{of} is not configured on this cluster"),
            ));
        }
        families.push(of.to_owned());
    }
    if !errors.is_empty() {
        return Err(invalid(new, &errors));
    }
    let other = |family: &str| if family == "IPv4" { "IPv6" } else { "IPv4" };
    if is_bare {
        if families.is_empty() {
            families.push(primary.to_owned());
        }
        if families.len() < 2 && policy != "SingleStack" {
            families.push(other(&families[0]).to_owned());
        }
        new.set(&["spec", "ipFamilies"], families);
        return Ok(());
    }
    if policy == "RequireDualStack" && configured.len() < 2 {
        errors.push(refuse("spec.ipFamilyPolicy", "this cluster is not configured for dual-stack services"));
    }
    for (index, family) in
        families.iter().enumerate().filter(|(_, family)| !configured.contains(&family.as_str()))
    {
        let path = format!("spec.ipFamilies[{index}]");
        errors.push(FieldError::invalid(path, family.as_str(), "not configured on this cluster"));
    }
    if !errors.is_empty() {
        return Err(invalid(new, &errors));
    }
    if families.is_empty() {
        families.push(primary.to_owned());
    }
    if policy != "SingleStack" && families.len() == 1 && configured.len() == 2 {
        families.push(other(&families[0]).to_owned());
    }
    new.set(&["spec", "ipFamilies"], families);
    Ok(())
}

/// A Service that prefers two families is not moved between one and two by an update that is about something else.
pub(super) fn stays_as_it_is(new: &Object, old: &Object) -> bool {
    let (new, old) = (Spec(new), Spec(old));
    let prefers = |spec: Spec<'_>, or_nothing: bool| match spec.text("ipFamilyPolicy") {
        "PreferDualStack" => true,
        other => or_nothing && other.is_empty(),
    };
    new.needs_cluster_ip()
        && new.kind() == old.kind()
        && prefers(new, false)
        && prefers(old, true)
        && new.texts("clusterIPs") == old.texts("clusterIPs")
        && new.texts("ipFamilies") == old.texts("ipFamilies")
}

fn release_secondary(new: &mut Object, old: &Object, errors: &mut Vec<FieldError>) {
    let policy = Spec(new).text("ipFamilyPolicy").to_owned();
    for (field, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let (now, before) = (Spec(new).texts(field), Spec(old).texts(field));
        if policy == "SingleStack" {
            if now == before && now.len() == 2 {
                new.set(&["spec", field], now.into_iter().take(1).collect::<Vec<_>>());
            }
        } else if before.len() == 2 && now.len() == 1 && now.first() == before.first() {
            let detail = format!("must be 'SingleStack' to release the secondary {what}");
            errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy.as_str(), &detail));
        }
    }
}
