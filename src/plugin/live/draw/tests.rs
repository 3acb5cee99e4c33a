use jiff::Timestamp;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use serde_json::json;

use super::*;
use crate::api::v1alpha1::PythonService;
use crate::plugin::live::feed::News;
use crate::plugin::live::model::Key;
use crate::plugin::render::fixtures::progressing;

fn now() -> Timestamp {
    "2026-03-01T02:03:22Z".parse().unwrap()
}

/// With a second objective, and blocks that were counted.
fn model() -> Model {
    let mut service = serde_json::to_value(progressing()).unwrap();
    let mut latency = service["status"]["slos"][0].clone();
    latency["name"] = json!("latency");
    latency["verdict"] = json!("Safe");
    latency["evidence"] = json!({"harm": "10.0", "safe": "25.0"});
    service["status"]["slos"].as_array_mut().unwrap().push(latency);
    let service: PythonService = serde_json::from_value(service).unwrap();
    let mut model = Model::new(service, now());
    let verdict = |at: &str, canary: u32, stable: u32| {
        json!({
            "at": at, "step": 1, "weight": 25, "slo": "availability",
            "canary": {"total": 100, "bad": canary}, "stable": {"total": 100, "bad": stable},
            "evidence": {"harm": "1.0", "safe": "1.0"}, "margin": "0.001", "spent": "0.1%", "verdict": "Continue",
        })
    };
    let record = json!({
        "apiVersion": "molt.dev/v1alpha1", "kind": "RolloutRecord", "metadata": {"name": "checkout-1"},
        "spec": {"service": "checkout", "revision": "7d9f8c0000", "attempt": 1, "startedAt": "2026-03-01T02:00:00Z"},
        "status": {"verdicts": [verdict("2026-03-01T02:01:00Z", 4, 0), verdict("2026-03-01T02:03:00Z", 2, 1)]},
    });
    let record = News::Record(Box::new(serde_json::from_value(record).unwrap()));
    assert!(model.learn(record, now()).is_continue());
    model
}

fn drawn(model: &Model, width: u16, height: u16, theme: Theme) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, theme)).unwrap();
    terminal
}

/// The screen as lines of text.
fn screen(model: &Model, width: u16, height: u16) -> String {
    let terminal = drawn(model, width, height, Theme::Plain);
    let cells = terminal.backend().buffer().content();
    let rows = cells.chunks(usize::from(width));
    let row = |row: &[ratatui::buffer::Cell]| {
        let text: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.trim_end().to_owned()
    };
    rows.map(row).collect::<Vec<_>>().join("\n")
}

fn has(screen: &str, parts: &[&str]) {
    for part in parts {
        assert!(screen.contains(part), "{part:?} is not in\n{screen}");
    }
}

#[test]
fn a_usual_terminal_shows_everything() {
    let screen = screen(&model(), 80, 24);
    assert!(screen.starts_with("shop/checkout  Progressing  02:03:22Z\nrevision 7d9f8c0000 at 25 %"));
    has(
        &screen,
        &[
            "stable  5b6c7d0000  ███████████████░░░░░  75%  4 of 4 pods ready",
            "canary  7d9f8c0000  █████░░░░░░░░░░░░░░░  25%  1 of 1 pods ready  attempt 1",
            "! MetricsAvailable=False Unreachable for 2s  no answer within 5 s",
            "step 2 of 4: dwells, 38s left; runs for 3m22s",
            "25% → [1m] → 50% → 1m → 100% → bake",
            "▸ availability 99.9%  Continue  canary 4 of 3,412 bad (0.12%), stable 0.10%",
            "harm   ░░░░░░░░░░░░ 0.4 of 100",
            "safe   ██████████░░ 11.2 of 20",
            "0.2% spent of 2%, 83.1% was left",
            "burn rate 1.17, stable 0.98; adds 0.05",
            "  latency  Safe",
            "bad requests by block, availability: ● canary  ○ stable",
            "events",
            "02:02:50Z  25%  WeightRaised  the canary gets 25 % of the traffic",
            "q quit",
        ],
    );
    assert!(screen.lines().count() == 24);
}

#[test]
fn what_was_taken_back_stays_on_the_screen() {
    let mut ended = serde_json::to_value(progressing()).unwrap();
    let state = &mut ended["status"]["state"];
    let attempt = state["attempt"].take();
    state.as_object_mut().unwrap().remove("attempt");
    state["last"] = json!({
        "revision": attempt["revision"], "number": attempt["number"], "outcome": "RolledBack", "reason": "HarmShown",
        "message": "availability: 4 of 100 were bad", "startedAt": attempt["startedAt"], "endedAt": "2026-03-01T02:03:20Z",
        "maxWeight": 25, "transitions": attempt["transitions"],
    });
    ended["status"].as_object_mut().unwrap().remove("slos");
    ended["status"]["phase"] = json!("RolledBack");
    let ended: PythonService = serde_json::from_value(ended).unwrap();
    let mut watched = model();
    let told = News::Service(Box::new(ended.clone()));
    assert!(watched.learn(told, now()).is_continue());
    let shown = [
        "attempt 1 at 7d9f8c0000 ended RolledBack (HarmShown) 2s ago, after 3m20s; it had",
        "up to 25% of the traffic",
        "availability 99.9%",
        "harm   ░░░░░░░░░░░░ 0.4 of 100",
        "bad requests by block, availability: ● canary  ○ stable",
        "WeightRaised  the canary gets 25 % of the traffic",
    ];
    has(&screen(&watched, 80, 30), &shown);
    // Also to somebody who comes too late: by the record.
    let record = json!({
        "apiVersion": "molt.dev/v1alpha1", "kind": "RolloutRecord", "metadata": {"name": "checkout-1"},
        "spec": {"service": "checkout", "revision": "7d9f8c0000", "attempt": 1, "startedAt": "2026-03-01T02:00:00Z"},
        "status": {"slos": [{
            "name": "availability", "canary": {"total": 100, "bad": 4}, "stable": {"total": 300, "bad": 0},
            "spentByRollout": "0.2%", "evidence": {"harm": "0.4", "safe": "11.2"},
        }]},
    });
    let mut late = Model::new(ended, now());
    let record = News::Record(Box::new(serde_json::from_value(record).unwrap()));
    assert!(late.learn(record, now()).is_continue());
    has(&screen(&late, 80, 30), &shown);
    has(
        &screen(&late, 80, 30),
        &["canary 4 of 100 bad (4.00%), stable 0.00%"],
    );
    has(&screen(&late, 140, 40), &["RolledBack (HarmShown)"]);
}

#[test]
fn a_wide_terminal_has_the_way_as_a_tree_beside_the_chart() {
    let screen = screen(&model(), 140, 40);
    has(
        &screen,
        &[
            "attempt 1 at 7d9f8c0000",
            "├ ✓ 25%",
            "├ ▶ 1m",
            "│   step 2 of 4: dwells, 38s left",
            "├ · 50%",
            "└ · bake",
            "4.6%",
            "3m22s",
        ],
    );
    // Both blocks of each revision: the signs, and those of the title.
    assert_eq!(screen.matches('●').count(), 3, "{screen}");
    assert_eq!(screen.matches('○').count(), 3, "{screen}");
}

#[test]
fn the_chosen_objective_is_shown_in_full() {
    let mut model = model();
    model.press(Key::Next);
    let screen = screen(&model, 100, 30);
    has(
        &screen,
        &[
            "▸ latency",
            "harm   ██████░░░░░░ 10.0 of 100",
            "safe   ████████████ 25.0 of 20",
            "bad requests by block, latency",
            "no block has been counted yet",
        ],
    );
}

#[test]
fn a_narrow_terminal_keeps_what_matters_and_no_size_is_too_small() {
    let screen = screen(&model(), 40, 20);
    has(
        &screen,
        &[
            "shop/checkout  Progressing",
            "canary  7d9f8c0000",
            "[1m]",
            "q quit",
        ],
    );
    let mut long = model();
    long.service.status.as_mut().unwrap().message = Some("x".repeat(500));
    for (width, height) in [(1, 1), (3, 2), (10, 5), (20, 60), (300, 3), (300, 90)] {
        for theme in [Theme::Plain, Theme::Colours] {
            drawn(&model(), width, height, theme);
            drawn(&long, width, height, theme);
        }
    }
}

#[test]
fn a_loss_of_the_api_server_is_told_and_everything_stays_to_be_seen() {
    let mut model = model();
    let why = "the API server can't be reached: connection refused";
    assert!(model.learn(News::Lost(why.to_owned()), now()).is_continue());
    model.now = "2026-03-01T02:03:34Z".parse().unwrap();
    let screen = screen(&model, 80, 24);
    has(
        &screen,
        &[
            "! no contact for 12s, what is shown is older",
            "connection refused",
            "canary  7d9f8c0000",
        ],
    );
}

#[test]
fn events_are_scrolled() {
    let mut model = model();
    model.press(Key::Down);
    let screen = screen(&model, 80, 24);
    has(&screen, &["events, 1 newer above", "AttemptStarted"]);
    assert!(!screen.contains("WeightRaised"), "{screen}");
}

#[test]
fn colours_say_nothing_that_words_do_not() {
    let model = model();
    let (plain, coloured) = (
        drawn(&model, 120, 40, Theme::Plain),
        drawn(&model, 120, 40, Theme::Colours),
    );
    let cells = |terminal: &Terminal<TestBackend>| terminal.backend().buffer().content().to_vec();
    let (plain, coloured) = (cells(&plain), cells(&coloured));
    assert!(
        plain
            .iter()
            .all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset)
    );
    assert!(coloured.iter().any(|cell| cell.fg == Color::Yellow));
    assert!(plain.iter().zip(&coloured).all(|(a, b)| a.symbol() == b.symbol()));
}

#[test]
fn nothing_in_a_message_steers_the_terminal() {
    let mut model = model();
    let evil = "\x1b[2J\x1b]0;owned\x07 \u{202e}back\nline";
    let status = model.service.status.as_mut().unwrap();
    status.message = Some(evil.to_owned());
    status.slos.as_mut().unwrap()[0].name = evil.to_owned();
    status.conditions.as_mut().unwrap()[1].message = evil.to_owned();
    status.canary.as_mut().unwrap().revision = evil.to_owned();
    status
        .state
        .as_mut()
        .unwrap()
        .attempt
        .as_mut()
        .unwrap()
        .transitions[1]
        .message = evil.to_owned();
    model.lost = Some((now(), evil.to_owned()));
    for (width, height) in [(80, 40), (140, 40)] {
        let screen = screen(&model, width, height);
        let bad = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!screen.contains(bad), "{screen:?}");
        has(&screen, &["�[2J"]);
    }
}

#[test]
fn a_service_without_status_asks_for_the_operator() {
    let mut service = progressing();
    service.status = None;
    let screen = screen(&Model::new(service, now()), 80, 24);
    has(
        &screen,
        &["shop/checkout  Unknown", "no operator has taken it up yet"],
    );
}

#[test]
fn a_long_way_is_shown_around_where_it_is() {
    let mut service = serde_json::to_value(progressing()).unwrap();
    let attempt = &mut service["status"]["state"]["attempt"];
    let steps: Vec<_> = (1..=20)
        .flat_map(|n| [json!({"setWeight": n * 5 - 1}), json!({"dwell": 60})])
        .collect();
    attempt["steps"] = json!(steps);
    attempt["step"] = json!(21);
    let model = Model::new(serde_json::from_value(service).unwrap(), now());
    has(&screen(&model, 80, 24), &["… ", "54% → [1m] → 59%", " …"]);
    has(&screen(&model, 120, 24), &["├ ✓ 54%", "├ ▶ 1m", "├ · 59%"]);
}

#[test]
fn the_page_shows_what_it_looks_like() {
    let page = std::fs::read_to_string("docs/watching.md").unwrap();
    let screen = screen(&model(), 100, 26);
    assert!(page.contains(&screen), "docs/watching.md lacks this:\n{screen}");
}
