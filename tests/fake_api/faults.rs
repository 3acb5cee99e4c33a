//! What the operator makes of an API server that refuses, is slow, or breaks off.

use http::Method;
use molt_sim_api::{Call, Fault, Sim};
use serde_json::Value;

use super::players::NO_GATEWAY;
use super::stage::{apply, apply_service, empty, idle, is_healthy, live, seen, service};

fn prepared() -> Sim {
    let sim = empty();
    apply_service(&sim, "checkout:1");
    sim
}

fn is_status_write(call: &Call) -> bool {
    call.is_write() && call.path.ends_with("pythonservices/checkout/status")
}

fn condition(sim: &Sim, message: &str) -> bool {
    let service = seen(sim);
    let conditions = service["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["message"].as_str().is_some_and(|m| m.contains(message)))
}

#[test]
fn a_conflict_on_the_status_ends_the_reconcile_with_no_effect_applied() {
    let sim = prepared();
    sim.plan(|call, _| is_status_write(call).then(Fault::conflict));
    live(&sim, |sim| {
        sim.with_log(|log| log.iter().filter(|l| is_status_write(&l.call)).count() > 1)
    });
    sim.with_log(|log| {
        let effects: Vec<&Call> = log
            .iter()
            .map(|l| &l.call)
            .filter(|c| c.is_write() && !c.path.contains("/pythonservices/"))
            .collect();
        assert!(effects.is_empty(), "{effects:#?}");
    });
    sim.no_faults();
    live(&sim, is_healthy);
}

#[test]
fn a_problem_that_comes_twice_is_told_no_longer_than_it_lasts() {
    let sim = prepared();
    live(&sim, is_healthy);
    let mut changed = service("checkout:1");
    changed["spec"]["progressDeadline"] = "5m".into();
    apply(&sim, changed);
    // The second write tells of the first's failure; when the third fails in the same way, the status says so
    // already, so that nothing is written which would wake the operator.
    let mut writes = 0;
    sim.plan(move |call, _| {
        writes += usize::from(is_status_write(call));
        let fails = is_status_write(call) && matches!(writes, 1 | 3);
        fails.then(Fault::internal_error)
    });
    let failed = |sim: &Sim| sim.with_log(|log| log.iter().filter(|l| l.fault.is_some()).count());
    live(&sim, |sim| failed(sim) == 2 && is_healthy(sim));
}

#[test]
fn a_missing_right_is_named_in_a_condition() {
    let sim = prepared();
    sim.plan(|call, _| {
        let set = call.is_write() && call.path.contains("/replicasets/");
        set.then(|| Fault::forbidden("patch", "replicasets", "apps", "checkout"))
    });
    live(&sim, |sim| {
        condition(
            sim,
            "add the verb patch on replicasets.apps to the operator's role",
        )
    });
    sim.no_faults();
    live(&sim, is_healthy);
}

#[test]
fn a_record_that_is_not_taken_is_told_of_and_made_good() {
    let sim = prepared();
    sim.plan(|call, _| {
        let record = call.is_write() && call.path.contains("/rolloutrecords");
        record.then(|| Fault::forbidden("create", "rolloutrecords", "molt.dev", "checkout"))
    });
    live(&sim, |sim| {
        is_healthy(sim) && condition(sim, "add the verb create on rolloutrecords.molt.dev")
    });
    let records = |sim: &Sim| sim.with(|s| s.objects("rolloutrecords.molt.dev").len());
    assert_eq!(records(&sim), 0);
    sim.no_faults();
    // The attempt ended long before.
    live(&sim, |sim| {
        records(sim) == 1 && !condition(sim, "rolloutrecords.molt.dev")
    });
}

#[test]
fn what_took_effect_without_an_answer_is_not_done_twice() {
    let sim = prepared();
    sim.plan(|call, ordinal| {
        // Every second write is carried out and its answer lost.
        (call.is_write() && ordinal.write % 2 == 1).then_some(Fault::Lost { took_effect: true })
    });
    live(&sim, is_healthy);
    sim.with_log(|log| {
        let mut created: Vec<&str> = log
            .iter()
            .filter(|l| l.code == Some(201) && !l.call.path.contains("/events"))
            .map(|l| l.call.path.as_str())
            .collect();
        let all = created.len();
        created.sort_unstable();
        created.dedup();
        assert_eq!(created.len(), all, "{created:#?}");
    });
}

#[test]
fn faults_that_pass_delay_and_change_nothing() {
    let sim = prepared();
    sim.plan(|call, ordinal| {
        // Watches are asked for again with a pause of a second and more: one fault each is enough.
        if !call.is_write() {
            return None;
        }
        match ordinal.write {
            1 => Some(Fault::internal_error()),
            3 => Some(Fault::Unreachable),
            5 => Some(Fault::Lost { took_effect: false }),
            7 => Some(Fault::conflict()),
            _ => None,
        }
    });
    live(&sim, is_healthy);
}

#[test]
fn watches_that_close_or_expire_are_made_good() {
    let sim = prepared();
    sim.hold_watches(true);
    sim.with(molt_sim_api::ApiServer::expire);
    sim.hold_watches(false);
    live(&sim, is_healthy);
    apply_service(&sim, "checkout:2");
    let closed = std::cell::Cell::new(false);
    live(&sim, |sim| {
        if !closed.replace(true) {
            sim.with(molt_sim_api::ApiServer::expire);
            sim.close_watches();
        }
        super::stage::has_canary(sim)
    });
}

#[test]
fn a_service_that_does_not_move_causes_no_writes() {
    let sim = prepared();
    live(&sim, is_healthy);
    idle(&sim, 1500);
    sim.take_log();
    idle(&sim, 1500);
    sim.with_log(|log| {
        let writes: Vec<String> = log
            .iter()
            .filter(|l| l.call.is_write())
            .map(|l| format!("{} {}", l.call.method, l.call.path))
            .collect();
        assert!(writes.is_empty(), "{writes:#?}");
    });
}

#[test]
fn a_status_that_the_store_has_no_room_for_is_told_by_an_event() {
    let sim = prepared();
    sim.plan(|call, _| is_status_write(call).then(Fault::too_large));
    live(&sim, |sim| {
        sim.with_log(|log| {
            log.iter().any(|l| {
                l.call.path.contains("/events") && l.call.body.to_string().contains("StatusNotWritten")
            })
        })
    });
    sim.no_faults();
    live(&sim, is_healthy);
}

#[test]
fn a_field_that_somebody_else_applies_is_put_right() {
    let sim = prepared();
    live(&sim, is_healthy);
    let foreign = serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "checkout"},
        "spec": {"ports": [{"name": "http", "port": 8000, "protocol": "TCP", "targetPort": 9}]},
    });
    let path = "/api/v1/namespaces/shop/services/checkout?fieldManager=other&force=true";
    let answer = sim.ask(&Call::new(
        Method::PATCH,
        path,
        "application/apply-patch+yaml",
        foreign,
    ));
    assert_eq!(answer.code, 200, "{}", answer.body);
    let port = |sim: &Sim| -> Value {
        sim.with(|s| {
            s.object("services", "shop", "checkout").unwrap()["spec"]["ports"][0]["targetPort"].clone()
        })
    };
    assert_eq!(port(&sim), 9);
    live(&sim, |sim| port(sim) == 8000);
}

#[test]
fn a_route_that_somebody_deletes_is_made_again_and_told_of_once() {
    let sim = prepared();
    live(&sim, is_healthy);
    let told = |sim: &Sim| {
        let is_of_it = |l: &&molt_sim_api::service::Logged| {
            l.call.path.contains("/events") && l.call.body["reason"] == "RouteMadeAgain"
        };
        sim.with_log(|log| log.iter().filter(is_of_it).count())
    };
    assert_eq!(told(&sim), 0, "the first time nobody had deleted it");
    let path = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/checkout";
    let delete = |sim: &Sim| {
        let answer = sim.ask(&Call::new(Method::DELETE, path, "application/json", Value::Null));
        assert_eq!(answer.code, 200, "{}", answer.body);
    };
    // Who starts without having seen it can't tell a deletion from a beginning: it is deleted again then.
    let at = std::cell::Cell::new(std::time::Instant::now());
    live(&sim, |sim| {
        let there = |s: &mut molt_sim_api::ApiServer| {
            s.object("httproutes.gateway.networking.k8s.io", "shop", "checkout")
                .is_some()
        };
        if told(sim) == 0 && at.get().elapsed().as_millis() > 1500 && sim.with(there) {
            delete(sim);
            at.set(std::time::Instant::now());
        }
        told(sim) > 0
    });
    idle(&sim, 300);
    assert_eq!(told(&sim), 1);
    assert!(sim.with(|s| {
        s.object("httproutes.gateway.networking.k8s.io", "shop", "checkout")
            .is_some()
    }));
    live(&sim, is_healthy);
}

#[test]
fn a_gateway_api_that_is_installed_late_is_asked_for_and_found_without_a_restart() {
    let sim = prepared();
    let of_routes = |call: &Call| call.path.contains("/httproutes");
    sim.plan(move |call, _| of_routes(call).then(Fault::unknown_kind));
    let installed = std::cell::Cell::new(false);
    live(&sim, |sim| {
        let told = condition(sim, "the cluster has no HTTPRoute");
        if told && !installed.replace(true) {
            let service = seen(sim);
            let conditions = service["status"]["conditions"].as_array().unwrap();
            let route_ready = conditions.iter().find(|c| c["type"] == "RouteReady").unwrap();
            assert_eq!(route_ready["reason"], "GatewayApiMissing");
            sim.no_faults();
        }
        installed.get() && is_healthy(sim)
    });
    assert!(sim.with(|s| {
        s.object("httproutes.gateway.networking.k8s.io", "shop", "checkout")
            .is_some()
    }));
}

#[test]
fn a_gateway_that_does_not_exist_is_named_in_the_status() {
    let sim = empty();
    let mut service = service("checkout:1");
    service["spec"]["traffic"]["gatewayAPI"]["parentRefs"][0]["name"] = NO_GATEWAY.into();
    apply(&sim, service);
    let text = "no controller has answered for Gateway shop/missing";
    live(&sim, |sim| condition(sim, text));
    let service = seen(&sim);
    assert!(service["status"]["message"].as_str().unwrap().contains(text));
    let conditions = service["status"]["conditions"].as_array().unwrap();
    let route_ready = conditions.iter().find(|c| c["type"] == "RouteReady").unwrap();
    assert_eq!(
        (&route_ready["status"], &route_ready["reason"]),
        (&"False".into(), &"RouteNotAcknowledged".into())
    );
}
