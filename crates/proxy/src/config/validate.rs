//! Checks every value, and gives it its type. All errors are found at once.

use std::path::PathBuf;

use super::check::Check;
use super::error::{ConfigError, FieldErrors};
use super::{ClientConnection, Completed, Configuration};

/// Turns what was asked for into a configuration, or names every field that cannot be (`failed validate: …`).
pub fn validate(completed: &Completed) -> Result<Configuration, ConfigError> {
    let logging = completed.logging()?;
    let file = &completed.file;
    let mut check = Check::default();
    // The order of the fields is the order in which kube-proxy lists the errors.
    let configuration = Configuration {
        masquerade_bit: check.masquerade_bit(file),
        ipvs: check.ipvs(file),
        conntrack: check.conntrack(file),
        oom_score_adj: check.oom_score(file.oom_score_adj),
        mode: check.mode(&file.mode),
        client_connection: client_connection(completed, &mut check),
        config_sync_period: check.positive("ConfigSyncPeriod", file.config_sync_period),
        sync_period: check.positive("SyncPeriod", file.mode_bound().sync_period),
        min_sync_period: check.min_sync_period(file),
        bind_address: check.bind_address(&file.bind_address),
        healthz_bind_address: (!file.healthz_bind_address.is_empty())
            .then(|| check.socket("HealthzBindAddress", &file.healthz_bind_address)),
        metrics_bind_address: check.socket("MetricsBindAddress", &file.metrics_bind_address),
        node_port_addresses: check.node_port_addresses(&file.node_port_addresses),
        show_hidden_metrics: check.hidden_metrics(&file.show_hidden_metrics_for_version),
        detect_local_mode: check.detect_local_mode(&file.detect_local_mode),
        detect_local: check.detect_local(file),
        userspace: check.userspace(file),
        // Nothing to check from here on.
        mode_was_blank: completed.mode_was_blank,
        hostname_override: (!file.hostname_override.is_empty()).then(|| file.hostname_override.clone()),
        bind_address_hard_fail: file.bind_address_hard_fail,
        enable_profiling: file.enable_profiling,
        masquerade_all: file.mode_bound().masquerade_all,
        localhost_node_ports: file.iptables.localhost_node_ports.unwrap_or(true),
        master: completed.master.clone(),
        manifests: completed.manifests.clone(),
        feature_gates: completed.feature_gates.clone(),
        logging,
        actions: completed.actions.clone(),
        loaded_from: completed.loaded_from.clone(),
        file: file.clone(),
    };
    if check.errors.is_empty() {
        Ok(configuration)
    } else {
        Err(ConfigError::Validate(FieldErrors(check.errors)))
    }
}

fn client_connection(completed: &Completed, check: &mut Check) -> ClientConnection {
    let client = &completed.file.client_connection;
    ClientConnection {
        kubeconfig: (!client.kubeconfig.is_empty()).then(|| PathBuf::from(&client.kubeconfig)),
        accept_content_types: client.accept_content_types.clone(),
        content_type: client.content_type.clone(),
        qps: client.qps,
        burst: check.count("ClientConnection.Burst", Some(client.burst)),
    }
}
