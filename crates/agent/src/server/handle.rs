//! From a request to its answer.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;

use super::answer::{self, Body, Refusal};
use super::route::{Place, Route, route};
use super::{attach, exec, logs, port_forward};
use crate::core::{Core, blocking};
use crate::pod::{Pods, spec};
use crate::runtime::{Container, State};

/// Who asks, by its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    ApiServer,
    /// Somebody of this cluster who has no business here.
    Other,
    Nobody,
}

pub(super) struct Handler {
    pub(super) core: Arc<Core>,
    pub(super) pods: Pods,
}

impl Handler {
    pub(super) async fn answer(&self, request: Request<Incoming>, asker: Asker) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let answer = match route(&path, &query, Timestamp::now()) {
            Ok(Route::Health) => Ok(answer::text("ok")),
            Err(refusal) => Err(refusal),
            Ok(route) => match allowed(asker) {
                Ok(()) => self.carry_out(route, request).await,
                Err(refusal) => Err(refusal),
            },
        };
        let answer = answer.unwrap_or_else(|refusal| refusal.to_response());
        tracing::debug!(path, code = answer.status().as_u16(), "answered");
        answer
    }

    async fn carry_out(&self, route: Route, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        match route {
            Route::Health => Ok(answer::text("ok")),
            Route::Pods => Ok(self.list()),
            Route::Logs(place, options) => {
                let pod = self.pod(&place)?;
                let run = if options.previous { None } else { self.container(&pod, &place).await?.1 };
                logs::answer(&self.core, &pod, &place.container, run, options).await
            }
            Route::Exec(place, command, streams) => {
                let (pod, _) = self.running(&place).await?;
                exec::answer(&self.core, &pod, &place.container, command, streams, request)
            }
            Route::Attach(place, streams) => {
                let (pod, run) = self.running(&place).await?;
                attach::answer(&self.core, &pod, run, streams, request)
            }
            Route::PortForward(place, ports) => {
                let pod = self.pod(&place)?;
                port_forward::answer(&self.core, &pod, &ports, request)
            }
        }
    }

    fn list(&self) -> Response<Body> {
        let pods = self.pods.all();
        let pods: Vec<&Pod> = pods.iter().map(AsRef::as_ref).collect();
        answer::json(
            json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods}).to_string(),
        )
    }

    fn pod(&self, place: &Place) -> Result<Arc<Pod>, Refusal> {
        let pod = self.pods.find(&place.namespace, &place.pod);
        let pod = pod.filter(|pod| place.uid.is_none() || pod.uid() == place.uid);
        pod.ok_or_else(|| {
            let node = &self.core.node_name;
            Refusal::not_found(format!("pod {}/{} is not on node {node}", place.namespace, place.pod))
        })
    }

    /// The container, and its newest run if it has any.
    async fn container(
        &self,
        pod: &Arc<Pod>,
        place: &Place,
    ) -> Result<(Arc<Pod>, Option<Container>), Refusal> {
        let name = &place.container;
        if spec::container(pod, name).is_none() {
            return Err(Refusal::bad_request(format!("container {name} is not valid for pod {}", place.pod)));
        }
        let (core, uid) = (self.core.clone(), pod.uid().unwrap_or_default());
        // Before its sandbox is made a pod has no containers.
        let all = blocking(move || core.runtime.containers(&uid)).await.unwrap_or_default();
        Ok((pod.clone(), all.into_iter().find(|container| container.name == *name)))
    }

    async fn running(&self, place: &Place) -> Result<(Arc<Pod>, Container), Refusal> {
        let pod = self.pod(place)?;
        match self.container(&pod, place).await? {
            (pod, Some(container)) if container.state == State::Running => Ok((pod, container)),
            _ => Err(Refusal::bad_request(format!(
                "container {} of pod {} is not running; `kubectl describe pod {}` tells why",
                place.container, place.pod, place.pod
            ))),
        }
    }
}

fn allowed(asker: Asker) -> Result<(), Refusal> {
    match asker {
        Asker::ApiServer => Ok(()),
        Asker::Other => Err(Refusal {
            code: StatusCode::FORBIDDEN,
            reason: "Forbidden",
            message: "only the API server and members of system:masters may ask a node".to_owned(),
        }),
        Asker::Nobody => Err(Refusal {
            code: StatusCode::UNAUTHORIZED,
            reason: "Unauthorized",
            message: "a client certificate of the cluster's authority is needed".to_owned(),
        }),
    }
}
