//! Pods: what is to be done for one, and doing it.
//!
//! A pod has a worker, a task that knows everything about it ([`view`]), lets pure functions say what follows from that
//! (`decide`: the next steps; `status`: what to tell the API), and takes the steps (`perform`). It looks again when
//! the pod changes in the API, when a container ends, when a probe has a verdict, when a step is done, and at the time that the
//! decision named. The `manager` has a worker for each pod of the node, and for each that the runtime has left over.

mod backoff;
mod decide;
mod environment;
mod files;
mod hooks;
mod manager;
mod perform;
mod resolve;
pub(crate) mod spec;
mod status;
#[cfg(test)]
mod testing;
mod told;
mod view;
mod worker;

pub(crate) use manager::Manager;
pub use manager::Pods;
