//! Who does not lead writes nothing.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::controller::edges::{Clock, SystemClock};

/// This replica does not lead, or no longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Error)]
#[error("this replica does not lead; whoever does decides anew")]
pub struct NotLeading;

/// Where a candidate stands.
#[derive(Clone, Debug)]
pub enum Standing {
    /// Nothing is known of the lease yet.
    Unknown {
        /// Why, if it was tried.
        why: Option<String>,
    },
    /// Somebody else leads, or nobody.
    Standby {
        /// Who holds the lease.
        leader: Option<String>,
    },
    /// This one leads.
    Leading(Leading),
}

/// A leadership, as long as it lasts.
#[derive(Clone, Debug)]
pub struct Leading {
    /// Counts this replica's leaderships.
    pub term: u64,
    /// Who leads.
    pub me: Arc<str>,
    /// Until when it may write; for ever without an election. Each renewal moves it.
    pub until: Option<Until>,
    /// The lease; absent without an election.
    pub lease: Option<Arc<ObjectReference>>,
    /// Who led before.
    pub before: Option<String>,
}

/// When leadership ends unless it is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Until {
    /// By the steady clock.
    pub steady: Instant,
    /// By the clock of the wall, which goes on, or is put right, after a machine was suspended together with its
    /// steady clock. When it jumps ahead, writes wait for the next renewal.
    pub wall: Timestamp,
}

impl Until {
    fn is_over(&self, wall: &Wall) -> bool {
        Instant::now() >= self.steady || wall.0.now() >= self.wall
    }
}

/// The clock of the wall.
#[derive(Clone)]
struct Wall(Arc<dyn Clock>);

impl fmt::Debug for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.now())
    }
}

/// Tells where a candidate stands, now and whenever that changes.
#[derive(Clone, Debug)]
pub struct Leadership {
    standing: watch::Receiver<Standing>,
    wall: Wall,
}

impl Leadership {
    /// Of a candidate that publishes its standing there.
    pub fn new(standing: watch::Receiver<Standing>, clock: Arc<dyn Clock>) -> Self {
        let wall = Wall(clock);
        Self { standing, wall }
    }

    /// Of a replica that is alone: it leads for ever.
    pub fn alone() -> Self {
        let leading = Leading {
            term: 1,
            me: "".into(),
            until: None,
            lease: None,
            before: None,
        };
        // The last value stays when the sender is gone.
        Self::new(
            watch::channel(Standing::Leading(leading)).1,
            Arc::new(SystemClock),
        )
    }

    /// Where it stands now: `Leading` only as long as it may write.
    pub fn standing(&self) -> Standing {
        match &*self.standing.borrow() {
            Standing::Leading(leading) if leading.until.is_some_and(|u| u.is_over(&self.wall)) => {
                Standing::Standby { leader: None }
            }
            standing => standing.clone(),
        }
    }

    /// Waits until it leads.
    pub async fn won(&self) -> (Leading, Fence) {
        let mut standing = self.standing.clone();
        loop {
            standing.mark_unchanged();
            if let Standing::Leading(leading) = self.standing() {
                let fence = Fence(Some(Term {
                    number: leading.term,
                    standing,
                    wall: self.wall.clone(),
                }));
                return (leading, fence);
            }
            if standing.changed().await.is_err() {
                // Whoever stood is gone: it will never lead.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Lets writes through during one leadership.
#[derive(Clone, Debug)]
pub struct Fence(Option<Term>);

#[derive(Clone, Debug)]
struct Term {
    number: u64,
    standing: watch::Receiver<Standing>,
    wall: Wall,
}

enum Lasts {
    Over,
    ForEver,
    To(Until),
}

impl Fence {
    /// Lets everything through.
    pub fn open() -> Self {
        Self(None)
    }

    /// Fails once the leadership is over, and while the clock of the wall says that it might be.
    pub fn check(&self) -> Result<(), NotLeading> {
        let Some(term) = &self.0 else { return Ok(()) };
        match term.lasts() {
            Lasts::ForEver => Ok(()),
            Lasts::To(until) if !until.is_over(&term.wall) => Ok(()),
            Lasts::To(_) | Lasts::Over => Err(NotLeading),
        }
    }

    /// Waits until the leadership is over.
    pub async fn ended(&self) {
        let Some(term) = &self.0 else {
            return std::future::pending().await;
        };
        let mut standing = term.standing.clone();
        loop {
            standing.mark_unchanged();
            let steady = match term.lasts() {
                Lasts::Over => return,
                Lasts::ForEver => return std::future::pending().await,
                Lasts::To(until) => until.steady,
            };
            if Instant::now() >= steady {
                return;
            }
            tokio::select! {
                biased;
                Ok(()) = standing.changed() => {}
                () = tokio::time::sleep_until(steady) => {}
            }
        }
    }

    /// Does something as long as the leadership lasts, and drops it half done when that ends.
    pub async fn hold<T>(&self, work: impl Future<Output = T>) -> Result<T, NotLeading> {
        self.check()?;
        tokio::select! {
            biased;
            () = self.ended() => Err(NotLeading),
            done = work => Ok(done),
        }
    }
}

impl Term {
    /// How long this leadership lasts, as far as is known.
    fn lasts(&self) -> Lasts {
        match &*self.standing.borrow() {
            Standing::Leading(leading) if leading.term == self.number => {
                leading.until.map_or(Lasts::ForEver, Lasts::To)
            }
            _ => Lasts::Over,
        }
    }
}
