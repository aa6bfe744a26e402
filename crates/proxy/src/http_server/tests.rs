use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Mutex;

use super::testing::{get, runtime, send, serve};
use super::*;

fn echo() -> Handler {
    Arc::new(|request| {
        let body =
            format!("{} {} {}", request.method(), request.uri(), String::from_utf8_lossy(request.body()));
        plain(StatusCode::OK, body)
    })
}

#[test]
fn a_request_reaches_the_handler_with_its_body() {
    let runtime = runtime();
    let server = serve(&runtime, echo());
    let answer = send(
        server.address(),
        "PUT /flags?x=1 HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nConnection: close\r\n\r\n4",
    );
    assert_eq!((answer.status, answer.body.as_str()), (200, "PUT /flags?x=1 4"));
    assert!(answer.has_header("content-type: text/plain; charset=utf-8"));
    assert!(answer.has_header("x-content-type-options: nosniff"));
}

#[test]
fn too_large_a_body_is_refused() {
    let runtime = runtime();
    let server = serve(&runtime, echo());
    let answer = send(
        server.address(),
        &format!(
            "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            MAX_BODY_BYTES + 1
        ),
    );
    assert_eq!(answer.status, 413);
}

#[test]
fn too_large_a_header_is_refused() {
    let runtime = runtime();
    let server = serve(&runtime, echo());
    let answer = send(
        server.address(),
        &format!("GET / HTTP/1.1\r\nHost: test\r\nX: {}\r\n", "x".repeat(MAX_HEADER_BYTES)),
    );
    assert_eq!(answer.status, 431);
}

#[test]
fn silent_clients_do_not_keep_others_waiting() {
    let runtime = runtime();
    let server = serve(&runtime, echo());
    let _silent: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    assert_eq!(get(server.address(), "/").status, 200);
}

#[test]
fn clients_that_stop_in_the_middle_are_disconnected() {
    // On a paused clock the time-outs come as soon as everybody waits.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    for beginning in ["", "GET / HT", "GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n12"] {
        let listener = listen("127.0.0.1:0".parse().unwrap(), Reach::Any).unwrap();
        let server = Server::start(runtime.handle(), listener, echo()).unwrap();
        let mut client = TcpStream::connect(server.address()).unwrap();
        client.write_all(beginning.as_bytes()).unwrap();
        runtime.block_on(async { tokio::time::sleep(CONNECTION_LIFETIME).await });
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{beginning:?}: {answer}");
    }
}

#[test]
fn a_wildcard_address_answers_both_families() {
    let runtime = runtime();
    let listener = listen("0.0.0.0:0".parse().unwrap(), Reach::Any).unwrap();
    let server = Server::start(runtime.handle(), listener, echo()).unwrap();
    let port = server.address().port();
    assert_eq!(get(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "/").status, 200);
    if server.address().is_ipv6() {
        assert_eq!(get(SocketAddr::from((Ipv6Addr::LOCALHOST, port)), "/").status, 200);
    }
}

#[test]
fn one_port_can_be_served_apart_in_each_family() {
    let runtime = runtime();
    let v4 = listen("0.0.0.0:0".parse().unwrap(), Reach::OwnFamily).unwrap();
    let port = v4.local_addr().unwrap().port();
    // A machine without IPv6 has nothing to keep apart.
    let Ok(v6) = listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), Reach::OwnFamily) else { return };
    let handler = |name: &'static str| -> Handler { Arc::new(move |_| plain(StatusCode::OK, name)) };
    let _v4 = Server::start(runtime.handle(), v4, handler("v4")).unwrap();
    let _v6 = Server::start(runtime.handle(), v6, handler("v6")).unwrap();
    assert_eq!(get(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "/").body, "v4");
    assert_eq!(get(SocketAddr::from((Ipv6Addr::LOCALHOST, port)), "/").body, "v6");
}

#[test]
fn a_dropped_server_frees_its_port_at_once_and_ends_its_connections() {
    let runtime = runtime();
    let mut server = serve(&runtime, echo());
    let address = server.address();
    for _ in 0..50 {
        let mut open = TcpStream::connect(address).unwrap();
        assert_eq!(get(address, "/").status, 200);
        drop(server);
        open.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let ended = open.read(&mut [0]);
        assert!(matches!(ended, Ok(0)) || ended.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset));
        server = Server::start(runtime.handle(), listen(address, Reach::Any).unwrap(), echo()).unwrap();
    }
}

#[test]
fn listening_is_retried_until_the_port_is_free() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let taken = Mutex::new(Some(listen("127.0.0.1:0".parse().unwrap(), Reach::Any).unwrap()));
    let address = taken.lock().unwrap().as_ref().unwrap().local_addr().unwrap();
    let mut failures = 0;
    let listener = runtime.block_on(listen_until_successful(address, |error| {
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        failures += 1;
        if failures == 3 {
            taken.lock().unwrap().take();
        }
    }));
    assert_eq!((failures, listener.local_addr().unwrap()), (3, address));
}
