//! Whether a live object still says what was rendered.

use serde_json::Value;

/// Everything in `wanted` is in `live` with the same value. Objects may have more keys, as defaulting and
/// other writers add them; lists must match item by item; an empty list or object stands for an absent one.
pub fn is_subset(wanted: &Value, live: &Value) -> bool {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            wanted.iter().all(|(key, value)| match live.get(key) {
                Some(other) => is_subset(value, other),
                None => is_empty(value),
            })
        }
        (Value::Array(wanted), Value::Array(live)) => {
            wanted.len() == live.len() && wanted.iter().zip(live).all(|(w, l)| is_subset(w, l))
        }
        (wanted, Value::Null) => is_empty(wanted),
        (wanted, live) => wanted == live,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_beside_what_was_rendered_are_no_drift() {
        let wanted = json!({"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}});
        let live = json!({"spec": {"ports": [{"port": 80, "protocol": "TCP"}], "selector": {"a": "b"}, "type": "ClusterIP"}});
        assert!(is_subset(&wanted, &live));
    }

    #[test]
    fn a_changed_missing_or_added_item_is_drift() {
        let wanted = json!({"ports": [{"port": 80}]});
        for live in [
            json!({"ports": [{"port": 81}]}),
            json!({"ports": [{"port": 80}, {"port": 81}]}),
            json!({}),
            json!({"ports": []}),
        ] {
            assert!(!is_subset(&wanted, &live), "{live}");
        }
    }

    #[test]
    fn an_empty_list_asks_for_none() {
        let wanted = json!({"hostnames": []});
        assert!(is_subset(&wanted, &json!({})));
        assert!(is_subset(&wanted, &json!({"hostnames": null})));
        assert!(!is_subset(&wanted, &json!({"hostnames": ["a.example"]})));
    }
}
