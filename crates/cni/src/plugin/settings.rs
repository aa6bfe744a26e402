//! What the configuration asks for, checked before anything is done.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::range::Range;
use crate::types::{AddResult, Attachment, Command, Dns, Error, Version, code, is_valid_name};

const DATA: &str = "/var/lib/switchyard/cni";
const BRIDGE: &str = "cni0";
/// It stands in comments of iptables rules and in aliases of links, which hold 255 bytes.
const LONGEST_NAME: usize = 128;

/// A configuration that was understood.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) version: Version,
    pub(super) network: String,
    pub(super) bridge: String,
    pub(super) mtu: Option<u32>,
    pub(super) hairpin: bool,
    pub(super) gateway: bool,
    pub(super) masquerade: bool,
    pub(super) ranges: Vec<Range>,
    /// The folder of all networks' folders.
    pub(super) data: PathBuf,
    pub(super) dns: Dns,
    /// The ports to be mapped for this attachment.
    pub(super) mappings: Vec<Mapping>,
    /// Whether attachments of this network may ask for mapped ports.
    pub(super) may_map: bool,
    pub(super) previous: Option<AddResult>,
    /// For GC: the attachments that are to stay.
    pub(super) valid: Option<Vec<Attachment>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

/// A port of the host that leads to one of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) host_port: u16,
    pub(super) container_port: u16,
    pub(super) protocol: Protocol,
    /// The one address of the host that it is on; all without.
    pub(super) host_address: Option<IpAddr>,
}

/// Why a configuration was not taken, and the version to say so in, if it got that far.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) version: Option<Version>,
    pub(super) error: Error,
}

/// The keys that are ours. Others belong to other plugins or to later versions, and are left alone.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    #[serde(default)]
    name: String,
    bridge: Option<String>,
    mtu: Option<u32>,
    hairpin_mode: Option<bool>,
    is_gateway: Option<bool>,
    ip_masq: Option<bool>,
    #[serde(default)]
    ranges: Vec<String>,
    data_dir: Option<PathBuf>,
    #[serde(default)]
    dns: Dns,
    #[serde(default)]
    capabilities: Map<String, Value>,
    runtime_config: Option<RuntimeConfig>,
    #[serde(rename = "prevResult")]
    previous: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid: Option<Vec<Attachment>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeConfig {
    port_mappings: Option<Vec<PortMapping>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PortMapping {
    #[serde(default)]
    host_port: i64,
    #[serde(default)]
    container_port: i64,
    protocol: Option<String>,
    #[serde(rename = "hostIP")]
    host_ip: Option<String>,
}

impl Settings {
    /// Reads the configuration for a command. To remove things takes less of it than to make them, so that what an
    /// earlier configuration made can be removed with a later, wrong one.
    pub(super) fn read(bytes: &[u8], command: Command) -> Result<Settings, Refused> {
        let refused = |error| Refused { version: None, error };
        let value: Value = serde_json::from_slice(bytes).map_err(|error| {
            let msg = format!("the configuration on standard input is no JSON: {error}");
            refused(Error::new(code::DECODING, msg))
        })?;
        let version = version(&value).map_err(refused)?;
        let refused = |error| Refused { version: Some(version), error };
        let needed = match command {
            Command::Gc | Command::Status if !version.has_gc_and_status() => Some("1.1.0"),
            Command::Check if !version.has_check() => Some("0.4.0"),
            _ => None,
        };
        if let Some(needed) = needed {
            let msg =
                format!("{} came with CNI {needed}; the configuration is for {version}", command.as_str());
            return Err(refused(Error::new(code::INCOMPATIBLE_VERSION, msg)));
        }
        let keys = serde_path_to_error::deserialize::<_, Keys>(value).map_err(|error| {
            let msg = format!("{} of the configuration: {}", error.path(), error.inner());
            refused(Error::new(code::DECODING, msg))
        })?;
        Settings::from_keys(version, keys, command).map_err(refused)
    }

    fn from_keys(version: Version, keys: Keys, command: Command) -> Result<Settings, Error> {
        let makes = matches!(command, Command::Add | Command::Check | Command::Status);
        if !is_valid_name(&keys.name) || keys.name.len() > LONGEST_NAME {
            return Err(invalid(format!(
                "the name of the network is {:?}; it has to begin with a letter or digit, only _ . - may follow besides \
                 those, and {LONGEST_NAME} bytes are the most",
                keys.name
            )));
        }
        let bridge = keys.bridge.filter(|name| !name.is_empty()).unwrap_or_else(|| BRIDGE.to_owned());
        if bridge.len() > 15 || bridge.contains(|c: char| c == '/' || c.is_whitespace()) || bridge == ".." {
            return Err(invalid(format!("bridge {bridge:?} is no name for a link; 15 bytes are the most")));
        }
        let ranges = match ranges(&keys.ranges) {
            Err(_) if !makes => Vec::new(),
            other => other?,
        };
        let runtime = keys.runtime_config.unwrap_or_default();
        let mappings = mappings(runtime.port_mappings.unwrap_or_default());
        let previous = match keys.previous.map(serde_json::from_value::<AddResult>).transpose() {
            Err(error) if makes => return Err(invalid(format!("prevResult is no result of ADD: {error}"))),
            other => other.unwrap_or_default(),
        };
        if command == Command::Check && previous.is_none() {
            return Err(invalid("CHECK needs prevResult, the result of ADD"));
        }
        if command == Command::Gc && keys.valid.is_none() {
            // Without it everything would be garbage.
            return Err(invalid("GC needs cni.dev/valid-attachments, the attachments that are to stay"));
        }
        Ok(Settings {
            version,
            network: keys.name,
            bridge,
            // The reference plugins say 0 for the kernel's choice.
            mtu: keys.mtu.filter(|mtu| *mtu != 0),
            hairpin: keys.hairpin_mode.unwrap_or(true),
            gateway: keys.is_gateway.unwrap_or(true),
            masquerade: keys.ip_masq.unwrap_or(false),
            ranges,
            data: keys.data_dir.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| DATA.into()),
            dns: keys.dns,
            mappings: match mappings {
                Err(_) if !makes => Vec::new(),
                other => other?,
            },
            may_map: keys.capabilities.get("portMappings") == Some(&Value::Bool(true)),
            previous,
            valid: keys.valid,
        })
    }

    /// Where the leases of this network are.
    pub(super) fn folder(&self) -> PathBuf {
        self.data.join(&self.network)
    }

    /// Whether attachments of this network have rules of iptables.
    pub(super) fn uses_iptables(&self) -> bool {
        self.masquerade || self.may_map || !self.mappings.is_empty()
    }
}

fn invalid(msg: impl Into<String>) -> Error {
    Error::new(code::INVALID_CONFIGURATION, msg)
}

fn version(value: &Value) -> Result<Version, Error> {
    let named = value.get("cniVersion").and_then(Value::as_str);
    let incompatible = |msg: String| {
        let details = "set cniVersion to one of 0.3.0, 0.3.1, 0.4.0, 1.0.0 and 1.1.0";
        Err(Error::new(code::INCOMPATIBLE_VERSION, msg).with_details(details))
    };
    match named {
        None => incompatible("the configuration has no cniVersion, which means 0.1.0".to_owned()),
        Some(text) => match Version::parse(text) {
            Some(version) => Ok(version),
            None => incompatible(format!("CNI version {text:?} of the configuration is not supported")),
        },
    }
}

fn ranges(texts: &[String]) -> Result<Vec<Range>, Error> {
    if texts.is_empty() {
        return Err(invalid("ranges is missing; it is the list of this node's pod CIDRs"));
    }
    let mut ranges: Vec<Range> = Vec::new();
    for text in texts {
        let network: IpNet = text.parse().map_err(|_| {
            invalid(format!("ranges has {text:?}; it has to be a CIDR such as 10.244.1.0/24"))
        })?;
        let range = Range::new(network).map_err(|why| invalid(format!("ranges has {text}, which {why}")))?;
        if ranges.iter().any(|other| other.is_ipv4() == range.is_ipv4()) {
            let family = if range.is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(invalid(format!(
                "ranges has more than one {family} range; one a family is the most"
            )));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

fn mappings(all: Vec<PortMapping>) -> Result<Vec<Mapping>, Error> {
    // Runtimes list ports that are only exposed too, with a host port of 0.
    all.into_iter().filter(|mapping| mapping.host_port != 0).map(mapping).collect()
}

fn mapping(mapping: PortMapping) -> Result<Mapping, Error> {
    let port = |name: &str, value: i64| match u16::try_from(value) {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(invalid(format!("portMappings has {name} {value}; it has to be from 1 to 65535"))),
    };
    let protocol = mapping.protocol.unwrap_or_default().to_ascii_lowercase();
    let host_ip = mapping.host_ip.unwrap_or_default();
    Ok(Mapping {
        host_port: port("hostPort", mapping.host_port)?,
        container_port: port("containerPort", mapping.container_port)?,
        protocol: match protocol.as_str() {
            "" | "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            other => {
                return Err(invalid(format!(
                    "portMappings has protocol {other:?}; tcp, udp and sctp can be mapped"
                )));
            }
        },
        host_address: match host_ip.as_str() {
            "" => None,
            text => {
                let parsed = text.parse::<IpAddr>();
                let address = parsed
                    .map_err(|_| invalid(format!("portMappings has hostIP {text:?}, which is no address")))?;
                // 0.0.0.0 and :: mean every address, of their family.
                Some(address)
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, command: Command) -> Result<Settings, Refused> {
        Settings::read(text.as_bytes(), command)
    }

    const MINIMAL: &str =
        r#"{"cniVersion": "1.1.0", "name": "n", "type": "t", "ranges": ["10.244.1.0/24"], "unknown": 1}"#;

    #[test]
    fn defaults_are_those_of_a_node() {
        let settings = read(MINIMAL, Command::Add).unwrap();
        assert_eq!(settings.bridge, "cni0");
        assert!(settings.hairpin && settings.gateway && !settings.masquerade);
        assert_eq!(settings.folder().to_str(), Some("/var/lib/switchyard/cni/n"));
        assert_eq!(settings.mtu, None);
    }

    #[test]
    fn removing_takes_less_than_making() {
        let broken = MINIMAL.replace("10.244.1.0/24", "nonsense");
        assert!(read(&broken, Command::Add).is_err());
        assert!(read(&broken, Command::Del).is_ok());
        let broken = MINIMAL.replace("\"unknown\": 1", "\"prevResult\": {\"cniVersion\": \"9\"}");
        assert!(read(&broken, Command::Add).is_err());
        assert!(read(&broken, Command::Del).is_ok());
    }

    #[test]
    fn ports_are_checked() {
        let with = |mapping: &str| {
            let runtime = format!(r#""runtimeConfig": {{"portMappings": [{mapping}]}}"#);
            read(&MINIMAL.replace("\"unknown\": 1", &runtime), Command::Add).map(|settings| settings.mappings)
        };
        let udp =
            with(r#"{"hostPort": 53, "containerPort": 5353, "protocol": "UDP", "hostIP": "192.0.2.1"}"#)
                .unwrap();
        assert_eq!((udp[0].protocol, udp[0].host_port, udp[0].container_port), (Protocol::Udp, 53, 5353));
        assert!(with(r#"{"hostPort": 0, "containerPort": 80}"#).unwrap().is_empty());
        for wrong in [
            r#"{"hostPort": 70000, "containerPort": 80}"#,
            r#"{"hostPort": 80}"#,
            r#"{"hostPort": 80, "containerPort": 80, "protocol": "icmp"}"#,
            r#"{"hostPort": 80, "containerPort": 80, "hostIP": "here"}"#,
        ] {
            let error = with(wrong).unwrap_err().error;
            assert_eq!(error.code, code::INVALID_CONFIGURATION, "{wrong}: {error}");
        }
    }
}
