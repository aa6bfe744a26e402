//! What a runtime tells a plugin by environment variables.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::error::{Error, code};

/// What a plugin is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Command {
    pub fn as_str(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Gc => "GC",
            Command::Status => "STATUS",
            Command::Version => "VERSION",
        }
    }

    fn parse(text: &str) -> Option<Command> {
        let all =
            [Command::Add, Command::Del, Command::Check, Command::Gc, Command::Status, Command::Version];
        all.into_iter().find(|command| command.as_str() == text)
    }

    /// Whether it is about one attachment: a container and an interface in it.
    fn names_an_attachment(self) -> bool {
        matches!(self, Command::Add | Command::Del | Command::Check)
    }
}

/// The variables, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    pub command: Command,
    /// Empty where the command is about no attachment.
    pub container: String,
    /// The container's network namespace. DEL may come without, when it is gone.
    pub namespace: Option<PathBuf>,
    pub interface: String,
    pub arguments: Vec<(String, String)>,
    pub path: Vec<PathBuf>,
}

impl Environment {
    /// Reads and checks what the command needs. Everything wrong is told at once.
    ///
    /// # Errors
    /// Code 4, naming the variables.
    pub fn read(variables: &BTreeMap<String, String>) -> Result<Environment, Error> {
        let get = |name: &str| variables.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let command = get("CNI_COMMAND")
            .ok_or_else(|| invalid("CNI_COMMAND is not set; a container runtime calls this program"))?;
        let command = Command::parse(command).ok_or_else(|| {
            invalid(format!(
                "CNI_COMMAND is {command:?}; it has to be ADD, DEL, CHECK, GC, STATUS or VERSION"
            ))
        })?;
        let mut wrong = Vec::new();
        let mut require = |name: &str, needed: bool, rule: fn(&str) -> Option<&'static str>| -> String {
            match get(name) {
                Some(value) => {
                    wrong.extend(rule(value).map(|why| format!("{name} is {value:?}; it {why}")));
                    value.to_owned()
                }
                None => {
                    if needed {
                        wrong.push(format!("{name} is not set; {} needs it", command.as_str()));
                    }
                    String::new()
                }
            }
        };
        let attached = command.names_an_attachment();
        let mut container = require("CNI_CONTAINERID", attached, container_rule);
        let mut interface = require("CNI_IFNAME", attached, interface_rule);
        let namespace = require("CNI_NETNS", attached && command != Command::Del, |_| None);
        let arguments = arguments(get("CNI_ARGS").unwrap_or_default());
        wrong.extend(arguments.as_ref().err().cloned());
        if !attached {
            (container, interface) = (String::new(), String::new());
        } else if !wrong.is_empty() {
            return Err(invalid(wrong.join("; ")));
        }
        Ok(Environment {
            command,
            container,
            namespace: (!namespace.is_empty()).then(|| namespace.into()),
            interface,
            arguments: arguments.unwrap_or_default(),
            path: std::env::split_paths(get("CNI_PATH").unwrap_or_default())
                .filter(|folder| !folder.as_os_str().is_empty())
                .collect(),
        })
    }
}

fn invalid(msg: impl Into<String>) -> Error {
    Error::new(code::INVALID_ENVIRONMENT, msg)
}

/// `K1=V1;K2=V2`.
fn arguments(text: &str) -> Result<Vec<(String, String)>, String> {
    let pairs = text.split(';').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| match pair.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("CNI_ARGS has {pair:?}; it has to be KEY=VALUE pairs, parted by semicolons")),
    };
    pairs.map(pair).collect()
}

/// Why the spec does not allow a container's name: it becomes part of file names.
fn container_rule(name: &str) -> Option<&'static str> {
    let valid = super::conf::is_valid_name(name);
    (!valid).then_some("has to begin with a letter or digit, and only _ . - may follow besides those")
}

/// Why the kernel would not take an interface's name.
fn interface_rule(name: &str) -> Option<&'static str> {
    const LONGEST: usize = 15;
    if name.len() > LONGEST {
        return Some("may have at most 15 bytes");
    }
    let forbidden = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    (matches!(name, "." | "..") || name.contains(forbidden)).then_some("is no name for an interface")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Environment, Error> {
        Environment::read(&variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    const ADD: [(&str, &str); 5] = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "abc-1"),
        ("CNI_NETNS", "/run/netns/a"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=a"),
    ];

    fn with(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
        ADD.into_iter().filter(|(known, _)| *known != name).chain([(name, value)]).collect()
    }

    #[test]
    fn all_that_a_command_needs_is_read() {
        let environment = read(&ADD).unwrap();
        assert_eq!(environment.container, "abc-1");
        assert_eq!(environment.namespace.unwrap().to_str(), Some("/run/netns/a"));
        assert_eq!(environment.arguments[1], ("K8S_POD_NAME".to_owned(), "a".to_owned()));
        assert!(read(&with("CNI_NETNS", "")).unwrap_err().msg.contains("CNI_NETNS is not set; ADD needs it"));
        let mut del = with("CNI_NETNS", "");
        del.push(("CNI_COMMAND", "DEL"));
        assert_eq!(read(&del).unwrap().namespace, None);
    }

    #[test]
    fn commands_about_no_attachment_need_none() {
        for command in ["GC", "STATUS", "VERSION"] {
            let environment = read(&[("CNI_COMMAND", command)]).unwrap();
            assert_eq!(environment.command.as_str(), command);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("CNI_COMMAND", "add"),
            ("CNI_COMMAND", ""),
            ("CNI_CONTAINERID", "../../etc"),
            ("CNI_CONTAINERID", ""),
            ("CNI_IFNAME", "an-interface-too-long"),
            ("CNI_IFNAME", "a/b"),
            ("CNI_IFNAME", ".."),
            ("CNI_ARGS", "=x"),
            ("CNI_ARGS", "x"),
        ];
        for (name, value) in cases {
            let error = read(&with(name, value)).unwrap_err();
            assert_eq!(error.code, code::INVALID_ENVIRONMENT);
            assert!(error.msg.contains(name), "{name}={value}: {error}");
        }
        let error = read(&[("CNI_COMMAND", "ADD")]).unwrap_err().msg;
        assert!(error.contains("CNI_CONTAINERID") && error.contains("CNI_IFNAME"), "{error}");
    }
}
