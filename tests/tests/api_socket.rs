//! A socket that somebody else holds: clients wait in it while the server is started again.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use switchyard_tests::proxy::binary;
use switchyard_tests::wait::eventually;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);
/// What a supervisor does between fork and exec: the socket becomes descriptor 3, and the variables name it and this process.
const SUPERVISE: &str = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";

fn main() -> Result<ExitCode> {
    let args = Arguments::from_args();
    let trial = Trial::test("clients_wait_in_an_inherited_socket_while_there_is_no_server", || {
        run().map_err(|error| Failed::from(format!("{error:#}")))
    });
    Ok(libtest_mimic::run(&args, vec![trial]).exit_code())
}

struct Server(Child);

impl Server {
    fn start(folder: &TempDir, socket: &TcpListener) -> Result<Server> {
        let data = folder.path().join("data");
        let mut command = Command::new("sh");
        command.args(["-c", SUPERVISE, "sh"]).arg(binary()?);
        command.args(["apiserver", "--bind-address=127.0.0.1", "--secure-port=0", "--data-dir"]).arg(data);
        command.stdin(Stdio::from(OwnedFd::from(socket.try_clone()?)));
        Ok(Server(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = format!("https://127.0.0.1:{}", socket.local_addr()?.port());
    let ask = || {
        let mut kubectl = Command::new("kubectl");
        kubectl.arg("--kubeconfig").arg(folder.path().join("data/admin.kubeconfig"));
        kubectl.args(["--server", &address, "get", "--raw=/readyz", "--request-timeout=20s"]);
        kubectl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        kubectl
    };
    let first = Server::start(&folder, &socket)?;
    eventually(LIMIT, || {
        let answer = ask().output()?;
        ensure!(answer.stdout == b"ok", "{}", String::from_utf8_lossy(&answer.stderr));
        Ok(())
    })?;
    drop(first);
    let waiting = ask().spawn()?;
    let second = Server::start(&folder, &socket)?;
    let answer = waiting.wait_with_output().context("waiting for kubectl")?;
    ensure!(answer.stdout == b"ok", "refused in between: {}", String::from_utf8_lossy(&answer.stderr));
    drop(second);
    Ok(())
}
