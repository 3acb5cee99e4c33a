//! Who leads, decided without a clock and without a network.
//!
//! Nobody's clock is compared with anybody else's. A candidate notes by its own clock when it saw the lease change
//! last, and takes it over once it has stayed the same for as long as it lasts; the API server refuses that if it
//! has changed after all. A holder counts from the moment at which it began a renewal that was confirmed: whatever
//! others saw of it, they saw later.
//!
//! Whoever finds no lease makes one that nobody holds, and that has to be waited for as any other: somebody may have
//! deleted it under its holder.

use std::time::Duration;

use super::timing::Timing;

/// A time by this process's own steady clock, since a moment of its choice.
pub type Local = Duration;

/// The lease as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The `resourceVersion`: another one is another lease.
    pub version: String,
    /// Who holds it.
    pub holder: Option<String>,
    /// How long it lasts. Whoever releases it takes this away together with the name.
    pub lasts: Option<Duration>,
    /// How often it has changed hands.
    pub transitions: i32,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing until then, unless a watch brings news.
    Wait(Local),
    /// Read the lease.
    Read,
    /// Create it, with no holder.
    Create,
    /// Become or stay its holder, provided that it is still this one.
    Write(Seen),
}

/// What is known of the lease.
#[derive(Clone, Debug)]
enum Known {
    Nothing,
    Absent,
    There { lease: Seen, since: Local },
}

/// One candidate's view of the election.
#[derive(Clone, Debug)]
pub struct Election {
    me: String,
    timing: Timing,
    known: Known,
    /// When the last renewal that was confirmed began.
    confirmed: Option<Local>,
    /// How often this candidate has become the leader.
    term: u64,
    /// A write was sent, and it is not known what came of it.
    doubt: bool,
    /// Nothing is asked before this, after a failure.
    not_before: Local,
    /// How long an answer is waited for.
    patience: Duration,
}

impl Election {
    /// A candidate that knows nothing yet. Its name must be nobody else's, ever.
    pub fn new(me: String, timing: Timing) -> Self {
        Self {
            me,
            timing,
            known: Known::Nothing,
            confirmed: None,
            term: 0,
            doubt: false,
            not_before: Local::ZERO,
            patience: timing.usable(),
        }
    }

    /// Until when it may write, if it holds the lease.
    pub fn until(&self) -> Option<Local> {
        self.confirmed.map(|began| began + self.timing.usable())
    }

    /// It holds the lease, and may write.
    pub fn leads(&self, now: Local) -> bool {
        self.until().is_some_and(|until| now < until)
    }

    /// Counts up whenever it becomes the leader, also when nobody else was in between.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// How long to wait for an answer. It adapts to a slow server, and to one that does not answer now and then:
    /// a request that was lost must not cost all the time there is.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// The holder, as far as it is known; `None` if nothing is known, or nobody holds it.
    pub fn holder(&self) -> Option<&str> {
        match &self.known {
            Known::There { lease, .. } => lease.holder.as_deref(),
            Known::Nothing | Known::Absent => None,
        }
    }

    /// What to do at this time.
    pub fn next(&self, now: Local) -> Next {
        if now < self.not_before {
            return Next::Wait(self.not_before);
        }
        let (lease, since) = match &self.known {
            Known::Nothing => return Next::Read,
            Known::Absent => return Next::Create,
            Known::There { lease, since } => (lease, *since),
        };
        let at = match &lease.holder {
            Some(holder) if *holder == self.me => {
                self.confirmed.map_or(now, |began| began + self.timing.renew())
            }
            None if lease.lasts.is_none() => now,
            _ => since + lease.lasts.unwrap_or_default().max(self.timing.lease()),
        };
        if now < at {
            Next::Wait(at)
        } else {
            Next::Write(lease.clone())
        }
    }

    /// The API server was read, or has created what nobody holds.
    pub fn read(&mut self, lease: Option<Seen>, now: Local) {
        self.doubt = false;
        if lease
            .as_ref()
            .is_some_and(|l| l.holder.as_ref() != Some(&self.me))
        {
            self.confirmed = None;
        }
        self.note(lease, now);
    }

    /// A watch says that it has changed. That may be old news.
    pub fn told(&mut self, lease: Option<Seen>, now: Local) {
        let ours = |holder: Option<&str>| holder == Some(&self.me);
        if self.confirmed.is_none() && !ours(self.holder()) {
            self.note(lease, now);
        } else if !ours(lease.and_then(|l| l.holder).as_deref()) {
            self.known = Known::Nothing;
        }
    }

    fn note(&mut self, lease: Option<Seen>, now: Local) {
        self.known = match (&self.known, lease) {
            (_, None) => Known::Absent,
            (Known::There { lease: old, since }, Some(lease)) if old.version == lease.version => {
                let since = *since;
                Known::There { lease, since }
            }
            (_, Some(lease)) => Known::There { lease, since: now },
        };
    }

    /// A write is sent.
    pub fn sent(&mut self) {
        self.doubt = true;
    }

    /// What was written at `began` is confirmed.
    pub fn written(&mut self, lease: Seen, began: Local, now: Local) {
        if !self.leads(now) {
            self.term += 1;
        }
        self.doubt = false;
        self.confirmed = Some(began);
        self.known = Known::There { lease, since: now };
        self.patience = (now.saturating_sub(began) * 2).clamp(self.timing.renew(), self.timing.usable());
    }

    /// The lease is no longer what it was taken for.
    pub fn stale(&mut self) {
        self.known = Known::Nothing;
    }

    /// There was no answer, or none of use.
    pub fn failed(&mut self, began: Local, now: Local) {
        let waited = now.saturating_sub(began);
        if waited >= self.patience {
            self.patience = (self.patience * 2).min(self.timing.usable());
        }
        // A leader has little time, the others have no reason to press a server in trouble.
        let pause = self.timing.renew() / if self.leads(now) { 8 } else { 1 };
        self.not_before = now + pause.saturating_sub(waited);
    }

    /// It wants to lead no longer. What it has to release, if anything: the lease, or `Read` to find out.
    pub fn resign(&mut self) -> Option<Next> {
        self.confirmed = None;
        match &self.known {
            _ if self.doubt => Some(Next::Read),
            Known::There { lease, .. } if lease.holder.as_ref() == Some(&self.me) => {
                Some(Next::Write(lease.clone()))
            }
            Known::Nothing if self.term > 0 => Some(Next::Read),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
