//! Every reason that a condition, an event or a record can show is in the documents that people look it up in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where reasons are written.
const SOURCES: [&str; 6] = [
    "crates/core/src/rollout",
    "src/controller",
    "src/k8s/failure.rs",
    "src/metric_sources",
    "src/notifications",
    "src/traffic",
];

/// Words that look like reasons: of other APIs and libraries, verdicts, and categories of the operator's metrics.
const OTHERS: [&str; 21] = [
    "AdaptiveCard",
    "BadSignature",
    "ConfigMap",
    "CronJob",
    "GRPCRoute",
    "HTTPRoute",
    "NotEvaluated",
    "NotLeading",
    "NotMet",
    "RegularExpression",
    "ReplicaFailure",
    "ReplicaSet",
    "RequestHeaderModifier",
    "RequestMirror",
    "ResolvedRefs",
    "RichTextBlock",
    "ServiceUnavailable",
    "TextRun",
    "UnknownIssuer",
    "UnreadableState",
    "VirtualService",
];

/// What these read is the kubelet's and the Job controller's words; what they tell is a message.
const READERS: [&str; 4] = ["job_template", "jobs", "migration_job", "pods"];

/// Reasons of one word only, which can't be told from others by their form.
const ONE_WORD: [&str; 7] = [
    "Crashing",
    "Deleted",
    "Inconclusive",
    "Promoted",
    "Resumed",
    "Superseded",
    "Unschedulable",
];

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    let name = path.file_stem().unwrap().to_string_lossy();
    if name == "tests" || READERS.contains(&&*name) || name.ends_with("_tests") {
        return;
    }
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            sources(&entry.unwrap().path(), found);
        }
    } else {
        found.push(path.to_owned());
    }
}

fn is_like_a_reason(word: &str) -> bool {
    let count = |is: fn(char) -> bool| word.chars().filter(|c| is(*c)).count();
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_alphabetic())
        && count(|c| c.is_ascii_uppercase()) > 1
        && count(|c| c.is_ascii_lowercase()) > 0
}

#[test]
fn every_reason_is_in_both_documents() {
    let mut files = Vec::new();
    for path in SOURCES {
        sources(&root(path), &mut files);
    }
    let mut reasons: BTreeSet<String> = ONE_WORD.map(str::to_owned).into();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        reasons.extend(code.split('"').filter(|w| is_like_a_reason(w)).map(str::to_owned));
    }
    assert!(
        reasons.contains("HarmShown") && reasons.contains("NameTaken"),
        "{reasons:?}"
    );
    let mut missing = Vec::new();
    for document in ["docs/api.md", "docs/troubleshooting.md"] {
        let text = std::fs::read_to_string(root(document)).unwrap();
        let says = |r: &str| text.contains(&format!("`{r}`")) || text.contains(&format!("### {r}="));
        let unsaid = reasons
            .iter()
            .filter(|r| !OTHERS.contains(&r.as_str()) && !says(r));
        missing.extend(unsaid.map(|r| format!("{r} in {document}")));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
