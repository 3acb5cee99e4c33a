//! No traffic: workers take their work themselves, from a queue, so a revision's part of the pods that run is its part
//! of the work. There is nothing to write: how many pods run is the decision itself.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use molt_core::observed::{Preview, RouteView, Weights};

use super::replica_share::shares;
use super::{RouteTarget, Sighting, TrafficRouter};
use crate::controller::pods::PodFacts;
use crate::k8s::failure::WriteError;
use crate::k8s::index::Index;

/// Pods that run as what divides the work.
pub struct Workers {
    pods: Arc<Index<PodFacts>>,
}

impl Workers {
    /// One that reads this cache.
    pub fn new(pods: Arc<Index<PodFacts>>) -> Self {
        Self { pods }
    }
}

impl TrafficRouter for Workers {
    fn observe(&self, target: &RouteTarget, _: Timestamp) -> Sighting {
        let pods = self.pods.of(&target.service);
        // A worker that ends finishes what it has begun, and takes nothing new.
        let working = pods.values().filter(|pod| pod.ready).map(|pod| &pod.revision);
        let mut by_revision = std::collections::BTreeMap::new();
        for revision in working {
            *by_revision.entry(revision.clone()).or_default() += 1;
        }
        Sighting {
            view: RouteView {
                exists: !pods.is_empty(),
                weights: shares(&by_revision),
                acknowledged: true,
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
