//! Rules once an endpoint: which endpoint a connection gets, and its translation.

use std::borrow::Cow;
use std::net::SocketAddr;

use switchyard_model::{Endpoint, Protocol};

use super::{Addresses, Chain, Match, PortNames, PortRules, Rule, Target};

/// What the endpoints of one service port have in common.
pub(super) struct Balancing<'a> {
    pub(super) names: &'a PortNames,
    pub(super) protocol: Protocol,
    pub(super) affinity_seconds: Option<u32>,
    /// Not in large clusters, where these comments would be most of the text.
    pub(super) comments: bool,
}

impl Balancing<'_> {
    /// Fills `chain` with the choice among `endpoints`: a known client's own, else each with the same chance.
    pub(super) fn choose<'e>(
        &self,
        chain: Chain,
        endpoints: impl ExactSizeIterator<Item = &'e Endpoint> + Clone,
        out: &mut PortRules,
    ) {
        let (names, mut left) = (self.names, endpoints.len());
        if let Some(seconds) = self.affinity_seconds {
            for endpoint in endpoints.clone() {
                let list = names.sep(endpoint);
                let mut matches = self.comment(|| format!("{} -> {endpoint}", names.text));
                matches.push(Match::SourceRemembered { list, seconds });
                out.rules.push((chain, Rule { matches, target: Target::Jump(list) }));
            }
        }
        for endpoint in endpoints {
            let mut matches = self.comment(|| format!("{} -> {endpoint}", names.text));
            if left > 1 {
                matches.push(Match::OneIn(left)); // of the connections that came so far
            }
            left -= 1;
            out.rules.push((chain, Rule { matches, target: Target::Jump(names.sep(endpoint)) }));
        }
    }

    /// Declares and fills the endpoint's own chain.
    pub(super) fn translate(&self, endpoint: &Endpoint, out: &mut PortRules) {
        let sep = self.names.sep(endpoint);
        out.chains.push(sep);
        // An endpoint that reaches itself through the service would answer itself past the translation, and its own
        // kernel would not know the answer: the client's address must be another.
        let mut hairpin = self.comment(|| self.names.text.clone());
        hairpin.push(Match::Source(Addresses::Host(endpoint.address)));
        out.rules.push((sep, Rule { matches: hairpin, target: Target::Jump(Chain::KubeMarkMasq) }));

        let mut translate = self.comment(|| self.names.text.clone());
        if self.affinity_seconds.is_some() {
            translate.push(Match::RememberSource(sep));
        }
        translate.push(Match::Protocol(self.protocol));
        let target = Target::Dnat(SocketAddr::new(endpoint.address, endpoint.port));
        out.rules.push((sep, Rule { matches: translate, target }));
    }

    fn comment(&self, text: impl Fn() -> String) -> Vec<Match> {
        let mut matches = Vec::with_capacity(3);
        if self.comments {
            matches.push(Match::Comment(Cow::Owned(text())));
        }
        matches
    }
}
