//! How many pods each ReplicaSet of a Deployment should have next.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use sha2::{Digest, Sha256};

pub(super) const HASH: &str = "pod-template-hash";
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Upstream's alphabet for generated names: no vowels, so that no words come about.
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The bounds of a rolling update, in pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) desired: i32,
    /// Beyond the desired ones.
    pub(super) surge: i32,
    pub(super) unavailable: i32,
}

impl Bounds {
    pub(super) fn of(deployment: &Deployment) -> Bounds {
        let spec = deployment.spec.clone().unwrap_or_default();
        let desired = spec.replicas.unwrap_or(1);
        let strategy = spec.strategy.unwrap_or_default();
        if strategy.type_.as_deref() == Some("Recreate") {
            return Bounds { desired, surge: 0, unavailable: desired };
        }
        let rolling = strategy.rolling_update.unwrap_or_default();
        let surge = resolve(rolling.max_surge.as_ref(), desired, Rounding::Up);
        let unavailable = resolve(rolling.max_unavailable.as_ref(), desired, Rounding::Down).min(desired);
        // With both at none nothing could ever move.
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        Bounds { desired, surge, unavailable }
    }
}

enum Rounding {
    Up,
    Down,
}

/// A number, or a percentage of the desired pods; a quarter of them by default.
fn resolve(value: Option<&IntOrString>, desired: i32, rounding: Rounding) -> i32 {
    let percent = match value {
        Some(IntOrString::Int(number)) => return (*number).max(0),
        Some(IntOrString::String(text)) => text.trim_end_matches('%').parse().unwrap_or(0),
        None => 25,
    };
    let hundredfold = i64::from(desired) * i64::from(percent);
    let pods = match rounding {
        Rounding::Up => (hundredfold + 99) / 100,
        Rounding::Down => hundredfold / 100,
    };
    i32::try_from(pods).unwrap_or(i32::MAX)
}

/// Names the template: equal ones have equal hashes.
pub(super) fn template_hash(template: &PodTemplateSpec) -> String {
    // Serialised maps are sorted, so equal templates have equal texts.
    let text = serde_json::to_vec(&without_hash(template)).unwrap_or_default();
    Sha256::digest(text)
        .iter()
        .take(10)
        .map(|byte| char::from(SAFE[usize::from(*byte) % SAFE.len()]))
        .collect()
}

pub(super) fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|metadata| metadata.labels.as_mut()) {
        labels.remove(HASH);
    }
    template
}

/// The ReplicaSet of the Deployment's template as it is now: the oldest, should there be two.
pub(super) fn current<'a>(deployment: &Deployment, sets: &[&'a ReplicaSet]) -> Option<&'a ReplicaSet> {
    let wanted = deployment.spec.as_ref().map(|spec| without_hash(&spec.template))?;
    let matching = sets.iter().copied().filter(|set| {
        set.spec.as_ref().and_then(|spec| spec.template.as_ref()).map(without_hash).as_ref() == Some(&wanted)
    });
    matching.min_by_key(|set| (set.metadata.creation_timestamp.clone().map(|time| time.0), set.name_any()))
}

pub(super) fn revision(set: &ReplicaSet) -> i64 {
    set.annotations().get(REVISION).and_then(|revision| revision.parse().ok()).unwrap_or_default()
}

pub(super) fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default()
}

/// How many pods the new ReplicaSet should have, before old ones are scaled down.
pub(super) fn scale_new(bounds: Bounds, new: i32, old_total: i32) -> i32 {
    if new >= bounds.desired {
        return bounds.desired;
    }
    let room = bounds.desired.saturating_add(bounds.surge) - (new + old_total);
    new + room.clamp(0, bounds.desired - new)
}

/// How many pods each old ReplicaSet should have, given (replicas, available) of each, oldest first, and of the new one.
///
/// Pods that are not available go first: they serve nobody. The others go while enough stay available.
pub(super) fn scale_old(bounds: Bounds, new: (i32, i32), old: &[(i32, i32)]) -> Vec<i32> {
    let mut wanted: Vec<i32> = old.iter().map(|(replicas, _)| *replicas).collect();
    let least_available = bounds.desired - bounds.unavailable;
    let total: i32 = new.0 + wanted.iter().sum::<i32>();
    // New pods that are not available yet hold their place: they must not be made up for by old ones.
    let mut removable = total - least_available - (new.0 - new.1);
    for (wanted, (replicas, available)) in wanted.iter_mut().zip(old) {
        let unhealthy = (replicas - available).clamp(0, removable.max(0));
        *wanted -= unhealthy;
        removable -= unhealthy;
    }
    let mut spare = new.1 + old.iter().map(|(_, available)| available).sum::<i32>() - least_available;
    for wanted in &mut wanted {
        let gone = spare.clamp(0, *wanted);
        *wanted -= gone;
        spare -= gone;
    }
    wanted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(replicas: i32, strategy: serde_json::Value) -> Deployment {
        let template = json!({"metadata": {"labels": {"app": "web"}}});
        let spec = json!({"replicas": replicas, "selector": {}, "strategy": strategy, "template": template});
        serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap()
    }

    #[test]
    fn percentages_are_rounded_so_that_an_update_can_move() {
        let bounds = |replicas, strategy| Bounds::of(&deployment(replicas, strategy));
        assert_eq!(bounds(10, json!({})), Bounds { desired: 10, surge: 3, unavailable: 2 });
        assert_eq!(bounds(1, json!({})), Bounds { desired: 1, surge: 1, unavailable: 0 });
        let none = json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "1%"}});
        assert_eq!(bounds(3, none), Bounds { desired: 3, surge: 0, unavailable: 1 });
    }

    #[test]
    fn a_rolling_update_ends_with_new_pods_only_and_never_has_too_few_or_too_many() {
        for (desired, surge, unavailable) in [(10, 3, 2), (1, 1, 0), (3, 0, 1), (4, 4, 4), (7, 1, 0)] {
            let bounds = Bounds { desired, surge, unavailable };
            let (mut new, mut new_available, mut old) = (0, 0, vec![desired]);
            for _ in 0..100 {
                new = scale_new(bounds, new, old.iter().sum());
                let available = old.iter().map(|replicas| (*replicas, *replicas)).collect::<Vec<_>>();
                old = scale_old(bounds, (new, new_available), &available);
                let total = new + old.iter().sum::<i32>();
                assert!(total <= desired + surge, "{total} pods for {bounds:?}");
                assert!(new_available + old.iter().sum::<i32>() >= desired - unavailable, "{bounds:?}");
                // One pod a step becomes available.
                new_available = (new_available + 1).min(new);
            }
            assert_eq!((new, old), (desired, vec![0]), "{bounds:?}");
        }
    }

    #[test]
    fn broken_old_pods_go_before_working_ones() {
        let bounds = Bounds { desired: 4, surge: 1, unavailable: 1 };
        assert_eq!(scale_old(bounds, (1, 0), &[(2, 0), (2, 2)]), [1, 2]);
    }

    #[test]
    fn a_template_is_known_by_its_hash_however_it_is_labelled() {
        let deployment = deployment(1, json!({}));
        let template = deployment.spec.unwrap().template;
        let mut labelled = template.clone();
        let labels = labelled.metadata.as_mut().and_then(|metadata| metadata.labels.as_mut()).unwrap();
        labels.insert(HASH.to_owned(), "abc".to_owned());
        assert_eq!(template_hash(&labelled), template_hash(&template));
        assert_eq!(template_hash(&template).len(), 10);
    }
}
