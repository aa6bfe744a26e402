//! Which slices to create, update and delete so that they hold the wanted endpoints, touching as few as possible.

use std::collections::BTreeMap;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::endpoints::{Group, port_key};

/// What is to be done to the slices of one Service and family.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Writes {
    pub(super) create: Vec<EndpointSlice>,
    pub(super) update: Vec<EndpointSlice>,
    pub(super) delete: Vec<EndpointSlice>,
    /// Those that stay as they are.
    pub(super) keep: Vec<EndpointSlice>,
}

/// Gives each slice of a Service its metadata and, for new ones, everything but endpoints and ports.
pub(super) trait Template {
    /// A new slice without endpoints.
    fn empty(&self) -> EndpointSlice;
    /// Sets labels, annotations and owner. True if the labels were others before.
    fn dress(&self, slice: &mut EndpointSlice) -> bool;
    /// Whether the slice belongs to this very Service, not to an earlier one of its name.
    fn owns(&self, slice: &EndpointSlice) -> bool;
}

/// `most` is how many endpoints a slice may have.
pub(super) fn pack(
    groups: Vec<Group>,
    existing: Vec<EndpointSlice>,
    template: &dyn Template,
    most: usize,
) -> Writes {
    let mut writes = Writes::default();
    let mut by_ports: BTreeMap<String, Vec<EndpointSlice>> = BTreeMap::new();
    for slice in existing {
        if template.owns(&slice) {
            by_ports.entry(port_key(slice.ports.as_deref().unwrap_or_default())).or_default().push(slice);
        } else {
            writes.delete.push(slice);
        }
    }
    for group in groups {
        let slices = by_ports.remove(&port_key(&group.ports)).unwrap_or_default();
        pack_group(group, slices, template, most, &mut writes);
    }
    writes.delete.extend(by_ports.into_values().flatten());
    keep_placeholder(template, &mut writes);
    reuse_deleted(template, &mut writes);
    for slice in writes.create.iter_mut().chain(&mut writes.update) {
        template.dress(slice);
    }
    writes
}

/// A slice on its way to its new endpoints.
struct Draft {
    slice: EndpointSlice,
    is_changed: bool,
}

fn pack_group(
    group: Group,
    slices: Vec<EndpointSlice>,
    template: &dyn Template,
    most: usize,
    writes: &mut Writes,
) {
    let mut wanted: BTreeMap<String, Endpoint> =
        group.endpoints.into_iter().map(|endpoint| (identity(&endpoint), endpoint)).collect();
    let mut drafts: Vec<Draft> = Vec::new();
    for mut slice in slices {
        let before = slice.endpoints.take().unwrap_or_default();
        let kept: Vec<Endpoint> =
            before.iter().filter_map(|endpoint| wanted.remove(&identity(endpoint))).collect();
        let is_changed = kept != before || template.dress(&mut slice.clone());
        let was_filled = !before.is_empty();
        slice.endpoints = Some(kept);
        match slice.endpoints.as_ref().is_some_and(Vec::is_empty) && was_filled {
            true => writes.delete.push(EndpointSlice { endpoints: Some(before), ..slice }),
            false => drafts.push(Draft { slice, is_changed }),
        }
    }
    let mut left: Vec<Endpoint> = wanted.into_values().collect();
    // Those that are written anyway take what they can, the fullest first.
    drafts.sort_by_key(|draft| std::cmp::Reverse(length(&draft.slice)));
    for draft in drafts.iter_mut().filter(|draft| draft.is_changed) {
        fill(&mut draft.slice, &mut left, most);
    }
    while !left.is_empty() {
        // Fewer than a slice holds: into the one that gets fullest by it, so that few slices stay half empty.
        let fits = |draft: &&mut Draft| !draft.is_changed && length(&draft.slice) + left.len() <= most;
        match drafts.iter_mut().find(fits) {
            Some(draft) => {
                fill(&mut draft.slice, &mut left, most);
                draft.is_changed = true;
            }
            None => {
                let mut slice = EndpointSlice { ports: Some(group.ports.clone()), ..template.empty() };
                fill(&mut slice, &mut left, most);
                writes.create.push(slice);
            }
        }
    }
    for Draft { slice, is_changed } in drafts {
        match (length(&slice), is_changed) {
            // Nothing came into it: the placeholder rule decides whether one such stays.
            (0, _) => writes.delete.push(slice),
            (_, true) => writes.update.push(slice),
            (_, false) => writes.keep.push(slice),
        }
    }
}

fn fill(slice: &mut EndpointSlice, left: &mut Vec<Endpoint>, most: usize) {
    let endpoints = slice.endpoints.get_or_insert_with(Vec::new);
    let taken = left.len().min(most.saturating_sub(endpoints.len()));
    endpoints.extend(left.drain(..taken));
}

fn length(slice: &EndpointSlice) -> usize {
    slice.endpoints.as_ref().map_or(0, Vec::len)
}

/// A Service whose pods are all gone keeps one empty slice, by which one sees that it has been looked after.
fn keep_placeholder(template: &dyn Template, writes: &mut Writes) {
    if !(writes.create.is_empty() && writes.update.is_empty() && writes.keep.is_empty()) {
        return;
    }
    let is_placeholder = |slice: &EndpointSlice| {
        length(slice) == 0 && slice.ports.as_ref().is_none_or(Vec::is_empty) && template.owns(slice)
    };
    match writes.delete.iter().position(is_placeholder) {
        Some(index) => {
            let slice = writes.delete.swap_remove(index);
            let list = if template.dress(&mut slice.clone()) { &mut writes.update } else { &mut writes.keep };
            list.push(slice);
        }
        None => writes.create.push(template.empty()),
    }
}

/// A slice that would go takes the contents of one that would come: one write in place of two.
fn reuse_deleted(template: &dyn Template, writes: &mut Writes) {
    while let Some(index) = writes.delete.iter().position(|slice| template.owns(slice)) {
        let Some(created) = writes.create.pop() else { return };
        let reused = writes.delete.swap_remove(index);
        writes.update.push(EndpointSlice { metadata: reused.metadata, ..created });
    }
}

/// An endpoint stays the same one while this is the same.
fn identity(endpoint: &Endpoint) -> String {
    let target = endpoint.target_ref.as_ref();
    let of_target = |field: fn(&k8s_openapi::api::core::v1::ObjectReference) -> &Option<String>| {
        target.and_then(|target| field(target).as_deref()).unwrap_or_default()
    };
    format!(
        "{:?} {:?} {} {}",
        endpoint.addresses,
        endpoint.hostname,
        of_target(|target| &target.namespace),
        of_target(|target| &target.name)
    )
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::discovery::v1::EndpointPort;
    use kube::ResourceExt;

    use super::*;

    /// Owns what has no owner; its slices have one label.
    struct Plain(&'static str);

    impl Template for Plain {
        fn empty(&self) -> EndpointSlice {
            EndpointSlice { address_type: "IPv4".to_owned(), ..EndpointSlice::default() }
        }

        fn dress(&self, slice: &mut EndpointSlice) -> bool {
            slice.labels_mut().insert("l".to_owned(), self.0.to_owned()).as_deref() != Some(self.0)
        }

        fn owns(&self, slice: &EndpointSlice) -> bool {
            slice.owner_references().is_empty()
        }
    }

    fn ports(number: i32) -> Vec<EndpointPort> {
        vec![EndpointPort { port: Some(number), ..EndpointPort::default() }]
    }

    fn endpoint(host: u8) -> Endpoint {
        Endpoint { addresses: vec![format!("10.0.0.{host}")], ..Endpoint::default() }
    }

    fn group(hosts: std::ops::Range<u8>) -> Group {
        Group { ports: ports(80), endpoints: hosts.map(endpoint).collect() }
    }

    fn slice(name: &str, hosts: std::ops::Range<u8>) -> EndpointSlice {
        let mut slice = EndpointSlice { ports: Some(ports(80)), ..Plain("a").empty() };
        slice.metadata.name = Some(name.to_owned());
        slice.endpoints = Some(hosts.map(endpoint).collect());
        Plain("a").dress(&mut slice);
        slice
    }

    fn lengths(slices: &[EndpointSlice]) -> Vec<usize> {
        slices.iter().map(length).collect()
    }

    fn counts(writes: &Writes) -> [Vec<usize>; 4] {
        [&writes.create, &writes.update, &writes.delete, &writes.keep].map(|slices| lengths(slices))
    }

    #[test]
    fn new_endpoints_fill_slices_one_after_the_other() {
        let writes = pack(vec![group(0..5)], Vec::new(), &Plain("a"), 2);
        assert_eq!(counts(&writes), [vec![2, 2, 1], vec![], vec![], vec![]]);
    }

    #[test]
    fn nothing_changes_where_nothing_is_to_change() {
        let writes = pack(vec![group(0..3)], vec![slice("x", 0..2), slice("y", 2..3)], &Plain("a"), 2);
        assert_eq!(counts(&writes), [vec![], vec![], vec![], vec![2, 1]]);
    }

    #[test]
    fn one_new_endpoint_costs_one_update() {
        let writes = pack(vec![group(0..4)], vec![slice("x", 0..2), slice("y", 2..3)], &Plain("a"), 2);
        assert_eq!(counts(&writes), [vec![], vec![2], vec![], vec![2]]);
        assert_eq!(writes.update[0].name_any(), "y");
    }

    #[test]
    fn what_a_changed_slice_has_room_for_goes_there() {
        // 10.0.0.0 goes and 10.0.0.9 comes: both happen to the slice that loses one.
        let endpoints = vec![endpoint(1), endpoint(2), endpoint(9)];
        let group = Group { ports: ports(80), endpoints };
        let writes = pack(vec![group], vec![slice("x", 0..2), slice("y", 2..3)], &Plain("a"), 2);
        assert_eq!(counts(&writes), [vec![], vec![2], vec![], vec![1]]);
        assert_eq!(writes.update[0].name_any(), "x");
    }

    #[test]
    fn other_ports_take_over_the_slices_of_those_that_went() {
        let wanted = Group { ports: ports(81), endpoints: vec![endpoint(1)] };
        let writes = pack(vec![wanted], vec![slice("x", 0..2)], &Plain("a"), 2);
        assert_eq!(counts(&writes), [vec![], vec![1], vec![], vec![]]);
        assert_eq!((writes.update[0].name_any().as_str(), &writes.update[0].ports), ("x", &Some(ports(81))));
    }

    #[test]
    fn an_empty_slice_stays_when_all_pods_are_gone() {
        let writes = pack(Vec::new(), vec![slice("x", 0..2)], &Plain("a"), 2);
        assert_eq!(counts(&writes), [vec![], vec![0], vec![], vec![]]);
        let again = pack(Vec::new(), writes.update, &Plain("a"), 2);
        assert_eq!(counts(&again), [vec![], vec![], vec![], vec![0]]);
    }

    #[test]
    fn other_labels_are_written_to_every_slice() {
        let writes = pack(vec![group(0..2)], vec![slice("x", 0..2)], &Plain("b"), 2);
        assert_eq!(counts(&writes), [vec![], vec![2], vec![], vec![]]);
    }
}
