//! A full disk: what does not fit is refused and not half stored, what is there can be read, and once there is room again the server
//! goes on by itself.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;
use switchyard_tests::api_server::ApiServer;
use switchyard_tests::wait::eventually;

/// Room for the database of an empty cluster and a few large objects.
const DISK: &str = "size=12m";
/// Takes most of it.
const BALLAST_BYTES: usize = 8 << 20;
/// More objects of this size than fit beside the ballast.
const MOST_OBJECTS: usize = 8;
const OBJECT_BYTES: usize = 700_000;
/// Far more than opening a small database takes.
const LIMIT: Duration = Duration::from_secs(20);

fn main() -> Result<ExitCode> {
    let args = Arguments::from_args();
    let trial = Trial::test("a_full_disk_is_told_survived_and_got_over", || {
        // On a thread of its own, since what it mounts is seen by that thread and its children only.
        let test = std::thread::spawn(|| {
            let folder = tempfile::tempdir()?;
            mount_disk(folder.path())?;
            let result = full(folder.path());
            umount2(folder.path(), MntFlags::MNT_DETACH)?;
            result
        });
        let result = test.join().map_err(|_| anyhow!("the test panicked"));
        result.flatten().map_err(|error| Failed::from(format!("{error:#}")))
    });
    Ok(libtest_mimic::run(&args, vec![trial]).exit_code())
}

fn mount_disk(folder: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some(DISK)).context("mounting a small disk")
}

fn full(disk: &Path) -> Result<()> {
    let mut server = ApiServer::start_in(disk, &[])?;
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![0; BALLAST_BYTES])?;
    let (created, complaint) = fill(&server)?;
    ensure!(complaint.contains("No space left on device") && complaint.contains("free some"), "{complaint}");
    holds(&server, &created)?;
    ensure!(create_large(&server, "again").is_err(), "it fits after all");

    fs::remove_file(&ballast)?;
    // While the file is opened again, writes are refused, and this is not ready.
    eventually(LIMIT, || server.kubectl(&["get", "--raw=/readyz"]).map(drop))?;
    create_large(&server, "after")?;
    server.end(nix::sys::signal::Signal::SIGKILL)?;
    server.start_again()?;
    holds(&server, &[&["after".to_owned()], &created[..]].concat())
}

/// Creates objects until one does not fit: those that are there, and what was said of that one.
fn fill(server: &ApiServer) -> Result<(Vec<String>, String)> {
    let mut created = Vec::new();
    for number in 0..MOST_OBJECTS {
        let name = format!("large-{number}");
        match create_large(server, &name) {
            Ok(_) => created.push(name),
            Err(complaint) => return Ok((created, format!("{complaint:#}"))),
        }
    }
    Err(anyhow!("{MOST_OBJECTS} objects fit on the disk"))
}

fn create_large(server: &ApiServer, name: &str) -> Result<String> {
    let content = "x".repeat(OBJECT_BYTES);
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"content": content}
    });
    server.kubectl_with(&["create", "--filename=-"], &object.to_string())
}

fn holds(server: &ApiServer, acknowledged: &[String]) -> Result<()> {
    let listed = server.kubectl(&["get", "configmaps", "--output=name"])?;
    let names = listed.lines().filter_map(|line| line.strip_prefix("configmap/"));
    let names: Vec<&str> = names.filter(|name| *name != "kube-root-ca.crt").collect();
    ensure!(names == acknowledged, "{acknowledged:?} were acknowledged, there are {names:?}");
    Ok(())
}
