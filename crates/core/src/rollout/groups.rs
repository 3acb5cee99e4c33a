//! Services that are released together: an attempt waits for the waves before its own, and what ends one attempt badly
//! ends those of the others.
//!
//! A service takes part in a release from the moment that its revision was asked for until nothing of the group moves any
//! more. Each decides for itself, by what it sees of the others, so there is nothing that could be lost between them.

use jiff::{SignedDuration, Timestamp};

use super::attempt::End;
use super::pauses::goes_back;
use super::people::MOST_BY;
use super::{Turn, after};
use crate::decision::{ConditionView, Phase};
use crate::group::{Fault, GroupState, GroupWait, Peer};
use crate::observed::ActionView;
use crate::plan::Revision;
use crate::state::{Attempt, Outcome, Pin, Stage};

/// How long a change waits for those of the other services: one commit changes several, and they come one by one.
const SETTLE: SignedDuration = SignedDuration::from_secs(5);
/// How an attempt ends, and why a service goes back, because of another one.
const ABORTED: &str = "GroupAborted";
/// The gate, as conditions tell it.
const WAITING: &str = "WaitingForGroup";

/// What a revision waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Gate {
    /// The service; none while it only waits whether others change as well.
    peer: Option<String>,
    /// In a sentence.
    text: String,
    /// It goes on by a person's word, not by itself.
    person: bool,
}

/// Where another service stands.
enum Standing {
    /// Healthy, with what its spec asks for.
    Settled,
    /// Not yet, and on its way.
    Moves(String),
    /// Not, until a person does something.
    Stopped(String),
}

impl Turn<'_> {
    /// The other services of the group that count; one that is being deleted does not.
    fn peers(&self) -> impl Iterator<Item = &Peer> {
        let grouped = self.plan.group.is_some();
        self.seen.peers.iter().filter(move |p| grouped && !p.deleting)
    }

    fn wave(&self) -> u32 {
        self.plan.group.as_ref().map_or(0, |group| group.wave)
    }

    fn change_group(&mut self, change: impl FnOnce(&mut GroupState)) {
        let mut group = self.state.group.take().unwrap_or_default();
        change(&mut group);
        self.state.group = Some(group).filter(|group| *group != GroupState::default());
    }

    /// The service takes part in a release that is not over: since when.
    fn released_since(&self) -> Option<Timestamp> {
        self.state.group.as_ref()?.since
    }

    /// What became of the others: takes back what was released with something that was taken back.
    pub(super) fn follow_group(&mut self) {
        if self.plan.group.is_none() {
            self.state.group = None;
            return;
        }
        if self.plan.deleting {
            return;
        }
        let wanted = self.wanted();
        let asked =
            |wait: &GroupWait| self.state.attempt.is_none() && wanted.as_ref() == Some(&wait.revision);
        if self.group_wait().is_some_and(|wait| !asked(wait)) {
            self.change_group(|group| group.waits = None);
        }
        let Some(since) = self.released_since() else {
            return;
        };
        let Some(attempt) = self.attempt() else {
            match self.fault_after(since) {
                Some(what) => self.take_back(&what),
                None if self.group_rests() => self.change_group(|group| group.since = None),
                None => {}
            }
            return;
        };
        let ends = matches!(attempt.stage, Stage::Withdrawing { .. } | Stage::Settling);
        if let Some(what) = self.fault_after(since).filter(|_| !ends) {
            self.withdraw(End::new(Outcome::Aborted, ABORTED, what));
        }
    }

    /// What went wrong first with another service after a time, in words.
    fn fault_after(&self, since: Timestamp) -> Option<String> {
        let faults = self.peers().filter_map(|p| Some((p, p.fault.as_ref()?)));
        let (peer, fault) = faults
            .filter(|(_, fault)| fault.at > since)
            .min_by_key(|(peer, fault)| (fault.at, peer.name.clone()))?;
        Some(format!(
            "{} of its group did not take revision {} ({}), and what is released together goes back together",
            peer.name, fault.revision, fault.reason
        ))
    }

    /// Nothing of the group moves, or waits to.
    fn group_rests(&self) -> bool {
        let rests = |peer: &Peer| {
            let phase = matches!(
                peer.phase,
                Some(Phase::Healthy | Phase::RolledBack | Phase::Degraded)
            );
            peer.current && !peer.attempt && phase
        };
        self.peers().all(rests)
    }

    /// A revision that was promoted in this release goes back to the one that was stable before.
    fn take_back(&mut self, what: &str) {
        self.change_group(|group| group.since = None);
        let (Some(stable), Some(spec)) = (self.state.stable.clone(), self.plan.revision.clone()) else {
            return;
        };
        let promoted = |outcome, revision: &Revision| outcome == Outcome::Promoted && *revision == stable;
        let last = self
            .state
            .last
            .as_ref()
            .filter(|l| promoted(l.outcome, &l.revision));
        let Some(last) = last.filter(|_| self.wanted().as_ref() == Some(&stable)) else {
            return;
        };
        let before = last.stable.clone();
        let usable = |r: &Revision| {
            let kept = self.seen.revisions.get(r).is_some_and(|view| !view.altered);
            kept && self.state.served.contains(r)
        };
        if let Some(revision) = before.clone().filter(usable) {
            self.note(
                ABORTED,
                format!("{what}: back from revision {stable} to {revision}"),
            );
            self.state.pinned = Some(Pin {
                revision,
                instead_of: spec,
                why: None,
                group: Some(short(what)),
            });
            return;
        }
        let why = match before {
            Some(before) => format!("revision {before}, which was stable before, is no longer there"),
            None => "it is the first revision, and there is none to go back to".to_owned(),
        };
        let stayed = short(&format!("{what}; revision {stable} stays all the same: {why}"));
        self.note("GroupLeftBehind", stayed.clone());
        self.change_group(|group| group.stayed = Some(stayed));
    }

    /// An attempt is being taken back: the others of the group are told, if something spoke against its revision.
    pub(super) fn tell_group(&mut self, attempt: &Attempt, end: &End) {
        if self.plan.group.is_none() || goes_back(attempt) {
            return;
        }
        let against = match end.outcome {
            Outcome::RolledBack | Outcome::Inconclusive => true,
            Outcome::Aborted => ["AbortedByPerson", "WeightLowered"].contains(&end.reason.as_str()),
            Outcome::Promoted | Outcome::Superseded => false,
        };
        let fault = against.then(|| Fault {
            at: self.now,
            revision: attempt.revision.clone(),
            attempt: attempt.number,
            reason: end.reason.clone(),
        });
        self.change_group(|group| {
            // Whatever ends it without a promotion, it no longer takes part.
            group.since = None;
            group.fault = fault.or(group.fault.take());
        });
    }

    /// The same of a revision that was promoted, and is left again: what is still being released with it goes back.
    pub(super) fn tell_group_of_breach(&mut self, revision: &Revision) {
        if self.plan.group.is_none() {
            return;
        }
        let last = self.state.last.as_ref().filter(|l| l.revision == *revision);
        let fault = Fault {
            at: self.now,
            revision: revision.clone(),
            attempt: last.map_or(1, |l| l.number),
            reason: "WatchBreached".to_owned(),
        };
        self.change_group(|group| {
            group.since = None;
            group.fault = Some(fault);
        });
    }

    fn group_wait(&self) -> Option<&GroupWait> {
        self.state.group.as_ref()?.waits.as_ref()
    }

    /// An attempt at a revision may not begin yet, because of the group. Notes that it waits, and for whom.
    pub(super) fn group_stops(&mut self, revision: &Revision) -> bool {
        if self.plan.group.is_none() || self.state.stable.is_none() {
            // Nobody is served without a first revision.
            return false;
        }
        if self.goes_back_with_group(revision) {
            return self.later_wave_moves().is_some();
        }
        let back = self.goes_back_last(revision);
        if self.is_known(revision) && !back {
            return false;
        }
        let known = self
            .group_wait()
            .filter(|wait| wait.revision == *revision)
            .cloned();
        let mut wait = known.unwrap_or_else(|| GroupWait {
            revision: revision.clone(),
            since: self.now,
            peer: None,
            back: false,
            overridden: None,
        });
        wait.back = back;
        let gate = self.gate(&wait);
        if let Some(peer) = gate.as_ref().and_then(|gate| gate.peer.clone()) {
            wait.peer = Some(peer);
        }
        self.change_group(|group| group.waits = Some(wait));
        gate.is_some()
    }

    /// An attempt has begun. What it waited for, for the record.
    pub(super) fn leave_gate(&mut self, straight: bool) -> Option<String> {
        self.plan.group.as_ref()?;
        let wait = self.group_wait().cloned();
        // Neither a way back nor a first revision is taken back with others.
        let grouped = !straight && self.state.stable.is_some();
        let begins = wait.as_ref().map_or(self.now, |wait| wait.since);
        // What is known to have gone wrong before it began is none of its own.
        let known = self.peers().filter_map(|p| Some(p.fault.as_ref()?.at)).max();
        let since = known.map_or(begins, |known| known.max(begins));
        self.change_group(|group| {
            group.waits = None;
            group.stayed = None;
            group.since = grouped.then_some(since);
        });
        let wait = wait.filter(|_| grouped)?;
        let seconds = self.now.duration_since(wait.since).as_secs();
        if let Some(by) = wait.overridden {
            return Some(format!("it did not wait for its group: overridden {by}"));
        }
        wait.peer
            .map(|peer| format!("it waited {seconds} s for its group, for {peer} at last"))
    }

    /// What a revision waits for.
    fn gate(&self, wait: &GroupWait) -> Option<Gate> {
        if wait.overridden.is_some() {
            return None;
        }
        if wait.back {
            return self.gate_back(wait);
        }
        let mut before: Vec<&Peer> = self.peers().filter(|p| p.wave < self.wave() && !p.back).collect();
        before.sort_by_key(|p| (p.wave, p.name.clone()));
        // It was changed together with what has been taken back since, and was only not as far yet.
        let faulty = |p: &&Peer| {
            let fault = p.fault.as_ref().filter(|fault| fault.at >= wait.since);
            fault.is_some_and(|fault| p.out.as_ref() == Some(&fault.revision))
        };
        let mut together: Vec<&Peer> = self.peers().filter(faulty).collect();
        together.sort_by_key(|p| (p.wave, p.name.clone()));
        if let Some(gate) = before.into_iter().chain(together).find_map(closed_by) {
            return Some(gate);
        }
        self.settles(wait)
    }

    /// Workers know the tasks of those who give them some, so they move before these, and go back after them: an old
    /// worker discards a task that it does not know.
    fn goes_back_last(&self, revision: &Revision) -> bool {
        self.pulls() && self.state.served.contains(revision)
    }

    /// What a way back waits for that comes after those of later waves: as long as one of them moves.
    fn gate_back(&self, wait: &GroupWait) -> Option<Gate> {
        let own = self.state.group.as_ref().and_then(|group| group.fault.as_ref());
        let is_hit = |p: &Peer| own.is_some_and(|own| p.since.is_some_and(|since| own.at > since));
        let phases = [Phase::Initializing, Phase::Progressing, Phase::RollingBack].map(Some);
        let moves = |p: &&Peer| p.attempt || !p.current || phases.contains(&p.phase) || is_hit(p);
        let mut later: Vec<&Peer> = self.peers().filter(|p| p.wave > self.wave()).collect();
        later.sort_by_key(|p| (std::cmp::Reverse(p.wave), p.name.clone()));
        if let Some(peer) = later.into_iter().find(moves) {
            return Some(Gate {
                peer: Some(peer.name.clone()),
                text: format!(
                    "{} (wave {}) goes before it, so that no old worker meets its new tasks",
                    peer.name, peer.wave
                ),
                person: peer.attempt && peer.phase == Some(Phase::Paused),
            });
        }
        self.settles(wait)
    }

    /// Others may be changed by the same commit.
    fn settles(&self, wait: &GroupWait) -> Option<Gate> {
        (self.now < after(wait.since, SETTLE)).then(|| Gate {
            peer: None,
            text: format!("for {} s, whether others of it change as well", SETTLE.as_secs()),
            person: false,
        })
    }

    /// When a revision that waits is to be looked at again: the others tell of themselves.
    pub(super) fn group_at(&self) -> Option<Timestamp> {
        self.group_wait().map(|wait| after(wait.since, SETTLE))
    }

    /// The revision is what the service goes back to because the release was aborted.
    fn goes_back_with_group(&self, revision: &Revision) -> bool {
        let pin = self.state.pinned.as_ref();
        pin.is_some_and(|pin| pin.group.is_some() && pin.revision == *revision)
    }

    /// Later waves may rely on this one, so they go back first: one that is on its way, or is about to be.
    fn later_wave_moves(&self) -> Option<&Peer> {
        let is_hit = |p: &Peer| {
            let fault = |other: &Peer| {
                other
                    .fault
                    .as_ref()
                    .filter(|_| other.name != p.name)
                    .map(|f| f.at)
            };
            p.since
                .is_some_and(|since| self.peers().filter_map(fault).any(|at| at > since))
        };
        let moves = |p: &Peer| p.attempt || p.phase == Some(Phase::RollingBack) || is_hit(p);
        self.peers()
            .filter(|p| p.wave > self.wave() && moves(p))
            .min_by_key(|p| p.name.clone())
    }

    /// The wait is overridden by a person.
    pub(super) fn override_group(&mut self, action: &ActionView, by: &str) -> Result<String, String> {
        let Some(wait) = self.group_wait().cloned() else {
            return Err("no attempt is under way; nothing was changed".to_owned());
        };
        let revision = wait.revision;
        if action.attempt.is_some() || action.revision.as_ref().is_some_and(|r| *r != revision) {
            return Err(format!(
                "it was meant for another revision or attempt; revision {revision} waits for its group; nothing was changed"
            ));
        }
        if wait.overridden.is_none() {
            let by: String = by.chars().take(MOST_BY).collect();
            self.note(
                "OverriddenByPerson",
                format!("revision {revision} does not wait for its group, {by}"),
            );
            self.change_group(|group| {
                if let Some(wait) = &mut group.waits {
                    wait.overridden = Some(by);
                }
            });
        }
        Ok(format!("revision {revision} does not wait for its group"))
    }

    /// A revision that the service went back from with its group is tried again: by all the steps.
    pub(super) fn retry_of_group(&mut self, action: &ActionView) -> Option<Result<Revision, String>> {
        let pin = self.state.pinned.as_ref().filter(|pin| pin.group.is_some())?;
        let revision = pin.instead_of.clone();
        if action.attempt.is_some() || action.revision.as_ref().is_some_and(|r| *r != revision) {
            return Some(Err(format!(
                "it was meant for another revision or attempt; revision {revision} is the one that is refused; nothing was changed"
            )));
        }
        if let Some(pause) = self.pause_of(&revision) {
            return Some(Err(format!("{pause}; nothing was changed")));
        }
        self.state.pinned = None;
        // What it showed alone did not count for the group.
        self.state.served.retain(|r| *r != revision);
        Some(Ok(revision))
    }

    /// Where it is, while that is because of the group and no attempt is under way.
    pub(super) fn group_place(&self, stable: &Revision) -> Option<(Phase, String)> {
        let group = &self.plan.group.as_ref()?.name;
        if let Some(pin) = self.state.pinned.as_ref().filter(|_| self.is_taken_back())
            && let Some(why) = &pin.group
        {
            let out = &pin.instead_of;
            if pin.revision == *stable {
                let message = format!(
                    "revision {out} was taken back: {why}; {}",
                    self.serving_text(stable)
                );
                return Some((Phase::RolledBack, message));
            }
            let peer = self.later_wave_moves()?;
            let message = format!(
                "revision {out} goes back: {why}; {} (wave {}) goes before it",
                peer.name, peer.wave
            );
            return Some((Phase::RollingBack, message));
        }
        let wait = self.group_wait()?;
        let gate = self.gate(wait)?;
        let phase = if gate.person {
            Phase::Paused
        } else {
            Phase::Progressing
        };
        let message = format!(
            "revision {} waits for its group {group}: {}; {}",
            wait.revision,
            gate.text,
            self.serving_text(stable)
        );
        Some((phase, message))
    }

    fn is_taken_back(&self) -> bool {
        let pin = self.state.pinned.as_ref().filter(|pin| pin.group.is_some());
        pin.is_some_and(|pin| self.plan.revision.as_ref() == Some(&pin.instead_of))
    }

    /// The word for a phase that the group brought about.
    pub(super) fn group_reason(&self, phase: Phase) -> Option<&'static str> {
        if self.attempt().is_some() || self.plan.group.is_none() {
            return None;
        }
        match phase {
            Phase::RolledBack | Phase::RollingBack if self.is_taken_back() => Some(ABORTED),
            Phase::Progressing | Phase::Paused => {
                let gate = self.gate(self.group_wait()?);
                gate.map(|_| WAITING)
            }
            _ => None,
        }
    }

    /// What is to be said of the group beside.
    pub(super) fn group_told(&self) -> String {
        let stayed = self.state.group.as_ref().and_then(|g| g.stayed.as_ref());
        stayed.map_or_else(String::new, |stayed| format!("; {stayed}"))
    }

    /// Where the service stands in its group.
    pub(super) fn group_condition(&self) -> Option<ConditionView> {
        let name = &self.plan.group.as_ref()?.name;
        let view = |status, reason: &str, message| ConditionView {
            kind: "GroupReady",
            status,
            reason: reason.to_owned(),
            message,
            // Transitions and phases tell of it.
            fault: false,
        };
        let stayed = self.state.group.as_ref().and_then(|g| g.stayed.clone());
        if let Some(stayed) = stayed {
            return Some(view(false, "GroupLeftBehind", stayed));
        }
        if let Some(why) = self.state.pinned.as_ref().and_then(|pin| pin.group.clone()) {
            return Some(view(false, ABORTED, why));
        }
        let refused = self.state.refused.as_ref();
        let last = self.state.last.as_ref();
        if let Some(last) = last.filter(|l| l.reason == ABORTED && refused == Some(&l.revision)) {
            return Some(view(false, ABORTED, last.message.clone()));
        }
        if let Some(gate) = self.group_wait().and_then(|wait| self.gate(wait)) {
            let message = format!("waits for its group {name}: {}", gate.text);
            return Some(view(false, WAITING, message));
        }
        let others = self.peers().count();
        let message = format!("it waits for none of the {others} other services of its group {name}");
        let headless = self.plan.group.as_ref().and_then(|group| group.headless.as_ref());
        Some(match headless {
            Some(why) => view(true, "HeaderUnused", format!("{message}; {why}")),
            None => view(true, "NotWaiting", message),
        })
    }
}

/// What a service that is waited for keeps waiting, unless it is settled.
fn closed_by(peer: &Peer) -> Option<Gate> {
    let (text, person) = match standing(peer) {
        Standing::Settled => return None,
        Standing::Moves(text) => (text, false),
        Standing::Stopped(text) => (text, true),
    };
    Some(Gate {
        peer: Some(peer.name.clone()),
        text: format!("{} (wave {}): {text}", peer.name, peer.wave),
        person,
    })
}

/// Where another service stands.
fn standing(peer: &Peer) -> Standing {
    if peer.attempt {
        return match peer.phase {
            Some(Phase::Paused) => {
                Standing::Stopped(format!("its rollout waits for a person, {}", look(peer)))
            }
            _ => Standing::Moves("its rollout is under way".to_owned()),
        };
    }
    if !peer.current {
        return Standing::Moves("its spec has just been changed".to_owned());
    }
    if let Some(out) = &peer.out {
        let fault = peer.fault.as_ref().filter(|fault| fault.revision == *out);
        let why = fault.map_or_else(String::new, |fault| format!(" ({})", fault.reason));
        return Standing::Stopped(format!(
            "its revision {out} was taken back{why}: give it another one, or `kubectl molt retry {}`",
            peer.name
        ));
    }
    match peer.phase {
        Some(Phase::Healthy) => Standing::Settled,
        Some(phase @ (Phase::Paused | Phase::Degraded | Phase::RolledBack)) => {
            Standing::Stopped(format!("it is {phase:?}, {}", look(peer)))
        }
        Some(phase) => Standing::Moves(format!("it is {phase:?}")),
        None => Standing::Moves("it has no status yet".to_owned()),
    }
}

fn look(peer: &Peer) -> String {
    format!("see `kubectl molt status {}`", peer.name)
}

/// A text that is kept in the state.
fn short(text: &str) -> String {
    text.chars().take(400).collect()
}
