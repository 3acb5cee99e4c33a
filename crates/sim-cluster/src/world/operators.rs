//! The operator's processes: one or two of them, as the seed says. They come, die, are replaced, and one leads.

use http::Method;
use molt_sim_api::Call;
use serde_json::json;

use super::{Event, LEASE, LEASES, Order, World, path};

/// The name by which a process stands for the lease.
pub fn identity(process: u32) -> String {
    format!("molt-{process}")
}

/// A request about the lease.
pub(super) fn is_about_lease(call: &Call) -> bool {
    call.path.contains("/leases")
}

/// An event that somebody leads.
pub(super) fn tells_of_lease(call: &Call) -> bool {
    call.path.contains("/events") && call.body["regarding"]["kind"] == "Lease"
}

impl World {
    /// Whether the operators of this life stand for a lease: they do in half of all lives. One that is alone need not.
    pub fn elects(&self) -> bool {
        self.setup.seed % 2 == 1
    }

    /// How many processes there should be: in every fourth life two.
    pub(super) fn replicas(&self) -> u64 {
        if self.setup.seed % 4 == 3 { 2 } else { 1 }
    }

    /// Who holds the lease by what the server has.
    pub(super) fn holder(&self) -> Option<&str> {
        self.object(LEASES, LEASE)?["spec"]["holderIdentity"].as_str()
    }

    /// The process that holds the lease, if it lives.
    pub(super) fn leader(&self) -> Option<u32> {
        let holder = self.holder()?;
        self.alive.iter().copied().find(|p| identity(*p) == holder)
    }

    pub(super) fn start_operator(&mut self) {
        if (self.alive.len() as u64) < self.replicas() {
            self.launch();
        }
    }

    fn launch(&mut self) {
        self.processes += 1;
        let process = self.processes;
        self.alive.insert(process);
        self.checks.operator_started(self.now);
        self.say(format!("operator {process} starts"));
        self.orders.push_back(Order::Start(process));
        self.notify.notify_one();
    }

    /// A process dies, and comes back as another one.
    pub(super) fn crash(&mut self, process: u32) {
        if !self.alive.remove(&process) {
            return;
        }
        self.say(format!("operator {process} dies"));
        self.orders.push_back(Order::Kill(process));
        self.gone_for_good(process);
    }

    /// A process has ended as it was asked to.
    pub fn ended(&mut self, process: u32) {
        if self.alive.remove(&process) {
            self.say(format!("operator {process} has ended"));
            self.gone_for_good(process);
        }
    }

    fn gone_for_good(&mut self, process: u32) {
        self.checks.operator_died(self.now, !self.alive.is_empty());
        self.network.forget_watches(process);
        let wait = self.chance.between(300, 9000);
        self.in_ms(wait, Event::Start);
    }

    /// Some of the processes die at the same time.
    pub(super) fn crash_some(&mut self, size: u64) {
        let all: Vec<u32> = self.alive.iter().copied().collect();
        let one = usize::try_from(size).unwrap_or(0) % all.len().max(1);
        for (index, process) in all.into_iter().enumerate() {
            if index == one || size.is_multiple_of(5) {
                self.crash(process);
            }
        }
    }

    /// Another process starts, and whoever leads is asked to end a while later.
    pub(super) fn upgrade(&mut self, wait: u64) {
        let Some(old) = self.leader().or_else(|| self.alive.first().copied()) else {
            return;
        };
        if self.elects() {
            self.launch();
            self.in_ms(wait, Event::Retire(old));
        } else {
            // Without a lease there may never be two: the next one starts when this one has ended.
            self.retire(old);
        }
    }

    pub(super) fn retire(&mut self, process: u32) {
        if self.alive.contains(&process) {
            self.say(format!("operator {process} is asked to end"));
            self.orders.push_back(Order::End(process));
            self.notify.notify_one();
        }
    }

    /// A person deletes the lease.
    pub(super) fn delete_lease(&mut self) {
        self.ask(
            Method::DELETE,
            &path(LEASES, LEASE),
            "application/json",
            json!({}),
        );
    }

    /// A process sends a write: nobody else may hold the lease by now.
    pub(super) fn check_leads(&mut self, process: u32, call: &Call) {
        if !call.is_write() || is_about_lease(call) {
            return;
        }
        let me = identity(process);
        if let Some(holder) = self.holder().filter(|holder| *holder != me) {
            let what = format!("{me} writes {} while {holder} holds the lease", call.path);
            self.violate("lease", what);
        }
    }
}
