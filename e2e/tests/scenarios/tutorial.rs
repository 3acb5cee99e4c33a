//! The tutorial works as it is written.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use molt_e2e::Stage;
use tokio::process::{Child, Command};

/// Longer than any of its commands takes, the watch of a whole rollout included.
const PATIENCE: Duration = Duration::from_mins(5);

/// A block of commands.
struct Block {
    /// What its fence says beside `sh`: `before`, `background`, `exit=1`, or nothing.
    kind: String,
    text: String,
}

fn blocks(markdown: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut parts = markdown.split("\n```");
    parts.next();
    // Fences come in pairs: what begins a block, and what ends it.
    while let (Some(block), Some(_)) = (parts.next(), parts.next()) {
        let (info, text) = block.split_once('\n').expect("a block has lines");
        let mut words = info.split_whitespace();
        if words.next() == Some("sh") {
            blocks.push(Block {
                kind: words.collect(),
                text: text.to_owned(),
            });
        }
    }
    blocks
}

fn bash(stage: &Stage, text: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new("bash");
    let path = std::env::var("PATH").unwrap_or_default();
    let setup = ". e2e/cluster/node/common.sh; PATH=$MOLT_BIN:$PATH";
    command
        .args(["-c", &format!("{setup}; set -euo pipefail\n{text}")])
        .current_dir(root)
        .env("KUBECONFIG", stage.kubeconfig())
        .env("PATH", format!("{}:{path}", Stage::binaries().display()))
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    command
}

async fn run(stage: &Stage, text: &str) -> Output {
    let output = bash(stage, text).output();
    tokio::time::timeout(PATIENCE, output)
        .await
        .unwrap_or_else(|_| panic!("it does not end: {text}"))
        .expect("bash runs")
}

/// Ends the group of a block in the background.
async fn end(mut background: Child) {
    if let Some(id) = background.id() {
        let group = format!("-{id}");
        drop(Command::new("kill").args(["-TERM", "--", &group]).status().await);
    }
    drop(background.wait().await);
}

#[tokio::test]
async fn the_tutorial_works_as_it_is_written() {
    let stage = Stage::given("e2e-tutorial").await;
    let left = "kubectl delete pythonservices --all --namespace tutorial; kubectl delete namespace tutorial --ignore-not-found";
    run(&stage, &format!("set +e; {left}")).await;
    let markdown = include_str!("../../../docs/tutorial.md");
    let blocks = blocks(markdown);
    assert!(blocks.len() > 8, "the tutorial's blocks are found");
    let mut background = Vec::new();
    for block in &blocks {
        let expected = match block.kind.as_str() {
            // The cluster is there.
            "before" => continue,
            "background" => {
                background.push(bash(&stage, &block.text).spawn().expect("bash runs"));
                continue;
            }
            "" => 0,
            "exit=1" => 1,
            other => panic!("what is `sh {other}`?"),
        };
        let output = run(&stage, &block.text).await;
        assert_eq!(
            output.status.code(),
            Some(expected),
            "{}\n{}\n{}",
            block.text,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    for block in background {
        end(block).await;
    }
    stage.end().await;
}
