//! A Deployment and its controller, as small as they can be.

use crate::adoption::{Sight, WorkloadView};
use crate::plan::Revision;

/// A Deployment. Its pods take two seconds to become ready, and one to go.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools)]
pub struct Workload {
    pub exists: bool,
    /// What its pod template is.
    pub template: Option<Revision>,
    /// The revisions of its pods that are ready, and of those that start.
    pub ready: Vec<Revision>,
    pub starting: Vec<Revision>,
    pub replicas: u32,
    pub paused: bool,
    pub held: Option<u32>,
    pub surge: u32,
    pub widened: bool,
    pub autoscaler: Option<String>,
    pub autoscalers_unread: Option<String>,
    pub written_by: Option<String>,
    /// None of its pods becomes ready any more.
    pub broken: bool,
    /// The revision that it makes new pods of: it follows the template only while it is not paused.
    pub makes: Option<Revision>,
    /// Its controller has seen its present form.
    pub observed: bool,
    /// How often Molt wrote to it.
    pub writes: u32,
}

impl Workload {
    /// One that serves with so many pods.
    pub fn serving(revision: &str, replicas: u32, surge: u32) -> Self {
        let revision: Revision = revision.into();
        Self {
            exists: true,
            template: Some(revision.clone()),
            makes: Some(revision.clone()),
            ready: vec![revision; replicas as usize],
            replicas,
            surge,
            observed: true,
            ..Self::default()
        }
    }

    pub fn pods(&self) -> u32 {
        u32::try_from(self.ready.len() + self.starting.len()).unwrap()
    }

    pub fn ready(&self) -> u32 {
        u32::try_from(self.ready.len()).unwrap()
    }

    pub fn sight(&self, stable: Option<&Revision>) -> Sight {
        if !self.exists {
            return Sight::Absent;
        }
        let all = self.ready.iter().chain(&self.starting);
        Sight::Seen(WorkloadView {
            name: "shop".into(),
            uid: "d-1".into(),
            replicas: self.replicas,
            pods: self.pods(),
            ready: self.ready(),
            paused: self.paused,
            observed: self.observed,
            settled: self.observed
                && self.ready() == self.replicas
                && all.clone().count() == self.ready.len()
                && all.into_iter().all(|r| Some(r) == self.template.as_ref()),
            surge: self.surge,
            held: self.held,
            revision: self.template.clone(),
            is_stable: stable.is_some() && self.template.as_ref() == stable,
            selector: None,
            autoscalers_unread: self.autoscalers_unread.clone(),
            autoscaler: self.autoscaler.clone(),
            widened: self.widened,
            written_by: self.written_by.clone(),
            advice: "Leave replicas out.".into(),
        })
    }

    pub fn hold(&mut self, replicas: u32, paused: bool, former: u32) {
        self.replicas = replicas;
        self.paused = paused;
        self.held = Some(former);
        self.observed = false;
        self.writes += 1;
    }

    /// A second of its controller.
    pub fn live(&mut self) {
        self.observed = true;
        if !self.paused && self.makes != self.template {
            // A rollout of its own, one pod after the other.
            self.makes.clone_from(&self.template);
        }
        if !self.broken {
            self.ready.append(&mut self.starting);
        }
        let wanted = self.replicas as usize;
        let makes = self.makes.clone();
        if !self.paused {
            self.ready
                .sort_by_key(|revision| Some(revision) != makes.as_ref());
        }
        if self.paused {
            self.starting.truncate(wanted.saturating_sub(self.ready.len()));
        }
        self.ready.truncate(wanted);
        while self.pods() < self.replicas {
            self.starting.extend(self.makes.clone());
        }
        let is_old = |revision: &Revision| Some(revision) != makes.as_ref();
        if !self.paused && self.starting.is_empty() && self.ready.iter().any(is_old) {
            self.starting.extend(makes.clone());
        }
    }
}
