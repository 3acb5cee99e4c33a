//! `kubectl molt lint`: what the API server, the operator and the rules of readiness would say to manifests; needs no
//! cluster.

mod check;
mod related;
mod source;
#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use molt_readiness::{Grade, Rule, Severity};
use serde::Serialize;

use self::check::check;
use self::source::Object;
use super::manifest::read_file;
use super::{Failure, Output, Style, text};
use crate::controller::server_presets::Addition;
use crate::readiness;

/// Exit code of manifests that can't be read.
const UNREADABLE: u8 = 2;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(super) struct LintArgs {
    /// Manifests; `-` is the standard input. Objects that belong to a PythonService (the Deployment of its workloadRef,
    /// NetworkPolicies, PodDisruptionBudgets, autoscalers, PodMonitors) count if they are in any of them.
    #[arg(required_unless_present = "explain")]
    files: Vec<PathBuf>,
    /// From which severity on findings make the exit code 1.
    #[arg(long, default_value = "error", ignore_case = true)]
    fail_on: FailOn,
    /// Show the CEL of each rule with what it finds, and what Molt adds to the pods because their server needs it; without
    /// files, all rules.
    #[arg(long)]
    explain: bool,
    /// The form of the output. Default: text.
    #[arg(short, long)]
    output: Option<Output>,
}

/// Severities, as flags have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FailOn {
    /// What breaks production, or gives it away.
    Error,
    /// That, and what will cost users.
    Warning,
    /// Everything.
    Info,
    /// Nothing.
    Never,
}

impl FailOn {
    fn least(self) -> Option<Severity> {
        match self {
            Self::Error => Some(Severity::Error),
            Self::Warning => Some(Severity::Warning),
            Self::Info => Some(Severity::Info),
            Self::Never => None,
        }
    }
}

/// One thing that is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Told {
    /// The file, as it was named.
    file: String,
    /// From 1.
    line: u64,
    /// From 1.
    column: u64,
    /// `PythonService/checkout`.
    object: String,
    /// The rule; `schema` for what the API server would refuse, `spec` for what the operator would.
    rule: String,
    severity: Severity,
    /// The field, which need not be there.
    field: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

/// The score of one PythonService.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Scored {
    file: String,
    object: String,
    grade: Grade,
    score: u8,
}

/// What the pods of one PythonService get beyond its template, because their server needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Added {
    file: String,
    object: String,
    additions: Vec<Addition>,
}

/// Everything that is told.
#[derive(Debug, Default, Serialize)]
struct Report {
    findings: Vec<Told>,
    /// What an annotation keeps from being a finding.
    ignored: Vec<Told>,
    services: Vec<Scored>,
    /// What pods get beyond their templates.
    added: Vec<Added>,
    /// What could not be looked at, and why.
    notes: Vec<String>,
}

pub(super) fn run(args: &LintArgs) -> Result<ExitCode, Failure> {
    if args.files.is_empty() {
        return explain(args.output).map(|()| ExitCode::SUCCESS);
    }
    let report = match read(args).and_then(|objects| check(&objects)) {
        Ok(report) => report,
        Err(why) => {
            eprintln!("error: {why}");
            return Ok(UNREADABLE.into());
        }
    };
    match args.output {
        Some(output) => output.print(&report)?,
        None => text::print(&print(&report, args.explain, Style::of_stdout())),
    }
    let fails = |least| report.findings.iter().any(|told| told.severity >= least);
    Ok(ExitCode::from(u8::from(args.fail_on.least().is_some_and(fails))))
}

fn read(args: &LintArgs) -> Result<Vec<Object>, String> {
    let mut objects = Vec::new();
    for path in &args.files {
        let text = read_file(path).map_err(|error| error.to_string())?;
        objects.extend(source::objects(&path.display().to_string(), &text)?);
    }
    Ok(objects)
}

/// The rules themselves.
fn explain(output: Option<Output>) -> Result<(), Failure> {
    let rules = &readiness::catalogue().rules;
    if let Some(output) = output {
        return output.print(rules);
    }
    let style = Style::of_stdout();
    let mut all = String::new();
    for rule in rules {
        // Writing to a String does not fail.
        let _ = writeln!(
            all,
            "{} {}  {} points  {}",
            coloured(rule.severity, style),
            style.bold(&rule.id),
            rule.points,
            rule.field
        );
        let _ = write!(
            all,
            "    {}\n    why: {}\n    fix: {}\n",
            rule.says, rule.why, rule.fix
        );
        all.push_str(&expression(rule, style));
    }
    text::print(&all);
    Ok(())
}

fn expression(rule: &Rule, style: Style) -> String {
    format!("    {}\n", style.dim(&format!("cel: {}", rule.expression)))
}

fn coloured(severity: Severity, style: Style) -> String {
    let word = severity.to_string();
    match severity {
        Severity::Error => style.bad(&word),
        Severity::Warning => style.busy(&word),
        Severity::Info => style.dim(&word),
    }
}

fn print(report: &Report, explain: bool, style: Style) -> String {
    let mut all = String::new();
    for told in &report.findings {
        // Writing to a String does not fail.
        let _ = writeln!(
            all,
            "{}:{}:{}: {}[{}]: {}: {}: {}",
            told.file,
            told.line,
            told.column,
            coloured(told.severity, style),
            told.rule,
            told.object,
            told.field,
            told.message
        );
        for (word, what) in [("why", &told.why), ("fix", &told.fix)] {
            if let Some(what) = what {
                let _ = writeln!(all, "    {word}: {what}");
            }
        }
        let rule = readiness::catalogue().rule(&told.rule);
        if let Some(rule) = rule.filter(|_| explain) {
            all.push_str(&expression(rule, style));
        }
    }
    for told in &report.ignored {
        let _ = writeln!(
            all,
            "{}:{}:{}: ignored[{}]: {}: {}",
            told.file, told.line, told.column, told.rule, told.object, told.message
        );
    }
    for added in report.added.iter().filter(|_| explain) {
        for addition in &added.additions {
            let _ = writeln!(
                all,
                "{}: {}: {}: {addition}\n    why: {}",
                added.file,
                added.object,
                style.bold("added by Molt"),
                addition.why
            );
        }
    }
    for note in &report.notes {
        let _ = writeln!(all, "note: {note}");
    }
    for service in &report.services {
        let of = |severity| {
            let own = |told: &&Told| told.severity == severity && told.object == service.object;
            report.findings.iter().filter(own).count()
        };
        let _ = writeln!(
            all,
            "{}: {}: readiness {}, {} of 100; errors: {}, warnings: {}, good to have: {}",
            service.file,
            service.object,
            style.bold(&format!("{:?}", service.grade)),
            service.score,
            of(Severity::Error),
            of(Severity::Warning),
            of(Severity::Info)
        );
    }
    all
}
