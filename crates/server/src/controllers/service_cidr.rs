//! ServiceCIDRs: ready, and kept while an address depends on them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::informer::Key;
use super::queue::{Queue, work};
use super::{Cluster, is_out_of_date};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";
/// API servers get this long to hear that they must not allocate from it any more.
const GRACE: Duration = Duration::from_secs(10);

pub(super) async fn run(client: Client, cluster: Arc<Cluster>) {
    let queue = Queue::default();
    let own = queue.clone();
    let (cidrs, of_cidrs) = (cluster.service_cidrs.clone(), queue.clone());
    cluster.service_cidrs.on_change(move |change| {
        if let Some(cidr) = change.new {
            of_cidrs.add(cidr.name_any());
        }
        // One that came or went may free another one.
        cidrs.all().iter().filter(|cidr| is_going(cidr)).for_each(|cidr| of_cidrs.add(cidr.name_any()));
    });
    let cidrs = cluster.service_cidrs.clone();
    cluster.ip_addresses.on_change(move |_| {
        cidrs.all().iter().filter(|cidr| is_going(cidr)).for_each(|cidr| own.add(cidr.name_any()));
    });
    cluster.synced().await;
    work(queue.clone(), 1, "servicecidr", |name| {
        let (client, cluster, queue) = (client.clone(), cluster.clone(), queue.clone());
        async move { sync(&client, &cluster, &queue, name).await }
    })
    .await;
}

fn is_going(cidr: &ServiceCIDR) -> bool {
    cidr.metadata.deletion_timestamp.is_some()
}

/// What is to be written about a ServiceCIDR.
#[derive(Debug, PartialEq)]
enum Step {
    Nothing,
    AddFinalizer,
    SetReady,
    SetTerminating,
    /// When the grace time is over.
    RemoveFinalizer,
}

fn step(cidr: &ServiceCIDR, others: &[Arc<ServiceCIDR>], addresses: &[Arc<IPAddress>]) -> Step {
    let has_finalizer = cidr.finalizers().iter().any(|name| name == FINALIZER);
    let ready = cidr.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = ready.and_then(|conditions| conditions.iter().find(|condition| condition.type_ == "Ready"));
    if !is_going(cidr) {
        let is_ready = ready.is_some_and(|ready| (ready.status.as_str(), ready.message.as_str()) == READY);
        return match (has_finalizer, is_ready) {
            (false, _) => Step::AddFinalizer,
            (true, false) => Step::SetReady,
            (true, true) => Step::Nothing,
        };
    }
    if !has_finalizer {
        return Step::Nothing;
    }
    let own = ranges(cidr);
    let others: Vec<IpNet> =
        others.iter().filter(|other| other.uid() != cidr.uid()).flat_map(|other| ranges(other)).collect();
    let is_covered = own.iter().all(|range| others.iter().any(|other| other.contains(range)));
    let depends = |address: &IpAddr| {
        own.iter().any(|range| holds(range, address)) && !others.iter().any(|range| holds(range, address))
    };
    let allocated =
        addresses.iter().filter(|address| address.labels().get(MANAGED_BY).is_some_and(|by| by == ALLOCATOR));
    let is_needed =
        allocated.filter_map(|address| address.name_any().parse().ok()).any(|address| depends(&address));
    match (is_covered || !is_needed, ready.map(|ready| ready.reason.as_str())) {
        (true, _) => Step::RemoveFinalizer,
        (false, Some("Terminating")) => Step::Nothing,
        (false, _) => Step::SetTerminating,
    }
}

const READY: (&str, &str) = ("True", "Kubernetes Service CIDR is ready");
const STILL_NEEDED: &str =
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";

fn ranges(cidr: &ServiceCIDR) -> Vec<IpNet> {
    let cidrs = cidr.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default();
    cidrs.iter().filter_map(|range| range.parse().ok()).collect()
}

/// The first address of a range, and the last one of an IPv4 range, are no Service's.
fn holds(range: &IpNet, address: &IpAddr) -> bool {
    let is_broadcast = matches!(range, IpNet::V4(_)) && range.broadcast() == *address;
    range.contains(address) && range.network() != *address && !is_broadcast
}

async fn sync(
    client: &Client,
    cluster: &Cluster,
    queue: &Queue<String>,
    name: String,
) -> Result<(), kube::Error> {
    let Some(cidr) = cluster.service_cidrs.get(&Key::new("", &name)) else { return Ok(()) };
    let api = Api::<ServiceCIDR>::all(client.clone());
    let params = PatchParams::default();
    let condition = |status: &str, reason: &str, message: &str| {
        json!({"status": {"conditions": [{"type": "Ready", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": Timestamp::now()}]}})
    };
    let metadata = |field: &str| json!({"metadata": {field: [FINALIZER]}});
    let write = |patch: Value| Patch::Strategic(patch);
    let result = match step(&cidr, &cluster.service_cidrs.all(), &cluster.ip_addresses.all()) {
        Step::Nothing => return Ok(()),
        Step::AddFinalizer => api.patch(&name, &params, &write(metadata("finalizers"))).await,
        Step::SetReady => api.patch_status(&name, &params, &write(condition(READY.0, "", READY.1))).await,
        Step::SetTerminating => {
            api.patch_status(&name, &params, &write(condition("False", "Terminating", STILL_NEEDED))).await
        }
        Step::RemoveFinalizer => {
            let asked =
                cidr.metadata.deletion_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
            let waited = Duration::try_from(Timestamp::now().duration_since(asked)).unwrap_or_default();
            if waited < GRACE {
                queue.add_after(name, GRACE - waited);
                return Ok(());
            }
            api.patch(&name, &params, &write(metadata("$deleteFromPrimitiveList/finalizers"))).await
        }
    };
    match result {
        Err(error) if is_out_of_date(&error) => Ok(()),
        result => result.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(uid: &str, range: &str, going: bool) -> Arc<ServiceCIDR> {
        let deleted = going.then_some("2026-01-01T00:00:00Z");
        let metadata =
            json!({"name": uid, "uid": uid, "finalizers": [FINALIZER], "deletionTimestamp": deleted});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"cidrs": [range]}}))
            .map(Arc::new)
            .unwrap()
    }

    fn address(ip: &str) -> Arc<IPAddress> {
        let metadata = json!({"name": ip, "labels": {MANAGED_BY: ALLOCATOR}});
        let parent = json!({"resource": "services", "name": "x"});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"parentRef": parent}}))
            .map(Arc::new)
            .unwrap()
    }

    #[test]
    fn a_new_one_is_guarded_and_then_ready() {
        let mut new = (*cidr("a", "10.0.0.0/24", false)).clone();
        assert_eq!(step(&new, &[], &[]), Step::SetReady);
        new.finalizers_mut().clear();
        assert_eq!(step(&new, &[], &[]), Step::AddFinalizer);
    }

    #[test]
    fn one_goes_only_when_no_address_depends_on_it() {
        let going = cidr("a", "10.0.0.0/24", true);
        assert_eq!(step(&going, &[], &[]), Step::RemoveFinalizer);
        assert_eq!(step(&going, &[], &[address("10.0.0.5")]), Step::SetTerminating);
        assert_eq!(step(&going, &[], &[address("10.0.1.5")]), Step::RemoveFinalizer);
        let wider = cidr("b", "10.0.0.0/16", false);
        assert_eq!(step(&going, &[wider], &[address("10.0.0.5")]), Step::RemoveFinalizer);
    }
}
