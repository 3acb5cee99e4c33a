use kube::ResourceExt;
use serde_json::{Value, json};

use super::*;
use crate::plugin::render::fixtures::{progressing, rolled_back};

fn now() -> Timestamp {
    "2026-03-01T02:03:22Z".parse().unwrap()
}

/// What is seen of a service after a change; its ReplicaSets are of these revisions.
fn seen(service: &PythonService, revisions: &[&str], change: impl FnOnce(&mut Value)) -> Seen {
    let mut raw = serde_json::to_value(service).unwrap();
    change(&mut raw);
    let set = |revision: &&str| {
        let set = json!({
            "metadata": {"name": revision, "labels": {labels::SERVICE: "checkout", labels::REVISION: revision}},
            "spec": {"selector": {}, "replicas": 0},
        });
        let set: ReplicaSet = serde_json::from_value(set).unwrap();
        ReplicaSetFacts::read(&set).unwrap().1
    };
    Seen {
        service: serde_json::from_value(raw.clone()).unwrap(),
        object: serde_json::from_value(raw).unwrap(),
        sets: Some(revisions.iter().map(set).collect()),
        waiting: Vec::new(),
    }
}

fn verbs(seen: &Seen) -> Vec<String> {
    let explained = Explanation::of(seen, now());
    let verb = |command: &str| {
        command
            .replace(" -n shop", "")
            .replace("kubectl molt ", "")
            .replace(" checkout", "")
    };
    explained.commands.iter().map(|c| verb(&c.command)).collect()
}

fn text_of(seen: &Seen) -> String {
    text::render(seen, &Explanation::of(seen, now()), now(), Style::PLAIN)
}

#[test]
fn a_dwell_is_explained_in_full() {
    let seen = seen(&progressing(), &[], |o| {
        o["status"]["conditions"][1]["reason"] = json!("PrometheusUnreachable");
    });
    assert_eq!(text_of(&seen), include_str!("progressing.txt"));
}

#[test]
fn what_was_taken_back_can_be_retried_or_undone() {
    let back = rolled_back();
    let with_past = |state: &mut Value| state["status"]["state"]["served"] = json!(["11aa22bb33"]);
    let known = seen(&back, &["11aa22bb33", "5b6c7d0000"], with_past);
    assert_eq!(verbs(&known), ["retry", "undo", "restart"]);
    // Without a ReplicaSet there is nothing to go back to.
    assert_eq!(
        verbs(&seen(&back, &["5b6c7d0000"], with_past)),
        ["retry", "restart"]
    );
    let text = text_of(&known);
    assert!(
        text.contains("stays refused until the template changes"),
        "{text}"
    );
    assert!(
        text.contains("it waits for another template, or for a person"),
        "{text}"
    );
    let mut blind = known;
    blind.sets = None;
    assert!(text_of(&blind).contains("you may not list ReplicaSets"));
}

#[test]
fn a_paused_attempt_names_who_paused_it_and_has_no_deadline() {
    let paused = seen(&progressing(), &[], |o| {
        o["status"]["phase"] = json!("Paused");
        o["status"]["state"]["attempt"]["deadline"] = json!("2026-03-01T02:13:00Z");
        o["status"]["state"]["attempt"]["paused"] =
            json!({"since": "2026-03-01T02:03:10Z", "person": "by ada: INC-12"});
    });
    assert_eq!(verbs(&paused), ["promote --full", "resume", "abort"]);
    let text = text_of(&paused);
    assert!(
        text.contains("paused by ada: INC-12, since 2026-03-01T02:03:10Z"),
        "{text}"
    );
    assert!(text.contains("resume it first"), "{text}");
    assert!(!text.contains("the wait is given up"), "{text}");
}

#[test]
fn a_hold_tells_what_moves_it() {
    let held = seen(&progressing(), &[], |o| {
        o["status"]["phase"] = json!("Paused");
        let attempt = &mut o["status"]["state"]["attempt"];
        attempt["stage"] = json!({"name": "Held"});
        attempt["hold"] = json!({"basis": "x", "weight": 25});
    });
    assert_eq!(verbs(&held), ["promote", "promote --full", "pause", "abort"]);
    assert!(text_of(&held).contains("a correction of slos, metrics or analysis"));
}

/// A service that was taken back, for this reason; its traffic is divided by this.
fn stalled(reason: &'static str, traffic: Value) -> Seen {
    seen(&rolled_back(), &[], move |o| {
        let grpc = traffic.pointer("/gatewayAPI/grpcRouteRef").is_some();
        o["spec"]["traffic"] = traffic;
        if grpc {
            o["spec"]["protocol"] = json!("GRPC");
        }
        o["status"]["conditions"] = json!([
            {"type": "Stalled", "status": "True", "reason": reason, "message": "m", "lastTransitionTime": "2026-03-01T02:00:00Z"},
        ]);
    })
}

#[test]
fn the_advice_names_the_route_that_there_is_and_the_revision() {
    for (traffic, route) in [
        (
            json!({"gatewayAPI": {"parentRefs": [{"name": "public"}]}}),
            "httproute checkout",
        ),
        (
            json!({"gatewayAPI": {"httpRouteRef": {"name": "front"}}}),
            "httproute front",
        ),
        (
            json!({"gatewayAPI": {"grpcRouteRef": {"name": "front"}}}),
            "grpcroute front",
        ),
        (json!({"istio": {"hosts": ["shop"]}}), "virtualservice checkout"),
        (
            json!({"istio": {"virtualServiceRef": {"name": "front"}}}),
            "virtualservice front",
        ),
    ] {
        let text = text_of(&stalled("WeightLowered", traffic));
        let told = format!("to do: kubectl get {route} -o yaml --show-managed-fields");
        assert!(text.contains(&told), "{told} in\n{text}");
    }
    let owned = json!({"gatewayAPI": {"parentRefs": [{"name": "public"}]}});
    let text = text_of(&stalled("AbortedByPerson", owned.clone()));
    let told = "to do: kubectl molt history checkout --revision 7d9f8c0000 names who and why";
    assert!(text.contains(told), "{text}");
    let text = text_of(&stalled("RevisionAltered", owned));
    assert!(
        text.contains("kubectl get replicaset checkout-7d9f8c0000 -o yaml"),
        "{text}"
    );
}

#[test]
fn what_two_conditions_say_is_said_once() {
    let wrong = |kind: &str, status: &str| {
        json!({"type": kind, "status": status, "reason": "SpecInvalid", "message": "spec.port: is missing",
            "lastTransitionTime": "2026-03-01T02:00:00Z"})
    };
    let invalid = seen(&rolled_back(), &[], |o| {
        o["status"]["conditions"] = json!([wrong("Stalled", "True"), wrong("SpecValid", "False")]);
    });
    let text = text_of(&invalid);
    for (part, times) in [
        ("SpecInvalid", 2),
        ("spec.port: is missing", 1),
        ("to do: the message lists the fields", 1),
    ] {
        assert_eq!(text.matches(part).count(), times, "{part} in\n{text}");
    }
}

#[test]
fn a_job_is_explained_by_its_runs() {
    let job = |change: fn(&mut serde_json::Value)| {
        seen(&progressing(), &[], |o| {
            o["spec"]["kind"] = json!("job");
            o["spec"]["job"] = json!({"schedule": "0 3 * * *"});
            o["spec"]["exposure"] = json!({"runs": {"count": 2}});
            let attempt = &mut o["status"]["state"]["attempt"];
            attempt["steps"] = json!([]);
            attempt["step"] = json!(0);
            attempt["trial"] = json!({"seconds": [12]});
            attempt["deadline"] = json!(null);
            change(o);
        })
    };
    let text = text_of(&job(|_| ()));
    assert!(text.contains("1 of 2 runs succeeded; runs for"), "{text}");
    assert!(text.contains("run 1 → [run 2]"), "{text}");
    assert!(
        text.contains("the next run, and how it ends decides (schedule \"0 3 * * *\")"),
        "{text}"
    );
    assert!(!text.contains("step 1"), "{text}");
    let held = text_of(&job(|o| {
        o["status"]["phase"] = json!("Paused");
        o["status"]["state"]["attempt"]["stage"] = json!({"name": "Held"});
        let paused = json!({"type": "Paused", "status": "True", "reason": "BothRunsFailed", "message": "m",
            "lastTransitionTime": "2026-03-01T02:00:00Z"});
        o["status"]["conditions"].as_array_mut().unwrap().push(paused);
    }));
    assert!(
        held.contains("once one of them succeeds the rollout goes on"),
        "{held}"
    );
    assert!(held.contains("kubectl molt promote makes it stable"), "{held}");
}

#[test]
fn a_job_whose_spec_is_invalid_is_not_said_to_run_by_it() {
    let job = |change: fn(&mut serde_json::Value)| {
        text_of(&seen(&progressing(), &[], |o| {
            o["spec"]["kind"] = json!("job");
            o["spec"]["job"] = json!({"schedule": "0 30 * * *"});
            o["status"]["phase"] = json!("Degraded");
            o["status"]["conditions"] = json!([{"type": "SpecValid", "status": "False", "reason": "SpecInvalid",
                "message": "spec.job.schedule is no schedule", "lastTransitionTime": "2026-03-01T02:00:00Z"}]);
            o["status"]["state"]["attempt"] = json!(null);
            change(o);
        }))
    };
    let ran_before = job(|_| ());
    assert!(
        ran_before.contains("the next run, as the CronJob has it"),
        "{ran_before}"
    );
    let never = job(|o| o["status"]["state"] = json!({}));
    assert!(
        never.contains("nothing: no run begins until the spec is corrected"),
        "{never}"
    );
    for text in [ran_before, never] {
        assert!(!text.contains("0 30 * * *"), "{text}");
    }
}

#[test]
fn every_stage_is_explained() {
    for (stage, commands, told) in [
        (
            json!({"name": "Deploying"}),
            &[""; 0][..],
            "the first deployment is given up",
        ),
        (
            json!({"name": "Promoting"}),
            &["promote", "promote --full", "pause", "abort"],
            "the wait is given up",
        ),
        (
            json!({"name": "Baking", "until": "2026-03-01T02:08:22Z"}),
            &["pause", "abort"],
            "02:08:22Z  the bake ends",
        ),
        (
            json!({"name": "Settling"}),
            &["pause", "abort"],
            "the route's names return",
        ),
        (
            json!({"name": "Withdrawing", "outcome": "RolledBack", "reason": "HarmShown", "message": "m"}),
            &["abort"],
            "going back to stable",
        ),
    ] {
        let seen = seen(&progressing(), &[], |o| {
            let state = &mut o["status"]["state"];
            state["attempt"]["stage"] = stage.clone();
            state["attempt"]["deadline"] = json!("2026-03-01T02:13:00Z");
            if stage["name"] == "Deploying" {
                state.as_object_mut().unwrap().remove("stable");
            }
        });
        let text = text_of(&seen);
        assert!(text.contains(told), "{told} in\n{text}");
        assert_eq!(verbs(&seen), commands, "{stage}\n{text}");
    }
}

#[test]
fn nothing_moves_and_nothing_has_begun() {
    let healthy = seen(&rolled_back(), &[], |o| {
        o["status"]["phase"] = json!("Healthy");
        o["status"]["state"] = json!({
            "stable": "5b6c7d0000",
            "pinned": {"revision": "5b6c7d0000", "insteadOf": "7d9f8c0000"},
            "rival": {"manager": "argocd-controller", "last": "2026-03-01T02:00:00Z", "times": 3},
            "retiring": [{"revision": "7d9f8c0000", "scaleDownAt": "2026-03-01T02:04:22Z"}],
        });
    });
    let text = text_of(&healthy);
    for part in [
        "it stands for the spec's revision 7d9f8c0000",
        "argocd-controller writes the route's weights as well",
        "in 1m  02:04:22Z  the pods of revision 7d9f8c0000 go",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert_eq!(verbs(&healthy), [""; 0]);

    let new = seen(&progressing(), &[], |o| {
        o.as_object_mut().unwrap().remove("status");
    });
    let text = text_of(&new);
    assert!(
        text.contains("Unknown\nno operator has taken it up yet\nis the operator running?"),
        "{text}"
    );
    assert_eq!(new.service.name_any(), "checkout");
}

#[test]
fn an_action_that_nobody_handles_is_told() {
    let mut waiting = seen(&progressing(), &[], |_| ());
    let action = json!({
        "metadata": {"name": "checkout-x"},
        "spec": {"service": "checkout", "action": "Abort", "requestedBy": "ada"},
    });
    waiting.waiting = vec![serde_json::from_value(action).unwrap()];
    assert!(text_of(&waiting).contains("Abort by ada waits to be handled"));
}

#[test]
fn a_deployment_that_was_taken_over_can_be_given_back() {
    let back = rolled_back();
    let taken = |stage: &'static str| {
        seen(&back, &["5b6c7d0000"], move |o| {
            o["spec"]["workloadRef"] =
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "checkout"});
            o["spec"].as_object_mut().unwrap().remove("template");
            o["status"]["state"]["adoption"] = json!({
                "workload": "checkout", "uid": "u-1", "replicas": 4, "stage": stage,
                "movedAt": "2026-03-01T02:00:00Z", "seenReplicas": 0,
            });
        })
    };
    assert!(verbs(&taken("Taken")).contains(&"release".to_owned()));
    let returned = taken("Returned");
    assert!(!verbs(&returned).contains(&"release".to_owned()));
    let refused = Explanation::of(&returned, now()).refused;
    let release = refused.iter().find(|refused| refused.verb == "release");
    assert!(release.is_some_and(|r| r.why.contains("is being given back already")));
    // Of one that was not taken over nothing is said.
    let explained = Explanation::of(&seen(&back, &["5b6c7d0000"], |_| ()), now());
    assert!(explained.refused.iter().all(|refused| refused.verb != "release"));
}
