//! The dashboard of a cluster, from its command line: `molt dashboard`.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use ipnet::IpNet;
use kube::Config;
use tokio::net::TcpListener;

use super::{Settings, TrustedProxy, digest, serve};

/// How it is served.
#[derive(Debug, Args)]
pub struct DashboardArgs {
    /// Where it is served. There is no encryption here: put what ends TLS before it.
    #[arg(long, env = "MOLT_DASHBOARD_LISTEN", default_value = "0.0.0.0:8081")]
    listen: SocketAddr,
    /// Watch only this namespace.
    #[arg(long, env = "MOLT_NAMESPACE")]
    namespace: Option<String>,
    /// Let whoever reaches it look at what its own rights show, without signing in. Nobody changes anything without.
    #[arg(long, env = "MOLT_DASHBOARD_ANONYMOUS_READ")]
    anonymous_read: bool,
    /// Networks of the proxy that says by headers who somebody is. Who comes from there is believed: nothing else may
    /// be able to.
    #[arg(
        long,
        env = "MOLT_DASHBOARD_TRUSTED_PROXY_CIDR",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    trusted_proxy_cidr: Vec<IpNet>,
    /// A file with the secret that the proxy sends as x-molt-proxy-secret; with networks, both are asked for.
    #[arg(long, env = "MOLT_DASHBOARD_TRUSTED_PROXY_SECRET_FILE", value_name = "FILE")]
    trusted_proxy_secret_file: Option<PathBuf>,
    /// The header with the user's name.
    #[arg(
        long,
        env = "MOLT_DASHBOARD_USER_HEADER",
        value_name = "NAME",
        default_value = "x-forwarded-user"
    )]
    user_header: String,
    /// The header with the user's groups, separated by commas.
    #[arg(
        long,
        env = "MOLT_DASHBOARD_GROUPS_HEADER",
        value_name = "NAME",
        default_value = "x-forwarded-groups"
    )]
    groups_header: String,
}

impl DashboardArgs {
    /// Serves it until `shutdown` is complete.
    pub async fn run(
        self,
        config: Config,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let secret = match &self.trusted_proxy_secret_file {
            None => None,
            Some(path) => {
                let told = |why: String| {
                    format!(
                        "--trusted-proxy-secret-file {}: {why}; write at least 16 characters into it",
                        path.display()
                    )
                };
                let secret = std::fs::read_to_string(path).map_err(|error| told(error.to_string()))?;
                let secret = secret.trim();
                if secret.len() < 16 {
                    return Err(told("the secret is too short to be one".to_owned()).into());
                }
                Some(digest(secret.as_bytes()))
            }
        };
        for (flag, name) in [
            ("--user-header", &self.user_header),
            ("--groups-header", &self.groups_header),
        ] {
            name.parse::<http::HeaderName>()
                .map_err(|_| format!("{flag} {name:?}: is not the name of a header"))?;
        }
        let listener = TcpListener::bind(self.listen).await.map_err(|error| {
            format!(
                "can't serve the dashboard on {}: {error}; choose another address by --listen",
                self.listen
            )
        })?;
        let settings = Settings {
            namespace: self.namespace,
            guests: self.anonymous_read,
            proxy: TrustedProxy {
                networks: self.trusted_proxy_cidr,
                secret,
                user_header: self.user_header,
                groups_header: self.groups_header,
            },
        };
        tracing::info!(address = %self.listen, "serving the dashboard");
        serve(listener, config, settings, shutdown).await
    }
}
