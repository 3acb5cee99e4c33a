//! What goes wrong, and when: drawn before the life begins, so that a fault can be left out of it.

use std::fmt;

use crate::chance::Chance;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $weight:literal;)*) => {
        /// Kinds of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// Every kind, with how often it is drawn beside the others.
            pub const ALL: &[(Self, u64)] = &[$((Self::$name, $weight),)*];

            /// Its name in timelines.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// The server says that the object has changed.
    Conflict = "api-conflict", 3;
    /// The server is overloaded: 429.
    TooMany = "api-429", 3;
    /// The server fails: 500.
    Internal = "api-500", 3;
    /// The server is not there: 503.
    Unavailable = "api-503", 3;
    /// No connection.
    Unreachable = "api-unreachable", 3;
    /// The connection breaks before the request arrives.
    LostBefore = "api-lost-without-effect", 3;
    /// The connection breaks after the request took effect.
    LostAfter = "api-lost-with-effect", 3;
    /// The request never arrives, and nobody says so.
    SilentBefore = "api-silent-without-effect", 3;
    /// The request took effect, and nobody says so.
    SilentAfter = "api-silent-with-effect", 3;
    /// The answer takes seconds.
    Slow = "api-slow", 3;
    /// The request takes effect after its sender has given it up.
    Late = "api-late-effect", 3;
    /// One kind's watch lags by seconds.
    WatchDelayed = "watch-delayed", 3;
    /// Every watch lags by a different time: kinds are seen out of order.
    WatchReordered = "watch-reordered", 3;
    /// Every watch is closed.
    WatchClosed = "watch-closed", 3;
    /// Events come twice.
    WatchDuplicated = "watch-duplicated", 3;
    /// Every watch brings nothing for a while.
    WatchHeld = "watch-held", 3;
    /// The history is forgotten: watches end with 410.
    WatchExpired = "watch-expired", 3;
    /// The operator dies before a write arrives.
    CrashBefore = "crash-before-write", 4;
    /// The operator dies after a write took effect.
    CrashAfter = "crash-after-write", 4;
    /// The operator dies at any moment.
    CrashAny = "crash-anywhere", 4;
    /// Another replica is started, and whoever leads is asked to end.
    Upgraded = "operator-upgraded", 3;
    /// Whoever leads can't reach its Lease for a while.
    LeaseUnreachable = "lease-unreachable", 3;
    /// A person deletes the Lease.
    LeaseDeleted = "lease-deleted", 2;
    /// Whoever leads is cut off from the API server for a while.
    CutOff = "operator-cut-off", 3;
    /// The operator's clock is ahead for a while.
    ClockAhead = "clock-ahead", 2;
    /// The operator's clock is behind for a while.
    ClockBehind = "clock-behind", 2;
    /// Pods take long to start.
    SlowStart = "pods-slow-start", 3;
    /// The canary's pods don't become ready.
    NeverReady = "pods-never-ready", 2;
    /// The canary's containers end again and again.
    CrashLoop = "pods-crash-loop", 2;
    /// The canary's image can't be pulled.
    ImagePull = "pods-image-pull", 3;
    /// A container runs out of memory.
    OutOfMemory = "pod-out-of-memory", 3;
    /// A pod is evicted.
    Evicted = "pod-evicted", 3;
    /// A node is lost with its pods.
    NodeLost = "node-lost", 3;
    /// A pod stops being ready for a moment.
    Flap = "pod-flaps", 3;
    /// Endpoints follow late.
    SlicesLate = "endpoints-late", 3;
    /// The gateway takes long to take over a route.
    GatewaySlow = "gateway-slow", 3;
    /// The gateway does not hear for a while.
    GatewayDeaf = "gateway-deaf", 3;
    /// The gateway refuses the route for a while.
    GatewayRefuses = "gateway-refuses", 2;
    /// Prometheus does not answer.
    MetricsDown = "metrics-down", 3;
    /// Prometheus takes very long.
    MetricsHang = "metrics-hang", 3;
    /// The newest samples are missing.
    MetricsLate = "metrics-late", 3;
    /// Scrapes were missed.
    MetricsGap = "metrics-gap", 3;
    /// Counters lose a part of what they counted.
    MetricsReset = "metrics-reset", 3;
    /// Answers are no numbers.
    MetricsNaN = "metrics-nan", 3;
    /// A person changes the image in mid-flight.
    Superseded = "people-next-image", 2;
    /// A person takes the change back.
    Reverted = "people-revert", 3;
    /// A person asks for a promotion.
    Promote = "people-promote", 3;
    /// A person aborts.
    Abort = "people-abort", 3;
    /// A person asks for a promotion past all that is left.
    PromoteFull = "people-promote-full", 2;
    /// A person pauses, and resumes later.
    Pause = "people-pause", 3;
    /// The spec is paused, and goes on later.
    PausedBySpec = "people-pause-spec", 2;
    /// A person tries again what was taken back, now and later.
    Retry = "people-retry", 3;
    /// A person goes back to the revision before, now and later.
    Undo = "people-undo", 3;
    /// A person asks for new pods of the stable revision.
    Restart = "people-restart", 3;
    /// Every service is paused, and goes on later.
    PausedFleet = "people-pause-fleet", 2;
    /// A person changes the number of pods.
    Scaled = "people-scale", 3;
    /// A person writes a spec that can't be used, and puts it right later.
    Invalid = "people-invalid-spec", 2;
    /// A person deletes the service, and creates it anew later.
    Deleted = "people-delete", 2;
    /// A tool like Argo CD applies what it applied before.
    Reapplied = "gitops-reapply", 3;
    /// A tool or a person writes the route back.
    RouteWritten = "gitops-route", 6;
    /// Somebody else has an object of the name that is needed.
    Foreign = "foreign-object", 2;
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One planned fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The rollout of the life that it strikes, from 0.
    pub rollout: usize,
    /// Milliseconds after that rollout's beginning.
    pub after: u64,
    /// What.
    pub kind: Kind,
    /// How long, how much, where: what it means depends on the kind.
    pub size: u64,
}

/// How long faults are planned to begin after a rollout's beginning, in milliseconds.
pub const STORM: u64 = 100_000;

/// The faults of a life of so many rollouts.
pub fn plan(seed: u64, rollouts: usize) -> Vec<Fault> {
    let mut chance = Chance::new(seed, 1);
    let sum: u64 = Kind::ALL.iter().map(|(_, weight)| weight).sum();
    let mut faults = Vec::new();
    for rollout in 0..rollouts {
        for _ in 0..chance.between(3, 19) {
            let mut drawn = chance.between(0, sum);
            let kind = Kind::ALL.iter().find(|(_, weight)| {
                let is = drawn < *weight;
                drawn = drawn.saturating_sub(*weight);
                is
            });
            let Some((kind, _)) = kind else { continue };
            faults.push(Fault {
                rollout,
                after: chance.between(0, STORM),
                kind: *kind,
                size: chance.between(0, 1 << 32),
            });
        }
    }
    faults.sort_by_key(|f| (f.rollout, f.after));
    faults
}
