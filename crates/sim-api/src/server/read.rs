//! Lists and watches.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{ApiServer, Place};
use crate::call::Call;
use crate::selector::Selector;
use crate::status::Refusal;
use crate::watch::{Event, Watch};

fn selector(call: &Call) -> Result<Selector, Refusal> {
    Selector::parse(call.parameter("labelSelector"), call.parameter("fieldSelector"))
        .map_err(|what| Refusal::bad_request(format!("unable to parse requirement: {what}")))
}

impl ApiServer {
    fn selected(&self, place: &Place, selector: &Selector) -> Vec<&Arc<Value>> {
        let resource = place.kind.resource();
        let selected = self.store.of(&resource).filter(|(key, object)| {
            (place.namespace.is_empty() || key.namespace == place.namespace) && selector.matches(object)
        });
        selected.map(|(_, object)| object).collect()
    }

    pub(super) fn list(&self, place: &Place, call: &Call) -> Result<Value, Refusal> {
        let items = self.selected(place, &selector(call)?);
        let mut list = json!({
            "kind": format!("{}List", place.kind.kind),
            "apiVersion": place.kind.api_version(),
            "metadata": {"resourceVersion": self.store.version().to_string()},
        });
        // Not by the macro, which would build each object from its parts.
        list["items"] = items.into_iter().map(|object| Value::clone(object)).collect();
        Ok(list)
    }

    /// Begins a watch. Without a version, or from `0`, it begins with the objects that there are.
    pub fn watch(&self, call: &Call) -> Result<Watch, Refusal> {
        let place = self.place(&call.path)?;
        let selector = selector(call)?;
        let from = match call.parameter("resourceVersion") {
            "" | "0" => None,
            text => Some(
                text.parse()
                    .map_err(|_| Refusal::bad_request(format!("invalid resource version {text:?}")))?,
            ),
        };
        let waiting = if from.is_some() {
            VecDeque::new()
        } else {
            let present = self.selected(&place, &selector).into_iter();
            let added = present.map(|object| Event {
                word: "ADDED",
                object: Arc::clone(object),
            });
            added.collect()
        };
        Ok(Watch {
            resource: place.kind.resource(),
            namespace: place.namespace,
            selector,
            api_version: place.kind.api_version(),
            kind: place.kind.kind.clone(),
            seen: from.unwrap_or_else(|| self.store.version()),
            bookmarks: call.parameter("allowWatchBookmarks") == "true",
            waiting,
            ended: false,
        })
    }
}
