//! Routes of the main table.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use super::{LinkError, Links, family, refused};

/// A route by way of a neighbour, as somebody keeps it who knows his routes by their protocol number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    pub destination: IpNet,
    pub gateway: IpAddr,
    /// The link that the neighbour is on, whatever the addresses say; found by the neighbour's address without.
    pub link: Option<String>,
    /// Who made it (`ip route show proto NUMBER`).
    pub protocol: u8,
}

impl Links {
    /// Adds a route by way of a neighbour.
    ///
    /// # Errors
    /// When the neighbour is on no link of ours, or there is such a route.
    pub fn add_route(&self, destination: IpNet, gateway: IpAddr) -> Result<(), LinkError> {
        let action = || format!("adding the route to {destination} through {gateway}");
        self.create(RouteNetlinkMessage::NewRoute(message(destination, gateway)), action)
    }

    /// Adds a route by way of a neighbour on this link, also one whose address no route of the link covers.
    ///
    /// # Errors
    /// When there is no such link, or there is such a route.
    pub fn add_onlink_route(&self, name: &str, destination: IpNet, gateway: IpAddr) -> Result<(), LinkError> {
        let message = self.onlink(message(destination, gateway), name)?;
        let action = || format!("adding the route to {destination} through {gateway} on {name}");
        self.create(RouteNetlinkMessage::NewRoute(message), action)
    }

    /// Adds a route, in the place of another one to the same destination if there is one.
    ///
    /// # Errors
    /// When there is no such link, or the neighbour is on none of ours.
    pub fn set_route(&self, route: &Route) -> Result<(), LinkError> {
        let action = || refused_route("setting", route);
        let message = self.message_of(route)?;
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let result = self.request(RouteNetlinkMessage::NewRoute(message), flags);
        result.map(drop).map_err(|source| refused(action(), source))
    }

    /// Removes a route that is exactly like this. False if there is none.
    ///
    /// # Errors
    /// When the kernel does not let it go.
    pub fn remove_route(&self, route: &Route) -> Result<bool, LinkError> {
        let message = match self.message_of(route) {
            // Routes go with their link.
            Err(error) if error.is_not_found() => return Ok(false),
            other => other?,
        };
        match self.change(RouteNetlinkMessage::DelRoute(message), || refused_route("removing", route)) {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn message_of(&self, route: &Route) -> Result<RouteMessage, LinkError> {
        let mut message = message(route.destination, route.gateway);
        message.header.protocol = RouteProtocol::from(route.protocol);
        match &route.link {
            Some(name) => self.onlink(message, name),
            None => Ok(message),
        }
    }

    fn onlink(&self, mut message: RouteMessage, name: &str) -> Result<RouteMessage, LinkError> {
        message.header.flags = RouteFlags::Onlink;
        message.attributes.push(RouteAttribute::Oif(self.index(name)?));
        Ok(message)
    }
}

fn refused_route(doing: &str, route: &Route) -> String {
    let place = route.link.as_ref().map(|name| format!(" on {name}")).unwrap_or_default();
    format!("{doing} the route to {} through {}{place}", route.destination, route.gateway)
}

fn message(destination: IpNet, gateway: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(gateway),
        destination_prefix_length: destination.prefix_len(),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Static,
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes = vec![
        RouteAttribute::Destination(destination.network().into()),
        RouteAttribute::Gateway(gateway.into()),
    ];
    message
}
