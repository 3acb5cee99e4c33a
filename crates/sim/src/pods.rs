//! Pods: their lives, what they count, and what is scraped of it.

use jiff::SignedDuration;
use jiff::Timestamp;
use molt_core::observed::{Crashes, Trouble, TroubleKind};
use rand::{Rng, RngExt};

use crate::arrivals::{among, arrivals, first_of};
use crate::proxy::Tally;
use crate::setup::Environment;

/// What has served for long has done so since then.
const LONG_AGO: Millis = 3_600_000;

/// Milliseconds since the attempt began.
pub type Millis = i64;

/// The kubelet waits this long before the second restart of a container, and twice as long before each next.
const BACK_OFF: Millis = 10_000;
/// The longest that it waits.
const LONGEST_BACK_OFF: Millis = 300_000;

/// How a revision treats its requests during some time.
#[derive(Clone, Debug, PartialEq)]
pub struct Conduct {
    /// Share of requests that fail.
    pub errors: f64,
    /// Share of requests that are never answered.
    pub hang: f64,
    /// Share of answers that each objective counts as bad; `None`: those that fail.
    pub slow: Vec<Option<f64>>,
}

/// What ends a container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fate {
    /// It lives this long, and then ends by itself.
    pub crash_after: Option<Millis>,
    /// It lives this long until its memory is at the limit.
    pub killed_after: Option<Millis>,
}

/// Where a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// It starts; ready at this time.
    Starting(Millis),
    /// It serves, until this time if it is to end.
    Serving(Option<Millis>),
    /// It has ended, and is an endpoint until this time.
    Ended(Millis),
    /// It waits to be restarted at this time.
    BackOff(Millis),
}

/// One pod with one container.
#[derive(Clone, Debug)]
pub struct Pod {
    life: Life,
    ends: u32,
    restarts: u32,
    /// The last two ends.
    ended_at: Vec<Millis>,
    out_of_memory: bool,
    /// When each run of its container was ready.
    began: Vec<Millis>,
    next_scrape: Millis,
    /// Requests, then bad ones for each objective.
    counters: Vec<u64>,
    scraped_at: Vec<Millis>,
    /// The counters at each scrape, one after the other.
    scraped: Vec<u64>,
}

/// What became of the requests to one pod in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Served {
    /// Requests.
    pub requests: u64,
    /// Those that users saw fail.
    pub failed: u64,
    /// When the first arrived.
    pub first: Option<Millis>,
}

impl Pod {
    /// A pod that is created at `now`.
    pub fn created(rng: &mut impl Rng, environment: &Environment, objectives: usize, now: Millis) -> Self {
        let interval = millis(environment.scrape_interval).max(1);
        Self {
            life: Life::Starting(now + start_up(rng, environment)),
            ends: 0,
            restarts: 0,
            ended_at: Vec::new(),
            out_of_memory: false,
            began: Vec::new(),
            // Scrapes of different pods are spread evenly over the interval.
            next_scrape: now + rng.random_range(0..interval),
            counters: vec![0; objectives + 1],
            scraped_at: Vec::new(),
            scraped: Vec::new(),
        }
    }

    /// A pod that has served for long.
    pub fn serving(rng: &mut impl Rng, environment: &Environment, objectives: usize, now: Millis) -> Self {
        let mut pod = Self::created(rng, environment, objectives, now);
        pod.life = Life::Serving(None);
        pod.began.push(now - LONG_AGO);
        pod.scrape(now);
        pod
    }

    /// It answers requests and probes.
    pub fn is_ready(&self) -> bool {
        matches!(self.life, Life::Serving(_))
    }

    /// Requests are sent to it.
    pub fn is_endpoint(&self) -> bool {
        matches!(self.life, Life::Serving(_) | Life::Ended(_))
    }

    /// When its life changes next.
    pub fn next_change(&self) -> Option<Millis> {
        match self.life {
            Life::Starting(at) | Life::Ended(at) | Life::BackOff(at) => Some(at),
            Life::Serving(until) => until,
        }
    }

    /// What the operator is told of it.
    pub fn trouble(&self, name: &str) -> Option<Trouble> {
        let waits = matches!(self.life, Life::BackOff(_));
        (self.ends > 0 && (self.restarts > 0 || waits) && !self.is_ready()).then(|| Trouble {
            kind: TroubleKind::CrashLoop,
            message: self.last_end(name),
            restarts: self.restarts,
        })
    }

    /// The ends of its runs, if it was restarted.
    pub fn crashes(&self, name: &str) -> Option<Crashes> {
        (self.restarts > 0).then(|| Crashes {
            message: self.last_end(name),
            ends: self
                .ended_at
                .iter()
                .filter_map(|at| Timestamp::from_millisecond(*at).ok())
                .collect(),
            out_of_memory: self
                .ended_at
                .iter()
                .filter(|_| self.out_of_memory)
                .filter_map(|at| Timestamp::from_millisecond(*at).ok())
                .collect(),
        })
    }

    fn last_end(&self, name: &str) -> String {
        let code = if self.out_of_memory {
            "137 (OOMKilled)"
        } else {
            "1"
        };
        format!("{name}: ended with exit code {code}")
    }

    /// Its life goes on at `now`, if it is time.
    pub fn live(&mut self, rng: &mut impl Rng, environment: &Environment, fate: Fate, now: Millis) {
        if self.next_change().is_none_or(|at| at > now) {
            return;
        }
        self.life = match self.life {
            Life::Starting(_) => {
                self.began.push(now);
                let lives = [fate.crash_after, fate.killed_after].into_iter().flatten().min();
                Life::Serving(lives.map(|time| now + time))
            }
            Life::Serving(_) => {
                self.out_of_memory = fate
                    .killed_after
                    .is_some_and(|killed| fate.crash_after.is_none_or(|crash| killed < crash));
                self.ends += 1;
                if self.ended_at.len() == 2 {
                    self.ended_at.remove(0);
                }
                self.ended_at.push(now);
                // What the process counted since its last scrape is lost with it.
                let width = self.counters.len();
                match self.scraped.len().checked_sub(width) {
                    Some(last) => self.counters.copy_from_slice(&self.scraped[last..]),
                    None => self.counters.fill(0),
                }
                Life::Ended(now + millis(environment.endpoint_lag))
            }
            // The first restart comes at once.
            Life::Ended(_) if self.ends == 1 => self.restart(rng, environment, now),
            Life::Ended(_) => {
                let doublings = (self.ends - 2).min(16);
                Life::BackOff(now + (BACK_OFF << doublings).min(LONGEST_BACK_OFF))
            }
            Life::BackOff(_) => self.restart(rng, environment, now),
        };
    }

    fn restart(&mut self, rng: &mut impl Rng, environment: &Environment, now: Millis) -> Life {
        self.restarts += 1;
        Life::Starting(now + start_up(rng, environment))
    }

    /// Requests at `rate` per millisecond in `(from, to]`, and the scrapes of that time. The tally grows by what
    /// became of them.
    pub fn serve(
        &mut self,
        rng: &mut impl Rng,
        interval: Millis,
        (from, to): (Millis, Millis),
        rate: f64,
        conduct: &Conduct,
        tally: &mut Tally,
    ) -> Served {
        let mut served = Served::default();
        let mut at = from;
        while at < to {
            while self.next_scrape <= at {
                self.next_scrape += interval;
            }
            let end = self.next_scrape.min(to);
            let requests = arrivals(rng, rate * (end - at) as f64);
            if requests > 0 {
                if served.first.is_none() {
                    served.first = Some(at + (first_of(rng, requests) * (end - at) as f64) as Millis);
                }
                served.requests += requests;
                served.failed += self.answer(rng, requests, conduct, tally);
            }
            if end == self.next_scrape && self.is_ready() {
                self.scrape(end);
            }
            at = end;
        }
        served
    }

    /// Answers requests, and says how many fail.
    fn answer(&mut self, rng: &mut impl Rng, requests: u64, conduct: &Conduct, tally: &mut Tally) -> u64 {
        if !self.is_ready() {
            tally.refuse(requests, &conduct.slow);
            return requests;
        }
        let hung = among(rng, requests, conduct.hang);
        let answered = requests - hung;
        let failed = among(rng, answered, conduct.errors);
        self.counters[0] += answered;
        tally.sent += requests;
        tally.answered += answered;
        for (index, slow) in conduct.slow.iter().enumerate() {
            let counted = slow.map_or(failed, |slow| among(rng, answered, slow));
            self.counters[index + 1] += counted;
            tally.bad[index] += counted;
            tally.truly_bad[index] += (counted + hung) as f64;
        }
        hung + failed
    }

    fn scrape(&mut self, at: Millis) {
        self.scraped_at.push(at);
        self.scraped.extend_from_slice(&self.counters);
    }

    /// It was scraped in `(start, end]`.
    pub fn was_scraped(&self, start: Millis, end: Millis) -> bool {
        self.index(end) > self.index(start)
    }

    /// When it was last scraped in `(start, end]`.
    pub fn last_scrape(&self, start: Millis, end: Millis) -> Option<Millis> {
        let last = *self.scraped_at.get(self.index(end).checked_sub(1)?)?;
        (last > start).then_some(last)
    }

    /// When its present run began, as of a time; `None` before the first.
    pub fn since(&self, now: Millis) -> Option<Millis> {
        self.began.iter().rev().find(|began| **began <= now).copied()
    }

    /// Its memory at each scrape in `(start, end]`, in bytes, if each run begins with `at_start` and grows by so many
    /// bytes a second.
    pub fn memory(&self, (start, end): (Millis, Millis), at_start: f64, growth: f64) -> Vec<(Millis, f64)> {
        let scrapes = self.scraped_at.iter().filter(|at| **at > start && **at <= end);
        scrapes
            .filter_map(|at| {
                let ran = (at - self.since(*at)?) as f64 / 1000.0;
                Some((*at, at_start + growth * ran))
            })
            .collect()
    }

    /// By how much the counter with this index grew in `(start, end]`, as far as scrapes tell.
    pub fn growth(&self, counter: usize, start: Millis, end: Millis) -> u64 {
        let value = |edge: Millis| match self.index(edge) {
            0 => 0,
            n => self.scraped[(n - 1) * self.counters.len() + counter],
        };
        value(end) - value(start)
    }

    /// Scrapes up to and at `edge`.
    fn index(&self, edge: Millis) -> usize {
        self.scraped_at.partition_point(|at| *at <= edge)
    }
}

/// A time with a random part.
pub fn with_spread(rng: &mut impl Rng, least: SignedDuration, spread: SignedDuration) -> Millis {
    millis(least) + rng.random_range(0..=millis(spread).max(0))
}

fn start_up(rng: &mut impl Rng, environment: &Environment) -> Millis {
    with_spread(rng, environment.start_up, environment.start_up_spread)
}

/// Whole milliseconds.
pub fn millis(time: SignedDuration) -> Millis {
    Millis::try_from(time.as_millis()).unwrap_or(Millis::MAX / 4)
}

#[cfg(test)]
mod tests;
