//! Answers as Prometheus writes them.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};

/// The labels of a series.
pub type Labels = HashMap<String, String>;

/// One series of a range selector's answer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct RawSeries {
    /// Its labels and name.
    pub metric: Labels,
    /// Its samples in order of time; none when it has native histograms instead.
    #[serde(default)]
    pub values: Vec<RawSample>,
    /// Its native histograms in order of time.
    #[serde(default)]
    pub histograms: Vec<RawHistogram>,
}

/// A time in seconds, and a native histogram.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct RawHistogram(pub f64, pub HistogramValue);

/// A native histogram. Its sum is of no use here.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct HistogramValue {
    /// Observations.
    pub count: Number,
    /// The buckets that are not empty, none of which contains another; absent when all are empty.
    #[serde(default)]
    pub buckets: Vec<Bucket>,
}

/// One bucket.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(from = "(u8, Number, Number, Number)")]
pub struct Bucket {
    /// Where it begins: this value is in it for some kinds of buckets.
    pub lower: Number,
    /// Where it ends: this value is in it, for positive values.
    pub upper: Number,
    /// Observations in it alone.
    pub count: Number,
}

/// As the API writes it, with a number for which of the edges belong to it first.
impl From<(u8, Number, Number, Number)> for Bucket {
    fn from((_, lower, upper, count): (u8, Number, Number, Number)) -> Self {
        Self { lower, upper, count }
    }
}

/// One series of an instant vector.
#[derive(Debug, Deserialize)]
pub struct RawPoint {
    /// Its labels.
    pub metric: Labels,
    /// Its value; absent when it is a native histogram.
    #[serde(default)]
    pub value: Option<RawSample>,
}

/// A time in seconds, and a value.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct RawSample(pub f64, pub Number);

/// A value, as Prometheus writes it: in quotes, with `NaN`, `+Inf` and `-Inf`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number(pub f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number in quotes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
                text.parse()
                    .map(Number)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// What an instant query gives.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Instant {
    /// One number.
    Scalar(RawSample),
    /// A number for each series.
    Vector(Vec<RawPoint>),
}

/// Types of answers.
pub trait Answer: DeserializeOwned {
    /// The names of the type in the API.
    const TYPES: &'static [&'static str];
}

impl Answer for Vec<RawSeries> {
    const TYPES: &'static [&'static str] = &["matrix"];
}

impl Answer for Vec<RawPoint> {
    const TYPES: &'static [&'static str] = &["vector"];
}

impl Answer for Instant {
    const TYPES: &'static [&'static str] = &["vector", "scalar"];
}

/// What every answer has, beside its result.
#[derive(Deserialize)]
pub struct Head {
    /// `success` or `error`.
    pub status: String,
    #[serde(default)]
    /// What went wrong.
    pub error: Option<String>,
    #[serde(default)]
    /// What came of the query.
    pub data: Option<HeadData>,
}

/// What came of the query, whatever its type.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeadData {
    #[serde(default)]
    /// The type of the result.
    pub result_type: String,
}

/// A successful answer.
#[derive(Deserialize)]
pub struct Body<T> {
    /// What came of the query.
    pub data: BodyData<T>,
}

/// What came of a successful query.
#[derive(Deserialize)]
pub struct BodyData<T> {
    /// The result.
    pub result: T,
}

/// What an answer that is no JSON looks like.
pub fn shape(body: &[u8]) -> &'static str {
    match body.trim_ascii_start().first() {
        None => "an empty answer",
        Some(b'<') => "a page of HTML",
        Some(b'{' | b'[') => "JSON of another kind, or cut off",
        Some(_) => "text that is not JSON",
    }
}
