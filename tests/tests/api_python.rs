//! The Python client against the API server.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use switchyard_tests::api_server::ApiServer;

fn main() -> Result<ExitCode> {
    let args = Arguments::from_args();
    let trial = Trial::test("the_python_client_lists_watches_patches_and_deletes", || {
        run().map_err(|error| Failed::from(format!("{error:#}")))
    });
    Ok(libtest_mimic::run(&args, vec![trial]).exit_code())
}

fn run() -> Result<()> {
    let server = ApiServer::start(&[])?;
    // Debian's own interpreter: that is where its package puts the client.
    let output = Command::new("/usr/bin/python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/client.py"))
        .arg(server.kubeconfig())
        .output()
        .context("starting python3 (Debian package python3-kubernetes)")?;
    ensure!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), server.log());
    Ok(())
}
