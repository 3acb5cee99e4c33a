//! RolloutRecords: the evidence of each attempt. A write that is lost never changes a decision; it is made
//! good by the next one.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::{Resource, ResourceExt};
use molt_core::decision::{Decision, Verdict};
use molt_core::observed::ActionView;
use molt_core::plan::Revision;
use molt_core::state::{Ended, Outcome, SloEvidence, State, Transition};
use serde_json::{Value, json};

use super::caches::Caches;
use super::facts::RecordFacts;
use super::object::ServiceObject;
use super::render::{record_name, revision_name};
use super::status::{burn, counts, evidence, guards, spent};
use crate::api::v1alpha1::{
    RecordedAction, RecordedChange, RecordedSlo, RecordedVerdict, RolloutRecord, RolloutRecordSpec,
    RolloutRecordStatus,
};
use crate::k8s::failure::WriteError;
use crate::k8s::writer::Writer;
use crate::k8s::{Key, labels};
use crate::traces::Traces;

pub mod actions;
pub mod change;
mod config;
mod gates;

/// Verdicts that a record holds at most; it stays far below the size that an object may have.
const MOST_VERDICTS: usize = 300;
/// Verdicts that are never thinned, as its schema says.
const FEWEST_VERDICTS: usize = 50;
/// The first and the last verdicts of each step and objective are never thinned.
const KEPT_AT_EDGES: usize = 3;
/// Records that are deleted at once, at most: nothing more urgent waits for thousands of them.
const MOST_DELETIONS: usize = 20;
/// Transitions that a record holds at most, as its schema says.
const MOST_TRANSITIONS: usize = 100;
/// Of those the last, which only the end of the attempt fills.
const KEPT_FOR_THE_END: usize = 5;
/// Bytes of a transition's message that are kept.
const MOST_OF_MESSAGE: usize = 600;
/// Bytes of JSON that a record may have; verdicts give way to what else there is.
const MOST_BYTES: usize = 240 << 10;

/// Who keeps the records.
#[derive(Clone, Copy)]
pub struct Keeper<'a> {
    /// Writes.
    pub writer: &'a Writer,
    /// What is known of the records.
    pub caches: &'a Caches,
    /// Is told of each record that ended.
    pub traces: &'a Traces,
    /// The service, as it was decided on.
    pub object: &'a ServiceObject,
    /// What people asked for, as it was decided on.
    pub asked: &'a [ActionView],
    /// The time of the decision.
    pub now: Timestamp,
    /// Records that are kept.
    pub limit: usize,
}

/// The records that there are, by name.
type Known = BTreeMap<String, Arc<RecordFacts>>;

/// Brings the records of a service up to date with what was decided.
pub async fn write(
    keeper: Keeper<'_>,
    before: &State,
    decision: &Decision,
    verdicts: &[Verdict],
) -> Result<(), WriteError> {
    let service = &keeper.object.key();
    let acts = &actions::ended(keeper.asked, decision, keeper.now)[..];
    let known = &keeper.caches.records.of(service);
    // What can't be written of one of them keeps nothing from the others.
    let written = [
        write_last(keeper, before, decision, verdicts, acts, known).await,
        write_current(keeper, decision, verdicts, acts, known).await,
        close_unknown(keeper, decision, known).await,
        forget_surplus(keeper, known).await,
    ];
    written.into_iter().collect()
}

/// The record of the attempt that ended last.
async fn write_last(
    keeper: Keeper<'_>,
    before: &State,
    decision: &Decision,
    verdicts: &[Verdict],
    acts: &[RecordedAction],
    known: &Known,
) -> Result<(), WriteError> {
    let (object, service) = (keeper.object, &keeper.object.key());
    let Some(last) = &decision.state.last else {
        return Ok(());
    };
    let name = record_name(&service.name, &last.revision, last.number);
    let (limit, held) = (keeper.limit, known.get(&name));
    let open = held.is_some_and(|r| r.ended_at.is_none());
    // It was refused when it was written, or somebody deleted it.
    let missing = held.is_none() && known.len() < limit;
    let just_ended = before
        .last
        .as_ref()
        .is_none_or(|b| (&b.revision, b.number) != (&last.revision, last.number));
    if !(open || just_ended || missing) {
        return Ok(());
    }
    let attempt = before
        .attempt
        .as_ref()
        .filter(|a| a.revision == last.revision && a.number == last.number);
    let verdicts = if attempt.is_some() { verdicts } else { &[] };
    let spec = spec(
        service,
        &last.revision,
        last.number,
        last.stable.as_ref(),
        last.started_at,
    );
    // What was asked for in its last moment, unless another attempt answers for it.
    let acts = if decision.state.attempt.is_none() {
        acts
    } else {
        &[]
    };
    // Where the next attempt has begun in the same turn, the state has given up what was this one's.
    let kept = match (&decision.state.attempt, attempt) {
        (None, _) => &decision.state,
        (Some(_), Some(_)) => before,
        (Some(_), None) => &State::default(),
    };
    add_to(keeper, service, spec, None, |status| {
        actions::add_before(&mut status.actions_before, &kept.acts);
        gates::add_before(&mut status.gates, kept.database.as_ref());
        actions::add(&mut status.actions, acts);
        end(status, last, decision, verdicts);
        name_slos(&mut status.slos, object);
    })
    .await
}

/// The record of the attempt under way.
async fn write_current(
    keeper: Keeper<'_>,
    decision: &Decision,
    verdicts: &[Verdict],
    acts: &[RecordedAction],
    known: &Known,
) -> Result<(), WriteError> {
    let (object, service) = (keeper.object, &keeper.object.key());
    let Some(attempt) = &decision.state.attempt else {
        return Ok(());
    };
    let name = record_name(&service.name, &attempt.revision, attempt.number);
    let news = !decision.report.transitions.is_empty() || !verdicts.is_empty() || !acts.is_empty();
    if !news && known.contains_key(&name) {
        return Ok(());
    }
    let stable = decision.state.stable.as_ref();
    let spec = spec(
        service,
        &attempt.revision,
        attempt.number,
        stable,
        attempt.started_at,
    );
    let of_spec = object.revision.as_ref() == Some(&attempt.revision);
    let author = object.annotations().get(labels::AUTHOR).filter(|_| of_spec);
    let change = Change {
        before: stable,
        after: &attempt.revision,
        author: author.and_then(|author| change::author(author)),
    };
    add_to(keeper, service, spec, Some(change), |status| {
        actions::add_before(&mut status.actions_before, &decision.state.acts);
        gates::add_before(&mut status.gates, decision.state.database.as_ref());
        actions::add(&mut status.actions, acts);
        status.max_weight = i32::from(attempt.max_weight);
        add_transitions(status, &attempt.transitions);
        status.slos = slos(&attempt.evidence, decision);
        name_slos(&mut status.slos, object);
        status.guards = guards(&attempt.conditions, &attempt.guards);
        gates::put(&mut status.gates, attempt.migration.as_ref(), None);
        add_verdicts(status, verdicts);
    })
    .await
}

/// Ends the records that say an attempt is under way of which nothing is known any more.
async fn close_unknown(keeper: Keeper<'_>, decision: &Decision, known: &Known) -> Result<(), WriteError> {
    let (service, now) = (&keeper.object.key(), keeper.now);
    let current = [
        decision.state.last.as_ref().map(|l| (&l.revision, l.number)),
        decision.state.attempt.as_ref().map(|a| (&a.revision, a.number)),
    ];
    for record in known.values() {
        let told = current.contains(&Some((&record.revision, record.attempt)));
        if record.ended_at.is_none() && !told {
            let spec = spec(service, &record.revision, record.attempt, None, now);
            add_to(keeper, service, spec, None, |status| end_unknown(status, now)).await?;
        }
    }
    Ok(())
}

/// Deletes the oldest, beyond as many as are kept.
async fn forget_surplus(keeper: Keeper<'_>, known: &Known) -> Result<(), WriteError> {
    let (service, writer, limit) = (&keeper.object.key(), keeper.writer, keeper.limit);
    let mut ended: Vec<_> = known
        .iter()
        .filter_map(|(name, r)| Some((r.ended_at?, name, &r.uid)))
        .collect();
    ended.sort_unstable();
    // Few at a time: the end of each brings about the next turn, which goes on.
    let surplus = known.len().saturating_sub(limit).min(MOST_DELETIONS);
    for (_, name, uid) in ended.into_iter().take(surplus) {
        writer
            .delete::<RolloutRecord>(&service.namespace, name, uid, None)
            .await?;
    }
    Ok(())
}

fn spec(
    service: &Key,
    revision: &Revision,
    attempt: u32,
    stable: Option<&Revision>,
    started_at: Timestamp,
) -> RolloutRecordSpec {
    RolloutRecordSpec {
        service: service.name.clone(),
        revision: revision.0.clone(),
        attempt: i32::try_from(attempt).unwrap_or(i32::MAX),
        stable_revision: stable.map(|r| r.0.clone()),
        started_at,
    }
}

/// Reads a record, or makes it, adds to it, and writes it if that changed it.
async fn add_to(
    keeper: Keeper<'_>,
    service: &Key,
    spec: RolloutRecordSpec,
    change: Option<Change<'_>>,
    add: impl FnOnce(&mut RolloutRecordStatus),
) -> Result<(), WriteError> {
    let name = record_name(
        &service.name,
        &Revision(spec.revision.clone()),
        u32::try_from(spec.attempt).unwrap_or(0),
    );
    let Keeper { writer, traces, .. } = keeper;
    let namespace = &service.namespace;
    let record = if let Some(record) = writer.get::<RolloutRecord>(namespace, &name).await? {
        record
    } else {
        let mut record = RolloutRecord::new(&name, spec);
        record.meta_mut().namespace = Some(namespace.clone());
        record.meta_mut().labels = Some(BTreeMap::from([
            (labels::SERVICE.to_owned(), service.name.clone()),
            (labels::MANAGED_BY.to_owned(), labels::MOLT.to_owned()),
        ]));
        let created = writer.post::<RolloutRecord>(namespace, &record).await?;
        created.unwrap_or(record)
    };
    let before = record.status.clone().unwrap_or_default();
    if before.outcome.is_some() {
        return Ok(());
    }
    let mut status = before.clone();
    if let (None, Some(change)) = (&status.change, change) {
        status.change = Box::pin(change.read(writer, service)).await;
    }
    add(&mut status);
    fit(&mut status);
    if status == before && record.status.is_some() {
        return Ok(());
    }
    let version = record.metadata.resource_version.clone().unwrap_or_default();
    let body: Value = json!(status);
    writer
        .put_status::<RolloutRecord>(namespace, &name, &version, body)
        .await?;
    if status.outcome.is_some() {
        traces.ended(namespace, &record.spec, &status);
    }
    Ok(())
}

/// Two revisions whose templates are compared, once for each record.
struct Change<'a> {
    before: Option<&'a Revision>,
    after: &'a Revision,
    author: Option<String>,
}

impl Change<'_> {
    /// Reads both templates from the server: they are too large to be kept. A record without them is better than none.
    async fn read(self, writer: &Writer, service: &Key) -> Option<RecordedChange> {
        let Some(before) = self.before else {
            // A first revision differs from nothing.
            return self.author.map(|author| RecordedChange {
                author: Some(author),
                ..RecordedChange::default()
            });
        };
        let read = async |revision: &Revision| {
            let name = revision_name(&service.name, revision);
            let set = writer.get::<ReplicaSet>(&service.namespace, &name).await;
            set.unwrap_or_else(|error| {
                tracing::warn!(%error, "the record does not say what changed");
                None
            })
        };
        let (before, after) = (read(before).await?, read(self.after).await?);
        let config = config::differences(writer, &service.namespace, &before, &after).await;
        Some(change::between(&before, &after, config, self.author))
    }
}

fn end(status: &mut RolloutRecordStatus, last: &Ended, decision: &Decision, verdicts: &[Verdict]) {
    status.outcome = Some(last.outcome);
    status.reason = Some(last.reason.clone());
    status.message = Some(last.message.clone());
    status.ended_at = Some(last.ended_at);
    status.duration_seconds = Some(last.ended_at.duration_since(last.started_at).as_secs());
    status.max_weight = i32::from(last.max_weight);
    add_transitions(status, &last.transitions);
    status.guards = guards(&last.conditions, &last.guards);
    let taken_back = (last.outcome == Outcome::RolledBack).then_some(last.message.as_str());
    gates::put(&mut status.gates, last.migration.as_ref(), taken_back);
    // What was spent and what was shown is known from the verdicts: the plan may have gone on since.
    add_verdicts(status, verdicts);
    let recorded = std::mem::take(&mut status.slos);
    status.slos = as_judged(slos(&last.evidence, decision), &recorded, &status.verdicts);
}

/// What the objectives say at the end, as the last verdict on each has it, or what the record said before.
fn as_judged(
    slos: Vec<RecordedSlo>,
    recorded: &[RecordedSlo],
    verdicts: &[RecordedVerdict],
) -> Vec<RecordedSlo> {
    slos.into_iter()
        .map(|mut slo| {
            let verdict = verdicts.iter().rev().find(|v| v.slo == slo.name);
            let of_record = recorded.iter().find(|s| s.name == slo.name);
            let spent = of_record.map(|s| s.spent_by_rollout.clone());
            let of_verdict = verdict.map(|v| v.spent.clone());
            slo.spent_by_rollout = of_verdict.or(spent).unwrap_or(slo.spent_by_rollout);
            let shown = of_record.map(|s| s.evidence.clone());
            let judged = verdict.map(|v| v.evidence.clone());
            slo.evidence = judged.or(shown).unwrap_or(slo.evidence);
            slo.objective = of_record.and_then(|s| s.objective.clone());
            slo.sli = of_record.and_then(|s| s.sli.clone());
            slo
        })
        .collect()
}

/// The end of an attempt that the state knows nothing of: a record may not stay without one for ever.
fn end_unknown(status: &mut RolloutRecordStatus, now: Timestamp) {
    status.outcome = Some(Outcome::Superseded);
    status.reason = Some("StateLost".to_owned());
    status.message = Some(
        "how it ended is not known: the status of the PythonService was removed while it ran; what was done since is another attempt's"
            .to_owned(),
    );
    status.ended_at = Some(now);
}

fn slos(entries: &[SloEvidence], decision: &Decision) -> Vec<RecordedSlo> {
    entries
        .iter()
        .map(|entry| {
            let report = decision.report.slos.iter().find(|r| r.name == entry.name);
            RecordedSlo {
                name: entry.name.clone(),
                objective: None,
                sli: None,
                canary: counts(entry.evidence.canary()),
                stable: counts(entry.evidence.stable()),
                spent_by_rollout: spent(report.and_then(|r| r.spent)),
                evidence: report.map_or_else(
                    || evidence(entry.evidence.ln_harm_at_end(), 0.0),
                    |r| evidence(r.ln_harm, r.ln_safe),
                ),
            }
        })
        .collect()
}

/// Says what the objectives ask for, as the spec has them, where nothing says it yet.
fn name_slos(recorded: &mut [RecordedSlo], object: &ServiceObject) {
    let written = object.spec.as_ref().map(|spec| spec.slos.as_slice());
    for slo in recorded.iter_mut().filter(|slo| slo.objective.is_none()) {
        if let Some(written) = written.unwrap_or_default().iter().find(|w| w.name == slo.name) {
            slo.objective = Some(written.objective.0.clone());
            slo.sli = Some(written.sli.to_string());
        }
    }
}

/// Adds what is not there yet. None is taken away again, so the last places are kept for how it ended.
fn add_transitions(status: &mut RolloutRecordStatus, transitions: &[Transition]) {
    let ended = status.outcome.is_some();
    let room = MOST_TRANSITIONS - if ended { 0 } else { KEPT_FOR_THE_END };
    let left = room.saturating_sub(status.transitions.len());
    let past = if ended {
        transitions.len().saturating_sub(left)
    } else {
        0
    };
    for transition in transitions.iter().skip(past) {
        let mut transition = transition.clone();
        transition.message = cut(&transition.message, MOST_OF_MESSAGE);
        if status.transitions.len() < room && !status.transitions.contains(&transition) {
            status.transitions.push(transition);
        }
    }
    status.transitions.sort_by_key(|t| t.at);
}

fn add_verdicts(status: &mut RolloutRecordStatus, verdicts: &[Verdict]) {
    for verdict in verdicts {
        let seen = status
            .verdicts
            .iter()
            .any(|v| v.at == verdict.at && v.slo == verdict.slo);
        if !seen {
            status.verdicts.push(recorded(verdict));
        }
    }
    thin(&mut status.verdicts, MOST_VERDICTS);
}

/// Thins the verdicts further where the rest is large: an object that is too large could not be written at all. Beside
/// the most that the rest can be, the fewest still fit.
fn fit(status: &mut RolloutRecordStatus) {
    let mut most = status.verdicts.len();
    while most > FEWEST_VERDICTS && serde_json::to_string(status).map_or(0, |text| text.len()) > MOST_BYTES {
        most = (most / 2).max(FEWEST_VERDICTS);
        thin(&mut status.verdicts, most);
    }
}

/// The beginning of a text, of so many bytes at most.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(most)])
}

fn recorded(verdict: &Verdict) -> RecordedVerdict {
    RecordedVerdict {
        at: verdict.at,
        step: i32::try_from(verdict.step).unwrap_or(i32::MAX),
        weight: i32::from(verdict.weight),
        slo: verdict.slo.clone(),
        canary: counts(verdict.canary),
        stable: counts(verdict.stable),
        evidence: evidence(verdict.ln_harm_alone.unwrap_or(verdict.ln_harm), verdict.ln_safe),
        margin: format!("{:.6}", verdict.margin),
        spent: spent(verdict.spent),
        burn: burn(verdict.burn),
        verdict: format!("{:?}", verdict.verdict),
    }
}

/// Halves what lies between the first and last verdicts of each step and objective until all fit.
fn thin(verdicts: &mut Vec<RecordedVerdict>, most: usize) {
    while verdicts.len() > most {
        let mut groups: BTreeMap<(i32, String), Vec<usize>> = BTreeMap::new();
        for (index, verdict) in verdicts.iter().enumerate() {
            groups
                .entry((verdict.step, verdict.slo.clone()))
                .or_default()
                .push(index);
        }
        let mut dropped = vec![false; verdicts.len()];
        for members in groups.values() {
            let middle = members.len().saturating_sub(2 * KEPT_AT_EDGES);
            members
                .iter()
                .skip(KEPT_AT_EDGES)
                .take(middle)
                .skip(1)
                .step_by(2)
                .for_each(|i| dropped[*i] = true);
        }
        if !dropped.contains(&true) {
            // Only edges are left: the oldest go.
            verdicts.drain(..verdicts.len() - most);
            return;
        }
        let mut index = 0;
        verdicts.retain(|_| {
            index += 1;
            !dropped[index - 1]
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::{
        ActionKind, ActionState, CountsStatus, EvidenceStatus, FieldChange, RecordedAction,
    };
    use molt_core::analysis::Burn;

    fn verdict(second: i64, step: i32) -> RecordedVerdict {
        RecordedVerdict {
            at: Timestamp::from_second(second).unwrap(),
            step,
            weight: 10,
            slo: "availability".into(),
            canary: CountsStatus {
                total: 1_000_000,
                bad: 1000,
            },
            stable: CountsStatus {
                total: 1_000_000,
                bad: 1000,
            },
            evidence: EvidenceStatus {
                harm: "1000000+".into(),
                safe: "1000000+".into(),
            },
            margin: "0.014400".into(),
            spent: "12.34%".into(),
            burn: burn(Burn {
                canary: Some(999.9),
                stable: Some(999.9),
                attributable: Some(-999.9),
            }),
            verdict: "Continue".into(),
        }
    }

    #[test]
    fn verdicts_stay_bounded_and_keep_the_edges_of_each_step() {
        let mut status = RolloutRecordStatus::default();
        for second in 0..5000 {
            status
                .verdicts
                .push(verdict(second, if second < 2500 { 1 } else { 3 }));
            thin(&mut status.verdicts, MOST_VERDICTS);
        }
        let at: Vec<i64> = status.verdicts.iter().map(|v| v.at.as_second()).collect();
        assert!(at.len() <= MOST_VERDICTS);
        assert_eq!(at[..3], [0, 1, 2]);
        assert!(at.contains(&2499) && at.contains(&2500) && at.ends_with(&[4997, 4998, 4999]));
        assert!(serde_json::to_string(&status).unwrap().len() < 256 * 1024);
    }

    #[test]
    fn a_record_fits_whatever_happens_and_what_is_no_verdict_stays() {
        let long = "ä".repeat(2000);
        let transition = |second: i64| Transition {
            at: Timestamp::from_second(second).unwrap(),
            reason: "PromotedByPerson".into(),
            message: long.clone(),
            weight: 10,
        };
        let mut status = RolloutRecordStatus {
            verdicts: (0..300).map(|second| verdict(second, 1)).collect(),
            ..RolloutRecordStatus::default()
        };
        add_transitions(&mut status, &(0..200).map(transition).collect::<Vec<_>>());
        let acts = (0..100).map(|i| RecordedAction {
            at: Timestamp::UNIX_EPOCH,
            name: format!("{i}{}", "a".repeat(250)),
            action: ActionKind::Pause,
            requested_by: cut(&long, 250),
            reason: Some(cut(&long, 250)),
            state: ActionState::Expired,
            message: cut(&long, 250),
        });
        actions::add(&mut status.actions, &acts.collect::<Vec<_>>());
        let value = Some(cut(&long, 200));
        let field = FieldChange {
            field: cut(&long, 200),
            before: value.clone(),
            after: value,
        };
        status.change = Some(RecordedChange {
            template: vec![field; 60],
            ..RecordedChange::default()
        });
        fit(&mut status);
        assert!(serde_json::to_string(&status).unwrap().len() < 256 * 1024);
        assert_eq!((status.transitions.len(), status.actions.len()), (95, 40));
        // How it ended has its place however much came before.
        status.outcome = Some(Outcome::RolledBack);
        add_transitions(&mut status, &(0..300).map(transition).collect::<Vec<_>>());
        let last = status.transitions.last().map(|t| t.at.as_second());
        assert_eq!((status.transitions.len(), last), (100, Some(299)));
        let at: Vec<i64> = status.verdicts.iter().map(|v| v.at.as_second()).collect();
        assert!(at.starts_with(&[0, 1, 2]) && at.ends_with(&[299]), "{at:?}");
    }

    #[test]
    fn a_verdict_on_a_canary_with_all_the_traffic_has_the_evidence_it_was_made_of() {
        let (at, counts) = (Timestamp::UNIX_EPOCH, molt_core::analysis::Counts::default());
        let verdict = |ln_harm_alone| Verdict {
            at,
            step: 1,
            weight: 100,
            slo: "availability".into(),
            canary: counts,
            stable: counts,
            ln_harm: 0.0,
            ln_harm_from_start: 0.0,
            ln_harm_alone,
            ln_safe: 0.0,
            margin: 0.01,
            spent: None,
            burn: Burn::default(),
            verdict: molt_core::decision::VerdictKind::RollBack,
        };
        let harm = |ln_harm_alone| recorded(&verdict(ln_harm_alone)).evidence.harm;
        assert_eq!((harm(None).as_str(), harm(Some(5.0)).as_str()), ("1.00", "148"));

        let mut status = RolloutRecordStatus::default();
        let slos = vec![RecordedSlo {
            name: "availability".into(),
            objective: None,
            sli: None,
            canary: super::counts(counts),
            stable: super::counts(counts),
            spent_by_rollout: "unknown".into(),
            evidence: evidence(0.0, 0.0),
        }];
        add_verdicts(&mut status, &[verdict(Some(5.0))]);
        let ended = as_judged(slos, &[], &status.verdicts);
        assert_eq!(ended[0].evidence.harm, "148");
    }

    #[test]
    fn the_same_transition_is_added_once() {
        let transition = Transition {
            at: Timestamp::UNIX_EPOCH,
            reason: "WeightRaised".into(),
            message: "m".into(),
            weight: 10,
        };
        let mut status = RolloutRecordStatus::default();
        add_transitions(&mut status, &[transition.clone(), transition.clone()]);
        add_transitions(&mut status, &[transition]);
        assert_eq!(status.transitions.len(), 1);
    }
}
