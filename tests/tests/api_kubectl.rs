//! What people do with kubectl, against the API server as they start it: with the kubectl of this machine, and with an old one.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use switchyard_tests::api_server::{ApiServer, kubectls};
use switchyard_tests::wait::eventually;

/// Far more than a controller takes.
const LIMIT: Duration = Duration::from_secs(10);

type Test = fn(&Path) -> Result<()>;

fn main() -> Result<ExitCode> {
    let args = Arguments::from_args();
    let tests: [(&str, Test); 9] = [
        ("a_deployment_is_created_exposed_scaled_and_deleted", deployment),
        ("services_get_addresses_and_ports_and_give_them_back", addresses),
        ("what_upstream_refuses_is_refused_in_its_words", refusals),
        ("objects_are_applied_edited_patched_labelled_and_annotated", edits),
        ("watches_tell_of_every_change", watch),
        ("namespaces_take_their_contents_with_them", namespaces),
        ("resources_explain_themselves", discovery),
        ("what_was_acknowledged_survives_a_kill", durability),
        ("deletion_cascades_and_waits_for_finalizers", deletion),
    ];
    let mut trials = Vec::new();
    for kubectl in kubectls() {
        let kind = if kubectl.is_absolute() { "old kubectl" } else { "kubectl" };
        trials.extend(tests.map(|(name, test)| {
            let kubectl = kubectl.clone();
            let run = move || test(&kubectl).map_err(|error| Failed::from(format!("{error:#}")));
            Trial::test(name, run).with_kind(kind)
        }));
    }
    Ok(libtest_mimic::run(&args, trials).exit_code())
}

fn contains(text: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(text.contains(word), "{word:?} is not in:\n{text}");
    }
    Ok(())
}

fn service(name: &str, spec: Value) -> String {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}).to_string()
}

/// Puts a pod on a node and makes it ready, as its node's agent would.
fn make_ready(server: &ApiServer, pod: &str, ip: &str) -> Result<()> {
    let mut object = server.get(&["pod", pod])?;
    object["status"] = json!({
        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": "192.168.56.11",
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}],
    });
    let path = format!("/api/v1/namespaces/default/pods/{pod}/status");
    server.kubectl_with(&["replace", "--raw", &path, "-f", "-"], &object.to_string()).map(drop)
}

fn add_node(server: &ApiServer, name: &str) -> Result<()> {
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "192.168.56.11"}],
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
        },
    });
    server.kubectl_with(&["create", "-f", "-"], &node.to_string()).map(drop)
}

fn deployment(kubectl: &Path) -> Result<()> {
    let server = ApiServer::start(&[])?.with_kubectl(kubectl);
    add_node(&server, "node-1")?;
    server.kubectl(&["create", "deployment", "web", "--image=nginx"])?;
    let pods = || -> Result<Vec<String>> {
        let list = server.get(&["pods", "-l", "app=web"])?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        Ok(items.iter().filter_map(|pod| pod["metadata"]["name"].as_str()).map(str::to_owned).collect())
    };
    let count = |expected: usize| {
        eventually(LIMIT, || {
            let found = pods()?.len();
            ensure!(found == expected, "there are {found} pods, not {expected}");
            Ok(())
        })
    };
    count(1)?;
    eventually(LIMIT, || {
        let pod = server.get(&["pod", &pods()?[0]])?;
        ensure!(pod["spec"]["nodeName"] == "node-1", "the pod is on no node: {}", pod["spec"]);
        Ok(())
    })?;
    server.kubectl(&["scale", "deployment", "web", "--replicas=2"])?;
    count(2)?;
    server.kubectl(&["expose", "deployment", "web", "--port=80", "--target-port=8080"])?;
    for (pod, ip) in pods()?.iter().zip(["10.244.1.2", "10.244.1.3"]) {
        make_ready(&server, pod, ip)?;
    }
    eventually(LIMIT, || {
        let slices = server.kubectl(&["get", "endpointslices", "-l", "kubernetes.io/service-name=web"])?;
        contains(&slices, &["10.244.1.2", "10.244.1.3", "8080", "IPv4"])?;
        contains(&server.kubectl(&["get", "endpoints", "web"])?, &["10.244.1.2:8080", "10.244.1.3:8080"])
    })?;
    eventually(LIMIT, || contains(&server.kubectl(&["get", "deployments"])?, &["2/2"]))?;
    contains(&server.kubectl(&["rollout", "status", "deployment/web"])?, &["successfully rolled out"])?;
    contains(&server.kubectl(&["get", "svc", "web", "-o", "wide"])?, &["ClusterIP", "80/TCP", "app=web"])?;
    contains(&server.kubectl(&["describe", "service", "web"])?, &["10.244.1.2:8080", "TargetPort:"])?;
    contains(
        &server.kubectl(&["get", "all"])?,
        &["pod/web-", "service/web", "deployment.apps/web", "replicaset.apps/web-"],
    )?;
    server.kubectl(&["delete", "deployment", "web", "--timeout=10s"])?;
    // Nobody runs these pods, so nobody would report their end.
    eventually(LIMIT, || {
        for pod in pods()? {
            server.kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force"])?;
        }
        ensure!(pods()?.is_empty(), "pods are left");
        Ok(())
    })
}

fn addresses(kubectl: &Path) -> Result<()> {
    let server = ApiServer::start(&["--service-cluster-ip-range=10.96.0.0/24"])?.with_kubectl(kubectl);
    contains(&server.kubectl(&["get", "svc", "kubernetes"])?, &["10.96.0.1", "443/TCP"])?;
    let create = |name: &str, spec: Value| server.kubectl_with(&["create", "-f", "-"], &service(name, spec));
    let ports = json!([{"port": 3306}]);
    create("db", json!({"ports": ports, "clusterIP": "10.96.0.10"}))?;
    let taken = server.kubectl_refused(
        &["create", "-f", "-"],
        &service("other", json!({"ports": ports, "clusterIP": "10.96.0.10"})),
    )?;
    contains(&taken, &["failed to allocate IP 10.96.0.10: provided IP is already allocated"])?;
    server.kubectl(&["get", "ipaddress", "10.96.0.10"])?;
    create("web", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}))?;
    let taken = server.kubectl_refused(
        &["create", "-f", "-"],
        &service("other", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]})),
    )?;
    contains(&taken, &["provided port is already allocated"])?;
    let web = server.get(&["svc", "web"])?;
    let ip: std::net::Ipv4Addr = web["spec"]["clusterIP"].as_str().unwrap_or_default().parse()?;
    ensure!(ip.octets()[..3] == [10, 96, 0] && ip.octets()[3] > 16, "{ip} is not of the upper band");
    server.kubectl(&["delete", "svc", "db", "web"])?;
    create(
        "other",
        json!({"type": "NodePort", "clusterIP": "10.96.0.10", "ports": [{"port": 80, "nodePort": 30080}]}),
    )?;
    server.kubectl(&["patch", "svc", "other", "-p", r#"{"spec":{"type":"ClusterIP"}}"#])?;
    let other = server.get(&["svc", "other"])?;
    ensure!(other["spec"]["ports"][0].get("nodePort").is_none(), "{} keeps its node port", other["spec"]);
    create("again", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}))?;
    // An address that a service has is put back when somebody takes it away.
    let address = server.get(&["svc", "again"])?["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
    server.kubectl(&["delete", "ipaddress", &address])?;
    eventually(LIMIT, || server.kubectl(&["get", "ipaddress", &address]))?;
    eventually(LIMIT, || contains(&server.kubectl(&["get", "events"])?, &["ClusterIPNotAllocated", &address]))
}

fn refusals(kubectl: &Path) -> Result<()> {
    let server = ApiServer::start(&[])?.with_kubectl(kubectl);
    let port = json!([{"port": 80}]);
    for (name, spec, words) in [
        ("web", json!({}), "spec.ports: Required value"),
        (
            "web",
            json!({"ports": [{"port": 0}]}),
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            "Web",
            json!({"ports": port}),
            "metadata.name: Invalid value: \"Web\": a lowercase RFC 1123 label must consist",
        ),
        (
            "web",
            json!({"ports": port, "type": "Odd"}),
            "spec.type: Unsupported value: \"Odd\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ),
        (
            "web",
            json!({"ports": port, "clusterIP": "10.99.0.1"}),
            "failed to allocate IP 10.99.0.1: the provided network does not match the current range",
        ),
        (
            "web",
            json!({"ports": [{"port": 80, "nodePort": 30000}]}),
            "may not be used when `type` is 'ClusterIP'",
        ),
        (
            "web",
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}),
            "provided port is not in the valid range. The range of valid ports is 30000-32767",
        ),
    ] {
        let refused =
            server.kubectl_refused(&["create", "--validate=false", "-f", "-"], &service(name, spec))?;
        contains(&refused, &[words])?;
    }
    let unknown =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {}, "foo": 1});
    contains(&server.kubectl_refused(&["create", "-f", "-"], &unknown.to_string())?, &["foo"])?;
    contains(
        &server.kubectl_refused(&["get", "svc", "none"], "")?,
        &["(NotFound)", "services \"none\" not found"],
    )?;
    contains(
        &server.kubectl_refused(&["create", "configmap", "c", "-n", "nope"], "")?,
        &["namespaces \"nope\" not found"],
    )
}

fn edits(kubectl: &Path) -> Result<()> {
    let server = ApiServer::start(&[])?.with_kubectl(kubectl);
    let apply = |spec: Value| server.kubectl_with(&["apply", "-f", "-"], &service("web", spec));
    contains(
        &apply(json!({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}))?,
        &["created"],
    )?;
    let same = apply(json!({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}))?;
    contains(&same, &["unchanged"])?;
    contains(&apply(json!({"ports": [{"name": "a", "port": 80, "targetPort": 8080}]}))?, &["configured"])?;
    let web = server.get(&["svc", "web"])?;
    ensure!(web["spec"]["ports"].as_array().map(Vec::len) == Some(1), "{}", web["spec"]["ports"]);
    ensure!(web["spec"]["ports"][0]["targetPort"] == 8080, "{}", web["spec"]["ports"]);
    server.kubectl(&[
        "patch",
        "svc",
        "web",
        "--type=json",
        "-p",
        r#"[{"op":"add","path":"/spec/ports/-","value":{"name":"c","port":82}}]"#,
    ])?;
    server.kubectl(&["patch", "svc", "web", "--type=merge", "-p", r#"{"metadata":{"labels":{"x":"y"}}}"#])?;
    server.kubectl(&["patch", "svc", "web", "-p", r#"{"spec":{"ports":[{"port":82,"name":"d"}]}}"#])?;
    server.kubectl(&["label", "svc", "web", "tier=front"])?;
    server.kubectl(&["annotate", "svc", "web", "why=because"])?;
    let web = server.get(&["svc", "web"])?;
    ensure!(web["spec"]["ports"][1]["name"] == "d", "{}", web["spec"]["ports"]);
    ensure!(web["metadata"]["labels"] == json!({"x": "y", "tier": "front"}), "{}", web["metadata"]);
    ensure!(web["metadata"]["annotations"]["why"] == "because", "{}", web["metadata"]);
    contains(&server.kubectl(&["get", "svc", "-l", "tier=front"])?, &["web"])?;
    ensure!(
        !server.kubectl(&["get", "svc", "-l", "tier!=front"])?.contains("web"),
        "the selector does not select"
    );
    Ok(())
}

fn watch(kubectl: &Path) -> Result<()> {
    let server = ApiServer::start(&[])?.with_kubectl(kubectl);
    let list: Value = serde_json::from_str(&server.raw("/api/v1/namespaces/default/configmaps")?)?;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    server.kubectl(&["create", "configmap", "c", "--from-literal=a=1"])?;
    server.kubectl(&["patch", "configmap", "c", "-p", r#"{"data":{"a":"2"}}"#])?;
    server.kubectl(&["delete", "configmap", "c"])?;
    let path = format!(
        "/api/v1/namespaces/default/configmaps?watch=true&resourceVersion={version}&timeoutSeconds=1"
    );
    let events: Vec<Value> =
        server.raw(&path)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let of_c: Vec<&str> = events
        .iter()
        .filter(|event| event["object"]["metadata"]["name"] == "c")
        .filter_map(|event| event["type"].as_str())
        .collect();
    ensure!(of_c == ["ADDED", "MODIFIED", "DELETED"], "the watch told of {of_c:?}");
    Ok(())
}

fn namespaces(kubectl: &Path) -> Result<()> {
    let server = ApiServer::start(&[])?.with_kubectl(kubectl);
    server.kubectl(&["create", "namespace", "shop"])?;
    server.kubectl(&["create", "configmap", "c", "-n", "shop"])?;
    server.kubectl(&["create", "service", "clusterip", "web", "--tcp=80", "-n", "shop"])?;
    eventually(LIMIT, || server.kubectl(&["get", "serviceaccount", "default", "-n", "shop"]))?;
    server.kubectl(&["delete", "namespace", "shop", "--timeout=15s"])?;
    contains(&server.kubectl_refused(&["get", "namespace", "shop"], "")?, &["NotFound"])?;
    ensure!(server.get(&["configmaps", "-n", "shop"])?["items"] == json!([]), "something is left");
    Ok(())
}

fn discovery(kubectl: &Path) -> Result<()> {
    let server = ApiServer::start(&[])?.with_kubectl(kubectl);
    let resources = server.kubectl(&["api-resources"])?;
    contains(
        &resources,
        &["services", "endpointslices", "deployments", "leases", "ipaddresses", "configmaps"],
    )?;
    contains(&server.kubectl(&["explain", "service.spec.ports"])?, &["nodePort", "targetPort"])?;
    contains(&server.kubectl(&["auth", "can-i", "create", "services"])?, &["yes"])?;
    contains(&server.kubectl(&["version"])?, &["Server Version"])?;
    contains(&server.raw("/readyz?verbose")?, &["[+]ping ok"]).map(drop)
}

fn durability(kubectl: &Path) -> Result<()> {
    let mut server = ApiServer::start(&[])?.with_kubectl(kubectl);
    server.kubectl(&["create", "service", "clusterip", "web", "--tcp=80"])?;
    let before = server.get(&["svc", "web"])?;
    server.end(Signal::SIGKILL)?;
    server.start_again()?;
    ensure!(server.get(&["svc", "web"])? == before, "the service is another one after a kill");
    let status = server.end(Signal::SIGTERM)?;
    ensure!(status.success(), "it ended with {status}");
    server.start_again()?;
    ensure!(server.get(&["svc", "web"])? == before, "the service is another one after a restart");
    Ok(())
}

fn deletion(kubectl: &Path) -> Result<()> {
    let server = ApiServer::start(&[])?.with_kubectl(kubectl);
    server.kubectl(&["create", "configmap", "owner"])?;
    let uid = server.get(&["configmap", "owner"])?["metadata"]["uid"].clone();
    let owned = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owned", "ownerReferences": [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}]}});
    server.kubectl_with(&["create", "-f", "-"], &owned.to_string())?;
    server.kubectl(&["delete", "configmap", "owner"])?;
    eventually(LIMIT, || server.kubectl_refused(&["get", "configmap", "owned"], ""))?;
    let kept = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept", "finalizers": ["example.com/keep"]}});
    server.kubectl_with(&["create", "-f", "-"], &kept.to_string())?;
    server.kubectl(&["delete", "configmap", "kept", "--wait=false"])?;
    ensure!(
        server.get(&["configmap", "kept"])?["metadata"]["deletionTimestamp"].is_string(),
        "it is not on its way"
    );
    server.kubectl(&[
        "patch",
        "configmap",
        "kept",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ])?;
    contains(&server.kubectl_refused(&["get", "configmap", "kept"], "")?, &["NotFound"])
}
