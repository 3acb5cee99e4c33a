//! `kubectl molt history`: what became of each attempt, from its record. Records outlive their service.

#[cfg(test)]
mod fixtures;
mod one;
mod table;

use std::cmp::Reverse;
use std::process::ExitCode;

use clap::ValueEnum;
use jiff::Timestamp;
use kube::api::{Api, ListParams};
use serde_json::json;

use super::connect::Cluster;
use super::text::{self, Style};
use super::{Failure, Output};
use crate::api::v1alpha1::{RecordedAction, RolloutRecord};
use crate::controller::record::actions::before;
use crate::k8s::labels;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(super) struct HistoryArgs {
    /// The PythonService; it may have been deleted.
    name: String,
    /// Show one attempt in full: the one of this number, at the newest revision that has it.
    #[arg(long, value_name = "N")]
    attempt: Option<i32>,
    /// Show one attempt in full: the newest at this revision, whose first digits are enough.
    #[arg(long, value_name = "R")]
    revision: Option<String>,
    /// The form of the output. Default: a table.
    #[arg(short, long)]
    output: Option<Form>,
}

/// Forms of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// A table with all there is to say in a line; of one attempt, every verdict that is kept.
    Wide,
}

impl HistoryArgs {
    fn is_of_one(&self) -> bool {
        self.attempt.is_some() || self.revision.is_some()
    }

    fn wants(&self, record: &RolloutRecord) -> bool {
        let revision = self.revision.as_deref().unwrap_or_default();
        record.spec.revision.starts_with(revision) && self.attempt.is_none_or(|n| n == record.spec.attempt)
    }
}

pub(super) async fn run(cluster: &Cluster, args: &HistoryArgs) -> Result<ExitCode, Failure> {
    let mut records = list(cluster, &args.name).await?;
    if records.is_empty() {
        return Err(Box::pin(none(cluster, &args.name)).await);
    }
    // The newest first.
    records.sort_by_key(|record| Reverse((record.spec.started_at, record.spec.attempt)));
    for record in &mut records {
        record.metadata.managed_fields = None;
    }
    let (style, now) = (Style::of_stdout(), Timestamp::now());
    let plain = match args.output {
        Some(Form::Json) => Some(Output::Json),
        Some(Form::Yaml) => Some(Output::Yaml),
        Some(Form::Wide) | None => None,
    };
    let wide = args.output == Some(Form::Wide);
    if args.is_of_one() {
        let found: Vec<&RolloutRecord> = records.iter().filter(|record| args.wants(record)).collect();
        let Some(newest) = found.first() else {
            return Err(Failure::NotFound(not_among(args, &records)));
        };
        match plain {
            Some(output) => output.print(newest)?,
            None => text::print(&one::render(newest, now, wide, style)),
        }
        if let Some(others) = others(&found) {
            eprintln!("{others}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(output) = plain {
        output.print(&json!({"apiVersion": "v1", "kind": "List", "items": records}))?;
    } else {
        text::print(&table::render(&records, now, wide, style));
        text::print(&since(&acts(cluster, &args.name).await, style));
    }
    Ok(ExitCode::SUCCESS)
}

/// What people asked for since the last attempt ended; nothing of a service that is gone.
async fn acts(cluster: &Cluster, name: &str) -> Vec<RecordedAction> {
    let status = cluster.service(name).await.ok().and_then(|s| s.status);
    let acts = status.and_then(|s| s.state).map(|state| state.acts);
    let acts = acts.unwrap_or_default();
    acts.iter().filter(|act| !act.told).map(before).collect()
}

/// The same, as it is printed below the attempts.
fn since(acts: &[RecordedAction], style: Style) -> String {
    if acts.is_empty() {
        return String::new();
    }
    let title = style.bold("what people did since the last attempt (the record of the next keeps it)");
    format!("\n{title}\n{}", one::actions(acts, one::DAY, style))
}

async fn list(cluster: &Cluster, name: &str) -> Result<Vec<RolloutRecord>, Failure> {
    let api: Api<RolloutRecord> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let params = ListParams::default().labels(&format!("{}={name}", labels::SERVICE));
    match api.list(&params).await {
        Ok(list) => Ok(list.items),
        Err(kube::Error::Api(status)) if status.is_not_found() => Err(Failure::NotFound(
            "this cluster does not know the kind RolloutRecord: Molt is not installed in it".to_owned(),
        )),
        Err(error) => Err(error.into()),
    }
}

/// Why there is no record: the service has had no attempt yet, or there is none of the name.
async fn none(cluster: &Cluster, name: &str) -> Failure {
    match cluster.service(name).await {
        Ok(_) => Failure::NotFound(format!(
            "{name} has had no attempt yet, so there is no record of one"
        )),
        Err(Failure::NotFound(why)) => Failure::NotFound(format!(
            "{why}; and there is no record of one that was deleted (kubectl get rolloutrecords)"
        )),
        Err(failure) => failure,
    }
}

fn not_among(args: &HistoryArgs, records: &[RolloutRecord]) -> String {
    let wanted = match (args.attempt, &args.revision) {
        (Some(number), Some(revision)) => format!("attempt {number} at revision {revision}"),
        (Some(number), None) => format!("attempt {number}"),
        (None, revision) => format!("attempt at revision {}", revision.as_deref().unwrap_or_default()),
    };
    let known: Vec<String> = records
        .iter()
        .take(10)
        .map(|record| format!("{} attempt {}", record.spec.revision, record.spec.attempt))
        .collect();
    format!(
        "no record of {wanted} of {}; the newest are: {}",
        args.name,
        known.join(", ")
    )
}

/// That more records fit what was asked for than the one that is shown.
fn others(found: &[&RolloutRecord]) -> Option<String> {
    let others: Vec<String> = found
        .iter()
        .skip(1)
        .take(3)
        .map(|record| {
            format!(
                "--revision {} --attempt {}",
                record.spec.revision, record.spec.attempt
            )
        })
        .collect();
    (!others.is_empty()).then(|| format!("{} more fit; older: {}", found.len() - 1, others.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(attempt: Option<i32>, revision: Option<&str>) -> HistoryArgs {
        HistoryArgs {
            name: "checkout".to_owned(),
            attempt,
            revision: revision.map(str::to_owned),
            output: None,
        }
    }

    #[test]
    fn what_people_did_since_the_last_attempt_is_told() {
        let act = serde_json::json!({
            "at": "2026-03-01T04:00:00Z", "name": "checkout-x", "action": "Restart", "requestedBy": "ada", "reason": "INC-12",
            "applied": true, "message": "no pod of revision 7d9f8c0000 is left",
        });
        let act: molt_core::state::Act = serde_json::from_value(act).unwrap();
        let text = since(&[before(&act)], Style::PLAIN);
        assert!(
            text.contains("since the last attempt")
                && text.contains("2026-03-01 04:00Z  Restart  by ada (INC-12)  Applied"),
            "{text}"
        );
        assert_eq!(since(&[], Style::PLAIN), "");
    }

    #[test]
    fn an_attempt_is_chosen_by_number_and_by_the_first_digits_of_its_revision() {
        let records = [fixtures::promoted(), fixtures::rolled_back()];
        let chosen = |args: &HistoryArgs| records.iter().filter(|r| args.wants(r)).count();
        assert_eq!(chosen(&args(Some(2), None)), 1);
        assert_eq!(chosen(&args(None, Some("7d9"))), 2);
        assert_eq!(chosen(&args(Some(1), Some("7d9"))), 1);
        assert_eq!(chosen(&args(None, Some("8"))), 0);
        let text = not_among(&args(Some(9), Some("8")), &records);
        assert_eq!(
            text,
            "no record of attempt 9 at revision 8 of checkout; the newest are: 7d9f8c0000 attempt 2, 7d9f8c0000 attempt 1"
        );
        let both: Vec<&RolloutRecord> = records.iter().collect();
        assert_eq!(
            others(&both).unwrap(),
            "1 more fit; older: --revision 7d9f8c0000 --attempt 1"
        );
        assert_eq!(others(&both[..1]), None);
    }
}
