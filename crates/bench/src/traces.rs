//! What a Prometheus would have read of both arms, scrape by scrape.
//!
//! Requests arrive by Poisson's distribution; which of them are bad is binomial, and beta-binomial where
//! requests are clustered. All that judges see are the increases of counters, as `increase()` would take them.

use rand::{RngExt, SeedableRng};
use rand_distr::{Beta, Binomial, Distribution, Poisson};
use rand_pcg::Pcg64Mcg;

/// Seconds between two scrapes.
pub const SCRAPE: u32 = 15;
/// A block is two scrapes long: so often are counters of workers read in that time.
const SCRAPES_A_STEP: i64 = 2;
/// Workers behind one endpoint where counters are dirty.
const WORKERS: usize = 4;
/// Pods of each arm.
pub const PODS: usize = 5;
/// Scrapes of stable before the canary came: an hour.
pub const BEFORE: u32 = 3600 / SCRAPE;

/// Requests and the bad ones among them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// Requests.
    pub total: f64,
    /// The bad ones.
    pub bad: f64,
}

impl Seen {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            bad: self.bad + other.bad,
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            total: self.total - other.total,
            bad: self.bad - other.bad,
        }
    }

    /// The share of bad ones, 0 to 1; `None` without requests: Prometheus' `NaN`.
    pub fn ratio(self) -> Option<f64> {
        (self.total > 0.0).then(|| self.bad / self.total)
    }
}

/// How the counters are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counters {
    /// Each request is counted once.
    #[default]
    Clean,
    /// Four workers answer a scrape in turns, each with its own counters: a saw-tooth.
    SawTooth,
    /// The same of the canary alone: the new revision brought the workers. Each tells when it began, as clients of
    /// Prometheus do without being asked to.
    NewSawTooth,
    /// The same of workers that don't tell it.
    UntoldSawTooth,
    /// Every pod is scraped through two services: each request is counted twice.
    ScrapedTwice,
}

/// The world in which a canary is judged. Shares and rates are from 0 to 1.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fault that a world has or has not"
)]
pub struct World {
    /// Requests per second to both arms.
    pub per_second: f64,
    /// The canary's share of requests.
    pub weight: f64,
    /// Stable's bad ratio.
    pub stable_bad: f64,
    /// The canary's bad ratio.
    pub canary_bad: f64,
    /// Correlation of two requests of one arm in one scrape; 0 for independent ones.
    pub clustering: f64,
    /// Both arms' bad ratio is ten times as high from minute 20 to minute 25.
    pub incident: bool,
    /// Stable's bad ratio is twice as high in every second scrape and 0 in between; the canary's is as much above it as ever.
    pub flips: bool,
    /// A tenant with this share of requests sticks to one pod of five of one arm, the canary with probability
    /// `weight`, and has [`TENANT_BAD`] of them bad, on whatever revision.
    pub tenant: f64,
    /// Five pods in each arm, of which one of the ten has [`POD_BAD`] of its requests bad, on whatever
    /// revision: a bad node.
    pub bad_pod: bool,
    /// The canary accepts requests and never answers: nothing of it is ever counted.
    pub hangs: bool,
    /// How the counters are read.
    pub counters: Counters,
    /// Seconds that are judged.
    pub seconds: u32,
}

/// The bad ratio of the sticky tenant.
pub const TENANT_BAD: f64 = 0.3;
/// The bad ratio of the bad pod.
pub const POD_BAD: f64 = 0.05;

/// Which arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// The new revision.
    Canary,
    /// The old one.
    Stable,
}

/// What was read in one run: sums from the start, so that any window costs two reads.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The canary's share of requests, 0 to 1.
    pub weight: f64,
    /// Requests per second that history promises.
    pub per_second: f64,
    canary: Vec<Seen>,
    stable: Vec<Seen>,
    pods: Vec<[Pods; 2]>,
    /// What was scraped of the canary's and of stable's counters, as it is stored, where several workers answer.
    raw: [Vec<Scrape>; 2],
    scraped: f64,
}

/// What one scrape of workers behind one endpoint stores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scrape {
    /// When, in milliseconds from the start: those before it are negative.
    pub millis: i64,
    /// The counter of good requests of the worker that answered.
    pub good: f64,
    /// The same of bad ones.
    pub bad: f64,
    /// When this worker began, in seconds from the start, if it tells.
    pub began: Option<f64>,
}

/// What each pod of an arm counted in one scrape.
pub type Pods = [Seen; PODS];

impl Trace {
    /// A trace of increases per scrape, `(canary, stable)`.
    pub fn new(weight: f64, per_second: f64, scrapes: impl IntoIterator<Item = (Seen, Seen)>) -> Self {
        let mut trace = Self {
            weight,
            per_second,
            canary: vec![Seen::default()],
            stable: vec![Seen::default()],
            pods: Vec::new(),
            raw: Default::default(),
            scraped: 1.0,
        };
        let (mut canary, mut stable) = (Seen::default(), Seen::default());
        for (c, s) in scrapes {
            canary = canary.plus(c);
            stable = stable.plus(s);
            trace.canary.push(canary);
            trace.stable.push(stable);
        }
        trace
    }

    /// The run that `seed` stands for.
    pub fn simulate(world: &World, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let tenant_at_canary = world.tenant > 0.0 && dice.uniform() < world.weight;
        let bad_pod_at_canary = world.bad_pod && dice.uniform() < 0.5;
        let [mut of_canary, mut of_stable] = match world.counters {
            new @ (Counters::NewSawTooth | Counters::UntoldSawTooth) => [new, Counters::Clean],
            other => [other, other],
        }
        .map(Reader::new);
        if of_stable.kind == Counters::SawTooth {
            let mean = world.per_second * f64::from(SCRAPE);
            of_stable.millis = -i64::from(BEFORE * SCRAPE) * 1000;
            for _ in 0..BEFORE {
                let served = dice.requests(mean, world.stable_bad, world.clustering);
                of_stable.read(&mut dice, served);
            }
        }
        let steps = world.seconds / SCRAPE;
        let mut scrapes = Vec::with_capacity(steps as usize);
        let mut pods = Vec::new();
        let by_pod = world.bad_pod || world.tenant > 0.0;
        for step in 0..steps {
            let incident = world.incident && (1200..1500).contains(&(step * SCRAPE));
            let arm = |dice: &mut Dice, canary: bool| {
                let share = if canary { world.weight } else { 1.0 - world.weight };
                let usual = match step % 2 {
                    _ if !world.flips => world.stable_bad,
                    0 => 0.0,
                    _ => 2.0 * world.stable_bad,
                };
                let bad = if canary {
                    usual + (world.canary_bad - world.stable_bad)
                } else {
                    usual
                };
                let bad = if incident { (bad * 10.0).min(1.0) } else { bad };
                let mean = world.per_second * f64::from(SCRAPE);
                // What goes to the first pod alone.
                let mut first = Seen::default();
                let mut own = mean * share * (1.0 - world.tenant);
                let sick = world.bad_pod && canary == bad_pod_at_canary;
                if sick {
                    first = first.plus(dice.requests(own * 0.2, POD_BAD.max(bad), 0.0));
                    own *= 0.8;
                }
                if world.tenant > 0.0 && canary == tenant_at_canary {
                    first = first.plus(dice.requests(mean * world.tenant, TENANT_BAD, 0.0));
                }
                let own = dice.requests(own, bad, world.clustering);
                let mut pods = Pods::default();
                if by_pod {
                    dice.deal(own, &mut pods[usize::from(sick)..]);
                    pods[0] = pods[0].plus(first);
                }
                (first.plus(own), pods)
            };
            let (canary, canary_pods) = if world.hangs {
                (Seen::default(), Pods::default())
            } else {
                arm(&mut dice, true)
            };
            let (stable, stable_pods) = arm(&mut dice, false);
            if by_pod {
                pods.push([canary_pods, stable_pods]);
            }
            scrapes.push((
                of_canary.read(&mut dice, canary),
                of_stable.read(&mut dice, stable),
            ));
        }
        Self {
            pods,
            raw: [of_canary.stored, of_stable.stored],
            scraped: if world.counters == Counters::ScrapedTwice {
                2.0
            } else {
                1.0
            },
            ..Self::new(world.weight, world.per_second, scrapes)
        }
    }

    /// What each pod of both arms, the canary's first, counted in the scrape that ends at `now`; `None` in a
    /// world in which all pods are alike.
    pub fn pods(&self, now: u32) -> Option<&[Pods; 2]> {
        self.pods.get((now / SCRAPE) as usize - 1)
    }

    /// What was counted in the scrape that ends at `now` by a reader that tells a pod which is scraped twice.
    pub fn once(&self, arm: Arm, now: u32) -> Seen {
        let seen = self.window(arm, now, SCRAPE);
        Seen {
            total: seen.total / self.scraped,
            bad: seen.bad / self.scraped,
        }
    }

    /// What was scraped of an arm in `(from, to]` seconds from the start, where several workers answer; nothing elsewhere.
    pub fn raw(&self, arm: Arm, from: i64, to: i64) -> &[Scrape] {
        let all = match arm {
            Arm::Canary => &self.raw[0],
            Arm::Stable => &self.raw[1],
        };
        let until = |seconds: i64| all.partition_point(|scrape| scrape.millis <= seconds * 1000);
        &all[until(from)..until(to).max(until(from))]
    }

    /// The ends of all scrapes, in seconds from the start.
    pub fn times(&self) -> impl Iterator<Item = u32> + use<> {
        (1..self.canary.len() as u32).map(|i| i * SCRAPE)
    }

    /// What was counted in the `window` seconds before `now`, or since the start.
    pub fn window(&self, arm: Arm, now: u32, window: u32) -> Seen {
        let sums = match arm {
            Arm::Canary => &self.canary,
            Arm::Stable => &self.stable,
        };
        let at = |seconds: u32| sums[((seconds / SCRAPE) as usize).min(sums.len() - 1)];
        at(now).minus(at(now.saturating_sub(window)))
    }
}

/// Reads the counters of one arm as Prometheus' `increase()` does: a fall is a restart from 0.
struct Reader {
    kind: Counters,
    workers: [Seen; WORKERS],
    /// The last reading: of a pod that was scraped before its first request.
    last: Seen,
    /// When the last scrape was, in milliseconds from the start.
    millis: i64,
    stored: Vec<Scrape>,
}

/// Seconds before its weight that a canary's first worker began, and between one and the next.
const BEGAN: (f64, f64) = (-15.0, 0.03);

impl Reader {
    fn new(kind: Counters) -> Self {
        Self {
            kind,
            workers: [Seen::default(); WORKERS],
            last: Seen::default(),
            millis: 0,
            stored: Vec::new(),
        }
    }

    fn read(&mut self, dice: &mut Dice, new: Seen) -> Seen {
        match self.kind {
            Counters::Clean => new,
            Counters::ScrapedTwice => new.plus(new),
            Counters::SawTooth | Counters::NewSawTooth | Counters::UntoldSawTooth => {
                let mut halves = [Seen::default(); SCRAPES_A_STEP as usize];
                dice.deal(new, &mut halves);
                halves.into_iter().fold(Seen::default(), |sum, half| {
                    sum.plus(self.read_worker(dice, half))
                })
            }
        }
    }

    fn read_worker(&mut self, dice: &mut Dice, new: Seen) -> Seen {
        dice.deal(new, &mut self.workers);
        let worker = (dice.uniform() * WORKERS as f64) as usize % WORKERS;
        let reading = self.workers[worker];
        let last = std::mem::replace(&mut self.last, reading);
        // Good and bad requests are counted in series of their own, by their status.
        let good = |seen: Seen| seen.total - seen.bad;
        self.millis += i64::from(SCRAPE) * 1000 / SCRAPES_A_STEP;
        self.stored.push(Scrape {
            millis: self.millis,
            good: good(reading),
            bad: reading.bad,
            began: (self.kind == Counters::NewSawTooth).then_some(BEGAN.0 + worker as f64 * BEGAN.1),
        });
        let rise = |now: f64, before: f64| if now < before { now } else { now - before };
        let bad = rise(reading.bad, last.bad);
        Seen {
            total: rise(good(reading), good(last)) + bad,
            bad,
        }
    }
}

struct Dice {
    chance: Pcg64Mcg,
    /// The distributions that were drawn from, by their means: a world has a handful.
    arrivals: Vec<(f64, Poisson<f64>)>,
    /// The same of clustered rates, by their means.
    rates: Vec<(f64, Beta<f64>)>,
}

impl Dice {
    fn new(seed: u64) -> Self {
        Self {
            chance: Pcg64Mcg::seed_from_u64(seed),
            arrivals: Vec::new(),
            rates: Vec::new(),
        }
    }

    fn uniform(&mut self) -> f64 {
        self.chance.random()
    }

    fn among(&mut self, n: f64, p: f64) -> f64 {
        if n <= 0.0 || p <= 0.0 {
            return 0.0;
        }
        if p >= 1.0 {
            return n;
        }
        Binomial::new(n as u64, p).map_or(0.0, |d| d.sample(&mut self.chance) as f64)
    }

    fn poisson(&mut self, mean: f64) -> f64 {
        let known = self
            .arrivals
            .iter()
            .position(|(of, _)| of.to_bits() == mean.to_bits());
        let at = known.or_else(|| {
            self.arrivals.push((mean, Poisson::new(mean).ok()?));
            Some(self.arrivals.len() - 1)
        });
        at.map_or(0.0, |at| self.arrivals[at].1.sample(&mut self.chance))
    }

    /// As many requests as chance sends where `mean` are expected.
    fn requests(&mut self, mean: f64, bad: f64, clustering: f64) -> Seen {
        if clustering > 0.0 && bad > 0.0 && bad < 1.0 {
            let total = self.poisson(mean);
            let spread = 1.0 / clustering - 1.0;
            let known = self
                .rates
                .iter()
                .position(|(of, _)| of.to_bits() == bad.to_bits());
            let at = known.or_else(|| {
                self.rates
                    .push((bad, Beta::new(bad * spread, (1.0 - bad) * spread).ok()?));
                Some(self.rates.len() - 1)
            });
            let p = at.map_or(bad, |at| self.rates[at].1.sample(&mut self.chance));
            return Seen {
                total,
                bad: self.among(total, p),
            };
        }
        // Good and bad requests of a Poisson stream are two independent Poisson streams.
        let (good, bad) = (self.poisson(mean * (1.0 - bad)), self.poisson(mean * bad));
        Seen {
            total: good + bad,
            bad,
        }
    }

    /// Deals requests out at random.
    fn deal(&mut self, new: Seen, workers: &mut [Seen]) {
        let (mut good, mut bad) = (new.total - new.bad, new.bad);
        let count = workers.len();
        for (i, worker) in workers.iter_mut().enumerate() {
            let share = 1.0 / (count - i) as f64;
            let (g, b) = (self.among(good, share), self.among(bad, share));
            good -= g;
            bad -= b;
            *worker = worker.plus(Seen { total: g + b, bad: b });
        }
    }
}

#[cfg(test)]
#[path = "traces_tests.rs"]
mod tests;
