//! Which revision a spec asks for where the content of what its template names is part of the revision.
//!
//! A file is written, another one with it, and a template that needs both: what came within a few seconds is one
//! change. So the revision that is asked for is taken up only once it has been the same for [`SETTLES`]; a way
//! back to what is known does not wait.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::Revision;
use crate::state::{Stage, State};

/// How long the revision that is asked for must stay the same before it is taken up.
pub const SETTLES: SignedDuration = SignedDuration::from_secs(5);

/// Digests of what the template names, by kind and name: `configmap/app-env`.
pub type Content = BTreeMap<String, String>;

/// What is remembered of a spec whose template names something that counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigState {
    /// The revision that was taken up last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<Taken>,
    /// A revision that is asked for since a short time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settling: Option<Settling>,
}

/// A revision that was taken up, and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Taken {
    /// The revision.
    pub revision: Revision,
    /// The name of template, runtime and port without any content. Equal to `revision` where the pods refer to what
    /// the user named, and not to snapshots of it: then `content` only tells a later change.
    pub plain: Revision,
    /// What the template's references held.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub content: Content,
}

/// A revision that waits to be taken up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settling {
    /// The revision.
    pub revision: Revision,
    /// Since when it is the one that is asked for.
    pub since: Timestamp,
}

/// What a spec says, and what its references hold.
pub struct Written<'a> {
    /// The name of template, runtime and port without any content.
    pub plain: Revision,
    /// The digest of each reference whose content counts; `None` for what does not exist. What is followed is not
    /// among them.
    pub held: BTreeMap<String, Option<String>>,
    /// The template names something of which the content may count.
    pub names_any: bool,
    /// The name of a revision with this content; without any it is the plain one.
    pub name: &'a dyn Fn(&Revision, &Content) -> Revision,
    /// There is a ReplicaSet of the revision.
    pub exists: &'a dyn Fn(&Revision) -> bool,
    /// A copy of this content of a reference is still there.
    pub kept: &'a dyn Fn(&str, &str) -> bool,
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The revision that counts now.
    pub revision: Option<Revision>,
    /// It is that of the spec as it is written now, and can be created from it.
    pub current: bool,
    /// The content that its pods see as snapshots.
    pub content: Content,
    /// What to persist.
    pub config: Option<ConfigState>,
    /// When to look again if nothing changes.
    pub until: Option<Timestamp>,
}

/// Which revision a spec asks for.
///
/// References that don't exist change nothing: one that was there keeps its last content in the name, as long as
/// the pods can still have it, and one that never was has none.
pub fn ask(state: &State, written: &Written, now: Timestamp) -> Asked {
    let config = state.config.as_ref();
    if !written.names_any && config.is_none() {
        return take(written, written.plain.clone(), Content::new());
    }
    let taken = config.and_then(|c| c.taken.as_ref());
    if let Some(taken) = taken
        && taken.plain == written.plain
        && held(written, taken, |_, _| true) == taken.content
    {
        return take(written, taken.revision.clone(), taken.content.clone());
    }
    let content = match taken {
        Some(taken) => held(written, taken, written.kept),
        None => present(written),
    };
    let revision = (written.name)(&written.plain, &content);
    let known = |r: &Revision| is_known(state, r, written.exists);
    if taken.is_none() && known(&written.plain) && !known(&revision) {
        // A revision without content runs already, made by a version of Molt that knew of none or while everything
        // was followed: what is there now is what it runs with. Only a change from here on is one.
        return take(written, written.plain.clone(), content);
    }
    let before = so_far(state);
    let at_once = known(&revision)
        || match &before {
            // Of a first one, what is missing may be on its way.
            None => written.held.values().all(Option::is_some),
            // There is nothing to stay with.
            Some(before) => !(written.exists)(before),
        };
    let since = config
        .and_then(|c| c.settling.as_ref())
        .filter(|s| s.revision == revision && s.since <= now)
        .map_or(now, |s| s.since);
    let until = since.checked_add(SETTLES).unwrap_or(Timestamp::MAX);
    if at_once || now >= until {
        return take(written, revision, content);
    }
    Asked {
        revision: before,
        current: false,
        content: Content::new(),
        config: Some(ConfigState {
            taken: taken.cloned(),
            settling: Some(Settling { revision, since }),
        }),
        until: Some(until),
    }
}

/// The answer while it is not known what the references hold: nothing changes.
pub fn hold(state: &State) -> Asked {
    Asked {
        revision: so_far(state),
        config: state.config.clone(),
        ..Asked::default()
    }
}

fn take(written: &Written, revision: Revision, content: Content) -> Asked {
    let snapshots = if revision == written.plain {
        Content::new()
    } else {
        content.clone()
    };
    let taken = Taken {
        revision: revision.clone(),
        plain: written.plain.clone(),
        content,
    };
    Asked {
        revision: Some(revision),
        current: true,
        content: snapshots,
        config: written.names_any.then_some(ConfigState {
            taken: Some(taken),
            settling: None,
        }),
        until: None,
    }
}

fn present(written: &Written) -> Content {
    let there = |(key, held): (&String, &Option<String>)| Some((key.clone(), held.clone()?));
    written.held.iter().filter_map(there).collect()
}

/// What is there, and of what is missing what was there last, if it is `kept`.
fn held(written: &Written, taken: &Taken, kept: impl Fn(&str, &str) -> bool) -> Content {
    let last = |key: &str| taken.content.get(key).filter(|digest| kept(key, digest)).cloned();
    written
        .held
        .iter()
        .filter_map(|(key, held)| Some((key.clone(), held.clone().or_else(|| last(key))?)))
        .collect()
}

/// The state was lost, or is new.
fn is_empty(state: &State) -> bool {
    state.stable.is_none() && state.attempt.is_none() && state.last.is_none()
}

/// It is what serves, is tried, was refused, or was gone back from: to ask for it again is no change that could be
/// the first of several.
fn is_known(state: &State, revision: &Revision, exists: &dyn Fn(&Revision) -> bool) -> bool {
    let named = [
        state.stable.as_ref(),
        state.attempt.as_ref().map(|a| &a.revision),
        state.refused.as_ref(),
        state.pinned.as_ref().map(|pin| &pin.instead_of),
    ];
    named.contains(&Some(revision)) || (is_empty(state) && exists(revision))
}

/// The revision that the spec has asked for until now.
fn so_far(state: &State) -> Option<Revision> {
    if let Some(taken) = state.config.as_ref().and_then(|c| c.taken.as_ref()) {
        return Some(taken.revision.clone());
    }
    let tried = state
        .attempt
        .as_ref()
        .filter(|a| !matches!(a.stage, Stage::Withdrawing { .. }));
    let pinned = state.pinned.as_ref().map(|pin| &pin.instead_of);
    pinned
        .or(tried.map(|a| &a.revision))
        .or(state.refused.as_ref())
        .or(state.stable.as_ref())
        .cloned()
}

#[cfg(test)]
mod tests;
