//! `kubectl molt policy`: the rules of readiness as a ValidatingAdmissionPolicy, without a cluster.

use std::process::ExitCode;

use clap::ValueEnum;
use molt_readiness::Severity;
use molt_readiness::policy::{self, Options, policy};
use serde_json::json;

use super::{Failure, Output, text};
use crate::readiness;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(super) struct PolicyArgs {
    /// The rules of this severity and above.
    #[arg(long, default_value = "error", ignore_case = true)]
    severity: Level,
    /// What to do with a PythonService that a rule does not hold for.
    #[arg(long, default_value = "Warn", ignore_case = true)]
    action: Action,
    /// Labels that a namespace must have for it to count there. Default: every namespace.
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label)]
    namespace_selector: Vec<(String, String)>,
    /// The name of the policy and of its binding.
    #[arg(long, default_value = "molt-readiness")]
    name: String,
    /// Let the annotation molt.dev/lint-ignore of a PythonService except it from rules. Whoever may write one may then
    /// pass.
    #[arg(long)]
    heed_ignore: bool,
    /// The form of the output.
    #[arg(short, long, default_value = "yaml")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Level {
    /// What breaks production, or gives it away.
    Error,
    /// That, and what will cost users.
    Warning,
    /// All rules.
    Info,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Tell whoever applies it.
    #[value(name = "Warn")]
    Warn,
    /// Refuse it.
    #[value(name = "Deny")]
    Deny,
    /// Note it in the API server's audit log.
    #[value(name = "Audit")]
    Audit,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) fn run(args: &PolicyArgs) -> Result<ExitCode, Failure> {
    let options = Options {
        name: args.name.clone(),
        severity: match args.severity {
            Level::Error => Severity::Error,
            Level::Warning => Severity::Warning,
            Level::Info => Severity::Info,
        },
        action: match args.action {
            Action::Warn => policy::Action::Warn,
            Action::Deny => policy::Action::Deny,
            Action::Audit => policy::Action::Audit,
        },
        namespaces: args.namespace_selector.iter().cloned().collect(),
        heed_ignore: args.heed_ignore,
    };
    let objects = policy(readiness::catalogue(), &options);
    match args.output {
        Output::Json => {
            Output::Json.print(&json!({"apiVersion": "v1", "kind": "List", "items": objects}))?;
        }
        Output::Yaml => {
            for object in &objects {
                text::print("---\n");
                Output::Yaml.print(object)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn what_is_printed_is_what_was_made() {
        for severity in [Severity::Error, Severity::Info] {
            let options = Options {
                name: "molt-readiness".to_owned(),
                severity,
                action: policy::Action::Warn,
                namespaces: [("env".to_owned(), "production".to_owned())].into(),
                heed_ignore: true,
            };
            for object in policy(readiness::catalogue(), &options) {
                let text = serde_saphyr::to_string(&object).unwrap();
                assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), object);
            }
        }
    }
}
