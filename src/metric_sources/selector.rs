//! Selectors of counters: a metric's name and label matchers, and sums of them, nothing else.
//!
//! Evidence needs the raw samples of each series, so functions, ranges and other arithmetic are refused here, with
//! a message that says what to write instead.

use std::fmt;

pub use self::sum::{Picker, Sum};

mod sum;

/// A metric's name and its matchers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The metric's name.
    pub name: String,
    /// Its matchers, in the order they were written.
    pub matchers: Vec<Matcher>,
}

/// One label matcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// The label.
    pub label: String,
    /// How it is compared.
    pub op: MatchOp,
    /// With what.
    pub value: String,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regex,
    /// `!~`, anchored at both ends
    NotRegex,
}

impl Matcher {
    /// A matcher.
    pub fn new(label: impl Into<String>, op: MatchOp, value: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            op,
            value: value.into(),
        }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match self.op {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        };
        write!(f, "{}{op}\"", self.label)?;
        for c in self.value.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

/// The selector as a query has it.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        write_matchers(f, &self.matchers)
    }
}

fn write_matchers(f: &mut fmt::Formatter<'_>, matchers: &[Matcher]) -> fmt::Result {
    if matchers.is_empty() {
        return Ok(());
    }
    f.write_str("{")?;
    for (i, matcher) in matchers.iter().enumerate() {
        if i > 0 {
            f.write_str(",")?;
        }
        write!(f, "{matcher}")?;
    }
    f.write_str("}")
}

impl Selector {
    /// A selector without matchers.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            matchers: Vec::new(),
        }
    }

    /// The same with one more matcher.
    #[must_use]
    pub fn with(mut self, matcher: Matcher) -> Self {
        self.matchers.push(matcher);
        self
    }
}

/// The example of a selector that errors show.
const EXAMPLE: &str = "shop_checkouts_total{kind=\"card\"}";

/// Words after which a query has an expression in parentheses.
const AGGREGATIONS: [&str; 12] = [
    "sum",
    "avg",
    "min",
    "max",
    "count",
    "group",
    "stddev",
    "stdvar",
    "topk",
    "bottomk",
    "quantile",
    "count_values",
];

fn is_label_char(c: char, first: bool) -> bool {
    c == '_' || c.is_ascii_alphabetic() || (!first && c.is_ascii_digit())
}

/// Whether a text is the name of a label.
pub fn is_label_name(text: &str) -> bool {
    !text.is_empty() && text.chars().enumerate().all(|(i, c)| is_label_char(c, i == 0))
}

/// What is left to read.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// A counter as a user writes it. Matchers on the `reserved` labels are refused: each query pins them to a
    /// revision.
    fn selector(&mut self, text: &str, reserved: &[&str]) -> Result<Selector, String> {
        let name = self.take_while(|c, first| c == ':' || is_label_char(c, first));
        if name.is_empty() {
            return Err(if self.0.len() == text.trim().len() {
                format!("{text:?} does not begin with a metric's name: write a counter, such as {EXAMPLE}")
            } else {
                format!(
                    "{text:?} has no metric's name before {:?}: write a counter, such as {EXAMPLE}",
                    self.0
                )
            });
        }
        self.skip_spaces();
        let matchers = if self.eat("{") {
            self.matchers(text, reserved)?
        } else {
            Vec::new()
        };
        self.skip_spaces();
        Ok(Selector {
            name: name.to_owned(),
            matchers,
        })
    }

    fn skip_spaces(&mut self) {
        self.0 = self.0.trim_start();
    }

    fn eat(&mut self, token: &str) -> bool {
        match self.0.strip_prefix(token) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn take_while(&mut self, accept: impl Fn(char, bool) -> bool) -> &'a str {
        let end = self
            .0
            .char_indices()
            .find(|&(i, c)| !accept(c, i == 0))
            .map_or(self.0.len(), |(i, _)| i);
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn matchers(&mut self, text: &str, reserved: &[&str]) -> Result<Vec<Matcher>, String> {
        let mut matchers = Vec::new();
        loop {
            self.skip_spaces();
            if self.eat("}") {
                return Ok(matchers);
            }
            let label = self.take_while(is_label_char);
            if label.is_empty() {
                return Err(format!(
                    "{text:?} has no label name before {:?}: write {EXAMPLE}",
                    self.0
                ));
            }
            if reserved.contains(&label) {
                return Err(format!(
                    "{text:?} has a matcher on {label:?}, which Molt sets itself for each revision: leave it out"
                ));
            }
            if label == "__name__" {
                return Err(format!(
                    "{text:?} has a matcher on __name__: one name before the braces is enough"
                ));
            }
            self.skip_spaces();
            let op = if self.eat("=~") {
                MatchOp::Regex
            } else if self.eat("!~") {
                MatchOp::NotRegex
            } else if self.eat("!=") {
                MatchOp::NotEqual
            } else if self.eat("=") {
                MatchOp::Equal
            } else {
                return Err(format!(
                    "{text:?} has none of =, !=, =~ and !~ after the label {label:?}"
                ));
            };
            self.skip_spaces();
            let value = self.string(text, label)?;
            matchers.push(Matcher::new(label, op, value));
            self.skip_spaces();
            if !self.eat(",") && !self.0.starts_with('}') {
                return Err(format!(
                    "{text:?} has no comma or closing brace after the value of {label:?}"
                ));
            }
        }
    }

    fn string(&mut self, text: &str, label: &str) -> Result<String, String> {
        let Some(quote) = self.0.chars().next().filter(|c| matches!(c, '"' | '\'' | '`')) else {
            return Err(format!("{text:?} has no quoted value after the label {label:?}"));
        };
        let mut value = String::new();
        let mut chars = self.0.char_indices().skip(1);
        while let Some((i, c)) = chars.next() {
            if c == quote {
                self.0 = &self.0[i + 1..];
                return Ok(value);
            }
            // Backquotes keep backslashes as they are, as in Go.
            if c != '\\' || quote == '`' {
                value.push(c);
                continue;
            }
            match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, c @ ('\\' | '"' | '\''))) => value.push(c),
                _ => {
                    return Err(format!(
                        "{text:?} has an unknown escape in the value of {label:?}: write a backslash as \\\\"
                    ));
                }
            }
        }
        Err(format!(
            "{text:?} has no closing quote after the value of {label:?}"
        ))
    }

    fn must_be_empty(&self, text: &str, name: &str) -> Result<(), String> {
        let rest = self.0;
        let Some(next) = rest.chars().next() else {
            return Ok(());
        };
        let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
        Err(if next == '(' || AGGREGATIONS.contains(&name) {
            format!(
                "{text:?} applies {name}(): give the counter itself, such as {EXAMPLE}; Molt reads its raw samples"
            )
        } else if next == '[' {
            format!("{text:?} has a range: give the counter without {rest:?}; Molt chooses the range")
        } else if next == '@' || word == "offset" {
            format!("{text:?} is moved in time: give the counter without {rest:?}")
        } else if "+-*/%^<>=!".contains(next) || ["or", "and", "unless"].contains(&word.as_str()) {
            format!(
                "{text:?} is an expression: give one counter, such as {EXAMPLE}, or several with + between them, without {rest:?}"
            )
        } else {
            format!(
                "{text:?} can't be read from {rest:?} on: give one counter, such as {EXAMPLE}, or several with + between them"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        Sum::parse(text, &["pod", "namespace"]).map(|sum| sum.to_string())
    }

    #[test]
    fn bare_selectors_are_read() {
        for (text, canonical) in [
            ("shop_checkouts_total", "shop_checkouts_total"),
            ("  job:errors:total { } ", "job:errors:total"),
            (r#"a{kind="card"}"#, r#"a{kind="card"}"#),
            (
                r#"a { kind = 'card' , code=~`5\d\d`, x!="", y !~ "b|c", }"#,
                r#"a{kind="card",code=~"5\\d\\d",x!="",y!~"b|c"}"#,
            ),
            (r#"a{x="say \"}\" \\ ü"}"#, r#"a{x="say \"}\" \\ ü"}"#),
            ("ok_total+failed_total", "ok_total + failed_total"),
            (
                r#"sum(a{code=~"2.."}) + sum ( b ) + c"#,
                r#"a{code=~"2.."} + b + c"#,
            ),
            ("sum(a)", "a"),
            ("sum", "sum"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(canonical), "{text}");
            assert_eq!(parse(canonical).as_deref(), Ok(canonical), "{text}");
        }
    }

    #[test]
    fn anything_else_says_what_to_write() {
        for (text, part) in [
            ("", "does not begin with a metric's name"),
            ("{kind=\"card\"}", "does not begin with a metric's name"),
            ("5xx_total", "does not begin with a metric's name"),
            ("rate(a[5m])", "applies rate(): give the counter itself"),
            ("increase (a[5m])", "applies increase()"),
            ("sum(rate(a[5m])) + b", "applies rate(): give the counter itself"),
            ("sum(a + b)", "adds within sum(): write sum(a) + sum("),
            ("sum(a", "no closing parenthesis after sum(a"),
            ("sum(a) by (kind)", "can't be read from \"by (kind)\""),
            ("sum by (kind) (a)", "applies sum()"),
            ("avg(a)", "applies avg()"),
            ("a +", "no metric's name before \"\""),
            ("a + 5", "no metric's name before \"5\""),
            ("a + b + a", "adds a twice"),
            ("a + b - c", "is an expression"),
            ("a + b{pod=\"x\"}", "matcher on \"pod\""),
            ("a{k=~\"(\"}", "the pattern of \"k\""),
            ("a[5m]", "has a range"),
            ("a{}[5m]", "has a range"),
            ("a offset 5m", "moved in time"),
            ("a @ 1", "moved in time"),
            ("a / b", "is an expression"),
            ("a{k=\"v\"} * b", "is an expression"),
            ("a or b", "is an expression"),
            ("a b", "can't be read from \"b\""),
            ("a{pod=\"x\"}", "matcher on \"pod\""),
            ("a{namespace=~\".*\"}", "matcher on \"namespace\""),
            ("a{__name__=\"b\"}", "matcher on __name__"),
            ("a{k}", "none of =, !=, =~ and !~"),
            ("a{k=v}", "no quoted value"),
            ("a{k=\"v}", "no closing quote"),
            ("a{k=\"v\" l=\"w\"}", "no comma or closing brace"),
            ("a{k=\"v\"", "no comma or closing brace"),
            ("a{k=\"\\d\"}", "unknown escape"),
            ("a{", "no label name"),
            ("a{,}", "no label name"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
