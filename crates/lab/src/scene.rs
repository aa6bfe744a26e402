//! A running scene: the namespaces of a topology, wired, with its backends answering.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use switchyard_kernel::namespace::{self, Namespace, NamespaceError};
use thiserror::Error;

use crate::backend::Backend;
use crate::topology::Topology;
use crate::traffic::{Outcome, Probe, Target};
use crate::wiring::{self, WiringError};

/// A scene that could not be built, used or removed.
#[derive(Debug, Error)]
pub enum SceneError {
    /// A namespace could not be made, entered, listed or removed.
    #[error("scene {scene}")]
    Namespace {
        /// The scene's name, or the prefix of several.
        scene: String,
        /// What the kernel said.
        source: NamespaceError,
    },
    /// Links, addresses or routes could not be set.
    #[error("wiring scene {scene}")]
    Wiring {
        /// The scene's name.
        scene: String,
        /// Where and why.
        source: WiringError,
    },
    /// A backend pod could not listen on its address.
    #[error("starting backend pod {pod} of scene {scene}")]
    Backend {
        /// The scene's name.
        scene: String,
        /// The pod's name.
        pod: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A place that the topology does not have.
    #[error("scene {scene} has no place {place:?}; it has {places}")]
    NoSuchPlace {
        /// The scene's name.
        scene: String,
        /// What was asked for.
        place: String,
        /// What there is.
        places: String,
    },
}

/// Namespaces wired as a topology says. Several scenes of different names can run side by side: each has a
/// LAN of its own, so even their addresses may be the same. Dropping the scene removes all of it.
#[derive(Debug)]
pub struct Scene {
    name: String,
    topology: Topology,
    // Stopped before the namespaces go, since fields are dropped in order.
    backends: Vec<Backend>,
    places: BTreeMap<String, Namespace>,
}

impl Scene {
    /// Makes the namespaces `NAME-lan`, `NAME-node-1`, `NAME-backend-1` and so on, wires them and starts the
    /// backends. What was made is removed again if any of it fails.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN and CAP_NET_ADMIN, when a namespace of such a name exists ([`sweep`] removes
    /// leftovers), or when the kernel lacks a link type.
    pub fn build(name: &str, topology: Topology) -> Result<Scene, SceneError> {
        let mut scene =
            Scene { name: name.to_owned(), topology, backends: Vec::new(), places: BTreeMap::new() };
        for place in wiring::places(&scene.topology) {
            let namespace =
                Namespace::create(&format!("{name}-{place}")).map_err(|source| scene.failed(source))?;
            scene.places.insert(place, namespace);
        }
        wiring::wire(&scene.topology, &scene.places)
            .map_err(|source| SceneError::Wiring { scene: name.to_owned(), source })?;
        scene.start_backends()?;
        Ok(scene)
    }

    /// Leaves the namespaces in place when this process ends; [`sweep`] or [`namespace::remove`] takes them away. The
    /// backends end.
    ///
    /// # Errors
    /// When a namespace has gone away meanwhile.
    pub fn keep(self) -> Result<(), SceneError> {
        let Scene { name, places, .. } = self;
        let kept = places.into_values().try_for_each(|namespace| namespace.keep().map(drop));
        kept.map_err(|source| SceneError::Namespace { scene: name, source })
    }

    /// The scene's name, which the names of its namespaces begin with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the scene was built from.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Runs `work` in the namespace of a place: a node, a pod, the client outside. Threads and processes
    /// that it starts stay there.
    ///
    /// # Errors
    /// When there is no such place or its namespace cannot be entered.
    pub fn run<T: Send>(&self, place: &str, work: impl FnOnce() -> T + Send) -> Result<T, SceneError> {
        let namespace = self.places.get(place).ok_or_else(|| SceneError::NoSuchPlace {
            scene: self.name.clone(),
            place: place.to_owned(),
            places: self.places.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })?;
        namespace.run(work).map_err(|source| self.failed(source))
    }

    /// Asks all targets at once from a place and gives each one's outcomes, in the targets' order.
    ///
    /// # Errors
    /// When there is no such place or its namespace cannot be entered.
    pub fn ask(
        &self,
        place: &str,
        probe: &Probe,
        targets: &[Target],
    ) -> Result<Vec<BTreeSet<Outcome>>, SceneError> {
        self.run(place, || probe.outcomes_of_all(targets))
    }

    fn start_backends(&mut self) -> Result<(), SceneError> {
        let backends = self.topology.pods().filter(|(_, pod)| pod.backend);
        let listening: Vec<_> = backends
            .flat_map(|(_, pod)| pod.addresses.iter().map(move |address| (pod.name.clone(), *address)))
            .collect();
        for (pod, address) in listening {
            let backend = self.run(&pod, || Backend::start(address))?;
            self.backends.push(backend.map_err(|source| SceneError::Backend {
                scene: self.name.clone(),
                pod,
                source,
            })?);
        }
        Ok(())
    }

    fn failed(&self, source: NamespaceError) -> SceneError {
        SceneError::Namespace { scene: self.name.clone(), source }
    }
}

/// The names of all namespaces that begin with `prefix`, whichever process made them.
///
/// # Errors
/// When the folder of named namespaces cannot be read.
pub fn namespaces(prefix: &str) -> Result<Vec<String>, SceneError> {
    let all =
        namespace::list().map_err(|source| SceneError::Namespace { scene: prefix.to_owned(), source })?;
    Ok(all.into_iter().filter(|name| name.starts_with(prefix)).collect())
}

/// Removes what crashed runs left behind: every namespace whose name begins with `prefix`. Processes that
/// still run in one keep it alive, without its name, until they end.
///
/// # Errors
/// The first namespace that could not be removed; the others are removed nevertheless.
pub fn sweep(prefix: &str) -> Result<(), SceneError> {
    let mut result = Ok(());
    for name in namespaces(prefix)? {
        let removed =
            namespace::remove(&name).map_err(|source| SceneError::Namespace { scene: name.clone(), source });
        result = result.and(removed);
    }
    result
}
