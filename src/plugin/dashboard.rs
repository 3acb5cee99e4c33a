//! `kubectl molt dashboard`: the dashboard on one's own machine, with the identity of one's kubeconfig.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};
use kube::{Client, Config};
use tokio::net::TcpListener;

use super::failure::chain;
use super::{Failure, connect, text};
use crate::dashboard;

/// Where it is served.
#[derive(Debug, Args)]
pub(super) struct DashboardArgs {
    /// The port on this machine. Default: a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

pub(super) async fn run(
    args: &DashboardArgs,
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
    namespace: Option<String>,
) -> Result<ExitCode, Failure> {
    let config = connect::config(kubeconfig, context).await?;
    let namespace = match namespace {
        Some(namespace) => Some(namespace),
        None => the_one_that_may_be_seen(&config).await?,
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::Other(format!(
            "can't serve the dashboard on {address}: {error}; choose another port by --port"
        ))
    })?;
    let stopped = async {
        // Without a signal it runs until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let place = namespace
        .clone()
        .map_or_else(|| "all namespaces".to_owned(), |n| format!("namespace {n}"));
    let (link, server) = dashboard::serve_locally(listener, config, namespace, stopped)
        .map_err(|error| Failure::Other(error.to_string()))?;
    text::print(&format!(
        "{link}\n\nThe dashboard of {place}, with your own rights. The link opens once, in one browser; Ctrl-C ends it.\n"
    ));
    server.await.map_err(|error| Failure::Other(chain(&error)))?;
    Ok(ExitCode::SUCCESS)
}

/// The context's namespace, unless services of all may be listed.
async fn the_one_that_may_be_seen(config: &Config) -> Result<Option<String>, Failure> {
    let client = Client::try_from(config.clone()).map_err(|e| Failure::Config(chain(&e)))?;
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some("molt.dev".to_owned()),
                resource: Some("pythonservices".to_owned()),
                verb: Some("list".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client);
    let review = reviews.create(&PostParams::default(), &review).await?;
    let all = review.status.is_some_and(|status| status.allowed);
    Ok((!all).then(|| config.default_namespace.clone()))
}
