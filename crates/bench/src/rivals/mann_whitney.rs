//! The Mann–Whitney U test in its normal approximation, with the shift's confidence interval.
//!
//! Sources: Mann and Whitney (1947); Hodges and Lehmann (1963) for the estimate; Hollander, Wolfe and
//! Chicken, "Nonparametric Statistical Methods", chapter 4, for interval, ties and continuity.
//! Kayenta solves for the ends by Brent's method, as R's `wilcox.test(exact = FALSE)` does. The function
//! whose root they seek is a step function of the shift, which jumps at the pairwise differences alone, so
//! that the roots are order statistics of the differences: the same ends without a search.

/// The shift of the experiment against the control.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shift {
    /// Lower end of the two-sided confidence interval.
    pub lower: f64,
    /// Its upper end.
    pub upper: f64,
    /// The Hodges–Lehmann estimate: the median of all pairwise differences.
    pub estimate: f64,
}

/// The shift with an interval of `z` standard deviations, the normal quantile of its confidence (2.326… for
/// 98 %). `None` if there is nothing to compare, or all values are tied.
pub fn shift(experiment: &[f64], control: &[f64], z: f64) -> Option<Shift> {
    let rank = rank(experiment, control, z)?;
    let mut differences: Vec<f64> = experiment
        .iter()
        .flat_map(|x| control.iter().map(move |y| x - y))
        .collect();
    let pairs = differences.len();
    let mut at = |i: usize| *differences.select_nth_unstable_by(i, f64::total_cmp).1;
    Some(Shift {
        lower: at(rank - 1),
        upper: at(pairs - rank),
        estimate: f64::midpoint(at((pairs - 1) / 2), at(pairs / 2)),
    })
}

/// Whether the interval's lower end is above 0: what [`shift`] says, without a list of all the differences.
pub fn is_above_zero(experiment: &[f64], control: &[f64], z: f64) -> bool {
    let Some(rank) = rank(experiment, control, z) else {
        return false;
    };
    let mut control = control.to_vec();
    control.sort_unstable_by(f64::total_cmp);
    let not_below = |x: &f64| control.len() - control.partition_point(|y| y < x);
    experiment.iter().map(not_below).sum::<usize>() < rank
}

/// The place of the interval's lower end among the differences in rising order, counted from 1.
fn rank(experiment: &[f64], control: &[f64], z: f64) -> Option<usize> {
    let pairs = experiment.len() * control.len();
    let sigma = sigma(
        &[ties(experiment), ties(control)].concat(),
        experiment.len(),
        control.len(),
    );
    // A sum over no pairs has no deviation either.
    if pairs == 0 || sigma.is_nan() || sigma <= 0.0 {
        return None;
    }
    let rank = (pairs as f64 / 2.0 - 0.5 - z * sigma).ceil().max(1.0) as usize;
    Some(rank.min(pairs.div_ceil(2)))
}

/// Standard deviation of `U` for groups of tied values.
pub fn sigma(ties: &[f64], m: usize, n: usize) -> f64 {
    let (m, n) = (m as f64, n as f64);
    let all = m + n;
    let excess: f64 = ties.iter().map(|t| t * t * t - t).sum();
    (m * n / 12.0 * (all + 1.0 - excess / (all * (all - 1.0)))).sqrt()
}

/// How many of the values share each value.
pub fn ties(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
        .chunk_by(|a, b| a.total_cmp(b).is_eq())
        .map(|group| group.len() as f64)
        .collect()
}
