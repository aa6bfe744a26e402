//! For which zones and nodes an endpoint is meant, by `spec.trafficDistribution`.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, ForNode, ForZone};

use super::endpoints::Group;

/// Ready endpoints are meant for their own zone, and with `PreferSameNode` for their own node; others for nobody.
pub(super) fn set(service: &Service, groups: &mut [Group]) {
    let distribution = service.spec.as_ref().and_then(|spec| spec.traffic_distribution.as_deref());
    let same_node = match distribution {
        Some("PreferClose" | "PreferSameZone") => false,
        Some("PreferSameNode") => true,
        _ => return,
    };
    for endpoint in groups.iter_mut().flat_map(|group| &mut group.endpoints) {
        endpoint.hints = hints(endpoint, same_node);
    }
}

fn hints(endpoint: &Endpoint, same_node: bool) -> Option<EndpointHints> {
    let is_ready = endpoint.conditions.as_ref().is_some_and(|conditions| conditions.ready == Some(true));
    let zone = endpoint.zone.as_ref().filter(|_| is_ready)?;
    let node = endpoint.node_name.as_ref().filter(|_| same_node);
    Some(EndpointHints {
        for_zones: Some(vec![ForZone { name: zone.clone() }]),
        for_nodes: node.map(|name| vec![ForNode { name: name.clone() }]),
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ServiceSpec;
    use k8s_openapi::api::discovery::v1::EndpointConditions;

    use super::*;

    fn hinted(distribution: &str, ready: bool) -> Option<EndpointHints> {
        let spec =
            ServiceSpec { traffic_distribution: Some(distribution.to_owned()), ..ServiceSpec::default() };
        let service = Service { spec: Some(spec), ..Service::default() };
        let endpoint = Endpoint {
            conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
            zone: Some("za".to_owned()),
            node_name: Some("n1".to_owned()),
            ..Endpoint::default()
        };
        let mut groups = [Group { ports: Vec::new(), endpoints: vec![endpoint] }];
        set(&service, &mut groups);
        groups[0].endpoints[0].hints.clone()
    }

    #[test]
    fn ready_endpoints_are_meant_for_their_zone() {
        let hints = hinted("PreferClose", true).unwrap();
        assert_eq!(hints.for_zones, Some(vec![ForZone { name: "za".to_owned() }]));
        assert_eq!(hints.for_nodes, None);
        assert_eq!(hinted("PreferClose", false), None);
        assert_eq!(hinted("", true), None);
    }

    #[test]
    fn same_node_names_the_node_too() {
        let hints = hinted("PreferSameNode", true).unwrap();
        assert_eq!(hints.for_nodes, Some(vec![ForNode { name: "n1".to_owned() }]));
    }
}
