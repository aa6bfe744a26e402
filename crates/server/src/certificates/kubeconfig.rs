//! The administrator's kubeconfig: where the server is, how to trust it, and who one is, all in one file.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::{CertificateError, Pair, files};

/// The name of the cluster, the user and the context.
const NAME: &str = "switchyard";

/// Writes the kubeconfig. A file that has other clusters, users or contexts keeps them, and its current context.
///
/// # Errors
/// When it cannot be written, or what is there is no kubeconfig.
pub fn write(path: &Path, server: &str, authority: &str, client: &Pair) -> Result<(), CertificateError> {
    let old = match files::read(path)? {
        Some(text) if !text.trim().is_empty() => read(&text).ok_or_else(|| {
            let cause = "it is no kubeconfig; name another file with --kubeconfig-out";
            CertificateError::file("adding to", path, cause)
        })?,
        _ => Map::new(),
    };
    let new = merge(old.clone(), server, authority, client);
    if new == old {
        return Ok(());
    }
    let text = serde_saphyr::to_string(&Value::Object(new))
        .map_err(|error| CertificateError::file("writing", path, error))?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        files::make_directory(parent)?;
    }
    files::write_private(path, text.as_bytes())
}

fn read(text: &str) -> Option<Map<String, Value>> {
    let value: Value = serde_saphyr::from_str(text).ok()?;
    let Value::Object(config) = value else { return None };
    let is_kubeconfig = config.get("kind").is_none_or(|kind| kind == "Config");
    is_kubeconfig.then_some(config)
}

fn merge(mut config: Map<String, Value>, server: &str, authority: &str, client: &Pair) -> Map<String, Value> {
    let data = |pem: &str| BASE64_STANDARD.encode(pem);
    let cluster = json!({"server": server, "certificate-authority-data": data(authority)});
    let user =
        json!({"client-certificate-data": data(&client.certificate), "client-key-data": data(&client.key)});
    config.insert("apiVersion".to_owned(), "v1".into());
    config.insert("kind".to_owned(), "Config".into());
    put(&mut config, "clusters", "cluster", cluster);
    put(&mut config, "users", "user", user);
    put(&mut config, "contexts", "context", json!({"cluster": NAME, "user": NAME}));
    let current = config.entry("current-context").or_insert_with(|| NAME.into());
    if current.as_str().is_none_or(str::is_empty) {
        *current = NAME.into();
    }
    config
}

/// Replaces the entry of our name, or adds it.
fn put(config: &mut Map<String, Value>, list: &str, field: &str, value: Value) {
    let entry = json!({"name": NAME, field: value});
    let entries = config.entry(list).or_insert_with(|| json!([]));
    if !entries.is_array() {
        *entries = json!([]);
    }
    let Value::Array(entries) = entries else { return };
    match entries.iter_mut().find(|entry| entry.get("name").is_some_and(|name| name == NAME)) {
        Some(own) => *own = entry,
        None => entries.push(entry),
    }
}
