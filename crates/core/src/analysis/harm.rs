//! Why a rollout is rolled back, and how that is told.

use std::fmt;

/// Why a rollout is rolled back.
#[derive(Clone, Debug, PartialEq)]
pub struct Harm {
    /// The objective.
    pub slo: String,
    /// The rule.
    pub kind: HarmKind,
    /// The canary's bad ratio.
    pub canary_ratio: f64,
    /// Stable's bad ratio in the same time.
    pub stable_ratio: f64,
    /// The canary's requests.
    pub canary_requests: f64,
    /// Logarithm of the evidence.
    pub ln_harm: f64,
    /// The canary had all the traffic: a suspicion, for stable may have had the same.
    pub alone: bool,
    /// The share of the budget that is spent.
    pub spent: Option<f64>,
    /// The canary's burn rate, where that is the rule.
    pub burn: Option<f64>,
    /// The part of the usual requests that is still answered, where that is the rule.
    pub left: Option<f64>,
}

/// The rule by which a rollout is rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HarmKind {
    /// The canary is worse than stable beyond doubt.
    Evidence,
    /// The rollout has spent the budget that it may spend.
    BudgetSpent,
    /// The canary alone burns the budget fast enough to page somebody.
    BurnRate,
    /// The canary takes requests and does not answer them.
    MissingResponses,
    /// The canary answers less than four fifths of the requests that the route sends to it.
    FewResponses,
    /// The canary has all the traffic and answers far fewer requests than were usual: a suspicion, and no more unless all
    /// users moved at once.
    FewerRequests,
    /// The canary has all the traffic and answered hardly anything for a whole block: a suspicion, and no more.
    HardlyAny,
}

impl Harm {
    /// Fewer callers than usual look the same.
    pub fn may_be_the_callers(&self) -> bool {
        matches!(self.kind, HarmKind::FewerRequests | HarmKind::HardlyAny)
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compared = format!(
            "{}: {:.2} % of {:.0} requests to the canary were bad, {:.2} % at stable {}",
            self.slo,
            self.canary_ratio * 100.0,
            self.canary_requests,
            self.stable_ratio * 100.0,
            if self.alone { "so far" } else { "in the same time" }
        );
        match self.kind {
            HarmKind::Evidence => {
                write!(f, "{compared}; evidence of harm {}", factor(self.ln_harm))
            }
            HarmKind::BudgetSpent => write!(
                f,
                "{compared}; the rollout has spent {:.2} % of the error budget",
                self.spent.unwrap_or(0.0) * 100.0
            ),
            HarmKind::BurnRate => write!(
                f,
                "{compared}; the canary burns the error budget {:.1} times as fast as its window allows, {}",
                self.burn.unwrap_or(0.0),
                if self.alone {
                    "and more of it than stable usually did"
                } else {
                    "stable does not"
                }
            ),
            HarmKind::MissingResponses => write!(
                f,
                "{}: missing responses: the canary has weight, but completes none of the requests that are due ({:.0} completed before)",
                self.slo, self.canary_requests
            ),
            HarmKind::FewerRequests => write!(
                f,
                "{}: the canary answers {:.0} % of the requests that were usual before it had all the traffic",
                self.slo,
                self.left.unwrap_or(0.0) * 100.0
            ),
            HarmKind::HardlyAny => write!(
                f,
                "{}: the canary has all the traffic and answered hardly anything for a whole block",
                self.slo
            ),
            HarmKind::FewResponses => write!(
                f,
                "{}: missing responses: the canary answers less than four fifths of the requests that the route brings to it ({:.0} answered)",
                self.slo, self.canary_requests
            ),
        }
    }
}

/// A factor of evidence for people: more than a million is a million.
fn factor(ln: f64) -> String {
    if ln > 1e6f64.ln() {
        "over 1,000,000".to_owned()
    } else {
        format!("{:.0}", ln.exp())
    }
}
