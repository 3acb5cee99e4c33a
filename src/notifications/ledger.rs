//! What one sink was told, and whether it is to be told more: no notice twice, no more than its rate unless somebody is
//! called, and that all is well only after it was called. Pure: the time is an argument.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::notice::Notice;
use super::policy::CALLS;
use crate::api::v1alpha1::{LastDelivery, LastError, NotificationEvent, SinkStatus, ToldStatus};

/// What was told is remembered in the status for at least as long as it is told again after a restart.
const REMEMBERED: SignedDuration = SignedDuration::from_mins(15);
/// Entries of `told` in the status; the oldest go first.
const MOST_TOLD: usize = 200;
/// Entries of `open` in the status.
const MOST_OPEN: usize = 1000;
/// Notifications in a minute, unless the policy says otherwise.
const USUAL_RATE: u32 = 20;

/// So many in a minute, and as many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(u32);

impl Rate {
    /// As the spec has it.
    pub fn per_minute(number: Option<i32>) -> Self {
        let number = number.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        Self(number.unwrap_or(USUAL_RATE))
    }
}

/// What is to be done with a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it was told, or it is not to be told.
    Skip,
    /// It is told; so many before it were left out.
    Send {
        /// How many.
        omitted: u64,
    },
    /// It is left out: there were too many.
    Limited,
}

/// How a notification ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It arrived.
    Delivered,
    /// It was given up; why.
    GaveUp(String),
    /// It was left out, for too many wait already.
    Dropped,
}

/// What a sink was told.
#[derive(Clone, Debug)]
pub struct Ledger {
    rate: Rate,
    /// Notifications that may be sent now, and when that was reckoned.
    tokens: (f64, Option<Timestamp>),
    /// Over: arrived, left out, or given up. The time is the notice's.
    told: BTreeMap<String, Timestamp>,
    /// On their way.
    pending: BTreeSet<String>,
    /// UIDs of services that somebody was called for; `true` while the all-clear is on its way.
    open: BTreeMap<String, bool>,
    omitted: u64,
    status: SinkStatus,
}

impl Ledger {
    /// As the last leader left it; empty for a new sink.
    pub fn of(status: Option<SinkStatus>, rate: Rate) -> Self {
        let status = status.unwrap_or_default();
        Self {
            rate,
            tokens: (f64::from(rate.0), None),
            told: status.told.iter().map(|t| (t.id.clone(), t.at)).collect(),
            pending: BTreeSet::new(),
            open: status.open.iter().map(|uid| (uid.clone(), false)).collect(),
            omitted: 0,
            status,
        }
    }

    /// From now on this is its rate.
    pub fn set_rate(&mut self, rate: Rate) {
        self.rate = rate;
        self.tokens.0 = self.tokens.0.min(f64::from(rate.0));
    }

    /// Whether a notice of a service is told now. `wanted`: the policy wants it. What is to be sent is on its way from then
    /// on.
    pub fn judge(&mut self, notice: &Notice, uid: &str, wanted: bool, now: Timestamp) -> Verdict {
        if notice.event == NotificationEvent::Healthy {
            return self.all_clear(notice, uid, wanted);
        }
        if !wanted || self.told.contains_key(&notice.id) || self.pending.contains(&notice.id) {
            return Verdict::Skip;
        }
        let calls = CALLS.contains(&notice.event);
        if calls {
            self.open.insert(uid.to_owned(), false);
        }
        // A call counts, so that chatter makes room for it, and is never left out: there is one for each attempt.
        if !self.take_token(now) && !calls {
            self.omitted += 1;
            self.status.dropped += 1;
            self.told.insert(notice.id.clone(), notice.at);
            return Verdict::Limited;
        }
        self.pending.insert(notice.id.clone());
        Verdict::Send {
            omitted: std::mem::take(&mut self.omitted),
        }
    }

    /// Once for each call, and never too much: it ends what may keep somebody awake.
    fn all_clear(&mut self, notice: &Notice, uid: &str, wanted: bool) -> Verdict {
        match self.open.get_mut(uid) {
            Some(closing) if wanted && !*closing => {
                *closing = true;
                self.pending.insert(notice.id.clone());
                let omitted = std::mem::take(&mut self.omitted);
                Verdict::Send { omitted }
            }
            Some(closing) if !*closing => {
                self.open.remove(uid);
                Verdict::Skip
            }
            _ => Verdict::Skip,
        }
    }

    fn take_token(&mut self, now: Timestamp) -> bool {
        let most = f64::from(self.rate.0);
        let (tokens, then) = self.tokens;
        let passed = then.map_or(0.0, |then| now.duration_since(then).as_secs_f64().max(0.0));
        let tokens = (tokens + passed * most / 60.0).min(most);
        let enough = tokens >= 1.0;
        self.tokens = (if enough { tokens - 1.0 } else { tokens }, Some(now));
        enough
    }

    /// A notification about a service has ended so.
    pub fn ended(&mut self, notice: &Notice, (service, uid): (&str, &str), end: &End, now: Timestamp) {
        self.pending.remove(&notice.id);
        if notice.event == NotificationEvent::Healthy {
            if self.open.get(uid) == Some(&true) {
                self.open.remove(uid);
            }
        } else {
            self.told
                .insert(notice.id.clone(), notice.at.max(now - REMEMBERED / 2));
        }
        match end {
            End::Delivered => {
                self.status.delivered += 1;
                self.status.last_delivery = Some(LastDelivery {
                    at: now,
                    service: service.to_owned(),
                    event: notice.event,
                });
            }
            End::GaveUp(why) => {
                self.status.failed += 1;
                self.status.last_error = Some(LastError {
                    at: now,
                    service: service.to_owned(),
                    message: why.clone(),
                });
            }
            End::Dropped => {
                self.status.dropped += 1;
                self.status.last_error = Some(LastError {
                    at: now,
                    service: service.to_owned(),
                    message: "left out: too many wait already for what receives them".to_owned(),
                });
            }
        }
    }

    /// These have passed: when they come again, they are told again.
    pub fn passed(&mut self, ids: &[String]) {
        for id in ids {
            self.told.remove(id);
        }
    }

    /// Notifications that are on their way.
    pub fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// The last notification did not arrive: why.
    pub fn trouble(&self) -> Option<&str> {
        let error = self.status.last_error.as_ref()?;
        let later = self
            .status
            .last_delivery
            .as_ref()
            .is_some_and(|d| d.at > error.at);
        (!later).then_some(error.message.as_str())
    }

    /// How many were left out to date.
    pub fn left_out(&self) -> i64 {
        self.status.dropped
    }

    /// Something arrived at some time.
    pub fn has_delivered(&self) -> bool {
        self.status.last_delivery.is_some()
    }

    /// For the policy's status.
    pub fn status(&mut self, name: &str, now: Timestamp) -> SinkStatus {
        self.told.retain(|_, at| now.duration_since(*at) < REMEMBERED);
        let mut told: Vec<ToldStatus> = self
            .told
            .iter()
            .map(|(id, at)| ToldStatus {
                id: id.clone(),
                at: *at,
            })
            .collect();
        told.sort_by_key(|told| std::cmp::Reverse(told.at));
        told.truncate(MOST_TOLD);
        self.status.told = told;
        self.status.open = self.open.keys().take(MOST_OPEN).cloned().collect();
        name.clone_into(&mut self.status.name);
        self.status.clone()
    }
}
