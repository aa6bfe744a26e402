//! Which agent has a pod's logs and processes, and by what path.

use serde_json::Value;

use super::{Destination, Security};
use crate::http::Query;
use crate::object::Object;
use crate::status::{ApiError, Subject};

/// The container that commands mean where none is named.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// Of an agent that has not told its port.
const AGENT_PORT: u16 = 10250;
/// The kinds of node addresses that lead there, the best first.
const ADDRESS_TYPES: [&str; 3] = ["InternalIP", "ExternalIP", "Hostname"];
/// Parameters of `log` that are the agent's to understand.
const LOG_PARAMETERS: [&str; 8] =
    ["follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream"];
/// What clients call the streams of a command, and what agents call them.
const STREAMS: [(&str, &str); 4] =
    [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];

/// The nodes, by name.
pub trait Agents {
    fn node(&self, name: &str) -> Option<Object>;
}

/// Where a subresource of a pod is answered: `log`, `exec`, `attach` or `portforward`.
///
/// # Errors
/// 400 if the pod is on no node, or its container is not clear; 404 if the node is gone.
pub fn locate(
    pod: &Object,
    subresource: &str,
    query: &Query,
    agents: &dyn Agents,
) -> Result<Destination, ApiError> {
    let node = pod.text(&["spec", "nodeName"]);
    if node.is_empty() {
        return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", pod.name())));
    }
    let subject = Subject { group: "", kind: "nodes", name: node };
    let agent = agents.node(node).ok_or_else(|| ApiError::not_found(subject))?;
    let place = |verb: &str| format!("/{verb}/{}/{}", pod.namespace(), pod.name());
    let (path, parameters) = match subresource {
        "log" => (format!("{}/{}", place("containerLogs"), container(pod, query)?), log_parameters(query)?),
        "portforward" => (place("portForward"), copied(query, &["ports"])),
        verb => (format!("{}/{}", place(verb), container(pod, query)?), command_parameters(query)),
    };
    let parameters = encoded(&parameters);
    Ok(Destination {
        path: if parameters.is_empty() { path } else { format!("{path}?{parameters}") },
        ..of_node(&agent)?
    })
}

/// A node's agent.
pub(super) fn of_node(node: &Object) -> Result<Destination, ApiError> {
    let addresses = node.list(&["status", "addresses"]);
    let of_type = |kind: &str| {
        addresses
            .iter()
            .find(|address| address["type"] == kind)
            .and_then(|address| address["address"].as_str())
    };
    let host = ADDRESS_TYPES.iter().find_map(|kind| of_type(kind)).ok_or_else(|| {
        ApiError::unavailable(format!(
            "node {} has told no address by which its agent is reached",
            node.name()
        ))
    })?;
    let port = node.at(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]).and_then(Value::as_u64);
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    Ok(Destination {
        name: format!("the agent of {}", node.name()),
        host: host.to_owned(),
        port: port.unwrap_or(AGENT_PORT),
        security: Security::Agent,
        path: String::new(),
    })
}

fn container(pod: &Object, query: &Query) -> Result<String, ApiError> {
    let names = |list: &str| -> Vec<String> {
        let containers = pod.list(&["spec", list]).iter();
        containers.filter_map(|container| Some(container["name"].as_str()?.to_owned())).collect()
    };
    let (own, first, later) = (names("containers"), names("initContainers"), names("ephemeralContainers"));
    let wanted = query.get("container");
    if !wanted.is_empty() {
        let all = own.iter().chain(&first).chain(&later);
        let found = all.into_iter().find(|name| *name == wanted).cloned();
        let message = || format!("container {wanted} is not valid for pod {}", pod.name());
        return found.ok_or_else(|| ApiError::bad_request(message()));
    }
    let usual = pod.annotations().get(DEFAULT_CONTAINER).map(|name| (*name).to_owned());
    match (&own[..], usual.filter(|usual| own.contains(usual))) {
        (_, Some(usual)) => Ok(usual),
        ([only], None) => Ok(only.clone()),
        _ => {
            let mut message = format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                pod.name(),
                own.join(" ")
            );
            if !first.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", first.join(" ")));
            }
            Err(ApiError::bad_request(message))
        }
    }
}

fn log_parameters(query: &Query) -> Result<Vec<(String, String)>, ApiError> {
    if query.given("sinceSeconds").is_some() && query.given("sinceTime").is_some() {
        let message = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        return Err(ApiError::bad_request(message));
    }
    Ok(copied(query, &LOG_PARAMETERS))
}

fn command_parameters(query: &Query) -> Vec<(String, String)> {
    let mut parameters = copied(query, &["command"]);
    let set = STREAMS.iter().filter(|(name, _)| query.is_set(name));
    parameters.extend(set.map(|(_, name)| ((*name).to_owned(), "1".to_owned())));
    parameters
}

fn copied(query: &Query, names: &[&str]) -> Vec<(String, String)> {
    query.0.iter().filter(|(name, _)| names.contains(&name.as_str())).cloned().collect()
}

fn encoded(parameters: &[(String, String)]) -> String {
    let pair = |(name, value): &(String, String)| format!("{}={}", escaped(name), escaped(value));
    parameters.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// Everything but what RFC 3986 leaves unreserved, percent-encoded.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::object;

    struct OneNode;

    impl Agents for OneNode {
        fn node(&self, name: &str) -> Option<Object> {
            (name == "n1").then(|| {
                object(json!({"metadata": {"name": "n1"}, "status": {
                    "addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.0.0.1"}],
                    "daemonEndpoints": {"kubeletEndpoint": {"Port": 10259}},
                }}))
            })
        }
    }

    fn pod(node: &str, containers: &[&str]) -> Object {
        let containers: Vec<Value> = containers.iter().map(|name| json!({"name": name})).collect();
        object(json!({
            "metadata": {"name": "p", "namespace": "ns"},
            "spec": {"nodeName": node, "containers": containers, "initContainers": [{"name": "init"}]},
        }))
    }

    fn path(pod: &Object, subresource: &str, query: &str) -> Result<String, String> {
        let found = locate(pod, subresource, &Query::parse(query), &OneNode);
        found.map(|destination| destination.path).map_err(|error| error.message)
    }

    #[test]
    fn each_subresource_has_its_path_at_the_agent() {
        let pod = pod("n1", &["c"]);
        let destination = locate(&pod, "log", &Query::parse(""), &OneNode).unwrap();
        assert_eq!((destination.host.as_str(), destination.port), ("10.0.0.1", 10259));
        assert_eq!(
            path(&pod, "log", "follow=true&tailLines=3&x=y&pretty=1").unwrap(),
            "/containerLogs/ns/p/c?follow=true&tailLines=3"
        );
        assert_eq!(
            path(&pod, "exec", "command=sh&command=-c&command=a%26b+c&stdin=true&stdout=1&stderr=0&tty")
                .unwrap(),
            "/exec/ns/p/c?command=sh&command=-c&command=a%26b%20c&input=1&output=1&tty=1"
        );
        assert_eq!(path(&pod, "attach", "stdout=1&container=init").unwrap(), "/attach/ns/p/init?output=1");
        assert_eq!(path(&pod, "portforward", "ports=80").unwrap(), "/portForward/ns/p?ports=80");
    }

    #[test]
    fn a_container_has_to_be_clear() {
        let two = pod("n1", &["a", "b"]);
        assert_eq!(
            path(&two, "exec", "").unwrap_err(),
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [init]"
        );
        assert_eq!(path(&two, "log", "container=c").unwrap_err(), "container c is not valid for pod p");
        let mut usual = two.clone();
        usual.set(&["metadata", "annotations", DEFAULT_CONTAINER], "b");
        assert_eq!(path(&usual, "log", "").unwrap(), "/containerLogs/ns/p/b");
    }

    #[test]
    fn what_is_nowhere_has_no_agent() {
        assert_eq!(path(&pod("", &["a"]), "log", "").unwrap_err(), "pod p does not have a host assigned");
        assert_eq!(path(&pod("n2", &["a"]), "log", "").unwrap_err(), "nodes \"n2\" not found");
        assert_eq!(
            path(&pod("n1", &["a"]), "log", "sinceSeconds=1&sinceTime=x").unwrap_err(),
            "at most one of `sinceTime` or `sinceSeconds` may be specified"
        );
    }
}
