use super::*;
use serde_json::{Value, json};

fn job(conditions: &Value) -> JobFacts {
    let job: Job = serde_json::from_value(json!({
        "metadata": {"name": "shop-job-x", "uid": "j", "labels": {
            "molt.dev/service": "shop",
            "molt.dev/revision": "0a",
            "molt.dev/attempt": "2",
            "molt.dev/condition": "smoke",
            "molt.dev/job-digest": "d",
            "molt.dev/run": "3",
        }},
        "status": {"conditions": conditions},
    }))
    .unwrap();
    let (service, facts) = JobFacts::read(&job).unwrap();
    assert_eq!(
        (service.as_str(), facts.key.attempt, facts.key.run),
        ("shop", 2, 3)
    );
    facts
}

fn failed(reason: &str) -> JobFacts {
    job(&json!([
        {"type": "FailureTarget", "status": "True", "reason": reason},
        {"type": "Failed", "status": "True", "reason": reason, "message": "as the controller says"},
    ]))
}

fn pod(status: &Value) -> Vec<Arc<JobPodFacts>> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "labels": {
            "molt.dev/job-of": "shop", "batch.kubernetes.io/job-name": "shop-job-x",
        }},
        "status": status,
    }))
    .unwrap();
    vec![Arc::new(JobPodFacts::read(&pod).unwrap().1)]
}

fn container(state: &Value) -> Vec<Arc<JobPodFacts>> {
    let status = json!({"name": "smoke", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state});
    pod(&json!({"phase": "Pending", "containerStatuses": [status]}))
}

#[test]
fn a_job_under_way_waits_or_runs() {
    let job = job(&json!([]));
    assert_eq!(phase(&job, &[]), JobPhase::Waiting(None));
    let pulls = container(&json!({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}));
    let JobPhase::Waiting(Some(why)) = phase(&job, &pulls) else {
        panic!("{:?}", phase(&job, &pulls))
    };
    assert!(why.contains("ImagePullBackOff: not found"), "{why}");
    let runs = container(&json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}));
    let since = "2026-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(phase(&job, &runs), JobPhase::Running { since });
    // The kubelet is ahead of the Job controller: a container that has ended does not run any longer.
    let ended = json!({"name": "smoke", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 0, "startedAt": "2026-01-01T00:00:00Z"}}});
    let ended = pod(&json!({"phase": "Succeeded", "containerStatuses": [ended]}));
    assert_eq!(phase(&job, &ended), JobPhase::Ending);
}

#[test]
fn a_container_that_is_started_again_began_when_it_began_first() {
    let began = |restarts: i32, state: &Value| {
        let status = json!({"name": "smoke", "image": "i", "imageID": "", "ready": false, "restartCount": restarts,
            "state": state, "lastState": {"terminated": {"exitCode": 1, "startedAt": "2026-01-01T00:05:00Z"}}});
        let pods = pod(
            &json!({"phase": "Running", "startTime": "2026-01-01T00:00:00Z", "containerStatuses": [status]}),
        );
        pods[0].since().map(|at| at.to_string())
    };
    let runs = json!({"running": {"startedAt": "2026-01-01T00:07:00Z"}});
    let waits = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    assert_eq!(began(1, &runs).as_deref(), Some("2026-01-01T00:05:00Z"));
    assert_eq!(began(1, &waits).as_deref(), Some("2026-01-01T00:05:00Z"));
    assert_eq!(began(2, &runs).as_deref(), Some("2026-01-01T00:00:00Z"));
}

#[test]
fn a_container_that_ended_by_itself_has_failed_and_says_how() {
    let ended = |reason: &str, code: i32| {
        container(
            &json!({"terminated": {"exitCode": code, "reason": reason, "message": "3 of 9 checks failed\n"}}),
        )
    };
    assert_eq!(
        phase(&failed("PodFailurePolicy"), &ended("Error", 3)),
        JobPhase::Failed("container smoke of pod p ended with exit code 3: 3 of 9 checks failed".into())
    );
    let JobPhase::Failed(how) = phase(&failed("PodFailurePolicy"), &ended("OOMKilled", 137)) else {
        panic!()
    };
    assert!(how.contains("exit code 137 (OOMKilled)"), "{how}");
    // Its command does not exist: nothing was checked.
    let phase_of = |reason| phase(&failed("PodFailurePolicy"), &ended(reason, 128));
    assert!(matches!(phase_of("StartError"), JobPhase::Broken(_)));
    // The pod is gone, or not heard of yet.
    assert_eq!(
        phase(&failed("PodFailurePolicy"), &[]),
        JobPhase::Failed("as the controller says".into())
    );
    let late = container(&json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}));
    assert!(phase(&failed("PodFailurePolicy"), &late).is_under_way());
}

#[test]
fn what_was_taken_away_or_cut_off_says_nothing() {
    let evicted = pod(&json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}));
    assert_eq!(
        phase(&failed("BackoffLimitExceeded"), &evicted),
        JobPhase::Broken("pod p: Evicted: low on memory".into())
    );
    let drained = pod(&json!({"phase": "Failed", "conditions": [
        {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drained"},
    ]}));
    let JobPhase::Broken(why) = phase(&failed("BackoffLimitExceeded"), &drained) else {
        panic!()
    };
    assert!(why.contains("EvictionByEvictionAPI: drained"), "{why}");
    let phase = phase(&failed("DeadlineExceeded"), &[]);
    assert_eq!(
        phase,
        JobPhase::Broken("DeadlineExceeded: as the controller says".into())
    );
}

#[test]
fn only_complete_is_success() {
    assert_eq!(
        phase(&job(&json!([{"type": "Complete", "status": "True"}])), &[]),
        JobPhase::Succeeded
    );
    for other in [
        json!([{"type": "Complete", "status": "False"}]),
        json!([{"type": "SuccessCriteriaMet", "status": "True"}]),
        json!([{"type": "Suspended", "status": "True"}]),
    ] {
        assert!(phase(&job(&other), &[]).is_under_way(), "{other}");
    }
}

#[test]
fn a_pod_of_a_migration_counts_until_it_has_ended_though_its_job_is_gone() {
    let migrating = |name: &str, status: &Value| {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {
                "molt.dev/job-of": "shop", "molt.dev/condition": "migration.apply",
                "batch.kubernetes.io/job-name": "shop-job-x",
            }},
            "status": status,
        }))
        .unwrap();
        BTreeMap::from([(name.to_owned(), Arc::new(JobPodFacts::read(&pod).unwrap().1))])
    };
    let with = |change: fn(&mut JobFacts)| {
        let mut facts = job(&json!([]));
        facts.key.condition = "migration.apply".into();
        change(&mut facts);
        BTreeMap::from([("shop-job-x".to_owned(), Arc::new(facts))])
    };
    let runs = migrating("p", &json!({"phase": "Running"}));
    let ended = migrating("p", &json!({"phase": "Failed"}));
    let none: BTreeMap<String, Arc<JobFacts>> = BTreeMap::new();
    assert_eq!(
        leaving(&with(|_| ()), &runs),
        Vec::<String>::new(),
        "it is under way"
    );
    assert_eq!(leaving(&none, &runs), ["pod p"]);
    assert_eq!(leaving(&none, &ended), Vec::<String>::new());
    let failed = with(|job| {
        job.end = Some(End::Failed {
            reason: "DeadlineExceeded".into(),
            message: String::new(),
        });
    });
    assert_eq!(leaving(&failed, &runs), ["pod p"], "it is being ended");
    assert_eq!(leaving(&failed, &ended), Vec::<String>::new());
    assert_eq!(
        leaving(&with(|job| job.leaving = true), &BTreeMap::new()),
        ["Job shop-job-x"]
    );
    // A condition's pod changes no database.
    let smoke = BTreeMap::from([("p".to_owned(), pod(&json!({"phase": "Running"})).remove(0))]);
    assert_eq!(leaving(&none, &smoke), Vec::<String>::new());
}
