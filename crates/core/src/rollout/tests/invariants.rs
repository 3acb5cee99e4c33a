//! The invariants of the architecture under random events, crashes between effects included.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::world::{World, plan};
use crate::decision::{Decision, Effect, Phase, Report};
use crate::group::{Fault, Group, Peer};
use crate::observed::{Action, Backend, Preview, Slot, Trouble, TroubleKind};
use crate::plan::{Plan, Revision, Room, RouteMode, Surge};
use crate::rollout::decide;
use crate::rollout::endpoints::SETTLE;
use crate::state::{Attempt, Stage};
use crate::step::{CanaryScale, HeaderMatch, HeaderValue, Mirror, Step};

#[derive(Clone, Debug)]
enum Event {
    Live(u8),
    Spec(u8),
    Invalid,
    Replicas(u8),
    Bad(u8, u8),
    Break(u8, TroubleKind, u8),
    Mend(u8),
    LosePod(u8),
    Blind(bool),
    Deaf(bool),
    /// Another field manager writes the weights of a user's route.
    WriteBack(u8),
    /// A person lowers the canary's weight by hand.
    Lower(u8),
    /// What verdicts depend on is changed; the objective itself as well or not.
    Correct(u8, bool),
    /// The clock of the operator's host is set, by so many minutes.
    Clock(i16),
    Promote,
    Abort,
    /// Something else that a person asks for.
    Act(Action),
    PauseBySpec(bool),
    PauseFleet(bool),
    /// A disruption budget refuses evictions.
    Guard(bool),
    RollbackWindow(u8),
    /// Another strategy, for the next attempt.
    Strategy(u8),
    /// How many pods a rollout may hold: pods beyond the replicas (0: any), and whether stable shrinks.
    Room(u8, bool),
    /// How long a promoted revision is watched, in minutes.
    Watch(u8),
    /// How long a pod must have been ready.
    MinReady(u8),
    /// Somebody else writes the number of a revision's pods.
    Scale(u8, u8),
    /// The service is in a wave of a group, or (0) in none.
    Group(u8),
    /// Another service of the group: its name, its wave, its phase, and when its last attempt ended badly, in seconds
    /// before now (0: never). A phase beyond those there are: it is gone.
    Peer(u8, u8, u8, u8),
    /// Whether callers inside the cluster meet the canary as well, and whether users stay where they are.
    Traffic(bool, bool),
    /// The operator crashes after so many effects of its next decision.
    Crash(u8),
}

fn event() -> impl Strategy<Value = Event> {
    let kind = prop_oneof![
        Just(TroubleKind::CrashLoop),
        Just(TroubleKind::ImagePull),
        Just(TroubleKind::Unschedulable),
        Just(TroubleKind::BadContainer)
    ];
    prop_oneof![
        12 => (1..40u8).prop_map(Event::Live),
        3 => (1..5u8).prop_map(Event::Spec),
        1 => Just(Event::Invalid),
        1 => (0..9u8).prop_map(Event::Replicas),
        2 => (1..5u8, 0..100u8).prop_map(|(r, p)| Event::Bad(r, p)),
        1 => (1..5u8, kind, 0..5u8).prop_map(|(r, k, n)| Event::Break(r, k, n)),
        2 => (1..5u8).prop_map(Event::Mend),
        1 => (1..5u8).prop_map(Event::LosePod),
        1 => any::<bool>().prop_map(Event::Blind),
        1 => any::<bool>().prop_map(Event::Deaf),
        1 => prop_oneof![Just(0u8), Just(50), Just(100)].prop_map(Event::WriteBack),
        1 => prop_oneof![Just(0u8), Just(5)].prop_map(Event::Lower),
        1 => (0..9u8, any::<bool>()).prop_map(|(n, anew)| Event::Correct(n, anew)),
        1 => (-300..300i16).prop_map(Event::Clock),
        1 => Just(Event::Promote),
        1 => Just(Event::Abort),
        3 => prop_oneof![
            Just(Action::PromoteFull),
            Just(Action::Retry),
            Just(Action::Pause),
            Just(Action::Resume),
            Just(Action::Override),
            Just(Action::Undo),
            Just(Action::Restart)
        ]
        .prop_map(Event::Act),
        1 => prop_oneof![Just(0u8), Just(1), Just(10)].prop_map(Event::Watch),
        1 => any::<bool>().prop_map(Event::PauseBySpec),
        1 => any::<bool>().prop_map(Event::PauseFleet),
        1 => any::<bool>().prop_map(Event::Guard),
        1 => (0..3u8).prop_map(Event::RollbackWindow),
        2 => (0..5u8).prop_map(Event::Strategy),
        3 => (0..4u8, any::<bool>()).prop_map(|(pods, shrinks)| Event::Room(pods, shrinks)),
        1 => (0..30u8).prop_map(Event::MinReady),
        1 => (1..5u8, 0..9u8).prop_map(|(r, n)| Event::Scale(r, n)),
        1 => (0..4u8).prop_map(Event::Group),
        3 => (0..3u8, 0..4u8, 0..9u8, 0..9u8).prop_map(|(n, w, p, f)| Event::Peer(n, w, p, f)),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(shared, sticky)| Event::Traffic(shared, sticky)),
        4 => (0..4u8).prop_map(Event::Crash),
    ]
}

fn name(n: u8) -> Revision {
    Revision(format!("v{n}"))
}

/// One of some strategies.
fn follow_strategy(plan: &mut Plan, n: u8) {
    let scale = |pods| Step::SetCanaryScale(CanaryScale::Replicas(pods));
    let header = |matches| Step::SetHeaderRoute {
        name: "testers".into(),
        matches,
    };
    let testers = header(vec![HeaderMatch {
        header: "x-canary".into(),
        value: HeaderValue::Exact("1".into()),
    }]);
    let copies = |percent| {
        Step::SetMirror(Mirror {
            percent,
            methods: Vec::new(),
        })
    };
    plan.at_once = n >= 3;
    plan.steps = match n {
        0 => vec![Step::SetWeight(10), Step::Dwell(20), Step::SetWeight(50)],
        1 => vec![
            scale(2),
            testers,
            Step::Dwell(10),
            Step::SetWeight(20),
            header(Vec::new()),
            Step::Dwell(10),
        ],
        2 => vec![
            copies(50),
            Step::Dwell(10),
            Step::SetWeight(30),
            copies(0),
            Step::Pause {},
        ],
        3 => vec![scale(1)],
        _ => vec![scale(9), testers, Step::Pause {}],
    };
}

/// Another service of the group, as its status has it.
fn follow_peer(world: &mut World, n: u8, wave: u8, phase: u8, fault: u8) {
    let name = format!("p{n}");
    world.peers.retain(|p| p.name != name);
    let phases = [
        Phase::Initializing,
        Phase::Healthy,
        Phase::Progressing,
        Phase::Paused,
        Phase::RollingBack,
        Phase::RolledBack,
        Phase::Degraded,
    ];
    let Some(phase) = phases.get(usize::from(phase)).copied() else {
        return;
    };
    let out = matches!(phase, Phase::RolledBack | Phase::RollingBack).then(|| "v9".into());
    world.peers.push(Peer {
        name,
        wave: u32::from(wave),
        phase: Some(phase),
        current: phase != Phase::Progressing || fault.is_multiple_of(2),
        attempt: matches!(phase, Phase::RollingBack | Phase::Paused)
            || (phase == Phase::Progressing && fault > 4),
        out,
        since: (phase == Phase::Progressing).then_some(world.now),
        deleting: fault == 8,
        fault: (fault > 0).then(|| Fault {
            at: world.now - jiff::SignedDuration::from_secs(i64::from(fault) - 1),
            revision: "v9".into(),
            attempt: 1,
            reason: "HarmShown".into(),
        }),
        back: false,
    });
}

fn happen(world: &mut World, event: &Event, serial: usize) {
    match event {
        Event::Live(seconds) => {
            for _ in 0..*seconds {
                world.live(1);
                checked_turn(world, usize::MAX);
            }
        }
        Event::Spec(n) => world.plan.revision = Some(name(*n)),
        Event::Invalid => world.plan.revision = None,
        Event::Replicas(n) => world.plan.replicas = u32::from(*n),
        Event::Bad(n, percent) => {
            world.bad.insert(name(*n), f64::from(*percent) / 100.0);
        }
        Event::Break(n, kind, restarts) => {
            let trouble = Trouble {
                kind: *kind,
                message: "broken".into(),
                restarts: u32::from(*restarts),
            };
            if let Some(set) = world.sets.get_mut(&name(*n)) {
                if *kind == TroubleKind::CrashLoop {
                    set.crashes = vec![world.now; usize::from(*restarts)];
                }
                set.broken = Some(trouble);
            }
        }
        Event::Mend(n) => {
            if let Some(set) = world.sets.get_mut(&name(*n)) {
                set.broken = None;
            }
        }
        Event::LosePod(n) => {
            if let Some(set) = world.sets.get_mut(&name(*n)) {
                set.ready = set.ready.saturating_sub(1);
            }
        }
        Event::Blind(blind) => world.blind = *blind,
        Event::Deaf(deaf) => world.deaf = *deaf,
        Event::WriteBack(canary) => {
            if world.plan.route == RouteMode::Adopted {
                world.write_weights("rival", *canary);
            }
        }
        Event::Lower(canary) => world.lower(*canary),
        Event::Correct(n, anew) => {
            world.plan.basis = format!("b{n}");
            if *anew {
                world.plan.slos[0].question = format!("q{n}");
            }
        }
        Event::Clock(minutes) => world.set_clock(*minutes),
        Event::Promote => world.act(&format!("p{serial}"), Action::Promote),
        Event::Abort => world.act(&format!("a{serial}"), Action::Abort),
        Event::Act(action) => world.act(&format!("x{serial}"), *action),
        Event::PauseFleet(paused) => world.fleet = paused.then(|| "by ada: INC-12".to_owned()),
        Event::Guard(guarded) => world.guarded = *guarded,
        Event::PauseBySpec(paused) => world.plan.paused = *paused,
        Event::RollbackWindow(revisions) => world.plan.rollback_window = usize::from(*revisions),
        // Workers know of weights alone.
        Event::Strategy(n) if world.plan.route.pulls() => {
            world.plan.steps = vec![Step::SetWeight(10), Step::Pause {}, Step::SetWeight(50 + *n)];
        }
        Event::Strategy(n) => follow_strategy(&mut world.plan, *n),
        Event::Room(pods, shrinks) => {
            world.plan.room = Room {
                max_surge: (*pods > 0).then(|| Surge::Pods(u32::from(*pods))),
                stable_scales: *shrinks,
                connections: None,
            };
        }
        Event::Watch(minutes) => world.plan.watch = SignedDuration::from_mins(i64::from(*minutes)),
        Event::MinReady(seconds) => world.min_ready = i64::from(*seconds),
        Event::Scale(n, pods) => {
            if let Some(set) = world.sets.get_mut(&name(*n)) {
                set.wanted = u32::from(*pods);
                set.ready = set.ready.min(set.wanted);
                set.births.truncate(set.wanted as usize);
                set.scaled_by = Some("autoscaler".into());
            }
        }
        Event::Group(wave) => {
            world.plan.group = wave.checked_sub(1).map(|wave| Group {
                name: "shop".into(),
                wave: wave.into(),
                header: (wave > 0).then(|| "x-group".to_owned()),
                headless: None,
            });
        }
        Event::Peer(n, wave, phase, fault) => follow_peer(world, *n, *wave, *phase, *fault),
        Event::Traffic(shared, sticky) => {
            if !world.plan.route.is_by_pods() {
                world.plan.shared_in_cluster = *shared;
            }
            if world.plan.route == RouteMode::Owned {
                world.plan.sticky = *sticky;
            }
        }
        Event::Crash(after) => checked_turn(world, usize::from(*after)),
    }
}

/// One decision with every invariant checked on it.
fn checked_turn(world: &mut World, limit: usize) {
    let mut before = world.clone();
    let seen = world.observe();
    // `observe` counted requests: the decision must see the same counts, so it is made here.
    let decision = decide(&world.plan, &world.state, &seen, world.now);
    world.clone_from(&before);
    // Without a router they are what the Service leads to by now.
    before.weights.clone_from(&seen.route.weights);
    let again = world.turn(limit);
    assert_eq!(decision, again, "decide is a function of its arguments");

    for effect in &decision.effects {
        match effect {
            Effect::SetRoute { weights, preview } => {
                check_weights(&before, &decision.state, weights);
                if let Some(preview) = preview {
                    check_preview(&before, &decision.state, preview);
                }
            }
            Effect::Scale {
                revision, replicas, ..
            } => check_scale(&before, &decision.state, revision, *replicas),
            Effect::Share => check_share(&before, &decision.state),
            Effect::Select { slot, revision } => check_select(&before, *slot, revision),
            Effect::Evict { pod, .. } => check_evict(&before, pod),
            _ => {}
        }
    }
    if let (Some(old), Some(new)) = (&before.state.attempt, &decision.state.attempt)
        && (old.number, &old.revision) == (new.number, &new.revision)
    {
        let progresses = !matches!(
            new.stage,
            Stage::Withdrawing { .. } | Stage::Held | Stage::Settling
        );
        let doubts = |a: &Attempt| a.doubt.as_ref().map_or(0, |doubt| doubt.times);
        let in_doubt = matches!(old.stage, Stage::Baking { .. }) && doubts(new) == doubts(old) + 1;
        assert!(
            !progresses || new.weight >= old.weight || in_doubt,
            "a weight only grows during progress, but for a bake that became suspect"
        );
    }
    check_endpoints(&before, world, &decision);
    check_room(&before, &decision);
    check_workers(&before, &decision);
    check_paused(&before, &decision.state);
    check_group(&before, &decision);
    check_kstatus(&decision.report);
    let happened = |reason: &str| decision.report.transitions.iter().any(|t| t.reason == reason);
    let lost = happened("StableLost");
    if let Some(stable) = &before.state.stable {
        assert!(
            happened("Promoted") || lost || decision.state.stable == before.state.stable,
            "stable changes by promotion only, or where nothing is left of it"
        );
        assert!(!lost || !before.sets.contains_key(stable), "it is lost");
    }
    if let Some(baked) = before.state.attempt.as_ref().filter(|_| !lost)
        && matches!(baked.stage, Stage::Baking { .. })
    {
        let edited = |reason: &str| ["Superseded", "SpecInvalid"].contains(&reason);
        assert!(
            !before.state.served.contains(&baked.revision)
                || !decision.report.transitions.iter().any(|t| edited(&t.reason)),
            "a spec edit never moves users back to a revision that a way back has left"
        );
        let settles = decision
            .state
            .attempt
            .as_ref()
            .is_some_and(|a| a.stage == Stage::Settling);
        if settles || decision.state.stable.as_ref() == Some(&baked.revision) {
            assert!(
                seen.ready(&baked.revision) >= before.plan.replicas,
                "what is promoted has all the pods that the old revision gives up"
            );
            let all = before.weights.get(&Backend::Revision(baked.revision.clone()));
            assert!(
                before.plan.route != RouteMode::Owned
                    || before.plan.replicas == 0
                    || before.state.stable.is_none()
                    || all == Some(&100),
                "what is promoted has all users: {all:?}"
            );
        }
    }
    let json = serde_json::to_string(&decision.state).unwrap();
    assert_eq!(
        serde_json::from_str::<crate::state::State>(&json).unwrap(),
        decision.state
    );
    assert!(json.len() < 40_000, "the state is bounded: {}", json.len());
}

/// What kstatus makes of the conditions.
pub fn kstatus(report: &Report) -> &'static str {
    let is = |kind| report.conditions.iter().any(|c| c.kind == kind && c.status);
    match () {
        () if is("Reconciling") => "InProgress",
        () if is("Stalled") => "Failed",
        () if is("Ready") => "Current",
        () => "InProgress",
    }
}

fn check_kstatus(report: &Report) {
    let wanted = match report.phase {
        Phase::Initializing | Phase::Progressing | Phase::RollingBack => "InProgress",
        Phase::Healthy | Phase::Paused => "Current",
        Phase::RolledBack | Phase::Degraded => "Failed",
    };
    assert_eq!(kstatus(report), wanted, "{report:?}");
}

/// While the fleet is paused nothing but a way back gets on.
fn check_paused(world: &World, new: &crate::state::State) {
    let (Some(_), Some(_), Some(attempt)) = (&world.fleet, &world.state.stable, &new.attempt) else {
        return;
    };
    let back = attempt
        .transitions
        .first()
        .is_some_and(|t| t.reason == "RollbackStarted");
    let old = world.state.attempt.as_ref();
    let old = old.filter(|a| (a.number, &a.revision) == (attempt.number, &attempt.revision));
    assert!(
        back || old.is_some_and(|old| attempt.weight <= old.weight),
        "the fleet is paused, and {} gets on",
        attempt.revision
    );
}

/// A rollout begins after the waves before its own, and does not outlive what spoke against another of its release.
fn check_group(world: &World, decision: &Decision) {
    let (Some(group), Some(_)) = (&world.plan.group, &world.state.stable) else {
        return;
    };
    let new = &decision.state;
    let began = decision
        .report
        .transitions
        .iter()
        .find(|t| t.reason == "AttemptStarted");
    let settled = |p: &Peer| {
        p.deleting || (p.current && !p.attempt && p.out.is_none() && p.phase == Some(Phase::Healthy))
    };
    if let Some(began) = began {
        let before = world.peers.iter().filter(|p| p.wave < group.wave);
        // Workers that go back do so after those who give them tasks, in the later waves.
        let back = world.plan.route.pulls()
            && new
                .attempt
                .as_ref()
                .is_some_and(|a| world.state.served.contains(&a.revision));
        assert!(
            back || began.message.contains("overridden") || before.into_iter().all(settled),
            "it begins before its wave: {}",
            began.message
        );
    }
    let since = world.state.group.as_ref().and_then(|g| g.since);
    let faults = || {
        world
            .peers
            .iter()
            .filter(|p| !p.deleting)
            .filter_map(|p| p.fault.as_ref())
    };
    if let Some(since) = since
        && faults().any(|fault| fault.at > since)
        && let Some(attempt) = &new.attempt
        && world
            .state
            .attempt
            .as_ref()
            .is_some_and(|a| a.number == attempt.number && a.revision == attempt.revision)
    {
        let ends = matches!(attempt.stage, Stage::Withdrawing { .. } | Stage::Settling);
        assert!(ends, "it goes on although its release was aborted: {attempt:?}");
    }
}

fn backed_by(world: &World, backend: &Backend) -> Option<Revision> {
    match backend {
        Backend::Revision(r) => Some(r.clone()),
        Backend::Slot(slot) => world.selected.get(slot).cloned(),
    }
}

fn check_weights(world: &World, state: &crate::state::State, weights: &crate::observed::Weights) {
    assert_eq!(
        weights.values().map(|w| u32::from(*w)).sum::<u32>(),
        100,
        "{weights:?}"
    );
    let ready = |b: &Backend| backed_by(world, b).map_or(0, |r| world.endpoints(&r));
    let someone_serves = weights.keys().any(|b| ready(b) > 0);
    for (backend, weight) in weights {
        assert!(
            // Whoever scales to zero asks for nobody to be served; pods that drain are no backend.
            *weight == 0 || ready(backend) > 0 || !someone_serves || world.plan.replicas == 0,
            "{backend:?} has {weight} % and no endpoint: {weights:?}"
        );
    }
    if let (Some(attempt), Some(stable)) = (&state.attempt, &state.stable)
        && world.endpoints(stable) > 0
        && !matches!(
            attempt.stage,
            Stage::Withdrawing { .. } | Stage::Held | Stage::Settling
        )
    {
        let share = weights
            .get(&Backend::Revision(attempt.revision.clone()))
            .copied()
            .unwrap_or(0);
        let ready = world.endpoints(&attempt.revision);
        if attempt.at_once {
            assert!(share == 0 || share == 100, "nobody is to meet both: {share} %");
            assert!(share == 0 || ready * 125 >= world.plan.replicas * 100);
        } else {
            // Where stable made room for them, both share what the pods that are left can't carry.
            let made_room =
                world.plan.room != Room::default() && world.endpoints(stable) < world.plan.replicas;
            assert!(
                share <= world.plan.weight_for(ready) || (made_room && share <= attempt.weight),
                "more than its pods can carry"
            );
        }
    }
}

fn check_share(world: &World, state: &crate::state::State) {
    let attempt = state.attempt.as_ref().expect("only with a canary");
    assert!(!attempt.at_once || matches!(attempt.stage, Stage::Withdrawing { .. } | Stage::Held));
    for (revision, set) in &world.sets {
        let ours = *revision == attempt.revision || state.stable.as_ref() == Some(revision);
        assert!(ours || set.ready == 0, "users would be led to {revision}");
    }
}

fn check_preview(world: &World, state: &crate::state::State, preview: &Preview) {
    assert!(world.endpoints(&preview.revision) > 0, "nobody would answer");
    let attempt = state.attempt.as_ref().expect("only a canary is previewed");
    assert_eq!(attempt.revision, preview.revision);
    assert!(matches!(attempt.stage, Stage::Stepping | Stage::Promoting));
    assert!(!preview.headers.is_empty() || preview.mirror.is_some());
    if let Some(kept) = &preview.kept {
        assert_eq!(state.stable.as_ref(), Some(&kept.revision));
        assert!(world.endpoints(&kept.revision) > 0, "nobody would answer");
        // Of a service that is being scaled to zero nobody is kept anywhere.
        let keeps_pods = world.plan.room == Room::default() || world.plan.replicas == 0;
        assert!(attempt.weight > 0 && keeps_pods);
    }
}

/// The canary's weight grows to what those pods carry that the router has had the time to learn of.
fn check_endpoints(before: &World, after: &World, decision: &Decision) {
    let (Some(attempt), Some(stable)) = (&decision.state.attempt, &decision.state.stable) else {
        return;
    };
    let backend = match before.plan.route {
        RouteMode::Owned => Backend::Revision(attempt.revision.clone()),
        RouteMode::Adopted => Backend::Slot(Slot::Canary),
        _ => return,
    };
    let had = before.weights.get(&backend).copied().unwrap_or(0);
    for effect in &decision.effects {
        let Effect::SetRoute { weights, .. } = effect else {
            continue;
        };
        let gets = weights.get(&backend).copied().unwrap_or(0);
        let known = after.settled_endpoints(SETTLE);
        let carries = if attempt.at_once && known * 125 >= before.plan.replicas * 100 {
            100
        } else {
            before.plan.weight_for(known)
        };
        assert!(
            gets <= had.max(carries) || before.endpoints(stable) == 0 || attempt.stage == Stage::Settling,
            "from {had} to {gets} % with {known} pods that the router knows: {:?}",
            after.looks.iter().rev().take(9).collect::<Vec<_>>()
        );
    }
}

/// A rollout never takes the pods beyond what it may hold.
fn check_room(world: &World, decision: &Decision) {
    let (Some(surge), Some(attempt)) = (world.plan.room.max_surge, &decision.state.attempt) else {
        return;
    };
    let bounded = !attempt.at_once && !world.plan.route.is_by_pods() && world.plan.replicas > 0;
    if !bounded || decision.state.stable.is_none() {
        return;
    }
    let had: u32 = world.sets.values().map(|set| set.wanted).sum();
    let mut pods: BTreeMap<&Revision, u32> = world.sets.iter().map(|(r, set)| (r, set.wanted)).collect();
    for effect in &decision.effects {
        if let Effect::Scale {
            revision, replicas, ..
        } = effect
        {
            // What goes may take its time.
            let now = pods.entry(revision).or_default();
            *now = (*now).max(*replicas);
        }
    }
    let most = world.plan.replicas + surge.of(world.plan.replicas);
    let has: u32 = pods.values().sum();
    assert!(has <= most.max(had), "{has} pods, and {most} at most: {pods:?}");
}

/// Pods are taken from what serves only if what is left carries its part, and all of them together everything.
fn check_made_room(world: &World, state: &crate::state::State, revision: &Revision, replicas: u32) {
    let set = &world.sets[revision];
    let weight: u8 = world
        .weights
        .iter()
        .filter(|(b, _)| backed_by(world, b).as_ref() == Some(revision))
        .map(|(_, weight)| *weight)
        .sum();
    let carriers = world.plan.carriers_of(weight);
    assert!(
        replicas >= carriers.min(set.ready),
        "{revision} has {weight} % and keeps {replicas} pods"
    );
    assert!(
        world.acknowledged || replicas >= set.ready,
        "{revision} loses pods that serve before the router has acknowledged"
    );
    let attempt = state.attempt.as_ref().expect("only for a canary");
    if state.stable.as_ref() == Some(revision) && replicas < set.ready {
        let canary = world.sets.get(&attempt.revision).map_or(0, |set| set.ready);
        assert!(
            replicas + canary >= world.plan.replicas,
            "{replicas} and {canary} serve"
        );
        assert!(replicas > 0);
    }
}

/// Workers only go where others work in their place, whatever becomes of the attempt.
fn check_workers(world: &World, decision: &Decision) {
    if world.plan.route != RouteMode::Workers || world.sets.values().any(|set| set.scaled_by.is_some()) {
        return;
    }
    let mut left: BTreeMap<&Revision, u32> = world.sets.iter().map(|(r, set)| (r, set.ready)).collect();
    for effect in &decision.effects {
        if let Effect::Scale {
            revision, replicas, ..
        } = effect
        {
            let pods = left.entry(revision).or_default();
            *pods = (*pods).min(*replicas);
        }
    }
    let had: u32 = world.sets.values().map(|set| set.ready).sum();
    let works: u32 = left.values().sum();
    assert!(
        works >= had.min(world.plan.replicas),
        "of {had} workers {works} are left: {left:?} {:?}",
        decision.effects
    );
}

fn check_scale(world: &World, state: &crate::state::State, revision: &Revision, replicas: u32) {
    let set = &world.sets[revision];
    if world.plan.route.pulls() {
        return;
    }
    if replicas < set.wanted && world.plan.room != Room::default() && state.attempt.is_some() {
        let retired = state.retiring.iter().any(|r| r.revision == *revision);
        let tried = state.attempt.as_ref().is_some_and(|a| a.revision == *revision);
        if !retired && (tried || state.stable.as_ref() == Some(revision)) {
            return check_made_room(world, state, revision, replicas);
        }
    }
    if replicas < set.wanted && replicas < world.plan.replicas {
        let weighted = world
            .weights
            .iter()
            .any(|(b, w)| *w > 0 && backed_by(world, b).as_ref() == Some(revision))
            || world.preview.as_ref().is_some_and(|p| p.revision == *revision);
        assert!(
            !weighted,
            "{revision} is scaled down while the route gives it traffic"
        );
        assert!(
            !world.shared || world.plan.route == RouteMode::Shares || set.scaled_by.is_some(),
            "{revision} is scaled down while callers inside the cluster are led to it"
        );
        assert!(
            // Pods that somebody else has given it never had users.
            world.acknowledged || !world.route_exists || set.scaled_by.is_some(),
            "{revision} is scaled down before the router has acknowledged"
        );
    }
}

fn check_evict(world: &World, pod: &str) {
    let of = |set: &&super::world::Set| set.births.iter().any(|(name, _)| name == pod);
    let set = world.sets.values().find(of).expect("only what exists is evicted");
    let place = set.births.iter().position(|(name, _)| name == pod).unwrap();
    let serves = place < set.ready as usize;
    assert!(
        !serves || set.ready > world.plan.replicas,
        "{pod} serves, and nothing is there in its place"
    );
    assert!(
        world.state.attempt.is_none(),
        "no pod goes while it is compared with"
    );
}

fn check_select(world: &World, slot: Slot, revision: &Revision) {
    let weight = world.weights.get(&Backend::Slot(slot)).copied().unwrap_or(0);
    let weight = if slot == Slot::InCluster { 100 } else { weight };
    let serving = world
        .selected
        .get(&slot)
        .map_or(0, |r| world.sets.get(r).map_or(0, |s| s.ready));
    let of_all: u32 = world.sets.values().map(|set| set.ready).sum();
    let serving = if world.shared { of_all } else { serving };
    let next = world.sets.get(revision).map_or(0, |s| s.ready);
    assert!(
        weight == 0 || serving == 0 || next > 0,
        "{slot:?} leaves pods that serve for none"
    );
}

/// An end that is allowed; a first revision that was found wanting serves on, for there is no other.
fn rests(world: &World) -> bool {
    let refused = world.state.stable.is_none() && world.state.refused.is_some();
    match world.phase() {
        Phase::Healthy | Phase::RolledBack | Phase::Paused => true,
        Phase::Degraded => refused,
        _ => false,
    }
}

/// Once the faults stop, everything comes to rest at an end that is allowed.
fn settles(world: &mut World) {
    world.blind = false;
    world.deaf = false;
    world.bad.clear();
    world.min_ready = world.min_ready.min(10);
    world.sets.values_mut().for_each(|s| s.broken = None);
    world.plan.replicas = world.plan.replicas.max(1);
    for peer in &mut world.peers {
        peer.phase = Some(Phase::Healthy);
        (peer.current, peer.attempt, peer.since, peer.out) = (true, false, None, None);
    }
    if world.plan.revision.is_none() {
        world.plan.revision = Some(name(1));
    }
    for _ in 0..4000 {
        world.live(1);
        checked_turn(world, usize::MAX);
        if rests(world)
            && world
                .last
                .as_ref()
                .is_some_and(|d| d.effects.is_empty() && d.wake_at.is_none())
        {
            break;
        }
    }
    assert!(
        rests(world),
        "it never came to rest: {:?}",
        world.last.as_ref().map(|d| &d.report)
    );
    let decision = world.turn(usize::MAX);
    assert_eq!(decision.effects, vec![], "at rest nothing is written");
}

fn story(route: RouteMode, events: &[Event]) {
    let mut world = World::new(plan("v1"));
    world.plan.route = route;
    if route == RouteMode::Adopted {
        world.route_exists = true;
        world.weights = [
            (Backend::Slot(Slot::Stable), 100),
            (Backend::Slot(Slot::Canary), 0),
        ]
        .into();
    }
    for (serial, event) in events.iter().enumerate() {
        happen(&mut world, event, serial);
    }
    // Times that were persisted by a clock that was ahead are waited for.
    world.now = world.now.max(world.latest);
    settles(&mut world);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn an_owned_route_keeps_the_invariants(events in prop::collection::vec(event(), 1..40)) {
        story(RouteMode::Owned, &events);
    }

    #[test]
    fn without_a_router_the_invariants_hold(events in prop::collection::vec(event(), 1..40)) {
        story(RouteMode::Shares, &events);
    }

    #[test]
    fn workers_keep_the_invariants(events in prop::collection::vec(event(), 1..40)) {
        story(RouteMode::Workers, &events);
    }

    #[test]
    fn a_users_route_keeps_the_invariants(events in prop::collection::vec(event(), 1..40)) {
        story(RouteMode::Adopted, &events);
    }
}

#[test]
fn what_somebody_scales_up_at_a_service_of_no_pods_is_taken_back() {
    use Event::{Crash, Live, Replicas, Scale, Spec};
    story(
        RouteMode::Shares,
        &[
            Crash(1),
            Spec(2),
            Live(6),
            Spec(3),
            Live(5),
            Replicas(0),
            Scale(1, 1),
        ],
    );
}
