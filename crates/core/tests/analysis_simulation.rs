//! The engine under simulated traffic: how often it cries wolf, how soon it sees harm, how soon it promotes.
//!
//! Poisson arrivals, a fixed seed for each run; `--nocapture` prints the figures.

use jiff::{SignedDuration, Timestamp};
use molt_core::analysis::{
    Block, Counts, Evidence, Limits, Objective, PodCounts, SloView, WATCH, judge_harm, safe_for_promotion,
    safe_for_step,
};

/// Steele, Lea and Flood's `SplitMix64` (2014): enough randomness for a test, and no dependency.
struct Dice(u64);

impl Dice {
    /// A number from 0 up to 1.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Knuth's method, in parts small enough for it.
    fn poisson(&mut self, mean: f64) -> f64 {
        let (mut left, mut count) = (mean, 0.0);
        while left > 0.0 {
            let floor = (-left.min(30.0)).exp();
            let mut product = self.uniform();
            while product > floor {
                product *= self.uniform();
                count += 1.0;
            }
            left -= 30.0;
        }
        count
    }

    /// The requests of one arm: good and bad ones arrive independently.
    fn counts(&mut self, mean: f64, bad_ratio: f64) -> Counts {
        let (good, bad) = (
            self.poisson(mean * (1.0 - bad_ratio)),
            self.poisson(mean * bad_ratio),
        );
        Counts::new(good + bad, bad).unwrap()
    }
}

/// A service under a rollout.
struct Traffic {
    dice: Dice,
    rate: f64,
    block: SignedDuration,
    /// Bad ratios of canary and stable.
    bad: [f64; 2],
    now: Timestamp,
    evidence: Evidence,
}

impl Traffic {
    fn new(seed: u64, rate: f64, block_seconds: i64, bad: [f64; 2]) -> Self {
        let block = SignedDuration::from_secs(block_seconds);
        // Stable has been there before, and its requests were seen to be independent.
        let mut evidence = Evidence::default();
        evidence.know_correlation(0.0);
        let dice = Dice(seed.wrapping_mul(0x5851_f42d_4c95_7f2d) ^ 0x1234_5678);
        Self {
            dice,
            rate,
            block,
            bad,
            now: Timestamp::UNIX_EPOCH,
            evidence,
        }
    }

    fn flow(&mut self, weight: u8) {
        let (end, share) = (self.now + self.block, f64::from(weight) / 100.0);
        let requests = self.rate * self.block.as_secs_f64();
        self.evidence.absorb(&Block {
            start: self.now,
            end,
            canary_weight: weight,
            weight_in_force: true,
            weight_settled: true,
            canary: self.dice.counts(requests * share, self.bad[0]),
            stable: self.dice.counts(requests * (1.0 - share), self.bad[1]),
            canary_late: Counts::default(),
            canary_pods: PodCounts::default(),
            stable_pods: PodCounts::default(),
            at_route: None,
            reference: None,
        });
        self.now = end;
    }

    fn view<'a>(&'a self, objective: &'a Objective) -> SloView<'a> {
        SloView {
            name: "availability",
            objective,
            expected_requests: None,
            may_spend: Limits::default().max_budget_spend(),
            alone: false,
            evidence: &self.evidence,
        }
    }

    fn harmed(&self, objective: &Objective) -> bool {
        judge_harm(&[self.view(objective)], 1, &Limits::default()).is_some()
    }

    /// Seconds until harm is shown at one weight.
    fn until_harm(&mut self, objective: &Objective, weight: u8, limit: i64) -> Option<i64> {
        while self.now.as_second() < limit {
            self.flow(weight);
            if self.harmed(objective) {
                return Some(self.now.as_second());
            }
        }
        None
    }
}

fn objective(percent: &str) -> Objective {
    Objective::parse(percent, SignedDuration::from_hours(24 * 30)).unwrap()
}

/// The value below which `share` of them lie; those that never came count as the largest.
fn quantile(times: &[Option<i64>], share: f64) -> i64 {
    let mut sorted: Vec<i64> = times.iter().map(|t| t.unwrap_or(i64::MAX)).collect();
    sorted.sort_unstable();
    sorted[((sorted.len() - 1) as f64 * share).ceil() as usize]
}

/// Ville's inequality promises at most `α = 1 %`, over any time; the promise leaves room for chance.
#[test]
fn a_healthy_release_is_seldom_rolled_back() {
    let objective = objective("99");
    for (rate, bad) in [(20.0, 0.01), (2.0, 0.01), (20.0, 0.001)] {
        let runs = 2000;
        let rolled_back = (0..runs).filter(|seed| {
            Traffic::new(*seed, rate, 15, [bad; 2])
                .until_harm(&objective, 10, 900)
                .is_some()
        });
        let share = rolled_back.count() as f64 / runs as f64;
        println!(
            "A/A {bad} at {rate} rps, 15 min: {:.2} % rolled back",
            share * 100.0
        );
        assert!(share <= 0.01, "{share}");
    }
}

#[test]
fn a_canary_that_fails_one_request_in_ten_is_rolled_back_in_seconds() {
    let objective = objective("99.9");
    let times: Vec<_> = (0..2000)
        .map(|seed| Traffic::new(seed, 40.0, 10, [0.1, 0.0]).until_harm(&objective, 10, 3600))
        .collect();
    println!(
        "10 % errors at 4 of 40 rps: {} s, 95 % {} s",
        quantile(&times, 0.5),
        quantile(&times, 0.95)
    );
    assert!(quantile(&times, 0.5) <= 20 && quantile(&times, 0.95) <= 30);
}

#[test]
fn a_total_outage_is_rolled_back_after_one_block() {
    let objective = objective("99.9");
    for rate in [10.0, 40.0] {
        let times: Vec<_> = (0..500)
            .map(|seed| Traffic::new(seed, rate, 10, [1.0, 0.0]).until_harm(&objective, 10, 600))
            .collect();
        println!(
            "outage at {rate} rps: {} s, 95 % {} s",
            quantile(&times, 0.5),
            quantile(&times, 0.95)
        );
        assert_eq!(quantile(&times, 0.95), 10);
    }
}

/// The case of the design's table: from 1 % to 5 % at 2 of 20 requests a second.
#[test]
fn a_slow_burn_is_found_in_minutes() {
    let objective = objective("99");
    let times: Vec<_> = (0..500)
        .map(|seed| Traffic::new(seed, 20.0, 15, [0.05, 0.01]).until_harm(&objective, 10, 3600))
        .collect();
    println!(
        "1 % to 5 % at 20 rps: {} s, 95 % {} s",
        quantile(&times, 0.5),
        quantile(&times, 0.95)
    );
    assert!(quantile(&times, 0.5) <= 105 && quantile(&times, 0.95) <= 240);
}

/// The seconds that a rollout of steps 10 and 50 takes, at least `dwell` at each; `None` if it is rolled back
/// or undecided after an hour.
fn promoted(mut traffic: Traffic, objective: &Objective, dwell: i64) -> Option<i64> {
    let limits = Limits::default();
    let mut step_began = 0;
    let mut weight = 10;
    while traffic.now.as_second() < 3600 {
        traffic.flow(weight);
        if traffic.harmed(objective) {
            return None;
        }
        if traffic.now.as_second() - step_began < dwell {
            continue;
        }
        let slos = [traffic.view(objective)];
        if weight == 10 && safe_for_step(&slos, &limits, 0.5).is_ok() {
            weight = 50;
            step_began = traffic.now.as_second();
        } else if weight == 50 && safe_for_promotion(&slos, &limits, WATCH).is_ok() {
            return Some(traffic.now.as_second());
        }
    }
    None
}

#[test]
fn a_healthy_release_is_promoted_as_soon_as_its_dwell_is_over() {
    for (percent, bad) in [("99", 0.0), ("99.9", 0.0), ("99", 0.001), ("99.9", 0.0002)] {
        let objective = objective(percent);
        let times: Vec<_> = (0..500)
            .map(|seed| promoted(Traffic::new(seed, 40.0, 10, [bad; 2]), &objective, 20))
            .collect();
        let (median, most) = (quantile(&times, 0.5), quantile(&times, 0.95));
        println!("{percent} at 40 rps, {bad} bad: promoted after {median} s, 95 % {most} s");
        assert_eq!(median, 40, "{percent} {bad}");
    }
}

/// A canary that is worse by just the margin is promoted in at most `β = 5 %` of the rollouts. The margin is
/// the grid's: 0.01, the largest not above the 0.0144 that the budget affords.
#[test]
fn a_canary_at_the_margin_is_seldom_promoted() {
    let objective = objective("99.9");
    let runs = 1000;
    let promotions = (0..runs)
        .filter(|seed| promoted(Traffic::new(*seed, 40.0, 10, [0.011, 0.001]), &objective, 20).is_some());
    let share = promotions.count() as f64 / runs as f64;
    println!("at the margin: {:.1} % promoted", share * 100.0);
    assert!(share <= 0.05, "{share}");
}
