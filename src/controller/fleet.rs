//! A pause of every service of this operator, by a ConfigMap in its own namespace.
//!
//! It can be written by `kubectl` alone and by Git, and it needs neither a CRD nor a webhook to be alive. See
//! `docs/adr/0017-one-configmap-pauses-the-fleet.md`.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use crate::k8s::index::Facts;

/// The ConfigMap's name.
pub const CONFIG_MAP: &str = "molt-fleet";
/// Its keys: whether everything is paused, why, and who did it.
pub const PAUSED: &str = "paused";
/// Why.
pub const REASON: &str = "reason";
/// Who did it.
pub const BY: &str = "by";

/// At most so many characters of who and why are told.
const MOST_SAID: usize = 300;

/// What the ConfigMap says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Everything is paused: who did it, and why, such as `by ada: INC-12`.
    pub paused: Option<String>,
}

impl Facts for Fleet {
    type Object = ConfigMap;

    fn read(object: &ConfigMap) -> Option<(String, Self)> {
        let name = object.name_any();
        (name == CONFIG_MAP).then(|| {
            (
                name,
                Self {
                    paused: paused(object),
                },
            )
        })
    }
}

/// Who has paused everything, and why; `None` while nobody has.
///
/// A value that is neither yes nor no pauses: whoever wrote it at night wanted something to stop.
pub fn paused(object: &ConfigMap) -> Option<String> {
    let of = |key: &str| {
        let value = object.data.as_ref()?.get(key)?.trim();
        (!value.is_empty()).then(|| value.to_owned())
    };
    let said = of(PAUSED)?;
    let doubt = match said.to_ascii_lowercase().as_str() {
        "false" | "no" | "off" | "0" => return None,
        "true" | "yes" | "on" | "1" => String::new(),
        _ => format!(" ({PAUSED}: {said:?} is taken for true: write true or false)"),
    };
    let place = || {
        let namespace = object.namespace().unwrap_or_default();
        format!("ConfigMap {namespace}/{CONFIG_MAP}")
    };
    let by = of(BY).unwrap_or_else(place);
    let why = of(REASON).map_or_else(String::new, |reason| format!(": {reason}"));
    let text = format!("by {by}{why}{doubt}");
    // One line: it becomes part of messages.
    Some(
        text.split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .chars()
            .take(MOST_SAID)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(data: &serde_json::Value) -> Option<String> {
        let object = json!({"metadata": {"name": CONFIG_MAP, "namespace": "molt-system"}, "data": data});
        paused(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn it_is_paused_by_yes_and_by_what_is_not_understood() {
        for no in [
            json!(null),
            json!({}),
            json!({"paused": "false"}),
            json!({"paused": " No "}),
            json!({"paused": ""}),
        ] {
            assert_eq!(said(&no), None, "{no}");
        }
        let who = json!({"paused": "true", "by": "ada", "reason": "INC-12\n bad base image"});
        assert_eq!(said(&who).as_deref(), Some("by ada: INC-12 bad base image"));
        let alone = json!({"paused": "Yes"});
        assert_eq!(
            said(&alone).as_deref(),
            Some("by ConfigMap molt-system/molt-fleet")
        );
        let typed = said(&json!({"paused": "ture"})).unwrap();
        assert!(typed.contains("\"ture\" is taken for true"), "{typed}");
        let long = said(&json!({"paused": "1", "reason": "x".repeat(9999)})).unwrap();
        assert_eq!(long.chars().count(), MOST_SAID);
    }

    #[test]
    fn another_config_map_is_none_of_it() {
        let object =
            json!({"metadata": {"name": "other", "namespace": "molt-system"}, "data": {"paused": "true"}});
        assert_eq!(Fleet::read(&serde_json::from_value(object).unwrap()), None);
    }
}
