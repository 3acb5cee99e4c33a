//! Backends that proxies have a cluster for each place of. Pure.
//!
//! Where a backend sets headers of its own, Envoy Gateway makes one cluster for each place in the list
//! (`rule/0/backend/1`), and none for a weight of 0. Envoy lets go of a cluster before it lets go of the rule that names it, and
//! answers with 500 in between (`cluster_not_found`); so it does where it has the rule and not yet the cluster. So a place that users
//! go by keeps its cluster: it goes down to one in a million, and if its backend goes, the one that stays takes the place as
//! well. The next canary takes it over: the cluster is there, and gets other endpoints.

use super::types::BackendRef;

/// The weight of all users: the most that the Gateway API allows.
const ALL: i32 = 1_000_000;
/// Weights are in percent.
const PERCENT: i32 = ALL / 100;
/// The least weight with which a place keeps its cluster.
const LEAST: i32 = 1;

/// The list: each entry the index of one of `wanted`, names with weights in percent, and the weight to write.
/// `written` is what is there.
///
/// Two places have a cluster at any time; what has no users and never had is listed behind them, with a weight of 0.
pub fn divide(wanted: &[(String, i32)], written: &[BackendRef]) -> Vec<(usize, i32)> {
    let weight_at = |place: usize| written.get(place).map_or(0, |b| b.weight.unwrap_or(1));
    let clusters = (0..written.len())
        .rfind(|place| weight_at(*place) > 0)
        .map_or(0, |last| last + 1);
    let total: i64 = (0..clusters).map(|place| i64::from(weight_at(place))).sum();
    // A place that is likely to have met nobody is nobody's.
    let used = |place: usize| i64::from(weight_at(place)) * i64::from(PERCENT) > total;
    let Some((users, _)) = wanted.iter().enumerate().max_by_key(|(_, (_, weight))| *weight) else {
        return Vec::new();
    };

    // Places stay: to write the same again changes nothing, and the next canary finds one.
    let mut places: Vec<Option<(usize, i32)>> = vec![None; clusters.max(2)];
    let (mut new, mut listed) = (Vec::new(), Vec::new());
    for (index, (name, weight)) in wanted.iter().enumerate() {
        // Of several places it is at the one that its users go by.
        let place = (0..clusters)
            .filter(|place| written[*place].name == *name && weight_at(*place) > 0)
            .max_by_key(|place| weight_at(*place));
        match (place, *weight) {
            (Some(place), 0) => places[place] = Some((index, LEAST)),
            (Some(place), weight) => places[place] = Some((index, weight * PERCENT)),
            (None, 0) => listed.push((index, 0)),
            (None, weight) => new.push((index, weight * PERCENT)),
        }
    }
    for share in new {
        // A place that has a cluster and that nobody goes by, if need be that of one who has gone down; one more only if
        // there is none.
        let unused = |place: &usize| !used(*place);
        let free = (0..places.len())
            .filter(unused)
            .find(|place| places[*place].is_none());
        let gone = || {
            (0..places.len())
                .filter(unused)
                .find(|place| places[*place].is_some_and(|(_, w)| w == LEAST))
        };
        let place = free.or_else(gone).unwrap_or(places.len());
        places.resize(places.len().max(place + 1), None);
        if let Some((index, _)) = places[place] {
            listed.push((index, 0));
        }
        places[place] = Some(share);
    }
    let keeps = (users, LEAST);
    let places = places.into_iter().map(|share| share.unwrap_or(keeps));
    places.chain(listed).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is written after these weights have been asked for, from nothing, one after the other.
    fn lives(steps: &[&[(&str, i32)]]) -> Vec<Vec<(String, i32)>> {
        let mut written: Vec<BackendRef> = Vec::new();
        let mut all = Vec::new();
        for step in steps {
            let wanted: Vec<(String, i32)> = step.iter().map(|(n, w)| ((*n).to_owned(), *w)).collect();
            let list: Vec<(String, i32)> = divide(&wanted, &written)
                .into_iter()
                .map(|(index, weight)| (wanted[index].0.clone(), weight))
                .collect();
            written = list.iter().map(backend).collect();
            all.push(list);
        }
        all
    }

    fn backend((name, weight): &(String, i32)) -> BackendRef {
        serde_json::from_value(serde_json::json!({"name": name, "port": 80, "weight": weight})).unwrap()
    }

    fn shown(list: &[(String, i32)]) -> String {
        list.iter()
            .map(|(name, weight)| format!("{name}={weight}"))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn what_goes_keeps_its_place_for_one_in_a_million_and_who_comes_takes_it_over() {
        let steps: [&[(&str, i32)]; 8] = [
            &[("a", 100)],
            &[("a", 100), ("b", 0)],
            &[("a", 50), ("b", 50)],
            &[("a", 0), ("b", 100)],
            &[("b", 100)],
            &[("b", 100), ("c", 0)],
            &[("b", 90), ("c", 10)],
            &[("b", 100), ("c", 0)],
        ];
        let lists: Vec<String> = lives(&steps).iter().map(|list| shown(list)).collect();
        assert_eq!(
            lists,
            [
                "a=1000000 a=1",
                "a=1000000 a=1 b=0",
                "a=500000 b=500000",
                "a=1 b=1000000",
                "b=1 b=1000000",
                "b=1 b=1000000 c=0",
                "c=100000 b=900000",
                "c=1 b=1000000",
            ]
        );
    }

    proptest! {
        /// Whatever follows whatever: a place that users went by has a cluster still, the shares are those that were asked for, and
        /// writing the same again changes nothing.
        #[test]
        fn no_place_that_users_go_by_loses_its_cluster(steps in prop::collection::vec((0_usize..4, 0_usize..4, 0..=100_i32), 1..30)) {
            let names = ["a", "b", "c", "d"];
            let mut written: Vec<BackendRef> = Vec::new();
            for (first, second, share) in steps {
                let mut wanted = vec![(names[first].to_owned(), 100)];
                if second != first {
                    wanted[0].1 = 100 - share;
                    wanted.push((names[second].to_owned(), share));
                }
                let render = |written: &[BackendRef]| -> Vec<(String, i32)> {
                    let places = divide(&wanted, written);
                    places.into_iter().map(|(index, weight)| (wanted[index].0.clone(), weight)).collect()
                };
                let next = render(&written);
                let total: i32 = written.iter().map(|b| b.weight.unwrap_or(1)).sum();
                for (place, old) in written.iter().enumerate() {
                    if f64::from(old.weight.unwrap_or(1)) / f64::from(total) > 0.001 {
                        prop_assert!(next.get(place).is_some_and(|(_, weight)| *weight > 0), "{old:?} {next:?}");
                    }
                }
                // Nor does a place get users whose cluster is not there yet, if there is another.
                let weight = |place: usize| written.get(place).map_or(0, |b| b.weight.unwrap_or(1));
                // One that has gone down and comes back has its own.
                let comes_back = |place: usize| {
                    let name = &written[place].name;
                    let others = (0..written.len()).any(|p| written[p].name == *name && weight(p) > weight(place));
                    !others && wanted.iter().any(|(n, share)| n == name && *share > 0)
                };
                let spare = (0..written.len()).filter(|place| weight(*place) == 1 && !comes_back(*place)).count();
                let is_new = |name: &str| !written.iter().any(|b| b.name == name && b.weight.unwrap_or(1) > 0);
                let new = wanted.iter().filter(|(name, share)| *share > 0 && is_new(name)).count();
                for (place, (_, share)) in next.iter().enumerate() {
                    if new <= spare && *share > 1 {
                        prop_assert!(weight(place) > 0, "{written:?} {next:?}");
                    }
                }
                let sum: i32 = next.iter().map(|(_, weight)| weight).sum();
                for (name, percent) in &wanted {
                    let has: i32 = next.iter().filter(|(n, _)| n == name).map(|(_, weight)| weight).sum();
                    prop_assert!((f64::from(has) / f64::from(sum) - f64::from(*percent) / 100.0).abs() < 0.001);
                }
                prop_assert!(next.len() <= 8, "{next:?}");
                written = next.iter().map(backend).collect();
                prop_assert_eq!(render(&written), next);
            }
        }
    }
}
