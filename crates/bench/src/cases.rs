//! The situations. Each is lived through with a healthy canary and with a harmful one.

use crate::traces::{Counters, World};

/// One situation.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name in the table.
    pub name: &'static str,
    /// The share of bad requests that the objective allows.
    pub objective: f64,
    /// The world with the harmful canary.
    pub harmful: World,
    /// Stable has been there for long enough to show how its requests cluster.
    pub has_history: bool,
    /// What Molt promises here.
    pub goal: Goal,
}

/// What Molt promises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    /// Healthy canaries taken back: less than this share, 0 to 1; none at 0.
    pub false_rollbacks: f64,
    /// Median and 95th percentile of the seconds to a harmful one's rollback.
    pub detect: Option<(u32, u32)>,
    /// Every harmful one is taken back within the hour.
    pub all_found: bool,
    /// No canary is promoted, for what is counted is no evidence.
    pub none_promoted: bool,
}

/// Nothing but that less than one healthy canary in a hundred is taken back.
impl Default for Goal {
    fn default() -> Self {
        SELDOM
    }
}

/// Less than one healthy canary in a hundred.
const SELDOM: Goal = Goal {
    false_rollbacks: 0.01,
    detect: None,
    all_found: false,
    none_promoted: false,
};

/// None of all runs: what is counted is no evidence.
const NEVER: Goal = Goal {
    false_rollbacks: 0.0,
    none_promoted: true,
    ..SELDOM
};

pub(crate) const PLAIN: World = World {
    per_second: 20.0,
    weight: 0.1,
    stable_bad: 0.01,
    canary_bad: 0.05,
    clustering: 0.0,
    incident: false,
    flips: false,
    tenant: 0.0,
    bad_pod: false,
    hangs: false,
    counters: Counters::Clean,
    seconds: 3600,
};
const SPARSE: World = World {
    stable_bad: 0.001,
    canary_bad: 0.01,
    ..PLAIN
};

/// All situations, in the table's order.
pub const CASES: [Case; 21] = [
    Case {
        name: "1 → 5 %, 20 rps",
        objective: 0.01,
        harmful: PLAIN,
        has_history: true,
        goal: Goal {
            false_rollbacks: 0.005,
            detect: Some((90, 225)),
            ..SELDOM
        },
    },
    Case {
        name: "0.1 → 1 %, 20 rps",
        objective: 0.001,
        harmful: SPARSE,
        has_history: true,
        goal: Goal {
            false_rollbacks: 0.01,
            detect: Some((285, 675)),
            all_found: true,
            ..SELDOM
        },
    },
    Case {
        name: "0.1 → 0.5 %, 100 rps",
        objective: 0.001,
        harmful: World {
            per_second: 100.0,
            canary_bad: 0.005,
            ..SPARSE
        },
        has_history: true,
        goal: Goal {
            false_rollbacks: 0.01,
            detect: Some((180, 435)),
            all_found: true,
            ..SELDOM
        },
    },
    Case {
        name: "1 → 5 %, 2 rps",
        objective: 0.01,
        harmful: World {
            per_second: 2.0,
            ..PLAIN
        },
        has_history: true,
        goal: SELDOM,
    },
    Case {
        name: "0.1 → 1.1 %, at 99.5 %, 20 rps",
        objective: 0.005,
        harmful: World {
            canary_bad: 0.011,
            ..SPARSE
        },
        has_history: true,
        goal: SELDOM,
    },
    Case {
        name: "outage, errors at once, 20 rps",
        objective: 0.001,
        harmful: World {
            canary_bad: 1.0,
            ..SPARSE
        },
        has_history: true,
        goal: Goal {
            false_rollbacks: 0.01,
            detect: Some((15, 15)),
            ..SELDOM
        },
    },
    Case {
        name: "outage, no answers at all, 20 rps",
        objective: 0.001,
        harmful: World {
            hangs: true,
            ..SPARSE
        },
        has_history: true,
        goal: Goal {
            false_rollbacks: 0.01,
            detect: Some((45, 45)),
            ..SELDOM
        },
    },
    Case {
        name: "clustered requests, ρ = 0.002, 200 rps",
        objective: 0.01,
        harmful: World {
            per_second: 200.0,
            clustering: 0.002,
            ..PLAIN
        },
        has_history: true,
        goal: SELDOM,
    },
    Case {
        name: "clustered requests, ρ = 0.01, 200 rps",
        objective: 0.01,
        harmful: World {
            per_second: 200.0,
            clustering: 0.01,
            ..PLAIN
        },
        has_history: true,
        goal: SELDOM,
    },
    Case {
        name: "ρ = 0.002, 200 rps, without history",
        objective: 0.01,
        harmful: World {
            per_second: 200.0,
            clustering: 0.002,
            ..PLAIN
        },
        has_history: false,
        goal: SELDOM,
    },
    Case {
        name: "ρ = 0.01, 200 rps, without history",
        objective: 0.01,
        harmful: World {
            per_second: 200.0,
            clustering: 0.01,
            ..PLAIN
        },
        has_history: false,
        goal: SELDOM,
    },
    Case {
        name: "shared incident, 10 ×, 5 min",
        objective: 0.01,
        harmful: World {
            incident: true,
            ..PLAIN
        },
        has_history: true,
        goal: Goal {
            false_rollbacks: 0.005,
            ..SELDOM
        },
    },
    Case {
        name: "sticky tenant, 2 %, 30 % bad",
        objective: 0.01,
        harmful: World {
            tenant: 0.02,
            ..PLAIN
        },
        has_history: true,
        goal: SELDOM,
    },
    Case {
        name: "one bad pod of five",
        objective: 0.01,
        harmful: World {
            bad_pod: true,
            ..PLAIN
        },
        has_history: true,
        goal: SELDOM,
    },
    Case {
        name: "four workers, one endpoint",
        objective: 0.01,
        harmful: World {
            counters: Counters::SawTooth,
            ..PLAIN
        },
        has_history: true,
        goal: NEVER,
    },
    Case {
        name: "four workers at the canary alone",
        objective: 0.01,
        harmful: World {
            counters: Counters::NewSawTooth,
            ..PLAIN
        },
        has_history: true,
        goal: NEVER,
    },
    Case {
        name: "four new workers that don't tell when they began",
        objective: 0.01,
        harmful: World {
            counters: Counters::UntoldSawTooth,
            ..PLAIN
        },
        has_history: true,
        goal: NEVER,
    },
    Case {
        name: "every pod scraped twice",
        objective: 0.01,
        harmful: World {
            counters: Counters::ScrapedTwice,
            ..PLAIN
        },
        has_history: true,
        // It counts once, so that what is left are clean counters: the goal of those.
        goal: Goal {
            false_rollbacks: 0.005,
            ..SELDOM
        },
    },
    Case {
        name: "sticky tenant, without history",
        objective: 0.01,
        harmful: World {
            tenant: 0.02,
            ..PLAIN
        },
        has_history: false,
        goal: SELDOM,
    },
    Case {
        name: "one bad pod of five, without history",
        objective: 0.01,
        harmful: World {
            bad_pod: true,
            ..PLAIN
        },
        has_history: false,
        goal: SELDOM,
    },
    Case {
        name: "stable flips 0/1 %, 10 points worse, 200 rps",
        objective: 0.01,
        harmful: World {
            per_second: 200.0,
            stable_bad: 0.005,
            canary_bad: 0.105,
            flips: true,
            ..PLAIN
        },
        // What stable did before would tell of it.
        has_history: false,
        goal: Goal {
            all_found: true,
            ..SELDOM
        },
    },
];

impl Case {
    /// The same world with a canary that is as good as stable.
    pub fn healthy(&self) -> World {
        World {
            canary_bad: self.harmful.stable_bad,
            hangs: false,
            ..self.harmful
        }
    }
}
