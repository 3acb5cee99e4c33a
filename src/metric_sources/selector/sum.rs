//! Counters that are added up, and which of them a series of an answer belongs to.

use std::fmt;

use regex::{Regex, RegexBuilder};

use super::{MatchOp, Rest, Selector};

/// One counter, or several that are added up. A series that several of them select counts once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum(Vec<Selector>);

/// The counters with `+` between them.
impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" + ")?;
            }
            write!(f, "{term}")?;
        }
        Ok(())
    }
}

impl Sum {
    /// Reads counters as a user writes them: `a`, `a + b{kind="card"}`, `sum(a) + sum(b)`. What is counted is summed over
    /// all of a revision's series anyway, so `sum` adds nothing. Matchers on the `reserved` labels are refused: each
    /// query pins them to a revision.
    pub fn parse(text: &str, reserved: &[&str]) -> Result<Self, String> {
        let mut rest = Rest(text.trim());
        let mut terms: Vec<Selector> = Vec::new();
        loop {
            rest.skip_spaces();
            let term = rest.term(text, reserved)?;
            pattern_errors(&term).map_err(|what| format!("{text:?} has {what}"))?;
            if terms.contains(&term) {
                return Err(format!("{text:?} adds {term} twice: leave one out"));
            }
            terms.push(term);
            if !rest.eat("+") {
                break;
            }
        }
        let last = terms.last().map(|term| term.name.clone()).unwrap_or_default();
        rest.must_be_empty(text, &last)?;
        Ok(Self(terms))
    }

    /// The counters that are added; one at least.
    pub fn terms(&self) -> &[Selector] {
        &self.0
    }

    /// The same counters, in whatever order.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().all(|term| other.0.contains(term))
    }

    /// What tells which series these counters are.
    pub fn picker(&self) -> Picker {
        Picker(self.0.iter().map(Picked::new).collect())
    }
}

impl Rest<'_> {
    /// A counter, or the sum of its series.
    fn term(&mut self, text: &str, reserved: &[&str]) -> Result<Selector, String> {
        let of_sum = self.0.strip_prefix("sum").map(str::trim_start);
        let Some(within) = of_sum.and_then(|rest| rest.strip_prefix('(')) else {
            return self.selector(text, reserved);
        };
        self.0 = within.trim_start();
        let term = self.selector(text, reserved)?;
        if self.eat(")") {
            self.skip_spaces();
            return Ok(term);
        }
        if self.0.starts_with('+') {
            return Err(format!(
                "{text:?} adds within sum(): write sum({term}) + sum(…), or the counters with + between them"
            ));
        }
        self.must_be_empty(text, &term.name)?;
        Err(format!("{text:?} has no closing parenthesis after sum({term}"))
    }
}

fn pattern_errors(term: &Selector) -> Result<(), String> {
    for matcher in &term.matchers {
        if matches!(matcher.op, MatchOp::Regex | MatchOp::NotRegex) {
            pattern(&matcher.value).map_err(|error| {
                format!(
                    "a mistake in the pattern of {:?}: {}",
                    matcher.label,
                    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
                )
            })?;
        }
    }
    Ok(())
}

/// A pattern as Prometheus reads it: anchored at both ends.
fn pattern(text: &str) -> Result<Regex, regex::Error> {
    let text = &as_re2(text);
    // By itself first: what a bracket too many closes must not be the group around it.
    Regex::new(text)?;
    RegexBuilder::new(&format!("^(?:{text})$"))
        .dot_matches_new_line(true)
        .build()
}

/// What RE2, which Prometheus has, takes otherwise than the library here: a brace that begins no number of repetitions
/// stands for itself, as in `/orders/{order_id}`; what is between `\Q` and `\E` does; `\d`, `\w` and `\s` are of ASCII.
fn as_re2(text: &str) -> String {
    let mut translated = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        if let Some(quoted) = rest.strip_prefix("\\Q") {
            let (literal, behind) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            translated.push_str(&regex::escape(literal));
            rest = behind;
            continue;
        }
        match (c, after.chars().next()) {
            ('\\', Some(class)) => {
                match class {
                    'd' => translated.push_str("[0-9]"),
                    'D' => translated.push_str("[^0-9]"),
                    'w' => translated.push_str("[0-9A-Za-z_]"),
                    'W' => translated.push_str("[^0-9A-Za-z_]"),
                    's' => translated.push_str("[\\t\\n\\f\\r ]"),
                    'S' => translated.push_str("[^\\t\\n\\f\\r ]"),
                    'p' | 'P' | 'x' => {
                        // A brace of theirs is no repetition.
                        let end = after.find('}').filter(|_| after[1..].starts_with('{'));
                        let end = end.map_or(class.len_utf8(), |end| end + 1);
                        translated.push('\\');
                        translated.push_str(&after[..end]);
                        rest = &after[end..];
                        continue;
                    }
                    other => translated.extend(['\\', other]),
                }
                rest = &after[class.len_utf8()..];
                continue;
            }
            ('{', _) if !repeats(after) => translated.push_str("\\{"),
            ('{', _) => {
                let end = after.find('}').map_or(0, |end| end + 1);
                translated.push('{');
                translated.push_str(&after[..end]);
                rest = &after[end..];
                continue;
            }
            ('}', _) => translated.push_str("\\}"),
            (c, _) => translated.push(c),
        }
        rest = after;
    }
    translated
}

/// What follows a brace is a number of repetitions: `2}`, `2,}` or `2,5}`.
fn repeats(after: &str) -> bool {
    let Some((within, _)) = after.split_once('}') else {
        return false;
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match within.split_once(',') {
        None => is_number(within),
        Some((least, most)) => is_number(least) && (most.is_empty() || is_number(most)),
    }
}

/// Tells which series of an answer are of a [`Sum`]: one query reads several sums, and what shows that pods are read.
pub struct Picker(Vec<Picked>);

struct Picked {
    name: String,
    matchers: Vec<(String, Test)>,
}

enum Test {
    Equal(String),
    NotEqual(String),
    Regex(Option<Regex>),
    NotRegex(Option<Regex>),
}

impl Picked {
    fn new(selector: &Selector) -> Self {
        let matchers = selector.matchers.iter().map(|matcher| {
            let value = matcher.value.clone();
            // What can't be read was refused when the selector was.
            let test = match matcher.op {
                MatchOp::Equal => Test::Equal(value),
                MatchOp::NotEqual => Test::NotEqual(value),
                MatchOp::Regex => Test::Regex(pattern(&value).ok()),
                MatchOp::NotRegex => Test::NotRegex(pattern(&value).ok()),
            };
            (matcher.label.clone(), test)
        });
        Self {
            name: selector.name.clone(),
            matchers: matchers.collect(),
        }
    }
}

impl Picker {
    /// Whether a series with these labels is one of the counters. A label that is absent is empty, as in Prometheus.
    pub fn picks<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let value = |name: &str| label(name).unwrap_or_default();
        self.0.iter().any(|term| {
            value("__name__") == term.name
                && term.matchers.iter().all(|(name, test)| match test {
                    Test::Equal(wanted) => value(name) == wanted,
                    Test::NotEqual(unwanted) => value(name) != unwanted,
                    Test::Regex(wanted) => wanted.as_ref().is_some_and(|w| w.is_match(value(name))),
                    Test::NotRegex(unwanted) => unwanted.as_ref().is_some_and(|u| !u.is_match(value(name))),
                })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(sum: &str, labels: &[(&str, &str)]) -> bool {
        Sum::parse(sum, &[]).unwrap().picker().picks(|name| {
            labels
                .iter()
                .find(|(label, _)| *label == name)
                .map(|(_, value)| *value)
        })
    }

    #[test]
    fn patterns_are_read_as_prometheus_reads_them() {
        let is = |pattern: &str, value: &str| {
            let sum = format!(
                "shop_total{{handler=~{}}}",
                serde_json::to_string(pattern).unwrap()
            );
            picks(&sum, &[("__name__", "shop_total"), ("handler", value)])
        };
        assert!(is("/orders/{order_id}|/pay", "/orders/{order_id}"));
        assert!(is("/orders/{order_id}|/pay", "/pay"));
        assert!(!is("/orders/{order_id}|/pay", "/orders/7"));
        assert!(is("/v[0-9]{1,2}", "/v12") && !is("/v[0-9]{1,2}", "/v123"));
        assert!(is("a{2}b{3,}", "aabbbb"));
        assert!(is(r"\Q/a.b{c}\E.*", "/a.b{c}/d") && !is(r"\Q/a.b\E", "/axb"));
        assert!(is(r"\d+", "12") && !is(r"\d+", "\u{0661}"));
        assert!(is(r"[\w-]+", "a-b_c") && !is(r"[^\d]", "1"));
        assert!(is(r"\p{Lu}x", "Ax") && is("[{}]", "{"));
    }

    #[test]
    fn a_series_is_picked_as_prometheus_would() {
        let ok = [("__name__", "done_total"), ("code", "200"), ("kind", "card")];
        for (sum, is) in [
            ("done_total", true),
            ("failed_total", false),
            ("failed_total + done_total", true),
            ("done_total{kind=\"card\"}", true),
            ("done_total{kind=\"cash\"} + failed_total", false),
            ("done_total{kind!=\"cash\"}", true),
            ("done_total{kind!=\"card\"}", false),
            ("done_total{code=~\"2..|3..\"}", true),
            // Anchored at both ends.
            ("done_total{code=~\"2.\"}", false),
            ("done_total{code=~\"00\"}", false),
            ("done_total{code!~\"5..\"}", true),
            ("done_total{code!~\"2..\"}", false),
            // Absent is empty.
            ("done_total{shop=\"\"}", true),
            ("done_total{shop!=\"\"}", false),
            ("done_total{shop=~\"a?\"}", true),
            ("done_total{shop!~\"a?\"}", false),
        ] {
            assert_eq!(picks(sum, &ok), is, "{sum}");
        }
    }

    #[test]
    fn sums_are_the_same_in_any_order() {
        let sum = |text| Sum::parse(text, &[]).unwrap();
        assert!(sum("a + b").is_same(&sum("sum(b) + a")));
        assert!(!sum("a + b").is_same(&sum("a")));
        assert!(!sum("a").is_same(&sum("a{k=\"v\"}")));
    }
}
