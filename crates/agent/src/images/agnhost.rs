//! As much of Kubernetes' own test image as tests of services use: `netexec`, `serve-hostname` and `pause`.

use std::io;

use super::datagrams::answer_datagrams;
use super::echo::Echo;
use super::http::{self, Response};
use super::identity::Identity;
use super::{flag, pause};

pub(super) fn main(arguments: &[String]) -> io::Result<()> {
    let port = |name: &str, default: u16| match flag(arguments, name) {
        Some(value) => value.parse().map_err(|_| io::Error::other(format!("--{name}={value} is no port"))),
        None => Ok(default),
    };
    match arguments.first().map(String::as_str) {
        None | Some("pause") => pause(),
        Some("netexec") => netexec(port("http-port", 8080)?, port("udp-port", 8081)?),
        Some("serve-hostname") => {
            let pod = Identity::of_this_process().pod;
            http::serve(&[port("port", 9376)?], move |_| Response::text(200, pod.as_str()))
        }
        Some(other) => Err(io::Error::other(format!(
            "agnhost {other} is not built in; netexec, serve-hostname and pause are"
        ))),
    }
}

/// Answers `/hostname`, `/clientip` and `/echo?msg=` over HTTP, and `hostname`, `clientip` and `echo MSG` in datagrams.
fn netexec(http_port: u16, udp_port: u16) -> io::Result<()> {
    let pod = Identity::of_this_process().pod;
    answer_datagrams(udp_port, move |client, said| match said.split_once(' ').unwrap_or((said, "")) {
        ("hostname", _) => pod.clone(),
        ("clientip", _) => client.to_string(),
        ("echo", message) => message.to_owned(),
        _ => String::new(),
    })?;
    let echo = Echo::new();
    http::serve(&[http_port], move |request| match request.path.split_once("?msg=") {
        Some(("/echo", message)) => Response::text(200, message),
        _ => echo.answer(request),
    })
}
