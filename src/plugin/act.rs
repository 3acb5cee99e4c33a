//! `kubectl molt abort`, `promote` and what else a person does: an action object, and what becomes of it.

use std::process::ExitCode;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};

use super::connect::Cluster;
use super::{ActionArgs, Failure, route, text};
use crate::api::v1alpha1::{
    ActionKind, ActionState, PythonService, RolloutAction, RolloutActionSpec, RolloutActionStatus,
};

/// How long an operator may take to acknowledge.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What a person wants done, as the command line and the dashboard have it.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// What.
    pub action: ActionKind,
    /// The revision to go back to, or the gate that is answered.
    pub object: Option<String>,
    /// Why; may be empty.
    pub reason: String,
}

impl Wanted {
    /// The action object for a service as it is now, in a user's name.
    pub(crate) fn on(&self, service: &PythonService, requested_by: String) -> Result<RolloutAction, Failure> {
        let (name, action) = (service.name_any(), self.action);
        let (revision, attempt) = meant(action, service).ok_or_else(|| {
            let message = service.status.as_ref().and_then(|s| s.message.clone());
            let message = message.unwrap_or_else(|| "it has no status yet".to_owned());
            Failure::NothingChanged(format!("{} at {name}: {message}", nothing_meant(action)))
        })?;
        let (to_revision, gate) = match action {
            ActionKind::Approve | ActionKind::Reject => (None, self.object.clone()),
            _ => (self.object.clone(), None),
        };
        Ok(RolloutAction {
            metadata: ObjectMeta {
                generate_name: Some(format!("{name}-")),
                ..ObjectMeta::default()
            },
            spec: RolloutActionSpec {
                service: name,
                revision: Some(revision),
                attempt,
                step: awaited(action, service),
                to_revision,
                gate,
                action,
                reason: Some(self.reason.clone()).filter(|reason| !reason.is_empty()),
                requested_by,
            },
            status: None,
        })
    }
}

/// The revision and the attempt that an action is about.
pub(crate) fn meant(action: ActionKind, service: &PythonService) -> Option<(String, Option<i32>)> {
    match action {
        ActionKind::Retry => taken_back(service)
            .or_else(|| last(service))
            .or_else(|| refused(service)),
        ActionKind::Override => current(service).or_else(|| waiting(service)),
        ActionKind::Undo | ActionKind::Restart | ActionKind::Release => stable(service),
        ActionKind::Approve | ActionKind::Reject => contracting(service),
        _ => current(service),
    }
}

/// The step whose wait a promotion is to end: one that is sent twice ends no other.
pub(crate) fn awaited(action: ActionKind, service: &PythonService) -> Option<i32> {
    let step = service.status.as_ref()?.step.as_ref()?;
    step.awaited.filter(|_| action == ActionKind::Promote)
}

fn nothing_meant(action: ActionKind) -> &'static str {
    match action {
        ActionKind::Retry => "no attempt has ended",
        ActionKind::Undo | ActionKind::Restart | ActionKind::Release => "no revision is stable",
        ActionKind::Approve | ActionKind::Reject => "nothing waits for an approval",
        _ => "no attempt is under way",
    }
}

/// Waits for what becomes of an action that was created; `None` if nobody acknowledges it in time.
pub(crate) async fn answer(
    actions: Api<RolloutAction>,
    id: &str,
) -> Result<Option<RolloutActionStatus>, Failure> {
    let handled = |object: Option<&RolloutAction>| {
        object.is_none_or(|o| o.status.as_ref().is_some_and(|status| status.state.is_some()))
    };
    let Ok(answer) = tokio::time::timeout(PATIENCE, await_condition(actions, id, handled)).await else {
        return Ok(None);
    };
    let answer = answer.map_err(|error| Failure::Other(super::failure::chain(&error)))?;
    Ok(Some(answer.and_then(|object| object.status).unwrap_or_default()))
}

/// `object` is the revision to go back to, or the gate that is answered.
pub(super) async fn run(
    cluster: &Cluster,
    action: ActionKind,
    args: &ActionArgs,
    object: Option<String>,
    direct: bool,
) -> Result<ExitCode, Failure> {
    let service = cluster.service(&args.name).await?;
    let wanted = Wanted {
        action,
        object,
        reason: args.reason.clone(),
    };
    let wish = wanted.on(&service, whoami(&cluster.client).await?)?;
    let actions: Api<RolloutAction> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let wish = actions.create(&PostParams::default(), &wish).await?;
    let id = wish.name_any();
    let verb = match action {
        ActionKind::PromoteFull => "full promotion".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    let Some(status) = answer(actions, &id).await? else {
        return unacknowledged(cluster, &service, action, &id, direct).await;
    };
    let message = status.message.unwrap_or_default();
    match status.state {
        Some(ActionState::Applied) => {
            let of = wish
                .spec
                .attempt
                .map_or_else(String::new, |attempt| format!(" of attempt {attempt}"));
            let revision = wish.spec.revision.unwrap_or_default();
            text::print(&format!("{verb}{of} at {revision}: {message}\n"));
            Ok(ExitCode::SUCCESS)
        }
        Some(ActionState::Expired) => Err(Failure::NothingChanged(format!("the {verb} expired: {message}"))),
        None => Err(Failure::Other(format!(
            "the action {id} was deleted before anybody handled it"
        ))),
    }
}

/// The attempt under way.
fn current(service: &PythonService) -> Option<(String, Option<i32>)> {
    let status = service.status.as_ref()?;
    if let Some(attempt) = status.state.as_ref().and_then(|state| state.attempt.as_ref()) {
        return Some((attempt.revision.0.clone(), i32::try_from(attempt.number).ok()));
    }
    let canary = status.canary.as_ref()?;
    Some((canary.revision.clone(), Some(canary.attempt?)))
}

/// The revision whose attempt waits for the group.
fn waiting(service: &PythonService) -> Option<(String, Option<i32>)> {
    let group = service.status.as_ref()?.state.as_ref()?.group.as_ref()?;
    Some((group.waits.as_ref()?.revision.0.clone(), None))
}

/// The revision that was taken back after it had been promoted, with the group or by the watch over it.
fn taken_back(service: &PythonService) -> Option<(String, Option<i32>)> {
    let pin = service.status.as_ref()?.state.as_ref()?.pinned.as_ref()?;
    let by_itself = pin.group.is_some() || pin.why.is_some();
    by_itself.then(|| (pin.instead_of.0.clone(), None))
}

/// The attempt that ended last.
fn last(service: &PythonService) -> Option<(String, Option<i32>)> {
    let last = service.status.as_ref()?.state.as_ref()?.last.as_ref()?;
    Some((last.revision.0.clone(), i32::try_from(last.number).ok()))
}

/// The revision that is refused, of which nothing else is known any more.
fn refused(service: &PythonService) -> Option<(String, Option<i32>)> {
    let refused = service.status.as_ref()?.state.as_ref()?.refused.as_ref()?;
    Some((refused.0.clone(), None))
}

/// The attempt whose contracting migration waits for a word.
pub(crate) fn contracting(service: &PythonService) -> Option<(String, Option<i32>)> {
    let database = service.status.as_ref()?.state.as_ref()?.database.as_ref()?;
    let work = database.work.as_ref().filter(|work| work.needs_approval)?;
    Some((work.revision.0.clone(), i32::try_from(work.attempt).ok()))
}

/// The revision that users are served by; no attempt is meant.
fn stable(service: &PythonService) -> Option<(String, Option<i32>)> {
    let stable = service.status.as_ref()?.stable.as_ref()?;
    Some((stable.revision.clone(), None))
}

/// Who the API server takes the user for.
pub(super) async fn whoami(client: &Client) -> Result<String, Failure> {
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = reviews
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await?;
    let user = review
        .status
        .and_then(|status| status.user_info)
        .and_then(|user| user.username);
    user.ok_or_else(|| Failure::Other("the API server does not say who you are".to_owned()))
}

/// Nobody has answered: what can be done without an operator is done if it was asked for, and told otherwise.
async fn unacknowledged(
    cluster: &Cluster,
    service: &PythonService,
    action: ActionKind,
    id: &str,
    direct: bool,
) -> Result<ExitCode, Failure> {
    let seconds = PATIENCE.as_secs();
    let mut text = format!(
        "nobody acknowledged {id} within {seconds} s: is the operator running? (kubectl get pods -A -l app.kubernetes.io/name=molt)\nthe action stays; an operator that comes back heeds it first"
    );
    if action == ActionKind::Abort {
        match route::TakeAway::find(cluster, service).await {
            Ok(away) if direct => {
                text::print(&format!("{text}\n{}\n", away.apply().await?));
                return Ok(ExitCode::SUCCESS);
            }
            Ok(away) => text = format!("{text}\n\n{}", away.advice()),
            Err(why) => text = format!("{text}\n\n{why}"),
        }
    }
    Err(Failure::Unacknowledged(text))
}
