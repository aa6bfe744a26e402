//! What tests of several modules need.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// A pod of that spec, `default/web`, on node `node-1`.
pub(crate) fn pod(spec: Value) -> Pod {
    let mut spec = spec;
    spec["nodeName"] = json!("node-1");
    let pod = json!({
        "metadata": {"namespace": "default", "name": "web", "uid": "uid-1", "generation": 1},
        "spec": spec,
    });
    serde_json::from_value(pod).unwrap()
}
