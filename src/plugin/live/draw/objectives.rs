//! The objectives: what was counted, how far the evidence has come towards both bounds, and what it costs.

use jiff::{SignedDuration, Timestamp};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Paragraph};

use super::super::model::{Block, Model};
use super::{Theme, Tone, bar};
use crate::api::v1alpha1::SloStatus;
use crate::plugin::render::objectives::{Needed, named};
use crate::plugin::text::{grouped, ratio, span};

/// Width of a bar towards a bound.
const BOUND: u16 = 12;
/// Signs of the two revisions in a chart.
const SIGNS: (char, char) = ('●', '○');

/// Each objective in a line, the one that is looked at in full.
pub fn lines(model: &Model, width: u16, theme: Theme) -> Vec<Line<'static>> {
    let slos = model.slos();
    let needed = Needed::of(&model.service);
    let mut lines = Vec::new();
    for (index, slo) in slos.iter().enumerate() {
        if index == 0 {
            lines.push(Line::default());
        }
        let chosen = index == model.objective;
        lines.push(headline(model, slo, chosen, theme));
        if chosen {
            lines.extend(in_full(slo, &needed, width, theme));
        }
    }
    lines
}

fn headline(model: &Model, slo: &SloStatus, chosen: bool, theme: Theme) -> Line<'static> {
    let tone = match slo.verdict.as_str() {
        "Safe" => Tone::Good,
        "RollBack" => Tone::Bad,
        "NoData" => Tone::Busy,
        _ => Tone::Plain,
    };
    let name = named(&model.service, &slo.name);
    let name_tone = if chosen { Tone::Strong } else { Tone::Plain };
    // A record has no verdict: how it ended is said above.
    let gap = if slo.verdict.is_empty() { "" } else { "  " };
    let counts = format!(
        "{gap}canary {} of {} bad ({}), stable {}",
        grouped(slo.canary.bad),
        grouped(slo.canary.total),
        ratio(slo.canary.total, slo.canary.bad),
        ratio(slo.stable.total, slo.stable.bad),
    );
    Line::from(vec![
        theme.span(if chosen { "▸ " } else { "  " }, Tone::Strong),
        theme.span(&name, name_tone),
        Span::raw("  "),
        theme.span(&slo.verdict, tone),
        theme.span(&counts, Tone::Plain),
    ])
}

fn in_full(slo: &SloStatus, needed: &Needed, width: u16, theme: Theme) -> Vec<Line<'static>> {
    let bound = |name: &str, is: &str, of: &str, tone: Tone| {
        let mut spans = vec![theme.span(&format!("    {name:<6} "), Tone::Quiet)];
        spans.extend(bar(towards(is, of), BOUND, tone, theme));
        spans.push(theme.span(&format!(" {is} of {of}"), Tone::Plain));
        spans
    };
    let harm = bound("harm", &slo.evidence.harm, &needed.harm, Tone::Bad);
    let safe = bound("safe", &slo.evidence.safe, &needed.safe, Tone::Good);
    let remaining = slo.budget_remaining.as_deref().unwrap_or("an unknown share");
    let mut budget = vec![theme.span("    budget ", Tone::Quiet)];
    budget.extend(bar(
        of_budget(&slo.spent_by_rollout, &needed.spend),
        BOUND,
        Tone::Busy,
        theme,
    ));
    let spent = format!(
        " {} spent of {}, {remaining} was left",
        slo.spent_by_rollout, needed.spend
    );
    budget.push(theme.span(&spent, Tone::Plain));
    let burn = slo.burn.as_ref().map(|burn| {
        let text = |rate: &Option<String>| rate.clone().unwrap_or_else(|| "unknown".to_owned());
        let told = format!(
            "{}, stable {}; adds {}",
            text(&burn.canary),
            text(&burn.stable),
            text(&burn.attributable)
        );
        vec![
            theme.span("    burn rate ", Tone::Quiet),
            theme.span(&told, Tone::Plain),
        ]
    });
    let taken = |spans: &[Span<'_>]| spans.iter().map(Span::width).sum::<usize>();
    let mut lines: Vec<Vec<Span<'static>>> = Vec::new();
    // Two beside each other where they fit.
    for spans in [Some(harm), Some(safe), Some(budget), burn].into_iter().flatten() {
        match lines.last_mut() {
            Some(last) if taken(last) + taken(&spans) <= usize::from(width) => last.extend(spans),
            _ => lines.push(spans),
        }
    }
    lines.into_iter().map(Line::from).collect()
}

/// How far evidence has come: it grows by factors, so that each factor of ten takes the same way.
fn towards(is: &str, of: &str) -> f64 {
    let number = |text: &str| text.replace(',', "").parse::<f64>().ok();
    match (number(is), number(of)) {
        (Some(is), Some(of)) if of > 1.0 => (is.max(1.0).ln() / of.ln()).clamp(0.0, 1.0),
        // `over 1,000,000`
        (None, _) if is.starts_with("over") => 1.0,
        _ => 0.0,
    }
}

fn of_budget(spent: &str, most: &str) -> f64 {
    let percent = |text: &str| text.trim_end_matches('%').replace(',', "").parse::<f64>().ok();
    match (percent(spent), percent(most)) {
        (Some(spent), Some(most)) if most > 0.0 => spent / most,
        _ => 0.0,
    }
}

/// The share of bad requests to both revisions in each block, and the canary's weight, since the attempt began.
pub fn chart(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let (Some((from, to)), Some(slo)) = (model.time(), model.slos().get(model.objective)) else {
        return;
    };
    let [title, area] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let after = |at: Timestamp| at.duration_since(from).as_secs_f64();
    let blocks: Vec<_> = model
        .blocks(&slo.name)
        .map(|(at, block)| (after(at), block))
        .collect();
    let points = |of: fn(&Block) -> Option<f64>| -> Vec<(f64, f64)> {
        blocks
            .iter()
            .filter_map(|(at, block)| Some((*at, of(block)?)))
            .collect()
    };
    let (canary, stable) = (points(|b| b.canary), points(|b| b.stable));
    let (of_canary, of_stable) = SIGNS;
    let words = format!(
        "bad requests by block, {}: {of_canary} canary  {of_stable} stable",
        slo.name
    );
    frame.render_widget(Paragraph::new(Line::from(theme.span(&words, Tone::Quiet))), title);
    if blocks.is_empty() {
        let none = theme.span("  no block has been counted yet", Tone::Quiet);
        frame.render_widget(Paragraph::new(Line::from(none)), area);
        return;
    }
    let highest = canary
        .iter()
        .chain(&stable)
        .map(|(_, share)| *share)
        .fold(0.0, f64::max);
    let highest = if highest > 0.0 {
        (highest * 1.15).min(100.0)
    } else {
        1.0
    };
    let last = after(to).max(1.0);
    let label = |percent: f64| {
        let text = if highest < 1.0 {
            format!("{percent:.2}%")
        } else {
            format!("{percent:.1}%")
        };
        theme.span(&text, Tone::Quiet)
    };
    let set = |points, sign, tone| {
        Dataset::default()
            .marker(Marker::Custom(sign))
            .graph_type(GraphType::Scatter)
            .style(theme.style(tone))
            .data(points)
    };
    // The canary comes last: where both are the same, it is on top.
    let sets = vec![
        set(&stable, of_stable, Tone::Good),
        set(&canary, of_canary, Tone::Busy),
    ];
    let so_far = span(SignedDuration::from_secs(last as i64));
    let chart = Chart::new(sets)
        .x_axis(
            Axis::default()
                .bounds([0.0, last])
                .style(theme.style(Tone::Quiet))
                .labels([theme.span("0s", Tone::Quiet), theme.span(&so_far, Tone::Quiet)]),
        )
        .y_axis(
            Axis::default()
                .bounds([0.0, highest])
                .style(theme.style(Tone::Quiet))
                .labels([label(0.0), label(highest)]),
        )
        .legend_position(None);
    frame.render_widget(chart, area);
}
