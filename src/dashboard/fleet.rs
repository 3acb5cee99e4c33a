//! All services as lines, in the order of their last change: every viewer is at a place in that order, and is sent what
//! came after it. Nothing is kept for a viewer, so a slow one costs nothing and misses nothing but what was overtaken.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::k8s::Key;

/// Deletions that are remembered; a viewer that has missed more begins anew.
const MOST_GONE: usize = 4_096;

/// The lines, and how it stands with the API server.
#[derive(Debug)]
pub struct Fleet {
    lines: RwLock<Lines>,
    pulse: watch::Sender<Pulse>,
    epoch: u64,
}

#[derive(Debug, Default)]
struct Lines {
    by_key: HashMap<Key, Line>,
    by_change: BTreeMap<u64, Key>,
    gone: VecDeque<(u64, Key)>,
    /// Every namespace that ever had a service.
    namespaces: BTreeSet<String>,
    /// The change of the last deletion that was forgotten.
    forgotten: u64,
    last: u64,
}

#[derive(Debug)]
struct Line {
    change: u64,
    json: Arc<str>,
}

/// How it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// The last change.
    pub change: u64,
    /// Namespaces that have had a service.
    pub namespaces: usize,
    /// All services have been read once.
    pub synced: bool,
    /// The API server answers.
    pub connected: bool,
    /// When that was seen to change.
    pub since: Timestamp,
    /// Why services can't be watched although it answers.
    pub trouble: Option<String>,
}

/// A place in the order of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    epoch: u64,
    change: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.epoch, self.change)
    }
}

impl FromStr for Place {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, change) = text.split_once('-').unwrap_or((text, ""));
        Ok(Self {
            epoch: u64::from_str_radix(epoch, 16)?,
            change: u64::from_str_radix(change, 16)?,
        })
    }
}

/// Which namespaces somebody may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All that are watched.
    All,
    /// These.
    Only(BTreeSet<String>),
}

impl Scope {
    /// Whether it has none at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::Only(BTreeSet::new())
    }

    /// Whether it has the namespace.
    pub fn has(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(namespaces) => namespaces.contains(namespace),
        }
    }
}

/// What came after a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The viewer is to forget all lines first.
    pub reset: bool,
    /// Lines that are new or changed, as JSON.
    pub lines: Vec<Arc<str>>,
    /// Keys of lines that are gone.
    pub gone: Vec<Key>,
    /// Where the viewer is then.
    pub place: Place,
    /// There is more.
    pub more: bool,
}

impl Fleet {
    /// An empty one; `epoch` tells it from one of another process.
    pub fn new(epoch: u64) -> Self {
        Self {
            lines: RwLock::default(),
            pulse: watch::Sender::new(Pulse {
                change: 0,
                namespaces: 0,
                synced: false,
                connected: true,
                since: Timestamp::now(),
                trouble: None,
            }),
            epoch,
        }
    }

    /// Tells of changes of the [`Pulse`].
    pub fn pulse(&self) -> watch::Receiver<Pulse> {
        self.pulse.subscribe()
    }

    /// A line as it is now; one that says the same as before is no news.
    pub fn put(&self, key: Key, json: String) {
        let mut lines = self.write();
        if lines.by_key.get(&key).is_some_and(|line| *line.json == *json) {
            return;
        }
        lines.last += 1;
        let line = Line {
            change: lines.last,
            json: json.into(),
        };
        let change = line.change;
        if !lines.namespaces.contains(&key.namespace) {
            lines.namespaces.insert(key.namespace.clone());
        }
        let namespaces = lines.namespaces.len();
        if let Some(before) = lines.by_key.insert(key.clone(), line) {
            lines.by_change.remove(&before.change);
        }
        lines.by_change.insert(change, key);
        drop(lines);
        self.tell(change, namespaces);
    }

    /// The service is gone.
    pub fn remove(&self, key: &Key) {
        let mut lines = self.write();
        let Some(before) = lines.by_key.remove(key) else {
            return;
        };
        lines.by_change.remove(&before.change);
        lines.last += 1;
        let change = lines.last;
        lines.gone.push_back((change, key.clone()));
        if lines.gone.len() > MOST_GONE
            && let Some((forgotten, _)) = lines.gone.pop_front()
        {
            lines.forgotten = forgotten;
        }
        drop(lines);
        self.tell(change, 0);
    }

    /// All services have been read: what is not among them is gone.
    pub fn synced(&self, there: &HashSet<Key>) {
        let gone: Vec<Key> = self
            .read()
            .by_key
            .keys()
            .filter(|key| !there.contains(*key))
            .cloned()
            .collect();
        for key in &gone {
            self.remove(key);
        }
        self.pulse
            .send_if_modified(|pulse| !std::mem::replace(&mut pulse.synced, true));
    }

    /// The API server answers, or does not.
    pub fn connected(&self, connected: bool) {
        self.pulse.send_if_modified(|pulse| {
            let changes = pulse.connected != connected;
            if changes {
                pulse.connected = connected;
                pulse.since = Timestamp::now();
            }
            changes
        });
    }

    /// Why services can't be watched; `None` once they can.
    pub fn trouble(&self, trouble: Option<String>) {
        self.pulse.send_if_modified(|pulse| {
            let changes = pulse.trouble != trouble;
            pulse.trouble = trouble;
            changes
        });
    }

    /// Namespaces that have had a service.
    pub fn namespaces(&self) -> BTreeSet<String> {
        self.read().namespaces.clone()
    }

    /// What came after a place, at most so many lines; of a viewer without a place, or of another process, everything.
    pub fn after(&self, place: Option<Place>, most: usize, scope: &Scope) -> News {
        let lines = self.read();
        let known =
            place.filter(|p| p.epoch == self.epoch && p.change >= lines.forgotten && p.change <= lines.last);
        let from = known.map_or(0, |p| p.change);
        let mut found = Vec::new();
        let (mut upto, mut more) = (lines.last, false);
        for (change, key) in lines.by_change.range(from + 1..) {
            if !scope.has(&key.namespace) {
                continue;
            }
            if found.len() == most {
                more = true;
                break;
            }
            found.extend(lines.by_key.get(key).map(|line| line.json.clone()));
            upto = *change;
        }
        if !more {
            upto = lines.last;
        }
        let gone =
            |&&(change, ref key): &&(u64, Key)| change > from && change <= upto && scope.has(&key.namespace);
        // Whoever begins knows of no line that could be gone.
        let gone = lines.gone.iter().filter(|_| from > 0).filter(gone);
        News {
            reset: place.is_some() && known.is_none(),
            lines: found,
            // Deleted and made again: it is among the lines.
            gone: gone
                .map(|(_, key)| key)
                .filter(|key| !lines.by_key.contains_key(*key))
                .cloned()
                .collect(),
            place: Place {
                epoch: self.epoch,
                change: upto,
            },
            more,
        }
    }

    fn tell(&self, change: u64, namespaces: usize) {
        self.pulse.send_modify(|pulse| {
            pulse.change = pulse.change.max(change);
            pulse.namespaces = pulse.namespaces.max(namespaces);
        });
    }

    // A panic elsewhere leaves whole lines behind.
    fn read(&self) -> RwLockReadGuard<'_, Lines> {
        self.lines.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Lines> {
        self.lines.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(name: &str) -> Key {
        Key::new("shop", name)
    }

    fn texts(news: &News) -> Vec<&str> {
        news.lines.iter().map(|line| &**line).collect()
    }

    #[test]
    fn a_viewer_is_sent_what_changed_and_nothing_twice() {
        let fleet = Fleet::new(7);
        fleet.put(key("a"), "a1".to_owned());
        fleet.put(key("b"), "b1".to_owned());
        let first = fleet.after(None, 10, &Scope::All);
        assert_eq!(texts(&first), ["a1", "b1"]);
        fleet.put(key("a"), "a1".to_owned());
        let again = fleet.after(Some(first.place), 10, &Scope::All);
        assert!(again.lines.is_empty(), "the same line is no news");
        fleet.put(key("a"), "a2".to_owned());
        fleet.put(key("a"), "a3".to_owned());
        fleet.remove(&key("b"));
        let next = fleet.after(Some(first.place), 10, &Scope::All);
        assert_eq!((texts(&next), &next.gone), (vec!["a3"], &vec![key("b")]));
        assert!(!next.reset && !next.more);
    }

    #[test]
    fn a_place_of_another_process_or_too_long_ago_begins_anew() {
        let fleet = Fleet::new(7);
        fleet.put(key("a"), "a1".to_owned());
        let other: Place = "8-1".parse().unwrap();
        assert!(fleet.after(Some(other), 10, &Scope::All).reset);
        let old = fleet.after(None, 10, &Scope::All).place;
        assert_eq!(old.to_string().parse::<Place>().unwrap(), old);
        for i in 0..=MOST_GONE {
            fleet.put(key(&format!("x{i}")), "x".to_owned());
            fleet.remove(&key(&format!("x{i}")));
        }
        let news = fleet.after(Some(old), 10, &Scope::All);
        assert!(news.reset);
        assert_eq!(texts(&news), ["a1"]);
        for text in ["", "7", "7-", "-1", "x-y", "7-1-2"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[test]
    fn nobody_is_told_of_a_namespace_that_is_not_theirs() {
        let fleet = Fleet::new(7);
        let theirs = Scope::Only(["shop".to_owned()].into());
        fleet.put(key("a"), "a1".to_owned());
        fleet.put(Key::new("secret", "b"), "b1".to_owned());
        let news = fleet.after(None, 1, &theirs);
        assert_eq!((texts(&news), news.more), (vec!["a1"], false));
        fleet.remove(&Key::new("secret", "b"));
        let news = fleet.after(Some(news.place), 1, &theirs);
        assert!(news.lines.is_empty() && news.gone.is_empty());
    }

    #[test]
    fn a_relisting_takes_away_what_is_no_longer_there() {
        let fleet = Fleet::new(7);
        fleet.put(key("a"), "a1".to_owned());
        fleet.put(key("b"), "b1".to_owned());
        let place = fleet.after(None, 10, &Scope::All).place;
        fleet.synced(&[key("a")].into());
        assert!(fleet.pulse().borrow().synced);
        assert_eq!(fleet.after(Some(place), 10, &Scope::All).gone, [key("b")]);
    }

    proptest! {
        /// However a viewer is served, in pieces of any size, it knows in the end what there is.
        #[test]
        fn a_viewer_ends_with_what_there_is(
            changes in prop::collection::vec((0..8u8, prop::option::of(0..100u8), any::<bool>()), 0..80),
            most in 1..5usize,
        ) {
            let fleet = Fleet::new(7);
            let mut there: BTreeMap<String, String> = BTreeMap::new();
            let mut seen: BTreeMap<String, String> = BTreeMap::new();
            let mut place = None;
            let mut look = |fleet: &Fleet, seen: &mut BTreeMap<String, String>| {
                let news = fleet.after(place, most, &Scope::All);
                if news.reset {
                    seen.clear();
                }
                for line in &news.lines {
                    let (name, _) = line.split_once('=').unwrap();
                    seen.insert(name.to_owned(), line.to_string());
                }
                for key in &news.gone {
                    seen.remove(&key.name);
                }
                place = Some(news.place);
                news.more
            };
            for (name, value, looks) in changes {
                let name = format!("s{name}");
                if let Some(value) = value {
                    there.insert(name.clone(), format!("{name}={value}"));
                    fleet.put(key(&name), format!("{name}={value}"));
                } else {
                    there.remove(&name);
                    fleet.remove(&key(&name));
                }
                if looks {
                    look(&fleet, &mut seen);
                }
            }
            while look(&fleet, &mut seen) {}
            prop_assert_eq!(seen, there);
        }
    }
}
