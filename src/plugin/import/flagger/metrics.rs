//! What Flagger measures: metrics that it knows by name, and queries of its templates.

use serde_json::{Value, json};

use super::super::draft::{Asked, Draft, Fate, duration};
use super::super::input::{Fields, Object, Wrong};
use super::super::metrics::{self, Arguments, take_millis};
use super::{GROUP, target};

/// Flagger knows it by its name: it has no query.
pub(super) fn is_known_by_name(metric: &Fields) -> bool {
    metric
        .names()
        .all(|name| name != "templateRef" && name != "query")
}

pub(super) fn one_metric(
    draft: &mut Draft,
    mut metric: Fields,
    provider: &str,
    interval: f64,
    threshold: f64,
    all: &[Object],
    object: &Object,
) -> Result<(), Wrong> {
    let name = metric.text("name")?.unwrap_or_else(|| "metric".to_owned());
    let field = format!("{} ({name})", metric.path("").trim_end_matches('.'));
    let mut range = metric.fields("thresholdRange")?;
    let (mut least, mut most) = (range.number("min")?, range.number("max")?);
    draft.rest(&range, |_| None);
    if let Some(old) = metric.number("threshold")? {
        let slot = if name == "request-success-rate" {
            &mut least
        } else {
            &mut most
        };
        if slot.is_some() {
            let why = "thresholdRange says it already";
            draft.note(Fate::NotCarriedOver, metric.path("threshold"), why);
        }
        slot.get_or_insert(old);
    }
    let own_interval = take_millis(&mut metric, "interval")?;
    let interval = own_interval.unwrap_or(interval);
    // Failed checks in a row are counted over all metrics there, of one condition in an attempt here.
    let limit = Some((threshold - 1.0).max(0.0));
    let preset = match provider {
        "istio" => "istio",
        "linkerd" => "linkerd",
        gateway if gateway.starts_with("gatewayapi") => "envoy-gateway",
        _ => "otel",
    };
    let reference = metric.maybe("templateRef")?;
    let inline = metric.text("query")?;
    if reference.is_none() && inline.is_none() {
        if own_interval.is_some() {
            let why = "an objective is counted in blocks of two scrape intervals (metrics.prometheus.interval), for as long as users are on the canary";
            draft.note(Fate::NotCarriedOver, metric.path("interval"), why);
        }
        objective(draft, &field, &name, preset, least, most);
        draft.rest(&metric, |_| None);
        return Ok(());
    }
    let mut arguments = Arguments::from([
        (
            "target".to_owned(),
            target(object).map(|(_, name)| name).unwrap_or_default(),
        ),
        ("service".to_owned(), object.name.clone()),
        ("name".to_owned(), object.name.clone()),
        ("interval".to_owned(), duration(interval)),
    ]);
    arguments.extend(
        object
            .namespace
            .clone()
            .map(|namespace| ("namespace".to_owned(), namespace)),
    );
    if let Some(Value::Object(variables)) = metric.take("templateVariables") {
        let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        arguments.extend(
            variables
                .into_iter()
                .map(|(name, value)| (format!("variables.{name}"), text(value))),
        );
    }
    draft.rest(&metric, |_| None);
    let read = match (inline, reference) {
        (Some(query), _) => Some((query, None)),
        (None, Some(reference)) => template_query(draft, &field, reference, all)?,
        (None, None) => None,
    };
    let Some((query, asks)) = read else { return Ok(()) };
    match metrics::filled(&query, &arguments) {
        Some(query) => metrics::of_flagger(
            draft,
            &field,
            &name,
            query.trim(),
            (least, most),
            limit,
            asks.as_ref(),
        ),
        None => draft.drop_metric(&field, "its query has a variable whose value is not in the files: fill it in, and add it to guards.conditions"),
    }
    Ok(())
}

/// The query of a template, if it is one for Prometheus, and whom it asks.
fn template_query(
    draft: &mut Draft,
    field: &str,
    mut reference: Fields,
    all: &[Object],
) -> Result<Option<(String, Option<Asked>)>, Wrong> {
    let name = reference.text("name")?.unwrap_or_default();
    let found = all
        .iter()
        .find(|o| o.is(GROUP, "MetricTemplate") && o.name == name);
    let Some(template) = found else {
        draft.note(
            Fate::NotCarriedOver,
            field,
            format!("MetricTemplate {name} is not in the files: give it as well"),
        );
        return Ok(None);
    };
    let mut spec = Fields::of(
        &template.to_string(),
        &format!("MetricTemplate/{name} spec"),
        template.value.get("spec").cloned(),
    )?;
    let mut provider = spec.fields("provider")?;
    let kind = provider.text("type")?.unwrap_or_default();
    if kind != "prometheus" {
        draft.note(
            Fate::NotCarriedOver,
            field,
            format!("its provider is {kind}: a condition is PromQL, a URL that answers with JSON, or a Job"),
        );
        return Ok(None);
    }
    let address = provider.text("address")?;
    let asks = address.and_then(|address| metrics::asked(draft, provider.path("address"), address));
    draft.rest(&provider, |_| {
        Some("a Prometheus that asks for headers: metrics.prometheus.headersFrom")
    });
    let query = spec.text("query")?;
    if query.is_none() {
        draft.drop_metric(field, format!("MetricTemplate {name} has no query"));
    }
    Ok(query.map(|query| (query, asks)))
}

/// A metric that Flagger knows by its name is an objective.
fn objective(
    draft: &mut Draft,
    field: &str,
    name: &str,
    preset: &str,
    least: Option<f64>,
    most: Option<f64>,
) {
    let guess = |draft: &mut Draft| {
        if preset == "otel" {
            draft.note(
                Fate::Approximated,
                field,
                "PLACEHOLDER: set sli.preset to what instruments your application; otel is a guess",
            );
        } else {
            draft.note(Fate::Approximated, field, format!("is an objective by the preset {preset}, compared with stable at the same moment instead of held against a threshold"));
        }
    };
    let other_end = match name {
        "request-success-rate" => most.map(|_| "max"),
        "request-duration" => least.map(|_| "min"),
        _ => None,
    };
    if let Some(end) = other_end {
        let why = "an objective has one bound";
        draft.note(Fate::NotCarriedOver, format!("{field}.thresholdRange.{end}"), why);
    }
    match (name, least, most) {
        ("request-success-rate", Some(least), _) if least > 0.0 => {
            let (objective, cut) = if least >= 100.0 {
                (99.99, true)
            } else {
                (least, false)
            };
            if cut {
                draft.note(
                    Fate::Approximated,
                    field,
                    "an objective of 100 % leaves no budget: 99.99 is written",
                );
            }
            guess(draft);
            draft.slo(field, json!({"name": "availability", "objective": decimal(objective), "sli": {"preset": preset, "type": "availability"}}));
        }
        ("request-duration", _, Some(most)) if (1.0..=3_600_000.0).contains(&most) => {
            guess(draft);
            draft.note(
                Fate::Approximated,
                field,
                "99 % of the requests within this time; it must be an edge of the histogram",
            );
            draft.slo(field, json!({"name": "latency", "objective": "99", "sli": {"preset": preset, "type": "latency", "threshold": duration(most)}}));
        }
        _ => draft.note(
            Fate::NotCarriedOver,
            field,
            "has no threshold that an objective or a condition could be made of",
        ),
    }
}

/// A number as the API writes objectives.
fn decimal(number: f64) -> String {
    let text = format!("{number:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() || text.parse::<f64>().is_ok_and(|n| n <= 0.0) {
        "0.000001".to_owned()
    } else {
        text.to_owned()
    }
}
