//! The rules of objectives as users get them from `kubectl molt rules`, and as Prometheus understands them.
//!
//! `tests/rules` has a manifest and what is made of it. After a wanted change write it anew with
//! `MOLT_WRITE_SNAPSHOTS=1 cargo test --test slo_rules`, and read the difference.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules")
}

fn molt(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubectl-molt"))
        .arg("rules")
        .args(arguments)
        .current_dir(dir())
        // It needs no cluster, so it must not look for one.
        .env("KUBECONFIG", "/nowhere")
        .output()
        .expect("the plugin runs")
}

fn made(arguments: &[&str]) -> String {
    let output = molt(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("YAML is UTF-8")
}

fn is_snapshot(name: &str, text: &str) {
    let path = dir().join(name);
    if std::env::var_os("MOLT_WRITE_SNAPSHOTS").is_some() {
        std::fs::write(&path, text).expect("the snapshot is written");
    }
    let kept = std::fs::read_to_string(&path).expect("the snapshot is there");
    let differs = kept.lines().zip(text.lines()).find(|(kept, made)| kept != made);
    assert!(
        kept == text,
        "{name} is no longer what is made; first: {differs:#?}"
    );
}

#[test]
fn the_output_is_what_it_was() {
    is_snapshot("checkout.rules.yaml", &made(&["checkout.yaml", "--plain"]));
    is_snapshot(
        "checkout.prometheusrule.yaml",
        &made(&["checkout.yaml", "--label", "release=prometheus"]),
    );
    let file = std::env::temp_dir().join(format!("molt-dashboard-{}.json", std::process::id()));
    made(&[
        "checkout.yaml",
        "--dashboard",
        file.to_str().expect("a path in UTF-8"),
    ]);
    let dashboard = std::fs::read_to_string(&file).expect("it was written");
    drop(std::fs::remove_file(&file));
    is_snapshot("checkout.dashboard.json", &dashboard);
}

#[test]
fn what_was_left_out_is_said() {
    let notes = molt(&["checkout.yaml"]).stderr;
    let notes = String::from_utf8_lossy(&notes);
    assert!(
        notes.contains("shop/checkout: payments: no ticket alert over 3d and 6h"),
        "{notes}"
    );
}

#[test]
fn a_manifest_that_cant_be_used_names_the_fix() {
    for (arguments, part) in [
        (&["checkout.yaml", "-n", "elsewhere"][..], "by -n: leave one out"),
        (&["absent.yaml"], "absent.yaml: can't be read"),
        (&["alerts.test.yaml"], "alerts.test.yaml: has no PythonService"),
    ] {
        let output = molt(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(65), "{errors}");
        assert!(errors.contains(part), "{errors}");
    }
}

/// Prometheus' own checker. A machine without it fails the test: nothing else knows what the rules mean.
fn promtool(arguments: &[&str]) {
    let script = ". e2e/cluster/node/common.sh && echo \"$MOLT_BIN/promtool\"";
    let path = Command::new("bash")
        .args(["-c", script])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("bash runs");
    let path = String::from_utf8(path.stdout).expect("a path in UTF-8");
    let output = Command::new(path.trim())
        .args(arguments)
        .current_dir(dir())
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "{}: {error}; build it with e2e/cluster/build.sh promtool",
                path.trim()
            )
        });
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn prometheus_takes_the_rules() {
    promtool(&[
        "check",
        "rules",
        "--lint=all",
        "--lint-fatal",
        "checkout.rules.yaml",
    ]);
}

#[test]
fn each_alert_fires_when_it_should_and_not_before() {
    promtool(&["test", "rules", "alerts.test.yaml"]);
}

#[test]
fn an_outage_pages_as_soon_as_it_has_burned_enough() {
    promtool(&["test", "rules", "outage.test.yaml"]);
}
