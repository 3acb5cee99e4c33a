//! `kubectl molt get`.

use std::process::ExitCode;

use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::connect::Cluster;
use super::text::{self, Style};
use super::{Failure, Output};
use crate::api::v1alpha1::{Phase, PythonService};

pub(super) async fn run(
    cluster: &Cluster,
    name: Option<String>,
    all_namespaces: bool,
    output: Option<Output>,
) -> Result<ExitCode, Failure> {
    let mut services = match &name {
        Some(name) => vec![cluster.service(name).await?],
        None if all_namespaces => list(Api::all(cluster.client.clone())).await?,
        None => list(cluster.services()).await?,
    };
    services.iter_mut().for_each(without_bookkeeping);
    services.sort_by_key(|service| (urgency(service), service.namespace(), service.name_any()));
    match (output, &name) {
        (Some(output), Some(_)) => output.print(&services[0])?,
        (Some(output), None) => {
            output.print(&json!({"apiVersion": "v1", "kind": "List", "items": services}))?;
        }
        (None, _) if services.is_empty() => {
            let place = if all_namespaces {
                "the cluster"
            } else {
                &cluster.namespace
            };
            eprintln!("no PythonService in {place}");
        }
        (None, _) => text::print(&table(&services, all_namespaces, Style::of_stdout())),
    }
    Ok(ExitCode::SUCCESS)
}

/// As kubectl prints objects: who owns which field is of no use to a reader.
pub(super) fn without_bookkeeping(service: &mut PythonService) {
    service.metadata.managed_fields = None;
}

async fn list(api: Api<PythonService>) -> Result<Vec<PythonService>, Failure> {
    match api.list(&ListParams::default()).await {
        Ok(list) => Ok(list.items),
        Err(kube::Error::Api(status)) if status.is_not_found() => Err(Failure::NotFound(
            "this cluster does not know the kind PythonService: Molt is not installed in it".to_owned(),
        )),
        Err(error) => Err(error.into()),
    }
}

/// What needs somebody comes first, then what moves.
fn urgency(service: &PythonService) -> u8 {
    Phase::urgency(service.status.as_ref().and_then(|status| status.phase))
}

/// One line for each service.
fn table(services: &[PythonService], namespaces: bool, style: Style) -> String {
    let header = [
        "NAMESPACE",
        "NAME",
        "PHASE",
        "STABLE",
        "CANARY",
        "WEIGHT",
        "MESSAGE",
    ];
    let mut rows = vec![header.map(|title| style.dim(title)).to_vec()];
    for service in services {
        let status = service.status.clone().unwrap_or_default();
        let dash = || "-".to_owned();
        rows.push(vec![
            service.namespace().unwrap_or_default(),
            service.name_any(),
            status.phase.map_or_else(dash, |phase| style.phase(phase)),
            status.stable.map_or_else(dash, |stable| stable.revision),
            status
                .canary
                .as_ref()
                .map_or_else(dash, |canary| canary.revision.clone()),
            status
                .canary
                .map_or_else(dash, |canary| format!("{}%", canary.weight)),
            status.message.unwrap_or_default(),
        ]);
    }
    if !namespaces {
        for row in &mut rows {
            row.remove(0);
        }
    }
    text::columns(&rows, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::render::fixtures::progressing;

    #[test]
    fn what_needs_a_person_comes_first() {
        let of = |phase| {
            let mut service = progressing();
            service.status.as_mut().unwrap().phase = phase;
            service
        };
        let phases = [
            Some(Phase::Degraded),
            Some(Phase::RolledBack),
            Some(Phase::Paused),
            Some(Phase::RollingBack),
            Some(Phase::Progressing),
            None,
            Some(Phase::Healthy),
        ];
        assert!(phases.map(|phase| urgency(&of(phase))).is_sorted_by(|a, b| a < b));
    }
}
