//! What the installed version of iptables can do.

use switchyard_plan::iptables::Variant;

/// Derived from `iptables --version`; a version that cannot be read can do nothing optional.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    pub variant: Variant,
    /// `-C`, to ask whether a rule exists (1.4.11).
    pub check: bool,
    /// How the commands that change one rule wait for the lock.
    pub wait: Wait,
    /// How `iptables-restore` waits for the lock.
    pub restore_wait: Wait,
    /// `--random-fully` of MASQUERADE (1.6.2).
    pub random_fully: bool,
}

/// Waiting for the xtables lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The program cannot: it fails at once, or does not lock at all.
    None,
    /// `-w`: forever.
    Forever,
    /// `-w 5`.
    Seconds,
}

impl Wait {
    /// The arguments to put first on the command line.
    pub fn arguments(self) -> &'static [&'static str] {
        match self {
            Wait::None => &[],
            Wait::Forever => &["-w"],
            Wait::Seconds => &["-w", "5"],
        }
    }
}

impl Features {
    /// Reads the output of `iptables --version`, such as `iptables v1.8.9 (nf_tables)`. `restore_has_version` tells
    /// whether `iptables-restore --version` printed one: between 1.6.0 and 1.6.2 only builds that do have `-w`.
    pub fn of(version_output: &str, restore_has_version: bool) -> Features {
        let version = parse(version_output).unwrap_or_default();
        let wait = match version {
            v if v >= [1, 4, 22] => Wait::Seconds,
            v if v >= [1, 4, 20] => Wait::Forever,
            _ => Wait::None,
        };
        let restore_wait = match version {
            v if v >= [1, 6, 2] => Wait::Seconds,
            _ if restore_has_version => Wait::Forever,
            _ => Wait::None,
        };
        Features {
            variant: if version_output.contains("nf_tables") { Variant::NfTables } else { Variant::Legacy },
            check: version >= [1, 4, 11],
            wait,
            restore_wait,
            random_fully: version >= [1, 6, 2],
        }
    }
}

/// The first `v` followed by at least two dotted numbers.
pub(super) fn parse(output: &str) -> Option<[u32; 3]> {
    output.match_indices('v').find_map(|(at, _)| {
        let text = &output[at + 1..];
        let end = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
        let mut numbers = text[..end].split('.').map(|part| part.parse().ok());
        Some([numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_12_has_everything() {
        let features = Features::of("iptables v1.8.9 (nf_tables)\n", true);
        assert_eq!(features.variant, Variant::NfTables);
        assert_eq!((features.wait, features.restore_wait), (Wait::Seconds, Wait::Seconds));
        assert!(features.check && features.random_fully);
        assert_eq!(Features::of("ip6tables v1.8.9 (legacy)", true).variant, Variant::Legacy);
    }

    #[test]
    fn old_versions_wait_as_far_as_they_can() {
        let of = |version: &str| {
            let features = Features::of(version, false);
            (features.check, features.wait, features.restore_wait, features.random_fully)
        };
        assert_eq!(of("iptables v1.4.10"), (false, Wait::None, Wait::None, false));
        assert_eq!(of("iptables v1.4.11"), (true, Wait::None, Wait::None, false));
        assert_eq!(of("iptables v1.4.20"), (true, Wait::Forever, Wait::None, false));
        assert_eq!(of("iptables v1.6.1"), (true, Wait::Seconds, Wait::None, false));
        assert_eq!(of("iptables v1.6.2"), (true, Wait::Seconds, Wait::Seconds, true));
        assert_eq!(of("iptables v2.0"), (true, Wait::Seconds, Wait::Seconds, true));
        assert_eq!(Features::of("iptables v1.6.1", true).restore_wait, Wait::Forever);
    }

    #[test]
    fn an_unreadable_version_has_no_features() {
        assert_eq!(parse("iptables: very old"), None);
        assert!(!Features::of("busybox", false).check);
    }
}
