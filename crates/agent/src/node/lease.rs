//! The node's lease: a sign of life.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::core::{Core, one_line};

const NAMESPACE: &str = "kube-node-lease";
/// Kubelet's: a node that missed four in a row is taken to be lost.
const INTERVAL: Duration = Duration::from_secs(10);
const DURATION_SECONDS: i32 = 40;
/// After a failure, for the time of one interval.
const RETRY: Duration = Duration::from_secs(1);

/// Until the agent ends.
pub(super) async fn run(core: Arc<Core>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut is_first = true;
        while let Err(error) = renew(&core).await {
            if is_first {
                tracing::warn!(error = one_line(&error), "cannot renew the node's lease; trying on");
            }
            is_first = false;
            sleep(RETRY).await;
        }
    }
}

async fn renew(core: &Core) -> Result<(), kube::Error> {
    let api = Api::<Lease>::namespaced(core.client.clone(), NAMESPACE);
    let spec = LeaseSpec {
        holder_identity: Some(core.node_name.clone()),
        lease_duration_seconds: Some(DURATION_SECONDS),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    };
    let patch = Patch::Merge(json!({"spec": spec}));
    match api.patch(&core.node_name, &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let lease = Lease { metadata: metadata(core).await?, spec: Some(spec) };
            api.create(&PostParams::default(), &lease).await.map(drop)
        }
        result => result.map(drop),
    }
}

/// The lease goes with its node.
async fn metadata(core: &Core) -> Result<ObjectMeta, kube::Error> {
    let node = Api::<Node>::all(core.client.clone()).get(&core.node_name).await?;
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.name_any(),
        uid: node.uid().unwrap_or_default(),
        ..OwnerReference::default()
    };
    Ok(ObjectMeta {
        name: Some(core.node_name.clone()),
        namespace: Some(NAMESPACE.to_owned()),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    })
}
