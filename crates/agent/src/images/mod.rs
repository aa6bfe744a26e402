//! The programs that stand in for well-known images, and which image means which.
//!
//! They are small on purpose, since there may be hundreds: plain threads, no async runtime, nothing kept between requests.

mod agnhost;
mod catalogue;
mod datagrams;
mod echo;
mod http;
mod identity;
mod mysql;
mod server;

use std::ffi::CString;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

pub(crate) use catalogue::program;

/// The hidden command that runs a built-in program: `builtin NAME ARGUMENTS`.
pub(crate) const COMMAND: &str = "builtin";

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Program {
    /// One of the host's.
    Host(Vec<String>),
    /// One of our own.
    BuiltIn(Vec<String>),
}

/// Runs a built-in program to its end; `None` if the arguments are no such command.
pub(crate) fn hidden_command(arguments: &[String]) -> Option<ExitCode> {
    let [command, name, arguments @ ..] = arguments else { return None };
    if command != COMMAND {
        return None;
    }
    // For `ps` and `top`, where it would be called `exe`.
    if let Ok(title) = CString::new(name.as_str()) {
        let _ = nix::sys::prctl::set_name(&title);
    }
    let result = match name.as_str() {
        "echo" => echo::main(arguments),
        "http-echo" => echo::main_of_http_echo(arguments),
        "agnhost" => agnhost::main(arguments),
        "mysql" => mysql::main(),
        "tcp-udp-echo" => datagrams::main(arguments),
        "pause" => pause(),
        other => Err(io::Error::other(format!("there is no such program built in: {other}"))),
    };
    Some(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{name}: {error}");
            ExitCode::FAILURE
        }
    })
}

/// Does nothing until it is asked to end.
fn pause() -> io::Result<()> {
    Signals::new([SIGTERM, SIGINT])?.forever().next();
    Ok(())
}

/// The value of the first of these flags, as `--flag value`, `--flag=value`, or with one dash.
fn flag<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let Some(rest) = argument.trim_start_matches('-').strip_prefix(name) else { continue };
        match rest.strip_prefix('=') {
            Some(value) if argument.starts_with('-') => return Some(value),
            None if argument.starts_with('-') && rest.is_empty() => {
                return arguments.next().map(String::as_str);
            }
            _ => {}
        }
    }
    None
}

/// The port to listen on: of the flag, else of the first argument that is a number, else of the environment's `PORT`.
fn port(arguments: &[String], default: u16) -> io::Result<u16> {
    let number = |argument: &String| argument.parse::<u16>().is_ok();
    let told =
        flag(arguments, "port").or_else(|| arguments.iter().find(|word| number(word)).map(String::as_str));
    let told = told.map(str::to_owned).or_else(|| std::env::var("PORT").ok());
    let Some(told) = told else { return Ok(default) };
    told.parse().map_err(|_| io::Error::other(format!("{told:?} is no port: a number up to 65535 is")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn flags_are_read_in_all_their_spellings() {
        for text in ["--text hello", "-text hello", "-text=hello", "x --text=hello --text=again"] {
            assert_eq!(flag(&words(text), "text"), Some("hello"), "{text}");
        }
        for text in ["text hello", "--texture=hello", "--text"] {
            assert_eq!(flag(&words(text), "text"), None, "{text}");
        }
    }

    #[test]
    fn a_port_is_an_argument_or_a_flag() {
        assert_eq!(port(&words("9000"), 80).unwrap(), 9000);
        assert_eq!(port(&words("--port=9000"), 80).unwrap(), 9000);
        assert_eq!(port(&words("--verbose"), 80).unwrap(), 80);
        assert!(port(&words("--port=http"), 80).is_err());
    }
}
