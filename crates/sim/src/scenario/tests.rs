use super::*;

fn scenario(text: &str) -> Scenario {
    text.parse().unwrap()
}

fn from_the_start<T>(what: T) -> Harm<T> {
    let after = SignedDuration::ZERO;
    Harm { what, after }
}

fn incident(factor: f64, at: i64, lasts: i64) -> Incident {
    Incident {
        factor,
        at: SignedDuration::from_secs(at),
        lasts: SignedDuration::from_secs(lasts),
    }
}

fn incidents(text: &str) -> Vec<Incident> {
    scenario(text).incidents.iter().copied().collect()
}

#[test]
fn every_form_of_the_contract_is_read() {
    let baseline: Baseline = "errors=1%,latency=40ms".parse().unwrap();
    assert_eq!(
        (baseline.errors, baseline.latency),
        (0.01, SignedDuration::from_millis(40))
    );
    assert_eq!("errors=0.2%".parse::<Baseline>().unwrap().errors, 0.002);
    assert_eq!(scenario("good"), Scenario::default());
    assert_eq!(scenario("errors=5%").errors, Some(from_the_start(0.05)));
    assert_eq!(
        scenario("latency=2x").latency,
        Some(from_the_start(Latency::Factor(2.0)))
    );
    assert_eq!(
        scenario("latency=90ms").latency,
        Some(from_the_start(Latency::Median(SignedDuration::from_millis(90))))
    );
    assert_eq!(
        scenario("crash@30s").crash_after,
        Some(SignedDuration::from_secs(30))
    );
    assert_eq!(scenario("hang=100%").hang, Some(from_the_start(1.0)));
    assert!((scenario("leak=10MB/min").leak.unwrap() - 1e7 / 60.0).abs() < 1e-6);
    assert_eq!(incidents("incident=10x@120s+300s"), [incident(10.0, 120, 300)]);
    assert!(scenario("no-traffic").no_traffic);
    let kept = scenario("connections=8@1500ms,good").connections.unwrap();
    assert_eq!((kept.count, kept.last.as_millis()), (8, 1500));
}

#[test]
fn several_are_joined_by_commas() {
    let both = scenario("errors=2%, hang=10%,incident=3x@1m+2m");
    assert_eq!(
        (both.errors, both.hang),
        (Some(from_the_start(0.02)), Some(from_the_start(0.1)))
    );
    assert_eq!(incidents("errors=2%,incident=3x@1m+2m"), [incident(3.0, 60, 120)]);
    assert_eq!(incidents("good,incident=3x@1m+2m").len(), 1);
}

#[test]
fn harm_may_begin_late() {
    let late = scenario("errors=5%@6m,latency=2x@300s,hang=50%@1m30s");
    let seconds = SignedDuration::from_secs;
    let (what, after) = (0.05, seconds(360));
    assert_eq!(late.errors, Some(Harm { what, after }));
    let (what, after) = (Latency::Factor(2.0), seconds(300));
    assert_eq!(late.latency, Some(Harm { what, after }));
    let (what, after) = (0.5, seconds(90));
    assert_eq!(late.hang, Some(Harm { what, after }));
    let (what, after) = (Latency::Median(SignedDuration::from_millis(90)), seconds(1));
    assert_eq!(scenario("latency=90ms@1s").latency, Some(Harm { what, after }));
    assert_eq!(scenario("errors=5%@0s"), scenario("errors=5%"));
}

#[test]
fn several_incidents_are_one_after_the_other_and_the_worst_of_those_at_once_counts() {
    let text = "incident=10x@120s+60s,good,incident=5x@400s+60s,incident=20x@430s+10s";
    assert_eq!(
        incidents(text),
        [
            incident(10.0, 120, 60),
            incident(5.0, 400, 60),
            incident(20.0, 430, 10)
        ]
    );
    let factor = |seconds| {
        scenario(text)
            .incidents
            .factor(SignedDuration::from_secs(seconds))
    };
    let times = [0, 119, 120, 179, 180, 400, 429, 430, 439, 440, 460];
    assert_eq!(
        times.map(factor),
        [1.0, 1.0, 10.0, 10.0, 1.0, 5.0, 5.0, 20.0, 20.0, 5.0, 1.0]
    );
    // Fewer errors than usual are an incident too, of its own.
    assert_eq!(
        scenario("incident=0.5x@0s+1s")
            .incidents
            .factor(SignedDuration::ZERO),
        0.5
    );
    let many = |count: usize| vec!["incident"; count].join(",").parse::<Scenario>();
    assert_eq!(many(16).unwrap().incidents.iter().count(), 16);
    assert_eq!(
        many(17).unwrap_err().to_string(),
        r#""incident=10x@120s+300s" is one incident too many: write 16 at most"#
    );
}

#[test]
fn what_is_wrong_is_named_with_its_fix() {
    for (text, message) in [
        (
            "",
            r#""" is empty: write good, errors=5%, latency=2x, crash@30s, hang=100%, leak=10MB/min, incident=10x@120s+300s, connections=50@60s or no-traffic, or a word alone for the value shown here; join several by commas; errors, latency and hang may begin late, such as errors=5%@6m"#,
        ),
        (
            "errors=5",
            r#""errors=5" is no share: write 0% to 100%, such as 5% or 0.2%"#,
        ),
        (
            "errors=101%",
            r#""errors=101%" is no share: write 0% to 100%, such as 5% or 0.2%"#,
        ),
        (
            "errors=NaN%",
            r#""errors=NaN%" is no share: write 0% to 100%, such as 5% or 0.2%"#,
        ),
        (
            "latency=0x",
            r#""latency=0x" has no factor: write a number above 0 and at most 1000000 with an x behind it, such as 2x"#,
        ),
        (
            "latency=fast",
            r#""latency=fast" is neither a factor nor a duration: write a factor, such as latency=2x, or a median in whole hours (h), minutes (m), seconds (s) or milliseconds (ms), such as latency=80ms"#,
        ),
        (
            "latency=0.1ms",
            r#""latency=0.1ms" is neither a factor nor a duration: write a factor, such as latency=2x, or a median in whole hours (h), minutes (m), seconds (s) or milliseconds (ms), such as latency=80ms"#,
        ),
        (
            "errors=5%@later",
            r#""errors=5%@later" has no duration in "later": write whole hours (h), minutes (m), seconds (s) or milliseconds (ms) of at most 30 days, such as 40ms, 30s or 1h30m"#,
        ),
        (
            "errors=5@6m",
            r#""errors=5@6m" is no share: write 0% to 100%, such as 5% or 0.2%"#,
        ),
        (
            "latency=2x@",
            r#""latency=2x@" has no duration in "": write whole hours (h), minutes (m), seconds (s) or milliseconds (ms) of at most 30 days, such as 40ms, 30s or 1h30m"#,
        ),
        (
            "errors=1%,errors=5%@6m",
            r#""errors=5%@6m" says errors a second time: write errors once"#,
        ),
        (
            "crash@soon",
            r#""crash@soon" has no duration in "soon": write whole hours (h), minutes (m), seconds (s) or milliseconds (ms) of at most 30 days, such as 40ms, 30s or 1h30m"#,
        ),
        (
            "leak=10MB",
            r#""leak=10MB" is no growth of memory: write bytes in a time, such as 10MB/min, 64Mi/h or 500kB/s"#,
        ),
        (
            "incident=10x@120s",
            r#""incident=10x@120s" does not say what happens when: write incident=FACTOR@START+LENGTH, START since the attempt began, such as incident=10x@120s+300s"#,
        ),
        (
            "errors=1%,errors=2%",
            r#""errors=2%" says errors a second time: write errors once"#,
        ),
        (
            "good,errors=5%",
            r#""good,errors=5%" is good and not good: leave good out, or join it with nothing but an incident or connections, which hit stable too"#,
        ),
    ] {
        assert_eq!(text.parse::<Scenario>().unwrap_err().to_string(), message);
    }
    for text in [
        "bad",
        "good=1",
        "crash=30s",
        "crash@0s",
        "crash@99999999999999999999h",
        "errors=-1%",
        "errors=1e400%",
        "leak=0MB/min",
        "leak=1.2.3MB/min",
        "leak=5MB/year",
        "incident=x@1s+1s",
        "incident=2x@1s+0s",
        "hang=5%@-1s",
        "hang@5m",
        "errors=5%@1m@2m",
        "errors=5%@1000000h",
        "ünïcode@€",
        ",",
    ] {
        assert!(text.parse::<Scenario>().is_err(), "{text}");
    }
    for text in [
        "errors=1%,latency=0ms",
        "latency=2x",
        "errors",
        "rps=5",
        "errors=1%,,",
    ] {
        assert!(text.parse::<Baseline>().is_err(), "{text}");
    }
}

#[test]
fn a_word_alone_stands_for_the_value_that_is_shown() {
    let read = |text: &str| text.parse::<Scenario>().unwrap();
    for (_, usual) in super::USUAL {
        assert!(super::SCENARIO_FORM.contains(usual), "{usual}");
    }
    assert_eq!(read("crash"), read("crash@30s"));
    assert_eq!(read("incident,errors"), read("incident=10x@120s+300s,errors=5%"));
}
