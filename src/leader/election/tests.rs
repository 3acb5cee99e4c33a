//! Elections in a world where clocks run at different rates, messages are late, lost or out of order, candidates
//! freeze and die, and people edit the lease.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Microseconds of real time.
type Real = u64;

const SECOND: Real = 1_000_000;

#[derive(Clone, Debug)]
enum Request {
    Read,
    Create,
    Write(Seen),
    Release(Seen),
}

#[derive(Clone, Debug)]
enum Answer {
    Read(Option<Seen>),
    Written(Seen),
    Stale,
    Refused,
}

#[derive(Clone, Debug)]
enum Event {
    /// A candidate looks what to do.
    Turn,
    /// Its request reaches the server; `heard` says whether the answer reaches it.
    Arrives {
        id: u64,
        request: Request,
        heard: Option<Real>,
    },
    Answer {
        id: u64,
        answer: Answer,
    },
    GivesUp {
        id: u64,
    },
    Told(Option<Seen>),
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Freeze {
        who: usize,
        millis: u64,
    },
    Die {
        who: usize,
    },
    Resign {
        who: usize,
    },
    Delete,
    Seize,
    Empty,
    /// No request gets through.
    Outage {
        millis: u64,
    },
}

struct Candidate {
    election: Election,
    life: u32,
    /// By how much its clock runs fast, in millionths.
    fast: i64,
    frozen_until: Real,
    waits_for: Option<(u64, Local)>,
    /// When, in real time, the last leadership of this or an earlier life ends at the latest.
    usable_until: Real,
    hears_watch: bool,
}

impl Candidate {
    fn local(&self, at: Real) -> Local {
        let at = i128::from(at);
        Local::from_micros(u64::try_from(at + at * i128::from(self.fast) / 1_000_000).unwrap())
    }

    /// The first moment at which its clock shows this.
    fn real(&self, local: Local) -> Real {
        let rate = u128::try_from(1_000_000 + self.fast).unwrap();
        u64::try_from((local.as_micros() * 1_000_000).div_ceil(rate)).unwrap() + 1
    }
}

struct World {
    timing: Timing,
    random: u64,
    now: Real,
    queue: BTreeMap<Reverse<(Real, u64)>, (usize, u32, Event)>,
    count: u64,
    lease: Option<Seen>,
    version: u64,
    candidates: Vec<Candidate>,
    outage_until: Real,
    /// Promises what lies between two leaderships.
    least_gap: Real,
    quiet: bool,
    led: u32,
}

impl World {
    fn new(seed: u64, rates: &[i64], timing: Timing) -> Self {
        let most = rates.iter().map(|r| r.unsigned_abs()).max().unwrap_or_default() as f64 / 1e6;
        let seconds = |d: Duration| d.as_secs_f64();
        let gap = seconds(timing.lease()) / (1.0 + most) - seconds(timing.usable()) / (1.0 - most);
        let candidates = rates.iter().enumerate().map(|(i, &fast)| Candidate {
            election: Election::new(format!("{i}-0"), timing),
            life: 0,
            fast,
            frozen_until: 0,
            waits_for: None,
            usable_until: 0,
            hears_watch: true,
        });
        let mut world = Self {
            timing,
            random: seed,
            now: 0,
            queue: BTreeMap::new(),
            count: 0,
            lease: None,
            version: 0,
            candidates: candidates.collect(),
            outage_until: 0,
            // A microsecond for each rounding.
            least_gap: ((gap * 1e6) as Real).saturating_sub(10),
            quiet: false,
            led: 0,
        };
        for who in 0..rates.len() {
            world.candidates[who].hears_watch = !world.chance(4);
            let at = world.below(SECOND);
            world.at(at, who, Event::Turn);
        }
        world
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit.max(1)
    }

    fn chance(&mut self, one_in: u64) -> bool {
        !self.quiet && self.below(one_in) == 0
    }

    /// Mostly a few milliseconds, now and then seconds.
    fn delay(&mut self) -> Real {
        let most = if self.chance(8) { 5 * SECOND } else { SECOND / 50 };
        self.below(most) + 1
    }

    fn at(&mut self, at: Real, who: usize, event: Event) {
        self.count += 1;
        let life = self.candidates[who].life;
        self.queue
            .insert(Reverse((at.max(self.now), self.count)), (who, life, event));
    }

    fn run_until(&mut self, end: Real) {
        while let Some((&Reverse((at, _)), _)) = self.queue.last_key_value()
            && at <= end
        {
            let (_, (who, life, event)) = self.queue.pop_last().unwrap();
            self.now = at;
            let thawed = self.candidates[who].frozen_until;
            let at_server = matches!(event, Event::Arrives { .. });
            if at < thawed && !at_server {
                self.at(thawed, who, event);
            } else if life == self.candidates[who].life || at_server {
                self.happens(who, event);
            }
            self.check();
        }
        self.now = end;
    }

    /// Nobody leads beside another, whoever has led before knew of its end with time to spare.
    fn check(&mut self) {
        let leads = |c: &Candidate| c.election.leads(c.local(self.now));
        let leaders: Vec<usize> = (0..self.candidates.len())
            .filter(|&i| leads(&self.candidates[i]))
            .collect();
        assert!(leaders.len() < 2, "{leaders:?} lead at {}", self.now);
        let Some(&leader) = leaders.first() else { return };
        self.led += 1;
        for (other, candidate) in self.candidates.iter().enumerate() {
            assert!(
                other == leader || candidate.usable_until + self.least_gap <= self.now,
                "{leader} leads at {}, {other} could until {}",
                self.now,
                candidate.usable_until
            );
        }
    }

    fn happens(&mut self, who: usize, event: Event) {
        let now = self.candidates[who].local(self.now);
        match event {
            Event::Turn => {}
            Event::Arrives { id, request, heard } => {
                let answer = self.serve(who, request);
                if let Some(delay) = heard {
                    self.at(self.now + delay, who, Event::Answer { id, answer });
                }
                return;
            }
            Event::Answer { id, answer } => {
                let candidate = &mut self.candidates[who];
                let Some((_, began)) = candidate.waits_for.take_if(|w| w.0 == id) else {
                    return;
                };
                match answer {
                    Answer::Read(lease) => candidate.election.read(lease, now),
                    Answer::Stale => candidate.election.stale(),
                    Answer::Refused => candidate.election.failed(began, now),
                    Answer::Written(lease) => {
                        candidate.election.written(lease, began, now);
                        let until = candidate.election.until().unwrap();
                        candidate.usable_until = candidate.real(until);
                    }
                }
            }
            Event::GivesUp { id } => {
                let candidate = &mut self.candidates[who];
                let Some((_, began)) = candidate.waits_for.take_if(|w| w.0 == id) else {
                    return;
                };
                candidate.election.failed(began, now);
            }
            Event::Told(lease) => {
                let candidate = &mut self.candidates[who];
                if candidate.waits_for.is_some() {
                    // It looks at one thing at a time.
                    let later = self.now + SECOND / 100;
                    self.at(later, who, Event::Told(lease));
                    return;
                }
                candidate.election.told(lease, now);
            }
        }
        self.turn(who, now);
    }

    fn turn(&mut self, who: usize, now: Local) {
        let candidate = &mut self.candidates[who];
        if candidate.waits_for.is_some() {
            return;
        }
        let request = match candidate.election.next(now) {
            Next::Wait(until) => {
                let at = candidate.real(until);
                self.at(at, who, Event::Turn);
                return;
            }
            Next::Read => Request::Read,
            Next::Create => Request::Create,
            Next::Write(over) => Request::Write(over),
        };
        if matches!(request, Request::Write(_)) {
            candidate.election.sent();
        }
        let patience = candidate.election.patience();
        let gives_up = candidate.real(now + patience);
        self.count += 1;
        let id = self.count;
        self.candidates[who].waits_for = Some((id, now));
        self.at(gives_up, who, Event::GivesUp { id });
        if self.now < self.outage_until || self.chance(16) {
            if self.chance(2) {
                let answer = Answer::Refused;
                self.at(self.now + 1000, who, Event::Answer { id, answer });
            }
            return;
        }
        let heard = (!self.chance(16)).then(|| self.delay());
        let arrives = self.now + self.delay();
        self.at(arrives, who, Event::Arrives { id, request, heard });
    }

    fn serve(&mut self, who: usize, request: Request) -> Answer {
        let current = self.lease.as_ref().map(|l| l.version.clone());
        let name = format!("{who}-{}", self.candidates[who].life);
        let (holder, lasts) = match request {
            Request::Read => return Answer::Read(self.lease.clone()),
            Request::Create if current.is_none() => {
                self.put(None, Some(self.timing.lease()));
                return Answer::Read(self.lease.clone());
            }
            Request::Write(over) if current.as_ref() == Some(&over.version) => {
                (Some(name), Some(self.timing.lease()))
            }
            Request::Release(over) if current.as_ref() == Some(&over.version) => (None, None),
            _ => return Answer::Stale,
        };
        self.put(holder, lasts);
        Answer::Written(self.lease.clone().unwrap())
    }

    fn put(&mut self, holder: Option<String>, lasts: Option<Duration>) {
        self.version += 1;
        self.lease = Some(Seen {
            version: self.version.to_string(),
            holder,
            lasts,
            transitions: 0,
        });
        self.tell();
    }

    fn tell(&mut self) {
        for who in 0..self.candidates.len() {
            if self.candidates[who].hears_watch && !self.chance(8) {
                let at = self.now + self.delay();
                self.at(at, who, Event::Told(self.lease.clone()));
            }
        }
    }

    fn suffers(&mut self, fault: Fault) {
        match fault {
            Fault::Freeze { who, millis } => {
                self.candidates[who].frozen_until = self.now + millis * 1000;
            }
            Fault::Die { who } => self.succeeded(who),
            Fault::Resign { who } => {
                let next = self.candidates[who].election.resign();
                self.candidates[who].usable_until = 0;
                self.succeeded(who);
                if let Some(Next::Write(over)) = next {
                    let request = Request::Release(over);
                    let at = self.now + self.delay();
                    let (id, heard) = (0, None);
                    self.at(at, who, Event::Arrives { id, request, heard });
                }
            }
            Fault::Delete => {
                self.lease = None;
                self.tell();
            }
            Fault::Seize => self.put(Some("a person".to_owned()), Some(Duration::from_secs(1))),
            Fault::Empty => self.put(None, Some(Duration::from_secs(1))),
            Fault::Outage { millis } => self.outage_until = self.now + millis * 1000,
        }
    }

    /// A candidate is gone, and another process comes in its place.
    fn succeeded(&mut self, who: usize) {
        let candidate = &mut self.candidates[who];
        candidate.life += 1;
        candidate.election = Election::new(format!("{who}-{}", candidate.life), self.timing);
        candidate.waits_for = None;
        candidate.frozen_until = 0;
        // What the dead can do no more is no danger.
        candidate.usable_until = 0;
        let at = self.now + SECOND / 2;
        self.at(at, who, Event::Turn);
    }
}

fn fault(candidates: usize) -> impl Strategy<Value = (Real, Fault)> {
    let who = 0..candidates;
    let fault = prop_oneof![
        (who.clone(), 500..20_000u64).prop_map(|(who, millis)| Fault::Freeze { who, millis }),
        who.clone().prop_map(|who| Fault::Die { who }),
        who.prop_map(|who| Fault::Resign { who }),
        Just(Fault::Delete),
        Just(Fault::Seize),
        Just(Fault::Empty),
        (500..10_000u64).prop_map(|millis| Fault::Outage { millis }),
    ];
    (SECOND..60 * SECOND, fault)
}

fn timing() -> impl Strategy<Value = Timing> {
    prop_oneof![
        Just(Timing::default()),
        Just(
            Timing::new(
                Duration::from_secs(15),
                Duration::from_secs(2),
                Duration::from_secs(5)
            )
            .unwrap()
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nobody_leads_beside_another_and_somebody_leads_in_the_end(
        seed: u64,
        rates in prop::collection::vec(-130_000..130_000i64, 2..4),
        mut faults in prop::collection::vec(fault(2), 0..12),
        timing in timing(),
    ) {
        // What the documentation of the times promises.
        let bound = (timing.lease().as_secs_f64() - timing.usable().as_secs_f64())
            / (timing.lease() + timing.usable()).as_secs_f64();
        prop_assume!(rates.iter().all(|r| (r.unsigned_abs() as f64) < bound * 1e6));
        let mut world = World::new(seed, &rates, timing);
        faults.sort_by_key(|(at, _)| *at);
        for (at, fault) in faults {
            world.run_until(at);
            world.suffers(fault);
            world.check();
        }
        world.run_until(100 * SECOND);
        world.quiet = true;
        let led = world.led;
        world.run_until(160 * SECOND);
        prop_assert!(world.led > led, "nobody leads: {:?}", world.lease);
    }
}

/// Two candidates with true clocks, of whom the first one leads at 10 s.
fn settled() -> World {
    let mut world = World::new(1, &[0, 0], Timing::default());
    world.quiet = true;
    world.candidates.iter_mut().for_each(|c| c.hears_watch = true);
    world.run_until(10 * SECOND);
    world
}

fn leader(world: &World) -> Option<usize> {
    (0..2).find(|&i| {
        let candidate = &world.candidates[i];
        candidate.election.leads(candidate.local(world.now))
    })
}

fn next_leader_after(world: &mut World) -> Real {
    let began = world.now;
    while leader(world).is_none() {
        let next = world.now + 1000;
        world.run_until(next);
    }
    world.now - began
}

#[test]
fn a_dead_leader_is_followed_when_its_lease_is_over_and_one_that_resigns_at_once() {
    let mut world = settled();
    let first = leader(&world).unwrap();
    world.suffers(Fault::Die { who: first });
    let took = next_leader_after(&mut world);
    assert!(took < 4_100_000, "{took} µs");
    assert_ne!(leader(&world), Some(first));

    let second = leader(&world).unwrap();
    world.suffers(Fault::Resign { who: second });
    let took = next_leader_after(&mut world);
    assert!(took < 150_000, "{took} µs");
    assert_ne!(leader(&world), Some(second));
}

#[test]
fn one_answer_that_is_lost_costs_nothing() {
    let mut world = settled();
    let first = leader(&world).unwrap();
    let term = world.candidates[first].election.term();
    world.suffers(Fault::Outage { millis: 900 });
    for _ in 0..50 {
        let next = world.now + SECOND / 10;
        world.run_until(next);
        assert_eq!(leader(&world), Some(first));
    }
    assert_eq!(world.candidates[first].election.term(), term);
}

fn free() -> Seen {
    Seen {
        version: "0".to_owned(),
        holder: None,
        lasts: None,
        transitions: 0,
    }
}

#[test]
fn a_server_that_is_slow_for_good_can_still_be_led_on() {
    let timing = Timing::default();
    let mut election = Election::new("a".to_owned(), timing);
    let mut now = Local::ZERO;
    let slow = Duration::from_millis(1300);
    let mut version = 0;
    let mut led = 0;
    for _ in 0..50 {
        match election.next(now) {
            Next::Wait(until) => now = until,
            next => {
                let began = now;
                assert!(election.patience() >= slow || led == 0, "it gives up too early");
                now += slow;
                if next == Next::Read {
                    election.read(Some(free()), now);
                    continue;
                }
                version += 1;
                let lease = Seen {
                    version: version.to_string(),
                    holder: Some("a".to_owned()),
                    ..free()
                };
                election.written(lease, began, now);
                led += u32::from(election.leads(now));
            }
        }
    }
    assert!(led > 20 && election.term() == 1, "{led}, {}", election.term());
}
