//! A web server that tells which pod answered, and whom it saw asking.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::http::{self, Request, Response};
use super::identity::Identity;
use super::{flag, port};

/// `echo [PORT]`.
pub(super) fn main(arguments: &[String]) -> io::Result<()> {
    let echo = Echo::new();
    http::serve(&[port(arguments, 8080)?], move |request| echo.answer(request))
}

/// As of hashicorp/http-echo: `-text=WORDS -listen=:PORT`.
pub(super) fn main_of_http_echo(arguments: &[String]) -> io::Result<()> {
    let text = flag(arguments, "text").map(str::to_owned).or_else(|| std::env::var("ECHO_TEXT").ok());
    let text = text.ok_or_else(|| io::Error::other("Missing -text option!"))?;
    let listen = flag(arguments, "listen").unwrap_or(":5678");
    let port = listen.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let port = port.ok_or_else(|| io::Error::other(format!("-listen={listen} names no port")))?;
    http::serve(&[port], move |request| match request.path.as_str() {
        "/health" => json(&json!({ "status": "ok" })),
        _ => Response::text(200, format!("{text}\n")),
    })
}

/// The server's answers.
pub(super) struct Echo {
    identity: Identity,
    is_ready: AtomicBool,
}

impl Echo {
    pub(super) fn new() -> Echo {
        Echo { identity: Identity::of_this_process(), is_ready: AtomicBool::new(true) }
    }

    pub(super) fn answer(&self, request: &Request) -> Response {
        let path = request.path.split('?').next().unwrap_or_default();
        match (request.method.as_str(), path) {
            (_, "/healthz" | "/livez") => Response::text(200, "ok\n"),
            (_, "/hostname") => Response::text(200, self.identity.pod.as_str()),
            (_, "/clientip") => Response::text(200, request.client.to_string()),
            ("POST" | "PUT", "/ready/on") => self.set_ready(true),
            ("POST" | "PUT", "/ready/off") => self.set_ready(false),
            (_, "/ready" | "/readyz") => self.readiness(),
            _ if request.wants_json => self.introduce_in_json(request),
            _ => self.introduce(request),
        }
    }

    fn set_ready(&self, ready: bool) -> Response {
        self.is_ready.store(ready, Ordering::Relaxed);
        Response::text(200, if ready { "ready from now on\n" } else { "not ready from now on\n" })
    }

    fn readiness(&self) -> Response {
        if self.is_ready.load(Ordering::Relaxed) {
            Response::text(200, "ready\n")
        } else {
            Response::text(503, "not ready\n")
        }
    }

    fn introduce(&self, request: &Request) -> Response {
        let Request { client, own, method, path, .. } = request;
        let Identity { pod, node } = &self.identity;
        let text =
            format!("pod: {pod}\nnode: {node}\naddress: {own}\nclient: {client}\nrequest: {method} {path}\n");
        Response::text(200, text)
    }

    fn introduce_in_json(&self, request: &Request) -> Response {
        json(&json!({
            "pod": self.identity.pod,
            "node": self.identity.node,
            "address": request.own.ip(),
            "port": request.own.port(),
            "client": request.client.ip(),
            "clientPort": request.client.port(),
            "method": request.method,
            "path": request.path,
            "host": request.host,
        }))
    }
}

fn json(value: &serde_json::Value) -> Response {
    Response { status: 200, kind: "application/json", body: format!("{value}\n") }
}
