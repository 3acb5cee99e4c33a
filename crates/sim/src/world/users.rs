//! Users: what they send, and what they get.

use std::borrow::Cow;

use jiff::SignedDuration;
use rand::{Rng, RngExt};
use rand_distr::{Beta, Distribution};

use super::World;
use crate::arrivals::{among, arrivals, share_slower};
use crate::pods::{Conduct, Millis, millis};
use crate::proxy::Tally;
use crate::scenario::{Harm, LATENCY_SIGMA, Latency};
use crate::setup::{Clusters, Measure};

/// What users had of one revision.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Users {
    /// Requests that were sent to it.
    pub requests: u64,
    /// Those that failed: answered with an error, never, or by nobody.
    pub failed: u64,
}

/// What chance has decided for clusters of requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chance {
    /// The tenant is at the canary while its share is above this; 0 to 1.
    tenant_leaves: f64,
    /// Which pod is the tenant's, and which is sick: how far down the list, 0 to 1.
    pod: [f64; 2],
    /// The sick pod is the canary's.
    sick_canary: bool,
    /// Each revision's share of errors in this stretch, and the mean that it was drawn around.
    errors: [(f64, f64); 2],
    /// When the next stretch begins.
    next: Millis,
    /// The canary's share of the connections, the share of the traffic that it was drawn for, and until when.
    connections: (f64, f64, Millis),
}

impl Chance {
    pub(super) fn draw(rng: &mut impl Rng) -> Self {
        Self {
            tenant_leaves: rng.random(),
            pod: [rng.random(), rng.random()],
            sick_canary: rng.random(),
            errors: [(f64::NAN, f64::NAN); 2],
            next: 0,
            connections: (0.0, 0.0, 0),
        }
    }
}

const STABLE: usize = 0;
const CANARY: usize = 1;

impl World<'_> {
    /// When the share of errors is drawn anew, or that of connections.
    pub(super) fn next_draw(&self) -> Option<Millis> {
        let errors = (self.setup.clusters.correlation > 0.0).then_some(self.chance.next);
        let kept = self.setup.scenario.connections.is_some() && self.share > 0.0;
        let connections = kept.then_some(self.chance.connections.2);
        [errors, connections]
            .into_iter()
            .flatten()
            .filter(|at| *at > self.now)
            .min()
    }

    /// The canary's share of the requests: where callers keep their connections, of these.
    fn share_of_requests(&mut self) -> f64 {
        let Some(kept) = self.setup.scenario.connections else {
            return self.share;
        };
        let (_, drawn_for, until) = self.chance.connections;
        if drawn_for.to_bits() != self.share.to_bits() || self.now >= until {
            let canary = among(&mut self.rng, kept.count.into(), self.share) as f64;
            let until = self.now + millis(kept.last).max(1);
            self.chance.connections = (canary / f64::from(kept.count), self.share, until);
        }
        self.chance.connections.0
    }

    /// Users send requests until `to`.
    pub(super) fn send(&mut self, to: Millis) {
        let from = self.now;
        if to <= from {
            return;
        }
        self.draw_errors();
        let share = self.share_of_requests();
        let conducts = [self.conduct(STABLE), self.conduct(CANARY)];
        let usual = self.usual();
        let interval = millis(self.setup.environment.scrape_interval).max(1);
        let rate = if self.setup.scenario.no_traffic {
            0.0
        } else {
            self.setup.rps / 1000.0
        };
        if self.share > 0.0 {
            self.exposed += to - from;
        }
        let clusters = self.setup.clusters;
        let chance = self.chance;
        let tenants = clusters.tenant.map_or(0.0, |tenant| tenant.share);
        let home = if self.share > chance.tenant_leaves {
            CANARY
        } else {
            STABLE
        };
        let sides = [
            (&mut self.stable, &mut self.users_of_stable, 1.0 - share),
            (&mut self.canary, &mut self.users_of_canary, share),
        ];
        let objectives = self.attributable.len();
        let mut tallies = [Tally::of(objectives), Tally::of(objectives)];
        let mut canary_requests = 0;
        for (side, (set, users, share)) in sides.into_iter().enumerate() {
            let tally = &mut tallies[side];
            let before = users.requests;
            let everybody = rate * (1.0 - tenants) * share;
            let tenant = if side == home { rate * tenants } else { 0.0 };
            let endpoints = set.pods.iter().filter(|p| p.is_endpoint()).count();
            let mut first = None;
            if endpoints == 0 {
                // The route leads to nobody: the proxy answers that.
                let refused = arrivals(&mut self.rng, (everybody + tenant) * (to - from) as f64);
                users.requests += refused;
                users.failed += refused;
                tally.refuse(refused, &conducts[side].slow);
                first = (refused > 0).then_some(from);
            }
            let chosen = chance.pod.map(|far| (far * endpoints as f64) as usize);
            let sick =
                (clusters.sick_pod.is_some() && chance.sick_canary == (side == CANARY)).then_some(chosen[1]);
            let mut place = 0;
            for pod in &mut set.pods {
                let (mut part, mut from_tenant) = (0.0, 0.0);
                if pod.is_endpoint() {
                    part = everybody / endpoints as f64;
                    from_tenant = if place == chosen[0] { tenant } else { 0.0 };
                    place += 1;
                }
                let is_sick = part > 0.0 && sick == Some(place - 1);
                let conduct = of_pod(
                    &conducts[side],
                    &clusters,
                    is_sick,
                    from_tenant / (part + from_tenant),
                );
                let served = pod.serve(
                    &mut self.rng,
                    interval,
                    (from, to),
                    part + from_tenant,
                    &conduct,
                    tally,
                );
                users.requests += served.requests;
                users.failed += served.failed;
                first = [first, served.first].into_iter().flatten().min();
            }
            if side == CANARY {
                self.first_request = self.first_request.or(first);
                canary_requests = users.requests - before;
            }
        }
        if canary_requests > 0 {
            for (index, bad) in tallies[CANARY].truly_bad.iter().enumerate() {
                let usual = conducts[STABLE].slow[index].unwrap_or(usual);
                self.attributable[index] += bad - canary_requests as f64 * usual;
            }
        }
        if let Some(proxy) = &mut self.proxy {
            proxy.count(&tallies[STABLE], &tallies[CANARY], to);
        }
    }

    /// When harm of the canary's begins that has yet to.
    pub(super) fn next_harm(&self) -> Option<Millis> {
        let scenario = &self.setup.scenario;
        let begins = [
            scenario.errors.map(|harm| harm.after),
            scenario.latency.map(|harm| harm.after),
            scenario.hang.map(|harm| harm.after),
        ];
        let ready = self.canary_ready?;
        let begins = begins
            .into_iter()
            .flatten()
            .map(|after| ready.saturating_add(millis(after)));
        begins.filter(|at| *at > self.now).min()
    }

    /// What of the scenario has not begun yet, each with its time, as it is written.
    pub(crate) fn not_begun(&self) -> Vec<String> {
        let scenario = &self.setup.scenario;
        let own = [
            ("errors", scenario.errors.map(|harm| harm.after)),
            ("latency", scenario.latency.map(|harm| harm.after)),
            ("hang", scenario.hang.map(|harm| harm.after)),
            ("crash", scenario.crash_after),
        ];
        let since_ready = self.canary_ready.map(|ready| self.now - ready);
        let own = own
            .into_iter()
            .filter_map(|(name, after)| Some((name, after?)))
            .filter(|(_, after)| !after.is_zero() && since_ready.is_none_or(|time| time < millis(*after)));
        let incidents = scenario
            .incidents
            .iter()
            .map(|incident| ("incident", incident.at));
        let incidents = incidents.filter(|(_, at)| self.now < millis(*at));
        own.chain(incidents)
            .map(|(name, at)| format!("{name}@{at:#}"))
            .collect()
    }

    /// What the canary does, once that has begun.
    fn begun<T>(&self, harm: Harm<T>) -> Option<T> {
        let late = millis(harm.after);
        let begun = late == 0 || self.canary_ready.is_some_and(|ready| self.now - ready >= late);
        begun.then_some(harm.what)
    }

    /// Share of errors of a revision, on average at this time.
    fn mean_errors(&self, side: usize) -> f64 {
        let scenario = &self.setup.scenario;
        let own = scenario.errors.filter(|_| side == CANARY);
        let errors = own.and_then(|own| self.begun(own));
        let errors = errors.unwrap_or(self.setup.baseline.errors);
        let now = SignedDuration::from_millis(self.now);
        (errors * scenario.incidents.factor(now)).min(1.0)
    }

    /// Share of errors that any request has at stable, its tenants' among them.
    fn usual(&self) -> f64 {
        self.with_tenant(self.mean_errors(STABLE))
    }

    fn with_tenant(&self, errors: f64) -> f64 {
        let tenant = self.setup.clusters.tenant;
        tenant.map_or(errors, |t| errors * (1.0 - t.share) + t.errors * t.share)
    }

    /// What each objective counted as bad before the rollout, as a share of the requests.
    pub(super) fn before(&self) -> Vec<f64> {
        let slow = self.conduct(STABLE).slow;
        let errors = self.with_tenant(self.setup.baseline.errors);
        slow.into_iter().map(|slow| slow.unwrap_or(errors)).collect()
    }

    fn draw_errors(&mut self) {
        let correlation = self.setup.clusters.correlation;
        let anew = self.now >= self.chance.next;
        for side in [STABLE, CANARY] {
            let mean = self.mean_errors(side);
            if anew || mean.to_bits() != self.chance.errors[side].1.to_bits() {
                self.chance.errors[side] = (around(&mut self.rng, mean, correlation), mean);
            }
        }
        if anew {
            let stretch = millis(self.setup.plan.block).max(1);
            self.chance.next = (self.now / stretch + 1) * stretch;
        }
    }

    /// How a revision treats its requests now.
    fn conduct(&self, side: usize) -> Conduct {
        let scenario = &self.setup.scenario;
        let usual = self.setup.baseline.latency.as_secs_f64();
        let (mut hang, mut median) = (0.0, usual);
        if side == CANARY {
            hang = scenario.hang.and_then(|hang| self.begun(hang)).unwrap_or(0.0);
            median = match scenario.latency.and_then(|latency| self.begun(latency)) {
                None => usual,
                Some(Latency::Factor(factor)) => usual * factor,
                Some(Latency::Median(median)) => median.as_secs_f64(),
            };
        }
        let slow = |measure: &Measure| match measure {
            Measure::Errors => None,
            Measure::SlowerThan(threshold) => {
                Some(share_slower(threshold.as_secs_f64(), median, LATENCY_SIGMA))
            }
        };
        Conduct {
            errors: self.chance.errors[side].0,
            hang,
            slow: self.setup.measures.iter().map(slow).collect(),
        }
    }
}

/// How one pod treats its requests, of which the tenant sends this share.
fn of_pod<'a>(conduct: &'a Conduct, clusters: &Clusters, sick: bool, from_tenant: f64) -> Cow<'a, Conduct> {
    let mut own = Cow::Borrowed(conduct);
    if let Some(times) = clusters.sick_pod.filter(|_| sick) {
        let pod = own.to_mut();
        pod.errors = (pod.errors * times).min(1.0);
        for slow in pod.slow.iter_mut().flatten() {
            *slow = (*slow * times).min(1.0);
        }
    }
    if let Some(tenant) = clusters.tenant.filter(|_| from_tenant > 0.0) {
        let pod = own.to_mut();
        pod.errors = pod.errors * (1.0 - from_tenant) + tenant.errors * from_tenant;
    }
    own
}

/// A share drawn from the beta distribution with this mean and the variance `correlation·mean·(1 − mean)`.
fn around(rng: &mut impl Rng, mean: f64, correlation: f64) -> f64 {
    if correlation <= 0.0 {
        return mean;
    }
    let size = (1.0 - correlation) / correlation;
    match Beta::new(mean * size, (1.0 - mean) * size) {
        Ok(beta) => beta.sample(rng),
        // A mean of 0 or 1 leaves chance nothing.
        Err(_) => mean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Setup;
    use molt_core::decision::Effect;
    use rand::SeedableRng;
    use rand_pcg::Pcg64Mcg;

    #[test]
    fn late_harm_begins_on_time_whatever_pods_are_restarted() {
        for scenario in ["errors=100%@90s", "errors=100%@90s,crash@20s"] {
            let (baseline, canary) = ("errors=1%".parse().unwrap(), scenario.parse().unwrap());
            let plan = crate::study::tests::plan("availability");
            let revision = plan.revision.clone().unwrap();
            let setup = Setup::new(plan, vec![Measure::Errors], baseline, canary, 10.0).unwrap();
            let mut world = World::new(&setup, 1);
            world.apply(&Effect::CreateRevision {
                revision: revision.clone(),
            });
            world.apply(&Effect::Scale {
                revision,
                replicas: 2,
                attempt: Some(1),
            });
            let (mut ready, mut begun) = (None, None);
            while let Some(next) = world.next_change().filter(|next| *next < 200_000) {
                world.advance(next);
                if world.canary.ready() > 0 {
                    ready.get_or_insert(next);
                }
                if world.mean_errors(CANARY) > 0.99 {
                    begun.get_or_insert(next);
                }
                assert!(world.mean_errors(STABLE) < 0.011);
            }
            assert!(
                ready.is_some() && begun == ready.map(|at| at + 90_000),
                "{scenario}: {ready:?} {begun:?}"
            );
        }
    }

    #[test]
    fn drawn_shares_have_the_mean_and_the_correlation_asked_for() {
        let mut rng = Pcg64Mcg::seed_from_u64(1);
        let (mean, correlation) = (0.02, 0.01);
        let draws: Vec<f64> = (0..20_000).map(|_| around(&mut rng, mean, correlation)).collect();
        let got = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|p| (p - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        assert!((got / mean - 1.0).abs() < 0.03, "{got}");
        assert!(
            (variance / (correlation * mean * (1.0 - mean)) - 1.0).abs() < 0.1,
            "{variance}"
        );
        for edge in [0.0, 1.0] {
            assert!((around(&mut rng, edge, 0.5) - edge).abs() < 1e-12);
        }
        assert!((around(&mut rng, mean, 0.0) - mean).abs() < 1e-12);
    }
}
