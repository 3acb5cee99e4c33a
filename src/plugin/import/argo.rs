//! A Rollout of Argo Rollouts, with its templates of analyses.

use regex::Regex;
use serde_json::{Value, json};

use super::draft::{Draft, Fate, LONGEST, duration, millis};
use super::input::{Fields, Object, Wrong, short};
use super::metrics::{self, Arguments};
use super::{steps, workload};

const GROUP: &str = "argoproj.io";

pub(super) fn is_rollout(object: &Object) -> bool {
    object.is(GROUP, "Rollout")
}

pub(super) fn is_template(object: &Object) -> bool {
    object.is(GROUP, "AnalysisTemplate") || object.is(GROUP, "ClusterAnalysisTemplate")
}

pub(super) fn rollout(object: &Object, all: &[Object]) -> Result<Draft, Wrong> {
    let mut draft = Draft::new(object);
    let mut top = Fields::of(&object.to_string(), "", Some(object.value.clone()))?;
    let mut spec = top.fields("spec")?;
    workload::common(&mut draft, &mut spec)?;
    let template = template(&mut draft, object, &mut spec, all)?;
    if let Some(mut window) = spec.maybe("rollbackWindow")? {
        if let Some(revisions) = window.number("revisions")? {
            draft.set(
                "rollbackWindow",
                json!({"revisions": revisions.round().clamp(0.0, 10.0) as i64}),
            );
        }
        draft.rest(&window, |_| None);
    }
    let mut strategy = spec.fields("strategy")?;
    let (canary, blue_green) = (strategy.maybe("canary")?, strategy.maybe("blueGreen")?);
    let routed = |path: &str| object.value.pointer(path).is_some();
    let by_pods = blue_green.is_none() && !routed("/spec/strategy/canary/trafficRouting");
    let mut services = Vec::new();
    if canary.is_some() && blue_green.is_some() {
        draft.note(
            Fate::NotCarriedOver,
            "spec.strategy.blueGreen",
            "there is a canary as well, and one of them is all there can be: the canary is written",
        );
    }
    if let Some(mut canary) = canary {
        canary_strategy(&mut draft, &mut canary, all, object, &mut services)?;
    } else if let Some(mut blue_green) = blue_green {
        blue_green_strategy(&mut draft, &mut blue_green, all, object, &mut services)?;
    } else {
        draft.note(
            Fate::Approximated,
            "spec.strategy",
            "has neither canary nor blueGreen: the default canary is used",
        );
    }
    draft.rest(&strategy, |_| None);
    let leading: Vec<&Object> = all
        .iter()
        .filter(|o| o.kind == "Service" && services.contains(&o.name) && o.is_near(object))
        .collect();
    workload::sessions(&mut draft, leading.iter().copied());
    let port = leading
        .first()
        .and_then(|service| workload::target_port(service, &template));
    if let Some(service) = leading.first() {
        workload::other_ports(&mut draft, service, port);
    }
    workload::pods(&mut draft, template, port);
    draft.rest(&spec, |field| match field {
        "analysis" => Some("how many AnalysisRuns are kept: records are kept by spec.rolloutRecordLimit"),
        "restartAt" => Some("a restart is asked for and not written: kubectl molt restart NAME"),
        other => workload::without(other),
    });
    if !draft.has("traffic") {
        workload::lead(&mut draft, object, all, &services, by_pods);
    }
    workload::scaled(&mut draft, object, all, &["Rollout"]);
    Ok(draft)
}

/// The pod template: its own, or that of the Deployment it refers to.
fn template(draft: &mut Draft, object: &Object, spec: &mut Fields, all: &[Object]) -> Result<Value, Wrong> {
    let own = spec.take("template");
    let Some(mut reference) = spec.maybe("workloadRef")? else {
        return own.ok_or_else(|| spec.wrong("template", "is missing, and there is no workloadRef"));
    };
    let name = reference.text("name")?.unwrap_or_default();
    let kind = reference.text("kind")?.unwrap_or_else(|| "Deployment".to_owned());
    let found = all
        .iter()
        .find(|o| o.kind == kind && o.name == name && o.is_near(object));
    let why = format!(
        "the template of {kind}/{name} was copied: change it here from now on, for nothing reads the {kind} any more; delete that with the Rollout when the service is Healthy. To have a Deployment that serves taken over instead, name it in spec.workloadRef (docs/adoption.md)"
    );
    draft.note(Fate::Approximated, "spec.workloadRef", why);
    if let Some(when) = reference.text("scaleDown")? {
        let why = format!("{when}: Molt scales no Deployment down whose template was copied");
        draft.note(Fate::NotCarriedOver, "spec.workloadRef.scaleDown", why);
    }
    let found = found.and_then(|o| o.value.pointer("/spec/template").cloned());
    found.ok_or_else(|| {
        spec.wrong(
            "workloadRef",
            format!("{kind}/{name} is not in the files: give it as well, its template is needed"),
        )
    })
}

fn canary_strategy(
    draft: &mut Draft,
    canary: &mut Fields,
    all: &[Object],
    object: &Object,
    services: &mut Vec<String>,
) -> Result<(), Wrong> {
    services.extend(canary.text("stableService")?);
    services.extend(canary.text("canaryService")?);
    delays(draft, canary)?;
    let mut most = 100.0;
    if let Some(mut routing) = canary.maybe("trafficRouting")? {
        most = routing
            .number("maxTrafficWeight")?
            .filter(|most| *most > 0.0)
            .unwrap_or(100.0);
        traffic(draft, &mut routing, all, object)?;
    }
    let steps = canary.each("steps")?;
    if steps.is_empty() {
        draft.note(
            Fate::Approximated,
            canary.path("steps"),
            "has no steps: the default of 5, 10, 25 and 50 % with 60 s each is used",
        );
    }
    for step in steps {
        one_step(draft, step, most, all, object)?;
    }
    if let Some(mut analysis) = canary.maybe("analysis")? {
        run(draft, &mut analysis, all, object)?;
        if let Some(step) = analysis.number("startingStep")? {
            draft.note(
                Fate::Approximated,
                analysis.path("startingStep"),
                format!("{step}: conditions count from the first weight on"),
            );
        }
        draft.rest(&analysis, |_| None);
    }
    if let Some(surge) = canary.take("maxSurge") {
        max_surge(draft, &canary.path("maxSurge"), &surge);
    }
    if canary.truth("dynamicStableScale")? == Some(true) {
        draft.set_strategy("stableDuringCanary", json!("Scale"));
    }
    draft.rest(canary, |field| match field {
        "maxUnavailable" => Some("users always have as many ready pods as replicas says"),
        "canaryMetadata" | "stableMetadata" => {
            Some("pods of a revision carry molt.dev/revision; their labels don't change with their role")
        }
        "antiAffinity" => Some("write it into the pod template"),
        "minPodsPerReplicaSet" => Some("the canary has as many pods as its weight needs, at least one"),
        _ => None,
    });
    Ok(())
}

/// As it is where there may be one pod more at least.
fn max_surge(draft: &mut Draft, field: &str, surge: &Value) {
    let percent = surge
        .as_str()
        .and_then(|s| s.strip_suffix('%')?.parse::<u32>().ok());
    let usable = surge.as_i64().is_some_and(|pods| pods >= 1)
        || percent.is_some_and(|percent| (1..=100).contains(&percent));
    if usable {
        draft.set("maxSurge", surge.clone());
    } else {
        let why =
            "is no number of pods of at least 1 and no percentage from 1% to 100%, so there is no bound";
        draft.note(Fate::NotCarriedOver, field, why);
    }
}

fn delays(draft: &mut Draft, strategy: &mut Fields) -> Result<(), Wrong> {
    for (from, to) in [
        ("scaleDownDelaySeconds", "scaleDownDelay"),
        ("abortScaleDownDelaySeconds", "abortScaleDownDelay"),
    ] {
        let Some(seconds) = strategy.number(from)? else {
            continue;
        };
        let field = strategy.path(from);
        let delay = if to == "abortScaleDownDelay" && seconds == 0.0 {
            // There it stands for ever, here it would be at once.
            let why =
                "0 keeps the pods of an aborted canary for good: 720h is written, the longest delay there is";
            draft.note(Fate::Approximated, &field, why);
            Some(duration(LONGEST))
        } else {
            draft.duration(&field, seconds * 1000.0)
        };
        if let Some(delay) = delay {
            draft.set_strategy(to, json!(delay));
        }
    }
    Ok(())
}

fn one_step(
    draft: &mut Draft,
    mut step: Fields,
    most: f64,
    all: &[Object],
    object: &Object,
) -> Result<(), Wrong> {
    if let Some(weight) = step.number("setWeight")? {
        draft.step_weight(&step.path("setWeight"), weight * 100.0 / most);
    }
    let field = step.path("pause");
    match step.take("pause") {
        None => {}
        Some(Value::Object(pause)) => {
            let mut pause = Fields::of(&object.to_string(), &field, Some(Value::Object(pause)))?;
            match pause.take("duration") {
                None => draft.push_step(&field, json!({"pause": {}})),
                Some(duration) => {
                    let text = duration
                        .as_str()
                        .map_or_else(|| duration.to_string(), str::to_owned);
                    let Some(millis) = millis(&text) else {
                        let why = format!(
                            "{} is no duration, such as 30 (seconds), 30s or 1h30m",
                            short(&duration)
                        );
                        return Err(step.wrong("pause.duration", why));
                    };
                    draft.step_pause(&format!("{field}.duration"), millis);
                }
            }
            draft.rest(&pause, |_| None);
        }
        Some(other) => return Err(step.wrong("pause", format!("has {}, and wants fields", short(&other)))),
    }
    if let Some(mut analysis) = step.maybe("analysis")? {
        run(draft, &mut analysis, all, object)?;
        draft.note(
            Fate::Approximated,
            step.path("analysis"),
            "conditions count at every weight, not at this step alone",
        );
        draft.rest(&analysis, |_| None);
    }
    if let Some(mut scale) = step.maybe("setCanaryScale")? {
        let field = step.path("setCanaryScale");
        canary_scale(draft, &mut scale, &field)?;
        draft.rest(&scale, |_| None);
    }
    if let Some(route) = step.maybe("setHeaderRoute")? {
        steps::argo_header_route(draft, &step.path("setHeaderRoute"), route)?;
    }
    if let Some(route) = step.maybe("setMirrorRoute")? {
        steps::argo_mirror(draft, &step.path("setMirrorRoute"), route)?;
    }
    draft.rest(&step, |field| match field {
        "experiment" => Some("the canary is compared with stable in every step: that is what decides here"),
        "plugin" => Some("steps of your own: a Job in guards.conditions runs once at each weight"),
        _ => None,
    });
    Ok(())
}

/// Pods of the canary, whatever its weight.
fn canary_scale(draft: &mut Draft, scale: &mut Fields, field: &str) -> Result<(), Wrong> {
    let (weight, replicas) = (scale.number("weight")?, scale.number("replicas")?);
    let matches = scale.take("matchTrafficWeight") == Some(Value::Bool(true));
    let wanted = match (weight, replicas) {
        (_, Some(replicas)) if replicas >= 1.0 => {
            json!({"replicas": replicas.min(f64::from(i32::MAX)) as i32})
        }
        (Some(weight), None) if weight >= 1.0 => json!({"percent": weight.min(100.0) as i32}),
        _ if matches => json!({"matchWeight": true}),
        _ => {
            let why = "a canary has one pod at least: abort it to have none";
            draft.note(Fate::NotCarriedOver, field, why);
            return Ok(());
        }
    };
    draft.push_step(field, json!({"setCanaryScale": wanted}));
    Ok(())
}

fn traffic(draft: &mut Draft, routing: &mut Fields, all: &[Object], object: &Object) -> Result<(), Wrong> {
    let mut plugins = routing.fields("plugins")?;
    if let Some(mut gateway) = plugins.maybe("argoproj-labs/gatewayAPI")? {
        let mut names: Vec<String> = gateway.text("httpRoute")?.into_iter().collect();
        for mut route in gateway.each("httpRoutes")? {
            names.extend(route.text("name")?);
            draft.rest(&route, |_| {
                Some("Molt changes the weights of the route's backends and nothing else")
            });
        }
        let other = gateway
            .text("namespace")?
            .filter(|namespace| object.namespace.as_ref() != Some(namespace));
        if let Some(namespace) = other.filter(|_| !names.is_empty()) {
            let why =
                format!("{namespace}: a route is looked for in the namespace of the service that names it");
            draft.note(Fate::NotCarriedOver, gateway.path("namespace"), why);
        }
        if let Some(name) = names.first() {
            let known = all
                .iter()
                .find(|o| o.kind == "HTTPRoute" && o.name == *name && o.is_near(object));
            match known {
                Some(route) => workload::by_route(draft, route),
                None => workload::own_route(draft, name),
            }
        }
        for other in names.iter().skip(1) {
            draft.note(
                Fate::NotCarriedOver,
                format!("HTTPRoute/{other}"),
                "a service has one route",
            );
        }
        draft.rest(&gateway, |_| Some("HTTPRoutes alone are steered"));
    }
    if let Some(mut istio) = routing.maybe("istio")? {
        super::istio::argo(draft, &mut istio, all, object)?;
    }
    draft.rest(&plugins, |_| {
        Some("traffic is divided by an HTTPRoute of the Gateway API, or a VirtualService of Istio")
    });
    draft.rest(routing, |field| match field {
        "managedRoutes" => Some("Molt's own route has the rules of its steps, whatever their names"),
        _ => Some("routers other than the Gateway API and Istio are not carried over: write traffic.gatewayAPI yourself (docs/traffic.md)"),
    });
    Ok(())
}

fn blue_green_strategy(
    draft: &mut Draft,
    strategy: &mut Fields,
    all: &[Object],
    object: &Object,
    services: &mut Vec<String>,
) -> Result<(), Wrong> {
    services.extend(strategy.text("activeService")?);
    draft.be_blue_green();
    delays(draft, strategy)?;
    if let Some(preview) = strategy.text("previewService")? {
        services.push(preview);
        let why =
            "testers come by a header: set previewTraffic, or let them use the Service <name>-<revision>";
        draft.note(Fate::Approximated, strategy.path("previewService"), why);
    }
    if let Some(pods) = strategy
        .number("previewReplicaCount")?
        .filter(|pods| *pods >= 1.0)
    {
        draft.set_strategy("previewReplicas", json!(pods.min(f64::from(i32::MAX)) as i32));
    }
    if let Some(automatic) = strategy.truth("autoPromotionEnabled")? {
        draft.set_strategy("autoPromotion", json!(automatic));
    }
    if strategy.take("autoPromotionSeconds").is_some() {
        let why = "it goes on by itself once all that is tried before has succeeded, or waits for a person: autoPromotion";
        draft.note(Fate::Approximated, strategy.path("autoPromotionSeconds"), why);
    }
    for (name, when) in [
        (
            "prePromotionAnalysis",
            "before users move and in the bake, whichever of both it was written for",
        ),
        ("postPromotionAnalysis", "in the bake, and before users move"),
    ] {
        if let Some(mut analysis) = strategy.maybe(name)? {
            run(draft, &mut analysis, all, object)?;
            draft.note(
                Fate::Approximated,
                strategy.path(name),
                format!("conditions count {when}"),
            );
            draft.rest(&analysis, |_| None);
        }
    }
    draft.rest(strategy, |field| match field {
        "scaleDownDelayRevisionLimit" => Some("one old revision is kept warm, for scaleDownDelay"),
        "antiAffinity" => Some("write it into the pod template"),
        "maxUnavailable" => Some("no pod goes before another one is there"),
        "activeMetadata" | "previewMetadata" => {
            Some("pods of a revision carry molt.dev/revision; their labels don't change with their role")
        }
        _ => None,
    });
    Ok(())
}

/// The metrics of an analysis: those of each template that it names.
fn run(draft: &mut Draft, analysis: &mut Fields, all: &[Object], object: &Object) -> Result<(), Wrong> {
    let mut given = Arguments::new();
    for mut argument in analysis.each("args")? {
        let name = argument.text("name")?.unwrap_or_default();
        if let Some(value) = argument.text("value")? {
            given.insert(name, value);
        } else if let Some(field) = argument
            .fields("valueFrom")?
            .fields("fieldRef")?
            .text("fieldPath")?
        {
            let value = match field.as_str() {
                "metadata.name" => Some(object.name.clone()),
                "metadata.namespace" => object.namespace.clone(),
                _ => None,
            };
            given.extend(value.map(|value| (name, value)));
        }
    }
    let templates = analysis.each("templates")?;
    let inherited = Inherited {
        arguments: given,
        dry: dry_run(&mut analysis.each("dryRun")?)?,
    };
    for mut reference in templates {
        let name = reference.text("templateName")?.unwrap_or_default();
        let field = reference.path("templateName");
        reference.take("clusterScope");
        draft.rest(&reference, |_| None);
        template_metrics(draft, &field, &name, &inherited, all, 0)?;
    }
    Ok(())
}

/// What a template gets from who names it.
struct Inherited {
    arguments: Arguments,
    /// Metrics with such names are evaluated and count for nothing.
    dry: Vec<Regex>,
}

/// The names in a list of `dryRun`: expressions that match somewhere in a metric's name.
fn dry_run(list: &mut [Fields]) -> Result<Vec<Regex>, Wrong> {
    let mut names = Vec::new();
    for entry in list {
        let pattern = entry.text("metricName")?.unwrap_or_default();
        let name = Regex::new(&pattern).map_err(|_| {
            entry.wrong(
                "metricName",
                format!("has {pattern:?}, which is no regular expression"),
            )
        })?;
        names.push(name);
    }
    Ok(names)
}

/// Templates may name others; so deep at most.
const DEEPEST: usize = 5;

fn template_metrics(
    draft: &mut Draft,
    field: &str,
    name: &str,
    given: &Inherited,
    all: &[Object],
    depth: usize,
) -> Result<(), Wrong> {
    let found = all
        .iter()
        .find(|object| is_template(object) && object.name == name);
    let Some(template) = found.filter(|_| depth < DEEPEST) else {
        draft.note(
            Fate::NotCarriedOver,
            field,
            format!("AnalysisTemplate {name} is not in the files: give it as well"),
        );
        return Ok(());
    };
    let mut spec = Fields::of(
        &template.to_string(),
        &format!("AnalysisTemplate/{name} spec"),
        template.value.get("spec").cloned(),
    )?;
    let mut arguments = Arguments::new();
    for mut argument in spec.each("args")? {
        if let (Some(name), Some(value)) = (argument.text("name")?, argument.text("value")?) {
            arguments.insert(name, value);
        }
    }
    arguments.extend(given.arguments.clone());
    let mut dry = dry_run(&mut spec.each("dryRun")?)?;
    dry.extend(given.dry.iter().cloned());
    for metric in spec.each_of("metrics", |value| metrics::filled_in(value, &arguments))? {
        metrics::of_argo(draft, metric, &arguments, &dry)?;
    }
    let inherited = Inherited { arguments, dry };
    for mut reference in spec.each("templates")? {
        let name = reference.text("templateName")?.unwrap_or_default();
        template_metrics(
            draft,
            &reference.path("templateName"),
            &name,
            &inherited,
            all,
            depth + 1,
        )?;
    }
    draft.rest(&spec, |field| match field {
        "measurementRetention" => Some("the last value of a condition is kept in the record"),
        _ => None,
    });
    Ok(())
}
