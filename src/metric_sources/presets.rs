//! The metrics of well-known instrumentations.
//!
//! Both leave out probes and `/metrics`: they tell nothing of users, and a fast probe would hide slow
//! requests. A series without a handler (a path that matches no route) stays in.

use jiff::SignedDuration;

use super::selector::{MatchOp, Matcher, Selector};
use crate::api::v1alpha1::Preset;

/// Handlers that no user calls: the usual names of probes, with up to two underscores before them, behind the
/// usual path prefixes (`/api/v1/health`, `/health/live`), with or without a slash at either end.
pub const PROBES: &str = "/?((_?(api|internal|management|actuator|probes?|q|health|healthz)|v[0-9]+|-)/)*\
    _{0,2}(metrics|health|healthz|health[_-]?check|ready|readyz|readiness|live|livez|liveness|ping)/?";

/// The label that names the handler.
fn handler_label(preset: Preset) -> &'static str {
    match preset {
        Preset::FastapiInstrumentator => "handler",
        Preset::Otel => "http_route",
    }
}

/// Counts requests, with their status.
pub fn requests(preset: Preset) -> Selector {
    let name = match preset {
        Preset::FastapiInstrumentator => "http_requests_total",
        // The count of the duration histogram: the conventions have no separate counter.
        Preset::Otel => "http_server_request_duration_seconds_count",
    };
    Selector::named(name).with(Matcher::new(handler_label(preset), MatchOp::NotRegex, PROBES))
}

/// Of [`requests`], those that failed: `5xx` or `500`, for statuses may be grouped or not.
pub fn failed_requests(preset: Preset) -> Selector {
    requests(preset).with(Matcher::new(status_label(preset), MatchOp::Regex, "5.*"))
}

fn status_label(preset: Preset) -> &'static str {
    match preset {
        Preset::FastapiInstrumentator => "status",
        Preset::Otel => "http_response_status_code",
    }
}

/// Whether a series of [`requests`] counts failures; `label` looks a label up.
pub fn is_failure<'a>(preset: Preset, label: impl Fn(&str) -> Option<&'a str>) -> bool {
    label(status_label(preset)).is_some_and(|status| status.starts_with('5'))
}

/// The histogram of durations in seconds, without the suffix of its series.
pub fn durations(preset: Preset) -> Selector {
    let name = match preset {
        // Not the `highr` variant: it has no labels, so probes can't be left out.
        Preset::FastapiInstrumentator => "http_request_duration_seconds",
        Preset::Otel => "http_server_request_duration_seconds",
    };
    Selector::named(name).with(Matcher::new(handler_label(preset), MatchOp::NotRegex, PROBES))
}

/// A pattern for the spellings of an edge: libraries and versions of Prometheus write `1`, `1.0` and `0.50`.
pub fn edge_pattern(edge: SignedDuration) -> String {
    let millis = edge.as_millis();
    let fraction = format!("{:03}", millis % 1000);
    match fraction.trim_end_matches('0') {
        "" => format!("{}([.]0*)?", millis / 1000),
        digits => {
            let whole = if millis < 1000 {
                "0?".to_owned()
            } else {
                (millis / 1000).to_string()
            };
            format!("{whole}[.]{digits}0*")
        }
    }
}

/// An edge in the form of `sli.threshold`; `None` for one that is no whole number of milliseconds.
pub fn edge_name(le: &str) -> Option<(SignedDuration, String)> {
    let seconds: f64 = le.parse().ok()?;
    let millis = (seconds * 1000.0).round();
    if !(1.0..=1e9).contains(&millis) || (millis - seconds * 1000.0).abs() > 1e-6 {
        return None;
    }
    let millis = millis as i64;
    let name = if millis % 1000 == 0 {
        format!("{}s", millis / 1000)
    } else {
        format!("{millis}ms")
    };
    Some((SignedDuration::from_millis(millis), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_leave_probes_out() {
        let text = failed_requests(Preset::FastapiInstrumentator).to_string();
        assert!(
            text.starts_with("http_requests_total{handler!~\"/?((_?("),
            "{text}"
        );
        assert!(text.ends_with("/?\",status=~\"5.*\"}"), "{text}");
        let text = requests(Preset::Otel).to_string();
        assert!(
            text.starts_with("http_server_request_duration_seconds_count{http_route!~"),
            "{text}"
        );
        assert_eq!(
            durations(Preset::Otel).name,
            "http_server_request_duration_seconds"
        );
    }

    #[test]
    fn grouped_and_exact_statuses_fail() {
        for (status, failed) in [
            ("5xx", true),
            ("500", true),
            ("503", true),
            ("4xx", false),
            ("200", false),
        ] {
            assert_eq!(
                is_failure(Preset::FastapiInstrumentator, |l| (l == "status")
                    .then_some(status)),
                failed
            );
        }
        assert!(!is_failure(Preset::Otel, |_| None));
    }

    #[test]
    fn edges_have_patterns_and_names() {
        let pattern = |millis| edge_pattern(SignedDuration::from_millis(millis));
        assert_eq!(pattern(1000), "1([.]0*)?");
        assert_eq!(pattern(500), "0?[.]50*");
        assert_eq!(pattern(250), "0?[.]250*");
        assert_eq!(pattern(5), "0?[.]0050*");
        assert_eq!(pattern(2500), "2[.]50*");
        assert_eq!(pattern(10_000), "10([.]0*)?");
        let name = |le| edge_name(le).map(|(_, name)| name);
        assert_eq!(name("0.005").as_deref(), Some("5ms"));
        assert_eq!(name("0.1").as_deref(), Some("100ms"));
        assert_eq!(name("1.0").as_deref(), Some("1s"));
        assert_eq!(name("7.5").as_deref(), Some("7500ms"));
        for unusable in ["+Inf", "NaN", "x", "0", "0.0005", "-1"] {
            assert_eq!(name(unusable), None, "{unusable}");
        }
    }
}
