//! A Canary of Flagger, with its Deployment and templates of metrics.

use serde_json::{Value, json};

use super::draft::{Draft, Fate, duration};
use super::input::{Fields, Object, Wrong};
use super::metrics::{self, Arguments, take_millis};
use super::{later, workload};

const GROUP: &str = "flagger.app";
/// Weights that are written at most: each is followed by a dwell.
const MOST_WEIGHTS: usize = 20;

pub(super) fn is_canary(object: &Object) -> bool {
    object.is(GROUP, "Canary")
}

/// The Deployment that a Canary is about.
pub(super) fn target(canary: &Object) -> Option<(String, String)> {
    let text = |field: &str| {
        canary
            .value
            .pointer(&format!("/spec/targetRef/{field}"))
            .and_then(Value::as_str)
    };
    Some((
        text("kind").unwrap_or("Deployment").to_owned(),
        text("name")?.to_owned(),
    ))
}

pub(super) fn canary(object: &Object, all: &[Object]) -> Result<Draft, Wrong> {
    let mut draft = Draft::new(object);
    let mut top = Fields::of(&object.to_string(), "", Some(object.value.clone()))?;
    let mut spec = top.fields("spec")?;
    let Some((kind, name)) = target(object) else {
        return Err(spec.wrong("targetRef.name", "is missing: it names the Deployment"));
    };
    spec.take("targetRef");
    if kind != "Deployment" {
        return Err(spec.wrong(
            "targetRef.kind",
            format!("{kind} can't be carried over: only Deployments can"),
        ));
    }
    let found = all
        .iter()
        .find(|o| o.kind == "Deployment" && o.name == name && o.is_near(object));
    let Some(deployment) = found else {
        return Err(spec.wrong(
            "targetRef",
            format!("Deployment/{name} is not in the files: give it as well, its template is needed"),
        ));
    };
    let provider = spec.text("provider")?.unwrap_or_default();
    let mut workload_spec = Fields::of(
        &deployment.to_string(),
        &format!("Deployment/{name} spec"),
        deployment.value.get("spec").cloned(),
    )?;
    workload::common(&mut draft, &mut workload_spec)?;
    let template = workload_spec.take("template").unwrap_or_else(|| json!({}));
    workload_spec.take("strategy");
    draft.rest(&workload_spec, workload::without);
    if let Some(seconds) = spec.number("progressDeadlineSeconds")? {
        let field = spec.path("progressDeadlineSeconds");
        if let Some(deadline) = draft.duration(&field, seconds.max(1.0) * 1000.0) {
            draft.set("progressDeadline", json!(deadline));
        }
    }
    if let Some(suspended) = spec.truth("suspend")? {
        draft.set("paused", json!(suspended));
    }
    let scaler = spec.maybe("autoscalerRef")?;
    let mut service = spec.fields("service")?;
    let port = service.take("targetPort").or_else(|| service.take("port"));
    service.take("port");
    let port = port.and_then(|port| workload::port_number(&port, &template));
    workload::pods(&mut draft, template, port);
    traffic(&mut draft, &mut service, &provider, all, object)?;
    if let Some(mut scaler) = scaler {
        let kind = scaler
            .text("kind")?
            .unwrap_or_else(|| "HorizontalPodAutoscaler".to_owned());
        let name = scaler.text("name")?.unwrap_or_default();
        workload::aimed(&mut draft, &kind, &name, &object.name);
        scaler.take("apiVersion");
        draft.rest(&scaler, |_| Some("one autoscaler is for both revisions"));
    } else {
        workload::scaled(&mut draft, deployment, all, &["Deployment"]);
    }
    if spec.truth("skipAnalysis")? == Some(true) {
        draft.note(
            Fate::NotCarriedOver,
            spec.path("skipAnalysis"),
            "nothing is promoted without evidence; a person may, by `kubectl molt promote --full`",
        );
    }
    // `canaryAnalysis` is the name before `analysis`.
    let name = if spec.rest().iter().any(|f| f.ends_with(".canaryAnalysis")) {
        "canaryAnalysis"
    } else {
        "analysis"
    };
    let mut analysis = spec.fields(name)?;
    judge(&mut draft, &mut analysis, &provider, all, object)?;
    if object.name != deployment.name {
        draft.note(
            Fate::Approximated,
            "metadata.name",
            "the service has the Canary's name",
        );
    }
    draft.note(
        Fate::Approximated,
        format!("Deployment/{}", deployment.name),
        "Flagger's clone <name>-primary serves until you delete the Canary: apply this beside it, move the route, then delete both",
    );
    draft.rest(&spec, |field| match field {
        "revertOnDeletion" => Some("a route of your own is given back when the service is deleted"),
        "ingressRef" | "upstreamRef" | "routeRef" => {
            Some("traffic is divided by an HTTPRoute of the Gateway API")
        }
        "metricsServer" => Some("write metrics.prometheus.address, if it is not the operator's Prometheus"),
        _ => None,
    });
    Ok(draft)
}

fn traffic(
    draft: &mut Draft,
    service: &mut Fields,
    provider: &str,
    all: &[Object],
    object: &Object,
) -> Result<(), Wrong> {
    let parents: Vec<Value> = service
        .list("gatewayRefs")?
        .iter()
        .filter_map(workload::parent)
        .take(8)
        .collect();
    let hosts: Vec<Value> = service
        .list("hosts")?
        .into_iter()
        .filter(Value::is_string)
        .take(16)
        .collect();
    let name = service.text("name")?;
    service.take("portName");
    service.take("portDiscovery");
    if parents.is_empty() {
        let names: Vec<String> = name.into_iter().chain([object.name.clone()]).collect();
        workload::lead(draft, object, all, &names);
    } else {
        let mut gateway = json!({"parentRefs": parents});
        if !hosts.is_empty() {
            gateway["hostnames"] = json!(hosts);
        }
        draft.set("traffic", json!({"gatewayAPI": gateway}));
    }
    if !provider.is_empty() && !provider.starts_with("gatewayapi") {
        draft.note(
            Fate::NotCarriedOver,
            "spec.provider",
            format!("{provider}: traffic is divided by an HTTPRoute of the Gateway API"),
        );
    }
    draft.rest(service, |field| match field {
        "retries" | "timeout" | "headers" | "rewrite" | "corsPolicy" | "match" | "trafficPolicy" => {
            Some("Molt's own route has no filters: to keep them use a route of your own, by httpRouteRef")
        }
        "apex" | "primary" | "canary" => Some("labels and annotations of Services are Molt's own"),
        _ => None,
    });
    Ok(())
}

fn judge(
    draft: &mut Draft,
    analysis: &mut Fields,
    provider: &str,
    all: &[Object],
    object: &Object,
) -> Result<(), Wrong> {
    let interval = take_millis(analysis, "interval")?.unwrap_or(60_000.0);
    let threshold = analysis.number("threshold")?.unwrap_or(0.0);
    steps(draft, analysis, interval)?;
    let matches = analysis.list("match")?;
    later::header_matches(draft, &analysis.path("match"), &matches);
    if let Some(count) = analysis.number("iterations")? {
        draft.note(
            Fate::Approximated,
            analysis.path("iterations"),
            format!("{count}: without weights this is blue/green or an A/B test"),
        );
        later::blue_green(draft, &analysis.path("iterations"));
    }
    for (name, note) in [
        ("mirror", later::mirror as fn(&mut Draft, &str)),
        ("mirrorWeight", later::mirror),
        ("sessionAffinity", later::session_affinity),
    ] {
        if analysis.take(name).is_some_and(|value| value != false) {
            note(draft, &analysis.path(name));
        }
    }
    for metric in analysis.each("metrics")? {
        one_metric(draft, metric, provider, interval, threshold, all, object)?;
    }
    draft.rest(analysis, |field| match field {
        "webhooks" => Some("what a webhook checks, a Job or a URL in guards.conditions can; load for a canary without users comes from a Job of your own"),
        "alerts" => Some("alerts are yours: `rules: true` of an objective writes them, and every transition is an event"),
        "stepWeightPromotion" => Some("what is promoted is what was tested: nothing is shifted a second time"),
        "primaryReadyThreshold" | "canaryReadyThreshold" => Some("a weight waits for the pods that carry it"),
        _ => None,
    });
    Ok(())
}

fn steps(draft: &mut Draft, analysis: &mut Fields, interval: f64) -> Result<(), Wrong> {
    let field = analysis.path("stepWeights");
    let mut weights = Vec::new();
    for (index, weight) in analysis.list("stepWeights")?.iter().enumerate() {
        match weight.as_f64() {
            Some(weight) => weights.push(weight),
            None => return Err(analysis.wrong(&format!("stepWeights[{index}]"), "is no number")),
        }
    }
    let (step, most) = (analysis.number("stepWeight")?, analysis.number("maxWeight")?);
    if weights.is_empty()
        && let Some(step) = step.filter(|step| *step >= 1.0)
    {
        let most = most.unwrap_or(100.0).clamp(0.0, 100.0);
        let count = (most / step).floor() as usize;
        weights = (1..=count).map(|n| n as f64 * step).collect();
    }
    if weights.len() > MOST_WEIGHTS {
        let why = format!(
            "{} weights are thinned to {MOST_WEIGHTS}: evidence, not their number, decides",
            weights.len()
        );
        draft.note(Fate::Approximated, &field, why);
        let last = weights.len() - 1;
        weights = (0..MOST_WEIGHTS)
            .map(|n| weights[n * last / (MOST_WEIGHTS - 1)])
            .collect();
    }
    for weight in weights {
        let before = draft.weight();
        draft.step_weight(&field, weight);
        if draft.weight() > before {
            draft.step_pause(&analysis.path("interval"), interval);
        }
    }
    Ok(())
}

fn one_metric(
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
        slot.get_or_insert(old);
    }
    let interval = take_millis(&mut metric, "interval")?.unwrap_or(interval);
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
    let query = match (inline, reference) {
        (Some(query), _) => Some(query),
        (None, Some(reference)) => template_query(draft, &field, reference, all)?,
        (None, None) => None,
    };
    let Some(query) = query else { return Ok(()) };
    match metrics::filled(&query, &arguments) {
        Some(query) => metrics::of_flagger(draft, &field, &name, query.trim(), (least, most), limit),
        None => draft.note(Fate::NotCarriedOver, field, "its query has a variable whose value is not in the files: fill it in, and add it to guards.conditions"),
    }
    Ok(())
}

/// The query of a template, if it is one for Prometheus.
fn template_query(
    draft: &mut Draft,
    field: &str,
    mut reference: Fields,
    all: &[Object],
) -> Result<Option<String>, Wrong> {
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
    if let Some(address) = provider.text("address")? {
        metrics::address_of(draft, &provider.path("address"), &address);
    }
    draft.rest(&provider, |_| {
        Some("a Prometheus that asks for headers: metrics.prometheus.headersFrom")
    });
    spec.text("query")
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
            draft.slo(json!({"name": "availability", "objective": decimal(objective), "sli": {"preset": preset, "type": "availability"}}));
        }
        ("request-duration", _, Some(most)) if (1.0..=3_600_000.0).contains(&most) => {
            guess(draft);
            draft.note(
                Fate::Approximated,
                field,
                "99 % of the requests within this time; it must be an edge of the histogram",
            );
            draft.slo(json!({"name": "latency", "objective": "99", "sli": {"preset": preset, "type": "latency", "threshold": duration(most)}}));
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
