//! A Deployment whose place Molt's pods take, a few at a time, and which gets it back the same way.
//!
//! Its revision is stable from the start: what served all users needs no proof. Molt's pods start beside its own, as
//! many as `maxSurge` allows, and it is asked for fewer only as they are ready. The way back is the same in a mirror.
//! See `docs/adr/0022-a-deployment-is-taken-over-beside.md`.

use std::cmp::Reverse;

use jiff::{SignedDuration, Timestamp};

use super::attempt::End;
use super::people::MOST_BY;
use super::rival::CALM;
use super::{Turn, after};
use crate::adoption::{Adoption, AdoptionStage, Sight, WorkloadView};
use crate::decision::{ConditionView, Effect, Phase};
use crate::observed::ActionView;
use crate::plan::Revision;
use crate::state::{Outcome, Rival};

/// The first wait before what somebody has written back is set again, from the second time on; each further one
/// doubles it.
const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(1);
/// The longest such wait.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(60);

/// The reason of a phase and a condition that wait for somebody to change a Deployment.
const HELD_BACK: &str = "WorkloadHeldBack";

impl Turn<'_> {
    /// Begins, follows and ends the taking over and the giving back of a Deployment.
    pub(super) fn follow_adoption(&mut self) {
        self.heed_deletion();
        let Some(adoption) = &self.state.adoption else {
            return self.take_over();
        };
        // Molt's pods are the service's own from now on: the Deployment is left as it is, for somebody to delete. Of one that
        // was given back nothing is taken: its pods serve, behind Molt's Services as well.
        let is_taken = adoption.stage == AdoptionStage::Taken;
        if self.plan.workload.is_none() && self.plan.revision.is_some() && is_taken {
            let message = format!(
                "spec.workloadRef is gone: Deployment {} is left as it is, and may be deleted",
                adoption.workload
            );
            self.state.adoption = None;
            return self.note("WorkloadLeft", message);
        }
        self.watch_workload();
        match self.state.adoption.as_ref().map(|a| a.stage) {
            Some(AdoptionStage::Taking) => self.taking(),
            Some(AdoptionStage::Returning) => self.returning(),
            _ => {}
        }
    }

    /// No attempt begins: the Deployment's pods have not all been replaced, or are to come back.
    pub(super) fn adoption_moves(&self) -> bool {
        match &self.state.adoption {
            None => self.plan.workload.is_some() && self.state.stable.is_none(),
            Some(adoption) => adoption.stage != AdoptionStage::Taken,
        }
    }

    /// The object may not go before the Deployment has its place back.
    pub(super) fn gives_back(&self) -> bool {
        match &self.state.adoption {
            Some(adoption) => {
                adoption.stage != AdoptionStage::Returned && self.seen.workload != Sight::Absent
            }
            // A state that was lost: what is written down at the Deployment counts.
            None => self.seen.workload.view().is_some_and(|view| view.held.is_some()),
        }
    }

    /// It is on its way back, or has come back, and nobody but stable has pods: no weight and no selector of Molt's
    /// changes any more.
    pub(super) fn is_given_back(&self) -> bool {
        self.returns() && self.other().is_none()
    }

    fn returns(&self) -> bool {
        let stage = self.state.adoption.as_ref().map(|a| a.stage);
        matches!(stage, Some(AdoptionStage::Returning | AdoptionStage::Returned))
    }

    /// A revision beside stable that has pods.
    fn other(&self) -> Option<&Revision> {
        let stable = self.state.stable.as_ref();
        let mut others = self.seen.revisions.iter();
        let other = others.find(|(revision, v)| stable != Some(revision) && v.wanted.max(v.pods) > 0);
        other.map(|(revision, _)| revision)
    }

    /// A route to Molt's pods comes when they have all the traffic.
    pub(super) fn is_taking(&self) -> bool {
        self.state
            .adoption
            .as_ref()
            .is_some_and(|a| a.stage == AdoptionStage::Taking)
    }

    /// What a person's wish for anything but a release is answered meanwhile.
    pub(super) fn adoption_in_the_way(&self) -> Option<String> {
        let adoption = self.state.adoption.as_ref()?;
        let workload = &adoption.workload;
        match adoption.stage {
            AdoptionStage::Taken => None,
            AdoptionStage::Taking => Some(format!(
                "Deployment {workload} is being taken over; nothing was changed"
            )),
            AdoptionStage::Returning => Some(format!(
                "Deployment {workload} is being given back; nothing was changed"
            )),
            AdoptionStage::Returned => Some(format!(
                "Deployment {workload} has been given back, and this PythonService does nothing any more; nothing was changed"
            )),
        }
    }

    /// Gives the Deployment its place back.
    pub(super) fn release(&mut self, action: &ActionView, by: &str) -> Result<String, String> {
        let Some(adoption) = self.state.adoption.clone() else {
            return Err(
                "no Deployment was taken over: there is nothing to give back; nothing was changed".to_owned(),
            );
        };
        let workload = &adoption.workload;
        if matches!(adoption.stage, AdoptionStage::Returning | AdoptionStage::Returned) {
            return Err(format!(
                "Deployment {workload} is being given back already, or has been; nothing was changed"
            ));
        }
        if let Some(attempt) = self.attempt() {
            let (number, revision) = (attempt.number, &attempt.revision);
            return Err(format!(
                "attempt {number} at revision {revision} is under way: abort it first, or wait for its end; nothing was changed"
            ));
        }
        let stable = self.state.stable.clone().unwrap_or_else(|| "none".into());
        if action.revision.as_ref().is_some_and(|r| *r != stable) {
            return Err(format!(
                "it was meant for another revision; stable is {stable}; nothing was changed"
            ));
        }
        match &self.seen.workload {
            Sight::Absent => {
                return Err(format!(
                    "there is no Deployment {workload} any more; nothing was changed"
                ));
            }
            Sight::Unknown(why) => {
                return Err(format!(
                    "Deployment {workload} can't be read: {why}; nothing was changed"
                ));
            }
            Sight::Seen(view) if !view.is_stable => {
                return Err(format!("{}; nothing was changed", self.other_template(view)));
            }
            Sight::Seen(_) => {}
        }
        self.state.restart = None;
        let by: String = by.chars().take(MOST_BY).collect();
        self.give_back(Some(by.clone()));
        let message = format!("Deployment {workload} gets its place back");
        self.note("ReleasedByPerson", format!("{message} {by}"));
        Ok(message)
    }

    /// A service that is deleted gives its Deployment back first.
    fn heed_deletion(&mut self) {
        if !self.plan.deleting || !self.gives_back() {
            return;
        }
        self.recover();
        if self.attempt().is_some() {
            self.withdraw(End::new(
                Outcome::Aborted,
                "Deleted",
                "the PythonService is being deleted",
            ));
        } else if !self.returns() {
            self.state.restart = None;
            self.give_back(None);
            self.note(
                "GivenBack",
                "the PythonService is being deleted: its Deployment gets its place back first",
            );
        }
    }

    /// A state that was lost, of a service that is being deleted.
    fn recover(&mut self) {
        let Sight::Seen(view) = &self.seen.workload else {
            return;
        };
        let (None, Some(former)) = (&self.state.adoption, view.held) else {
            return;
        };
        let stable = self.state.stable.clone().or_else(|| self.serving());
        self.state.stable = stable.or_else(|| view.revision.clone());
        self.state.adoption = Some(self.adoption_of(view, former));
    }

    /// What users are led to, or has most ready pods of Molt's, or will have; of equals the older one: a canary is younger
    /// than stable.
    fn serving(&self) -> Option<Revision> {
        let has = self
            .seen
            .revisions
            .iter()
            .filter(|(_, v)| v.wanted > 0 || v.ready > 0);
        let most = has.max_by_key(|(r, v)| (self.weight_of(r), v.ready, v.wanted, Reverse(v.created_at)));
        most.map(|(r, _)| r.clone())
    }

    fn adoption_of(&self, view: &WorkloadView, former: u32) -> Adoption {
        Adoption {
            workload: view.name.clone(),
            uid: view.uid.clone(),
            replicas: former,
            stage: AdoptionStage::Taking,
            moved_at: self.now,
            seen_replicas: view.replicas,
            seen_paused: view.paused,
            rival: None,
            released: None,
        }
    }

    fn give_back(&mut self, released: Option<String>) {
        let (now, replicas) = (self.now, self.plan.replicas);
        if let Some(adoption) = &mut self.state.adoption {
            if adoption.stage == AdoptionStage::Taken {
                adoption.replicas = replicas;
            }
            adoption.stage = AdoptionStage::Returning;
            adoption.moved_at = now;
            adoption.rival = None;
            adoption.released = released;
        }
    }

    /// Begins to take over the Deployment that the spec names, once it can be.
    fn take_over(&mut self) {
        if self.plan.deleting || self.state.attempt.is_some() {
            return;
        }
        let (Some(_), Some(revision), Sight::Seen(view)) =
            (&self.plan.workload, &self.plan.revision, &self.seen.workload)
        else {
            return;
        };
        // One that is held already has begun: a state that was lost is found again, paused or not.
        if view.held.is_none() && self.obstacle(view).is_some() {
            return;
        }
        let former = view.held.unwrap_or(view.replicas);
        // A state that was lost: what has pods of Molt's is what serves.
        let serving = || self.serving().filter(|_| view.held.is_some());
        let stable = self.state.stable.clone().or_else(serving);
        let stable = stable.unwrap_or_else(|| revision.clone());
        let message = format!(
            "Deployment {} with {} is taken over: Molt's pods of revision {stable} take the place of its own, at most {} more at a time",
            view.name,
            pods(former),
            view.surge.max(1)
        );
        self.state.adoption = Some(self.adoption_of(view, former));
        self.state.stable = Some(stable);
        self.state.last = None;
        self.state.refused = None;
        self.note("TakeoverStarted", message);
    }

    /// Why a Deployment can't be taken over yet, and the phase that this is.
    fn obstacle(&self, view: &WorkloadView) -> Option<(Phase, String)> {
        let name = &view.name;
        if let Some(why) = &view.autoscalers_unread {
            return Some((
                Phase::Degraded,
                format!(
                    "whether a HorizontalPodAutoscaler scales Deployment {name} is not known yet: {why}; the operator needs list and watch on horizontalpodautoscalers"
                ),
            ));
        }
        if let Some(autoscaler) = &view.autoscaler {
            return Some((
                Phase::Degraded,
                format!(
                    "HorizontalPodAutoscaler {autoscaler} scales Deployment {name} and would fight: let its scaleTargetRef name this PythonService (apiVersion molt.dev/v1alpha1, kind PythonService), and write spec.replicas"
                ),
            ));
        }
        if view.paused {
            return Some((
                Phase::Degraded,
                format!(
                    "Deployment {name} is paused, so its pods may not be what its template says: `kubectl rollout resume deployment {name}` first"
                ),
            ));
        }
        if !view.settled {
            let message = format!(
                "Deployment {name} is in the middle of a rollout of its own, or not all of its pods are ready ({} of {}): it is taken over when they are",
                view.ready, view.replicas
            );
            return Some((Phase::Initializing, message));
        }
        let pause = self.standing_pause()?;
        Some((
            Phase::Paused,
            format!("{pause}; Deployment {name} is taken over afterwards"),
        ))
    }

    /// Why a takeover that has begun stays where it is.
    fn takeover_pause(&self) -> Option<String> {
        self.standing_pause().filter(|_| self.is_taking())
    }

    /// Notes what has moved since the last look, and who wrote back what Molt had set.
    fn watch_workload(&mut self) {
        let now = self.now;
        let Sight::Seen(view) = &self.seen.workload else {
            return;
        };
        let Some(adoption) = &mut self.state.adoption else {
            return;
        };
        if adoption
            .rival
            .as_ref()
            .is_some_and(|rival| now >= after(rival.last, CALM))
        {
            adoption.rival = None;
        }
        let replaced = adoption.uid != view.uid;
        let raised = view.replicas > adoption.seen_replicas;
        let resumed = adoption.seen_paused && !view.paused;
        let held = matches!(adoption.stage, AdoptionStage::Taking | AdoptionStage::Taken);
        if held && (raised || resumed || replaced) {
            let times = adoption.rival.as_ref().map_or(0, |rival| rival.times);
            let unnamed = || "a field manager without a name".to_owned();
            adoption.rival = Some(Rival {
                manager: view.written_by.clone().unwrap_or_else(unnamed),
                last: now,
                times,
            });
        }
        if view.replicas != adoption.seen_replicas {
            adoption.moved_at = now;
        }
        adoption.uid.clone_from(&view.uid);
        adoption.seen_replicas = view.replicas;
        adoption.seen_paused = view.paused;
        if held && (raised || resumed || replaced) {
            let what = self.rival_of_workload().unwrap_or_default();
            self.note("WorkloadWrittenBack", what);
        }
    }

    fn taking(&mut self) {
        let Some(stable) = self.state.stable.clone() else {
            return;
        };
        let is_paused = self.takeover_pause().is_some();
        if is_paused && self.adoption_at().is_some_and(|at| self.now >= at) {
            // A pause is no lack of progress.
            self.reach(AdoptionStage::Taking);
        }
        let is_gone = !self.seen.revisions.contains_key(&stable);
        if is_gone && self.plan.revision.as_ref().is_some_and(|r| *r != stable) {
            // The template went on before there was a ReplicaSet of the one that runs, which can't be made any more.
            self.give_back(None);
            return self.note(
                "TakeoverCancelled",
                "the Deployment's template was changed before Molt had a pod of the former one; it is taken over anew",
            );
        }
        let (replicas, own) = match self.seen.workload.view() {
            Some(view) => (view.replicas, view.pods),
            None if self.seen.workload == Sight::Absent => (0, 0),
            None => return,
        };
        if replicas == 0 && own == 0 && self.seen.ready(&stable) >= self.pods_in_all() {
            self.reach(AdoptionStage::Taken);
            let ready = self.seen.ready(&stable);
            self.note(
                "TakenOver",
                format!(
                    "{} of revision {stable} serve instead of the Deployment's",
                    pods(ready)
                ),
            );
        }
    }

    fn returning(&mut self) {
        let Some(adoption) = self.state.adoption.clone() else {
            return;
        };
        let Some(view) = self.seen.workload.view() else {
            return;
        };
        if view.held.is_some() || self.molts_pods() > 0 {
            return;
        }
        if adoption.released.is_none() && !self.plan.deleting {
            // It was not asked for: the taking over begins anew.
            self.state.adoption = None;
            self.state.stable = None;
            return;
        }
        self.reach(AdoptionStage::Returned);
        let message = format!(
            "Deployment {} serves with {} again; Molt does nothing any more",
            view.name,
            pods(view.ready)
        );
        self.note("Released", message);
    }

    fn reach(&mut self, stage: AdoptionStage) {
        let now = self.now;
        if let Some(adoption) = &mut self.state.adoption {
            adoption.stage = stage;
            adoption.moved_at = now;
        }
    }

    /// Pods that serve, Molt's and the Deployment's together. A number that falls in a takeover counts afterwards: an
    /// autoscaler that knows Molt's first pods alone asks for as few.
    fn pods_in_all(&self) -> u32 {
        let taken = self.state.adoption.as_ref().filter(|_| self.is_taking());
        self.plan.replicas.max(taken.map_or(0, |a| a.replicas))
    }

    /// Pods of Molt's, of any revision.
    fn molts_pods(&self) -> u32 {
        self.seen.revisions.values().map(|v| v.wanted.max(v.pods)).sum()
    }

    /// Pods that Molt's ReplicaSet of stable is asked for while the Deployment's pods go or come; `None` otherwise.
    pub(super) fn adopted_pods(&self) -> Option<(Revision, u32)> {
        let adoption = self.state.adoption.as_ref()?;
        let stable = self.state.stable.clone()?;
        let has = self.seen.revisions.get(&stable).map_or(0, |v| v.wanted);
        let pods = match adoption.stage {
            AdoptionStage::Taken => return None,
            AdoptionStage::Returned => 0,
            AdoptionStage::Taking => {
                let all = self.pods_in_all();
                let least = has.min(all);
                match &self.seen.workload {
                    Sight::Unknown(_) => has,
                    Sight::Absent => all,
                    // What it has is not to change by itself while pods come beside.
                    Sight::Seen(view) if view.held.is_none() || !view.paused => least,
                    Sight::Seen(view) => {
                        let most = all + view.surge.max(1);
                        let room = most.saturating_sub(view.replicas.max(view.pods));
                        // What the Deployment is not asked for any more is Molt's, and in a pause no pod beyond.
                        let theirs = if self.takeover_pause().is_some() {
                            view.replicas
                        } else {
                            0
                        };
                        all.saturating_sub(theirs).min(room).max(least)
                    }
                }
            }
            AdoptionStage::Returning => match &self.seen.workload {
                Sight::Seen(view) if view.observed && !view.paused && view.widened => {
                    has.min(adoption.replicas.saturating_sub(view.ready.min(view.replicas)))
                }
                _ => has,
            },
        };
        Some((stable, pods))
    }

    /// What is to be changed at the Deployment, and at the Services that lead to it.
    pub(super) fn adopt(&mut self, effects: &mut Vec<Effect>) {
        let (Some(adoption), Sight::Seen(view)) = (&self.state.adoption, &self.seen.workload) else {
            return;
        };
        match adoption.stage {
            AdoptionStage::Taking | AdoptionStage::Taken => self.hold(effects),
            AdoptionStage::Returning => self.let_go(effects),
            AdoptionStage::Returned if view.held.is_some() => effects.push(Effect::FreeWorkload {
                uid: view.uid.clone(),
            }),
            AdoptionStage::Returned => {}
        }
    }

    fn hold(&mut self, effects: &mut Vec<Effect>) {
        let now = self.now;
        let again = self.hold_again_at();
        let is_paused = self.takeover_pause().is_some();
        let all = self.pods_in_all();
        let (Some(adoption), Sight::Seen(view)) = (&mut self.state.adoption, &self.seen.workload) else {
            return;
        };
        let ready = self.state.stable.as_ref().map_or(0, |r| self.seen.ready(r));
        let may_shrink = view.held.is_some() && view.paused && !is_paused;
        let replicas = if may_shrink || adoption.stage == AdoptionStage::Taken {
            view.replicas.min(all.saturating_sub(ready))
        } else {
            view.replicas
        };
        let is_held = view.paused && view.held.is_some() && view.replicas == replicas;
        if is_held || again.is_some_and(|at| now < at) {
            return;
        }
        if let Some(rival) = &mut adoption.rival {
            rival.times = rival.times.saturating_add(1);
            rival.last = now;
        }
        effects.push(Effect::HoldWorkload {
            uid: view.uid.clone(),
            replicas,
            paused: true,
            former: adoption.replicas,
        });
    }

    /// When what somebody has written back is set again; at once if nobody has.
    pub(super) fn hold_again_at(&self) -> Option<Timestamp> {
        let adoption = self.state.adoption.as_ref()?;
        let held = matches!(adoption.stage, AdoptionStage::Taking | AdoptionStage::Taken);
        let rival = adoption.rival.as_ref().filter(|_| held)?;
        let doublings = rival.times.checked_sub(1)?;
        let wait = FIRST_WAIT * 2i32.pow(doublings.min(16));
        Some(after(rival.last, wait.min(LONGEST_WAIT)))
    }

    /// The way back, one thing after the other: nobody but stable has pods, the Services lead to both, the Deployment
    /// acts on its template again, and then its pods come as Molt's go.
    fn let_go(&self, effects: &mut Vec<Effect>) {
        let (Some(adoption), Sight::Seen(view)) = (&self.state.adoption, &self.seen.workload) else {
            return;
        };
        if self.let_go_wait(view).is_some() {
            return;
        }
        if !view.widened {
            return effects.push(Effect::WidenServices);
        }
        let molts = self.molts_pods();
        let replicas = if view.paused || !view.observed {
            // It makes the ReplicaSet of its present template only while it rolls out.
            view.replicas
        } else {
            let room = (adoption.replicas + view.surge.max(1)).saturating_sub(molts);
            view.replicas.max(adoption.replicas.min(room))
        };
        if view.paused || replicas != view.replicas {
            effects.push(Effect::HoldWorkload {
                uid: view.uid.clone(),
                replicas,
                paused: false,
                former: adoption.replicas,
            });
        } else if view.held.is_some() && molts == 0 && view.observed && view.ready >= adoption.replicas {
            effects.push(Effect::FreeWorkload {
                uid: view.uid.clone(),
            });
        }
    }

    /// What keeps the Deployment from getting its place back.
    fn let_go_wait(&self, view: &WorkloadView) -> Option<String> {
        if let Some(attempt) = self.attempt() {
            return Some(format!("revision {} is being withdrawn first", attempt.revision));
        }
        if let Some(revision) = self.other() {
            return Some(format!("the pods of revision {revision} go first"));
        }
        // Where Molt has no pods, there is nothing to take the place of.
        let begins = view.paused && self.molts_pods() > 0;
        (begins && !view.is_stable).then(|| self.other_template(view))
    }

    fn other_template(&self, view: &WorkloadView) -> String {
        let stable = self.state.stable.as_ref().map_or("none", |r| r.0.as_str());
        let has = view.revision.as_ref().map_or("another one", |r| r.0.as_str());
        format!(
            "the template of Deployment {}, with spec.runtime and spec.port, is revision {has}, and stable is {stable}: put the template back that stable runs, so that the Deployment brings back nothing else",
            view.name
        )
    }

    fn rival_of_workload(&self) -> Option<String> {
        let adoption = self.state.adoption.as_ref()?;
        let rival = adoption.rival.as_ref()?;
        let advice = self.seen.workload.view().map_or("", |view| view.advice.as_str());
        let advice = if advice.is_empty() {
            String::new()
        } else {
            format!(" {advice}")
        };
        Some(format!(
            "{} wrote spec.replicas or spec.paused of Deployment {} back less than {} minutes ago; Molt sets them again, each time after a longer wait.{advice}",
            rival.manager,
            adoption.workload,
            CALM.as_mins()
        ))
    }

    /// When a step of it is overdue.
    pub(super) fn adoption_at(&self) -> Option<Timestamp> {
        let adoption = self.state.adoption.as_ref()?;
        let moves = matches!(adoption.stage, AdoptionStage::Taking | AdoptionStage::Returning);
        // A pause is looked at in its midst, so that there is time left at its end.
        let parts = if self.takeover_pause().is_some() { 2 } else { 1 };
        moves.then(|| after(adoption.moved_at, self.plan.progress_deadline / parts))
    }

    /// The phase, and where it is in one sentence, while a Deployment is not simply taken over.
    pub(super) fn adoption_place(&self) -> Option<(Phase, String)> {
        let Some(adoption) = &self.state.adoption else {
            let (Some(_), Sight::Seen(view)) = (&self.plan.workload, &self.seen.workload) else {
                return None;
            };
            let obstacle = self.obstacle(view)?;
            return (self.state.stable.is_none() && self.plan.revision.is_some()).then_some(obstacle);
        };
        let name = &adoption.workload;
        let late = self.adoption_at().is_some_and(|at| self.now >= at);
        let phase = if late { Phase::Degraded } else { Phase::Progressing };
        let stable = self.state.stable.as_ref()?;
        let ready = self.seen.ready(stable);
        let view = self.seen.workload.view();
        let theirs = view.map_or(0, |v| v.ready);
        let trouble = self.seen.revisions.get(stable).and_then(|v| v.trouble.as_ref());
        let trouble = trouble.map_or_else(String::new, |t| format!(": {}", t.message));
        match adoption.stage {
            AdoptionStage::Taken => None,
            AdoptionStage::Taking => {
                let place = format!(
                    "takes over Deployment {name}: {ready} of {} pods are Molt's, and {theirs} of its own are ready{trouble}",
                    self.pods_in_all()
                );
                Some(match self.takeover_pause() {
                    Some(pause) => (Phase::Paused, format!("{pause}; {place}")),
                    None => (phase, place),
                })
            }
            AdoptionStage::Returning => {
                let wait = match &self.seen.workload {
                    Sight::Seen(view) => self.let_go_wait(view),
                    Sight::Absent => Some(format!("there is no Deployment {name} any more")),
                    Sight::Unknown(why) => Some(why.clone()),
                };
                let wait = wait.map_or_else(String::new, |what| format!(": {what}"));
                Some((
                    phase,
                    format!(
                        "gives Deployment {name} its place back: {theirs} of {} of its pods are ready, and {ready} of Molt's are left{wait}",
                        adoption.replicas
                    ),
                ))
            }
            AdoptionStage::Returned => Some((Phase::Healthy, {
                let by = adoption
                    .released
                    .as_ref()
                    .map_or_else(String::new, |by| format!(" {by}"));
                let serves = match &self.seen.workload {
                    Sight::Unknown(why) => format!("; what becomes of it can't be read: {why}"),
                    Sight::Absent => {
                        "; there is no such Deployment any more, and nobody is served by it".to_owned()
                    }
                    _ if theirs == 0 => ", and none of its pods is ready".to_owned(),
                    Sight::Seen(_) => format!(" and serves with {}", pods(theirs)),
                };
                format!(
                    "Deployment {name} was given back{by}{serves}; this PythonService does nothing any more: delete it, and with it its route and Services, once nobody comes by them"
                )
            })),
        }
    }

    /// The reason of a phase that tells of a fault, where the Deployment is what it is for.
    pub(super) fn adoption_fault(&self) -> Option<&'static str> {
        let (phase, _) = self.adoption_place()?;
        (phase == Phase::Degraded).then_some(match self.state.adoption {
            None => HELD_BACK,
            Some(_) => "AdoptionStalled",
        })
    }

    /// The condition that tells of it; none where no Deployment is named.
    pub(super) fn workload_taken(&self) -> Option<ConditionView> {
        let view = |status, reason: &str, message: String, fault| ConditionView {
            kind: "WorkloadTaken",
            status,
            reason: reason.to_owned(),
            message,
            fault,
        };
        if let Some((phase, message)) = self.adoption_place() {
            let reason = match self.state.adoption.as_ref().map(|a| a.stage) {
                _ if phase == Phase::Paused => "TakeoverPaused",
                None if phase == Phase::Degraded => HELD_BACK,
                None => "WorkloadUnsettled",
                Some(_) if phase == Phase::Degraded => "AdoptionStalled",
                Some(AdoptionStage::Returned) => "Released",
                Some(AdoptionStage::Returning) => "Releasing",
                Some(_) => "TakingOver",
            };
            return Some(view(false, reason, message, phase == Phase::Degraded));
        }
        let adoption = self.state.adoption.as_ref()?;
        if let Some(message) = self.rival_of_workload() {
            return Some(view(false, "WorkloadWrittenBack", message, true));
        }
        let message = format!(
            "Deployment {} has no pods and rolls out nothing: a change of its template is rolled out by Molt; `kubectl molt release` gives it back",
            adoption.workload
        );
        Some(view(true, "TakenOver", message, false))
    }
}

fn pods(count: u32) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} pod{plural}")
}
