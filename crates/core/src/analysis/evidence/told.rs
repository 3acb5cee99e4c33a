//! What the evidence says, as verdicts ask for it.

use jiff::Timestamp;

use super::{Counts, Evidence, HarmBets, MOST_MARGIN, Objective, STAKE_AGAIN, ln_add, upper_bound};

impl Evidence {
    /// The end of the last block that was taken in.
    pub fn absorbed_to(&self) -> Option<Timestamp> {
        self.absorbed_to
    }

    /// One-sided 95 % upper bound of the canary's bad ratio, for as many independent requests as its own are worth in
    /// each of the bake's blocks; 1 without requests.
    pub fn canary_upper_bound(&self) -> f64 {
        let blocks = f64::from(self.alone.as_ref().map_or(1, HarmBets::blocks).max(1));
        let each = self.canary.scaled(1.0 / blocks);
        if each.total() <= 0.0 {
            return 1.0;
        }
        let worth = self.worth().of(each).total() / each.total();
        upper_bound(self.canary.scaled(worth))
    }

    /// What the canary served under a weight.
    pub fn canary(&self) -> Counts {
        self.canary
    }

    /// What stable served in the same time.
    pub fn stable(&self) -> Counts {
        self.stable
    }

    /// The canary's bad events beyond stable's rate, not below 0; those while it had all the traffic among them.
    pub fn attributable_bad(&self) -> f64 {
        (self.attributable + self.suspected).max(0.0)
    }

    /// The canary's bad events beyond stable's rate in the same time, not below 0.
    pub fn attributable_beside(&self) -> f64 {
        self.attributable.max(0.0)
    }

    /// Natural logarithm of the evidence that the canary is worse than stable, since the attempt's start or
    /// since any later block, less what clustering takes from it; 0 says nothing.
    pub fn ln_harm(&self) -> f64 {
        let total = |bets: &HarmBets| self.ln_with_held(bets, HarmBets::ln_total);
        let again = self.again.as_ref().map_or(0.0, total);
        let main = total(&self.harm) + (1.0 - STAKE_AGAIN).ln();
        self.discounted(ln_add(main, again + STAKE_AGAIN.ln()))
    }

    /// Natural logarithm of the evidence of harm that was looked at last: of a canary that had all the traffic, that it
    /// was worse than stable before.
    pub fn ln_harm_at_end(&self) -> f64 {
        if self.alone.is_some() {
            self.ln_harm_alone()
        } else {
            self.ln_harm()
        }
    }

    /// Natural logarithm of the evidence that the canary has been worse than stable since the attempt's
    /// start: the mean of the running products with equal stakes, whatever the pods.
    pub fn ln_harm_from_start(&self) -> f64 {
        self.ln_with_held(&self.harm, HarmBets::ln_from_start)
    }

    /// Natural logarithm of the evidence that the canary is worse by less than `margin`, less what clustering
    /// takes from it: that of the largest margin of the attempt's which is not above it. Below all of them
    /// nothing can be shown: negative infinity. What a bake made suspect has to be refuted as well.
    pub fn ln_safe_at(&self, margin: f64) -> f64 {
        let refuted = self
            .refuted
            .as_ref()
            .map_or(f64::INFINITY, |r| r.ln_at(MOST_MARGIN));
        self.discounted(self.safety.ln_at(margin).min(refuted))
    }

    /// `U_Δ`, the upper end of the confidence sequence for how much worse the canary is: the smallest of the
    /// attempt's margins that safety is shown for with `ln_needed`, the natural logarithm of the evidence; 1
    /// if there is none.
    pub fn harm_upper_margin(&self, ln_needed: f64) -> f64 {
        let shown = self.safety.least_shown(ln_needed * self.design_effect());
        shown.unwrap_or(1.0)
    }

    /// How many requests say as much as one independent request would, at least 1: see `clustering`.
    pub fn design_effect(&self) -> f64 {
        self.clustering.design_effect(self.canary, self.stable)
    }

    /// The canary has several pods, and without the worst of them it is not clearly worse than stable: a sick
    /// pod, not a bad revision.
    pub fn rests_on_one_pod(&self) -> bool {
        let past = self
            .past
            .filter(|past| self.alone.is_some() && past.total() > self.stable.total());
        // Where both hardly served together, what stable did before stands for it.
        self.clustering
            .rests_on_one_pod(self.stable.plus(past.unwrap_or_default()), self.alone.is_some())
    }

    /// Clustering weakens evidence; it is no reason to forget what speaks against a claim.
    pub(super) fn discounted(&self, ln: f64) -> f64 {
        if ln > 0.0 { ln / self.design_effect() } else { ln }
    }

    /// What is known is of one short block of counters that are too young to show whether several workers answer in turn:
    /// one of them may have had all the bad requests.
    pub fn is_young(&self) -> bool {
        self.harm.blocks() <= 1 && self.exposure.is_young()
    }

    /// Natural logarithm of the evidence that the canary takes requests and does not answer; 0 while it does.
    pub fn ln_silent(&self) -> f64 {
        self.exposure.ln_silent()
    }

    /// Natural logarithm of the evidence that the canary answers less than four fifths of what is due to it at the
    /// route, or nothing; `None` where requests are not counted there.
    pub fn ln_short(&self) -> Option<f64> {
        self.exposure.ln_short()
    }

    /// The part of the usual requests that a canary with all the traffic still answers, where these have become far
    /// fewer.
    pub fn fallen(&self) -> Option<f64> {
        self.exposure.fallen()
    }

    /// A canary with all the traffic answered hardly anything in a whole block, in which many requests were usual.
    pub fn has_stopped(&self) -> bool {
        self.exposure.has_stopped()
    }

    /// The canary's share of requests as a part of its weight, where it is clearly less than due, or below half or
    /// above twice the weight, beyond doubt (99.9 %).
    pub fn share_disagrees(&self) -> Option<f64> {
        self.exposure.disagrees()
    }

    /// Requests of the canary's that nobody saw answered, by the share that is due to it: they failed, or came to
    /// stable by another way.
    pub fn missing(&self) -> f64 {
        self.exposure.missing()
    }

    /// Natural logarithm of the evidence that the canary answers more than 77 % of the requests that are due to it;
    /// it does not grow beyond that of a million.
    pub fn ln_share_shown(&self) -> f64 {
        self.exposure.ln_enough()
    }

    /// The canary's burn rate now, 1 for a budget that lasts just its window; `None` without requests.
    pub fn canary_burn(&self, objective: &Objective) -> Option<f64> {
        self.canary_windows.burn(objective)
    }

    /// The canary alone burns fast enough to page somebody: its burn rate.
    pub fn canary_pages(&self, objective: &Objective) -> Option<f64> {
        self.canary_windows.fires(objective)
    }

    /// Stable alone burns fast enough to page somebody: its burn rate.
    pub fn stable_pages(&self, objective: &Objective) -> Option<f64> {
        self.stable_windows.fires(objective)
    }

    /// One-sided 95 % upper bound of stable's usual bad ratio while the canary had a weight, or of that before the attempt
    /// where both never served together, 0 to 1. 1 without requests.
    pub fn stable_upper_bound(&self) -> f64 {
        let together = Some(self.calm).filter(|calm| calm.total() > 0.0);
        upper_bound(together.or(self.past).unwrap_or_default())
    }

    /// What a canary is judged beside that never served together with stable: the upper bound of all that is known of
    /// stable, and at most the objective or twice stable's ratio. A few requests without a bad one bound nothing, and
    /// users are promised the objective.
    pub fn reference_at_once(&self, objective: &Objective) -> f64 {
        let known = self.calm.plus(self.past.unwrap_or_default());
        let most = objective.bad_fraction.max(2.0 * known.ratio().unwrap_or(0.0));
        upper_bound(known).min(most)
    }
}
