//! From values to places, with ticks at round numbers.

/// The least and the most evidence that is shown: a thousandth and a million.
const LEAST_EVIDENCE: f64 = 0.001;
const MOST_EVIDENCE: f64 = 1e6;

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    from: f64,
    to: f64,
    /// Where there is a tick, and what is written beside it.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis with these ticks.
    pub fn linear(from: f64, to: f64, ticks: &[f64], label: impl Fn(f64) -> String) -> Self {
        Self {
            from,
            to,
            ticks: ticks.iter().map(|v| (*v, label(*v))).collect(),
        }
    }

    /// Seconds from 0.
    pub fn of_time(end: f64) -> Self {
        let end = end.max(60.0);
        let steps = [
            15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 86_400.0, 604_800.0,
        ];
        let step = steps.into_iter().find(|step| end / step <= 12.0);
        let step = step.unwrap_or(2_592_000.0);
        let count = (end / step).floor().min(100.0) as u32;
        let ticks: Vec<f64> = (0..=count).map(|n| f64::from(n) * step).collect();
        Self::linear(0.0, end, &ticks, seconds_label)
    }

    /// Percents from 0 to what the most needs.
    pub fn of_percent(most: f64) -> Self {
        let rounds = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];
        let to = rounds.into_iter().find(|round| *round >= most).unwrap_or(100.0);
        let ticks = [0.0, to / 2.0, to];
        Self::linear(0.0, to, &ticks, |v| format!("{v}%"))
    }

    /// Natural logarithms of evidence, labelled as factors in powers of ten.
    pub fn of_evidence(values: impl Iterator<Item = f64>) -> Self {
        let power = |ln: f64| ln / std::f64::consts::LN_10;
        let clamped = values
            .filter(|v| !v.is_nan())
            .map(|v| v.clamp(LEAST_EVIDENCE.ln(), MOST_EVIDENCE.ln()));
        let (least, most) = clamped.fold((0.0f64, 0.0f64), |(least, most), v| (least.min(v), most.max(v)));
        let (from, to) = (power(least).floor() as i32, power(most).ceil() as i32);
        let ticks: Vec<f64> = (from..=to)
            .map(|n| f64::from(n) * std::f64::consts::LN_10)
            .collect();
        let ends = (f64::from(from), f64::from(to));
        let ln = |power: f64| power * std::f64::consts::LN_10;
        Self::linear(ln(ends.0), ln(ends.1), &ticks, |v| {
            factor_label(power(v).round() as i32)
        })
    }

    /// Where a value lies, 0 at the beginning of the axis and 1 at its end; never beyond.
    pub fn share(&self, value: f64) -> f64 {
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

/// `90 s`, `5 min`, `2 h`.
fn seconds_label(seconds: f64) -> String {
    match seconds {
        0.0 => "0".to_owned(),
        _ if seconds % 3_600.0 == 0.0 => format!("{} h", seconds / 3_600.0),
        _ if seconds % 60.0 == 0.0 => format!("{} min", seconds / 60.0),
        _ => format!("{seconds} s"),
    }
}

fn factor_label(power: i32) -> String {
    match power {
        0..=2 => format!("{}", 10i32.pow(power.unsigned_abs())),
        3..=5 => format!("{},000", 10i32.pow(power.unsigned_abs() - 3)),
        6 => "1,000,000".to_owned(),
        _ => format!("{}", 10f64.powi(power)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_values_stay_on_the_axis() {
        let labels = |axis: &Axis| axis.ticks.iter().map(|(_, l)| l.clone()).collect::<Vec<_>>();
        let time = Axis::of_time(200.0);
        assert_eq!(labels(&time)[..4], ["0", "30 s", "1 min", "90 s"]);
        let evidence = Axis::of_evidence([f64::NEG_INFINITY, 4.6, f64::NAN, 50.0].into_iter());
        assert_eq!(labels(&evidence).first().map(String::as_str), Some("0.001"));
        assert_eq!(labels(&evidence).last().map(String::as_str), Some("1,000,000"));
        assert_eq!(
            (evidence.share(f64::NEG_INFINITY), evidence.share(1e9)),
            (0.0, 1.0)
        );
        assert_eq!(labels(&Axis::of_percent(3.3)), ["0%", "2.5%", "5%"]);
        assert_eq!(labels(&Axis::of_percent(0.0)), ["0%", "0.05%", "0.1%"]);
    }
}
