//! One OpenTelemetry trace for each attempt, whose spans are its steps and verdicts.
//!
//! - [`spans`]: the record of an attempt that ended as a trace; pure.
//! - [`export`]: the delivery of traces beside the reconciles, by OTLP.
//!
//! A trace is made of the record, at the attempt's end, so that whatever the operator went through meanwhile, there is
//! one and it is whole, see `docs/adr/0039-a-trace-is-made-of-the-record.md`.

pub mod export;
pub mod spans;
#[cfg(test)]
mod tests;

use opentelemetry_sdk::trace::SpanData;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::api::v1alpha1::{RolloutRecordSpec, RolloutRecordStatus};
use crate::metrics::Metrics;

/// Traces that wait for a collector at most: each has a few hundred spans.
const ROOM: usize = 128;

/// Where the traces of attempts that ended are handed over. It takes no time and never fails: what finds no room is
/// counted and lost. Without a collector it does nothing. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Hand>);

#[derive(Clone, Debug)]
struct Hand {
    sender: Sender<Vec<SpanData>>,
    metrics: Metrics,
}

impl Traces {
    /// Where traces are handed over, and where they come out.
    pub fn new(metrics: Metrics) -> (Self, Receiver<Vec<SpanData>>) {
        let (sender, receiver) = mpsc::channel(ROOM);
        (Self(Some(Hand { sender, metrics })), receiver)
    }

    /// An attempt has ended, and this is its record.
    pub fn ended(&self, namespace: &str, spec: &RolloutRecordSpec, status: &RolloutRecordStatus) {
        let Some(hand) = &self.0 else { return };
        if hand
            .sender
            .try_send(spans::spans(namespace, spec, status))
            .is_err()
        {
            hand.metrics.traced("dropped");
        }
    }
}
