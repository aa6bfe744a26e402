//! The names that everything of one attachment goes by.
//!
//! They follow from the container's id and the interface's name alone, so that all of it is found again with nothing
//! but those: by a second try after a crash, by DEL when our own files are lost, by GC.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::types::Attachment;

/// What our notes on links and rules begin with.
const MARK: &str = "switchyard-cni";
/// Characters of the hash in notes; the host's link has room for fewer.
const LONG: usize = 16;
const SHORT: usize = 8;

/// One interface of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) attachment: Attachment,
    hash: String,
}

impl Identity {
    pub(super) fn new(container: &str, interface: &str) -> Identity {
        let attachment = Attachment { container: container.to_owned(), interface: interface.to_owned() };
        Identity::of(&attachment)
    }

    pub(super) fn of(attachment: &Attachment) -> Identity {
        // A zero byte is in neither name, so no two attachments give the same bytes.
        let digest = Sha256::digest(format!("{}\0{}", attachment.container, attachment.interface));
        let mut hash = String::with_capacity(LONG);
        for byte in digest.iter().take(LONG / 2) {
            // Writing to a string cannot fail.
            let _ = write!(hash, "{byte:02x}");
        }
        Identity { attachment: attachment.clone(), hash }
    }

    /// What tells this attachment's things from others'.
    pub(super) fn hash(&self) -> &str {
        &self.hash
    }

    /// The host's end of the veth pair. Link names have at most 15 bytes.
    pub(super) fn host_link(&self) -> String {
        format!("veth{}", &self.hash[..SHORT])
    }

    /// What is written on the host's link (as its alias) and on rules (as their comment).
    pub(super) fn note(&self, network: &str) -> String {
        format!("{MARK}:{network}:{}", self.hash)
    }
}

/// The hash in a note, if it is one of this network.
pub(super) fn hash_in<'a>(note: &'a str, network: &str) -> Option<&'a str> {
    note.strip_prefix(MARK)?.strip_prefix(':')?.strip_prefix(network)?.strip_prefix(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_are_found_again() {
        let identity = Identity::new("0123456789abcdef", "eth0");
        assert!(identity.host_link().len() <= 15, "{}", identity.host_link());
        assert_eq!(hash_in(&identity.note("pods"), "pods"), Some(identity.hash()));
        assert_eq!(hash_in(&identity.note("pods"), "pod"), None);
        assert_eq!(hash_in("somebody else's", "pods"), None);
    }

    #[test]
    fn attachments_are_told_apart() {
        assert_ne!(Identity::new("a", "eth0").hash(), Identity::new("a", "eth1").hash());
        assert_ne!(Identity::new("ae", "th0").hash(), Identity::new("a", "eth0").hash());
        // Held fast: what an older version of this program made has to be found.
        assert_eq!(Identity::new("a", "eth0").host_link(), "veth263a9a14");
    }
}
