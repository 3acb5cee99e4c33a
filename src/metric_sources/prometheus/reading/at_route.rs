//! Reading what the proxies of a route counted.
//!
//! Pods of the service are of no account here: a revision is what the route sends to it, by however many
//! proxies, and one whose series is not there yet was sent nothing. How its pods differ can't be seen, so that
//! each revision counts as if it had one pod.

use std::collections::BTreeMap;

use jiff::Timestamp;
use molt_core::analysis::{AtRoute, Counts, Falls, PodCounts};
use molt_core::observed::BlockCounts;

use super::super::super::at_route::Naming;
use super::super::super::{SliQuery, presets};
use super::super::answer::RawSeries;
use super::super::ask::{self, Failure};
use super::super::promql;
use super::super::series::{Arm, Frame, Role};
use super::{Arms, Column, NOT_SCRAPED, Reading, SERIES_MISSING, UNUSABLE, lookback};

impl Reading<'_> {
    pub(super) fn arms_at_route(&self, naming: Naming, answer: &[(Role, RawSeries)]) -> Result<Arms, String> {
        let request = self.request;
        let arm = |places| {
            let values = naming.values(&request.namespace, &request.backends.route, places);
            Arm::at_route(&request.source, naming.label(), &values, answer).map(Some)
        };
        Ok(Arms {
            canary: arm(&request.backends.canary)?,
            stable: arm(&request.backends.stable)?,
        })
    }

    pub(super) fn column_at_route(&self, naming: Naming, arms: &Arms) -> Column {
        let request = self.request;
        let both = || [&arms.canary, &arms.stable].into_iter().flatten();
        let recently = self.at - lookback(request);
        if !both().any(|arm| arm.has_total() || arm.has_sent()) {
            let others = both().any(|arm| arm.was_read(recently, self.at));
            return Column::unknown(request, Some(self.backends_missing(naming, others)));
        }
        let births = BTreeMap::new();
        let frame = Frame {
            births: &births,
            seen_from: self.at - self.range,
        };
        let newest = request.edges.windows(2).last();
        let dirty = newest.and_then(|edge| both().find_map(|arm| arm.spoilt(edge[0], edge[1])));
        let unread = !both().any(|arm| arm.was_read(recently, self.at));
        let counts = request
            .edges
            .windows(2)
            .map(|edge| block(&frame, arms, edge[0], edge[1]))
            .collect();
        Column {
            counts,
            failure: dirty
                .map(|falls| self.proxy_unusable(falls))
                .or_else(|| unread.then(|| self.proxies_not_scraped(naming))),
            falls: dirty.map_or(0, Falls::count),
        }
    }

    fn metric(&self) -> String {
        match &self.slo.sli {
            SliQuery::Availability(preset) => presets::requests(*preset).name,
            SliQuery::Latency(preset, _) => promql::count(&presets::durations(*preset)).name,
            SliQuery::Tasks(outcomes) => outcomes.good.join(" or "),
            SliQuery::Counters { total, .. } => total.to_string(),
        }
    }

    /// No series of either backend. `others` were there: of Envoy's clusters for a whole rule.
    fn backends_missing(&self, naming: Naming, others: bool) -> Failure {
        let route = &self.request.backends.route;
        let message = if others && naming == Naming::Cluster {
            format!(
                "Envoy has one cluster for all backends of a rule of HTTPRoute {route}, in which revisions can't be told apart: give each of both backendRefs a filter, such as `filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: x-molt-slot, value: stable}}]}}}}]`, after which Envoy Gateway makes a cluster of each"
            )
        } else {
            let advice = match naming {
                Naming::Cluster => {
                    "the gateway's Envoy pods at /stats/prometheus, that EnvoyProxy leaves telemetry.metrics.clusterStatName unset"
                }
                Naming::Service(..) => {
                    "the proxies that send requests to the service, that requests come by way of them"
                }
            };
            format!(
                "Prometheus at {} has no series of {} for the backends of HTTPRoute {route} (label {}): check that it scrapes {advice}, and spec.metrics.prometheus.matchers; otherwise send a first request",
                ask::without_credentials(&self.request.source.address),
                self.metric(),
                naming.label()
            )
        };
        Failure {
            reason: SERIES_MISSING,
            message: self.of_slo(&message),
        }
    }

    fn proxies_not_scraped(&self, naming: Naming) -> Failure {
        Failure {
            reason: NOT_SCRAPED,
            message: self.of_slo(&format!(
                "Prometheus at {} has read nothing lately of {} for the backends of HTTPRoute {} (label {}): check that it still scrapes the proxies of the route",
                ask::without_credentials(&self.request.source.address),
                self.metric(),
                self.request.backends.route,
                naming.label()
            )),
        }
    }

    fn proxy_unusable(&self, falls: &Falls) -> Failure {
        Failure {
            reason: UNUSABLE,
            message: self.of_slo(&format!(
                "the counters of proxy {} fell {} times in the last {} s, so they count neither for nor against a revision: several proxies answer scrapes in turn. Have Prometheus scrape each proxy's pod, not a Service in front of them, and label its series by pod or instance",
                falls.pod,
                falls.count(),
                self.range.as_secs()
            )),
        }
    }
}

/// What both revisions were sent and answered in `(start, end]`.
fn block(frame: &Frame<'_>, arms: &Arms, start: Timestamp, end: Timestamp) -> Option<BlockCounts> {
    let counts = |arm: &Option<Arm>| match arm {
        None => Some(Counts::default()),
        Some(arm) if arm.spoilt(start, end).is_some() => None,
        Some(arm) => arm.counts(frame, start, end),
    };
    let sent = |arm: &Option<Arm>| arm.as_ref().map_or(0.0, |arm| arm.sent(frame, start, end));
    let has_sent = [&arms.canary, &arms.stable]
        .into_iter()
        .flatten()
        .any(Arm::has_sent);
    Some(BlockCounts {
        canary: counts(&arms.canary)?,
        // A proxy tells of both in one scrape.
        canary_late: Counts::default(),
        stable: counts(&arms.stable)?,
        canary_pods: PodCounts::default(),
        stable_pods: PodCounts::default(),
        at_route: Some(AtRoute {
            sent: has_sent.then(|| (sent(&arms.canary), sent(&arms.stable))),
        }),
    })
}
