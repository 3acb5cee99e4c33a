//! `kubectl molt import`: manifests of Argo Rollouts and Flagger, and plain Deployments, as PythonServices.
//!
//! Every field is taken by somebody or told: what is left over in the end can't be lost in silence. What the API has
//! and this version does not is in [`later`].

mod argo;
mod draft;
mod flagger;
mod input;
mod istio;
mod metrics;
mod notifications;
mod steps;
#[cfg(test)]
mod tests;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use self::draft::Draft;
use self::input::{Object, Wrong, objects};
use super::manifest::read_file;
use super::{Failure, Output, text};

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// Manifests; `-` is the standard input. What belongs together (a Rollout and its templates, a Canary and
    /// its Deployment, Services, routes, autoscalers) may be in any of them.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The form of the output.
    #[arg(short, long, default_value = "yaml")]
    output: Output,
}

pub(super) fn run(args: &ImportArgs) -> Result<ExitCode, Failure> {
    let mut files = Vec::new();
    for path in &args.files {
        files.push((path.display().to_string(), read_file(path)?));
    }
    let made = convert(&files).map_err(|all| {
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        Failure::Input(all.join("\n"))
    })?;
    for line in &made.told {
        eprintln!("{line}");
    }
    if made.services.is_empty() {
        return Err(Failure::Input(
            "there is no Rollout, no Canary and no Deployment that serves in these files".to_owned(),
        ));
    }
    match args.output {
        Output::Yaml => text::print(&made.yaml().map_err(Failure::Input)?),
        Output::Json => {
            let items: Vec<&Value> = made.services.iter().map(|service| &service.object).collect();
            match items.as_slice() {
                [one] => Output::Json.print(one)?,
                _ => Output::Json.print(&json!({"apiVersion": "v1", "kind": "List", "items": items}))?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What files hold, as PythonServices.
#[derive(Debug)]
pub struct Imported {
    /// The services, in the order of their sources.
    pub services: Vec<Service>,
    /// What is to be told beside them: each field that is not the same, and objects that were passed over.
    pub told: Vec<String>,
}

/// One service that was made.
#[derive(Debug)]
pub struct Service {
    /// The PythonService.
    pub object: Value,
    /// A line for each field that is not the same.
    pub notes: Vec<String>,
    /// What it was made from: `file: document 1: Rollout/shop`.
    pub source: String,
}

impl Imported {
    /// The services as a YAML stream, each below its notes.
    pub fn yaml(&self) -> Result<String, String> {
        let mut stream = String::new();
        for service in &self.services {
            stream.push_str("---\n");
            stream.push_str(&comment(&format!("from {}", service.source)));
            for note in &service.notes {
                stream.push_str(&comment(note));
            }
            let object = serde_saphyr::to_string(&service.object)
                .map_err(|error| format!("{}: can't be written: {error}", service.source))?;
            // Odd texts, of several lines with blanks at their ends, don't survive the block style: JSON is YAML too.
            let object = format!("{}\n", object.trim_end());
            let survives = serde_saphyr::from_str::<Value>(&object).is_ok_and(|read| read == service.object);
            let json = || format!("{:#}\n", service.object);
            stream.push_str(&if survives { object } else { json() });
        }
        Ok(stream)
    }
}

/// A comment; what is within must not end it.
fn comment(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| {
            if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') {
                ' '
            } else {
                c
            }
        })
        .collect();
    format!("# {line}\n")
}

/// Makes PythonServices of the files, each a name and its text; or tells all that can't be read.
pub fn convert(files: &[(String, String)]) -> Result<Imported, Vec<Wrong>> {
    let (mut all, mut wrong) = (Vec::new(), Vec::new());
    for (file, text) in files {
        match objects(file, text) {
            Ok(objects) => all.extend(objects),
            Err(why) => wrong.push(why),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let mut made = Imported {
        services: Vec::new(),
        told: Vec::new(),
    };
    for object in &all {
        let draft = match one(object, &all) {
            Ok(Some(mut draft)) => {
                workload::name_taken(&mut draft, object, &all);
                draft
            }
            Ok(None) => {
                made.told.extend(passed_over(object, &all));
                continue;
            }
            Err(why) => {
                wrong.push(why);
                continue;
            }
        };
        match draft.finish() {
            Ok((object, mut notes, source)) => {
                // What must be set by hand is seen first.
                notes.sort_by_key(|note| !note.why.starts_with("PLACEHOLDER"));
                made.told
                    .extend(notes.iter().map(|note| format!("{source}: {note}")));
                let notes = notes.iter().map(ToString::to_string).collect();
                made.services.push(Service {
                    object,
                    notes,
                    source,
                });
            }
            Err(why) => wrong.push(why),
        }
    }
    if wrong.is_empty() { Ok(made) } else { Err(wrong) }
}

/// What an object is made into; nothing of what only belongs to another.
fn one(object: &Object, all: &[Object]) -> Result<Option<Draft>, Wrong> {
    if argo::is_rollout(object) {
        argo::rollout(object, all).map(Some)
    } else if flagger::is_canary(object) {
        flagger::canary(object, all).map(Some)
    } else if object.is("apps", "Deployment") && !is_of_another(object, all) {
        workload::deployment(object, all)
    } else {
        Ok(None)
    }
}

/// A Deployment that a Canary or a Rollout is about.
fn is_of_another(deployment: &Object, all: &[Object]) -> bool {
    all.iter().any(|other| {
        let named = if flagger::is_canary(other) {
            flagger::target(other).is_some_and(|(kind, name)| kind == "Deployment" && name == deployment.name)
        } else if argo::is_rollout(other) {
            let name = other
                .value
                .pointer("/spec/workloadRef/name")
                .and_then(Value::as_str);
            name == Some(&deployment.name)
        } else {
            false
        };
        named && other.is_near(deployment)
    })
}

/// What is told of an object that nothing was made of.
fn passed_over(object: &Object, all: &[Object]) -> Option<String> {
    let known = [
        "Service",
        "HTTPRoute",
        "HorizontalPodAutoscaler",
        "ScaledObject",
        "MetricTemplate",
    ];
    if known.contains(&object.kind.as_str())
        || argo::is_template(object)
        || all.iter().any(|other| istio::is_named(object, other))
    {
        return None;
    }
    if object.kind == "Deployment" {
        return (!is_of_another(object, all)).then(|| {
            format!("{object}: passed over: it has no port and no Service leads to it, so it may be workers, which are not taken over: see docs/workers.md")
        });
    }
    Some(format!(
        "{object}: passed over: apply it as it is, if it is still needed"
    ))
}
