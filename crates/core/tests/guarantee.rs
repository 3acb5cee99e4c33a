//! The guarantee of what decides, by exact enumeration: whatever the true rates are under the null hypothesis,
//! the expectation of the evidence is at most 1. And what is no evidence never becomes any.

use jiff::{SignedDuration, Timestamp};
use molt_core::analysis::{
    Block, Counts, Evidence, Limits, Objective, Past, PodCounts, Sample, Series, SloView, WATCH, increase,
    judge_harm, safe_for_promotion,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

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
    fn walk(evidence: &Evidence, index: i64, blocks: &[Truth], value: &dyn Fn(&Evidence) -> f64) -> f64 {
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
                sum += chance * walk(&next, index + 1, rest, value);
            }
        }
        sum
    }
    walk(start, 0, blocks, value)
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
        -0.0,
        0.0,
        3.0,
        1e17,
        1e300,
    ];
    prop::sample::select(values.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// From raw samples to the verdict: NaN, negative, infinite, reset and impossible counts never panic and
    /// never promote.
    #[test]
    fn garbage_never_panics_and_never_promotes(
        values in prop::collection::vec(prop::array::uniform4(garbage()), 30..60),
        weight in 1..=100u8, expected in prop::option::of(garbage()),
    ) {
        let series = |index: usize, pod: &str| Series {
            pod: pod.to_owned(),
            key: "requests".to_owned(),
            samples: (0..).zip(&values).map(|(i, v)| Sample { at: at(15 * i), value: v[index] }).collect(),
        };
        let births = BTreeMap::from([("c".to_owned(), at(-5)), ("s".to_owned(), at(-5))]);
        let mut evidence = Evidence::default();
        for (block, _) in (0..).zip(&values[1..]) {
            let read = |index: usize, pod: &str| {
                increase(&[series(index, pod)], &births, at(-60), at(15 * block), at(15 * (block + 1)))
            };
            // What can't be counted can't be read: the block says nothing.
            let canary = Counts::new(read(0, "c"), read(1, "c"));
            let stable = Counts::new(read(2, "s"), read(3, "s"));
            let (Some(canary), Some(stable)) = (canary, stable) else { continue };
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
