//! No router: the Service of the service's own name divides its connections over the pods behind it.
//!
//! Its selector is a decision ([`Effect::Share`](molt_core::decision::Effect::Share)), so there is nothing to write here;
//! what part each revision has is read off its endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use molt_core::observed::{Backend, Preview, ProblemKind, RouteView, Weights};
use molt_core::plan::Revision;

use super::{RouteTarget, Sighting, TrafficRouter, problem};
use crate::controller::facts::{ServiceFacts, SliceFacts};
use crate::controller::pods::PodFacts;
use crate::k8s::failure::WriteError;
use crate::k8s::index::Index;

/// Endpoints as what divides the traffic.
pub struct ReplicaShare {
    services: Arc<Index<ServiceFacts>>,
    slices: Arc<Index<SliceFacts>>,
    pods: Arc<Index<PodFacts>>,
}

impl ReplicaShare {
    /// A router that reads these caches.
    pub fn new(
        services: Arc<Index<ServiceFacts>>,
        slices: Arc<Index<SliceFacts>>,
        pods: Arc<Index<PodFacts>>,
    ) -> Self {
        Self {
            services,
            slices,
            pods,
        }
    }

    /// Ready addresses behind the Service, by revision.
    fn behind(&self, target: &RouteTarget) -> BTreeMap<Revision, usize> {
        let pods = self.pods.of(&target.service);
        let slices = self.slices.of(&target.service);
        let ready = slices
            .values()
            .filter(|slice| slice.service == target.service.name)
            .flat_map(|slice| &slice.ready);
        let mut behind = BTreeMap::new();
        for pod in ready.filter_map(|name| pods.get(name)) {
            *behind.entry(pod.revision.clone()).or_default() += 1;
        }
        behind
    }
}

/// Parts of all in percent that sum to 100; whoever has any has one at least.
pub(super) fn shares(behind: &BTreeMap<Revision, usize>) -> Weights {
    let all: usize = behind.values().sum();
    let mut left = 100;
    let mut shares = Weights::new();
    // The largest last: it takes what rounding leaves.
    let mut sorted: Vec<_> = behind.iter().collect();
    sorted.sort_by_key(|(_, pods)| **pods);
    for (place, (revision, pods)) in sorted.iter().enumerate() {
        let share = if place + 1 == sorted.len() {
            left
        } else {
            ((**pods * 100 + all / 2) / all).clamp(1, left)
        };
        left -= share;
        let share = u8::try_from(share).unwrap_or(100);
        shares.insert(Backend::Revision((*revision).clone()), share);
    }
    shares
}

impl TrafficRouter for ReplicaShare {
    fn observe(&self, target: &RouteTarget, _: Timestamp) -> Sighting {
        let name = &target.service.name;
        let Some(service) = self.services.get(&target.service, name) else {
            return Sighting::default();
        };
        if !service.owners.contains(&target.owner.uid) {
            let message = format!(
                "Service {name} exists and was not created by Molt: delete or rename it, for it has to divide the connections"
            );
            return Sighting {
                problems: vec![problem(ProblemKind::Route, "RouteConflict", message)],
                ..Sighting::default()
            };
        }
        let behind = self.behind(target);
        // Addresses of a former selection may still be there for a moment.
        let acknowledged = service
            .revision
            .as_ref()
            .is_none_or(|revision| behind.keys().all(|other| other == revision));
        Sighting {
            view: RouteView {
                exists: true,
                weights: shares(&behind),
                acknowledged,
                ..RouteView::default()
            },
            ..Sighting::default()
        }
    }

    fn reconcile<'a>(&'a self, _: &'a RouteTarget) -> BoxFuture<'a, Result<bool, WriteError>> {
        async { Ok(false) }.boxed()
    }

    fn set_route<'a>(
        &'a self,
        _: &'a RouteTarget,
        _: &'a Weights,
        _: Option<&'a Preview>,
    ) -> BoxFuture<'a, Result<(), WriteError>> {
        async { Ok(()) }.boxed()
    }

    fn finalize<'a>(&'a self, _: &'a RouteTarget) -> BoxFuture<'a, Result<(), WriteError>> {
        async { Ok(()) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_sum_to_a_hundred_and_nobody_who_has_some_has_none() {
        for pods in [vec![1, 4], vec![3, 3, 3], vec![1, 500], vec![7], vec![]] {
            let behind: BTreeMap<Revision, usize> = pods
                .iter()
                .enumerate()
                .map(|(n, pods)| (Revision(format!("v{n}")), *pods))
                .collect();
            let shares = shares(&behind);
            let sum: u32 = shares.values().map(|share| u32::from(*share)).sum();
            assert_eq!(sum, if pods.is_empty() { 0 } else { 100 }, "{pods:?}");
            assert!(shares.values().all(|share| *share > 0), "{pods:?}: {shares:?}");
        }
    }
}
