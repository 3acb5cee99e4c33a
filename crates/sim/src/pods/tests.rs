use super::*;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

const INTERVAL: Millis = 15_000;

fn environment() -> Environment {
    Environment {
        start_up_spread: SignedDuration::ZERO,
        ..Environment::of(&crate::study::tests::plan("availability"))
    }
}

fn conduct(errors: f64, hang: f64) -> Conduct {
    Conduct {
        errors,
        hang,
        slow: vec![None, Some(0.25)],
    }
}

const FOR_EVER: Fate = Fate {
    crash_after: None,
    killed_after: None,
};

/// Serves 100 requests a second from one second to another.
fn serve(pod: &mut Pod, rng: &mut Pcg64Mcg, seconds: (i64, i64), conduct: &Conduct) -> (Served, Vec<f64>) {
    let mut tally = Tally::of(2);
    let span = (seconds.0 * 1000, seconds.1 * 1000);
    let served = pod.serve(rng, INTERVAL, span, 0.1, conduct, &mut tally);
    (served, tally.truly_bad)
}

#[test]
fn scrapes_know_what_was_answered_and_no_more() {
    let mut rng = Pcg64Mcg::seed_from_u64(1);
    let mut pod = Pod::serving(&mut rng, &environment(), 2, 0);
    let (served, bad) = serve(&mut pod, &mut rng, (0, 60), &conduct(0.1, 0.5));
    let whole = |counter| pod.growth(counter, 0, 60_000);
    let answered = whole(0);
    assert!(answered > 0 && answered < served.requests, "half of them hang");
    // What hangs fails, and is bad for every objective.
    assert!(served.failed > served.requests / 3 && served.failed < served.requests);
    assert_eq!(bad[0] as u64, served.failed);
    assert!(bad[1] > bad[0] && bad[1] as u64 > whole(2));
    assert!(whole(2) > whole(1), "more are slow than fail");
    // Parts of a time sum to the whole, and nothing is known between scrapes.
    let parts: u64 = (0..6).map(|n| pod.growth(0, n * 10_000, (n + 1) * 10_000)).sum();
    assert_eq!(parts, answered);
    assert_eq!(
        (1..=60)
            .filter(|s| pod.was_scraped((s - 1) * 1000, s * 1000))
            .count(),
        4
    );
}

#[test]
fn what_was_not_scraped_dies_with_the_process() {
    let mut rng = Pcg64Mcg::seed_from_u64(2);
    let environment = environment();
    let fate = Fate {
        crash_after: Some(40_000),
        ..FOR_EVER
    };
    let mut pod = Pod::created(&mut rng, &environment, 2, 0);
    pod.live(&mut rng, &environment, fate, 4_000);
    assert!(pod.is_ready());
    serve(&mut pod, &mut rng, (4, 44), &conduct(0.0, 0.0));
    let known = pod.growth(0, 0, 44_000);
    pod.live(&mut rng, &environment, fate, 44_000);
    assert!(!pod.is_ready() && pod.is_endpoint());
    // Its users get nothing, and nobody counts them.
    let (served, bad) = serve(&mut pod, &mut rng, (44, 45), &conduct(0.0, 0.0));
    assert!(served.requests > 0);
    assert_eq!(served.failed, served.requests);
    assert_eq!(bad, vec![served.requests as f64; 2]);
    pod.live(&mut rng, &environment, fate, 45_000);
    assert!(!pod.is_endpoint());
    pod.live(&mut rng, &environment, fate, 49_000);
    assert!(pod.is_ready());
    let (served, _) = serve(&mut pod, &mut rng, (49, 85), &conduct(0.0, 0.0));
    let later = pod.growth(0, 44_000, 85_000);
    assert!(later > 0 && later <= served.requests);
    assert_eq!(pod.growth(0, 0, 85_000), known + later);
}

#[test]
fn restarts_back_off_as_the_kubelet_does() {
    let mut rng = Pcg64Mcg::seed_from_u64(3);
    let environment = environment();
    let fate = Fate {
        crash_after: Some(5_000),
        killed_after: None,
    };
    let mut pod = Pod::created(&mut rng, &environment, 2, 0);
    let (mut ends, mut begins) = (Vec::new(), Vec::new());
    while begins.len() < 9 {
        let Some(now) = pod.next_change() else {
            panic!("it ends again and again")
        };
        let was_ready = pod.is_ready();
        pod.live(&mut rng, &environment, fate, now);
        if was_ready {
            ends.push(now);
        } else if pod.is_ready() {
            begins.push(now);
        }
    }
    let waits: Vec<i64> = ends
        .iter()
        .zip(&begins[1..])
        .map(|(end, begin)| (begin - end) / 1000 - 5)
        .collect();
    // The endpoint's second and the start-up's four left aside.
    assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(pod.trouble("pod"), None, "it serves at the moment");
    pod.live(&mut rng, &environment, fate, pod.next_change().unwrap());
    let trouble = pod.trouble("pod").unwrap();
    assert_eq!((trouble.kind, trouble.restarts), (TroubleKind::CrashLoop, 8));
    assert_eq!(trouble.message, "pod: ended with exit code 1");
}

#[test]
fn the_first_end_is_the_one_that_happens() {
    let mut rng = Pcg64Mcg::seed_from_u64(4);
    let environment = environment();
    for (crash_after, killed_after, message) in [
        (Some(5_000), Some(9_000), "exit code 1"),
        (Some(9_000), Some(5_000), "OOMKilled"),
        (None, Some(5_000), "OOMKilled"),
        (Some(5_000), None, "exit code 1"),
    ] {
        let fate = Fate {
            crash_after,
            killed_after,
        };
        let mut pod = Pod::created(&mut rng, &environment, 2, 0);
        for now in [4_000, 9_000, 10_000] {
            pod.live(&mut rng, &environment, fate, now);
        }
        let trouble = pod.trouble("pod").unwrap();
        assert!(trouble.message.contains(message), "{} {message}", trouble.message);
    }
}
