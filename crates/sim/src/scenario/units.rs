//! Numbers with a unit.

use jiff::SignedDuration;

use super::BadScenario;

/// The longest time that can be meant.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 30);
/// The largest factor that can be meant.
const MOST: f64 = 1e6;

/// A share in percent, as 0 to 1.
pub fn share(part: &str, value: &str) -> Result<f64, BadScenario> {
    let percent = value.strip_suffix('%').and_then(number);
    percent
        .filter(|n| *n <= 100.0)
        .map(|n| n / 100.0)
        .ok_or_else(|| BadScenario::new(part, "is no share", "write 0% to 100%, such as 5% or 0.2%"))
}

/// A factor above 0: `2x`, `0.5x`.
pub fn factor(part: &str, value: &str) -> Result<f64, BadScenario> {
    let factor = value.strip_suffix('x').and_then(number);
    factor.filter(|n| *n > 0.0 && *n <= MOST).ok_or_else(|| {
        BadScenario::new(
            part,
            "has no factor",
            format!("write a number above 0 and at most {MOST} with an x behind it, such as 2x"),
        )
    })
}

/// A duration as the fields of a spec have it: `90s`, `1h30m`, `500ms`; at most 30 days.
pub fn duration(part: &str, value: &str) -> Result<SignedDuration, BadScenario> {
    let wrong = || {
        BadScenario::new(
            part,
            format!("has no duration in {value:?}"),
            "write whole hours (h), minutes (m), seconds (s) or milliseconds (ms) of at most 30 days, such as 40ms, 30s or 1h30m",
        )
    };
    let mut rest = value;
    let mut sum = SignedDuration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let units = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
        let unit = units.iter().find(|(unit, _)| rest.starts_with(unit));
        let (unit, millis) = unit.ok_or_else(wrong)?;
        rest = &rest[unit.len()..];
        let span = number
            .checked_mul(*millis)
            .filter(|n| *n <= LONGEST.as_millis() as i64)
            .ok_or_else(wrong)?;
        sum += SignedDuration::from_millis(span);
        if sum > LONGEST {
            return Err(wrong());
        }
    }
    Ok(sum)
}

/// Bytes in a time, per second: `10MB/min`, `64Mi/h`.
pub fn bytes_per_second(part: &str, value: &str) -> Result<f64, BadScenario> {
    let wrong = || {
        BadScenario::new(
            part,
            "is no growth of memory",
            "write bytes in a time, such as 10MB/min, 64Mi/h or 500kB/s",
        )
    };
    let (size, time) = value.split_once('/').ok_or_else(wrong)?;
    let seconds = match time {
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let bytes = bytes(size).ok_or_else(wrong)?;
    Some(bytes / seconds)
        .filter(|rate| *rate > 0.0 && *rate <= 1e15)
        .ok_or_else(wrong)
}

/// An amount of memory as Kubernetes and people write it: `512Mi`, `10MB`, `1Gi`, `1000000`; in bytes.
pub fn bytes(text: &str) -> Option<f64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (amount, unit) = text.split_at(digits);
    let unit = unit.strip_suffix('B').unwrap_or(unit);
    let scale = match unit {
        "" => 1.0,
        "k" | "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    number(amount).map(|n| n * scale)
}

/// A plain decimal number of at most 15 digits, not negative.
fn number(text: &str) -> Option<f64> {
    let plain = text.len() <= 16
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    plain.then(|| text.parse().ok()).flatten()
}
