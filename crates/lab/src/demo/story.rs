//! What the demo tells, step by step: a command anyone could type, and what it must show.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a change may take to show.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

/// One step of the story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What to see in it.
    pub lesson: &'static str,
    /// A line for the shell.
    pub command: String,
    /// Texts that the output must hold.
    pub shows: &'static [&'static str],
}

/// What a step printed, and whether that is what it should.
#[derive(Debug)]
pub struct Told {
    pub output: String,
    pub as_expected: bool,
}

impl Step {
    /// Runs the command until it shows what it should, for a few seconds at most.
    ///
    /// # Errors
    /// When there is no shell.
    pub fn tell(&self) -> io::Result<Told> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let command = Command::new("sh").args(["-c", &self.command]).stdin(Stdio::null()).output()?;
            let mut output = String::from_utf8_lossy(&command.stdout).into_owned();
            output.push_str(&String::from_utf8_lossy(&command.stderr));
            let as_expected = self.shows.iter().all(|text| output.contains(text));
            if as_expected || Instant::now() >= deadline {
                return Ok(Told { output, as_expected });
            }
            std::thread::sleep(POLL);
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n$ {}", self.lesson, self.command)
    }
}

/// The whole story, for the stage whose folder this is and the program that it shows.
pub fn steps(folder: &Path, binary: &Path) -> Vec<Step> {
    let (folder, switchyard) = (folder.display(), binary.display());
    let on = |place: &str, command: &str| format!("ip netns exec {}-{place} {command}", super::NAME);
    let step = |lesson, command: String, shows| Step { lesson, command, shows };
    vec![
        step(
            "Three nodes, each a network namespace, with their pods. The db pod is on node-1.",
            format!(
                "{}; {}",
                on("node-1", "ip -brief address show cni0"),
                on("db", "ip -brief -4 address show eth0")
            ),
            &["10.244.1.1/24", "10.244.1.2/24"],
        ),
        step(
            "The Service db-service has the address 10.103.132.104 and leads to the db pod.",
            format!("{switchyard} services --manifests {folder}/manifests --node node-1 --family ipv4"),
            &["10.103.132.104:3306/TCP", "10.244.1.2:3306"],
        ),
        step(
            "A Service is a virtual object: no interface of any node holds its address.",
            format!(
                "for node in node-1 node-2 node-3; do {} || echo \"$node: none\"; done",
                on("$node", "ip -o address | grep 10.103.132.104")
            ),
            &["node-1: none", "node-2: none", "node-3: none"],
        ),
        step(
            "And no process listens on it.",
            format!("{} || echo none", on("node-1", "ss -Hltn 'sport = :3306' | grep 3306")),
            &["none"],
        ),
        step(
            "Yet the blue pod reaches the db pod through it,",
            on("blue", "curl -sS --max-time 3 http://10.103.132.104:3306/"),
            &["I am pod db at 10.244.1.2:3306. I see you as 10.244.1.3."],
        ),
        step(
            "and so does a pod on another node: a Service is on no node, and on all of them.",
            on("web-3", "curl -sS --max-time 3 http://10.103.132.104:3306/"),
            &["I am pod db at 10.244.1.2:3306. I see you as 10.244.3.2."],
        ),
        step(
            "The proxy on each node did that with these rules. Every one carries the Service's name.",
            on("node-1", "iptables-save -t nat | grep db-service"),
            &["-d 10.103.132.104/32", "default/db-service cluster IP"],
        ),
        step(
            "The last one changes the destination: what goes to 10.103.132.104:3306 arrives at 10.244.1.2:3306.",
            on("node-3", "iptables-save -t nat | grep db-service | grep DNAT"),
            &["--to-destination 10.244.1.2:3306"],
        ),
        step(
            "Its log says which proxier it uses, and when it added the Service.",
            format!("grep -E 'Using iptables Proxier|Adding new service port' {folder}/node-1.log"),
            &["Using iptables Proxier", "default/db-service"],
        ),
        step(
            "A NodePort Service is reached from outside, through every node.",
            format!(
                "for node in 192.168.56.11 192.168.56.12 192.168.56.13; do {}; done",
                on("outside", "curl -sS --max-time 3 http://$node:30080/")
            ),
            &["I am pod web-"],
        ),
        step("Delete the Service,", format!("rm -v {folder}/manifests/db-service.yaml"), &["removed"]),
        step(
            "and its rules are gone.",
            format!("{} || echo no rule left", on("node-1", "iptables-save | grep db-service")),
            &["no rule left"],
        ),
    ]
}
