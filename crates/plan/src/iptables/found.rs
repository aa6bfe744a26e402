//! What a full sync finds in the kernel, read from `iptables-save`.
//!
//! A proxy that starts anew usually finds what it would write: the rules of its predecessor. Comparing costs a listing of the
//! table; writing tens of thousands of chains that are already right costs many times that. Only a digest of each chain is kept.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use switchyard_model::IpFamily;

use super::names::deletion_rank;
use super::{Chain, PortRules};

/// The nat table before the sync. The default is a table where no sync has been.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// A sync was here before, so the shared chains may lead to services that work and must not be emptied.
    pub(super) used: bool,
    /// The chains of service ports, in use or not.
    own: HashMap<String, Content>,
}

/// A chain's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Unknown,
    Known(Digest),
}

/// Stands for a sequence of rules, as `iptables-save` lists them after the chain's name. Two sequences that differ have the
/// same digest once in 2^64.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Digest(u64);

impl Digest {
    fn add(self, rule: &str) -> Digest {
        let mut hasher = DefaultHasher::new();
        (self.0, rule).hash(&mut hasher);
        Digest(hasher.finish())
    }
}

impl Found {
    /// Nothing could be read: chains may be in use, and none is known to be stale.
    pub fn unknown() -> Found {
        Found { used: true, own: HashMap::new() }
    }

    /// Chains of which only the names are known.
    pub fn with_chains<'a>(names: impl IntoIterator<Item = &'a str>) -> Found {
        let mut found = Found::default();
        for name in names {
            found.declare(name, Content::Unknown);
        }
        found
    }

    /// Takes in a line of `iptables-save -t nat`; to be read before any chain is ensured.
    pub fn read(&mut self, line: &str) {
        if let Some(declaration) = line.strip_prefix(':') {
            let name = declaration.split(' ').next().unwrap_or_default();
            self.declare(name, Content::Known(Digest::default()));
        } else if let Some((chain, rule)) = line.strip_prefix("-A ").and_then(|rule| rule.split_once(' '))
            && let Some(Content::Known(digest)) = self.own.get_mut(chain)
        {
            *digest = digest.add(rule);
        }
    }

    fn declare(&mut self, name: &str, content: Content) {
        // This chain is made by restores only, in one step with the tail of KUBE-SERVICES.
        self.used |= name == Chain::KubeMarkMasq.to_string();
        if deletion_rank(name).is_some() {
            self.used = true;
            self.own.insert(name.to_owned(), content);
        }
    }

    /// Whether all chains of a service port are there, with just these rules.
    pub(super) fn holds(&self, rules: &PortRules, family: IpFamily) -> bool {
        if !self.used {
            return false;
        }
        let mut wanted: HashMap<Chain, Digest> =
            rules.chains.iter().map(|c| (*c, Digest::default())).collect();
        let mut text = String::new();
        for (chain, rule) in &rules.rules {
            text.clear();
            rule.write_save(family, &mut text);
            let digest = wanted.entry(*chain).or_default();
            *digest = digest.add(text.trim_start());
        }
        wanted
            .iter()
            .all(|(chain, digest)| self.own.get(&chain.to_string()) == Some(&Content::Known(*digest)))
    }

    /// Marks the chains of a service port as used.
    pub(super) fn keep(&mut self, rules: &PortRules) {
        if !self.own.is_empty() {
            for chain in &rules.chains {
                self.own.remove(&chain.to_string());
            }
        }
    }

    /// What was not kept, a chain always before those that it may jump to.
    pub(super) fn into_stale(self) -> Vec<String> {
        let mut stale = Vec::from_iter(self.own.into_keys());
        stale.sort_by_cached_key(|name| (deletion_rank(name), name.clone()));
        stale
    }
}
