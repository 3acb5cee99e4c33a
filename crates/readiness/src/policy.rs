//! The rules as a ValidatingAdmissionPolicy, which the API server checks by itself.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::catalogue::{Catalogue, Each, Rule, Severity};

/// What to do with an object that a rule does not hold for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell whoever applies it.
    Warn,
    /// Refuse it.
    Deny,
    /// Note it in the API server's audit log.
    Audit,
}

/// What a policy is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The name of the policy and of its binding.
    pub name: String,
    /// The rules of this severity and above.
    pub severity: Severity,
    /// What to do.
    pub action: Action,
    /// Labels that a namespace must have; with none, every namespace.
    pub namespaces: BTreeMap<String, String>,
    /// The annotation `molt.dev/lint-ignore` counts.
    pub heed_ignore: bool,
}

/// The policy and its binding.
pub fn policy(catalogue: &Catalogue, options: &Options) -> [Value; 2] {
    let rules = catalogue
        .rules
        .iter()
        // The API server knows no other object.
        .filter(|rule| rule.needs.is_none() && rule.severity >= options.severity);
    let validations: Vec<Value> = rules
        .map(|rule| {
            json!({
                "expression": validation(rule, options.heed_ignore),
                "message": format!("{}: {}: {}", rule.id, rule.says, rule.fix),
            })
        })
        .collect();
    let mut variables: Vec<Value> = catalogue
        .variables
        .iter()
        .map(|variable| json!({"name": variable.name, "expression": variable.expression}))
        .collect();
    if options.heed_ignore {
        let key = crate::IGNORE;
        let expression = format!(
            "has(object.metadata.annotations) && '{key}' in object.metadata.annotations ? object.metadata.annotations['{key}'].split(',').map(id, id.trim()) : []"
        );
        variables.push(json!({"name": "ignored", "expression": expression}));
    }
    let (action, failure) = match options.action {
        Action::Warn => ("Warn", "Ignore"),
        Action::Deny => ("Deny", "Fail"),
        Action::Audit => ("Audit", "Ignore"),
    };
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": options.name},
        "spec": {
            "failurePolicy": failure,
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["molt.dev"], "apiVersions": ["v1alpha1"],
                "operations": ["CREATE", "UPDATE"], "resources": ["pythonservices"],
            }]},
            // What is there already keeps its finalizer and its labels, and can be deleted.
            "matchConditions": [
                {"name": "spec-changes", "expression": "request.operation == 'CREATE' || object.spec != oldObject.spec"},
                {"name": "stays", "expression": "!has(object.metadata.deletionTimestamp)"},
            ],
            "variables": variables,
            "validations": validations,
        },
    });
    let mut binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": options.name},
        "spec": {"policyName": options.name, "validationActions": [action]},
    });
    if !options.namespaces.is_empty() {
        binding["spec"]["matchResources"] = json!({"namespaceSelector": {"matchLabels": options.namespaces}});
    }
    [policy, binding]
}

/// A rule as one expression over the object.
fn validation(rule: &Rule, heed_ignore: bool) -> String {
    let own = &rule.expression;
    let of_all = |expression: &dyn Fn(&str) -> String| {
        let init = "variables.pod.initContainers";
        format!(
            "{} && (!has({init}) || {})",
            expression("variables.pod.containers"),
            expression(init)
        )
    };
    let asked = match rule.each {
        None => own.clone(),
        Some(Each::Container) => of_all(&|list| format!("{list}.all(container, {own})")),
        Some(Each::Variable) => of_all(&|list| {
            format!("{list}.all(container, !has(container.env) || container.env.all(variable, {own}))")
        }),
    };
    let mut expression = if rule.is_of_pod() {
        format!("!variables.hasPod || ({asked})")
    } else {
        asked
    };
    if heed_ignore {
        expression = format!("'{}' in variables.ignored || ({expression})", rule.id);
    }
    expression
}
