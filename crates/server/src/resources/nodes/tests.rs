use super::*;
use crate::resources::testing::{context, object, texts};

#[test]
fn a_node_shows_all_of_its_facts() {
    let mut node =
        object(json!({"spec": {"podCIDRs": ["10.1.0.0/24"]}, "status": {"capacity": {"pods": "10"}}}));
    Nodes.default(&mut node);
    assert_eq!(node.text(&["spec", "podCIDR"]), "10.1.0.0/24");
    assert_eq!(node.at(&["status", "allocatable"]), Some(&json!({"pods": "10"})));
    assert_eq!(node.at(&["status", "daemonEndpoints"]), Some(&json!({"kubeletEndpoint": {"Port": 0}})));
    assert_eq!(node.at(&["status", "nodeInfo", "osImage"]), Some(&json!("")));
}

#[test]
fn both_names_of_the_pods_range_agree() {
    let mut node = object(json!({"spec": {"podCIDR": "10.1.0.0/24"}}));
    Nodes.default(&mut node);
    assert_eq!(node.list(&["spec", "podCIDRs"]), [json!("10.1.0.0/24")]);
}

#[test]
fn each_write_changes_its_half() {
    let old = object(json!({"spec": {"unschedulable": true}, "status": {"phase": "a"}}));
    let other = object(json!({"spec": {}, "status": {"phase": "b"}}));
    let mut new = other.clone();
    Nodes.prepare_update(&context(), &mut new, &old, "status").unwrap();
    assert_eq!(new, object(json!({"spec": {"unschedulable": true}, "status": {"phase": "b"}})));
    let mut new = other;
    Nodes.prepare_update(&context(), &mut new, &old, "").unwrap();
    assert_eq!(new, object(json!({"spec": {}, "status": {"phase": "a"}})));
}

#[test]
fn mistakes_are_told_in_upstreams_words() {
    let node = object(json!({
        "spec": {
            "taints": [
                {"key": "a", "effect": "Foo"},
                {"key": "b", "effect": "NoSchedule"},
                {"key": "b", "effect": "NoSchedule"},
            ],
            "podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"],
        },
        "status": {"addresses": [{"type": "InternalIP", "address": "1.2.3.4"}, {"type": "InternalIP", "address": "1.2.3.4"}]},
    }));
    assert_eq!(
        texts(&Nodes.validate_create(&context(), &node)),
        [
            "metadata.taints[0].effect: Unsupported value: \"Foo\": \
             supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            "metadata.taints[2]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"b\"}: \
             taints must be unique by key and effect pair",
            "status.addresses[1]: Duplicate value: {\"address\":\"1.2.3.4\",\"type\":\"InternalIP\"}",
            "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.0.1.0/24\"]: \
             may specify no more than one CIDR for each IP family",
        ]
    );
}

#[test]
fn what_was_given_to_a_node_stays_its_own() {
    let old = object(json!({"spec": {"podCIDRs": ["10.0.0.0/24"], "providerID": "a"}}));
    let new = object(json!({"spec": {"podCIDRs": ["10.0.1.0/24"], "providerID": "b"}}));
    let errors = |old, new| texts(&Nodes.validate_update(&context(), Update { old, new, subresource: "" }));
    assert_eq!(
        errors(&old, &new),
        [
            "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
            "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
        ]
    );
    assert_eq!(errors(&object(json!({"spec": {"taints": []}})), &new), Vec::<String>::new());
}

#[test]
fn rows_tell_readiness_roles_and_addresses() {
    let node = object(json!({
        "metadata": {"name": "n1", "labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge"}},
        "spec": {"unschedulable": true},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": {"kubeletVersion": "v1", "kernelVersion": "6.1.0", "architecture": "amd64"},
        },
    }));
    let expected = json!([
        "n1",
        "Ready,SchedulingDisabled",
        "edge,worker",
        "<unknown>",
        "v1",
        "10.0.0.1",
        "<none>",
        "<unknown>",
        "6.1.0 (amd64)",
        "<unknown>",
    ]);
    assert_eq!(Value::from(Nodes.row(&node, Timestamp::UNIX_EPOCH)), expected);
    assert_eq!(Nodes.fields(&node), [("spec.unschedulable", "true".to_owned())]);
}
