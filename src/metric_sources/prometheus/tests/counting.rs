//! What is counted, and what is known of the past.

use molt_core::observed::History;

use super::*;

#[tokio::test]
async fn both_revisions_are_one_query() {
    let fake = Fake::series(vec![
        series(REQUESTS, &canary_pod(), "status=2xx", &[(-10, "10"), (20, "40")]),
        series(
            REQUESTS,
            &stable_pod(),
            "status=2xx",
            &[(-10, "1000"), (20, "1270")],
        ),
        // Born with its first error, on a pod that was scraped before.
        series(REQUESTS, &canary_pod(), "status=500", &[(20, "2")]),
        series(REQUESTS, &stable_pod(), "status=5xx", &[(-10, "7"), (20, "7")]),
        series(REQUESTS, &stable_pod(), "status=4xx", &[(-10, "7"), (20, "8")]),
        // Another service whose name begins the same, and a pod of another revision.
        series(
            REQUESTS,
            &format!("{STABLE}-extra-4zq7w"),
            "status=5xx",
            &[(-10, "0"), (20, "9")],
        ),
    ])
    .await;
    let measured = fake.measure(request(vec![availability()])).await;
    assert_eq!(only(&measured), counts((32.0, 2.0), (271.0, 0.0)));
    assert_eq!(measured.problems, []);
    assert_eq!(
        (
            measured.measurement.blocks[0].start,
            measured.measurement.blocks[0].end
        ),
        (at(0), at(30))
    );

    let asked = fake.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0]["time"], "1700000030.000");
    let query = &asked[0]["query"];
    assert!(
        query.contains(r#"__name__=~"http_requests_total|up|target_info|process_start_time_seconds""#),
        "{query}"
    );
    assert!(query.contains(r#"namespace="shop",pod=~"(checkout-bbbbbbbbbb|checkout-aaaaaaaaaa)-[a-z0-9]+""#));
    assert!(query.ends_with("}[150s]"), "{query}");
}

#[tokio::test]
async fn what_the_canary_counted_after_stable_was_read_is_told_apart() {
    let late = |stable: &'static [(i64, &'static str)], more: &'static [(i64, &'static str)]| async move {
        let other = format!("{STABLE}-zzzzz");
        let fake = Fake::series(vec![
            series(
                REQUESTS,
                &canary_pod(),
                "status=2xx",
                &[(-2, "10"), (13, "20"), (28, "40")],
            ),
            series(
                REQUESTS,
                &canary_pod(),
                "status=5xx",
                &[(-2, "0"), (13, "1"), (28, "9")],
            ),
            series(REQUESTS, &stable_pod(), "status=2xx", stable),
            series(REQUESTS, &other, "status=2xx", more),
        ])
        .await;
        let measured = fake.measure(request(vec![availability()])).await;
        let block = measured.measurement.blocks[0].slos[0].unwrap();
        assert_eq!((block.canary.total(), block.canary.bad()), (39.0, 9.0));
        (block.canary_late.total(), block.canary_late.bad())
    };
    let soon: &[(i64, &str)] = &[(-9, "0"), (6, "50"), (21, "99")];
    let last: &[(i64, &str)] = &[(-1, "0"), (14, "50"), (29, "99")];
    assert_eq!(late(last, last).await, (0.0, 0.0));
    // One of stable's pods is enough: it has not seen what came after 21 s.
    assert_eq!(late(last, soon).await, (28.0, 8.0));
    // A pod that was not read in this block tells nothing of it, and holds nothing up.
    assert_eq!(late(last, &[(-40, "0"), (-25, "9")]).await, (0.0, 0.0));
}

#[tokio::test]
async fn a_pod_that_is_scraped_twice_counts_once() {
    let mut all = Vec::new();
    for (job, shift) in [("a", 0), ("b", 3)] {
        for pod in [canary_pod(), stable_pod()] {
            all.push(scraped(
                job,
                "up",
                &pod,
                "",
                &[(-10 + shift, "1"), (20 + shift, "1")],
            ));
            all.push(scraped(
                job,
                REQUESTS,
                &pod,
                "status=2xx",
                &[(-10 + shift, "10"), (20 + shift, "40")],
            ));
        }
    }
    let measured = Fake::series(all)
        .await
        .measure(request(vec![availability()]))
        .await;
    assert_eq!(only(&measured), counts((30.0, 0.0), (30.0, 0.0)));
}

#[tokio::test]
async fn a_label_of_the_application_is_no_label_of_scraping() {
    let strip = |mut series: serde_json::Value, endpoint: &str| {
        let metric = series["metric"].as_object_mut().unwrap();
        metric.remove("endpoint");
        if !endpoint.is_empty() {
            metric.insert("endpoint".to_owned(), endpoint.into());
        }
        series
    };
    let samples = [(-10, "10"), (20, "40")];
    let mut all = Vec::new();
    for pod in [canary_pod(), stable_pod()] {
        all.push(strip(up(&pod, &[(-10, "1"), (20, "1")]), ""));
        for endpoint in ["/pay", "/cancel"] {
            all.push(strip(series(REQUESTS, &pod, "status=2xx", &samples), endpoint));
        }
    }
    let measured = Fake::series(all)
        .await
        .measure(request(vec![availability()]))
        .await;
    assert_eq!(only(&measured), counts((60.0, 0.0), (60.0, 0.0)));
}

#[tokio::test]
async fn scraped_without_requests_is_zero_and_not_scraped_is_unknown() {
    let stable = series(REQUESTS, &stable_pod(), "status=2xx", &[(-10, "10"), (20, "40")]);
    let with = |canary: Vec<serde_json::Value>| async {
        let all = canary.into_iter().chain([stable.clone()]).collect();
        Fake::series(all)
            .await
            .measure(request(vec![availability()]))
            .await
    };
    let measured = with(vec![up(&canary_pod(), &[(-10, "1"), (20, "1")])]).await;
    assert_eq!(
        (only(&measured), reasons(&measured)),
        (counts((0.0, 0.0), (30.0, 0.0)), vec![])
    );

    // A first request, on a pod that was scraped before without any.
    let first = series(REQUESTS, &canary_pod(), "status=2xx", &[(20, "1")]);
    let measured = with(vec![first, up(&canary_pod(), &[(-10, "1"), (20, "1")])]).await;
    assert_eq!(only(&measured), counts((1.0, 0.0), (30.0, 0.0)));

    for canary in [vec![], vec![up(&canary_pod(), &[(-10, "0"), (20, "0")])]] {
        let measured = with(canary).await;
        assert_eq!(
            (only(&measured), reasons(&measured)),
            (None, vec!["PodsNotScraped"])
        );
        let message = &measured.problems[0].message;
        assert!(
            message.contains(CANARY) && message.contains("podLabel"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_pod_that_is_not_scraped_yet_is_unknown_without_a_problem() {
    let mut request = request(vec![availability()]);
    request.births.insert(canary_pod(), at(10));
    let stable = series(REQUESTS, &stable_pod(), "status=2xx", &[(-10, "10"), (20, "40")]);
    let measured = Fake::series(vec![stable.clone()])
        .await
        .measure(request.clone())
        .await;
    assert_eq!((only(&measured), reasons(&measured)), (None, vec![]));

    request.births.remove(&canary_pod());
    let measured = Fake::series(vec![stable]).await.measure(request).await;
    assert_eq!(
        (only(&measured), reasons(&measured)),
        (counts((0.0, 0.0), (30.0, 0.0)), vec![])
    );
}

#[tokio::test]
async fn the_times_of_another_scraper_make_no_counter_new() {
    let mut all = Vec::new();
    for pod in [canary_pod(), stable_pod()] {
        all.push(scraped(
            "other",
            "target_info",
            &pod,
            "",
            &[(-40, "1"), (20, "1")],
        ));
        all.push(scraped("other", "up", &pod, "", &[(-40, "1"), (20, "1")]));
        all.push(series(
            REQUESTS,
            &pod,
            "status=2xx",
            &[(5, "1000000"), (20, "1000030")],
        ));
    }
    let measured = Fake::series(all)
        .await
        .measure(request(vec![availability()]))
        .await;
    assert_eq!(only(&measured), counts((30.0, 0.0), (30.0, 0.0)));
}

#[tokio::test]
async fn a_metric_that_no_pod_has_is_a_problem() {
    let ups = [canary_pod(), stable_pod()].map(|pod| up(&pod, &[(-10, "1"), (20, "1")]));
    let measured = Fake::series(ups.to_vec())
        .await
        .measure(request(vec![availability()]))
        .await;
    assert_eq!(
        (only(&measured), reasons(&measured)),
        (None, vec!["SeriesMissing"])
    );
    assert!(
        measured.problems[0].message.contains(REQUESTS),
        "{}",
        measured.problems[0].message
    );
}

#[tokio::test]
async fn values_that_are_no_counts_are_unknown() {
    let stable = series(REQUESTS, &stable_pod(), "status=2xx", &[(-10, "10"), (20, "40")]);
    for value in ["NaN", "+Inf", "-Inf", "-3"] {
        let canary = series(REQUESTS, &canary_pod(), "status=2xx", &[(-10, "1"), (20, value)]);
        let all = vec![
            canary,
            up(&canary_pod(), &[(-10, "1"), (20, "1")]),
            stable.clone(),
        ];
        let measured = Fake::series(all)
            .await
            .measure(request(vec![availability()]))
            .await;
        assert_eq!(only(&measured), None, "{value}");
    }
}

#[tokio::test]
async fn slow_requests_are_those_outside_of_the_bucket() {
    let (count, bucket) = (
        "http_request_duration_seconds_count",
        "http_request_duration_seconds_bucket",
    );
    let fake = Fake::series(vec![
        series(count, &canary_pod(), "handler=/pay", &[(-10, "10"), (20, "40")]),
        series(
            bucket,
            &canary_pod(),
            "handler=/pay,le=1.0",
            &[(-10, "10"), (20, "35")],
        ),
        series(count, &canary_pod(), "handler=/new", &[(20, "3")]),
        series(bucket, &canary_pod(), "handler=/new,le=1.0", &[(20, "1")]),
        series(count, &stable_pod(), "handler=/pay", &[(-10, "100"), (20, "200")]),
        series(
            bucket,
            &stable_pod(),
            "handler=/pay,le=1.0",
            &[(-10, "90"), (20, "190")],
        ),
    ])
    .await;
    let measured = fake.measure(request(vec![latency(1000)])).await;
    assert_eq!(only(&measured), counts((33.0, 7.0), (100.0, 0.0)));
    assert!(
        fake.queries()[0].contains(r#"le=~"(1([.]0*)?)?""#),
        "{:?}",
        fake.queries()
    );
}

#[tokio::test]
async fn latencies_of_a_pod_that_is_not_warm_yet_count_neither_way() {
    let (count, bucket) = (
        "http_request_duration_seconds_count",
        "http_request_duration_seconds_bucket",
    );
    let young = format!("{CANARY}-young");
    let mut all = Vec::new();
    for (pod, within) in [(canary_pod(), "40"), (young.clone(), "10"), (stable_pod(), "40")] {
        all.push(series(count, &pod, "", &[(-10, "10"), (20, "40")]));
        all.push(series(bucket, &pod, "le=1.0", &[(-10, "10"), (20, within)]));
    }
    let mut request = request(vec![latency(1000)]);
    request.births.insert(young.clone(), at(-60));
    let measure = async |request: &MeasureRequest| {
        let measured = Fake::series(all.clone()).await.measure(request.clone()).await;
        only(&measured)
    };
    assert_eq!(measure(&request).await, counts((60.0, 30.0), (30.0, 0.0)));
    // It is warm from the middle of the block on.
    request.warm_at.insert(young, at(10));
    assert_eq!(measure(&request).await, counts((30.0, 0.0), (30.0, 0.0)));
    // That the whole revision is silent would be worse.
    request.warm_at.insert(canary_pod(), at(10));
    assert_eq!(measure(&request).await, counts((60.0, 30.0), (30.0, 0.0)));
}

#[tokio::test]
async fn a_threshold_that_is_no_edge_names_the_edges() {
    let count = "http_request_duration_seconds_count";
    let all = [canary_pod(), stable_pod()].map(|pod| series(count, &pod, "", &[(-10, "1"), (20, "9")]));
    for (edges, part) in [
        (
            vec!["+Inf", "1.0", "0.1", "0.5", "1"],
            "set sli.threshold to one of its edges, 100ms, 500ms, 1s, or",
        ),
        (vec!["0.25"], "but not in both revisions"),
        (vec![], "have the application export classic histogram buckets"),
    ] {
        let matrix = matrix(&all);
        let points: Vec<_> = edges.iter().map(|edge| ("le", *edge, "3")).collect();
        let vector = vector(&points);
        let answer = move |query: &str| {
            if query.starts_with("count by (le)") {
                vector.clone()
            } else {
                matrix.clone()
            }
        };
        let fake = Fake::new(answer).await;
        let measured = fake.measure(request(vec![latency(250)])).await;
        assert_eq!(
            (only(&measured), reasons(&measured)),
            (None, vec!["HistogramEdgeMissing"])
        );
        let message = &measured.problems[0].message;
        assert!(
            message.contains("SLO \"checked\"") && message.contains("250ms") && message.contains(part),
            "{message}"
        );
    }
}

#[tokio::test]
async fn own_counters_are_one_query_and_read_by_their_selectors() {
    let pods = [canary_pod(), stable_pod()];
    let mut all: Vec<_> = pods
        .iter()
        .map(|pod| series("all_total", pod, "kind=card", &[(-10, "10"), (20, "30")]))
        .collect();
    all.push(series("bad_total", &pods[0], "why=a", &[(20, "4")]));
    // Of the name, and not of the selector.
    all.push(series("bad_total", &pods[0], "why=bc", &[(20, "7")]));
    all.extend(pods.iter().map(|pod| up(pod, &[(-10, "1"), (20, "1")])));
    let fake = Fake::series(all).await;
    let measured = fake.measure(request(vec![counters()])).await;
    assert_eq!(only(&measured), counts((20.0, 4.0), (20.0, 0.0)));
    let [query] = &fake.queries()[..] else {
        panic!("{:?}", fake.queries())
    };
    let names = r#"__name__=~"all_total|bad_total|process_start_time_seconds|target_info|up""#;
    assert!(query.contains(names) && !query.contains("why"), "{query}");
}

#[tokio::test]
async fn counters_are_added_up() {
    let pods = [canary_pod(), stable_pod()];
    let mut all = Vec::new();
    for pod in &pods {
        // The same labels, so that only the names tell them apart.
        all.push(series("done_total", pod, "kind=card", &[(-10, "10"), (20, "30")]));
        all.push(series("failed_total", pod, "kind=card", &[(-10, "0"), (20, "3")]));
        all.push(series("lost_total", pod, "kind=card", &[(-10, "1"), (20, "2")]));
        all.push(up(pod, &[(-10, "1"), (20, "1")]));
    }
    // One that was never counted in stable.
    all.push(series("late_total", &pods[0], "kind=card", &[(20, "5")]));
    let fake = Fake::series(all).await;
    let slo = of_counters(
        "sum(failed_total{kind=\"card\"}) + lost_total{kind=\"card\"}",
        "done_total{kind=\"card\"} + failed_total{kind=\"card\"} + late_total{kind=\"card\"} + lost_total{kind=\"card\"}",
    );
    let measured = fake.measure(request(vec![slo])).await;
    assert_eq!(only(&measured), counts((29.0, 4.0), (24.0, 4.0)));
    let [query] = &fake.queries()[..] else {
        panic!("{:?}", fake.queries())
    };
    // Labels that are rewritten as they are scraped are not on `up`.
    assert!(!query.contains("card"), "{query}");
}

#[tokio::test]
async fn the_history_of_added_counters_is_their_sum() {
    let fake = Fake::new(|_| vector(&[])).await;
    let mut request = request(vec![of_counters("lost_total", "done_total + lost_total")]);
    request.edges.clear();
    request.want_history = true;
    fake.measure(request).await;
    let queries = fake.queries();
    let rate = queries
        .iter()
        .find(|query| query.contains("avg_over_time"))
        .unwrap();
    assert!(
        rate.contains("sum without (counter) (label_replace(sum(")
            && rate.contains("rate(done_total{")
            && rate.contains("\"counter\",\"1\""),
        "{rate}"
    );
}

#[tokio::test]
async fn history_is_known_or_none() {
    let read = |rates: Reply, bad: Reply| async move {
        let fake = Fake::new(move |query| {
            if query.contains("avg_over_time") {
                rates.clone()
            } else {
                bad.clone()
            }
        })
        .await;
        let mut request = request(vec![availability()]);
        request.edges.clear();
        request.want_history = true;
        let measured = fake.measure(request).await;
        assert_eq!((measured.measurement.blocks, measured.problems), (vec![], vec![]));
        assert!(
            fake.queries()[0].contains(r#"pod=~"checkout-[0-9a-f]{10}-[a-z0-9]+""#),
            "{:?}",
            fake.queries()
        );
        measured.measurement.history[0]
    };
    let rates = |rate, points| vector(&[("what", rate, "2"), ("what", "points", points)]);
    let broken = (500, JSON, String::new());
    let close = |history: History, left: f64| {
        let History {
            rate,
            budget_remaining,
            past: _,
            falls: _,
        } = history;
        assert!(
            (rate.unwrap() - 2.0).abs() < 1e-12 && (budget_remaining.unwrap() - left).abs() < 1e-9,
            "{history:?}"
        );
    };
    // 2 requests a second for 30 days, of which 0.1 % may fail: 5184.
    close(
        read(rates("rate", "700"), vector(&[("", "", "1296")])).await,
        0.75,
    );
    close(read(rates("rate", "700"), vector(&[])).await, 1.0);
    close(
        read(rates("rate", "700"), vector(&[("", "", "10368")])).await,
        -1.0,
    );
    let unknown = History {
        rate: Some(2.0),
        ..History::default()
    };
    assert_eq!(read(rates("rate", "3"), broken.clone()).await, unknown);
    assert_eq!(
        read(rates("rate", "3"), vector(&[("", "", "NaN")])).await,
        unknown
    );
    assert_eq!(read(rates("rate", "2"), vector(&[])).await, History::default());
    assert_eq!(read(rates("other", "700"), vector(&[])).await, History::default());
    assert_eq!(read(vector(&[]), vector(&[])).await, History::default());
    assert_eq!(read(broken.clone(), broken).await, History::default());
}

#[tokio::test]
async fn the_proxies_beside_the_pods_are_read_as_the_applications_are() {
    for (preset, name, good, bad) in [
        (
            Preset::Istio,
            "istio_requests_total",
            "response_code=200",
            "response_code=503",
        ),
        (
            Preset::Linkerd,
            "response_total",
            "classification=success",
            "classification=failure",
        ),
    ] {
        let fake = Fake::series(vec![
            up(&canary_pod(), &[(-10, "1"), (20, "1")]),
            series(name, &canary_pod(), good, &[(-10, "10"), (20, "40")]),
            series(name, &canary_pod(), bad, &[(20, "2")]),
            series(name, &stable_pod(), good, &[(-10, "1000"), (20, "1270")]),
        ])
        .await;
        let measured = fake
            .measure(request(vec![slo(SliQuery::Availability(preset))]))
            .await;
        assert_eq!(only(&measured), counts((32.0, 2.0), (270.0, 0.0)), "{preset:?}");
        assert_eq!(measured.problems, []);
    }
    let edge = SignedDuration::from_millis(500);
    let histogram = "istio_request_duration_milliseconds";
    let of = |pod: String, all: &str, within: &str| {
        [
            series(
                &format!("{histogram}_count"),
                &pod,
                "reporter=destination",
                &[(-10, "0"), (20, all)],
            ),
            series(
                &format!("{histogram}_bucket"),
                &pod,
                "reporter=destination,le=500",
                &[(-10, "0"), (20, within)],
            ),
        ]
    };
    let all = [of(canary_pod(), "30", "25"), of(stable_pod(), "270", "269")].concat();
    let fake = Fake::series(all).await;
    let measured = fake
        .measure(request(vec![slo(SliQuery::Latency(Preset::Istio.into(), edge))]))
        .await;
    assert_eq!(only(&measured), counts((30.0, 5.0), (270.0, 1.0)));
    assert!(
        fake.queries()[0].contains(r#"le=~"(500([.]0*)?)?""#),
        "{:?}",
        fake.queries()
    );
}

#[tokio::test]
async fn workers_that_push_from_one_pod_count_each() {
    let pushed = |worker: &str, pod: String, first: &str, last: &str| {
        let labels = format!("instance={worker},http_response_status_code=200");
        let name = "http_server_request_duration_seconds_count";
        [
            series(name, &pod, &labels, &[(-10, first), (20, last)]),
            series(
                "target_info",
                &pod,
                &format!("instance={worker}"),
                &[(-10, "1"), (20, "1")],
            ),
        ]
    };
    let all = [
        pushed("worker-1", canary_pod(), "10", "40"),
        pushed("worker-2", canary_pod(), "5", "25"),
        pushed("worker-1", stable_pod(), "100", "300"),
    ];
    let fake = Fake::series(all.concat()).await;
    let measured = fake
        .measure(request(vec![slo(SliQuery::Availability(Preset::Otel))]))
        .await;
    assert_eq!(only(&measured), counts((50.0, 0.0), (200.0, 0.0)));
    assert_eq!(measured.problems, []);
}
