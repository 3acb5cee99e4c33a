//! The guarantee of what decides, by exact enumeration: whatever the true rates are under the null hypothesis,
//! the expectation of the evidence is at most 1. And what is no evidence never becomes any.

use jiff::{SignedDuration, Timestamp};
use molt_core::analysis::{
    Block, Counts, Evidence, Limits, Objective, Past, PodCounts, Sample, Series, SloView, WATCH, increase,
    judge_harm, safe_for_promotion,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What happens after a block.
type After<'a> = &'a dyn Fn(&mut Evidence, i64);
/// What is asked of the evidence then.
type Value<'a> = &'a dyn Fn(&Evidence) -> f64;

/// One block of the truth: requests of both arms, and the chance that one is bad.
#[derive(Clone, Copy, Debug)]
struct Truth {
    n_c: u32,
    n_p: u32,
    p_c: f64,
    p_p: f64,
    /// The canary has all the traffic, beside this reference.
    reference: Option<f64>,
    /// So many of the canary's requests are read after stable's.
    late: u32,
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn counts(total: u32, bad: u32) -> Counts {
    Counts::new(f64::from(total), f64::from(bad)).unwrap()
}

fn binomial(n: u32, k: u32, p: f64) -> f64 {
    let choose = (0..k).fold(1.0, |all, i| all * f64::from(n - i) / f64::from(i + 1));
    choose * p.powi(k.cast_signed()) * (1.0 - p).powi((n - k).cast_signed())
}

/// Requests dealt out to three pods in turn, so that pods differ as they would by chance.
fn pods(total: u32, bad: u32) -> PodCounts {
    let mut pods = PodCounts::default();
    for (index, name) in (0..).zip(["a", "b", "c"]) {
        let share = |n: u32| (n + 2 - index) / 3;
        pods.add(name, counts(share(total), share(bad).min(share(total))));
    }
    pods
}

/// `Σ P·E` over every outcome of the blocks, each with its own rates: rates may drift and weights change.
fn expectation(start: &Evidence, blocks: &[Truth], value: &dyn Fn(&Evidence) -> f64) -> f64 {
    expectation_with(start, blocks, &|_, _| {}, value)
}

/// The same, with what is done to the evidence after each block, by its index.
fn expectation_with(
    start: &Evidence,
    blocks: &[Truth],
    after: &dyn Fn(&mut Evidence, i64),
    value: &dyn Fn(&Evidence) -> f64,
) -> f64 {
    fn walk(
        evidence: &Evidence,
        index: i64,
        blocks: &[Truth],
        (after, value): (After<'_>, Value<'_>),
    ) -> f64 {
        let Some((truth, rest)) = blocks.split_first() else {
            return value(evidence).exp();
        };
        let mut sum = 0.0;
        let (early, late) = (truth.n_c - truth.late, truth.late);
        for (e_early, e_late) in (0..=early).flat_map(|e| (0..=late).map(move |l| (e, l))) {
            for e_p in 0..=truth.n_p {
                let chance = binomial(early, e_early, truth.p_c)
                    * binomial(late, e_late, truth.p_c)
                    * binomial(truth.n_p, e_p, truth.p_p);
                if chance <= 0.0 {
                    continue;
                }
                let e_c = e_early + e_late;
                let mut next = evidence.clone();
                next.absorb(&Block {
                    start: at(15 * index),
                    end: at(15 * (index + 1)),
                    canary_weight: if truth.reference.is_some() { 100 } else { 10 },
                    weight_in_force: true,
                    weight_settled: true,
                    at_route: None,
                    canary: counts(truth.n_c, e_c),
                    canary_late: counts(late, e_late),
                    stable: counts(truth.n_p, e_p),
                    canary_pods: pods(truth.n_c, e_c),
                    stable_pods: pods(truth.n_p, e_p),
                    reference: truth.reference,
                });
                after(&mut next, index);
                sum += chance * walk(&next, index + 1, rest, (after, value));
            }
        }
        sum
    }
    walk(start, 0, blocks, (after, value))
}

/// An attempt at its start: with a history that shows this correlation, or without one.
fn begun(correlation: Option<f64>) -> Evidence {
    let mut evidence = Evidence::for_margins(&[0.01, 0.1, 0.3]);
    if let Some(correlation) = correlation {
        let served = counts(40, 2);
        evidence.know(&Past {
            served,
            correlation: Some(correlation),
            ..Past::default()
        });
    }
    evidence
}

fn any_history() -> impl Strategy<Value = Option<f64>> {
    prop::sample::select(vec![None, Some(0.0), Some(0.3)])
}

/// A block in which the canary is no worse, or serves nothing.
fn no_worse(most_c: u32, most_p: u32) -> impl Strategy<Value = Truth> {
    (0..=most_c, 1..=most_p, 0.0..=1.0f64, 0.0..=1.0f64, any::<bool>()).prop_map(
        |(n_c, n_p, p, better, equal)| Truth {
            n_c,
            n_p,
            p_c: if equal { p } else { p * better },
            p_p: p,
            reference: None,
            late: 0,
        },
    )
}

/// The canary alone, no worse than the reference.
fn alone() -> impl Strategy<Value = Truth> {
    (1..=5u32, 0.0..1.0f64, 0.0..=1.0f64).prop_map(|(n_c, reference, better)| Truth {
        n_c,
        n_p: 0,
        p_c: reference * better,
        p_p: 0.0,
        reference: Some(reference),
        late: 0,
    })
}

/// A block in which the canary is worse by the margin, or by more.
fn unsafe_by(margin: f64) -> impl Strategy<Value = Truth> {
    (1..=4u32, 1..=4u32, 0.0..=1.0f64, 0.0..0.2f64).prop_map(move |(n_c, n_p, p, more)| {
        let p_p = p * (1.0 - margin);
        Truth {
            n_c,
            n_p,
            p_c: (p_p + margin + (more - 0.1).max(0.0)).min(1.0),
            p_p,
            reference: None,
            late: 0,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_evidence_for_harm_that_decides_is_a_supermartingale(
        blocks in prop::collection::vec(no_worse(4, 5), 1..3), history in any_history(),
    ) {
        let e = expectation(&begun(history), &blocks, &Evidence::ln_harm);
        prop_assert!(e <= 1.0 + 1e-9, "{e}");
        let e = expectation(&begun(history), &blocks, &Evidence::ln_harm_from_start);
        prop_assert!(e <= 1.0 + 1e-9, "{e}");
    }

    #[test]
    fn it_stays_one_over_many_small_blocks(blocks in prop::collection::vec(no_worse(1, 1), 3..7)) {
        let e = expectation(&begun(Some(0.0)), &blocks, &Evidence::ln_harm);
        prop_assert!(e <= 1.0 + 1e-9, "{e}");
    }

    #[test]
    fn it_stays_one_where_the_canarys_last_requests_wait_for_stable(
        (p, better) in (0.0..=1.0f64, 0.0..=1.0f64), history in any_history(),
        parts in prop::collection::vec((0..=4u32, 0..=2u32, 1..=3u32), 1..3),
    ) {
        let truth = |(early, late, n_p): (u32, u32, u32)| Truth {
            n_c: early + late,
            n_p,
            p_c: p * better,
            p_p: p,
            reference: None,
            late,
        };
        let blocks: Vec<Truth> = parts.into_iter().map(truth).collect();
        let e = expectation(&begun(history), &blocks, &Evidence::ln_harm);
        prop_assert!(e <= 1.0 + 1e-9, "{e}");
    }

    /// Blocks in which stable's rate changes are bet on when the next one has come: as the bet was made before.
    #[test]
    fn it_stays_one_where_stables_rate_flips(
        (low, high, better) in (0.0..0.2f64, 0.8..=1.0f64, 0.0..=1.0f64),
        equal in any::<bool>(), history in any_history(), late in 0..=1u32,
    ) {
        let truth = |flip: u32| {
            let p_p = if flip.is_multiple_of(2) { low } else { high };
            let p_c = if equal { p_p } else { p_p * better };
            Truth { n_c: 3, n_p: 6, p_c, p_p, reference: None, late }
        };
        for first in 0..2 {
            let blocks: Vec<Truth> = (first..first + 3).map(truth).collect();
            let e = expectation(&begun(history), &blocks, &Evidence::ln_harm);
            prop_assert!(e <= 1.0 + 1e-9, "{e}");
        }
    }

    #[test]
    fn it_stays_one_into_the_bake(
        before in no_worse(3, 3), bake in prop::collection::vec(alone(), 1..3), history in any_history(),
    ) {
        let blocks: Vec<Truth> = std::iter::once(before).chain(bake).collect();
        let e = expectation(&begun(history), &blocks, &Evidence::ln_harm);
        prop_assert!(e <= 1.0 + 1e-9, "{e}");
        // What makes suspect is one as well, as long as stable would be what it was.
        let e = expectation(&begun(history), &blocks, &Evidence::ln_harm_alone);
        prop_assert!(e <= 1.0 + 1e-9, "{e}");
    }

    #[test]
    fn it_stays_one_while_both_are_compared_again(
        blocks in prop::collection::vec(no_worse(4, 5), 1..3), history in any_history(),
    ) {
        let mut suspect = begun(history);
        suspect.compare_again(2.0);
        let e = expectation(&suspect, &blocks, &Evidence::ln_harm);
        prop_assert!(e <= 1.0 + 1e-9, "{e}");
    }

    #[test]
    fn the_evidence_for_safety_that_decides_is_a_supermartingale(
        (margin, blocks) in prop::sample::select(vec![0.01, 0.1, 0.3])
            .prop_flat_map(|m| (Just(m), prop::collection::vec(unsafe_by(m), 1..3))),
        history in any_history(),
    ) {
        let e = expectation(&begun(history), &blocks, &|evidence| evidence.ln_safe_at(margin));
        prop_assert!(e <= 1.0 + 1e-9, "{e}");
    }

    /// Where stable has many more bad ones than usual, five at least, a block says nothing.
    #[test]
    fn it_stays_one_where_a_block_is_left_out_for_what_stable_did(
        (margin, n_c, n_p) in (prop::sample::select(vec![0.01, 0.1, 0.3]), 1..=4u32, 6..=12u32), p in 0.0..=1.0f64,
    ) {
        let mut start = begun(None);
        start.know(&Past { served: counts(400, 1), correlation: Some(0.0), ..Past::default() });
        let p_p = p * (1.0 - margin);
        let block = Truth { n_c, n_p, p_c: p_p + margin, p_p, reference: None, late: 0 };
        let safe = |evidence: &Evidence| evidence.ln_safe_at(margin);
        let e = expectation(&start, &[block], &safe);
        prop_assert!(e <= 1.0 + 1e-9, "{e}");
        // So it is: with all of stable's bad, nothing is won or lost.
        let sure = Truth { p_p: 1.0, p_c: 1.0, ..block };
        prop_assert!((expectation(&start, &[sure], &safe) - 1.0).abs() < 1e-12);
    }
}

/// Each incident that is over gives back what it cost the evidence for safety: the stake is then the better of what was won
/// and of one more game. So it is below the sum of as many fair games as incidents and one, and by Ville's inequality a
/// canary beyond the margin is ever shown safe with a probability of at most `(1 + incidents)·β`.
mod spent_anew {
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn each_incident_adds_one_game_and_no_more(
            (margin, blocks) in prop::sample::select(vec![0.01, 0.1, 0.3])
                .prop_flat_map(|m| (Just(m), prop::collection::vec(unsafe_by(m), 3))),
            history in any_history(), incidents in 0..=2i64,
        ) {
            let over = |evidence: &mut Evidence, index: i64| if index < incidents { evidence.incident_is_over() };
            let e = expectation_with(&begun(history), &blocks, &over, &|e| e.ln_safe_at(margin));
            prop_assert!(e <= 1.0 + incidents as f64 + 1e-9, "{e} after {incidents}");
        }
    }

    /// It is really spent: after an incident the expectation is above one.
    #[test]
    fn what_was_lost_is_given_back() {
        let truth = |p_p: f64| Truth {
            n_c: 4,
            n_p: 4,
            p_c: (p_p + 0.3).min(1.0),
            p_p,
            reference: None,
            late: 0,
        };
        let over = |evidence: &mut Evidence, index: i64| {
            if index == 0 {
                evidence.incident_is_over();
            }
        };
        let blocks = [truth(0.7), truth(0.01)];
        let spent = expectation_with(&begun(Some(0.0)), &blocks, &over, &|e| e.ln_safe_at(0.3));
        let plain = expectation(&begun(Some(0.0)), &blocks, &|e| e.ln_safe_at(0.3));
        assert!(
            plain <= 1.0 + 1e-9 && spent > plain && spent <= 2.0,
            "{plain} {spent}"
        );
    }
}

/// The expectation is no accident of evidence that never grows: under harm, and under safety, it does.
#[test]
fn what_is_true_is_found() {
    let truth = |p_c, p_p| Truth {
        n_c: 4,
        n_p: 4,
        p_c,
        p_p,
        reference: None,
        late: 0,
    };
    let harmed = expectation(&begun(Some(0.0)), &[truth(0.9, 0.01); 2], &Evidence::ln_harm);
    assert!(harmed > 10.0, "{harmed}");
    let safe = expectation(&begun(Some(0.0)), &[truth(0.01, 0.01); 2], &|e| e.ln_safe_at(0.3));
    assert!(safe > 2.0, "{safe}");
}

/// What a scrape of the two counters of a pod can bring: the truth, what is no count, or a restart of the process.
#[derive(Clone, Copy, Debug)]
enum Scraped {
    Truth,
    Garbage { total: f64, bad: f64 },
    Restart,
}

/// Values that are no counts, or that no service could have counted.
fn garbage() -> impl Strategy<Value = f64> {
    let values = [
        f64::NAN,
        f64::from_bits(0x7ff0_0000_0000_0002),
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN,
        -1.0,
        1e17,
        1e300,
    ];
    prop::sample::select(values.to_vec())
}

fn any_scrape() -> impl Strategy<Value = Scraped> {
    prop_oneof![
        8 => Just(Scraped::Truth),
        // One of the two, or both.
        3 => (prop::option::of(garbage()), garbage(), any::<bool>()).prop_map(|(other, one, first)| {
            let other = other.unwrap_or(f64::NAN);
            if first { Scraped::Garbage { total: one, bad: other } } else { Scraped::Garbage { total: other, bad: one } }
        }),
        1 => Just(Scraped::Restart),
    ]
}

/// The counters of a pod that serves `total` requests between two scrapes, of which `bad` are bad, as they are stored.
fn stored(pod: &str, scrapes: &[Scraped], total: f64, bad: f64) -> [Series; 2] {
    let mut counters = [0.0, 0.0];
    let mut samples = [Vec::new(), Vec::new()];
    for (index, scrape) in (0..).zip(scrapes) {
        counters = [counters[0] + total, counters[1] + bad];
        let values = match scrape {
            Scraped::Truth => counters,
            Scraped::Garbage { total, bad } => [*total, *bad],
            Scraped::Restart => {
                counters = [0.0, 0.0];
                counters
            }
        };
        for (samples, value) in samples.iter_mut().zip(values) {
            samples.push(Sample {
                at: at(15 * index),
                value,
            });
        }
    }
    let keys = ["requests", "bad"];
    let mut samples = samples.into_iter();
    keys.map(|key| Series {
        pod: pod.to_owned(),
        key: key.to_owned(),
        samples: samples.next().unwrap_or_default(),
    })
}

/// From raw samples to the evidence: what can't be counted can't be read, and such a block says nothing.
fn read(canary: &[Series; 2], stable: &[Series; 2], blocks: i64, weight: u8) -> Evidence {
    let births = BTreeMap::from([("c".to_owned(), at(-5)), ("s".to_owned(), at(-5))]);
    let mut evidence = Evidence::default();
    for block in 0..blocks {
        let grown = |series: &Series| {
            increase(
                std::slice::from_ref(series),
                &births,
                at(-60),
                at(15 * block),
                at(15 * (block + 1)),
            )
        };
        let counted = |[total, bad]: &[Series; 2]| Counts::new(grown(total), grown(bad));
        let (Some(canary), Some(stable)) = (counted(canary), counted(stable)) else {
            continue;
        };
        let by_pod = |counts| {
            let mut pods = PodCounts::default();
            pods.add("c", counts);
            pods
        };
        evidence.absorb(&Block {
            start: at(15 * block),
            end: at(15 * (block + 1)),
            canary_weight: weight,
            weight_in_force: true,
            weight_settled: true,
            at_route: None,
            canary,
            canary_late: Counts::default(),
            stable,
            canary_pods: by_pod(canary),
            stable_pods: by_pod(stable),
            reference: (weight == 100).then(|| evidence.stable_upper_bound()),
        });
    }
    evidence
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// NaN, negative, infinite and impossible values and restarts never panic, and never promote a canary that fails: what
    /// is between them is enough to see it.
    #[test]
    fn garbage_never_panics_and_never_promotes(
        (canary, stable) in (30..60usize).prop_flat_map(|n| {
            let scrapes = || prop::collection::vec(any_scrape(), n);
            (scrapes(), scrapes())
        }),
        failing in 0.1..1.0f64, weight in 1..=100u8, expected in prop::option::of(garbage()),
    ) {
        let blocks = i64::try_from(canary.len()).unwrap() - 1;
        let evidence = read(
            &stored("c", &canary, 30.0, (30.0 * failing).ceil()),
            &stored("s", &stable, 270.0, 0.0),
            blocks,
            weight,
        );
        let objective = Objective::parse("99.9", SignedDuration::from_hours(720)).unwrap();
        let view = SloView {
            name: "availability",
            objective: &objective,
            expected_requests: expected,
            may_spend: 0.02,
            alone: weight == 100,
            evidence: &evidence,
        };
        let limits = Limits::default();
        let _ = judge_harm(&[view], 1, &limits);
        prop_assert!(evidence.ln_harm().is_finite());
        prop_assert!(safe_for_promotion(&[view], &limits, WATCH).is_err());
    }
}

/// The test above can fail: a healthy canary behind the same garbage is promoted.
#[test]
fn what_is_between_garbage_is_enough_to_promote_a_healthy_canary() {
    let scrapes: Vec<Scraped> = (0..60)
        .map(|i| match i % 5 {
            3 => Scraped::Garbage {
                total: f64::NAN,
                bad: -1.0,
            },
            4 if i % 2 == 0 => Scraped::Restart,
            _ => Scraped::Truth,
        })
        .collect();
    let clean = stored("s", &scrapes, 270.0, 0.0);
    let evidence = read(&stored("c", &scrapes, 30.0, 0.0), &clean, 59, 10);
    let objective = Objective::parse("99.9", SignedDuration::from_hours(720)).unwrap();
    let view = SloView {
        name: "availability",
        objective: &objective,
        expected_requests: None,
        may_spend: 0.02,
        alone: false,
        evidence: &evidence,
    };
    assert!(safe_for_promotion(&[view], &Limits::default(), WATCH).is_ok());
}
