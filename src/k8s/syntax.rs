//! What Kubernetes takes for a name or a label. The API server refuses everything else, long after it was written.

/// The longest name of a label, and the longest value.
const LONGEST_LABEL: usize = 63;
/// The longest DNS name, which stands before a label's name.
const LONGEST_PREFIX: usize = 253;

/// Lower case letters, digits and `-`, which is neither first nor last; whatever the length. Empty is one too.
pub fn is_dns(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.chars().all(allowed) && !text.starts_with('-') && !text.ends_with('-')
}

/// Whether a namespace may be called so.
///
/// # Errors
///
/// Why not, and what to write instead.
pub fn check_namespace(name: &str) -> Result<(), String> {
    if !name.is_empty() && name.len() <= LONGEST_LABEL && is_dns(name) {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no namespace: write lower case letters, digits and '-', at most {LONGEST_LABEL}"
    ))
}

/// Whether an object may have a label of this name and value.
///
/// # Errors
///
/// Why not, and what to write instead.
pub fn check_label(key: &str, value: &str) -> Result<(), String> {
    check_key(key, "a label")?;
    if !value.is_empty() && !is_word(value) {
        return Err(format!(
            "{value:?} is no value of a label: write letters, digits, '-', '_' and '.', at most {LONGEST_LABEL}, with a letter or digit at both ends"
        ));
    }
    Ok(())
}

/// Whether an object may have an annotation of this name. It may say anything.
///
/// # Errors
///
/// Why not, and what to write instead.
pub fn check_annotation(key: &str) -> Result<(), String> {
    check_key(key, "an annotation")
}

fn check_key(key: &str, of: &str) -> Result<(), String> {
    let (prefix, name) = key
        .split_once('/')
        .map_or((None, key), |(p, name)| (Some(p), name));
    let is_domain = |prefix: &str| {
        prefix.len() <= LONGEST_PREFIX && prefix.split('.').all(|part| !part.is_empty() && is_dns(part))
    };
    if is_word(name) && prefix.is_none_or(is_domain) {
        return Ok(());
    }
    Err(format!(
        "{key:?} is no name of {of}: write letters, digits, '-', '_' and '.', at most {LONGEST_LABEL}, with a letter or digit at both ends, after a domain and '/' if you like"
    ))
}

fn is_word(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.len() <= LONGEST_LABEL
        && text.chars().all(inner)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::{check_label, check_namespace};

    #[test]
    fn labels_and_namespaces_are_what_the_api_server_takes() {
        for (key, value) in [
            ("release", "prom"),
            ("team.example.com/Name_1", ""),
            ("a", "A.b-c_9"),
        ] {
            assert_eq!(check_label(key, value), Ok(()), "{key}={value}");
        }
        let long = "a".repeat(64);
        for (key, value) in [
            ("", "a"),
            ("-a", "a"),
            ("a b", "a"),
            ("/a", "a"),
            ("A.com/a", "a"),
            ("a..b/a", "a"),
            ("a/b/c", "a"),
            (long.as_str(), "a"),
            ("a", "a b"),
            ("a", "-"),
            ("a", "ü"),
            ("a", long.as_str()),
        ] {
            assert!(check_label(key, value).is_err(), "{key}={value}");
        }
        assert_eq!(check_namespace("shop-1"), Ok(()));
        for name in ["", "Shop", "shop_1", "-shop", "a.b", long.as_str()] {
            assert!(check_namespace(name).is_err(), "{name}");
        }
    }
}
