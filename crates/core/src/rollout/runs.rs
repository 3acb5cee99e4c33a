//! What runs by a schedule: a CronJob makes runs from a revision's template, and a new revision gets the next ones.
//!
//! Kubernetes starts the runs, whatever becomes of the operator; what is decided is whose template the CronJob has. A run
//! is counted once, by its UID, when it is seen to have ended, so that it may be deleted afterwards
//! ([ADR 45](../../../../docs/adr/0045-jobs-are-canaried-by-run.md)).

use jiff::{SignedDuration, Timestamp};

use super::attempt::End;
use super::deadlines::STUCK;
use super::waits::Wait;
use super::{Turn, after};
use crate::decision::{Effect, Phase};
use crate::observed::{NextRun, ProblemKind, RunEnd, RunView};
use crate::plan::{Revision, RouteMode};
use crate::state::{
    Attempt, LastRun, MAX_COUNTED_RUNS, MAX_DURATIONS, Outcome, RunFault, Runs, Stage, Trial,
};

/// Durations of stable's that must be known before a new revision's count: the longest of fewer says little.
pub const LEAST_DURATIONS: usize = 5;
/// What a run may take in any case: start and end are known to the second, and nobody waits for a run so short.
pub const SHORT_RUN: SignedDuration = SignedDuration::from_secs(10);
/// At most so many characters of what a run said are kept.
const MOST_SAID: usize = 450;
/// A run ended without success.
const FAILED: &str = "RunFailed";
/// A run takes, or took, longer than it may.
const TOO_LONG: &str = "RunTooLong";
/// The last run of what is stable ended without success.
pub(super) const STABLE_FAILED: &str = "StableRunFailed";

impl Turn<'_> {
    /// Its pods run by a schedule.
    pub(super) fn by_runs(&self) -> bool {
        self.plan.route == RouteMode::Runs
    }

    /// Counts the runs that have ended since.
    pub(super) fn follow_runs(&mut self) {
        if !self.by_runs() || !self.seen.runs.known {
            return;
        }
        // Of a lost state it is known first whose runs there are; where nothing is stable or tried they speak for nobody.
        self.find_stable();
        if self.state.stable.is_none() && self.attempt().is_none() {
            return;
        }
        let mut runs = self.state.runs.take().unwrap_or_default();
        let seen = self.seen;
        let ended = seen
            .runs
            .jobs
            .iter()
            .filter_map(|job| Some((job, job.end.as_ref()?)));
        let mut ended: Vec<_> = ended
            .filter(|(job, _)| !runs.counted.contains(&job.uid))
            .collect();
        ended.sort_by_key(|(job, end)| (end.at, &job.uid));
        for (job, end) in ended {
            runs.counted.push(job.uid.clone());
            self.count(&mut runs, job, end);
        }
        keep_newest(&mut runs.counted, MAX_COUNTED_RUNS);
        self.state.runs = Some(runs);
        self.resume_runs();
    }

    fn count(&mut self, runs: &mut Runs, job: &RunView, end: &RunEnd) {
        let took = end.at.duration_since(job.started_at.unwrap_or(job.created_at));
        let seconds = u32::try_from(took.as_secs()).unwrap_or(0);
        if self.state.stable.as_ref() == Some(&job.revision) {
            if end.failure.is_none() {
                runs.seconds.push(seconds);
                keep_newest(&mut runs.seconds, MAX_DURATIONS);
            }
            let failure = end.failure.as_deref().map(short);
            runs.last = Some(LastRun { at: end.at, failure });
            return;
        }
        let judged = |a: &&Attempt| is_of(a, job) && !matches!(a.stage, Stage::Withdrawing { .. });
        let Some(attempt) = self.attempt().filter(judged) else {
            return;
        };
        let mut trial = attempt.trial.clone().unwrap_or_default();
        let (count, longest) = (self.plan.runs.count, self.longest_allowed(runs));
        let fault = match (&end.failure, longest) {
            (Some(why), _) => Some((FAILED, format!("run {} failed: {}", job.name, short(why)))),
            (None, Some(longest)) if took > longest => Some((
                TOO_LONG,
                format!("run {} took {seconds} s, {}", job.name, self.allowed_text(runs)),
            )),
            (None, _) => None,
        };
        if let Some((reason, message)) = fault {
            trial.fault.get_or_insert(RunFault {
                reason: reason.to_owned(),
                message,
            });
            self.update(|a| a.trial = Some(trial));
            return;
        }
        trial.seconds.push(seconds);
        keep_newest(&mut trial.seconds, MAX_DURATIONS);
        let nth = trial.seconds.len();
        self.update(|a| a.trial = Some(trial));
        self.note(
            "RunSucceeded",
            format!("run {} succeeded in {seconds} s: {nth} of {count}", job.name),
        );
    }

    /// A hold because stable's runs failed as well is over when one of them succeeds.
    fn resume_runs(&mut self) {
        let Some(since) = self.attempt().filter(|a| a.stage == Stage::Held).map(|a| a.since) else {
            return;
        };
        let last = self.state.runs.as_ref().and_then(|runs| runs.last.as_ref());
        let Some(at) = last
            .filter(|l| l.failure.is_none() && l.at >= since)
            .map(|l| l.at)
        else {
            return;
        };
        self.enter(Stage::Stepping, None);
        self.note(
            "Resumed",
            format!("a run of stable succeeded at {at:.0}; the next runs are the new revision's again"),
        );
    }

    /// What is stable counts the runs that made it so.
    pub(super) fn keep_runs(&mut self, attempt: &Attempt) {
        let Some(runs) = self.state.runs.as_mut() else {
            return;
        };
        let shown = attempt.trial.as_ref().map_or(&[][..], |trial| &trial.seconds);
        runs.seconds.extend_from_slice(shown);
        keep_newest(&mut runs.seconds, MAX_DURATIONS);
        let at = self.now;
        runs.last = (!shown.is_empty()).then_some(LastRun { at, failure: None });
    }

    /// The revision that was stable when the CronJob was written, for the case that the state is lost.
    pub(super) fn stable_of_runs(&self) -> Option<Revision> {
        let next = self.seen.runs.next.as_ref().filter(|_| self.by_runs())?;
        let itself = || (next.attempt == 0).then(|| next.revision.clone());
        next.stable.clone().or_else(itself)
    }

    /// An attempt that is tried by the next runs.
    pub(super) fn running(&mut self, attempt: &Attempt) -> bool {
        if !self.seen.runs.known {
            return false;
        }
        let exists = self.seen.revisions.contains_key(&attempt.revision);
        let straight = !matches!(attempt.stage, Stage::Deploying | Stage::Stepping | Stage::Held);
        if let Some(fault) = self.fault_of(attempt) {
            self.heed_fault(fault);
            return true;
        }
        // A run that was under way may succeed meanwhile: nobody has resumed it.
        let on_hold = attempt.stage == Stage::Held || (attempt.paused.is_some() && !attempt.is_cleared());
        if exists && (straight || (!on_hold && self.is_shown(attempt))) {
            let end = self.shown(attempt);
            self.finish(end);
            return true;
        }
        if attempt.stage == Stage::Held {
            return false;
        }
        if attempt.paused.is_some() {
            let had = attempt.weight > 0;
            self.update(|a| {
                a.weight = 0;
                a.deadline = None;
            });
            return had;
        }
        if exists && !straight && attempt.weight < 100 {
            // When the CronJob takes it is the API server's affair, and when a run begins the schedule's: neither says
            // anything of the revision, whose template may have come with a schedule that is refused.
            self.update(|a| {
                a.weight = 100;
                a.deadline = None;
            });
            let (count, revision) = (self.plan.runs.count, &attempt.revision);
            self.note(
                "RunsBegun",
                format!("the next runs are of revision {revision}; {count} have to succeed"),
            );
            return true;
        }
        let is_next = |next: &&NextRun| next.revision == attempt.revision && next.attempt == attempt.number;
        if self.seen.runs.next.as_ref().is_some_and(|next| is_next(&next)) {
            self.update(|a| {
                a.max_weight = 100;
                a.deadline = None;
            });
            return false;
        }
        if exists {
            return false;
        }
        if attempt.deadline.is_none() {
            let deadline = self.progress_until();
            self.update(|a| a.deadline = Some(deadline));
        }
        let refused = self.seen.problem(ProblemKind::Apply);
        let what = refused.map_or("its ReplicaSet has not been written yet", |p| p.message.as_str());
        let wait = Wait::World(what.to_owned());
        self.check_deadline(attempt, &wait)
    }

    /// Enough runs succeeded, or a person said so.
    fn is_shown(&self, attempt: &Attempt) -> bool {
        let trial = attempt.trial.as_ref();
        let enough =
            trial.is_some_and(|t| t.fault.is_none() && t.seconds.len() >= self.plan.runs.count as usize);
        (enough && self.outlasting(attempt).is_none())
            || (attempt.is_cleared() && attempt.stage != Stage::Held)
    }

    /// A run of the attempt that began before another one that has ended, and goes on: where several may run at once, one
    /// that hangs is not passed by the next ones' success.
    fn outlasting(&self, attempt: &Attempt) -> Option<&RunView> {
        let of_attempt = || self.seen.runs.jobs.iter().filter(|job| is_of(attempt, job));
        let last = of_attempt()
            .filter(|job| job.end.is_some())
            .map(|job| job.created_at)
            .max()?;
        of_attempt().find(|job| job.end.is_none() && job.created_at < last)
    }

    fn shown(&self, attempt: &Attempt) -> End {
        let seconds = attempt.trial.as_ref().map_or(&[][..], |trial| &trial.seconds);
        let why = match (seconds.iter().max(), self.is_trusted(attempt)) {
            (Some(longest), _) => {
                let all = if seconds.len() == 1 { "run" } else { "runs" };
                format!(
                    "{} {all} of it succeeded, the longest in {longest} s",
                    seconds.len()
                )
            }
            (None, true) => "it was stable before".to_owned(),
            (None, false) => "a person said so before a run of it had ended".to_owned(),
        };
        let (reason, is) = if self.state.stable.is_none() {
            ("FirstDeployment", "the first and ")
        } else {
            ("Promoted", "")
        };
        let message = format!("revision {} is {is}stable now: {why}", attempt.revision);
        End::new(Outcome::Promoted, reason, message)
    }

    fn is_trusted(&self, attempt: &Attempt) -> bool {
        self.state.served.contains(&attempt.revision)
    }

    /// What speaks against the revision: of a run that has ended, or of one that does not.
    fn fault_of(&self, attempt: &Attempt) -> Option<RunFault> {
        if let Some(fault) = attempt.trial.as_ref().and_then(|trial| trial.fault.clone()) {
            return Some(fault);
        }
        let mut jobs = self.seen.runs.jobs.iter();
        jobs.find_map(|job| {
            let (reason, message) = match () {
                () if !is_of(attempt, job) || job.end.is_some() => return None,
                () if self.is_overdue(job) => {
                    let runs = self.state.runs.as_ref()?;
                    let since = job.started_at?;
                    let what = format!(
                        "run {} runs since {since:.0}, {}",
                        job.name,
                        self.allowed_text(runs)
                    );
                    (TOO_LONG, what)
                }
                () if self.is_stuck(job) => {
                    let why = job.waits.as_deref().unwrap_or("no pod of it has run");
                    let since = job.created_at;
                    (
                        STUCK,
                        format!(
                            "run {} has not begun to work since {since:.0}: {}",
                            job.name,
                            short(why)
                        ),
                    )
                }
                () => return None,
            };
            Some(RunFault {
                reason: reason.to_owned(),
                message,
            })
        })
    }

    /// Takes the next runs from the revision; what stable does as well is not its fault.
    fn heed_fault(&mut self, fault: RunFault) {
        let last = self.state.runs.as_ref().and_then(|runs| runs.last.as_ref());
        let shared = last.and_then(|last| Some((last.at, last.failure.clone()?)));
        let Some((at, failure)) = shared.filter(|_| fault.reason == FAILED && self.state.stable.is_some())
        else {
            return self.withdraw(End::new(Outcome::RolledBack, &fault.reason, fault.message));
        };
        self.enter(Stage::Held, None);
        self.update(|a| {
            a.weight = 0;
            a.trial.get_or_insert(Trial::default()).fault = None;
        });
        let RunFault { message, .. } = fault;
        self.note(
            "Inconclusive",
            format!(
                "{message}; but the run of stable that ended at {at:.0} failed too ({failure}), so it may not be the revision's fault: the next runs are stable's, and once one of them succeeds it goes on; `kubectl molt promote` or `abort` decides before"
            ),
        );
    }

    /// What the next run should be made from; `None` where nothing is to be written.
    fn next_run(&self) -> Option<NextRun> {
        let stable = self.state.stable.clone();
        let tried = self.attempt().filter(|a| a.weight == 100);
        let (revision, attempt) = match (tried, &stable) {
            (Some(attempt), _) => (attempt.revision.clone(), attempt.number),
            (None, Some(stable)) => (stable.clone(), 0),
            (None, None) => {
                // A first revision that failed: there is no other, so it runs on.
                let revision = self.plan.revision.clone().filter(|_| self.attempt().is_none())?;
                if self.waits_for_migrations(&revision) {
                    return None;
                }
                (revision, 0)
            }
        };
        let view = self.seen.revisions.get(&revision)?;
        (!view.altered).then_some(NextRun {
            revision,
            attempt,
            stable,
        })
    }

    /// The CronJob, and the runs that stand in the way of stable's.
    pub(super) fn run(&self, effects: &mut Vec<Effect>) {
        if !self.by_runs() || !self.seen.runs.known {
            return;
        }
        if let Some(next) = self
            .next_run()
            .filter(|next| self.seen.runs.next.as_ref() != Some(next))
        {
            effects.push(Effect::RunNext(next));
        }
        for job in self.seen.runs.jobs.iter().filter(|job| self.is_in_the_way(job)) {
            effects.push(Effect::EndRun {
                name: job.name.clone(),
                uid: job.uid.clone(),
            });
        }
    }

    /// A run of a revision that was taken back, which keeps stable's from beginning for longer than it may, or would wait for
    /// its pods for ever. Others end by themselves.
    fn is_in_the_way(&self, job: &RunView) -> bool {
        job.end.is_none()
            && self.is_left_over(job)
            && ((self.plan.runs.forbids && self.is_overdue(job)) || self.is_stuck(job))
    }

    fn is_left_over(&self, job: &RunView) -> bool {
        let tried = self.attempt().is_some_and(|a| is_of(a, job));
        match &self.state.stable {
            // What the former stable has begun as such it ends in peace.
            Some(stable) => job.attempt > 0 && *stable != job.revision && !tried,
            None => !tried,
        }
    }

    fn is_overdue(&self, job: &RunView) -> bool {
        self.overdue_at(job).is_some_and(|at| self.now >= at)
    }

    fn is_stuck(&self, job: &RunView) -> bool {
        !job.worked && self.now >= after(job.created_at, self.plan.progress_deadline)
    }

    /// When a run has taken longer than it may; the second that its start was cut off by is allowed for.
    fn overdue_at(&self, job: &RunView) -> Option<Timestamp> {
        let longest = self.longest_allowed(self.state.runs.as_ref()?)?;
        Some(after(job.started_at?, longest + SignedDuration::from_secs(1)))
    }

    /// How long a run may take; `None` while too little is known of stable's.
    fn longest_allowed(&self, runs: &Runs) -> Option<SignedDuration> {
        let known = runs.seconds.len() >= LEAST_DURATIONS && self.state.stable.is_some();
        let longest = runs.seconds.iter().max().filter(|_| known)?;
        let seconds = (f64::from(*longest) * self.plan.runs.max_duration_ratio).ceil();
        Some(SignedDuration::from_secs(seconds as i64).max(SHORT_RUN))
    }

    fn allowed_text(&self, runs: &Runs) -> String {
        let known = runs.seconds.len();
        let Some(longest) = self.longest_allowed(runs) else {
            return format!(
                "and only {known} of stable's runs are known, so that how long it takes does not decide"
            );
        };
        format!(
            "and {} s are allowed: {} times the longest of stable's last {known} ({} s), and {} s at least",
            longest.as_secs(),
            self.plan.runs.max_duration_ratio,
            runs.seconds.iter().max().unwrap_or(&0),
            SHORT_RUN.as_secs()
        )
    }

    /// When a run that is not over has taken too long to work, or to end.
    pub(super) fn run_times(&self) -> Vec<Timestamp> {
        if !self.by_runs() {
            return Vec::new();
        }
        let tried = |job: &RunView| self.attempt().is_some_and(|a| is_of(a, job));
        let open = self.seen.runs.jobs.iter().filter(|job| job.end.is_none());
        let open = open.filter(|job| tried(job) || self.is_left_over(job));
        let times = open.flat_map(|job| {
            let begins = (!job.worked).then(|| after(job.created_at, self.plan.progress_deadline));
            begins.into_iter().chain(self.overdue_at(job))
        });
        times.collect()
    }

    /// Where an attempt is, for people.
    pub(super) fn trial_text(&self, attempt: &Attempt) -> String {
        let none = Trial::default();
        let seconds = &attempt.trial.as_ref().unwrap_or(&none).seconds;
        let longest = seconds.iter().max();
        let longest = longest.map_or_else(String::new, |s| format!(", the longest in {s} s"));
        let (known, unknown) = (self.state.runs.as_ref(), Runs::default());
        let allowed = if self.state.stable.is_some() {
            self.allowed_text(known.unwrap_or(&unknown))
        } else {
            "and it is the first, so that how long it takes does not decide".to_owned()
        };
        let mut jobs = self.seen.runs.jobs.iter();
        let open = jobs.find(|job| is_of(attempt, job) && job.end.is_none());
        let now = match self.outlasting(attempt).or(open) {
            Some(RunView {
                name,
                started_at: Some(at),
                waits: None,
                ..
            }) if self.outlasting(attempt).is_some() => format!(
                "run {name} runs since {at:.0}, while one that began later has ended: it is waited for"
            ),
            Some(RunView {
                name,
                waits: Some(why),
                ..
            }) => format!("run {name} waits: {}", short(why)),
            Some(RunView {
                name,
                started_at: Some(at),
                ..
            }) => format!("run {name} runs since {at:.0}"),
            Some(RunView { name, .. }) => format!("run {name} begins"),
            None if !self.seen.runs.known => "CronJobs and Jobs have not been read yet".to_owned(),
            None if self.plan.runs.suspended => "spec.job.suspend is true, so none begins".to_owned(),
            None => match self.seen.runs.jobs.iter().find(|job| job.end.is_none()) {
                Some(other) if self.plan.runs.forbids => format!(
                    "run {} of revision {} is still there, and concurrencyPolicy is Forbid: the next one begins after it",
                    other.name, other.revision
                ),
                _ => "the next one is waited for".to_owned(),
            },
        };
        let (n, count, revision) = (seconds.len(), self.plan.runs.count, &attempt.revision);
        let refused = self.seen.problem(ProblemKind::Apply);
        let refused = refused.map_or_else(String::new, |problem| format!("; {}", problem.message));
        format!("revision {revision}: {n} of {count} runs succeeded{longest}, {allowed}; {now}{refused}")
    }

    /// The phase while runs decide.
    pub(super) fn phase_of_trial(&self) -> Phase {
        if self.state.stable.is_none() {
            Phase::Initializing
        } else {
            Phase::Progressing
        }
    }

    /// What keeps a run of the attempt from starting.
    pub(super) fn waiting_run(&self, attempt: &Attempt) -> Option<String> {
        let mut jobs = self.seen.runs.jobs.iter();
        let job = jobs.find(|job| is_of(attempt, job) && job.end.is_none() && job.waits.is_some())?;
        Some(format!("run {}: {}", job.name, job.waits.as_deref().map(short)?))
    }

    /// The last run of what is stable failed.
    pub(super) fn stable_fails(&self) -> bool {
        let runs = self.state.runs.as_ref().filter(|_| self.by_runs());
        let last = runs.and_then(|runs| runs.last.as_ref());
        last.is_some_and(|last| last.failure.is_some())
    }

    /// What becomes of the stable revision, for people.
    pub(super) fn stable_runs_text(&self, stable: &Revision) -> String {
        let last = self.state.runs.as_ref().and_then(|runs| runs.last.as_ref());
        let last = match last.map(|last| (last.at, &last.failure)) {
            None => "none of its runs has ended yet".to_owned(),
            Some((at, None)) => format!("the last one succeeded at {at:.0}"),
            Some((at, Some(why))) => format!("the last one failed at {at:.0}: {why}"),
        };
        let suspended = if self.plan.runs.suspended {
            "; spec.job.suspend is true, so none begins"
        } else {
            ""
        };
        format!("revision {stable} runs by the schedule; {last}{suspended}")
    }
}

/// The run is one that the attempt is judged by.
fn is_of(attempt: &Attempt, job: &RunView) -> bool {
    job.revision == attempt.revision && job.attempt == attempt.number
}

fn keep_newest<T>(list: &mut Vec<T>, most: usize) {
    let surplus = list.len().saturating_sub(most);
    list.drain(..surplus);
}

fn short(text: &str) -> String {
    text.chars().take(MOST_SAID).collect()
}
