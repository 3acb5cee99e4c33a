//! Whether the HTTPRoutes of this cluster can keep users on a backend.
//!
//! `sessionPersistence` is a field of the experimental channel's CRDs alone, of the same version as those of the standard
//! channel. The API server tells its schemas to every client (`/openapi/v3`), so no right is needed, and nothing is
//! written to find out.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use serde::Deserialize;
use tokio::time::Instant;

use super::types::{API_VERSION, HTTP_ROUTE};

/// How long an answer counts: somebody may install other CRDs.
pub const LASTS: Duration = Duration::from_secs(15);

/// What is known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Support {
    /// Nobody has asked.
    #[default]
    Unasked,
    /// The CRD has the field.
    Kept,
    /// It has not: what is written there is dropped.
    Dropped,
    /// The API server did not tell.
    Unknown,
}

/// Asks the API server, now and then.
pub struct Sessions {
    client: Client,
    last: Mutex<Option<(Instant, Support)>>,
}

impl Sessions {
    /// One that asks this API server.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            last: Mutex::default(),
        }
    }

    /// What is known by now.
    pub async fn support(&self) -> Support {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, support)) = last
            && at.elapsed() < LASTS
        {
            return support;
        }
        let support = match self.read().await {
            Ok(true) => Support::Kept,
            Ok(false) => Support::Dropped,
            Err(error) => {
                tracing::warn!(%error, "the schema of HTTPRoutes can't be read; it is tried again");
                Support::Unknown
            }
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), support));
        support
    }

    async fn read(&self) -> Result<bool, kube::Error> {
        let request = http::Request::get(format!("/openapi/v3/apis/{API_VERSION}"))
            .body(Vec::new())
            .map_err(kube::Error::HttpError)?;
        let document: Document = self.client.request(request).await?;
        Ok(document.keeps_sessions())
    }
}

/// As much of an `OpenAPI` document as tells which fields there are.
#[derive(Debug, Default, Deserialize)]
struct Document {
    #[serde(default)]
    components: Components,
}

#[derive(Debug, Default, Deserialize)]
struct Components {
    #[serde(default)]
    schemas: HashMap<String, Schema>,
}

#[derive(Debug, Default, Deserialize)]
struct Schema {
    #[serde(default)]
    properties: HashMap<String, Schema>,
    #[serde(default)]
    items: Option<Box<Schema>>,
}

impl Document {
    fn keeps_sessions(&self) -> bool {
        let kind = format!(".{}", HTTP_ROUTE.kind);
        let mut routes = self.components.schemas.iter();
        let route = routes
            .find(|(name, _)| name.ends_with(&kind))
            .map(|(_, route)| route);
        let rule = route
            .and_then(|route| route.properties.get("spec")?.properties.get("rules"))
            .and_then(|rules| rules.items.as_ref());
        rule.is_some_and(|rule| rule.properties.contains_key("sessionPersistence"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_field_of_a_rule_is_found_and_nothing_else_is_taken_for_it() {
        let keeps = |name: &str, field: &str| {
            let rule = json!({"type": "object", "properties": {field: {"type": "object"}}});
            let spec = json!({"properties": {"rules": {"type": "array", "items": rule}}});
            let document = json!({"openapi": "3.0.0", "components": {"schemas": {
                "io.k8s.apimachinery.pkg.apis.meta.v1.Status": {"type": "object"},
                name: {"properties": {"spec": spec}, "x-kubernetes-group-version-kind": []},
            }}});
            serde_json::from_value::<Document>(document)
                .unwrap()
                .keeps_sessions()
        };
        let route = "io.k8s.networking.gateway.v1.HTTPRoute";
        assert!(keeps(route, "sessionPersistence"));
        assert!(!keeps(route, "timeouts"));
        assert!(!keeps(
            "io.k8s.networking.gateway.v1.HTTPRouteList",
            "sessionPersistence"
        ));
        assert!(!serde_json::from_str::<Document>("{}").unwrap().keeps_sessions());
    }
}
