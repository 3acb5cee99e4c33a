//! The HTTPRoute or GRPCRoute that Molt owns: how it is written, and what of it is read back.
//!
//! The first rule is for all users. Requests that are copied, and those with certain headers, have rules of their own
//! behind it: the more specific rule wins, whatever the order, and a proxy that names its clusters by the place of the
//! rule keeps those of all users.

use std::collections::BTreeMap;

use kube::ResourceExt;
use molt_core::observed::{Backend, Kept, Preview, Weights};
use molt_core::plan::Revision;
use molt_core::step::{HeaderMatch, HeaderValue, Mirror};
use serde_json::{Value, json};

use super::places;
use super::types::{API_VERSION, BackendRef, HttpRoute, Rule};
use crate::api::v1alpha1::{ParentKind, ParentRef};
use crate::k8s::failure::WriteError;
use crate::k8s::{Key, labels};
use crate::traffic::{OwnedRoute, RouteTarget};

/// The header that names the revision which a request is sent to.
const REVISION_HEADER: &str = "x-molt-revision";

/// The header that no request has: a rule that asks for it is there for the proxies to get ready.
const NEVER: &str = "x-molt-not-yet";

/// Some rules have places that the live route does not have yet. Proxies that have a cluster for each place answer users
/// with errors while they have the rule and not yet its cluster: seen with Envoy, where a rule for copies lost the
/// first requests of all users. So a rule in a new place asks for what no request has, until the router has
/// acknowledged it. Says whether there was such a place.
pub fn hold_back(body: &mut Value, live: &HttpRoute) -> bool {
    let Some(rules) = body["spec"]["rules"].as_array_mut() else {
        return false;
    };
    let known = live.spec.rules.len().max(1);
    let new = rules.len() > known;
    for rule in rules.iter_mut().skip(known) {
        rule["matches"] = json!([never()]);
    }
    new
}

/// Rules of the live route have no place any more. A proxy that has a cluster for each place lets go of it before it lets
/// go of the rule, and answers with errors in between: seen with Envoy. So a rule that goes asks for what no request has
/// first, with what all users get behind it, and is left out the next time that the route is written.
pub fn retire(body: &mut Value, live: &HttpRoute) {
    let Some(rules) = body["spec"]["rules"].as_array_mut() else {
        return;
    };
    let beyond = live.spec.rules.get(rules.len()..).unwrap_or_default();
    let used = |rule: &Rule| !rule.matches.iter().any(is_never);
    let Some(last) = beyond.iter().rposition(used) else {
        return;
    };
    let weight = |backend: &Value| backend["weight"].as_i64().unwrap_or(1);
    let shares = rules[0]["backendRefs"].as_array().cloned().unwrap_or_default();
    let Some(mut users) = shares.into_iter().max_by_key(weight) else {
        return;
    };
    users["weight"] = json!(1);
    for rule in &beyond[..=last] {
        rules.push(json!({
            "matches": [never()],
            "backendRefs": vec![users.clone(); rule.backend_refs.len()],
        }));
    }
}

fn never() -> Value {
    json!({"headers": [{"type": "Exact", "name": NEVER, "value": "1"}]})
}

/// Leaves the rules that are held back as they are: to let them begin is a decision.
pub fn keep_held_back(body: &mut Value, live: &HttpRoute) {
    if let Some(rules) = body["spec"]["rules"].as_array_mut() {
        let held = live
            .spec
            .rules
            .iter()
            .filter(|rule| rule.matches.iter().any(is_never));
        rules.extend(held.map(|rule| json!(rule)));
    }
}

/// Some rules of the live route are held back.
pub fn holds_back(live: &HttpRoute) -> bool {
    let mut rules = live.spec.rules.iter();
    rules.any(|rule| rule.matches.iter().any(is_never))
}

fn is_never(matched: &Value) -> bool {
    matched["headers"][0]["name"] == NEVER
}

/// The filter sets the header that names the revision.
fn names_revision(filter: &Value) -> bool {
    let headers = filter["requestHeaderModifier"]["set"].as_array();
    headers.is_some_and(|headers| headers.iter().any(|header| header["name"] == REVISION_HEADER))
}

/// The whole route. Without content from the spec it keeps what the live one says.
pub fn route(
    target: &RouteTarget,
    content: Option<&OwnedRoute>,
    live: Option<&HttpRoute>,
    weights: &Weights,
    preview: Option<&Preview>,
) -> Result<Value, WriteError> {
    let Key { namespace, name } = &target.service;
    let (parents, hostnames) = match (content, live) {
        (Some(content), _) => (json!(parents(name, content)), json!(content.hostnames)),
        (None, Some(live)) => (json!(live.spec.parent_refs), json!(live.spec.hostnames)),
        (None, None) => {
            return Err(WriteError::Unready {
                reason: "RouteUnknown",
                message: "the route can't be created while spec.traffic can't be used".to_owned(),
            });
        }
    };
    let written = live.map_or(&[][..], |live| {
        live.spec.rules.first().map_or(&[][..], |rule| &rule.backend_refs)
    });
    let backends = Backends {
        target,
        names_revisions: content.map_or_else(
            || {
                written
                    .iter()
                    .any(|backend| backend.filters.iter().any(names_revision))
            },
            |content| content.names_revisions,
        ),
    };
    let shares = backends.shares(weights, written)?;
    let mut rules = vec![json!({"backendRefs": shares})];
    if let Some(preview) = preview {
        rules.extend(preview_rules(&backends, preview, &shares)?);
    }
    let sessions = match content {
        Some(content) => persistence(content),
        None => live.and_then(|live| live.spec.rules.first()?.session_persistence.clone()),
    };
    if let Some(sessions) = sessions {
        // Those whose requests are copied are users as well.
        let of_users = rules
            .iter_mut()
            .filter(|rule| rule["backendRefs"] == json!(shares));
        of_users.for_each(|rule| rule["sessionPersistence"].clone_from(&sessions));
    }
    let mut body = json!({
        "apiVersion": API_VERSION,
        "kind": target.spec.kind(),
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {labels::MANAGED_BY: labels::MOLT, labels::SERVICE: name, labels::APP_NAME: name},
            "ownerReferences": [target.owner],
        },
        "spec": {"parentRefs": parents, "hostnames": hostnames, "rules": rules},
    });
    if let Some(version) = live.and_then(ResourceExt::resource_version) {
        body["metadata"]["resourceVersion"] = json!(version);
    }
    Ok(body)
}

/// The parents, the service's own name among them where a mesh goes by it.
fn parents(service: &str, content: &OwnedRoute) -> Vec<ParentRef> {
    let mut parents = content.parents.clone();
    let own = ParentRef {
        group: Some(String::new()),
        kind: Some(ParentKind::Service),
        name: service.to_owned(),
        namespace: None,
        section_name: None,
        port: None,
    };
    if content.mesh && !parents.contains(&own) {
        parents.push(own);
    }
    parents
}

/// How a rule says that users stay on a revision.
pub fn persistence(content: &OwnedRoute) -> Option<Value> {
    let sessions = content.sessions.as_ref()?;
    let mut persistence = json!({"sessionName": sessions.cookie, "type": "Cookie"});
    if let Some(age) = &sessions.max_age {
        persistence["absoluteTimeout"] = json!(age);
        persistence["cookieConfig"] = json!({"lifetimeType": "Permanent"});
    }
    Some(persistence)
}

/// The backends of the revisions' own Services.
struct Backends<'a> {
    target: &'a RouteTarget,
    names_revisions: bool,
}

impl Backends<'_> {
    fn plain(&self, revision: &Revision) -> Result<Value, WriteError> {
        let port = self
            .target
            .ports
            .get(revision)
            .ok_or_else(|| WriteError::Unready {
                reason: "RevisionGone",
                message: format!(
                    "the serving port of revision {revision} is not known: its ReplicaSet is gone"
                ),
            })?;
        Ok(json!({"name": self.target.service_of(revision), "port": port}))
    }

    /// What all users get. Those that are there keep their order, a new one comes last: a proxy that has a cluster for
    /// each place would else send stable's requests to the canary while it takes the change.
    fn shares(&self, weights: &Weights, written: &[BackendRef]) -> Result<Vec<Value>, WriteError> {
        let wanted: Vec<(&Revision, i32)> = weights
            .iter()
            .filter_map(|(backend, weight)| match backend {
                Backend::Revision(revision) => Some((revision, i32::from(*weight))),
                Backend::Slot(_) => None,
            })
            .collect();
        if !self.has_filters() {
            let place = |revision| {
                let service = self.target.service_of(revision);
                written.iter().position(|backend| backend.name == service)
            };
            let mut shares = Vec::new();
            for (revision, weight) in wanted {
                shares.push((
                    place(revision).unwrap_or(usize::MAX),
                    self.weighted(revision, weight)?,
                ));
            }
            shares.sort_by_key(|(place, _)| *place);
            return Ok(shares.into_iter().map(|(_, backend)| backend).collect());
        }
        let names: Vec<(String, i32)> = wanted
            .iter()
            .map(|(revision, weight)| (self.target.service_of(revision), *weight))
            .collect();
        let places = places::divide(&names, written);
        places
            .into_iter()
            .map(|(index, weight)| self.weighted(wanted[index].0, weight))
            .collect()
    }

    /// Each backend sets headers of its own, so that proxies have a cluster for each place.
    fn has_filters(&self) -> bool {
        self.names_revisions || self.target.mark.is_some()
    }

    fn weighted(&self, revision: &Revision, weight: i32) -> Result<Value, WriteError> {
        let mut backend = self.plain(revision)?;
        backend["weight"] = json!(weight);
        let mut headers = Vec::new();
        if self.names_revisions {
            headers.push(json!({"name": REVISION_HEADER, "value": revision.to_string()}));
        }
        if let Some(mark) = &self.target.mark {
            headers.push(json!({"name": mark.header, "value": mark.value(revision)}));
        }
        if !headers.is_empty() {
            backend["filters"] = json!([{
                "type": "RequestHeaderModifier",
                "requestHeaderModifier": {"set": headers},
            }]);
        }
        Ok(backend)
    }
}

fn preview_rules(
    backends: &Backends<'_>,
    preview: &Preview,
    shares: &[Value],
) -> Result<Vec<Value>, WriteError> {
    let mut rules = Vec::new();
    // That of copies first, for users go by it: rules of testers come and go behind it.
    if let Some(mirror) = &preview.mirror {
        let methods = mirror.methods.iter();
        let methods: Vec<Value> = methods.map(|method| json!({"method": method})).collect();
        let copies = json!({"backendRef": backends.plain(&preview.revision)?, "percent": mirror.percent});
        rules.push(json!({
            "matches": methods,
            "filters": [{"type": "RequestMirror", "requestMirror": copies}],
            "backendRefs": shares,
        }));
    }
    let kept = preview.kept.iter().map(|kept| (&kept.revision, &kept.headers));
    let testers = preview.headers.iter().map(|matches| (&preview.revision, matches));
    for (revision, matches) in testers.chain(kept) {
        let headers: Vec<Value> = matches.iter().map(header).collect();
        let mut specific = vec![json!({"headers": headers})];
        // A rule that names a method wins over one that names headers only.
        let methods = preview.mirror.iter().flat_map(|mirror| &mirror.methods);
        specific.extend(methods.map(|method| json!({"method": method, "headers": headers})));
        rules.push(json!({
            "matches": specific,
            "backendRefs": [backends.weighted(revision, 1)?],
        }));
    }
    Ok(rules)
}

fn header(matched: &HeaderMatch) -> Value {
    let (kind, value) = match &matched.value {
        HeaderValue::Exact(value) => ("Exact", value),
        HeaderValue::Regex(value) => ("RegularExpression", value),
    };
    json!({"type": kind, "name": matched.header, "value": value})
}

/// The weights of our revisions, as they are written in the rule for all users.
pub fn weights(service: &str, route: &HttpRoute) -> BTreeMap<Backend, i32> {
    let backends = route.spec.rules.first().map(|r| r.backend_refs.as_slice());
    backends
        .unwrap_or_default()
        .iter()
        .filter_map(|b| Some((revision_of(service, &b.name)?, b.weight.unwrap_or(1))))
        .fold(BTreeMap::new(), |mut weights, (revision, weight)| {
            // One may have several places.
            *weights.entry(Backend::Revision(revision)).or_default() += weight;
            weights
        })
}

/// What the other rules send to a revision; rules that Molt would not write are left out, so that the route is written
/// anew.
pub fn preview(service: &str, route: &HttpRoute) -> Option<Preview> {
    let mut preview: Option<Preview> = None;
    for rule in route.spec.rules.iter().skip(1) {
        let Some((revision, headers, mirror)) = read(service, rule) else {
            continue;
        };
        let known = preview.get_or_insert_with(|| Preview {
            revision: revision.clone(),
            headers: Vec::new(),
            mirror: None,
            kept: None,
        });
        if known.revision == revision {
            known.headers.extend(headers);
            known.mirror = mirror.or(known.mirror.take());
        } else if let Some(headers) = headers {
            known.kept = Some(Kept { revision, headers });
        }
    }
    preview
}

fn read(service: &str, rule: &Rule) -> Option<(Revision, Option<Vec<HeaderMatch>>, Option<Mirror>)> {
    if rule.matches.iter().any(is_never) {
        return None;
    }
    if let [filter] = rule.filters.as_slice() {
        let copies = &filter["requestMirror"];
        let revision = revision_of(service, copies["backendRef"]["name"].as_str()?)?;
        let methods = rule
            .matches
            .iter()
            .map(|m| m["method"].as_str().map(str::to_owned));
        let mirror = Mirror {
            // Left out it means all of them.
            percent: u8::try_from(copies["percent"].as_u64().unwrap_or(100)).ok()?,
            methods: methods.collect::<Option<_>>()?,
        };
        return Some((revision, None, Some(mirror)));
    }
    let matched = rule.matches.first()?;
    let [backend] = rule.backend_refs.as_slice() else {
        return None;
    };
    let headers = matched["headers"].as_array()?.iter().map(|header| {
        let value = header["value"].as_str()?.to_owned();
        Some(HeaderMatch {
            header: header["name"].as_str()?.to_owned(),
            value: match header["type"].as_str() {
                Some("RegularExpression") => HeaderValue::Regex(value),
                _ => HeaderValue::Exact(value),
            },
        })
    });
    let headers = headers.collect::<Option<Vec<_>>>()?;
    Some((revision_of(service, &backend.name)?, Some(headers), None))
}

fn revision_of(service: &str, name: &str) -> Option<Revision> {
    Some(Revision::from(name.strip_prefix(service)?.strip_prefix('-')?))
}
