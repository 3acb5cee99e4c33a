//! What somebody may see: asked of the API server, and remembered for a little while.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};
use serde::Serialize;
use tokio::time::Instant;

use super::fleet::Scope;
use super::refusal::Refusal;

/// How long an answer counts: who loses a right loses the sight within this time.
pub const REMEMBERED: Duration = Duration::from_mins(1);
/// Questions that are asked at the same time.
const AT_ONCE: usize = 8;

/// Who somebody is, as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// The name.
    pub name: String,
    /// The groups.
    pub groups: Vec<String>,
}

/// Whether a resource may be listed, in a namespace or in all.
type Question = (&'static str, Option<String>);

/// The answers for one identity.
#[derive(Debug)]
pub struct Access {
    user: Mutex<Option<(User, Instant)>>,
    answers: Mutex<HashMap<Question, (bool, Instant)>>,
    sees_all: bool,
}

impl Access {
    /// `sees_all`: the identity is the one that the services are watched by, so what is watched may be seen.
    pub fn new(sees_all: bool) -> Self {
        Self {
            user: Mutex::default(),
            answers: Mutex::default(),
            sees_all,
        }
    }

    /// Who it is. An identity that the API server does not accept is refused here.
    pub async fn user(&self, client: &Client) -> Result<User, Refusal> {
        if let Some((user, at)) = &*self.user.lock().unwrap_or_else(PoisonError::into_inner)
            && at.elapsed() < REMEMBERED
        {
            return Ok(user.clone());
        }
        let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
        let review = reviews
            .create(&PostParams::default(), &SelfSubjectReview::default())
            .await?;
        let info = review
            .status
            .and_then(|status| status.user_info)
            .unwrap_or_default();
        let name = info
            .username
            .ok_or_else(|| Refusal::Upstream("the API server does not say who you are".to_owned()))?;
        let user = User {
            name,
            groups: info.groups.unwrap_or_default(),
        };
        *self.user.lock().unwrap_or_else(PoisonError::into_inner) = Some((user.clone(), Instant::now()));
        Ok(user)
    }

    /// The namespaces, of these, whose services may be seen.
    pub async fn scope(&self, client: &Client, namespaces: BTreeSet<String>) -> Result<Scope, Refusal> {
        self.scope_of(client, "pythonservices", namespaces).await
    }

    /// The namespaces, of these, whose records may be seen.
    pub async fn scope_of_records(
        &self,
        client: &Client,
        namespaces: BTreeSet<String>,
    ) -> Result<Scope, Refusal> {
        self.scope_of(client, "rolloutrecords", namespaces).await
    }

    async fn scope_of(
        &self,
        client: &Client,
        resource: &'static str,
        namespaces: BTreeSet<String>,
    ) -> Result<Scope, Refusal> {
        if self.sees_all || self.may_list(client, resource, None).await? {
            return Ok(Scope::All);
        }
        let asked = stream::iter(namespaces).map(|namespace| async move {
            let may = self.may_list(client, resource, Some(namespace.clone())).await?;
            Ok::<_, Refusal>(may.then_some(namespace))
        });
        let allowed: Vec<Option<String>> = asked.buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(Scope::Only(allowed.into_iter().flatten().collect()))
    }

    async fn may_list(
        &self,
        client: &Client,
        resource: &'static str,
        namespace: Option<String>,
    ) -> Result<bool, Refusal> {
        let question = (resource, namespace);
        {
            let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((answer, at)) = answers.get(&question)
                && at.elapsed() < REMEMBERED
            {
                return Ok(*answer);
            }
        }
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some("molt.dev".to_owned()),
                    resource: Some(resource.to_owned()),
                    verb: Some("list".to_owned()),
                    namespace: question.1.clone(),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
        let review = reviews.create(&PostParams::default(), &review).await?;
        let allowed = review.status.is_some_and(|status| status.allowed);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(question, (allowed, Instant::now()));
        Ok(allowed)
    }
}
