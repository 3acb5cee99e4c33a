//! Objectives, error budgets and burn rates.
//!
//! Formulas and table from the SRE workbook, chapter 5 ("Alerting on SLOs").

use jiff::SignedDuration;

use super::Counts;

/// An objective: the share of bad requests that is allowed in a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// `b = 1 − S`, above 0 and below 1.
    pub bad_fraction: f64,
    /// The window `W`.
    pub window: SignedDuration,
}

impl Objective {
    /// An objective in percent as it is written, such as `99.9`, with at most nine decimals; `None` unless it
    /// is above 0 and below 100, and the window is longer than nothing.
    /// The subtraction is done in decimal digits: 99.9 leaves exactly the number nearest to 0.001.
    pub fn parse(percent: &str, window: SignedDuration) -> Option<Self> {
        let (whole, decimals) = percent.split_once('.').unwrap_or((percent, ""));
        let digits = decimals.len();
        let only_digits = whole.bytes().chain(decimals.bytes()).all(|b| b.is_ascii_digit());
        if digits > 9 || whole.is_empty() || percent.ends_with('.') || !only_digits {
            return None;
        }
        let scale = 10i64.pow(u32::try_from(digits).ok()?);
        let whole: i64 = whole.parse().ok().filter(|w| *w < 100)?;
        let part: i64 = if digits == 0 { 0 } else { decimals.parse().ok()? };
        let left = 100 * scale - (whole * scale + part);
        let bad_fraction = left as f64 / (100 * scale) as f64;
        (bad_fraction > 0.0 && bad_fraction < 1.0 && window > SignedDuration::ZERO)
            .then_some(Self { bad_fraction, window })
    }

    /// `N`, the requests expected in the window, for a rate per second that is known from history. `None`
    /// for a rate that is no rate, or that leaves the window empty.
    pub fn expected_requests(&self, per_second: f64) -> Option<f64> {
        Some(per_second * self.window.as_secs_f64()).filter(|n| n.is_finite() && *n > 0.0)
    }

    /// The budget `B = b·N` in events, for `requests` expected in the window.
    pub fn budget(&self, requests: f64) -> f64 {
        self.bad_fraction * requests
    }

    /// The share `F = A/B` of the window's budget that `bad_events` spend, 1 for all of it; `None` while the
    /// number of requests in a window is not known, or none are expected.
    pub fn share_spent(&self, bad_events: f64, requests: Option<f64>) -> Option<f64> {
        let budget = self.budget(requests.filter(|n| n.is_finite() && *n > 0.0)?);
        Some(bad_events / budget).filter(|share| share.is_finite())
    }

    /// The burn rate of a bad ratio: 1 spends the budget in exactly one window.
    pub fn burn(&self, bad_ratio: f64) -> f64 {
        bad_ratio / self.bad_fraction
    }

    /// The share of the window's budget that a steady bad ratio spends in `time`, 1 for all of it:
    /// `burn · time / W`.
    pub fn share_spent_in(&self, bad_ratio: f64, time: SignedDuration) -> f64 {
        self.burn(bad_ratio) * time.as_secs_f64() / self.window.as_secs_f64()
    }
}

/// Burn rates in one stretch of time: 1 spends the budget in exactly one window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Burn {
    /// The canary's own; `None` if it served nothing.
    pub canary: Option<f64>,
    /// Stable's own; `None` if it served nothing.
    pub stable: Option<f64>,
    /// What the rollout adds to the service's: `w · (p_c − p_p) / b`, below 0 for a canary that is better.
    /// `None` while one of the ratios is not known.
    pub attributable: Option<f64>,
}

impl Burn {
    /// Of counts at a weight, 0 to 100 percent. `stable_so_far` is stable's bad ratio before, which stands for
    /// it where it served nothing meanwhile.
    pub fn of(
        objective: &Objective,
        weight: u8,
        canary: Counts,
        stable: Counts,
        stable_so_far: Option<f64>,
    ) -> Self {
        let burn = |ratio: f64| objective.burn(ratio);
        let beside = stable.ratio().or(stable_so_far);
        let added = canary.ratio().zip(beside).map(|(canary, stable)| canary - stable);
        Self {
            canary: canary.ratio().map(burn),
            stable: stable.ratio().map(burn),
            attributable: added.map(|added| burn(f64::from(weight) / 100.0 * added)),
        }
    }
}

/// How urgent a burn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Somebody is called.
    Page,
    /// Somebody looks at it by day.
    Ticket,
}

/// One rule of the multi-window table: it fires while both windows burn faster than `factor`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BurnRate {
    /// How urgent.
    pub severity: Severity,
    /// The long window; the short one is a twelfth of it.
    pub long: SignedDuration,
    /// The share of the budget that is spent when it fires, 0 to 1.
    pub spent: f64,
}

/// The multi-window table.
pub const BURN_RATES: [BurnRate; 4] = [
    BurnRate {
        severity: Severity::Page,
        long: SignedDuration::from_hours(1),
        spent: 0.02,
    },
    BurnRate {
        severity: Severity::Page,
        long: SignedDuration::from_hours(6),
        spent: 0.05,
    },
    BurnRate {
        severity: Severity::Ticket,
        long: SignedDuration::from_hours(24),
        spent: 0.10,
    },
    BurnRate {
        severity: Severity::Ticket,
        long: SignedDuration::from_hours(72),
        spent: 0.10,
    },
];

impl BurnRate {
    /// The burn rate above which the rule fires: `spent · W / long`.
    pub fn factor(&self, window: SignedDuration) -> f64 {
        self.spent * window.as_secs_f64() / self.long.as_secs_f64()
    }

    /// The short window.
    pub fn short(&self) -> SignedDuration {
        self.long / 12
    }

    /// Seconds until the rule fires at a steady bad ratio: `(b / ratio) · long · factor`.
    pub fn seconds_to_fire(&self, objective: &Objective, bad_ratio: f64) -> f64 {
        self.long.as_secs_f64() * self.factor(objective.window) / objective.burn(bad_ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    #[test]
    fn objectives_are_read_without_float_dust() {
        let b = |text| Objective::parse(text, DAY).map(|o| o.bad_fraction);
        assert_eq!(b("99.9"), Some(0.001));
        assert_eq!(b("99.95"), Some(0.0005));
        assert_eq!(b("99"), Some(0.01));
        assert_eq!(b("0.5"), Some(0.995));
        for bad in [
            "99.",
            ".5",
            "9.9.9",
            "+1",
            "100",
            "0",
            "101",
            "-1",
            "",
            ".",
            "99,9",
            "NaN",
            "1e2",
            "99.99999999999",
            "100.0",
        ] {
            assert_eq!(b(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_table_has_the_workbooks_factors() {
        let factors = |days: i32| BURN_RATES.map(|r| r.factor(DAY * days));
        for (got, want) in factors(30).into_iter().zip([14.4, 6.0, 3.0, 1.0]) {
            assert!((got - want).abs() < 1e-9);
        }
        for (got, want) in factors(28).into_iter().zip([13.44, 5.6, 2.8, 0.933]) {
            assert!((got - want).abs() < 1e-3);
        }
    }

    #[test]
    fn a_total_outage_pages_in_52_seconds_and_a_tenth_in_518() {
        let objective = Objective::parse("99.9", DAY * 30).unwrap();
        assert!((BURN_RATES[0].seconds_to_fire(&objective, 1.0) - 51.84).abs() < 0.01);
        assert!((BURN_RATES[0].seconds_to_fire(&objective, 0.1) - 518.4).abs() < 0.1);
    }

    #[test]
    fn a_canary_at_a_tenth_hides_from_the_services_burn() {
        let objective = Objective::parse("99.9", DAY * 30).unwrap();
        assert!((objective.burn(0.1 * 0.05) - 5.0).abs() < 1e-9);
    }

    #[test]
    fn burns_are_told_apart_and_what_is_not_known_is_not_made_up() {
        let objective = Objective::parse("99.9", DAY * 30).unwrap();
        let counts = |total, bad| Counts::new(total, bad).unwrap();
        let burn = Burn::of(&objective, 10, counts(1000.0, 50.0), counts(9000.0, 9.0), None);
        let near = |got: Option<f64>, want: f64| (got.unwrap() - want).abs() < 1e-9;
        assert!(near(burn.canary, 50.0) && near(burn.stable, 1.0), "{burn:?}");
        assert!(near(burn.attributable, 4.9), "{burn:?}");
        let better = Burn::of(&objective, 50, counts(1000.0, 0.0), counts(1000.0, 2.0), None);
        assert!(near(better.attributable, -1.0), "{better:?}");

        let none = Counts::default();
        assert_eq!(Burn::of(&objective, 10, none, none, Some(0.5)), Burn::default());
        let alone = Burn::of(&objective, 100, counts(1000.0, 3.0), none, Some(0.001));
        assert!(
            alone.stable.is_none() && near(alone.attributable, 2.0),
            "{alone:?}"
        );
        let alone = Burn::of(&objective, 100, counts(1000.0, 3.0), none, None);
        assert_eq!(alone.attributable, None);
    }

    #[test]
    fn firing_spends_what_the_table_says() {
        let objective = Objective::parse("99.9", DAY * 30).unwrap();
        for rule in BURN_RATES {
            let ratio = rule.factor(objective.window) * objective.bad_fraction;
            assert!((objective.share_spent_in(ratio, rule.long) - rule.spent).abs() < 1e-12);
            assert!((rule.seconds_to_fire(&objective, ratio) - rule.long.as_secs_f64()).abs() < 1e-6);
            assert_eq!(rule.short() * 12, rule.long);
        }
    }

    #[test]
    fn one_error_of_ten_requests_an_hour_is_a_seventh_of_the_budget() {
        let objective = Objective::parse("99.9", DAY * 30).unwrap();
        let expected = objective.expected_requests(10.0 / 3600.0);
        assert!((objective.share_spent(1.0, expected).unwrap() - 0.138_9).abs() < 1e-4);
    }

    #[test]
    fn what_is_spent_of_an_unknown_budget_is_unknown() {
        let objective = Objective::parse("99.9", DAY).unwrap();
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(objective.expected_requests(rate), None);
        }
        for requests in [
            None,
            Some(0.0),
            Some(f64::NAN),
            Some(-5.0),
            Some(f64::MIN_POSITIVE),
        ] {
            assert_eq!(objective.share_spent(1.0, requests), None, "{requests:?}");
        }
    }
}
