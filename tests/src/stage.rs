//! A scene for one test, and what tests do on it.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use switchyard_lab::scene::{self, Scene};
use switchyard_lab::topology::Topology;
use switchyard_lab::traffic::{Probe, Target};
use tempfile::TempDir;

use crate::case::{Case, Family};
use crate::dump::Dump;
use crate::proxy::{Launch, Proxy};
use crate::recorded::Asker;
use crate::variant::Variant;

/// The node whose proxy was recorded.
pub const NODE: &str = "node-1";
/// What the names of all test scenes begin with; the process's id follows.
const PREFIX: &str = "switchyard-test-";
/// How long the rules may take to become the recorded ones after the first sync: the zone of the node, which
/// some cases depend on, may become known after it.
const SETTLING: Duration = Duration::from_secs(3);

/// A three-node scene, a folder for files, and one variant of iptables.
#[derive(Debug)]
pub struct Stage {
    /// The scene; its first node is [`NODE`].
    pub scene: Scene,
    dir: TempDir,
    programs: PathBuf,
    search_path: OsString,
}

impl Stage {
    /// Builds a scene named after the test and this process, after removing what earlier runs left behind.
    ///
    /// # Errors
    /// When the scene cannot be built or the variant is not installed.
    pub fn build(test: &str, variant: Variant) -> Result<Stage> {
        sweep_ended_runs()?;
        let dir = tempfile::tempdir()?;
        let programs = dir.path().join("programs");
        fs::create_dir(&programs)?;
        let search_path = variant.search_path(&programs)?;
        let name = format!("{PREFIX}{}-{test}", std::process::id());
        let scene = Scene::build(&name, Topology::three_nodes())?;
        Ok(Stage { scene, dir, programs, search_path })
    }

    /// Starts the proxy on [`NODE`] with a case's objects and flags, and waits until it has synced.
    ///
    /// # Errors
    /// When the case cannot be read or the proxy does not come up.
    pub fn start_proxy(&self, case: &Case) -> Result<Proxy<'_>> {
        let manifests = self.dir.path().join("manifests");
        fs::create_dir(&manifests)?;
        case.write_manifests(self.scene.topology(), &manifests)?;
        let launch = Launch {
            node: NODE,
            manifests: &manifests,
            args: &case.args()?,
            search_path: &self.search_path,
            log: self.dir.path().join("proxy.log"),
        };
        Proxy::start(&self.scene, &launch)
    }

    /// Checks that the node's rules are the recorded ones, or become so within a moment.
    ///
    /// # Errors
    /// The differences, chain by chain.
    pub fn check_dump(&self, family: Family, recorded: &str) -> Result<()> {
        let recorded = Dump::parse(recorded);
        let deadline = Instant::now() + SETTLING;
        loop {
            let actual = Dump::parse(&self.run_program(&family.program("save"), "")?);
            let Some(difference) = recorded.difference(&actual) else { return Ok(()) };
            if Instant::now() > deadline {
                bail!("{family:?} differs, recorded is -, found is +\n{difference}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Brings the node into the state that a recorded IPv4 dump tells of, as if a proxy had done it.
    ///
    /// # Errors
    /// When iptables-restore refuses the dump or the node's settings cannot be written.
    pub fn restore(&self, recorded: &str) -> Result<()> {
        // Where the proxy serves node ports on 127.0.0.1 it lets the kernel route such packets, and guards
        // against those from other machines with this rule.
        if recorded.contains("block incoming localnet connections") {
            self.scene.run(NODE, || fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1"))??;
        }
        // The counter objects of nfacct are no part of a dump, and without them the rules would be refused.
        let rules: Vec<String> = recorded.lines().map(without_nfacct).collect();
        self.run_program("iptables-restore", &(rules.join("\n") + "\n")).map(drop)
    }

    /// Lets askers ask all their questions at once and checks every answer.
    ///
    /// # Errors
    /// The answers that are not the recorded ones.
    pub fn check_traffic(&self, askers: &[Asker]) -> Result<()> {
        let wrong = std::thread::scope(|scope| -> Result<Vec<String>> {
            let asking: Vec<_> =
                askers.iter().map(|asker| scope.spawn(|| self.wrong_answers(asker))).collect();
            let answers =
                asking.into_iter().map(|asker| asker.join().unwrap_or_else(|_| bail!("an asker panicked")));
            Ok(answers.collect::<Result<Vec<_>>>()?.concat())
        })?;
        ensure!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), wrong.join("\n"));
        Ok(())
    }

    fn wrong_answers(&self, asker: &Asker) -> Result<Vec<String>> {
        let probe = Probe { source: asker.source, ..Probe::default() };
        let targets: Vec<Target> = asker.questions.iter().map(|question| question.target).collect();
        let outcomes = self.scene.ask(&asker.place, &probe, &targets)?;
        let wrong = asker.questions.iter().zip(&outcomes).filter_map(|(question, outcomes)| {
            let answer = question.answer(outcomes);
            let differs = answer != question.expected;
            differs.then(|| {
                format!(
                    "{}, {}: recorded {:?}, found {answer:?}",
                    asker.name, question.name, question.expected
                )
            })
        });
        Ok(wrong.collect())
    }

    fn run_program(&self, program: &str, input: &str) -> Result<String> {
        let mut command = Command::new(self.programs.join(program));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process =
            self.scene.run(NODE, move || command.spawn())?.with_context(|| format!("starting {program}"))?;
        if let Some(mut stdin) = process.stdin.take() {
            stdin.write_all(input.as_bytes()).with_context(|| format!("writing to {program}"))?;
        }
        let output = process.wait_with_output()?;
        let complaints = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} failed, {}: {complaints}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// Removes the scenes of test processes that ended without tidying up, and leaves those still running.
fn sweep_ended_runs() -> Result<()> {
    for name in scene::namespaces(PREFIX)? {
        let process = name[PREFIX.len()..].split('-').next().unwrap_or_default();
        let running = Path::new("/proc").join(process).exists();
        if !process.is_empty() && !running {
            scene::sweep(&format!("{PREFIX}{process}-"))?;
        }
    }
    Ok(())
}

/// The rule without its matches of the kind `-m nfacct --nfacct-name NAME`.
fn without_nfacct(rule: &str) -> String {
    let mut words = rule.split_whitespace().peekable();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if word == "-m" && words.peek() == Some(&"nfacct") {
            words.nth(2);
        } else {
            kept.push(word);
        }
    }
    kept.join(" ")
}
