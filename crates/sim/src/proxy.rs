//! The proxies of the route: what they send to both revisions, and which answers they see.
//!
//! All of them are one here, scraped at its own phase as each pod is at its.

use molt_core::analysis::{AtRoute, Counts};
use molt_core::observed::BlockCounts;
use rand::{Rng, RngExt};

use crate::pods::{Millis, millis};
use crate::setup::Environment;

/// What became of the requests to one revision in some time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Requests that were sent to it.
    pub sent: u64,
    /// Those that were answered, by a pod or, when nobody took them, by the proxy.
    pub answered: u64,
    /// Answers that each objective counts as bad.
    pub bad: Vec<u64>,
    /// What each objective would count as bad if it saw everything.
    pub truly_bad: Vec<f64>,
}

impl Tally {
    /// Nothing yet, for so many objectives.
    pub fn of(objectives: usize) -> Self {
        Self {
            bad: vec![0; objectives],
            truly_bad: vec![0.0; objectives],
            ..Self::default()
        }
    }

    /// Requests that nobody took: the proxy answers them with an error at once. `slow` says which objectives
    /// look at times alone.
    pub fn refuse(&mut self, requests: u64, slow: &[Option<f64>]) {
        self.sent += requests;
        self.answered += requests;
        for ((bad, truly), slow) in self.bad.iter_mut().zip(&mut self.truly_bad).zip(slow) {
            *truly += requests as f64;
            if slow.is_none() {
                *bad += requests;
            }
        }
    }

    fn counters(&self) -> impl Iterator<Item = u64> {
        [self.sent, self.answered]
            .into_iter()
            .chain(self.bad.iter().copied())
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Proxy {
    interval: Millis,
    next_scrape: Millis,
    /// What was sent, answered and, for each objective, bad: of stable, then of the canary.
    counters: Vec<u64>,
    scraped_at: Vec<Millis>,
    /// The counters at each scrape, one after the other.
    scraped: Vec<u64>,
}

impl Proxy {
    /// Proxies that have run for long.
    pub fn new(rng: &mut impl Rng, environment: &Environment, objectives: usize) -> Self {
        let interval = millis(environment.scrape_interval).max(1);
        let counters = vec![0; 2 * (objectives + 2)];
        Self {
            interval,
            next_scrape: rng.random_range(1..=interval),
            scraped_at: vec![0],
            scraped: counters.clone(),
            counters,
        }
    }

    /// When it is scraped next.
    pub fn next_scrape(&self) -> Millis {
        self.next_scrape
    }

    /// Counts what became of requests to stable and to the canary, up to `now`, and is scraped if it is time.
    pub fn count(&mut self, stable: &Tally, canary: &Tally, now: Millis) {
        let grown = stable.counters().chain(canary.counters());
        for (counter, grown) in self.counters.iter_mut().zip(grown) {
            *counter += grown;
        }
        if now >= self.next_scrape {
            self.scraped_at.push(now);
            self.scraped.extend_from_slice(&self.counters);
            self.next_scrape += self.interval;
        }
    }

    /// What scrapes say of one objective in `(start, end]`; `None` when there was none. `sent`: it is known
    /// also how many requests were sent.
    pub fn block(&self, slo: usize, sent: bool, start: Millis, end: Millis) -> Option<BlockCounts> {
        let scrape = |edge: Millis| self.scraped_at.partition_point(|at| *at <= edge);
        let (first, last) = (scrape(start), scrape(end));
        if first == last {
            return None;
        }
        let width = self.counters.len();
        let value = |scrapes: usize, counter: usize| match scrapes {
            0 => 0,
            n => self.scraped[(n - 1) * width + counter],
        };
        let growth = |arm: usize, counter: usize| {
            let counter = arm * width / 2 + counter;
            (value(last, counter) - value(first, counter)) as f64
        };
        let counts = |arm| Counts::new(growth(arm, 1), growth(arm, 2 + slo));
        Some(BlockCounts {
            stable: counts(0)?,
            canary: counts(1)?,
            at_route: Some(AtRoute {
                sent: sent.then(|| (growth(1, 0), growth(0, 0))),
            }),
            ..BlockCounts::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_pcg::Pcg64Mcg;

    #[test]
    fn what_hangs_was_sent_and_what_nobody_takes_is_an_error() {
        let environment = Environment::of(&crate::study::tests::plan("availability"));
        let mut proxy = Proxy::new(&mut Pcg64Mcg::seed_from_u64(1), &environment, 2);
        let (mut stable, mut canary) = (Tally::of(2), Tally::of(2));
        stable.sent = 90;
        stable.answered = 90;
        stable.bad = vec![1, 4];
        canary.sent = 10;
        canary.answered = 6;
        canary.refuse(5, &[None, Some(0.1)]);
        let scrape = proxy.next_scrape();
        proxy.count(&stable, &canary, scrape);
        let block = proxy.block(0, true, 0, scrape).unwrap();
        assert_eq!((block.stable.total(), block.stable.bad()), (90.0, 1.0));
        assert_eq!((block.canary.total(), block.canary.bad()), (11.0, 5.0));
        assert_eq!(block.at_route.unwrap().sent, Some((15.0, 90.0)));
        let slow = proxy.block(1, false, 0, scrape).unwrap();
        assert_eq!((slow.stable.bad(), slow.canary.bad()), (4.0, 0.0));
        assert_eq!(slow.at_route, Some(AtRoute { sent: None }));
        assert!(proxy.block(0, true, scrape, scrape + 1).is_none(), "no scrape");
    }
}
