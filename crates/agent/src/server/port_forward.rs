//! Connections to ports of a pod.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::Pod;

use super::answer::{Body, Refusal};
use crate::core::Core;

pub(super) fn answer(
    _core: &Arc<Core>,
    _pod: &Pod,
    _ports: &[u16],
    _request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    Err(Refusal::bad_request(
        "port-forward is not served by this agent yet; `switchyard shell pod/NAME` reaches the ports of a pod of the lab",
    ))
}
