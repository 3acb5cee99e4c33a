//! All sources as one.

use std::sync::Arc;

use futures::future::{self, BoxFuture};

use super::headers::Headers;
use super::prometheus::{Prometheus, TimeLimits};
use super::web::Web;
use super::{ConditionQuery, MeasureRequest, Measured, MetricSource, http};
use crate::metrics::Metrics;

/// Prometheuses, and URLs of thresholds.
pub struct Sources {
    prometheus: Prometheus,
    web: Web,
}

impl Sources {
    /// Sources without connections yet; it fails only when the TLS of the process can't be set up.
    ///
    /// `ca` holds the certificates, in PEM, of authorities that are trusted beside the system's.
    pub fn new(metrics: Metrics, headers: Headers, ca: Option<&[u8]>) -> Result<Self, String> {
        let (http, headers) = (http::client(ca)?, Arc::new(headers));
        Ok(Self {
            web: Web::new(http.clone(), Arc::clone(&headers)),
            prometheus: Prometheus::new(metrics, TimeLimits::default(), http, headers),
        })
    }

    async fn read(&self, request: &MeasureRequest) -> Measured {
        let (mut measured, web) =
            future::join(self.prometheus.measure(request), self.web.read(request)).await;
        let queried = std::mem::take(&mut measured.measurement.conditions);
        let (mut queried, mut web) = (queried.into_iter(), web.into_iter());
        measured.measurement.conditions = request
            .conditions
            .iter()
            .filter_map(|condition| match condition {
                ConditionQuery::Promql(_) => queried.next(),
                ConditionQuery::Web(_) => web.next(),
            })
            .collect();
        measured
    }
}

impl MetricSource for Sources {
    fn measure<'a>(&'a self, request: &'a MeasureRequest) -> BoxFuture<'a, Measured> {
        Box::pin(self.read(request))
    }
}
