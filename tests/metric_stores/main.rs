//! What Molt reads, from real stores of metrics that speak Prometheus's API: each scrapes two pods, whose requests are
//! known to the last one.

mod native_histograms;
mod same_counts;
mod support;
