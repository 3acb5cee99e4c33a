use super::*;
use crate::cases::CASES;
use crate::measure::measure;

#[test]
fn hindsight_is_better_than_the_examples() {
    let case = &CASES[0];
    let best = tuned(case, 1, 0);
    assert!(matches!(
        best,
        [Contender::Argo(_), Contender::Flagger(_), Contender::Kayenta(_)]
    ));
    let documented = [
        Contender::Argo(argo::Settings::DOCUMENTED),
        Contender::Flagger(flagger::Settings::DOCUMENTED),
        Contender::Kayenta(kayenta::Settings::DOCUMENTED),
    ];
    let (tuned, examples) = (
        measure(case, &best, 300, 1, 0),
        measure(case, &documented, 300, 1, 0),
    );
    for outcome in &tuned {
        // On other runs than those of the search: 1 % was allowed there.
        assert!(outcome.false_share().0 <= 0.04, "{outcome:?}");
        assert!(outcome.found_share() > 0.9, "{outcome:?}");
    }
    assert!(tuned[0].found_by(0.5) < examples[0].found_by(0.5).or(Some(3600)));
    assert!(tuned[1].false_rollbacks < examples[1].false_rollbacks);
    assert!(tuned[2].found_by(0.5) <= examples[2].found_by(0.5));
}
