//! What makes a new pod warm.

use jiff::SignedDuration;

use super::FieldError;
use super::fields::{duration, in_range};
use crate::api::v1alpha1::{Protocol, PythonServiceSpec};
use crate::controller::warm_up::WarmUp;

/// Requests that a pod can be sent.
const MOST_REQUESTS: i32 = 1000;

/// The warm-up that a spec asks for.
pub(super) fn resolve(spec: &PythonServiceSpec, errors: &mut Vec<FieldError>) -> Option<WarmUp> {
    let written = spec.runtime.warm_up.as_ref()?;
    let path = "spec.runtime.warmUp";
    if written.duration.is_none() && written.requests.is_none() {
        errors.push(FieldError::new(
            path,
            "says nothing: set duration, requests or both",
        ));
    }
    if written.path.is_some() && written.requests.is_none() {
        let message = "is that of requests, of which there are none: set warmUp.requests, or leave it out";
        errors.push(FieldError::new(format!("{path}.path"), message));
    }
    let requests = written.requests.map_or(0, |n| {
        in_range(errors, &format!("{path}.requests"), Some(n), 1..=MOST_REQUESTS, 0)
    });
    if requests > 0 && spec.protocol == Some(Protocol::Grpc) {
        let message = "can't be sent to a service of protocol GRPC: write a duration";
        errors.push(FieldError::new(format!("{path}.requests"), message));
    }
    let wanted = written.path.as_deref().unwrap_or("/");
    if !wanted.starts_with('/') || wanted.contains([' ', '#']) {
        let message = format!("{wanted:?} is no path: begin it with /, without blanks and #");
        errors.push(FieldError::new(format!("{path}.path"), message));
    }
    let zero = SignedDuration::ZERO;
    Some(WarmUp {
        duration: duration(
            errors,
            &format!("{path}.duration"),
            written.duration.as_ref(),
            zero,
            zero,
        ),
        requests,
        path: wanted.to_owned(),
        host: host(spec),
        port: spec.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(0),
    })
}

/// A name that users come by: frameworks that check it know these, and no addresses of pods.
fn host(spec: &PythonServiceSpec) -> Option<String> {
    let traffic = spec.traffic.as_ref()?;
    let of_gateway = traffic
        .gateway_api
        .iter()
        .flat_map(|g| g.hostnames.iter().flatten());
    let of_istio = traffic.istio.iter().flat_map(|i| i.hosts.iter().flatten());
    of_gateway
        .chain(of_istio)
        .find(|name| !name.contains('*'))
        .cloned()
}
