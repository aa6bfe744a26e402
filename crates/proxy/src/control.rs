//! The control task: puts every update of a source into the service table and asks for the syncs it calls for.
//!
//! It never waits for the kernel, so a slow sync does not hold up the watch, and changes that come meanwhile collapse
//! into the next one.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use switchyard_api::{EndpointSlice, Node, Service};
use switchyard_model::{IpFamily, Noticed, Problem};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::events::{Event, EventRecorder};
use crate::health::ProxyHealth;
use crate::metrics::Metrics;
use crate::node::{NodeChange, NodeWatch};
use crate::runner::Request;
use crate::source::{Change, Kind, Update};
use crate::sync::{SharedTable, Signals, lock};
use crate::{klog_error, klog_info, logging, reports};

/// Why the process has to end, so that its supervisor starts it anew.
#[derive(Debug, Error)]
pub enum Ended {
    #[error("PodCIDRs of the node changed from {old:?} to {new:?}; restarting to use them")]
    PodCidrsChanged { old: Vec<Box<str>>, new: Vec<Box<str>> },
    #[error("the source of Services and EndpointSlices ended")]
    SourceEnded,
}

/// How the control task reaches one family's runner.
#[derive(Debug)]
pub struct FamilyHandle {
    pub family: IpFamily,
    pub request: Request,
    pub signals: Signals,
}

#[derive(Debug)]
pub struct Control {
    pub table: SharedTable,
    pub families: Vec<FamilyHandle>,
    pub node_name: String,
    pub node_watch: NodeWatch,
    pub health: Arc<ProxyHealth>,
    pub metrics: Arc<Metrics>,
    pub events: EventRecorder,
    /// Kinds whose initial objects have all been delivered.
    pub synced: BTreeSet<Kind>,
}

impl Control {
    /// Runs until the process has to end: first through what was `received` before, then through what comes.
    pub async fn run(mut self, received: Vec<Update>, mut updates: mpsc::Receiver<Update>) -> Ended {
        for update in received {
            if let Err(ended) = self.apply(update) {
                return ended;
            }
        }
        while let Some(update) = updates.recv().await {
            if let Err(ended) = self.apply(update) {
                return ended;
            }
        }
        Ended::SourceEnded
    }

    fn apply(&mut self, update: Update) -> Result<(), Ended> {
        match update {
            Update::Service(change) => self.service(change),
            Update::EndpointSlice(change) => self.slice(change),
            Update::Node(change) => return self.node(change),
            // Ranges of cluster IPs matter to modes that reject what no service has; iptables leaves that alone.
            Update::ServiceCidr(_) => {}
            Update::Synced(kind) => self.initial_objects_delivered(kind),
            Update::Malformed(malformed) => {
                klog_error!(
                    "Skipping an object that cannot be read",
                    err = logging::error(&malformed.object)
                );
                self.events.record(Event::malformed(&self.node_name, &malformed));
            }
        }
        Ok(())
    }

    fn service(&mut self, change: Change<Service>) {
        let noticed = match change {
            Change::Set(service) => {
                klog_info!(
                    v = 4,
                    "Calling handler.OnServiceUpdate()",
                    service = service.metadata.key().to_string()
                );
                lock(&self.table).set_service(&service)
            }
            Change::Removed(key) => {
                klog_info!(v = 4, "Calling handler.OnServiceDelete()", service = key.to_string());
                lock(&self.table).remove_service(&key)
            }
        };
        noticed.concerned.iter().for_each(|_| self.metrics.service_changed());
        self.noticed(&noticed);
    }

    fn slice(&mut self, change: Change<EndpointSlice>) {
        let noticed = match change {
            Change::Set(slice) => {
                klog_info!(
                    v = 4,
                    "Calling handler.OnEndpointSliceUpdate()",
                    endpointSlice = slice.metadata.key().to_string()
                );
                lock(&self.table).set_slice(&slice)
            }
            Change::Removed(key) => {
                klog_info!(v = 4, "Calling handler.OnEndpointsDelete()", endpointSlice = key.to_string());
                lock(&self.table).remove_slice(&key)
            }
        };
        noticed.concerned.iter().for_each(|_| self.metrics.endpoint_changed());
        self.noticed(&noticed);
    }

    fn node(&mut self, change: Change<Node>) -> Result<(), Ended> {
        let Change::Set(node) = change else {
            klog_info!("Node is being deleted", node = &self.node_name);
            return Ok(());
        };
        self.health.node_seen(&node);
        match self.node_watch.see(&node) {
            Some(NodeChange::PodCidrs { old, new }) => {
                klog_error!(
                    "PodCIDRs changed for the node",
                    node = &self.node_name,
                    newPodCIDRs = logging::json(&new),
                    oldPodCIDRs = logging::json(&old)
                );
                return Err(Ended::PodCidrsChanged { old, new });
            }
            Some(NodeChange::Ips { old, new }) => {
                klog_info!(
                    "NodeIPs changed for the node",
                    node = &self.node_name,
                    newNodeIPs = logging::json(&new),
                    oldNodeIPs = logging::json(&old)
                );
            }
            None => {}
        }
        let noticed = lock(&self.table).set_zone(node.zone().cloned());
        if !noticed.sync.is_empty() {
            klog_info!(
                v = 4,
                "Updated proxier node topology labels",
                zone = node.zone().map_or("", |zone| zone)
            );
        }
        self.noticed(&noticed);
        Ok(())
    }

    fn noticed(&self, noticed: &Noticed) {
        for problem in &noticed.problems {
            self.report(problem);
        }
        for handle in self.families.iter().filter(|handle| noticed.sync.contains(&handle.family)) {
            if handle.signals.is_initialized() {
                self.request(handle);
            }
        }
    }

    fn report(&self, problem: &Problem) {
        let (kind, key) = problem.object();
        if problem.is_fault() {
            klog_error!(problem.to_string(), kind = kind, object = key);
            self.events.record(reports::problem(&self.node_name, problem));
        } else {
            klog_info!(v = 4, problem.to_string(), kind = kind, object = key);
        }
    }

    fn initial_objects_delivered(&mut self, kind: Kind) {
        self.synced.insert(kind);
        if !(self.synced.contains(&Kind::Service) && self.synced.contains(&Kind::EndpointSlice)) {
            return;
        }
        for handle in self.families.iter().filter(|handle| !handle.signals.is_initialized()) {
            handle.signals.initialize();
            self.request(handle);
        }
    }

    fn request(&self, handle: &FamilyHandle) {
        self.health.queued(handle.family);
        self.metrics.sync_queued(handle.family, Timestamp::now());
        handle.request.poke();
    }
}
