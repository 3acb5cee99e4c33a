//! Webhooks of Flagger. Those that hold a rollout until somebody opens them are steps that wait for a person; the others check,
//! make load or tell, which others do here.

use serde_json::json;

use super::super::draft::{Draft, Fate};
use super::super::input::{Fields, Wrong};

/// What waits for a person, each with the field that it comes from.
#[derive(Default)]
pub(super) struct Gates {
    rollout: Option<String>,
    traffic: Option<String>,
    promotion: Option<String>,
}

impl Gates {
    /// Takes the webhooks, and tells of each.
    pub fn read(draft: &mut Draft, analysis: &mut Fields) -> Result<Self, Wrong> {
        let mut gates = Self::default();
        for mut webhook in analysis.each("webhooks")? {
            let kind = webhook.text("type")?.unwrap_or_else(|| "rollout".to_owned());
            let name = webhook.text("name")?.unwrap_or_default();
            let field = webhook.path("").trim_end_matches('.').to_owned();
            let told = format!("{field} ({kind}, {name})");
            let gate = match kind.as_str() {
                "confirm-rollout" => &mut gates.rollout,
                "confirm-traffic-increase" => &mut gates.traffic,
                "confirm-promotion" => &mut gates.promotion,
                _ => {
                    draft.note(Fate::NotCarriedOver, told, other(&kind));
                    continue;
                }
            };
            *gate = Some(field);
            let place = match kind.as_str() {
                "confirm-rollout" => "before the first weight",
                "confirm-traffic-increase" => "before each weight, in place of the dwell before it",
                _ => "after the last weight",
            };
            let why = format!(
                "a person says it here: a step `pause: {{}}` {place} waits for `kubectl molt promote`, and nobody asks the URL; what that decides by itself, a Job or a URL in guards.conditions can"
            );
            draft.note(Fate::Approximated, told, why);
        }
        Ok(gates)
    }

    /// Something waits for a person.
    pub fn any(&self) -> bool {
        self.rollout.is_some() || self.traffic.is_some() || self.promotion.is_some()
    }

    /// Every weight waits for a person.
    pub fn each_weight(&self) -> bool {
        self.traffic.is_some()
    }

    /// Before anything of the rollout.
    pub fn first(&self, draft: &mut Draft) {
        if let Some(field) = self.rollout.as_ref().or(self.traffic.as_ref()) {
            draft.push_step(field, json!({"pause": {}}));
        }
    }

    /// Before a weight that is not the first.
    pub fn between(&self, draft: &mut Draft) {
        if let Some(field) = &self.traffic {
            draft.push_step(field, json!({"pause": {}}));
        }
    }

    /// After everything that was tried. A blue/green has no steps: it waits before its users move.
    pub fn last(&self, draft: &mut Draft) {
        if draft.is_blue_green() {
            if self.any() {
                draft.forget_steps();
                draft.set_strategy("autoPromotion", json!(false));
            }
        } else if let Some(field) = &self.promotion {
            draft.push_step(field, json!({"pause": {}}));
        }
    }
}

/// What becomes of one that holds nothing.
fn other(kind: &str) -> &'static str {
    match kind {
        "rollback" => "`kubectl molt abort` takes users back at any time",
        "event" | "post-rollout" => {
            "a NotificationPolicy tells whom a rollout is to tell (docs/notifications.md)"
        }
        _ => {
            "what a webhook checks, a Job or a URL in guards.conditions can; load for a canary without users comes from a Job of your own"
        }
    }
}
