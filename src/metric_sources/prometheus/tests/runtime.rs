//! What guards of the runtime are told.

use molt_core::guard::{GuardKind, PodRuntime, Raised, RouteCounts, RuntimeBlock};

use super::super::super::{GuardQuery, PoolLimit};
use super::*;

const MEMORY: &str = "process_resident_memory_bytes";
const CPU: &str = "process_cpu_seconds_total";

fn lag_query() -> GuardQuery {
    GuardQuery::EventLoopLag {
        metric: "event_loop_lag_seconds".to_owned(),
        p99: 0.2,
    }
}

fn asking(guards: Vec<GuardQuery>) -> MeasureRequest {
    MeasureRequest {
        guards,
        ..request(Vec::new())
    }
}

async fn told(guards: Vec<GuardQuery>, series: Vec<serde_json::Value>) -> RuntimeBlock {
    let measured = Fake::series(series).await.measure(asking(guards)).await;
    assert_eq!(measured.problems, [], "a guard is no reason for a condition");
    let [block] = &measured.measurement.runtime[..] else {
        panic!("{measured:?}")
    };
    assert_eq!((block.start, block.end), (at(0), at(30)));
    block.clone()
}

fn why(block: &RuntimeBlock, kind: GuardKind) -> &str {
    let silent = block.silent.iter().find(|(of, _)| *of == kind);
    silent.map_or("", |(_, why)| why.as_str())
}

fn values(pod: &PodRuntime) -> Vec<f64> {
    pod.memory.iter().map(|s| s.value).collect()
}

#[tokio::test]
async fn all_guards_are_one_query_and_pods_are_told_apart() {
    let both = |name: &str, canary: &[(i64, &str)], stable: &[(i64, &str)]| {
        vec![
            series(name, &canary_pod(), "", canary),
            series(name, &stable_pod(), "", stable),
        ]
    };
    let mut all = both(
        MEMORY,
        &[(-10, "1e8"), (20, "1.1e8")],
        &[(-10, "2e8"), (20, "2e8")],
    );
    all.extend(both(CPU, &[(-10, "5"), (20, "8")], &[(-10, "70"), (20, "71.5")]));
    all.extend(both(
        "process_open_fds",
        &[(-10, "12"), (20, "40")],
        &[(-10, "13"), (20, "13")],
    ));
    for (le, canary, stable) in [
        ("0.1", "10", "40"),
        ("0.25", "20", "70"),
        ("0.5", "26", "70"),
        ("+Inf", "30", "70"),
    ] {
        let labels = format!("le={le}");
        let name = "event_loop_lag_seconds_bucket";
        all.push(series(name, &canary_pod(), &labels, &[(-10, "0"), (20, canary)]));
        all.push(series(name, &stable_pod(), &labels, &[(-10, "0"), (20, stable)]));
    }
    all.extend(both(
        "event_loop_lag_seconds_count",
        &[(-10, "0"), (20, "30")],
        &[(-10, "0"), (20, "70")],
    ));
    // A helper beside the application, and a pod of nobody.
    all.push(series(
        MEMORY,
        &canary_pod(),
        "container=proxy",
        &[(-10, "1e7"), (20, "9e7")],
    ));
    all.push(series(
        MEMORY,
        &format!("{STABLE}-extra-4zq7w"),
        "",
        &[(20, "9e9")],
    ));

    let fake = Fake::series(all).await;
    let request = asking(vec![
        GuardQuery::Memory,
        lag_query(),
        GuardQuery::Cpu,
        GuardQuery::OpenFiles,
    ]);
    let measured = fake.measure(request).await;
    let block = &measured.measurement.runtime[0];
    let ([canary], [stable]) = (&block.canary[..], &block.stable[..]) else {
        panic!("{block:?}")
    };
    assert_eq!(values(canary), [1e8, 1.1e8]);
    assert_eq!(values(stable), [2e8, 2e8]);
    let open = |pod: &PodRuntime| pod.files.iter().map(|s| s.value).collect::<Vec<_>>();
    assert_eq!((open(canary), open(stable)), (vec![12.0, 40.0], vec![13.0, 13.0]));
    assert_eq!((canary.cpu, stable.cpu), (Some(3.0), Some(1.5)));
    // 200 ms is no edge: the next one above it counts.
    assert_eq!(
        (canary.lag, stable.lag),
        (Counts::new(30.0, 10.0), Counts::new(70.0, 0.0))
    );
    assert_eq!((canary.since, stable.since), (at(-3600), at(-3600)));
    assert_eq!(
        block.silent,
        [(
            GuardKind::ClientErrors,
            "no objective of availability has a preset, which tells statuses apart".to_owned()
        )]
    );
    let [query] = &fake.queries()[..] else { panic!() };
    for part in [
        MEMORY,
        CPU,
        "event_loop_lag_seconds_bucket",
        "container_memory_working_set_bytes",
    ] {
        assert!(query.contains(part), "{query}");
    }
    assert!(
        query.ends_with("}[270s]"),
        "four minutes before the block's end: {query}"
    );
}

#[tokio::test]
async fn the_order_of_series_changes_nothing() {
    let mut all = vec![
        series(MEMORY, &canary_pod(), "", &[(-10, "1e8"), (20, "NaN")]),
        scraped("other", MEMORY, &canary_pod(), "", &[(-5, "1e8"), (25, "1e8")]),
        series(MEMORY, &stable_pod(), "", &[(-10, "-1"), (20, "2e8")]),
        series(CPU, &canary_pod(), "", &[(-10, "5"), (20, "1")]),
        series(CPU, &stable_pod(), "", &[(-10, "5"), (20, "1e300")]),
    ];
    let guards = || vec![GuardQuery::Memory, GuardQuery::Cpu];
    let one = told(guards(), all.clone()).await;
    all.reverse();
    let other = told(guards(), all).await;
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
    assert_eq!(one.canary[0].cpu, Some(1.0), "it began again at 0");
}

#[tokio::test]
async fn where_processes_tell_nothing_the_kubelet_does_and_one_is_never_beside_the_other() {
    let kubelet = "container_memory_working_set_bytes";
    let mixed = vec![
        series(MEMORY, &canary_pod(), "", &[(20, "1e8")]),
        series(kubelet, &canary_pod(), "container=app", &[(20, "3e8")]),
        series(kubelet, &canary_pod(), "container=", &[(20, "5e8")]),
        series(kubelet, &stable_pod(), "container=app", &[(20, "4e8")]),
        series(kubelet, &stable_pod(), "container=POD", &[(20, "9e8")]),
    ];
    let block = told(vec![GuardQuery::Memory], mixed.clone()).await;
    assert_eq!(values(&block.canary[0]), [3e8]);
    assert_eq!(values(&block.stable[0]), [4e8]);

    let block = told(vec![GuardQuery::Memory], mixed[..1].to_vec()).await;
    assert_eq!(values(&block.canary[0]), [] as [f64; 0]);
    assert!(
        why(&block, GuardKind::MemoryGrowth).contains(kubelet),
        "{block:?}"
    );
}

#[tokio::test]
async fn what_is_not_there_says_why() {
    let block = told(
        vec![lag_query(), GuardQuery::Cpu, GuardQuery::OpenFiles],
        Vec::new(),
    )
    .await;
    assert!(why(&block, GuardKind::OpenFiles).contains("process_open_fds"));
    assert!(why(&block, GuardKind::EventLoopLag).contains("eventLoopLag.metric"));
    assert!(why(&block, GuardKind::CpuPerRequest).contains(CPU));
    let short = series(
        "event_loop_lag_seconds_bucket",
        &canary_pod(),
        "le=0.1",
        &[(20, "1")],
    );
    let block = told(vec![lag_query()], vec![short]).await;
    assert_eq!(
        why(&block, GuardKind::EventLoopLag),
        "the histogram event_loop_lag_seconds has no edge at or above 200ms"
    );

    let broken = Fake::new(|_| (500, "text/html", "<html>".to_owned())).await;
    let measured = broken.measure(asking(vec![GuardQuery::Memory])).await;
    assert_eq!(measured.problems, []);
    let block = &measured.measurement.runtime[0];
    assert!(
        why(block, GuardKind::MemoryGrowth).contains("does not answer as a Prometheus does"),
        "{block:?}"
    );
    assert!(block.canary.iter().all(|pod| pod.memory.is_empty()));

    let silent = broken.measure(request(Vec::new())).await;
    assert!(
        silent.measurement.runtime.is_empty(),
        "nobody asks for what there is none of"
    );
    assert_eq!(broken.queries().len(), 1);
}

#[tokio::test]
async fn refused_requests_are_counted_as_objectives_count_failed_ones() {
    let block = told(
        vec![GuardQuery::ClientErrors(availability())],
        vec![
            series(REQUESTS, &canary_pod(), "status=2xx", &[(-10, "10"), (20, "40")]),
            series(REQUESTS, &canary_pod(), "status=4xx", &[(-10, "0"), (20, "6")]),
            series(REQUESTS, &canary_pod(), "status=5xx", &[(-10, "0"), (20, "3")]),
            series(REQUESTS, &stable_pod(), "status=200", &[(-10, "0"), (20, "270")]),
            series(REQUESTS, &stable_pod(), "status=404", &[(-10, "1"), (20, "2")]),
        ],
    )
    .await;
    let read = block.client_errors.as_ref().map(without_pods);
    assert_eq!(read, counts((39.0, 6.0), (271.0, 1.0)));
    assert!(block.silent.is_empty());
    assert!(block.routes.is_empty(), "no series has a route");
}

#[tokio::test]
async fn refused_requests_are_told_by_route_where_any_are() {
    let of = |pod: &str, handler: &str, status: &str, to: &str| {
        series(
            REQUESTS,
            pod,
            &format!("handler={handler},status={status}"),
            &[(-10, "0"), (20, to)],
        )
    };
    let fake = Fake::series(vec![
        of(&canary_pod(), "/pay", "2xx", "12"),
        of(&canary_pod(), "/pay", "4xx", "8"),
        of(&canary_pod(), "/list", "2xx", "40"),
        of(&stable_pod(), "/pay", "2xx", "60"),
        of(&stable_pod(), "/list", "2xx", "90"),
        of(&stable_pod(), "/gone", "4xx", "3"),
    ])
    .await;
    let measured = fake
        .measure(asking(vec![GuardQuery::ClientErrors(availability())]))
        .await;
    let [block] = &measured.measurement.runtime[..] else {
        panic!("{measured:?}")
    };
    let route = |route: &str, canary: (f64, f64), stable: (f64, f64)| RouteCounts {
        route: route.to_owned(),
        canary: Counts::new(canary.0, canary.1).unwrap(),
        stable: Counts::new(stable.0, stable.1).unwrap(),
    };
    assert_eq!(
        block.routes,
        [
            route("/gone", (0.0, 0.0), (3.0, 3.0)),
            route("/pay", (20.0, 8.0), (60.0, 0.0)),
        ]
    );
    assert_eq!(fake.queries().len(), 1, "routes cost no query");
}

fn pool(limit: PoolLimit) -> GuardQuery {
    GuardQuery::Saturation {
        metric: "thread_pool_busy".to_owned(),
        limit,
    }
}

fn limit() -> PoolLimit {
    PoolLimit::Metric("thread_pool_limit".to_owned())
}

#[tokio::test]
async fn pools_are_read_at_each_scrape_against_their_own_limit_or_the_written_one() {
    let busy = |limits: Vec<serde_json::Value>, limit| async {
        let mut all = vec![
            series(
                "thread_pool_busy",
                &canary_pod(),
                "",
                &[(-5, "40"), (10, "36"), (25, "38")],
            ),
            scraped("other", "thread_pool_busy", &canary_pod(), "", &[(10, "0")]),
            series("thread_pool_busy", &stable_pod(), "", &[(10, "4"), (25, "NaN")]),
        ];
        all.extend(limits);
        let block = told(vec![pool(limit)], all).await;
        let why = why(&block, GuardKind::Saturation).to_owned();
        (block.canary[0].busy.clone(), block.stable[0].busy.clone(), why)
    };
    let limits = [canary_pod(), stable_pod()]
        .map(|pod| series("thread_pool_limit", &pod, "", &[(-200, "20"), (10, "40")]))
        .to_vec();
    let expected = (vec![0.9, 0.95], vec![0.1], String::new());
    assert_eq!(busy(limits, limit()).await, expected);
    assert_eq!(busy(Vec::new(), PoolLimit::Number(40.0)).await, expected);
    let zero = [canary_pod(), stable_pod()].map(|pod| series("thread_pool_limit", &pod, "", &[(10, "0")]));
    assert_eq!(
        busy(zero.to_vec(), limit()).await.0,
        [] as [f64; 0],
        "a pool without threads"
    );
    let (canary, _, why) = busy(Vec::new(), limit()).await;
    assert_eq!(canary, [] as [f64; 0]);
    assert!(why.contains("saturation.limit"), "{why}");
}

#[tokio::test]
async fn the_collectors_time_is_a_counter_or_the_sum_of_a_histogram() {
    for name in ["gc_seconds", "gc_seconds_total", "gc_seconds_sum"] {
        let metric = "gc_seconds".to_owned();
        let block = told(
            vec![GuardQuery::GcPauses { metric }],
            vec![
                series(name, &canary_pod(), "", &[(-10, "5"), (20, "8")]),
                series(name, &stable_pod(), "", &[(-10, "70"), (20, "70.5")]),
            ],
        )
        .await;
        assert_eq!(
            (block.canary[0].gc, block.stable[0].gc),
            (Some(3.0), Some(0.5)),
            "{name}"
        );
    }
}

/// A statsd exporter has no series of what has not happened yet.
#[tokio::test]
async fn workers_that_hang_are_none_where_gunicorn_is_read_and_unknown_where_it_is_not() {
    let query = || {
        vec![GuardQuery::WorkerTimeouts {
            metric: "gunicorn_log_critical".to_owned(),
        }]
    };
    let hung = series(
        "gunicorn_log_critical",
        &canary_pod(),
        "",
        &[(-10, "1"), (20, "3")],
    );
    let workers = series("gunicorn_workers", &stable_pod(), "", &[(-10, "4"), (20, "4")]);
    let block = told(query(), vec![hung.clone(), workers]).await;
    assert_eq!(
        (block.canary[0].timeouts, block.stable[0].timeouts),
        (Some(2.0), Some(0.0))
    );
    let block = told(query(), vec![hung]).await;
    assert_eq!(block.stable[0].timeouts, None);
    let block = told(query(), Vec::new()).await;
    assert!(
        why(&block, GuardKind::WorkerTimeouts).contains("--statsd-host"),
        "{block:?}"
    );
}

#[tokio::test]
async fn exceptions_are_told_by_type_and_what_stable_raised_before_is_known() {
    let metric = "python_exceptions_total";
    let counters = vec![
        (
            "django_http_exceptions_total_by_type_total".to_owned(),
            "type".to_owned(),
        ),
        (metric.to_owned(), "type".to_owned()),
    ];
    let query = || {
        vec![GuardQuery::Exceptions {
            counters: counters.clone(),
        }]
    };
    let block = told(
        query(),
        vec![
            series(metric, &canary_pod(), "type=KeyError", &[(-10, "0"), (20, "3")]),
            series(
                metric,
                &canary_pod(),
                "type=OSError,view=pay",
                &[(-10, "1"), (20, "2")],
            ),
            series(
                metric,
                &canary_pod(),
                "type=OSError,view=list",
                &[(-10, "1"), (20, "2")],
            ),
            series(
                metric,
                &stable_pod(),
                "type=OSError,view=pay",
                &[(-10, "7"), (20, "7")],
            ),
            series(metric, &stable_pod(), "type=ValueError", &[(-10, "0"), (20, "2")]),
            series(metric, &canary_pod(), "kind=unknown", &[(-10, "0"), (20, "9")]),
        ],
    )
    .await;
    let raised = |kind: &str, canary, stable, is_known| Raised {
        kind: kind.to_owned(),
        canary,
        stable,
        is_known,
    };
    assert_eq!(
        block.exceptions,
        [
            raised("KeyError", 3.0, 0.0, false),
            raised("OSError", 2.0, 0.0, true),
            raised("ValueError", 0.0, 2.0, false),
        ]
    );
    let block = told(query(), Vec::new()).await;
    let why = why(&block, GuardKind::Exceptions);
    assert!(why.contains(metric) && why.contains("exceptions.metric"), "{why}");
}
