//! Series that the proxies of a route count: a gateway's, or those beside the callers.
//!
//! They tell revisions apart by the backend of the route, not by the pod that they are of, which is the proxy's.
//! So they know what was sent to a canary that never answers, and nobody comes past them.

use super::presets;
use super::selector::{MatchOp, Matcher};
use crate::api::v1alpha1::Preset;
use crate::traffic::BackendPlace;

/// The route, and where it names the revisions under comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteBackends {
    /// The HTTPRoute's name.
    pub route: String,
    /// The canary's places, one for each rule; none while it is not in the route.
    pub canary: Vec<BackendPlace>,
    /// Stable's.
    pub stable: Vec<BackendPlace>,
}

/// How series name a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// Envoy Gateway's clusters, by the place of the backend in the route:
    /// `httproute/<namespace>/<route>/rule/<n>/backend/<m>`. A rule whose backends need none of their own has
    /// one cluster, without the last part.
    Cluster,
    /// The backend's Service and its namespace, in these labels.
    Service(&'static str, &'static str),
}

impl Naming {
    /// How a preset's series name backends; `None` for one whose series are of the revisions' own pods.
    pub fn of(preset: Preset) -> Option<Self> {
        match preset {
            Preset::EnvoyGateway => Some(Self::Cluster),
            Preset::IstioGateway => Some(Self::Service(
                "destination_service_name",
                "destination_service_namespace",
            )),
            Preset::LinkerdOutbound => Some(Self::Service("backend_name", "backend_namespace")),
            Preset::FastapiInstrumentator
            | Preset::StarletteExporter
            | Preset::DjangoPrometheus
            | Preset::FlaskExporter
            | Preset::Otel
            | Preset::OtelPythonDefault
            | Preset::Bentoml
            | Preset::Istio
            | Preset::Linkerd
            | Preset::CeleryExporter
            | Preset::RqExporter
            | Preset::Arq => None,
        }
    }

    /// The label that tells backends apart.
    pub fn label(self) -> &'static str {
        match self {
            Self::Cluster => "envoy_cluster_name",
            Self::Service(name, _) => name,
        }
    }

    /// The values of the label that are of these places.
    pub fn values(self, namespace: &str, route: &str, places: &[BackendPlace]) -> Vec<String> {
        let value = |place: &BackendPlace| match self {
            Self::Cluster => format!("{}/backend/{}", rule(namespace, route, place.rule), place.index),
            Self::Service(..) => place.service.clone(),
        };
        places.iter().map(value).collect()
    }

    /// The matchers of all series of these backends, and of what stands for all backends of a rule.
    pub fn matchers(self, namespace: &str, backends: &RouteBackends) -> Vec<Matcher> {
        let places = [backends.stable.as_slice(), &backends.canary].concat();
        let mut values = self.values(namespace, &backends.route, &places);
        if self == Self::Cluster {
            values.extend(
                places
                    .iter()
                    .map(|place| rule(namespace, &backends.route, place.rule)),
            );
        }
        values.sort();
        values.dedup();
        let values: Vec<String> = values.iter().map(|value| presets::escape_regex(value)).collect();
        self.matching(namespace, &values.join("|"))
    }

    /// The matchers of all series that any revision of the service had, and a pattern of the label whose first
    /// group names the revision; none where the label doesn't tell it.
    pub fn of_service(self, namespace: &str, service: &str, route: &str) -> (Vec<Matcher>, Option<String>) {
        match self {
            Self::Cluster => {
                let route = presets::escape_regex(route);
                let pattern = format!("httproute/{namespace}/{route}/rule/[0-9]+/backend/[0-9]+");
                (self.matching(namespace, &pattern), None)
            }
            Self::Service(..) => {
                let pattern = format!(
                    "{}-([0-9a-f]{{10}}|stable|canary)",
                    presets::escape_regex(service)
                );
                (self.matching(namespace, &pattern), Some(pattern))
            }
        }
    }

    fn matching(self, namespace: &str, pattern: &str) -> Vec<Matcher> {
        let mut matchers = vec![Matcher::new(self.label(), MatchOp::Regex, pattern)];
        if let Self::Service(_, label) = self {
            matchers.push(Matcher::new(label, MatchOp::Equal, namespace));
        }
        matchers
    }
}

fn rule(namespace: &str, route: &str, rule: usize) -> String {
    format!("httproute/{namespace}/{route}/rule/{rule}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(service: &str, rule: usize, index: usize) -> BackendPlace {
        BackendPlace {
            service: service.to_owned(),
            rule,
            index,
        }
    }

    #[test]
    fn clusters_are_named_by_place_and_others_by_service() {
        let backends = RouteBackends {
            route: "checkout".to_owned(),
            canary: vec![place("checkout-canary", 0, 1), place("checkout-canary", 2, 0)],
            stable: vec![place("checkout-stable", 0, 0), place("checkout-stable", 2, 1)],
        };
        let cluster = Naming::of(Preset::EnvoyGateway).unwrap();
        assert_eq!(
            cluster.values("shop", "checkout", &backends.canary),
            [
                "httproute/shop/checkout/rule/0/backend/1",
                "httproute/shop/checkout/rule/2/backend/0"
            ]
        );
        let matchers = cluster.matchers("shop", &backends);
        assert_eq!(matchers.len(), 1, "the proxies live in a namespace of their own");
        assert_eq!(
            matchers[0].value,
            "httproute/shop/checkout/rule/0|httproute/shop/checkout/rule/0/backend/0|\
             httproute/shop/checkout/rule/0/backend/1|httproute/shop/checkout/rule/2|\
             httproute/shop/checkout/rule/2/backend/0|httproute/shop/checkout/rule/2/backend/1"
        );
        let service = Naming::of(Preset::LinkerdOutbound).unwrap();
        let texts = |matchers: Vec<Matcher>| matchers.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            texts(service.matchers("shop", &backends)),
            [
                r#"backend_name=~"checkout-canary|checkout-stable""#,
                r#"backend_namespace="shop""#
            ]
        );
        let (all, revision) = Naming::of(Preset::IstioGateway)
            .unwrap()
            .of_service("shop", "checkout", "checkout");
        assert_eq!(
            texts(all)[0],
            r#"destination_service_name=~"checkout-([0-9a-f]{10}|stable|canary)""#
        );
        assert!(revision.is_some());
        assert_eq!(cluster.of_service("shop", "checkout", "all").1, None);
        assert_eq!(Naming::of(Preset::Istio), None);
    }
}
