//! Thresholds that a user sets beside the objectives: `value < 0.8`.

use std::fmt;

/// How a value is compared with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
}

impl Comparison {
    /// Longer signs first: `<=` begins with `<`.
    const SIGNS: [(&'static str, Self); 6] = [
        ("<=", Self::AtMost),
        (">=", Self::AtLeast),
        ("==", Self::Equal),
        ("!=", Self::NotEqual),
        ("<", Self::Less),
        (">", Self::Greater),
    ];

    fn sign(self) -> &'static str {
        let found = Self::SIGNS.iter().find(|(_, comparison)| *comparison == self);
        found.map_or("", |(sign, _)| sign)
    }
}

/// What a value must satisfy: a comparison with a finite number, in the unit of the value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    comparison: Comparison,
    number: f64,
}

impl Bound {
    /// Reads `value OP number`; the error says what is wrong and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "write value, one of < <= > >= == !=, and a number, such as value < 0.8";
        let wrong = |what: &str| format!("{text:?} {what}: {FORM}");
        let rest = text.trim().strip_prefix("value").map(str::trim_start);
        let rest = rest.ok_or_else(|| wrong("does not begin with value"))?;
        let (number, comparison) = Comparison::SIGNS
            .iter()
            .find_map(|(sign, comparison)| Some((rest.strip_prefix(sign)?, *comparison)))
            .ok_or_else(|| wrong("has no comparison after value"))?;
        let number = number.trim();
        // Rust reads `inf` and `nan` as numbers; neither is a threshold.
        let number: f64 = number
            .parse()
            .ok()
            .filter(|n: &f64| n.is_finite())
            .ok_or_else(|| wrong(&format!("compares with {number:?}, which is no number")))?;
        Ok(Self { comparison, number })
    }

    /// Whether a value satisfies it. One that is not a number never does.
    #[expect(
        clippy::float_cmp,
        reason = "the user asks for equality, with a number of their own"
    )]
    pub fn holds(&self, value: f64) -> bool {
        match self.comparison {
            Comparison::Less => value < self.number,
            Comparison::AtMost => value <= self.number,
            Comparison::Greater => value > self.number,
            Comparison::AtLeast => value >= self.number,
            Comparison::Equal => value == self.number,
            Comparison::NotEqual => !value.is_nan() && value != self.number,
        }
    }
}

/// As it is written.
impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "value {} {}", self.comparison.sign(), self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_comparison_is_read_and_holds_where_it_says() {
        for (text, below, at, above) in [
            ("value < 0.8", true, false, false),
            ("value <= 0.8", true, true, false),
            ("value > 0.8", false, false, true),
            ("value >= 0.8", false, true, true),
            ("value == 0.8", false, true, false),
            ("value != 0.8", true, false, true),
        ] {
            let bound = Bound::parse(text).unwrap();
            assert_eq!(bound.to_string(), text);
            assert_eq!(
                [0.79, 0.8, 0.81].map(|v| bound.holds(v)),
                [below, at, above],
                "{text}"
            );
            assert!(!bound.holds(f64::NAN), "{text}");
        }
        for (text, canonical) in [
            ("value<1e3", "value < 1000"),
            (" value  >=  -5 ", "value >= -5"),
            ("value ==0", "value == 0"),
        ] {
            assert_eq!(Bound::parse(text).unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn anything_else_says_what_to_write() {
        for (text, part) in [
            ("", "does not begin with value"),
            ("result[0] < 0.8", "does not begin with value"),
            ("value", "no comparison"),
            ("value 0.8", "no comparison"),
            ("value = 0.8", "no comparison"),
            ("value <", "\"\", which is no number"),
            ("value < inf", "\"inf\", which is no number"),
            ("value < NaN", "\"NaN\", which is no number"),
            ("value < 1s", "\"1s\", which is no number"),
            ("value < 1 && value > 0", "which is no number"),
        ] {
            let error = Bound::parse(text).unwrap_err();
            assert!(
                error.contains(part) && error.contains("such as value < 0.8"),
                "{text}: {error}"
            );
        }
    }
}
