//! What can go wrong, with the exit code that says so.

use thiserror::Error;

/// Why a command could not do its work.
#[derive(Debug, Error)]
pub enum Failure {
    /// Nobody acknowledged an action in time; the text says what to do.
    #[error("{0}")]
    Unacknowledged(String),
    /// The object does not exist.
    #[error("{0}")]
    NotFound(String),
    /// There was nothing to change.
    #[error("{0}")]
    NothingChanged(String),
    /// The kubeconfig can't be used.
    #[error("no cluster to talk to: {0}")]
    Config(String),
    /// A manifest, a recording or another input can't be used, or a file not written: `where: why: what to do`.
    #[error("{0}")]
    Input(String),
    /// The API server can't be reached, or refused.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Unacknowledged(_) => 3,
            Self::NotFound(_) => 4,
            Self::NothingChanged(_) => 5,
            Self::Config(_) | Self::Other(_) => 6,
            Self::Input(_) => 65,
        }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.is_forbidden() => {
                Self::Other(format!("the API server refused: {}", status.message))
            }
            kube::Error::Api(status) if status.code == 401 => Self::Other(
                "the API server does not accept who you are (Unauthorized): the token or certificate of the kubeconfig's user may have expired; sign in to the cluster again"
                    .to_owned(),
            ),
            kube::Error::Api(status) => Self::Other(format!("the API server answered: {}", status.message)),
            other => Self::Other(format!("the API server can't be reached: {}", chain(&other))),
        }
    }
}

/// An error with its causes, each said once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
