//! Everybody who uses a service: requests on kept connections and on new ones, by the gateway and by a Service inside
//! the cluster, and WebSockets that are held open.

use crate::load::{Load, Request, Stream, Way};
use crate::rollout::not_its_own;
use crate::stage::{Stage, until};

/// WebSockets that are open at any time.
const STREAMS: u32 = 20;
/// Requests a second of all together, unless `MOLT_E2E_RATE` says another number.
const RATE: u32 = 200;
/// So many are served each way before it is taken for served.
const SERVED: usize = 100;

/// Everybody who uses a service.
pub struct Users {
    by: [(&'static str, Load); 4],
    streams: Load,
}

impl Users {
    /// Users of the Service and host `name`; returns once each way is served.
    pub async fn of(stage: &Stage, name: &str) -> Self {
        let rate = std::env::var("MOLT_E2E_RATE").map_or(RATE, |rate| {
            rate.parse()
                .expect("MOLT_E2E_RATE is a number of requests a second")
        });
        let host = stage.host(name);
        let inside = stage.inside(name).await;
        let gateway = format!("{}/", stage.gateway);
        let stream = format!("{}/stream", stage.gateway.replace("http:", "ws:"));
        let load = |way, url: &str| Load::start(way, url, &host, (rate / 4).max(1));
        let users = Self {
            by: [
                ("gateway, kept connections", load(Way::KeepAlive, &gateway)),
                ("gateway, new connections", load(Way::NewConnections, &gateway)),
                ("inside, kept connections", load(Way::KeepAlive, &inside)),
                ("inside, new connections", load(Way::NewConnections, &inside)),
            ],
            streams: Load::start(Way::Streams, &stream, &host, STREAMS),
        };
        until("everybody is served", async || {
            users
                .by
                .iter()
                .all(|(_, load)| load.requests().iter().filter(|r| !r.failed()).count() > SERVED)
        })
        .await;
        users
    }

    /// Nobody has lost a request so far, but by the own answers of a version of the name `bad`.
    pub fn lost_nothing(&self, so_far: &str) {
        for (way, load) in &self.by {
            let requests = load.requests();
            let lost = not_its_own(&requests, "bad");
            assert!(lost.is_empty(), "{so_far}: by {way}: {lost:#?}");
        }
    }

    /// All requests by the gateway.
    pub fn by_gateway(&self) -> Vec<Request> {
        self.by[..2]
            .iter()
            .flat_map(|(_, load)| load.requests())
            .collect()
    }

    /// WebSockets that have ended.
    pub fn streams(&self) -> Vec<Stream> {
        self.streams.streams()
    }

    /// They go; how many requests were sent each way.
    pub fn leave(self) -> String {
        let counts = self.by.map(|(way, load)| format!("{way}: {}", load.end().len()));
        counts.join(", ")
    }
}
