//! Pods whose runtime is as noisy as that of healthy services: what guards must not take for harm.

use jiff::Timestamp;
use molt_core::analysis::{Counts, Sample};
use molt_core::guard::PodRuntime;
use rand::RngExt;
use rand_distr::{Distribution, Exp, Gamma, LogNormal, Normal, Poisson};
use rand_pcg::Pcg64Mcg;

/// Seconds between two scrapes.
const SCRAPE: f64 = 15.0;
/// Bytes.
const MB: f64 = 1e6;
/// The event loop's lag is sampled so often in a second, as in the lines of docs/guards.md.
const LAG_SAMPLES: f64 = 4.0;
/// Threads of a pod.
pub const POOL: f64 = 8.0;
/// Seconds that a container lives on average before it is restarted for whatever reason.
const LIFE: f64 = 6.0 * 3600.0;
/// Seconds between two losses of readiness, on average.
const FLAP: f64 = 3.0 * 3600.0;

/// What a revision does beside the usual.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Conduct {
    /// Bytes a second that memory grows by.
    pub leak: f64,
    /// The share of samples of lag that are late, 0 to 1.
    pub late: f64,
    /// A request takes so many times as much of a processor; 0 as usual.
    pub price: f64,
    /// The share of requests that are answered with 4xx beyond the usual, 0 to 1.
    pub refused: f64,
    /// The share of requests of one route, which has a tenth of them, that are answered with 4xx beyond the usual.
    pub strict: f64,
    /// Files a second that are never closed.
    pub unclosed: f64,
    /// The share of time that the collector takes beyond the usual, 0 to 1.
    pub gc: f64,
    /// A request holds its thread for so many times as long; 0 as usual.
    pub held: f64,
    /// Workers a second that hang, in all pods of the revision with all of the traffic.
    pub hung: f64,
    /// Exceptions a second of a type that nobody else raises, likewise.
    pub raised: f64,
}

/// One pod.
pub struct Pod {
    rng: Pcg64Mcg,
    born: f64,
    phase: f64,
    memory: Memory,
    /// Processor time of an idle second.
    idle: f64,
    /// The node is so fast.
    node: f64,
    /// When it is restarted next.
    ends: f64,
    flaps_at: f64,
    /// Losses of readiness so far.
    pub flaps: Vec<Timestamp>,
    samples: Vec<(f64, f64)>,
    /// Files that are open beside connections, connections for each request a second, and what connections there are.
    files: (f64, f64, f64),
    /// The collector takes so many times as much time as in the other pods.
    gc: f64,
    open: Vec<(f64, f64)>,
    scraped_to: f64,
}

/// How the memory of one process moves.
struct Memory {
    base: f64,
    warm_by: f64,
    warm_in: f64,
    tooth: f64,
    period: f64,
    steps: f64,
}

impl Memory {
    fn draw(rng: &mut Pcg64Mcg) -> Self {
        Self {
            base: rng.random_range(80.0..250.0) * MB,
            // Imports, caches, connection pools: up to 60 MB with a time constant of one to two minutes and more.
            warm_by: rng.random_range(10.0..60.0) * MB,
            warm_in: log_normal(rng, 60.0, 0.5),
            tooth: rng.random_range(1.0..12.0) * MB,
            period: rng.random_range(15.0..60.0),
            steps: 0.0,
        }
    }

    fn at(&self, age: f64, rng: &mut Pcg64Mcg) -> f64 {
        let warm = self.warm_by * (1.0 - (-age / self.warm_in).exp());
        let tooth = self.tooth * (age / self.period).fract();
        self.base + warm + tooth + self.steps + normal(rng, 0.5 * MB)
    }
}

fn normal(rng: &mut Pcg64Mcg, deviation: f64) -> f64 {
    Normal::new(0.0, deviation).map_or(0.0, |d| d.sample(rng))
}

fn log_normal(rng: &mut Pcg64Mcg, median: f64, sigma: f64) -> f64 {
    LogNormal::new(median.ln(), sigma).map_or(median, |d| d.sample(rng))
}

fn poisson(rng: &mut Pcg64Mcg, mean: f64) -> f64 {
    Poisson::new(mean).map_or(0.0, |d| d.sample(rng))
}

fn waits(rng: &mut Pcg64Mcg, mean: f64) -> f64 {
    Exp::new(1.0 / mean).map_or(mean, |d| d.sample(rng))
}

/// A time in seconds.
pub fn at(seconds: f64) -> Timestamp {
    Timestamp::from_millisecond((seconds * 1000.0) as i64).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn samples(of: &[(f64, f64)]) -> Vec<Sample> {
    of.iter()
        .map(|(t, value)| Sample {
            at: at(*t),
            value: *value,
        })
        .collect()
}

impl Pod {
    /// A pod that began at `born`, in seconds.
    pub fn new(mut rng: Pcg64Mcg, born: f64) -> Self {
        Self {
            born,
            phase: rng.random_range(0.0..SCRAPE),
            memory: Memory::draw(&mut rng),
            idle: rng.random_range(0.005..0.05),
            node: log_normal(&mut rng, 1.0, 0.08),
            ends: waits(&mut rng, LIFE),
            flaps_at: waits(&mut rng, FLAP),
            flaps: Vec::new(),
            samples: Vec::new(),
            files: (rng.random_range(12.0..40.0), rng.random_range(0.2..4.0), 0.0),
            open: Vec::new(),
            gc: log_normal(&mut rng, 1.0, 0.2),
            scraped_to: 0.0,
            rng,
        }
    }

    /// What it tells of the block from `start` to `end`, in which it served so many requests. `day` is what all pods do
    /// at this hour: memory in bytes a second, and a factor of the price of a request; a request `holds` a thread for so many seconds, and the collector
    /// `collects` for such a share of the time.
    pub fn block(
        &mut self,
        (start, end): (f64, f64),
        requests: f64,
        conduct: Conduct,
        day: (f64, f64),
        (holds, collects): (f64, f64),
    ) -> PodRuntime {
        while self.ends < end {
            self.born = self.ends;
            self.ends += waits(&mut self.rng, LIFE);
            self.memory = Memory {
                base: self.memory.base,
                ..Memory::draw(&mut self.rng)
            };
        }
        while self.flaps_at < end {
            self.flaps.push(at(self.flaps_at));
            self.flaps_at += waits(&mut self.rng, FLAP);
        }
        let seconds = end - start;
        self.scrape(end, conduct, day.0, requests / seconds);
        // Requests differ: their times have the variance of three times their mean's square.
        let factor = if conduct.price > 0.0 { conduct.price } else { 1.0 };
        let price = 0.004 * self.node * day.1 * factor;
        let served =
            Gamma::new((requests / 3.0).max(1e-3), 3.0 * price).map_or(0.0, |d| d.sample(&mut self.rng));
        PodRuntime {
            pod: String::new(),
            since: at(self.born),
            memory: samples(&self.samples),
            files: samples(&self.open),
            cpu: Some(self.idle * seconds * self.node + served),
            lag: self.lag(seconds, conduct),
            gc: Some(self.collects((start, end), collects, conduct)),
            busy: self.busy(requests / seconds, holds, seconds, conduct),
            timeouts: None,
        }
    }

    fn scrape(&mut self, end: f64, conduct: Conduct, day: f64, load: f64) {
        while self.scraped_to + self.phase <= end {
            let now = self.scraped_to + self.phase;
            self.scraped_to += SCRAPE;
            // An allocator takes memory by steps, and gives it back seldom.
            if self.rng.random_bool(SCRAPE / 600.0) {
                self.memory.steps += self.rng.random_range(-2.0..8.0) * MB;
            }
            let age = (now - self.born).max(0.0);
            let value = self.memory.at(age, &mut self.rng) + conduct.leak * age + day * now;
            self.samples.push((now, value));
            // Connections that are kept alive come and go within a minute or so.
            let connections = poisson(&mut self.rng, (self.files.1 * load).max(1e-3));
            self.files.2 += 0.3 * (connections - self.files.2);
            let open = self.files.0 + self.files.2 + conduct.unclosed * age;
            self.open.push((now, open.round()));
        }
        let oldest = end - 300.0;
        self.samples.retain(|(t, _)| *t > oldest);
        self.open.retain(|(t, _)| *t > oldest);
    }

    /// Seconds of the collector: more while the process is young, and now and then a full collection of half a second.
    fn collects(&mut self, (start, end): (f64, f64), usual: f64, conduct: Conduct) -> f64 {
        let seconds = end - start;
        let young = 0.03 * (-(start - self.born).max(0.0) / 60.0).exp();
        let share = usual * self.gc * log_normal(&mut self.rng, 1.0, 0.3) + young + conduct.gc;
        let full = poisson(&mut self.rng, seconds / 120.0) * 0.5;
        (share * seconds + full).min(seconds)
    }

    /// What part of a pool of eight threads is busy at each scrape.
    fn busy(&mut self, rate: f64, holds: f64, seconds: f64, conduct: Conduct) -> Vec<f64> {
        let factor = if conduct.held > 0.0 { conduct.held } else { 1.0 };
        let scrapes = (seconds / SCRAPE).round() as usize;
        (0..scrapes)
            .map(|_| poisson(&mut self.rng, (rate * holds * factor).max(1e-3)).min(POOL) / POOL)
            .collect()
    }

    fn lag(&mut self, seconds: f64, conduct: Conduct) -> Option<Counts> {
        let samples = (seconds * LAG_SAMPLES).round();
        let late = poisson(&mut self.rng, (conduct.late * samples).max(1e-9)).min(samples);
        // A full collection, a page fault, a neighbour: once in five minutes, now and then for seconds.
        let mut pauses = 0.0;
        for _ in 0..poisson(&mut self.rng, seconds / 300.0) as u32 {
            pauses += if self.rng.random_bool(0.15) { 3.0 } else { 1.0 };
        }
        Counts::new(samples, (late + pauses).min(samples))
    }
}
