//! An effect in words, for the log.

use molt_core::decision::Effect;
use molt_core::observed::{Backend, Slot};

/// What is done, in words.
pub fn words(effect: &Effect) -> String {
    match effect {
        Effect::CreateRevision { revision } => format!("create the ReplicaSet of revision {revision}"),
        Effect::CreateRevisionService { revision } => format!("create the Service of revision {revision}"),
        Effect::Scale {
            revision, replicas, ..
        } => format!("scale revision {revision} to {replicas} pods"),
        Effect::Select { slot, revision } => {
            format!("point the Service {} at revision {revision}", of_slot(*slot))
        }
        Effect::Share => "point the Service at the pods of every revision".to_owned(),
        Effect::SetRoute { weights, preview } => {
            let one = |(backend, weight): (&Backend, &u8)| match backend {
                Backend::Revision(revision) => format!("{weight} % to revision {revision}"),
                Backend::Slot(slot) => format!("{weight} % to the Service {}", of_slot(*slot)),
            };
            let weights: Vec<String> = weights.iter().map(one).collect();
            let beside = match preview {
                Some(preview) => format!(
                    ", and what testers or mirrors send to revision {}",
                    preview.revision
                ),
                None => String::new(),
            };
            format!("set the route to {}{beside}", weights.join(", "))
        }
        Effect::Evict { pod, .. } => format!("evict pod {pod}"),
        Effect::HoldWorkload { replicas, paused, .. } => {
            let held = if *paused {
                ", and hold back its rollouts"
            } else {
                ""
            };
            format!("scale the Deployment to {replicas} pods{held}")
        }
        Effect::WidenServices => "have Services select the Deployment's pods as well".to_owned(),
        Effect::FreeWorkload { .. } => "take Molt's notes off the Deployment".to_owned(),
        Effect::RunNext(next) => format!("have the CronJob run revision {} next", next.revision),
        Effect::EndRun { name, .. } => format!("end run {name}"),
        Effect::DeleteRevision { revision } => format!("delete revision {revision}"),
        Effect::ReleaseRoute => "give the route back".to_owned(),
        Effect::RemoveFinalizer => "remove the finalizer".to_owned(),
        Effect::EndAction {
            name,
            applied,
            message,
            ..
        } => {
            let how = if *applied { "applied" } else { "not applied" };
            format!("end action {name}, {how}: {message}")
        }
    }
}

fn of_slot(slot: Slot) -> &'static str {
    match slot {
        Slot::InCluster => "inside the cluster",
        Slot::Stable => "of stable",
        Slot::Canary => "of the canary",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use molt_core::plan::Revision;

    #[test]
    fn a_route_is_told_by_its_weights() {
        let weights = [("aaaa", 90), ("bbbb", 10)]
            .map(|(revision, weight)| (Backend::Revision(Revision::from(revision)), weight));
        let effect = Effect::SetRoute {
            weights: weights.into_iter().collect(),
            preview: None,
        };
        assert_eq!(
            words(&effect),
            "set the route to 90 % to revision aaaa, 10 % to revision bbbb"
        );
    }
}
