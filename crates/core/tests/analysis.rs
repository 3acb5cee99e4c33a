//! What the evidence forbids and allows, through the public interface.

#![expect(clippy::float_cmp, reason = "where these tests say equal they mean every bit")]

use jiff::{SignedDuration, Timestamp};
use molt_core::analysis::{
    Block, Counts, Evidence, HarmKind, Limits, Objective, PodCounts, SloView, WATCH, judge_harm,
    margin_for_promotion, margin_for_step, safe_for_promotion, safe_for_step,
};
use proptest::prelude::*;

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn objective(percent: &str) -> Objective {
    Objective::parse(percent, DAY * 30).unwrap()
}

/// Evidence of equal blocks at a weight of 10 %.
fn evidence(blocks: i32, canary: (f64, f64), stable: (f64, f64)) -> Evidence {
    let mut evidence = Evidence::default();
    evidence.know_correlation(0.0);
    for index in 0..blocks {
        let start = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(10) * index;
        evidence.absorb(&Block {
            start,
            end: start + SignedDuration::from_secs(10),
            canary_weight: 10,
            weight_in_force: true,
            canary: Counts::new(canary.0, canary.1).unwrap(),
            stable: Counts::new(stable.0, stable.1).unwrap(),
            canary_pods: PodCounts::default(),
            stable_pods: PodCounts::default(),
            at_route: None,
            reference: None,
        });
    }
    evidence
}

fn view<'a>(
    name: &'a str,
    objective: &'a Objective,
    requests: Option<f64>,
    evidence: &'a Evidence,
) -> SloView<'a> {
    SloView {
        name,
        objective,
        expected_requests: requests,
        may_spend: Limits::default().max_budget_spend(),
        evidence,
    }
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-9 * b.abs(), "{a} is not {b}");
}

#[test]
fn limits_are_probabilities_and_a_share() {
    assert!(Limits::new(0.01, 0.95, 0.02).is_some() && Limits::new(0.01, 0.95, 1.0).is_some());
    for bad in [0.0, 1.0, -0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert_eq!(Limits::new(bad, 0.95, 0.02), None);
        assert_eq!(Limits::new(0.01, bad, 0.02), None);
    }
    for bad in [0.0, -0.1, 1.1, f64::NAN] {
        assert_eq!(Limits::new(0.01, 0.95, bad), None);
    }
    close(Limits::default().ln_harm_needed(1), 100f64.ln());
    close(Limits::default().ln_harm_needed(3), 300f64.ln());
    close(Limits::default().ln_safe_needed(), 20f64.ln());
}

#[test]
fn margins_are_what_the_budget_affords() {
    let limits = Limits::default();
    // 0.005 · 0.001 · 2 592 000 s / (0.5 · 300 s), and 0.02 · 0.001 · 2 592 000 s / 3600 s.
    close(margin_for_step(&objective("99.9"), 0.5), 0.0864);
    close(margin_for_promotion(&objective("99.9"), &limits, WATCH), 0.0144);
    // Never below what is allowed anyway, never above a half.
    close(margin_for_promotion(&objective("99.9"), &limits, DAY * 30), 0.001);
    close(margin_for_step(&objective("90"), 0.05), 0.5);
    close(margin_for_promotion(&objective("50"), &limits, WATCH), 0.5);
    for odd in [0.0, -1.0, f64::NAN] {
        assert!((0.001..=0.5).contains(&margin_for_step(&objective("99.9"), odd)));
    }
    assert!(margin_for_promotion(&objective("99.9"), &limits, SignedDuration::ZERO) <= 0.5);
}

#[test]
fn each_objective_needs_more_evidence_beside_others() {
    let (objective, limits) = (objective("99"), Limits::default());
    let healthy = evidence(3, (40.0, 0.0), (360.0, 0.0));
    let mut harmed = None;
    for quarters in 1..=160 {
        let one = evidence(1, (40.0, f64::from(quarters) / 4.0), (360.0, 0.0));
        if one.ln_harm() > 100f64.ln() && one.ln_harm() < 200f64.ln() {
            harmed = Some(one);
        }
    }
    let harmed = harmed.expect("some count lies between the two thresholds");
    let alone = judge_harm(&[view("availability", &objective, None, &harmed)], &limits).unwrap();
    assert_eq!(
        (alone.slo.as_str(), alone.kind),
        ("availability", HarmKind::Evidence)
    );
    let two = [
        view("latency", &objective, None, &healthy),
        view("availability", &objective, None, &harmed),
    ];
    assert_eq!(judge_harm(&two, &limits), None);
    let worse = evidence(1, (40.0, 40.0), (360.0, 0.0));
    let two = [
        view("latency", &objective, None, &healthy),
        view("availability", &objective, None, &worse),
    ];
    let harm = judge_harm(&two, &limits).unwrap();
    assert_eq!(harm.slo, "availability");
    assert!(
        harm.to_string()
            .starts_with("availability: 100.00 % of 40 requests"),
        "{harm}"
    );
}

#[test]
fn a_spent_budget_needs_no_proof_of_harm() {
    let (objective, limits) = (objective("99.9"), Limits::default());
    // Slightly worse than stable: 12 more bad ones than its share, of a budget share of 10.
    let slight = evidence(10, (1000.0, 2.2), (9000.0, 9.0));
    assert!(slight.ln_harm() < 100f64.ln());
    let harm = |requests| {
        judge_harm(&[view("availability", &objective, requests, &slight)], &limits).map(|h| h.kind)
    };
    assert_eq!(harm(Some(500_000.0)), Some(HarmKind::BudgetSpent));
    assert_eq!(harm(Some(700_000.0)), None);
    for unknown in [None, Some(0.0), Some(f64::NAN)] {
        assert_eq!(harm(unknown), None);
    }
}

#[test]
fn a_few_unlucky_requests_of_a_small_budget_need_some_proof() {
    let (objective, limits) = (objective("99.9"), Limits::default());
    // Two per cent of the budget are two events.
    let small = Some(100_000.0);
    let judged = |canary| {
        let evidence = evidence(1, canary, (3600.0, 36.0));
        (
            evidence.ln_harm(),
            judge_harm(&[view("availability", &objective, small, &evidence)], &limits),
        )
    };
    let (ln, unlucky) = judged((400.0, 6.5));
    assert!(ln < 5f64.ln() && unlucky.is_none(), "{ln} {unlucky:?}");
    let (ln, worse) = judged((400.0, 11.5));
    assert!(ln > 5f64.ln() && ln < 100f64.ln(), "{ln}");
    assert_eq!(worse.map(|h| h.kind), Some(HarmKind::BudgetSpent));
}

#[test]
fn the_objective_that_lacks_most_is_named() {
    let (objective, limits) = (objective("99.9"), Limits::default());
    let enough = evidence(100, (400.0, 0.0), (3600.0, 0.0));
    let little = evidence(1, (40.0, 0.0), (360.0, 0.0));
    let slos = [
        view("availability", &objective, None, &enough),
        view("latency", &objective, None, &little),
    ];
    let lack = safe_for_promotion(&slos, &limits, WATCH).unwrap_err();
    assert_eq!(lack.slo, "latency");
    assert!(lack.ln_safe < limits.ln_safe_needed() && lack.canary_requests == 40.0);
    assert_eq!(safe_for_promotion(&slos[..1], &limits, WATCH), Ok(()));
    assert_eq!(safe_for_step(&slos[..1], &limits, 0.5), Ok(()));
}

#[test]
fn no_data_is_no_success() {
    let (objective, limits) = (objective("99"), Limits::default());
    let nothing = Evidence::default();
    let none = [view("availability", &objective, Some(1e9), &nothing)];
    assert!(
        safe_for_step(&none, &limits, 0.1).is_err() && safe_for_promotion(&none, &limits, WATCH).is_err()
    );
    assert!(safe_for_step(&[], &limits, 0.1).is_err() && safe_for_promotion(&[], &limits, WATCH).is_err());
    assert_eq!(judge_harm(&none, &limits), None);
    assert_eq!(judge_harm(&[], &limits), None);
}

#[test]
fn below_the_grid_nothing_can_be_shown() {
    let tiny = Objective::parse("99.999999", DAY).unwrap();
    let much = evidence(100, (1e6, 0.0), (1e6, 0.0));
    let lack = safe_for_promotion(&[view("x", &tiny, None, &much)], &Limits::default(), DAY).unwrap_err();
    assert_eq!(lack.ln_safe, f64::NEG_INFINITY);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever stable does, a canary without a request is neither good nor bad.
    #[test]
    fn no_data_neither_promotes_nor_rolls_back(
        stable in (0.0..1e6f64, 0.0..=1.0f64), blocks in 0..30i32, requests in prop::option::of(0.0..1e9f64),
        percent in prop::sample::select(vec!["50", "99", "99.9", "99.99"]), next in 0.01..=1.0f64,
    ) {
        let (objective, limits) = (objective(percent), Limits::default());
        let evidence = evidence(blocks, (0.0, 0.0), (stable.0, stable.0 * stable.1));
        let slos = [view("a", &objective, requests, &evidence)];
        // Nothing of its quality; but a canary that has weight and completes nothing does not answer.
        let harm = judge_harm(&slos, &limits).map(|harm| harm.kind);
        prop_assert!(matches!(harm, None | Some(HarmKind::MissingResponses)), "{harm:?}");
        prop_assert!(safe_for_step(&slos, &limits, next).is_err());
        prop_assert!(safe_for_promotion(&slos, &limits, WATCH).is_err());
    }

    /// One objective without data holds all the others back.
    #[test]
    fn one_objective_without_data_holds_the_others(place in 0..3usize, next in 0.01..=1.0f64) {
        let (objective, limits) = (objective("99"), Limits::default());
        let (enough, nothing) = (evidence(100, (400.0, 0.0), (3600.0, 0.0)), Evidence::default());
        let mut slos = vec![view("good", &objective, None, &enough); 2];
        prop_assert!(safe_for_step(&slos, &limits, next).is_ok());
        slos.insert(place, view("silent", &objective, None, &nothing));
        prop_assert_eq!(safe_for_step(&slos, &limits, next).unwrap_err().slo, "silent");
        prop_assert_eq!(safe_for_promotion(&slos, &limits, WATCH).unwrap_err().slo, "silent");
    }
}
