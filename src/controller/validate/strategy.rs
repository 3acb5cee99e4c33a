//! The way of a new revision to all users: steps, and what is kept how long.

use jiff::SignedDuration;
use molt_core::plan::{Plan, RouteMode};
use molt_core::step::{self, CanaryScale, HeaderValue, Step};

use super::FieldError;
use super::fields::{check_label, duration, in_range};
use crate::api::v1alpha1::{
    BlueGreen, Canary, CanaryStep, Duration, HeaderMatch, HeaderRoute, Method, Mirror, Strategy,
};

/// Steps that a strategy can have.
const MOST_STEPS: usize = 40;
/// Header routes at a time: an HTTPRoute takes 16 rules, and has one for all users and one for copies beside.
const MOST_HEADER_ROUTES: usize = 12;
/// Headers that one rule of an HTTPRoute can match.
const MOST_HEADERS: usize = 16;
/// Methods that are copied unless others are named: those that change nothing.
const SAFE: [Method; 3] = [Method::Get, Method::Head, Method::Options];

/// A strategy whose every field is resolved.
pub(super) struct Way {
    pub steps: Vec<Step>,
    pub at_once: bool,
    pub bake: SignedDuration,
    pub watch: SignedDuration,
    pub scale_down_delay: SignedDuration,
    pub abort_scale_down_delay: SignedDuration,
}

/// The way that a spec asks for; that of the fallback where it says nothing.
pub(super) fn resolve(strategy: Option<&Strategy>, fallback: &Plan, errors: &mut Vec<FieldError>) -> Way {
    let path = "spec.strategy";
    let unset = Strategy {
        canary: Some(Canary::default()),
        blue_green: None,
    };
    let strategy = strategy.unwrap_or(&unset);
    if strategy.canary.is_some() == strategy.blue_green.is_some() {
        let has = if strategy.canary.is_some() {
            "has both canary and blueGreen"
        } else {
            "has neither canary nor blueGreen"
        };
        let message = format!(
            "{has}: set canary for growing shares of the traffic, or blueGreen for all users at once"
        );
        errors.push(FieldError::new(path, message));
    }
    let way = match (&strategy.canary, &strategy.blue_green) {
        (None, Some(blue_green)) => all_at_once(blue_green, fallback, errors),
        (canary, _) => by_shares(canary.as_ref().unwrap_or(&Canary::default()), fallback, errors),
    };
    let previews = |step: &Step| matches!(step, Step::SetHeaderRoute { .. } | Step::SetMirror(_));
    if fallback.route != RouteMode::Owned
        && let Some(step) = way.steps.iter().find(|step| previews(step))
    {
        let message = format!(
            "asks for a {step}, which needs a route that Molt owns, and not one of yours, where Molt changes nothing but weights, or none: set spec.traffic.gatewayAPI.parentRefs or spec.traffic.istio.hosts, or leave it out and write that rule yourself"
        );
        errors.push(FieldError::new(path, message));
    }
    way
}

/// The delays that both strategies have, by the path of the strategy.
struct Delays<'a> {
    path: &'static str,
    bake: Option<&'a Duration>,
    watch: Option<&'a Duration>,
    scale_down: Option<&'a Duration>,
    abort_scale_down: Option<&'a Duration>,
}

fn way(delays: &Delays<'_>, steps: Vec<Step>, fallback: &Plan, errors: &mut Vec<FieldError>) -> Way {
    let mut delay = |field: &str, written, default| {
        let path = format!("{}.{field}", delays.path);
        duration(errors, &path, written, default, SignedDuration::ZERO)
    };
    Way {
        steps,
        at_once: false,
        bake: delay("bake", delays.bake, fallback.bake),
        watch: delay("watch", delays.watch, fallback.watch),
        scale_down_delay: delay("scaleDownDelay", delays.scale_down, fallback.scale_down_delay),
        abort_scale_down_delay: delay(
            "abortScaleDownDelay",
            delays.abort_scale_down,
            fallback.abort_scale_down_delay,
        ),
    }
}

fn by_shares(canary: &Canary, fallback: &Plan, errors: &mut Vec<FieldError>) -> Way {
    let path = "spec.strategy.canary";
    let steps = match &canary.steps {
        Some(steps) => resolve_steps(steps, errors),
        None => fallback.steps.clone(),
    };
    let delays = Delays {
        path,
        bake: canary.bake.as_ref(),
        watch: canary.watch.as_ref(),
        scale_down: canary.scale_down_delay.as_ref(),
        abort_scale_down: canary.abort_scale_down_delay.as_ref(),
    };
    way(&delays, steps, fallback, errors)
}

fn all_at_once(blue_green: &BlueGreen, fallback: &Plan, errors: &mut Vec<FieldError>) -> Way {
    let path = "spec.strategy.blueGreen";
    let scale = match blue_green.preview_replicas {
        Some(pods) => {
            let field = format!("{path}.previewReplicas");
            CanaryScale::Replicas(in_range(errors, &field, Some(pods), 1..=i32::MAX, 1))
        }
        None => CanaryScale::Percent(100),
    };
    let mut steps = vec![Step::SetCanaryScale(scale)];
    if let Some(preview) = &blue_green.preview_traffic {
        steps.extend(
            header_match(&format!("{path}.previewTraffic"), preview, errors).map(|matched| {
                Step::SetHeaderRoute {
                    name: "preview".to_owned(),
                    matches: vec![matched],
                }
            }),
        );
    }
    if blue_green.auto_promotion == Some(false) {
        steps.push(Step::Pause {});
    }
    let delays = Delays {
        path,
        bake: blue_green.bake.as_ref(),
        watch: blue_green.watch.as_ref(),
        scale_down: blue_green.scale_down_delay.as_ref(),
        abort_scale_down: blue_green.abort_scale_down_delay.as_ref(),
    };
    Way {
        at_once: true,
        ..way(&delays, steps, fallback, errors)
    }
}

fn resolve_steps(steps: &[CanaryStep], errors: &mut Vec<FieldError>) -> Vec<Step> {
    let path = "spec.strategy.canary.steps";
    if steps.is_empty() || steps.len() > MOST_STEPS {
        let message = format!(
            "has {} steps: write 1 to {MOST_STEPS}, or leave it out for 5, 10, 25 and 50 %",
            steps.len()
        );
        errors.push(FieldError::new(path, message));
    }
    let mut resolved: Vec<Step> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let last = resolved.iter().filter_map(Step::weight).next_back().unwrap_or(0);
        resolved.extend(resolve_step(&format!("{path}[{index}]"), step, last, errors));
    }
    check_removals(path, steps, errors);
    let mut names: Vec<&str> = Vec::new();
    for step in &resolved {
        if let Step::SetHeaderRoute { name, matches } = step {
            names.retain(|other| other != name);
            if !matches.is_empty() {
                names.push(name);
            }
        }
        if names.len() > MOST_HEADER_ROUTES {
            let message = format!(
                "has more than {MOST_HEADER_ROUTES} header routes at a time, which an HTTPRoute has no rules for: take earlier ones back with a step without match"
            );
            errors.push(FieldError::new(path, message));
            break;
        }
    }
    resolved
}

/// What a step takes back has been set by one before: otherwise its name is mistyped, or it is in the wrong place, and what
/// it should have ended goes on.
fn check_removals(path: &str, steps: &[CanaryStep], errors: &mut Vec<FieldError>) {
    let mut names: Vec<&str> = Vec::new();
    let mut copies = false;
    for (index, step) in steps.iter().enumerate() {
        if let Some(route) = &step.set_header_route {
            let name = route.name.as_str();
            let sets = route.matches.as_ref().is_some_and(|matches| !matches.is_empty());
            if !sets && !names.contains(&name) {
                let field = format!("{path}[{index}].setHeaderRoute.name");
                errors.push(FieldError::new(field, nothing_to_take_back(name, &names)));
            }
            names.retain(|other| *other != name);
            names.extend(Some(name).filter(|_| sets));
        }
        if let Some(mirror) = &step.set_mirror {
            if mirror.percent == 0 && !copies {
                let message =
                    "0 ends copies, and no step before has begun any: write 1 to 100, or leave the step out";
                errors.push(FieldError::new(
                    format!("{path}[{index}].setMirror.percent"),
                    message,
                ));
            }
            copies = mirror.percent != 0;
        }
    }
}

/// Why a step without match does nothing, where there are these header routes.
fn nothing_to_take_back(name: &str, there: &[&str]) -> String {
    let there = if there.is_empty() {
        "there is none then".to_owned()
    } else {
        format!("there is {} then", there.join(" and "))
    };
    format!(
        "{name:?} is taken back, for the step has no match, and no step before has set it ({there}): correct the name, write match to set it, or leave the step out"
    )
}

fn resolve_step(path: &str, step: &CanaryStep, last: u8, errors: &mut Vec<FieldError>) -> Option<Step> {
    let set = [
        ("setWeight", step.set_weight.is_some()),
        ("pause", step.pause.is_some()),
        ("setCanaryScale", step.set_canary_scale.is_some()),
        ("setHeaderRoute", step.set_header_route.is_some()),
        ("setMirror", step.set_mirror.is_some()),
    ];
    let set: Vec<&str> = set
        .iter()
        .filter(|(_, set)| *set)
        .map(|(name, _)| *name)
        .collect();
    if set.len() > 1 {
        let message = format!("has {}: make a step of each", set.join(" and "));
        errors.push(FieldError::new(path, message));
        return None;
    }
    if let Some(weight) = step.set_weight {
        return weight_step(&format!("{path}.setWeight"), weight, last, errors);
    }
    if let Some(pause) = &step.pause {
        let Some(written) = &pause.duration else {
            return Some(Step::Pause {});
        };
        let path = format!("{path}.pause.duration");
        let zero = SignedDuration::ZERO;
        let dwell = duration(errors, &path, Some(written), zero, zero);
        let seconds = dwell.as_millis().div_euclid(1000) + i128::from(dwell.subsec_millis() > 0);
        return Some(Step::Dwell(u32::try_from(seconds).unwrap_or(u32::MAX)));
    }
    if let Some(scale) = &step.set_canary_scale {
        let path = format!("{path}.setCanaryScale");
        let scale = match (scale.replicas, scale.percent, scale.match_weight) {
            (Some(pods), None, None) => CanaryScale::Replicas(in_range(
                errors,
                &format!("{path}.replicas"),
                Some(pods),
                1..=i32::MAX,
                1,
            )),
            (None, Some(percent), None) => CanaryScale::Percent(in_range(
                errors,
                &format!("{path}.percent"),
                Some(percent),
                1..=100,
                100,
            )),
            (None, None, Some(true)) => CanaryScale::MatchWeight(true),
            _ => {
                let message = "must have exactly one of replicas, percent and matchWeight: true";
                errors.push(FieldError::new(path, message));
                return None;
            }
        };
        return Some(Step::SetCanaryScale(scale));
    }
    if let Some(route) = &step.set_header_route {
        return Some(header_route(&format!("{path}.setHeaderRoute"), route, errors));
    }
    if let Some(mirror) = &step.set_mirror {
        return Some(mirror_step(&format!("{path}.setMirror"), mirror, errors));
    }
    let message = "is empty: write setWeight, pause, setCanaryScale, setHeaderRoute or setMirror";
    errors.push(FieldError::new(path, message));
    None
}

fn weight_step(path: &str, weight: i32, last: u8, errors: &mut Vec<FieldError>) -> Option<Step> {
    let message = match u8::try_from(weight).ok().filter(|w| (1..=100).contains(w)) {
        Some(weight) if weight >= last => return Some(Step::SetWeight(weight)),
        Some(weight) => format!("{weight} comes after {last}; weights must not fall: put the steps in order"),
        None => format!("{weight} is no share of the traffic: write whole percents from 1 to 100"),
    };
    errors.push(FieldError::new(path, message));
    None
}

fn header_route(path: &str, route: &HeaderRoute, errors: &mut Vec<FieldError>) -> Step {
    check_label(&format!("{path}.name"), &route.name, errors);
    let matches = route.matches.as_deref().unwrap_or_default();
    if matches.len() > MOST_HEADERS {
        let message = format!("has {} headers: write {MOST_HEADERS} at most", matches.len());
        errors.push(FieldError::new(format!("{path}.match"), message));
    }
    let matches: Vec<step::HeaderMatch> = matches
        .iter()
        .enumerate()
        .filter_map(|(index, matched)| header_match(&format!("{path}.match[{index}]"), matched, errors))
        .collect();
    let twice = |(index, matched): &(usize, &step::HeaderMatch)| {
        matches[..*index]
            .iter()
            .any(|other| other.header == matched.header)
    };
    if let Some((_, matched)) = matches.iter().enumerate().find(twice) {
        let message = format!(
            "matches the header {} twice, which a route can't: write both into one regex (a cookie is in the header cookie), or give each a step of its own",
            matched.header
        );
        errors.push(FieldError::new(format!("{path}.match"), message));
    }
    Step::SetHeaderRoute {
        name: route.name.clone(),
        matches,
    }
}

fn mirror_step(path: &str, mirror: &Mirror, errors: &mut Vec<FieldError>) -> Step {
    let percent: u8 = in_range(
        errors,
        &format!("{path}.percent"),
        Some(mirror.percent),
        0..=100,
        0,
    );
    let mut methods = mirror.methods.clone().unwrap_or_else(|| SAFE.to_vec());
    methods.sort_unstable();
    methods.dedup();
    if methods.is_empty() {
        let message = "is empty: name the methods that are copied, or leave it out for GET, HEAD and OPTIONS";
        errors.push(FieldError::new(format!("{path}.methods"), message));
    }
    Step::SetMirror(step::Mirror {
        percent,
        methods: methods
            .iter()
            .map(|method| format!("{method:?}").to_uppercase())
            .collect(),
    })
}

fn header_match(
    path: &str,
    matched: &HeaderMatch,
    errors: &mut Vec<FieldError>,
) -> Option<step::HeaderMatch> {
    let mut wrong = |field: &str, message: &str| {
        errors.push(FieldError::new(format!("{path}{field}"), message));
        None
    };
    let value = match (&matched.exact, &matched.prefix, &matched.regex) {
        (Some(exact), None, None) => HeaderValue::Exact(exact.clone()),
        (None, Some(prefix), None) => HeaderValue::Regex(format!("{}.*", literally(prefix))),
        (None, None, Some(regex)) => HeaderValue::Regex(regex.clone()),
        _ => return wrong("", "must have exactly one of exact, prefix and regex"),
    };
    match (&matched.header_name, &matched.cookie_name) {
        (Some(name), None) if is_token(name) => Some(step::HeaderMatch {
            header: name.to_lowercase(),
            value,
        }),
        (Some(_), None) => wrong(".headerName", "is no name of a header: letters, digits and '-'"),
        (None, Some(name)) if is_token(name) => match &matched.exact {
            Some(exact) => Some(step::HeaderMatch {
                header: "cookie".to_owned(),
                value: HeaderValue::Regex(format!("(.*; *)?{}={}(;.*)?", literally(name), literally(exact))),
            }),
            None => wrong(".cookieName", "is matched by its exact value: set exact"),
        },
        (None, Some(_)) => wrong(
            ".cookieName",
            "is no name of a cookie: letters, digits, '-' and '_'",
        ),
        _ => wrong("", "must have exactly one of headerName and cookieName"),
    }
}

/// A token of HTTP (RFC 9110, 5.6.2), as long as a route takes it.
fn is_token(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    (1..=256).contains(&name.len()) && name.chars().all(is_part)
}

/// A text as a regular expression that matches just it.
fn literally(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
