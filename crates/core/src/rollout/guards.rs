//! Guards of the runtime: what was measured into evidence, evidence into rollbacks and warnings.
//!
//! A guard that has nothing to go by is neither for nor against the canary; it never lets a step wait, and nothing it
//! finds counts as safety.

use super::Turn;
use super::attempt::End;
use super::conditions::{is_judged, short};
use super::preview::{is_previewed, is_used};
use crate::analysis::{
    Block, Compared, FALSE_ALARM, GuardEvidence, Losses, SMALL_FALSE_ALARM, Silence, far_more,
};
use crate::guard::{Bytes, GuardKind, GuardMode, GuardPlan, GuardRule, GuardState, RuntimeBlock};
use crate::observed::{Measurement, RevisionView};
use crate::plan::Revision;
use crate::state::{Attempt, Outcome};

/// Kills for want of memory that are no chance. What crashes so often in one container is taken back anyhow.
const KILLS: u32 = 2;

/// What a block is good for, beside its numbers.
#[derive(Clone, Copy)]
struct Standing {
    /// The canary's weight in percent.
    weight: u8,
    /// The router had it for half a block before as well.
    settled: bool,
    /// Who meets the canary is chosen by chance, not by a header, and nothing is copied.
    by_chance: bool,
}

impl Turn<'_> {
    /// Takes in what the runtimes told, and takes the canary back, or warns, where it is shown to be worse.
    pub(super) fn follow_guards(&mut self) {
        let Some(mut attempt) = self.state.attempt.take() else {
            return;
        };
        let mut shown = Vec::new();
        if is_judged(&attempt) && is_used(&attempt) && self.state.stable.is_some() {
            let known = std::mem::take(&mut attempt.guards);
            for plan in &self.plan.guards {
                let known = known.iter().find(|state| state.is_of(plan)).cloned();
                let mut state = known.unwrap_or_else(|| GuardState::of(plan));
                state.mode = plan.mode;
                let told = self.judge(&attempt, plan, &mut state);
                if let Some(message) = told.filter(|_| state.fired.is_none()) {
                    state.fired = Some(short(&message));
                    shown.push((plan.rule.kind(), plan.mode, message));
                } else if state.fired.is_some() && plan.mode == GuardMode::Rollback {
                    // It only warned when it was shown.
                    let message = state.fired.clone().unwrap_or_default();
                    shown.push((plan.rule.kind(), plan.mode, message));
                }
                attempt.guards.push(state);
            }
        }
        self.state.attempt = Some(attempt);
        for (kind, mode, message) in shown {
            match mode {
                GuardMode::Rollback => {
                    self.withdraw(End::new(Outcome::RolledBack, reason(kind), message));
                }
                GuardMode::Warn => self.note("GuardWarned", message),
            }
        }
    }

    /// Where each guard of the attempt under way stands.
    pub(super) fn guard_reports(&self) -> Vec<GuardState> {
        let Some(attempt) = self.attempt().filter(|_| self.state.stable.is_some()) else {
            return Vec::new();
        };
        let of = |plan: &GuardPlan| {
            let mut known = attempt.guards.iter();
            let known = known.find(|state| state.is_of(plan)).cloned();
            known.unwrap_or_else(|| GuardState::of(plan)).summary()
        };
        self.plan.guards.iter().map(of).collect()
    }

    /// Takes in what is new for one guard; what it has shown, if it has.
    fn judge(&self, attempt: &Attempt, plan: &GuardPlan, state: &mut GuardState) -> Option<String> {
        let mut evidence = state.evidence.take().unwrap_or_default();
        if plan.rule == GuardRule::Restarts {
            let told = self.judge_restarts(attempt, state, &mut evidence);
            state.evidence = Some(evidence);
            return told;
        }
        let measured = self.seen.measurement.as_ref();
        let blocks = measured
            .iter()
            .flat_map(|m| m.runtime.iter().map(move |block| (*m, block)));
        let mut told = None;
        for (measured, block) in blocks {
            let exposed = attempt.exposed_since.is_some_and(|since| block.start >= since);
            let is_new = state.measured_to.is_none_or(|to| block.start >= to);
            if !exposed || !is_new || block.end <= block.start {
                continue;
            }
            state.measured_to = Some(block.end);
            let compared = self.absorb(attempt, plan, &mut evidence, measured, block);
            match compared {
                Ok(compared) => {
                    state.no_data = None;
                    state.canary = Some(text(plan.rule.kind(), compared.canary));
                    state.stable = Some(text(plan.rule.kind(), compared.stable));
                }
                Err(why) => {
                    let known = block.silent.iter().find(|(kind, _)| *kind == plan.rule.kind());
                    state.no_data = Some(known.map_or_else(|| why, |(_, why)| short(why)));
                }
            }
            let is_shown = match plan.rule {
                GuardRule::ClientErrors { max_ratio } => {
                    evidence.client_errors_shifted(max_ratio) || evidence.stricter_route().is_some()
                }
                GuardRule::Exceptions => evidence.new_exception().is_some(),
                _ => evidence.is_shown_by(false_alarm(plan.rule.kind())),
            };
            if is_shown && told.is_none() {
                told = Some(message(plan, state, &evidence));
            }
        }
        state.evidence = Some(evidence);
        told
    }

    fn absorb(
        &self,
        attempt: &Attempt,
        plan: &GuardPlan,
        evidence: &mut GuardEvidence,
        measured: &Measurement,
        block: &RuntimeBlock,
    ) -> Result<Compared, String> {
        let standing = self.standing_of(attempt, block);
        let beside = standing.weight < 100;
        let alone = || "stable serves nobody, so there is nothing to compare with".to_owned();
        let compared = match plan.rule {
            GuardRule::MemoryGrowth { max_per_hour } => evidence.absorb_memory(block, max_per_hour),
            _ if !beside => return Err(alone()),
            GuardRule::EventLoopLag { .. } => evidence.absorb_lag(block),
            _ if !standing.by_chance => {
                return Err("who meets the canary is not chosen by chance".to_owned());
            }
            _ if !standing.settled => return Err("the weight has just changed".to_owned()),
            GuardRule::CpuPerRequest { max_ratio } => {
                let (canary, stable) = requests(measured, block).unwrap_or_default();
                evidence.absorb_cpu(block, canary, stable, max_ratio)
            }
            GuardRule::ClientErrors { max_ratio } => match client_errors(block, standing) {
                Some(shares) => {
                    evidence.absorb_routes(block, max_ratio);
                    evidence.absorb_client_errors(&shares)
                }
                None => Err(Silence::Canary),
            },
            GuardRule::OpenFiles { max_ratio } => {
                let (canary, stable) = requests(measured, block).unwrap_or_default();
                evidence.absorb_files(block, canary, stable, max_ratio)
            }
            GuardRule::GcPauses { max_share } => {
                let (canary, stable) = requests(measured, block).unwrap_or_default();
                evidence.absorb_gc(block, canary, stable, max_share)
            }
            GuardRule::Saturation { max_share } => {
                let (canary, stable) = requests(measured, block).unwrap_or_default();
                evidence.absorb_pool(block, canary, stable, max_share)
            }
            GuardRule::WorkerTimeouts => {
                let (canary, stable) = requests(measured, block).unwrap_or_default();
                evidence.absorb_timeouts(block, canary, stable)
            }
            GuardRule::Exceptions => {
                let (canary, stable) = requests(measured, block).unwrap_or_default();
                evidence.absorb_exceptions(block, canary, stable)
            }
            // It is not measured in blocks.
            GuardRule::Restarts => Err(Silence::Canary),
        };
        compared.map_err(|silence| silence.to_string())
    }

    fn standing_of(&self, attempt: &Attempt, block: &RuntimeBlock) -> Standing {
        let in_force_for = attempt
            .in_force_since
            .map(|since| block.start.duration_since(since));
        Standing {
            weight: attempt.weight,
            settled: in_force_for.is_some_and(|time| time >= self.plan.block / 2),
            by_chance: attempt.weight > 0 && !is_previewed(attempt),
        }
    }

    /// What Kubernetes itself tells of both revisions' pods.
    fn judge_restarts(
        &self,
        attempt: &Attempt,
        state: &mut GuardState,
        evidence: &mut GuardEvidence,
    ) -> Option<String> {
        let since = attempt.exposed_since?;
        let view = |revision: &Revision| self.seen.revisions.get(revision);
        let canary = view(&attempt.revision)?;
        let stable = view(self.state.stable.as_ref()?)?;
        evidence.absorb_flaps(losses(canary), losses(stable), since);
        let kills = |view: &RevisionView| {
            let all = view.crashes.iter().flat_map(|c| &c.out_of_memory);
            u32::try_from(all.filter(|at| **at >= since).count()).unwrap_or(u32::MAX)
        };
        let (killed, killed_beside) = (kills(canary), kills(stable));
        let (flaps, flaps_beside) = evidence.flaps();
        let words = |killed: u32, flaps: u32| {
            format!("{killed} killed for want of memory, {flaps} times no longer ready")
        };
        state.no_data = None;
        state.canary = Some(words(killed, flaps));
        state.stable = Some(words(killed_beside, flaps_beside));
        let of = |what: &str, times: u32, beside: u32| {
            format!(
                "restarts: {what} {times} times since the canary has had users, with {} pods; at stable {beside} times, with {}",
                canary.pods, stable.pods
            )
        };
        if killed >= KILLS && far_more(killed, canary.pods, killed_beside, stable.pods) {
            return Some(of(
                "a container was killed for want of memory",
                killed,
                killed_beside,
            ));
        }
        evidence.is_shown().then(|| {
            of(
                "a pod was no longer ready although it went on running",
                flaps,
                flaps_beside,
            )
        })
    }
}

fn losses(view: &RevisionView) -> Losses<'_> {
    Losses {
        at: &view.unready_since,
        pods: view.pods,
    }
}

/// The reason of a rollback.
fn reason(kind: GuardKind) -> &'static str {
    match kind {
        GuardKind::Restarts => "GuardRestarts",
        GuardKind::ClientErrors => "GuardClientErrors",
        GuardKind::MemoryGrowth => "GuardMemoryGrowth",
        GuardKind::EventLoopLag => "GuardEventLoopLag",
        GuardKind::CpuPerRequest => "GuardCpuPerRequest",
        GuardKind::OpenFiles => "GuardOpenFiles",
        GuardKind::GcPauses => "GuardGcPauses",
        GuardKind::Saturation => "GuardSaturation",
        GuardKind::WorkerTimeouts => "GuardWorkerTimeouts",
        GuardKind::Exceptions => "GuardExceptions",
    }
}

/// The probability that a guard takes a healthy canary back, at most.
fn false_alarm(kind: GuardKind) -> f64 {
    match kind {
        GuardKind::Restarts
        | GuardKind::ClientErrors
        | GuardKind::MemoryGrowth
        | GuardKind::EventLoopLag
        | GuardKind::CpuPerRequest
        | GuardKind::OpenFiles => FALSE_ALARM,
        GuardKind::GcPauses | GuardKind::Saturation | GuardKind::WorkerTimeouts | GuardKind::Exceptions => {
            SMALL_FALSE_ALARM
        }
    }
}

/// A number with its unit.
fn text(kind: GuardKind, value: f64) -> String {
    match kind {
        GuardKind::MemoryGrowth => format!("{} an hour", Bytes(value)),
        GuardKind::EventLoopLag => format!("{:.1} % late", value * 100.0),
        GuardKind::CpuPerRequest => format!("{:.2} ms a request", value * 1000.0),
        GuardKind::ClientErrors => format!("{:.2} %", value * 100.0),
        GuardKind::GcPauses => format!("{:.1} % of the time", value * 100.0),
        GuardKind::Saturation => format!("full in {:.0} % of samples", value * 100.0),
        GuardKind::Exceptions => format!("{value:.0} kinds"),
        GuardKind::Restarts | GuardKind::OpenFiles | GuardKind::WorkerTimeouts => format!("{value:.0}"),
    }
}

fn message(plan: &GuardPlan, state: &GuardState, evidence: &GuardEvidence) -> String {
    let unknown = || "unknown".to_owned();
    let canary = state.canary.clone().unwrap_or_else(unknown);
    let stable = state.stable.clone().unwrap_or_else(unknown);
    let (looks, times) = evidence.looks();
    let kind = plan.rule.kind();
    let bound = &plan.rule;
    match kind {
        GuardKind::ClientErrors => match evidence.stricter_route() {
            Some(route) => format!(
                "{kind}: the canary answers requests of {} with 4xx far more often than stable does, in {} blocks so far; of all routes together {canary}, at stable {stable}; allowed are {bound}",
                route.name, route.blocks
            ),
            None => format!(
                "{kind}: {canary} of the canary's requests were answered with 4xx, {stable} of stable's in the same time; allowed are {bound}"
            ),
        },
        GuardKind::MemoryGrowth => format!(
            "{kind}: the canary's memory grows by {canary}, stable's by {stable}; allowed are {bound}; beyond it {times} of {looks} times"
        ),
        GuardKind::EventLoopLag => format!(
            "{kind}: the canary's event loop is behind ({canary}, {stable} at stable); allowed are {bound}; beyond it {times} of {looks} times"
        ),
        GuardKind::CpuPerRequest => format!(
            "{kind}: the canary takes {canary}, stable {stable}; allowed are {bound}; beyond it {times} of {looks} times"
        ),
        GuardKind::OpenFiles => format!(
            "{kind}: a pod of the canary has {canary} files open, one of stable's {stable}, and they grow on; allowed are {bound}; beyond it {times} of {looks} times"
        ),
        GuardKind::GcPauses => format!(
            "{kind}: the collector of garbage takes {canary} at the canary, {stable} at stable; allowed are {bound}; beyond it {times} of {looks} times"
        ),
        GuardKind::Saturation => format!(
            "{kind}: the canary's pool of threads or workers is {canary}, stable's {stable}; allowed are {bound}; beyond it {times} of {looks} times"
        ),
        GuardKind::WorkerTimeouts => format!(
            "{kind}: the server ended {canary} workers of the canary in the last block because they hung, {stable} of stable's; mostly the canary's in {times} of {looks} blocks that had any"
        ),
        GuardKind::Exceptions => match evidence.new_exception() {
            Some(new) => format!(
                "{kind}: the canary raises {}, which stable does not, in {} blocks so far",
                new.name, new.blocks
            ),
            None => format!("{kind}: {canary} at the canary, {stable} at stable"),
        },
        GuardKind::Restarts => format!("{kind}: {canary}; at stable {stable}"),
    }
}

/// The requests of both revisions in a block, by the objective that counts most.
fn requests(measured: &Measurement, block: &RuntimeBlock) -> Option<(f64, f64)> {
    let same = measured
        .blocks
        .iter()
        .find(|b| b.start == block.start && b.end == block.end)?;
    let totals = same
        .slos
        .iter()
        .flatten()
        .map(|c| (c.canary.total(), c.stable.total()));
    totals.max_by(|a, b| (a.0 + a.1).total_cmp(&(b.0 + b.1)))
}

/// The block as evidence of objectives takes it.
fn client_errors(block: &RuntimeBlock, standing: Standing) -> Option<Block> {
    let counts = block.client_errors?;
    Some(Block {
        start: block.start,
        end: block.end,
        canary_weight: standing.weight,
        weight_in_force: standing.settled,
        weight_settled: standing.settled,
        canary: counts.canary,
        canary_late: counts.canary_late,
        stable: counts.stable,
        canary_pods: counts.canary_pods,
        stable_pods: counts.stable_pods,
        at_route: None,
        reference: None,
    })
}
