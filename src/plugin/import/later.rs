//! What is noted and not carried over yet: the one place to change when it is.
//!
//! Each function gets what another tool says, and for now only notes it. To carry one over, push the step or set the
//! field that it names.

use serde_json::Value;

use super::draft::{Draft, Fate};
use super::input::Fields;

/// `setHeaderRoute`: requests with a header go to the canary.
pub(super) fn header_route(draft: &mut Draft, field: &str) {
    let why =
        "users are chosen by weight alone: write a step setHeaderRoute, which needs a route that Molt owns";
    draft.note(Fate::NotCarriedOver, field, why);
}

/// `setMirror`.
pub(super) fn mirror(draft: &mut Draft, field: &str) {
    let why = "requests are not mirrored: write a step setMirror, which needs a route that Molt owns";
    draft.note(Fate::NotCarriedOver, field, why);
}

/// Blue/green: all users at once, after a preview.
pub(super) fn blue_green(draft: &mut Draft, field: &str) {
    let why = "approximated by the default canary of 5, 10, 25 and 50 %, whose bake keeps both versions at full strength at 100 %; where two versions must not serve side by side, write strategy.blueGreen instead";
    draft.note(Fate::Approximated, field, why);
}

/// `traffic.gatewayAPI.sessionAffinity`.
pub(super) fn session_affinity(draft: &mut Draft, field: &str) {
    draft.note(
        Fate::NotInThisVersion,
        field,
        "sessionAffinity: a user may meet both versions during a rollout",
    );
}

/// A header, a cookie or a condition of a request that Flagger's A/B tests match.
pub(super) fn header_matches(draft: &mut Draft, field: &str, matches: &[Value]) {
    if !matches.is_empty() {
        header_route(draft, field);
    }
}

/// Fields of Argo's blue/green beside its services.
pub(super) fn blue_green_fields(draft: &mut Draft, fields: &Fields) {
    for field in fields.rest() {
        draft.note(Fate::NotCarriedOver, field, "belongs to blueGreen");
    }
}
