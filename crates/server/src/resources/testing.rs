//! What the tests of resources share.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use serde_json::Value;

use crate::allocation::ClusterSettings;
use crate::field::FieldError;
use crate::object::Object;
use crate::registry::Context;
use crate::store::fake::Fake;
use crate::store::{Batch, Cache, CacheSettings, Indexed, Key, Snapshot, Store, Write};

static CLUSTER: LazyLock<ClusterSettings> = LazyLock::new(|| ClusterSettings {
    service_ranges: vec!["10.96.0.0/16".parse().unwrap()],
    node_ports: 30000..=32767,
    cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
    advertise_address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    secure_port: 6443,
});

pub(crate) fn object(value: Value) -> Object {
    serde_json::from_value(value).map(Object).unwrap()
}

pub(super) fn texts(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(FieldError::to_string).collect()
}

/// A context in which nothing is stored.
pub(super) fn context() -> Context<'static> {
    static EMPTY: LazyLock<Snapshot> = LazyLock::new(|| snapshot(&[]));
    context_on(&EMPTY)
}

/// Runs a test in a context with objects of the core group, each with its plural.
pub(super) fn context_with<T>(objects: &[(&str, Object)], test: impl FnOnce(&Context<'_>) -> T) -> T {
    test(&context_on(&snapshot(objects)))
}

fn context_on(snapshot: &Snapshot) -> Context<'_> {
    Context { snapshot, now: Timestamp::UNIX_EPOCH, cluster: &CLUSTER, dry_run: false }
}

fn snapshot(objects: &[(&str, Object)]) -> Snapshot {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let writes = objects.iter().map(|(plural, object)| Write {
            key: Key::object("", plural, object.namespace(), object.name()),
            value: Some(Value::from(object.0.clone()).to_string().into()),
        });
        let batch = Batch { expectations: Vec::new(), writes: writes.collect() };
        let store = Fake::default();
        store.commit(batch).await.unwrap();
        let settings = CacheSettings { history: 1, watch_buffer: 1 };
        Cache::start(Arc::new(store), |_, _| Indexed::default(), settings).await.unwrap().snapshot()
    })
}
