//! What is seen of a canary that has all the traffic: a suspicion, which a comparison beside stable bears out or refutes.

use super::{Beside, Block, Counts, Evidence, Safety, Windows, plug_in, seconds};

/// Evidence of harm from a bake that is worth refuting.
const SUSPICIOUS: f64 = 5.0;
/// Logarithm of the evidence that refutes: that of the default `safeConfidence`.
const LN_REFUTED: f64 = 3.0;

/// The smallest harm that so many requests of a healthy canary are expected to refute, beside a stable of the rate
/// `usual`: `n·e² / (2·(p + e)) = 3`, the Kullback–Leibler divergence of two Poisson rates to the second order.
fn refutable(requests: f64, usual: f64) -> f64 {
    let n = requests.max(1.0);
    (LN_REFUTED + (LN_REFUTED * (LN_REFUTED + 2.0 * n * usual)).sqrt()) / n
}

impl Evidence {
    /// The canary alone beside what stable's rate was. That says nothing of safety.
    pub(super) fn compare_to(&mut self, reference: f64, block: &Block) {
        let canary = block.canary;
        self.begin_alone();
        self.suspect(block, reference);
        self.clustering.absorb_alone(&block.canary_pods);
        if block.weight_in_force && block.canary_weight >= 100 {
            self.exposure.absorb_alone(canary.total(), seconds(block));
            if block.weight_settled {
                self.exposure
                    .flow(canary.total() + block.stable.total(), seconds(block), true);
            }
        }
    }

    /// What waits for stable's next block belongs to a comparison that is over.
    pub(super) fn begin_alone(&mut self) {
        self.waiting = Counts::default();
        self.settle(None);
    }

    /// Bets that the canary, of which some or all requests have nobody beside them, is worse than stable was.
    pub(super) fn suspect(&mut self, block: &Block, reference: f64) {
        let canary = block.canary;
        let known = reference.max(plug_in(self.calm.plus(self.past.unwrap_or_default())));
        let worth = self.worth().of(canary);
        let alone = self.alone.get_or_insert_default();
        alone.absorb(worth, self.canary, Beside::Rate(known), None);
        self.alone_requests += canary.total();
        self.suspected += canary.bad() - canary.total() * reference;
    }

    /// What a bake made suspect is to be compared beside stable again. What was seen while the canary was alone is set
    /// aside, for stable may have had the same in these minutes, and safety has to be shown anew: nothing is safe before
    /// the suspicion is refuted. What is known of its pods stays: that it is not one of them alone was looked at in the bake,
    /// and of the few requests of a comparison chance would make clusters. The canary will have as many requests as in so many `blocks` of the bake; what
    /// these could not refute of a healthy one is not asked for.
    pub fn compare_again(&mut self, blocks: f64) {
        self.settle(None);
        self.again.get_or_insert_default();
        let suspicious = self.ln_harm_alone() >= SUSPICIOUS.ln();
        let bake = self.alone.take().map_or(0, |alone| alone.blocks());
        let requests = self.alone_requests / f64::from(bake.max(1)) * blocks;
        let excess = self.suspected / self.alone_requests;
        self.refuted = (suspicious && excess > 0.0)
            .then(|| Safety::of(excess.max(refutable(requests, plug_in(self.expected())))));
        self.alone_requests = 0.0;
        self.safety.begin_anew();
        self.exposure.begin_anew();
        self.canary_windows = Windows::default();
        self.stable_windows = Windows::default();
        self.latest = [Counts::default(); 2];
    }

    /// Beside stable the canary is no worse: what was seen of it alone was not its own.
    pub fn acquit(&mut self) {
        self.suspected = 0.0;
        self.refuted = None;
    }

    /// Natural logarithm of the evidence that the canary, with all the traffic, is worse than stable was before. It
    /// bounds no false alarms: an incident that stable would have as well looks the same.
    pub fn ln_harm_alone(&self) -> f64 {
        self.alone
            .as_ref()
            .map_or(0.0, |alone| self.discounted(alone.ln_total()))
    }
}
