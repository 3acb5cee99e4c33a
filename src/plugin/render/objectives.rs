//! The table of objectives: what was counted, and what it is evidence of.

use jiff::SignedDuration;
use molt_core::analysis::{BURN_RATES, Objective};
use molt_core::state::{SloEvidence, State};
use serde::Serialize;

use crate::api::v1alpha1::{Analysis, CountsStatus, PythonService, PythonServiceStatus, SloStatus};
use crate::controller::status;
use crate::plugin::text::{Style, columns, grouped, ratio};

/// The window of an objective that names none.
const WINDOW: SignedDuration = SignedDuration::from_hours(30 * 24);

const TITLES: [&str; 8] = [
    "objective",
    "",
    "canary",
    "stable",
    "burn rate",
    "harm",
    "safe",
    "error budget",
];

/// One line for each objective; while nothing runs, what the last attempt counted.
pub(in crate::plugin) fn table(
    service: &PythonService,
    status: &PythonServiceStatus,
    state: &State,
    style: Style,
) -> String {
    let live = status.slos.clone().unwrap_or_default();
    let needed = Needed::of(service);
    let mut rows = vec![TITLES.map(|title| style.dim(title)).to_vec()];
    rows.extend(live.iter().map(|slo| row(service, slo, &needed, style)));
    if live.is_empty() {
        let last = state.last.as_ref().filter(|_| state.attempt.is_none());
        let counted = last.map_or(&[][..], |last| &last.evidence);
        // A first deployment is compared with nothing, and has counted nothing.
        let counted = counted.iter().filter(|slo| slo.evidence.canary().total() > 0.0);
        rows.extend(counted.map(|slo| past_row(service, slo, &needed)));
    }
    if rows.len() == 1 {
        String::new()
    } else {
        columns(&rows, "  ")
    }
}

fn row(service: &PythonService, slo: &SloStatus, needed: &Needed, style: Style) -> Vec<String> {
    let verdict = match slo.verdict.as_str() {
        "Safe" => style.good("Safe"),
        "RollBack" => style.bad("RollBack"),
        "NoData" => style.busy("NoData"),
        other => other.to_owned(),
    };
    let remaining = slo.budget_remaining.as_deref().unwrap_or("an unknown share");
    vec![
        named(service, &slo.name),
        verdict,
        counts(&slo.canary),
        ratio(slo.stable.total, slo.stable.bad),
        burn(service, slo, style),
        format!("{} of {}", slo.evidence.harm, needed.harm),
        format!("{} of {}", slo.evidence.safe, needed.safe),
        format!(
            "{} spent of {}, {remaining} was left",
            slo.spent_by_rollout, needed.spend
        ),
    ]
}

fn past_row(service: &PythonService, slo: &SloEvidence, needed: &Needed) -> Vec<String> {
    let plain = |counts: molt_core::analysis::Counts| CountsStatus {
        total: counts.total().round() as i64,
        bad: counts.bad().round() as i64,
    };
    let (canary, stable) = (plain(slo.evidence.canary()), plain(slo.evidence.stable()));
    let left = match slo.budget_remaining_ppm {
        Some(ppm) => format!("{:.1}% was left", ppm as f64 / 10_000.0),
        None => "an unknown share was left".to_owned(),
    };
    let spent = spent(service, slo, needed);
    let harm = slo.evidence.ln_harm_at_end().exp();
    let harm = match harm {
        1e6.. => "over 1,000,000".to_owned(),
        100.0.. => grouped(harm.round() as i64),
        _ => format!("{harm:.1}"),
    };
    vec![
        named(service, &slo.name),
        "ended".to_owned(),
        counts(&canary),
        ratio(stable.total, stable.bad),
        "-".to_owned(),
        format!("{harm} of {}", needed.harm),
        "-".to_owned(),
        format!("{spent}, {left}"),
    ]
}

/// The share of the window's error budget that an attempt has spent; where it is not known, why, and who knows more.
fn spent(service: &PythonService, slo: &SloEvidence, needed: &Needed) -> String {
    let told = |share| format!("{} spent of {}", status::spent(Some(share)), needed.spend);
    let bad = slo.evidence.attributable_bad();
    // Nothing is nothing, however large the budget is.
    if bad <= 0.0 {
        return told(0.0);
    }
    let Some(objective) = objective(service, &slo.name) else {
        return "an unknown share spent, for the spec does not have this objective any more".to_owned();
    };
    let requests = slo.expected_requests.map(|requests| requests as f64);
    // By its own traffic the operator reckoned while it ran: that is in the record.
    objective.share_spent(bad, requests).map_or_else(
        || "what it spent is in kubectl molt history, by its own traffic, for of that before it nothing is known".to_owned(),
        told,
    )
}

fn objective(service: &PythonService, name: &str) -> Option<Objective> {
    let spec = service.spec.slos.iter().find(|spec| spec.name == name)?;
    let window = match &spec.window {
        Some(window) => window.parse().ok()?,
        None => WINDOW,
    };
    Objective::parse(&spec.objective.0, window)
}

/// How fast both revisions burn the budget now, and what the rollout adds for the whole service. A canary
/// that would page somebody if it were the whole service stands out.
fn burn(service: &PythonService, slo: &SloStatus, style: Style) -> String {
    let Some(burn) = &slo.burn else {
        return "-".to_owned();
    };
    let text = |rate: &Option<String>| rate.clone().unwrap_or_else(|| "unknown".to_owned());
    let pages = objective(service, &slo.name).map(|o| BURN_RATES[0].factor(o.window));
    let rate: Option<f64> = burn.canary.as_ref().and_then(|rate| rate.parse().ok());
    let canary = match rate.zip(pages) {
        Some((rate, pages)) if rate > pages => style.bad(&text(&burn.canary)),
        _ => text(&burn.canary),
    };
    let (stable, added) = (text(&burn.stable), text(&burn.attributable));
    format!("{canary}, stable {stable}; adds {added}")
}

/// The name with its objective: `availability 99.9%`.
pub(in crate::plugin) fn named(service: &PythonService, name: &str) -> String {
    match service.spec.slos.iter().find(|slo| slo.name == name) {
        Some(slo) => format!("{name} {}%", slo.objective.0),
        None => name.to_owned(),
    }
}

fn counts(counts: &CountsStatus) -> String {
    let (total, bad) = (grouped(counts.total), grouped(counts.bad));
    format!(
        "{total} requests, {bad} bad ({})",
        ratio(counts.total, counts.bad)
    )
}

/// How much evidence a decision needs, and how much budget an attempt may spend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Needed {
    /// For harm, as a factor; grouped by thousands.
    pub harm: String,
    /// For safety, as a factor; grouped by thousands.
    pub safe: String,
    /// Of the window's error budget: `2%`.
    pub spend: String,
}

impl Needed {
    /// By the spec, as far as it can be read; else the defaults.
    pub(crate) fn of(service: &PythonService) -> Self {
        Self::by(
            service.spec.analysis.clone().unwrap_or_default(),
            service.spec.slos.len(),
        )
    }

    /// By the analysis, and the number of objectives.
    pub(crate) fn by(analysis: Analysis, objectives: usize) -> Self {
        let Analysis {
            false_rollback_probability,
            safe_confidence,
            max_budget_spend,
            ..
        } = analysis;
        let number = |field: Option<crate::api::v1alpha1::Decimal>, default: f64| {
            field
                .and_then(|decimal| decimal.parse().ok())
                .filter(|p| *p > 0.0 && *p < 1.0)
                .unwrap_or(default)
        };
        let objectives = objectives.max(1) as f64;
        let harm = objectives / number(false_rollback_probability, 0.01);
        let safe = 1.0 / (1.0 - number(safe_confidence, 0.95));
        Self {
            harm: grouped(harm.round() as i64),
            safe: grouped(safe.round() as i64),
            spend: max_budget_spend.map_or_else(|| "2%".to_owned(), |percent| percent.0),
        }
    }
}
