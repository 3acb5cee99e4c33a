use super::*;
use proptest::prelude::*;

fn counts(total: f64, bad: f64) -> Counts {
    Counts::new(total, bad).unwrap()
}

/// What a block of 1,000 is worth after stable blocks of so many requests with so many bad ones.
fn worth_after(total: f64, bad: &[f64], history: Option<f64>) -> f64 {
    let mut seen = Clustering::default();
    if let Some(correlation) = history {
        seen.know(correlation);
    }
    let mut stable = Counts::default();
    for bad in bad {
        let block = counts(total, *bad);
        seen.absorb(block, &PodCounts::default(), &PodCounts::default(), false);
        stable = stable.plus(block);
    }
    seen.settle(false);
    seen.worth(stable).of(counts(1000.0, 10.0)).total()
}

/// About what chance does to ten bad ones.
const CALM: [f64; 11] = [10.0, 8.0, 13.0, 9.0, 11.0, 7.0, 12.0, 10.0, 9.0, 11.0, 10.0];

#[test]
fn what_is_assumed_holds_until_the_blocks_rule_it_out() {
    let assumed = 1000.0 / (1.0 + 999.0 * ASSUMED);
    // One block, or two that happen to be alike, rule nothing out.
    for few in [&[][..], &[10.0], &[10.0, 10.0]] {
        let worth = worth_after(1000.0, few, None);
        assert!((worth - assumed).abs() < 1e-9, "{worth}");
    }
    let calm = worth_after(1000.0, &CALM, None);
    assert!((250.0..1000.0).contains(&calm), "{calm}");
    let long = worth_after(1000.0, &CALM.repeat(10), None);
    assert!((990.0..=1000.0).contains(&long), "{long}");
    // At 1 % of clustering the blocks differ by five times as much: no more than what is assumed is ruled out.
    let bursts = [10.0, 0.0, 28.0, 3.0, 21.0, 0.0, 7.0, 31.0, 2.0, 16.0, 0.0];
    let worth = worth_after(1000.0, &bursts, None);
    assert!(worth <= assumed * 1.01, "{worth}");
    // Without a bad request nothing is known of how they come.
    let silent = worth_after(1000.0, &[0.0; 50], None);
    assert!((silent - assumed).abs() < 1e-9, "{silent}");
    // Few requests can't be much of a cluster.
    assert!(worth_after(1.0, &[], Some(0.0)) > 999.0);
}

#[test]
fn the_low_quantile_of_chi_square_is_that_of_the_tables() {
    for (k, wanted) in [(5.0, 0.5543), (10.0, 2.5582), (50.0, 29.707)] {
        let got = low_chi_square(k).unwrap() * k;
        // The cube is below it where there are few degrees, which assumes more.
        assert!((0.75..1.01).contains(&(got / wanted)), "{k}: {got}");
    }
    assert_eq!(low_chi_square(0.5), None);
    assert_eq!(low_chi_square(0.0), None);
}

#[test]
fn bursts_are_clusters_and_a_drift_is_none() {
    let bursts = [0.0, 100.0, 0.0, 0.0, 120.0, 0.0, 90.0, 0.0, 0.0, 110.0];
    let bursts = worth_after(1000.0, &bursts, Some(0.0));
    assert!(bursts < 100.0, "{bursts}");
    let drift: Vec<f64> = (0..40).map(|i| 10.0 + 2.0 * f64::from(i)).collect();
    let drift = worth_after(1000.0, &drift, Some(0.0));
    assert_eq!(drift.to_bits(), 1000f64.to_bits());
}

#[test]
fn a_history_is_known_from_the_first_block() {
    let worth = |correlation| {
        let mut seen = Clustering::default();
        seen.know(correlation);
        let before = seen.design_effect(counts(100.0, 1.0), counts(1000.0, 10.0));
        assert!((before - 1.0).abs() < 1e-12, "{before}");
        seen.worth(Counts::default()).of(counts(101.0, 1.0))
    };
    assert_eq!(worth(0.0), counts(101.0, 1.0));
    // 1 + 100·0.01.
    assert_eq!(worth(0.01), counts(50.5, 0.5));
    assert!(worth(1.0).total() <= 1.0 + 1e-9);
}

#[test]
fn a_sick_pod_of_several_is_told_from_a_bad_revision() {
    let seen = |bad: [f64; 4]| {
        let mut seen = Clustering::default();
        seen.know(0.0);
        let (mut canary, mut stable) = (PodCounts::default(), PodCounts::default());
        for (pod, bad) in ["a", "b", "c", "d"].iter().zip(bad) {
            canary.add(pod, counts(100.0, bad));
            stable.add(pod, counts(1000.0, 10.0));
        }
        seen.absorb(stable.all(), &canary, &stable, false);
        (
            seen.rests_on_one_pod(stable.all(), false),
            seen.design_effect(canary.all(), stable.all()),
        )
    };
    let (one, effect) = seen([20.0, 1.0, 0.0, 2.0]);
    assert!(one && effect > 5.0, "{effect}");
    let (one, effect) = seen([6.0, 5.0, 7.0, 6.0]);
    assert!(!one && effect < 2.5, "{effect}");
}

#[test]
fn three_pods_of_which_two_share_a_slot_are_told_apart_too() {
    let slot = |name: &str| {
        let mut pods = PodCounts::default();
        pods.add(name, counts(1.0, 0.0));
        pods.0.iter().position(|counts| counts.total() > 0.0).unwrap()
    };
    let names: Vec<String> = (0..200).map(|i| format!("checkout-f13e653b5c-{i}")).collect();
    let alike = |name: &String| slot(name) == slot(&names[0]) && *name != names[0];
    let twin = names.iter().find(|name| alike(name)).unwrap();
    let other = names.iter().find(|name| slot(name) != slot(&names[0])).unwrap();
    let rests = |bad: [f64; 3]| {
        let mut seen = Clustering::default();
        seen.know(0.0);
        let (mut canary, mut stable) = (PodCounts::default(), PodCounts::default());
        for (pod, bad) in [&names[0], twin, other].into_iter().zip(bad) {
            canary.add(pod, counts(100.0, bad));
            stable.add(pod, counts(1000.0, 10.0));
        }
        seen.absorb(stable.all(), &canary, &stable, false);
        seen.rests_on_one_pod(stable.all(), false)
    };
    assert!(rests([30.0, 1.0, 1.0]) && rests([1.0, 1.0, 30.0]));
    assert!(!rests([30.0, 28.0, 31.0]));
}

#[test]
fn a_history_of_independent_requests_shows_no_correlation_and_one_of_bursts_does() {
    let history = |bad: &dyn Fn(usize) -> f64| (0..180).map(|i| counts(2400.0, bad(i))).collect::<Vec<_>>();
    // About what chance does to 24 bad ones: a standard deviation of 4.9.
    let calm = history(&|i| [24.0, 19.0, 28.0, 31.0, 22.0, 17.0, 26.0, 25.0, 20.0, 29.0][i % 10]);
    assert_eq!(correlation_in(&calm), Some(0.0));
    let bursts = history(&|i| if i % 7 == 0 { 168.0 } else { 0.0 });
    let found = correlation_in(&bursts).unwrap();
    assert!((0.01..0.3).contains(&found), "{found}");
    assert_eq!(correlation_in(&calm[..5]), None);
    assert_eq!(correlation_in(&[]), None);
    // Of no bad request, or of one, nobody knows how they come.
    assert_eq!(correlation_in(&history(&|_| 0.0)), None);
    assert_eq!(correlation_in(&history(&|i| f64::from(u8::from(i == 90)))), None);
    // Requests that are too few to correlate within a block are no proof either.
    let sparse: Vec<_> = (0..120)
        .map(|i| counts(27.0, f64::from(u8::from(i % 4 == 0))))
        .collect();
    assert_eq!(correlation_in(&sparse), None);
}

#[test]
fn pods_have_their_slots() {
    let mut pods = PodCounts::default();
    for index in 0..64 {
        pods.add(&format!("checkout-7d9f8c-{index:05}"), counts(10.0, 1.0));
    }
    assert_eq!(pods.all(), counts(640.0, 64.0));
    assert_eq!(pods.served().count(), POD_SLOTS, "{pods:?}");
    assert!(pods.effective() > 5.0);
}

proptest! {
    #[test]
    fn the_effect_is_a_number_from_one_up(
        blocks in prop::collection::vec((0.0..1e9f64, 0.0..=1.0f64, 0.0..1e9f64, 0.0..=1.0f64), 0..20),
    ) {
        let mut seen = Clustering::default();
        let (mut canary, mut stable) = (Counts::default(), Counts::default());
        for (index, (n_c, s_c, n_p, s_p)) in blocks.into_iter().enumerate() {
            let (c, p) = (counts(n_c, n_c * s_c), counts(n_p, n_p * s_p));
            let mut pods = PodCounts::default();
            pods.add(&format!("pod-{index}"), c);
            seen.absorb(p, &pods, &PodCounts::default(), false);
            canary = canary.plus(c);
            stable = stable.plus(p);
            let effect = seen.design_effect(canary, stable);
            prop_assert!(effect >= 1.0 && effect.is_finite(), "{effect}");
        }
        let text = serde_json::to_string(&seen).unwrap();
        prop_assert_eq!(serde_json::from_str::<Clustering>(&text).unwrap(), seen);
    }
}

#[test]
fn an_incident_of_everybody_is_no_cluster() {
    let none = PodCounts::default();
    let calm = Counts::new(400.0, 1.0).unwrap();
    let bad = Counts::new(400.0, 120.0).unwrap();
    let after = |flagged: bool| {
        let mut seen = Clustering::default();
        let mut all = Counts::default();
        for block in 0..30 {
            // It is known of an incident once its first block has been read, and of its end one block after it.
            let (stable, incident) = match block {
                10 => (bad, false),
                11..=12 => (bad, flagged),
                13..=14 => (calm, flagged),
                _ => (calm, false),
            };
            seen.absorb(stable, &none, &none, incident);
            all = all.plus(stable);
        }
        seen.within_blocks(all)
    };
    assert!(after(false) > 0.01, "{}", after(false));
    assert!(after(true) <= ASSUMED, "{}", after(true));
}
