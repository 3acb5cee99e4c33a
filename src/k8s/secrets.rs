//! Reading a Secret, for which the operator has no right unless somebody has given it for this one.

use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, Error};

use crate::metric_sources::headers::{SecretData, SecretReader};

/// How long the API server may take.
const LIMIT: Duration = Duration::from_secs(4);

/// Reads Secrets one at a time, by `get`: no list, no watch.
#[derive(Clone)]
pub struct Secrets {
    client: Client,
}

impl Secrets {
    /// With the operator's own rights.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The data of a Secret.
    pub async fn data(&self, namespace: &str, name: &str) -> Result<SecretData, Unread> {
        let api = Api::<Secret>::namespaced(self.client.clone(), namespace);
        let secret = match tokio::time::timeout(LIMIT, api.get_opt(name)).await {
            Ok(Ok(Some(secret))) => secret,
            Ok(Ok(None)) => return Err(Unread::Missing),
            Ok(Err(Error::Api(status))) if status.code == 403 => return Err(Unread::Forbidden),
            Ok(Err(error)) => return Err(Unread::Failed(error.to_string())),
            Err(_) => return Err(Unread::Failed(format!("no answer within {LIMIT:?}"))),
        };
        let data = secret.data.unwrap_or_default();
        Ok(data.into_iter().map(|(key, value)| (key, value.0)).collect())
    }

    async fn headers(&self, namespace: &str, name: &str) -> Result<SecretData, String> {
        self.data(namespace, name).await.map_err(|unread| match unread {
            Unread::Missing => format!(
                "Secret {namespace}/{name} does not exist: create it, with header names as keys, or correct headersFrom.name"
            ),
            Unread::Forbidden => format!(
                "the operator may not read Secret {namespace}/{name}: list it in the chart's value prometheus.headerSecrets, or bind a Role with the verb get on this Secret to the operator's service account"
            ),
            Unread::Failed(why) => format!("Secret {namespace}/{name} can't be read: {why}"),
        })
    }
}

/// Why a Secret could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// There is none of this name.
    Missing,
    /// The operator has no right to read it.
    Forbidden,
    /// The API server did not answer, or not so.
    Failed(String),
}

impl SecretReader for Secrets {
    fn read<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<SecretData, String>> {
        Box::pin(self.headers(namespace, name))
    }
}
