//! Subscriptions of Argo's notifications, which are annotations of the object itself: what corresponds to each. They are told and
//! not written: a sink wants a Secret with a URL, which no annotation has.

use serde_json::{Map, Value};

use super::draft::{Fate, Note};

/// What such annotations begin with.
pub(super) const PREFIX: &str = "notifications.argoproj.io/";

/// A note of each.
pub(super) fn notes(annotations: &Map<String, Value>) -> Vec<Note> {
    let ours = annotations.iter().filter(|(key, _)| key.starts_with(PREFIX));
    let note = |(key, value): (&String, &Value)| Note {
        fate: Fate::NotCarriedOver,
        field: format!("metadata.annotations[{key}]"),
        why: why(&key[PREFIX.len()..], value.as_str().unwrap_or_default()),
    };
    ours.map(note).collect()
}

fn why(subscription: &str, recipients: &str) -> String {
    const POLICY: &str = "a NotificationPolicy in the namespace tells it (docs/notifications.md)";
    let Some((trigger, service)) = subscription
        .strip_prefix("subscribe.")
        .and_then(|rest| rest.split_once('.'))
    else {
        return format!("{POLICY}: a sink for each place, with events for what is wanted there");
    };
    let events = match trigger {
        "on-rollout-completed" => "[Promoted]",
        "on-rollout-updated" => "[Started]",
        "on-rollout-step-completed" | "on-scaling-replica-set" => "[Progressed]",
        "on-rollout-aborted" => "[RolledBack, Aborted]",
        "on-rollout-paused" => "[WaitingForApproval, Paused]",
        "on-analysis-run-failed" => "[RolledBack]",
        "on-analysis-run-error" => "[Warning, Paused]",
        "on-analysis-run-running" => {
            return "nothing tells that an analysis runs: it does so from the first request on, in every attempt".to_owned();
        }
        _ => "those of its table that mean the same",
    };
    let sink = match service {
        "slack" | "mattermost" | "rocketchat" => {
            "slack: {urlFrom}, an incoming webhook of the channel in a Secret"
        }
        "teams" | "teams-workflows" => "teams: {urlFrom}, a workflow's webhook in a Secret",
        "pagerduty" | "pagerdutyv2" => "pagerDuty: {routingKeyFrom}, in a Secret",
        "email" => "no sink sends mail: webhook: {urlFrom}, to something that does",
        _ => "webhook: {urlFrom}, in a Secret",
    };
    let whom = if recipients.trim().is_empty() {
        String::new()
    } else {
        format!(" for {}", recipients.trim())
    };
    format!("{POLICY}: events: {events}; sink{whom}: {sink}")
}
