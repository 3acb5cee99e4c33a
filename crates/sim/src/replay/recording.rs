//! Recorded counts, one JSON object a line.

use jiff::Timestamp;
use molt_core::analysis::Counts;
use molt_core::observed::{BlockCounts, History, MeasuredBlock};
use serde::Deserialize;
use thiserror::Error;

use crate::pods::{Millis, millis};
use crate::setup::short;

/// The latest time of a block, in seconds: 90 days after the recording began.
const LATEST: f64 = 90.0 * 86_400.0;
const FORM: &str =
    r#"write {"t":15,"slo":"availability","stable":{"total":270,"bad":3},"canary":{"total":30,"bad":0}}"#;

/// Why a line can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {reason}: {fix}")]
pub struct BadLine {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
    /// What to do about it.
    pub fix: String,
}

/// Recorded counts of both revisions, block by block.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    blocks: Vec<RecordedBlock>,
    /// Blocks that were recorded before the canary's first request.
    before: usize,
    step: Millis,
    /// What is known of the time before, of each objective; empty where nothing is.
    history: Vec<History>,
}

/// What was counted in one block.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedBlock {
    /// Its begin, in milliseconds since the recording's start.
    pub start: Millis,
    /// Its end.
    pub end: Millis,
    /// The counts of each objective, in the plan's order; `None` where nothing was recorded.
    pub slos: Vec<Option<BlockCounts>>,
}

impl RecordedBlock {
    /// The canary completed a request, by any objective.
    fn has_canary(&self) -> bool {
        let counts = |slo: &BlockCounts| slo.canary.total() + slo.canary_late.total();
        self.slos.iter().flatten().any(|slo| counts(slo) > 0.0)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    t: f64,
    slo: String,
    stable: Pair,
    canary: Pair,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    total: f64,
    bad: f64,
}

impl Recording {
    /// Reads lines in order of time: `t` is the end of a block in seconds since the recording's start, `slo` one
    /// of these objectives. Each block begins where the one before ends; the first is as long as the shortest.
    pub fn parse(text: &str, slos: &[&str]) -> Result<Self, BadLine> {
        let mut blocks: Vec<RecordedBlock> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if !line.trim().is_empty() {
                add(&mut blocks, line, slos).map_err(|(reason, fix)| BadLine {
                    line: index + 1,
                    reason,
                    fix,
                })?;
            }
        }
        Self::new(blocks).ok_or_else(|| BadLine {
            line: 1,
            reason: "nothing is recorded".to_owned(),
            fix: FORM.to_owned(),
        })
    }

    /// What was measured in blocks in order of time, since the recording's start; `None` when there is none, or
    /// one that ends before it.
    pub fn measured(start: Timestamp, blocks: &[MeasuredBlock]) -> Option<Self> {
        let blocks = blocks.iter().map(|block| RecordedBlock {
            start: 0,
            end: millis(block.end.duration_since(start)),
            slos: block.slos.clone(),
        });
        Self::new(blocks.collect()).filter(|recording| {
            recording.blocks[0].end > 0 && recording.blocks.windows(2).all(|pair| pair[0].end < pair[1].end)
        })
    }

    fn new(mut blocks: Vec<RecordedBlock>) -> Option<Self> {
        let first = blocks.first()?.end;
        let gaps = blocks.windows(2).map(|pair| pair[1].end - pair[0].end);
        let step = gaps.min().unwrap_or(first).min(first);
        let mut edge = first - step;
        for block in &mut blocks {
            block.start = edge;
            edge = block.end;
        }
        // Before its first request the canary had no weight, as far as anybody can tell: that it answered none would be
        // taken for silence, or for users who are gone. Without any request all of it is silence.
        let before = blocks.iter().position(RecordedBlock::has_canary).unwrap_or(0);
        blocks.drain(..before);
        Some(Self {
            blocks,
            before,
            step,
            history: Vec::new(),
        })
    }

    /// The same, with what is known of the time before it, of each objective in the plan's order.
    #[must_use]
    pub fn after(self, history: Vec<History>) -> Self {
        Self { history, ..self }
    }

    /// What is known of the time before it: of each objective in the plan's order, or of none.
    pub fn history(&self) -> &[History] {
        &self.history
    }

    /// The blocks, in order of time: from the one with the canary's first request on, or all if it had none.
    pub fn blocks(&self) -> &[RecordedBlock] {
        &self.blocks
    }

    /// The length of the shortest block, in milliseconds.
    pub(crate) fn step(&self) -> Millis {
        self.step
    }

    /// How many blocks were recorded before the canary's first request; they are left out.
    pub fn before(&self) -> usize {
        self.before
    }

    /// When the first block begins, in milliseconds since the recording's start: the attempt begins there.
    pub fn begin(&self) -> i64 {
        self.blocks.first().map_or(0, |block| block.start)
    }
}

type Wrong = (String, String);

fn add(blocks: &mut Vec<RecordedBlock>, line: &str, slos: &[&str]) -> Result<(), Wrong> {
    // A list would be read as the fields in their order.
    if !line.trim_start().starts_with('{') {
        return Err(("is no JSON object".to_owned(), FORM.to_owned()));
    }
    let line: Line = serde_json::from_str(line).map_err(|error| {
        // The line of the text is known better here.
        let why = error.to_string().replace(" at line 1 column", " at column");
        (format!("can't be read: {why}"), FORM.to_owned())
    })?;
    let end = (line.t * 1000.0).round();
    if !(end >= 1.0 && line.t <= LATEST) {
        let reason = format!("t is {}", short(line.t));
        let fix = format!(
            "write the end of the block in seconds since the recording's start, above 0 and at most {LATEST}"
        );
        return Err((reason, fix));
    }
    let end = end as Millis;
    let Some(slo) = slos.iter().position(|name| *name == line.slo) else {
        let reason = format!("the service has no objective {:?}", line.slo);
        return Err((reason, format!("write one of {}", slos.join(", "))));
    };
    let counts = BlockCounts {
        canary: counts("canary", line.canary)?,
        stable: counts("stable", line.stable)?,
        ..BlockCounts::default()
    };
    if let Some(last) = blocks.last()
        && end < last.end
    {
        let reason = format!("t is {} after {}", line.t, last.end as f64 / 1000.0);
        return Err((reason, "put the lines in order of time".to_owned()));
    }
    if blocks.last().is_none_or(|last| last.end < end) {
        blocks.push(RecordedBlock {
            start: 0,
            end,
            slos: vec![None; slos.len()],
        });
    }
    let entry = blocks.last_mut().and_then(|block| block.slos.get_mut(slo));
    let Some(entry @ None) = entry else {
        let reason = format!("t {} of {:?} comes a second time", line.t, line.slo);
        return Err((reason, "write one line for each block and objective".to_owned()));
    };
    *entry = Some(counts);
    Ok(())
}

fn counts(arm: &str, pair: Pair) -> Result<Counts, Wrong> {
    let Pair { total, bad } = pair;
    for (field, count) in [("total", total), ("bad", bad)] {
        if count.fract() != 0.0 {
            let reason = format!("{arm}.{field} is {}", short(count));
            let fix = "write how many requests there were, a whole number";
            return Err((reason, fix.to_owned()));
        }
    }
    Counts::new(total, bad)
        .filter(|_| bad <= total && total <= Counts::MOST)
        .ok_or_else(|| {
            let reason = format!("{arm} has {} bad of {} requests", short(bad), short(total));
            (
                reason,
                "write counts from 0, and no more bad ones than there are".to_owned(),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(t: &str, slo: &str) -> String {
        format!(
            r#"{{"t":{t},"slo":"{slo}","stable":{{"total":270,"bad":3}},"canary":{{"total":30,"bad":0}}}}"#
        )
    }

    fn error(text: &str) -> String {
        Recording::parse(text, &["availability", "latency"])
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn blocks_are_as_long_as_the_grid() {
        let text = [
            line("45", "availability"),
            line("45", "latency"),
            String::new(),
            line("60", "latency"),
        ]
        .join("\n");
        let recording = Recording::parse(&text, &["availability", "latency"]).unwrap();
        let edges: Vec<_> = recording.blocks().iter().map(|b| (b.start, b.end)).collect();
        assert_eq!(edges, [(30_000, 45_000), (45_000, 60_000)]);
        let read: Vec<Vec<bool>> = recording
            .blocks()
            .iter()
            .map(|b| b.slos.iter().map(Option::is_some).collect())
            .collect();
        assert_eq!(read, [[true, true], [false, true]]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let good = line("15", "availability");
        for (second, message) in [
            (
                line("10", "availability"),
                "line 2: t is 10 after 15: put the lines in order of time",
            ),
            (
                good.clone(),
                r#"line 2: t 15 of "availability" comes a second time: write one line for each block and objective"#,
            ),
            (
                line("30", "errors"),
                r#"line 2: the service has no objective "errors": write one of availability, latency"#,
            ),
            (
                line("-5", "availability"),
                "line 2: t is -5: write the end of the block in seconds since the recording's start, above 0 and at most 7776000",
            ),
            (
                line("1e300", "availability"),
                "line 2: t is 1e300: write the end of the block in seconds since the recording's start, above 0 and at most 7776000",
            ),
            (
                line("30", "availability").replace("270", "1e300"),
                "line 2: stable has 3 bad of 1e300 requests: write counts from 0, and no more bad ones than there are",
            ),
            (
                line("30", "availability").replace("270", "-270"),
                "line 2: stable has 3 bad of -270 requests: write counts from 0, and no more bad ones than there are",
            ),
            (
                line("30", "availability").replace("\"bad\":0", "\"bad\":0.3"),
                "line 2: canary.bad is 0.3: write how many requests there were, a whole number",
            ),
            (
                line("30", "availability").replace("270", "270.5"),
                "line 2: stable.total is 270.5: write how many requests there were, a whole number",
            ),
        ] {
            assert_eq!(error(&format!("{good}\n{second}")), message);
        }
        assert_eq!(error(""), format!("line 1: nothing is recorded: {FORM}"));
        for odd in ["[]", "null", "15", "\u{feff}{}"] {
            let wrong = format!("line 2: is no JSON object: {FORM}");
            assert_eq!(error(&format!("{good}\n{odd}")), wrong);
        }
        let nan = error(&format!("{good}\n{}", line("NaN", "availability")));
        assert!(nan.starts_with("line 2: can't be read: expected"), "{nan}");
        assert!(nan.contains("at column") && nan.ends_with(FORM), "{nan}");
    }

    #[test]
    fn nothing_that_can_be_written_makes_it_panic() {
        for text in [
            "{}",
            "[]",
            "null",
            "\u{feff}{}",
            "{\"t\":1e999}",
            &line("1e300", "availability"),
            &line("0", "availability"),
            &line("0.0001", "availability"),
            &line("15", "availability").replace("30", "1e300"),
            &line("15", "availability").replace("\"bad\":0", "\"bad\":31"),
            &line("15", "availability").replace("\"bad\":0", "\"bad\":null"),
            &line("15", "availability").replace("\"bad\":0", "\"worse\":0"),
            &line("15", "availability").replace("}}", "}"),
            &"[".repeat(100_000),
        ] {
            assert!(error(text).starts_with("line 1: "), "{text:.80}");
        }
    }
}
