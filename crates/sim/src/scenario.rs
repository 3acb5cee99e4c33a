//! What stable and canary do, as a person writes it: `errors=1%,latency=40ms`, `crash@30s`, `errors=5%@6m`.

use std::str::FromStr;

use jiff::SignedDuration;
use thiserror::Error;

mod incidents;
mod units;

pub use incidents::{Incident, Incidents};
use units::{bytes_per_second, duration, factor, share};

pub use units::bytes;

/// Why a baseline or a scenario can't be understood: what, why, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{part:?} {reason}: {fix}")]
pub struct BadScenario {
    /// The part that is wrong, as it was written.
    pub part: String,
    /// What is wrong with it.
    pub reason: String,
    /// What to write instead.
    pub fix: String,
}

impl BadScenario {
    fn new(part: &str, reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            part: part.to_owned(),
            reason: reason.into(),
            fix: fix.into(),
        }
    }
}

const BASELINE_FORM: &str = "write errors=SHARE and latency=DURATION, such as errors=1%,latency=40ms";
/// What a word alone stands for.
const USUAL: [(&str, &str); 7] = [
    ("errors", "errors=5%"),
    ("latency", "latency=2x"),
    ("crash", "crash@30s"),
    ("hang", "hang=100%"),
    ("leak", "leak=10MB/min"),
    ("incident", "incident=10x@120s+300s"),
    ("connections", "connections=50@60s"),
];
const SCENARIO_FORM: &str = "write good, errors=5%, latency=2x, crash@30s, hang=100%, leak=10MB/min, incident=10x@120s+300s, connections=50@60s or no-traffic, or a word alone for the value shown here; join several by commas; errors, latency and hang may begin late, such as errors=5%@6m";

/// What stable does, and the canary too as far as the scenario says nothing else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Baseline {
    /// Share of requests that fail, 0 to 1.
    pub errors: f64,
    /// Median time of an answer. Times are log-normal, see [`LATENCY_SIGMA`].
    pub latency: SignedDuration,
}

/// Standard deviation of the logarithm of the time of an answer: with 0.5 the 99th percentile is 3.2 times
/// the median, as is usual for a service that waits for a database.
pub const LATENCY_SIGMA: f64 = 0.5;

impl Default for Baseline {
    /// One request in a thousand fails; half are answered within 40 ms.
    fn default() -> Self {
        Self {
            errors: 0.001,
            latency: SignedDuration::from_millis(40),
        }
    }
}

impl FromStr for Baseline {
    type Err = BadScenario;

    fn from_str(text: &str) -> Result<Self, BadScenario> {
        let mut baseline = Self::default();
        let mut seen = Vec::new();
        for part in parts(text, BASELINE_FORM)? {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| BadScenario::new(part, "is no part of a baseline", BASELINE_FORM))?;
            once(&mut seen, key, part)?;
            match key {
                "errors" => baseline.errors = share(part, value)?,
                "latency" => baseline.latency = positive(part, duration(part, value)?)?,
                _ => return Err(BadScenario::new(part, "is no part of a baseline", BASELINE_FORM)),
            }
        }
        Ok(baseline)
    }
}

/// How the canary differs from stable, and what happens to both. The default is a good release.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scenario {
    /// Share of the canary's requests that fail, 0 to 1; as stable's if absent.
    pub errors: Option<Harm<f64>>,
    /// The canary's median time of an answer; as stable's if absent.
    pub latency: Option<Harm<Latency>>,
    /// The canary's process ends so long after it became ready, in each of its lives.
    pub crash_after: Option<SignedDuration>,
    /// Share of the canary's requests that are accepted and never answered, 0 to 1. Such a canary still
    /// answers probes and scrapes.
    pub hang: Option<Harm<f64>>,
    /// Bytes per second by which the memory of each of the canary's pods grows; at the limit it is killed.
    pub leak: Option<f64>,
    /// What hits both.
    pub incidents: Incidents,
    /// Callers keep their connections, and the router chooses a revision for each of these alone.
    pub connections: Option<Connections>,
    /// Nobody sends anything.
    pub no_traffic: bool,
}

/// How the canary differs from stable, and since when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Harm<T> {
    /// What it does.
    pub what: T,
    /// It begins so long after the canary's first pod is ready, once for the whole revision: a pod that is restarted
    /// or comes later does the same as the others. Before, the canary is as stable is.
    pub after: SignedDuration,
}

/// Connections that are kept, all of them as busy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Connections {
    /// How many, 1 or more.
    pub count: u32,
    /// After so long, and whenever the weights change, a revision is chosen anew for each.
    pub last: SignedDuration,
}

/// The canary's median time of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Latency {
    /// So many times stable's.
    Factor(f64),
    /// This.
    Median(SignedDuration),
}

impl FromStr for Scenario {
    type Err = BadScenario;

    fn from_str(text: &str) -> Result<Self, BadScenario> {
        let mut scenario = Self::default();
        let mut seen = Vec::new();
        for part in parts(text, SCENARIO_FORM)? {
            let part = USUAL
                .iter()
                .find(|usual| usual.0 == part)
                .map_or(part, |usual| usual.1);
            let end = part.find(['=', '@']).unwrap_or(part.len());
            let (key, value) = (&part[..end], part.get(end + 1..).unwrap_or_default());
            // What both depend on may fail more than once.
            if key != "incident" {
                once(&mut seen, key, part)?;
            }
            match (key, part.as_bytes().get(end)) {
                ("good", None) => {}
                ("no-traffic", None) => scenario.no_traffic = true,
                ("errors", Some(b'=')) => scenario.errors = Some(late(part, value, share)?),
                ("hang", Some(b'=')) => scenario.hang = Some(late(part, value, share)?),
                ("latency", Some(b'=')) => scenario.latency = Some(late(part, value, latency)?),
                ("leak", Some(b'=')) => scenario.leak = Some(bytes_per_second(part, value)?),
                ("crash", Some(b'@')) => {
                    scenario.crash_after = Some(positive(part, duration(part, value)?)?);
                }
                ("incident", Some(b'=')) => scenario.incidents.add(part, value)?,
                ("connections", Some(b'=')) => scenario.connections = Some(connections(part, value)?),
                _ => return Err(BadScenario::new(part, "is no scenario", SCENARIO_FORM)),
            }
        }
        if seen.contains(&"good") && seen.iter().any(|key| !matches!(*key, "good" | "connections")) {
            return Err(BadScenario::new(
                text,
                "is good and not good",
                "leave good out, or join it with nothing but an incident or connections, which hit stable too",
            ));
        }
        Ok(scenario)
    }
}

fn parts<'a>(text: &'a str, form: &str) -> Result<impl Iterator<Item = &'a str>, BadScenario> {
    match text.split(',').find(|part| part.trim().is_empty()) {
        Some(part) => Err(BadScenario::new(part, "is empty", form)),
        None => Ok(text.split(',').map(str::trim)),
    }
}

fn once<'a>(seen: &mut Vec<&'a str>, key: &'a str, part: &str) -> Result<(), BadScenario> {
    if seen.contains(&key) {
        let fix = format!("write {key} once");
        return Err(BadScenario::new(part, format!("says {key} a second time"), fix));
    }
    seen.push(key);
    Ok(())
}

/// What the canary does, and after `@` when it begins.
fn late<T>(
    part: &str,
    value: &str,
    read: fn(&str, &str) -> Result<T, BadScenario>,
) -> Result<Harm<T>, BadScenario> {
    let (what, after) = match value.split_once('@') {
        Some((what, after)) => (what, duration(part, after)?),
        None => (value, SignedDuration::ZERO),
    };
    let what = read(part, what)?;
    Ok(Harm { what, after })
}

fn latency(part: &str, value: &str) -> Result<Latency, BadScenario> {
    if value.ends_with('x') {
        return Ok(Latency::Factor(factor(part, value)?));
    }
    let median = duration(part, value).map_err(|_| {
        let fix = "write a factor, such as latency=2x, or a median in whole hours (h), minutes (m), seconds (s) or milliseconds (ms), such as latency=80ms";
        BadScenario::new(part, "is neither a factor nor a duration", fix)
    })?;
    Ok(Latency::Median(positive(part, median)?))
}

fn connections(part: &str, value: &str) -> Result<Connections, BadScenario> {
    let form =
        "write connections=NUMBER@DURATION, how many and how long they last, such as connections=50@60s";
    let split = value.split_once('@');
    let read = split.and_then(|(count, last)| Some((count.parse().ok().filter(|n| *n > 0)?, last)));
    let Some((count, last)) = read else {
        return Err(BadScenario::new(
            part,
            "does not say how many last how long",
            form,
        ));
    };
    Ok(Connections {
        count,
        last: positive(part, duration(part, last)?)?,
    })
}

fn positive(part: &str, time: SignedDuration) -> Result<SignedDuration, BadScenario> {
    if time.is_zero() {
        return Err(BadScenario::new(
            part,
            "lasts no time",
            "write a millisecond or more",
        ));
    }
    Ok(time)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "what is written is read, to the last bit")]
mod tests;
