//! A person's hand at the route: whoever takes traffic from a canary by `kubectl` means to abort, and nobody puts it back.
//!
//! It works while the operator is away: what is found afterwards is taken for what it is.

use super::Turn;
use super::attempt::End;
use crate::observed::{Backend, Slot};
use crate::plan::RouteMode;
use crate::state::{Outcome, Stage};

/// The field managers of people. An apply is mostly a tool's, which writes what is in Git: see `rival`.
const HANDS: [&str; 4] = ["kubectl-edit", "kubectl-molt", "kubectl-patch", "kubectl-replace"];

impl Turn<'_> {
    /// Takes a canary back whose weight somebody has lowered.
    pub(super) fn heed_hand(&mut self) {
        let Some((by, has, wanted)) = self.lowered() else {
            return;
        };
        // Who is heeded is nobody's rival.
        self.state.rival = None;
        self.withdraw(End::new(
            Outcome::Aborted,
            "WeightLowered",
            format!("{by} lowered the canary's weight in the route from {wanted} % to {has} %, which counts as an abort"),
        ));
    }

    /// Who has lowered the canary's weight, to what, and what it would be.
    fn lowered(&self) -> Option<(String, u8, u8)> {
        let attempt = self.attempt()?;
        let moves = matches!(
            attempt.stage,
            Stage::Stepping | Stage::Promoting | Stage::Baking { .. }
        );
        let rules = &self.seen.route.rules;
        if !moves || self.plan.deleting || self.state.stable.is_none() || rules.ours {
            return None;
        }
        let by = rules.other.clone()?;
        // The route that Molt owns is no tool's.
        if self.plan.route == RouteMode::Adopted && !HANDS.contains(&by.as_str()) {
            return None;
        }
        let is_canarys = |backend: &Backend| match backend {
            Backend::Revision(revision) => *revision == attempt.revision,
            Backend::Slot(slot) => *slot == Slot::Canary,
        };
        let wanted = self.wanted_weights()?.into_iter().find(|(b, _)| is_canarys(b))?.1;
        let has = self.written_weight(attempt);
        // A raise that was decided on and never written looks the same, but is younger than the hand.
        let had_it = attempt.in_force_since.is_some()
            || attempt.raised_at.is_some_and(|at| {
                rules
                    .other_at
                    .is_some_and(|other| other.as_second() >= at.as_second())
            });
        (has < wanted && had_it).then_some((by, has, wanted))
    }
}
