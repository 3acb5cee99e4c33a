//! Steps beside weights: requests with certain headers, and copies. Both need a route that Molt owns, which is not
//! known before all of a draft is.

use serde_json::{Value, json};

use super::draft::{Draft, Fate, label};
use super::input::{Fields, Wrong};

/// Characters of a header's name, and of its value.
const LONGEST_NAME: usize = 256;
const LONGEST_VALUE: usize = 1024;
/// Headers of one route.
const MOST_HEADERS: usize = 16;
/// Methods that are copied where nobody names others.
const SAFE: &str = "GET, HEAD and OPTIONS alone are copied, for a copy of anything else would do it twice: name methods for more";

/// `exact`, `prefix` or `regex`, and what it is.
fn value(draft: &mut Draft, mut wanted: Fields) -> Result<Option<(&'static str, String)>, Wrong> {
    let mut found = None;
    for how in ["exact", "prefix", "regex"] {
        if let Some(text) = wanted.text(how)?
            && (1..=LONGEST_VALUE).contains(&text.chars().count())
        {
            found.get_or_insert((how, text));
        }
    }
    draft.rest(&wanted, |_| None);
    Ok(found)
}

fn header(name: &str, value: (&str, String)) -> Value {
    let (how, text) = value;
    json!({"headerName": name, how: text})
}

/// A step to the canary for what matches; without any match the route of that name ends.
fn push_route(draft: &mut Draft, field: &str, name: &str, matches: Option<Vec<Value>>) {
    match matches {
        Some(matches)
            if matches.len() <= MOST_HEADERS
                && matches.iter().all(|m| {
                    m["headerName"]
                        .as_str()
                        .is_some_and(|n| (1..=LONGEST_NAME).contains(&n.len()))
                }) =>
        {
            let mut route = json!({"name": label(name, "testers")});
            if !matches.is_empty() {
                route["match"] = json!(matches);
            }
            draft.push_step(field, json!({"setHeaderRoute": route}));
        }
        _ => {
            let why = format!(
                "can't be a header route: it takes up to {MOST_HEADERS} headers, each with a name of up to {LONGEST_NAME} characters and an exact value, a prefix or a regex of up to {LONGEST_VALUE}"
            );
            draft.note(Fate::NotCarriedOver, field, why);
        }
    }
}

/// `setHeaderRoute` of Argo Rollouts.
pub(super) fn argo_header_route(draft: &mut Draft, field: &str, mut route: Fields) -> Result<(), Wrong> {
    let name = route.text("name")?.unwrap_or_default();
    let mut matches = Some(Vec::new());
    for mut wanted in route.each("match")? {
        let name = wanted.text("headerName")?.unwrap_or_default();
        let value = value(draft, wanted.fields("headerValue")?)?;
        draft.rest(&wanted, |_| None);
        matches = matches
            .zip(value)
            .map(|(matches, value)| [matches, vec![header(&name, value)]].concat());
    }
    if matches.as_ref().is_some_and(|m| m.len() > 1) {
        let why = "several headers: a request must have all of them here; write a step for each where one is enough";
        draft.note(Fate::Approximated, field, why);
    }
    push_route(draft, field, &name, matches);
    draft.rest(&route, |_| None);
    Ok(())
}

/// `setMirrorRoute` of Argo Rollouts.
pub(super) fn argo_mirror(draft: &mut Draft, field: &str, mut route: Fields) -> Result<(), Wrong> {
    route.take("name");
    let percent = route.number("percentage")?;
    let wanted = route.each("match")?;
    let (percent, mut methods) = if wanted.is_empty() {
        (0.0, Vec::new())
    } else {
        (percent.unwrap_or(100.0), Vec::new())
    };
    for mut wanted in wanted {
        if let Some((how, method)) = match wanted.maybe("method")? {
            Some(method) => value(draft, method)?,
            None => None,
        } {
            if how == "exact" {
                methods.push(method.to_uppercase());
            } else {
                draft.note(Fate::NotCarriedOver, field, "methods are named one by one");
            }
        }
        draft.rest(&wanted, |_| {
            Some("requests are copied whatever their path and headers")
        });
    }
    push_mirror(draft, field, percent, methods);
    draft.rest(&route, |_| None);
    Ok(())
}

fn push_mirror(draft: &mut Draft, field: &str, percent: f64, mut methods: Vec<String>) {
    const KNOWN: [&str; 9] = [
        "GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "TRACE",
    ];
    methods.retain(|method| KNOWN.contains(&method.as_str()));
    methods.sort_unstable();
    methods.dedup();
    let percent = percent.round().clamp(0.0, 100.0) as i64;
    let mut mirror = json!({"percent": percent});
    if percent > 0 && methods.is_empty() {
        draft.note(Fate::Approximated, field, SAFE);
    } else if percent > 0 {
        mirror["methods"] = json!(methods);
    }
    draft.push_step(field, json!({"setMirror": mirror}));
}

/// The requests that Flagger's A/B test sends to the new version: any of these, each with all of its headers.
pub(super) fn flagger_matches(draft: &mut Draft, field: &str, all: Vec<Fields>) -> Result<(), Wrong> {
    for (index, mut wanted) in all.into_iter().enumerate() {
        let mut matches = Some(Vec::new());
        let mut headers = wanted.fields("headers")?;
        let names: Vec<String> = headers.names().map(str::to_owned).collect();
        for name in names {
            let value = value(draft, headers.fields(&name)?)?;
            matches = matches
                .zip(value)
                .map(|(matches, value)| [matches, vec![header(&name, value)]].concat());
        }
        draft.rest(&wanted, |_| Some("requests are chosen by their headers"));
        let place = format!("{field}[{index}]");
        // Without a header it would be everybody.
        push_route(
            draft,
            &place,
            &format!("ab-{}", index + 1),
            matches.filter(|m| !m.is_empty()),
        );
    }
    Ok(())
}

/// Flagger copies requests for one interval, before the first weight.
pub(super) fn flagger_mirror(draft: &mut Draft, field: &str, percent: f64, interval: f64) {
    push_mirror(draft, field, percent, Vec::new());
    draft.step_pause(field, interval);
    draft.push_step(field, json!({"setMirror": {"percent": 0}}));
}
