//! Objects of the API, as JSON manifests of one file each.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// A Service of the namespace `default`.
#[must_use]
pub fn service(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    })
}

/// A Service of type ClusterIP with the port 80 named `http`.
#[must_use]
pub fn cluster_ip_service(name: &str, cluster_ip: &str) -> Value {
    let ports = json!([{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]);
    service(name, &json!({"type": "ClusterIP", "clusterIP": cluster_ip, "ports": ports}))
}

/// An IPv4 EndpointSlice of a Service.
#[must_use]
pub fn slice(name: &str, service: &str, ports: &Value, endpoints: &[Value]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": endpoints,
    })
}

/// The EndpointSlice that fits [`cluster_ip_service`], with ready endpoints.
#[must_use]
pub fn http_slice(service: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> = addresses.iter().map(|address| ready(address)).collect();
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    slice(&format!("{service}-1"), service, &ports, &endpoints)
}

/// A ready endpoint.
#[must_use]
pub fn ready(address: &str) -> Value {
    json!({"addresses": [address], "conditions": {"ready": true}})
}

/// Writes an object into a folder of manifests, replacing the file at once. Its file is named after kind and
/// name.
///
/// # Errors
/// When the folder cannot be written.
pub fn put(folder: &Path, object: &Value) -> Result<()> {
    let path = path(folder, object);
    // A name with a leading dot is none of the proxy's business.
    let unfinished = folder.join(".unfinished");
    fs::write(&unfinished, object.to_string())
        .with_context(|| format!("writing {}", unfinished.display()))?;
    fs::rename(&unfinished, &path).with_context(|| format!("renaming to {}", path.display()))
}

/// Removes an object's file.
///
/// # Errors
/// When it is not there.
pub fn remove(folder: &Path, object: &Value) -> Result<()> {
    let path = path(folder, object);
    fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
}

fn path(folder: &Path, object: &Value) -> PathBuf {
    let kind = object["kind"].as_str().unwrap_or_default();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    folder.join(format!("{}-{name}.json", kind.to_lowercase()))
}

/// Copies all manifests of a folder into another.
///
/// # Errors
/// When one cannot be read or the other not be written.
pub fn copy_all(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
