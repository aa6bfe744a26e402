//! The quality of service of a pod: who is killed first when memory runs short.

use serde_json::Value;

use super::quantity::nanos;
use crate::object::Object;

/// `Guaranteed` if every container limits CPU and memory to what it requests, `BestEffort` if none says anything of
/// them.
pub(super) fn class(pod: &Object) -> &'static str {
    let containers = || pod.list(&["spec", "initContainers"]).iter().chain(pod.list(&["spec", "containers"]));
    let amount = |container: &Value, kind: &str, resource: &str| {
        let text = container.get("resources")?.get(kind)?.get(resource)?.as_str()?;
        nanos(text).filter(|amount| *amount != 0)
    };
    const KINDS: [&str; 2] = ["requests", "limits"];
    const RESOURCES: [&str; 2] = ["cpu", "memory"];
    let is_silent = |container: &Value| {
        KINDS.iter().all(|kind| RESOURCES.iter().all(|resource| amount(container, kind, resource).is_none()))
    };
    let is_bound = |container: &Value| {
        RESOURCES.iter().all(|resource| {
            let limit = amount(container, "limits", resource);
            limit.is_some() && limit == amount(container, "requests", resource)
        })
    };
    if containers().all(is_silent) {
        "BestEffort"
    } else if containers().all(is_bound) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::object;

    #[test]
    fn classes_follow_requests_and_limits() {
        let all = json!({"cpu": "1", "memory": "1Gi"});
        let cases = [
            (vec![json!({})], "BestEffort"),
            (vec![json!({"requests": {"cpu": "0"}})], "BestEffort"),
            (vec![json!({"requests": {"cpu": "1"}})], "Burstable"),
            (vec![json!({"requests": {"cpu": "1000m", "memory": "1Gi"}, "limits": all})], "Guaranteed"),
            (vec![json!({"requests": all, "limits": all}), json!({})], "Burstable"),
        ];
        for (containers, expected) in cases {
            let containers: Vec<Value> =
                containers.into_iter().map(|resources| json!({"resources": resources})).collect();
            let pod = object(json!({"spec": {"containers": containers}}));
            assert_eq!(class(&pod), expected, "{containers:?}");
        }
    }
}
