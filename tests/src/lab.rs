//! A lab of a test's own, as a person makes it: through the binary, with a kubeconfig and a state folder of its own.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use switchyard_kernel::namespace::{self, NamespaceFile};
use switchyard_kernel::process::{self, Process};
use tempfile::TempDir;

use crate::proxy::binary;

/// Dropping it takes the lab down, whatever became of it.
#[derive(Debug)]
pub struct Lab {
    name: String,
    folder: TempDir,
}

impl Lab {
    /// Nothing is built yet. The name has this process's id in it.
    ///
    /// # Errors
    /// When there is no room for its folder.
    pub fn new(test: &str) -> Result<Lab> {
        Ok(Lab { name: format!("t{}-{test}", std::process::id()), folder: tempfile::tempdir()? })
    }

    /// One that is up.
    ///
    /// # Errors
    /// When it does not come up; the error holds what it said.
    pub fn up(test: &str, args: &[&str]) -> Result<Lab> {
        let lab = Lab::new(test)?;
        lab.succeed(&[&["up"], args].concat())?;
        Ok(lab)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kubeconfig of its user.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("home/.kube/config")
    }

    /// Where it keeps its state; it may be gone.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A command of the binary for this lab: `up`, `shell`. What follows `--` comes last.
    ///
    /// # Errors
    /// When the binary has not been built.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary()?);
        self.prepare(&mut command);
        if let Some((name, rest)) = args.split_first() {
            command.arg(name).args(["--name", &self.name]).args(rest);
        }
        Ok(command)
    }

    /// Runs a command of the binary to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        self.command(args)?.output().context("running switchyard")
    }

    /// The same; gives what it printed.
    ///
    /// # Errors
    /// When it fails; the error holds what it complained of.
    pub fn succeed(&self, args: &[&str]) -> Result<String> {
        let output = self.run(args)?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "switchyard {}: {complaint}", args.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs a command of the binary that finds the lab by kubectl's context; gives what it printed.
    ///
    /// # Errors
    /// When it fails; the error holds what it complained of.
    pub fn by_context(&self, args: &[&str]) -> Result<String> {
        let output = self.command(&[])?.args(args).output().context("running switchyard")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "switchyard {}: {complaint}", args.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs a command that is to fail; gives what it complained of.
    ///
    /// # Errors
    /// When it succeeds.
    pub fn fail(&self, args: &[&str]) -> Result<String> {
        let output = self.run(args)?;
        ensure!(!output.status.success(), "switchyard {} succeeded", args.join(" "));
        Ok(String::from_utf8(output.stderr)?)
    }

    /// What `status -o json` tells, also of a lab that has crashed.
    ///
    /// # Errors
    /// When it tells nothing.
    pub fn status(&self) -> Result<Value> {
        let Output { stdout, stderr, .. } = self.run(&["status", "-o", "json"])?;
        serde_json::from_slice(&stdout).with_context(|| String::from_utf8_lossy(&stderr).into_owned())
    }

    /// The process that a part is now.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self, part: &str) -> Result<i32> {
        let status = self.status()?;
        let parts = status["parts"].as_array().context("no parts")?;
        let found =
            parts.iter().find(|own| own["name"] == part).with_context(|| format!("no part {part}"))?;
        let pid = found["pid"].as_i64().with_context(|| format!("{part} does not run"))?;
        Ok(pid.try_into()?)
    }

    /// Runs kubectl as its user would, on the current context.
    ///
    /// # Errors
    /// When it fails.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new("kubectl");
        self.prepare(&mut command);
        let output = command.arg("--request-timeout=20s").args(args).stdin(Stdio::null()).output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {}: {complaint}", args.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What runs in its places.
    ///
    /// # Errors
    /// When that cannot be looked for.
    pub fn processes(&self) -> Result<Vec<Process>> {
        let prefix = format!("{}-", self.name);
        let names = namespace::list()?.into_iter().filter(|name| name.starts_with(&prefix));
        let ids = names.map(|name| Ok(NamespaceFile::named(&name)?.id()?)).collect::<Result<_>>()?;
        Ok(process::in_networks(&ids)?)
    }

    /// What is there of it that must not be there after `down`, a line each.
    ///
    /// # Errors
    /// When it cannot be looked for.
    pub fn traces(&self) -> Result<Vec<String>> {
        let mut traces = Vec::new();
        let prefix = format!("{}-", self.name);
        for entry in fs::read_dir("/run/netns").into_iter().flatten() {
            let name = entry?.file_name().to_string_lossy().into_owned();
            traces.extend(name.starts_with(&prefix).then(|| format!("namespace {name}")));
        }
        let state = self.state();
        traces.extend(state.exists().then(|| format!("folder {}", state.display())));
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let marks = [format!("/{prefix}"), state.display().to_string()];
        let is_own = |text: &str| marks.iter().any(|mark| text.contains(mark.as_str()));
        traces.extend(mounts.lines().filter(|line| is_own(line)).map(|line| format!("mount {line}")));
        for entry in fs::read_dir("/proc")? {
            let path = entry?.path();
            // Of one that has ended, a zombie too, there is nothing to read.
            let read = |file: &str| fs::read(path.join(file)).unwrap_or_default();
            let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            if is_own(&command) || is_own(&String::from_utf8_lossy(&read("environ"))) {
                traces.push(format!("process {} {command}", path.display()));
            }
        }
        Ok(traces)
    }

    fn prepare(&self, command: &mut Command) {
        let home = self.folder.path().join("home");
        command.env("HOME", &home).env("SWITCHYARD_STATE_DIR", self.state()).env_remove("KUBECONFIG");
        command.stdin(Stdio::null());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // What it leaves, the tests that look for it report.
        let _ = self.run(&["down"]);
    }
}

/// What a program that lists some of this machine's state prints.
///
/// # Errors
/// When it cannot be run.
pub fn listing(program: impl AsRef<OsStr>, args: &[&str]) -> Result<String> {
    let program = program.as_ref();
    let output = Command::new(program).args(args).output();
    let output = output.with_context(|| format!("running {}", Path::new(program).display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
