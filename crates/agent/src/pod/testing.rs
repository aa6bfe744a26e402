//! Situations for the tests of decisions and statuses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod, PodStatus};
use serde_json::{Value, json};

use super::backoff::Backoff;
use super::decide::{Decision, Step, decide};
use super::spec;
use super::status::status;
use super::view::{Busy, Desire, Failure, Memory, Network, Part, Verdicts, View};
use crate::runtime::{Container, End, Sandbox, State};
use crate::testing;

/// A pod and all that is known of it, at the second 1000.
#[derive(Debug, Clone)]
pub(super) struct Situation {
    pub(super) pod: Pod,
    pub(super) desire: Desire,
    pub(super) sandbox: Option<Sandbox>,
    pub(super) network: Network,
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) memories: BTreeMap<String, Memory>,
    pub(super) busy: BTreeMap<Part, Busy>,
    pub(super) failure: Option<Failure>,
    pub(super) backoff: Backoff,
    pub(super) is_told: bool,
    pub(super) now: Timestamp,
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Just bound.
pub(super) fn bound(spec: Value) -> Situation {
    Situation {
        pod: testing::pod(spec),
        desire: Desire::Run,
        sandbox: None,
        network: Network::None,
        containers: BTreeMap::new(),
        memories: BTreeMap::new(),
        busy: BTreeMap::new(),
        failure: None,
        backoff: Backoff::SHORT,
        is_told: true,
        now: at(1000),
    }
}

/// With a sandbox that is connected.
pub(super) fn connected(spec: Value) -> Situation {
    let bound = bound(spec);
    Situation {
        sandbox: Some(Sandbox {
            pod: spec::name(&bound.pod),
            network: Some("/run/netns/web".into()),
            annotations: BTreeMap::new(),
            created: at(900),
            alive: true,
        }),
        network: Network::Attached(vec!["10.244.1.2".parse().unwrap()]),
        ..bound
    }
}

/// One container `a`, with more fields.
pub(super) fn one(more: Value) -> Value {
    let mut container = json!({"name": "a", "image": "web"});
    for (key, value) in more.as_object().cloned().unwrap_or_default() {
        container[key] = value;
    }
    json!({"containers": [container]})
}

impl Situation {
    /// A container that runs since the second 950.
    pub(super) fn running(mut self, name: &str) -> Situation {
        self.set(name, State::Running);
        self
    }

    /// A container that ended at the second 990.
    pub(super) fn ended(mut self, name: &str, exit_code: i32) -> Situation {
        self.set(name, State::Ended(End { exit_code, signal: None, at: at(990) }));
        self
    }

    fn set(&mut self, name: &str, state: State) {
        let container = Container {
            name: name.to_owned(),
            image: "web".to_owned(),
            restarts: 0,
            started: at(950),
            state,
        };
        self.containers.insert(name.to_owned(), container);
        self.memory(name).restarts = Some(0);
    }

    pub(super) fn memory(&mut self, name: &str) -> &mut Memory {
        self.memories.entry(name.to_owned()).or_default()
    }

    pub(super) fn with_verdicts(mut self, name: &str, verdicts: Verdicts) -> Situation {
        self.memory(name).verdicts = Verdicts { run: at(950), ..verdicts };
        self
    }

    /// It ran before, in a sandbox that was lost.
    pub(super) fn lost(mut self, name: &str, exit_code: i32) -> Situation {
        let memory = self.memory(name);
        memory.restarts = Some(0);
        memory.before = Some(ContainerStateTerminated { exit_code, ..ContainerStateTerminated::default() });
        self
    }

    /// Deleted just now, with so many seconds to end.
    pub(super) fn deleted(mut self, grace: i64) -> Situation {
        let deadline = self.now + SignedDuration::from_secs(grace);
        self.desire = Desire::Stop { since: self.now, deadline, is_in_api: true };
        self
    }

    /// Gone from the API.
    pub(super) fn gone(mut self) -> Situation {
        let deadline = self.now + SignedDuration::from_secs(1);
        self.desire = Desire::Stop { since: self.now, deadline, is_in_api: false };
        self
    }

    pub(super) fn busy(mut self, name: &str, busy: Busy) -> Situation {
        self.busy.insert(Part::Container(name.to_owned()), busy);
        self
    }

    pub(super) fn at(mut self, second: i64) -> Situation {
        self.now = at(second);
        self
    }

    pub(super) fn decision(&self) -> Decision {
        decide(&self.view())
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        self.decision().steps
    }

    pub(super) fn status(&self) -> PodStatus {
        status(&self.view(), &self.pod.status.clone().unwrap_or_default())
    }

    fn view(&self) -> View<'_> {
        static HOST: [IpAddr; 1] = [IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1))];
        View {
            pod: &self.pod,
            desire: self.desire,
            sandbox: self.sandbox.as_ref(),
            network: &self.network,
            containers: &self.containers,
            memories: &self.memories,
            busy: &self.busy,
            failure: self.failure.as_ref(),
            backoff: self.backoff,
            is_told: self.is_told,
            host_ips: &HOST,
            now: self.now,
        }
    }
}
