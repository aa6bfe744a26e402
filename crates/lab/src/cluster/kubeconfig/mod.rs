//! The user's kubeconfig: a lab's entries go in and out, and everything else stays what it was.
//!
//! Each entry of ours carries an extension that says so. One of the same name without it is somebody else's and is never
//! touched.

mod file;

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use thiserror::Error;

pub(super) use file::{add, current_lab, default_path, missing, remove_from};

/// The name of the extension that marks an entry.
const MARK: &str = "switchyard-lab";
/// What the names of all entries begin with.
const PREFIX: &str = "switchyard-";
/// The lists of a kubeconfig, with what an entry of each is called.
const LISTS: [(&str, &str); 3] = [("clusters", "cluster"), ("contexts", "context"), ("users", "user")];

/// A kubeconfig that could not be read or changed.
#[derive(Debug, Error)]
pub enum KubeconfigError {
    #[error("{doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{} is no kubeconfig: {why}; name another file with --kubeconfig", path.display())]
    Unreadable { path: PathBuf, why: String },
    #[error("{} has a {kind} {name:?} that `switchyard up` did not make; rename or remove it, or choose another --name or \
             --kubeconfig", path.display())]
    Taken { path: PathBuf, kind: &'static str, name: String },
    #[error("another program is changing {}; if none is, remove {}", path.display(), lock.display())]
    Locked { path: PathBuf, lock: PathBuf },
}

/// How to reach a cluster, and as whom. The values in base64, as kubeconfigs have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) server: String,
    pub(super) authority: String,
    pub(super) identity: Identity,
}

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Identity {
    Certificate { certificate: String, key: String },
    Token(String),
}

/// An entry of our name that is not ours: its list's word, as in `context`.
#[derive(Debug, PartialEq, Eq)]
struct NotOurs(&'static str);

/// The name of a lab's entries.
pub(super) fn entry_name(lab: &str) -> String {
    format!("{PREFIX}{lab}")
}

fn lab_of_entry(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX)
}

/// A kubeconfig with nothing but this access in it, as YAML.
pub(super) fn alone(lab: &str, access: &Access) -> String {
    // Nothing of ours is in an empty one, so nothing can be in the way.
    let config = merge(Map::new(), lab, access).unwrap_or_default();
    text(&config)
}

/// Adds the entries of a lab, or replaces them, and makes its context the current one.
fn merge(mut config: Map<String, Value>, lab: &str, access: &Access) -> Result<Map<String, Value>, NotOurs> {
    check(&config, lab)?;
    let name = entry_name(lab);
    let extensions = json!([{"name": MARK, "extension": {"lab": lab}}]);
    let cluster = json!({
        "certificate-authority-data": access.authority, "server": access.server, "extensions": extensions,
    });
    let context = json!({"cluster": name, "user": name, "extensions": extensions});
    let mut user = match &access.identity {
        Identity::Certificate { certificate, key } => {
            json!({"client-certificate-data": certificate, "client-key-data": key})
        }
        Identity::Token(token) => json!({"token": token}),
    };
    user["extensions"] = extensions;
    config.entry("apiVersion").or_insert_with(|| "v1".into());
    config.entry("kind").or_insert_with(|| "Config".into());
    for ((list, field), value) in LISTS.into_iter().zip([cluster, context, user]) {
        let entry = json!({"name": name, field: value});
        match config.get_mut(list) {
            Some(Value::Array(entries)) => match entries.iter_mut().find(|entry| entry["name"] == *name) {
                Some(own) => *own = entry,
                None => entries.push(entry),
            },
            // Missing, or null, as kubectl leaves an empty list.
            _ => drop(config.insert(list.to_owned(), json!([entry]))),
        }
    }
    config.insert("current-context".to_owned(), name.into());
    Ok(config)
}

/// Takes the entries of a lab away, as far as they are ours.
fn remove(mut config: Map<String, Value>, lab: &str) -> Map<String, Value> {
    let name = entry_name(lab);
    for (list, field) in LISTS {
        let Some(Value::Array(entries)) = config.get_mut(list) else { continue };
        let count = entries.len();
        entries.retain(|entry| entry["name"] != *name || !is_ours(&entry[field]));
        let removed = entries.len() < count;
        if removed && list == "contexts" && config.get("current-context") == Some(&name.clone().into()) {
            config.insert("current-context".to_owned(), "".into());
        }
    }
    config
}

/// Whether every entry of the lab's name is ours.
fn check(config: &Map<String, Value>, lab: &str) -> Result<(), NotOurs> {
    let name = entry_name(lab);
    for (list, field) in LISTS {
        let entries = config.get(list).and_then(Value::as_array).into_iter().flatten();
        let mut same = entries.filter(|entry| entry["name"] == *name);
        if same.any(|entry| !is_ours(&entry[field])) {
            return Err(NotOurs(field));
        }
    }
    Ok(())
}

fn is_ours(body: &Value) -> bool {
    let extensions = body["extensions"].as_array().into_iter().flatten();
    extensions.into_iter().any(|extension| extension["name"] == MARK)
}

/// Whether it says nothing.
fn is_empty(config: &Map<String, Value>) -> bool {
    let says_nothing = |value: &Value| match value {
        Value::Array(entries) => entries.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        other => other.is_null(),
    };
    let frame = ["apiVersion", "kind"];
    config.iter().all(|(field, value)| frame.contains(&field.as_str()) || says_nothing(value))
}

/// As YAML. A value made of maps, lists, numbers and strings always has such a text.
fn text(config: &Map<String, Value>) -> String {
    serde_saphyr::to_string(config).unwrap_or_default()
}

#[cfg(test)]
mod tests;
