//! What to do about a reason: as the document says that people look it up in.

use kube::ResourceExt;
use molt_core::plan::Revision;

use crate::api::v1alpha1::PythonService;
use crate::plugin::route;

const DOCUMENT: &str = include_str!("../../../docs/troubleshooting.md");

/// What to do about a condition's reason: the last cell of its row, in the condition's own section first.
pub(super) fn of(condition: &str, reason: &str) -> Option<String> {
    let heading = format!("### {condition}=");
    let own = DOCUMENT
        .split_once(&heading)
        .map(|(_, rest)| rest.split("\n### ").next().unwrap_or(rest));
    row(own.unwrap_or_default(), reason, true)
        .or_else(|| row(DOCUMENT, reason, true))
        .or_else(|| line(DOCUMENT, reason))
        .or_else(|| row(DOCUMENT, reason, false))
}

/// An advice with what the document leaves open: the names of the service, of its route, and of the revision that it is of.
pub(super) fn filled(advice: &str, service: &PythonService, revision: Option<&Revision>) -> String {
    let name = service.name_any();
    let (kind, route) = route::object_of(service);
    let at = revision.map_or_else(String::new, |revision| format!(" --revision {revision}"));
    let advice = advice
        .replace("httproute NAME", &format!("{kind} {route}"))
        .replace(" --revision R", &at)
        .replace(" NAME", &format!(" {name}"))
        .replace("<service>", &name);
    revision.map_or_else(
        || advice.clone(),
        |revision| advice.replace("<revision>", &revision.0),
    )
}

/// The last cell of the row that is of the reason: by its first cell, or by any.
fn row(text: &str, reason: &str, first: bool) -> Option<String> {
    let word = format!("`{reason}`");
    text.lines()
        .filter(|line| line.starts_with('|'))
        .find_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let is_of_it = cells
                .iter()
                .take(if first { 1 } else { cells.len() })
                .any(|cell| cell.contains(&word));
            (is_of_it && cells.len() > 1).then(|| plain(cells[cells.len() - 1].trim_end_matches('|').trim()))
        })
}

/// A paragraph that begins with the reason.
fn line(text: &str, reason: &str) -> Option<String> {
    let start = format!("`{reason}`: ");
    let paragraph = text
        .split("\n\n")
        .find(|paragraph| paragraph.trim_start().starts_with(&start))?;
    Some(plain(&paragraph.trim()[start.len()..].replace('\n', " ")))
}

/// Without the marks of a document: links keep their words.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        let Some((words, tail)) = after
            .split_once("](")
            .and_then(|(w, t)| Some((w, t.split_once(')')?.1)))
        else {
            break;
        };
        out.push_str(before);
        out.push_str(words);
        rest = tail;
    }
    out.push_str(rest);
    out.replace("\\|", "|").replace("**", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_is_the_documents() {
        let fix = of("RouteReady", "RouteNotFound").unwrap();
        assert!(
            fix.starts_with("`httpRouteRef` names a route that does not exist"),
            "{fix}"
        );
        let fix = of("Stalled", "HarmShown").unwrap();
        assert_eq!(
            fix,
            "the message has both ratios; look at the canary's logs of that time"
        );
        let fix = of("SpecValid", "SpecInvalid").unwrap();
        assert!(
            fix.starts_with("the message lists the fields") && !fix.contains('\n'),
            "{fix}"
        );
        assert_eq!(of("Ready", "NoSuchReason"), None);
        assert_eq!(plain("a [b](c.md#d) e"), "a b e");
    }

    #[test]
    fn no_advice_points_to_what_is_not_beside_it() {
        let (_, rest) = DOCUMENT.split_once("## Why it was rolled back").unwrap();
        let (tables, _) = rest.split_once("## Warnings that stop nothing").unwrap();
        let rows: Vec<&str> = tables.lines().filter(|line| line.starts_with("| `")).collect();
        assert!(rows.len() > 50, "{}", rows.len());
        for line in rows {
            let reason = line.split('`').nth(1).unwrap();
            let advice = row(line, reason, true).unwrap();
            for pointer in [
                "see below",
                "; below",
                "as above",
                "as for ",
                "the same, ",
                "follow",
            ] {
                assert!(!advice.contains(pointer), "{reason}: {advice}");
            }
        }
    }

    #[test]
    fn every_reason_that_a_condition_has_has_an_advice() {
        for (condition, reason) in [
            ("MetricsAvailable", "PrometheusUnreachable"),
            ("MetricsAvailable", "SeriesMissing"),
            ("EvidenceSound", "SharedIncident"),
            ("EvidenceSound", "ShareMismatch"),
            ("RouteReady", "WeightsWrittenBack"),
            ("Applied", "ApplyFailed"),
            ("CanaryReady", "ImagePullFailed"),
            ("Stalled", "StableUnavailable"),
            ("Stalled", "ProgressDeadlineExceeded"),
        ] {
            assert!(of(condition, reason).is_some(), "{condition} {reason}");
        }
    }
}
