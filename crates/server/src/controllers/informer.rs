//! What controllers know of the cluster: every object of a kind, as the API last told of it, and who wants to hear of
//! changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use futures_util::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// Namespace and name; the namespace is empty for objects of the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub(super) fn new(namespace: &str, name: &str) -> Key {
        Key { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub(super) fn of(object: &impl ResourceExt) -> Key {
        Key { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }
}

/// An object came (no `old`), changed or went (no `new`).
#[derive(Debug)]
pub(super) struct Change<'a, K> {
    pub old: Option<&'a K>,
    pub new: Option<&'a K>,
}

impl<'a, K> Change<'a, K> {
    /// As it is, or as it was at last.
    pub(super) fn latest(&self) -> Option<&'a K> {
        self.new.or(self.old)
    }

    /// Before and after, those that there are.
    pub(super) fn both(&self) -> impl Iterator<Item = &'a K> {
        self.old.into_iter().chain(self.new)
    }
}

type Handler<K> = Box<dyn Fn(&Change<'_, K>) + Send + Sync>;

/// All objects of one kind.
pub(super) struct Informer<K> {
    objects: RwLock<BTreeMap<Key, Arc<K>>>,
    handlers: Mutex<Vec<Handler<K>>>,
    synced: watch::Sender<bool>,
}

impl<K> Debug for Informer<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Informer").field("synced", &*self.synced.borrow()).finish_non_exhaustive()
    }
}

impl<K> Default for Informer<K> {
    fn default() -> Informer<K> {
        Informer { objects: RwLock::default(), handlers: Mutex::default(), synced: watch::Sender::new(false) }
    }
}

impl<K> Informer<K> {
    /// Calls `handler` for every object that is known, and for every change from now on: whoever asks late misses nothing.
    /// It has to be quick: it holds up all others.
    pub(super) fn on_change(&self, handler: impl Fn(&Change<'_, K>) + Send + Sync + 'static) {
        // A change that is made meanwhile waits for this lock to be told, and may then be told twice.
        let mut handlers = self.handlers.lock().unwrap_or_else(PoisonError::into_inner);
        for object in self.all() {
            handler(&Change { old: None, new: Some(&object) });
        }
        handlers.push(Box::new(handler));
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<K>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Sorted by name.
    pub(super) fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        let first = Key::new(namespace, "");
        let of_namespace = objects.range(first..).take_while(|(key, _)| key.namespace == namespace);
        of_namespace.map(|(_, object)| object.clone()).collect()
    }

    /// Waits until everything that was there at the start is known.
    pub(super) async fn synced(&self) {
        // Only fails once the informer is gone, and this holds it.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    fn set(&self, key: Key, object: Option<Arc<K>>) {
        let old = {
            let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
            match &object {
                Some(object) => objects.insert(key, object.clone()),
                None => objects.remove(&key),
            }
        };
        let change = Change { old: old.as_deref(), new: object.as_deref() };
        for handler in self.handlers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            handler(&change);
        }
    }

    /// Removes what a fresh list no longer has.
    fn keep_only(&self, listed: &BTreeSet<Key>) {
        let gone: Vec<Key> = {
            let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
            objects.keys().filter(|key| !listed.contains(*key)).cloned().collect()
        };
        gone.into_iter().for_each(|key| self.set(key, None));
    }
}

impl<K> Informer<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Default,
{
    /// Follows the kind through the API, for ever.
    pub(super) async fn follow(self: Arc<Self>, client: Client) {
        let config = watcher::Config::default().streaming_lists();
        let mut events = std::pin::pin!(watcher::watcher(Api::<K>::all(client), config).default_backoff());
        let mut listed = BTreeSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(object)) => {
                    let key = Key::of(&object);
                    listed.insert(key.clone());
                    self.set(key, Some(Arc::new(object)));
                }
                Ok(Event::InitDone) => {
                    self.keep_only(&listed);
                    listed.clear();
                    self.synced.send_replace(true);
                }
                Ok(Event::Apply(object)) => self.set(Key::of(&object), Some(Arc::new(object))),
                Ok(Event::Delete(object)) => self.set(Key::of(&object), None),
                Err(error) => tracing::debug!(kind = std::any::type_name::<K>(), %error, "watching again"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn map(name: &str) -> (Key, Option<Arc<ConfigMap>>) {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(name.to_owned());
        map.metadata.namespace = Some("n".to_owned());
        (Key::of(&map), Some(Arc::new(map)))
    }

    #[test]
    fn a_handler_that_comes_late_hears_of_what_is_there() {
        let informer = Informer::<ConfigMap>::default();
        let (key, object) = map("a");
        informer.set(key, object);
        let heard = Arc::new(Mutex::new(0));
        let count = heard.clone();
        informer.on_change(move |change| *count.lock().unwrap() += i32::from(change.new.is_some()));
        let (key, object) = map("b");
        informer.set(key, object);
        assert_eq!(*heard.lock().unwrap(), 2);
    }

    #[test]
    fn handlers_hear_of_what_a_new_list_lacks() {
        let informer = Arc::new(Informer::<ConfigMap>::default());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = heard.clone();
        informer.on_change(move |change| {
            let name = change.latest().map(ResourceExt::name_any).unwrap_or_default();
            log.lock().unwrap().push((name, change.new.is_some()));
        });
        for name in ["a", "b"] {
            let (key, object) = map(name);
            informer.set(key, object);
        }
        informer.keep_only(&BTreeSet::from([Key::new("n", "b")]));
        let expected = [("a", true), ("b", true), ("a", false)].map(|(name, there)| (name.to_owned(), there));
        assert_eq!(*heard.lock().unwrap(), expected);
        assert_eq!(informer.in_namespace("n").len(), 1);
    }
}
