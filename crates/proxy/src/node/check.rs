//! Configuration that is valid in itself but does not fit this node or this cluster.

use std::net::IpAddr;

use ipnet::IpNet;
use switchyard_model::IpFamily;
use thiserror::Error;

use crate::config::{Configuration, DetectLocalMode};

/// What stops the start.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("kube-proxy configuration is incorrect: {0}")]
pub struct Mismatch(String);

/// Which address families this process serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families {
    pub primary: IpFamily,
    pub dual_stack: bool,
}

impl Families {
    pub fn iter(self) -> impl Iterator<Item = IpFamily> {
        IpFamily::BOTH.into_iter().filter(move |family| self.dual_stack || *family == self.primary)
    }

    fn describe(self) -> String {
        format!("{}-{}", self.primary, if self.dual_stack { "primary" } else { "only" })
    }
}

/// The one warning about node port addresses that the operator should see, if any.
pub fn node_port_warning(
    ranges: &[IpNet],
    other_options: &[&[IpNet]],
    primary: IpFamily,
) -> Option<&'static str> {
    let has = |nets: &[IpNet], family| nets.iter().any(|net| IpFamily::of_net(net) == family);
    let is_dual = |nets: &[IpNet]| has(nets, IpFamily::V4) && has(nets, IpFamily::V6);
    if ranges.is_empty() {
        return Some(
            "nodePortAddresses is unset; NodePort connections will be accepted on all local IPs. \
             Consider using `--nodeport-addresses primary`",
        );
    }
    let only_primary = ranges.iter().all(|net| IpFamily::of_net(net) == primary);
    if only_primary && (is_dual(ranges) || other_options.iter().any(|nets| is_dual(nets))) {
        return Some(
            "cluster appears to be dual-stack but nodePortAddresses contains only addresses of the primary family; \
             NodePort connections will be accepted on all local IPs of the other family",
        );
    }
    (!has(ranges, primary)).then_some(
        "nodePortAddresses contains no addresses of the primary family; NodePort connections will be accepted on all \
         of its local IPs",
    )
}

/// Options whose addresses are all of the family that the cluster does not primarily use. `Ok` holds what is only
/// worth a log line.
pub fn family_mismatches(
    config: &Configuration,
    pod_cidrs: &[IpNet],
    families: Families,
) -> Result<Vec<String>, Mismatch> {
    let other = match families.primary {
        IpFamily::V4 => IpFamily::V6,
        IpFamily::V6 => IpFamily::V4,
    };
    let only_other =
        |nets: &[IpNet]| !nets.is_empty() && nets.iter().all(|net| IpFamily::of_net(net) == other);
    let complaint = |option: &str| {
        format!("cluster is {} but {option} contains only {other} addresses", families.describe())
    };
    let mut notes = Vec::new();
    let mode = config.detect_local_mode;
    if only_other(&config.detect_local.cluster_cidrs) {
        if mode == DetectLocalMode::ClusterCidr && !families.dual_stack {
            return Err(Mismatch(complaint("clusterCIDRs")));
        }
        notes.push(complaint("clusterCIDRs"));
    }
    if only_other(pod_cidrs) {
        if mode == DetectLocalMode::NodeCidr {
            return Err(Mismatch(complaint("node.spec.podCIDRs")));
        }
        notes.push(complaint("node.spec.podCIDRs"));
    }
    if !families.dual_stack {
        let wrong = |ip: IpAddr| !ip.is_unspecified() && IpFamily::of(ip) == other;
        if config.healthz_bind_address.is_some_and(|address| wrong(address.ip())) {
            notes.push(complaint("healthzBindAddress"));
        }
        if wrong(config.metrics_bind_address.ip()) {
            notes.push(complaint("metricsBindAddress"));
        }
    }
    Ok(notes)
}
