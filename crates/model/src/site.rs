//! Where endpoints are: held once for all endpoints that share it.

use std::collections::HashSet;
use std::sync::Arc;

use switchyard_api::Name;

/// The node of an endpoint, and the zones and nodes it is hinted for. Endpoints on one node mostly have equal ones.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Site {
    pub(crate) node: Option<Name>,
    pub(crate) zone_hints: Box<[Name]>,
    pub(crate) node_hints: Box<[Name]>,
}

/// All sites in use.
#[derive(Debug, Default)]
pub(crate) struct Sites {
    known: HashSet<Arc<Site>>,
    /// The size at which sites that no endpoint uses any more are looked for.
    sweep_at: usize,
}

impl Sites {
    /// Few enough that looking through them costs nothing.
    const FEW: usize = 256;

    pub(crate) fn share(&mut self, site: Site) -> Arc<Site> {
        if let Some(known) = self.known.get(&site) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at.max(Self::FEW) {
            // Autoscaled clusters name new nodes for years; twice what is in use is as much as ever stays.
            self.known.retain(|site| Arc::strong_count(site) > 1);
            self.sweep_at = 2 * self.known.len();
        }
        let site = Arc::new(site);
        self.known.insert(site.clone());
        site
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(node: &str) -> Site {
        Site { node: Some(node.into()), zone_hints: Box::default(), node_hints: Box::default() }
    }

    #[test]
    fn equal_sites_are_one() {
        let mut sites = Sites::default();
        let (a, b) = (sites.share(on("n1")), sites.share(on("n1")));
        assert!(Arc::ptr_eq(&a, &b));
        assert!(!Arc::ptr_eq(&a, &sites.share(on("n2"))));
    }

    #[test]
    fn nodes_long_gone_are_forgotten() {
        let mut sites = Sites::default();
        let kept = sites.share(on("kept"));
        for number in 0..10_000 {
            drop(sites.share(on(&number.to_string())));
        }
        assert!(sites.known.len() <= Sites::FEW, "{} sites for one endpoint", sites.known.len());
        assert!(Arc::ptr_eq(&kept, &sites.share(on("kept"))));
    }
}
