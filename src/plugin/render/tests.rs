use super::fixtures::{progressing, rolled_back};
use super::*;

fn now() -> Timestamp {
    "2026-03-01T02:03:22Z".parse().unwrap()
}

#[test]
fn whoever_looks_sees_whom_to_call() {
    let mut service = progressing();
    assert!(!render(&service, now(), Style::PLAIN).contains("owner"));
    service.spec.owner = Some("team-checkout".to_owned());
    service.spec.runbook = Some("https://runbooks.example/checkout".to_owned());
    let text = render(&service, now(), Style::PLAIN);
    assert!(
        text.contains("\nowner team-checkout, runbook https://runbooks.example/checkout\n"),
        "{text}"
    );
}

#[test]
fn a_rollout_under_way() {
    let expected = "\
shop/checkout  Progressing
revision 7d9f8c0000 at 25 %: step 2 of 4, dwells 60 s; 3412 requests so far

  stable  5b6c7d0000  ███████████████░░░░░   75%  4 of 4 pods ready
  canary  7d9f8c0000  █████░░░░░░░░░░░░░░░   25%  1 of 1 pods ready  attempt 1

  step 2 of 4: dwells, 38s left; runs for 3m22s
  25% → [1m] → 50% → 1m → 100% → bake

  objective                     canary                         stable  burn rate                     harm        safe        error budget
  availability 99.9%  Continue  3,412 requests, 4 bad (0.12%)  0.10%   1.17, stable 0.98; adds 0.05  0.4 of 100  11.2 of 20  0.2% spent of 2%, 83.1% was left

wrong
  MetricsAvailable=False  Unreachable  for 2s  no answer within 5 s from http://prometheus:9090

attempt 1 at 7d9f8c0000
  02:00:00Z    0%  AttemptStarted  attempt 1 at revision 7d9f8c0000 starts; stable is 5b6c7d0000
  02:02:50Z   25%  WeightRaised    the canary gets 25 % of the traffic
";
    assert_eq!(render(&progressing(), now(), Style::PLAIN), expected);
}

#[test]
fn a_rollout_that_was_taken_back_says_how_it_ended() {
    let text = render(
        &rolled_back(),
        "2026-03-01T02:05:10Z".parse().unwrap(),
        Style::PLAIN,
    );
    assert!(
        text.starts_with("shop/checkout  RolledBack\nrevision 7d9f8c0000 was taken back"),
        "{text}"
    );
    assert!(
        text.contains("attempt 1 at 7d9f8c0000 ended RolledBack (HarmShown) 2m ago, after 3m10s; it had up to 25% of the traffic"),
        "{text}"
    );
}

#[test]
fn a_job_has_runs_and_neither_pods_nor_traffic() {
    let mut job = rolled_back();
    job.spec.kind = Some(ServiceKind::Job);
    let text = render(&job, "2026-03-01T02:05:10Z".parse().unwrap(), Style::PLAIN);
    assert!(
        text.contains("  stable  5b6c7d0000  has the next run\n"),
        "{text}"
    );
    assert!(
        text.contains("attempt 1 at 7d9f8c0000 ended RolledBack (HarmShown) 2m ago, after 3m10s\n"),
        "{text}"
    );
    job = progressing();
    job.spec.kind = Some(ServiceKind::Job);
    job.status.as_mut().unwrap().canary.as_mut().unwrap().weight = 100;
    let text = render(&job, now(), Style::PLAIN);
    assert!(
        text.contains("  stable  5b6c7d0000\n  canary  7d9f8c0000  has the next run\n"),
        "{text}"
    );
}

/// The status after an attempt with so many bad requests of 100 to the canary, beside so much traffic before.
fn after(bad: f64, expected_requests: Option<u64>) -> String {
    use molt_core::analysis::{Block, Counts, Evidence, PodCounts};
    let mut service = rolled_back();
    let mut evidence = Evidence::default();
    evidence.absorb(&Block {
        start: "2026-03-01T02:02:50Z".parse().unwrap(),
        end: "2026-03-01T02:03:00Z".parse().unwrap(),
        canary_weight: 25,
        weight_in_force: true,
        weight_settled: true,
        canary: Counts::new(100.0, bad).unwrap(),
        stable: Counts::new(300.0, 0.0).unwrap(),
        canary_late: Counts::default(),
        canary_pods: PodCounts::default(),
        stable_pods: PodCounts::default(),
        at_route: None,
        reference: None,
    });
    let last = service
        .status
        .as_mut()
        .unwrap()
        .state
        .as_mut()
        .unwrap()
        .last
        .as_mut()
        .unwrap();
    last.evidence = vec![molt_core::state::SloEvidence {
        name: "availability".to_owned(),
        question: String::new(),
        expected_requests,
        budget_remaining_ppm: Some(831_000),
        measured_to: "2026-03-01T02:03:00Z".parse().unwrap(),
        newest: None,
        evidence,
    }];
    render(&service, now(), Style::PLAIN)
}

#[test]
fn what_the_last_attempt_counted_stays_to_be_seen() {
    let text = after(10.0, Some(1_000_000));
    assert!(
        text.contains("availability 99.9%  ended  100 requests, 10 bad (10.00%)  0.00%"),
        "{text}"
    );
    assert!(text.contains("1.00% spent of 2%, 83.1% was left"), "{text}");
}

#[test]
fn what_the_last_attempt_spent_is_what_its_record_says() {
    // Without traffic before it there is no budget to divide by, but nothing bad spends nothing of any.
    let text = after(0.0, None);
    assert!(text.contains("0.00% spent of 2%, 83.1% was left"), "{text}");
    let text = after(10.0, None);
    assert!(
        text.contains("what it spent is in kubectl molt history"),
        "{text}"
    );
    assert!(!text.contains("an unknown share"), "{text}");
}

#[test]
fn a_burn_that_would_page_stands_out() {
    let coloured = |canary: &str| {
        let mut service = progressing();
        let slos = service.status.as_mut().unwrap().slos.as_mut().unwrap();
        slos[0].burn.as_mut().unwrap().canary = Some(canary.to_owned());
        render(&service, now(), Style::COLOUR)
    };
    // 14.4 spends 2 % of a 30 days' budget in an hour.
    assert!(coloured("14.41").contains(&Style::COLOUR.bad("14.41")));
    assert!(coloured("14.39").contains("14.39") && !coloured("14.39").contains(&Style::COLOUR.bad("14.39")));
}

#[test]
fn a_service_without_status_asks_for_the_operator() {
    let mut service = progressing();
    service.status = None;
    let text = render(&service, now(), Style::PLAIN);
    assert!(text.contains("no operator has taken it up yet"), "{text}");
}

#[test]
fn an_old_observation_is_marked() {
    let mut service = progressing();
    service.metadata.generation = Some(8);
    assert!(render(&service, now(), Style::PLAIN).contains("generation 7 of 8"));
}

#[test]
fn colours_change_no_word() {
    let service = progressing();
    let coloured = render(&service, now(), Style::COLOUR);
    assert_ne!(coloured, render(&service, now(), Style::PLAIN));
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some(start) = rest.find('\x1b') {
        plain.push_str(&rest[..start]);
        rest = &rest[start + rest[start..].find('m').unwrap() + 1..];
    }
    plain.push_str(rest);
    assert_eq!(plain, render(&service, now(), Style::PLAIN));
}

#[test]
fn a_line_says_what_changes() {
    assert_eq!(
        line(&progressing()),
        "Progressing stable 5b6c7d0000 75% canary 7d9f8c0000 25% | availability 4 of 3412 bad, 0.2% of the budget spent | revision 7d9f8c0000 at 25 %: step 2 of 4, dwells 60 s; 3412 requests so far"
    );
}
