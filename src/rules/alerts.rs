//! Multi-window, multi-burn-rate alerts.
//!
//! From the SRE workbook, chapter 5: a rule fires while both a long window and a twelfth of it burn the budget
//! faster than a factor; the short one ends the alert soon after the cause. There is no `for`: the long window
//! is what waits.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use molt_core::analysis::{BURN_RATES, BurnRate, Severity};

use super::recording::{EVENTS, REMAINING, ratio};
use super::{Rule, Target, decimal, time};

/// Fires while the budget burns too fast.
pub const BURN: &str = "SLOErrorBudgetBurn";
/// Fires when a service that was measured no longer is.
pub const MISSING: &str = "SLOMetricsMissing";

/// A rule with a lower factor would fire while, at the same rate, half of the budget outlasted the window.
const LOWEST_FACTOR: f64 = 0.5;

/// Adds the alerts beside the records that they read, and notes what is left out.
pub(super) fn add(target: &Target<'_>, fast: &mut Vec<Rule>, slow: &mut Vec<Rule>, notes: &mut Vec<String>) {
    for rate in &BURN_RATES {
        if let Some(why) = useless(target, rate) {
            notes.push(format!(
                "{}: no {} alert over {} and {}: {why}",
                target.slo.name,
                severity(rate.severity),
                time(rate.long),
                time(rate.short()),
            ));
            continue;
        }
        let rules = match rate.severity {
            Severity::Page => &mut *fast,
            Severity::Ticket => &mut *slow,
        };
        rules.push(burn(target, rate));
    }
    slow.push(missing(target));
}

/// The rules of the table that make sense for an objective.
pub(super) fn of(target: &Target<'_>) -> impl DoubleEndedIterator<Item = &'static BurnRate> {
    BURN_RATES.iter().filter(|rate| useless(target, rate).is_none())
}

/// Why a rule of the table makes no sense for an objective.
fn useless(target: &Target<'_>, rate: &BurnRate) -> Option<String> {
    let objective = &target.slo.objective;
    let factor = rate.factor(objective.window);
    if factor * objective.bad_fraction >= 1.0 {
        return Some(format!(
            "even if every event were bad, the budget would not burn {} times as fast as it lasts",
            rounded(factor)
        ));
    }
    (factor < LOWEST_FACTOR).then(|| {
        format!(
            "it would fire while half of the budget outlasted the window of {}",
            time(objective.window)
        )
    })
}

fn burn(target: &Target<'_>, rate: &BurnRate) -> Rule {
    let objective = &target.slo.objective;
    let budget = decimal(objective.bad_fraction);
    let factor = rounded(rate.factor(objective.window));
    let (long, short) = (time(rate.long), time(rate.short()));
    let burns = |window| format!("{} / {budget} > {factor}", target.series(&ratio(window)));
    let expr = format!("({}) and ({})", burns(rate.long), burns(rate.short()));

    let (service, namespace) = (target.subject.service, target.subject.namespace);
    let (slo, window) = (&target.slo.name, time(objective.window));
    let spent = decimal(rate.spent * 100.0);
    let description = format!(
        "Over the last {long} the error budget of {slo} burned {{{{ $value | humanize }}}} times as fast as it lasts \
         ({factor} times spends {spent}% of the {window} budget in {long}). {}{}",
        counted(target, rate.long),
        left(target),
    );
    Rule::Alert {
        alert: BURN,
        expr,
        labels: labels(
            target,
            &[
                ("severity", severity(rate.severity)),
                ("long_window", &long),
                ("short_window", &short),
            ],
        ),
        annotations: annotations(
            format!(
                "{namespace}/{service} burns the error budget of {slo} {{{{ $value | humanize }}}} times as fast as it lasts"
            ),
            description,
            target,
        ),
    }
}

/// How many events the ratio is made of: with little traffic one error is a high ratio, and this tells. Bad ones by the
/// ratio, for a mean of their rates is behind it.
fn counted(target: &Target<'_>, window: SignedDuration) -> String {
    let events = format!(
        "avg_over_time({}[{}]) * {}",
        target.series(EVENTS),
        time(window),
        window.as_secs(),
    );
    let bad = format!("{} * {events}", target.series(&ratio(window)));
    let count = |query: &str| {
        format!("{{{{ with query `{query}` }}}}{{{{ . | first | value | printf \"%.0f\" }}}}{{{{ end }}}}")
    };
    format!("About {} of {} events were bad. ", count(&bad), count(&events))
}

/// What is left of the budget, and for how long at this rate.
fn left(target: &Target<'_>) -> String {
    format!(
        "{{{{ with query `{}` }}}}{{{{ $left := . | first | value }}}}\
         {{{{ if gt $left 0.0 }}}}{{{{ $left | humanizePercentage }}}} of the budget is left\
         {{{{ with query (printf `{} * {} / %f` $value) }}}}; at this rate it is gone in \
         {{{{ . | first | value | humanizeDuration }}}}{{{{ end }}}}.\
         {{{{ else }}}}The budget is gone already.{{{{ end }}}}{{{{ end }}}}",
        target.series(REMAINING),
        // `printf` takes a percent sign for a verb.
        target.series(REMAINING).replace('%', "%%"),
        target.window().as_secs(),
    )
}

fn missing(target: &Target<'_>) -> Rule {
    let events = target.series(EVENTS);
    let (service, namespace, slo) = (target.subject.service, target.subject.namespace, &target.slo.name);
    Rule::Alert {
        alert: MISSING,
        expr: format!("last_over_time({events}[1d]) unless last_over_time({events}[1h])"),
        labels: labels(target, &[("severity", severity(Severity::Ticket))]),
        annotations: annotations(
            format!("{slo} of {namespace}/{service} is no longer measured"),
            format!(
                "For an hour there have been no series of the events that {slo} counts, so no other alert of it can \
                 fire. Is the service scaled to zero, are its pods still scraped, were its metrics renamed?"
            ),
            target,
        ),
    }
}

/// The objective's labels, which tell it from others before the expression has been looked at, and more.
fn labels(target: &Target<'_>, more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut labels = target.labels();
    labels.extend(
        target
            .subject
            .owner
            .map(|owner| ("owner".to_owned(), literal(owner))),
    );
    labels.extend(
        more.iter()
            .map(|(label, value)| ((*label).to_owned(), (*value).to_owned())),
    );
    labels
}

fn annotations(summary: String, description: String, target: &Target<'_>) -> BTreeMap<&'static str, String> {
    let (service, namespace) = (target.subject.service, target.subject.namespace);
    let mut annotations = BTreeMap::from([
        ("summary", summary),
        ("description", description),
        ("command", format!("kubectl molt status {service} -n {namespace}")),
    ]);
    annotations.extend(target.subject.runbook.map(|url| ("runbook_url", literal(url))));
    annotations
}

/// A text of people's as it is: labels and annotations are templates.
fn literal(text: &str) -> String {
    text.replace("{{", "{{ `{{` }}")
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Page => "page",
        Severity::Ticket => "ticket",
    }
}

/// A factor with four decimals at most.
fn rounded(factor: f64) -> String {
    decimal((factor * 10_000.0).round() / 10_000.0)
}
