//! `kubectl molt rules`: alerts and a dashboard from a manifest, without a cluster.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::manifest::{documents, ignored, misspelt, read_file};
use super::{Failure, Output, text};
use crate::controller::object::ServiceObject;
use crate::controller::validate::{Defaults, Known, validate};
use crate::k8s::{Key, labels, syntax};
use crate::metric_sources::{PrometheusSource, SloQuery};
use crate::rules::{self, Rules, Subject, dashboard::dashboard};
use crate::traffic::RouteSpec;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(super) struct RulesArgs {
    /// The manifest, one or more YAML documents; `-` is the standard input. Other kinds are passed over.
    file: PathBuf,
    /// The form of the output.
    #[arg(short, long, default_value = "yaml")]
    output: Output,
    /// Print a rule file of Prometheus instead of a PrometheusRule.
    #[arg(long)]
    plain: bool,
    /// Write a Grafana dashboard to this file as well; the manifest must then hold one PythonService.
    #[arg(long, value_name = "FILE.json")]
    dashboard: Option<PathBuf>,
    /// A label for the PrometheusRule, such as the one that your Prometheus selects rules by; may be repeated.
    #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = label, conflicts_with = "plain")]
    labels: Vec<(String, String)>,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    syntax::check_label(key, value)?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) fn run(args: &RulesArgs, namespace: Option<&str>) -> Result<ExitCode, Failure> {
    let wrong = |why| Failure::Input(format!("{}: {why}", args.file.display()));
    let services = documents(&read_file(&args.file)?)
        .map_err(wrong)?
        .iter()
        .filter(|document| is_service(document))
        .map(|document| Service::read(document, namespace).map_err(wrong))
        .collect::<Result<Vec<_>, _>>()?;
    if services.is_empty() {
        return Err(wrong(format!(
            "has no PythonService: name a manifest of {API_VERSION}"
        )));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = services.iter().find(|service| !seen.insert(&service.key)) {
        let why = format!(
            "has {} twice: one of them would take the place of the other",
            twice.key
        );
        return Err(wrong(why));
    }
    let mut objects = Vec::new();
    let mut groups = Vec::new();
    for service in &services {
        let made = service.rules().map_err(wrong)?;
        for note in &made.notes {
            eprintln!("note: {}: {note}", service.key);
        }
        objects.push(rules::object(&metadata(&service.key, &args.labels), &made.groups));
        groups.extend(made.groups);
    }
    if let Some(path) = &args.dashboard {
        let [service] = services.as_slice() else {
            return Err(wrong(format!(
                "has {} PythonServices: a dashboard is of one, so give a manifest of one",
                services.len()
            )));
        };
        write(path, &dashboard(service.subject()))?;
    }
    if args.plain {
        return args
            .output
            .print(&json!({"groups": groups}))
            .map(|()| ExitCode::SUCCESS);
    }
    match (args.output, objects.as_slice()) {
        (output, [object]) => output.print(object)?,
        (Output::Json, _) => {
            Output::Json.print(&json!({"apiVersion": "v1", "kind": "List", "items": objects}))?;
        }
        (Output::Yaml, _) => {
            for object in &objects {
                text::print("---\n");
                Output::Yaml.print(object)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

const API_VERSION: &str = "molt.dev/v1alpha1";

fn is_service(document: &Value) -> bool {
    document["apiVersion"] == API_VERSION && document["kind"] == "PythonService"
}

fn write(path: &Path, dashboard: &Value) -> Result<(), Failure> {
    std::fs::write(path, format!("{dashboard:#}\n"))
        .map_err(|error| Failure::Input(format!("{}: can't be written: {error}", path.display())))
}

fn metadata(key: &Key, more: &[(String, String)]) -> Value {
    let mut set = json!({labels::APP_NAME: key.name, labels::SERVICE: key.name});
    for (label, value) in more {
        set[label] = json!(value);
    }
    json!({"name": rules::object_name(&key.name), "namespace": key.namespace, "labels": set})
}

/// A service of the manifest, read and checked as the operator does it.
struct Service {
    key: Key,
    source: PrometheusSource,
    route: RouteSpec,
    slos: Vec<SloQuery>,
    owner: Option<String>,
    runbook: Option<String>,
}

impl Service {
    fn read(document: &Value, namespace: Option<&str>) -> Result<Self, String> {
        let mut object: ServiceObject = serde_json::from_value(document.clone())
            .map_err(|error| format!("metadata: can't be read: {error}"))?;
        let name = object.key().name;
        object.metadata.namespace = match (object.metadata.namespace.take(), namespace) {
            (Some(own), Some(asked)) if own != asked => {
                return Err(format!(
                    "{name}: is of the namespace {own} by its manifest, and of {asked} by -n: leave one out"
                ));
            }
            (None, None) => {
                return Err(format!(
                    "{name}: has no metadata.namespace, and its series are found by it: give it by -n"
                ));
            }
            (own, asked) => own.or(asked.map(str::to_owned)),
        };
        syntax::check_namespace(&object.key().namespace).map_err(|why| format!("{name}: {why}"))?;
        // Rules don't ask a Prometheus; any will do.
        let defaults = Defaults {
            no_secrets: false,
            prometheus_address: Some("http://prometheus".to_owned()),
            ..Defaults::default()
        };
        let validated = validate(&object, &defaults, Known::default());
        misspelt(&ignored(document)).map_err(|why| format!("{name}: {why}"))?;
        match validated.source {
            Some(source) if validated.errors.is_empty() => Ok(Self {
                key: object.key(),
                owner: object.spec.as_ref().ok().and_then(|spec| spec.owner.clone()),
                runbook: object.spec.as_ref().ok().and_then(|spec| spec.runbook.clone()),
                source,
                route: validated.route,
                slos: validated.queries,
            }),
            _ => {
                let errors = validated.errors.iter().map(|error| format!("\n  {error}"));
                let errors: String = errors.collect();
                Err(format!("{name}: is invalid:{errors}"))
            }
        }
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            namespace: &self.key.namespace,
            service: &self.key.name,
            route: self.route.name(&self.key.name),
            source: &self.source,
            slos: &self.slos,
            owner: self.owner.as_deref(),
            runbook: self.runbook.as_deref(),
        }
    }

    fn rules(&self) -> Result<Rules, String> {
        rules::build(self.subject()).map_err(|error| format!("{}: spec.metrics.prometheus.{error}", self.key))
    }
}
