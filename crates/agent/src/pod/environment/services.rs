//! Variables that tell of services, from the time before cluster DNS: `WEB_SERVICE_HOST` and those of Docker's links.

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;

/// The services of the pod's namespace if it wants such links, and the API itself in any case.
pub(super) fn variables(services: &[Service], namespace: &str, links: bool) -> Vec<(String, String)> {
    let is_api = |service: &Service| {
        service.namespace().as_deref() == Some("default") && service.name_any() == "kubernetes"
    };
    // A service of the pod's own namespace goes before one of the same name elsewhere.
    let (api, own): (Vec<&Service>, Vec<&Service>) = services.iter().partition(|service| is_api(service));
    let own = own.into_iter().filter(|service| links && service.namespace().as_deref() == Some(namespace));
    api.into_iter().chain(own).flat_map(of_service).collect()
}

fn of_service(service: &Service) -> Vec<(String, String)> {
    let spec = service.spec.clone().unwrap_or_default();
    let address = spec.cluster_ip.unwrap_or_default();
    let ports = spec.ports.unwrap_or_default();
    let Some(first) = ports.first() else { return Vec::new() };
    if address.is_empty() || address == "None" {
        return Vec::new();
    }
    let name = variable_name(&service.name_any());
    let host = if address.contains(':') { format!("[{address}]") } else { address.clone() };
    let mut all = vec![
        (format!("{name}_SERVICE_HOST"), address.clone()),
        (format!("{name}_SERVICE_PORT"), first.port.to_string()),
    ];
    for port in &ports {
        if let Some(port_name) = port.name.as_deref().filter(|port_name| !port_name.is_empty()) {
            all.push((format!("{name}_SERVICE_PORT_{}", variable_name(port_name)), port.port.to_string()));
        }
    }
    for (i, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if i == 0 {
            all.push((format!("{name}_PORT"), url.clone()));
        }
        let prefix = format!("{name}_PORT_{}_{protocol}", port.port);
        all.push((prefix.clone(), url));
        all.push((format!("{prefix}_PROTO"), protocol.to_lowercase()));
        all.push((format!("{prefix}_PORT"), port.port.to_string()));
        all.push((format!("{prefix}_ADDR"), address.clone()));
    }
    all
}

fn variable_name(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}
