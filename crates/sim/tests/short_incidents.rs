//! Incidents of both that last for seconds, wherever they begin: nobody is to blame, and nobody waits for a person.

mod support;

use molt_sim::{Outcome, summaries};

use support::setup;

/// Each start, length, size and rate of requests, beside one pod and beside four: half of a block, the whole of one, and
/// the edges of each weight and of the bake.
#[test]
fn a_short_incident_takes_no_healthy_release_back_and_keeps_none_waiting_for_a_person() {
    let (mut all, mut back, mut undecided) = (0_u32, 0_u32, 0_u32);
    let mut told = Vec::new();
    for start in (20_u32..=320).step_by(25).chain([240, 255, 265, 275]) {
        for (times, seconds, rps) in [
            (10, 20, 200.0),
            (20, 20, 1000.0),
            (100, 20, 200.0),
            (100, 10, 50.0),
            (1000, 20, 20.0),
            (5, 40, 1000.0),
            (20, 60, 200.0),
        ] {
            for pods in [1, 4] {
                let scenario = format!("incident={times}x@{start}s+{seconds}s");
                let mut setup = setup("errors=0.1%", &scenario, rps);
                setup.plan.replicas = pods;
                for summary in summaries(&setup, 6, u64::from(start)) {
                    all += 1;
                    back += u32::from(summary.outcome == Outcome::RolledBack);
                    undecided += u32::from(summary.outcome == Outcome::Inconclusive);
                    if summary.outcome != Outcome::Promoted {
                        told.push(format!(
                            "{scenario} rps {rps} pods {pods} seed {}: {}",
                            summary.seed, summary.reason
                        ));
                    }
                }
            }
        }
    }
    let share = |n: u32| f64::from(n) / f64::from(all);
    assert!(share(back) < 0.005, "{back} of {all} rolled back: {told:#?}");
    assert!(
        share(undecided) < 0.02,
        "{undecided} of {all} undecided: {told:#?}"
    );
}

/// One that interrupts the bake and ends as the comparison begins: the canary's counters are older than stable's there.
#[test]
fn an_incident_that_ends_as_a_comparison_begins_convicts_nobody() {
    let mut back = 0;
    for start in [336, 341, 346, 351] {
        let mut setup = setup("errors=0.05%", &format!("incident=1000x@{start}s+20s"), 200.0);
        setup.plan.replicas = 1;
        back += summaries(&setup, 100, 5)
            .iter()
            .filter(|summary| summary.outcome == Outcome::RolledBack)
            .count();
    }
    assert!(back <= 2, "{back} of 400 rolled back");
}
