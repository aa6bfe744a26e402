//! Sizes and time-outs of the kernel's connection tracking table, by the operator's configuration.

use std::time::Duration;

/// Above this, the hash table of the default bucket size costs more memory than a node should spend unasked.
const MAX_SCALED: u64 = 1 << 20;

/// `net.netfilter.nf_conntrack_max` for this node; `None` leaves the kernel's limit alone.
///
/// `max_per_core` 0 switches the setting off, `min` included. The cap wins over `min`, as upstream has it.
pub(super) fn conntrack_max(max_per_core: u32, min: u32, cores: usize) -> Option<u64> {
    if max_per_core == 0 {
        return None;
    }
    let scaled = u64::from(max_per_core) * cores as u64;
    Some(if scaled > MAX_SCALED { MAX_SCALED } else { scaled.max(u64::from(min)) })
}

/// The hash table must have a bucket for every four entries, or lookups get slow: what to raise it to, if needed.
pub(super) fn hashsize_for(max: u64, current: u64) -> Option<u64> {
    let wanted = max / 4;
    (current < wanted).then_some(wanted)
}

/// A time-out for the kernel, in whole seconds; `None` leaves the kernel's own.
pub(super) fn timeout_seconds(timeout: Duration) -> Option<u64> {
    (!timeout.is_zero()).then_some(timeout.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_grows_with_the_cores_between_minimum_and_cap() {
        assert_eq!(conntrack_max(32_768, 131_072, 2), Some(131_072));
        assert_eq!(conntrack_max(32_768, 131_072, 8), Some(262_144));
        assert_eq!(conntrack_max(32_768, 131_072, 64), Some(1_048_576));
        assert_eq!(conntrack_max(0, 131_072, 8), None);
        assert_eq!(conntrack_max(1_000_000, 3_000_000, 8), Some(1_048_576));
    }

    #[test]
    fn the_hash_table_is_only_ever_enlarged() {
        assert_eq!(hashsize_for(262_144, 65_536), None);
        assert_eq!(hashsize_for(262_144, 16_384), Some(65_536));
    }

    #[test]
    fn a_zero_timeout_leaves_the_kernels_own() {
        assert_eq!(timeout_seconds(Duration::ZERO), None);
        assert_eq!(timeout_seconds(Duration::from_millis(1_900)), Some(1));
    }
}
