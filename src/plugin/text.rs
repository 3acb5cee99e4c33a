//! Words and columns on a terminal.

use std::io::{IsTerminal, Write};
use std::iter::Peekable;
use std::str::Chars;

use jiff::SignedDuration;

use crate::api::v1alpha1::Phase;

/// How to print: with colours or without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// Without any colour.
    pub const PLAIN: Self = Self { colour: false };
    /// With colours.
    pub const COLOUR: Self = Self { colour: true };

    /// Colours on a terminal only, and not where `NO_COLOR` is set.
    pub fn of_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colour: is_terminal() && !refused && !is_dumb(),
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub(super) fn busy(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// A phase, in the colour of its urgency.
    pub(super) fn phase(self, phase: Phase) -> String {
        let word = format!("{phase:?}");
        match phase {
            Phase::Healthy => self.good(&word),
            Phase::Initializing | Phase::Progressing | Phase::Paused => self.busy(&word),
            Phase::RollingBack | Phase::RolledBack | Phase::Degraded => self.bad(&word),
        }
    }
}

/// Somebody looks at the standard output.
pub(super) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// The terminal can only add to what it shows.
pub(super) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|value| value == "dumb")
}

/// Prints; a reader that has gone away (`| head`) is no failure. What others wrote into a message does not steer the
/// terminal.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out
        .write_all(harmless(text).as_bytes())
        .and_then(|()| out.flush());
}

/// Prints beside what was asked for, as harmless.
pub(super) fn complain(text: &str) {
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "{}", harmless(text));
}

/// The text in one line, without a character that steers a terminal or turns the direction of what follows: each
/// shows as a sign for one that can't be shown.
pub(super) fn clean(text: &str) -> String {
    let one = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if steers(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(one).collect()
}

/// The same, of a text that may have lines, tabs and the colours of [`Style`].
fn harmless(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\n' | '\t' => clean.push(c),
            '\x1b' => match colour(&mut rest) {
                Some(code) => clean.extend(["\x1b[", code, "m"]),
                None => clean.push(char::REPLACEMENT_CHARACTER),
            },
            c if steers(c) => clean.push(char::REPLACEMENT_CHARACTER),
            c => clean.push(c),
        }
    }
    clean
}

/// What follows an escape, if it is one of the colours of [`Style`]; else nothing is taken.
fn colour(rest: &mut Peekable<Chars<'_>>) -> Option<&'static str> {
    let ahead: String = rest.clone().take(4).collect();
    let code = ["0", "1", "2", "31", "32", "33"]
        .into_iter()
        .find(|code| ahead.starts_with(&format!("[{code}m")))?;
    rest.by_ref().take(code.len() + 2).for_each(drop);
    Some(code)
}

/// It steers a terminal, or turns the direction of a text.
fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Rows in columns, two spaces apart, each line behind `indent`.
pub(super) fn columns(rows: &[Vec<String>], indent: &str) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| visible(cell))
            .max()
    };
    let widths: Vec<_> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = indent.to_owned();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - visible(cell)));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Characters that take a place: colours take none.
fn visible(text: &str) -> usize {
    let mut count = 0;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\x1b' {
            characters.by_ref().find(|c| *c == 'm');
        } else {
            count += 1;
        }
    }
    count
}

/// A span of time in at most two units: `38s`, `2m10s`, `3h05m`, `4d2h`.
pub(super) fn span(time: SignedDuration) -> String {
    let seconds = time.as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 if seconds % 60 == 0 => format!("{minutes}m"),
        60..3_600 => format!("{minutes}m{:02}s", seconds % 60),
        3_600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

/// A number with its thousands apart: `12,345`.
pub(super) fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// The share of bad ones in percent: `0.12%`.
pub(super) fn ratio(total: i64, bad: i64) -> String {
    if total <= 0 {
        return "-".to_owned();
    }
    let percent = bad as f64 / total as f64 * 100.0;
    if percent > 0.0 && percent < 0.01 {
        "<0.01%".to_owned()
    } else {
        format!("{percent:.2}%")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_others_wrote_steers_the_terminal() {
        let evil = "a\x1b]0;title\x07b\x1b[2Jc\u{9b}31md\x08\u{202e}e\r\n";
        let kept = harmless(evil);
        assert_eq!(
            kept,
            "a\u{fffd}]0;title\u{fffd}b\u{fffd}[2Jc\u{fffd}31md\u{fffd}\u{fffd}e\u{fffd}\n"
        );
        assert_eq!(clean("a\nb\tc\x1b[1m"), "a b c\u{fffd}[1m");
        let coloured = format!("{} {}\n", Style::COLOUR.bad("no"), Style::COLOUR.bold("x"));
        assert_eq!(harmless(&coloured), coloured);
    }

    #[test]
    fn numbers_are_read_at_a_glance() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(-1_000), "-1,000");
        assert_eq!(ratio(0, 0), "-");
        assert_eq!(ratio(3_412, 4), "0.12%");
        assert_eq!(ratio(1_000_000, 1), "<0.01%");
    }

    #[test]
    fn spans_have_at_most_two_units() {
        let text = |seconds| span(SignedDuration::from_secs(seconds));
        assert_eq!(text(-5), "0s");
        assert_eq!(text(59), "59s");
        assert_eq!(text(120), "2m");
        assert_eq!(text(130), "2m10s");
        assert_eq!(text(3_900), "1h05m");
        assert_eq!(text(90_000), "1d1h");
    }

    #[test]
    fn colours_take_no_place_in_a_column() {
        let rows = |style: Style| {
            vec![
                vec![style.bad("no"), "x".to_owned()],
                vec!["good".to_owned(), "y".to_owned()],
            ]
        };
        assert_eq!(columns(&rows(Style::PLAIN), ""), "no    x\ngood  y\n");
        assert_eq!(
            columns(&rows(Style::COLOUR), ""),
            "\x1b[31mno\x1b[0m    x\ngood  y\n"
        );
    }
}
