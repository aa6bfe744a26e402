//! The endpoints of the service `kubernetes`: the API servers themselves.
//!
//! Several servers may share one etcd. Each holds a lease, whose holder is its address; the endpoints are the holders of all
//! leases that are not stale.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort as CorePort, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt};

use super::bootstrap::{NAME, create, family, named, texts};

const NAMESPACE: &str = "kube-system";
/// As upstream labels the leases of API servers.
const LABEL: (&str, &str) = ("apiserver.kubernetes.io/identity", "kube-apiserver");
/// Three checks may fail before the others take a server for dead.
const LEASE_SECONDS: i32 = 30;

#[derive(Clone)]
pub(super) struct OwnEndpoints {
    client: Client,
    address: IpAddr,
    port: i32,
}

impl OwnEndpoints {
    pub(super) fn new(client: Client, address: IpAddr, port: u16) -> OwnEndpoints {
        if !can_be_reached(address) {
            tracing::info!(
                %address,
                "The service kubernetes has no endpoints: pods cannot reach this address; set --advertise-address"
            );
        }
        OwnEndpoints { client, address, port: i32::from(port) }
    }

    /// Renews the lease, and brings the endpoints up to date.
    pub(super) async fn run_once(&self) -> Result<(), kube::Error> {
        if !can_be_reached(self.address) {
            return Ok(());
        }
        self.renew().await?;
        self.write().await
    }

    /// Gives the lease up.
    pub(super) async fn leave(&self) -> Result<(), kube::Error> {
        if !can_be_reached(self.address) {
            return Ok(());
        }
        match self.leases().delete(&self.lease_name(), &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.reason == "NotFound" => {}
            deleted => drop(deleted?),
        }
        self.write().await
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    fn lease_name(&self) -> String {
        let address = self.address.to_string().replace([':', '.'], "-");
        format!("apiserver-{}", address.trim_matches('-'))
    }

    async fn renew(&self) -> Result<(), kube::Error> {
        let name = self.lease_name();
        let now = MicroTime(Timestamp::now());
        let found = self.leases().get_opt(&name).await?;
        let spec = LeaseSpec {
            holder_identity: Some(self.address.to_string()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(now),
            ..LeaseSpec::default()
        };
        match found {
            None => {
                let metadata = ObjectMeta { labels: Some(texts(&[LABEL])), ..named(&name) };
                create(&self.leases(), &Lease { metadata, spec: Some(spec) }).await
            }
            Some(found) => {
                let lease = Lease { spec: Some(spec), ..found };
                self.leases().replace(&name, &PostParams::default(), &lease).await.map(drop)
            }
        }
    }

    /// The addresses of all servers that live, sorted.
    async fn addresses(&self) -> Result<BTreeSet<IpAddr>, kube::Error> {
        let (label, value) = LABEL;
        let leases = self.leases().list(&ListParams::default().labels(&format!("{label}={value}"))).await?;
        let now = Timestamp::now();
        let holder = |lease: &Lease| {
            let spec = lease.spec.as_ref()?;
            let MicroTime(renewed) = spec.renew_time.as_ref()?;
            let is_fresh = now.duration_since(*renewed) < SignedDuration::from_secs(LEASE_SECONDS.into());
            let address: IpAddr = spec.holder_identity.as_ref()?.parse().ok()?;
            (is_fresh && address.is_ipv4() == self.address.is_ipv4()).then_some(address)
        };
        Ok(leases.items.iter().filter_map(holder).collect())
    }

    async fn write(&self) -> Result<(), kube::Error> {
        let addresses = self.addresses().await?;
        self.write_endpoints(&addresses).await?;
        self.write_slice(&addresses).await
    }

    async fn write_endpoints(&self, addresses: &BTreeSet<IpAddr>) -> Result<(), kube::Error> {
        let api = Api::<Endpoints>::namespaced(self.client.clone(), "default");
        let port = CorePort {
            name: Some("https".to_owned()),
            port: self.port,
            protocol: Some("TCP".to_owned()),
            app_protocol: None,
        };
        let address = |ip: &IpAddr| EndpointAddress { ip: ip.to_string(), ..EndpointAddress::default() };
        let subset = EndpointSubset {
            addresses: Some(addresses.iter().map(address).collect()),
            not_ready_addresses: None,
            ports: Some(vec![port]),
        };
        // Nobody has to copy these into a slice: there is one.
        let labels = [("endpointslice.kubernetes.io/skip-mirror", "true")];
        let metadata = ObjectMeta { labels: Some(texts(&labels)), ..named(NAME) };
        // A subset without addresses is not valid.
        let subsets = (!addresses.is_empty()).then(|| vec![subset]);
        let wanted = Endpoints { metadata, subsets };
        match api.get_opt(NAME).await? {
            None => create(&api, &wanted).await,
            Some(found) if found.subsets == wanted.subsets && found.labels() == wanted.labels() => Ok(()),
            Some(_) => api.replace(NAME, &PostParams::default(), &wanted).await.map(drop),
        }
    }

    async fn write_slice(&self, addresses: &BTreeSet<IpAddr>) -> Result<(), kube::Error> {
        let api = Api::<EndpointSlice>::namespaced(self.client.clone(), "default");
        let endpoint = |ip: &IpAddr| Endpoint {
            addresses: vec![ip.to_string()],
            conditions: Some(EndpointConditions { ready: Some(true), ..EndpointConditions::default() }),
            ..Endpoint::default()
        };
        let port = EndpointPort {
            name: Some("https".to_owned()),
            port: Some(self.port),
            protocol: Some("TCP".to_owned()),
            app_protocol: None,
        };
        let labels = [("kubernetes.io/service-name", NAME)];
        let wanted = EndpointSlice {
            metadata: ObjectMeta { labels: Some(texts(&labels)), ..named(NAME) },
            address_type: family(self.address).to_owned(),
            endpoints: (!addresses.is_empty()).then(|| addresses.iter().map(endpoint).collect()),
            ports: Some(vec![port]),
        };
        let Some(found) = api.get_opt(NAME).await? else { return create(&api, &wanted).await };
        if found.address_type != wanted.address_type {
            // The type cannot be changed; the next check makes it anew.
            return api.delete(NAME, &DeleteParams::default()).await.map(drop);
        }
        let content =
            |slice: &EndpointSlice| (slice.endpoints.clone(), slice.ports.clone(), slice.labels().clone());
        match content(&found) == content(&wanted) {
            true => Ok(()),
            false => api.replace(NAME, &PostParams::default(), &wanted).await.map(drop),
        }
    }
}

/// What is no endpoint that the API accepts leads nowhere from another machine.
fn can_be_reached(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !address.is_loopback() && !is_link_local
}
