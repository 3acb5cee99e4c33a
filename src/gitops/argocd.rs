//! Argo CD: its scripts for health and actions, as the part of its ConfigMap `argocd-cm` that holds them.

use std::fmt::Write;

/// The health of a PythonService.
pub const HEALTH: &str = include_str!("../../deploy/argocd/health.lua");
/// What can be asked of one.
pub const DISCOVERY: &str = include_str!("../../deploy/argocd/actions/discovery.lua");
/// How it is asked for; a local variable `wish` says what.
const ACTION: &str = include_str!("../../deploy/argocd/actions/action.lua");

/// The actions that Argo CD offers: their names there, and what they ask for.
pub const ACTIONS: [(&str, &str); 8] = [
    ("promote", "Promote"),
    ("promote-full", "PromoteFull"),
    ("abort", "Abort"),
    ("pause", "Pause"),
    ("resume", "Resume"),
    ("retry", "Retry"),
    ("undo", "Undo"),
    ("restart", "Restart"),
];

/// The script of one action.
pub fn action(name: &str, wish: &str) -> String {
    format!("local name = \"{name}\"\nlocal wish = \"{wish}\"\n{ACTION}")
}

/// The health of what has a health of its own by conditions: records and actions are no reason to wait.
const NONE: &str = "return { status = \"Healthy\", message = \"\" }\n";

/// A patch of `argocd-cm`, in YAML.
pub fn config_map() -> String {
    let mut text = "# Written by `make generate` from deploy/argocd/*.lua. Apply it with\n\
        #   kubectl -n argocd patch configmap argocd-cm --patch-file deploy/argocd/argocd-cm.yaml\n\
        data:\n"
        .to_owned();
    let mut entry = |key: &str, value: &str| {
        let _ = writeln!(text, "  {key}: |\n{}", indented(value, 4));
    };
    entry("resource.customizations.health.molt.dev_PythonService", HEALTH);
    entry("resource.customizations.health.molt.dev_RolloutRecord", NONE);
    entry("resource.customizations.health.molt.dev_RolloutAction", NONE);
    let mut actions = format!("discovery.lua: |\n{}\ndefinitions:\n", indented(DISCOVERY, 2));
    for (name, wish) in ACTIONS {
        let _ = writeln!(
            actions,
            "- name: {name}\n  action.lua: |\n{}",
            indented(&action(name, wish), 4)
        );
    }
    entry("resource.customizations.actions.molt.dev_PythonService", &actions);
    text
}

fn indented(text: &str, spaces: usize) -> String {
    let lines = text.trim_end().lines();
    let lines = lines.map(|line| match line {
        "" => String::new(),
        line => format!("{:spaces$}{line}", ""),
    });
    lines.collect::<Vec<_>>().join("\n")
}
