//! Services that are released together, in waves.

use std::process::ExitCode;
use std::time::Duration;

use kube::ResourceExt;
use kube::api::{DeleteParams, PostParams};
use molt::api::v1alpha1::{Phase, PythonService, RolloutAction};
use serde_json::{Value, json};

use crate::support::cluster::{kubectl_molt, service, stable, until};
use crate::support::{Stage, given};

/// A service in a wave of the group `shop`.
fn member(name: &str, wave: u32, image: &str) -> Value {
    let mut object = service(name, image);
    object["spec"]["group"] = json!({"name": "shop", "wave": wave});
    object
}

/// Services of the group `shop` that serve their first revision, and that revision.
async fn given_group(namespace: &str, members: &[(&str, u32)]) -> (Stage, String) {
    let stage = given(namespace).await;
    for (name, wave) in members {
        stage.apply(member(name, *wave, "shop:good")).await.unwrap();
    }
    let mut first = None;
    for (name, _) in members {
        first = Some(stable(&stage.until_phase(name, Phase::Healthy).await));
    }
    (stage, first.unwrap())
}

fn message(service: &PythonService) -> String {
    let status = service.status.as_ref().unwrap();
    status.message.clone().unwrap_or_default()
}

async fn has_canary(stage: &Stage, name: &str) -> bool {
    stage
        .service(name)
        .await
        .status
        .is_some_and(|s| s.canary.is_some())
}

async fn abort(stage: &Stage, name: &str) {
    let object = json!({
        "apiVersion": "molt.dev/v1alpha1", "kind": "RolloutAction", "metadata": {"generateName": "abort-"},
        "spec": {"service": name, "action": "Abort", "requestedBy": "oncall"},
    });
    let object: RolloutAction = serde_json::from_value(object).unwrap();
    stage
        .actions()
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_next_wave_starts_when_the_former_is_healthy_through_a_restart_of_the_operator() {
    let (mut stage, first) = given_group("waves", &[("api", 0), ("web", 1)]).await;
    // As Git would: in whatever order.
    stage.apply(member("web", 1, "shop:second")).await.unwrap();
    stage.apply(member("api", 0, "shop:second")).await.unwrap();
    let told = stage
        .until_condition("web", "GroupReady", "False", "WaitingForGroup")
        .await;
    assert!(told.contains("waits for its group shop: "), "{told}");
    until("the first wave is on its way", async || {
        has_canary(&stage, "api").await
    })
    .await;
    until("the second says whom it waits for", async || {
        message(&stage.service("web").await).contains("api (wave 0): its rollout is under way")
    })
    .await;
    assert_eq!(
        kubectl_molt("waves", &["explain", "web"]).await,
        ExitCode::from(2)
    );
    stage.stop_operator().await;
    stage.start_operator();
    let web = stage.until_phase("web", Phase::Healthy).await;
    let second = stable(&web);
    assert_ne!(second, first);
    let api = stage.ended_record("api", &second, 1).await;
    let web = stage.ended_record("web", &second, 1).await;
    let ended = api.status.unwrap().ended_at.unwrap();
    assert!(web.spec.started_at >= ended, "{} {ended}", web.spec.started_at);
    let began = web.status.unwrap().transitions[0].message.clone();
    assert!(began.contains("for its group, for api at last"), "{began}");

    // The release is over; at rest nothing is written.
    until("nothing of it is left", async || {
        let status = stage.service("api").await.status.unwrap();
        status.state.unwrap().group.is_none()
    })
    .await;
    stage.until_phase("api", Phase::Healthy).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let version = stage.service("api").await.resource_version();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.service("api").await.resource_version(), version);
}

#[tokio::test]
async fn an_abort_in_the_second_wave_takes_all_of_the_release_back() {
    let members = [("api", 0), ("cart", 1), ("web", 1)];
    let (stage, first) = given_group("groupabort", &members).await;
    for (name, wave) in members {
        let mut slow = member(name, wave, "shop:second");
        if wave == 1 {
            slow["spec"]["strategy"]["canary"]["steps"][1]["pause"]["duration"] = json!("10m");
        }
        stage.apply(slow).await.unwrap();
    }
    until("the second wave has users", async || {
        let mut all = true;
        for name in ["cart", "web"] {
            let canary = stage.service(name).await.status.and_then(|s| s.canary);
            all &= canary.is_some_and(|c| c.weight >= 10);
        }
        all
    })
    .await;
    let second = stable(&stage.service("api").await);
    assert_ne!(second, first, "the first wave was promoted");
    abort(&stage, "web").await;
    for (name, _) in members {
        let back = stage.until_phase(name, Phase::RolledBack).await;
        assert_eq!(stable(&back), first, "{name}");
    }
    for name in ["api", "cart"] {
        let told = stage
            .until_condition(name, "GroupReady", "False", "GroupAborted")
            .await;
        assert!(told.contains("web of its group did not take revision"), "{told}");
        stage.until_event(name, "GroupAborted").await;
    }
    let cart = stage.ended_record("cart", &second, 1).await.status.unwrap();
    assert!(cart.message.unwrap().contains("AbortedByPerson"));
    // The way back has a record of its own, which says why.
    let back = stage.ended_record("api", &first, 2).await.status.unwrap();
    assert!(back.transitions[0].message.contains("web of its group"));

    // The correction of one waits until a person tries the others again, or does without them.
    stage.apply(member("web", 1, "shop:third")).await.unwrap();
    until("it says whom it waits for", async || {
        let web = stage.service("web").await;
        message(&web).contains("was taken back") && message(&web).contains("kubectl molt retry api")
    })
    .await;
    assert_eq!(stage.until_phase("web", Phase::Paused).await.name_any(), "web");
    let plugin = async |words: &[&str]| kubectl_molt("groupabort", words).await;
    assert_eq!(
        plugin(&["override", "web", "--reason", "INC-12"]).await,
        ExitCode::SUCCESS
    );
    let third = stable(&stage.until_phase("web", Phase::Healthy).await);
    assert!(third != first && third != second);
    assert_eq!(plugin(&["retry", "api"]).await, ExitCode::SUCCESS);
    let api = stage.until_phase("api", Phase::Healthy).await;
    assert_eq!(stable(&api), second);
}

#[tokio::test]
async fn one_that_is_deleted_or_leaves_the_group_is_not_waited_for() {
    let (stage, first) = given_group("groupgone", &[("api", 0), ("cart", 0), ("web", 1)]).await;
    for name in ["api", "cart"] {
        let mut paused = member(name, 0, "shop:second");
        paused["spec"]["paused"] = json!(true);
        stage.apply(paused).await.unwrap();
        stage.until_phase(name, Phase::Paused).await;
    }
    stage.apply(member("web", 1, "shop:second")).await.unwrap();
    until("it waits for a person's pause", async || {
        message(&stage.service("web").await).contains("api (wave 0): it is Paused")
    })
    .await;
    stage
        .services()
        .delete("api", &DeleteParams::default())
        .await
        .unwrap();
    until("it waits for the other one", async || {
        message(&stage.service("web").await).contains("cart (wave 0): it is Paused")
    })
    .await;
    let mut alone = member("cart", 0, "shop:second");
    alone["spec"]["paused"] = json!(true);
    alone["spec"]["group"]["name"] = json!("other");
    stage.apply(alone).await.unwrap();
    let web = stage.until_phase("web", Phase::Healthy).await;
    assert_ne!(stable(&web), first);
}

#[tokio::test]
async fn a_group_that_is_no_name_is_refused_with_a_reason() {
    let stage = given("groupbad").await;
    for (group, path) in [
        (json!({"name": "Shop"}), "spec.group.name"),
        (json!({"name": "shop", "wave": -1}), "spec.group.wave"),
        (json!({"wave": 1}), "spec.group.name"),
    ] {
        let mut object = service("api", "shop:good");
        object["spec"]["group"] = group;
        let refused = stage.apply(object).await.unwrap_err().to_string();
        assert!(refused.contains(path), "{refused}");
    }
}

/// The rules of a route that requests can meet: what each asks for by header, and whom it leads to, with the mark that it
/// sets; whoever has two places is told once.
async fn rules(stage: &Stage, name: &str) -> Vec<(Value, Vec<(Value, Value)>)> {
    let route = stage.routes().get(name).await.expect("the route exists").data;
    let rules = route["spec"]["rules"].as_array().cloned().unwrap_or_default();
    let backend = |b: &Value| {
        let set = &b["filters"][0]["requestHeaderModifier"]["set"][0];
        assert_eq!(set["name"], "x-molt-group", "{b}");
        (b["name"].clone(), set["value"].clone())
    };
    let rule = |rule: &Value| {
        let backends = rule["backendRefs"].as_array().unwrap();
        let value = rule["matches"][0]["headers"][0]["value"].clone();
        let mut led: Vec<_> = backends.iter().map(backend).collect();
        led.dedup();
        (value, led)
    };
    let meets = |rule: &&Value| rule["matches"][0]["headers"][0]["name"] != "x-molt-not-yet";
    rules.iter().filter(meets).map(rule).collect()
}

#[tokio::test]
async fn canaries_of_a_group_meet_by_a_header_and_so_do_stables() {
    let stage = given("groupheader").await;
    let with_header = |image: &str| {
        let mut object = member("shop", 0, image);
        object["spec"]["group"]["header"] = json!("X-Molt-Group");
        object
    };
    stage.apply(with_header("shop:good")).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let old = json!(format!("shop-{first}"));
    let one = vec![(json!(null), vec![(old.clone(), json!("stable"))])];
    until("stable is marked", async || rules(&stage, "shop").await == one).await;

    let mut slow = with_header("shop:second");
    slow["spec"]["strategy"]["canary"]["steps"][1]["pause"]["duration"] = json!("10m");
    stage.apply(slow).await.unwrap();
    let second = crate::rollouts::until_exposed(&stage, 10).await;
    let new = json!(format!("shop-{second}"));
    let (stays, meets) = ((old, json!("stable")), (new.clone(), json!("canary")));
    let paired = vec![
        (json!(null), vec![stays.clone(), meets.clone()]),
        (json!("canary"), vec![meets]),
        (json!("stable"), vec![stays]),
    ];
    until("each meets its own", async || {
        rules(&stage, "shop").await == paired
    })
    .await;
    let promote = json!({"revision": second, "attempt": 1, "action": "PromoteFull"});
    crate::people::act(&stage, promote).await;
    stage.until_phase("shop", Phase::Healthy).await;
    let one = vec![(json!(null), vec![(new, json!("stable"))])];
    until("the new stable is marked", async || {
        rules(&stage, "shop").await == one
    })
    .await;

    // Where no route of Molt's could set it, it is said, and nothing else comes of it.
    let mut shares = service("plain", "shop:good");
    shares["spec"]["group"] = json!({"name": "shop", "header": "x-molt-group"});
    shares["spec"]["traffic"] = json!({"none": {}});
    stage.apply(shares).await.unwrap();
    let told = stage
        .until_condition("plain", "GroupReady", "True", "HeaderUnused")
        .await;
    assert!(told.contains("spec.group.header is without effect"), "{told}");
    stage.until_phase("plain", Phase::Healthy).await;
}
