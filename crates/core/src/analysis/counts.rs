//! Requests, and the bad ones among them.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error};

use super::exact;

/// Requests and the bad ones among them: finite, from 0 to 2⁵³, `bad <= total`. Nothing else gets in, read
/// from a status neither. They are floats because evidence may be discounted for clustering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
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
    /// The most that is counted, 2⁵³: beyond it a float no longer tells one request from none.
    pub const MOST: f64 = 9_007_199_254_740_992.0;

    /// Counts from two readings. A reading that is no count (NaN, infinite, negative, more than
    /// [`MOST`](Self::MOST)) is none: `None`. More bad events than events happen when the two were scraped at
    /// different moments; then all are bad.
    pub fn new(total: f64, bad: f64) -> Option<Self> {
        let count = |n: f64| (0.0..=Self::MOST).contains(&n);
        if !count(total) || !count(bad) {
            return None;
        }
        // Adding 0 makes -0 a 0, which a status shows as such.
        let total = total + 0.0;
        Some(Self {
            total,
            bad: bad.min(total) + 0.0,
        })
    }

    /// Of no request.
    pub(super) fn is_none(&self) -> bool {
        self.total <= 0.0
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

    /// The same ratio of so many times the requests; `share` is from 0 to 1, anything else changes nothing.
    #[must_use]
    pub(super) fn scaled(self, share: f64) -> Self {
        if !(0.0..=1.0).contains(&share) {
            return self;
        }
        let total = self.total * share;
        Self {
            total,
            bad: (self.bad * share).min(total),
        }
    }

    /// The same bad ones among at least so many requests.
    #[must_use]
    pub(super) fn among(self, requests: f64) -> Self {
        Self {
            total: self.total.max(requests).min(Self::MOST),
            bad: self.bad,
        }
    }

    /// These without others that are among them; never less than nothing.
    #[must_use]
    pub(super) fn minus(self, part: Self) -> Self {
        let total = (self.total - part.total).max(0.0);
        Self {
            total,
            bad: (self.bad - part.bad).clamp(0.0, total),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let total = (self.total + other.total).min(Self::MOST);
        Self {
            total,
            bad: (self.bad + other.bad).min(total),
        }
    }
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Form {
            #[serde(with = "exact")]
            total: f64,
            #[serde(with = "exact")]
            bad: f64,
        }
        let Form { total, bad } = Form::deserialize(deserializer)?;
        let counts = Self::new(total, bad).filter(|_| bad <= total && total <= Self::MOST);
        counts.ok_or_else(|| D::Error::custom(format!("{bad} bad of {total} requests is impossible")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_count_never_gets_in() {
        for (total, bad) in [
            (f64::NAN, 0.0),
            (1.0, f64::NAN),
            (-1.0, 0.0),
            (1.0, -0.5),
            (f64::INFINITY, 1.0),
            (1e16, 0.0),
            (1.0, 1e300),
        ] {
            assert_eq!(Counts::new(total, bad), None);
        }
        let counts = Counts::new(3.0, 5.0).unwrap();
        assert_eq!((counts.total(), counts.bad()), (3.0, 3.0));
        assert_eq!(Counts::default().ratio(), None);
    }

    #[test]
    fn what_is_no_count_does_not_get_in_through_a_status_either() {
        let read = |total: &str, bad: &str| {
            serde_json::from_str::<Counts>(&format!(r#"{{"total":"{total}","bad":"{bad}"}}"#)).ok()
        };
        assert_eq!(read("7.5", "0.1"), Counts::new(7.5, 0.1));
        for (total, bad) in [
            ("-1", "0"),
            ("NaN", "0"),
            ("inf", "1"),
            ("1", "2"),
            ("1", ""),
            ("1e300", "0"),
        ] {
            assert_eq!(read(total, bad), None, "{bad} of {total}");
        }
    }

    proptest! {
        #[test]
        fn counts_stay_counts(
            a in (any::<f64>(), any::<f64>()), b in (any::<f64>(), any::<f64>()),
        ) {
            let (Some(a), Some(b)) = (Counts::new(a.0, a.1), Counts::new(b.0, b.1)) else { return Ok(()) };
            let sum = a.plus(b);
            prop_assert!(sum.bad() >= 0.0 && sum.bad() <= sum.total() && sum.total() <= Counts::MOST);
            prop_assert!(sum.ratio().is_none_or(|r| (0.0..=1.0).contains(&r)));
            let text = serde_json::to_string(&sum).unwrap();
            prop_assert_eq!(serde_json::from_str::<Counts>(&text).unwrap(), sum);
        }
    }
}
