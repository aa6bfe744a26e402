//! A cluster that changes at random: services of every kind, and slices that come, change and go.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::objects::{put, remove, service};
use crate::random::Random;

/// How many different services there may be; few, so that they often change.
const SERVICES: u64 = 7;
/// Slices of a service: the first two are IPv4, the third is IPv6.
const SLICES: u64 = 3;
/// More ports than this no service has.
const PORTS: u64 = 3;

/// The objects that exist now, by the number of the service, and of the slice for slices.
#[derive(Debug)]
pub struct World {
    random: Random,
    services: BTreeMap<u64, Value>,
    slices: BTreeMap<(u64, u64), Value>,
}

impl World {
    /// An empty cluster.
    #[must_use]
    pub fn new(seed: u64) -> World {
        World { random: Random::new(seed), services: BTreeMap::new(), slices: BTreeMap::new() }
    }

    /// Changes one object, in `folder` as well, and tells what happened.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn change(&mut self, folder: &Path) -> Result<String> {
        let number = self.random.below(SERVICES);
        if self.random.once_in(3) {
            let old = self.services.remove(&number);
            match old {
                Some(old) if self.random.once_in(8) => {
                    remove(folder, &old)?;
                    return Ok(format!("remove {}", old["metadata"]["name"]));
                }
                _ => {}
            }
            let new = self.random_service(number);
            put(folder, &new)?;
            let told = format!("put {new}");
            self.services.insert(number, new);
            return Ok(told);
        }
        let key = (number, self.random.below(SLICES));
        match self.slices.remove(&key) {
            Some(old) if self.random.once_in(8) => {
                remove(folder, &old)?;
                Ok(format!("remove {}", old["metadata"]["name"]))
            }
            _ => {
                let new = self.random_slice(key);
                put(folder, &new)?;
                let told = format!("put {new}");
                self.slices.insert(key, new);
                Ok(told)
            }
        }
    }

    fn random_service(&mut self, number: u64) -> Value {
        let random = &mut self.random;
        let name = name(number);
        if random.once_in(12) {
            return service(&name, &json!({"type": "ExternalName", "externalName": "example.com"}));
        }
        let kind = random.choose(&["ClusterIP", "NodePort", "LoadBalancer"]);
        let mut spec = Map::new();
        spec.insert("type".into(), kind.into());
        spec.insert("ports".into(), ports(random, number, kind));
        cluster_ips(random, number, kind, &mut spec);
        if random.once_in(4) {
            spec.insert("sessionAffinity".into(), "ClientIP".into());
            let seconds = random.choose(&[60, 10_800]);
            spec.insert("sessionAffinityConfig".into(), json!({"clientIP": {"timeoutSeconds": seconds}}));
        }
        if random.once_in(4) {
            spec.insert("internalTrafficPolicy".into(), "Local".into());
        }
        if random.once_in(4) {
            let addresses = json!([format!("192.0.2.{}", number + 1), format!("2001:db8::{}", number + 1)]);
            spec.insert("externalIPs".into(), addresses);
        }
        if kind != "ClusterIP" && random.once_in(2) {
            spec.insert("externalTrafficPolicy".into(), "Local".into());
            if kind == "LoadBalancer" {
                spec.insert("healthCheckNodePort".into(), (32_000 + number).into());
            }
        }
        let mut object = Value::Null;
        if kind == "LoadBalancer" {
            if random.once_in(2) {
                let ranges = random
                    .choose(&[json!(["203.0.113.0/24"]), json!([" 192.168.56.0/24", "2001:db8:1::/64"])]);
                spec.insert("loadBalancerSourceRanges".into(), ranges);
            }
            let mode = random.choose(&["VIP", "VIP", "Proxy"]);
            object = json!({"loadBalancer": {"ingress": [
                {"ip": format!("198.51.100.{}", number + 1), "ipMode": mode},
                {"ip": format!("2001:db8:2::{}", number + 1), "ipMode": mode},
            ]}});
        }
        let mut made = service(&name, &spec.into());
        made["status"] = object;
        if random.once_in(15) {
            made["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "other"});
        }
        made
    }

    fn random_slice(&mut self, (number, slice): (u64, u64)) -> Value {
        let random = &mut self.random;
        let family = if slice < 2 { "IPv4" } else { "IPv6" };
        let ports: Vec<Value> = (0..PORTS)
            .filter(|_| !random.once_in(8))
            .map(|port| {
                json!({"name": format!("p{port}"), "port": 8080 + port, "protocol": protocol(number, port)})
            })
            .collect();
        let endpoints: Vec<Value> = (0..random.below(7)).map(|_| endpoint(random, family)).collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{}-{slice}", name(number)),
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": name(number)},
            },
            "addressType": family,
            "ports": ports,
            "endpoints": endpoints,
        })
    }
}

fn name(number: u64) -> String {
    format!("service-{number}")
}

/// A port keeps its protocol, since slices name it, too.
fn protocol(number: u64, port: u64) -> &'static str {
    ["TCP", "TCP", "UDP", "SCTP"][((number + port) % 4) as usize]
}

fn ports(random: &mut Random, number: u64, kind: &str) -> Value {
    let count = 1 + random.below(PORTS);
    let ports = (0..count).map(|port| {
        let mut spec = json!({
            "name": format!("p{port}"),
            "port": 80 + port,
            "targetPort": 8080 + port,
            "protocol": protocol(number, port),
        });
        if kind != "ClusterIP" {
            spec["nodePort"] = (30_000 + number * PORTS + port).into();
        }
        spec
    });
    ports.collect()
}

/// Of one family or both, or none for a headless service.
fn cluster_ips(random: &mut Random, number: u64, kind: &str, spec: &mut Map<String, Value>) {
    let v4 = format!("10.96.1.{}", number + 1);
    let v6 = format!("fd00:10:96::{}", number + 1);
    let (ips, families) = match random.below(if kind == "ClusterIP" { 8 } else { 7 }) {
        0 | 1 => (vec![v4], vec!["IPv4"]),
        2 => (vec![v6], vec!["IPv6"]),
        7 => (vec!["None".to_owned()], vec!["IPv4"]),
        _ => (vec![v4, v6], vec!["IPv4", "IPv6"]),
    };
    spec.insert("clusterIP".into(), ips[0].clone().into());
    spec.insert("clusterIPs".into(), ips.into());
    spec.insert("ipFamilies".into(), families.into());
}

fn endpoint(random: &mut Random, family: &str) -> Value {
    let (node, host) = (1 + random.below(3), 2 + random.below(6));
    let address = match family {
        "IPv4" => format!("10.244.{node}.{host}"),
        _ => format!("fd00:10:244:{node}::{host}"),
    };
    let conditions = random.choose(&[
        json!({"ready": true}),
        json!({"ready": true}),
        json!({"ready": true, "serving": true, "terminating": false}),
        json!({"ready": false, "serving": true, "terminating": true}),
        json!({"ready": false, "serving": false, "terminating": false}),
        json!({}),
    ]);
    let mut made =
        json!({"addresses": [address], "nodeName": format!("node-{node}"), "conditions": conditions});
    if random.once_in(3) {
        let zone = 1 + random.below(3);
        made["hints"] = json!({"forZones": [{"name": format!("z{zone}")}]});
    }
    made
}
