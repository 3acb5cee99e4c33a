//! Jobs of conditions when the API server refuses them, or the operator dies.

use http::Method;
use molt_sim_api::{Call, Fault, Sim};
use serde_json::{Value, json};

use super::stage::{
    apply, empty, has_canary, has_stepped, idle, is_healthy, live, promote, seen, service, settle,
};

fn checked(image: &str) -> Value {
    let mut object = service(image);
    object["spec"]["guards"] = json!({"conditions": [{
        "name": "smoke",
        "job": {"template": {"spec": {"containers": [{"name": "smoke"}]}}},
    }]});
    object
}

/// A canary that is about to get its first users.
fn prepared() -> Sim {
    let sim = empty();
    apply(&sim, checked("checkout:1"));
    settle(&sim, is_healthy);
    apply(&sim, checked("checkout:2"));
    live(&sim, has_canary);
    promote(&sim);
    sim.take_log();
    sim
}

fn creates_job(call: &Call) -> bool {
    call.method == Method::POST && call.path.ends_with("/jobs")
}

fn jobs(sim: &Sim) -> Vec<Value> {
    sim.with(|server| server.objects("jobs.batch").into_iter().cloned().collect())
}

#[test]
fn a_job_is_created_once_wherever_the_operator_dies() {
    for took_effect in [false, true] {
        let sim = prepared();
        let mut crashed = false;
        sim.plan(move |call, _| {
            let dies = creates_job(call) && !crashed;
            crashed |= dies;
            dies.then_some(Fault::Crash { took_effect })
        });
        settle(&sim, |_| false);
        assert!(sim.has_crashed());
        sim.restart();
        settle(&sim, |sim| has_stepped(sim) && jobs(sim).len() == 1);
        let made = jobs(&sim);
        assert_eq!(made.len(), 1, "took effect: {took_effect}");
        assert_eq!(made[0]["metadata"]["labels"]["molt.dev/run"], "1");
        assert_eq!(
            made[0]["spec"]["template"]["spec"]["containers"][0]["image"],
            "checkout:2"
        );
    }
}

#[test]
fn a_quota_is_told_and_neither_stops_the_rollout_nor_counts_against_it() {
    let sim = prepared();
    sim.plan(|call, _| creates_job(call).then(|| Fault::over_quota("jobs", "batch", "checkout-job-x")));
    let told = |sim: &Sim| {
        let condition = seen(sim)["status"]["guards"]["conditions"][0].clone();
        condition["message"]
            .as_str()
            .is_some_and(|m| m.contains("exceeded quota"))
            && condition["verdict"] == "NotEvaluated"
            && condition["failed"] == 0
    };
    live(&sim, |sim| has_stepped(sim) && told(sim));
    idle(&sim, 3000);
    assert!(told(&sim) && has_stepped(&sim), "{}", seen(&sim)["status"]);
    let tries = sim.with_log(|log| log.iter().filter(|l| creates_job(&l.call)).count());
    assert!((1..=5).contains(&tries), "{tries} tries");
}
