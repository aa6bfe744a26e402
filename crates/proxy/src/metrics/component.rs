//! What every Kubernetes component says about itself: its build, its feature gates, its metrics.

use prometheus::{Error, IntCounter, IntCounterVec, IntGaugeVec};

use super::registrar::{Registrar, Stability};

/// The labels of `kubernetes_build_info`, as `kubectl version` prints them.
#[derive(Debug, Clone, Copy)]
pub struct BuildInfo<'a> {
    /// The Kubernetes version whose behaviour is offered: `v1.36.2`.
    pub git_version: &'a str,
    pub git_commit: &'a str,
    pub git_tree_state: &'a str,
    pub build_date: &'a str,
    /// What stands where a Go build names its compiler: the version of rustc.
    pub compiler_version: &'a str,
}

#[derive(Debug)]
pub(super) struct ComponentMetrics {
    build_info: IntGaugeVec,
    features: IntGaugeVec,
    registered: IntCounterVec,
    // Nothing is ever hidden or disabled here; the names stand at 0 for those who look.
    _hidden: IntCounter,
    _disabled: IntCounter,
}

impl ComponentMetrics {
    pub(super) fn register(to: &mut Registrar<'_>) -> Result<ComponentMetrics, Error> {
        to.stability(Stability::Beta);
        Ok(ComponentMetrics {
            build_info: to.int_gauges(
                "kubernetes_build_info",
                "What was built, when and with what; always 1",
                &[
                    "build_date",
                    "compiler",
                    "git_commit",
                    "git_tree_state",
                    "git_version",
                    "go_version",
                    "major",
                    "minor",
                    "platform",
                ],
            )?,
            features: to.int_gauges(
                "kubernetes_feature_enabled",
                "Whether a feature gate is on, by its name and stage",
                &["name", "stage"],
            )?,
            registered: to.counters(
                "registered_metrics_total",
                "Metrics that exist, by stability and by the version that deprecates them",
                &["deprecated_version", "stability_level"],
            )?,
            _hidden: to.counter("hidden_metrics_total", "Metrics hidden because they are deprecated")?,
            _disabled: to.counter("disabled_metrics_total", "Metrics turned off by configuration")?,
        })
    }

    pub(super) fn set_registered(&self, counts: impl Iterator<Item = (Stability, u64)>) {
        for (stability, count) in counts {
            self.registered.with_label_values(&["", stability.as_str()]).inc_by(count);
        }
    }

    pub(super) fn set_build_info(&self, build: &BuildInfo<'_>) {
        let mut numbers = build.git_version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        let platform = format!("{}/{}", std::env::consts::OS, go_architecture(std::env::consts::ARCH));
        let values = [
            build.build_date,
            "rustc",
            build.git_commit,
            build.git_tree_state,
            build.git_version,
            build.compiler_version,
            major,
            minor,
            &platform,
        ];
        self.build_info.with_label_values(&values).set(1);
    }

    pub(super) fn set_feature(&self, name: &str, stage: &str, enabled: bool) {
        self.features.with_label_values(&[name, stage]).set(enabled.into());
    }
}

/// Kubernetes names platforms as Go does.
fn go_architecture(architecture: &str) -> &str {
    match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
