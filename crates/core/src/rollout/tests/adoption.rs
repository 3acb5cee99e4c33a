//! A Deployment is taken over and given back.

use proptest::prelude::*;

use super::workload::Workload;
use super::world::{World, plan};
use crate::adoption::AdoptionStage;
use crate::decision::Phase;
use crate::observed::Action;

/// Long enough for any rollout here.
const LONG: u32 = 900;

fn with_deployment(replicas: u32, surge: u32) -> World {
    let mut plan = plan("v1");
    plan.workload = Some("shop".into());
    plan.replicas = replicas;
    let mut world = World::new(plan);
    world.workload = Workload::serving("v1", replicas, surge);
    world
}

fn taken(replicas: u32, surge: u32) -> World {
    let mut world = with_deployment(replicas, surge);
    assert!(world.run_until(Phase::Healthy, LONG), "{:?}", world.last);
    world
}

fn stage(world: &World) -> Option<AdoptionStage> {
    world.state.adoption.as_ref().map(|a| a.stage)
}

/// The template of the Deployment is changed, as CI does it.
fn change_template(world: &mut World, revision: &str) {
    world.workload.template = Some(revision.into());
    world.update(revision);
}

/// Pods of both, and those of them that are ready.
fn pods(world: &World) -> (u32, u32) {
    let ours = world.sets.values();
    let (all, ready) = ours.fold((0, 0), |(a, r), set| (a + set.wanted, r + set.ready));
    (all + world.workload.pods(), ready + world.workload.ready())
}

/// Runs, and looks at each second that no request is lost and that there are not too many pods.
fn run_watched(world: &mut World, seconds: u32, replicas: u32, surge: u32) {
    for _ in 0..seconds {
        world.run(1);
        let (all, ready) = pods(world);
        assert!(ready >= replicas, "{ready} of {replicas} ready: {:?}", world.last);
        assert!(all <= replicas + surge, "{all} pods: {:?}", world.last);
    }
}

fn transitions(world: &mut World, seconds: u32) -> Vec<String> {
    let mut seen = Vec::new();
    for _ in 0..seconds {
        world.run(1);
        let last = world.last.as_ref().unwrap();
        seen.extend(last.report.transitions.iter().map(|t| t.reason.clone()));
    }
    seen
}

fn condition(world: &World) -> (bool, String) {
    let report = &world.last.as_ref().unwrap().report;
    let taken = report
        .conditions
        .iter()
        .find(|c| c.kind == "WorkloadTaken")
        .unwrap();
    (taken.status, format!("{}: {}", taken.reason, taken.message))
}

#[test]
fn a_deployment_is_taken_over_with_no_pod_less_and_few_more() {
    for (replicas, surge) in [(4, 1), (10, 3), (1, 1), (3, 3)] {
        let mut world = with_deployment(replicas, surge);
        run_watched(&mut world, 120, replicas, surge);
        assert_eq!(
            (world.phase(), stage(&world)),
            (Phase::Healthy, Some(AdoptionStage::Taken))
        );
        assert_eq!((world.workload.replicas, world.workload.paused), (0, true));
        assert_eq!(world.workload.held, Some(replicas));
        assert_eq!(
            (world.sets[&"v1".into()].ready, world.weight("v1")),
            (replicas, 100)
        );
        assert!(condition(&world).0);
    }
}

#[test]
fn a_pause_by_the_spec_or_of_the_fleet_stops_a_takeover_where_it_is() {
    let pauses: [fn(&mut World, bool); 2] = [
        |world, on| world.plan.paused = on,
        |world, on| world.fleet = on.then(|| "by ada: INC-12".to_owned()),
    ];
    for pause in pauses {
        // Before the first pod.
        let mut world = with_deployment(6, 1);
        pause(&mut world, true);
        world.run(60);
        assert_eq!(
            (stage(&world), world.workload.writes, world.phase()),
            (None, 0, Phase::Paused)
        );
        assert!(world.sets.is_empty());
        assert!(
            condition(&world).1.starts_with("TakeoverPaused: "),
            "{:?}",
            condition(&world)
        );
        // In the middle, for longer than the deadline.
        pause(&mut world, false);
        while world.workload.pods() > 3 {
            world.run(1);
        }
        pause(&mut world, true);
        world.turn(usize::MAX);
        let both = |world: &World| (world.sets[&"v1".into()].wanted, world.workload.replicas);
        let stood = both(&world);
        for _ in 0..500 {
            run_watched(&mut world, 1, 6, 1);
            assert_eq!((both(&world), world.phase()), (stood, Phase::Paused));
        }
        assert!(
            condition(&world).1.starts_with("TakeoverPaused: "),
            "{:?}",
            condition(&world)
        );
        // On again, with time to get somewhere.
        pause(&mut world, false);
        while stage(&world) != Some(AdoptionStage::Taken) {
            run_watched(&mut world, 1, 6, 1);
            assert_ne!(world.phase(), Phase::Degraded, "{:?}", world.last);
        }
    }
}

#[test]
fn a_number_that_falls_in_a_takeover_counts_afterwards() {
    for surge in [1, 3] {
        let mut world = with_deployment(10, surge);
        world.run(5);
        assert_eq!(stage(&world), Some(AdoptionStage::Taking));
        // An autoscaler sees few pods, and asks for few.
        world.plan.replicas = 2;
        while stage(&world) != Some(AdoptionStage::Taken) {
            let (all, ready) = pods(&world);
            assert!(
                ready >= 10 && all <= 10 + surge,
                "{ready} of {all} ready: {:?}",
                world.last
            );
            world.run(1);
        }
        world.run(30);
        assert_eq!((pods(&world), world.phase()), ((2, 2), Phase::Healthy));
    }
    // More are there at once.
    let mut world = with_deployment(4, 1);
    world.run(5);
    world.plan.replicas = 8;
    run_watched(&mut world, 60, 4, 5);
    assert_eq!(
        (stage(&world), pods(&world)),
        (Some(AdoptionStage::Taken), (8, 8))
    );
}

#[test]
fn a_state_that_is_lost_in_a_pause_is_found_again() {
    let mut world = with_deployment(6, 1);
    world.run(8);
    world.plan.paused = true;
    world.state = crate::state::State::default();
    run_watched(&mut world, 60, 6, 1);
    assert_eq!(
        (stage(&world), world.state.stable.clone(), world.phase()),
        (Some(AdoptionStage::Taking), Some("v1".into()), Phase::Paused)
    );
}

#[test]
fn no_route_leads_to_molts_pods_before_they_are_all_there() {
    let mut world = with_deployment(6, 1);
    while stage(&world) != Some(AdoptionStage::Taken) {
        assert!(!world.route_exists);
        world.run(1);
    }
}

#[test]
fn a_change_of_the_deployments_template_is_rolled_out_by_molt() {
    let mut world = taken(4, 1);
    change_template(&mut world, "v2");
    world.run(LONG);
    assert_eq!(world.state.stable, Some("v2".into()), "{:?}", world.last);
    assert_eq!((world.workload.replicas, world.workload.pods()), (0, 0));
    // A bad one is taken back, and the Deployment rolls out nothing of it.
    change_template(&mut world, "v3");
    world.bad.insert("v3".into(), 0.5);
    world.run(LONG);
    assert_eq!(
        (world.state.stable.clone(), world.phase()),
        (Some("v2".into()), Phase::RolledBack)
    );
    assert_eq!(world.workload.pods(), 0);
}

#[test]
fn it_waits_for_what_a_person_or_the_deployment_has_to_finish() {
    for change in [
        |w: &mut Workload| w.autoscaler = Some("shop".into()),
        |w: &mut Workload| w.autoscalers_unread = Some("forbidden".into()),
        |w: &mut Workload| w.paused = true,
        |w: &mut Workload| w.ready.truncate(2),
    ] {
        let mut world = with_deployment(4, 1);
        world.workload.broken = true;
        change(&mut world.workload);
        world.run(60);
        assert_eq!((stage(&world), world.workload.writes), (None, 0));
        assert!(world.sets.is_empty());
        assert!(!condition(&world).0, "{:?}", condition(&world));
    }
    let mut world = with_deployment(4, 1);
    world.workload.autoscaler = Some("shop-hpa".into());
    world.run(5);
    let (_, text) = condition(&world);
    assert!(
        text.contains("WorkloadHeldBack") && text.contains("shop-hpa") && text.contains("scaleTargetRef"),
        "{text}"
    );
    assert_eq!(world.phase(), Phase::Degraded);
    world.workload.autoscaler = None;
    world.workload.autoscalers_unread = Some("forbidden: User molt".into());
    world.run(5);
    let (_, text) = condition(&world);
    assert!(
        text.contains("WorkloadHeldBack")
            && text.contains("forbidden: User molt")
            && text.contains("list and watch"),
        "{text}"
    );
    world.workload.autoscalers_unread = None;
    assert!(world.run_until(Phase::Healthy, LONG));
}

#[test]
fn pods_that_do_not_start_leave_the_deployment_as_it_is() {
    let mut world = with_deployment(4, 1);
    world.run(2);
    world.sets.get_mut(&"v1".into()).unwrap().broken = Some(crate::observed::Trouble {
        kind: crate::observed::TroubleKind::CreateFailed,
        message: "exceeded quota".into(),
        restarts: 0,
    });
    run_watched(&mut world, 400, 4, 1);
    assert_eq!(world.workload.replicas, 4);
    assert_eq!(world.phase(), Phase::Degraded);
    assert!(
        condition(&world).1.contains("exceeded quota"),
        "{:?}",
        condition(&world)
    );
    // A release gives it back.
    world.act("back", Action::Release);
    run_watched(&mut world, 60, 4, 1);
    assert_eq!(
        (stage(&world), world.workload.held),
        (Some(AdoptionStage::Returned), None)
    );
    assert_eq!((world.workload.replicas, world.workload.paused), (4, false));
}

#[test]
fn it_is_given_back_as_it_was_taken() {
    for (replicas, surge) in [(4, 1), (10, 3), (1, 1)] {
        let mut world = taken(replicas, surge);
        world.act("back", Action::Release);
        run_watched(&mut world, 120, replicas, surge);
        assert_eq!(
            (stage(&world), world.phase()),
            (Some(AdoptionStage::Returned), Phase::Healthy)
        );
        let told = condition(&world).1;
        assert!(told.contains("and serves with"), "{told}");
        assert_eq!(
            (world.workload.replicas, world.workload.paused),
            (replicas, false)
        );
        assert_eq!((world.workload.held, world.workload.widened), (None, true));
        assert_eq!(world.sets[&"v1".into()].wanted, 0);
        assert_eq!(condition(&world).1.split(':').next(), Some("Released"));
        // Nothing is done any more, whatever becomes of the template.
        change_template(&mut world, "v2");
        let writes = world.workload.writes;
        world.run(120);
        assert_eq!((world.workload.writes, world.sets.len()), (writes, 1));
    }
}

#[test]
fn the_services_lead_to_both_before_the_first_pod_moves() {
    let mut world = taken(4, 1);
    world.act("back", Action::Release);
    while world.workload.pods() == 0 {
        world.run(1);
    }
    assert!(world.workload.widened);
}

#[test]
fn it_is_not_given_back_in_mid_flight_or_with_another_template() {
    let mut world = taken(4, 1);
    change_template(&mut world, "v2");
    world.run(30);
    assert!(world.state.attempt.is_some());
    world.act("early", Action::Release);
    world.run(1);
    assert_eq!(world.ended_actions, [("early".to_owned(), false)]);
    world.bad.insert("v2".into(), 0.5);
    world.run(LONG);
    assert_eq!(world.phase(), Phase::RolledBack);
    world.act("bad", Action::Release);
    world.run(60);
    assert_eq!(world.ended_actions.last(), Some(&("bad".to_owned(), false)));
    assert_eq!(
        (stage(&world), world.workload.pods()),
        (Some(AdoptionStage::Taken), 0)
    );
    // With the former template it is.
    change_template(&mut world, "v1");
    world.act("good", Action::Release);
    run_watched(&mut world, 60, 4, 1);
    assert_eq!(stage(&world), Some(AdoptionStage::Returned));
    assert!(world.workload.ready.iter().all(|r| r.0 == "v1"));
}

#[test]
fn a_service_that_is_deleted_gives_its_deployment_back_first() {
    let mut world = taken(4, 1);
    world.plan.deleting = true;
    world.plan.revision = None;
    while !world.gone {
        run_watched(&mut world, 1, 4, 1);
    }
    assert_eq!((world.workload.ready(), world.workload.held), (4, None));
    // In the middle of a rollout too.
    let mut world = taken(4, 1);
    change_template(&mut world, "v2");
    world.run(40);
    assert!(world.state.attempt.as_ref().unwrap().weight > 0);
    world.plan.deleting = true;
    world.plan.revision = None;
    world.workload.template = Some("v1".into());
    for _ in 0..300 {
        world.run(1);
        assert!(pods(&world).1 >= 4);
    }
    assert!(world.gone, "{:?}", world.last);
    // One whose template is not what serves is waited for; one that is gone is not.
    let mut world = taken(4, 1);
    change_template(&mut world, "v2");
    world.plan.paused = true;
    world.plan.deleting = true;
    world.plan.revision = None;
    world.run(LONG);
    assert!(!world.gone && world.sets[&"v1".into()].ready == 4);
    world.workload.exists = false;
    world.run(5);
    assert!(world.gone);
}

#[test]
fn what_somebody_writes_back_is_set_again_ever_less_often_and_told() {
    let mut world = taken(4, 1);
    let writes = world.workload.writes;
    let mut least_ready = 4;
    for _ in 0..120 {
        world.workload.replicas = 4;
        world.workload.written_by = Some("argocd-controller".into());
        world.run(1);
        least_ready = least_ready.min(world.sets[&"v1".into()].ready);
    }
    let again = world.workload.writes - writes;
    assert!((5..15).contains(&again), "{again}");
    assert_eq!(least_ready, 4);
    let (status, text) = condition(&world);
    assert!(
        !status && text.contains("argocd-controller") && text.contains("Leave replicas out."),
        "{text}"
    );
    world.run(120);
    assert_eq!((world.workload.replicas, world.workload.pods()), (0, 0));
    // Once only: at once.
    world.run(1000);
    assert!(condition(&world).0);
    world.workload.replicas = 4;
    world.run(2);
    assert_eq!(world.workload.replicas, 0);
}

#[test]
fn a_template_that_goes_on_before_the_first_pod_is_taken_over_anew() {
    let mut world = with_deployment(4, 1);
    world.turn(0);
    assert_eq!(stage(&world), Some(AdoptionStage::Taking));
    change_template(&mut world, "v2");
    let seen = transitions(&mut world, 120);
    assert!(seen.contains(&"TakeoverCancelled".to_owned()), "{seen:?}");
    assert_eq!(
        (world.state.stable.clone(), world.phase()),
        (Some("v2".into()), Phase::Healthy)
    );
}

#[test]
fn a_template_that_goes_on_in_the_middle_waits_and_is_rolled_out_afterwards() {
    let mut world = with_deployment(6, 1);
    world.run(8);
    assert!(world.workload.replicas < 6);
    change_template(&mut world, "v2");
    while stage(&world) != Some(AdoptionStage::Taken) {
        run_watched(&mut world, 1, 6, 1);
        assert_eq!(world.state.stable, Some("v1".into()));
    }
    world.run(LONG);
    assert_eq!(world.state.stable, Some("v2".into()));
}

#[test]
fn a_lost_state_is_found_again_at_the_deployment() {
    let mut world = taken(4, 1);
    world.state = crate::state::State::default();
    run_watched(&mut world, 30, 4, 1);
    assert_eq!(
        (stage(&world), world.state.stable.clone()),
        (Some(AdoptionStage::Taken), Some("v1".into()))
    );
    assert_eq!(world.state.adoption.as_ref().unwrap().replicas, 4);
}

#[test]
fn a_deployment_that_is_no_longer_named_is_left_as_it_is() {
    let mut world = taken(4, 1);
    world.plan.workload = None;
    let writes = world.workload.writes;
    world.run(30);
    assert_eq!(
        (stage(&world), world.workload.writes, world.phase()),
        (None, writes, Phase::Healthy)
    );
}

#[test]
fn a_template_of_its_own_changes_nothing_for_one_that_was_given_back() {
    let mut world = taken(4, 1);
    world.act("back", Action::Release);
    world.run(120);
    assert_eq!(stage(&world), Some(AdoptionStage::Returned));
    // Also where the template is what stable runs.
    for revision in ["v2", "v1"] {
        world.plan.workload = None;
        world.update(revision);
        let (writes, weights) = (world.workload.writes, world.weight_writes);
        for _ in 0..120 {
            world.run(1);
            assert!(
                world.last.as_ref().unwrap().effects.is_empty(),
                "{:?}",
                world.last
            );
        }
        assert_eq!((world.workload.writes, world.weight_writes), (writes, weights));
        assert_eq!(stage(&world), Some(AdoptionStage::Returned));
        assert!(
            condition(&world).1.starts_with("Released: "),
            "{:?}",
            condition(&world)
        );
    }
}

/// What may happen in one second of a takeover.
#[derive(Clone, Debug)]
enum Happening {
    /// The operator crashes after so many effects.
    Crash(usize),
    /// It decides, and everything is done.
    Turn,
    /// Nobody decides: pods start and go.
    Pass,
    Release,
    Delete,
    ChangeTemplate,
    WriteBack,
    Resume,
    /// A person pauses, or ends the pause.
    Pause,
    LoseState,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (0usize..4).prop_map(Happening::Crash),
        8 => Just(Happening::Turn),
        2 => Just(Happening::Pass),
        1 => Just(Happening::Release),
        1 => Just(Happening::Delete),
        1 => Just(Happening::ChangeTemplate),
        1 => Just(Happening::WriteBack),
        1 => Just(Happening::Resume),
        1 => Just(Happening::Pause),
        1 => Just(Happening::LoseState),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever happens, as many pods serve as before, and never more than `maxSurge` beside them as long as nobody
    /// else adds any; and everything comes to an end.
    #[test]
    fn nobody_is_left_without_a_pod(
        replicas in 1u32..8,
        surge in 1u32..4,
        happenings in proptest::collection::vec(happening(), 0..120),
    ) {
        let mut world = with_deployment(replicas, surge);
        let mut others = false;
        for (index, happening) in happenings.iter().enumerate() {
            world.live(1);
            match happening {
                Happening::Crash(after) => drop(world.turn(*after)),
                Happening::Turn => drop(world.turn(usize::MAX)),
                Happening::Release => world.act(&format!("release-{index}"), Action::Release),
                Happening::Delete => {
                    world.plan.deleting = true;
                    world.plan.revision = None;
                }
                // The Deployment rolls by itself while nobody holds it: what comes of that is not Molt's.
                Happening::ChangeTemplate if world.workload.paused && !world.plan.deleting => {
                    change_template(&mut world, "v2");
                    others = true;
                }
                Happening::WriteBack if world.workload.paused => {
                    world.workload.replicas = replicas;
                    world.workload.observed = false;
                    others = true;
                }
                Happening::Resume if world.workload.template == world.workload.makes => {
                    world.workload.paused = false;
                }
                Happening::Pause => world.plan.paused = !world.plan.paused,
                Happening::LoseState if !world.plan.deleting => {
                    world.state = crate::state::State::default();
                }
                _ => {}
            }
            if world.gone {
                break;
            }
            let (all, ready) = pods(&world);
            prop_assert!(ready >= replicas, "{ready} of {replicas} ready after {happening:?}: {:?}", world.last);
            prop_assert!(others || all <= replicas + surge, "{all} pods after {happening:?}: {:?}", world.last);
        }
        // The end. A template that is not stable's is waited for on the way back: somebody puts it right.
        world.plan.paused = false;
        for _ in 0..1500 {
            if world.gone {
                break;
            }
            let returns = world.plan.deleting || stage(&world) == Some(AdoptionStage::Returning);
            if let Some(stable) = world.state.stable.clone().filter(|_| returns) {
                world.workload.template = Some(stable);
            }
            world.run(1);
            prop_assert!(pods(&world).1 >= replicas, "{:?}", world.last);
        }
        let ends = stage(&world);
        prop_assert!(world.gone || matches!(ends, Some(AdoptionStage::Taken | AdoptionStage::Returned)), "{:?}", world.last);
        prop_assert!(!world.gone || world.workload.ready() >= replicas);
    }
}

#[test]
fn meanwhile_nobody_undoes_or_restarts() {
    let mut world = with_deployment(4, 1);
    world.run(3);
    world.act("restart", Action::Restart);
    world.act("undo", Action::Undo);
    world.run(1);
    assert_eq!(
        world.ended_actions.iter().filter(|(_, applied)| !applied).count(),
        2
    );
}
