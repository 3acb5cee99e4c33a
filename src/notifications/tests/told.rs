//! Whether a sink is told: no notice twice, no more than its rate, all clear after a call only.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::notices::{attempting, ended, of};
use crate::api::v1alpha1::NotificationEvent;
use crate::notifications::ledger::{End, Ledger, Rate, Verdict};
use crate::notifications::notice::Notice;

const OF: (&str, &str) = ("checkout", "u-1");

fn now() -> Timestamp {
    "2026-01-01T00:01:00Z".parse().unwrap()
}

fn notice(event: NotificationEvent, id: &str) -> Notice {
    let mut notice = of(ended("RolledBack", "HarmShown", "RolledBack")).remove(0);
    (notice.event, notice.id, notice.at) = (event, id.to_owned(), now());
    notice
}

const SEND: Verdict = Verdict::Send { omitted: 0 };

#[test]
fn nothing_is_told_twice_neither_on_the_way_nor_after_a_restart() {
    let rate = Rate::per_minute(None);
    let mut ledger = Ledger::of(None, rate);
    let rolled = notice(NotificationEvent::RolledBack, "a");
    assert_eq!(
        ledger.judge(&rolled, "u-1", false, now()),
        Verdict::Skip,
        "nobody wants it"
    );
    assert_eq!(ledger.judge(&rolled, "u-1", true, now()), SEND);
    assert_eq!(
        ledger.judge(&rolled, "u-1", true, now()),
        Verdict::Skip,
        "it is on its way"
    );
    // A restart before it has arrived: the next one tells it.
    let mut next = Ledger::of(Some(ledger.status("s", now())), rate);
    assert_eq!(next.judge(&rolled, "u-1", true, now()), SEND);
    next.ended(&rolled, OF, &End::Delivered, now());
    let status = next.status("s", now());
    assert_eq!((status.delivered, status.told.len()), (1, 1));
    let mut third = Ledger::of(Some(status), rate);
    assert_eq!(third.judge(&rolled, "u-1", true, now()), Verdict::Skip);
    // What has passed may come again.
    third.passed(&["a".to_owned()]);
    assert_eq!(third.judge(&rolled, "u-1", true, now()), SEND);
    // It is not remembered for ever.
    third.ended(&rolled, OF, &End::GaveUp("why".to_owned()), now());
    assert_eq!(third.trouble(), Some("why"));
    let later = now() + SignedDuration::from_mins(30);
    assert!(third.status("s", later).told.is_empty());
}

#[test]
fn the_rate_is_kept_and_what_was_left_out_is_counted() {
    let mut ledger = Ledger::of(None, Rate::per_minute(Some(2)));
    let mut judge = |id: &str, at| ledger.judge(&notice(NotificationEvent::Started, id), "u-1", true, at);
    assert_eq!(
        ["a", "b", "c", "d"].map(|id| judge(id, now())),
        [SEND, SEND, Verdict::Limited, Verdict::Limited]
    );
    let later = now() + SignedDuration::from_secs(31);
    assert_eq!(judge("e", later), Verdict::Send { omitted: 2 });
    assert_eq!(judge("f", later), Verdict::Limited);
    // A clock that was set back gives nothing, and takes nothing.
    assert_eq!(judge("g", now()), Verdict::Limited);
    assert_eq!(judge("c", later), Verdict::Skip, "what was left out is over");
    assert_eq!(ledger.status("s", later).dropped, 4);
}

#[test]
fn a_call_is_never_left_out_and_counts() {
    let mut ledger = Ledger::of(None, Rate::per_minute(Some(2)));
    let mut judge = |event, id: &str| ledger.judge(&notice(event, id), "u-1", true, now());
    for id in ["a", "b", "c"] {
        assert_eq!(judge(NotificationEvent::RolledBack, id), SEND, "{id}");
    }
    assert_eq!(judge(NotificationEvent::Progressed, "d"), Verdict::Limited);
    let call = judge(NotificationEvent::WaitingForApproval, "e");
    assert_eq!(call, Verdict::Send { omitted: 1 });
}

#[test]
fn all_clear_comes_once_after_a_call_whatever_the_rate_is() {
    let rate = Rate::per_minute(Some(1));
    let mut ledger = Ledger::of(None, rate);
    let healthy = notice(NotificationEvent::Healthy, "h");
    assert_eq!(
        ledger.judge(&healthy, "u-1", true, now()),
        Verdict::Skip,
        "nobody was called"
    );
    let call = notice(NotificationEvent::Degraded, "d");
    assert_eq!(ledger.judge(&call, "u-1", true, now()), SEND);
    ledger.ended(&call, OF, &End::Delivered, now());
    // The next leader knows of the call.
    let mut next = Ledger::of(Some(ledger.status("s", now())), rate);
    assert_eq!(
        next.judge(&notice(NotificationEvent::Started, "x"), "u-2", true, now()),
        SEND
    );
    assert_eq!(
        next.judge(&healthy, "u-1", true, now()),
        SEND,
        "although the rate is used up"
    );
    assert_eq!(next.judge(&healthy, "u-1", true, now()), Verdict::Skip);
    // Until it has arrived, whoever leads next tells it.
    assert_eq!(next.status("s", now()).open, ["u-1"]);
    next.ended(&healthy, OF, &End::Delivered, now());
    assert!(next.status("s", now()).open.is_empty());
}

#[test]
fn a_call_while_the_all_clear_is_on_its_way_stays_open() {
    let mut ledger = Ledger::of(None, Rate::per_minute(None));
    let healthy = notice(NotificationEvent::Healthy, "h");
    ledger.judge(&notice(NotificationEvent::Degraded, "d"), "u-1", true, now());
    ledger.judge(&healthy, "u-1", true, now());
    ledger.judge(&notice(NotificationEvent::Degraded, "e"), "u-1", true, now());
    ledger.ended(&healthy, OF, &End::Delivered, now());
    assert_eq!(ledger.status("s", now()).open, ["u-1"]);
}

#[test]
fn what_was_told_stays_small() {
    let mut ledger = Ledger::of(None, Rate::per_minute(Some(600)));
    for i in 0..600 {
        let started = notice(NotificationEvent::Started, &i.to_string());
        ledger.judge(&started, "u-1", true, now());
        ledger.ended(&started, OF, &End::Delivered, now());
    }
    let status = ledger.status("s", now());
    assert_eq!((status.told.len(), status.delivered), (200, 600));
    assert!(
        of(attempting(&json!({"name": "Stepping"}), "Progressing"))
            .iter()
            .all(|n| n.id.len() == 24)
    );
}
