//! Telling people and other systems what becomes of rollouts, as NotificationPolicies ask for it.
//!
//! | step | module | IO |
//! |---|---|---|
//! | what there is to tell of a status | [`notice`] | none |
//! | who is to be told, and how | [`policy`], [`template`] | none |
//! | whether, by what was told and how often | [`ledger`] | none |
//! | the words, for each kind of sink | [`render`] | none |
//! | hand over | [`outbox`] | none; a bounded queue, nobody waits |
//! | deliver, try again, note it in the policy's status | [`delivery`], [`books`], [`desk`], [`line`](mod@line) | the API server; what `outside` reaches |
//! | Secrets and HTTP | [`outside`] | the API server; the network |
//!
//! What is told is derived from the persisted status of a service, so whoever leads next finds the same; what was told is
//! kept in the policy's status. See `docs/adr/0036-notifications-are-derived-from-the-status.md`.

pub mod books;
pub mod delivery;
pub mod desk;
pub mod ledger;
pub mod line;
pub mod notice;
pub mod outbox;
pub mod outside;
pub mod policy;
pub mod render;
pub mod template;
#[cfg(test)]
mod tests;

use std::time::Duration;

/// How long a notification is tried, and how long it is worth telling after a restart of the operator.
pub const WORTH: Duration = Duration::from_mins(10);
