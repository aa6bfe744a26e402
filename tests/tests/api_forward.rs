//! What pods and services serve, by way of the API server: paths, parameters, bodies and answers pass as they are.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, ExitCode};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use switchyard_tests::api_server::ApiServer;
use switchyard_tests::wait::eventually;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

fn main() -> Result<ExitCode> {
    let args = Arguments::from_args();
    let trial = Trial::test("requests_to_pods_and_services_pass_through", || {
        // On a thread of its own, whose network it and its children see only.
        let test = thread::spawn(|| own_network().and_then(|()| run()));
        let result = test.join().map_err(|_| anyhow!("the test panicked"));
        result.flatten().map_err(|error| Failed::from(format!("{error:#}")))
    });
    Ok(libtest_mimic::run(&args, vec![trial]).exit_code())
}

/// Endpoints must not be of the loopback range, so there is another address.
fn own_network() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    for line in ["link set lo up", &format!("address add {ADDRESS}/32 dev lo")] {
        let status = Command::new("ip").args(line.split(' ')).status()?;
        ensure!(status.success(), "ip {line}: {status}");
    }
    Ok(())
}

/// A web server that answers with the line and the body that it was sent, as long as the test runs.
fn echo() -> Result<u16> {
    let listener = TcpListener::bind((ADDRESS, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || answer(connection));
        }
    });
    Ok(port)
}

fn answer(mut connection: std::net::TcpStream) -> Result<()> {
    let mut asked = Vec::new();
    let mut part = [0; 4096];
    let head = loop {
        let read = connection.read(&mut part)?;
        ensure!(read > 0, "no request");
        asked.extend_from_slice(&part[..read]);
        if let Some(end) = asked.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&asked[..head]).into_owned();
    let is_chunked = text.to_lowercase().contains("transfer-encoding: chunked");
    while is_chunked && !asked.ends_with(b"0\r\n\r\n") {
        let read = connection.read(&mut part)?;
        ensure!(read > 0, "half a body");
        asked.extend_from_slice(&part[..read]);
    }
    let secret = text.to_lowercase().contains("authorization:");
    let line = text.lines().next().unwrap_or_default();
    let body = format!("{line}|{}|{secret}", String::from_utf8_lossy(&asked[head..]));
    let length = body.len();
    write!(
        connection,
        "HTTP/1.1 202 Accepted\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    Ok(())
}

fn run() -> Result<()> {
    let port = echo()?;
    let server = ApiServer::start(&[])?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"nodeName": "here", "containers": [{"name": "web", "image": "web", "ports": [{"name": "http", "containerPort": port}]}]},
    });
    server.kubectl_with(&["create", "-f", "-"], &pod.to_string())?;
    let mut stored: Value = server.get(&["pod", "web"])?;
    stored["status"] = json!({
        "phase": "Running", "podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}],
        "conditions": [{"type": "Ready", "status": "True"}],
    });
    let path = "/api/v1/namespaces/default/pods/web/status";
    server.kubectl_with(&["replace", "--raw", path, "-f", "-"], &stored.to_string())?;
    server.kubectl(&["create", "service", "clusterip", "web", &format!("--tcp=80:{port}")])?;

    let of_pod = format!("/api/v1/namespaces/default/pods/web:{port}/proxy");
    let of_service = "/api/v1/namespaces/default/services/web:80/proxy";
    for base in [of_pod.as_str(), of_service] {
        // A service has an endpoint a moment later.
        let answer = eventually(LIMIT, || server.kubectl(&["get", "--raw", &format!("{base}/a/b/?c=d")]))?;
        // kubectl adds its own time limit to the parameters.
        ensure!(answer == "GET /a/b/?c=d&timeout=20s HTTP/1.1||false", "{base} gives {answer:?}");
        let answer =
            server.kubectl_with(&["create", "--raw", &format!("{base}/x"), "-f", "-"], "the body")?;
        // Sent in chunks, whose lengths stand between.
        let is_whole = answer.starts_with("POST /x?timeout=20s HTTP/1.1|") && answer.contains("the body");
        ensure!(is_whole, "{base} gives {answer:?}");
    }
    let refused = server.kubectl_refused(&["logs", "web"], "")?;
    ensure!(refused.contains("nodes \"here\" not found"), "{refused}");
    let refused =
        server.kubectl_refused(&["get", "--raw", "/api/v1/namespaces/default/services/web:99/proxy/"], "")?;
    ensure!(refused.contains("no service port 99 found for service"), "{refused}");
    let nobody = TcpListener::bind((ADDRESS, 0))?.local_addr().context("no address")?.port();
    let path = format!("/api/v1/namespaces/default/pods/web:{nobody}/proxy/");
    let refused = server.kubectl_refused(&["get", "--raw", &path], "")?;
    ensure!(refused.contains("error trying to reach pod") && refused.contains("refused"), "{refused}");
    Ok(())
}
