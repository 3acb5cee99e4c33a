//! The delivery of traces by OTLP: HTTP with protobuf, as the environment says.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    ExporterBuildError, OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, Protocol,
    WithExportConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::sync::mpsc::Receiver;

use crate::metrics::Metrics;

/// How often one trace is tried at most.
const TRIES: u32 = 5;
/// How long to wait after the first try; twice as long after each other one.
const WAIT: Duration = Duration::from_secs(1);
/// How long one try may last, whatever the environment says.
const PATIENCE: Duration = Duration::from_secs(30);

/// What brings traces to the collector that the environment names; `None` where it names none.
pub fn from_environment() -> Result<Option<opentelemetry_otlp::SpanExporter>, ExporterBuildError> {
    let is_set = |name| std::env::var(name).is_ok_and(|value| !value.trim().is_empty());
    if is_set(OTEL_EXPORTER_OTLP_ENDPOINT) || is_set(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) {
        exporter(None).map(Some)
    } else {
        Ok(None)
    }
}

/// What brings traces to this URL, or to that of the environment.
pub fn exporter(url: Option<&str>) -> Result<opentelemetry_otlp::SpanExporter, ExporterBuildError> {
    let mut builder = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary);
    if let Some(url) = url {
        builder = builder.with_endpoint(url);
    }
    let mut exporter = builder.build()?;
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    exporter.set_resource(
        &Resource::builder()
            .with_service_name("molt")
            .with_attribute(version)
            .build(),
    );
    Ok(exporter)
}

/// Brings what comes out to the collector, one trace after the other, until nothing can come any more. One that is not
/// taken is tried again, and given up in the end.
pub async fn deliver(mut traces: Receiver<Vec<SpanData>>, exporter: impl SpanExporter, metrics: Metrics) {
    while let Some(trace) = traces.recv().await {
        let mut wait = WAIT;
        for attempt in 1..=TRIES {
            let sent = tokio::time::timeout(PATIENCE, exporter.export(trace.clone())).await;
            let why = match sent {
                Ok(Ok(())) => {
                    metrics.traced("delivered");
                    break;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
            };
            if attempt == TRIES {
                metrics.traced("gave_up");
                tracing::warn!(
                    why,
                    "the trace of an attempt was given up: the collector did not take it"
                );
            } else {
                metrics.traced("retried");
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
        }
    }
}
