//! Our plugin, `switchyard-cni`: a bridge a node, a veth pair and an address of each family a container.
//!
//! | file | what it holds |
//! |---|---|
//! | `settings` | what the configuration asks for, checked |
//! | `range`, `identity`, `plan`, `rules` | what follows from it: pure functions |
//! | `leases` | which address belongs to whom, on disk |
//! | `wire`, `ports` | doing it: links, addresses, routes; iptables |
//! | `add`, `del`, `check`, `gc`, `status` | the commands |
//!
//! Configuration, besides what the spec has for every plugin: `bridge` (default `cni0`), `ranges` (at most one a family,
//! such as `["10.244.1.0/24", "fd00:10:244:1::/64"]`), `mtu`, `hairpinMode` (default true), `isGateway` (default true: the
//! bridge has the first address of each range and is the default route), `ipMasq` (default false), `dataDir` (default
//! `/var/lib/switchyard/cni`; the leases are in a folder there with the network's name), `dns`, and the capability
//! `portMappings`. A mapped port is reached under every address of the host but its loopback ones, as with node ports.
//!
//! DEL leaves the bridge, which belongs to no container; everything else of an attachment goes.

mod add;
mod check;
mod del;
mod gc;
mod identity;
mod leases;
mod plan;
mod ports;
mod range;
mod rules;
mod settings;
mod status;
mod wire;

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::{Value, json};

use crate::types::{Command, Environment, Error, SUPPORTED, Version, VersionResult, code};
use settings::Settings;

/// What the plugin prints and how it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub stdout: Vec<u8>,
    pub exit_code: u8,
}

/// Runs the plugin: the command of the environment with the configuration on standard input, in the calling thread's
/// network namespace.
pub fn main(variables: &BTreeMap<String, String>, stdin: &mut dyn Read) -> Answer {
    // Before standard input is read: called by a person, without a command, there may be none.
    let environment = match Environment::read(variables) {
        Ok(environment) => environment,
        Err(error) => return failure(error, None),
    };
    let mut bytes = Vec::new();
    if let Err(source) = stdin.read_to_end(&mut bytes) {
        let error = Error::new(code::IO, format!("reading the configuration from standard input: {source}"));
        return failure(error, None);
    }
    let (version, result) = run(&environment, &bytes);
    match result {
        Ok(None) => Answer { stdout: Vec::new(), exit_code: 0 },
        Ok(Some(value)) => Answer { stdout: line(&value), exit_code: 0 },
        Err(error) => failure(error, version),
    }
}

/// The variables of this process that CNI knows. Others need not even be text.
pub fn variables() -> BTreeMap<String, String> {
    let ours = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with("CNI_"))?;
        Some((name, value.to_string_lossy().into_owned()))
    });
    ours.collect()
}

/// Carries the command out; also the version that the answer has to be in, as far as it is known.
fn run(environment: &Environment, bytes: &[u8]) -> (Option<Version>, Result<Option<Value>, Error>) {
    if environment.command == Command::Version {
        return (None, Ok(Some(supported_versions(bytes))));
    }
    let settings = match Settings::read(bytes, environment.command) {
        Ok(settings) => settings,
        Err(refused) => return (refused.version, Err(refused.error)),
    };
    let version = settings.version;
    let result = match environment.command {
        Command::Add => add::add(&settings, environment).map(|result| Some(result.to_value(version))),
        Command::Del => del::del(&settings, environment).map(|()| None),
        Command::Check => check::check(&settings, environment).map(|()| None),
        Command::Gc => gc::gc(&settings).map(|()| None),
        Command::Status => status::status(&settings).map(|()| None),
        Command::Version => Ok(None),
    };
    (Some(version), result)
}

/// VERSION answers whatever it is asked with: the runtime asks before it knows what we speak.
fn supported_versions(bytes: &[u8]) -> Value {
    let asked: Option<Value> = serde_json::from_slice(bytes).ok();
    let asked = asked.as_ref().and_then(|value| value.get("cniVersion")).and_then(Value::as_str);
    json!(VersionResult {
        cni_version: asked.unwrap_or(Version::NEWEST.as_str()).to_owned(),
        supported_versions: SUPPORTED.iter().map(ToString::to_string).collect(),
    })
}

fn failure(mut error: Error, version: Option<Version>) -> Answer {
    error.cni_version = version.unwrap_or(Version::NEWEST).to_string();
    Answer { stdout: line(&json!(error)), exit_code: 1 }
}

fn line(value: &Value) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_to(variables: &[(&str, &str)], stdin: &str) -> (Value, u8) {
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let answer = main(&variables, &mut stdin.as_bytes());
        (serde_json::from_slice(&answer.stdout).unwrap_or(Value::Null), answer.exit_code)
    }

    #[test]
    fn version_answers_in_the_version_asked() {
        let (answer, code) = answer_to(&[("CNI_COMMAND", "VERSION")], r#"{"cniVersion": "0.4.0"}"#);
        assert_eq!((answer["cniVersion"].as_str(), code), (Some("0.4.0"), 0));
        assert_eq!(answer["supportedVersions"].as_array().unwrap().len(), SUPPORTED.len());
        let (newest, _) = answer_to(&[("CNI_COMMAND", "VERSION")], "");
        assert_eq!(newest["cniVersion"], "1.1.0");
    }

    #[test]
    fn bad_input_gets_the_code_of_the_spec() {
        let add = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "a"),
            ("CNI_NETNS", "/run/netns/none-such"),
            ("CNI_IFNAME", "eth0"),
        ];
        let conf = |rest: &str| format!(r#"{{"cniVersion": "1.0.0", "name": "n", "type": "t"{rest}}}"#);
        let ranges = |text: &str| conf(&format!(r#", "ranges": {text}"#));
        let good = ranges(r#"["10.0.0.0/24"]"#);
        for (variables, stdin, code, part) in [
            (&[][..], good.clone(), code::INVALID_ENVIRONMENT, "CNI_COMMAND"),
            (&add[..1], good.clone(), code::INVALID_ENVIRONMENT, "CNI_CONTAINERID"),
            (&add[..], "{".to_owned(), code::DECODING, "JSON"),
            (&add[..], String::new(), code::DECODING, "JSON"),
            (
                &add[..],
                r#"{"cniVersion": "3.0.0", "name": "n"}"#.to_owned(),
                code::INCOMPATIBLE_VERSION,
                "3.0.0",
            ),
            (&add[..], r#"{"name": "n"}"#.to_owned(), code::INCOMPATIBLE_VERSION, "cniVersion"),
            (&add[..], r#"{"cniVersion": "1.0.0"}"#.to_owned(), code::INVALID_CONFIGURATION, "name"),
            (&add[..], conf(""), code::INVALID_CONFIGURATION, "ranges"),
            (&add[..], conf(r#", "mtu": "big""#), code::DECODING, "mtu"),
            (&add[..], ranges(r#"["10.0.0.0/33"]"#), code::INVALID_CONFIGURATION, "10.0.0.0/33"),
            (&add[..], ranges(r#"["10.0.0.0/31"]"#), code::INVALID_CONFIGURATION, "10.0.0.0/31"),
            (&add[..], ranges(r#"["10.0.0.1/24"]"#), code::INVALID_CONFIGURATION, "10.0.0.0/24"),
            (&add[..], ranges(r#"["10.0.0.0/24", "10.1.0.0/24"]"#), code::INVALID_CONFIGURATION, "IPv4"),
            (&add[..], good.clone(), code::CONTAINER_UNKNOWN, "none-such"),
            (&[("CNI_COMMAND", "GC")][..], good.clone(), code::INCOMPATIBLE_VERSION, "1.1.0"),
            (&[("CNI_COMMAND", "STATUS")][..], good.clone(), code::INCOMPATIBLE_VERSION, "1.1.0"),
            (
                &[("CNI_COMMAND", "GC")][..],
                good.replace("1.0.0", "1.1.0"),
                code::INVALID_CONFIGURATION,
                "cni.dev",
            ),
        ] {
            let (answer, exit_code) = answer_to(variables, &stdin);
            assert_eq!((answer["code"].as_u64(), exit_code), (Some(u64::from(code)), 1), "{stdin}: {answer}");
            assert!(answer["msg"].as_str().unwrap().contains(part), "{stdin}: {answer}");
        }
    }

    #[test]
    fn an_error_is_in_the_version_of_the_configuration() {
        let (answer, _) = answer_to(
            &[("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "a"), ("CNI_NETNS", "/x"), ("CNI_IFNAME", "e")],
            r#"{"cniVersion": "0.4.0", "name": "n", "type": "t"}"#,
        );
        assert_eq!(answer["cniVersion"], "0.4.0");
    }
}
