//! What pods, services and nodes serve themselves: `services/[SCHEME:]NAME[:PORT]/proxy/PATH`.

use rand::seq::IndexedRandom;
use serde_json::Value;

use super::agent::{self, Agents};
use super::{Destination, Security};
use crate::object::Object;
use crate::status::{ApiError, Subject};

/// What there is to be asked.
pub trait Backends: Agents {
    fn object(&self, resource: &str, namespace: &str, name: &str) -> Option<Object>;
}

/// A name as these paths have it.
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    security: Security,
    name: &'a str,
    /// A number or a name; empty for none.
    port: &'a str,
}

/// Where `NAME/proxy/PATH` of pods, services and nodes leads; `path` with parameters, encoded, without a leading slash.
///
/// # Errors
/// 400 for a name that is none, 404 for what is not there, 503 for a service without an endpoint.
pub fn find(
    resource: &str,
    namespace: &str,
    id: &str,
    path: &str,
    backends: &dyn Backends,
) -> Result<Destination, ApiError> {
    let singular = resource.trim_end_matches('s');
    let named =
        parse(id).ok_or_else(|| ApiError::bad_request(format!("invalid {singular} request {id:?}")))?;
    let found = backends.object(resource, namespace, named.name);
    let object =
        found.ok_or_else(|| ApiError::not_found(Subject { group: "", kind: resource, name: named.name }))?;
    let path = format!("/{path}");
    match resource {
        "nodes" => Ok(Destination { path, ..agent::of_node(&object)? }),
        "pods" => of_pod(&object, &named, path),
        _ => of_service(&object, &named, path, backends),
    }
}

fn parse(id: &str) -> Option<Named<'_>> {
    let parts: Vec<&str> = id.split(':').collect();
    let (scheme, name, port) = match parts[..] {
        [name] => ("", name, ""),
        [name, port] => ("", name, port),
        [scheme, name, port] => (scheme, name, port),
        _ => return None,
    };
    let security = match scheme {
        "" | "http" => Security::None,
        "https" => Security::Unverified,
        _ => return None,
    };
    (!name.is_empty()).then_some(Named { security, name, port })
}

fn of_pod(pod: &Object, named: &Named<'_>, path: String) -> Result<Destination, ApiError> {
    let host = pod.text(&["status", "podIP"]);
    if host.is_empty() {
        return Err(ApiError::bad_request("address not allowed"));
    }
    let containers = pod.list(&["spec", "containers"]);
    let mut ports = containers.iter().filter_map(|container| container["ports"].as_array()).flatten();
    let port = match (named.port, named.port.parse::<u16>()) {
        // The first that it has; those of HTTP otherwise.
        ("", _) => ports.next().and_then(|port| number(port, "containerPort")).unwrap_or(80),
        (_, Ok(port)) => port,
        (name, Err(_)) => {
            let found =
                ports.find(|port| port["name"] == name).and_then(|port| number(port, "containerPort"));
            found.ok_or_else(|| ApiError::bad_request(format!("pod {} has no port {name:?}", named.name)))?
        }
    };
    let name = format!("pod {:?}", named.name);
    Ok(Destination { name, host: host.to_owned(), port, security: named.security, path })
}

fn of_service(
    service: &Object,
    named: &Named<'_>,
    path: String,
    backends: &dyn Backends,
) -> Result<Destination, ApiError> {
    let port_name = port_name(service, named)?;
    let namespace = service.namespace();
    let none = || ApiError::unavailable(format!("no endpoints available for service {:?}", named.name));
    let endpoints = backends.object("endpoints", namespace, named.name).ok_or_else(none)?;
    let is_there = |address: &&Value| {
        let (ip, pod) = (&address["ip"], &address["targetRef"]);
        let name = pod["name"].as_str().unwrap_or_default();
        let found = || backends.object("pods", namespace, name);
        pod["kind"] == "Pod"
            && found().is_some_and(|pod| pod.list(&["status", "podIPs"]).iter().any(|own| own["ip"] == *ip))
    };
    let mut candidates = Vec::new();
    for subset in endpoints.list(&["subsets"]) {
        let ports = subset["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
        let port = ports.iter().find(|port| port["name"].as_str().unwrap_or_default() == port_name);
        let Some(port) = port.and_then(|port| number(port, "port")) else { continue };
        let addresses = subset["addresses"].as_array().into_iter().flatten().filter(is_there);
        candidates.extend(addresses.filter_map(|address| Some((address["ip"].as_str()?, port))));
    }
    let (host, port) = candidates.choose(&mut rand::rng()).copied().ok_or_else(none)?;
    let name = format!("service {:?}", named.name);
    Ok(Destination { name, host: host.to_owned(), port, security: named.security, path })
}

/// The name that the endpoints' port has, by the name or the number of the service's.
fn port_name(service: &Object, named: &Named<'_>) -> Result<String, ApiError> {
    let ports = service.list(&["spec", "ports"]);
    let name = |port: &Value| port["name"].as_str().unwrap_or_default().to_owned();
    if let Ok(wanted) = named.port.parse::<u16>() {
        let found = ports.iter().find(|port| number(port, "port") == Some(wanted));
        let message = || format!("no service port {wanted} found for service {:?}", named.name);
        return found.map(name).ok_or_else(|| ApiError::unavailable(message()));
    }
    match (named.port, ports) {
        ("", [only]) => Ok(name(only)),
        (given, _) => Ok(given.to_owned()),
    }
}

fn number(port: &Value, field: &str) -> Option<u16> {
    port[field].as_u64().and_then(|number| number.try_into().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::object;

    struct Web;

    impl Agents for Web {
        fn node(&self, name: &str) -> Option<Object> {
            self.object("nodes", "", name)
        }
    }

    impl Backends for Web {
        fn object(&self, resource: &str, _namespace: &str, name: &str) -> Option<Object> {
            Some(object(match (resource, name) {
                ("services", "web" | "empty") => json!({
                    "metadata": {"name": name, "namespace": "ns"},
                    "spec": {"ports": [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]},
                }),
                ("endpoints", "web") => json!({"subsets": [{
                    "addresses": [
                        {"ip": "10.1.0.1", "targetRef": {"kind": "Pod", "name": "w"}},
                        {"ip": "127.0.0.1", "targetRef": {"kind": "Pod", "name": "w"}},
                        {"ip": "169.254.169.254"},
                    ],
                    "notReadyAddresses": [{"ip": "10.1.0.2"}],
                    "ports": [{"name": "http", "port": 8080}, {"name": "admin", "port": 8081}],
                }]}),
                ("pods", "w") => json!({
                    "metadata": {"name": "w"},
                    "spec": {"containers": [{"name": "c", "ports": [{"name": "m", "containerPort": 9090}]}]},
                    "status": {"podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}]},
                }),
                ("nodes", "n") => json!({
                    "metadata": {"name": "n"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
                }),
                _ => return None,
            }))
        }
    }

    fn leads(resource: &str, id: &str) -> Result<(String, u16, Security), String> {
        let found = find(resource, "ns", id, "a/b?c=d", &Web).map_err(|error| error.message)?;
        assert_eq!(found.path, "/a/b?c=d");
        Ok((found.host, found.port, found.security))
    }

    #[test]
    fn a_service_leads_to_a_ready_pod_that_has_the_address() {
        assert_eq!(leads("services", "web:http"), Ok(("10.1.0.1".into(), 8080, Security::None)));
        assert_eq!(leads("services", "web:81"), Ok(("10.1.0.1".into(), 8081, Security::None)));
        assert_eq!(leads("services", "https:web:http"), Ok(("10.1.0.1".into(), 8080, Security::Unverified)));
        assert_eq!(leads("services", "web:99"), Err("no service port 99 found for service \"web\"".into()));
        assert_eq!(leads("services", "empty:80"), Err("no endpoints available for service \"empty\"".into()));
        assert_eq!(leads("services", "web"), Err("no endpoints available for service \"web\"".into()));
        assert_eq!(leads("services", "ftp:web:80"), Err("invalid service request \"ftp:web:80\"".into()));
        assert_eq!(leads("services", "none"), Err("services \"none\" not found".into()));
    }

    #[test]
    fn pods_and_nodes_are_reached_at_their_own_addresses() {
        assert_eq!(leads("pods", "w"), Ok(("10.1.0.1".into(), 9090, Security::None)));
        assert_eq!(leads("pods", "w:80"), Ok(("10.1.0.1".into(), 80, Security::None)));
        assert_eq!(leads("pods", "w:m"), Ok(("10.1.0.1".into(), 9090, Security::None)));
        assert_eq!(leads("nodes", "n"), Ok(("10.0.0.1".into(), 10250, Security::Agent)));
    }
}
