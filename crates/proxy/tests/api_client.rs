//! How the proxy presents itself to an API server: address, credentials, requests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests fail as tests do.

mod support;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::Value;
use support::api_server::ApiServer;
use switchyard_api::ObjectKey;
use switchyard_api::manifest::MalformedObject;
use switchyard_proxy::client::{ApiClient, ClientSettings, user_agent};
use switchyard_proxy::events::{Event, EventRecorder};
use switchyard_proxy::source::Malformed;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// Writes a kubeconfig whose user is `user`, in YAML's flow form, and makes one request with it.
async fn authorization_of(server: &ApiServer, folder: &TempDir, user: &str) -> String {
    let path = folder.path().join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
         contexts: [{{name: here, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: '{}'}}}}]\nusers: [{{name: u, user: {user}}}]\n",
        server.url()
    );
    fs::write(&path, text).unwrap();
    let settings = ClientSettings { kubeconfig: path, ..ClientSettings::default() };
    let client = ApiClient::new(settings, None).await.unwrap();
    client.get("/api/v1/nodes").await.unwrap();
    server.requests().last().unwrap().headers.get("authorization").cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_token_is_sent_whether_it_is_in_the_kubeconfig_in_a_file_or_from_a_plugin() {
    let server = ApiServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(authorization_of(&server, &folder, "{token: secret}").await, "Bearer secret");

    let token = folder.path().join("token");
    fs::write(&token, "from-file\n").unwrap();
    let user = format!("{{tokenFile: '{}'}}", token.display());
    assert_eq!(authorization_of(&server, &folder, &user).await, "Bearer from-file");

    let plugin = folder.path().join("plugin");
    let credential = r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"from-plugin"}}"#;
    fs::write(&plugin, format!("#!/bin/sh\necho '{credential}'\n")).unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
    let user = format!(
        "{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: '{}', interactiveMode: Never}}}}",
        plugin.display()
    );
    assert_eq!(authorization_of(&server, &folder, &user).await, "Bearer from-plugin");
}

#[tokio::test]
async fn master_overrides_the_server_of_the_kubeconfig_and_keeps_its_user() {
    let (named, master) = (ApiServer::start().await, ApiServer::start().await);
    let folder = tempfile::tempdir().unwrap();
    authorization_of(&named, &folder, "{token: secret}").await;
    let settings = ClientSettings {
        kubeconfig: folder.path().join("kubeconfig"),
        master: master.url(),
        user_agent: user_agent("v1.36.2"),
        ..ClientSettings::default()
    };
    ApiClient::new(settings, None).await.unwrap().get("/api/v1/nodes?x=y").await.unwrap();
    let requests = master.requests();
    assert_eq!(requests[0].headers["authorization"], "Bearer secret");
    assert_eq!(requests[0].headers["accept"], "application/json");
    assert_eq!(requests[0].headers["user-agent"], user_agent("v1.36.2"));
    assert_eq!((requests[0].path.as_str(), requests[0].parameter("x")), ("/api/v1/nodes", "y"));
}

/// Connects its first client with whatever that asks for; returns its address and, later, the request.
async fn start_proxy() -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let mut client = BufReader::new(listener.accept().await.unwrap().0);
        let mut request = String::new();
        while !request.ends_with("\r\n\r\n") {
            client.read_line(&mut request).await.unwrap();
        }
        let target = request.split_whitespace().nth(1).unwrap();
        let mut server = TcpStream::connect(target).await.unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        tokio::io::copy_bidirectional(&mut client, &mut server).await.unwrap();
        request
    });
    (address, serving)
}

#[tokio::test]
async fn the_proxy_that_a_kubeconfig_names_is_used() {
    let server = ApiServer::start().await;
    let (proxy, serving) = start_proxy().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let text = format!(
        "kind: Config\ncurrent-context: here\ncontexts: [{{name: here, context: {{cluster: c}}}}]\n\
         clusters: [{{name: c, cluster: {{server: '{}', proxy-url: 'http://{proxy}'}}}}]\n",
        server.url()
    );
    fs::write(&path, text).unwrap();
    let settings = ClientSettings { kubeconfig: path, ..ClientSettings::default() };
    let client = ApiClient::new(settings, None).await.unwrap();
    client.get("/api/v1/nodes").await.unwrap();
    drop(client);
    let request = timeout(PATIENCE, serving).await.expect("the connection ends").unwrap();
    assert!(request.starts_with(&format!("CONNECT {} ", server.address)), "{request}");
}

#[tokio::test]
async fn a_refusal_is_told_in_the_servers_own_words() {
    let server = ApiServer::start().await;
    server.faults().absent.push("/api/v1/nodes".to_owned());
    let settings = ClientSettings { master: server.url(), ..ClientSettings::default() };
    let error = ApiClient::new(settings, None).await.unwrap().get("/api/v1/nodes").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the API server answered 404: the server could not find the requested resource"
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let server = ApiServer::stopped().await;
    let settings = ClientSettings { master: server.url(), ..ClientSettings::default() };
    let error =
        ApiClient::new(settings, None).await.unwrap().get("/api/v1/nodes").await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot reach the API server at {}: ", server.address)), "{error}");
    assert!(error.contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn events_are_written_where_their_object_lives() {
    let server = ApiServer::start().await;
    let settings = ClientSettings { master: server.url(), ..ClientSettings::default() };
    let recorder = EventRecorder::start(ApiClient::new(settings, None).await.unwrap(), "host-1");
    recorder.record(Event::starting("node-1"));
    let object = MalformedObject {
        kind: "Service".into(),
        key: ObjectKey::new("shop", "db"),
        reason: "invalid port".to_owned(),
    };
    recorder.record(Event::malformed("node-1", &Malformed { object, uid: None }));
    let both_written = server.until(|requests| requests.len() == 2);
    timeout(PATIENCE, both_written).await.expect("both events are written");
    let requests = server.requests();
    let paths: Vec<&str> = requests.iter().map(|request| request.path.as_str()).collect();
    assert_eq!(
        paths,
        ["/apis/events.k8s.io/v1/namespaces/default/events", "/apis/events.k8s.io/v1/namespaces/shop/events"]
    );
    let event: Value = serde_json::from_str(&requests[1].body).unwrap();
    assert_eq!(event["reportingInstance"], "kube-proxy-host-1");
    assert_eq!(event["note"], "node node-1 skips Service \"shop/db\": invalid port");
}
