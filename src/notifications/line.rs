//! Who is next of a sink's notifications. Those that somebody is called by, and the all-clear after them, go before what
//! is only news. Of one service they keep their order: an all-clear before its call would leave the call open for ever.
//!
//! A sink that fails is tried with one at a time, and not always with the same: what it refuses for its content holds up
//! no other, and what waits while nothing is taken has not used up its tries.

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
}

/// All of them.
#[derive(Debug, Default)]
pub struct Line {
    /// Urgent ones and news, each in the order in which they are tried.
    waiting: [Vec<Waiting>; 2],
    /// Nothing of a class before then.
    rest: [Option<Instant>; 2],
    /// How often the class has failed, one time after the other.
    failures: [u32; 2],
}

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

fn class(job: &Job) -> usize {
    usize::from(!is_urgent(job.notice.event))
}

impl Line {
    /// At the end.
    pub fn join(&mut self, job: Job) {
        self.waiting[class(&job)].push(Waiting {
            job,
            tries: 0,
            began: None,
        });
    }

    /// Who is next.
    pub fn next(&mut self, now: Instant) -> Next {
        let mut soonest: Option<Instant> = None;
        for class in 0..2 {
            if self.waiting[class].is_empty() {
                continue;
            }
            match self.rest[class].filter(|until| *until > now) {
                None => return Next::Try(Box::new(self.waiting[class].remove(0))),
                Some(until) => soonest = Some(soonest.map_or(until, |known| known.min(until))),
            }
        }
        soonest.map_or(Next::Empty, Next::Wait)
    }

    /// How often this one's class has failed in a row, with this time.
    pub fn fails(&mut self, waiting: &Waiting) -> u32 {
        let failures = &mut self.failures[class(&waiting.job)];
        *failures = failures.saturating_add(1);
        *failures
    }

    /// It is to be tried again, and its class not before then; `all`: the sink asked for it, so that nothing is.
    /// Behind the others it waits for its turn, and what is of the same service behind it.
    pub fn again(&mut self, waiting: Waiting, until: Instant, all: bool) {
        let class = class(&waiting.job);
        self.rest[class] = Some(until);
        if all {
            self.rest = [Some(until); 2];
        }
        let line = &mut self.waiting[class];
        let (same, others): (Vec<_>, Vec<_>) = std::mem::take(line)
            .into_iter()
            .partition(|other| other.job.service.1 == waiting.job.service.1);
        line.extend(others);
        line.push(waiting);
        line.extend(same);
    }

    /// One of this class has ended: the sink answers.
    pub fn ends(&mut self, job: &Job) {
        let class = class(job);
        (self.failures[class], self.rest[class]) = (0, None);
    }
}
