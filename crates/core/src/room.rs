//! How many pods a rollout may hold, and how many stable keeps while it lasts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a rollout may hold beside the pods that serve now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Pods that there may be beyond the service's replicas; as many again and what retires, if absent.
    pub max_surge: Option<Surge>,
    /// Stable gives up its pods as traffic leaves it, whether the canary needs the room or not.
    pub stable_scales: bool,
    /// What a database leaves to the pods, where somebody says how it is known.
    pub connections: Option<ConnectionsPlan>,
}

/// How many connections a database may have before no further pod starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionsPlan {
    /// What one pod may open at the most, above 0: its processes times what the pool of each may hold.
    pub per_pod: u32,
    /// So many hundredths of the server's limit may be in use, 1 to 100.
    pub max_percent: u8,
}

/// A database's connections, as they were read last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Connections {
    /// In use before the canary had a pod, by whoever.
    pub before: u32,
    /// In use now.
    pub used: u32,
    /// What the server allows.
    pub limit: u32,
    /// Why nothing newer is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub unread: Option<String>,
}

/// Pods beyond the service's replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surge {
    /// So many, 1 or more.
    Pods(u32),
    /// So many percent of the replicas, 1 to 100, rounded up.
    Percent(u32),
}

impl Surge {
    /// In pods, of so many replicas: at least one, for otherwise nothing could ever be replaced.
    pub fn of(self, replicas: u32) -> u32 {
        let pods = match self {
            Self::Pods(pods) => pods,
            Self::Percent(percent) => {
                let pods = (u64::from(replicas) * u64::from(percent)).div_ceil(100);
                u32::try_from(pods).unwrap_or(u32::MAX)
            }
        };
        pods.max(1)
    }
}
