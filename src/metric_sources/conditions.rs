//! The queries of thresholds: what gives one number, most often PromQL.

use promql_parser::parser::{self, value::ValueType};

use super::FieldError;
use super::web::WebQuery;

/// What stands for the matchers of the revision under test.
const SELECTOR: &str = "$selector";
/// A matcher in its place while a query is checked.
const EXAMPLE_MATCHER: &str = "molt=\"\"";

/// Where the number of one threshold comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConditionQuery {
    /// A query of the source.
    Promql(PromqlQuery),
    /// A URL.
    Web(WebQuery),
}

/// The query of one threshold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromqlQuery {
    /// The threshold's name.
    pub name: String,
    /// PromQL, with `$selector` where the matchers go.
    query: String,
}

impl PromqlQuery {
    /// Reads a query; the error's field is `query`.
    pub fn parse(name: &str, query: &str) -> Result<Self, FieldError> {
        let wrong = |message: String| FieldError::new("query", message);
        let example = query.replace(SELECTOR, EXAMPLE_MATCHER);
        let parsed = parser::parse(&example).map_err(|error| {
            // What the user wrote, not what stood for it.
            let error = error.replace(EXAMPLE_MATCHER, SELECTOR);
            wrong(format!(
                "is no PromQL: {}; write {SELECTOR} between the braces of a selector, such as rate(shop_errors_total{{{SELECTOR}}}[2m])",
                error.trim()
            ))
        })?;
        match parsed.value_type() {
            ValueType::Vector | ValueType::Scalar => Ok(Self {
                name: name.to_owned(),
                query: query.to_owned(),
            }),
            ValueType::Matrix => Err(wrong(
                "gives a range of samples, not one number: put a function around it, such as rate() or avg_over_time()".to_owned(),
            )),
            ValueType::String => Err(wrong(
                "gives a text, not a number: select a metric".to_owned(),
            )),
        }
    }

    /// The query with the matchers of a revision.
    pub fn for_matchers(&self, matchers: &str) -> String {
        self.query.replace(SELECTOR, matchers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<PromqlQuery, String> {
        PromqlQuery::parse("a", query).map_err(|error| error.to_string())
    }

    #[test]
    fn any_promql_that_gives_a_number_is_read_and_pinned() {
        let query = "histogram_quantile(0.99, sum by (le) (rate(shop_latency_seconds_bucket{$selector, path=\"/\"}[2m])))";
        let pinned = parse(query)
            .unwrap()
            .for_matchers("namespace=\"shop\",pod=~\"a-.+\"");
        assert_eq!(
            pinned,
            "histogram_quantile(0.99, sum by (le) (rate(shop_latency_seconds_bucket{namespace=\"shop\",pod=~\"a-.+\", path=\"/\"}[2m])))"
        );
        for query in [
            "queue_length",
            "scalar(sum(a{$selector}))",
            "sum(rate(a{$selector}[1m])) / sum(rate(b{$selector}[1m]))",
            "max_over_time(a{$selector}[5m:30s] offset 1m) or vector(0)",
            "2",
        ] {
            assert!(parse(query).is_ok(), "{query}: {:?}", parse(query));
        }
    }

    #[test]
    fn anything_else_says_what_to_write() {
        for (query, part) in [
            ("", "query: is no PromQL"),
            ("rate(a{$selector}[2m]", "query: is no PromQL"),
            ("a$selector", "query: is no PromQL"),
            ("sum(", "between the braces of a selector"),
            ("nosuch(a)", "query: is no PromQL"),
            ("rate(a)", "query: is no PromQL"),
            ("a{$selector}[2m]", "gives a range of samples"),
            ("\"text\"", "gives a text"),
        ] {
            let error = parse(query).unwrap_err();
            assert!(
                error.contains(part) && !error.contains("molt="),
                "{query}: {error}"
            );
        }
    }
}
