use super::*;
use crate::resources::testing::{context, context_with, object, texts};

fn pod(spec: Value) -> Object {
    let mut pod =
        object(json!({"metadata": {"name": "p", "namespace": "default", "uid": "u"}, "spec": spec}));
    Pods.default(&mut pod);
    pod
}

fn errors(spec: Value) -> Vec<String> {
    texts(&Pods.validate_create(&context(), &pod(spec)))
}

fn update_errors(new: &Object, old: &Object) -> Vec<String> {
    texts(&Pods.validate_update(&context(), Update { old, new, subresource: "" }))
}

fn running() -> Object {
    let mut pod = pod(json!({"containers": [{"name": "c", "image": "web:1"}], "nodeName": "n1"}));
    set_first_generation(&mut pod);
    pod
}

#[test]
fn a_new_pod_waits_for_its_node() {
    let account = json!({"kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}});
    let mut new = pod(json!({"containers": [{"name": "c", "image": "web"}]}));
    let error = Pods.prepare_create(&context(), &mut new).unwrap_err();
    assert_eq!(
        error.message,
        "pods \"p\" is forbidden: error looking up service account default/default: \
         serviceaccount \"default\" not found"
    );
    context_with(&[("serviceaccounts", object(account))], |context| Pods.prepare_create(context, &mut new))
        .unwrap();
    assert_eq!(new.at(&["status"]), Some(&json!({"phase": "Pending", "qosClass": "BestEffort"})));
    assert_eq!(new.at(&["metadata", "generation"]), Some(&json!(1)));
    assert_eq!(new.text(&["spec", "serviceAccountName"]), "default");
    assert_eq!(Pods.validate_create(&context(), &new), []);
}

#[test]
fn mistakes_that_people_make() {
    let container = |fields: Value| {
        let mut container = json!({"name": "c", "image": "web"});
        container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({"containers": [container]})
    };
    let cases = [
        (json!({}), "spec.containers: Required value"),
        (container(json!({"image": ""})), "spec.containers[0].image: Required value"),
        (
            container(json!({"image": " web"})),
            "spec.containers[0].image: Invalid value: \" web\": must not have leading or trailing whitespace",
        ),
        (
            json!({"containers": [{"name": "c", "image": "a"}, {"name": "c", "image": "b"}]}),
            "spec.containers[1].name: Duplicate value: \"c\"",
        ),
        (
            container(json!({"ports": [{"containerPort": 0}]})),
            "spec.containers[0].ports[0].containerPort: Required value",
        ),
        (
            container(json!({"ports": [{"containerPort": 70000}]})),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            container(json!({"ports": [{"containerPort": 1, "protocol": "X"}]})),
            "spec.containers[0].ports[0].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            container(
                json!({"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]}),
            ),
            "spec.containers[0].ports[1].name: Duplicate value: \"a\"",
        ),
        (
            container(
                json!({"ports": [{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]}),
            ),
            "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//5\"",
        ),
        (
            container(json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]})),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            container(json!({"livenessProbe": {"successThreshold": 2, "exec": {}}})),
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            container(json!({"readinessProbe": {}})),
            "spec.containers[0].readinessProbe: Required value: must specify a handler type",
        ),
        (
            container(json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            json!({"containers": [{"name": "c", "image": "a"}], "restartPolicy": "Foo"}),
            "spec.restartPolicy: Unsupported value: \"Foo\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        (
            json!({"containers": [{"name": "c", "image": "a"}], "volumes": [{"name": "v"}, {"name": "v"}]}),
            "spec.volumes[1].name: Duplicate value: \"v\"",
        ),
        (
            json!({"containers": [{"name": "c", "image": "a"}], "tolerations": [{"key": "k", "tolerationSeconds": 1}]}),
            "spec.tolerations[0].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set",
        ),
        (
            json!({"containers": [{"name": "c", "image": "a"}], "schedulingGates": [{"name": "g"}], "nodeName": "n"}),
            "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(errors(spec.clone()), [expected], "{spec}");
    }
}

#[test]
fn a_running_pod_changes_its_images_only() {
    let old = running();
    let mut new = old.clone();
    new.set(&["spec", "containers"], json!([{"name": "c", "image": "web:2"}]));
    Pods.default(&mut new);
    assert_eq!(update_errors(&new, &old), Vec::<String>::new());
    new.set(&["spec", "nodeName"], "n2");
    let expected = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
        `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
        tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n\
        - nodeName: \"n1\"\n+ nodeName: \"n2\"";
    assert_eq!(update_errors(&new, &old), [expected]);
    new.set(&["spec", "containers"], json!([]));
    assert_eq!(
        update_errors(&new, &old),
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
}

#[test]
fn gates_only_go() {
    let gated = |gates: Value| {
        pod(json!({"containers": [{"name": "c", "image": "web:1"}], "schedulingGates": gates}))
    };
    let old = gated(json!([{"name": "a"}, {"name": "b"}]));
    assert_eq!(update_errors(&gated(json!([{"name": "a"}])), &old), Vec::<String>::new());
    assert_eq!(
        update_errors(&gated(json!([{"name": "a"}, {"name": "b"}, {"name": "c"}])), &old),
        ["spec.schedulingGates: Forbidden: only deletion is allowed, but found new scheduling gate 'c'"]
    );
}

#[test]
fn updates_keep_what_is_not_theirs() {
    let mut old = running();
    old.set(&["status"], json!({"phase": "Running", "qosClass": "BestEffort"}));
    let mut new = old.clone();
    new.set(&["status", "phase"], "Failed");
    new.set(&["spec", "activeDeadlineSeconds"], 5);
    let mut by_agent = new.clone();
    by_agent.remove(&["status", "qosClass"]);
    Pods.prepare_update(&context(), &mut new, &old, "").unwrap();
    assert_eq!((new.text(&PHASE), new.at(&["metadata", "generation"])), ("Running", Some(&json!(2))));
    Pods.prepare_update(&context(), &mut by_agent, &old, "status").unwrap();
    assert_eq!((by_agent.text(&PHASE), by_agent.at(&["spec"])), ("Failed", old.at(&["spec"])));
    assert_eq!(by_agent.text(&["status", "qosClass"]), "BestEffort");
    assert_eq!(by_agent.at(&["metadata", "generation"]), Some(&json!(1)));
}

#[test]
fn a_pod_is_bound_once() {
    let node = json!({"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z"}}});
    let binding = object(json!({"target": {"kind": "Node", "name": "n1"}}));
    let unbound = pod(json!({"containers": [{"name": "c", "image": "web:1"}]}));
    let bind = |pod: &Object| {
        context_with(&[("nodes", object(node.clone()))], |context| {
            Pods.subresource(context, "binding", "create", pod, Some(&binding))
        })
    };
    let (bound, answer) = bind(&unbound).unwrap();
    let bound = bound.unwrap();
    assert_eq!(bound.text(&NODE_NAME), "n1");
    assert_eq!(bound.labels().get("topology.kubernetes.io/zone"), Some(&"z"));
    assert_eq!(bound.list(&["status", "conditions"])[0]["status"], json!("True"));
    assert_eq!(answer["status"], json!("Success"));
    assert_eq!(
        bind(&bound).unwrap_err().message,
        "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\""
    );
    let mut leaving = unbound;
    leaving.set(&["metadata", "deletionTimestamp"], "2026-01-01T00:00:00Z");
    assert_eq!(
        bind(&leaving).unwrap_err().message,
        "Operation cannot be fulfilled on pods/binding \"p\": \
         pod p is being deleted, cannot be assigned to a host"
    );
}

#[test]
fn an_evicted_pod_has_its_time_of_grace() {
    let eviction = object(json!({"metadata": {"name": "p"}}));
    let answer = Pods.subresource(&context(), "eviction", "create", &running(), Some(&eviction));
    let evicted = answer.unwrap().0.unwrap();
    assert!(evicted.is_being_deleted());
    assert_eq!(evicted.at(&["metadata", "deletionGracePeriodSeconds"]), Some(&json!(30)));
    let stale = object(json!({"deleteOptions": {"preconditions": {"uid": "other"}}}));
    let error = Pods.subresource(&context(), "eviction", "create", &running(), Some(&stale)).unwrap_err();
    assert_eq!(error.reason, "Conflict");
}

#[test]
fn only_pods_that_run_need_time_to_end() {
    let mut pod = running();
    assert_eq!(Pods.deletion_grace(&pod, None), Some(30));
    assert_eq!(Pods.deletion_grace(&pod, Some(5)), Some(5));
    assert_eq!(Pods.deletion_grace(&pod, Some(-1)), Some(1));
    pod.set(&PHASE, "Succeeded");
    assert_eq!(Pods.deletion_grace(&pod, Some(5)), Some(0));
    pod.set(&PHASE, "Running");
    pod.remove(&NODE_NAME);
    assert_eq!(Pods.deletion_grace(&pod, None), Some(0));
}

#[test]
fn selectors_find_pods_by_their_node() {
    let fields = Pods.fields(&running());
    assert!(fields.contains(&("spec.nodeName", "n1".to_owned())));
    assert!(fields.contains(&("spec.hostNetwork", "false".to_owned())));
}
