//! New pods for stable, and how many.

use std::time::Duration;

use super::stage::{act, apply, apply_service, empty, is_healthy, is_restarted, service, settle};

#[test]
fn a_restart_leaves_a_service_of_unsaid_replicas_as_strong_as_it_was() {
    let sim = empty();
    apply_service(&sim, "checkout:1");
    settle(&sim, is_healthy);
    let mut unsaid = service("checkout:1");
    unsaid["spec"].as_object_mut().unwrap().remove("replicas");
    apply(&sim, unsaid);
    settle(&sim, is_healthy);
    // Ages are told in whole seconds.
    std::thread::sleep(Duration::from_millis(1100));
    act(&sim, "restart", "Restart");
    settle(&sim, is_restarted);
    let sets = sim.with(|s| {
        s.objects("replicasets.apps")
            .into_iter()
            .cloned()
            .collect::<Vec<_>>()
    });
    let wanted: Vec<_> = sets.iter().map(|set| &set["spec"]["replicas"]).collect();
    assert_eq!(wanted, [2]);
}
