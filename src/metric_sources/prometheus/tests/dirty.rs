//! Counters of several workers behind one endpoint, restarts that are genuine, and scrapes that fail.

use super::*;

fn saw(pod: &str) -> Vec<serde_json::Value> {
    vec![
        up(pod, &[(-40, "1"), (-25, "1"), (-10, "1"), (5, "1"), (20, "1")]),
        series(
            REQUESTS,
            pod,
            "status=2xx",
            &[(-40, "100"), (-25, "40"), (-10, "140"), (5, "60"), (20, "180")],
        ),
    ]
}

fn steady(pod: &str) -> Vec<serde_json::Value> {
    vec![
        up(pod, &[(-10, "1"), (5, "1"), (20, "1")]),
        series(
            REQUESTS,
            pod,
            "status=2xx",
            &[(-10, "1000"), (5, "1100"), (20, "1270")],
        ),
    ]
}

#[tokio::test]
async fn a_saw_tooth_counts_for_nobody_and_says_how_to_end_it() {
    for (canary, stable, dirty) in [
        (saw(&canary_pod()), steady(&stable_pod()), canary_pod()),
        (steady(&canary_pod()), saw(&stable_pod()), stable_pod()),
    ] {
        let fake = Fake::series([canary, stable].concat()).await;
        let measured = fake.measure(request(vec![availability()])).await;
        assert_eq!(only(&measured), None);
        assert_eq!(reasons(&measured), ["MetricsUnusable"]);
        let message = &measured.problems[0].message;
        for part in [
            "SLO \"checked\"",
            &format!("pod {dirty} fell 2 times"),
            "PROMETHEUS_MULTIPROC_DIR",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }
}

#[tokio::test]
async fn an_objective_of_clean_counters_is_read_beside_one_of_dirty_ones() {
    let clean = matrix(&[
        series("all_total", &canary_pod(), "", &[(-10, "10"), (20, "40")]),
        series("all_total", &stable_pod(), "", &[(-10, "10"), (20, "80")]),
    ]);
    let dirty = matrix(&[saw(&canary_pod()), steady(&stable_pod())].concat());
    let fake = Fake::new(move |query: &str| {
        if query.contains("http_requests_total") {
            dirty.clone()
        } else if query.contains("all_total") {
            clean.clone()
        } else {
            matrix(&[])
        }
    })
    .await;
    let measured = fake.measure(request(vec![availability(), counters()])).await;
    let block = &measured.measurement.blocks[0].slos;
    assert_eq!(block[0], None);
    assert_eq!(
        block[1].as_ref().map(without_pods),
        counts((30.0, 0.0), (70.0, 0.0))
    );
}

#[tokio::test]
async fn one_fall_spoils_its_own_block_and_two_minutes_more() {
    let fake = Fake::series(
        [
            vec![series(
                REQUESTS,
                &canary_pod(),
                "status=2xx",
                &[(-10, "100"), (20, "5"), (50, "45"), (140, "50"), (170, "55")],
            )],
            vec![series(
                REQUESTS,
                &stable_pod(),
                "status=2xx",
                &[
                    (-10, "1000"),
                    (20, "1200"),
                    (50, "1500"),
                    (140, "2000"),
                    (170, "2100"),
                ],
            )],
        ]
        .concat(),
    )
    .await;
    let mut request = request(vec![availability()]);
    request.edges = vec![at(0), at(30), at(60), at(150), at(180)];
    let measured = fake.measure(request).await;
    let blocks: Vec<_> = measured
        .measurement
        .blocks
        .iter()
        .map(|b| b.slos[0].as_ref().map(without_pods))
        .collect();
    assert_eq!(blocks, [None, None, None, counts((5.0, 0.0), (100.0, 0.0))]);
    assert_eq!(measured.problems, [], "the newest block is fine");
}

/// A counter of the canary that falls from 100 to 5, with other series beside it.
async fn after_a_fall(more: Vec<serde_json::Value>, starts: Option<Starts>) -> Measured {
    let mut all = steady(&stable_pod());
    all.push(up(&canary_pod(), &[(-10, "1"), (20, "1")]));
    all.push(series(
        REQUESTS,
        &canary_pod(),
        "status=2xx",
        &[(-10, "100"), (20, "5")],
    ));
    all.extend(more);
    let fake = Fake::series(all).await;
    let mut request = request(vec![availability()]);
    match starts {
        Some(starts) => request.starts.insert(canary_pod(), starts),
        None => request.starts.remove(&canary_pod()),
    };
    fake.measure(request).await
}

#[tokio::test]
async fn a_restart_of_the_container_or_of_the_process_is_a_reset() {
    let began = |second| Starts {
        at: vec![at(-3600), at(second)],
        older: false,
    };
    let process = |second: i64| {
        let value = (1_700_000_000 + second).to_string();
        vec![series(
            "process_start_time_seconds",
            &canary_pod(),
            "",
            &[(-10, "1699990000"), (20, &value)],
        )]
    };
    let reset = counts((5.0, 0.0), (270.0, 0.0));
    assert_eq!(only(&after_a_fall(Vec::new(), Some(began(8))).await), reset);
    assert_eq!(only(&after_a_fall(process(8), Some(began(-900))).await), reset);
    assert_eq!(
        only(&after_a_fall(Vec::new(), None).await),
        reset,
        "a pod that is gone"
    );
    // Workers that began long ago explain nothing.
    let measured = after_a_fall(process(-900), Some(began(-900))).await;
    assert_eq!(
        (only(&measured), reasons(&measured)),
        (None, vec!["MetricsUnusable"])
    );
}

#[tokio::test]
async fn a_gap_a_staleness_marker_and_a_late_series_lose_nothing() {
    let fake = Fake::series(vec![
        // Two scrapes were missed; what was counted meanwhile is in the next one.
        up(&canary_pod(), &[(-40, "1"), (-25, "1"), (20, "1")]),
        series(
            REQUESTS,
            &canary_pod(),
            "status=2xx",
            &[(-40, "5"), (-25, "10"), (-10, "NaN"), (20, "60")],
        ),
        // Appears with its first request, on a pod that was scraped before.
        series(REQUESTS, &canary_pod(), "status=5xx", &[(20, "3")]),
        up(&stable_pod(), &[(-10, "1"), (20, "1")]),
        series(
            REQUESTS,
            &stable_pod(),
            "status=2xx",
            &[(-10, "100"), (20, "400")],
        ),
    ])
    .await;
    let measured = fake.measure(request(vec![availability()])).await;
    assert_eq!(only(&measured), counts((53.0, 3.0), (300.0, 0.0)));
    assert_eq!(measured.problems, []);
}

/// What stable's hour was, as a query of it is answered; everything else is steady.
async fn with_an_hour(values: &[(i64, String)]) -> Measured {
    let values: Vec<(i64, &str)> = values.iter().map(|(at, value)| (*at, value.as_str())).collect();
    let ups: Vec<(i64, &str)> = values.iter().map(|(at, _)| (*at, "1")).collect();
    let hour = matrix(&[
        up(&stable_pod(), &ups),
        series(REQUESTS, &stable_pod(), "status=2xx", &values),
    ]);
    let now = matrix(&[steady(&canary_pod()), steady(&stable_pod())].concat());
    let fake = Fake::new(move |query: &str| {
        if query.contains("[37") {
            hour.clone()
        } else if query.contains("avg_over_time") {
            vector(&[])
        } else {
            now.clone()
        }
    })
    .await;
    let mut request = request(vec![availability()]);
    request.want_history = true;
    fake.measure(request).await
}

#[tokio::test]
async fn an_hour_of_falls_before_is_told_although_the_last_minutes_rise() {
    let scrapes = || (0..230).map(|scrape| (-3600 + 15 * scrape, scrape));
    let measured = with_an_hour(
        &scrapes()
            .map(|(at, scrape)| {
                let worker = if scrape < 100 { scrape % 4 } else { 0 };
                (at, (10 * scrape + 500 * worker).to_string())
            })
            .collect::<Vec<_>>(),
    )
    .await;
    assert!(measured.measurement.history[0].falls);
    assert_eq!(measured.problems, [], "the newest block is fine");
    let [problem] = measured.of_history.as_slice() else {
        panic!("{measured:?}")
    };
    assert_eq!(problem.reason, "MetricsUnusable");
    assert!(problem.message.contains("fell 25 times"), "{}", problem.message);

    // One that began again three times in an hour is no crowd.
    let measured = with_an_hour(
        &scrapes()
            .map(|(at, scrape)| (at, (10 * (scrape % 60)).to_string()))
            .collect::<Vec<_>>(),
    )
    .await;
    assert!(!measured.measurement.history[0].falls);
    assert_eq!(measured.of_history, []);
}
