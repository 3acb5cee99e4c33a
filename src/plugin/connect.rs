//! To which cluster, and into which namespace, as kubectl decides it.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};

use super::Failure;
use super::failure::chain;
use crate::api::v1alpha1::PythonService;

/// Who is on call does not wait longer to hear that the API server is away.
const CONNECT: Duration = Duration::from_secs(8);

/// A connection, and the namespace that commands are about.
#[derive(Clone)]
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
}

/// How to connect as the flags say; what they leave open is in the kubeconfig.
pub(super) async fn config(kubeconfig: Option<PathBuf>, context: Option<String>) -> Result<Config, Failure> {
    let mut config = read(kubeconfig, context).await?;
    config.connect_timeout = Some(CONNECT);
    Ok(config)
}

async fn read(kubeconfig: Option<PathBuf>, context: Option<String>) -> Result<Config, Failure> {
    let options = KubeConfigOptions {
        context,
        ..KubeConfigOptions::default()
    };
    match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|e| Failure::Config(chain(&e)))?;
            Config::from_custom_kubeconfig(file, &options)
                .await
                .map_err(|e| Failure::Config(chain(&e)))
        }
        None => match Config::from_kubeconfig(&options).await {
            Ok(config) => Ok(config),
            // Without a kubeconfig this may be a pod of the cluster itself.
            Err(error) => Config::incluster().map_err(|_| Failure::Config(chain(&error))),
        },
    }
}

impl Cluster {
    /// Connects as the flags say; what they leave open is in the kubeconfig.
    pub async fn connect(
        kubeconfig: Option<PathBuf>,
        context: Option<String>,
        namespace: Option<String>,
    ) -> Result<Self, Failure> {
        let config = config(kubeconfig, context).await?;
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|e| Failure::Config(chain(&e)))?;
        Ok(Self { client, namespace })
    }

    /// PythonServices of the namespace.
    pub fn services(&self) -> Api<PythonService> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The PythonService of this name, or a failure that says which ones there are.
    pub async fn service(&self, name: &str) -> Result<PythonService, Failure> {
        if name.is_empty() {
            let why = "the name of the PythonService is empty: `kubectl molt get` lists those that there are";
            return Err(Failure::NotFound(why.to_owned()));
        }
        // What waits holds the whole object, several times over.
        match Box::pin(self.services().get_opt(name)).await? {
            Some(service) => Ok(service),
            None => Err(Box::pin(self.missing(name)).await),
        }
    }

    /// Why there is no such service, as far as it can be told.
    pub async fn missing(&self, name: &str) -> Failure {
        let namespace = &self.namespace;
        let here = match self.services().list(&kube::api::ListParams::default()).await {
            Ok(list) => list.items,
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                return Failure::NotFound(
                    "this cluster does not know the kind PythonService: Molt is not installed in it"
                        .to_owned(),
                );
            }
            Err(error) => return error.into(),
        };
        let names: Vec<_> = here.iter().map(ResourceExt::name_any).collect();
        Failure::NotFound(if names.is_empty() {
            format!("no PythonService {name}: namespace {namespace} has none; -n chooses another one")
        } else {
            format!(
                "no PythonService {name} in namespace {namespace}; there are: {}",
                names.join(", ")
            )
        })
    }
}
