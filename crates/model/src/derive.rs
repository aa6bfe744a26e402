//! From a Service to its service ports in one address family.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use switchyard_api::address::{parse_cidr, parse_ip};
use switchyard_api::{IpFamily, ObjectKey, Service, ServiceSpec, ServiceType, TrafficPolicy, label};

use crate::{Problem, ServicePort, ServicePortName};

/// The ports of one Service in one family.
pub type ServicePorts = BTreeMap<ServicePortName, ServicePort>;

/// The ports that `service` has in `family`, and what had to be left out. Services that are headless, names only,
/// another proxy's, or without an address of the family have none.
///
/// Without `allow_external_ips` no external IP is served; the service still counts as externally accessible, as
/// upstream has it.
pub fn service_ports(
    service: &Service,
    family: IpFamily,
    allow_external_ips: bool,
) -> (ServicePorts, Vec<Problem>) {
    let mut problems = Vec::new();
    let spec = &service.spec;
    let foreign = service.metadata.labels.contains(label::SERVICE_PROXY_NAME);
    let virtual_address = !matches!(&*spec.cluster_ip, "" | "None");
    if foreign || !virtual_address || spec.service_type == ServiceType::ExternalName {
        return (ServicePorts::new(), problems);
    }
    let mut reader = Reader { service: service.metadata.key(), family, problems: &mut problems };
    let Some(cluster_ip) = reader.cluster_ip(spec) else {
        return (ServicePorts::new(), problems);
    };
    let external_ips = reader.addresses(spec.external_ips.iter().map(|ip| &**ip));
    let ingress =
        service.status.ingress().iter().filter(|i| i.ip_mode.as_deref().is_none_or(|mode| mode == "VIP"));
    let load_balancer_ips = reader.addresses(ingress.map(|i| &*i.ip));
    let source_ranges = reader.source_ranges(spec);
    let external_policy = external_policy(spec);
    let health_check_node_port = reader.health_check_node_port(spec, external_policy);
    let key = reader.service;

    let ports = spec.ports.iter().map(|port| {
        let name = ServicePortName { service: key.clone(), port: port.name.clone(), protocol: port.protocol };
        let exposed = port.node_port != 0 || !load_balancer_ips.is_empty() || !external_ips.is_empty();
        let service_port = ServicePort {
            cluster_ip,
            port: port.port,
            protocol: port.protocol,
            node_port: (port.node_port != 0).then_some(port.node_port),
            external_ips: if allow_external_ips { external_ips.clone() } else { Vec::new() },
            load_balancer_ips: load_balancer_ips.clone(),
            source_ranges: source_ranges.clone(),
            health_check_node_port,
            affinity_seconds: spec.affinity_seconds(),
            internal_policy: spec.internal_traffic_policy,
            external_policy,
            externally_accessible: exposed,
        };
        (name, service_port)
    });
    (ports.collect(), problems)
}

/// Only types that can be reached from outside have an external policy.
fn external_policy(spec: &ServiceSpec) -> TrafficPolicy {
    let counts = match spec.service_type {
        ServiceType::NodePort | ServiceType::LoadBalancer => true,
        ServiceType::ClusterIP => !spec.external_ips.is_empty(),
        ServiceType::ExternalName => false,
    };
    if counts { spec.external_traffic_policy } else { TrafficPolicy::Cluster }
}

/// Reads the text fields of a Service for one family, noting what is broken.
struct Reader<'a> {
    service: ObjectKey,
    family: IpFamily,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn cluster_ip(&mut self, spec: &ServiceSpec) -> Option<IpAddr> {
        let text = if spec.ip_families.is_empty() {
            &spec.cluster_ip
        } else {
            let position = spec.ip_families.iter().position(|family| *family == self.family)?;
            // Objects written before dual stack, and by hand, have the plural field empty.
            match spec.cluster_ips.get(position) {
                Some(ip) => ip,
                None if position == 0 => &spec.cluster_ip,
                None => return None,
            }
        };
        let Some(ip) = parse_ip(text) else {
            self.problems.push(Problem::InvalidClusterIp { service: self.service.clone(), ip: text.clone() });
            return None;
        };
        (IpFamily::of(ip) == self.family).then_some(ip)
    }

    fn addresses<'t>(&mut self, texts: impl Iterator<Item = &'t str>) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        for text in texts.filter(|text| !text.trim().is_empty()) {
            match parse_ip(text) {
                Some(ip) if IpFamily::of(ip) == self.family => addresses.push(ip),
                Some(_) => {}
                None => {
                    let (service, ip) = (self.service.clone(), text.into());
                    self.problems.push(Problem::InvalidIp { service, ip });
                }
            }
        }
        addresses
    }

    /// Empty means everybody: also where one of the ranges is everybody.
    fn source_ranges(&mut self, spec: &ServiceSpec) -> Vec<IpNet> {
        let mut ranges = Vec::new();
        let mut everybody = false;
        for text in spec.load_balancer_source_ranges.iter().map(|text| text.trim()).filter(|t| !t.is_empty())
        {
            match parse_cidr(text) {
                Some(range) if IpFamily::of_net(&range) != self.family => {}
                Some(range) if range.prefix_len() == 0 => everybody = true,
                Some(range) => ranges.push(range),
                None => {
                    let (service, cidr) = (self.service.clone(), text.into());
                    self.problems.push(Problem::InvalidCidr { service, cidr });
                }
            }
        }
        if everybody { Vec::new() } else { ranges }
    }

    fn health_check_node_port(&mut self, spec: &ServiceSpec, policy: TrafficPolicy) -> Option<u16> {
        if spec.service_type != ServiceType::LoadBalancer || policy != TrafficPolicy::Local {
            return None;
        }
        if spec.health_check_node_port == 0 {
            self.problems.push(Problem::NoHealthCheckNodePort { service: self.service.clone() });
            return None;
        }
        Some(spec.health_check_node_port)
    }
}

#[cfg(test)]
mod tests;
