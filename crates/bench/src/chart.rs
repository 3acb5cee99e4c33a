//! The picture: false rollbacks and time to detect, readable on light and dark pages.

use std::fmt::Write as _;

use crate::report::{NAMES, Row};

/// One colour for each tool, readable on white and on black.
const COLOURS: [&str; 4] = ["#2f81f7", "#db6d28", "#8957e5", "#2da44e"];
/// Height of a line for one case.
const LINE: usize = 30;
/// Where the lines begin.
const TOP: usize = 96;
/// Where the two panels begin, and how wide they are.
const PANELS: [usize; 2] = [330, 690];
const WIDTH: f64 = 310.0;
/// Where the names of the cases end.
const NAMES_END: usize = 318;

/// Draws the chart as SVG: documented settings are hollow, tuned ones filled.
pub fn draw(rows: &[Row]) -> String {
    let height = TOP + rows.len() * LINE + 46;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1030 {height}\" font-family=\"system-ui, \
         sans-serif\" font-size=\"12\" role=\"img\" aria-label=\"False rollbacks and time to detect of Molt, \
         Argo Rollouts, Flagger and Kayenta\">\n<style>\n.t {{ fill: #1f2328 }} .m {{ fill: #59636e }} .g {{ stroke: \
         #8c959f; stroke-opacity: .35 }}\n@media (prefers-color-scheme: dark) {{ .t {{ fill: #e6edf3 }} .m {{ fill: #9198a1 \
         }} }}\n</style>\n"
    );
    legend(&mut svg);
    let bottom = TOP + rows.len() * LINE;
    for (panel, (title, ticks)) in PANELS.iter().zip([
        (
            "healthy canaries taken back, %",
            [
                (0.01, "≤ 0.01"),
                (0.1, "0.1"),
                (1.0, "1"),
                (10.0, "10"),
                (100.0, "100"),
            ],
        ),
        (
            "seconds until half of the harmful are found",
            [
                (15.0, "15"),
                (60.0, "60"),
                (300.0, "300"),
                (1200.0, "1200"),
                (3600.0, "≥ 3600"),
            ],
        ),
    ]) {
        let _ = writeln!(
            svg,
            "<text class=\"t\" x=\"{panel}\" y=\"64\" font-weight=\"600\">{title}</text>"
        );
        for (value, label) in ticks {
            let x = place(*panel, value, ticks[0].0, ticks[4].0);
            let _ = writeln!(
                svg,
                "<line class=\"g\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/><text class=\"m\" \
                 x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
                bottom + 18
            );
        }
    }
    for (i, row) in rows.iter().enumerate() {
        let y = TOP + i * LINE + LINE / 2;
        let _ = writeln!(
            svg,
            "<text class=\"t\" x=\"{NAMES_END}\" y=\"{}\" text-anchor=\"end\">{}</text><line class=\"g\" x1=\"330\" \
             y1=\"{y}\" x2=\"1000\" y2=\"{y}\"/>",
            y + 4,
            row.case.name
        );
        // Molt last: on top.
        for (who, outcome) in row.outcomes.iter().enumerate().rev() {
            let share = outcome.false_share().0 * 100.0;
            let seconds = outcome.found_by(0.5).map_or(3600.0, f64::from);
            // A little apart, so that none hides another.
            let y = y - 8 + who.div_ceil(2) * 5;
            mark(&mut svg, who, place(PANELS[0], share, 0.01, 100.0), y);
            mark(&mut svg, who, place(PANELS[1], seconds, 15.0, 3600.0), y);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// The place of a value on a logarithmic axis.
fn place(panel: usize, value: f64, least: f64, most: f64) -> f64 {
    let share = (value.clamp(least, most) / least).ln() / (most / least).ln();
    panel as f64 + 14.0 + share * (WIDTH - 28.0)
}

fn mark(svg: &mut String, who: usize, x: f64, y: usize) {
    let colour = COLOURS[who.div_ceil(2)];
    let documented = who % 2 == 1;
    let (fill, radius) = if documented {
        ("none", 5)
    } else {
        (colour, if who == 0 { 6 } else { 4 })
    };
    let _ = writeln!(
        svg,
        "<circle cx=\"{x:.1}\" cy=\"{y}\" r=\"{radius}\" fill=\"{fill}\" stroke=\"{colour}\" \
         stroke-width=\"2\"><title>{}</title></circle>",
        NAMES[who]
    );
}

fn legend(svg: &mut String) {
    let tools = ["Molt, defaults", "Argo Rollouts", "Flagger", "Kayenta"];
    for (i, (tool, who)) in tools.iter().zip([0, 2, 4, 6]).enumerate() {
        let x = 20 + i * 125;
        mark(svg, who, x as f64, 24);
        let _ = writeln!(svg, "<text class=\"t\" x=\"{}\" y=\"28\">{tool}</text>", x + 12);
    }
    svg.push_str(
        "<text class=\"m\" x=\"525\" y=\"28\">hollow: documented example; filled: tuned with the truth known</text>\n",
    );
}

#[cfg(test)]
#[path = "chart_tests.rs"]
mod tests;
