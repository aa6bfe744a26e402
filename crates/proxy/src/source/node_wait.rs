//! Waiting at start until this node's own object says what the proxy has to know.

use std::time::Duration;

use switchyard_api::Node;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::{Change, Kind, Update};
use crate::klog_error;

/// How long each stage may take. The first, for the API server to answer at all, has no limit.
#[derive(Debug, Clone, Copy)]
pub struct NodeWaitLimits {
    /// For the node to exist and have an address.
    pub addresses: Duration,
    /// After that, for it to get its pod ranges.
    pub pod_cidrs: Duration,
}

impl Default for NodeWaitLimits {
    fn default() -> NodeWaitLimits {
        NodeWaitLimits { addresses: Duration::from_secs(30), pod_cidrs: Duration::from_secs(5 * 60) }
    }
}

/// What was learnt while waiting.
#[derive(Debug, Default)]
pub struct NodeWait {
    /// The node as it is now; `None` if it does not exist.
    pub node: Option<Node>,
    /// Every update received meanwhile, in order, for whoever reads the channel next.
    pub received: Vec<Update>,
    synced: bool,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeWaitError {
    #[error("can not sync node informer")]
    SourceEnded,
    #[error("timeout waiting for node \"{node}\" to exist")]
    NodeMissing { node: String },
    #[error("timeout waiting for PodCIDR allocation on node \"{node}\"")]
    PodCidrsMissing { node: String },
}

impl NodeWait {
    fn has_address(&self) -> bool {
        self.node.as_ref().is_some_and(|node| !node.ips().is_empty())
    }

    fn has_pod_cidrs(&self) -> bool {
        self.node.as_ref().is_some_and(|node| !node.spec.pod_cidrs.is_empty())
    }

    /// Takes updates in until one makes `enough` true, or the deadline has passed. False if it has.
    async fn until(
        &mut self,
        updates: &mut mpsc::Receiver<Update>,
        deadline: Option<Instant>,
        enough: impl Fn(&NodeWait) -> bool,
    ) -> Result<bool, NodeWaitError> {
        while !enough(self) {
            let received = match deadline {
                None => updates.recv().await,
                Some(deadline) => match timeout_at(deadline, updates.recv()).await {
                    Ok(received) => received,
                    Err(_) => return Ok(false),
                },
            };
            let update = received.ok_or(NodeWaitError::SourceEnded)?;
            match &update {
                Update::Node(Change::Set(node)) => self.node = Some(node.clone()),
                Update::Node(Change::Removed(_)) => self.node = None,
                Update::Synced(Kind::Node) => self.synced = true,
                _ => {}
            }
            self.received.push(update);
        }
        Ok(true)
    }
}

/// Waits for the node's first list, then for an address and, if `needs_pod_cidrs` (local traffic is told by the
/// node's own ranges), for those. Without them a proxy in that mode cannot work; any other goes on.
pub async fn wait_for_node(
    updates: &mut mpsc::Receiver<Update>,
    node_name: &str,
    needs_pod_cidrs: bool,
    limits: NodeWaitLimits,
) -> Result<NodeWait, NodeWaitError> {
    let mut wait = NodeWait::default();
    wait.until(updates, None, |wait| wait.synced).await?;

    let deadline = Instant::now() + limits.addresses;
    let in_time = wait.until(updates, Some(deadline), NodeWait::has_address).await?;
    if !in_time && !needs_pod_cidrs {
        let message = match wait.node {
            None => "Timed out waiting for node to exist",
            Some(_) => "Timed out waiting for node to be assigned IPs",
        };
        klog_error!(message, node = node_name);
    }
    if needs_pod_cidrs {
        let deadline = Instant::now() + limits.pod_cidrs;
        if !wait.until(updates, Some(deadline), NodeWait::has_pod_cidrs).await? {
            let node = node_name.to_owned();
            return Err(match wait.node {
                None => NodeWaitError::NodeMissing { node },
                Some(_) => NodeWaitError::PodCidrsMissing { node },
            });
        }
    }
    Ok(wait)
}

#[cfg(test)]
mod tests {
    use switchyard_api::ObjectKey;

    use super::*;

    const SHORT: NodeWaitLimits =
        NodeWaitLimits { addresses: Duration::from_secs(30), pod_cidrs: Duration::from_secs(300) };

    fn node(json: &str) -> Update {
        Update::Node(Change::Set(serde_json::from_str(json).unwrap()))
    }

    fn with_address() -> Update {
        node(
            r#"{"metadata":{"name":"n"},"status":{"addresses":[{"type":"InternalIP","address":"10.0.0.1"}]}}"#,
        )
    }

    async fn wait(updates: Vec<Update>, needs_pod_cidrs: bool) -> Result<NodeWait, NodeWaitError> {
        let (sender, mut receiver) = mpsc::channel(16);
        for update in updates {
            sender.send(update).await.unwrap();
        }
        let result = wait_for_node(&mut receiver, "n", needs_pod_cidrs, SHORT).await;
        drop(sender);
        result
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_with_an_address_is_enough_at_once() {
        let started = Instant::now();
        let waited = wait(vec![with_address(), Update::Synced(Kind::Node)], false).await.unwrap();
        assert_eq!(waited.node.unwrap().ips().len(), 1);
        assert_eq!(waited.received.len(), 2, "nothing is swallowed");
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_absent_node_is_waited_for_and_then_done_without() {
        let started = Instant::now();
        let waited = wait(vec![Update::Synced(Kind::Node)], false).await.unwrap();
        assert!(waited.node.is_none());
        assert_eq!(started.elapsed(), SHORT.addresses);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_goes_again_counts_as_absent() {
        let gone = Update::Node(Change::Removed(ObjectKey::new("", "n")));
        let nameless = node(r#"{"metadata":{"name":"n"}}"#);
        let waited = wait(vec![nameless, Update::Synced(Kind::Node), gone], false).await.unwrap();
        assert!(waited.node.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn missing_pod_ranges_are_fatal_where_they_are_needed() {
        let error = wait(vec![with_address(), Update::Synced(Kind::Node)], true).await.unwrap_err();
        assert_eq!(error.to_string(), "timeout waiting for PodCIDR allocation on node \"n\"");
        let error = wait(vec![Update::Synced(Kind::Node)], true).await.unwrap_err();
        assert_eq!(error.to_string(), "timeout waiting for node \"n\" to exist");
        let ranges = node(r#"{"metadata":{"name":"n"},"spec":{"podCIDRs":["10.244.0.0/24"]}}"#);
        let waited = wait(vec![Update::Synced(Kind::Node), ranges], true).await.unwrap();
        assert_eq!(waited.node.unwrap().spec.pod_cidrs.len(), 1);
    }

    #[tokio::test]
    async fn a_source_that_ends_is_an_error() {
        let (sender, mut receiver) = mpsc::channel(1);
        drop(sender);
        let error = wait_for_node(&mut receiver, "n", false, SHORT).await.unwrap_err();
        assert_eq!(error, NodeWaitError::SourceEnded);
    }
}
