//! Strings with a unit. They stay strings until they are validated, so that an error can name its field.

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

macro_rules! scalar {
    ($(#[$doc:meta])* $name:ident, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The pattern that the schema asks for.
            pub const PATTERN: &'static str = $pattern;
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": $pattern})
            }
        }
    };
}

scalar!(
    /// A duration as in GEP-2257: `90s`, `10m`, `1h30m`, `500ms`.
    Duration,
    "^([0-9]{1,5}(h|m|s|ms)){1,4}$"
);
scalar!(
    /// The window of an objective: whole hours, days or weeks, `30d`.
    Window,
    "^[1-9][0-9]{0,3}(h|d|w)$"
);
scalar!(
    /// A share in percent: `"2%"`, `"0.5%"`.
    Percent,
    "^[0-9]{1,3}(\\.[0-9]{1,6})?%$"
);
scalar!(
    /// A probability or an objective as a decimal: `"0.01"`, `"99.9"`.
    Decimal,
    "^[0-9]{1,3}(\\.[0-9]{1,9})?$"
);

scalar!(
    /// An amount of memory: `64Mi`, `1Gi`, `500M`.
    Bytes,
    "^[1-9][0-9]{0,11}(k|M|G|T|Ki|Mi|Gi|Ti)?$"
);

impl Bytes {
    /// The bytes, or why they can't be read.
    pub fn parse(&self) -> Result<f64, String> {
        let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = self.0.split_at(digits);
        let power = |base: f64, unit: &str| {
            let index = ["k", "m", "g", "t"]
                .iter()
                .position(|u| unit.eq_ignore_ascii_case(u))?;
            i32::try_from(index + 1).ok().map(|power| base.powi(power))
        };
        let factor = match unit {
            "" => Some(1.0),
            "k" | "M" | "G" | "T" => power(1000.0, unit),
            "Ki" | "Mi" | "Gi" | "Ti" => power(1024.0, unit.trim_end_matches('i')),
            _ => None,
        };
        match (number.parse::<f64>(), factor) {
            (Ok(number), Some(factor)) if number > 0.0 => Ok(number * factor),
            _ => Err(format!(
                "{:?} is no amount of memory: write bytes with k, M, G, Ki, Mi or Gi, such as 64Mi",
                self.0
            )),
        }
    }
}

impl Duration {
    /// The time it stands for, or why it can't be read.
    pub fn parse(&self) -> Result<SignedDuration, String> {
        parse_units(
            &self.0,
            &[("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)],
        )
        .ok_or_else(|| {
            format!(
                "{:?} is not a duration: write hours, minutes, seconds or milliseconds, such as 90s or 1h30m",
                self.0
            )
        })
    }
}

impl Window {
    /// The time it stands for, or why it can't be read.
    pub fn parse(&self) -> Result<SignedDuration, String> {
        let hour = 3_600_000;
        match parse_units(&self.0, &[("h", hour), ("d", 24 * hour), ("w", 7 * 24 * hour)]) {
            Some(window) if window > SignedDuration::ZERO => Ok(window),
            _ => Err(format!(
                "{:?} is not a window: write whole hours, days or weeks, such as 30d",
                self.0
            )),
        }
    }
}

impl Percent {
    /// The share, 0 to 1, or why it can't be read.
    pub fn parse(&self) -> Result<f64, String> {
        self.0
            .strip_suffix('%')
            .and_then(|n| n.parse::<f64>().ok())
            .filter(|n| (0.0..=100.0).contains(n))
            .map(|n| n / 100.0)
            .ok_or_else(|| format!("{:?} is not a percentage: write 0% to 100%, such as 2%", self.0))
    }
}

impl Decimal {
    /// The number, or why it can't be read.
    pub fn parse(&self) -> Result<f64, String> {
        self.0
            .parse::<f64>()
            .ok()
            .filter(|n| n.is_finite())
            .ok_or_else(|| format!("{:?} is not a decimal number, such as 0.01", self.0))
    }
}

/// Sums `<number><unit>` pairs, in milliseconds by unit; the first unit that fits is taken, so `ms` comes
/// before `m`.
fn parse_units(text: &str, units: &[(&str, i64)]) -> Option<SignedDuration> {
    let mut rest = text;
    let mut millis = 0i64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, factor) = units.iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        millis = millis.checked_add(number.checked_mul(*factor)?)?;
    }
    Some(SignedDuration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_gep_2257_has_them() {
        let millis = |text: &str| Duration::from(text).parse().map(|d| d.as_millis());
        assert_eq!(millis("90s"), Ok(90_000));
        assert_eq!(millis("1h30m"), Ok(5_400_000));
        assert_eq!(millis("500ms"), Ok(500));
        assert_eq!(millis("0s"), Ok(0));
        for bad in ["", "90", "s", "1d", "-5s", "1.5s", "99999999999999999999h"] {
            assert!(millis(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn windows_percentages_and_decimals_name_their_fix() {
        assert_eq!(Window::from("30d").parse().map(|d| d.as_hours()), Ok(720));
        assert!(Window::from("0d").parse().unwrap_err().contains("30d"));
        assert_eq!(Percent::from("2%").parse(), Ok(0.02));
        assert!(Percent::from("101%").parse().unwrap_err().contains("0% to 100%"));
        assert!(Decimal::from("NaN").parse().is_err());
    }

    #[test]
    fn memory_is_read_as_kubernetes_writes_it() {
        for (text, bytes) in [
            ("64Mi", 67_108_864.0),
            ("1Gi", 1_073_741_824.0),
            ("500M", 5e8),
            ("3k", 3e3),
            ("7", 7.0),
        ] {
            assert_eq!(Bytes::from(text).parse(), Ok(bytes));
        }
        for bad in ["", "0", "Mi", "-1Mi", "1.5Gi", "64MB", "64mi", "1e3"] {
            assert!(Bytes::from(bad).parse().unwrap_err().contains("64Mi"), "{bad}");
        }
    }
}
