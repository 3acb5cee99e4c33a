//! The invariants, as predicates on the world: none of them knows what the operator remembers.

use molt_core::plan::Revision;
use molt_core::state::{Outcome, Stage, State};
use molt_sim_api::store::Change;
use serde_json::Value;

use super::{
    ACTIONS, Author, CORE_SERVICES, PODS, RECORDS, ROUTES, SERVICE, SERVICES, SETS, SLICES, World, label,
    meta,
};
use crate::checks::Identity;
use crate::world::gateway::backends;
use crate::world::people::Quality;

/// What an operator can't know yet: events under way, requests under way, a decision being carried out.
const KNOWS: u64 = 4000;
/// An operator at work has put right within this what it can put right, in milliseconds.
const REACTS: u64 = 60_000;
/// The drain time of the spec, in milliseconds, less the resolution of its clock.
const DRAIN: u64 = 5000 - 1100;
/// Fewer requests than these can't show safety at this objective, whatever they were.
const LEAST_EVIDENCE: f64 = 60.0;

impl World {
    pub(super) fn violate(&mut self, invariant: &str, what: impl AsRef<str>) {
        let text = format!("VIOLATION {invariant}: {}", what.as_ref());
        self.say(&text);
        self.checks.violations.push(text);
    }

    /// Looks at one change.
    pub(super) fn check(&mut self, change: &Change) {
        let by_operator = matches!(self.author, Author::Operator(_));
        match change.key.resource.as_str() {
            PODS if by_operator => {
                self.violate("pods", format!("the operator changes pod {}", change.key.name));
            }
            SLICES => self.note_endpoints(),
            SETS if by_operator => self.check_set(change),
            CORE_SERVICES if by_operator => self.check_service(change),
            ROUTES if by_operator => self.check_route(change),
            SERVICES => self.check_state(change, by_operator),
            ACTIONS => self.check_action(change),
            RECORDS => self.check_record(change),
            _ => {}
        }
    }

    fn current(&self) -> Option<&State> {
        self.checks.state.as_ref().map(|(_, state)| state)
    }

    /// A revision has had a ready endpoint within what the operator can know.
    fn served_lately(&self, revision: &str) -> bool {
        match self.checks.serving.get(revision) {
            Some((true, _)) => true,
            Some((false, since)) => self.now - since <= KNOWS,
            None => false,
        }
    }

    /// A revision has had a ready endpoint for so long that the operator must know.
    fn serves_for_sure(&self, revision: &str) -> bool {
        matches!(self.checks.serving.get(revision), Some((true, since)) if self.now - since > KNOWS)
    }

    fn note_endpoints(&mut self) {
        let now = self.now;
        let revisions: Vec<String> = self
            .server
            .objects(SETS)
            .into_iter()
            .map(|s| label(s, "molt.dev/revision").to_owned())
            .collect();
        for revision in revisions {
            let service = format!("{SERVICE}-{revision}");
            let ready = self.endpoints(&service).get(&revision).copied().unwrap_or(0);
            let serving = self
                .checks
                .serving
                .entry(revision.clone())
                .or_insert((false, now));
            if serving.0 != (ready > 0) {
                *serving = (ready > 0, now);
            }
            let strength = self.checks.strength.entry(revision).or_default();
            if strength.last().is_none_or(|(_, n)| *n != ready) {
                strength.push((now, ready));
            }
            while strength.len() > 1 && strength[1].0 + KNOWS < now {
                strength.remove(0);
            }
        }
    }

    /// The gateway has taken over a route: notes who is used by it.
    pub(super) fn note_shares(&mut self) {
        let shares = self.shares();
        let now = self.now;
        let used: Vec<String> = shares
            .into_iter()
            .filter(|(_, s)| *s > 0.0)
            .map(|(r, _)| r)
            .collect();
        let gone: Vec<String> = self
            .checks
            .used
            .iter()
            .filter(|r| !used.contains(r))
            .cloned()
            .collect();
        for revision in gone {
            self.checks.unused_since.insert(revision, now);
        }
        for revision in &used {
            self.checks.unused_since.remove(revision);
        }
        self.checks.used = used.into_iter().collect();
    }

    fn is_ours(&self, object: &Value) -> bool {
        let uid = self.service().map(|s| meta(s, "uid")).unwrap_or_default();
        let owners = object["metadata"]["ownerReferences"].as_array();
        owners.into_iter().flatten().any(|o| o["uid"] == uid)
    }

    fn check_set(&mut self, change: &Change) {
        let revision = label(&change.after, "molt.dev/revision").to_owned();
        let Some(before) = &change.before else {
            if !self.is_ours(&change.after) {
                self.violate("ownership", format!("ReplicaSet {} is nobody's", change.key.name));
            }
            return;
        };
        if !self.is_ours(before) && self.service().is_some() {
            self.violate(
                "ownership",
                format!("ReplicaSet {} belongs to somebody else", change.key.name),
            );
        }
        let replicas = |o: &Value| o["spec"]["replicas"].as_u64().unwrap_or(0);
        let (old, new) = (
            replicas(before),
            if change.deleted {
                0
            } else {
                replicas(&change.after)
            },
        );
        let attempt = |o: &Value| {
            let text = o["metadata"]["annotations"]["molt.dev/attempt"].as_str();
            text.and_then(|t| t.parse::<u32>().ok()).unwrap_or(0)
        };
        if !change.deleted && attempt(&change.after) < attempt(before) {
            self.violate(
                "attempts",
                format!("ReplicaSet {} goes back to an earlier attempt", change.key.name),
            );
        }
        if new >= old {
            return;
        }
        let share = self.shares().get(&revision).copied().unwrap_or(0.0);
        let wanted = self
            .checks
            .replicas
            .iter()
            .map(|(_, n)| *n)
            .min()
            .unwrap_or(0)
            .min(self.people.replicas());
        let needed = (wanted as f64 * share / 100.0).ceil() as u64;
        if new < needed {
            self.violate(
                "capacity",
                format!("revision {revision} goes from {old} to {new} pods while the gateway sends it {share:.0} % of the traffic"),
            );
        }
        let drained = self
            .checks
            .unused_since
            .get(&revision)
            .is_none_or(|since| self.now - since >= DRAIN);
        let jumped = self.struck.jumped.is_some_and(|at| self.now - at < 240_000);
        if new == 0 && !drained && !jumped {
            self.violate(
                "drain",
                format!("revision {revision} loses its pods before its connections have drained"),
            );
        }
        let moving = self.current().filter(|s| s.attempt.is_some());
        if moving.is_some_and(|s| s.stable == Some(Revision(revision.clone()))) && new < old {
            self.violate(
                "stable",
                format!("stable revision {revision} shrinks from {old} to {new} during an attempt"),
            );
        }
    }

    fn check_service(&mut self, change: &Change) {
        let name = &change.key.name;
        let Some(before) = &change.before else { return };
        if !self.is_ours(before) && self.service().is_some() {
            self.violate("ownership", format!("Service {name} belongs to somebody else"));
            return;
        }
        let selected = |o: &Value| {
            o["spec"]["selector"]["molt.dev/revision"]
                .as_str()
                .map(str::to_owned)
        };
        let (old, new) = (selected(before), selected(&change.after));
        if change.deleted || old == new {
            return;
        }
        if !label(before, "molt.dev/revision").is_empty() {
            self.violate(
                "selector",
                format!("Service {name} of a revision changes its selector"),
            );
        }
        let (Some(old), Some(new)) = (old, new) else {
            return;
        };
        let slot_share: u64 = self.object(ROUTES, self.people.route()).map_or(0, |r| {
            backends(r)
                .iter()
                .filter(|(n, _)| n == name)
                .map(|(_, w)| *w)
                .sum()
        });
        let has_users = name == SERVICE || slot_share > 0;
        let dark = has_users && self.serves_for_sure(&old) && !self.served_lately(&new);
        if dark && !self.struck.foggy(self.now) {
            self.violate(
                "dark",
                format!("Service {name} leaves {old}, which serves, for {new}, which does not"),
            );
        }
        self.note_shares();
    }

    fn check_route(&mut self, change: &Change) {
        if change.deleted || change.key.name != self.people.route() {
            return;
        }
        if self.people.owns_route() && change.before.as_ref().is_some_and(|b| !self.is_ours(b)) {
            self.violate(
                "ownership",
                format!("HTTPRoute {} belongs to somebody else", change.key.name),
            );
        }
        let new = backends(&change.after);
        let old = change.before.as_deref().map(backends).unwrap_or_default();
        if new == old {
            return;
        }
        let sum: u64 = new.iter().map(|(_, w)| w).sum();
        if sum != 100 {
            self.violate("sum", format!("the weights are {new:?}"));
        }
        if self.struck.foggy(self.now) || self.people.replicas() == 0 {
            return;
        }
        let of = |service: &str| self.revision_behind(service);
        let weights: Vec<(String, u64, u64)> = new
            .iter()
            .filter_map(|(service, weight)| {
                let before = old.iter().find(|(s, _)| s == service).map_or(0, |(_, w)| *w);
                Some((of(service)?, *weight, before))
            })
            .collect();
        for (revision, weight, before) in &weights {
            let another = weights
                .iter()
                .any(|(r, ..)| r != revision && self.serves_for_sure(r));
            if *weight > 0 && !self.served_lately(revision) && another {
                self.violate(
                    "unready",
                    format!("{weight} % go to revision {revision}, which has no ready endpoint"),
                );
                return;
            }
            let canary = self
                .current()
                .and_then(|s| s.attempt.as_ref())
                .map(|a| a.revision.0.clone());
            let calm = self.checks.replicas.len() <= 1;
            if weight > before && canary.as_ref() == Some(revision) && another && calm {
                let most = self
                    .checks
                    .strength
                    .get(revision)
                    .into_iter()
                    .flatten()
                    .map(|(_, n)| *n)
                    .max()
                    .unwrap_or(0);
                let carries = if most >= self.people.replicas() {
                    100
                } else {
                    most * 100 / self.people.replicas()
                };
                if *weight > carries {
                    self.violate(
                        "strength",
                        format!("{weight} % go to revision {revision}, whose {most} pods carry {carries} %"),
                    );
                    return;
                }
            }
        }
    }

    fn check_state(&mut self, change: &Change, by_operator: bool) {
        let uid = meta(&change.after, "uid").to_owned();
        let holds = |o: &Value| {
            o["metadata"]["finalizers"]
                .as_array()
                .is_some_and(|f| !f.is_empty())
        };
        let released =
            change.before.as_deref().is_some_and(holds) && (change.deleted || !holds(&change.after));
        if by_operator && released {
            self.check_release();
        }
        if change.deleted {
            self.checks.state = None;
            return;
        }
        if by_operator
            && let Some(before) = &change.before
            && before["spec"] != change.after["spec"]
        {
            self.violate("spec", "the operator changes the spec");
        }
        let replicas = change.after["spec"]["replicas"].as_u64().unwrap_or(1);
        if self.checks.replicas.last().is_none_or(|(_, n)| *n != replicas) {
            self.checks.replicas.push((self.now, replicas));
        }
        let Ok(new) = serde_json::from_value::<State>(change.after["status"]["state"].clone()) else {
            return;
        };
        let old = match self.checks.state.take() {
            Some((of, state)) if of == uid => state,
            _ => State::default(),
        };
        if old != new {
            self.check_attempts(&uid, &old, &new);
        }
        self.checks.state = Some((uid, new));
    }

    /// A user's route is given back before the object goes.
    fn check_release(&mut self) {
        if self.people.owns_route() || self.struck.foggy(self.now) {
            return;
        }
        let Some(route) = self.object(ROUTES, self.people.route()) else {
            return;
        };
        let owners = route["metadata"]["managedFields"].as_array();
        let ours = owners.into_iter().flatten().any(|e| e["manager"] == "molt");
        let canary = format!("{SERVICE}-canary");
        let weight = backends(route)
            .iter()
            .find(|(n, _)| *n == canary)
            .map_or(0, |(_, w)| *w);
        if ours || weight > 0 {
            self.violate(
                "release",
                format!("the finalizer goes while the user's route is still Molt's: {weight} % on {canary}"),
            );
        }
    }

    fn check_attempts(&mut self, uid: &str, old: &State, new: &State) {
        let identity = |r: &Revision, n: u32| -> Identity { (uid.to_owned(), r.0.clone(), n) };
        let of = |s: &State| s.attempt.as_ref().map(|a| identity(&a.revision, a.number));
        let (was, is) = (of(old), of(new));
        if let Some(is) = is.filter(|is| was.as_ref() != Some(is)) {
            if !self.checks.begun.insert(is.clone()) {
                self.violate(
                    "identity",
                    format!("attempt {} at revision {} begins a second time", is.2, is.1),
                );
            }
        } else if let (Some(a), Some(b)) = (&old.attempt, &new.attempt) {
            let halted = |s: &Stage| matches!(s, Stage::Held | Stage::Withdrawing { .. });
            let back = b.step < a.step && !halted(&a.stage);
            let forgot = b.started_at != a.started_at || b.transitions.len() < a.transitions.len();
            let undone =
                matches!(a.stage, Stage::Withdrawing { .. }) && !matches!(b.stage, Stage::Withdrawing { .. });
            if back || forgot || undone {
                self.violate(
                    "history",
                    format!(
                        "attempt {} at revision {} goes back: {:?} step {} to {:?} step {}",
                        a.number, a.revision, a.stage, a.step, b.stage, b.step
                    ),
                );
            }
        }
        if let Some(last) = &new.last
            && new.last != old.last
        {
            let id = identity(&last.revision, last.number);
            let outcome = format!("{:?}", last.outcome);
            if let Some(before) = self.checks.ended.insert(id.clone(), outcome.clone()) {
                self.violate(
                    "history",
                    format!(
                        "attempt {} at revision {} ends again: {before}, {outcome}",
                        id.2, id.1
                    ),
                );
            }
            let later = last.stable.is_some();
            if later {
                *self.checks.outcomes.entry(outcome).or_default() += 1;
            }
            // It is compared with stable: what is no worse than that one is good enough.
            let beside = last
                .stable
                .as_ref()
                .map_or(Quality::Good, |r| self.people.quality(&r.0));
            self.check_end(&id, last.outcome, later, beside);
        }
        let applied: Vec<&String> = new.actions.iter().filter(|a| !old.actions.contains(a)).collect();
        for action in applied {
            self.note_applied(action, old, uid, new);
        }
        let promoted = |s: &State| {
            s.last
                .as_ref()
                .filter(|l| l.outcome == Outcome::Promoted)
                .map(|l| l.revision.clone())
        };
        if old.stable.is_some() && new.stable != old.stable && promoted(new) != new.stable {
            self.violate(
                "promotion",
                format!(
                    "stable goes from {:?} to {:?} without a promotion",
                    old.stable, new.stable
                ),
            );
        }
    }

    /// An action is in the state: its consequence has to be there as well.
    fn note_applied(&mut self, action: &str, old: &State, uid: &str, new: &State) {
        let found = self
            .server
            .objects(ACTIONS)
            .into_iter()
            .find(|a| meta(a, "uid") == action);
        let (Some(found), Some(attempt)) = (found, &old.attempt) else {
            return;
        };
        let abort = found["spec"]["action"] == "Abort";
        let id = (uid.to_owned(), attempt.revision.0.clone(), attempt.number);
        let seen = self.checks.attempts.entry(id).or_default();
        if !abort {
            seen.promotes += 1;
            return;
        }
        seen.aborted = true;
        let same =
            |a: &molt_core::state::Attempt| a.revision == attempt.revision && a.number == attempt.number;
        let goes_on = new
            .attempt
            .as_ref()
            .is_some_and(|a| same(a) && !matches!(a.stage, Stage::Withdrawing { .. }));
        if goes_on {
            self.violate(
                "abort",
                format!(
                    "attempt {} at revision {} goes on after its abort",
                    attempt.number, attempt.revision
                ),
            );
        }
    }

    fn check_end(&mut self, id: &Identity, outcome: Outcome, later: bool, beside: Quality) {
        if !later {
            return;
        }
        let seen = self.checks.attempts.get(id).cloned().unwrap_or_default();
        let quality = self.people.quality(&id.1);
        let by_evidence = seen.promotes == 0;
        if by_evidence
            && quality == Quality::Bad
            && beside == Quality::Good
            && matches!(outcome, Outcome::Promoted | Outcome::RolledBack)
        {
            self.checks.bad.0 += 1;
            self.checks.bad.1 += u64::from(outcome == Outcome::Promoted);
        }
        if outcome != Outcome::Promoted {
            return;
        }
        let what = format!("attempt {} at revision {}", id.2, id.1);
        if seen.aborted {
            self.violate("abort", format!("{what} is promoted after its abort"));
        }
        if by_evidence && seen.evidence < LEAST_EVIDENCE {
            self.violate(
                "evidence",
                format!("{what} is promoted on {} requests", seen.evidence),
            );
        }
        if by_evidence && quality == Quality::VeryBad && beside != Quality::VeryBad {
            self.violate(
                "evidence",
                format!("{what} is promoted although every other answer is bad"),
            );
        }
        let name = format!("{SERVICE}-{}", id.1);
        let now = self.object(SETS, &name).map(|s| meta(s, "uid").to_owned());
        let tested = now.as_ref().is_some_and(|uid| seen.sets.contains(uid));
        if !tested || seen.sets.len() > 1 {
            self.violate(
                "copy",
                format!(
                    "{what} is promoted with ReplicaSet {now:?}; tested was {:?}",
                    seen.sets
                ),
            );
        }
        let share = self.shares().get(&id.1).copied().unwrap_or(0.0);
        if share < 99.5 && !self.struck.foggy(self.now) && self.people.owns_route() {
            self.violate(
                "acknowledged",
                format!("{what} is promoted while the gateway sends it {share:.0} %"),
            );
        }
    }

    /// The operator was told of requests of a revision.
    pub fn told(&mut self, revision: &str, requests: f64) {
        let Some((uid, state)) = &self.checks.state else {
            return;
        };
        let Some(attempt) = state.attempt.as_ref().filter(|a| a.revision.0 == revision) else {
            return;
        };
        let id = (uid.clone(), attempt.revision.0.clone(), attempt.number);
        self.checks.attempts.entry(id).or_default().evidence += requests;
    }

    fn check_action(&mut self, change: &Change) {
        let state = |o: &Value| o["status"]["state"].as_str().map(str::to_owned);
        let before = change.before.as_deref().and_then(state);
        if before.is_some() && !change.deleted && state(&change.after) != before {
            self.violate("actions", format!("action {} is answered twice", change.key.name));
        }
    }

    fn check_record(&mut self, change: &Change) {
        let outcome = |o: &Value| o["status"]["outcome"].as_str().map(str::to_owned);
        let before = change.before.as_deref().and_then(outcome);
        if before.is_some() && !change.deleted && outcome(&change.after) != before {
            self.violate(
                "records",
                format!("record {} changes its outcome", change.key.name),
            );
        }
    }

    /// Looks at what lasts.
    pub(super) fn tick_checks(&mut self) {
        let now = self.now;
        while self.checks.replicas.len() > 1 && self.checks.replicas[1].0 + 30_000 < now {
            self.checks.replicas.remove(0);
        }
        self.note_tested();
        let fog = self.struck.fog_until();
        let works = self
            .checks
            .alive_since
            .is_some_and(|since| now.saturating_sub(since.max(fog)) > REACTS);
        self.look_for_darkness(works);
        self.look_for_unanswered(works);
    }

    /// Which ReplicaSets users are on.
    fn note_tested(&mut self) {
        let Some((uid, state)) = &self.checks.state else {
            return;
        };
        let Some(attempt) = &state.attempt else { return };
        let revision = attempt.revision.0.clone();
        let id = (uid.clone(), revision.clone(), attempt.number);
        if !self.checks.used.contains(&revision) {
            return;
        }
        let set = self
            .object(SETS, &format!("{SERVICE}-{revision}"))
            .map(|s| meta(s, "uid").to_owned());
        if let Some(set) = set {
            self.checks.attempts.entry(id).or_default().sets.insert(set);
        }
    }

    fn look_for_darkness(&mut self, works: bool) {
        let Some(route) = self.object(ROUTES, self.people.route()) else {
            self.checks.dark_since = None;
            return;
        };
        let weights: Vec<(String, u64)> = backends(route)
            .iter()
            .filter_map(|(s, w)| Some((self.revision_behind(s)?, *w)))
            .collect();
        let serves = |r: &str| matches!(self.checks.serving.get(r), Some((true, _)));
        let another = weights.iter().any(|(r, _)| serves(r));
        let dark = weights
            .iter()
            .find(|(r, w)| *w > 0 && !serves(r))
            .filter(|_| another)
            .cloned();
        let Some((revision, weight)) = dark else {
            self.checks.dark_since = None;
            return;
        };
        let since = *self.checks.dark_since.get_or_insert(self.now);
        let deleting = self
            .service()
            .is_none_or(|s| s["metadata"]["deletionTimestamp"].is_string());
        if works && !deleting && self.now - since > REACTS {
            self.violate(
                "dark",
                format!(
                    "{weight} % have gone to revision {revision} without a ready endpoint for {} s",
                    REACTS / 1000
                ),
            );
        }
    }

    fn look_for_unanswered(&mut self, works: bool) {
        let waiting: Vec<String> = self
            .server
            .objects(ACTIONS)
            .into_iter()
            .filter(|a| a["status"]["state"].is_null())
            .map(|a| meta(a, "name").to_owned())
            .collect();
        self.checks.unanswered.retain(|name, _| waiting.contains(name));
        let there = self
            .service()
            .is_some_and(|s| s["metadata"]["deletionTimestamp"].is_null());
        for name in waiting {
            let since = *self.checks.unanswered.entry(name.clone()).or_insert(self.now);
            if works && there && self.now - since > REACTS {
                self.violate(
                    "actions",
                    format!("action {name} has had no answer for {} s", REACTS / 1000),
                );
                return;
            }
        }
    }

    /// What has to be so at rest.
    pub(super) fn at_rest(&mut self) {
        let open: Vec<String> = self
            .server
            .objects(RECORDS)
            .into_iter()
            .filter(|r| r["status"]["outcome"].is_null())
            .map(|r| meta(r, "name").to_owned())
            .collect();
        if !open.is_empty() {
            self.violate("records", format!("at rest records have no end: {open:?}"));
        }
        let stable = self.current().and_then(|s| s.stable.clone()).map(|r| r.0);
        let shares = self.shares();
        let elsewhere = shares.iter().any(|(r, s)| *s > 0.5 && Some(r) != stable.as_ref());
        if elsewhere && self.people.replicas() > 0 {
            self.violate(
                "stable",
                format!("at rest users are not on stable {stable:?}: {shares:?}"),
            );
        }
    }
}
