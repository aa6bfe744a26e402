//! What ADD made, in the forms of all versions that we speak.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::version::Version;

/// The result of ADD, which the runtime hands to the next plugin, and later to CHECK and DEL, as `prevResult`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddResult {
    #[serde(rename = "cniVersion")]
    pub cni_version: Version,
    #[serde(default, deserialize_with = "null_as_empty")]
    pub interfaces: Vec<Interface>,
    #[serde(default, deserialize_with = "null_as_empty")]
    pub ips: Vec<Ip>,
    #[serde(default, deserialize_with = "null_as_empty")]
    pub routes: Vec<Route>,
    #[serde(default)]
    pub dns: Dns,
}

/// A link that a plugin made, on the host or in the container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Interface {
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The container's namespace; none for a link on the host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    #[serde(rename = "socketPath", default, skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    #[serde(rename = "pciID", default, skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip {
    pub address: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Its place in the list of interfaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub dst: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u32>,
}

impl Route {
    /// A route with nothing special about it.
    pub fn through(dst: IpNet, gw: Option<IpAddr>) -> Route {
        Route { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}

/// What a container is to ask for names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dns {
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_empty")]
    pub nameservers: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_empty")]
    pub search: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_empty")]
    pub options: Vec<String>,
}

/// Programs written in Go print an empty list as null.
fn null_as_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

impl AddResult {
    pub fn empty(cni_version: Version) -> AddResult {
        AddResult {
            cni_version,
            interfaces: Vec::new(),
            ips: Vec::new(),
            routes: Vec::new(),
            dns: Dns::default(),
        }
    }

    /// The result in the form of a version, which need not be the one it came in.
    pub fn to_value(&self, version: Version) -> Value {
        let ip = |ip: &Ip| {
            let mut value = json!(ip);
            if version.names_ip_version() {
                value["version"] = json!(if ip.address.addr().is_ipv4() { "4" } else { "6" });
            }
            value
        };
        let interface = |interface: &Interface| {
            let mut plain = interface.clone();
            if !version.has_details() {
                plain.mtu = None;
                plain.socket_path.clear();
                plain.pci_id.clear();
            }
            json!(plain)
        };
        let route = |route: &Route| {
            if version.has_details() { json!(route) } else { json!(Route::through(route.dst, route.gw)) }
        };
        json!({
            "cniVersion": version,
            "interfaces": self.interfaces.iter().map(interface).collect::<Vec<_>>(),
            "ips": self.ips.iter().map(ip).collect::<Vec<_>>(),
            "routes": self.routes.iter().map(route).collect::<Vec<_>>(),
            "dns": self.dns,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result() -> AddResult {
        let interface = Interface {
            name: "eth0".to_owned(),
            mac: "0a:58:0a:f4:01:02".to_owned(),
            mtu: Some(1450),
            sandbox: "/run/netns/a".to_owned(),
            ..Interface::default()
        };
        let mut route = Route::through("0.0.0.0/0".parse().unwrap(), Some("10.244.1.1".parse().unwrap()));
        route.mtu = Some(1400);
        let ip = |address: &str| Ip { address: address.parse().unwrap(), gateway: None, interface: Some(0) };
        AddResult {
            interfaces: vec![interface],
            ips: vec![ip("10.244.1.2/24"), ip("fd00::2/64")],
            routes: vec![route],
            ..AddResult::empty(Version::V1_1_0)
        }
    }

    #[test]
    fn each_version_gets_its_own_form() {
        let newest = result().to_value(Version::V1_1_0);
        assert_eq!(newest["interfaces"][0]["mtu"], 1450);
        assert_eq!(newest["routes"][0]["mtu"], 1400);
        assert!(newest["ips"][0].get("version").is_none());
        let stable = result().to_value(Version::V1_0_0);
        assert!(stable["interfaces"][0].get("mtu").is_none() && stable["routes"][0].get("mtu").is_none());
        assert!(stable["ips"][0].get("version").is_none());
        let old = result().to_value(Version::V0_3_1);
        assert_eq!((&old["ips"][0]["version"], &old["ips"][1]["version"]), (&json!("4"), &json!("6")));
        assert_eq!(old["cniVersion"], "0.3.1");
    }

    #[test]
    fn every_form_is_read_back() {
        for version in super::super::SUPPORTED {
            let back: AddResult = serde_json::from_value(result().to_value(version)).unwrap();
            assert_eq!(back.cni_version, version);
            assert_eq!(back.ips, result().ips);
        }
        let sparse: AddResult =
            serde_json::from_str(r#"{"cniVersion": "0.4.0", "ips": null, "dns": {"search": null}}"#).unwrap();
        assert_eq!(sparse, AddResult::empty(Version::V0_4_0));
    }
}
