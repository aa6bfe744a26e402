//! The scene itself, without a proxy: who reaches whom, and that nothing is left behind.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use switchyard_lab::scene::{self, Scene};
use switchyard_lab::topology::Topology;
use switchyard_lab::traffic::{Outcome, Probe, Protocol, Target};

/// A name of this process's own, or none without root: then the test says so and passes over it.
fn scene_name(test: &str) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: making network namespaces needs root");
        return None;
    }
    Some(format!("switchyard-lab-{}-{test}", std::process::id()))
}

fn target(address: IpAddr, port: u16, protocol: Protocol) -> Target {
    Target { address: SocketAddr::new(address, port), protocol }
}

#[test]
fn every_place_reaches_every_backend_under_its_own_address() {
    let Some(name) = scene_name("reach") else { return };
    let scene = Scene::build(&name, Topology::three_nodes()).unwrap();
    let topology = scene.topology();
    let nodes =
        topology.nodes.iter().map(|node| (&node.name, node.addresses.iter().map(IpNet::addr).collect()));
    let pods = topology.pods().map(|(_, pod)| (&pod.name, pod.addresses.clone()));
    let outside = &topology.outside;
    let outside_addresses: Vec<IpAddr> =
        outside.addresses.iter().map(IpNet::addr).chain(outside.remote_addresses.clone()).collect();
    let outside = outside_addresses.into_iter().map(|address| (&outside.name, vec![address]));
    let askers: Vec<(&String, Vec<IpAddr>)> = nodes.chain(pods).chain(outside).collect();

    for (place, sources) in askers {
        for source in sources {
            let probe = Probe { source: Some(source), tries: 1, ..Probe::default() };
            let (backends, targets): (Vec<IpAddr>, Vec<Target>) = topology
                .pods()
                .filter(|(_, pod)| pod.backend)
                .flat_map(|(_, pod)| pod.addresses.clone())
                .filter(|backend| backend.is_ipv4() == source.is_ipv4())
                .flat_map(|backend| {
                    let protocols = [(8080, Protocol::Tcp), (53, Protocol::Udp)];
                    protocols.map(|(port, protocol)| (backend, target(backend, port, protocol)))
                })
                .unzip();
            let outcomes = scene.ask(place, &probe, &targets).unwrap();
            for (backend, outcomes) in backends.into_iter().zip(outcomes) {
                let expected = BTreeSet::from([Outcome::Answer { backend, peer: source }]);
                assert_eq!(outcomes, expected, "{place} asked from {source}");
            }
        }
    }
}

#[test]
fn what_leads_nowhere_is_lost_and_what_is_closed_refuses() {
    let Some(name) = scene_name("nowhere") else { return };
    let scene = Scene::build(&name, Topology::three_nodes()).unwrap();
    let probe = Probe { patience: std::time::Duration::from_millis(300), ..Probe::default() };
    let nowhere = target("10.96.0.1".parse().unwrap(), 443, Protocol::Tcp);
    let closed = target("192.168.56.11".parse().unwrap(), 30080, Protocol::Tcp);
    for place in ["client", "outside", "node-1"] {
        let outcomes = scene.ask(place, &probe, &[nowhere, closed]).unwrap();
        assert_eq!(outcomes[0], BTreeSet::from([Outcome::Timeout]), "{place} to {nowhere}");
        assert_eq!(outcomes[1], BTreeSet::from([Outcome::Refused]), "{place} to {closed}");
    }
}

#[test]
fn two_scenes_with_the_same_addresses_do_not_meet() {
    let (Some(one), Some(other)) = (scene_name("one"), scene_name("other")) else { return };
    let one = Scene::build(&one, Topology::three_nodes()).unwrap();
    let other = Scene::build(&other, Topology::three_nodes()).unwrap();
    drop(one);
    let backend = "10.244.3.2".parse().unwrap();
    let outcomes = other.ask("client", &Probe::default(), &[target(backend, 3306, Protocol::Tcp)]).unwrap();
    let peer = "10.244.1.3".parse().unwrap();
    assert_eq!(outcomes, [BTreeSet::from([Outcome::Answer { backend, peer }])]);
}

#[test]
fn nothing_is_left_of_a_scene_whose_test_panicked() {
    let Some(name) = scene_name("panic") else { return };
    let scene = Scene::build(&name, Topology::three_nodes()).unwrap();
    assert!(!scene::namespaces(&name).unwrap().is_empty());
    let panicked = std::thread::spawn(move || {
        let _scene = scene;
        panic!("as a failed assertion does");
    });
    assert!(panicked.join().is_err());
    assert!(scene::namespaces(&name).unwrap().is_empty());
}

#[test]
fn sweeping_removes_what_a_killed_process_left() {
    let Some(name) = scene_name("killed") else { return };
    let scene = Scene::build(&name, Topology::three_nodes()).unwrap();
    std::mem::forget(scene);
    scene::sweep(&name).unwrap();
    assert!(scene::namespaces(&name).unwrap().is_empty());
}

#[test]
fn an_unknown_place_is_named_together_with_the_known_ones() {
    let Some(name) = scene_name("place") else { return };
    let scene = Scene::build(&name, Topology::three_nodes()).unwrap();
    let error = scene.run("node-4", || ()).unwrap_err().to_string();
    assert!(error.contains("\"node-4\"") && error.contains("node-3"), "{error}");
}
