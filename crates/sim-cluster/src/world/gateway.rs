//! The gateway: it takes over a route a while after it was written, and says so.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Event, ROUTES, World, condition, meta, path};

/// What the gateway serves by.
#[derive(Default)]
pub(super) struct Gateway {
    /// Backends and weights of each route in the form that was taken over last.
    taken: BTreeMap<String, Vec<(String, u64)>>,
}

/// The backends of a route with their weights.
pub(super) fn backends(route: &Value) -> Vec<(String, u64)> {
    let refs = route["spec"]["rules"][0]["backendRefs"].as_array();
    refs.into_iter()
        .flatten()
        .map(|b| {
            let name = b["name"].as_str().unwrap_or_default().to_owned();
            (name, b["weight"].as_u64().unwrap_or(1))
        })
        .collect()
}

impl World {
    pub(super) fn route_changed(&mut self, name: &str) {
        let mut wait = self.chance.between(30, 400);
        if self.struck.gateway_slow > self.now {
            wait += self.chance.between(4000, 25_000);
        }
        self.in_ms(wait, Event::Translate(name.to_owned()));
    }

    /// It is well again: it takes over what it has missed.
    pub(super) fn mend_gateway(&mut self) {
        self.queue
            .retain(|_, event| !matches!(event, Event::Translate(_)));
        let routes: Vec<String> = self
            .server
            .objects(ROUTES)
            .into_iter()
            .map(|route| meta(route, "name").to_owned())
            .collect();
        for route in routes {
            self.route_changed(&route);
        }
    }

    pub(super) fn route_gone(&mut self, name: &str) {
        self.catch_up_traffic();
        self.gateway.taken.remove(name);
    }

    /// The gateway takes over a route as it is now.
    pub(super) fn translate(&mut self, name: &str) {
        let deaf = self.struck.gateway_deaf;
        if deaf > self.now {
            return self.in_ms(deaf - self.now, Event::Translate(name.to_owned()));
        }
        let Some(route) = self.object(ROUTES, name).cloned() else {
            return;
        };
        let refuses = self.struck.gateway_refuses > self.now;
        if refuses {
            let wait = self.struck.gateway_refuses - self.now;
            self.in_ms(wait, Event::Translate(name.to_owned()));
        } else {
            self.catch_up_traffic();
            self.gateway.taken.insert(name.to_owned(), backends(&route));
            self.gateway_took(name);
        }
        let generation = &route["metadata"]["generation"];
        let reason = if refuses { "NotAllowed" } else { "Accepted" };
        let parent = json!({
            "parentRef": route["spec"]["parentRefs"][0], "controllerName": "example.com/gateway",
            "conditions": [
                condition("Accepted", !refuses, reason, generation, self.now),
                condition("ResolvedRefs", true, "ResolvedRefs", generation, self.now),
            ],
        });
        self.merge(
            &format!("{}/status", path(ROUTES, name)),
            json!({"status": {"parents": [parent]}}),
        );
    }

    fn gateway_took(&mut self, name: &str) {
        let shares = self.shares_of(name);
        let said: Vec<String> = shares.iter().map(|(r, s)| format!("{r}={s:.0}")).collect();
        self.say(format!("gateway takes over {name}: {}", said.join(" ")));
        self.note_shares();
    }

    /// What each backend of a route as it was taken over leads to, in percent of the traffic, by revision.
    pub(super) fn shares_of(&self, route: &str) -> BTreeMap<String, f64> {
        let mut shares = BTreeMap::new();
        let Some(backends) = self.gateway.taken.get(route) else {
            return shares;
        };
        let sum: u64 = backends.iter().map(|(_, weight)| weight).sum();
        for (service, weight) in backends {
            if let Some(revision) = self.revision_behind(service)
                && sum > 0
            {
                *shares.entry(revision).or_default() += *weight as f64 * 100.0 / sum as f64;
            }
        }
        shares
    }

    /// The share of the route's traffic that each revision has, in percent.
    pub(super) fn shares(&self) -> BTreeMap<String, f64> {
        self.shares_of(self.people.route())
    }

    /// The revision that a service selects.
    pub(super) fn revision_behind(&self, service: &str) -> Option<String> {
        let service = self.object(super::CORE_SERVICES, service)?;
        let revision = service["spec"]["selector"]["molt.dev/revision"].as_str()?;
        Some(revision.to_owned())
    }
}
