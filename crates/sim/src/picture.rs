//! A timeline as an SVG: the canary's weight, and for each objective the evidence and the error rates.
//!
//! It has no size of its own but a shape, and follows the reader's choice of light or dark.

use std::fmt::Write;

use molt_core::plan::Plan;

use crate::timeline::{BlockEntry, Timeline, TransitionEntry};

mod axis;

use axis::Axis;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 96.0;
const RIGHT: f64 = 936.0;
const TOP: f64 = 56.0;
const GAP: f64 = 56.0;
/// Where the mark of the end begins: beside the title, above the panels.
const MARK: f64 = 22.0;
const BOTTOM: f64 = 56.0;
const WEIGHT_HEIGHT: f64 = 96.0;
const EVIDENCE_HEIGHT: f64 = 180.0;
const RATES_HEIGHT: f64 = 120.0;
/// The width of a name of a line beside the title of its panel.
const LEGEND: f64 = 190.0;
/// How far above the panel a second row of names is: below the ticks of the panel before.
const SECOND_ROW: f64 = 24.0;

/// Colours that differ for every kind of sight (Okabe and Ito, "Color Universal Design", 2008), and lines that
/// differ without any.
const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#1f2328}\
.title{font-size:17px;font-weight:600}.end{text-anchor:end}.middle{text-anchor:middle}\
.back{fill:#fff}.frame{fill:none;stroke:#8c959f}.grid{stroke:#d8dee4}\
.line{fill:none;stroke-width:2;stroke-linejoin:round}\
.warm{stroke:#c04f00}.cool{stroke:#0060a0;stroke-dasharray:7 3}.plain{stroke:#1f2328}\
.doubt{stroke:#a0408a;stroke-dasharray:9 3 2 3}\
.needed{stroke-width:1.5;stroke-dasharray:2 4}\
.warm-text{fill:#c04f00}.cool-text{fill:#0060a0}.doubt-text{fill:#a0408a}\
@media (prefers-color-scheme:dark){\
text{fill:#e6edf3}.back{fill:#0d1117}.frame{stroke:#6e7681}.grid{stroke:#30363d}\
.warm{stroke:#ff9d4d}.cool{stroke:#6cb6ff}.plain{stroke:#e6edf3}.doubt{stroke:#e0a0d0}\
.warm-text{fill:#ff9d4d}.cool-text{fill:#6cb6ff}.doubt-text{fill:#e0a0d0}}";

/// Draws what happened to a service's rollout of this plan, and how it ended, in a word or two.
pub fn draw(service: &str, plan: &Plan, timeline: &Timeline, end: &str) -> String {
    let mut svg = Svg {
        body: String::new(),
        time: Axis::of_time(end_of(timeline)),
        begin: begin_of(timeline),
        top: TOP,
    };
    svg.weight(timeline);
    let harm_needed = plan.limits.ln_harm_needed(plan.slos.len());
    for slo in &plan.slos {
        let blocks: Vec<&BlockEntry> = timeline.blocks.iter().filter(|b| b.slo == slo.name).collect();
        svg.evidence(&slo.name, &blocks, harm_needed, plan.limits.ln_safe_needed());
        svg.rates(&slo.name, &blocks);
    }
    svg.end(end_of(timeline), end);
    let height = svg.top - GAP + BOTTOM;
    let service = escaped(service);
    svg.text(
        f64::midpoint(LEFT, RIGHT),
        height - 14.0,
        "middle",
        "time since the beginning",
    );
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\
         <title>Rollout of {service}</title><style>{STYLE}</style>\
         <rect class=\"back\" width=\"{WIDTH}\" height=\"{height}\"/>\
         <text class=\"title\" x=\"{LEFT}\" y=\"26\">Rollout of {service}</text>{}</svg>\n",
        svg.body
    )
}

fn end_of(timeline: &Timeline) -> f64 {
    let blocks = timeline.blocks.iter().map(|b| b.t);
    let transitions = timeline.transitions.iter().map(TransitionEntry::seconds);
    blocks.chain(transitions).fold(0.0, f64::max)
}

fn begin_of(timeline: &Timeline) -> f64 {
    let raised = timeline.transitions.iter().find(|t| t.weight > 0);
    raised.map_or(0.0, TransitionEntry::seconds)
}

/// A picture in the making: panels below each other on one axis of time.
struct Svg {
    body: String,
    time: Axis,
    /// When the canary got its first weight, in seconds.
    begin: f64,
    /// Where the next panel begins.
    top: f64,
}

impl Svg {
    fn weight(&mut self, timeline: &Timeline) {
        let axis = Axis::linear(0.0, 100.0, &[0.0, 25.0, 50.0, 75.0, 100.0], |v| {
            format!("{v:.0}%")
        });
        let panel = self.panel("Canary's weight", &axis, WEIGHT_HEIGHT);
        let mut points = vec![(0.0, 0.0)];
        let mut weight = 0.0;
        for change in &timeline.transitions {
            points.push((change.seconds(), weight));
            weight = f64::from(change.weight);
            points.push((change.seconds(), weight));
        }
        points.push((end_of(timeline), weight));
        self.line(&panel, &axis, "plain", &points);
    }

    fn evidence(&mut self, slo: &str, blocks: &[&BlockEntry], harm_needed: f64, safe_needed: f64) {
        let values = blocks
            .iter()
            .flat_map(|b| [b.evidence.deciding_harm, b.evidence.safe]);
        let suspicions = blocks.iter().filter_map(|b| b.evidence.suspicion);
        let axis = Axis::of_evidence(values.chain(suspicions).chain([harm_needed, safe_needed]));
        let title = format!("{slo}: evidence, as a factor");
        let panel = self.panel(&title, &axis, EVIDENCE_HEIGHT);
        let harm: Vec<f64> = blocks.iter().map(|b| b.evidence.deciding_harm).collect();
        let safe: Vec<f64> = blocks.iter().map(|b| b.evidence.safe).collect();
        let sides = [
            ("warm", "harm", harm_needed, harm),
            ("cool", "safe", safe_needed, safe),
        ];
        for (index, (class, name, needed, values)) in sides.into_iter().enumerate() {
            let y = panel.y(&axis, needed);
            // Writing to a String does not fail.
            let _ = write!(
                self.body,
                "<line class=\"needed {class}\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
            );
            let legend = format!("{name}, needs {:.0}", needed.exp());
            self.legend(&panel, index, class, &legend);
            // Before the first block the evidence says nothing.
            let points: Vec<_> = std::iter::once((self.begin, 0.0))
                .chain(blocks.iter().map(|b| b.t).zip(values))
                .collect();
            self.line(&panel, &axis, class, &points);
        }
        self.suspicion(&panel, &axis, blocks, harm_needed);
    }

    /// The evidence of each bake by itself, beside what stable was before: it decides there, while that of the
    /// comparison stands still.
    fn suspicion(&mut self, panel: &Panel, axis: &Axis, blocks: &[&BlockEntry], needed: f64) {
        let mut begin = self.begin;
        let mut bake = Vec::new();
        let mut any = false;
        for block in blocks {
            match block.evidence.suspicion {
                Some(suspicion) => {
                    any = true;
                    if bake.is_empty() {
                        bake.push((begin, 0.0));
                    }
                    bake.push((block.t, suspicion));
                }
                None => self.line(panel, axis, "doubt", &std::mem::take(&mut bake)),
            }
            begin = block.t;
        }
        self.line(panel, axis, "doubt", &bake);
        if any {
            let name = format!("suspicion in the bake, needs {:.0}", needed.exp());
            self.legend_at(RIGHT - 2.0 * LEGEND, panel.top - SECOND_ROW, "doubt", &name);
        }
    }

    fn rates(&mut self, slo: &str, blocks: &[&BlockEntry]) {
        let ratio = |total: f64, bad: f64| (total > 0.0).then(|| bad / total * 100.0);
        let canary: Vec<_> = blocks
            .iter()
            .map(|b| ratio(b.canary.total, b.canary.bad))
            .collect();
        let stable: Vec<_> = blocks
            .iter()
            .map(|b| ratio(b.stable.total, b.stable.bad))
            .collect();
        let most = canary
            .iter()
            .chain(&stable)
            .flatten()
            .copied()
            .fold(0.0, f64::max);
        let axis = Axis::of_percent(most);
        let panel = self.panel(&format!("{slo}: bad requests in each block"), &axis, RATES_HEIGHT);
        let sides = [("warm", "canary", canary), ("cool", "stable", stable)];
        for (index, (class, name, rates)) in sides.into_iter().enumerate() {
            self.legend(&panel, index, class, name);
            // One step for each block, and a gap where there was no request.
            let mut steps = Vec::new();
            let mut start = self.begin;
            for (block, rate) in blocks.iter().zip(rates) {
                match rate {
                    Some(rate) => steps.extend([(start, rate), (block.t, rate)]),
                    None => self.line(&panel, &axis, class, &std::mem::take(&mut steps)),
                }
                start = block.t;
            }
            self.line(&panel, &axis, class, &steps);
        }
    }

    /// A line through all panels where the rollout ended, with its name above them.
    fn end(&mut self, seconds: f64, name: &str) {
        let (x, bottom) = (self.x(seconds), self.top - GAP);
        // Writing to a String does not fail.
        let _ = write!(
            self.body,
            "<line class=\"line plain\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{MARK}\" y2=\"{bottom:.1}\"/>"
        );
        // What is near the left edge has no room there.
        let (x, class) = if x > f64::midpoint(LEFT, RIGHT) {
            (x - 6.0, "end")
        } else {
            (x + 6.0, "")
        };
        self.text(x, MARK + 4.0, class, name);
    }

    /// The frame of a panel with its title and ticks.
    fn panel(&mut self, title: &str, axis: &Axis, height: f64) -> Panel {
        let panel = Panel {
            top: self.top,
            bottom: self.top + height,
        };
        self.top += height + GAP;
        for (value, label) in &axis.ticks {
            let y = panel.y(axis, *value);
            let _ = write!(
                self.body,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
            );
            self.text(LEFT - 8.0, y + 4.5, "end", label);
        }
        for (seconds, label) in self.time.ticks.clone() {
            let x = self.x(seconds);
            let (top, bottom) = (panel.top, panel.bottom);
            let _ = write!(
                self.body,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"/>"
            );
            self.text(x, panel.bottom + 17.0, "middle", &label);
        }
        let (top, width) = (panel.top, RIGHT - LEFT);
        let _ = write!(
            self.body,
            "<rect class=\"frame\" x=\"{LEFT}\" y=\"{top:.1}\" width=\"{width}\" height=\"{height}\"/>"
        );
        self.text(LEFT, panel.top - 8.0, "", title);
        panel
    }

    fn legend(&mut self, panel: &Panel, index: usize, class: &str, name: &str) {
        let x = RIGHT - LEGEND * (2 - index) as f64;
        self.legend_at(x, panel.top - 8.0, class, name);
    }

    fn legend_at(&mut self, x: f64, base: f64, class: &str, name: &str) {
        let y = base - 4.0;
        let to = x + 26.0;
        let _ = write!(
            self.body,
            "<line class=\"line {class}\" x1=\"{x}\" x2=\"{to}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
        );
        self.text(to + 6.0, base, &format!("{class}-text"), name);
    }

    /// A line through the points that have a place; one outside the axis is drawn at its end.
    fn line(&mut self, panel: &Panel, axis: &Axis, class: &str, points: &[(f64, f64)]) {
        if points.is_empty() {
            return;
        }
        let _ = write!(self.body, "<polyline class=\"line {class}\" points=\"");
        for (seconds, value) in points.iter().filter(|(_, value)| !value.is_nan()) {
            let (x, y) = (self.x(*seconds), panel.y(axis, *value));
            let _ = write!(self.body, "{x:.1},{y:.1} ");
        }
        self.body.push_str("\"/>");
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let text = escaped(text);
        let _ = write!(
            self.body,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"
        );
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + self.time.share(seconds) * (RIGHT - LEFT)
    }
}

#[derive(Clone, Copy)]
struct Panel {
    top: f64,
    bottom: f64,
}

impl Panel {
    fn y(self, axis: &Axis, value: f64) -> f64 {
        self.bottom - axis.share(value) * (self.bottom - self.top)
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests;
