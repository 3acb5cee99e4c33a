//! A Canary of Flagger, with its Deployment and templates of metrics.

mod metrics;
mod webhooks;

use serde_json::{Map, Value, json};

use self::webhooks::Gates;
use super::draft::{Draft, Fate};
use super::input::{Fields, Object, Wrong};
use super::metrics::take_millis;
use super::{steps as other_steps, workload};

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
    let called = service.take("port");
    let port = service.take("targetPort").or_else(|| called.clone());
    let port = port.and_then(|port| workload::port_number(&port, &template));
    let called = called.and_then(|called| workload::port_number(&called, &template));
    if let (Some(called), Some(port)) = (called, port)
        && called != port
    {
        workload::other_port(&mut draft, service.path("port"), &called.to_string(), port);
    }
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
            Some("traffic is divided by an HTTPRoute of the Gateway API, or a VirtualService of Istio")
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
    let name = service.text("name")?;
    let parents: Vec<Value> = service
        .list("gatewayRefs")?
        .iter()
        .filter_map(workload::parent)
        .take(8)
        .collect();
    let by_istio = provider == "istio";
    let hosts = if by_istio {
        Vec::new()
    } else {
        service.list("hosts")?
    };
    let hosts: Vec<Value> = hosts.into_iter().filter(Value::is_string).take(16).collect();
    service.take("portName");
    service.take("portDiscovery");
    if by_istio {
        let apex = name.or_else(|| target(object).map(|(_, name)| name));
        super::istio::flagger(draft, service, apex.as_deref().unwrap_or(&object.name))?;
    } else if parents.is_empty() {
        let names: Vec<String> = name.into_iter().chain([object.name.clone()]).collect();
        workload::lead(draft, object, all, &names, false);
    } else {
        let mut gateway = json!({"parentRefs": parents});
        if !hosts.is_empty() {
            gateway["hostnames"] = json!(hosts);
        }
        draft.set("traffic", json!({"gatewayAPI": gateway}));
    }
    if !provider.is_empty() && !provider.starts_with("gatewayapi") && !by_istio {
        draft.note(
            Fate::NotCarriedOver,
            "spec.provider",
            format!("{provider}: routers other than the Gateway API and Istio are not carried over: write traffic.gatewayAPI yourself (docs/traffic.md)"),
        );
    }
    marks(draft, service)?;
    draft.rest(service, |field| match field {
        "retries" | "timeout" | "headers" | "rewrite" | "corsPolicy" | "match" | "trafficPolicy" => {
            Some("Molt's own route has no filters: to keep them use a route of your own, by httpRouteRef or virtualServiceRef")
        }
        _ => None,
    });
    Ok(())
}

/// Labels and annotations of Services. Molt has one for each revision, which is canary and stable in turn.
fn marks(draft: &mut Draft, service: &mut Fields) -> Result<(), Wrong> {
    let mut of = |name: &str| -> Result<Option<Value>, Wrong> {
        let Some(mut written) = service.maybe(name)? else {
            return Ok(None);
        };
        let mut marks = Map::new();
        for kind in ["labels", "annotations"] {
            let found = written
                .take(kind)
                .filter(|set| set.as_object().is_some_and(|s| !s.is_empty()));
            marks.extend(found.map(|set| (kind.to_owned(), set)));
        }
        draft.rest(&written, |_| None);
        Ok((!marks.is_empty()).then_some(Value::Object(marks)))
    };
    let (called, primary, canary) = (of("apex")?, of("primary")?, of("canary")?);
    if canary != primary && canary.is_some() {
        draft.note(
            Fate::NotCarriedOver,
            service.path("canary"),
            "a Service is of one revision, which is canary first and stable then: it has the marks of primary",
        );
    }
    let mut all = Map::new();
    all.extend(called.map(|marks| ("inCluster".to_owned(), marks)));
    all.extend(primary.map(|marks| ("routed".to_owned(), marks)));
    if !all.is_empty() {
        draft.set("serviceMetadata", Value::Object(all));
    }
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
    let threshold = analysis.number("threshold")?;
    let gates = Gates::read(draft, analysis)?;
    let copies = mirror(analysis)?;
    gates.first(draft);
    if let Some(percent) = copies.filter(|_| weights_are_there(analysis)) {
        other_steps::flagger_mirror(draft, &analysis.path("mirror"), percent, interval);
    }
    steps(draft, analysis, interval, &gates, copies.is_some())?;
    if let Some(count) = analysis.number("iterations")?.filter(|count| *count >= 1.0) {
        at_once(draft, analysis, count, interval, copies)?;
    }
    gates.last(draft);
    if let Some(mut affinity) = analysis.maybe("sessionAffinity")? {
        let field = analysis.path("sessionAffinity");
        session_affinity(draft, &mut affinity, &field)?;
        draft.rest(&affinity, |_| None);
    }
    let measured = analysis.each("metrics")?;
    if threshold.is_some() && measured.iter().any(metrics::is_known_by_name) {
        let why = "an objective counts no failed checks: what decides is how sure it is that the canary is worse; it is the failureLimit of metrics with a query";
        draft.note(Fate::NotCarriedOver, analysis.path("threshold"), why);
    }
    for metric in measured {
        let threshold = threshold.unwrap_or(0.0);
        metrics::one_metric(draft, metric, provider, interval, threshold, all, object)?;
    }
    draft.rest(analysis, |field| match field {
        "alerts" => Some("write a NotificationPolicy for whom a rollout tells (docs/notifications.md); `rules: true` of an objective writes alert rules"),
        "stepWeightPromotion" => Some("what is promoted is what was tested: nothing is shifted a second time"),
        "primaryReadyThreshold" | "canaryReadyThreshold" => Some("a weight waits for the pods that carry it"),
        _ => None,
    });
    Ok(())
}

/// Users stay on the canary that they met, where a route of Molt's by the Gateway API can keep them there.
fn session_affinity(draft: &mut Draft, affinity: &mut Fields, field: &str) -> Result<(), Wrong> {
    let cookie = affinity.text("cookieName")?.unwrap_or_default();
    // Flagger's default is a day.
    let age = affinity.number("maxAge")?.unwrap_or(86_400.0);
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if cookie.is_empty() || cookie.len() > 128 || !cookie.chars().all(fits) || age < 1.0 {
        let why = "wants a cookieName of letters, digits, dots, dashes and underscores, and a maxAge of at least a second";
        draft.note(Fate::NotCarriedOver, field, why);
        return Ok(());
    }
    let Some(age) = draft.duration(field, age * 1000.0) else {
        return Ok(());
    };
    if draft.set_in_owned_route("sessionAffinity", json!({"cookieName": cookie, "maxAge": age})) {
        let why = "users stay on stable as well; it takes the Gateway API's CRDs of the experimental channel, and a gateway that knows sessionPersistence";
        draft.note(Fate::Approximated, field, why);
    } else {
        let why =
            "takes a route of the Gateway API that Molt owns: a user may meet both versions during a rollout";
        draft.note(Fate::NotCarriedOver, field, why);
    }
    Ok(())
}

/// The share of requests that Flagger copies, in percent.
fn mirror(analysis: &mut Fields) -> Result<Option<f64>, Wrong> {
    let copies = analysis.truth("mirror")? == Some(true);
    let percent = analysis.number("mirrorWeight")?;
    Ok(copies.then(|| percent.filter(|p| *p >= 1.0).unwrap_or(100.0)))
}

fn weights_are_there(analysis: &Fields) -> bool {
    analysis
        .names()
        .any(|name| name == "stepWeight" || name == "stepWeights")
}

/// Without weights: a test by headers for so many intervals, or all users at once after as many.
fn at_once(
    draft: &mut Draft,
    analysis: &mut Fields,
    count: f64,
    interval: f64,
    copies: Option<f64>,
) -> Result<(), Wrong> {
    let field = analysis.path("iterations");
    if draft.weight() > 0 {
        draft.note(Fate::NotCarriedOver, field, "belongs to a test without weights");
        return Ok(());
    }
    let matches = analysis.each("match")?;
    if matches.is_empty() {
        draft.be_blue_green();
        let why = format!(
            "{count} intervals of checks before users move: all users move once the pods are ready and every Job of guards.conditions has succeeded, and the bake judges"
        );
        draft.note(Fate::Approximated, field, why);
        if copies.is_some() {
            let why = "blueGreen copies no requests: a canary with setMirror and a weight of 100 does";
            draft.note(Fate::NotCarriedOver, analysis.path("mirror"), why);
        }
        return Ok(());
    }
    other_steps::flagger_matches(draft, &analysis.path("match"), matches)?;
    draft.step_pause(&field, count * interval);
    let why = format!(
        "{count} intervals are a dwell; then the evidence of those requests decides, and all users move"
    );
    draft.note(Fate::Approximated, field, why);
    Ok(())
}

fn steps(
    draft: &mut Draft,
    analysis: &mut Fields,
    interval: f64,
    gates: &Gates,
    copies: bool,
) -> Result<(), Wrong> {
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
    // Two steps for each, beside those that wait for a person and the three of a mirror.
    let most = MOST_WEIGHTS - usize::from(gates.any()) - 2 * usize::from(copies);
    if weights.len() > most {
        let why = format!(
            "{} weights are thinned to {most}: evidence, not their number, decides",
            weights.len()
        );
        draft.note(Fate::Approximated, &field, why);
        let last = weights.len() - 1;
        weights = (0..most).map(|n| weights[n * last / (most - 1)]).collect();
    }
    for weight in weights {
        let before = draft.weight();
        if before > 0 && weight > before as f64 {
            gates.between(draft);
        }
        draft.step_weight(&field, weight);
        if draft.weight() > before && !gates.each_weight() {
            draft.step_pause(&analysis.path("interval"), interval);
        }
    }
    if gates.each_weight() && draft.weight() > 0 {
        draft.step_pause(&analysis.path("interval"), interval);
    }
    Ok(())
}
