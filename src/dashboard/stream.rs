//! The stream of one viewer: lines as they change, and how it stands with the API server.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::App;
use super::access::REMEMBERED;
use super::fleet::{News, Place, Pulse, Scope};
use super::identity::Viewer;
use super::refusal::Refusal;

/// Lines of one event.
const LINES: usize = 100;
/// Changes within this time are one event.
const TOGETHER: Duration = Duration::from_millis(50);
/// A comment is sent this often, so that a connection that died is noticed.
const ALIVE: Duration = Duration::from_secs(15);

/// Where a page was that was hidden meanwhile.
#[derive(Deserialize)]
pub struct Was {
    after: Option<String>,
}

/// `GET /api/stream`. It goes on where the browser says that it was.
pub async fn stream(
    State(app): State<Arc<App>>,
    viewer: Viewer,
    Query(was): Query<Was>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let permit = app.streams.clone().try_acquire_owned().map_err(|_| {
        Refusal::Unavailable(
            "as many people look at this dashboard as it serves at once: try again later".to_owned(),
        )
    })?;
    let pulse = app.fleet.pulse();
    let namespaces = pulse.borrow().namespaces;
    let scope = viewer
        .access()
        .scope(viewer.client(), app.fleet.namespaces())
        .await?;
    let place = headers
        .get("last-event-id")
        .and_then(|id| id.to_str().ok())
        .or(was.after.as_deref())
        .and_then(|id| id.parse().ok());
    let of = Of {
        pulse,
        namespaces,
        app,
        viewer,
        scope,
        asked: Instant::now(),
        place,
        told: None,
        whole: false,
        _permit: permit,
    };
    let events = futures::stream::unfold(Some(of), |of| async move {
        let mut of = of?;
        let (event, goes_on) = of.next().await;
        Some((Ok(event), goes_on.then_some(of)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)))
}

/// One viewer's stream.
struct Of {
    app: Arc<App>,
    viewer: Viewer,
    scope: Scope,
    /// When it was asked what the viewer may see, and how many namespaces there were.
    asked: Instant,
    namespaces: usize,
    place: Option<Place>,
    pulse: watch::Receiver<Pulse>,
    /// What the viewer was told of the API server.
    told: Option<String>,
    /// The viewer was told that all lines are there.
    whole: bool,
    _permit: OwnedSemaphorePermit,
}

impl Of {
    /// The next event, and whether others follow.
    async fn next(&mut self) -> (Event, bool) {
        loop {
            let pulse = self.pulse.borrow_and_update().clone();
            let is_new = pulse.namespaces != self.namespaces && self.scope != Scope::All;
            if is_new || self.asked.elapsed() >= REMEMBERED {
                self.namespaces = pulse.namespaces;
                if let Err(refusal) = self.look_again().await {
                    return (bye(&refusal), false);
                }
            }
            if let Some(event) = self.standing(&pulse) {
                return (event, true);
            }
            let news = self.app.fleet.after(self.place, LINES, &self.scope);
            let first = self.place.is_none();
            self.place = Some(news.place);
            if first || news.reset || news.more || !news.lines.is_empty() || !news.gone.is_empty() {
                if news.reset {
                    self.whole = false;
                }
                return (lines(&news), true);
            }
            if pulse.synced && !self.whole {
                self.whole = true;
                return (Event::default().event("whole").data("{}"), true);
            }
            // Whichever comes first; a right that was lost is noticed without any change.
            let changed = tokio::time::timeout(REMEMBERED, self.pulse.changed()).await;
            if matches!(changed, Ok(Err(_))) {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(TOGETHER).await;
        }
    }

    /// What the viewer may see now. An API server that does not answer says nothing about it.
    async fn look_again(&mut self) -> Result<(), Refusal> {
        self.asked = Instant::now();
        let namespaces = self.app.fleet.namespaces();
        match self.viewer.access().scope(self.viewer.client(), namespaces).await {
            Ok(scope) if scope == self.scope => Ok(()),
            Ok(scope) => {
                self.scope = scope;
                // Of no process: everything is sent anew.
                self.place = "0-0".parse().ok();
                Ok(())
            }
            Err(Refusal::Unavailable(_) | Refusal::Upstream(_)) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    fn standing(&mut self, pulse: &Pulse) -> Option<Event> {
        let standing = json!({
            "connected": pulse.connected,
            "since": pulse.since,
            "trouble": pulse.trouble,
            "nothing": matches!(&self.scope, Scope::Only(namespaces) if namespaces.is_empty()),
        })
        .to_string();
        if self.told.as_ref() == Some(&standing) {
            return None;
        }
        self.told = Some(standing.clone());
        Some(Event::default().event("standing").data(standing))
    }
}

/// Lines are JSON already.
fn lines(news: &News) -> Event {
    let gone: Vec<String> = news.gone.iter().map(ToString::to_string).collect();
    let gone = serde_json::to_string(&gone).unwrap_or_default();
    let data = format!(
        "{{\"reset\":{},\"rows\":[{}],\"gone\":{gone}}}",
        news.reset,
        news.lines.join(",")
    );
    Event::default()
        .event("rows")
        .id(news.place.to_string())
        .data(data)
}

fn bye(refusal: &Refusal) -> Event {
    let (why, sign_in) = match refusal {
        Refusal::SignIn(why) => (why, true),
        Refusal::Forbidden(why)
        | Refusal::NotFound(why)
        | Refusal::Conflict(why)
        | Refusal::Invalid(why)
        | Refusal::Unavailable(why)
        | Refusal::Upstream(why) => (why, false),
    };
    let data = json!({"signIn": sign_in, "message": why}).to_string();
    Event::default().event("bye").data(data)
}
