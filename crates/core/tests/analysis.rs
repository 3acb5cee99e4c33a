//! What the evidence forbids and allows, through the public interface.

#![expect(clippy::float_cmp, reason = "where these tests say equal they mean every bit")]

use jiff::{SignedDuration, Timestamp};
use molt_core::analysis::{
    Block, Counts, Evidence, HarmKind, Limits, Objective, PodCounts, SloView, Unanswered, WATCH, affordable,
    judge_harm, ln_harm_factor, margin_for_promotion, margin_for_step, plug_in, safe_for_promotion,
    safe_for_step,
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
            canary: Counts::new(canary.0, canary.1).unwrap(),
            stable: Counts::new(stable.0, stable.1).unwrap(),
            ..beside()
        });
    }
    evidence
}

/// A block of a weight of 10 % without requests.
fn beside() -> Block {
    Block {
        start: Timestamp::UNIX_EPOCH,
        end: Timestamp::UNIX_EPOCH,
        canary_weight: 10,
        weight_in_force: true,
        weight_settled: true,
        canary: Counts::default(),
        stable: Counts::default(),
        canary_late: Counts::default(),
        canary_pods: PodCounts::default(),
        stable_pods: PodCounts::default(),
        at_route: None,
        reference: None,
    }
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
        alone: false,
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
        let one = evidence(2, (20.0, f64::from(quarters) / 8.0), (180.0, 0.0));
        if one.ln_harm() > 100f64.ln() && one.ln_harm() < 200f64.ln() {
            harmed = Some(one);
        }
    }
    let harmed = harmed.expect("some count lies between the two thresholds");
    let alone = judge_harm(&[view("availability", &objective, None, &harmed)], 1, &limits).unwrap();
    assert_eq!(
        (alone.slo.as_str(), alone.kind),
        ("availability", HarmKind::Evidence)
    );
    // Nor is the other one's silence a reason to ask for less.
    let unread = judge_harm(&[view("availability", &objective, None, &harmed)], 2, &limits);
    assert_eq!(unread, None);
    let two = [
        view("latency", &objective, None, &healthy),
        view("availability", &objective, None, &harmed),
    ];
    assert_eq!(judge_harm(&two, 2, &limits), None);
    let worse = evidence(1, (40.0, 40.0), (360.0, 0.0));
    let two = [
        view("latency", &objective, None, &healthy),
        view("availability", &objective, None, &worse),
    ];
    let harm = judge_harm(&two, 2, &limits).unwrap();
    assert_eq!(harm.slo, "availability");
    assert!(
        harm.to_string()
            .starts_with("availability: 100.00 % of 40 requests"),
        "{harm}"
    );
}

#[test]
fn a_spent_budget_needs_no_proof_of_harm_but_more_than_chance() {
    let (objective, limits) = (objective("99.9"), Limits::default());
    // Slightly worse than stable: 37 more bad ones than its share, more than chance does, of a budget share of 30.
    let slight = evidence(10, (10_000.0, 13.7), (90_000.0, 90.0));
    assert!(slight.ln_harm() < 100f64.ln());
    let harm = |requests| {
        judge_harm(&[view("availability", &objective, requests, &slight)], 1, &limits).map(|h| h.kind)
    };
    assert_eq!(harm(Some(1_500_000.0)), Some(HarmKind::BudgetSpent));
    assert_eq!(harm(Some(2_500_000.0)), None);
    let chance = evidence(10, (10_000.0, 13.0), (90_000.0, 90.0));
    let harm_by_chance = judge_harm(
        &[view("availability", &objective, Some(1_000_000.0), &chance)],
        1,
        &limits,
    );
    assert_eq!(harm_by_chance, None);
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
        let evidence = evidence(1, canary, (36_000.0, 360.0));
        (
            evidence.ln_harm(),
            judge_harm(&[view("availability", &objective, small, &evidence)], 1, &limits),
        )
    };
    let (ln, unlucky) = judged((4_000.0, 50.0));
    assert!(ln < 5f64.ln() && unlucky.is_none(), "{ln} {unlucky:?}");
    let (ln, worse) = judged((4_000.0, 65.0));
    assert!(ln > 5f64.ln() && ln < 100f64.ln(), "{ln}");
    assert_eq!(worse.map(|h| h.kind), Some(HarmKind::BudgetSpent));
}

#[test]
fn a_few_certain_failures_beyond_a_small_budget_are_no_chance() {
    let (objective, limits) = (objective("99.9"), Limits::default());
    // Two per cent of the budget are two events.
    let small = Some(100_000.0);
    let kind = |canary: (f64, f64), stable: (f64, f64)| {
        let mut evidence = Evidence::default();
        evidence.know_correlation(0.05);
        for index in 0..4 {
            let start = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(10) * index;
            // The canary fails in the last block alone.
            let bad = if index == 3 { canary.1 } else { 0.0 };
            evidence.absorb(&Block {
                start,
                end: start + SignedDuration::from_secs(10),
                canary: Counts::new(canary.0, bad).unwrap(),
                stable: Counts::new(stable.0, stable.1).unwrap(),
                ..beside()
            });
        }
        let judged = judge_harm(&[view("availability", &objective, small, &evidence)], 1, &limits);
        (evidence.ln_harm(), judged.map(|harm| harm.kind))
    };
    // Four of eight, where stable has none of 1,200: there is no proof of harm among requests that may be one cluster.
    let (ln, certain) = kind((8.0, 4.0), (300.0, 0.0));
    assert!(ln > 5f64.ln() && ln < 100f64.ln(), "{ln}");
    assert_eq!(certain, Some(HarmKind::BudgetSpent));
    // At a stable that fails one in twenty they are bad luck.
    assert_eq!(kind((8.0, 4.0), (300.0, 15.0)).1, None);
    assert_eq!(kind((8.0, 1.0), (300.0, 0.0)).1, None);
}

/// Of several workers behind one endpoint one has answered, and had the only bad requests.
#[test]
fn the_first_seconds_of_counters_convict_by_the_square() {
    let (objective, limits) = (objective("99"), Limits::default());
    let kind = |blocks, canary, stable| {
        let evidence = evidence(blocks, canary, stable);
        let judged = judge_harm(&[view("availability", &objective, None, &evidence)], 1, &limits);
        (evidence.ln_harm(), judged.map(|harm| harm.kind))
    };
    let (ln, young) = kind(1, (12.0, 3.0), (258.0, 1.0));
    assert!(ln > 100f64.ln() && young.is_none(), "{ln} {young:?}");
    assert_eq!(kind(2, (12.0, 3.0), (258.0, 1.0)).1, Some(HarmKind::Evidence));
    assert_eq!(
        kind(1, (15.0, 15.0), (285.0, 0.0)).1,
        Some(HarmKind::Evidence),
        "an outage"
    );
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
    assert_eq!(judge_harm(&none, 1, &limits), None);
    assert_eq!(judge_harm(&[], 0, &limits), None);
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
        let harm = judge_harm(&slos, 1, &limits).map(|harm| harm.kind);
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

#[test]
fn a_move_that_could_spend_more_than_is_left_is_not_affordable() {
    let (objective, limits) = (objective("99.9"), Limits::default());
    let nothing = Evidence::default();
    let minute = SignedDuration::from_secs(60);
    let at = |evidence: &Evidence, next: f64, time| {
        let slos = [view("a", &objective, Some(1e9), evidence)];
        affordable(&slos, &limits, next, time, Unanswered::Ignored)
    };
    // U = 1 while nothing is known: 1 · 0.05 · 60 s / (0.001 · 2 592 000 s) = 0.116 % of the budget.
    assert_eq!(at(&nothing, 0.05, minute), Ok(()));
    let over = at(&nothing, 1.0, minute).unwrap_err();
    close(over.could_spend, 60.0 / 2592.0);
    close(over.left, 0.02);
    // What is shown bounds what could be spent: U · 1 · 3600 s / 2592 s.
    let much = evidence(100, (1000.0, 1.0), (9000.0, 9.0));
    let upper = much.harm_upper_margin(limits.ln_safe_needed());
    assert!((0.0001..0.002).contains(&upper), "{upper}");
    assert_eq!(at(&much, 1.0, minute * 10), Ok(()));
    // What is spent is no longer left: x − F.
    let spent = evidence(10, (1000.0, 2.2), (9000.0, 9.0));
    let mut slo = view("a", &objective, Some(1e6), &spent);
    let over = |slo| affordable(&[slo], &limits, 1.0, DAY, Unanswered::Ignored).unwrap_err();
    close(over(slo).left, 0.02 - spent.attributable_bad() / 1000.0);
    slo.expected_requests = None;
    close(over(slo).left, 0.02);
}

#[test]
fn requests_that_nobody_saw_answered_are_spent_and_would_be_again() {
    let (objective, limits) = (objective("99.9"), Limits::default());
    // Half of the 1,000 that are due in each block.
    let hangs = evidence(100, (500.0, 0.0), (9000.0, 0.0));
    close(hangs.missing(), 50_000.0);
    let minute = SignedDuration::from_secs(60);
    let at = |requests, next, time, unanswered| {
        let slos = [view("a", &objective, Some(requests), &hangs)];
        affordable(&slos, &limits, next, time, unanswered)
    };
    // 50,000 of a budget of 5,000,000 are half of what it may spend.
    let over = at(5e9, 1.0, minute, Unanswered::Failed).unwrap_err();
    close(over.left, 0.02 - 0.01);
    close(over.unanswered, 50_000.0);
    // One half of its requests would go on failing: 0.5 · 1 · 60 s / 2592 s, and what else is not ruled out.
    let upper = hangs.harm_upper_margin(limits.ln_safe_needed());
    close(over.could_spend, (0.5 + upper) * 60.0 / 2592.0);
    assert_eq!(at(5e9, 1.0, minute, Unanswered::Ignored), Ok(()));
    assert_eq!(at(5e9, 0.25, minute, Unanswered::Failed), Ok(()));
    // Never more than all of them, and nothing of a budget that nobody knows.
    let over = at(0.0, 1.0, DAY, Unanswered::Failed).unwrap_err();
    assert!(over.could_spend <= 86_400.0 / 2592.0);
    close(over.left, 0.02);
    // A canary that answers all of them is not touched by it.
    let answers = evidence(100, (1000.0, 1.0), (9000.0, 9.0));
    let slos = [view("a", &objective, Some(1e9), &answers)];
    let [ignored, failed] = [Unanswered::Ignored, Unanswered::Failed]
        .map(|unanswered| affordable(&slos, &limits, 1.0, DAY * 30, unanswered).unwrap_err());
    assert_eq!(ignored, failed);
}

#[test]
fn a_burn_that_pages_needs_real_spend_and_some_evidence_while_stable_serves() {
    let (objective, limits) = (objective("99.9"), Limits::default());
    // 1.2 % of the canary's requests where stable had 1.0 %: 12 times the budget's rate, and hardly worse.
    let unlucky = evidence(20, (400.0, 4.8), (3600.0, 36.0));
    let alike = evidence(20, (400.0, 4.8), (3600.0, 0.0));
    assert!(unlucky.canary_pages(&objective).is_some() && unlucky.ln_harm() < 5f64.ln());
    let kind = |evidence: &Evidence, requests: f64, alone: bool| {
        let mut slo = view("a", &objective, Some(requests), evidence);
        slo.alone = alone;
        judge_harm(&[slo], 1, &limits).map(|harm| harm.kind)
    };
    // 16 beyond stable's of 96: a quarter of x is 5 events of 1,000,000 requests' budget, and chance does as much.
    assert_eq!(kind(&unlucky, 1e6, false), None);
    assert_eq!(kind(&unlucky, 1e6, true), None);
    // Where stable has no failure, the evidence is there anyway; alone, spend that is no chance is enough.
    assert_eq!(kind(&alike, 1e9, false), Some(HarmKind::Evidence));
    assert_eq!(kind(&alike, 1e7, true), Some(HarmKind::BurnRate));
    assert_eq!(kind(&alike, 4e7, true), None);
    // A few events are spent by bad luck, also where nobody serves beside the canary.
    let few = evidence(1, (400.0, 6.5), (3600.0, 36.0));
    assert_eq!(kind(&few, 1e5, false), None);
    assert_eq!(kind(&few, 1e5, true), None);
    let more = evidence(1, (400.0, 18.5), (3600.0, 36.0));
    assert_eq!(kind(&more, 1e5, true), Some(HarmKind::BudgetSpent));
}

/// A service that burns its budget all the time: a healthy revision in its bake does as well.
#[test]
fn a_burn_that_is_usual_is_no_reason_to_suspect_who_has_all_the_traffic() {
    let (objective, limits) = (objective("99.9"), Limits::default());
    let mut beside = evidence(20, (30.0, 0.3), (270.0, 2.7));
    let mut bake = |bad: f64| {
        let start = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(200);
        beside.absorb(&Block {
            start,
            end: start + SignedDuration::from_mins(5),
            canary_weight: 100,
            weight_in_force: true,
            weight_settled: true,
            canary: Counts::new(3000.0, bad).unwrap(),
            canary_late: Counts::default(),
            stable: Counts::default(),
            canary_pods: PodCounts::default(),
            stable_pods: PodCounts::default(),
            at_route: None,
            reference: Some(0.012),
        });
        let mut slo = view("a", &objective, Some(2.6e6), &beside);
        slo.alone = true;
        // Nothing was left of the budget when it began.
        slo.may_spend *= 0.1;
        judge_harm(&[slo], 1, &limits).map(|harm| harm.kind)
    };
    assert_eq!(
        bake(45.0),
        None,
        "nine more than the usual, and five are all it may spend"
    );
}

/// The design's vector of one bet alone, on five times stable's rate.
#[test]
fn vectors_of_the_bet_on_a_ratio_of_five() {
    let blocks = [
        ([30.0, 0.0], [270.0, 3.0], -1.043_694_19),
        ([31.0, 1.0], [265.0, 2.0], -0.480_657_98),
        ([28.0, 2.0], [272.0, 4.0], 0.872_049_26),
        ([30.0, 3.0], [268.0, 1.0], 4.438_254_15),
        ([29.0, 2.0], [271.0, 3.0], 6.062_056_47),
    ];
    let (mut ln, mut before) = (0.0, Counts::default());
    for ([n_c, e_c], [n_p, e_p], cumulative) in blocks {
        let (canary, stable) = (Counts::new(n_c, e_c).unwrap(), Counts::new(n_p, e_p).unwrap());
        let rate = plug_in(before);
        ln += ln_harm_factor(canary, stable, (5.0 * rate).min(0.95), rate);
        before = before.plus(stable);
        assert!((ln - cumulative).abs() < 1e-8, "{ln} is not {cumulative}");
    }
}

/// What a bettor who knew both rates would take at 20 requests a second, a tenth of them at the canary, from 1 %
/// to 5 %: 67 s. No engine decides sooner on average.
#[test]
fn the_detection_floor_is_that_of_the_design() {
    let second = |n: f64, p: f64| Counts::new(n, n * p).unwrap();
    let each_second = ln_harm_factor(second(2.0, 0.05), second(18.0, 0.01), 0.05, 0.01);
    let floor = 100f64.ln() / each_second;
    assert!((67.0..68.0).contains(&floor), "{floor}");
}
