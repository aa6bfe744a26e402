//! Which version of Kubernetes this server speaks.

use serde_json::{Value, json};

pub const MINOR: &str = "36";
/// The release whose behaviour is followed. Clients read it as a semantic version.
pub const GIT_VERSION: &str = "v1.36.2+switchyard";

/// The answer to `/version`.
pub fn document() -> Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "major": "1", "minor": MINOR,
        "emulationMajor": "1", "emulationMinor": MINOR,
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION, "gitCommit": "unknown", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc",
        "platform": format!("{}/{architecture}", std::env::consts::OS),
    })
}
