//! Who is next of a sink's notifications. Those that somebody is called by, and the all-clear after them, go before what
//! is only news, and none of them waits for what another has to be tried again for. Of one service they keep their order:
//! an all-clear before its call would leave the call open for ever.

use tokio::time::Instant;

use super::desk::Job;
use super::policy::CALLS;
use crate::api::v1alpha1::NotificationEvent;

/// A notification that has not ended yet.
#[derive(Debug)]
pub struct Waiting {
    /// What is to be sent.
    pub job: Job,
    /// How often it was tried.
    pub tries: u32,
    /// When it was tried first.
    pub began: Option<Instant>,
    /// Not to be tried before then; `None`: at any time.
    pub not_before: Option<Instant>,
}

/// All of them, in the order in which they came.
#[derive(Debug, Default)]
pub struct Line(Vec<Waiting>);

/// What can be done now.
#[derive(Debug)]
pub enum Next {
    /// This one is tried; it is no longer in the line.
    Try(Box<Waiting>),
    /// Nothing before this time.
    Wait(Instant),
    /// There is none.
    Empty,
}

/// Somebody is called by it, or need no longer come.
pub fn is_urgent(event: NotificationEvent) -> bool {
    event == NotificationEvent::Healthy || CALLS.contains(&event)
}

impl Waiting {
    fn is_urgent(&self) -> bool {
        is_urgent(self.job.notice.event)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }
}

impl Line {
    /// At the end.
    pub fn join(&mut self, job: Job) {
        self.0.push(Waiting {
            job,
            tries: 0,
            began: None,
            not_before: None,
        });
    }

    /// Back to where it was: before all that came after it.
    pub fn again(&mut self, place: usize, waiting: Waiting) {
        self.0.insert(place.min(self.0.len()), waiting);
    }

    /// Who is next, with its place in the line.
    pub fn next(&mut self, now: Instant) -> (usize, Next) {
        // The first of its service: what is urgent does not wait for mere news of it.
        let is_first = |i: usize| {
            let of = |waiting: &Waiting| waiting.job.service.1.clone();
            let one = of(&self.0[i]);
            !self.0[..i].iter().any(|w| w.is_urgent() && of(w) == one)
        };
        let urgent = || (0..self.0.len()).filter(|&i| self.0[i].is_urgent() && is_first(i));
        // News go in their order, one after the other.
        let news = self.0.iter().position(|waiting| !waiting.is_urgent());
        let due = urgent().chain(news).find(|&i| self.0[i].is_due(now));
        if let Some(i) = due {
            return (i, Next::Try(Box::new(self.0.remove(i))));
        }
        let soonest = urgent().chain(news).filter_map(|i| self.0[i].not_before).min();
        (0, soonest.map_or(Next::Empty, Next::Wait))
    }
}
