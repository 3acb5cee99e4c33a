//! What a fault does to the world when it strikes.

use std::collections::{BTreeMap, VecDeque};

use super::{World, people::Line};
use crate::faults::Kind;

/// Kinds that are watched, for faults of one watch.
const WATCHED: [&str; 7] = [
    super::SERVICES,
    super::SETS,
    super::PODS,
    super::CORE_SERVICES,
    super::SLICES,
    super::ROUTES,
    super::ACTIONS,
];
/// How long after a fault the operator may still act on what it knew before.
const AFTERMATH: u64 = 4000;

/// Faults that are in force: each until a time in milliseconds.
#[derive(Default)]
pub(super) struct Struck {
    /// Faults of requests that wait for one that they fit.
    pub armed: VecDeque<Kind>,
    lags: BTreeMap<&'static str, (u64, u64)>,
    duplicate_until: u64,
    /// Events that came twice.
    pub duplicated: u64,
    pub held_until: u64,
    /// By process: milliseconds that its clock is ahead, and until when.
    skews: BTreeMap<u32, (i64, u64)>,
    /// The process that can't reach its Lease, until when.
    lease_unreachable: (u32, u64),
    /// The process that can't reach the API server, until when.
    cut_off: (u32, u64),
    pub slow_start: u64,
    pub slices_late: u64,
    pub gateway_slow: u64,
    pub gateway_deaf: u64,
    pub gateway_refuses: u64,
    pub metrics_down: u64,
    pub metrics_hang: u64,
    pub metrics_late: u64,
    pub metrics_nan: u64,
    pub metrics_gaps: Vec<(u64, u64)>,
    pub metrics_resets: Vec<(u64, u64)>,
    flaws: BTreeMap<String, (Kind, u64)>,
    fog: u64,
    /// The clock has jumped at this time.
    pub jumped: Option<u64>,
}

impl Struck {
    /// Milliseconds that the clock of an operator's process is ahead.
    pub fn skew(&self, process: u32, now: u64) -> i64 {
        let skew = self.skews.get(&process).filter(|(_, until)| *until > now);
        skew.map_or(0, |(ahead, _)| *ahead)
    }

    /// Until when a process is cut off from the API server, if it is.
    pub fn cut_off(&self, process: u32, now: u64) -> Option<u64> {
        (self.cut_off.0 == process && self.cut_off.1 > now).then_some(self.cut_off.1)
    }

    pub fn lease_unreachable(&self, process: u32, now: u64) -> bool {
        self.lease_unreachable.0 == process && self.lease_unreachable.1 > now
    }

    pub fn lag(&self, resource: &str, now: u64) -> u64 {
        let lag = self.lags.get(resource).filter(|(_, until)| *until > now);
        lag.map_or(0, |(lag, _)| *lag)
    }

    pub fn duplicates(&self, now: u64) -> bool {
        self.duplicate_until > now
    }

    pub fn flaw(&self, revision: &str, now: u64) -> Option<(Kind, u64)> {
        self.flaws
            .get(revision)
            .copied()
            .filter(|(_, until)| *until > now)
    }

    /// Until then the operator may act on what is no longer so.
    pub fn fog(&mut self, until: u64) {
        self.fog = self.fog.max(until);
    }

    pub fn foggy(&self, now: u64) -> bool {
        self.fog > now
    }

    /// When the last fog ends.
    pub fn fog_until(&self) -> u64 {
        self.fog
    }

    /// Nothing is wrong any more.
    fn calm(&mut self, now: u64) {
        self.armed.clear();
        self.lags.clear();
        self.flaws.clear();
        self.skews.clear();
        for until in [
            &mut self.cut_off.1,
            &mut self.lease_unreachable.1,
            &mut self.duplicate_until,
            &mut self.held_until,
            &mut self.slow_start,
            &mut self.slices_late,
            &mut self.gateway_slow,
            &mut self.gateway_deaf,
            &mut self.gateway_refuses,
            &mut self.metrics_down,
            &mut self.metrics_hang,
            &mut self.metrics_late,
            &mut self.metrics_nan,
        ] {
            *until = (*until).min(now);
        }
    }
}

/// The most that a clock jumps, in milliseconds.
pub(super) const JUMP: u64 = 90_000;

/// How long a fault of this size lasts, in milliseconds, between two numbers of seconds.
fn seconds(size: u64, low: u64, high: u64) -> u64 {
    (low + size % (high - low)) * 1000
}

impl World {
    /// A planned fault strikes.
    pub(super) fn strike(&mut self, index: usize) {
        let Some(fault) = self.setup.faults.get(index).copied() else {
            return;
        };
        let size = fault.size;
        match fault.kind {
            kind @ (Kind::Conflict
            | Kind::TooMany
            | Kind::Internal
            | Kind::Unavailable
            | Kind::Unreachable
            | Kind::LostBefore
            | Kind::LostAfter
            | Kind::SilentBefore
            | Kind::SilentAfter
            | Kind::Slow
            | Kind::Late
            | Kind::CrashBefore
            | Kind::CrashAfter) => {
                // Counted when a request meets it.
                self.struck.armed.push_back(kind);
                return;
            }
            Kind::Superseded
            | Kind::Reverted
            | Kind::Promote
            | Kind::Abort
            | Kind::PromoteFull
            | Kind::Pause
            | Kind::PausedBySpec
            | Kind::Retry
            | Kind::Undo
            | Kind::Restart
            | Kind::PausedFleet
            | Kind::Scaled
            | Kind::Invalid
            | Kind::Deleted
            | Kind::Reapplied
            | Kind::RouteWritten
            | Kind::Foreign => {
                self.perform(Line::Person(fault.kind, size));
                return;
            }
            kind => self.count(kind),
        }
        self.strike_operators(fault.kind, size);
        self.strike_watches(fault.kind, size);
        self.strike_edges(fault.kind, size);
        self.strike_pods(fault.kind, size);
    }

    fn strike_operators(&mut self, kind: Kind, size: u64) {
        let now = self.now;
        let seconds = |low, high| seconds(size, low, high);
        let leads = self.leader().or_else(|| self.alive.first().copied()).unwrap_or(0);
        let alive: Vec<u32> = self.alive.iter().copied().collect();
        let struck = &mut self.struck;
        match kind {
            Kind::Upgraded => self.upgrade(seconds(1, 20)),
            Kind::LeaseDeleted => self.delete_lease(),
            Kind::LeaseUnreachable => {
                struck.lease_unreachable = (leads, now + seconds(2, 12));
            }
            Kind::CutOff => {
                struck.cut_off = (leads, now + seconds(2, 20));
                let end = struck.cut_off.1 + 2 * AFTERMATH;
                struck.fog(end);
            }
            Kind::CrashAny => self.crash_some(size),
            Kind::ClockAhead | Kind::ClockBehind => {
                let jump = i64::try_from(seconds(5, JUMP / 1000)).unwrap_or(0);
                let ahead = kind == Kind::ClockAhead;
                let skew = (if ahead { jump } else { -jump }, now + seconds(20, 80));
                let one = usize::try_from(size).unwrap_or(0) % (alive.len() + 1);
                for (index, process) in alive.iter().enumerate() {
                    // One of them, or all.
                    if index == one || one == alive.len() {
                        struck.skews.insert(*process, skew);
                    }
                }
                struck.jumped = Some(now);
            }
            _ => {}
        }
    }

    fn strike_watches(&mut self, kind: Kind, size: u64) {
        let now = self.now;
        let seconds = |low, high| seconds(size, low, high);
        let struck = &mut self.struck;
        match kind {
            Kind::WatchDelayed => {
                let resource = WATCHED[usize::try_from(size / 7).unwrap_or(0) % WATCHED.len()];
                let lag = seconds(1, 8);
                struck.lags.insert(resource, (lag, now + 15_000));
                struck.fog(now + 15_000 + lag + AFTERMATH);
            }
            Kind::WatchReordered => {
                for (i, resource) in (1u64..).zip(WATCHED) {
                    let lag = size.wrapping_mul(i).wrapping_add(size >> i) % 5000;
                    struck.lags.insert(resource, (lag, now + 20_000));
                }
                struck.fog(now + 25_000 + AFTERMATH);
            }
            Kind::WatchClosed => {
                struck.fog(now + 2 * AFTERMATH);
                self.close_watches();
            }
            Kind::WatchDuplicated => struck.duplicate_until = now + seconds(5, 20),
            Kind::WatchHeld => {
                struck.held_until = now + seconds(3, 15);
                struck.fog(struck.held_until + AFTERMATH);
            }
            Kind::WatchExpired => {
                struck.fog(now + 2 * AFTERMATH);
                self.server.expire();
                self.close_watches();
            }
            _ => {}
        }
    }

    fn strike_edges(&mut self, kind: Kind, size: u64) {
        let now = self.now;
        let seconds = |low, high| seconds(size, low, high);
        let struck = &mut self.struck;
        match kind {
            Kind::SlowStart => struck.slow_start = now + seconds(20, 60),
            Kind::SlicesLate => {
                struck.slices_late = now + seconds(10, 30);
                let end = struck.slices_late + 12_000 + AFTERMATH;
                struck.fog(end);
            }
            Kind::GatewaySlow => struck.gateway_slow = now + seconds(20, 90),
            Kind::GatewayDeaf => struck.gateway_deaf = now + seconds(20, 150),
            Kind::GatewayRefuses => struck.gateway_refuses = now + seconds(10, 100),
            Kind::MetricsDown => struck.metrics_down = now + seconds(10, 150),
            Kind::MetricsHang => struck.metrics_hang = now + seconds(10, 40),
            Kind::MetricsLate => struck.metrics_late = now + seconds(20, 90),
            Kind::MetricsNaN => struck.metrics_nan = now + seconds(10, 90),
            Kind::MetricsGap => struck.metrics_gaps.push((now, now + seconds(5, 40))),
            Kind::MetricsReset => struck.metrics_resets.push((now, now + seconds(5, 20))),
            _ => {}
        }
    }

    fn strike_pods(&mut self, kind: Kind, size: u64) {
        let now = self.now;
        match kind {
            Kind::NeverReady | Kind::CrashLoop | Kind::ImagePull => {
                let until = now + (20 + size % 160) * 1000;
                if let Some(canary) = self.people.newest() {
                    self.struck.flaws.insert(canary.clone(), (kind, until));
                    self.wake_kubelets(&canary);
                }
            }
            Kind::OutOfMemory | Kind::Flap | Kind::Evicted => {
                if let Some(pod) = self.victim(size) {
                    let wait = 1000 + size % 9000;
                    match kind {
                        Kind::Evicted => self.evict(&pod),
                        Kind::OutOfMemory => self.disturb(&pod, wait, Some("OOMKilled")),
                        _ => self.disturb(&pod, wait, None),
                    }
                }
            }
            Kind::NodeLost => self.lose_node(size),
            _ => {}
        }
    }

    /// From now on nothing goes wrong.
    pub(super) fn calm(&mut self) {
        let now = self.now;
        self.struck.calm(now);
        self.mend_gateway();
        self.mend_kubelets();
        self.say("the faults stop");
    }

    /// What Prometheus can say now: `Err` with how long it takes to say nothing.
    pub fn metrics(&self) -> Result<(), u64> {
        if self.struck.metrics_down > self.now {
            Err(20)
        } else if self.struck.metrics_hang > self.now {
            Err(9000)
        } else {
            Ok(())
        }
    }

    /// Answers are no numbers now.
    pub fn metrics_are_no_numbers(&self) -> bool {
        self.struck.metrics_nan > self.now
    }

    /// Samples of a span, in milliseconds of the world, are missing.
    pub fn metrics_lack(&self, from: u64, to: u64) -> bool {
        let late = self.struck.metrics_late > self.now && to + 20_000 > self.now;
        late || self.struck.metrics_gaps.iter().any(|(a, b)| from < *b && to > *a)
    }

    /// Counters have lost a part of what they counted in a span.
    pub fn metrics_lost(&self, from: u64, to: u64) -> bool {
        self.struck
            .metrics_resets
            .iter()
            .any(|(a, b)| from < *b && to > *a)
    }
}
