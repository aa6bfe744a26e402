//! The programs that stand in for images.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::time::Duration;

use switchyard_agent::runtime::{ContainerSpec, Runtime, Sandbox, State};
use switchyard_kernel::link::Links;
use switchyard_kernel::namespace::NamespaceFile;

use crate::host::{Host, LONG, Tests, container, eventually, uid};

pub(crate) const TESTS: Tests = &[
    ("echo_introduces_itself", echo_introduces_itself),
    ("echo_sees_who_asks_from_outside", echo_sees_who_asks_from_outside),
    ("echo_is_ready_or_not", echo_is_ready_or_not),
    ("echo_finishes_what_it_has_begun", echo_finishes_what_it_has_begun),
    ("web_servers_listen_where_they_always_do", web_servers_listen_where_they_always_do),
    ("http_echo_says_its_text", http_echo_says_its_text),
    ("mysql_greets_and_answers", mysql_greets_and_answers),
    ("tcp_and_udp_give_one_answer", tcp_and_udp_give_one_answer),
    ("agnhost_answers_tests", agnhost_answers_tests),
    ("pause_waits", pause_waits),
    ("a_shell_without_a_command_ends", a_shell_without_a_command_ends),
    ("a_port_that_is_taken_is_told", a_port_that_is_taken_is_told),
];

fn image(image: &str, args: &[&str]) -> ContainerSpec {
    let mut spec = container("main", &[]);
    spec.image = image.to_owned();
    spec.args = args.iter().map(|word| (*word).to_owned()).collect();
    spec.env =
        vec![("POD_NAME".to_owned(), "web-1".to_owned()), ("NODE_NAME".to_owned(), "node-1".to_owned())];
    spec
}

/// Starts an image in a pod of its own; it listens when this returns.
fn listening(host: &Host, spec: &ContainerSpec, port: u16) -> Sandbox {
    let pod = host.pod("web");
    host.runtime.start_container(&pod.pod.uid, spec).unwrap();
    connect(host, port);
    pod
}

fn connect(host: &Host, port: u16) -> TcpStream {
    eventually("it listens", || host.runtime.connect(&uid("web"), port).ok())
}

/// A request, with nothing but a `Host` or what `more` says.
fn ask(connection: &mut TcpStream, request: &str, more: &str) -> (u16, String) {
    write!(connection, "{request} HTTP/1.1\r\nHost: web\r\n{more}\r\n").unwrap();
    answer(connection)
}

fn answer(connection: &mut TcpStream) -> (u16, String) {
    let mut reader = BufReader::new(connection);
    let (mut status, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            status = rest[..3].parse().unwrap();
        }
        if let Some(rest) = line.strip_prefix("Content-Length: ") {
            length = rest.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (status, String::from_utf8(body).unwrap())
}

fn echo_introduces_itself(host: &Host) {
    listening(host, &image("example.com/switchyard/echo:1", &[]), 8080);
    let mut connection = connect(host, 8080);
    let own = connection.local_addr().unwrap();
    let (status, body) = ask(&mut connection, "GET /some?path", "");
    assert_eq!(status, 200);
    assert_eq!(
        body,
        format!(
            "pod: web-1\nnode: node-1\naddress: 127.0.0.1:8080\nclient: {own}\nrequest: GET /some?path\n"
        )
    );
    // Over the same connection, after a body that nobody reads.
    let (status, body) =
        ask(&mut connection, "POST /", "Accept: application/json\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(status, 200, "{body}");
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(json["pod"], "web-1");
    assert_eq!(json["clientPort"], own.port());
    assert_eq!(
        (&json["address"], &json["client"], &json["port"]),
        (&"127.0.0.1".into(), &"127.0.0.1".into(), &8080.into())
    );
    let (status, _) = ask(&mut connection, "GET", "");
    assert_eq!(status, 400);
}

fn echo_sees_who_asks_from_outside(host: &Host) {
    let pod = listening(host, &image("switchyard/echo", &["9000"]), 9000);
    let network = NamespaceFile::open(pod.network.as_ref().unwrap()).unwrap();
    let (here, there) = (Links::open_here().unwrap(), Links::open_in(&network).unwrap());
    std::process::Command::new("ip")
        .args(["link", "add", "pod-side", "type", "veth", "peer", "host-side"])
        .status()
        .unwrap();
    here.move_to("pod-side", std::os::fd::AsFd::as_fd(network.file())).unwrap();
    for (links, name, address) in
        [(&here, "host-side", "10.244.1.1/24"), (&there, "pod-side", "10.244.1.2/24")]
    {
        links.add_address(name, address.parse().unwrap()).unwrap();
        links.set_up(name).unwrap();
    }
    let mut connection = eventually("a way", || TcpStream::connect("10.244.1.2:9000").ok());
    let client = connection.local_addr().unwrap();
    let (_, body) = ask(&mut connection, "GET /", "");
    assert!(body.contains(&format!("address: 10.244.1.2:9000\nclient: {client}\n")), "{body}");
}

fn echo_is_ready_or_not(host: &Host) {
    listening(host, &image("switchyard/echo", &[]), 8080);
    let mut connection = connect(host, 8080);
    let mut status = |request: &str| ask(&mut connection, request, "").0;
    assert_eq!((status("GET /healthz"), status("GET /ready")), (200, 200));
    assert_eq!(status("POST /ready/off"), 200);
    assert_eq!((status("GET /healthz"), status("GET /ready")), (200, 503));
    assert_eq!(status("POST /ready/on"), 200);
    assert_eq!(status("GET /ready"), 200);
}

fn echo_finishes_what_it_has_begun(host: &Host) {
    let pod = listening(host, &image("switchyard/echo", &[]), 8080);
    let mut idle = connect(host, 8080);
    assert_eq!(ask(&mut idle, "GET /", "").0, 200);
    let mut begun = connect(host, 8080);
    begun.write_all(b"GET /half HTTP/1.1\r\n").unwrap();
    // The second connection is being served when a third one, made after it, has been.
    assert_eq!(ask(&mut connect(host, 8080), "GET /", "").0, 200);
    std::thread::scope(|scope| {
        scope.spawn(|| host.runtime.stop_container(&uid("web"), "main", LONG).unwrap());
        // No more are let in, and those who only wait are let go.
        assert_eq!(idle.read(&mut [0]).unwrap(), 0);
        eventually("nobody listens", || host.runtime.connect(&uid("web"), 8080).is_err().then_some(()));
        assert_eq!(host.container(&pod, "main").state, State::Running);
        begun.write_all(b"Host: web\r\n\r\n").unwrap();
        let (status, body) = answer(&mut begun);
        assert_eq!(status, 200);
        assert!(body.contains("GET /half"), "{body}");
        assert_eq!(begun.read(&mut [0]).unwrap(), 0);
    });
    assert_eq!(host.end(&pod, "main").exit_code, 0);
}

fn web_servers_listen_where_they_always_do(host: &Host) {
    for name in ["nginx:1.29", "docker.io/library/httpd"] {
        listening(host, &image(name, &[]), 80);
        let (_, body) = ask(&mut connect(host, 80), "GET /", "");
        assert!(body.starts_with("pod: web-1\n"), "{body}");
        host.runtime.remove_sandbox(&uid("web")).unwrap();
    }
}

fn http_echo_says_its_text(host: &Host) {
    listening(host, &image("hashicorp/http-echo", &["-text=hello world"]), 5678);
    assert_eq!(ask(&mut connect(host, 5678), "GET /", ""), (200, "hello world\n".to_owned()));
}

fn mysql_greets_and_answers(host: &Host) {
    listening(host, &image("mysql:8", &[]), 3306);
    let mut connection = connect(host, 3306);
    let (number, greeting) = packet(&mut connection);
    assert_eq!((number, greeting[0]), (0, 10));
    let version = greeting[1..].split(|byte| *byte == 0).next().unwrap();
    assert_eq!(std::str::from_utf8(version).unwrap(), "8.0.0-switchyard pod web-1 on node-1");
    // The challenge of 8 and 13 bytes, what is between them, and the name of the method.
    let rest = &greeting[1 + version.len() + 1..];
    assert_eq!(rest.len(), 4 + 9 + 8 + 10 + 13 + "mysql_native_password\0".len());

    // A login: capabilities, limit, character set, user, no password.
    let mut login = 0x0000_8200_u32.to_le_bytes().to_vec();
    login.extend([0, 0, 0, 1, 45]);
    login.extend([0; 23]);
    login.extend(b"root\0\0");
    send(&mut connection, 1, &login);
    assert_eq!(packet(&mut connection), (2, vec![0, 0, 0, 2, 0, 0, 0]));

    send(&mut connection, 0, b"\x03SELECT 1");
    let packets: Vec<_> = (0..7).map(|_| packet(&mut connection)).collect();
    assert!(packets.iter().zip(1..).all(|((number, _), expected)| *number == expected));
    assert_eq!(packets[0].1, [3]);
    let row = &packets[5].1;
    assert!(row.starts_with(b"\x05web-1\x06node-1"), "{row:?}");
    assert_eq!(packets[6].1[0], 0xfe);
    send(&mut connection, 0, b"\x01");
    assert_eq!(connection.read(&mut [0]).unwrap(), 0);
}

fn packet(connection: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 4];
    connection.read_exact(&mut head).unwrap();
    let mut content = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    connection.read_exact(&mut content).unwrap();
    (head[3], content)
}

fn send(connection: &mut TcpStream, number: u8, content: &[u8]) {
    let head = [u8::try_from(content.len()).unwrap(), 0, 0, number];
    connection.write_all(&[&head, content].concat()).unwrap();
}

fn tcp_and_udp_give_one_answer(host: &Host) {
    let pod = listening(host, &image("switchyard/tcp-udp-echo", &["7000"]), 7000);
    let mut connection = connect(host, 7000);
    connection.write_all(b"hello\n").unwrap();
    let mut line = String::new();
    BufReader::new(&connection).read_line(&mut line).unwrap();
    let client = connection.local_addr().unwrap();
    assert_eq!(line, format!("web-1 on node-1 to {client}: hello\n"));

    let (answer, client) = datagram(&pod, 7000, "hello");
    assert_eq!(answer, format!("web-1 on node-1 to {client}: hello\n"));
}

fn datagram(pod: &Sandbox, port: u16, text: &str) -> (String, std::net::SocketAddr) {
    let network = NamespaceFile::open(pod.network.as_ref().unwrap()).unwrap();
    let exchange = || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.send_to(text.as_bytes(), ("127.0.0.1", port)).unwrap();
        let mut buffer = [0; 1000];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(from.ip(), IpAddr::from([127, 0, 0, 1]));
        (String::from_utf8(buffer[..length].to_vec()).unwrap(), socket.local_addr().unwrap())
    };
    network.run(exchange).unwrap()
}

fn agnhost_answers_tests(host: &Host) {
    let spec = image(
        "registry.k8s.io/e2e-test-images/agnhost:2.53",
        &["netexec", "--http-port=8083", "--udp-port", "8084"],
    );
    let pod = listening(host, &spec, 8083);
    let mut connection = connect(host, 8083);
    let client = connection.local_addr().unwrap();
    assert_eq!(ask(&mut connection, "GET /hostname", ""), (200, "web-1".to_owned()));
    assert_eq!(ask(&mut connection, "GET /clientip", ""), (200, client.to_string()));
    assert_eq!(ask(&mut connection, "GET /echo?msg=hello", ""), (200, "hello".to_owned()));
    assert_eq!(datagram(&pod, 8084, "hostname\n").0, "web-1");
    assert_eq!(datagram(&pod, 8084, "echo hello").0, "hello");
}

fn pause_waits(host: &Host) {
    let pod = host.pod("web");
    host.runtime.start_container(&uid("web"), &image("registry.k8s.io/pause:3.10", &[])).unwrap();
    assert_eq!(host.container(&pod, "main").state, State::Running);
    // It may be asked before it is prepared.
    host.runtime.stop_container(&uid("web"), "main", LONG).unwrap();
    assert!([0, 143].contains(&host.end(&pod, "main").exit_code));
}

fn a_shell_without_a_command_ends(host: &Host) {
    let pod = host.pod("web");
    host.runtime.start_container(&uid("web"), &image("busybox", &[])).unwrap();
    assert_eq!(host.end(&pod, "main").exit_code, 0);
}

fn a_port_that_is_taken_is_told(host: &Host) {
    let pod = listening(host, &image("nginx", &[]), 80);
    let mut second = image("nginx", &[]);
    second.name = "second".to_owned();
    host.runtime.start_container(&uid("web"), &second).unwrap();
    assert_eq!(host.end(&pod, "second").exit_code, 1);
    let output = host.output(&pod, "second");
    assert!(output.contains("cannot listen on TCP port 80"), "{output}");
}
