use serde_json::{Value, json};

use super::*;
use crate::testing;

fn sources() -> Sources {
    let config_map = json!({"metadata": {"name": "settings"}, "data": {"COLOR": "red", "SIZE": "1"}});
    let secret = json!({"metadata": {"name": "keys"}, "data": {"KEY": "c2VjcmV0", "RAW": "/w=="}});
    let service = |namespace: &str, name: &str, ip: &str| -> Service {
        serde_json::from_value(json!({"metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": ip, "ports": [{"name": "web", "port": 80, "protocol": "TCP"}]}}))
        .unwrap()
    };
    Sources {
        config_maps: [("settings".to_owned(), serde_json::from_value(config_map).unwrap())].into(),
        secrets: [("keys".to_owned(), serde_json::from_value(secret).unwrap())].into(),
        services: vec![
            service("default", "kubernetes", "10.96.0.1"),
            service("default", "db-service", "10.96.0.2"),
            service("default", "headless", "None"),
            service("other", "else", "10.96.0.3"),
        ],
        pod_ips: vec!["10.244.1.2".parse().unwrap(), "fd00::2".parse().unwrap()],
        host_ips: vec!["192.0.2.1".parse().unwrap()],
    }
}

fn of(container: Value) -> Result<Vec<(String, String)>, EnvironmentError> {
    let mut pod = testing::pod(json!({"containers": [container], "serviceAccountName": "robot"}));
    pod.labels_mut().insert("app/tier".to_owned(), "front".to_owned());
    variables(&pod, &spec::spec(&pod).containers[0], &sources())
}

#[track_caller]
fn value(container: Value, name: &str) -> Option<String> {
    of(container).unwrap().into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

#[test]
fn every_container_knows_who_it_is() {
    let all = of(json!({"name": "a"})).unwrap();
    for (name, expected) in
        [("POD_NAME", "web"), ("POD_NAMESPACE", "default"), ("POD_IP", "10.244.1.2"), ("NODE_NAME", "node-1")]
    {
        assert!(all.contains(&(name.to_owned(), expected.to_owned())), "{name} in {all:?}");
    }
}

#[test]
fn fields_of_the_pod_can_be_referred_to() {
    for (path, expected) in [
        ("metadata.uid", "uid-1"),
        ("metadata.labels['app/tier']", "front"),
        ("metadata.annotations['none']", ""),
        ("spec.serviceAccountName", "robot"),
        ("status.podIPs", "10.244.1.2,fd00::2"),
        ("status.hostIP", "192.0.2.1"),
    ] {
        let container =
            json!({"name": "a", "env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}]});
        assert_eq!(value(container, "X").as_deref(), Some(expected), "{path}");
    }
    let wrong =
        json!({"name": "a", "env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "spec.nope"}}}]});
    assert!(of(wrong).unwrap_err().to_string().contains("spec.nope"));
}

#[test]
fn config_maps_and_secrets_are_read_whole_or_by_key_and_later_ones_win() {
    let container = json!({"name": "a",
    "envFrom": [{"configMapRef": {"name": "settings"}}, {"prefix": "S_", "secretRef": {"name": "keys"}},
                {"configMapRef": {"name": "nope", "optional": true}}],
    "env": [
        {"name": "COLOR", "value": "blue"},
        {"name": "BOTH", "value": "$(COLOR)-$(SIZE)-$(LATER)"},
        {"name": "LATER", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "KEY"}}},
        {"name": "MAYBE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "NOPE", "optional": true}}},
    ]});
    assert_eq!(value(container.clone(), "COLOR").as_deref(), Some("blue"));
    assert_eq!(value(container.clone(), "S_KEY").as_deref(), Some("secret"));
    assert_eq!(value(container.clone(), "BOTH").as_deref(), Some("blue-1-$(LATER)"));
    assert_eq!(value(container.clone(), "LATER").as_deref(), Some("secret"));
    assert_eq!(value(container, "MAYBE"), None);
}

#[test]
fn what_is_missing_is_told_by_name() {
    for (source, part) in [
        (json!({"configMapKeyRef": {"name": "nope", "key": "a"}}), "configmap \"nope\" not found"),
        (
            json!({"configMapKeyRef": {"name": "settings", "key": "a"}}),
            "couldn't find key a in configmap settings",
        ),
        (json!({"secretKeyRef": {"name": "keys", "key": "RAW"}}), "no text"),
        (json!({"resourceFieldRef": {"resource": "limits.cpu"}}), "not supported"),
    ] {
        let error =
            of(json!({"name": "a", "env": [{"name": "X", "valueFrom": source}]})).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn services_of_the_namespace_and_the_api_are_known() {
    let all = of(json!({"name": "a"})).unwrap();
    let value = |name: &str| all.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(value("KUBERNETES_SERVICE_HOST"), Some("10.96.0.1"));
    assert_eq!(value("DB_SERVICE_SERVICE_PORT_WEB"), Some("80"));
    assert_eq!(value("DB_SERVICE_PORT_80_TCP"), Some("tcp://10.96.0.2:80"));
    assert!(!all.iter().any(|(name, _)| name.starts_with("ELSE") || name.starts_with("HEADLESS")));
    let without = services::variables(&sources().services, "default", false);
    assert!(without.iter().all(|(name, _)| name.starts_with("KUBERNETES")), "{without:?}");
}
