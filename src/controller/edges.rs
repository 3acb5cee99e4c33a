//! What the controller is connected to: all of it can be played by something else, the time included.

use std::sync::Arc;

use jiff::Timestamp;
use kube::Client;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;
use molt_core::decision::Decision;
use molt_core::observed::Observed;
use molt_core::plan::Plan;
use molt_core::rollout::decide;
use molt_core::state::State;

use crate::metric_sources::MetricSource;
use crate::notifications::outside::Outside;
use crate::traces::Traces;

/// What decides: [`decide`] itself, or a wrapper that shows what would come of a mistake in it.
pub type Decide = dyn Fn(&Plan, &State, &Observed, Timestamp) -> Decision + Send + Sync;

/// What tells the time of day. How long something took is told by tokio's clock.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The controller's connections to the world.
#[derive(Clone)]
pub struct Edges {
    /// The API server.
    pub client: Client,
    /// Where measurements come from.
    pub source: Arc<dyn MetricSource>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// How a watch that fails waits before it is tried again; one for each watch.
    pub backoff: fn() -> Box<dyn Backoff>,
    /// What decides.
    pub decide: Arc<Decide>,
    /// Where notifications go; without it nobody is notified, and NotificationPolicies are not looked at.
    pub outside: Option<Arc<dyn Outside>>,
    /// Where the traces of attempts go.
    pub traces: Traces,
}

impl Edges {
    /// The connections of an operator to the real world.
    pub fn new(client: Client, source: Arc<dyn MetricSource>) -> Self {
        Self {
            client,
            source,
            clock: Arc::new(SystemClock),
            backoff: || Box::new(DefaultBackoff::default()),
            decide: Arc::new(decide),
            outside: None,
            traces: Traces::default(),
        }
    }
}
