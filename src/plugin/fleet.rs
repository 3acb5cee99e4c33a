//! `kubectl molt fleet`: every rollout of an operator stops, or goes on.
//!
//! All it does is to write the ConfigMap that `kubectl` alone can write as well, and to look whether the services say so.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use super::connect::Cluster;
use super::{Failure, act, text};
use crate::api::v1alpha1::PythonService;
use crate::controller::fleet::{BY, CONFIG_MAP, PAUSED, REASON, paused};

/// How long the services may take to say so.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const AGAIN: Duration = Duration::from_millis(250);
/// Exit code of a fleet that is paused.
const IS_PAUSED: u8 = 2;
/// What the operator's Deployment is labelled with by its chart.
const OPERATOR: &str = "app.kubernetes.io/name=molt";

/// Everything at once.
#[derive(Debug, Args)]
pub(super) struct FleetArgs {
    #[command(subcommand)]
    command: FleetCommand,
    /// The operator's namespace. Default: that of the one Deployment labelled app.kubernetes.io/name=molt.
    #[arg(long, global = true, env = "MOLT_OPERATOR_NAMESPACE")]
    operator_namespace: Option<String>,
}

#[derive(Debug, Subcommand)]
enum FleetCommand {
    /// Stop every rollout where it is; none but a first one begins. Harm still takes canaries back.
    Pause {
        /// Why; every service tells it.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let every rollout go on.
    Resume,
    /// Say whether everything is paused, by whom, and how many services say so. Exit code 2 while it is.
    Status,
}

pub(super) async fn run(cluster: &Cluster, args: &FleetArgs) -> Result<ExitCode, Failure> {
    let client = &cluster.client;
    let namespace = match &args.operator_namespace {
        Some(namespace) => namespace.clone(),
        None => operator_namespace(client).await?,
    };
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    match &args.command {
        FleetCommand::Pause { reason } => {
            let map = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG_MAP},
                "data": {PAUSED: "true", BY: act::whoami(client).await?, REASON: reason},
            });
            let params = PatchParams::apply("kubectl-molt").force();
            let map = maps.patch(CONFIG_MAP, &params, &Patch::Apply(map)).await?;
            let said = paused(&map).unwrap_or_default();
            told(client, true)
                .await?
                .print(&format!("the fleet is paused {said}"), &namespace)
        }
        FleetCommand::Resume => {
            match maps.delete(CONFIG_MAP, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {
                    return Err(Failure::NothingChanged(format!(
                        "the fleet is not paused: there is no ConfigMap {CONFIG_MAP} in {namespace}"
                    )));
                }
                Err(error) => return Err(error.into()),
            }
            told(client, false)
                .await?
                .print("the fleet is no longer paused", &namespace)
        }
        FleetCommand::Status => {
            let said = maps.get_opt(CONFIG_MAP).await?.as_ref().and_then(paused);
            let told = look(client, said.is_some()).await?;
            if let Some(by) = said {
                text::print(&format!("the fleet is paused {by}; {told}\n"));
                return Ok(IS_PAUSED.into());
            }
            text::print(&format!("the fleet is not paused; {told}\n"));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// How many of the services that may be seen say what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    /// So many, of so many.
    Services(usize, usize),
    /// Services may not be listed.
    Unknown,
}

impl Told {
    fn print(self, what: &str, namespace: &str) -> Result<ExitCode, Failure> {
        match self {
            Self::Services(some, all) if some < all => Err(Failure::Unacknowledged(format!(
                "{what}, but within {} s {self}: is the operator of {namespace} running? (kubectl get pods -n {namespace} -l {OPERATOR})\nit stays so; an operator that comes back heeds it before anything else. Until then nothing moves at all",
                PATIENCE.as_secs()
            ))),
            _ => {
                text::print(&format!("{what}; {self}\n"));
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Services(some, all) => write!(f, "{some} of {all} services say so"),
            Self::Unknown => f.write_str("whether the services say so can't be seen: you may not list them"),
        }
    }
}

/// Waits until all services say so, or for as long as an operator may take.
async fn told(client: &Client, is_paused: bool) -> Result<Told, Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        let told = look(client, is_paused).await?;
        let waits = matches!(told, Told::Services(some, all) if some < all);
        if !waits || Instant::now() >= until {
            return Ok(told);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn look(client: &Client, is_paused: bool) -> Result<Told, Failure> {
    let services: Api<PythonService> = Api::all(client.clone());
    match services.list(&ListParams::default()).await {
        Ok(list) => {
            let all: Vec<_> = list
                .items
                .iter()
                .filter(|s| s.metadata.deletion_timestamp.is_none())
                .collect();
            let some = all.iter().filter(|s| says_paused(s) == is_paused).count();
            Ok(Told::Services(some, all.len()))
        }
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(Told::Unknown),
        Err(error) => Err(error.into()),
    }
}

fn says_paused(service: &PythonService) -> bool {
    let conditions = service.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|c| c.type_ == "Paused" && c.status == "True" && c.reason == "FleetPaused")
}

/// Where the operator is.
async fn operator_namespace(client: &Client) -> Result<String, Failure> {
    let name_it = "name its namespace by --operator-namespace, or MOLT_OPERATOR_NAMESPACE";
    let deployments: Api<Deployment> = Api::all(client.clone());
    let found = match deployments.list(&ListParams::default().labels(OPERATOR)).await {
        Ok(list) => list.items,
        Err(kube::Error::Api(status)) if status.is_forbidden() => {
            return Err(Failure::Other(format!(
                "you may not look for the operator in all namespaces: {name_it}"
            )));
        }
        Err(error) => return Err(error.into()),
    };
    let mut namespaces: Vec<String> = found.iter().filter_map(ResourceExt::namespace).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    match namespaces.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Failure::NotFound(format!(
            "no Deployment is labelled {OPERATOR}: {name_it}"
        ))),
        several => Err(Failure::Other(format!(
            "operators run in {}: {name_it}",
            several.join(", ")
        ))),
    }
}
