//! The requests of one objective by route, as far as its series tell routes apart.

use std::collections::BTreeSet;

use molt_core::analysis::Counts;
use molt_core::guard::RouteCounts;

use super::super::super::{SliQuery, presets};
use super::super::answer::RawSeries;
use super::super::series::{Arm, Frame, Role};
use super::Reading;

/// Routes that are looked at, at most: those with bad ones, in the order of their names.
const MOST: usize = 50;

impl Reading<'_> {
    /// For each block, the counts of each route that has bad requests; none where they can't be told, which is told elsewhere.
    pub(super) fn routes(&self, answer: &[(Role, RawSeries)]) -> Vec<Vec<RouteCounts>> {
        let SliQuery::Availability(preset) = &self.slo.sli else {
            return Vec::new();
        };
        let Some(label) = presets::route_label(*preset) else {
            return Vec::new();
        };
        let route = |series: &RawSeries| {
            series
                .metric
                .get(label)
                .filter(|route| !route.is_empty())
                .cloned()
        };
        let bad = answer.iter().filter(|(role, _)| matches!(role, Role::BadOfTotal));
        let routes: BTreeSet<String> = bad.filter_map(|(_, series)| route(series)).collect();
        let Ok(whole) = self.arms_of_pods(answer) else {
            return Vec::new();
        };
        let mut blocks = vec![Vec::new(); self.request.edges.len().saturating_sub(1)];
        for name in routes.into_iter().take(MOST) {
            let counts = |role: &Role| matches!(role, Role::Total | Role::BadOfTotal);
            let of_route = |(role, series): &&(Role, RawSeries)| {
                !counts(role) || route(series).as_deref() == Some(name.as_str())
            };
            let part: Vec<_> = answer.iter().filter(of_route).cloned().collect();
            let Ok(arms) = self.arms_of_pods(&part) else {
                continue;
            };
            let frame = Frame {
                births: &self.request.births,
                seen_from: self.at - self.range,
            };
            for (block, edge) in blocks.iter_mut().zip(self.request.edges.windows(2)) {
                let counts = |part: &Option<Arm>, whole: &Option<Arm>| {
                    let sound = whole
                        .as_ref()
                        .filter(|arm| arm.spoilt(edge[0], edge[1]).is_none())?;
                    let part = part.as_ref()?;
                    if part.has_total() {
                        return part.counts(&frame, edge[0], edge[1]);
                    }
                    // A revision that is read has had no request of a route of which it has no series.
                    sound.was_read(edge[0], edge[1]).then(Counts::default)
                };
                let canary = counts(&arms.canary, &whole.canary);
                let stable = counts(&arms.stable, &whole.stable);
                if let (Some(canary), Some(stable)) = (canary, stable) {
                    block.push(RouteCounts {
                        route: name.clone(),
                        canary,
                        stable,
                    });
                }
            }
        }
        blocks
    }
}
