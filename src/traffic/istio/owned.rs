//! The VirtualService that Molt owns: how it is written, and what of it is read back.
//!
//! The first rule that matches counts, so the one for all users is the last. Each revision has a Service, and with it
//! clusters of its own in every proxy: there are neither subsets nor a `DestinationRule`.

use std::collections::BTreeMap;

use kube::ResourceExt;
use molt_core::observed::{Backend, Kept, Preview, Weights};
use molt_core::plan::Revision;
use molt_core::step::{HeaderMatch, HeaderValue, Mirror};
use serde_json::{Map, Value, json};

use super::types::{API_VERSION, Destination, Rule, VIRTUAL_SERVICE, VirtualService};
use crate::k8s::failure::WriteError;
use crate::k8s::{Key, labels};
use crate::traffic::{OwnedVirtualService, RouteTarget};

/// The whole object. Without content from the spec it keeps what the live one says.
pub fn body(
    target: &RouteTarget,
    content: Option<&OwnedVirtualService>,
    live: Option<&VirtualService>,
    weights: &Weights,
    preview: Option<&Preview>,
) -> Result<Value, WriteError> {
    let Key { namespace, name } = &target.service;
    let (hosts, gateways) = match (content, live) {
        (Some(content), _) => (&content.hosts, &content.gateways),
        (None, Some(live)) => (&live.spec.hosts, &live.spec.gateways),
        (None, None) => {
            return Err(WriteError::Unready {
                reason: "RouteUnknown",
                message: "the route can't be created while spec.traffic can't be used".to_owned(),
            });
        }
    };
    let mut shares = Vec::new();
    for (backend, weight) in weights {
        if let Backend::Revision(revision) = backend {
            shares.push(share(target, revision, i32::from(*weight))?);
        }
    }
    let mut rules = Vec::new();
    if let Some(preview) = preview {
        let canary = destination(target, &preview.revision)?;
        for (index, matched) in preview.headers.iter().enumerate() {
            rules.push(json!({
                "name": format!("testers-{index}"),
                "match": [{"headers": headers(matched)}],
                "route": [share(target, &preview.revision, 100)?],
            }));
        }
        if let Some(kept) = &preview.kept {
            rules.push(json!({
                "name": "kept",
                "match": [{"headers": headers(&kept.headers)}],
                "route": [share(target, &kept.revision, 100)?],
            }));
        }
        if let Some(mirror) = &preview.mirror {
            let methods = mirror.methods.iter();
            let methods: Vec<Value> = methods
                .map(|method| json!({"method": {"exact": method}}))
                .collect();
            rules.push(json!({
                "name": "copies",
                "match": methods,
                "mirror": canary,
                "mirrorPercentage": {"value": mirror.percent},
                "route": shares,
            }));
        }
    }
    rules.push(json!({"name": "users", "route": shares}));
    let mut body = json!({
        "apiVersion": API_VERSION,
        "kind": VIRTUAL_SERVICE.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {labels::MANAGED_BY: labels::MOLT, labels::SERVICE: name, labels::APP_NAME: name},
            "ownerReferences": [target.owner],
        },
        "spec": {"hosts": hosts, "http": rules},
    });
    if !gateways.is_empty() {
        body["spec"]["gateways"] = json!(gateways);
    }
    if let Some(version) = live.and_then(ResourceExt::resource_version) {
        body["metadata"]["resourceVersion"] = json!(version);
    }
    Ok(body)
}

fn share(target: &RouteTarget, revision: &Revision, weight: i32) -> Result<Value, WriteError> {
    let mut share = json!({"destination": destination(target, revision)?, "weight": weight});
    if let Some(mark) = &target.mark {
        share["headers"] = json!({"request": {"set": {&mark.header: mark.value(revision)}}});
    }
    Ok(share)
}

/// A short name stands for the Service of the VirtualService's own namespace, whatever the cluster's domain.
fn destination(target: &RouteTarget, revision: &Revision) -> Result<Value, WriteError> {
    let port = target.ports.get(revision).ok_or_else(|| WriteError::Unready {
        reason: "RevisionGone",
        message: format!("the serving port of revision {revision} is not known: its ReplicaSet is gone"),
    })?;
    Ok(json!({"host": target.service_of(revision), "port": {"number": port}}))
}

fn headers(matched: &[HeaderMatch]) -> Map<String, Value> {
    let one = |header: &HeaderMatch| {
        let value = match &header.value {
            HeaderValue::Exact(value) => json!({"exact": value}),
            HeaderValue::Regex(value) => json!({"regex": value}),
        };
        (header.header.clone(), value)
    };
    matched.iter().map(one).collect()
}

/// The weights of our revisions, as they are written in the rule for all users.
pub fn weights(service: &str, live: &VirtualService) -> BTreeMap<Backend, i32> {
    let users = live.spec.http.last().map(|rule| rule.route.as_slice());
    let alone = users.is_some_and(|users| users.len() == 1);
    users
        .unwrap_or_default()
        .iter()
        .filter_map(|share| {
            let revision = revision_of(service, live, &share.destination)?;
            Some((
                Backend::Revision(revision),
                share.weight.unwrap_or(if alone { 100 } else { 0 }),
            ))
        })
        .collect()
}

/// What the other rules send to a revision; rules that Molt would not write are left out, so that it is written anew.
pub fn preview(service: &str, live: &VirtualService) -> Option<Preview> {
    let mut preview: Option<Preview> = None;
    let (_, others) = live.spec.http.split_last()?;
    for rule in others {
        let Some((revision, headers, mirror)) = read(service, live, rule) else {
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

type Read = (Revision, Option<Vec<HeaderMatch>>, Option<Mirror>);

fn read(service: &str, live: &VirtualService, rule: &Rule) -> Option<Read> {
    if let Some(copies) = &rule.mirror {
        let revision = revision_of(service, live, copies)?;
        let methods = rule
            .matches
            .iter()
            .map(|m| m["method"]["exact"].as_str().map(str::to_owned));
        // Left out it means all of them.
        let percent = rule.mirror_percentage.as_ref().map_or(100.0, |p| p.value);
        let mirror = Mirror {
            percent: (0..=100u8).find(|p| (f64::from(*p) - percent).abs() < f64::EPSILON)?,
            methods: methods.collect::<Option<_>>()?,
        };
        return Some((revision, None, Some(mirror)));
    }
    let ([matched], [share]) = (rule.matches.as_slice(), rule.route.as_slice()) else {
        return None;
    };
    let headers = matched["headers"].as_object()?.iter().map(|(header, value)| {
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        Some(HeaderMatch {
            header: header.clone(),
            value: match text("exact") {
                Some(exact) => HeaderValue::Exact(exact),
                None => HeaderValue::Regex(text("regex")?),
            },
        })
    });
    let headers = headers.collect::<Option<Vec<_>>>()?;
    Some((
        revision_of(service, live, &share.destination)?,
        Some(headers),
        None,
    ))
}

fn revision_of(service: &str, live: &VirtualService, destination: &Destination) -> Option<Revision> {
    let namespace = live.metadata.namespace.as_deref().unwrap_or_default();
    let name = destination.service(namespace)?;
    Some(Revision::from(name.strip_prefix(service)?.strip_prefix('-')?))
}
