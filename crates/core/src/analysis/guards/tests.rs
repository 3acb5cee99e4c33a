use super::*;
use crate::analysis::Sample;
use proptest::prelude::*;

const MIB: f64 = 1_048_576.0;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A pod that began at 0, scraped every 15 s.
fn pod(name: &str, end: i64, memory: impl Fn(f64) -> f64) -> PodRuntime {
    let from = (end - 240).max(0);
    let memory = (from / 15..=end / 15).map(|i| Sample {
        at: at(i * 15),
        value: memory((i * 15) as f64),
    });
    PodRuntime {
        pod: name.to_owned(),
        since: at(0),
        memory: memory.collect(),
        ..PodRuntime::default()
    }
}

fn block(end: i64, canary: Vec<PodRuntime>, stable: Vec<PodRuntime>) -> RuntimeBlock {
    RuntimeBlock {
        canary,
        stable,
        ..RuntimeBlock::silent(at(end - 30), at(end))
    }
}

/// When a canary whose memory is so is found, in seconds; looked at for 20 minutes.
fn found(canary: impl Fn(f64) -> f64, stable: impl Fn(f64) -> f64) -> Option<i64> {
    let mut evidence = GuardEvidence::default();
    (1..=40).map(|i| i * 30).find(|end| {
        let block = block(
            *end,
            vec![pod("c-1", *end, &canary)],
            vec![pod("s-1", *end, &stable), pod("s-2", *end, &stable)],
        );
        let _ = evidence.absorb_memory(&block, 64.0 * MIB);
        evidence.is_shown()
    })
}

fn flat(_: f64) -> f64 {
    1e8
}

#[test]
fn a_leak_of_ten_megabytes_a_minute_is_found_within_eight_minutes() {
    let leak = |t: f64| 1e8 + t * 1e7 / 60.0;
    let seconds = found(leak, flat).expect("it is found");
    assert!(seconds <= 450, "{seconds}");
    let noisy = |t: f64| leak(t) + (t / 50.0).fract() * 4e6;
    let seconds = found(noisy, flat).expect("it is found");
    assert!(seconds <= 480, "{seconds}");
}

#[test]
fn what_stable_does_as_well_what_levels_off_and_what_is_small_is_no_leak() {
    let leak = |t: f64| 1e8 + t * 1e7 / 60.0;
    assert_eq!(found(leak, leak), None, "stable leaks as well");
    for seconds in [20.0, 60.0, 120.0] {
        let warms = |t: f64| 1e8 + 5e7 * (1.0 - (-t / seconds).exp());
        assert_eq!(found(warms, flat), None, "it warms up in {seconds} s");
    }
    assert_eq!(
        found(|t| 1e8 + (t / 40.0).fract() * 2e7, flat),
        None,
        "a saw-tooth"
    );
    assert_eq!(
        found(|t| 1e8 + t * 1e6 / 60.0, flat),
        None,
        "60 MB an hour are allowed"
    );
    assert_eq!(
        found(|t| if t < 400.0 { 1e8 } else { 1.4e8 }, flat),
        None,
        "one step is no leak"
    );
}

#[test]
fn what_is_not_measured_says_nothing() {
    let mut evidence = GuardEvidence::default();
    let silent = |end| pod("s-1", end, flat);
    for end in (1..=40).map(|i| i * 30) {
        let mut dumb = pod("c-1", end, flat);
        dumb.memory.clear();
        let without = block(end, vec![dumb], vec![silent(end)]);
        assert_eq!(evidence.absorb_memory(&without, MIB), Err(Silence::Canary));
        let alone = block(end, vec![pod("c-1", end, |t| t * 1e7)], Vec::new());
        assert!(evidence.absorb_memory(&alone, MIB).is_err());
        assert_eq!(evidence.absorb_lag(&without), Err(Silence::Canary));
        assert_eq!(
            evidence.absorb_cpu(&without, 50.0, 50.0, 1.5),
            Err(Silence::Canary)
        );
    }
    assert_eq!(evidence.looks(), (0, 0));
    assert!(!evidence.is_shown() && !evidence.client_errors_shifted(1.0));
}

fn lagging(name: &str, late: f64, of: f64) -> PodRuntime {
    PodRuntime {
        lag: Counts::new(of, late),
        ..pod(name, 0, flat)
    }
}

#[test]
fn a_blocked_event_loop_is_found_in_two_blocks_once_its_pods_have_started() {
    let mut evidence = GuardEvidence::default();
    let look = |end| {
        block(
            end,
            vec![lagging("c-1", 6.0, 20.0)],
            vec![lagging("s-1", 0.0, 30.0)],
        )
    };
    assert_eq!(evidence.absorb_lag(&look(30)), Err(Silence::Early));
    assert!(evidence.absorb_lag(&look(60)).is_ok() && !evidence.is_shown());
    assert!(evidence.absorb_lag(&look(90)).is_ok() && evidence.is_shown());
    // Shorter blocks are put together: what lasts for ten seconds is one look at most.
    let mut evidence = GuardEvidence::default();
    let short = |end: i64| RuntimeBlock {
        start: at(end - 5),
        ..look(end)
    };
    for end in (60..85).step_by(5) {
        let _ = evidence.absorb_lag(&short(end));
    }
    assert_eq!(evidence.looks().0, 0);
    let _ = evidence.absorb_lag(&short(85));
    assert_eq!(evidence.looks(), (1, 1));
    // Where stable is as late, and where one sample is late, nothing is shown.
    for (late, beside) in [(6.0, 5.0), (1.0, 0.0)] {
        let mut evidence = GuardEvidence::default();
        for end in (2..100).map(|i| i * 30) {
            let canary = vec![lagging("c-1", late, 20.0)];
            let stable = vec![lagging("s-1", beside, 20.0)];
            let _ = evidence.absorb_lag(&block(end, canary, stable));
        }
        assert!(!evidence.is_shown());
    }
}

fn busy(name: &str, cpu: f64) -> PodRuntime {
    PodRuntime {
        cpu: Some(cpu),
        ..pod(name, 0, flat)
    }
}

/// After 40 blocks of a canary pod and four of stable's; the first takes `idle + price` for each request.
fn priced(canary: f64, idle: f64, requests: f64) -> GuardEvidence {
    let mut evidence = GuardEvidence::default();
    for end in (3..43).map(|i| i * 30) {
        let canary = vec![busy("c-1", idle + canary * requests)];
        let stable = (0..4)
            .map(|i| busy(&format!("s-{i}"), idle + 0.032 * 250.0))
            .collect();
        let _ = evidence.absorb_cpu(&block(end, canary, stable), requests, 1000.0, 1.5);
    }
    evidence
}

#[test]
fn requests_that_cost_twice_as_much_are_found_and_idle_time_is_not_laid_on_a_few_requests() {
    assert!(priced(0.064, 0.3, 250.0).is_shown());
    assert!(!priced(0.032, 0.3, 250.0).is_shown());
    assert!(
        !priced(0.044, 0.3, 250.0).is_shown(),
        "less than half as much again"
    );
    // Five requests in a block beside 250: idle time is most of what they cost.
    let few = priced(0.032, 0.3, 5.0);
    assert!(!few.is_shown());
    assert_eq!(few.looks().0, 0, "too light a load to be compared");
    assert!(
        !priced(0.032, 0.0, 600.0).is_shown(),
        "more requests, the same price"
    );
    assert!(priced(0.064, 0.0, 600.0).is_shown());
}

fn requests(total: f64, bad: f64) -> Counts {
    Counts::new(total, bad).unwrap()
}

fn answered(end: i64, canary: Counts, stable: Counts) -> Block {
    Block {
        start: at(end - 30),
        end: at(end),
        canary_weight: 10,
        weight_in_force: true,
        weight_settled: true,
        canary,
        canary_late: Counts::default(),
        stable,
        canary_pods: crate::analysis::PodCounts::default(),
        stable_pods: crate::analysis::PodCounts::default(),
        at_route: None,
        reference: None,
    }
}

#[test]
fn a_stricter_schema_is_found_and_a_share_within_the_ratio_is_not() {
    let shifted = |bad: f64, ratio: f64| {
        let mut evidence = GuardEvidence::default();
        (1..=20).map(|i| i * 30).find(|end| {
            let block = answered(*end, requests(60.0, bad), requests(540.0, 11.0));
            evidence.absorb_client_errors(&block).unwrap();
            evidence.client_errors_shifted(ratio)
        })
    };
    assert!(
        shifted(6.0, 2.0).is_some_and(|end| end <= 240),
        "{:?}",
        shifted(6.0, 2.0)
    );
    assert_eq!(shifted(2.0, 2.0), None, "below twice stable's share");
    assert_eq!(shifted(6.0, 6.0), None, "the user allows more");
    assert_eq!(shifted(0.0, 2.0), None);
}

fn any_pod() -> impl Strategy<Value = PodRuntime> {
    let sample = (0i64..400, any::<f64>()).prop_map(|(second, value)| Sample {
        at: at(second),
        value,
    });
    let lag = prop::option::of((0.0..1e6, 0.0..1e6).prop_map(|(a, b)| requests(a, b)));
    (
        0i64..300,
        prop::collection::vec(sample, 0..30),
        prop::option::of(any::<f64>()),
        lag,
    )
        .prop_map(|(since, memory, cpu, lag)| PodRuntime {
            pod: "p".to_owned(),
            since: at(since),
            files: memory.clone(),
            memory,
            cpu,
            lag,
            gc: cpu,
            busy: cpu.into_iter().collect(),
            timeouts: cpu,
        })
}

fn any_blocks() -> impl Strategy<Value = Vec<RuntimeBlock>> {
    let pods = || prop::collection::vec(any_pod(), 0..4);
    prop::collection::vec((pods(), pods()), 0..14).prop_map(|blocks| {
        (1i64..)
            .zip(blocks)
            .map(|(i, (canary, stable))| block(i * 30, canary, stable))
            .collect()
    })
}

fn absorb(evidence: &mut [GuardEvidence; 4], block: &RuntimeBlock) {
    let _ = evidence[0].absorb_memory(block, 64.0 * MIB);
    let _ = evidence[1].absorb_lag(block);
    let _ = evidence[2].absorb_cpu(block, 200.0, 900.0, 1.5);
    let _ = evidence[3].absorb_files(block, 200.0, 900.0, 2.0);
}

proptest! {
    #[test]
    fn whatever_is_read_order_and_restarts_change_nothing(blocks in any_blocks(), cut in 0usize..14) {
        let mut whole: [GuardEvidence; 4] = Default::default();
        let (mut turned, mut restarted) = (whole.clone(), whole.clone());
        for (index, block) in blocks.iter().enumerate() {
            absorb(&mut whole, block);
            let mut other = block.clone();
            for pods in [&mut other.canary, &mut other.stable] {
                pods.reverse();
                for pod in pods.iter_mut() {
                    pod.memory.reverse();
                    pod.files.reverse();
                }
            }
            absorb(&mut turned, &other);
            if index == cut {
                let text = serde_json::to_string(&restarted).unwrap();
                restarted = serde_json::from_str(&text).unwrap();
            }
            absorb(&mut restarted, block);
        }
        prop_assert_eq!(&whole, &restarted);
        let looks = |all: &[GuardEvidence; 4]| all.clone().map(|e| e.looks());
        prop_assert_eq!(looks(&whole), looks(&turned));
        let size = serde_json::to_string(&whole).unwrap().len();
        prop_assert!(size < 2000, "{} bytes", size);
    }
}

/// When a canary whose open files are so is found, in seconds, with so many requests for one of stable's.
fn leaks_files(canary: impl Fn(f64) -> f64, stable: impl Fn(f64) -> f64, load: f64) -> Option<i64> {
    let mut evidence = GuardEvidence::default();
    let files = |name: &str, end: i64, files: &dyn Fn(f64) -> f64| PodRuntime {
        files: pod(name, end, files).memory,
        memory: Vec::new(),
        ..pod(name, end, flat)
    };
    (1..=40).map(|i| i * 30).find(|end| {
        let block = block(
            *end,
            vec![files("c-1", *end, &canary)],
            vec![files("s-1", *end, &stable), files("s-2", *end, &stable)],
        );
        let _ = evidence.absorb_files(&block, load, 2.0, 2.0);
        evidence.is_shown()
    })
}

#[test]
fn files_that_are_never_closed_are_found_and_connections_of_more_requests_are_not() {
    let leak = |t: f64| 20.0 + t * 0.3;
    let found = leaks_files(leak, |_| 25.0, 1.0).expect("it is found");
    assert!(found <= 450, "{found}");
    assert_eq!(leaks_files(leak, leak, 1.0), None, "stable leaks as well");
    let pool = |t: f64| 20.0 + 200.0 * (1.0 - (-t / 60.0).exp());
    assert_eq!(leaks_files(pool, |_| 25.0, 1.0), None, "a pool fills");
    let ramp = |t: f64| 20.0 + f64::min(t, 600.0) * 0.3;
    assert_eq!(
        leaks_files(ramp, |_| 60.0, 3.0),
        None,
        "it has three times the requests"
    );
    assert_eq!(
        leaks_files(|t| 20.0 + t * 0.1, |_| 25.0, 1.0),
        None,
        "16 files in a window are few"
    );
}
