//! What happens mostly at the canary: workers that are ended because they hang, exceptions that stable never raises, 4xx of one route.
//!
//! With the same code what happens is the canary's with the probability that its part of the requests has, or of the pods for what has
//! nothing to do with requests. On that each block in which something happened is one bet, however much of it there was: what happens
//! together may have one cause.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::Counts;
use super::beyond::Beyond;
use super::{Compared, GuardEvidence, SMALL_FALSE_ALARM, Silence};
use crate::guard::{PodRuntime, RuntimeBlock};

/// Where the canary has more than this part, stable has too little to tell.
const MOST: f64 = 0.75;
/// So many kinds of exceptions are kept, and so many routes; each has the same part of the probability of a false alarm.
const KINDS: usize = 16;
/// A name is cut here.
const LONGEST: usize = 80;
/// One request that is answered with 4xx in a block of a route is nothing to bet on.
const LEAST_REFUSED: f64 = 2.0;
/// A route is not worse by less than this share of its requests.
const LEAST_SHARE: f64 = 0.02;

/// What happens of one kind: an exception, as long as stable has raised none before, or 4xx of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Kind {
    #[schemars(length(max = 100))]
    name: String,
    /// Stable raises it too: it is neither for nor against the canary any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_known: bool,
    #[serde(default, skip_serializing_if = "Beyond::is_none")]
    beyond: Beyond,
    /// Of a route: the canary's requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    canary: Option<Counts>,
}

impl Kind {
    fn is_shown(&self) -> bool {
        let is_little = |counts: Counts| counts.ratio().is_none_or(|ratio| ratio < LEAST_SHARE);
        !self.is_known
            && !self.canary.is_some_and(is_little)
            && self.beyond.ln() >= (KINDS as f64 / SMALL_FALSE_ALARM).ln()
    }
}

/// That of a name, which is kept from now on if there is room.
fn kept<'k>(kinds: &'k mut Vec<Kind>, name: &str) -> Option<&'k mut Kind> {
    let name: String = name.chars().take(LONGEST).collect();
    let index = match kinds.iter().position(|kind| kind.name == name) {
        Some(known) => known,
        None if kinds.len() < KINDS => {
            kinds.push(Kind {
                name,
                ..Kind::default()
            });
            kinds.len() - 1
        }
        None => return None,
    };
    kinds.get_mut(index)
}

/// What has been shown, by its name: an exception that stable never raises, or a route that is stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown<'a> {
    /// The type, or the route.
    pub name: &'a str,
    /// Blocks that tell of it.
    pub blocks: u32,
}

fn shown(kinds: &[Kind]) -> Option<Shown<'_>> {
    let kind = kinds.iter().find(|kind| kind.is_shown())?;
    Some(Shown {
        name: &kind.name,
        blocks: kind.beyond.looks(),
    })
}

impl GuardEvidence {
    /// Takes in a block in which the revisions served so many requests. Workers that were ended in it.
    ///
    /// # Errors
    ///
    /// Why they can't be told.
    pub fn absorb_timeouts(
        &mut self,
        block: &RuntimeBlock,
        canary_requests: f64,
        stable_requests: f64,
    ) -> Result<Compared, Silence> {
        let sum = |pods: &[PodRuntime]| {
            let told = pods.iter().filter_map(|pod| pod.timeouts);
            told.filter(|count| is_count(*count))
                .reduce(|all, more| all + more)
        };
        let canary = sum(&block.canary).ok_or(Silence::Canary)?;
        let stable = sum(&block.stable).ok_or(Silence::Stable)?;
        let part = part(block, canary_requests, stable_requests).ok_or(Silence::Few)?;
        if let Some(share) = share(canary, stable) {
            self.beyond.absorb_share(share, part);
        }
        Ok(Compared { canary, stable })
    }

    /// Takes in a block in which the revisions served so many requests. How many kinds of exceptions were raised by the canary that
    /// stable had not raised, and by stable.
    ///
    /// # Errors
    ///
    /// Why they can't be told.
    pub fn absorb_exceptions(
        &mut self,
        block: &RuntimeBlock,
        canary_requests: f64,
        stable_requests: f64,
    ) -> Result<Compared, Silence> {
        let part = part(block, canary_requests, stable_requests).ok_or(Silence::Few)?;
        if block.exceptions.is_empty() && self.kinds.is_empty() {
            return Err(Silence::Few);
        }
        let mut raised: Vec<_> = block.exceptions.iter().collect();
        raised.sort_by(|a, b| a.kind.cmp(&b.kind));
        for one in raised {
            if one.is_known {
                let is_it = |kind: &&mut Kind| one.kind.chars().take(LONGEST).eq(kind.name.chars());
                self.kinds
                    .iter_mut()
                    .filter(is_it)
                    .for_each(|kind| kind.is_known = true);
            } else if let Some(share) = share(one.canary, one.stable)
                && let Some(kind) = kept(&mut self.kinds, &one.kind)
                && !kind.is_known
            {
                kind.beyond.absorb_share(share, part);
            }
        }
        let new = self
            .kinds
            .iter()
            .filter(|kind| !kind.is_known && kind.beyond.times() > 0);
        let of_stable = block
            .exceptions
            .iter()
            .filter(|one| one.stable > 0.0 || one.is_known);
        Ok(Compared {
            canary: new.count() as f64,
            stable: of_stable.count() as f64,
        })
    }

    /// A kind of exceptions that the canary raises and stable does not, so often that it is no chance.
    pub fn new_exception(&self) -> Option<Shown<'_>> {
        shown(&self.kinds)
    }

    /// Takes in the 4xx of each route in a block, of which the canary may have `max_ratio` times stable's share. Of those that are
    /// answered so, by chance, `w` of a route's requests being the canary's, it has `r·w/(r·w + 1 − w)` at most.
    pub fn absorb_routes(&mut self, block: &RuntimeBlock, max_ratio: f64) {
        let mut routes: Vec<_> = block.routes.iter().collect();
        routes.sort_by(|a, b| a.route.cmp(&b.route));
        for one in routes {
            let (canary, stable) = (one.canary, one.stable);
            let odds = max_ratio * canary.total() / stable.total();
            let chance = odds / (1.0 + odds);
            let enough = canary.bad() + stable.bad() >= LEAST_REFUSED;
            if !(enough && chance > 0.0 && chance <= MOST) {
                continue;
            }
            if let Some(share) = share(canary.bad(), stable.bad())
                && let Some(kind) = kept(&mut self.routes, &one.route)
            {
                kind.beyond.absorb_share(share, chance);
                kind.canary = Some(kind.canary.unwrap_or_default().plus(canary));
            }
        }
    }

    /// A route that the canary answers with 4xx more often than it may, so often that it is no chance.
    pub fn stricter_route(&self) -> Option<Shown<'_>> {
        shown(&self.routes)
    }
}

fn is_count(count: f64) -> bool {
    count.is_finite() && count >= 0.0
}

/// The canary's share of what happened, if something did.
fn share(canary: f64, stable: f64) -> Option<f64> {
    let all = canary + stable;
    let known = is_count(canary) && is_count(stable) && all > 0.0 && all.is_finite();
    known.then(|| canary / all)
}

/// The part of what happens that is a healthy canary's, at most; `None` where there is too little of stable to tell, or of both.
fn part(block: &RuntimeBlock, canary_requests: f64, stable_requests: f64) -> Option<f64> {
    let of = |canary: f64, stable: f64| canary / (canary + stable);
    let of_pods = of(block.canary.len() as f64, block.stable.len() as f64);
    let of_requests = of(canary_requests, stable_requests);
    let part = of_pods.max(of_requests);
    // Where nothing is known of requests, pods may have any part of them.
    (of_requests.is_finite() && part > 0.0 && part <= MOST).then_some(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::{Raised, RouteCounts};
    use jiff::Timestamp;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn hung(end: i64, canary: f64, stable: f64) -> RuntimeBlock {
        let pod = |timeouts: f64| PodRuntime {
            timeouts: Some(timeouts),
            ..PodRuntime::default()
        };
        RuntimeBlock {
            canary: vec![pod(canary)],
            stable: vec![pod(stable), pod(0.0), pod(0.0), pod(0.0)],
            ..RuntimeBlock::silent(at(end - 30), at(end))
        }
    }

    /// After how many blocks workers that hang are found, of 40.
    fn hangs(canary: f64, stable: f64, requests: f64) -> Option<i64> {
        let mut evidence = GuardEvidence::default();
        (1..=40).find(|i| {
            let told = evidence.absorb_timeouts(&hung(i * 30, canary, stable), requests, 95.0);
            assert!(told.is_ok(), "{told:?}");
            evidence.is_shown_by(SMALL_FALSE_ALARM)
        })
    }

    #[test]
    fn workers_that_hang_at_the_canary_are_found_however_many_of_one_block_count_as_one() {
        let blocks = hangs(1.0, 0.0, 5.0).expect("it is found");
        assert!(blocks <= 8, "{blocks}");
        assert_eq!(hangs(9.0, 0.0, 5.0), Some(blocks), "of one block they are one");
        assert_eq!(hangs(1.0, 4.0, 5.0), None, "stable's hang as often");
        assert_eq!(hangs(0.0, 0.0, 5.0), None);
        let more = hangs(1.0, 0.0, 95.0).expect("it is found");
        assert!(more > blocks, "half of the requests are the canary's");
    }

    #[test]
    fn where_stable_has_next_to_nothing_nothing_is_told() {
        let mut evidence = GuardEvidence::default();
        let block = hung(30, 3.0, 0.0);
        assert_eq!(evidence.absorb_timeouts(&block, 90.0, 10.0), Err(Silence::Few));
        let dumb = RuntimeBlock::silent(at(0), at(30));
        assert_eq!(evidence.absorb_timeouts(&dumb, 5.0, 95.0), Err(Silence::Canary));
        assert_eq!(evidence.absorb_exceptions(&dumb, 5.0, 95.0), Err(Silence::Few));
    }

    fn raised(end: i64, all: &[(&str, f64, f64, bool)]) -> RuntimeBlock {
        let one = |(kind, canary, stable, is_known): &(&str, f64, f64, bool)| Raised {
            kind: (*kind).to_owned(),
            canary: *canary,
            stable: *stable,
            is_known: *is_known,
        };
        RuntimeBlock {
            exceptions: all.iter().map(one).collect(),
            ..hung(end, 0.0, 0.0)
        }
    }

    /// The exception that is found to be new, and after how many blocks of 40.
    fn is_new(all: &[(&str, f64, f64, bool)]) -> Option<(String, u32)> {
        let mut evidence = GuardEvidence::default();
        (1..=40).find_map(|i| {
            evidence.absorb_exceptions(&raised(i * 30, all), 5.0, 95.0).ok()?;
            let new = evidence.new_exception()?;
            Some((new.name.to_owned(), new.blocks))
        })
    }

    #[test]
    fn a_type_that_stable_never_raises_is_found_and_what_it_knows_is_not() {
        let (name, blocks) = is_new(&[("KeyError", 3.0, 0.0, false)]).expect("it is found");
        assert_eq!(name, "KeyError");
        assert!(blocks <= 10, "{blocks}");
        assert_eq!(
            is_new(&[("KeyError", 3.0, 0.0, true)]),
            None,
            "it was there before"
        );
        assert_eq!(is_new(&[("KeyError", 3.0, 9.0, false)]), None, "both raise it");
        assert_eq!(is_new(&[("KeyError", 0.0, 0.0, false)]), None, "nobody raises it");
        assert_eq!(is_new(&[("KeyError", f64::NAN, 0.0, false)]), None);
    }

    #[test]
    fn what_stable_raises_later_is_known_from_then_on() {
        let mut evidence = GuardEvidence::default();
        for i in 1..=4 {
            let _ = evidence.absorb_exceptions(&raised(i * 30, &[("E", 2.0, 0.0, false)]), 5.0, 95.0);
        }
        let _ = evidence.absorb_exceptions(&raised(150, &[("E", 2.0, 0.0, true)]), 5.0, 95.0);
        for i in 6..=40 {
            let _ = evidence.absorb_exceptions(&raised(i * 30, &[("E", 2.0, 0.0, false)]), 5.0, 95.0);
        }
        assert_eq!(evidence.new_exception(), None);
    }

    /// After how many blocks a route is found that the canary answers so, in a quarter of the requests, and stable so.
    fn stricter(canary: f64, stable: f64, max_ratio: f64) -> Option<i64> {
        let mut evidence = GuardEvidence::default();
        let counts = |total: f64, share: f64| Counts::new(total, total * share).unwrap();
        (1..=120).find(|i| {
            let route = |route: &str, of_canary: f64| RouteCounts {
                route: route.to_owned(),
                canary: counts(20.0, of_canary),
                stable: counts(60.0, stable),
            };
            let block = RuntimeBlock {
                routes: vec![route("/pay", canary), route("/list", stable)],
                ..RuntimeBlock::silent(at(i * 30 - 30), at(i * 30))
            };
            evidence.absorb_routes(&block, max_ratio);
            let shown = evidence.stricter_route();
            assert!(shown.is_none_or(|shown| shown.name == "/pay"));
            shown.is_some()
        })
    }

    #[test]
    fn a_route_that_is_stricter_is_found_and_not_within_the_ratio() {
        let blocks = stricter(0.5, 0.01, 2.0).expect("it is found");
        assert!(blocks <= 30, "{blocks}");
        assert_eq!(stricter(0.04, 0.02, 2.0), None, "twice is allowed");
        assert_eq!(stricter(0.5, 0.5, 1.0), None, "stable is as strict");
        assert_eq!(stricter(0.05, 0.0, 2.0), None, "one request in a block is few");
    }

    proptest! {
        /// Whatever types there are: the state stays small, in whatever order they are read, and a restart changes nothing.
        #[test]
        fn the_state_is_bounded(
            blocks in prop::collection::vec(prop::collection::vec((0u32..200, 0.0..9.0f64, 0.0..9.0f64), 0..40), 0..20),
            cut in 0i64..20,
        ) {
            let (mut whole, mut turned) = (GuardEvidence::default(), GuardEvidence::default());
            for (index, all) in (0i64..).zip(&blocks) {
                let names: Vec<String> = all.iter().map(|(kind, ..)| format!("{kind}{}", "é".repeat(100))).collect();
                let mut kinds: Vec<_> = names.iter().zip(all).map(|(n, (_, a, b))| (n.as_str(), *a, *b, false)).collect();
                kinds.sort_by(|a, b| a.0.cmp(b.0));
                kinds.dedup_by(|a, b| a.0 == b.0);
                let _ = whole.absorb_exceptions(&raised(index * 30 + 30, &kinds), 5.0, 95.0);
                kinds.reverse();
                let _ = turned.absorb_exceptions(&raised(index * 30 + 30, &kinds), 5.0, 95.0);
                if index == cut {
                    let text = serde_json::to_string(&turned).unwrap();
                    turned = serde_json::from_str(&text).unwrap();
                }
            }
            prop_assert_eq!(&whole, &turned);
            let size = serde_json::to_string(&whole).unwrap().len();
            prop_assert!(size < 6000, "{} bytes", size);
        }
    }
}
