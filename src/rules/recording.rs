//! What is recorded of each objective.
//!
//! The counters are read as rates over 5 minutes, all events and bad ones. Windows of more than an hour are ratios of
//! sums of these two: weighted by requests, as a budget is, and cheap however many pods come and go.
//!
//! But a sum of them sees an event fade in: `t` seconds into an outage, it has `t²/600` of them, and `t − 150` from five
//! minutes on. Where 51.8 s of a total outage are to page, it would take 176. So the windows up to an hour, by
//! which people are woken, read the counters themselves.
//!
//! The page over 6h stays with the sums: it would read 1440 samples of each series, twice, every 30 s, to come 150 s
//! earlier. What it alone tells of are errors of 0.6 to 1.44 % (where 0.1 % may fail in 30 days), and it takes these 2½
//! to 6 hours to spend what it waits for.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use molt_core::analysis::BURN_RATES;

use super::{Rule, Subject, Target, decimal, time};
use crate::metric_sources::prometheus::promql::Rates;

/// Events per second.
pub const EVENTS: &str = "molt:slo_events:rate5m";
/// Bad events per second; absent where what is bad can't be told.
pub const BAD_EVENTS: &str = "molt:slo_bad_events:rate5m";
/// Events per second of each revision, which the label `revision` names.
pub const EVENTS_BY_REVISION: &str = "molt:slo_events_by_revision:rate5m";
/// The share of bad events of each revision.
pub const BAD_BY_REVISION: &str = "molt:slo_bad_by_revision:ratio_rate5m";
/// The objective, 0 to 1.
pub const OBJECTIVE: &str = "molt:slo_objective:ratio";
/// The error budget, 0 to 1: the share of events that may be bad.
pub const BUDGET: &str = "molt:slo_error_budget:ratio";
/// The window of the objective in seconds.
pub const WINDOW: &str = "molt:slo_window:seconds";
/// The share of the window's budget that is left; below 0 it is overspent.
pub const REMAINING: &str = "molt:slo_error_budget_remaining:ratio";

/// What the rates are taken over: the shortest window.
const BASE: SignedDuration = SignedDuration::from_mins(5);
/// Up to here a window is read from the counters themselves.
const DIRECT: SignedDuration = SignedDuration::from_hours(1);
/// From here on a window is long enough to be looked at less often.
const SLOW: SignedDuration = SignedDuration::from_hours(24);

/// The share of bad events over a window.
pub fn ratio(window: SignedDuration) -> String {
    format!("molt:slo_bad:ratio_rate{}", time(window))
}

/// The rules that are evaluated often, and those that need not be.
pub(super) fn records(target: &Target<'_>) -> (Vec<Rule>, Vec<Rule>) {
    let subject = target.subject;
    let labels = target.labels();
    let record = |name: &str, expr: String| Rule::Record {
        record: name.to_owned(),
        expr,
        labels: labels.clone(),
    };
    let all = Rates::of_service(subject, &target.slo.sli, BASE);
    let each = Rates::by_revision(subject, &target.slo.sli, BASE);
    let (events, events_of_each) = (target.series(EVENTS), target.series(EVENTS_BY_REVISION));

    let budget = target.slo.objective.bad_fraction;
    let mut fast = vec![
        record(OBJECTIVE, format!("vector({})", decimal(1.0 - budget))),
        record(BUDGET, format!("vector({})", decimal(budget))),
        record(WINDOW, format!("vector({})", target.window().as_secs())),
        record(EVENTS, all.events()),
        record(BAD_EVENTS, all.bad(&events)),
    ];
    if let Some(each) = each {
        let (bad, events) = (each.bad(&events_of_each), each.recorded(&events_of_each));
        fast.push(record(EVENTS_BY_REVISION, each.events()));
        fast.push(record(BAD_BY_REVISION, format!("({bad}) / ({events} > 0)")));
    }
    let mut slow = Vec::new();
    for window in windows() {
        let rule = record(&ratio(window), bad_ratio(target, window));
        if window < SLOW {
            fast.push(rule);
        } else {
            slow.push(rule);
        }
    }
    let spent = bad_ratio(target, target.window());
    slow.push(record(REMAINING, format!("1 - {spent} / {}", decimal(budget))));
    (fast, slow)
}

/// Every window that an alert looks at, shortest first.
fn windows() -> BTreeSet<SignedDuration> {
    BURN_RATES
        .iter()
        .flat_map(|rate| [rate.short(), rate.long])
        .chain([BASE])
        .collect()
}

/// Bad events by all events over a window; nothing while there are none.
fn bad_ratio(target: &Target<'_>, window: SignedDuration) -> String {
    let (bad, events) = (target.series(BAD_EVENTS), target.series(EVENTS));
    if window <= BASE {
        return format!("{bad} / ({events} > 0)");
    }
    let over = time(window);
    if window <= DIRECT {
        let rates = Rates::of_service(target.subject, &target.slo.sli, window);
        // Only that there were events matters here: to read their counters once more would tell nothing else.
        let seen = format!("last_over_time({events}[{over}])");
        return format!("({}) / ({} > 0)", rates.bad(&seen), rates.events());
    }
    format!("sum_over_time({bad}[{over}]) / (sum_over_time({events}[{over}]) > 0)")
}

/// The labels that are the same on every series recorded of a service.
pub(super) fn service_labels(subject: Subject<'_>) -> BTreeMap<String, String> {
    let mut labels = subject.source.matchers.clone();
    for (label, value) in [("namespace", subject.namespace), ("service", subject.service)] {
        labels.insert(label.to_owned(), value.to_owned());
    }
    labels
}
