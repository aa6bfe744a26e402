//! Address ranges that must not overlap: the lab's own, and this machine's routes.
//!
//! The lab's addresses live in its own namespaces and would work all the same; but a person who meets one of them has to
//! know whose it is.

use std::fmt;

use ipnet::IpNet;
use switchyard_kernel::link::{LinkError, Links};
use thiserror::Error;

use super::settings::Settings;

/// Two ranges that share addresses.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Collision {
    #[error(
        "{one} and {other} overlap: an address of both would go to either. Choose ranges that do not overlap"
    )]
    Ranges { one: Range, other: Range },
    #[error(
        "{range} and this machine's route {route} overlap. Choose another --{}; `ip route` lists what is taken",
        range.flag
    )]
    Route { range: Range, route: HostRoute },
}

/// A range of the lab, by the flag that sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub flag: &'static str,
    pub range: IpNet,
}

/// A route of this machine, with all that `ip route` would show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRoute {
    pub destination: IpNet,
    /// `via 192.0.2.1 dev eth0`
    pub way: String,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--{} {}", self.flag, self.range)
    }
}

impl fmt::Display for HostRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.destination, self.way)
    }
}

/// The first two that overlap.
pub(super) fn check(settings: &Settings, routes: &[HostRoute]) -> Result<(), Collision> {
    let ranges = ranges(settings);
    for (index, one) in ranges.iter().enumerate() {
        if let Some(other) = ranges[index + 1..].iter().find(|other| overlap(&one.range, &other.range)) {
            return Err(Collision::Ranges { one: *one, other: *other });
        }
    }
    for range in ranges {
        // Everything is in the default route.
        let taken = routes.iter().filter(|route| route.destination.prefix_len() > 0);
        if let Some(route) = taken.into_iter().find(|route| overlap(&range.range, &route.destination)) {
            return Err(Collision::Route { range, route: route.clone() });
        }
    }
    Ok(())
}

/// The routes of the calling thread's network.
pub(super) fn routes_here() -> Result<Vec<HostRoute>, LinkError> {
    let links = Links::open_here()?;
    let names = links.all()?;
    let name = |index| names.iter().find(|link| Some(link.index) == index).map(|link| &link.name);
    let route = |route: switchyard_kernel::link::RouteEntry| {
        let via = route.gateway.map(|gateway| format!("via {gateway}"));
        let dev = name(route.link).map(|name| format!("dev {name}"));
        let way = [via, dev].into_iter().flatten().collect::<Vec<_>>().join(" ");
        HostRoute { destination: route.destination, way }
    };
    Ok(links.routes()?.into_iter().map(route).collect())
}

fn ranges(settings: &Settings) -> Vec<Range> {
    let of =
        |flag, ranges: &[IpNet]| ranges.iter().map(|range| Range { flag, range: *range }).collect::<Vec<_>>();
    let services = of("service-cluster-ip-range", &settings.service_ranges);
    let pods = of("cluster-cidr", &settings.pod_ranges);
    [services, pods, of("lan-cidr", &settings.lan)].concat()
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::flags::UpFlags;
    use super::*;

    fn checked(args: &[&str], route: &str) -> Result<(), String> {
        let settings = Settings::check(&UpFlags::parse_from([&["up"], args].concat())).unwrap();
        let routes = [("0.0.0.0/0", "via 192.0.2.1 dev eth0"), (route, "dev wg0")];
        let routes = routes.map(|(destination, way)| HostRoute {
            destination: destination.parse().unwrap(),
            way: way.to_owned(),
        });
        check(&settings, &routes).map_err(|error| error.to_string())
    }

    #[test]
    fn ranges_apart_from_each_other_and_from_the_machines_routes_are_fine() {
        assert_eq!(checked(&[], "192.0.2.0/24"), Ok(()));
    }

    #[test]
    fn ranges_that_overlap_are_both_named() {
        let error = checked(&["--cluster-cidr=10.100.0.0/16"], "192.0.2.0/24").unwrap_err();
        assert!(error.contains("--service-cluster-ip-range 10.96.0.0/12"), "{error}");
        assert!(error.contains("--cluster-cidr 10.100.0.0/16"), "{error}");
    }

    #[test]
    fn a_route_of_the_machine_in_the_way_is_shown_with_the_range() {
        let error = checked(&[], "10.244.7.0/24").unwrap_err();
        assert!(error.contains("--cluster-cidr 10.244.0.0/16"), "{error}");
        assert!(error.contains("10.244.7.0/24 dev wg0"), "{error}");
        assert!(checked(&[], "172.16.0.0/12").unwrap_err().contains("--lan-cidr"));
    }
}
