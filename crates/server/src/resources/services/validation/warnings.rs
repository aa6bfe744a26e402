//! What is accepted of a Service but unwise.

use super::super::Spec;
use super::TOPOLOGY_HINTS;
use crate::object::Object;
use crate::resources::ips;

pub(in super::super) fn warnings(object: &Object) -> Vec<String> {
    let spec = Spec(object);
    let mut found = Vec::new();
    if object.annotations().contains_key(TOPOLOGY_HINTS) {
        found.push(format!(
            "annotation {TOPOLOGY_HINTS} is deprecated, please use {} instead",
            super::TOPOLOGY_MODE
        ));
    }
    for field in ["clusterIPs", "externalIPs"] {
        for (index, address) in spec.texts(field).iter().enumerate() {
            found.extend(ips::ip_warning(&format!("spec.{field}[{index}]"), address));
        }
    }
    found.extend(ips::ip_warning("spec.loadBalancerIP", spec.text("loadBalancerIP")));
    for (index, range) in spec.texts("loadBalancerSourceRanges").iter().enumerate() {
        found.extend(ips::cidr_warning(&format!("spec.loadBalancerSourceRanges[{index}]"), range.trim()));
    }
    let has_external = !spec.texts("externalIPs").is_empty();
    let rules = [
        (spec.is_headless() && !spec.text("loadBalancerIP").is_empty(), HEADLESS_LOAD_BALANCER),
        (spec.is_headless() && has_external, "spec.externalIPs is ignored for headless services"),
        (spec.is_headless() && spec.text("sessionAffinity") != "None", HEADLESS_AFFINITY),
        (has_external && !spec.is_headless() && !spec.is_external_name(), EXTERNAL),
        (
            has_external && spec.is_external_name(),
            "spec.externalIPs is ignored when spec.type is \"ExternalName\"",
        ),
        (!spec.is_external_name() && !spec.text("externalName").is_empty(), NAME_ELSEWHERE),
        (spec.text("trafficDistribution") == "PreferClose", PREFER_CLOSE),
    ];
    found.extend(rules.into_iter().filter(|(applies, _)| *applies).map(|(_, text)| text.to_owned()));
    found
}

const HEADLESS_LOAD_BALANCER: &str = "spec.loadBalancerIP is ignored for headless services";
const HEADLESS_AFFINITY: &str = "spec.SessionAffinity is ignored for headless services";
const EXTERNAL: &str = "spec.externalIPs is deprecated and may no longer be implemented in some clusters";
const NAME_ELSEWHERE: &str = "spec.externalName is ignored when spec.type is not \"ExternalName\"";
const PREFER_CLOSE: &str = "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"";
