//! What the rules say of one PythonService, and its score.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kube_cel::KubeCelExt;
use kube_cel::cel::objects::{Key, Map};
use kube_cel::cel::{Context, Program, Value as Cel};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::catalogue::{Catalogue, Each, Needs, Rule, Severity, Unless};

/// What is known beside the object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Other objects, if they were looked for: else no rule that needs them is asked.
    pub related: Option<Related>,
    /// An autoscaler keeps its replicas.
    pub autoscaled: bool,
    /// A PodMonitor or ServiceMonitor selects its pods.
    pub monitored: bool,
}

/// Other objects that select its pods: how many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Related {
    /// PodDisruptionBudgets.
    pub disruption_budgets: usize,
    /// NetworkPolicies.
    pub network_policies: usize,
}

/// Where a rule does not hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// The field, such as `spec.template.spec.containers[0].image`; it need not be there.
    pub field: String,
}

/// A grade. It says no more than the score, but for an Error: then it is at most D.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Grade {
    /// 90 and more.
    A,
    /// 80 and more.
    B,
    /// 70 and more.
    C,
    /// 60 and more, or an Error.
    D,
    /// Less.
    F,
}

/// What the rules say.
#[derive(Clone, Debug, PartialEq)]
pub struct Review<'a> {
    /// Where they don't hold, in their order.
    pub findings: Vec<Finding<'a>>,
    /// What would be among them, were it not ignored by the annotation.
    pub ignored: Vec<Finding<'a>>,
    /// Ids of the annotation that no rule has.
    pub unknown: Vec<String>,
    /// The points that are held of a hundred. Rules that are ignored or don't apply count for nothing.
    pub score: u8,
    /// The grade.
    pub grade: Grade,
}

impl Review<'_> {
    /// The rules that don't hold, each once, what matters most first.
    pub fn failed(&self) -> Vec<&str> {
        let mut rules: Vec<&Rule> = self.findings.iter().map(|finding| finding.rule).collect();
        rules.dedup_by(|a, b| a.id == b.id);
        rules.sort_by_key(|rule| (std::cmp::Reverse(rule.severity), std::cmp::Reverse(rule.points)));
        rules.iter().map(|rule| rule.id.as_str()).collect()
    }
}

/// A rule that is no CEL.
#[derive(Debug, Error)]
#[error("{id}: {why}")]
pub struct BadRule {
    /// Of the rule or variable.
    pub id: String,
    /// What the parser says.
    pub why: String,
}

/// The rules, ready to be asked.
pub struct Engine {
    rules: Vec<(Rule, Program)>,
    variables: Vec<(String, Program)>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("rules", &self.rules.len())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Compiles a catalogue.
    pub fn new(catalogue: &Catalogue) -> Result<Self, BadRule> {
        let compile = |id: &str, text: &str| {
            Program::compile(text).map_err(|error| BadRule {
                id: id.to_owned(),
                why: error.to_string(),
            })
        };
        Ok(Self {
            rules: catalogue
                .rules
                .iter()
                .map(|rule| Ok((rule.clone(), compile(&rule.id, &rule.expression)?)))
                .collect::<Result<_, _>>()?,
            variables: catalogue
                .variables
                .iter()
                .map(|variable| {
                    Ok((
                        variable.name.clone(),
                        compile(&variable.name, &variable.expression)?,
                    ))
                })
                .collect::<Result<_, _>>()?,
        })
    }

    /// Asks every rule of an object, whose `spec.template` is that of the Deployment where it names one.
    pub fn review(&self, object: &Value, facts: Facts) -> Review<'_> {
        let (silent, unknown) = self.silent(object);
        let asked = Asked::new(self, object, facts);
        let (mut findings, mut ignored) = (Vec::new(), Vec::new());
        let (mut held, mut all) = (0, 0);
        for (rule, program) in &self.rules {
            let Some(failing) = asked.failing(rule, program) else {
                continue;
            };
            let is_silent = silent.contains(rule.id.as_str());
            if !is_silent {
                all += rule.points;
                held += if failing.is_empty() { rule.points } else { 0 };
            }
            let failing = failing.into_iter().map(|field| Finding { rule, field });
            if is_silent { &mut ignored } else { &mut findings }.extend(failing);
        }
        let score = (held * 100).checked_div(all).unwrap_or(100).min(100) as u8;
        let broken = findings
            .iter()
            .any(|finding| finding.rule.severity == Severity::Error);
        Review {
            grade: grade(score, broken),
            findings,
            ignored,
            unknown,
            score,
        }
    }

    /// The rules that the object's annotation names, and what it names beside them.
    fn silent<'o>(&self, object: &'o Value) -> (BTreeSet<&'o str>, Vec<String>) {
        let text = object["metadata"]["annotations"][crate::IGNORE].as_str();
        let (known, unknown): (Vec<&str>, Vec<&str>) = text
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|id| !id.is_empty())
            .partition(|id| self.rules.iter().any(|(rule, _)| rule.id == *id));
        (
            known.into_iter().collect(),
            unknown.into_iter().map(str::to_owned).collect(),
        )
    }
}

fn grade(score: u8, broken: bool) -> Grade {
    let grade = match score {
        90.. => Grade::A,
        80..90 => Grade::B,
        70..80 => Grade::C,
        60..70 => Grade::D,
        _ => Grade::F,
    };
    if broken { grade.max(Grade::D) } else { grade }
}

/// One object and what its rules see.
struct Asked<'a> {
    object: &'a Value,
    facts: Facts,
    context: Context<'static>,
    has_pod: bool,
}

impl<'a> Asked<'a> {
    fn new(engine: &Engine, object: &'a Value, facts: Facts) -> Self {
        let mut context = Context::default();
        context.register_all();
        context.add_variable_from_value("object", cel(object));
        if let Some(related) = facts.related {
            let counts = [
                ("disruptionBudgets", related.disruption_budgets),
                ("networkPolicies", related.network_policies),
            ];
            let counts = counts.map(|(name, count)| {
                (
                    name.to_owned(),
                    Cel::Int(i64::try_from(count).unwrap_or(i64::MAX)),
                )
            });
            context.add_variable_from_value("related", map(counts));
        }
        let has_pod = object["spec"]["template"]["spec"]["containers"]
            .as_array()
            .is_some_and(|containers| !containers.is_empty());
        if has_pod {
            let mut known: Vec<(String, Cel)> = Vec::new();
            for (name, program) in &engine.variables {
                // One that has no value is missed by the rules that use it, as in the API server.
                if let Ok(value) = program.execute(&context) {
                    known.push((name.clone(), value));
                    context.add_variable_from_value("variables", map(known.iter().cloned()));
                }
            }
        }
        Self {
            object,
            facts,
            context,
            has_pod,
        }
    }

    /// The fields of which a rule does not hold; `None` if it can't be asked.
    fn failing(&self, rule: &Rule, program: &Program) -> Option<Vec<String>> {
        if rule.needs == Some(Needs::Related) && self.facts.related.is_none() {
            return None;
        }
        let held = match rule.unless {
            Some(Unless::Autoscaled) => self.facts.autoscaled,
            Some(Unless::Monitored) => self.facts.monitored,
            None => false,
        };
        if held {
            return Some(Vec::new());
        }
        if rule.is_of_pod() && !self.has_pod {
            return None;
        }
        let Some(each) = rule.each else {
            let holds = truth(program, &self.context)?;
            return Some(if holds {
                Vec::new()
            } else {
                vec![rule.field.clone()]
            });
        };
        let mut failing = Vec::new();
        for (path, item) in items(self.object, each) {
            let mut scope = self.context.new_inner_scope();
            let name = match each {
                Each::Container => "container",
                Each::Variable => "variable",
            };
            scope.add_variable_from_value(name, cel(item));
            if !truth(program, &scope)? {
                failing.push(format!("{path}.{}", rule.field));
            }
        }
        Some(failing)
    }
}

/// What an expression says; nothing of an object that the schema would not let through, and that it trips over.
fn truth(program: &Program, context: &Context<'_>) -> Option<bool> {
    match program.execute(context) {
        Ok(Cel::Bool(holds)) => Some(holds),
        _ => None,
    }
}

/// The containers or environment variables of an object, with their paths.
fn items(object: &Value, each: Each) -> Vec<(String, &Value)> {
    let list = |at: &str, value: &'_ Value| -> Vec<(String, usize)> {
        let length = value.as_array().map_or(0, Vec::len);
        (0..length)
            .map(|index| (format!("{at}[{index}]"), index))
            .collect()
    };
    let pod = &object["spec"]["template"]["spec"];
    let mut found = Vec::new();
    for kind in ["containers", "initContainers"] {
        for (path, index) in list(&format!("spec.template.spec.{kind}"), &pod[kind]) {
            let container = &pod[kind][index];
            match each {
                Each::Container => found.push((path, container)),
                Each::Variable => {
                    for (path, index) in list(&format!("{path}.env"), &container["env"]) {
                        found.push((path, &container["env"][index]));
                    }
                }
            }
        }
    }
    found
}

fn map(fields: impl IntoIterator<Item = (String, Cel)>) -> Cel {
    let fields: HashMap<Key, Cel> = fields
        .into_iter()
        .map(|(name, value)| (Key::String(Arc::new(name)), value))
        .collect();
    Cel::Map(Map {
        map: Arc::new(fields),
    })
}

/// A value as a policy sees it. Keys stay as they are: those of annotations have dots.
fn cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(truth) => Cel::Bool(*truth),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Cel::Int(whole),
            None => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(cel).collect())),
        // A field that is null is absent for the API server.
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            map(fields.map(|(name, value)| (name.clone(), cel(value))))
        }
    }
}

#[cfg(test)]
#[path = "review_tests.rs"]
mod tests;
