//! How long leadership lasts.

use std::time::Duration;

use thiserror::Error;

/// The shortest lease: the API has it in whole seconds, and one second leaves no room for a slow answer.
const SHORTEST: Duration = Duration::from_secs(2);
/// The longest lease: so long nobody leads after a crash.
const LONGEST: Duration = Duration::from_mins(10);
/// The most renewals in a second.
const SHORTEST_RENEWAL: Duration = Duration::from_millis(100);
/// The margin is at least this part of the lease.
const LEAST_MARGIN: u32 = 10;

/// How long a lease lasts, how often it is renewed, and how long before its end its holder stops writing.
///
/// A holder may write until `lease - margin` after it began the last renewal that succeeded. Another may take the
/// lease over once it has seen it unchanged for `lease`. Let no clock run faster or slower than real time by more
/// than a share `r`: then between the two lie, in real time, at least
///
/// ```text
/// lease / (1 + r)  -  (lease - margin) / (1 - r)
/// ```
///
/// which is above zero for `r < margin / (2 lease - margin)`: 1/7 with the defaults. It is the time that a request
/// cut off by its sender has to come to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    lease: Duration,
    renew: Duration,
    margin: Duration,
}

/// What is wrong with the times, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field} {value:?}: {reason}; {fix}")]
pub struct TimingError {
    /// The option.
    pub field: &'static str,
    /// What it was given.
    pub value: Duration,
    /// What is wrong with that.
    pub reason: String,
    /// How to put it right.
    pub fix: String,
}

impl Default for Timing {
    /// 4 s, renewed every second, nothing written in the last second.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(4),
            renew: Duration::from_secs(1),
            margin: Duration::from_secs(1),
        }
    }
}

impl Timing {
    /// The option that says how long a lease lasts.
    pub const LEASE: &str = "--leader-election-lease-duration";
    /// The option that says how often it is renewed.
    pub const RENEW: &str = "--leader-election-renew-interval";
    /// The option that says how long before its end nothing is written any more.
    pub const MARGIN: &str = "--leader-election-margin";

    /// Times that fit together: a lease of whole seconds from 2 s to 10 min, a margin of a tenth of it at least,
    /// and room for two renewals in what is left.
    pub fn new(lease: Duration, renew: Duration, margin: Duration) -> Result<Self, TimingError> {
        let error = |field, value, reason: String, fix: String| {
            Err(TimingError {
                field,
                value,
                reason,
                fix,
            })
        };
        if lease.subsec_nanos() != 0 {
            let reason = "a Lease has whole seconds".to_owned();
            let fix = format!("choose {}s", lease.as_secs().max(SHORTEST.as_secs()));
            return error(Self::LEASE, lease, reason, fix);
        }
        if !(SHORTEST..=LONGEST).contains(&lease) {
            let reason = format!("it must be from {SHORTEST:?} to {LONGEST:?}");
            return error(Self::LEASE, lease, reason, "choose 4s".to_owned());
        }
        if margin < lease / LEAST_MARGIN || margin > lease / 2 {
            let reason = "it must be from a tenth to half of the lease's duration".to_owned();
            let fix = format!("choose {:?}", lease / 4);
            return error(Self::MARGIN, margin, reason, fix);
        }
        if renew < SHORTEST_RENEWAL {
            let reason = format!("it must be {SHORTEST_RENEWAL:?} at least");
            return error(Self::RENEW, renew, reason, format!("choose {:?}", lease / 4));
        }
        let usable = lease.saturating_sub(margin);
        if renew * 2 > usable {
            let reason = "one renewal that fails would cost the leadership".to_owned();
            let most = usable / 2;
            let fix = format!("choose {most:?} at most, or a longer {}", Self::LEASE);
            return error(Self::RENEW, renew, reason, fix);
        }
        Ok(Self { lease, renew, margin })
    }

    /// How long another waits before it takes the lease over.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// How long after the start of one renewal the next one starts.
    pub fn renew(&self) -> Duration {
        self.renew
    }

    /// How long after the start of a renewal its sender may write.
    pub fn usable(&self) -> Duration {
        self.lease.saturating_sub(self.margin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(lease: u64, renew: u64, margin: u64) -> String {
        let millis = Duration::from_millis;
        Timing::new(millis(lease), millis(renew), millis(margin))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn the_defaults_are_valid() {
        let Timing { lease, renew, margin } = Timing::default();
        assert_eq!(Timing::new(lease, renew, margin), Ok(Timing::default()));
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_remedy() {
        assert_eq!(
            refused(4500, 1000, 1000),
            "--leader-election-lease-duration 4.5s: a Lease has whole seconds; choose 4s"
        );
        assert_eq!(
            refused(1000, 1000, 1000),
            "--leader-election-lease-duration 1s: it must be from 2s to 600s; choose 4s"
        );
        assert_eq!(
            refused(4000, 1600, 1000),
            "--leader-election-renew-interval 1.6s: one renewal that fails would cost the leadership; choose 1.5s at most, or a longer --leader-election-lease-duration"
        );
        assert_eq!(
            refused(4000, 1000, 100),
            "--leader-election-margin 100ms: it must be from a tenth to half of the lease's duration; choose 1s"
        );
        assert_eq!(
            refused(4000, 10, 1000),
            "--leader-election-renew-interval 10ms: it must be 100ms at least; choose 1s"
        );
    }
}
