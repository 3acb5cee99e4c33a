//! The rollouts that are lived through.

use super::{BLOCK, Case, Goal, READ};

/// The steps of a case that says nothing of them.
const WEIGHTS: &[u8] = &[5, 10, 25, 50];

/// A case whose stable fails one request in a thousand, with all of the budget left.
const fn case(
    name: &'static str,
    objective: &'static str,
    rps: f64,
    canary: &'static str,
    goal: Goal,
) -> Case {
    Case {
        name,
        objective,
        rps,
        stable: "errors=0.1%",
        canary,
        left: 1.0,
        outage: 0.0,
        block: BLOCK,
        pods: 4,
        weights: WEIGHTS,
        goal,
        set: None,
    }
}

/// The rollouts of the first table; the first is the floor.
pub(super) const CASES: [Case; 36] = [
    case(
        "the floor: an objective of 10 %",
        "10",
        1000.0,
        "good",
        Goal::Reference,
    ),
    case(
        "healthy, 99.5 %, 20 rps",
        "99.5",
        20.0,
        "good",
        Goal::AtTheFloor(300.0),
    ),
    case(
        "healthy, 99.9 %, 20 rps",
        "99.9",
        20.0,
        "good",
        Goal::Promoted(900.0),
    ),
    case(
        "healthy, 99.9 %, 5 rps",
        "99.9",
        5.0,
        "good",
        Goal::Promoted(1200.0),
    ),
    case(
        "healthy, 99.9 %, 1 rps",
        "99.9",
        1.0,
        "good",
        Goal::Promoted(1800.0),
    ),
    case(
        "1.1 % of the canary's bad, 99.5 %, 20 rps",
        "99.5",
        20.0,
        "errors=1.1%",
        Goal::SeldomPromoted,
    ),
    case(
        "1.554 % of the canary's bad, 1 % above the margin of a promotion, 99.9 %, 1 rps",
        "99.9",
        1.0,
        "errors=1.5544%",
        Goal::SeldomPromoted,
    ),
    case(
        "all of the canary's bad, 99.9 %, 20 rps",
        "99.9",
        20.0,
        "errors=100%",
        Goal::InOneBlock,
    ),
    Case {
        block: 30,
        ..case(
            "all of the canary's bad, blocks of 30 s, 99.9 %, 20 rps",
            "99.9",
            20.0,
            "errors=100%",
            Goal::InOneBlock,
        )
    },
    Case {
        block: 30,
        ..case(
            "no answers at all, blocks of 30 s, 99.9 %, 20 rps",
            "99.9",
            20.0,
            "hang=100%",
            Goal::RolledBack(45.0),
        )
    },
    // The goal is of judges at a weight of 10 %; a block and its reading come on top here.
    Case {
        stable: "errors=1%",
        weights: &[10, 25, 50],
        set: Some(Goal::Found(90.0, 225.0)),
        ..case(
            "1 → 5 %, the first step at 10 %, 99 %, 20 rps",
            "99",
            20.0,
            "errors=5%",
            Goal::Found(90.0 + BLOCK as f64 + READ, 225.0 + BLOCK as f64 + READ),
        )
    },
    Case {
        stable: "errors=1%",
        block: 30,
        weights: &[10, 25, 50],
        set: Some(Goal::Found(90.0, 225.0)),
        ..case(
            "1 → 5 %, the first step at 10 %, blocks of 30 s, 99 %, 20 rps",
            "99",
            20.0,
            "errors=5%",
            Goal::Reported,
        )
    },
    case(
        "no answers at all, 99.9 %, 20 rps",
        "99.9",
        20.0,
        "hang=100%",
        Goal::RolledBack(45.0),
    ),
    case(
        "no answers at all, 99.9 %, 200 rps",
        "99.9",
        200.0,
        "hang=100%",
        Goal::RolledBack(45.0),
    ),
    // Some twenty requests must have been due by the weight, 21 / (r·w), in whole blocks, of which the first begins up to
    // one later and the last is read two seconds after its end.
    Case {
        set: Some(Goal::RolledBack(45.0)),
        ..case(
            "no answers at all, 99.9 %, 5 rps",
            "99.9",
            5.0,
            "hang=100%",
            Goal::RolledBack(107.0),
        )
    },
    Case {
        set: Some(Goal::RolledBack(45.0)),
        ..case(
            "no answers at all, 99.9 %, 2 rps",
            "99.9",
            2.0,
            "hang=100%",
            Goal::RolledBack(242.0),
        )
    },
    Case {
        weights: &[],
        set: Some(Goal::RolledBack(45.0)),
        ..case(
            "all users at once, half of the requests never answered, 99.9 %, 20 rps",
            "99.9",
            20.0,
            "hang=50%",
            Goal::RolledBack(62.0),
        )
    },
    Case {
        weights: &[],
        ..case(
            "all users at once, healthy, 99.9 %, 20 rps",
            "99.9",
            20.0,
            "good",
            Goal::SeldomRolledBack(0.01),
        )
    },
    case(
        "a fifth of the requests never answered, 99.9 %, 20 rps",
        "99.9",
        20.0,
        "hang=20%",
        Goal::SeldomPromoted,
    ),
    case(
        "half of the requests never answered, 99.9 %, 20 rps",
        "99.9",
        20.0,
        "hang=50%",
        Goal::SeldomPromoted,
    ),
    case(
        "healthy, incident of both, 10 × for 5 min from 130 s, as a weight rises, 99.9 %, 100 rps",
        "99.9",
        100.0,
        "incident=10x@130s+300s",
        Goal::SeldomRolledBack(0.005),
    ),
    case(
        "healthy, incident of both, 10 × for 2 min from 300 s, in the bake, 99.9 %, 100 rps",
        "99.9",
        100.0,
        "incident=10x@300s+120s",
        Goal::SeldomRolledBack(0.005),
    ),
    case(
        "healthy, incident of both, 200 × for 100 s from 113 s, 99.9 %, 200 rps",
        "99.9",
        200.0,
        "incident=200x@113s+100s",
        Goal::SeldomRolledBack(0.01),
    ),
    case(
        "healthy, incident of both, all fails for 100 s from 220 s, 99.9 %, 20 rps",
        "99.9",
        20.0,
        "incident=1000x@220s+100s",
        Goal::SeldomRolledBack(0.01),
    ),
    // Half a block, at the rise to all traffic: of one pod each, the canary's may be read later than stable's.
    Case {
        pods: 1,
        block: 30,
        ..case(
            "healthy, one pod, incident of both, 10 × for 20 s from 265 s, as it gets all traffic, blocks of 30 s, 99.9 %, 200 rps",
            "99.9",
            200.0,
            "incident=10x@265s+20s",
            Goal::SeldomRolledBack(0.005),
        )
    },
    Case {
        pods: 1,
        block: 30,
        ..case(
            "the same, 100 × for 20 s from 240 s, before that: promoted unattended",
            "99.9",
            200.0,
            "incident=100x@240s+20s",
            Goal::Promoted(900.0),
        )
    },
    Case {
        pods: 1,
        block: 30,
        ..case(
            "1.554 % of the canary's bad, one pod, three short incidents of both in its steps, 20 × for 20 s each, blocks of 30 s, 99.9 %, 1 rps",
            "99.9",
            1.0,
            "errors=1.5544%,incident=20x@120s+20s,incident=20x@360s+20s,incident=20x@600s+20s",
            Goal::SeldomPromoted,
        )
    },
    case(
        "healthy, three incidents of both in its bakes, 20 × for 1 min each, 99.9 %, 200 rps",
        "99.9",
        200.0,
        "incident=20x@300s+60s,incident=20x@600s+60s,incident=20x@900s+60s",
        Goal::SeldomRolledBack(0.005),
    ),
    case(
        "healthy, six incidents of both in its bakes, 20 × for 1 min each, 99.9 %, 200 rps",
        "99.9",
        200.0,
        "incident=20x@300s+60s,incident=20x@600s+60s,incident=20x@900s+60s,incident=20x@1200s+60s,incident=20x@1500s+60s,incident=20x@1800s+60s",
        Goal::SeldomRolledBack(0.005),
    ),
    case(
        "1.554 % of the canary's bad, three incidents of both in its steps, 5 × for 1 min each, 99.9 %, 1 rps",
        "99.9",
        1.0,
        "errors=1.5544%,incident=5x@120s+60s,incident=5x@360s+60s,incident=5x@600s+60s",
        Goal::SeldomPromoted,
    ),
    case(
        "0.5 % of the canary's bad, five times what the objective allows, 99.9 %, 5 rps",
        "99.9",
        5.0,
        "errors=0.5%",
        Goal::Reported,
    ),
    Case {
        stable: "errors=1%",
        left: 0.0,
        ..case(
            "healthy, stable at 1 %, no budget left, 99.9 %, 1 rps",
            "99.9",
            1.0,
            "good",
            Goal::SeldomRolledBack(0.01),
        )
    },
    Case {
        stable: "errors=1%",
        left: 0.0,
        block: 30,
        ..case(
            "healthy, stable at 1 %, no budget left, blocks of 30 s, 99.9 %, 20 rps",
            "99.9",
            20.0,
            "good",
            Goal::SeldomRolledBack(0.01),
        )
    },
    Case {
        stable: "errors=1%",
        left: 0.0,
        weights: &[],
        ..case(
            "all users at once, healthy, stable at 1 %, no budget left, 99.9 %, 5 rps",
            "99.9",
            5.0,
            "good",
            Goal::SeldomRolledBack(0.01),
        )
    },
    Case {
        stable: "errors=0.5%",
        left: 0.0,
        ..case(
            "healthy, stable at 0.5 %, no budget left, 99.9 %, 5 rps",
            "99.9",
            5.0,
            "good",
            Goal::SeldomRolledBack(0.01),
        )
    },
    Case {
        stable: "errors=1%",
        left: 0.0,
        ..case(
            "5 % of the canary's bad, stable at 1 %, no budget left, 99.9 %, 1 rps",
            "99.9",
            1.0,
            "errors=5%",
            Goal::SeldomPromoted,
        )
    },
];

/// A service with little traffic, in the default's blocks.
const fn quiet(name: &'static str, rps: f64, canary: &'static str, goal: Goal) -> Case {
    Case {
        block: 30,
        ..case(name, "99.9", rps, canary, goal)
    }
}

/// The same, all users at once.
const fn at_once(name: &'static str, rps: f64, canary: &'static str, goal: Goal) -> Case {
    Case {
        weights: &[],
        ..quiet(name, rps, canary, goal)
    }
}

/// The rollouts of the second table: silence where few requests come. What can't be told from chance sooner passes the bound of
/// the budget, and is no goal. A whole silence of steps is to be found within 21 / (r·w) seconds and 8 % more, for in one of twenty
/// so many requests come that much later, in whole blocks, of which the first begins up to one later; not at half a
/// request a second, where the wait for evidence ends sooner.
pub(super) const SILENCE: [Case; 18] = [
    quiet("healthy, 2 rps", 2.0, "good", Goal::SeldomRolledBack(0.01)),
    quiet("healthy, 1 rps", 1.0, "good", Goal::SeldomRolledBack(0.01)),
    quiet("healthy, 0.5 rps", 0.5, "good", Goal::SeldomRolledBack(0.01)),
    Case {
        set: Some(Goal::RolledBack(45.0)),
        ..quiet(
            "no answers at all, 2 rps",
            2.0,
            "hang=100%",
            Goal::RolledBack(272.0),
        )
    },
    Case {
        set: Some(Goal::RolledBack(45.0)),
        ..quiet(
            "no answers at all, 1 rps",
            1.0,
            "hang=100%",
            Goal::RolledBack(512.0),
        )
    },
    Case {
        set: Some(Goal::RolledBack(45.0)),
        ..quiet(
            "no answers at all, 0.5 rps",
            0.5,
            "hang=100%",
            Goal::SeldomPromoted,
        )
    },
    quiet(
        "half of the requests never answered, 2 rps",
        2.0,
        "hang=50%",
        Goal::Reported,
    ),
    quiet(
        "half of the requests never answered, 1 rps",
        1.0,
        "hang=50%",
        Goal::Reported,
    ),
    quiet(
        "half of the requests never answered, 0.5 rps",
        0.5,
        "hang=50%",
        Goal::Reported,
    ),
    at_once(
        "all users at once, healthy, 2 rps",
        2.0,
        "good",
        Goal::SeldomRolledBack(0.01),
    ),
    at_once(
        "all users at once, healthy, 1 rps",
        1.0,
        "good",
        Goal::SeldomRolledBack(0.01),
    ),
    at_once(
        "all users at once, healthy, 0.5 rps",
        0.5,
        "good",
        Goal::SeldomRolledBack(0.01),
    ),
    at_once(
        "all users at once, no answers at all, 2 rps",
        2.0,
        "hang=100%",
        Goal::Reported,
    ),
    at_once(
        "all users at once, no answers at all, 1 rps",
        1.0,
        "hang=100%",
        Goal::Reported,
    ),
    at_once(
        "all users at once, no answers at all, 0.5 rps",
        0.5,
        "hang=100%",
        Goal::Reported,
    ),
    at_once(
        "all users at once, half of the requests never answered, 2 rps",
        2.0,
        "hang=50%",
        Goal::Reported,
    ),
    at_once(
        "all users at once, half of the requests never answered, 1 rps",
        1.0,
        "hang=50%",
        Goal::Reported,
    ),
    at_once(
        "all users at once, half of the requests never answered, 0.5 rps",
        0.5,
        "hang=50%",
        Goal::Reported,
    ),
];

/// What passes between the end of a block in which harm shows and the last request that meets it: reading, deciding, the
/// route.
const UNTIL_AWAY: f64 = READ + 5.0;
/// The part of the traffic that a canary is compared with stable at once its bake was interrupted.
const COMPARED: f64 = 0.1;

/// A canary that answers by errors alone from some second on, at 200 requests a second. Counters are as old as their last
/// scrape, half a block at the most; so what began in the last half of a block shows in the next one. What meets all users lasts so
/// long until it is suspected, and then a tenth meets it for the block of the comparison and the half before that.
const fn late(
    name: &'static str,
    objective: &'static str,
    canary: &'static str,
    block: i64,
    at: f64,
) -> Case {
    let seen = 1.5 * block as f64 + UNTIL_AWAY;
    let outage = if at < 1.0 {
        at * seen
    } else {
        seen + COMPARED * (seen + UNTIL_AWAY)
    };
    Case {
        stable: "errors=0.005%",
        outage,
        block,
        ..case(name, objective, 200.0, canary, Goal::AllRolledBack)
    }
}

/// The rollouts of the third table: harm that no step could have shown, since it begins later. A dwell of a minute each, so
/// all users are on a healthy canary after some 262 s.
pub(super) const LATE: [Case; 15] = [
    late(
        "at 25 %, blocks of 15 s, 99.9 %",
        "99.9",
        "errors=100%@170s",
        15,
        0.25,
    ),
    late(
        "5 s before all traffic, blocks of 15 s, 99.9 %",
        "99.9",
        "errors=100%@257s",
        15,
        1.0,
    ),
    late(
        "as the bake begins, blocks of 15 s, 99.9 %",
        "99.9",
        "errors=100%@262s",
        15,
        1.0,
    ),
    late(
        "10 s after that, blocks of 15 s, 99.9 %",
        "99.9",
        "errors=100%@272s",
        15,
        1.0,
    ),
    late(
        "in the bake, blocks of 15 s, 99.9 %",
        "99.9",
        "errors=100%@400s",
        15,
        1.0,
    ),
    late(
        "at 25 %, blocks of 30 s, 99.9 %",
        "99.9",
        "errors=100%@170s",
        30,
        0.25,
    ),
    late(
        "5 s before all traffic, blocks of 30 s, 99.9 %",
        "99.9",
        "errors=100%@257s",
        30,
        1.0,
    ),
    late(
        "as the bake begins, blocks of 30 s, 99.9 %",
        "99.9",
        "errors=100%@262s",
        30,
        1.0,
    ),
    late(
        "10 s after that, blocks of 30 s, 99.9 %",
        "99.9",
        "errors=100%@272s",
        30,
        1.0,
    ),
    late(
        "in the bake, blocks of 30 s, 99.9 %",
        "99.9",
        "errors=100%@400s",
        30,
        1.0,
    ),
    late(
        "at 25 %, blocks of 30 s, 99.99 %",
        "99.99",
        "errors=100%@170s",
        30,
        0.25,
    ),
    late(
        "5 s before all traffic, blocks of 30 s, 99.99 %",
        "99.99",
        "errors=100%@257s",
        30,
        1.0,
    ),
    late(
        "as the bake begins, blocks of 30 s, 99.99 %",
        "99.99",
        "errors=100%@262s",
        30,
        1.0,
    ),
    late(
        "10 s after that, blocks of 30 s, 99.99 %",
        "99.99",
        "errors=100%@272s",
        30,
        1.0,
    ),
    late(
        "in the bake, blocks of 30 s, 99.99 %",
        "99.99",
        "errors=100%@400s",
        30,
        1.0,
    ),
];
