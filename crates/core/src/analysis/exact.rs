//! Floats in a status: as decimal text that reads back to the same bits.
//!
//! A JSON number passes through parsers and printers on its way, and an API server that prints `1` for `1.0`
//! gives an integer where the schema asks for a number. Text arrives as it was sent. The digits are the
//! shortest that read back exactly; Rust's formatting of floats guarantees that.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
pub fn serialize<S: Serializer>(value: &f64, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&text(*value))
}

pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    parse(&String::deserialize(d)?).map_err(D::Error::custom)
}

/// The same for a list of `N` floats.
pub mod list {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(values: &[f64], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(values.iter().map(|v| super::text(*v)))
    }

    pub fn deserialize<'de, const N: usize, D: Deserializer<'de>>(d: D) -> Result<[f64; N], D::Error> {
        let texts = Vec::<String>::deserialize(d)?;
        let found = texts.len();
        let values = texts
            .iter()
            .map(|t| super::parse(t))
            .collect::<Result<Vec<_>, _>>();
        let values = values.map_err(D::Error::custom)?;
        values
            .try_into()
            .map_err(|_| D::Error::invalid_length(found, &format!("{N} numbers").as_str()))
    }
}

/// The same for a list of any length.
pub mod many {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(values: &[f64], s: S) -> Result<S::Ok, S::Error> {
        super::list::serialize(values, s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<f64>, D::Error> {
        let texts = Vec::<String>::deserialize(d)?;
        let values: Result<_, _> = texts.iter().map(|t| super::parse(t)).collect();
        values.map_err(D::Error::custom)
    }
}

/// The same for a float that may be absent.
pub mod option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[expect(clippy::ref_option, reason = "serde passes fields by reference")]
    pub fn serialize<S: Serializer>(value: &Option<f64>, s: S) -> Result<S::Ok, S::Error> {
        value.map(super::text).serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<f64>, D::Error> {
        let text = Option::<String>::deserialize(d)?;
        text.map(|t| super::parse(&t))
            .transpose()
            .map_err(D::Error::custom)
    }
}

/// The same for a list of `N` floats that may be absent.
pub mod option_list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[expect(clippy::ref_option, reason = "serde passes fields by reference")]
    pub fn serialize<S: Serializer, const N: usize>(
        values: &Option<[f64; N]>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        values.map(|list| list.map(super::text).to_vec()).serialize(s)
    }

    pub fn deserialize<'de, const N: usize, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<[f64; N]>, D::Error> {
        let Some(texts) = Option::<Vec<String>>::deserialize(d)? else {
            return Ok(None);
        };
        let found = texts.len();
        let values = texts
            .iter()
            .map(|t| super::parse(t))
            .collect::<Result<Vec<_>, _>>();
        let values = values.map_err(D::Error::custom)?;
        let list = values
            .try_into()
            .map_err(|_| D::Error::invalid_length(found, &format!("{N} numbers").as_str()));
        list.map(Some)
    }
}

fn text(value: f64) -> String {
    // Plain where that is short, scientific where it would be hundreds of digits.
    let plain = value == 0.0 || (1e-6..1e15).contains(&value.abs());
    if plain {
        format!("{value}")
    } else {
        format!("{value:e}")
    }
}

fn parse(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| n.is_finite());
    number.ok_or_else(|| format!("{text:?} is not a finite number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_finite_number_is_refused() {
        for bad in ["", "NaN", "inf", "-inf", "1e999", "1,5", "0x1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_same_bits_come_back_from_short_text(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert!(text(value).len() <= 25);
            prop_assert_eq!(parse(&text(value)).unwrap().to_bits(), bits);
        }
    }
}
