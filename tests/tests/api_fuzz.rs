//! Requests that nobody would send, thousands of them: each gets an answer that a client can read, none stops the server, and
//! nobody else notices.
//!
//! `SWITCHYARD_FUZZ_REQUESTS` and `SWITCHYARD_SEED` choose how many and which. A request that broke something is kept in
//! `cases/fuzz`, and is sent first from then on.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use switchyard_tests::api_server::ApiServer;
use switchyard_tests::fuzz::{self, Request};
use switchyard_tests::random::Random;

const TOKEN: &str = "fuzz";
/// An answer that streams on, as that of a watch does, is left after this pause.
const PATIENCE: Duration = Duration::from_millis(300);
/// Some wait for such a pause, so several are under way at once.
const SENDERS: u64 = 4;
/// What an answer that is no stream may be long.
const LONGEST_READ: usize = 1 << 20;

fn main() -> Result<ExitCode> {
    let args = Arguments::from_args();
    let trial = Trial::test("no_request_takes_the_server_down", || {
        run().map_err(|error| Failed::from(format!("{error:#}")))
    });
    Ok(libtest_mimic::run(&args, vec![trial]).exit_code())
}

fn number(variable: &str, default: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable}={text}")),
        Err(_) => Ok(default),
    }
}

fn run() -> Result<()> {
    let (requests, seed) = (number("SWITCHYARD_FUZZ_REQUESTS", 4_000)?, number("SWITCHYARD_SEED", 1)?);
    let tokens = tempfile::NamedTempFile::new()?;
    fs::write(tokens.path(), format!("{TOKEN},fuzz,1,system:masters\n"))?;
    let server = ApiServer::start(&[
        &format!("--token-auth-file={}", tokens.path().display()),
        "--service-cluster-ip-range=10.0.0.0/16",
    ])?;
    server.kubectl(&["create", "namespace", "untouched"])?;
    server.kubectl(&["--namespace=untouched", "create", "service", "clusterip", "kept", "--tcp=80"])?;
    let kept = ["--namespace=untouched", "get", "service", "kept", "--output=json"];
    let before = server.kubectl(&kept)?;

    let sender = Sender::new(&server)?;
    let corpus: Vec<Request> = fuzz::corpus()?.into_iter().map(|(_, request)| request).collect();
    for request in &corpus {
        sender.send(request)?;
    }
    thread::scope(|scope| {
        let senders = (0..SENDERS).map(|number| {
            let (sender, corpus) = (&sender, &corpus);
            scope.spawn(move || {
                let mut random = Random::new(seed * SENDERS + number);
                for _ in 0..requests / SENDERS {
                    sender.send(&random.choose(corpus).spoilt(corpus, &mut random))?;
                }
                Ok::<(), anyhow::Error>(())
            })
        });
        let senders: Vec<_> = senders.collect();
        senders.into_iter().try_for_each(|sender| sender.join().map_err(|_| anyhow!("a sender panicked"))?)
    })?;

    ensure!(server.kubectl(&kept)? == before, "what nobody asked for has changed");
    ensure!(server.kubectl(&["get", "--raw=/readyz"])? == "ok", "it is not ready any more");
    Ok(())
}

/// Sends requests, each over a connection of its own.
struct Sender<'a> {
    server: &'a ApiServer,
    config: Arc<ClientConfig>,
}

impl<'a> Sender<'a> {
    fn new(server: &'a ApiServer) -> Result<Sender<'a>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(server.certificate_authority())?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Sender { server, config: Arc::new(config) })
    }

    fn send(&self, request: &Request) -> Result<()> {
        let checked = self.answer(request).and_then(|answer| check(&answer)).and_then(|()| {
            let log = self.server.log();
            let panic = log.lines().find(|line| line.contains("panicked at"));
            panic.map_or(Ok(()), |line| Err(anyhow!("the server's log says: {line}")))
        });
        checked.or_else(|error| {
            let text = request.to_text();
            let file = fuzz::corpus_folder().join(format!("found-{:08x}.http", checksum(&text)));
            fs::write(&file, text)?;
            bail!("{error:#}; the request is kept in {}", file.display())
        })
    }

    /// What came until the connection ended or went quiet.
    fn answer(&self, request: &Request) -> Result<Vec<u8>> {
        let connection =
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.server.port())).context("connecting")?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        let client = ClientConnection::new(self.config.clone(), ServerName::try_from("localhost")?)?;
        let mut stream = StreamOwned::new(client, connection);
        // The server may answer and close before it has read all of it.
        let _ = stream.write_all(&request.to_wire(TOKEN)).and_then(|()| stream.flush());
        let mut answer = Vec::new();
        let mut part = [0; 16 << 10];
        while answer.len() < LONGEST_READ {
            match stream.read(&mut part) {
                Ok(0) => break,
                Ok(read) => answer.extend_from_slice(&part[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A pause, a reset, or an end without TLS's goodbye.
                Err(_) => break,
            }
        }
        Ok(answer)
    }
}

/// FNV-1a: names that differ for requests that differ.
fn checksum(text: &[u8]) -> u32 {
    text.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// No answer at all is one to a request whose head does not end, or that waits for more of its body.
fn check(answer: &[u8]) -> Result<()> {
    if answer.is_empty() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no HTTP: {text:?}"))?;
    let code: u16 = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no code")?;
    ensure!((100..600).contains(&code), "the code {code}");
    let head = head.to_lowercase();
    if code < 400 || !head.contains("content-type: application/json") {
        return Ok(());
    }
    // What is left of a request whose head ended early is another request, and has an answer of its own.
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
    let body = body.get(..length.parse()?).context("it is cut off")?;
    let status: Value = serde_json::from_str(body).with_context(|| format!("no JSON: {text}"))?;
    let told = (&status["kind"], &status["status"], &status["code"]);
    ensure!(told == (&"Status".into(), &"Failure".into(), &code.into()), "no Status of {code}: {body}");
    ensure!(code != 500 || !body.contains("\"InternalError\""), "an inner error: {body}");
    Ok(())
}
