"""What programs do with the Python client. Takes the path of a kubeconfig; fails with what is wrong."""

import sys
import threading

from kubernetes import client, config, watch
from kubernetes.client.rest import ApiException

LIMIT_SECONDS = 20

config.load_kube_config(sys.argv[1])
core = client.CoreV1Api()
apps = client.AppsV1Api()
discovery = client.DiscoveryV1Api()


def service(name, **spec):
    port = client.V1ServicePort(port=80, target_port=8080)
    return client.V1Service(
        metadata=client.V1ObjectMeta(name=name, labels={"app": name}),
        spec=client.V1ServiceSpec(selector={"app": name}, ports=[port], **spec),
    )


# Created, read, listed by label.
created = core.create_namespaced_service("default", service("web"))
assert created.spec.cluster_ip.startswith("10."), created.spec.cluster_ip
assert created.spec.ports[0].target_port == 8080
listed = core.list_namespaced_service("default", label_selector="app=web")
assert [item.metadata.name for item in listed.items] == ["web"]

# A watch from the list's version tells of what comes.
seen = []


def follow():
    events = watch.Watch().stream(
        core.list_namespaced_service,
        "default",
        resource_version=listed.metadata.resource_version,
        timeout_seconds=LIMIT_SECONDS,
    )
    for event in events:
        seen.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED":
            return


follower = threading.Thread(target=follow)
follower.start()

# Patched: a dictionary is a strategic merge, which keeps the other ports; a list is a JSON patch.
extra = {"spec": {"ports": [{"name": "metrics", "port": 9090}, {"name": "http", "port": 80}]}}
patched = core.patch_namespaced_service("web", "default", extra)
assert sorted(port.port for port in patched.spec.ports) == [80, 9090], patched.spec.ports
typed = core.patch_namespaced_service("web", "default", {"spec": {"type": "NodePort"}})
assert all(30000 <= port.node_port <= 32767 for port in typed.spec.ports)
labelled = core.patch_namespaced_service(
    "web", "default", [{"op": "add", "path": "/metadata/labels/tier", "value": "front"}]
)
assert labelled.metadata.labels == {"app": "web", "tier": "front"}

# Replaced with a version that is too old.
stale = service("web")
stale.metadata.resource_version = created.metadata.resource_version
try:
    core.replace_namespaced_service("web", "default", stale)
    raise AssertionError("a stale update went through")
except ApiException as error:
    assert error.status == 409, error

# Refused, in words that the client can read.
try:
    core.create_namespaced_service("default", service("bad", cluster_ip="192.0.2.1"))
    raise AssertionError("an address out of the range was given out")
except ApiException as error:
    assert error.status == 422 and "the provided network does not match the current range" in error.body, error

# A deployment has its pods made, and its service's slice follows.
template = client.V1PodTemplateSpec(
    metadata=client.V1ObjectMeta(labels={"app": "web"}),
    spec=client.V1PodSpec(containers=[client.V1Container(name="web", image="nginx")]),
)
selector = client.V1LabelSelector(match_labels={"app": "web"})
apps.create_namespaced_deployment(
    "default",
    client.V1Deployment(
        metadata=client.V1ObjectMeta(name="web"),
        spec=client.V1DeploymentSpec(replicas=2, selector=selector, template=template),
    ),
)
pods = watch.Watch().stream(
    core.list_namespaced_pod, "default", label_selector="app=web", timeout_seconds=LIMIT_SECONDS
)
names = set()
for event in pods:
    names.add(event["object"].metadata.name)
    if len(names) == 2:
        break
assert len(names) == 2, names
apps.patch_namespaced_deployment_scale("web", "default", {"spec": {"replicas": 3}})
assert apps.read_namespaced_deployment_scale("web", "default").spec.replicas == 3
slices = discovery.list_namespaced_endpoint_slice("default", label_selector="kubernetes.io/service-name=kubernetes")
assert slices.items[0].address_type == "IPv4"

gone = core.delete_namespaced_service("web", "default")
follower.join(LIMIT_SECONDS)
assert seen[0] == ("MODIFIED", "web") and seen[-1] == ("DELETED", "web"), seen
