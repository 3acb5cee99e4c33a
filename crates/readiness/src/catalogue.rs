//! The rules as they are written in `rules.yaml`.

use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How much it matters. The order is from the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Severity {
    /// Good to have.
    Info,
    /// It will cost users, or somebody a night.
    Warning,
    /// It breaks production, or gives it away.
    Error,
}

impl fmt::Display for Severity {
    /// `error`, `warning`, `info`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// What a rule is asked for, one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Each {
    /// Every container, init containers included: `container`.
    Container,
    /// Every environment variable of every container: `variable`.
    Variable,
}

/// What a rule needs beside the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Needs {
    /// Other objects, as `related`.
    Related,
}

/// Something beside the object that makes a rule hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Unless {
    /// An autoscaler keeps its replicas.
    Autoscaled,
    /// A PodMonitor or ServiceMonitor selects its pods.
    Monitored,
}

/// A part of expressions that has a name: `variables.<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// CEL.
    pub expression: String,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rule {
    /// Lower case words with `-` between them; what `molt.dev/lint-ignore` names.
    pub id: String,
    /// How much it matters.
    pub severity: Severity,
    /// What it counts for in the score.
    pub points: u32,
    /// The field that it is about; relative to each, if there is one.
    pub field: String,
    /// What is wrong where it does not hold.
    pub says: String,
    /// Why it matters.
    pub why: String,
    /// How to put it right.
    pub fix: String,
    /// CEL, true where all is well.
    pub expression: String,
    /// What it is asked for, one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<Each>,
    /// What it needs beside the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Needs>,
    /// What makes it hold whatever the object says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless: Option<Unless>,
    /// The field of the schema without which it can't be followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires: Option<String>,
    /// Examples that it must not let through: JSON patches of [`EXEMPLARY`].
    #[serde(default, skip_serializing)]
    pub fails: Vec<Value>,
    /// Further examples that it must let through.
    #[serde(default, skip_serializing)]
    pub passes: Vec<Value>,
}

impl Rule {
    /// It is about the pod template, and holds where there is none.
    pub fn is_of_pod(&self) -> bool {
        self.each.is_some() || self.expression.contains("variables.")
    }
}

/// Variables and rules.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// Parts that several expressions have; each may use those before it.
    pub variables: Vec<Variable>,
    /// The rules, in the order in which they are told.
    pub rules: Vec<Rule>,
}

/// The sample that every rule holds for, with the objects beside it, as YAML documents.
pub const EXEMPLARY: &str = include_str!("../../../deploy/samples/production.yaml");

static ALL: LazyLock<Catalogue> = LazyLock::new(|| {
    serde_saphyr::from_str(include_str!("../rules.yaml")).expect("rules.yaml is a catalogue, as a test says")
});

impl Catalogue {
    /// Every rule, those included that no version can follow yet.
    pub fn all() -> &'static Self {
        &ALL
    }

    /// The rules that a version can follow which has these of the fields that rules require.
    pub fn of_fields(fields: &[&str]) -> Self {
        let mut rules = Self::all().clone();
        let is_there = |path: &String| fields.contains(&path.as_str());
        rules
            .rules
            .retain(|rule| rule.requires.as_ref().is_none_or(is_there));
        rules
    }

    /// The rule of an id.
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_are_words_and_unique_and_the_status_has_place_for_all() {
        let all = &Catalogue::all().rules;
        let ids: BTreeSet<&str> = all.iter().map(|rule| rule.id.as_str()).collect();
        assert_eq!(ids.len(), all.len());
        assert!((50..=100).contains(&all.len()), "{}", all.len());
        for rule in all {
            let word = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(rule.id.chars().all(word) && rule.id.len() <= 32, "{}", rule.id);
            for text in [&rule.says, &rule.why, &rule.fix] {
                assert!(
                    !text.contains('\n') && !text.ends_with('.'),
                    "{}: {text}",
                    rule.id
                );
            }
            assert_eq!(rule.points == 0, rule.needs.is_some(), "{}", rule.id);
        }
    }

    #[test]
    fn a_rule_waits_for_the_field_that_it_asks_for() {
        let before = Catalogue::of_fields(&[]);
        assert!(before.rule("migration-gate").is_none() && before.rule("replicas").is_some());
        let after = Catalogue::of_fields(&["spec.gates.migrations"]);
        assert!(after.rule("migration-gate").is_some());
    }
}
