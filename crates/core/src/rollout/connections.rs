//! A database's connections: a rollout has pods beside those that serve, and each opens its own. When the server has none left,
//! stable's users fail as well, whichever revision took the last one.
//!
//! So the canary has only pods whose pools fit below the bound, each reckoned as full, whether or not it has opened them
//! yet. Nothing is rolled back for it: the wait has the deadline of all others. Who goes back to what served before is
//! never held, and pods that run are never taken away for it.

use super::Turn;
use crate::room::{Connections, ConnectionsPlan};
use crate::state::{Attempt, Stage};

/// Characters of a message that the state keeps.
const MOST_CHARS: usize = 200;

impl Turn<'_> {
    /// Takes in what the database said.
    pub(super) fn follow_connections(&mut self) {
        let measured = self.seen.measurement.as_ref();
        let (Some(plan), Some(reading), Some(attempt)) = (
            self.plan.room.connections,
            measured.and_then(|m| m.connections.as_ref()),
            self.attempt(),
        ) else {
            return;
        };
        let known = attempt.connections.clone().filter(|known| known.limit > 0);
        let pods = self
            .seen
            .revisions
            .get(&attempt.revision)
            .map_or(0, |view| view.wanted);
        let now = match reading {
            Ok(reading) => Connections {
                // Pods that are there already have theirs, and what others give back is theirs no more.
                before: known.map_or(
                    reading.used.saturating_sub(plan.per_pod.saturating_mul(pods)),
                    |k| k.before.min(reading.used),
                ),
                used: reading.used,
                limit: reading.limit,
                unread: None,
            },
            Err(why) => Connections {
                unread: Some(why.chars().take(MOST_CHARS).collect()),
                ..known.unwrap_or_default()
            },
        };
        self.update(|a| a.connections = Some(now));
    }

    /// The bound, where one holds this attempt.
    fn connections_plan(&self, attempt: &Attempt) -> Option<ConnectionsPlan> {
        let grows = matches!(
            attempt.stage,
            Stage::Stepping | Stage::Promoting | Stage::Baking { .. }
        );
        let held = grows && self.state.stable.is_some() && !self.is_way_back(attempt);
        self.plan
            .room
            .connections
            .filter(|_| held && !self.is_singleton())
    }

    /// So many pods of the canary as it `asks` for, or as the database has connections for beside the ones that it `has`.
    pub(super) fn within_connections(&self, attempt: &Attempt, asks: u32, has: u32) -> u32 {
        self.connections_plan(attempt).map_or(asks, |plan| {
            asks.min(has.saturating_add(plan.further_pods(attempt, has)))
        })
    }

    /// Why the canary has fewer pods than it needs, where that is the reason.
    pub(super) fn connections_text(&self, attempt: &Attempt, needed: u32) -> Option<String> {
        let plan = self.connections_plan(attempt)?;
        let has = self
            .seen
            .revisions
            .get(&attempt.revision)
            .map_or(0, |view| view.wanted);
        let lacks = needed.saturating_sub(has);
        if lacks <= plan.further_pods(attempt, has) {
            return None;
        }
        let Some(known) = &attempt.connections else {
            return Some("guards.databaseConnections has not been read yet".to_owned());
        };
        if let Some(why) = &known.unread {
            return Some(format!("guards.databaseConnections can't be read: {why}"));
        }
        let more = if lacks == 1 {
            "one more pod".to_owned()
        } else {
            format!("{lacks} more pods")
        };
        Some(format!(
            "guards.databaseConnections: {} of {} connections are in use or due to the canary's pods, {} may be, and {more} may take {}: it goes on when others give theirs back, or with a smaller pool or a higher limit",
            plan.taken(known, has),
            known.limit,
            plan.most(known),
            u64::from(lacks) * u64::from(plan.per_pod),
        ))
    }
}

impl ConnectionsPlan {
    /// Connections that may be in use.
    fn most(self, known: &Connections) -> u32 {
        let most = u64::from(known.limit) * u64::from(self.max_percent) / 100;
        u32::try_from(most).unwrap_or(u32::MAX)
    }

    /// Connections that are in use once so many pods of the canary have opened theirs.
    fn taken(self, known: &Connections, pods: u32) -> u32 {
        known
            .used
            .max(known.before.saturating_add(self.per_pod.saturating_mul(pods)))
    }

    /// Pods that fit beside so many of the canary; none while nothing is known.
    fn further_pods(self, attempt: &Attempt, pods: u32) -> u32 {
        let known = attempt
            .connections
            .as_ref()
            .filter(|known| known.unread.is_none());
        known.map_or(0, |known| {
            self.most(known).saturating_sub(self.taken(known, pods)) / self.per_pod.max(1)
        })
    }
}
