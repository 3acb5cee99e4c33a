//! Metrics of other tools as conditions: a query, a URL or a Job, and the threshold that it must keep.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Value, json};

use super::draft::{Asked, Draft, Fate, duration, millis};
use super::input::{Fields, Wrong};

/// Values that take the place of `{{…}}` in a query.
pub(super) type Arguments = BTreeMap<String, String>;

/// A metric of one of Argo's templates; one whose name is in `dry` is evaluated and counts for nothing.
pub(super) fn of_argo(
    draft: &mut Draft,
    mut metric: Fields,
    arguments: &Arguments,
    dry: &[Regex],
) -> Result<(), Wrong> {
    let name = metric.text("name")?.unwrap_or_else(|| "metric".to_owned());
    let mut only_warns = dry.iter().any(|pattern| pattern.is_match(&name));
    let field = metric.path("");
    let field = format!("{} ({name})", field.trim_end_matches('.'));
    let limit = match metric.text("failureLimit")? {
        None => None,
        Some(text) => match text.trim().parse::<f64>().ok().filter(|limit| limit.is_finite()) {
            Some(limit) if limit < 0.0 => {
                let why = format!(
                    "{limit} bears any number of failures: it is evaluated and told, and decides nothing (mode: Warn)"
                );
                draft.note(Fate::Approximated, metric.path("failureLimit"), why);
                only_warns = true;
                None
            }
            Some(limit) => Some(limit),
            None if text.contains("{{") => {
                let why = format!("{text}: its value is only known in a rollout; 0 is written");
                draft.note(Fate::Approximated, metric.path("failureLimit"), why);
                None
            }
            None => return Err(metric.wrong("failureLimit", format!("has {text:?}, and wants a number"))),
        },
    };
    let (success, failure) = (metric.text("successCondition")?, metric.text("failureCondition")?);
    let mut provider = metric.fields("provider")?;
    for given in ["interval", "initialDelay", "count"] {
        if metric.take(given).is_some() {
            let why = "a query is evaluated in every block of two scrape intervals while users are on the canary, a Job once at each weight";
            draft.note(Fate::NotCarriedOver, metric.path(given), why);
        }
    }
    draft.rest(&metric, |last| match last {
        "inconclusiveLimit" | "consecutiveErrorLimit" => {
            Some("no number is neither success nor failure here; analysis.onInconclusive says what follows")
        }
        _ => None,
    });
    let mut condition = json!({});
    if only_warns {
        condition["mode"] = json!("Warn");
    }
    let mut asks = None;
    if let Some(mut prometheus) = provider.maybe("prometheus")? {
        asks = query_check(draft, &field, &mut prometheus, arguments, &mut condition)?;
        if condition.get("query").is_none() {
            return Ok(());
        }
    } else if let Some(mut web) = provider.maybe("web")? {
        web_check(draft, &field, &mut web, arguments, &mut condition)?;
        if condition.get("web").is_none() {
            return Ok(());
        }
    } else if let Some(mut job) = provider.maybe("job")? {
        return job_check(draft, &field, &name, &mut job, arguments, condition, limit);
    } else {
        let last = |path: String| path.rsplit('.').next().unwrap_or_default().to_owned();
        let kinds: Vec<String> = provider.rest().into_iter().map(last).collect();
        let kinds = if kinds.is_empty() {
            "none".to_owned()
        } else {
            kinds.join(", ")
        };
        let why =
            format!("its provider is {kinds}; a condition is PromQL, a URL that answers with JSON, or a Job");
        draft.drop_metric(&field, why);
        return Ok(());
    }
    let wanted = success.as_deref().and_then(|text| bound(text, false));
    let unwanted = failure.as_deref().and_then(|text| bound(text, true));
    let by_success = wanted.is_some();
    let Some(wanted) = wanted.or(unwanted) else {
        let written = success.or(failure).unwrap_or_else(|| "none".to_owned());
        let why = format!(
            "its condition {written:?} is not one number compared with another: write one query for each comparison"
        );
        draft.drop_metric(&field, why);
        return Ok(());
    };
    if success.is_some() && failure.is_some() {
        other_bound(draft, &field, by_success);
    }
    condition["successCondition"] = json!(wanted);
    set_limit(draft, &field, &mut condition, limit);
    draft.condition(&field, &name, condition, asks);
    Ok(())
}

/// Tells which of two conditions is left out.
fn other_bound(draft: &mut Draft, field: &str, by_success: bool) {
    let (left, why) = if by_success {
        (
            "failureCondition",
            "one bound is all there is: what does not meet successCondition has failed",
        )
    } else {
        (
            "successCondition",
            "is not one number compared with another, and one bound is all there is: what does not meet failureCondition has succeeded",
        )
    };
    draft.note(Fate::NotCarriedOver, format!("{field}.{left}"), why);
}

/// Writes the query, if it is known, and gives the Prometheus that is to be asked.
fn query_check(
    draft: &mut Draft,
    field: &str,
    prometheus: &mut Fields,
    arguments: &Arguments,
    condition: &mut Value,
) -> Result<Option<Asked>, Wrong> {
    let query = prometheus.text("query")?.unwrap_or_default();
    let Some(query) = filled(&query, arguments) else {
        let why = "its query has an argument whose value is only known in a rollout: write $selector for the pods of the revision under test, and add it to guards.conditions";
        draft.drop_metric(field, why);
        return Ok(None);
    };
    let address = prometheus.text("address")?;
    let asks = address.and_then(|address| {
        let address = filled(&address, arguments).unwrap_or(address);
        asked(draft, prometheus.path("address"), address)
    });
    draft.rest(prometheus, |field| {
        Some(match field {
            "rangeQuery" => {
                "a query is evaluated at one moment: name the range in it, as in max_over_time(…[5m])"
            }
            "timeout" => "a query has the time of metrics.prometheus.timeout",
            "insecure" => "TLS is checked always",
            _ => "a Prometheus that asks for headers: metrics.prometheus.headersFrom",
        })
    });
    condition["query"] = json!(query);
    without_selector(draft, field, &query);
    Ok(asks)
}

fn web_check(
    draft: &mut Draft,
    field: &str,
    web: &mut Fields,
    arguments: &Arguments,
    condition: &mut Value,
) -> Result<(), Wrong> {
    let url = web.text("url")?.unwrap_or_default();
    let Some(url) = filled(&url, arguments) else {
        draft.drop_metric(field, "its url has an argument whose value is only known in a rollout: write one without, and add it to guards.conditions");
        return Ok(());
    };
    let path = web.text("jsonPath")?.unwrap_or_default();
    let path = path.trim().trim_start_matches('{').trim_end_matches('}').trim();
    let path = if path.starts_with('$') {
        path.to_owned()
    } else {
        format!("$.{}", path.trim_start_matches('.'))
    };
    condition["web"] = json!({"url": url, "jsonPath": path});
    if let Some(seconds) = web.number("timeoutSeconds")? {
        let used = seconds.round().clamp(1.0, 10.0);
        if (used - seconds).abs() > f64::EPSILON {
            let why = format!("{seconds} is written as {used}: whole seconds, and at most 10");
            draft.note(Fate::Approximated, web.path("timeoutSeconds"), why);
        }
        condition["web"]["timeoutSeconds"] = json!(used as i64);
    }
    if web.take("headers").is_some() {
        let why = "headers come from a Secret: name one in web.headersFrom, and give the operator the right to read it";
        draft.note(Fate::NotCarriedOver, format!("{field}.headers"), why);
    }
    draft.rest(web, |_| {
        Some("a URL is asked by GET, and its answer wants a number at jsonPath")
    });
    Ok(())
}

fn job_check(
    draft: &mut Draft,
    field: &str,
    name: &str,
    job: &mut Fields,
    arguments: &Arguments,
    mut condition: Value,
    limit: Option<f64>,
) -> Result<(), Wrong> {
    let mut spec = job.fields("spec")?;
    let template = spec.take("template").unwrap_or_else(|| json!({}));
    let template = filled_in(template, arguments);
    if template.to_string().contains("{{") {
        draft.drop_metric(field, "its Job has an argument whose value is only known in a rollout, and would fail with the braces: write one without, and add it to guards.conditions");
        return Ok(());
    }
    let mut check = json!({"template": template});
    if let Some(policy) = check
        .pointer_mut("/template/spec/restartPolicy")
        .filter(|policy| **policy != "Never")
    {
        *policy = json!("Never");
        draft.note(
            Fate::Approximated,
            format!("{field}.job.spec.template.spec.restartPolicy"),
            "is written as Never: nothing is retried within a run",
        );
    }
    if let Some(seconds) = spec.number("activeDeadlineSeconds")? {
        check["timeout"] = json!(duration(seconds.clamp(1.0, 2_592_000.0) * 1000.0));
    }
    if spec.number("backoffLimit")?.is_some_and(|times| times > 0.0) {
        draft.note(
            Fate::NotCarriedOver,
            format!("{field}.job.spec.backoffLimit"),
            "a Job that fails has failed: nothing is tried again within a run; failureLimit bears failed runs",
        );
    }
    draft.rest(&spec, |_| {
        Some("a condition's Job has a template, a timeout and an interval")
    });
    draft.rest(job, |_| None);
    condition["job"] = check;
    set_limit(draft, field, &mut condition, limit);
    draft.condition(field, name, condition, None);
    Ok(())
}

/// A metric of a Flagger Canary whose query is known: one condition for each end of its range.
pub(super) fn of_flagger(
    draft: &mut Draft,
    field: &str,
    name: &str,
    query: &str,
    range: (Option<f64>, Option<f64>),
    limit: Option<f64>,
    asks: Option<&Asked>,
) {
    without_selector(draft, field, query);
    let ends = [(">=", range.0), ("<=", range.1)];
    if ends.iter().all(|(_, end)| end.is_none()) {
        draft.drop_metric(field, "it has no thresholdRange, so there is nothing to keep");
    }
    for (sign, end) in ends {
        if let Some(end) = end {
            let mut condition = json!({"query": query, "successCondition": format!("value {sign} {end}")});
            set_limit(draft, field, &mut condition, limit);
            draft.condition(field, name, condition, asks.cloned());
        }
    }
}

fn set_limit(draft: &mut Draft, field: &str, condition: &mut Value, limit: Option<f64>) {
    let Some(limit) = limit.filter(|limit| *limit != 0.0) else {
        return;
    };
    let used = limit.round().clamp(0.0, 100.0);
    if (used - limit).abs() > f64::EPSILON {
        let why = format!("failureLimit: {limit} is written as {used}");
        draft.note(Fate::Approximated, field, why);
    }
    condition["failureLimit"] = json!(used as i64);
}

/// The Prometheus that a metric asks. It goes with the condition: one of which none is made has nobody asked.
pub(super) fn asked(draft: &mut Draft, field: String, address: String) -> Option<Asked> {
    let usable = address.starts_with("http://") || address.starts_with("https://");
    if !usable || address.contains(char::is_whitespace) || address.contains("{{") {
        let why = "is no address with http:// or https://: the service's own Prometheus is asked, or else the operator's";
        draft.note(Fate::NotCarriedOver, field, why);
        return None;
    }
    Some(Asked { field, address })
}

/// A query that says nothing of the revision under test would judge stable as well.
fn without_selector(draft: &mut Draft, field: &str, query: &str) {
    if !query.contains("$selector") {
        let why = "its query does not tell the revisions apart: write $selector between the braces of each of its series, in place of the matchers that choose pods or services";
        draft.note(Fate::Approximated, field, why);
    }
}

/// `result[0] >= 0.95` as `value >= 0.95`; the opposite of what is not wanted.
fn bound(text: &str, unwanted: bool) -> Option<String> {
    let mut text = text.trim();
    for (before, after) in [("asFloat(", ")"), ("(", ")")] {
        text = text
            .strip_prefix(before)
            .and_then(|t| t.strip_suffix(after))
            .unwrap_or(text)
            .trim();
    }
    let at = text.find(['<', '>', '=', '!'])?;
    let (left, rest) = text.split_at(at);
    let signs = [
        ("<=", ">"),
        (">=", "<"),
        ("==", "!="),
        ("!=", "=="),
        ("<", ">="),
        (">", "<="),
    ];
    let (sign, opposite) = signs.into_iter().find(|(sign, _)| rest.starts_with(sign))?;
    let left = left.trim();
    let left = left
        .strip_prefix("asFloat(")
        .and_then(|l| l.strip_suffix(')'))
        .unwrap_or(left);
    if !matches!(left.trim(), "result" | "result[0]") {
        return None;
    }
    let number: f64 = rest[sign.len()..]
        .trim()
        .parse()
        .ok()
        .filter(|n: &f64| n.is_finite())?;
    Some(format!(
        "value {} {number}",
        if unwanted { opposite } else { sign }
    ))
}

/// A value with all in its texts filled in that is known.
pub(super) fn filled_in(value: Value, arguments: &Arguments) -> Value {
    match value {
        Value::String(text) => Value::String(filled(&text, arguments).unwrap_or(text)),
        Value::Array(items) => items.into_iter().map(|item| filled_in(item, arguments)).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, filled_in(value, arguments)))
            .collect(),
        plain => plain,
    }
}

/// A text with its `{{args.name}}` and `{{ name }}` filled in; `None` if one is not known.
pub(super) fn filled(text: &str, arguments: &Arguments) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, tail) = after.split_once("}}")?;
        let name = name.trim().trim_start_matches('.');
        let name = name.strip_prefix("args.").unwrap_or(name);
        out.push_str(before);
        out.push_str(arguments.get(name.trim())?);
        rest = tail;
    }
    out.push_str(rest);
    Some(out)
}

/// Takes a duration: a number of seconds, or as Go writes it; in milliseconds.
pub(super) fn take_millis(fields: &mut Fields, name: &str) -> Result<Option<f64>, Wrong> {
    let Some(text) = fields.text(name)? else {
        return Ok(None);
    };
    match millis(&text) {
        Some(millis) => Ok(Some(millis)),
        None => Err(fields.wrong(
            name,
            format!("{text:?} is no duration, such as 30 (seconds), 30s or 1h30m"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_of_one_number_is_a_bound() {
        for (text, unwanted, expected) in [
            ("result[0] >= 0.95", false, Some("value >= 0.95")),
            ("result < 1", false, Some("value < 1")),
            (" asFloat(result[0]) > 3 ", false, Some("value > 3")),
            ("result[0] >= 0.95", true, Some("value < 0.95")),
            ("result[0] == 0", true, Some("value != 0")),
            ("len(result) > 0", false, None),
            ("result[0] > 1 && result[0] < 2", false, None),
            ("result == \"ok\"", false, None),
            ("isNaN(result)", false, None),
            ("", false, None),
        ] {
            assert_eq!(bound(text, unwanted).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_filled_in() {
        let arguments = Arguments::from([("service".to_owned(), "shop".to_owned())]);
        assert_eq!(
            filled("a{s=\"{{args.service}}\"}", &arguments).as_deref(),
            Some("a{s=\"shop\"}")
        );
        assert_eq!(filled("{{ service }}", &arguments).as_deref(), Some("shop"));
        assert_eq!(filled("{{args.hash}}", &arguments), None);
        assert_eq!(filled("{{args", &arguments), None);
    }
}
