//! What the containers of a pod must be.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec, Probe, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::quantity::nanos;
use super::validation::extend;
use crate::field::FieldError;
use crate::resources::{PROTOCOLS, names};

const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";
const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

pub(super) fn check(spec: &PodSpec, path: &str, volumes: &BTreeSet<String>, errors: &mut Vec<FieldError>) {
    if spec.containers.is_empty() {
        errors.push(FieldError::required(format!("{path}.containers"), ""));
    }
    let mut checks = Checks {
        volumes,
        uses_host_network: spec.host_network == Some(true),
        names: BTreeSet::new(),
        host_ports: BTreeSet::new(),
        errors,
    };
    for (i, container) in spec.containers.iter().enumerate() {
        checks.container(container, &format!("{path}.containers[{i}]"));
        checks.claim_host_ports(container, &format!("{path}.containers[{i}]"));
    }
    for (i, container) in spec.init_containers.iter().flatten().enumerate() {
        let path = format!("{path}.initContainers[{i}]");
        checks.container(container, &path);
        checks.init_container(container, &path);
    }
}

struct Checks<'a> {
    volumes: &'a BTreeSet<String>,
    uses_host_network: bool,
    /// Of the containers so far, which share their names with init containers.
    names: BTreeSet<String>,
    /// Protocol, address and number.
    host_ports: BTreeSet<String>,
    errors: &'a mut Vec<FieldError>,
}

impl Checks<'_> {
    fn container(&mut self, container: &Container, path: &str) {
        let name_path = format!("{path}.name");
        let name = container.name.as_str();
        if name.is_empty() {
            self.errors.push(FieldError::required(name_path, ""));
        } else {
            extend(self.errors, &name_path, name, names::label(name));
            if !self.names.insert(name.to_owned()) {
                self.errors.push(FieldError::duplicate(name_path, name));
            }
        }
        let image = container.image.as_deref().unwrap_or_default();
        if image.is_empty() {
            self.errors.push(FieldError::required(format!("{path}.image"), ""));
        } else if image.trim() != image {
            let detail = "must not have leading or trailing whitespace";
            self.errors.push(FieldError::invalid(format!("{path}.image"), image, detail));
        }
        self.pull_policy(container, path);
        self.ports(container, path);
        self.environment(container, path);
        self.mounts(container, path);
        self.probes(container, path);
        if let Some(resources) = &container.resources {
            self.resources(resources, &format!("{path}.resources"));
        }
    }

    fn pull_policy(&mut self, container: &Container, path: &str) {
        const POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
        let path = format!("{path}.imagePullPolicy");
        match container.image_pull_policy.as_deref().unwrap_or_default() {
            "" => self.errors.push(FieldError::required(path, "")),
            policy if POLICIES.contains(&policy) => {}
            policy => self.errors.push(FieldError::not_supported(path, policy, &POLICIES)),
        }
    }

    fn init_container(&mut self, container: &Container, path: &str) {
        let restart_policy = container.restart_policy.as_deref();
        if let Some(policy) =
            restart_policy.filter(|policy| !matches!(*policy, "Always" | "OnFailure" | "Never"))
        {
            let supported = ["Always", "Never", "OnFailure"];
            self.errors.push(FieldError::not_supported(format!("{path}.restartPolicy"), policy, &supported));
        }
        if restart_policy == Some("Always") {
            return;
        }
        let probes = [
            ("livenessProbe", &container.liveness_probe),
            ("readinessProbe", &container.readiness_probe),
            ("startupProbe", &container.startup_probe),
        ];
        for (field, _) in probes.iter().filter(|(_, probe)| probe.is_some()) {
            let detail = "may not be set for init containers without restartPolicy=Always";
            self.errors.push(FieldError::forbidden(format!("{path}.{field}"), detail));
        }
        if container.lifecycle.is_some() {
            let detail = "may not be set for init containers without restartPolicy=Always";
            self.errors.push(FieldError::forbidden(format!("{path}.lifecycle"), detail));
        }
    }

    fn ports(&mut self, container: &Container, path: &str) {
        let mut port_names = BTreeSet::new();
        for (i, port) in container.ports.iter().flatten().enumerate() {
            let path = format!("{path}.ports[{i}]");
            if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
                let mistakes = names::port_name(name);
                if !mistakes.is_empty() {
                    extend(self.errors, &format!("{path}.name"), name, mistakes);
                } else if !port_names.insert(name) {
                    self.errors.push(FieldError::duplicate(format!("{path}.name"), name));
                }
            }
            self.port_numbers(port, &path);
            let protocol = port.protocol.as_deref().unwrap_or_default();
            if protocol.is_empty() {
                self.errors.push(FieldError::required(format!("{path}.protocol"), ""));
            } else if !PROTOCOLS.contains(&protocol) {
                self.errors.push(FieldError::not_supported(format!("{path}.protocol"), protocol, &PROTOCOLS));
            }
        }
    }

    fn port_numbers(&mut self, port: &ContainerPort, path: &str) {
        let number = port.container_port;
        if number == 0 {
            self.errors.push(FieldError::required(format!("{path}.containerPort"), ""));
        } else if !(1..=65535).contains(&number) {
            self.errors.push(FieldError::invalid(format!("{path}.containerPort"), number, PORT_RANGE));
        }
        let host_port = port.host_port.unwrap_or(0);
        if host_port != 0 && !(1..=65535).contains(&host_port) {
            self.errors.push(FieldError::invalid(format!("{path}.hostPort"), host_port, PORT_RANGE));
        }
        if self.uses_host_network && host_port != number {
            let detail = "must match `hostPort` when `hostNetwork` is true";
            self.errors.push(FieldError::invalid(format!("{path}.containerPort"), number, detail));
        }
    }

    /// A port of the node can be had once. Not asked of init containers, which run one after the other.
    fn claim_host_ports(&mut self, container: &Container, path: &str) {
        for (i, port) in container.ports.iter().flatten().enumerate() {
            let host_port = port.host_port.unwrap_or(0);
            if host_port == 0 {
                continue;
            }
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            let claim = format!("{}/{}/{host_port}", text(&port.protocol), text(&port.host_ip));
            if !self.host_ports.insert(claim.clone()) {
                self.errors.push(FieldError::duplicate(format!("{path}.ports[{i}].hostPort"), claim));
            }
        }
    }

    fn environment(&mut self, container: &Container, path: &str) {
        for (i, variable) in container.env.iter().flatten().enumerate() {
            let path = format!("{path}.env[{i}]");
            let name = variable.name.as_str();
            if name.is_empty() {
                self.errors.push(FieldError::required(format!("{path}.name"), ""));
            } else if !name.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'=') {
                let detail = "a valid environment variable name must consist only of printable ASCII characters \
                              other than '='";
                self.errors.push(FieldError::invalid(format!("{path}.name"), name, detail));
            }
            let has_value = variable.value.as_ref().is_some_and(|value| !value.is_empty());
            if variable.value_from.is_some() && has_value {
                let detail = "may not be specified when `value` is not empty";
                self.errors.push(FieldError::invalid(format!("{path}.valueFrom"), "", detail));
            }
        }
    }

    fn mounts(&mut self, container: &Container, path: &str) {
        let mut mount_paths = BTreeSet::new();
        for (i, mount) in container.volume_mounts.iter().flatten().enumerate() {
            let path = format!("{path}.volumeMounts[{i}]");
            if mount.name.is_empty() {
                self.errors.push(FieldError::required(format!("{path}.name"), ""));
            } else if !self.volumes.contains(&mount.name) {
                self.errors.push(FieldError::not_found(format!("{path}.name"), mount.name.as_str()));
            }
            let mount_path = mount.mount_path.as_str();
            if mount_path.is_empty() {
                self.errors.push(FieldError::required(format!("{path}.mountPath"), ""));
            } else if !mount_paths.insert(mount_path) {
                self.errors.push(FieldError::invalid(
                    format!("{path}.mountPath"),
                    mount_path,
                    "must be unique",
                ));
            }
        }
    }

    fn probes(&mut self, container: &Container, path: &str) {
        let probes = [
            ("livenessProbe", &container.liveness_probe, true),
            ("readinessProbe", &container.readiness_probe, false),
            ("startupProbe", &container.startup_probe, true),
        ];
        for (field, probe, succeeds_at_once) in probes {
            let Some(probe) = probe else { continue };
            let path = format!("{path}.{field}");
            self.probe(probe, &path);
            if let Some(threshold) =
                probe.success_threshold.filter(|threshold| succeeds_at_once && *threshold != 1)
            {
                self.errors.push(FieldError::invalid(
                    format!("{path}.successThreshold"),
                    threshold,
                    "must be 1",
                ));
            }
        }
    }

    fn probe(&mut self, probe: &Probe, path: &str) {
        let http = probe.http_get.as_ref().map(|request| ("httpGet", &request.port));
        let tcp = probe.tcp_socket.as_ref().map(|connection| ("tcpSocket", &connection.port));
        let handlers = [probe.exec.is_some(), probe.grpc.is_some(), http.is_some(), tcp.is_some()];
        match handlers.iter().filter(|is_there| **is_there).count() {
            0 => self.errors.push(FieldError::required(path, "must specify a handler type")),
            1 => {}
            _ => self.errors.push(FieldError::forbidden(path, "may not specify more than 1 handler type")),
        }
        for (handler, port) in [http, tcp].into_iter().flatten() {
            let path = format!("{path}.{handler}.port");
            match port {
                IntOrString::Int(number) if !(1..=65535).contains(number) => {
                    self.errors.push(FieldError::invalid(path, *number, PORT_RANGE));
                }
                IntOrString::String(name) => extend(self.errors, &path, name, names::port_name(name)),
                IntOrString::Int(_) => {}
            }
        }
        let numbers = [
            ("initialDelaySeconds", probe.initial_delay_seconds),
            ("timeoutSeconds", probe.timeout_seconds),
            ("periodSeconds", probe.period_seconds),
            ("successThreshold", probe.success_threshold),
            ("failureThreshold", probe.failure_threshold),
        ];
        for (field, number) in numbers {
            if let Some(number) = number.filter(|number| *number < 0) {
                self.errors.push(FieldError::invalid(format!("{path}.{field}"), number, NOT_NEGATIVE));
            }
        }
    }

    fn resources(&mut self, resources: &ResourceRequirements, path: &str) {
        let amounts = [("limits", &resources.limits), ("requests", &resources.requests)];
        for (kind, amounts) in amounts {
            for (resource, quantity) in amounts.iter().flatten() {
                if nanos(&quantity.0).is_some_and(|amount| amount < 0) {
                    let path = format!("{path}.{kind}[{resource}]");
                    self.errors.push(FieldError::invalid(path, quantity.0.as_str(), NOT_NEGATIVE));
                }
            }
        }
        for (resource, request) in resources.requests.iter().flatten() {
            let Some(limit) = resources.limits.as_ref().and_then(|limits| limits.get(resource)) else {
                continue;
            };
            if nanos(&request.0) > nanos(&limit.0) {
                let detail = format!("must be less than or equal to {resource} limit of {}", limit.0);
                self.errors.push(FieldError::invalid(
                    format!("{path}.requests"),
                    request.0.as_str(),
                    &detail,
                ));
            }
        }
    }
}
