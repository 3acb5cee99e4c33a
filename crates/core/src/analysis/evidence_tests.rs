use super::super::safety::MOST_MARGINS;
use super::*;
use jiff::SignedDuration;
use proptest::prelude::*;

/// The `index`-th block of ten seconds.
fn block(index: i32, canary: (f64, f64), stable: (f64, f64)) -> Block {
    let start = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(10) * index;
    Block {
        start,
        end: start + SignedDuration::from_secs(10),
        canary_weight: 10,
        weight_in_force: true,
        weight_settled: true,
        canary: Counts::new(canary.0, canary.1).unwrap(),
        stable: Counts::new(stable.0, stable.1).unwrap(),
        canary_late: Counts::default(),
        canary_pods: PodCounts::default(),
        stable_pods: PodCounts::default(),
        at_route: None,
        reference: None,
    }
}

fn after(blocks: &[Block]) -> Evidence {
    let mut evidence = Evidence::default();
    for block in blocks {
        evidence.absorb(block);
    }
    evidence
}

/// At full weight, beside a reference.
fn bake(index: i32, canary: (f64, f64), reference: f64) -> Block {
    Block {
        canary_weight: 100,
        reference: Some(reference),
        ..block(index, canary, (0.0, 0.0))
    }
}

#[test]
fn vectors_of_the_running_product() {
    let mut evidence = Evidence::default();
    evidence.know_correlation(0.0);
    let blocks = [
        ((30.0, 0.0), (270.0, 3.0), -0.998_151_08),
        ((31.0, 1.0), (265.0, 2.0), -0.693_557_49),
        ((28.0, 2.0), (272.0, 4.0), 0.202_382_00),
        ((30.0, 3.0), (268.0, 1.0), 2.987_924_88),
        ((29.0, 2.0), (271.0, 3.0), 4.464_674_48),
    ];
    for (index, (canary, stable, cumulative)) in (0..).zip(blocks) {
        evidence.absorb(&block(index, canary, stable));
        assert!(
            (evidence.ln_harm_from_start() - cumulative).abs() < 1e-8,
            "{} is not {cumulative}",
            evidence.ln_harm_from_start()
        );
    }
    let beyond: f64 = blocks.iter().map(|((n, e), (m, g), _)| e - n * g / m).sum();
    assert!((evidence.attributable_bad() - beyond).abs() < 1e-12);
}

#[test]
fn a_total_outage_is_seen_in_one_block_even_beside_a_stable_without_errors() {
    let outage = |index| block(index, (20.0, 20.0), (180.0, 0.0));
    assert!(after(&[outage(0)]).ln_harm() > 100f64.ln());
    let healthy = (0..1000).map(|index| block(index, (100.0, 0.0), (900.0, 0.0)));
    let long: Vec<_> = healthy.chain([outage(1000)]).collect();
    assert!(after(&long).ln_harm() > 100f64.ln(), "{}", after(&long).ln_harm());
}

#[test]
fn a_block_without_weight_is_no_evidence_and_is_not_read_again() {
    let unweighted = Block {
        canary_weight: 0,
        ..block(0, (20.0, 20.0), (180.0, 0.0))
    };
    let evidence = after(&[
        unweighted,
        Block {
            canary_weight: 10,
            ..unweighted
        },
    ]);
    assert_eq!(
        evidence,
        Evidence {
            absorbed_to: Some(unweighted.end),
            ..Evidence::default()
        }
    );
}

#[test]
fn a_block_counts_once_and_only_after_the_last_one() {
    let first = block(0, (20.0, 1.0), (180.0, 1.0));
    let second = block(1, (20.0, 2.0), (180.0, 3.0));
    let twice = after(&[first, first, second, first, second]);
    assert_eq!(twice, after(&[first, second]));
    let half = SignedDuration::from_secs(5);
    let overlapping = Block {
        start: second.start + half,
        end: second.end + half,
        ..second
    };
    let backwards = Block {
        start: second.end + half,
        end: second.end,
        ..second
    };
    assert_eq!(after(&[first, second, overlapping, backwards]), twice);
    assert_eq!(twice.absorbed_to(), Some(second.end));
}

#[test]
fn a_bet_beside_a_stable_that_always_fails_is_no_evidence() {
    let evidence = after(&[block(0, (1e3, 0.0), (1e6, 1e6)), block(1, (1e3, 0.0), (1e6, 1e6))]);
    assert!(evidence.ln_harm() <= 0.0, "{}", evidence.ln_harm());
}

#[test]
fn what_stable_did_before_the_attempt_shows_gross_harm_within_one_block() {
    let blocks = |past: Option<&Past>| {
        let mut evidence = Evidence::default();
        evidence.know_correlation(0.0);
        if let Some(past) = past {
            evidence.know(past);
        }
        until_shown_of_one(
            &mut evidence,
            (0..).map(|index| block(index, (40.0, 3.0), (360.0, 0.0))),
        )
    };
    let past = Past::of(&[Counts::new(400.0, 0.0).unwrap(); 10]);
    assert_eq!((blocks(Some(&past)), blocks(None)), (1, 2));
}

#[test]
fn the_bake_compares_with_what_stable_was() {
    let before = block(0, (1000.0, 1.0), (9000.0, 9.0));
    let reference = after(&[before]).stable_upper_bound();
    let good = after(&[before, bake(1, (400.0, 0.0), reference)]);
    let bad = after(&[before, bake(1, (400.0, 40.0), reference)]);
    assert!(bad.ln_harm_alone() > 100f64.ln() && good.ln_harm_alone() < 0.0);
    // It makes suspect: what is held against the canary is shown beside stable.
    assert_eq!(bad.ln_harm(), after(&[before]).ln_harm());
    assert_eq!(bad.attributable_beside(), after(&[before]).attributable_beside());
    assert!((bad.attributable_bad() - (40.0 - 400.0 * reference)).abs() < 1e-9);
    // Safety is shown side by side or not at all.
    assert_eq!(good.safety, after(&[before]).safety);
    // One last request at stable changes nothing of it.
    let straggler = Block {
        stable: Counts::new(1.0, 0.0).unwrap(),
        ..bake(1, (400.0, 40.0), reference)
    };
    let ratio = after(&[before, straggler]).ln_harm() / bad.ln_harm();
    assert!((ratio - 1.0).abs() < 1e-3, "{ratio}");
    // While both serve, the reference is not needed.
    let both = Block {
        reference: Some(reference),
        ..block(1, (40.0, 4.0), (360.0, 0.0))
    };
    assert_eq!(
        after(&[before, both]),
        after(&[
            before,
            Block {
                reference: None,
                ..both
            }
        ])
    );
}

#[test]
fn a_block_whose_weight_rises_to_all_traffic_makes_suspect_and_convicts_nobody() {
    let before = block(0, (1000.0, 1.0), (9000.0, 9.0));
    let reference = after(&[before]).stable_upper_bound();
    let rises = |canary, stable| {
        let mut evidence = after(&[before]);
        let block = Block {
            weight_in_force: false,
            stable,
            ..bake(1, canary, reference)
        };
        let during = During {
            weight_rises: true,
            ..During::default()
        };
        evidence.absorb_during(&block, during);
        evidence
    };
    let few = Counts::new(300.0, 0.0).unwrap();
    let bad = rises((400.0, 150.0), few);
    assert!(bad.ln_harm_alone() > 100f64.ln(), "{}", bad.ln_harm_alone());
    assert!(rises((400.0, 0.0), few).ln_harm_alone() < 0.0);
    assert_eq!(bad.ln_harm(), after(&[before]).ln_harm());
    assert_eq!(bad.attributable_beside(), after(&[before]).attributable_beside());
    // What stable does as well in its part of the block is no suspicion.
    let both = rises((400.0, 150.0), Counts::new(300.0, 120.0).unwrap());
    assert!(both.ln_harm_alone() < 5f64.ln(), "{}", both.ln_harm_alone());
}

#[test]
fn a_reference_that_knows_nothing_hides_no_spend() {
    assert_eq!(Evidence::default().stable_upper_bound(), 1.0);
    for nothing in [1.0, 2.0, -0.1, f64::NAN, f64::INFINITY] {
        let evidence = after(&[bake(0, (400.0, 0.0), nothing), bake(1, (400.0, 7.0), nothing)]);
        assert_eq!(evidence.attributable_bad(), 7.0);
        assert!(evidence.ln_harm().abs() < 1e-12);
    }
}

#[test]
fn stables_upper_bound_is_above_its_ratio() {
    let bound = |total, bad| after(&[block(0, (1.0, 0.0), (total, bad))]).stable_upper_bound();
    // (p + z²/2n + z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n) at n = 1000, z = 1.645; z²/(n + z²) at p = 0.
    assert!(
        (bound(1000.0, 10.0) - 0.016_656_99).abs() < 1e-7,
        "{}",
        bound(1000.0, 10.0)
    );
    assert!(
        (bound(1000.0, 0.0) - 0.002_698_23).abs() < 1e-7,
        "{}",
        bound(1000.0, 0.0)
    );
    assert!(bound(10.0, 10.0) <= 1.0);
}

#[test]
fn the_upper_margin_is_the_smallest_that_is_shown() {
    let needed = 20f64.ln();
    assert_eq!(Evidence::default().harm_upper_margin(needed), 1.0);
    let blocks: Vec<_> = (0..10)
        .map(|index| block(index, (600.0, 0.6), (5400.0, 5.4)))
        .collect();
    let evidence = after(&blocks);
    let upper = evidence.harm_upper_margin(needed);
    assert!((0.001..0.01).contains(&upper), "{upper}");
    assert!(evidence.ln_safe_at(upper) >= needed);
}

#[test]
fn the_schema_says_text_where_the_form_is_text() {
    let schema = serde_json::to_value(schemars::schema_for!(Evidence)).unwrap();
    assert_eq!(schema["properties"]["attributable"]["type"], "string");
    let defs = &schema["$defs"];
    assert_eq!(defs["Counts"]["properties"]["total"]["type"], "string");
    assert_eq!(
        defs["HarmBets"]["properties"]["fromStart"]["items"]["type"],
        "string"
    );
    let margins = defs
        .as_object()
        .unwrap()
        .values()
        .find_map(|def| def["properties"]["margins"].as_object());
    assert_eq!(margins.unwrap()["maxItems"], MOST_MARGINS);
}

#[test]
fn a_sick_pod_of_several_is_not_the_revision() {
    // One of five pods fails four requests in ten, in either revision; nobody else fails.
    let pods = |sick: bool| {
        let mut pods = PodCounts::default();
        for pod in ["a", "b", "c", "d", "e"] {
            let bad = if sick && pod == "c" { 8.0 } else { 0.0 };
            pods.add(pod, Counts::new(20.0, bad).unwrap());
        }
        pods
    };
    let with = |known: bool| {
        let blocks: Vec<_> = (0..20)
            .map(|index| Block {
                canary_pods: if known { pods(true) } else { PodCounts::default() },
                stable_pods: if known { pods(false) } else { PodCounts::default() },
                ..block(index, (100.0, 8.0), (100.0, 0.0))
            })
            .collect();
        after(&blocks)
    };
    assert!(with(false).ln_harm() > 100f64.ln());
    let known = with(true);
    assert!(known.design_effect() > 10.0, "{}", known.design_effect());
    assert!(known.ln_harm() < 100f64.ln(), "{}", known.ln_harm());
    // The same from every pod is the revision's.
    let all: Vec<_> = (0..20)
        .map(|index| {
            let mut canary_pods = PodCounts::default();
            for pod in ["a", "b", "c", "d", "e"] {
                canary_pods.add(pod, Counts::new(20.0, 1.6).unwrap());
            }
            Block {
                canary_pods,
                stable_pods: pods(false),
                ..block(index, (100.0, 8.0), (100.0, 0.0))
            }
        })
        .collect();
    assert!(after(&all).ln_harm() > 100f64.ln(), "{}", after(&all).ln_harm());
}

/// Five pods that serve the same.
fn pods(total: f64, bad: f64) -> PodCounts {
    let mut pods = PodCounts::default();
    for pod in ["a", "b", "c", "d", "e"] {
        pods.add(pod, Counts::new(total / 5.0, bad / 5.0).unwrap());
    }
    pods
}

/// The same block, with counts by pod.
fn by_pod(block: &Block) -> Block {
    Block {
        canary_pods: pods(block.canary.total(), block.canary.bad()),
        stable_pods: pods(block.stable.total(), block.stable.bad()),
        ..*block
    }
}

/// Blocks of harm until it is shown and rests on more than one pod.
fn until_shown(evidence: &mut Evidence, harm: impl Iterator<Item = Block>) -> usize {
    let shown = |e: &Evidence| e.ln_harm().max(e.ln_harm_alone()) >= 100f64.ln() && !e.rests_on_one_pod();
    1 + harm
        .take(1000)
        .take_while(|block| {
            evidence.absorb(block);
            !shown(evidence)
        })
        .count()
}

#[test]
fn harm_of_every_pod_that_begins_after_an_hour_is_seen_nearly_as_soon_as_without_counts_by_pod() {
    let healthy = (0..360).map(|index| block(index, (30.0, 0.3), (270.0, 2.7)));
    let harm = |index| block(index, (30.0, 2.0), (270.0, 2.7));
    let mut plain = after(&healthy.clone().collect::<Vec<_>>());
    let mut with_pods = after(&healthy.map(|block| by_pod(&block)).collect::<Vec<_>>());
    let plain = until_shown_of_one(&mut plain, (360..).map(harm));
    let with_pods = until_shown(&mut with_pods, (360..).map(|index| by_pod(&harm(index))));
    assert!(with_pods <= plain * 3 / 2, "{with_pods} blocks, not {plain}");
}

/// Blocks of harm until it is shown, whatever the pods.
fn until_shown_of_one(evidence: &mut Evidence, harm: impl Iterator<Item = Block>) -> usize {
    1 + harm
        .take(1000)
        .take_while(|block| {
            evidence.absorb(block);
            evidence.ln_harm() < 100f64.ln()
        })
        .count()
}

#[test]
fn harm_in_the_bake_is_seen_with_counts_by_pod_too() {
    let before: Vec<_> = (0..24)
        .map(|index| by_pod(&block(index, (150.0, 0.15), (150.0, 0.15))))
        .collect();
    let mut evidence = after(&before);
    let reference = evidence.stable_upper_bound();
    let blocks = until_shown(
        &mut evidence,
        (24..).map(|index| by_pod(&bake(index, (300.0, 9.0), reference))),
    );
    assert!(blocks <= 6, "{blocks}");
    // One sick pod of five is not the revision there either.
    let mut evidence = after(&before);
    for index in 24..60 {
        let mut canary_pods = pods(240.0, 0.24);
        canary_pods.add("c", Counts::new(60.0, 20.0).unwrap());
        evidence.absorb(&Block {
            canary_pods,
            ..bake(index, (300.0, 20.24), reference)
        });
        assert!(evidence.rests_on_one_pod());
    }
}

#[test]
fn a_canary_that_has_all_the_traffic_and_falls_silent_is_known_within_three_blocks() {
    let steps = |rate: f64| (0..16).map(move |index| block(index, (rate, 0.0), (9.0 * rate, 0.0)));
    let silent = |blocks: &[Block]| after(blocks).ln_silent() >= 100f64.ln();
    for rate in [3.0, 20.0, 300.0] {
        let mut blocks: Vec<_> = steps(rate).collect();
        blocks.extend((16..20).map(|index| bake(index, (10.0 * rate, 0.0), 0.01)));
        blocks.extend((20..22).map(|index| bake(index, (0.0, 0.0), 0.01)));
        assert!(!silent(&blocks), "{rate}: two may be a pause of the callers");
        blocks.push(bake(22, (0.0, 0.0), 0.01));
        assert!(silent(&blocks), "{rate}");
        blocks.push(bake(23, (1.0, 0.0), 0.01));
        assert!(!silent(&blocks), "{rate}: it answers");
    }
    // A service that is used now and then: every third block is empty anyway.
    let mut blocks: Vec<_> = (0..30)
        .map(|index| {
            let n = if index % 3 == 0 { 0.0 } else { 2.0 };
            block(index, (n, 0.0), (9.0 * n, 0.0))
        })
        .collect();
    blocks.extend((30..35).map(|index| bake(index, (0.0, 0.0), 0.01)));
    assert!(!silent(&blocks));
    // Nothing was ever due.
    let idle: Vec<_> = (0..40).map(|index| bake(index, (0.0, 0.0), 0.01)).collect();
    assert!(!silent(&idle));
}

#[test]
fn while_the_router_still_sends_to_stable_it_is_compared_side_by_side() {
    let before = block(0, (1000.0, 1.0), (9000.0, 9.0));
    let reference = after(&[before]).stable_upper_bound();
    // All of the traffic is asked for, half of it is there; both fail alike.
    let moving = Block {
        canary_weight: 100,
        weight_in_force: false,
        weight_settled: false,
        reference: Some(reference),
        ..block(1, (500.0, 100.0), (500.0, 100.0))
    };
    let evidence = after(&[before, moving]);
    assert!(evidence.ln_harm() < 1.0, "{}", evidence.ln_harm());
    // Without a request at stable there is only the reference, whatever the router says.
    let alone = Block {
        stable: Counts::default(),
        ..moving
    };
    assert!(after(&[before, alone]).ln_harm_alone() > 100f64.ln());
}

#[test]
fn an_incident_is_a_burn_above_the_usual_one() {
    let objective = Objective::parse("99.9", SignedDuration::from_hours(720)).unwrap();
    let incident = |blocks: &[Block]| after(blocks).incident(&objective, false);
    // A service that fails one request in a hundred burns ten times as fast as it may, and always has.
    let mut blocks: Vec<_> = (0..60)
        .map(|index| block(index, (100.0, 1.0), (900.0, 9.0)))
        .collect();
    assert_eq!(incident(&blocks), None);
    // Where the canary is well meanwhile, it may be the cure: it need not wait.
    let mut cure: Vec<_> = (0..60)
        .map(|index| block(index, (100.0, 0.0), (900.0, 9.0)))
        .collect();
    cure.extend((60..90).map(|index| block(index, (100.0, 0.0), (900.0, 90.0))));
    assert_eq!(incident(&cure), None);
    blocks.extend((60..90).map(|index| block(index, (100.0, 10.0), (900.0, 90.0))));
    assert!(incident(&blocks).unwrap() > 50.0);
    // It is over when the short windows have seen enough calm.
    blocks.extend((90..140).map(|index| block(index, (100.0, 1.0), (900.0, 9.0))));
    assert_eq!(incident(&blocks), None);
}

/// The block, with the canary's last requests read after stable's.
fn with_late(late: (f64, f64), block: &Block) -> Block {
    Block {
        canary_late: Counts::new(late.0, late.1).unwrap(),
        ..*block
    }
}

#[test]
fn what_begins_between_the_scrapes_of_both_is_not_held_against_the_canary() {
    let mut blocks: Vec<_> = (0..10)
        .map(|index| block(index, (5000.0, 50.0), (5000.0, 50.0)))
        .collect();
    // Ten times the errors from the middle of a block on. The canary was read at its end, stable before it began.
    let onset = block(10, (5000.0, 275.0), (5000.0, 50.0));
    let next = block(11, (5000.0, 500.0), (5000.0, 500.0));
    let unaware = after(&[&blocks[..], &[onset, next]].concat());
    assert!(unaware.ln_harm() > 100f64.ln(), "{}", unaware.ln_harm());
    blocks.push(with_late((2500.0, 250.0), &onset));
    assert!(after(&blocks).ln_harm() < 0.5, "{}", after(&blocks).ln_harm());
    // What waited is compared with a block in which stable changed, and the one after belongs to the change still.
    blocks.push(next);
    assert!(after(&blocks).ln_harm() < 0.5, "{}", after(&blocks).ln_harm());
    // It goes on, and the canary has twice as much of it: then that is its own.
    blocks.extend((12..15).map(|index| block(index, (5000.0, 2500.0), (5000.0, 500.0))));
    assert!(
        after(&blocks).ln_harm() > 100f64.ln(),
        "{}",
        after(&blocks).ln_harm()
    );
}

#[test]
fn harm_that_was_read_late_is_harm_a_block_later() {
    let calm: Vec<_> = (0..10)
        .map(|index| block(index, (500.0, 5.0), (4500.0, 45.0)))
        .collect();
    let outage = with_late((250.0, 250.0), &block(10, (500.0, 250.0), (4500.0, 45.0)));
    let next = with_late((250.0, 250.0), &block(11, (500.0, 500.0), (4500.0, 45.0)));
    let seen = after(&[&calm[..], &[outage]].concat());
    assert!(seen.ln_harm() < 0.5, "{}", seen.ln_harm());
    let seen = after(&[&calm[..], &[outage, next]].concat());
    assert!(seen.ln_harm() > 100.0, "{}", seen.ln_harm());
}

#[test]
fn a_canarys_first_requests_wait_for_nobody() {
    let first = with_late((8.0, 8.0), &block(0, (10.0, 10.0), (190.0, 0.0)));
    assert!(
        after(&[first]).ln_harm() > 100f64.ln(),
        "{}",
        after(&[first]).ln_harm()
    );
    // Three that were read before are enough to go by.
    let healthy = with_late((7.0, 7.0), &block(0, (10.0, 7.0), (190.0, 0.0)));
    assert!(
        after(&[healthy]).ln_harm() < 1.0,
        "{}",
        after(&[healthy]).ln_harm()
    );
}

#[test]
fn an_attempt_that_begins_as_an_incident_does_knows_stable_from_before() {
    let past = Past {
        served: Counts::new(100_000.0, 100.0).unwrap(),
        correlation: Some(0.0),
        ..Past::default()
    };
    let mut evidence = Evidence::for_margins(&[0.01]);
    evidence.know(&past);
    evidence.absorb(&block(0, (2000.0, 1700.0), (60_000.0, 22_000.0)));
    assert!(evidence.ln_harm() < 0.5, "{}", evidence.ln_harm());
}

#[test]
fn pods_that_came_when_all_failed_are_no_sick_pods() {
    let pods = |served: &[(&str, f64, f64)]| {
        let mut pods = PodCounts::default();
        for (name, total, bad) in served {
            pods.add(name, Counts::new(*total, *bad).unwrap());
        }
        pods
    };
    let calm = (0..20).map(|index| Block {
        canary_pods: pods(&[("a", 250.0, 1.0), ("b", 250.0, 1.0)]),
        ..block(index, (500.0, 2.0), (4500.0, 18.0))
    });
    // Two more pods for a higher weight, and then all of them fail.
    let names = ["a", "b", "c", "d"];
    let failing = (20..22).map(|index| Block {
        canary_pods: pods(&names.map(|name| (name, 250.0, 50.0))),
        ..block(index, (1000.0, 200.0), (4000.0, 16.0))
    });
    let evidence = after(&calm.chain(failing).collect::<Vec<_>>());
    assert!(evidence.design_effect() < 1.5, "{}", evidence.design_effect());
    assert!(evidence.ln_harm() > 100.0, "{}", evidence.ln_harm());
}

fn any_block(index: i32) -> impl Strategy<Value = Block> {
    let counts =
        || (prop_oneof![Just(0.0), 0.0..500.0f64, 0.0..1e9f64], 0.0..=1.0f64).prop_map(|(n, s)| (n, n * s));
    let weight = prop_oneof![4 => 1..100u8, 1 => Just(0), 2 => Just(100)];
    let reference = prop_oneof![Just(None), (0.0..1.2f64).prop_map(Some)];
    (counts(), counts(), weight, reference).prop_map(move |(canary, stable, canary_weight, reference)| {
        Block {
            canary_weight,
            reference,
            ..block(index, canary, stable)
        }
    })
}

fn any_blocks() -> impl Strategy<Value = Vec<Block>> {
    (0..20i32).prop_flat_map(|n| (0..n).map(any_block).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn a_restart_after_any_block_changes_nothing(
        blocks in any_blocks(), cut in 0..20usize, again in 0..20usize,
    ) {
        let whole = after(&blocks);
        let cut = cut.min(blocks.len());
        let before = after(&blocks[..cut]);
        let mut resumed: Evidence = serde_json::from_str(&serde_json::to_string(&before).unwrap()).unwrap();
        prop_assert_eq!(&before, &resumed);
        // After a restart some blocks are read again.
        for block in &blocks[again.min(cut)..] {
            resumed.absorb(block);
        }
        prop_assert_eq!(&whole, &resumed);
        let text = serde_json::to_string(&whole).unwrap();
        prop_assert!(text.len() < 5000, "{}", text.len());
        prop_assert!(whole.ln_harm().is_finite() && whole.ln_safe_at(1.0).is_finite());
        prop_assert!(whole.design_effect() >= 1.0 && whole.design_effect().is_finite());
        prop_assert!(whole.attributable_bad() >= 0.0);
    }

    #[test]
    fn no_canary_request_is_no_evidence_of_quality(blocks in any_blocks()) {
        let idle: Vec<_> = blocks.iter().map(|b| Block { canary: Counts::default(), ..*b }).collect();
        let evidence = after(&idle);
        prop_assert!(evidence.ln_harm().abs() < 1e-9);
        prop_assert_eq!(&evidence.safety, &Evidence::default().safety);
        prop_assert_eq!(evidence.attributable_bad(), 0.0);
        prop_assert_eq!(evidence.harm_upper_margin(20f64.ln()), 1.0);
    }
}

#[test]
fn an_incident_leaves_no_difference_between_pods_that_began_at_different_times() {
    let bad = |share: f64, n: f64| Counts::new(n, n * share).unwrap();
    let both = |share: f64| {
        let mut pods = PodCounts::default();
        pods.add("a", bad(share, 200.0));
        pods.add("b", bad(share, 200.0));
        pods
    };
    let mut evidence = Evidence::default();
    evidence.know_correlation(0.0);
    let mut one = PodCounts::default();
    one.add("a", bad(0.0, 40.0));
    for index in 0..20 {
        evidence.absorb(&Block {
            canary_pods: one,
            stable_pods: both(0.0),
            ..block(index, (40.0, 0.0), (400.0, 0.0))
        });
    }
    let mut sick = PodCounts::default();
    sick.add("a", bad(0.0, 200.0));
    sick.add("b", bad(0.3, 200.0));
    for index in 20..23 {
        evidence.absorb(&Block {
            canary_pods: sick,
            ..bake(index, (400.0, 60.0), 0.001)
        });
    }
    // What differs in a bake takes nothing from what both have shown side by side; a sick pod of two is no revision.
    assert!(evidence.design_effect() < 1.01 && evidence.rests_on_one_pod());
    evidence.compare_again(2.0);
    assert!(evidence.design_effect() < 1.01);
}

/// Pods are scraped at moments of their own: of the block in which an incident begins, or ends, each has seen another
/// part.
#[test]
fn the_edge_of_an_incident_of_both_speaks_against_nobody() {
    let calm = (0..20).map(|i| block(i, (30.0, 0.0), (270.0, 1.0)));
    let mut evidence = after(&calm.collect::<Vec<_>>());
    let incident = During {
        incident: true,
        ..During::default()
    };
    let before = evidence.ln_harm();
    evidence.absorb_during(&block(20, (30.0, 20.0), (270.0, 60.0)), incident);
    assert!(evidence.ln_harm() <= before, "it begins: {}", evidence.ln_harm());
    evidence.absorb_during(&block(21, (30.0, 20.0), (270.0, 180.0)), incident);
    let before = evidence.ln_harm();
    evidence.absorb_during(&block(22, (30.0, 20.0), (270.0, 60.0)), incident);
    assert!(evidence.ln_harm() <= before, "it abates: {}", evidence.ln_harm());
    let before = evidence.ln_harm();
    evidence.absorb_during(&block(23, (30.0, 8.0), (270.0, 1.0)), incident);
    assert!(evidence.ln_harm() <= before, "it ends: {}", evidence.ln_harm());
    // Once it is over for both, the next are the canary's own.
    evidence.absorb(&block(24, (30.0, 20.0), (270.0, 1.0)));
    evidence.absorb(&block(25, (30.0, 20.0), (270.0, 1.0)));
    assert!(evidence.ln_harm() > 100f64.ln(), "{}", evidence.ln_harm());
}

/// What stable and a canary like it do where their rate flips from block to block: of 5,400 requests of stable's none and
/// 54 are bad in turn, of a ninth of these at the canary as many.
fn flipping(index: i32) -> [(f64, f64); 2] {
    let bad = f64::from(index % 2) * 54.0;
    [(600.0, bad / 9.0), (5400.0, bad)]
}

#[test]
fn a_stable_that_flips_hides_no_bad_canary_and_excuses_one_that_flips_with_it() {
    let mut evidence = Evidence::default();
    for index in 0..40 {
        let [like, stable] = flipping(index);
        evidence.absorb(&block(index, like, stable));
    }
    assert!(evidence.ln_harm() < 1.0, "{}", evidence.ln_harm());
    // One that flips against it is excused as well: each pod was read at a moment of its own.
    let mut against = evidence.clone();
    for index in 40..80 {
        let [_, stable] = flipping(index);
        let [like, _] = flipping(index + 1);
        against.absorb(&block(index, like, stable));
    }
    assert!(against.ln_harm() < 1.0, "{}", against.ln_harm());
    let shown = (40..50).find(|index| {
        evidence.absorb(&block(*index, (600.0, 60.0), flipping(*index)[1]));
        evidence.ln_harm() > 100f64.ln()
    });
    // What flips passes for clusters too: some ninety independent requests a block.
    assert!(shown.is_some(), "{}", evidence.ln_harm());
}

/// An outage of both that lies across the end of a block of stable's: half of it shows in each of two blocks, and most of it in
/// one of the canary's.
#[test]
fn an_incident_across_the_end_of_a_block_speaks_against_nobody() {
    let mut evidence = after(
        &(0..20)
            .map(|i| block(i, (300.0, 0.0), (2700.0, 3.0)))
            .collect::<Vec<_>>(),
    );
    let before = evidence.ln_harm();
    for (index, (canary, stable)) in (20..).zip([(20.0, 630.0), (140.0, 660.0), (0.0, 3.0), (0.0, 3.0)]) {
        evidence.absorb(&block(index, (300.0, canary), (2700.0, stable)));
        assert!(evidence.ln_harm() <= before, "{index}: {}", evidence.ln_harm());
    }
}

#[test]
fn an_edge_is_bet_on_once_the_next_block_has_come_and_wins_nothing_without_one() {
    let calm: Vec<_> = (0..20).map(|i| block(i, (600.0, 0.0), (5400.0, 5.0))).collect();
    // Stable's rate changes, and the canary is worse than that by far.
    let edge = block(20, (600.0, 300.0), (5400.0, 54.0));
    let next = |index, weight| Block {
        canary_weight: weight,
        ..block(index, (600.0, 0.0), (5400.0, 54.0))
    };
    let mut evidence = after(&calm);
    let before = evidence.ln_harm();
    evidence.absorb(&edge);
    assert!(evidence.ln_harm() <= before, "held: {}", evidence.ln_harm());
    let held = evidence.clone();
    evidence.absorb(&next(21, 10));
    assert!(evidence.ln_harm() > 100f64.ln(), "{}", evidence.ln_harm());
    // A block later, or with all the traffic, nobody knows what stable did next.
    for other in [next(22, 10), bake(21, (6000.0, 6.0), 0.01)] {
        let mut evidence = held.clone();
        evidence.absorb(&other);
        assert!(evidence.ln_harm() <= before, "{}", evidence.ln_harm());
    }
    let mut suspect = held.clone();
    suspect.compare_again(2.0);
    assert!(suspect.held.is_none() && suspect.ln_harm() <= before);
    // It is in the status until then.
    let read: Evidence = serde_json::from_str(&serde_json::to_string(&held).unwrap()).unwrap();
    assert_eq!(read, held);
}

#[test]
fn the_canarys_upper_bound_falls_with_the_blocks_whatever_is_assumed_of_clustering() {
    let alone = |n: i32| bake(n, (1000.0, 0.0), 0.001);
    let bound = |blocks: i32| after(&(0..blocks).map(alone).collect::<Vec<_>>()).canary_upper_bound();
    assert!(bound(4) < bound(1) / 2.0, "{} {}", bound(4), bound(1));
    assert!(bound(30) < 0.01, "{}", bound(30));
    assert_eq!(Evidence::default().canary_upper_bound(), 1.0);
}
