//! The schedules that a CronJob takes, as the API server reads them (its parser is `robfig/cron` v3, `ParseStandard`), so
//! that a wrong one is told before it is sent, with the field that is wrong.

/// One of the five fields: its name, its least and its greatest number, and names for them.
type Field = (&'static str, u32, u32, &'static [&'static str]);

const FIELDS: [Field; 5] = [
    ("minute", 0, 59, &[]),
    ("hour", 0, 23, &[]),
    ("day of the month", 1, 31, &[]),
    (
        "month",
        1,
        12,
        &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    ),
    (
        "day of the week",
        0,
        6,
        &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    ),
];
const WORDS: [&str; 7] = [
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
];

/// Whether a CronJob takes the schedule; otherwise what is wrong with it, as the end of a sentence.
pub fn check_schedule(schedule: &str) -> Result<(), String> {
    let schedule = schedule.trim();
    if schedule.contains("TZ=") {
        return Err("the time zone belongs into timeZone".to_owned());
    }
    if let Some(every) = schedule.strip_prefix("@every ") {
        return if is_duration(every) {
            Ok(())
        } else {
            Err(format!("{every:?} is no duration such as 90m"))
        };
    }
    if schedule.starts_with('@') {
        return if WORDS.contains(&schedule) {
            Ok(())
        } else {
            Err(format!("{schedule:?} is none of {}, @every", WORDS.join(", ")))
        };
    }
    let written: Vec<&str> = schedule.split_whitespace().collect();
    if written.len() != FIELDS.len() {
        return Err(format!("it has {} fields and not five", written.len()));
    }
    for (text, field) in written.iter().zip(&FIELDS) {
        for part in text.split(',') {
            check_part(part, field).map_err(|why| format!("{part:?} is no {}: {why}", field.0))?;
        }
    }
    Ok(())
}

/// Whether a CronJob may take the time zone. Which names there are the API server knows.
pub fn check_zone(zone: &str) -> Result<(), String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "/_+-".contains(c);
    if zone.eq_ignore_ascii_case("local") || zone.is_empty() || !zone.chars().all(is_name) {
        return Err(
            "is no name of a time zone: write one such as \"Europe/Berlin\" or \"Etc/UTC\"".to_owned(),
        );
    }
    Ok(())
}

/// One part of a list: `*`, `7`, `mon-fri`, `*/15`, `10-50/10`.
fn check_part(part: &str, field: &Field) -> Result<(), String> {
    let (_, min, max, _) = *field;
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (part, None),
    };
    if let Some(step) = step
        && !step.parse::<u32>().is_ok_and(|step| step > 0)
    {
        return Err(format!("{step:?} is no step, which is a number above 0"));
    }
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (first, Some(last)),
        None => (range, None),
    };
    if ["*", "?"].contains(&first) && last.is_none() {
        return Ok(());
    }
    let first = number(first, field)?;
    let last = last.map_or(Ok(first), |last| number(last, field))?;
    if first < min || last > max {
        return Err(format!("write {min} to {max}"));
    }
    if first > last {
        return Err("its range ends before it begins".to_owned());
    }
    Ok(())
}

fn number(text: &str, (_, least, most, names): &Field) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    if let Some(at) = (*least..).zip(*names).find(|(_, name)| **name == lower) {
        return Ok(at.0);
    }
    text.parse().map_err(|_| {
        let names = names.first().zip(names.last());
        let names = names.map_or_else(String::new, |(first, last)| format!(", or {first} to {last}"));
        format!("write {least} to {most}{names}")
    })
}

/// A duration as Go has it: `1h30m`.
fn is_duration(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_digit());
    let ends = text.ends_with(['h', 'm', 's']);
    begins && ends && text.chars().all(|c| c.is_ascii_digit() || ".hmsuµn".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cronjob_takes_passes() {
        for schedule in [
            "* * * * *",
            "*/15 * * * *",
            "0 3 * * 1-5",
            "30 4 1,15 * sun",
            "0 0 1 JAN-mar ?",
            "5/10 0-23/2 * * MON",
            "@daily",
            "@every 1h30m",
            "  0  3 * * 0 ",
        ] {
            assert_eq!(check_schedule(schedule), Ok(()), "{schedule}");
        }
        for zone in [
            "Europe/Berlin",
            "Etc/GMT+3",
            "UTC",
            "America/Argentina/Buenos_Aires",
        ] {
            assert_eq!(check_zone(zone), Ok(()), "{zone}");
        }
    }

    #[test]
    fn what_it_refuses_is_told_with_its_field() {
        for (schedule, why) in [
            ("", "it has 0 fields and not five"),
            ("* * * *", "it has 4 fields and not five"),
            ("0 0 3 * * *", "it has 6 fields and not five"),
            ("61 * * * *", "\"61\" is no minute: write 0 to 59"),
            ("* 24 * * *", "\"24\" is no hour: write 0 to 23"),
            ("* * 0 * *", "\"0\" is no day of the month: write 1 to 31"),
            ("* * * 13 *", "\"13\" is no month: write 1 to 12"),
            ("* * * * 7", "\"7\" is no day of the week: write 0 to 6"),
            (
                "* * * * so",
                "\"so\" is no day of the week: write 0 to 6, or sun to sat",
            ),
            (
                "*/0 * * * *",
                "\"*/0\" is no minute: \"0\" is no step, which is a number above 0",
            ),
            (
                "50-10 * * * *",
                "\"50-10\" is no minute: its range ends before it begins",
            ),
            ("1,,2 * * * *", "\"\" is no minute: write 0 to 59"),
            (
                "@often",
                "\"@often\" is none of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly, @every",
            ),
            ("@every now", "\"now\" is no duration such as 90m"),
            ("TZ=UTC * * * * *", "the time zone belongs into timeZone"),
        ] {
            assert_eq!(check_schedule(schedule), Err(why.to_owned()), "{schedule}");
        }
        for zone in ["", "Local", "local", "Europe Berlin", "Europe/Berlin;"] {
            assert!(check_zone(zone).is_err(), "{zone}");
        }
    }
}
