//! Incidents of what both revisions depend on.

use jiff::SignedDuration;

use super::units::{duration, factor};
use super::{BadScenario, positive};

/// The most incidents of one scenario.
const MOST: usize = 16;

/// An incident of what both revisions depend on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Incident {
    /// Both revisions' share of errors is so many times as high, at most 1.
    pub factor: f64,
    /// Its begin, since the start of the attempt.
    pub at: SignedDuration,
    /// How long it lasts.
    pub lasts: SignedDuration,
}

impl Incident {
    /// Its end, since the start of the attempt.
    pub fn end(&self) -> SignedDuration {
        self.at.saturating_add(self.lasts)
    }
}

/// What hits both, in any order; a bounded number of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Incidents(Vec<Incident>);

impl Incidents {
    /// Each of them, as they were written.
    pub fn iter(&self) -> impl Iterator<Item = &Incident> {
        self.0.iter()
    }

    /// How many times as high both revisions' share of errors is at a time since the start of the attempt. Of those
    /// that overlap the worst counts: each factor is one of what is usual, so what is written is what is seen.
    pub fn factor(&self, now: SignedDuration) -> f64 {
        self.iter()
            .filter(|incident| incident.at <= now && now < incident.end())
            .map(|incident| incident.factor)
            .reduce(f64::max)
            .unwrap_or(1.0)
    }

    /// Reads one more.
    pub(super) fn add(&mut self, part: &str, value: &str) -> Result<(), BadScenario> {
        if self.0.len() == MOST {
            let fix = format!("write {MOST} at most");
            return Err(BadScenario::new(part, "is one incident too many", fix));
        }
        self.0.push(read(part, value)?);
        Ok(())
    }
}

fn read(part: &str, value: &str) -> Result<Incident, BadScenario> {
    let form =
        "write incident=FACTOR@START+LENGTH, START since the attempt began, such as incident=10x@120s+300s";
    let split = value
        .split_once('@')
        .and_then(|(times, when)| Some((times, when.split_once('+')?)));
    let Some((times, (at, lasts))) = split else {
        return Err(BadScenario::new(part, "does not say what happens when", form));
    };
    Ok(Incident {
        factor: factor(part, times)?,
        at: duration(part, at)?,
        lasts: positive(part, duration(part, lasts)?)?,
    })
}
