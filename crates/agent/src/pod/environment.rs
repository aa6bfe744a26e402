//! The environment of a container, and what its command makes of it: pure functions, given what they refer to.

mod expand;
mod services;

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, Pod, Secret, Service};
use kube::ResourceExt;
use thiserror::Error;

use super::spec;
pub(super) use expand::expand;

/// Why a container's environment cannot be made up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum EnvironmentError {
    #[error("{kind} {name:?} not found")]
    NoObject { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {name}")]
    NoKey { kind: &'static str, name: String, key: String },
    #[error("key {key} in {kind} {name} is no text, which a variable has to be")]
    NoText { kind: &'static str, name: String, key: String },
    #[error(
        "variable {variable} refers to {what}, which is not supported; known are metadata.name, .namespace, .uid, \
             .labels['KEY'] and .annotations['KEY'], spec.nodeName, spec.serviceAccountName, status.podIP, .podIPs, .hostIP \
             and .hostIPs"
    )]
    Unsupported { variable: String, what: String },
}

/// What an environment refers to. Objects that were looked for and are not there are missing in the maps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    pub(crate) config_maps: BTreeMap<String, ConfigMap>,
    pub(crate) secrets: BTreeMap<String, Secret>,
    /// Of the pod's namespace, and `default/kubernetes`.
    pub(crate) services: Vec<Service>,
    pub(crate) pod_ips: Vec<IpAddr>,
    pub(crate) host_ips: Vec<IpAddr>,
}

/// The names of config maps and of secrets that a container's environment refers to.
pub(super) fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut config_maps, mut secrets) = (Vec::new(), Vec::new());
    for from in container.env_from.iter().flatten() {
        config_maps.extend(from.config_map_ref.iter().map(|reference| reference.name.clone()));
        secrets.extend(from.secret_ref.iter().map(|reference| reference.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        config_maps.extend(source.config_map_key_ref.iter().map(|reference| reference.name.clone()));
        secrets.extend(source.secret_key_ref.iter().map(|reference| reference.name.clone()));
    }
    (config_maps, secrets)
}

/// All variables of a container, each once: those of services first, then `envFrom`, then `env`, later ones in the place of
/// earlier ones.
///
/// # Errors
/// When something is referred to that is not there, and that is not optional.
pub(super) fn variables(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
) -> Result<Vec<(String, String)>, EnvironmentError> {
    let mut all = Variables::default();
    for (name, value) in identity(pod, sources) {
        all.set(name, value);
    }
    let links = spec::spec(pod).enable_service_links != Some(false);
    for (name, value) in services::variables(&sources.services, &pod.namespace().unwrap_or_default(), links) {
        all.set(&name, value);
    }
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        for (key, value) in whole_object(from, sources)? {
            all.set(&format!("{prefix}{key}"), value);
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            None => Some(expand(variable.value.as_deref().unwrap_or_default(), |name| all.get(name))),
            Some(source) => referred(pod, variable, source, sources)?,
        };
        if let Some(value) = value {
            all.set(&variable.name, value);
        }
    }
    Ok(all.0)
}

/// In the order of definition.
#[derive(Debug, Default)]
struct Variables(Vec<(String, String)>);

impl Variables {
    fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some(known) => known.1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Who it is: what built-in images tell of themselves, and nothing that a pod could not ask for by itself.
fn identity(pod: &Pod, sources: &Sources) -> [(&'static str, String); 4] {
    [
        ("POD_NAME", pod.name_any()),
        ("POD_NAMESPACE", pod.namespace().unwrap_or_default()),
        ("POD_IP", first(&sources.pod_ips)),
        ("NODE_NAME", spec::spec(pod).node_name.clone().unwrap_or_default()),
    ]
}

fn whole_object(
    from: &k8s_openapi::api::core::v1::EnvFromSource,
    sources: &Sources,
) -> Result<Vec<(String, String)>, EnvironmentError> {
    if let Some(reference) = &from.config_map_ref {
        return match sources.config_maps.get(&reference.name) {
            Some(map) => Ok(map.data.clone().unwrap_or_default().into_iter().collect()),
            None if reference.optional == Some(true) => Ok(Vec::new()),
            None => Err(EnvironmentError::NoObject { kind: "configmap", name: reference.name.clone() }),
        };
    }
    if let Some(reference) = &from.secret_ref {
        return match sources.secrets.get(&reference.name) {
            Some(secret) => {
                let texts = secret.data.iter().flatten();
                // What is no text is left out, as with names that are none.
                Ok(texts
                    .filter_map(|(key, value)| Some((key.clone(), String::from_utf8(value.0.clone()).ok()?)))
                    .collect())
            }
            None if reference.optional == Some(true) => Ok(Vec::new()),
            None => Err(EnvironmentError::NoObject { kind: "secret", name: reference.name.clone() }),
        };
    }
    Ok(Vec::new())
}

/// `None` for something optional that is not there.
fn referred(
    pod: &Pod,
    variable: &EnvVar,
    source: &EnvVarSource,
    sources: &Sources,
) -> Result<Option<String>, EnvironmentError> {
    if let Some(reference) = &source.field_ref {
        let value = field(pod, &reference.field_path, sources);
        return value.map(Some).ok_or_else(|| EnvironmentError::Unsupported {
            variable: variable.name.clone(),
            what: format!("field {}", reference.field_path),
        });
    }
    if let Some(reference) = &source.config_map_key_ref {
        let object = sources.config_maps.get(&reference.name);
        let value = object.map(|map| map.data.as_ref().and_then(|data| data.get(&reference.key)).cloned());
        return found(value, "configmap", &reference.name, &reference.key, reference.optional);
    }
    if let Some(reference) = &source.secret_key_ref {
        let object = sources.secrets.get(&reference.name);
        let value = object.map(|secret| secret.data.as_ref().and_then(|data| data.get(&reference.key)));
        let (kind, name, key) = ("secret", reference.name.clone(), reference.key.clone());
        let text = |bytes: &k8s_openapi::ByteString| {
            String::from_utf8(bytes.0.clone()).map_err(|_| EnvironmentError::NoText { kind, name, key })
        };
        let value = match value {
            Some(Some(bytes)) => Some(Some(text(bytes)?)),
            other => other.map(|_| None),
        };
        return found(value, "secret", &reference.name, &reference.key, reference.optional);
    }
    let what = if source.resource_field_ref.is_some() { "resources of a container" } else { "nothing known" };
    Err(EnvironmentError::Unsupported { variable: variable.name.clone(), what: what.to_owned() })
}

/// The outer `None` is a missing object, the inner one a missing key.
fn found(
    value: Option<Option<String>>,
    kind: &'static str,
    name: &str,
    key: &str,
    optional: Option<bool>,
) -> Result<Option<String>, EnvironmentError> {
    match value {
        Some(Some(value)) => Ok(Some(value)),
        _ if optional == Some(true) => Ok(None),
        None => Err(EnvironmentError::NoObject { kind, name: name.to_owned() }),
        Some(None) => Err(EnvironmentError::NoKey { kind, name: name.to_owned(), key: key.to_owned() }),
    }
}

/// A field of a pod, by the paths that the downward API has for variables.
pub(crate) fn field(pod: &Pod, path: &str, sources: &Sources) -> Option<String> {
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    Some(match path {
        "metadata.name" => pod.name_any(),
        "metadata.namespace" => pod.namespace().unwrap_or_default(),
        "metadata.uid" => pod.uid().unwrap_or_default(),
        "spec.nodeName" => text(spec::spec(pod).node_name.as_ref()),
        "spec.serviceAccountName" => text(spec::spec(pod).service_account_name.as_ref()),
        "status.podIP" => first(&sources.pod_ips),
        "status.podIPs" => all(&sources.pod_ips),
        "status.hostIP" => first(&sources.host_ips),
        "status.hostIPs" => all(&sources.host_ips),
        path => {
            let (map, key) = path.strip_suffix("']")?.split_once("['")?;
            match map {
                "metadata.labels" => text(pod.labels().get(key)),
                "metadata.annotations" => text(pod.annotations().get(key)),
                _ => return None,
            }
        }
    })
}

fn first(addresses: &[IpAddr]) -> String {
    addresses.first().map(ToString::to_string).unwrap_or_default()
}

fn all(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
