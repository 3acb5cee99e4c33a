//! Requests, and the bad ones among them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evidence::exact;

/// Requests and the bad ones among them: finite, not negative, `bad <= total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Counts {
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    total: f64,
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    bad: f64,
}

impl Counts {
    /// Counts from two readings. A reading that is no count (NaN, infinite, negative) is none: `None`.
    /// More bad events than events happen when the two were scraped at different moments; then all are bad.
    pub fn new(total: f64, bad: f64) -> Option<Self> {
        let count = |n: f64| n.is_finite() && n >= 0.0;
        (count(total) && count(bad)).then(|| Self { total, bad: bad.min(total) })
    }

    /// All requests.
    pub fn total(self) -> f64 {
        self.total
    }

    /// The bad ones.
    pub fn bad(self) -> f64 {
        self.bad
    }

    /// The good ones.
    pub fn good(self) -> f64 {
        self.total - self.bad
    }

    /// The share of bad ones, 0 to 1; `None` without requests.
    pub fn ratio(self) -> Option<f64> {
        (self.total > 0.0).then(|| self.bad / self.total)
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { total: self.total + other.total, bad: self.bad + other.bad }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_count_never_gets_in() {
        for (total, bad) in [(f64::NAN, 0.0), (1.0, f64::NAN), (-1.0, 0.0), (1.0, -0.5), (f64::INFINITY, 1.0)] {
            assert_eq!(Counts::new(total, bad), None);
        }
        let counts = Counts::new(3.0, 5.0).unwrap();
        assert_eq!((counts.total(), counts.bad()), (3.0, 3.0));
        assert_eq!(Counts::default().ratio(), None);
    }
}
