//! What the lecture tells, in its order.

use super::step::Step;

/// All of it.
pub(super) fn steps() -> Vec<Step> {
    [cluster(), pods(), cluster_ip(), virtual_object(), rules(), node_port(), end()].concat()
}

const fn step(lesson: &'static str, command: &'static str, shows: &'static [&'static str]) -> Step {
    Step { lesson, command, shows }
}

fn cluster() -> Vec<Step> {
    vec![
        step(
            "We start on a clean slate: a three-node cluster, no pods or services yet but the API's own.",
            "kubectl get nodes; kubectl get pods; kubectl get services",
            &["node-1   Ready", "node-2   Ready", "node-3   Ready", "No resources found", "10.96.0.1"],
        ),
        step(
            "Every node runs an agent (the kubelet's part: it creates pods) and a proxy. Both watch the API server.",
            "switchyard status",
            &["node-1/agent", "node-1/proxy", "node-3/agent", "node-3/proxy"],
        ),
    ]
}

fn pods() -> Vec<Step> {
    vec![
        step(
            "A pod named db, deployed on node-1. Its IP address is 10.244.1.2, from the node's own range.",
            "kubectl apply -f db-pod.yaml && kubectl wait --for=condition=Ready pod/db && kubectl get pod db -o wide",
            &["10.244.1.2", "node-1"],
        ),
        step(
            "The pod has a namespace with an interface, and that has the address. The CNI plugin put it on the node's bridge.",
            "switchyard shell pod/db -- ip -brief -4 address show eth0; switchyard shell node-1 -- ip -brief -4 address show cni0",
            &["10.244.1.2/24", "10.244.1.1/24"],
        ),
        step(
            "More pods, one on each node: blue beside db, green and yellow elsewhere.",
            "kubectl apply -f clients.yaml && kubectl wait --for=condition=Ready pod/blue pod/green pod/yellow && \
             kubectl get pods -o wide",
            &["10.244.1.3", "10.244.2.2", "10.244.3.2"],
        ),
        step(
            "Routes join the nodes' ranges to one network, in which all pods can reach each other.",
            "switchyard shell node-2 -- ip route | grep 10.244",
            &["10.244.1.0/24 via 172.30.0.11", "10.244.3.0/24 via 172.30.0.13"],
        ),
    ]
}

fn cluster_ip() -> Vec<Step> {
    vec![
        step(
            "Pods rarely talk to each other directly: a service of type ClusterIP makes db available within the cluster.",
            "kubectl apply -f db-service.yaml && kubectl get service db-service",
            &["db-service", "10.103.132.104", "3306/TCP"],
        ),
        step(
            "Its address is of the range that the API server's option service-cluster-ip-range says: 10.96.0.0 to 10.111.255.255. \
             The pods' range, cluster-cidr, is another one.",
            "ps -ww -C switchyard -o args | grep lecture/apiserver | grep -Eo -- '--[a-z-]*(range|cidr)=[^ ]*'",
            &["service-cluster-ip-range=10.96.0.0/12", "cluster-cidr=10.244.0.0/16"],
        ),
        step(
            "The two must not overlap: an address has to be a pod's or a service's. So this is refused.",
            "switchyard up --name overlap --cluster-cidr 10.100.0.0/16",
            &["10.96.0.0/12", "10.100.0.0/16", "overlap"],
        ),
        step(
            "The service is on no node, and on all of them: pods on every node reach db through it.",
            "for pod in blue green yellow; do\n    \
             switchyard shell pod/$pod -- curl -s --max-time 1 telnet://10.103.132.104:3306 | grep -ao 'pod db on node-1' | sed \"s/^/$pod reaches /\"\n  \
             done",
            &["blue reaches pod db", "green reaches pod db", "yellow reaches pod db"],
        ),
    ]
}

fn virtual_object() -> Vec<Step> {
    vec![
        step(
            "Yet there is no interface with the service's address, on any node.",
            "for node in node-1 node-2 node-3; do\n    \
             switchyard shell $node -- ip -o address | grep 10.103.132.104 || echo $node: none\n  \
             done",
            &["node-1: none", "node-2: none", "node-3: none"],
        ),
        step(
            "Nor does any process listen on it. A service is a virtual object.",
            "for node in node-1 node-2 node-3; do\n    \
             switchyard shell $node -- ss -Hltn | grep -E '10.103.132.104|:3306' || echo $node: nobody\n  \
             done",
            &["node-1: nobody", "node-2: nobody", "node-3: nobody"],
        ),
    ]
}

fn rules() -> Vec<Step> {
    vec![
        step(
            "What makes it work are forwarding rules that the proxy writes on each node. All carry the service's name in a comment.",
            "switchyard shell node-1 -- iptables -n -t nat -L | grep db-service",
            &["10.103.132.104", "/* default/db-service cluster IP */", "to:10.244.1.2:3306"],
        ),
        step(
            "The DNAT rule: what goes to 10.103.132.104, port 3306, has its destination changed to 10.244.1.2, port 3306. \
             node-3 has it too.",
            "switchyard shell node-3 -- iptables-save -t nat | grep db-service | grep -E 'cluster IP|DNAT'",
            &["-d 10.103.132.104/32", "--dport 3306", "--to-destination 10.244.1.2:3306"],
        ),
        step(
            "Every rule on a packet's way, and what becomes of it; then one real connection to hold against that.",
            "switchyard trace pod/blue db-service:3306 --send",
            &["10.244.1.2:3306", "100.0 %", ": as foretold"],
        ),
        step(
            "The proxy's log says which proxier it uses, here iptables, and when it added the service. (It takes verbosity 4.)",
            "switchyard logs node-1/proxy | grep -E 'Using iptables|Adding new service port.*db-service'",
            &["Using iptables Proxier", "default/db-service"],
        ),
    ]
}

fn node_port() -> Vec<Step> {
    vec![
        step(
            "A web application for users outside: a service of type NodePort has a cluster IP as well, and a port on all nodes.",
            "kubectl apply -f web.yaml && kubectl rollout status deployment/web && kubectl get service web-service",
            &["NodePort", "80:30080/TCP"],
        ),
        step(
            "A user who is no part of the cluster reaches it through every node, wherever its pods are.",
            "for node in 172.30.0.11 172.30.0.12 172.30.0.13; do\n    \
             echo through $node: $(switchyard shell outside -- curl -sS --max-time 3 http://$node:30080/)\n  \
             done",
            &[
                "through 172.30.0.11: pod: web-",
                "through 172.30.0.12: pod: web-",
                "through 172.30.0.13: pod: web-",
            ],
        ),
        step(
            "The rules for that look at the port alone, on whichever of the node's addresses it is.",
            "switchyard shell node-2 -- iptables-save -t nat | grep 30080",
            &["--dport 30080", "default/web-service"],
        ),
    ]
}

fn end() -> Vec<Step> {
    vec![
        step("Delete the service,", "kubectl delete service db-service", &["db-service", "deleted"]),
        step(
            "and the proxies remove its rules, on every node.",
            "for node in node-1 node-2 node-3; do\n    \
             switchyard shell $node -- iptables-save | grep db-service || echo $node: no rule left\n  \
             done",
            &["node-1: no rule left", "node-2: no rule left", "node-3: no rule left"],
        ),
    ]
}
