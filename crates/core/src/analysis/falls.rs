//! Counters that fall although nothing has begun again.
//!
//! Several workers behind one endpoint, each with counters of its own, answer scrapes in turn: their counters
//! are a saw-tooth, whose falls would pass for restarts and count the same requests again and again. A fall is
//! a restart only if a process or a container of the pod began between the two samples. Where processes tell when they
//! began, two that were there at once are known by the first change from one to the other.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::Sample;

/// So many falls of stable's counters in the blocks before an attempt, without a restart, are no accident: several answer
/// in turn.
pub const MANY_FALLS: usize = 5;
/// How far the clocks of a node and of a Prometheus may be apart.
const CLOCKS: SignedDuration = SignedDuration::from_secs(5);
/// After one fall, what a pod counts for so long may be another worker's: a second fall would show it.
const DOUBT: SignedDuration = SignedDuration::from_mins(2);
/// A process that is older than this at a sample of another was there when that one answered.
const OLDER: f64 = 60.0;
/// Of one process the time of its start may jump by a whole second, as the kernel rounds the time of the boot; starts of
/// two processes are as far apart as they are, by ticks of a hundredth.
const TICK: f64 = 0.005;
/// After so many changes of the process without a fall the counters are of all of them: collected by multiprocess mode, with
/// metrics of the process beside it.
const OCCASIONS: usize = 4;
/// From so many falls on, no value of the pod can be told from another worker's: also those that rise.
const SAW_TOOTH: usize = 2;

/// When the containers of a pod began, as far as the kubelet tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Starts {
    /// The runs that are known: of each container the present one and the one before.
    pub at: Vec<Timestamp>,
    /// Some container was restarted before these.
    pub older: bool,
}

/// How far back samples are read before the first block, by the interval of scrapes: long enough to hold a sample from
/// before it, although some scrapes may have been missed, and to show a saw-tooth.
pub fn look_back(interval: SignedDuration) -> SignedDuration {
    (interval * 4).max(DOUBT)
}

/// What one pod's counters did in the time that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Falls {
    /// The pod.
    pub pod: String,
    /// Between which samples a counter fell without a restart, in order of time.
    between: BTreeSet<(Timestamp, Timestamp)>,
    /// How often another process answered than before that was there at the same time, by the times of their starts.
    changes: usize,
}

impl Falls {
    /// Looks for falls in the samples, in order of time, of each counter of a pod. `processes` are the samples
    /// of `process_start_time_seconds` of the same scrapes, in order of time, series by series.
    pub fn find<'a>(
        pod: &str,
        counters: impl Iterator<Item = &'a [Sample]>,
        processes: &[Vec<Sample>],
        containers: &Starts,
    ) -> Self {
        let began = processes
            .iter()
            .flatten()
            .filter_map(|sample| Timestamp::from_millisecond((sample.value * 1000.0) as i64).ok());
        let starts: BTreeSet<Timestamp> = began.chain(containers.at.iter().copied()).collect();
        let restarted = |(from, to): &(Timestamp, Timestamp)| {
            let unknown = containers.older && starts.first().is_none_or(|first| *to <= *first);
            unknown || starts.range(*from - CLOCKS..=*to + CLOCKS).next().is_some()
        };
        let mut between = BTreeSet::new();
        for samples in counters {
            let mut counts = samples.iter().filter(|s| s.value >= 0.0);
            let Some(mut last) = counts.next() else { continue };
            for sample in counts {
                if sample.value < last.value {
                    between.insert((last.at, sample.at));
                }
                last = sample;
            }
        }
        between.retain(|fall| !restarted(fall));
        Self {
            pod: pod.to_owned(),
            between,
            changes: processes.iter().map(|samples| changes(samples)).sum(),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.between.len()
    }

    /// Several processes answer, by the times of their starts, and what they count is not shown to be the same: their
    /// counters fell, or had few occasions to.
    pub fn are_several(&self) -> bool {
        self.changes > 0 && (self.count() > 0 || self.changes < OCCASIONS)
    }

    /// Several counters answer in turn.
    pub fn is_saw_tooth(&self) -> bool {
        self.are_several() || self.count() >= SAW_TOOTH
    }

    /// Whether what the pod counted in `(start, end]` can't be used.
    pub fn spoil(&self, start: Timestamp, end: Timestamp) -> bool {
        let touches = |(_, to): &(Timestamp, Timestamp)| *to > start - DOUBT && *to <= end;
        self.is_saw_tooth() || self.between.iter().any(touches)
    }
}

/// Between how many samples the answer passed to a process that was there before: one that had begun long before the
/// earlier sample, or before the other process had.
fn changes(samples: &[Sample]) -> usize {
    let is_change = |pair: &&[Sample]| {
        let (before, now) = (pair[0].value, pair[1].value);
        let apart = now - before;
        let long_there = pair[0].at.as_millisecond() as f64 / 1000.0 - OLDER;
        (apart - apart.round()).abs() > TICK && (now < before || now < long_there)
    };
    samples.windows(2).filter(is_change).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn falls(counters: &[&[(i64, f64)]], processes: &[i64], containers: &Starts) -> Falls {
        let counters: Vec<Vec<Sample>> = counters
            .iter()
            .map(|samples| {
                let sample = |(second, value): &(i64, f64)| Sample {
                    at: at(*second),
                    value: *value,
                };
                samples.iter().map(sample).collect()
            })
            .collect();
        let processes = processes.iter().zip((0..).step_by(15));
        let processes = processes.map(|(began, second)| Sample {
            at: at(second),
            value: 1_000_000.0 + *began as f64,
        });
        let processes = [processes.collect()];
        Falls::find("p", counters.iter().map(Vec::as_slice), &processes, containers)
    }

    fn started(at: &[Timestamp], older: bool) -> Starts {
        Starts {
            at: at.to_vec(),
            older,
        }
    }

    #[test]
    fn a_saw_tooth_spoils_everything_and_one_fall_its_own_block_and_two_minutes() {
        let long_ago = started(&[at(-600)], false);
        let saw: &[(i64, f64)] = &[(0, 100.0), (15, 40.0), (30, 120.0), (45, 60.0), (60, 140.0)];
        let found = falls(&[saw], &[-600, -599], &long_ago);
        assert_eq!(found.count(), 2);
        assert!(found.spoil(at(50), at(60)), "also where it rises");
        let once: &[(i64, f64)] = &[(0, 100.0), (15, 110.0), (30, 5.0), (45, 9.0)];
        let found = falls(&[once], &[], &long_ago);
        assert_eq!(found.count(), 1);
        assert!(found.spoil(at(15), at(30)) && found.spoil(at(120), at(150)));
        assert!(!found.spoil(at(150), at(180)) && !found.spoil(at(0), at(15)));
        // Two counters that fall at once are one event.
        assert_eq!(falls(&[once, once], &[], &long_ago).count(), 1);
    }

    #[test]
    fn a_start_between_the_samples_explains_a_fall_and_another_does_not() {
        let fall: &[(i64, f64)] = &[(0, 100.0), (30, 5.0)];
        let none = started(&[], false);
        assert_eq!(falls(&[fall], &[], &none).count(), 1);
        assert_eq!(falls(&[fall], &[20], &none).count(), 0);
        assert_eq!(falls(&[fall], &[-60, -50], &none).count(), 1);
        assert_eq!(
            falls(&[fall], &[], &started(&[at(-600), at(33)], false)).count(),
            0
        );
        assert_eq!(falls(&[fall], &[], &started(&[at(40)], false)).count(), 1);
        // Of the restarts before the oldest that is known nothing is known.
        assert_eq!(falls(&[fall], &[], &started(&[at(40)], true)).count(), 0);
        assert_eq!(falls(&[fall], &[], &started(&[at(-20)], true)).count(), 1);
    }

    #[test]
    fn staleness_markers_and_gaps_are_no_falls() {
        let samples: &[(i64, f64)] = &[(0, 5.0), (15, f64::NAN), (300, 5.0), (315, 6.0)];
        assert_eq!(falls(&[samples], &[], &started(&[], false)).count(), 0);
    }

    #[test]
    fn processes_that_were_there_at_once_are_told_by_their_starts() {
        let of = |starts: &[f64]| {
            let samples = starts.iter().zip((0..).step_by(15));
            let samples = samples.map(|(began, second)| Sample {
                at: at(second),
                value: 1_000_000.0 + began,
            });
            let found = Falls::find("p", [].into_iter(), &[samples.collect()], &started(&[], false));
            assert_eq!((found.count(), found.is_saw_tooth()), (0, found.are_several()));
            found.are_several()
        };
        assert!(!of(&[-900.0; 9]));
        assert!(of(&[-900.0, -899.96]), "it was there before");
        assert!(of(&[-900.0, -899.96, -900.0, -899.98]));
        assert!(
            !of(&[-900.0, -899.96, -900.0, -899.98, -900.0]),
            "counters that never fall are of all of them"
        );
        assert!(of(&[-899.96, -900.0]));
        assert!(of(&[-30.0, -30.05]), "the older one answers");
        assert!(!of(&[-900.0, -900.0, 16.23, 16.23]), "a restart");
        assert!(
            !of(&[-900.0, -899.0, -900.0]),
            "the kernel's rounding of the boot"
        );
    }
}
