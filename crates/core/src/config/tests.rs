use super::*;
use crate::state::Pin;

const ENV: &str = "configmap/env";
const FILES: &str = "configmap/files";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000 + second).unwrap()
}

/// Names that can be read: the plain name, then what is held.
fn name(plain: &Revision, content: &Content) -> Revision {
    let held: String = content.values().map(String::as_str).collect();
    Revision(format!("{plain}{held}"))
}

/// A spec, what its references hold, and the ReplicaSets there are.
struct Case {
    plain: &'static str,
    held: Vec<(&'static str, Option<&'static str>)>,
    sets: Vec<String>,
    kept: bool,
    state: State,
}

impl Case {
    /// Stable is `a1`: the template `a` with `env` holding `1`.
    fn stable() -> Self {
        let mut case = Self::new("a", &[(ENV, Some("1"))]);
        let asked = case.ask(0);
        assert_eq!(asked.revision, Some(Revision::from("a1")));
        case.state.stable = Some(Revision::from("a1"));
        case.sets.push("a1".to_owned());
        case
    }

    fn new(plain: &'static str, held: &[(&'static str, Option<&'static str>)]) -> Self {
        Self {
            plain,
            held: held.to_vec(),
            sets: Vec::new(),
            kept: true,
            state: State::default(),
        }
    }

    /// Asks, and persists.
    fn ask(&mut self, second: i64) -> Asked {
        let held = self.held.iter();
        let written = Written {
            plain: Revision::from(self.plain),
            held: held
                .map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned)))
                .collect(),
            names_any: !self.held.is_empty(),
            name: &name,
            exists: &|r| self.sets.contains(&r.0),
            kept: &|_, _| self.kept,
        };
        let asked = ask(&self.state, &written, at(second));
        self.state.config.clone_from(&asked.config);
        asked
    }

    fn revision(&mut self, second: i64) -> String {
        self.ask(second).revision.map_or_else(String::new, |r| r.0)
    }
}

#[test]
fn a_template_that_names_nothing_has_its_plain_name_at_once_and_no_memory() {
    let mut case = Case::new("a", &[]);
    let asked = case.ask(0);
    assert_eq!(asked.revision, Some(Revision::from("a")));
    assert!(asked.current && asked.config.is_none() && asked.until.is_none());
    case.state.stable = Some(Revision::from("a"));
    case.plain = "b";
    assert_eq!(case.revision(1), "b", "a new template waits for nothing");
}

#[test]
fn the_first_revision_waits_only_for_what_is_missing() {
    let mut there = Case::new("a", &[(ENV, Some("1"))]);
    let asked = there.ask(0);
    assert_eq!(asked.revision, Some(Revision::from("a1")));
    assert_eq!(asked.content.get(ENV).map(String::as_str), Some("1"));

    let mut missing = Case::new("a", &[(ENV, None)]);
    let asked = missing.ask(0);
    assert_eq!((asked.revision, asked.until), (None, Some(at(5))));
    missing.held = vec![(ENV, Some("1"))];
    assert_eq!(missing.revision(2), "a1");

    let mut never = Case::new("a", &[(ENV, None)]);
    never.ask(0);
    let asked = never.ask(5);
    assert_eq!(asked.revision, Some(Revision::from("a")));
    assert!(
        asked.content.is_empty(),
        "its pods refer to the name that the user wrote"
    );
}

#[test]
fn several_changes_in_a_row_are_one() {
    let mut case = Case::stable();
    case.held = vec![(ENV, Some("2"))];
    let asked = case.ask(10);
    assert_eq!((asked.revision, asked.current), (Some("a1".into()), false));
    assert_eq!(asked.until, Some(at(15)));
    case.held = vec![(ENV, Some("3"))];
    assert_eq!(case.revision(14), "a1");
    assert_eq!(case.revision(18), "a1", "the wait began anew");
    let asked = case.ask(19);
    assert_eq!((asked.revision, asked.current), (Some("a3".into()), true));
    assert_eq!(asked.config.unwrap().settling, None);
}

#[test]
fn a_new_template_waits_with_its_files() {
    let mut case = Case::stable();
    case.plain = "b";
    assert_eq!(case.revision(10), "a1");
    case.held = vec![(ENV, Some("2"))];
    assert_eq!(case.revision(12), "a1");
    assert_eq!(case.revision(17), "b2", "never b with the old content");
}

#[test]
fn a_way_back_does_not_wait() {
    let mut case = Case::stable();
    case.held = vec![(ENV, Some("2"))];
    case.ask(10);
    assert_eq!(case.revision(15), "a2");
    case.held = vec![(ENV, Some("1"))];
    assert_eq!(case.revision(16), "a1");

    case.held = vec![(ENV, Some("2"))];
    case.state.refused = Some("a2".into());
    assert_eq!(case.revision(17), "a2", "it stays refused");
    case.state.refused = None;
    case.state.pinned = Some(Pin {
        group: None,
        revision: "a1".into(),
        instead_of: "a2".into(),
        why: None,
    });
    case.state.config = None;
    assert_eq!(case.revision(18), "a2", "the pin stays");
}

#[test]
fn a_clock_that_is_set_back_begins_the_wait_anew() {
    let mut case = Case::stable();
    case.held = vec![(ENV, Some("2"))];
    case.ask(100);
    assert_eq!(case.ask(10).until, Some(at(15)));
}

#[test]
fn what_is_deleted_changes_nothing() {
    let mut case = Case::stable();
    case.held = vec![(ENV, None)];
    for second in [10, 20] {
        let asked = case.ask(second);
        assert_eq!((asked.revision, asked.until), (Some("a1".into()), None));
    }
    case.plain = "b";
    case.ask(30);
    let asked = case.ask(35);
    assert_eq!(asked.revision, Some("b1".into()), "a copy is still there");
    assert_eq!(asked.content.get(ENV).map(String::as_str), Some("1"));
}

#[test]
fn without_a_copy_a_new_template_has_no_content_of_what_is_missing() {
    let mut case = Case::stable();
    case.kept = false;
    case.held = vec![(ENV, None)];
    assert_eq!((case.revision(10), case.revision(16)), ("a1".into(), "a1".into()));
    case.plain = "b";
    case.ask(20);
    assert_eq!(case.revision(25), "b");
}

#[test]
fn what_appears_later_is_a_change() {
    let mut case = Case::new("a", &[(ENV, Some("1")), (FILES, None)]);
    case.ask(0);
    assert_eq!(case.revision(5), "a1");
    case.state.stable = Some("a1".into());
    case.sets.push("a1".to_owned());
    case.held = vec![(ENV, Some("1")), (FILES, Some("7"))];
    assert_eq!(case.revision(6), "a1");
    assert_eq!(case.revision(11), "a17");
}

#[test]
fn another_version_of_molt_starts_no_rollout_but_the_next_change_does() {
    let mut case = Case::new("a", &[(ENV, Some("1"))]);
    case.state.stable = Some("a".into());
    case.sets.push("a".to_owned());
    for second in [0, 100] {
        let asked = case.ask(second);
        assert_eq!(asked.revision, Some("a".into()));
        assert!(asked.content.is_empty() && asked.until.is_none());
    }
    case.held = vec![(ENV, None)];
    assert_eq!(case.revision(101), "a", "deleted");
    case.held = vec![(ENV, Some("2"))];
    assert_eq!(case.revision(110), "a");
    assert_eq!(case.revision(115), "a2");
}

#[test]
fn an_upgrade_in_the_middle_of_an_attempt_changes_neither_revision() {
    let mut case = Case::new("b", &[(ENV, Some("1"))]);
    case.state.stable = Some("a".into());
    case.state.refused = Some("b".into());
    case.sets = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(case.revision(0), "b");
}

#[test]
fn a_state_that_was_lost_is_found_by_the_sets_there_are() {
    for (sets, expected) in [(vec!["a1", "a"], "a1"), (vec!["a"], "a")] {
        let mut case = Case::new("a", &[(ENV, Some("1"))]);
        case.sets = sets.into_iter().map(str::to_owned).collect();
        assert_eq!(case.revision(0), expected);
    }
}

#[test]
fn names_that_are_followed_from_now_on_lead_back_to_the_plain_revision() {
    let mut case = Case::stable();
    case.held.clear();
    assert_eq!(case.revision(10), "a1");
    let asked = case.ask(15);
    assert_eq!((asked.revision, asked.config), (Some("a".into()), None));
}

#[test]
fn nothing_to_stay_with_is_not_stayed_with() {
    let mut case = Case::stable();
    case.sets.clear();
    case.held = vec![(ENV, Some("2"))];
    assert_eq!(case.revision(10), "a2");
}

#[test]
fn what_is_not_known_changes_nothing() {
    let mut case = Case::stable();
    let held = hold(&case.state);
    assert_eq!((held.revision, held.current), (Some("a1".into()), false));
    assert_eq!(held.config, case.state.config);
    case.state.config = None;
    case.state.stable = Some("a".into());
    assert_eq!(hold(&case.state).revision, Some("a".into()));
    assert_eq!(hold(&State::default()).revision, None);
}
