//! A PythonService in the making, with a note of all that it could not take over.

mod conditions;

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use serde::Deserialize;
use serde_json::{Map, Value, json};

pub(super) use self::conditions::Asked;
use self::conditions::Carried;
use super::input::{Fields, Object, Wrong};
use super::notifications;
use crate::controller::object::ServiceObject;
use crate::controller::validate::{Defaults, Known, validate};

/// Steps that a canary has at most.
pub(super) const MOST_STEPS: usize = 40;
/// Header routes that a canary has at most, by their names.
const MOST_HEADER_ROUTES: usize = 12;
/// Milliseconds of the longest duration.
pub(super) const LONGEST: f64 = 720.0 * 3_600_000.0;
/// What a service does without, where what another tool means by it can't be used here.
const SPARED: [&str; 3] = ["maxSurge", "minReadySeconds", "progressDeadline"];

/// How a field fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// Written as something that stands for it, or made up: to be looked at.
    Approximated,
    /// There is nothing like it.
    NotCarriedOver,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Approximated => "approximated",
            Self::NotCarriedOver => "not carried over",
        })
    }
}

/// A field that is not the same afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub fate: Fate,
    /// The field of the other tool's object.
    pub field: String,
    /// Why, and what to do by hand.
    pub why: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.fate, self.field, self.why)
    }
}

/// A PythonService in the making.
#[derive(Debug)]
pub(super) struct Draft {
    /// What it is made from.
    pub source: String,
    pub notes: Vec<Note>,
    metadata: Value,
    spec: Map<String, Value>,
    /// `canary` or `blueGreen`.
    strategy: &'static str,
    /// Each with the field that it comes from.
    steps: Vec<(String, Value)>,
    conditions: Vec<Carried>,
    slos: Vec<Value>,
    weight: i64,
}

impl Draft {
    pub fn new(object: &Object) -> Self {
        let mut notes = Vec::new();
        let mut metadata = json!({"name": object.name});
        if let Some(namespace) = &object.namespace {
            metadata["namespace"] = json!(namespace);
        }
        for part in ["labels", "annotations"] {
            if let Some(Value::Object(set)) = object.value.pointer(&format!("/metadata/{part}")) {
                let of_another = |key: &str| {
                    [
                        "kubectl.kubernetes.io/",
                        "rollout.argoproj.io/",
                        "deployment.kubernetes.io/",
                        notifications::PREFIX,
                    ]
                    .iter()
                    .any(|prefix| key.starts_with(prefix))
                };
                notes.extend(notifications::notes(set));
                let kept: Map<String, Value> = set
                    .iter()
                    .filter(|(key, _)| !of_another(key))
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect();
                if !kept.is_empty() {
                    metadata[part] = Value::Object(kept);
                }
            }
        }
        Self {
            source: object.to_string(),
            notes,
            metadata,
            spec: Map::new(),
            strategy: "canary",
            steps: Vec::new(),
            conditions: Vec::new(),
            slos: Vec::new(),
            weight: 0,
        }
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        self.metadata["name"].as_str().unwrap_or_default()
    }

    pub fn note(&mut self, fate: Fate, field: impl Into<String>, why: impl Into<String>) {
        let note = Note {
            fate,
            field: field.into(),
            why: why.into(),
        };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Tells of every field that is left, with `why` for those that it knows.
    pub fn rest(&mut self, fields: &Fields, why: impl Fn(&str) -> Option<&'static str>) {
        for field in fields.rest() {
            let last = field.rsplit('.').next().unwrap_or(&field);
            let why = why(last).unwrap_or("has no equivalent");
            self.note(Fate::NotCarriedOver, &field, why);
        }
    }

    pub fn set(&mut self, name: &str, value: Value) {
        self.spec.insert(name.to_owned(), value);
    }

    pub fn has(&self, name: &str) -> bool {
        self.spec.contains_key(name)
    }

    pub fn unset(&mut self, name: &str) {
        self.spec.remove(name);
    }

    /// A field of the Gateway API's route that Molt owns; `false` if there is none.
    pub fn set_in_owned_route(&mut self, name: &str, value: Value) -> bool {
        let gateway = self.spec.get_mut("traffic").and_then(|t| t.get_mut("gatewayAPI"));
        match gateway.filter(|gateway| gateway.get("parentRefs").is_some()) {
            Some(gateway) => {
                gateway[name] = value;
                true
            }
            None => false,
        }
    }

    /// All users at once.
    pub fn be_blue_green(&mut self) {
        self.strategy = "blueGreen";
        self.set("strategy", json!({"blueGreen": {}}));
    }

    /// All users move at once.
    pub fn is_blue_green(&self) -> bool {
        self.strategy == "blueGreen"
    }

    /// It has no steps after all.
    pub fn forget_steps(&mut self) {
        self.steps.clear();
    }

    /// A field of the strategy: `scaleDownDelay`.
    pub fn set_strategy(&mut self, name: &str, value: Value) {
        let strategy = self
            .spec
            .entry("strategy")
            .or_insert_with(|| json!({self.strategy: {}}));
        strategy[self.strategy][name] = value;
    }

    /// The weight that the last step asked for.
    pub fn weight(&self) -> i64 {
        self.weight
    }

    /// A step to a weight, made a whole percent that does not fall.
    pub fn step_weight(&mut self, field: &str, percent: f64) {
        let rounded = percent.round().clamp(0.0, 100.0) as i64;
        if (rounded as f64 - percent).abs() > f64::EPSILON {
            self.note(
                Fate::Approximated,
                field,
                format!("{percent} is written as {rounded}: weights are whole percents"),
            );
        }
        if rounded == 0 {
            self.note(
                Fate::NotCarriedOver,
                field,
                "a weight of 0 is no step: the canary has no users before its first weight",
            );
            return;
        }
        if rounded < self.weight {
            let why = format!(
                "{rounded} % after {} %: weights never fall here, so this step is left out",
                self.weight
            );
            self.note(Fate::NotCarriedOver, field, why);
            return;
        }
        self.weight = rounded;
        self.push_step(field, json!({"setWeight": rounded}));
    }

    /// A minimum dwell.
    pub fn step_pause(&mut self, field: &str, millis: f64) {
        if let Some(duration) = self.duration(field, millis) {
            self.push_step(field, json!({"pause": {"duration": duration}}));
        }
    }

    /// A step as it is.
    pub fn push_step(&mut self, field: &str, step: Value) {
        if self.steps.len() >= MOST_STEPS {
            self.note(
                Fate::NotCarriedOver,
                field,
                format!("a canary has at most {MOST_STEPS} steps: merge some"),
            );
        } else if self.takes_nothing_back(&step) {
            self.note(
                Fate::NotCarriedOver,
                field,
                "no step before it sets what it takes back",
            );
        } else {
            self.steps.push((field.to_owned(), step));
        }
    }

    /// The step ends what none before has begun, or what could not be carried over.
    fn takes_nothing_back(&self, step: &Value) -> bool {
        let begun = |is: &dyn Fn(&Value) -> bool| self.steps.iter().any(|(_, step)| is(step));
        let is_empty = |value: &Value| value.as_array().is_none_or(Vec::is_empty);
        match (step.get("setHeaderRoute"), step.get("setMirror")) {
            (Some(route), _) if is_empty(&route["match"]) => {
                !begun(&|step| step["setHeaderRoute"]["name"] == route["name"])
            }
            (_, Some(mirror)) if mirror["percent"] == 0 => !begun(&|step| step.get("setMirror").is_some()),
            _ => false,
        }
    }

    /// Takes out what needs a route that Molt owns, unless it has one.
    fn fit_the_route(&mut self) {
        let traffic = self.spec.get("traffic");
        let gateway = traffic.and_then(|t| t.get("gatewayAPI"));
        let is_owned = gateway.is_some_and(|gateway| gateway.get("httpRouteRef").is_none())
            || traffic.is_some_and(|t| t.pointer("/istio/hosts").is_some());
        let mut names = BTreeSet::new();
        for (field, step) in std::mem::take(&mut self.steps) {
            let header = step.pointer("/setHeaderRoute/name").and_then(Value::as_str);
            let why = if header.is_none() && step.get("setMirror").is_none() || is_owned {
                names.extend(header.map(str::to_owned));
                (names.len() > MOST_HEADER_ROUTES)
                    .then(|| format!("a route has rules for {MOST_HEADER_ROUTES} header routes at most"))
            } else {
                Some("needs a route that Molt owns, with traffic.gatewayAPI.parentRefs or traffic.istio.hosts: in a route of yours nothing but weights is changed, so write that rule yourself".to_owned())
            };
            match why {
                Some(why) => self.note(Fate::NotCarriedOver, field, why),
                None => self.steps.push((field, step)),
            }
        }
        // Pauses of a test by headers that could not be carried over: nobody would meet the canary in them.
        let meets = |step: &Value| {
            ["setWeight", "setHeaderRoute", "setMirror"]
                .iter()
                .any(|s| step.get(s).is_some())
        };
        if !self.steps.is_empty() && !self.steps.iter().any(|(_, step)| meets(step)) {
            self.steps.clear();
            let why = "without a step that leads anybody to the canary the default of 5, 10, 25 and 50 % with 60 s each is used";
            self.note(Fate::Approximated, "steps", why);
        }
    }

    /// No session lasts between the clusters that an objective is counted by.
    fn fit_the_sessions(&mut self) {
        let slos = self.spec.get("slos").and_then(Value::as_array);
        let by_cluster = slos.is_some_and(|slos| {
            let mut presets = slos.iter().map(|slo| &slo["sli"]["preset"]);
            presets.any(|preset| preset == "envoy-gateway")
        });
        let gateway = self.spec.get_mut("traffic").and_then(|t| t.get_mut("gatewayAPI"));
        let gateway = gateway.and_then(Value::as_object_mut).filter(|_| by_cluster);
        if gateway.is_some_and(|gateway| gateway.remove("sessionAffinity").is_some()) {
            // What was noted of it before no longer holds.
            let field = |note: &Note| note.field.ends_with(".sessionAffinity");
            let told = self.notes.iter().position(field);
            let field = told.map_or_else(String::new, |index| self.notes.remove(index).field);
            let why = "no session lasts beside objectives by envoy-gateway: choose a preset that is counted at the pods, and write it again";
            self.note(Fate::NotCarriedOver, field, why);
        }
    }

    /// Milliseconds as a duration of GEP-2257.
    pub fn duration(&mut self, field: &str, millis: f64) -> Option<String> {
        if !millis.is_finite() || millis < 0.0 {
            self.note(Fate::NotCarriedOver, field, "is no length of time");
            return None;
        }
        if millis > LONGEST {
            self.note(
                Fate::Approximated,
                field,
                "is cut to 720h, the longest duration there is",
            );
        }
        Some(duration(millis.min(LONGEST)))
    }

    /// An objective, unless one of its name is there.
    pub fn slo(&mut self, field: &str, slo: Value) {
        if self.slos.iter().all(|other| other["name"] != slo["name"]) {
            self.slos.push(slo);
        } else {
            self.drop_metric(field, "a metric before it is the objective of this name");
        }
    }

    /// Takes out a field that the service can do without, and gives its place.
    fn without(&mut self, field: &str) -> Option<String> {
        let name = field.strip_prefix("spec.")?;
        let spared = SPARED.contains(&name) && self.spec.remove(name).is_some();
        let of_strategy = |strategy: &mut Value| {
            let canary = strategy.pointer_mut("/canary").and_then(Value::as_object_mut);
            canary.is_some_and(|canary| canary.remove("stableDuringCanary").is_some())
        };
        let scales = name == "strategy.canary.stableDuringCanary"
            && self.spec.get_mut("strategy").is_some_and(of_strategy);
        (spared || scales).then(|| field.to_owned())
    }

    /// The PythonService, checked as the operator checks it.
    pub fn finish(mut self) -> Result<(Value, Vec<Note>, String), Wrong> {
        if self.slos.is_empty() {
            self.note(
                Fate::Approximated,
                "spec.slos",
                "PLACEHOLDER: an objective decides every rollout, and none could be derived. Set preset to what instruments your application, and objective to what you promise your users",
            );
            self.slos.push(json!({"name": "availability", "objective": "99.9", "sli": {"preset": "otel", "type": "availability"}}));
        }
        self.spec
            .insert("slos".to_owned(), Value::Array(std::mem::take(&mut self.slos)));
        self.fit_the_route();
        self.fit_the_sessions();
        loop {
            let mut spec = self.spec.clone();
            if !self.steps.is_empty() {
                let strategy = spec
                    .entry("strategy")
                    .or_insert_with(|| json!({self.strategy: {}}));
                let steps = self.steps.iter().map(|(_, step)| step.clone()).collect();
                strategy[self.strategy]["steps"] = Value::Array(steps);
            }
            if !self.conditions.is_empty() {
                let conditions = self.written_conditions();
                spec.insert("guards".to_owned(), json!({"conditions": conditions}));
            }
            if let Some(address) = self.address() {
                spec.insert("metrics".to_owned(), json!({"prometheus": {"address": address}}));
            }
            let service = json!({
                "apiVersion": "molt.dev/v1alpha1", "kind": "PythonService", "metadata": self.metadata, "spec": spec,
            });
            let object = ServiceObject::deserialize(&service)
                .map_err(|error| Wrong::at(&self.source, format!("metadata: can't be read: {error}")))?;
            let defaults = Defaults {
                prometheus_address: Some("http://prometheus".to_owned()),
                ..Defaults::default()
            };
            let errors = validate(&object, &defaults, Known::default()).errors;
            let Some(error) = errors.first() else {
                self.tell_other_addresses();
                return Ok((service, self.notes, self.source));
            };
            // What another tool takes for a query or a Job need not be one here; the rest stays of use.
            let of_list = |list: &str| index_in(&error.field, list);
            if let Some(index) = of_list("spec.strategy.canary.steps").filter(|i| *i < self.steps.len()) {
                let (field, _) = self.steps.remove(index);
                self.note(Fate::NotCarriedOver, field, error.message.clone());
                continue;
            }
            if let Some(field) = self.without(&error.field) {
                self.note(Fate::NotCarriedOver, field, error.message.clone());
                continue;
            }
            let Some(index) =
                of_list("spec.guards.conditions").filter(|index| *index < self.conditions.len())
            else {
                let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
                return Err(Wrong::at(&self.source, all.join("; ")));
            };
            let place = error.field.split_once("].").map_or("", |(_, field)| field);
            let why = format!("can't be a condition: {place}: {}", error.message);
            self.remove_condition(index, why);
        }
    }
}

/// The index in a field such as `list[3].name`.
fn index_in(field: &str, list: &str) -> Option<usize> {
    let index = field.strip_prefix(list)?.strip_prefix('[')?.split_once(']')?.0;
    index.parse().ok()
}

/// A duration of GEP-2257, `1h30m`, to the millisecond.
pub(super) fn duration(millis: f64) -> String {
    let mut left = millis.max(0.0).round() as u64;
    let mut text = String::new();
    for (unit, length) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if left >= length {
            let _ = write!(text, "{}{unit}", left / length);
            left %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Milliseconds of a duration as Go writes it, `1h30m`, `1.5h`; a bare number counts seconds.
pub(super) fn millis(text: &str) -> Option<f64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.is_finite() && seconds >= 0.0).then_some(seconds * 1000.0);
    }
    let (mut rest, mut sum) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let units = [
            ("ms", 1.0),
            ("us", 0.001),
            ("ns", 0.000_001),
            ("h", 3_600_000.0),
            ("m", 60_000.0),
            ("s", 1_000.0),
        ];
        let (unit, length) = units.iter().find(|(unit, _)| rest[digits..].starts_with(unit))?;
        sum += number * length;
        rest = &rest[digits + unit.len()..];
    }
    (!text.is_empty() && sum.is_finite()).then_some(sum)
}

/// A name of lower case letters, digits and `-`.
pub(super) fn label(text: &str, fallback: &str) -> String {
    let mapped: String = text
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                c
            } else {
                '-'
            }
        })
        .take(58)
        .collect();
    let name = mapped.trim_matches('-');
    if name.is_empty() {
        fallback.to_owned()
    } else {
        name.to_owned()
    }
}
