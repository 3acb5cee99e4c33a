//! A recording from what Prometheus kept, by the operator's own reading of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use molt_core::observed::MeasuredBlock;
use molt_sim::replay::Recording;

use super::super::Failure;
use super::super::manifest::Manifest;
use crate::metric_sources::at_route::Naming;
use crate::metric_sources::headers::Headers;
use crate::metric_sources::http::client;
use crate::metric_sources::prometheus::{Prometheus, TimeLimits};
use crate::metric_sources::{MeasureRequest, MetricSource, PrometheusSource, RouteBackends, SloQuery};
use crate::metrics::Metrics;
use crate::traffic::BackendPlace;

/// Blocks that one query covers: its answer holds every sample of every series.
const BLOCKS_AT_ONCE: usize = 40;
/// The most blocks of a recording.
const MOST_BLOCKS: i128 = 20_000;

/// Which part of which Prometheus.
#[derive(Debug, Args)]
pub struct RangeArgs {
    /// Read the counts from this Prometheus. Default: spec.metrics.prometheus.address.
    #[arg(long, value_name = "URL", requires = "from", conflicts_with = "blocks")]
    prometheus: Option<String>,
    /// Where to begin, such as 2026-05-04T10:00:00Z: when the attempt began, or before; what lies before the canary's
    /// first request is left out. With it counts are read from Prometheus.
    #[arg(long, value_name = "TIME", requires_all = ["to", "stable", "canary"], allow_hyphen_values = true)]
    from: Option<String>,
    /// The end of what is read.
    #[arg(long, value_name = "TIME", requires = "from", allow_hyphen_values = true)]
    to: Option<String>,
    /// The ReplicaSet of the old pods, of Molt's or of any Deployment's: its pods are named after it.
    #[arg(long, value_name = "REPLICASET", requires = "from")]
    stable: Option<String>,
    /// The ReplicaSet of the new pods.
    #[arg(long, value_name = "REPLICASET", requires = "from")]
    canary: Option<String>,
}

impl RangeArgs {
    /// The address that takes the place of the manifest's: what is wrong with it is said of the flag.
    pub fn address(&self) -> Result<Option<&str>, Failure> {
        let address = self.prometheus.as_deref();
        match address.map(|address| PrometheusSource::parse(None, address)) {
            Some(Err(wrong)) => {
                let why: Vec<&str> = wrong.iter().map(|error| error.message.as_str()).collect();
                Err(Failure::Input(format!("--prometheus: {}", why.join("; "))))
            }
            _ => Ok(address),
        }
    }

    /// Reads the range, of the namespace of the command line, of the manifest, or `default`.
    pub async fn read(&self, manifest: &Manifest, namespace: Option<String>) -> Result<Recording, Failure> {
        if self.stable == self.canary {
            let name = self.stable.as_deref().unwrap_or_default();
            return Err(Failure::Input(format!(
                "--canary: {name:?} is --stable as well, and nothing differs from itself: name the ReplicaSet of the new pods"
            )));
        }
        let from = time("--from", self.from.as_deref())?;
        let to = time("--to", self.to.as_deref())?;
        let edges = edges(from, to, manifest.plan.block).map_err(Failure::Input)?;
        let namespace = namespace
            .or_else(|| manifest.namespace.clone())
            .unwrap_or_else(|| "default".to_owned());
        let source = manifest
            .source
            .clone()
            .ok_or_else(|| Failure::Input("no Prometheus is named: set --prometheus".to_owned()))?;
        let by_place = |slo: &&SloQuery| slo.sli.at_route() == Some(Naming::Cluster);
        if let Some(slo) = manifest.queries.iter().find(by_place) {
            return Err(Failure::Input(format!(
                "objective {:?} counts by the places of the route's backends, which nobody knows any more: take it out of the file, or give it the preset of the application",
                slo.name
            )));
        }
        let http = client(None).map_err(Failure::Other)?;
        let headers = Arc::new(Headers::new(None, None));
        let metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
        let reader = Prometheus::new(metrics, TimeLimits::default(), http, headers);
        let mut blocks: Vec<MeasuredBlock> = Vec::new();
        // Neighbouring parts share an edge.
        let mut begin = 0;
        while begin + 1 < edges.len() {
            let end = (begin + BLOCKS_AT_ONCE).min(edges.len() - 1);
            let request = self.request(manifest, &source, &namespace, &edges[begin..=end]);
            let measured = reader.measure(&request).await;
            if let Some(problem) = measured.problems.first() {
                return Err(Failure::Other(problem.message.clone()));
            }
            blocks.extend(measured.measurement.blocks);
            begin = end;
        }
        self.check(&blocks, &namespace)?;
        let recording = Recording::measured(from, &blocks)
            .ok_or_else(|| Failure::Input("--from and --to span no block".to_owned()))?;
        // What the operator would have known of the time before, when the attempt began.
        let later = SignedDuration::from_millis(recording.begin());
        let begin = from.checked_add(later).unwrap_or(from);
        let before = MeasureRequest {
            edges: vec![begin],
            want_history: true,
            now: begin,
            ..self.request(manifest, &source, &namespace, &[])
        };
        let history = reader.measure(&before).await.measurement.history;
        Ok(recording.after(history))
    }

    fn request(
        &self,
        manifest: &Manifest,
        source: &PrometheusSource,
        namespace: &str,
        edges: &[Timestamp],
    ) -> MeasureRequest {
        let place = |service: Option<&String>| {
            let place = |service: &String| BackendPlace {
                service: service.clone(),
                rule: 0,
                index: 0,
            };
            service.map(place).into_iter().collect()
        };
        MeasureRequest {
            source: source.clone(),
            namespace: namespace.to_owned(),
            service: manifest.name.clone(),
            slos: manifest.queries.clone(),
            canary: self.canary.clone(),
            stable: self.stable.clone(),
            // The Service of a backend is named as its ReplicaSet is; its place is not known any more.
            backends: RouteBackends {
                route: manifest.name.clone(),
                canary: place(self.canary.as_ref()),
                stable: place(self.stable.as_ref()),
            },
            // Nothing is left that tells it: a pod that began in between counts from its first sample on.
            births: BTreeMap::new(),
            warm_at: BTreeMap::new(),
            starts: BTreeMap::new(),
            // Thresholds are read at the moment, not afterwards.
            conditions: Vec::new(),
            guards: Vec::new(),
            connections: None,
            edges: edges.to_vec(),
            want_history: false,
            now: edges.last().copied().unwrap_or_default(),
        }
    }

    /// A name that fits no pod reads as silence.
    fn check(&self, blocks: &[MeasuredBlock], namespace: &str) -> Result<(), Failure> {
        let counted = |canary: bool| -> f64 {
            let counts = blocks.iter().flat_map(|block| &block.slos).flatten();
            counts
                .map(|slo| {
                    if canary {
                        slo.canary.total()
                    } else {
                        slo.stable.total()
                    }
                })
                .sum()
        };
        for (flag, name, canary) in [
            ("--stable", &self.stable, false),
            ("--canary", &self.canary, true),
        ] {
            if counted(canary) <= 0.0 {
                let name = name.as_deref().unwrap_or_default();
                return Err(Failure::Input(format!(
                    "{flag}: no request of ReplicaSet {name:?} in namespace {namespace:?} was counted between --from and --to: check the name, the namespace (-n) and the times"
                )));
            }
        }
        Ok(())
    }
}

fn time(flag: &str, text: Option<&str>) -> Result<Timestamp, Failure> {
    let text = text.unwrap_or_default();
    text.parse().map_err(|_| {
        Failure::Input(format!(
            "{flag}: {text:?} is no time: write it with its zone, such as 2026-05-04T10:00:00Z"
        ))
    })
}

/// The grid of blocks between two times; a last part that is shorter than a block is left out.
fn edges(from: Timestamp, to: Timestamp, block: SignedDuration) -> Result<Vec<Timestamp>, String> {
    if to <= from {
        return Err(format!(
            "--to: {to} is not after --from, {from}: write the end of what is read, which is later"
        ));
    }
    let count = to.duration_since(from).as_millis() / block.as_millis().max(1);
    if !(1..=MOST_BLOCKS).contains(&count) {
        return Err(format!(
            "--to: {to} is {count} blocks of {block:#} after --from: write a time that is 1 to {MOST_BLOCKS} blocks later"
        ));
    }
    let mut edges = vec![from];
    for _ in 0..count {
        let last = edges.last().copied().unwrap_or(from);
        edges.push(last.checked_add(block).map_err(|error| error.to_string())?);
    }
    Ok(edges)
}

#[cfg(test)]
mod tests;
