//! A scene for one test, and what tests do on it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use switchyard_lab::scene::{self, Scene};
use switchyard_lab::topology::Topology;
use switchyard_lab::traffic::{Probe, Target};
use tempfile::TempDir;

use crate::case::{Case, Family};
use crate::dump::Dump;
use crate::proxy::{Launch, Proxy};
use crate::recorded::Asker;
use crate::variant::Variant;
use crate::wait::eventually;

/// The node whose proxy was recorded.
pub const NODE: &str = "node-1";
/// What the names of all test scenes begin with; the process's id follows.
const PREFIX: &str = "switchyard-test-";
/// How long the rules may take to become the recorded ones after the first sync: the zone of the node, which
/// some cases depend on, may become known after it.
const SETTLING: Duration = Duration::from_secs(3);

/// A scene, a folder for files, and one variant of iptables.
#[derive(Debug)]
pub struct Stage {
    /// The scene; its first node is [`NODE`].
    pub scene: Scene,
    dir: TempDir,
    programs: PathBuf,
    search_path: OsString,
}

impl Stage {
    /// Builds a scene of three nodes named after the test and this process, after removing what earlier runs
    /// left behind.
    ///
    /// # Errors
    /// When the scene cannot be built or the variant is not installed.
    pub fn build(test: &str, variant: Variant) -> Result<Stage> {
        Stage::of(test, variant, Topology::three_nodes())
    }

    /// The same with nothing but [`NODE`], for tests without traffic.
    ///
    /// # Errors
    /// When the scene cannot be built or the variant is not installed.
    pub fn alone(test: &str, variant: Variant) -> Result<Stage> {
        let mut topology = Topology::three_nodes();
        topology.nodes.truncate(1);
        topology.nodes[0].pods.clear();
        Stage::of(test, variant, topology)
    }

    fn of(test: &str, variant: Variant, topology: Topology) -> Result<Stage> {
        sweep_ended_runs()?;
        let dir = tempfile::tempdir()?;
        let programs = dir.path().join("programs");
        fs::create_dir(&programs)?;
        fs::create_dir(dir.path().join("manifests"))?;
        let search_path = variant.search_path(&programs)?;
        let name = format!("{PREFIX}{}-{test}", std::process::id());
        let scene = Scene::build(&name, topology)?;
        Ok(Stage { scene, dir, programs, search_path })
    }

    /// A folder of the test's own; it goes with the stage.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The folder of manifests that the proxy follows.
    #[must_use]
    pub fn manifests(&self) -> PathBuf {
        self.dir.path().join("manifests")
    }

    /// The file that the stage's iptables-legacy locks.
    #[must_use]
    pub fn lock_file(&self) -> PathBuf {
        self.dir.path().join("xtables.lock")
    }

    /// Starts the proxy on [`NODE`] with a case's objects and flags, and waits until it has synced.
    ///
    /// # Errors
    /// When the case cannot be read or the proxy does not come up.
    pub fn start_proxy(&self, case: &Case) -> Result<Proxy<'_>> {
        case.write_manifests(self.scene.topology(), &self.manifests())?;
        self.start(&case.args()?)
    }

    /// Starts the proxy with whatever [`Stage::manifests`] holds, and waits until it has synced.
    ///
    /// # Errors
    /// When the proxy does not come up.
    pub fn start(&self, args: &[String]) -> Result<Proxy<'_>> {
        self.launch(args, Proxy::start)
    }

    /// Starts the proxy and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, args: &[String]) -> Result<Proxy<'_>> {
        self.launch(args, Proxy::spawn)
    }

    fn launch<'a>(
        &'a self,
        args: &[String],
        start: impl FnOnce(&'a Scene, &Launch<'_>) -> Result<Proxy<'a>>,
    ) -> Result<Proxy<'a>> {
        let launch = Launch {
            node: NODE,
            manifests: &self.manifests(),
            args,
            search_path: &self.search_path,
            lock_file: &self.lock_file(),
            log: self.dir.path().join("proxy.log"),
        };
        start(&self.scene, &launch)
    }

    /// Any program with this stage's variant of iptables on its PATH, its output in the returned file. Start
    /// it with [`Proxy::run`].
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<(Command, PathBuf)> {
        let path = self.dir.path().join("command.log");
        let log = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        let mut command = Command::new(program);
        command
            .env("PATH", &self.search_path)
            .env("XTABLES_LOCKFILE", self.lock_file())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok((command, path))
    }

    /// What `iptables-save` of a family prints on [`NODE`].
    ///
    /// # Errors
    /// When the program fails.
    pub fn save(&self, family: Family) -> Result<String> {
        self.run_program(&family.program("save"), &[], "")
    }

    /// Checks that the node's rules are the recorded ones, or become so within a moment.
    ///
    /// # Errors
    /// The differences, chain by chain.
    pub fn check_dump(&self, family: Family, recorded: &str) -> Result<()> {
        let recorded = Dump::parse(recorded);
        eventually(SETTLING, || {
            let actual = Dump::parse(&self.save(family)?);
            match recorded.difference(&actual) {
                None => Ok(()),
                Some(difference) => bail!("{family:?} differs, recorded is -, found is +\n{difference}"),
            }
        })
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
        self.run_program("iptables-restore", &[], &(rules.join("\n") + "\n")).map(drop)
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

    /// The ids of all processes on [`NODE`], whoever started them.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn processes(&self) -> Result<Vec<String>> {
        let namespace = self.scene.run(NODE, || fs::read_link("/proc/thread-self/ns/net"))??;
        let mut inside = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let process = entry?;
            // A process may end at any time, and then it is not inside.
            if fs::read_link(process.path().join("ns/net")).is_ok_and(|other| other == namespace) {
                inside.push(process.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(inside)
    }

    /// Runs a program on [`NODE`], the stage's own iptables if it is of that name, and gives what it printed.
    ///
    /// # Errors
    /// When it cannot be started or fails; the error holds its complaints.
    pub fn run_program(&self, program: &str, args: &[&str], input: &str) -> Result<String> {
        let own = self.programs.join(program);
        let mut command = Command::new(if own.exists() { own.as_os_str() } else { OsStr::new(program) });
        command
            .args(args)
            .env("PATH", &self.search_path)
            .env("XTABLES_LOCKFILE", self.lock_file())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process =
            self.scene.run(NODE, move || command.spawn())?.with_context(|| format!("starting {program}"))?;
        let stdin = process.stdin.take().ok_or_else(|| anyhow!("{program} has no standard input"))?;
        // Written aside: a program may print before it has read everything.
        let output = std::thread::scope(|scope| {
            scope.spawn(move || (&stdin).write_all(input.as_bytes()));
            process.wait_with_output()
        })?;
        let complaints = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{program} {} failed, {}: {complaints}",
            args.join(" "),
            output.status
        );
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
