//! The dashboard: what is rolling out, why it is where it is, and what it costs; and what a person can do about it.
//!
//! ```text
//!  one watch of services ─► fleet ──► one stream a viewer: what changed since (stream)
//!  one watch of records  ─► records ─► pages of lines
//!  a request ─► guard ─► who asks (identity) ─► their own client ─► API server   (detail, act, records::one)
//! ```
//!
//! The server's own rights are to read, and they are used for what all viewers share; which part of it somebody is shown
//! is asked of the API server in their name (`access`). Everything else, every change first of all, is done by their own
//! client. [ADR 35](../../docs/adr/0035-a-dashboard-without-rights-of-its-own.md).

mod access;
mod act;
pub mod args;
mod assets;
mod detail;
mod fleet;
mod guard;
mod identity;
mod local;
mod proxy;
mod records;
mod refusal;
mod row;
mod session;
mod stream;
#[cfg(test)]
mod tests;
mod watch;

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::routing::{get, post};
use axum::{Router, middleware};
use kube::config::AuthInfo;
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use fleet::Fleet;
pub use identity::digest;
use identity::{Everybody, Known};
use local::Door;
pub use proxy::TrustedProxy;
use records::Records;
use refusal::Refusal;

/// Streams that are open at the same time, at most.
const MOST_STREAMS: usize = 512;

/// How the dashboard is served.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Watch only this namespace.
    pub namespace: Option<String>,
    /// Whoever is not signed in may look at what the server's own rights show.
    pub guests: bool,
    /// Who may say who somebody is.
    pub proxy: TrustedProxy,
}

/// What every request is answered from.
#[derive(Debug)]
pub struct App {
    fleet: Arc<Fleet>,
    records: Arc<Records>,
    own: Arc<Known>,
    nobody: Nobody,
    everybody: Everybody,
    door: Option<Door>,
    proxy: TrustedProxy,
    guests: bool,
    namespace: Option<String>,
    streams: Arc<Semaphore>,
}

/// A client without any identity: a token is added to each request.
struct Nobody(Client);

impl std::fmt::Debug for Nobody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nobody")
    }
}

impl App {
    /// `config` is the server's own.
    fn new(config: Config, settings: Settings, door: Option<Door>) -> kube::Result<Arc<Self>> {
        let mut of_nobody = config.clone();
        // A client certificate, or a token of the server's own, would be taken instead of the viewer's.
        of_nobody.auth_info = AuthInfo::default();
        let nobody = Client::try_from(of_nobody)?;
        let own = Client::try_from(config)?;
        let app = Arc::new(Self::with(own.clone(), nobody, settings, door));
        watch::start(&own, app.namespace.as_deref(), &app.fleet, &app.records);
        Ok(app)
    }

    /// With the server's own client, and one without any identity.
    fn with(own: Client, nobody: Client, settings: Settings, door: Option<Door>) -> Self {
        Self {
            // Another process has another one: places in its order mean nothing in this.
            fleet: Arc::new(Fleet::new(RandomState::new().hash_one(std::process::id()))),
            records: Arc::default(),
            own: Known::new(own, true),
            nobody: Nobody(nobody),
            everybody: Everybody::default(),
            door,
            proxy: settings.proxy,
            guests: settings.guests,
            namespace: settings.namespace,
            streams: Arc::new(Semaphore::new(MOST_STREAMS)),
        }
    }
}

/// Every address: those of the page, of its files, and of what it asks for.
fn router(app: Arc<App>) -> Router {
    let api = Router::new()
        .route(
            "/session",
            get(session::who).post(session::sign_in).delete(session::sign_out),
        )
        .route("/stream", get(stream::stream))
        .route("/records", get(records::list))
        .route("/ns/{namespace}/records/{name}", get(records::one))
        .route("/ns/{namespace}/services/{name}", get(detail::service))
        .route("/ns/{namespace}/services/{name}/pods", get(detail::pods))
        .route("/ns/{namespace}/services/{name}/actions", post(act::act))
        .route("/ns/{namespace}/pods/{name}/log", get(detail::log))
        .fallback(async || Refusal::NotFound("there is no such address".to_owned()));
    Router::new()
        .route("/", get(assets::page))
        .route("/records", get(assets::page))
        .route("/ns/{namespace}", get(assets::page))
        .route("/ns/{namespace}/services/{name}", get(assets::page))
        .route("/ns/{namespace}/records/{name}", get(assets::page))
        .route("/assets/{name}", get(assets::asset))
        .route("/open", get(session::open))
        .nest("/api", api)
        .fallback(assets::elsewhere)
        .layer(middleware::from_fn_with_state(app.clone(), guard::guard))
        // Of the server, not of anybody: not watched over.
        .route("/livez", get(async || "ok\n"))
        .with_state(app)
}

/// Serves the dashboard of a cluster until `shutdown` is complete; `config` is the server's own identity, which needs
/// rights to read alone, and to impersonate if a proxy is trusted.
pub async fn serve(
    listener: TcpListener,
    config: Config,
    settings: Settings,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let app = App::new(config, settings, None)?;
    Ok(run(listener, app, shutdown).await?)
}

/// Serves the dashboard of one person on their own machine, with the identity of `config`. Returns the link that opens
/// it, once, and the server.
pub fn serve_locally(
    listener: TcpListener,
    config: Config,
    namespace: Option<String>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(String, impl Future<Output = io::Result<()>>), Box<dyn std::error::Error + Send + Sync>> {
    let address = listener.local_addr()?;
    let (key, session) = (local::secret_word()?, local::secret_word()?);
    let door = Door::new(&key, session, address.port());
    let settings = Settings {
        namespace,
        ..Settings::default()
    };
    let app = App::new(config, settings, Some(door))?;
    Ok((
        format!("http://{address}/open?token={key}"),
        run(listener, app, shutdown),
    ))
}

async fn run(
    listener: TcpListener,
    app: Arc<App>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let service = router(app).into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, service);
    // Streams never end by themselves, and nothing is lost with them.
    tokio::select! {
        ended = server => ended,
        () = shutdown => Ok(()),
    }
}
