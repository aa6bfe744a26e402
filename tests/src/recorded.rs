//! The recorded traffic: who asked what, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;

use anyhow::{Context, Result, anyhow, bail};
use switchyard_lab::topology::Topology;
use switchyard_lab::traffic::{Outcome, Protocol, Target};

use crate::case::cases_dir;

/// How the outcomes of a service with session affinity are recorded: which backend it is, is chance.
const STICKY: &str = "one backend, each time the same";

/// Case, then asker, then target, then outcomes, all as text.
type Recording = BTreeMap<String, BTreeMap<String, BTreeMap<String, BTreeSet<String>>>>;

/// A recorded mode's traffic, case by case.
#[derive(Debug)]
pub struct Traffic(Recording);

/// One asker's questions.
#[derive(Debug, Clone)]
pub struct Asker {
    /// As recorded: `pod 10.244.1.3`.
    pub name: String,
    /// The name of the place in the scene that it asks from.
    pub place: String,
    /// The source address, where the place has several.
    pub source: Option<IpAddr>,
    /// What it asks.
    pub questions: Vec<Question>,
}

/// One target and what is to come of asking it.
#[derive(Debug, Clone)]
pub struct Question {
    /// As recorded: `web nodePort 192.168.56.11:30080/TCP`.
    pub name: String,
    /// The target that the name ends with.
    pub target: Target,
    /// The recorded outcomes.
    pub expected: BTreeSet<String>,
}

impl Traffic {
    /// The traffic recorded for a proxy mode: `iptables` or `nftables`.
    ///
    /// # Errors
    /// When the recording cannot be read.
    pub fn of_mode(mode: &str) -> Result<Traffic> {
        let path = cases_dir().join(format!("traffic/{mode}.json"));
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(Traffic(serde_json::from_str(&text).with_context(|| format!("decoding {}", path.display()))?))
    }

    /// The names of the recorded cases.
    pub fn cases(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Everyone who asked in a case.
    ///
    /// # Errors
    /// When the case was not recorded, or an asker or target is none that the topology can play.
    pub fn askers(&self, case: &str, topology: &Topology) -> Result<Vec<Asker>> {
        let askers = self.0.get(case).ok_or_else(|| anyhow!("no traffic is recorded for {case}"))?;
        askers.iter().map(|(name, questions)| Asker::parse(name, questions, topology)).collect()
    }
}

impl Asker {
    fn parse(
        name: &str,
        questions: &BTreeMap<String, BTreeSet<String>>,
        topology: &Topology,
    ) -> Result<Asker> {
        let (place, source) = place(name, topology)?;
        let question = |(name, expected): (&String, &BTreeSet<String>)| {
            Ok(Question { name: name.clone(), target: target(name)?, expected: expected.clone() })
        };
        let questions = questions.iter().map(question).collect::<Result<_>>()?;
        Ok(Asker { name: name.to_owned(), place, source, questions })
    }
}

impl Question {
    /// What came of the question, in the words of the recording.
    #[must_use]
    pub fn answer(&self, outcomes: &BTreeSet<Outcome>) -> BTreeSet<String> {
        let sticky = self.expected.contains(STICKY);
        let answered = outcomes.iter().all(|outcome| matches!(outcome, Outcome::Answer { .. }));
        let backends: BTreeSet<&IpAddr> = outcomes.iter().filter_map(backend).collect();
        if sticky && answered && backends.len() == 1 {
            return BTreeSet::from([STICKY.to_owned()]);
        }
        outcomes.iter().map(ToString::to_string).collect()
    }
}

fn backend(outcome: &Outcome) -> Option<&IpAddr> {
    match outcome {
        Outcome::Answer { backend, .. } => Some(backend),
        _ => None,
    }
}

/// `node-1`, `pod ADDRESS`, `backend pod ADDRESS`, `outside ADDRESS`: the place, and the source address
/// where the place has several.
fn place(asker: &str, topology: &Topology) -> Result<(String, Option<IpAddr>)> {
    if let Some(node) = topology.nodes.iter().find(|node| node.name == asker) {
        return Ok((node.name.clone(), None));
    }
    let (kind, address) = asker.rsplit_once(' ').ok_or_else(|| anyhow!("unknown asker {asker:?}"))?;
    let address: IpAddr = address.parse().with_context(|| format!("asker {asker:?}"))?;
    if kind == topology.outside.name {
        return Ok((topology.outside.name.clone(), Some(address)));
    }
    match topology.pods().find(|(_, pod)| pod.addresses.contains(&address)) {
        Some((_, pod)) => Ok((pod.name.clone(), None)),
        None => bail!("no pod of the scene is asker {asker:?}"),
    }
}

/// `SERVICE KIND ADDRESS:PORT/PROTOCOL`
fn target(question: &str) -> Result<Target> {
    let target = question.rsplit(' ').next().unwrap_or(question);
    let (address, protocol) = target.split_once('/').ok_or_else(|| anyhow!("no protocol in {question:?}"))?;
    let protocol = match protocol {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        _ => bail!("protocol in {question:?} cannot be asked"),
    };
    Ok(Target { address: address.parse().with_context(|| format!("target {question:?}"))?, protocol })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recorded_question_can_be_asked() {
        let topology = Topology::three_nodes();
        for mode in ["iptables", "nftables"] {
            let traffic = Traffic::of_mode(mode).unwrap();
            for case in traffic.cases() {
                let askers = traffic.askers(case, &topology).unwrap();
                assert_eq!(askers.len(), 5, "{mode} {case}");
            }
        }
    }

    #[test]
    fn a_sticky_service_is_one_that_keeps_to_its_backend() {
        let answer = |backend: &str, peer: &str| Outcome::Answer {
            backend: backend.parse().unwrap(),
            peer: peer.parse().unwrap(),
        };
        let question = Question {
            name: "sticky clusterIP 10.96.10.50:80/TCP".into(),
            target: target("sticky clusterIP 10.96.10.50:80/TCP").unwrap(),
            expected: BTreeSet::from([STICKY.to_owned()]),
        };
        let one = BTreeSet::from([answer("10.244.2.2", "10.244.1.3"), answer("10.244.2.2", "10.244.1.1")]);
        assert_eq!(question.answer(&one), question.expected);
        let two = BTreeSet::from([answer("10.244.2.2", "10.244.1.3"), answer("10.244.3.2", "10.244.1.3")]);
        assert_ne!(question.answer(&two), question.expected);
        assert_ne!(question.answer(&BTreeSet::from([Outcome::Timeout])), question.expected);
    }
}
