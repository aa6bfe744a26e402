//! The addresses that Services have, as IPAddress objects. A Service and its addresses are written in one transaction, so
//! there is one way only to part them: somebody deletes an IPAddress by hand. It is put back before the next Service gets
//! the same address.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{IPAddress, IPAddressSpec, ParentReference};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, Resource, ResourceExt};

use super::events::Events;
use super::queue::{Queue, work};
use super::{Cluster, is_out_of_date};
use crate::allocation::addresses::{ALLOCATOR, FAMILY, MANAGED_BY, family};

const NAME: &str = "ipallocator-repair-controller";

pub(super) async fn run(client: Client, cluster: Arc<Cluster>) {
    let queue = Queue::default();
    let own = queue.clone();
    cluster.ip_addresses.on_change(move |change| {
        if let (None, Some(gone)) = (change.new, change.old) {
            gone.name_any().parse::<IpAddr>().into_iter().for_each(|address| own.add(address));
        }
    });
    cluster.synced().await;
    for service in cluster.services.all() {
        addresses(&service).for_each(|address| queue.add(address));
    }
    let events = Events::new(client.clone(), NAME);
    work(queue.clone(), 1, "ipaddress", |address| {
        let (client, cluster, events) = (client.clone(), cluster.clone(), events.clone());
        async move { sync(&client, &cluster, &events, address).await }
    })
    .await;
}

fn addresses(service: &Service) -> impl Iterator<Item = IpAddr> {
    let texts = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
    texts.filter_map(|text| text.parse().ok())
}

async fn sync(
    client: &Client,
    cluster: &Cluster,
    events: &Events,
    address: IpAddr,
) -> Result<(), kube::Error> {
    let has_it = |service: &Service| addresses(service).any(|own| own == address);
    let Some(known) = cluster.services.all().into_iter().find(|service| has_it(service)) else {
        return Ok(());
    };
    let api = Api::<IPAddress>::all(client.clone());
    if api.get_opt(&address.to_string()).await?.is_some() {
        return Ok(());
    }
    // What a watch has told may be over: a Service that is deleted takes its addresses with it.
    let services = Api::<Service>::namespaced(client.clone(), &known.namespace().unwrap_or_default());
    let Some(service) = services.get_opt(&known.name_any()).await?.filter(has_it) else { return Ok(()) };
    match api.create(&PostParams::default(), &ip_address(address, &service)).await {
        Err(error) if is_out_of_date(&error) => return Ok(()),
        created => drop(created?),
    }
    let note = format!("Cluster IP [{}]: {address} is not allocated; repairing", family(address));
    events.warning(&service.object_ref(&()), "ClusterIPNotAllocated", &note).await;
    Ok(())
}

/// As the allocation writes it.
fn ip_address(address: IpAddr, service: &Service) -> IPAddress {
    let labels = [(FAMILY, family(address)), (MANAGED_BY, ALLOCATOR)];
    let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    IPAddress {
        metadata: ObjectMeta {
            name: Some(address.to_string()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: IPAddressSpec {
            parent_ref: ParentReference {
                group: None,
                resource: "services".to_owned(),
                namespace: service.namespace(),
                name: service.name_any(),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_address_is_written_as_the_allocation_does() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop"}, "spec": {"clusterIPs": ["FD00::1", "None"]},
        }))
        .unwrap();
        let [address] = addresses(&service).collect::<Vec<_>>()[..] else { panic!("not one address") };
        let written = serde_json::to_value(ip_address(address, &service)).unwrap();
        assert_eq!(written["metadata"]["name"], "fd00::1");
        assert_eq!(written["metadata"]["labels"][FAMILY], "IPv6");
        assert_eq!(
            written["spec"]["parentRef"],
            json!({"resource": "services", "namespace": "shop", "name": "web"})
        );
    }
}
