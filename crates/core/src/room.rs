//! How many pods a rollout may hold, and how many stable keeps while it lasts.

/// What a rollout may hold beside the pods that serve now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Pods that there may be beyond the service's replicas; as many again and what retires, if absent.
    pub max_surge: Option<Surge>,
    /// Stable gives up its pods as traffic leaves it, whether the canary needs the room or not.
    pub stable_scales: bool,
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
