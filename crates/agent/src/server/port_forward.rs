//! Connections to ports of a pod, in either of two forms.
//!
//! kubectl tunnels SPDY, whose streams carry any number of connections (`tunnel`). Other clients name the ports in advance and
//! have two channels a port, which carry one connection each (`channels`).

mod channels;
mod connection;
mod tunnel;

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::answer::{Body, Refusal};
use super::channels::V4;
use super::websocket::Opening;
use crate::core::Core;
use connection::Place;

/// SPDY in the messages of a WebSocket.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

pub(super) fn answer(
    core: &Arc<Core>,
    pod: &Pod,
    ports: &[u16],
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let opening = Opening::new(request, &[TUNNEL, V4])?;
    let place = Place { core: core.clone(), uid: pod.uid().unwrap_or_default() };
    if opening.protocol == TUNNEL {
        return Ok(opening.answer(|socket| tunnel::run(socket, place)));
    }
    if ports.is_empty() {
        return Err(Refusal::bad_request("name the ports: ?ports=80,443"));
    }
    let ports = ports.to_vec();
    Ok(opening.answer(|socket| channels::run(socket, place, ports)))
}
