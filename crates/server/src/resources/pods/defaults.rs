//! What the author of a pod may leave out.

use serde_json::{Map, Value, json};

use crate::object::Object;
use crate::resources::defaults::{existing_map_at, fill, map_at, maps_in};

type Fields = Map<String, Value>;

/// Permissions of files in volumes: 0644.
const FILE_MODE: i64 = 0o644;
const TOKEN_SECONDS: i64 = 3600;
const GRACE: &str = "terminationGracePeriodSeconds";

/// Defaults of pods that are not those of a template.
pub(super) fn fill_pod(pod: &mut Object) {
    if let Some(spec) = map_at(&mut pod.0, "spec") {
        fill_spec(spec);
        for list in ["containers", "initContainers"] {
            maps_in(spec, list).for_each(request_limits);
        }
        request_limits(spec);
    }
    if let Some(status) = map_at(&mut pod.0, "status") {
        match_first_address(status, "podIP", "podIPs");
        match_first_address(status, "hostIP", "hostIPs");
    }
}

/// Defaults of the spec of a pod, in a pod or in a template.
pub(in crate::resources) fn fill_spec(spec: &mut Fields) {
    fill(spec, "restartPolicy", "Always");
    fill(spec, "dnsPolicy", "ClusterFirst");
    fill(spec, "schedulerName", "default-scheduler");
    fill(spec, "enableServiceLinks", true);
    fill(spec, "securityContext", json!({}));
    fill(spec, GRACE, 30);
    if spec.get(GRACE).and_then(Value::as_i64).is_some_and(|seconds| seconds < 0) {
        spec.insert(GRACE.to_owned(), 1.into());
    }
    // Both names are shown; the old one is read where the new one is missing.
    if let Some(account) = spec.get("serviceAccount").filter(|account| *account != "").cloned() {
        fill(spec, "serviceAccountName", account);
    }
    if let Some(account) = spec.get("serviceAccountName").filter(|account| *account != "").cloned() {
        spec.insert("serviceAccount".to_owned(), account);
    }
    let uses_host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in maps_in(spec, list) {
            fill_container(container);
            if uses_host_network {
                maps_in(container, "ports").for_each(use_host_port);
            }
        }
    }
    maps_in(spec, "volumes").for_each(fill_volume);
}

fn fill_container(container: &mut Fields) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
    fill(container, "imagePullPolicy", policy);
    fill(container, "terminationMessagePath", "/dev/termination-log");
    fill(container, "terminationMessagePolicy", "File");
    fill(container, "resources", json!({}));
    for port in maps_in(container, "ports") {
        fill(port, "protocol", "TCP");
    }
    for variable in maps_in(container, "env") {
        if let Some(source) = existing_map_at(variable, "valueFrom") {
            fill_field_reference(source);
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = existing_map_at(container, probe) else { continue };
        fill_request(probe);
        if let Some(call) = existing_map_at(probe, "grpc") {
            fill(call, "service", "");
        }
        for (field, value) in
            [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
        {
            fill_number(probe, field, value);
        }
    }
    if let Some(lifecycle) = existing_map_at(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            existing_map_at(lifecycle, hook).into_iter().for_each(fill_request);
        }
    }
}

/// Of numbers that cannot be 0, which counts as left out.
fn fill_number(map: &mut Fields, field: &str, value: i64) {
    if map.get(field).and_then(Value::as_i64).unwrap_or(0) == 0 {
        map.insert(field.to_owned(), value.into());
    }
}

/// Of a probe or hook.
fn fill_request(handler: &mut Fields) {
    if let Some(request) = existing_map_at(handler, "httpGet") {
        fill(request, "path", "/");
        fill(request, "scheme", "HTTP");
    }
}

fn fill_field_reference(source: &mut Fields) {
    if let Some(reference) = existing_map_at(source, "fieldRef") {
        fill(reference, "apiVersion", "v1");
    }
}

/// Whether an image names the tag `latest`, or neither a tag nor a digest, which means the same.
fn is_latest(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    // A colon before the last slash is that of a registry's port.
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => digest.is_none(),
    }
}

fn use_host_port(port: &mut Fields) {
    if let Some(number) = port.get("containerPort").cloned() {
        fill_number(port, "hostPort", number.as_i64().unwrap_or(0));
    }
}

fn fill_volume(volume: &mut Fields) {
    let has_source = volume.iter().any(|(field, value)| field != "name" && !value.is_null());
    if !has_source {
        fill(volume, "emptyDir", json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = existing_map_at(volume, source) {
            fill(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(path) = existing_map_at(volume, "hostPath") {
        fill(path, "type", "");
    }
    if let Some(files) = existing_map_at(volume, "downwardAPI") {
        maps_in(files, "items").for_each(fill_field_reference);
    }
    if let Some(projected) = existing_map_at(volume, "projected") {
        for source in maps_in(projected, "sources") {
            if let Some(token) = existing_map_at(source, "serviceAccountToken") {
                fill(token, "expirationSeconds", TOKEN_SECONDS);
            }
            if let Some(files) = existing_map_at(source, "downwardAPI") {
                maps_in(files, "items").for_each(fill_field_reference);
            }
        }
    }
}

/// What a container limits, it requests as well.
fn request_limits(container: &mut Fields) {
    let Some(resources) = existing_map_at(container, "resources") else { return };
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else { return };
    if !limits.is_empty()
        && let Some(requests) = map_at(resources, "requests")
    {
        limits.into_iter().for_each(|(name, limit)| fill(requests, &name, limit));
    }
}

/// The single address and the first of the list are one and the same; who gives the single one alone means that.
fn match_first_address(status: &mut Fields, single: &str, list: &str) {
    let address =
        status.get(single).and_then(Value::as_str).filter(|address| !address.is_empty()).map(str::to_owned);
    let first = status.get(list).and_then(|list| list.get(0)?.get("ip")?.as_str()).map(str::to_owned);
    match (address, first) {
        (None, Some(first)) => drop(status.insert(single.to_owned(), first.into())),
        (Some(address), first) if first.as_ref() != Some(&address) => {
            status.insert(list.to_owned(), json!([{"ip": address}]));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::object;

    fn filled(pod: Value) -> Object {
        let mut pod = object(pod);
        fill_pod(&mut pod);
        pod
    }

    #[test]
    fn the_smallest_pod_gets_all_of_its_defaults() {
        let pod = filled(json!({"spec": {"containers": [{
            "name": "c", "image": "web", "ports": [{"containerPort": 80}], "readinessProbe": {"httpGet": {"port": 80}},
        }], "volumes": [{"name": "scratch"}]}}));
        let expected = json!({
            "spec": {
                "containers": [{
                    "name": "c", "image": "web", "imagePullPolicy": "Always",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "readinessProbe": {
                        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                        "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
                    },
                    "resources": {}, "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                }],
                "volumes": [{"name": "scratch", "emptyDir": {}}],
                "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
                "enableServiceLinks": true, "securityContext": {}, "terminationGracePeriodSeconds": 30,
            },
            "status": {},
        });
        assert_eq!(pod, object(expected));
    }

    #[test]
    fn only_what_may_change_is_pulled_always() {
        let cases = [
            ("web", true),
            ("web:latest", true),
            ("registry:5000/web", true),
            ("registry:5000/web:1", false),
            ("web@sha256:abc", false),
            ("web:latest@sha256:abc", true),
        ];
        for (image, expected) in cases {
            assert_eq!(is_latest(image), expected, "{image}");
        }
    }

    #[test]
    fn limits_are_requested_and_host_ports_follow_the_containers() {
        let pod = filled(
            json!({"spec": {"hostNetwork": true, "terminationGracePeriodSeconds": -5, "containers": [{
                "name": "c", "image": "a:1", "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
            }]}}),
        );
        let container = &pod.list(&["spec", "containers"])[0];
        assert_eq!(container["resources"]["requests"], json!({"cpu": "500m", "memory": "1Gi"}));
        assert_eq!(container["ports"][0]["hostPort"], json!(80));
        assert_eq!(pod.at(&["spec", GRACE]), Some(&json!(1)));
    }

    #[test]
    fn one_address_alone_stands_for_the_list() {
        let pod = filled(json!({"status": {"podIP": "10.0.0.1", "hostIPs": [{"ip": "1.2.3.4"}]}}));
        let status = json!({
            "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "hostIP": "1.2.3.4", "hostIPs": [{"ip": "1.2.3.4"}]
        });
        assert_eq!(pod.at(&["status"]), Some(&status));
    }
}
