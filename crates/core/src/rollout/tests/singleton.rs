//! What may run only once: never two pods, and none only while one ends and the next starts.
//!
//! The cluster of these tests is as late as a real one: what is decided on may be older than what was written, ReplicaSets
//! are looked after a while later, and pods take their time to end.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::world::plan;
use crate::decision::{Decision, Effect, Phase};
use crate::observed::{
    Action, ActionView, Backend, Crashes, Observed, RevisionView, RouteView, Trouble, TroubleKind,
};
use crate::plan::{Plan, Revision, RouteMode};
use crate::rollout::decide;
use crate::state::{Outcome, State};

/// One pod: how long it still takes to get ready, and to end once it has to.
#[derive(Clone, Debug)]
struct Pod {
    starts: u32,
    ends: Option<u32>,
}

/// A ReplicaSet, as it is.
#[derive(Clone, Debug, Default)]
struct Set {
    wanted: u32,
    /// What its controller has taken up.
    heeded: u32,
    /// How long until that heeds `wanted`.
    heeds_in: u32,
    pods: Vec<Pod>,
    crashes: Vec<Timestamp>,
}

impl Set {
    /// As the operator sees it: pods are what exists, or will by what was heeded.
    fn view(&self) -> RevisionView {
        let exist = u32::try_from(self.pods.len()).unwrap();
        let ready = |pod: &&Pod| pod.ends.is_none() && pod.starts == 0;
        let ready = u32::try_from(self.pods.iter().filter(ready).count()).unwrap();
        RevisionView {
            wanted: self.wanted,
            // A change that its controller has not taken up may still make one.
            pods: if self.heeded == self.wanted {
                exist
            } else {
                exist.max(1)
            },
            ready,
            endpoints: ready,
            has_service: true,
            created_at: Some(Timestamp::UNIX_EPOCH),
            attempt: 1,
            trouble: (!self.crashes.is_empty() && ready == 0).then(|| Trouble {
                kind: TroubleKind::CrashLoop,
                message: "it crashed".into(),
                restarts: 1,
            }),
            crashes: vec![Crashes {
                message: "pod v2-a, container app: ended with exit code 1".into(),
                ends: self.crashes.clone(),
                out_of_memory: Vec::new(),
            }],
            ..RevisionView::default()
        }
    }
}

struct Town {
    now: Timestamp,
    plan: Plan,
    state: State,
    sets: BTreeMap<Revision, Set>,
    /// What was seen at each second: the operator sees one of the last.
    seen: Vec<BTreeMap<Revision, RevisionView>>,
    /// How old that is, in seconds. What was seen once is never unseen.
    lag: usize,
    at: usize,
    /// How long a pod takes to get ready, and to end.
    starts: u32,
    ends: u32,
    heeds: u32,
    actions: Vec<ActionView>,
    /// How long no pod has worked.
    idle: u32,
    last: Option<Decision>,
}

impl Town {
    fn new() -> Self {
        let mut plan = plan("v1");
        plan.route = RouteMode::Singleton;
        plan.replicas = 1;
        plan.steps = Vec::new();
        plan.at_once = true;
        plan.slos = Vec::new();
        let mut town = Self {
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            plan,
            state: State::default(),
            sets: BTreeMap::new(),
            seen: vec![BTreeMap::new()],
            lag: 0,
            at: 0,
            starts: 2,
            ends: 3,
            heeds: 0,
            actions: Vec::new(),
            idle: 0,
            last: None,
        };
        town.run(60);
        assert_eq!(town.phase(), Phase::Healthy, "{}", town.message());
        town
    }

    fn phase(&self) -> Phase {
        self.last.as_ref().unwrap().report.phase
    }

    fn message(&self) -> &str {
        &self.last.as_ref().unwrap().report.message
    }

    fn live(&mut self) {
        self.now += SignedDuration::from_secs(1);
        for set in self.sets.values_mut() {
            set.pods.retain(|pod| pod.ends != Some(0));
            for pod in &mut set.pods {
                pod.starts = pod.starts.saturating_sub(1);
                pod.ends = pod.ends.map(|left| left - 1);
            }
            if set.heeded != set.wanted && set.heeds_in == 0 {
                set.heeded = set.wanted;
            }
            set.heeds_in = set.heeds_in.saturating_sub(1);
            let stays = |pod: &&mut Pod| pod.ends.is_none();
            let alive = set.pods.iter_mut().filter(stays).count();
            for _ in alive..set.heeded as usize {
                set.pods.push(Pod {
                    starts: self.starts,
                    ends: None,
                });
            }
            for pod in set.pods.iter_mut().filter(stays).skip(set.heeded as usize) {
                pod.ends = Some(self.ends);
            }
        }
        let all: usize = self.sets.values().map(|set| set.pods.len()).sum();
        assert!(all <= 1, "two pods at once: {:?}\n{:?}", self.sets, self.last);
        let works = |set: &Set| set.pods.iter().any(|pod| pod.ends.is_none() && pod.starts == 0);
        self.idle = if self.sets.values().any(works) {
            0
        } else {
            self.idle + 1
        };
        self.seen
            .push(self.sets.iter().map(|(r, set)| (r.clone(), set.view())).collect());
    }

    fn turn(&mut self) {
        self.at = self.at.max(self.seen.len().saturating_sub(1 + self.lag));
        let revisions = self.seen[self.at].clone();
        let weights = revisions.iter().filter(|(_, view)| view.ready > 0);
        let seen = Observed {
            route: RouteView {
                exists: !revisions.is_empty(),
                acknowledged: true,
                weights: weights
                    .map(|(r, _)| (Backend::Revision(r.clone()), 100))
                    .collect(),
                ..RouteView::default()
            },
            actions: self.actions.clone(),
            attempts: self
                .state
                .last
                .iter()
                .map(|l| (l.revision.clone(), l.number))
                .collect(),
            revisions,
            ..Observed::default()
        };
        let decision = decide(&self.plan, &self.state, &seen, self.now);
        self.state = decision.state.clone();
        for effect in &decision.effects {
            match effect {
                Effect::CreateRevision { revision } => {
                    self.sets.entry(revision.clone()).or_default();
                }
                Effect::Scale {
                    revision, replicas, ..
                } => {
                    // It is written on the version that was seen, or not at all.
                    let known = seen.revisions.get(revision).map(|view| view.wanted);
                    let set = self.sets.get_mut(revision).unwrap();
                    if known == Some(set.wanted) {
                        set.wanted = *replicas;
                        set.heeds_in = self.heeds;
                    }
                }
                Effect::DeleteRevision { revision } => {
                    self.sets.remove(revision);
                }
                Effect::EndAction { name, .. } => self.actions.retain(|a| a.name != *name),
                Effect::RemoveFinalizer | Effect::ReleaseRoute => {}
                other => panic!("a singleton has no {other:?}"),
            }
        }
        self.last = Some(decision);
    }

    fn run(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.live();
            self.turn();
        }
    }

    fn crash(&mut self, revision: &str) {
        let now = self.now;
        if let Some(set) = self.sets.get_mut(&revision.into())
            && let Some(pod) = set.pods.iter_mut().find(|pod| pod.ends.is_none())
        {
            pod.starts = self.starts;
            set.crashes.push(now);
        }
    }

    fn act(&mut self, uid: String, action: Action) {
        self.actions.push(ActionView {
            uid: uid.clone(),
            name: uid,
            action,
            revision: None,
            attempt: None,
            step: None,
            to_revision: None,
            gate: None,
            reason: String::new(),
            requested_by: "oncall".into(),
            created_at: Some(self.now),
        });
    }

    fn pods(&self, revision: &str) -> usize {
        self.sets.get(&revision.into()).map_or(0, |set| set.pods.len())
    }
}

#[test]
fn the_old_pod_stops_then_the_new_one_starts() {
    let mut town = Town::new();
    town.plan.revision = Some("v2".into());
    let mut idle = 0;
    for _ in 0..60 {
        town.run(1);
        idle = idle.max(town.idle);
    }
    assert_eq!(town.state.stable, Some("v2".into()), "{}", town.message());
    assert_eq!(
        (town.phase(), town.pods("v1"), town.pods("v2")),
        (Phase::Healthy, 0, 1)
    );
    // Three seconds to end, two to start, and what it takes to see that.
    assert!(idle <= 9, "nobody worked for {idle} s");
    let reasons: Vec<&str> = town
        .state
        .last
        .iter()
        .flat_map(|l| &l.transitions)
        .map(|t| t.reason.as_str())
        .collect();
    assert_eq!(
        reasons,
        ["AttemptStarted", "TurnTaken", "BakeStarted", "Promoted"]
    );
}

#[test]
fn nothing_is_polled_where_nothing_is_measured() {
    let mut town = Town::new();
    town.plan.bake = SignedDuration::from_secs(600);
    town.plan.revision = Some("v2".into());
    town.run(60);
    let decision = town.last.clone().unwrap();
    let bake = town
        .state
        .attempt
        .as_ref()
        .map(|a| a.since + SignedDuration::from_secs(600));
    assert_eq!((decision.effects, decision.wake_at), (vec![], bake));
}

#[test]
fn a_crash_brings_the_old_one_back() {
    for after in [2, 12, 18] {
        let mut town = Town::new();
        town.plan.revision = Some("v2".into());
        let mut waited = 0;
        while town.pods("v2") == 0 {
            town.run(1);
            waited += 1;
            assert!(waited < 60, "{}", town.message());
        }
        town.run(after);
        town.crash("v2");
        town.run(40);
        assert_eq!(
            town.phase(),
            Phase::RolledBack,
            "after {after} s: {}",
            town.message()
        );
        assert_eq!((town.pods("v1"), town.pods("v2")), (1, 0));
        let last = town.state.last.as_ref().unwrap();
        assert_eq!(
            (last.outcome, last.reason.as_str()),
            (Outcome::RolledBack, "CanaryCrashLooping")
        );
    }
}

#[test]
fn one_that_never_gets_ready_goes_in_two_minutes() {
    let mut town = Town::new();
    town.plan.revision = Some("v2".into());
    town.plan.progress_deadline = SignedDuration::from_secs(600);
    town.starts = 10_000;
    town.run(20);
    assert_eq!((town.pods("v1"), town.pods("v2")), (0, 1), "{}", town.message());
    town.starts = 2;
    town.run(130);
    assert_eq!(town.phase(), Phase::RolledBack, "{}", town.message());
    assert_eq!((town.pods("v1"), town.pods("v2"), town.idle), (1, 0, 0));
}

#[test]
fn an_abort_while_the_old_pod_ends_waits_for_its_end() {
    let mut town = Town::new();
    town.ends = 30;
    town.plan.revision = Some("v2".into());
    town.run(5);
    town.act("abort".into(), Action::Abort);
    town.run(60);
    assert_eq!((town.pods("v1"), town.pods("v2")), (1, 0), "{}", town.message());
    assert_eq!(town.state.last.as_ref().unwrap().outcome, Outcome::Aborted);
}

#[test]
fn a_restart_is_refused_for_it_would_run_two() {
    let mut town = Town::new();
    town.act("restart".into(), Action::Restart);
    town.run(5);
    assert!(town.actions.is_empty() && town.state.restart.is_none());
    assert_eq!(town.pods("v1"), 1);
}

#[derive(Clone, Debug)]
enum Event {
    Live(u8),
    Spec(u8),
    Invalid,
    Replicas(bool),
    Crash(u8),
    Act(Action),
    /// The operator sees what was so many seconds ago.
    Lag(u8),
    /// How long pods take to start and to end, and controllers to look.
    Slow(u8, u8, u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (1..20u8).prop_map(Event::Live),
        5 => (1..5u8).prop_map(Event::Spec),
        1 => Just(Event::Invalid),
        1 => any::<bool>().prop_map(Event::Replicas),
        2 => (1..5u8).prop_map(Event::Crash),
        3 => prop_oneof![
            Just(Action::Abort),
            Just(Action::Retry),
            Just(Action::Undo),
            Just(Action::Pause),
            Just(Action::Resume),
            Just(Action::Promote),
            Just(Action::PromoteFull),
            Just(Action::Restart)
        ]
        .prop_map(Event::Act),
        3 => (0..4u8).prop_map(Event::Lag),
        2 => (0..9u8, 0..40u8, 0..4u8).prop_map(|(s, e, h)| Event::Slow(s, e, h)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn there_are_never_two(events in prop::collection::vec(event(), 1..60)) {
        let mut town = Town::new();
        for (serial, event) in events.iter().enumerate() {
            match event {
                Event::Live(seconds) => town.run(u32::from(*seconds)),
                Event::Spec(n) => town.plan.revision = Some(Revision(format!("v{n}"))),
                Event::Invalid => town.plan.revision = None,
                Event::Replicas(some) => town.plan.replicas = u32::from(*some),
                Event::Crash(n) => town.crash(&format!("v{n}")),
                Event::Act(action) => town.act(format!("x{serial}"), *action),
                Event::Lag(seconds) => town.lag = usize::from(*seconds),
                Event::Slow(starts, ends, heeds) => {
                    (town.starts, town.ends, town.heeds) = (u32::from(*starts), u32::from(*ends), u32::from(*heeds));
                }
            }
        }
        // Once nothing more happens one of them works.
        (town.lag, town.starts, town.ends, town.heeds) = (0, 1, 1, 0);
        town.plan.replicas = 1;
        town.plan.revision = Some("v1".into());
        town.plan.paused = false;
        town.run(400);
        prop_assert_eq!(town.idle, 0, "{}", town.message());
    }
}
