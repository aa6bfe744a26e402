//! Whether this process may change the rules of its network namespace at all.

use std::fs;

use thiserror::Error;

/// The bit of CAP_NET_ADMIN in the kernel's capability sets.
const NET_ADMIN: u64 = 1 << 12;

#[derive(Debug, Error)]
#[error(
    "not permitted to change network rules: CAP_NET_ADMIN is missing; run as root (sudo), or give the container \
     that capability (securityContext.privileged)"
)]
pub struct Unprivileged;

/// An error if the kernel would refuse every write. Without it the first of many failing programs would be blamed.
pub(super) fn check() -> Result<(), Unprivileged> {
    // Where /proc cannot be read, the writes themselves will tell.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if may_administer_network(&status) { Ok(()) } else { Err(Unprivileged) }
}

fn may_administer_network(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_none_or(|set| set & NET_ADMIN != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_known_lack_of_the_capability_counts() {
        assert!(may_administer_network("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(may_administer_network("CapEff:\t0000000000001000\n"));
        assert!(!may_administer_network("CapEff:\t0000000000000000\n"));
        assert!(may_administer_network(""));
    }
}
