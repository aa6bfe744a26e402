//! From a container of a spec to what the runtime is told: everything that the spec refers to is looked up.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, Service};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::environment::{self, EnvironmentError, Sources, expand};
use super::files;
use crate::core::Core;
use crate::runtime::ContainerSpec;

/// Why a container's spec cannot be made out.
#[derive(Debug, Error)]
pub(super) enum ResolveError {
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    #[error("writing /etc/hosts and /etc/resolv.conf of the pod")]
    Files(#[source] std::io::Error),
    #[error("reading {what}")]
    Api { what: String, source: kube::Error },
}

pub(super) async fn container_spec(
    core: &Core,
    pod: &Pod,
    container: &Container,
    pod_ips: &[IpAddr],
    restarts: u32,
) -> Result<ContainerSpec, ResolveError> {
    let sources = sources(core, pod, container, pod_ips).await?;
    let env = environment::variables(pod, container, &sources)?;
    let value = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let expanded =
        |texts: &Option<Vec<String>>| texts.iter().flatten().map(|text| expand(text, value)).collect();
    Ok(ContainerSpec {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().filter(|path| !path.is_empty()),
        restarts,
        mounts: files::write(&core.root_dir, pod, pod_ips, &core.dns).map_err(ResolveError::Files)?,
        tty: container.tty == Some(true),
        stdin: container.stdin == Some(true),
        env,
    })
}

async fn sources(
    core: &Core,
    pod: &Pod,
    container: &Container,
    pod_ips: &[IpAddr],
) -> Result<Sources, ResolveError> {
    let namespace = pod.namespace().unwrap_or_default();
    let (config_maps, secrets) = environment::references(container);
    Ok(Sources {
        config_maps: get_all::<ConfigMap>(&core.client, &namespace, "config map", config_maps).await?,
        secrets: get_all::<Secret>(&core.client, &namespace, "secret", secrets).await?,
        services: services(&core.client, &namespace).await?,
        pod_ips: pod_ips.to_vec(),
        host_ips: core.node_ips.clone(),
    })
}

/// Those of these objects that exist, by name.
pub(super) async fn get_all<K>(
    client: &Client,
    namespace: &str,
    kind: &str,
    mut names: Vec<String>,
) -> Result<BTreeMap<String, K>, ResolveError>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned,
    K: std::fmt::Debug,
{
    names.sort();
    names.dedup();
    let api = Api::<K>::namespaced(client.clone(), namespace);
    let mut found = BTreeMap::new();
    for name in names {
        let object = api.get_opt(&name).await;
        let object =
            object.map_err(|source| ResolveError::Api { what: format!("{kind} {name:?}"), source })?;
        found.extend(object.map(|object| (name, object)));
    }
    Ok(found)
}

async fn services(client: &Client, namespace: &str) -> Result<Vec<Service>, ResolveError> {
    let failed = |source| ResolveError::Api { what: "services".to_owned(), source };
    let own = Api::<Service>::namespaced(client.clone(), namespace);
    // Any recent state will do, which saves the store's.
    let own = own.list(&ListParams::default().match_any()).await.map_err(failed)?;
    let mut all = own.items;
    if namespace != "default" {
        let of_default = Api::<Service>::namespaced(client.clone(), "default");
        all.extend(of_default.get_opt("kubernetes").await.map_err(failed)?);
    }
    Ok(all)
}
