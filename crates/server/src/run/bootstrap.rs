//! The objects that a cluster cannot be without: its first namespaces, the range of its services, and the way to this
//! server as a Service. Made at the start, and again whenever somebody takes them away.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Event, EventSource, Namespace, ObjectReference, Service, ServicePort, ServiceSpec,
};
use k8s_openapi::api::networking::v1::{ServiceCIDR, ServiceCIDRSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::endpoints::OwnEndpoints;
use super::start::first_address;
use crate::flags::Settings;

const CHECK_EVERY: Duration = Duration::from_secs(10);
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// The name of the Service, of its endpoints, and of the range of services.
pub(super) const NAME: &str = "kubernetes";

#[derive(Clone)]
pub(super) struct Bootstrap {
    client: Client,
    ranges: Vec<IpNet>,
    address: IpAddr,
    port: i32,
    /// That the range is not what the flags say is told once.
    has_told: Arc<AtomicBool>,
    endpoints: OwnEndpoints,
}

impl Bootstrap {
    pub(super) fn new(client: Client, settings: &Settings) -> Bootstrap {
        let cluster = &settings.cluster;
        Bootstrap {
            endpoints: OwnEndpoints::new(client.clone(), cluster.advertise_address, cluster.secure_port),
            client,
            ranges: cluster.service_ranges.clone(),
            address: cluster.advertise_address,
            port: i32::from(cluster.secure_port),
            has_told: Arc::default(),
        }
    }

    /// Takes this server out of the endpoints, so that nobody is sent here any more.
    pub(super) async fn leave(&self) {
        if let Err(error) = self.endpoints.leave().await {
            tracing::warn!(%error, "cannot take this server out of the endpoints of the service kubernetes");
        }
    }

    pub(super) async fn run(self) {
        loop {
            tokio::time::sleep(CHECK_EVERY).await;
            if let Err(error) = self.run_once().await {
                tracing::warn!(%error, "cannot restore the objects that a cluster cannot be without");
            }
        }
    }

    pub(super) async fn run_once(&self) -> Result<(), kube::Error> {
        for name in NAMESPACES {
            let api = Api::<Namespace>::all(self.client.clone());
            if api.get_opt(name).await?.is_none() {
                let namespace = Namespace { metadata: named(name), ..Namespace::default() };
                create(&api, &namespace).await?;
            }
        }
        self.service_range().await?;
        self.service().await?;
        self.endpoints.run_once().await
    }

    async fn service_range(&self) -> Result<(), kube::Error> {
        let api = Api::<ServiceCIDR>::all(self.client.clone());
        let wanted: Vec<String> = self.ranges.iter().map(ToString::to_string).collect();
        let Some(found) = api.get_opt(NAME).await? else {
            let spec = Some(ServiceCIDRSpec { cidrs: Some(wanted) });
            create(&api, &ServiceCIDR { metadata: named(NAME), spec, ..ServiceCIDR::default() }).await?;
            return self.set_ready(&api).await;
        };
        if found.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let cidrs = found.spec.as_ref().and_then(|spec| spec.cidrs.clone()).unwrap_or_default();
        if cidrs != wanted {
            let is_first = wanted.first().is_some_and(|first| cidrs == [first.clone()]);
            return match is_first {
                // A second family was added to the flags.
                true => {
                    let patch = json!({"spec": {"cidrs": wanted}});
                    api.patch(NAME, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
                }
                false => self.tell_difference(&found, &cidrs, &wanted).await,
            };
        }
        let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
        match conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status != "Unknown") {
            true => Ok(()),
            false => self.set_ready(&api).await,
        }
    }

    async fn set_ready(&self, api: &Api<ServiceCIDR>) -> Result<(), kube::Error> {
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "",
            "message": "Kubernetes default Service CIDR is ready",
            "lastTransitionTime": Time(Timestamp::now()),
        });
        let patch = json!({"status": {"conditions": [ready]}});
        api.patch_status(NAME, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
    }

    async fn tell_difference(
        &self,
        range: &ServiceCIDR,
        stored: &[String],
        wanted: &[String],
    ) -> Result<(), kube::Error> {
        if self.has_told.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let message = format!(
            "The default ServiceCIDR [{}] does not match the controller flag configurations [{}]",
            stored.join(" "),
            wanted.join(" ")
        );
        tracing::warn!(message);
        let now = Timestamp::now();
        let name = format!("{NAME}.{:x}", now.as_nanosecond());
        let event = Event {
            metadata: ObjectMeta { namespace: Some("default".to_owned()), ..named(&name) },
            involved_object: ObjectReference {
                api_version: Some("networking.k8s.io/v1".to_owned()),
                kind: Some("ServiceCIDR".to_owned()),
                name: Some(NAME.to_owned()),
                uid: range.metadata.uid.clone(),
                ..ObjectReference::default()
            },
            reason: Some("KubernetesDefaultServiceCIDRInconsistent".to_owned()),
            message: Some(message),
            type_: Some("Warning".to_owned()),
            source: Some(EventSource {
                component: Some("kubernetes-service-cidr-controller".to_owned()),
                host: None,
            }),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            ..Event::default()
        };
        create(&Api::<Event>::namespaced(self.client.clone(), "default"), &event).await
    }

    async fn service(&self) -> Result<(), kube::Error> {
        let api = Api::<Service>::namespaced(self.client.clone(), "default");
        if api.get_opt(NAME).await?.is_some() {
            return Ok(());
        }
        let Some(range) = self.ranges.first() else { return Ok(()) };
        let labels = [("component", "apiserver"), ("provider", "kubernetes")];
        let port = ServicePort {
            name: Some("https".to_owned()),
            protocol: Some("TCP".to_owned()),
            port: 443,
            target_port: Some(IntOrString::Int(self.port)),
            ..ServicePort::default()
        };
        let spec = ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some(first_address(range).to_string()),
            ip_families: Some(vec![family(self.address).to_owned()]),
            ip_family_policy: Some("SingleStack".to_owned()),
            session_affinity: Some("None".to_owned()),
            ports: Some(vec![port]),
            ..ServiceSpec::default()
        };
        let metadata = ObjectMeta { labels: Some(texts(&labels)), ..named(NAME) };
        create(&api, &Service { metadata, spec: Some(spec), status: None }).await
    }
}

/// That another server was faster is as good.
pub(super) async fn create<K>(api: &Api<K>, object: &K) -> Result<(), kube::Error>
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    match api.create(&PostParams::default(), object).await {
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        created => created.map(drop),
    }
}

pub(super) fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

pub(super) fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(super) fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}
