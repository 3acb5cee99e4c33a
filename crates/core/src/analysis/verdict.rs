//! What the evidence forbids and what it allows.

use jiff::SignedDuration;

use super::{Evidence, Harm, HarmKind, Objective};

/// The least evidence of harm beside which a burn rate or a small spend speaks against the canary. The paths
/// that use it are bounded by a fifth only, so each asks for real spend as well.
const SOME_EVIDENCE: f64 = 5.0;
/// The part of what it may spend that a canary has spent before its burn rate speaks against it.
const REAL_SPEND: f64 = 0.25;

/// How long a wrong promotion is reckoned to spend for at the least: what it could spend until then bounds the last
/// margin.
pub const WATCH: SignedDuration = SignedDuration::from_hours(1);
/// A step may spend this share of the budget in [`STEP_TIME`].
const STEP_SPEND: f64 = 0.005;
/// See [`STEP_SPEND`].
const STEP_TIME: f64 = 300.0;
/// The largest margin that a step is allowed by.
const MOST_MARGIN: f64 = 0.5;
/// Below this many events of allowed spend, a few unlucky requests would spend it: ask for evidence too.
const FEW_EVENTS: f64 = 5.0;
/// So many standard deviations are no chance.
const CHANCE: f64 = 3.0;
/// And so is what has at most that normal deviate's probability, as a logarithm: one in 741.
const LN_CHANCE: f64 = 6.6;

/// The probabilities of error, and the budget that one rollout may spend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    false_rollback: f64,
    unsafe_promotion: f64,
    max_budget_spend: f64,
}

impl Limits {
    /// `false_rollback` (α) and `safe_confidence` (1 − β) are probabilities above 0 and below 1;
    /// `max_budget_spend` is a share above 0, at most 1. `None` otherwise.
    pub fn new(false_rollback: f64, safe_confidence: f64, max_budget_spend: f64) -> Option<Self> {
        let probability = |p: f64| p > 0.0 && p < 1.0;
        (probability(false_rollback)
            && probability(safe_confidence)
            && max_budget_spend > 0.0
            && max_budget_spend <= 1.0)
            .then_some(Self {
                false_rollback,
                unsafe_promotion: 1.0 - safe_confidence,
                max_budget_spend,
            })
    }

    /// The share of the window's budget that one rollout may spend, 0 to 1.
    pub fn max_budget_spend(&self) -> f64 {
        self.max_budget_spend
    }

    /// Logarithm of the evidence that harm needs beside `objectives` objectives: `ln(m/α)`.
    pub fn ln_harm_needed(&self, objectives: usize) -> f64 {
        (objectives.max(1) as f64 / self.false_rollback).ln()
    }

    /// Logarithm of the evidence that safety needs: `ln(1/β)`.
    pub fn ln_safe_needed(&self) -> f64 {
        -self.unsafe_promotion.ln()
    }
}

impl Default for Limits {
    /// One healthy revision in a hundred rolled back, 95 % confidence, 2 % of the budget.
    fn default() -> Self {
        Self {
            false_rollback: 0.01,
            unsafe_promotion: 1.0 - 0.95,
            max_budget_spend: 0.02,
        }
    }
}

/// One objective with its evidence.
#[derive(Clone, Copy, Debug)]
pub struct SloView<'a> {
    /// Its name.
    pub name: &'a str,
    /// The objective.
    pub objective: &'a Objective,
    /// Requests expected in its window; `None` while nothing is known of them.
    pub expected_requests: Option<f64>,
    /// The share of the window's budget that the attempt may spend, above 0, at most 1.
    pub may_spend: f64,
    /// The canary has all the traffic: what stable's rate was stands for stable, and nobody is left beside it.
    /// What speaks against it then makes it suspect, for stable might have had the same.
    pub alone: bool,
    /// The evidence.
    pub evidence: &'a Evidence,
}

impl SloView<'_> {
    /// The share `F = A/B` of the window's budget that the attempt has spent; `None` while the number of
    /// requests in a window is unknown.
    pub fn spent(&self) -> Option<f64> {
        self.objective
            .share_spent(self.evidence.attributable_bad(), self.expected_requests)
    }

    /// The share of the window's budget that the attempt has spent if the requests that nobody saw answered failed;
    /// `None` as for [`spent`](Self::spent).
    pub fn spent_unanswered(&self) -> Option<f64> {
        let bad = self.evidence.attributable_bad() + self.evidence.missing();
        self.objective.share_spent(bad, self.expected_requests)
    }

    /// The bad requests that speak against it: beside stable, only those that stable did not have as well; alone, those
    /// beyond what was usual for stable too.
    fn charged_bad(&self) -> f64 {
        if self.alone {
            self.evidence.attributable_bad()
        } else {
            self.evidence.attributable_beside()
        }
    }

    /// What of the window's budget they have spent.
    fn charged(&self) -> Option<f64> {
        self.objective
            .share_spent(self.charged_bad(), self.expected_requests)
    }

    /// The attempt has spent what it may, by chance perhaps. Where that is fewer than five events, a few unlucky requests
    /// would spend it, and some evidence of harm is asked for as well, unless there is nobody beside it.
    pub fn has_spent_its_part(&self) -> bool {
        let (Some(spent), Some(requests)) = (self.charged(), self.expected_requests) else {
            return false;
        };
        let few = self.may_spend * self.objective.budget(requests) < FEW_EVENTS;
        spent >= self.may_spend && (self.alone || !few || self.is_somewhat_harmed())
    }

    /// It has spent what it may, and more than chance does, for the rule is looked at all the time.
    fn overspent(&self) -> bool {
        self.has_spent_its_part() && self.is_no_chance()
    }

    /// The canary alone burns fast enough to page somebody, with real spend, and with some evidence of harm
    /// unless it has all the traffic. A stable that burns as fast is no reason to blame the canary: beside it neither is
    /// blamed, and where stable's rate stands for it, only what is beyond that, and no chance, counts.
    fn burns(&self) -> bool {
        let beside = || self.evidence.stable_pages(self.objective).is_none() && self.is_somewhat_harmed();
        self.evidence.canary_pages(self.objective).is_some()
            && self.is_no_chance()
            && (self.alone || beside())
            && self
                .charged()
                .is_some_and(|spent| spent >= REAL_SPEND * self.may_spend)
    }

    /// Natural logarithm of the evidence of harm: that of the bake while it lasts.
    pub fn ln_harm(&self) -> f64 {
        if self.alone {
            self.evidence.ln_harm_alone()
        } else {
            self.evidence.ln_harm()
        }
    }

    /// What it has spent is more than chance does to its bad requests: three standard deviations of their number, as
    /// Poisson's distribution has it. A few requests never are that many, however certain they are: of these it is as
    /// unlikely that a canary at the upper bound of stable's rate has so many, by Chernoff's bound.
    fn is_no_chance(&self) -> bool {
        let (canary, charged) = (self.evidence.canary(), self.charged_bad());
        let bad = canary.bad();
        let usual = (canary.total() * self.evidence.stable_upper_bound()).max(bad - charged);
        let certain = bad > usual && bad * (bad / usual).ln() - (bad - usual) >= LN_CHANCE;
        charged >= CHANCE * bad.sqrt() || certain
    }

    fn is_somewhat_harmed(&self) -> bool {
        self.evidence.ln_harm() >= SOME_EVIDENCE.ln()
    }

    /// Requests of both, as far as they count.
    pub fn requests(&self) -> f64 {
        self.evidence.canary().total() + self.evidence.stable().total()
    }
}

/// The first objective that speaks against the canary: `E_harm >= m/α` for any of `m` objectives (its square in the first
/// seconds of counters, [`Evidence::is_young`]), or the
/// budget's share `F >= x` (and, where that is fewer than five events, `E_harm >= 5` too), or a burn rate that
/// pages while stable's does not (with `E_harm >= 5` and a quarter of `x` spent); or the canary completes no
/// request, which the objective with the most requests tells; or, where requests are counted at the route, it
/// answers none or less than four fifths of what is due to it, beyond `2m/α`; or, alone, far less than was usual. A canary that has all the traffic is judged
/// by its spend and its burn without `E_harm`, and by the evidence beside what stable's rate was: a suspicion
/// ([`Harm::alone`]), which a comparison beside stable has to bear out.
///
/// `objectives` is `m`: all that the attempt has, whether they have been read yet or not.
pub fn judge_harm(slos: &[SloView<'_>], objectives: usize, limits: &Limits) -> Option<Harm> {
    let needed = limits.ln_harm_needed(objectives.max(slos.len()));
    // Of young counters it takes the square: an outage is that far beyond it in one block.
    let shown_harmful = |slo: &SloView<'_>| {
        let young = !slo.alone && slo.evidence.is_young();
        slo.ln_harm() >= if young { 2.0 * needed } else { needed } && !slo.evidence.rests_on_one_pod()
    };
    let shown = slos.iter().find_map(|slo| {
        let kind = if shown_harmful(slo) {
            HarmKind::Evidence
        } else if slo.overspent() {
            HarmKind::BudgetSpent
        } else if slo.burns() {
            HarmKind::BurnRate
        } else {
            return None;
        };
        Some((slo, kind))
    });
    let silent = || {
        let busiest = slos.iter().max_by(|a, b| a.requests().total_cmp(&b.requests()))?;
        (busiest.evidence.ln_silent() >= limits.ln_harm_needed(1))
            .then_some((busiest, HarmKind::MissingResponses))
    };
    // Two products for each objective: that it answers nothing, and that it answers too little.
    let short = || {
        let enough = limits.ln_harm_needed(2 * objectives.max(slos.len()));
        let slo = slos
            .iter()
            .find(|slo| slo.evidence.ln_short().is_some_and(|ln| ln >= enough))?;
        let kind = if slo.evidence.ln_silent() >= enough {
            HarmKind::MissingResponses
        } else {
            HarmKind::FewResponses
        };
        Some((slo, kind))
    };
    let fewer = || {
        let busiest = slos.iter().max_by(|a, b| a.requests().total_cmp(&b.requests()))?;
        let kind = if busiest.evidence.fallen().is_some() {
            HarmKind::FewerRequests
        } else if busiest.evidence.has_stopped() {
            HarmKind::HardlyAny
        } else {
            return None;
        };
        busiest.alone.then_some((busiest, kind))
    };
    let (slo, kind) = shown.or_else(silent).or_else(short).or_else(fewer)?;
    Some(Harm {
        slo: slo.name.to_owned(),
        kind,
        canary_ratio: slo.evidence.canary().ratio().unwrap_or(0.0),
        stable_ratio: slo.evidence.stable().ratio().unwrap_or(0.0),
        canary_requests: slo.evidence.canary().total(),
        ln_harm: slo.ln_harm(),
        alone: slo.alone,
        spent: slo.spent(),
        burn: slo.evidence.canary_burn(slo.objective),
        left: slo.evidence.fallen(),
    })
}

/// The first objective that speaks against a revision which has been promoted: its evidence beside what stable's rate was
/// is that of harm ([`Limits::ln_harm_needed`]), and it burns fast enough to page somebody or has spent a quarter of what
/// a rollout may; or, where requests are counted at the route, it leaves too many unanswered. Nobody is left
/// to compare it with, so what a bake takes for a suspicion is not enough.
///
/// `objectives` is the number of all, whether they have been read yet or not.
pub fn judge_watch(slos: &[SloView<'_>], objectives: usize, limits: &Limits) -> Option<Harm> {
    let needed = limits.ln_harm_needed(objectives.max(slos.len()));
    let spends = |slo: &SloView<'_>| {
        let pages = slo.evidence.canary_pages(slo.objective).is_some();
        pages
            || slo
                .charged()
                .is_some_and(|spent| spent >= REAL_SPEND * slo.may_spend)
    };
    let convicts =
        |slo: &&SloView<'_>| slo.ln_harm() >= needed && !slo.evidence.rests_on_one_pod() && spends(slo);
    if let Some(slo) = slos.iter().find(convicts) {
        return judge_harm(&[*slo], objectives, limits);
    }
    judge_harm(slos, objectives, limits)
        .filter(|harm| matches!(harm.kind, HarmKind::MissingResponses | HarmKind::FewResponses))
}

/// Both burn the budget fast enough to page somebody, and stable faster than usual: an incident that the canary is
/// not to blame for, as long as the evidence does not say so. Nothing goes on meanwhile. Its first objective,
/// and stable's burn.
pub fn incident<'a>(slos: &[SloView<'a>], goes_on: bool) -> Option<(&'a str, f64)> {
    slos.iter()
        .find_map(|slo| Some((slo.name, slo.evidence.incident(slo.objective, goes_on)?)))
}

/// What becomes of the canary's requests that nobody saw answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// They say nothing: it is shown that the canary answers its share, or its share is not known.
    Ignored,
    /// They failed, as far as anybody can tell: they are spent, and more of its requests would be.
    Failed,
}

/// A move that could spend more than is left: the first objective, the share of its budget that the move
/// could spend at the worst that has not been ruled out, and the share that is left to the attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Overdraft {
    /// The objective.
    pub slo: String,
    /// What the move could spend: `(U_Δ + h) · w · T / (b·W)`.
    pub could_spend: f64,
    /// What is left: `x − F`.
    pub left: f64,
    /// Requests that nobody saw answered and that count as failed.
    pub unanswered: f64,
}

/// Whether the budget bears the share `next` (above 0, at most 1) of the traffic for `time`, at the worst
/// that has not been ruled out: `(U_Δ + h) · next · time / (b·W) <= x − F`. Where `unanswered` requests count as failed, `h`
/// is their share of the canary's, and `F` has them as well.
pub fn affordable(
    slos: &[SloView<'_>],
    limits: &Limits,
    next: f64,
    time: SignedDuration,
    unanswered: Unanswered,
) -> Result<(), Overdraft> {
    let over = slos.iter().find_map(|slo| {
        let missing = match unanswered {
            Unanswered::Ignored => 0.0,
            Unanswered::Failed => slo.evidence.missing(),
        };
        let answered = slo.evidence.canary().total();
        let hangs = if missing > 0.0 {
            missing / (missing + answered)
        } else {
            0.0
        };
        let worst = (slo.evidence.harm_upper_margin(limits.ln_safe_needed()) + hangs).min(1.0);
        let could_spend = slo.objective.share_spent_in(worst * next, time);
        let bad = slo.charged_bad() + missing;
        let spent = slo.objective.share_spent(bad, slo.expected_requests);
        let left = slo.may_spend - spent.unwrap_or(0.0);
        // A millionth for the rounding of two ways to the same number.
        (could_spend > left * (1.0 + 1e-6)).then(|| Overdraft {
            slo: slo.name.to_owned(),
            could_spend,
            left,
            unanswered: missing,
        })
    });
    over.map_or(Ok(()), Err)
}

/// The margin that safety must be shown at before a step to the share `next` (above 0, at most 1):
/// `min(0.5, max(b, 0.005·b·W / (next·300 s)))`.
pub fn margin_for_step(objective: &Objective, next: f64) -> f64 {
    let b = objective.bad_fraction;
    let affordable = STEP_SPEND * b * objective.window.as_secs_f64() / (next.max(0.01) * STEP_TIME);
    affordable.max(b).min(MOST_MARGIN)
}

/// The margin that safety must be shown at before full traffic: `max(b, x·b·W / T_watch)`, at most 0.5.
pub fn margin_for_promotion(objective: &Objective, limits: &Limits, watch: SignedDuration) -> f64 {
    let b = objective.bad_fraction;
    let affordable =
        limits.max_budget_spend * b * objective.window.as_secs_f64() / watch.as_secs_f64().max(1.0);
    affordable.max(b).min(MOST_MARGIN)
}

/// Which objective lacks how much.
#[derive(Clone, Debug, PartialEq)]
pub struct Lack {
    /// The objective.
    pub slo: String,
    /// Logarithm of its evidence for safety.
    pub ln_safe: f64,
    /// The canary's requests.
    pub canary_requests: f64,
}

/// Every objective is shown safe for a step to the share `next` (above 0, at most 1).
pub fn safe_for_step(slos: &[SloView<'_>], limits: &Limits, next: f64) -> Result<(), Lack> {
    safe(slos, limits, |objective| margin_for_step(objective, next))
}

/// Every objective is shown safe for full traffic.
pub fn safe_for_promotion(slos: &[SloView<'_>], limits: &Limits, watch: SignedDuration) -> Result<(), Lack> {
    safe(slos, limits, |objective| {
        margin_for_promotion(objective, limits, watch)
    })
}

fn safe(slos: &[SloView<'_>], limits: &Limits, margin: impl Fn(&Objective) -> f64) -> Result<(), Lack> {
    let lack = |slo: &str, ln_safe, canary_requests| Lack {
        slo: slo.to_owned(),
        ln_safe,
        canary_requests,
    };
    if slos.is_empty() {
        return Err(lack("no objective", f64::NEG_INFINITY, 0.0));
    }
    let worst = slos
        .iter()
        .map(|slo| (slo, slo.evidence.ln_safe_at(margin(slo.objective))))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    match worst {
        Some((slo, ln)) if ln < limits.ln_safe_needed() || slo.evidence.canary().total() <= 0.0 => {
            Err(lack(slo.name, ln, slo.evidence.canary().total()))
        }
        _ => Ok(()),
    }
}
