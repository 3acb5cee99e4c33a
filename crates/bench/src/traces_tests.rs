use super::*;
use crate::cases::CASES;

fn plain() -> World {
    CASES[0].harmful
}

/// Sums of `runs` runs: canary, stable.
fn sums(world: &World, runs: u64) -> (Seen, Seen) {
    (0..runs).fold((Seen::default(), Seen::default()), |(canary, stable), seed| {
        let trace = Trace::simulate(world, seed);
        let all = |arm| trace.window(arm, world.seconds, world.seconds);
        (canary.plus(all(Arm::Canary)), stable.plus(all(Arm::Stable)))
    })
}

/// `got` is within five standard deviations of a Poisson count around `mean`.
fn near(got: f64, mean: f64) {
    assert!((got - mean).abs() < 5.0 * mean.sqrt(), "{got}, not {mean}");
}

#[test]
fn arms_have_the_requests_and_the_bad_ones_that_are_asked_for() {
    let (canary, stable) = sums(&plain(), 20);
    near(canary.total, 20.0 * 3600.0 * 2.0);
    near(canary.bad, 20.0 * 3600.0 * 2.0 * 0.05);
    near(stable.total, 20.0 * 3600.0 * 18.0);
    near(stable.bad, 20.0 * 3600.0 * 18.0 * 0.01);
}

#[test]
fn a_seed_is_a_run() {
    let read = |seed| {
        let trace = Trace::simulate(&plain(), seed);
        trace
            .times()
            .map(|now| trace.window(Arm::Canary, now, SCRAPE))
            .collect::<Vec<_>>()
    };
    assert_eq!(read(7), read(7));
    assert_ne!(read(7), read(8));
    assert_eq!(read(7).len(), 240);
}

#[test]
fn clustered_requests_keep_their_mean_and_spread_more() {
    let spread = |clustering| {
        let world = World {
            per_second: 200.0,
            canary_bad: 0.01,
            clustering,
            ..plain()
        };
        let bad: Vec<f64> = (0..10)
            .flat_map(|seed| {
                let trace = Trace::simulate(&world, seed);
                trace
                    .times()
                    .map(|now| trace.window(Arm::Canary, now, SCRAPE).bad)
                    .collect::<Vec<_>>()
            })
            .collect();
        let mean = bad.iter().sum::<f64>() / bad.len() as f64;
        (
            mean,
            bad.iter().map(|b| (b - mean).powi(2)).sum::<f64>() / bad.len() as f64 / mean,
        )
    };
    let ((plain_mean, plain), (mean, clustered)) = (spread(0.0), spread(0.01));
    assert!(
        (plain_mean - 3.0).abs() < 0.2 && (mean - 3.0).abs() < 0.4,
        "{plain_mean} {mean}"
    );
    // Variance over mean: about 1, and about 1 + (n − 1)ρ = 4 for 300 requests.
    assert!(
        (plain - 1.0).abs() < 0.15 && (3.2..4.8).contains(&clustered),
        "{plain} {clustered}"
    );
}

#[test]
fn a_canary_that_hangs_is_never_counted() {
    let world = World {
        hangs: true,
        ..plain()
    };
    let (canary, stable) = sums(&world, 1);
    assert!(canary == Seen::default() && stable.total > 0.0);
}

#[test]
fn an_incident_is_shared_and_ends() {
    let world = World {
        incident: true,
        canary_bad: 0.01,
        ..plain()
    };
    let trace = Trace::simulate(&world, 1);
    for arm in [Arm::Canary, Arm::Stable] {
        let during = trace.window(arm, 1500, 300).ratio().unwrap();
        let after = trace.window(arm, 3600, 2100).ratio().unwrap();
        assert!(during > 0.06 && after < 0.025, "{arm:?} {during} {after}");
    }
}

#[test]
fn a_tenant_sticks_to_one_arm() {
    let world = World {
        tenant: 0.02,
        canary_bad: 0.01,
        ..plain()
    };
    let at_canary: Vec<bool> = (0..400)
        .map(|seed| {
            Trace::simulate(&world, seed)
                .window(Arm::Canary, 3600, 3600)
                .ratio()
                .unwrap()
                > 0.03
        })
        .collect();
    let share = at_canary.iter().filter(|yes| **yes).count();
    assert!((20..=65).contains(&share), "{share} of 400");
}

#[test]
fn a_bad_pod_is_in_either_arm() {
    let world = World {
        bad_pod: true,
        canary_bad: 0.01,
        ..plain()
    };
    let (canary, stable) = sums(&world, 100);
    for seen in [canary, stable] {
        let ratio = seen.ratio().unwrap();
        assert!((0.012..0.016).contains(&ratio), "{ratio}");
    }
}

#[test]
fn workers_in_turns_count_the_past_again_and_again() {
    let (clean, _) = sums(&plain(), 3);
    let (twice, _) = sums(
        &World {
            counters: Counters::ScrapedTwice,
            ..plain()
        },
        3,
    );
    let (saw, stable_saw) = sums(
        &World {
            counters: Counters::SawTooth,
            ..plain()
        },
        3,
    );
    assert!((twice.total / clean.total - 2.0).abs() < 0.05);
    assert!(saw.total > 3.0 * clean.total && stable_saw.total > 20.0 * clean.total);
    assert!(saw.bad <= saw.total);
}

#[test]
fn windows_are_differences_and_stop_at_the_start() {
    let seen = |total| Seen { total, bad: 1.0 };
    let trace = Trace::new(0.1, 1.0, (1..=4).map(|i| (seen(f64::from(i)), seen(10.0))));
    assert_eq!(trace.window(Arm::Canary, 60, 30), Seen { total: 7.0, bad: 2.0 });
    assert_eq!(trace.window(Arm::Canary, 30, 600), Seen { total: 3.0, bad: 2.0 });
    assert_eq!(trace.window(Arm::Stable, 15, 15), seen(10.0));
}
