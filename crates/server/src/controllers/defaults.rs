//! What every namespace has: a ServiceAccount for its pods, and the certificate by which they know the API server.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt};

use super::informer::Key;
use super::queue::{Queue, work};
use super::{Cluster, is_out_of_date, is_refused_by_namespace};

const ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";

pub(super) async fn run(client: Client, cluster: Arc<Cluster>, root_ca_pem: String) {
    let queue = Queue::default();
    let own = queue.clone();
    cluster.namespaces.on_change(move |change| {
        if let Some(namespace) = change.new {
            own.add(namespace.name_any());
        }
    });
    let own = queue.clone();
    cluster.service_accounts.on_change(move |change| {
        let gone = change.old.filter(|account| change.new.is_none() && account.name_any() == ACCOUNT);
        if let Some(namespace) = gone.and_then(ResourceExt::namespace) {
            own.add(namespace);
        }
    });
    let own = queue.clone();
    cluster.config_maps.on_change(move |change| {
        let ours = change.latest().filter(|map| map.name_any() == ROOT_CA);
        if let Some(namespace) = ours.and_then(ResourceExt::namespace) {
            own.add(namespace);
        }
    });
    cluster.synced().await;
    work(queue, 2, "defaults", |namespace| {
        let (client, cluster, root_ca_pem) = (client.clone(), cluster.clone(), root_ca_pem.clone());
        async move { sync(&client, &cluster, &namespace, &root_ca_pem).await }
    })
    .await;
}

async fn sync(
    client: &Client,
    cluster: &Cluster,
    namespace: &str,
    root_ca_pem: &str,
) -> Result<(), kube::Error> {
    let active = cluster.namespaces.get(&Key::new("", namespace));
    if active.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
        return Ok(());
    }
    if cluster.service_accounts.get(&Key::new(namespace, ACCOUNT)).is_none() {
        let account = ServiceAccount { metadata: named(ACCOUNT), ..ServiceAccount::default() };
        let api = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
        ignore_refused(api.create(&PostParams::default(), &account).await)?;
    }
    let data = BTreeMap::from([("ca.crt".to_owned(), root_ca_pem.to_owned())]);
    let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    match cluster.config_maps.get(&Key::new(namespace, ROOT_CA)) {
        Some(map) if map.data.as_ref() == Some(&data) => Ok(()),
        Some(map) => {
            let map = ConfigMap { data: Some(data), ..(*map).clone() };
            ignore_refused(api.replace(ROOT_CA, &PostParams::default(), &map).await)
        }
        None => {
            let map = ConfigMap { metadata: named(ROOT_CA), data: Some(data), ..ConfigMap::default() };
            ignore_refused(api.create(&PostParams::default(), &map).await)
        }
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

fn ignore_refused<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(error) if is_out_of_date(&error) || is_refused_by_namespace(&error) => Ok(()),
        result => result.map(drop),
    }
}
