//! The model as a screen, from 80 columns to wide ones, and legible below.
//!
//! Colour says nothing that a word or a sign does not say as well.

mod objectives;
#[cfg(test)]
mod tests;

use std::iter;

use molt_core::state::{Outcome, Stage, Transition};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use super::model::Model;
use crate::api::v1alpha1::{Phase, RevisionStatus};
use crate::plugin::render::{at, outcome, runs_wanted, way, wrong};
use crate::plugin::text::{self, clean, span};

/// From so many columns on, the way stands beside the objectives as a tree.
const WIDE: u16 = 100;
/// Columns of the tree.
const TREE: u16 = 34;
/// Lines of the message at most.
const MESSAGE: u16 = 3;
/// Lines of a chart at least.
const CHART: u16 = 5;
/// Lines of events at least, where there is more to show than fits.
const EVENTS: u16 = 3;
/// Width of a bar that stands for all of something.
const BAR: u16 = 20;

/// Whether there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// There are.
    Colours,
    /// There are none.
    Plain,
}

/// What a colour stands for; a word beside it says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Plain,
    Strong,
    Quiet,
    Good,
    Bad,
    Busy,
}

impl Theme {
    fn style(self, tone: Tone) -> Style {
        let plain = Style::new();
        let colour = |colour| match self {
            Self::Colours => plain.fg(colour),
            Self::Plain => plain,
        };
        match tone {
            Tone::Plain => plain,
            Tone::Strong => plain.add_modifier(Modifier::BOLD),
            Tone::Quiet => plain.add_modifier(Modifier::DIM),
            Tone::Good => colour(Color::Green),
            Tone::Bad => colour(Color::Red).add_modifier(Modifier::BOLD),
            Tone::Busy => colour(Color::Yellow),
        }
    }

    /// Text, without anything in it that would steer the terminal.
    fn span(self, text: &str, tone: Tone) -> Span<'static> {
        Span::styled(clean(text), self.style(tone))
    }
}

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, model: &Model, theme: Theme) {
    let area = frame.area();
    let status = model.service.status.clone().unwrap_or_default();
    let message = status.message.clone().unwrap_or_else(|| {
        "no operator has taken it up yet: is one running? (kubectl get pods -A -l app.kubernetes.io/name=molt)".to_owned()
    });
    let mut top: Vec<Line<'_>> = vec![head(model, theme)];
    if let Some((since, why)) = &model.lost {
        let gone = span(model.now.duration_since(*since));
        let text = format!("! no contact for {gone}, what is shown is older; it is tried again. {why}");
        top.extend(wrapped(&text, area.width, 2, Tone::Bad, theme));
    }
    top.extend(wrapped(&message, area.width, MESSAGE, Tone::Plain, theme));
    top.extend(late(model, theme));
    top.push(Line::default());
    let sides = [("stable", &status.stable), ("canary", &status.canary)];
    top.extend(
        sides
            .into_iter()
            .filter_map(|(role, side)| side.as_ref().map(|side| revision(role, side, theme))),
    );
    top.extend(faults(model, theme));
    let [head, body, help] = Layout::vertical([
        Constraint::Length(height(&top)),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(fit(top, area.width)), head);
    frame.render_widget(Paragraph::new(keys(theme)), help);
    if area.width >= WIDE {
        let [left, right] = Layout::horizontal([Constraint::Length(TREE), Constraint::Fill(1)])
            .spacing(1)
            .areas(body);
        let tree = fit(tree(model, left.height, theme), left.width);
        frame.render_widget(Paragraph::new(tree), left);
        beside(frame, right, model, theme);
    } else {
        let way = steps(model, area.width, theme);
        let [steps, rest] =
            Layout::vertical([Constraint::Length(height(&way)), Constraint::Fill(1)]).areas(body);
        frame.render_widget(Paragraph::new(way), steps);
        beside(frame, rest, model, theme);
    }
}

/// Objectives, their chart, and the events.
fn beside(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let objectives = objectives::lines(model, area.width, theme);
    let events = events(model, theme);
    let wanted = height(&objectives);
    let left = area.height.saturating_sub(wanted);
    let told = height(&events).min(EVENTS.max(left / 3));
    let chart = left.saturating_sub(told);
    let chart = if chart >= CHART && wanted > 0 { chart } else { 0 };
    let [top, middle, bottom] = Layout::vertical([
        Constraint::Length(wanted),
        Constraint::Length(chart),
        Constraint::Fill(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(fit(objectives, area.width)), top);
    if chart > 0 {
        objectives::chart(frame, middle, model, theme);
    }
    frame.render_widget(Paragraph::new(events).wrap(Wrap { trim: false }), bottom);
}

/// Lines that are too wide end with a sign that there is more.
fn fit(lines: Vec<Line<'static>>, width: u16) -> Vec<Line<'static>> {
    let width = usize::from(width);
    let cut = |line: Line<'static>| {
        if line.width() <= width {
            return line;
        }
        let (mut spans, mut left) = (Vec::new(), width.saturating_sub(1));
        for span in line.spans {
            let mut text = String::new();
            for c in span.content.chars() {
                let wide = columns(c.encode_utf8(&mut [0; 4]));
                if wide > left {
                    left = 0;
                    break;
                }
                left -= wide;
                text.push(c);
            }
            spans.push(Span::styled(text, span.style));
            if left == 0 {
                break;
            }
        }
        spans.push(Span::raw("…"));
        Line::from(spans)
    };
    lines.into_iter().map(cut).collect()
}

fn height(lines: &[Line<'_>]) -> u16 {
    u16::try_from(lines.len()).unwrap_or(u16::MAX)
}

fn head(model: &Model, theme: Theme) -> Line<'static> {
    let service = &model.service;
    let name = format!(
        "{}/{}",
        service.metadata.namespace.as_deref().unwrap_or_default(),
        service.metadata.name.as_deref().unwrap_or_default()
    );
    let phase = service.status.as_ref().and_then(|status| status.phase);
    let word = phase.map_or_else(|| "Unknown".to_owned(), |phase| format!("{phase:?}"));
    let tone = match phase {
        Some(Phase::Healthy) => Tone::Good,
        Some(Phase::RollingBack | Phase::RolledBack | Phase::Degraded) => Tone::Bad,
        _ => Tone::Busy,
    };
    Line::from(vec![
        theme.span(&name, Tone::Strong),
        Span::raw("  "),
        theme.span(&word, tone),
        Span::raw("  "),
        theme.span(&model.now.strftime("%H:%M:%SZ").to_string(), Tone::Quiet),
    ])
}

/// That the operator has not seen the latest spec.
fn late(model: &Model, theme: Theme) -> Option<Line<'static>> {
    let status = model.service.status.as_ref()?;
    let (seen, wanted) = (
        status.observed_generation.unwrap_or(0),
        model.service.metadata.generation.unwrap_or(0),
    );
    let text = format!("the operator has not seen the latest spec yet (generation {seen} of {wanted})");
    (seen < wanted).then(|| Line::from(theme.span(&text, Tone::Busy)))
}

fn revision(role: &str, side: &RevisionStatus, theme: Theme) -> Line<'static> {
    let tone = if role == "canary" { Tone::Busy } else { Tone::Good };
    let pods = format!("{} of {} pods ready", side.ready, side.replicas);
    let pods = if side.ready < side.replicas {
        theme.span(&format!("! {pods}"), Tone::Bad)
    } else {
        Span::raw(pods)
    };
    let mut spans = vec![
        Span::raw(format!("{role}  ")),
        theme.span(&side.revision, Tone::Strong),
        Span::raw("  "),
    ];
    spans.extend(bar(f64::from(side.weight) / 100.0, BAR, tone, theme));
    spans.push(Span::raw(format!(" {:>3}%  ", side.weight)));
    spans.push(pods);
    if let Some(attempt) = side.attempt {
        spans.push(Span::raw(format!("  attempt {attempt}")));
    }
    Line::from(spans)
}

/// A share of a bar, 0 to 1. A small share is a share: it is seen.
fn bar(share: f64, width: u16, tone: Tone, theme: Theme) -> [Span<'static>; 2] {
    let share = if share.is_finite() {
        share.clamp(0.0, 1.0)
    } else {
        0.0
    };
    let filled = (share * f64::from(width)).round() as usize;
    let filled = if share > 0.0 { filled.max(1) } else { 0 };
    [
        theme.span(&"█".repeat(filled), tone),
        theme.span(
            &"░".repeat(usize::from(width).saturating_sub(filled)),
            Tone::Quiet,
        ),
    ]
}

/// Conditions that are wrong.
fn faults(model: &Model, theme: Theme) -> Vec<Line<'static>> {
    let status = model.service.status.as_ref();
    let conditions = status.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let told = status.and_then(|s| s.message.as_ref());
    wrong(conditions)
        .map(|condition| {
            let word = format!("! {}={} ", condition.type_, condition.status);
            // The headline has it already.
            let message = if told == Some(&condition.message) {
                ""
            } else {
                &condition.message
            };
            let since = span(model.now.duration_since(condition.last_transition_time.0));
            Line::from(vec![
                theme.span(&word, Tone::Bad),
                theme.span(
                    &format!("{} for {since}  {message}", condition.reason),
                    Tone::Plain,
                ),
            ])
        })
        .collect()
}

/// Words in lines of this width, at most so many; what is left out is marked.
fn wrapped(text: &str, width: u16, most: u16, tone: Tone, theme: Theme) -> Vec<Line<'static>> {
    let text = clean(text);
    let width = usize::from(width.max(8));
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if columns(line) + 1 + columns(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    let most = usize::from(most.max(1));
    if lines.len() > most {
        lines.truncate(most);
        let last = &mut lines[most - 1];
        while columns(last) + 2 > width && last.pop().is_some() {}
        last.push_str(" …");
    }
    lines
        .iter()
        .map(|line| Line::from(theme.span(line, tone)))
        .collect()
}

fn columns(text: &str) -> usize {
    Span::raw(text).width()
}

/// Where the attempt is, and its way in one line: as much of it as fits around where it is.
fn steps(model: &Model, width: u16, theme: Theme) -> Vec<Line<'static>> {
    let Some(attempt) = model.attempt() else {
        return ended(model, width, theme);
    };
    let running = span(model.now.duration_since(attempt.started_at));
    let runs = runs_wanted(&model.service);
    let first = format!("{}; runs for {running}", at(attempt, runs, model.now));
    let mut lines = vec![Line::default()];
    lines.extend(wrapped(&first, width, 2, Tone::Plain, theme));
    if attempt.stage == Stage::Deploying && runs.is_none() {
        return lines;
    }
    let way = way(attempt, runs);
    let here = way.iter().position(|place| place.here).unwrap_or(0);
    let text = |index: usize| {
        let place = &way[index];
        if place.here {
            format!("[{}]", place.word)
        } else {
            place.word.clone()
        }
    };
    let (mut from, mut to) = (here, here + 1);
    let mut taken = columns(&text(here)) + 8;
    loop {
        let before = from
            .checked_sub(1)
            .filter(|&b| taken + columns(&text(b)) + 3 <= usize::from(width));
        if let Some(before) = before {
            taken += columns(&text(before)) + 3;
            from = before;
        }
        let after = (to < way.len() && taken + columns(&text(to)) + 3 <= usize::from(width)).then_some(to);
        if let Some(after) = after {
            taken += columns(&text(after)) + 3;
            to += 1;
        }
        if before.is_none() && after.is_none() {
            break;
        }
    }
    let mut spans = Vec::new();
    if from > 0 {
        spans.push(theme.span("… ", Tone::Quiet));
    }
    for (index, place) in way.iter().enumerate().take(to).skip(from) {
        if index > from {
            spans.push(theme.span(" → ", Tone::Quiet));
        }
        let tone = match (place.here, place.done) {
            (true, _) => Tone::Strong,
            (_, true) => Tone::Good,
            _ => Tone::Quiet,
        };
        spans.push(theme.span(&text(index), tone));
    }
    if to < way.len() {
        spans.push(theme.span(" …", Tone::Quiet));
    }
    lines.push(Line::from(spans));
    lines
}

/// How the last attempt ended, while none is under way.
fn ended(model: &Model, width: u16, theme: Theme) -> Vec<Line<'static>> {
    let Some(last) = model.last() else {
        return Vec::new();
    };
    let tone = match last.outcome {
        Outcome::Promoted => Tone::Good,
        Outcome::RolledBack => Tone::Bad,
        _ => Tone::Busy,
    };
    let mut lines = vec![Line::default()];
    lines.extend(wrapped(
        &outcome(&model.service, last, model.now, text::Style::PLAIN),
        width,
        6,
        tone,
        theme,
    ));
    lines
}

/// The attempt and its way as a tree, as much of it as fits around where it is.
fn tree(model: &Model, height: u16, theme: Theme) -> Vec<Line<'static>> {
    let Some(attempt) = model.attempt() else {
        return ended(model, TREE, theme);
    };
    let running = span(model.now.duration_since(attempt.started_at));
    let mut lines = vec![
        Line::default(),
        Line::from(theme.span(
            &format!("attempt {} at {}", attempt.number, attempt.revision),
            Tone::Strong,
        )),
        Line::from(theme.span(&format!("runs for {running}"), Tone::Quiet)),
    ];
    let runs = runs_wanted(&model.service);
    let now = at(attempt, runs, model.now);
    let way = if attempt.stage == Stage::Deploying && runs.is_none() {
        Vec::new()
    } else {
        way(attempt, runs)
    };
    let here = way.iter().position(|place| place.here);
    if here.is_none() {
        lines.extend(wrapped(&now, TREE, 3, Tone::Busy, theme));
    }
    let room = usize::from(height)
        .saturating_sub(lines.len() + if here.is_some() { 2 } else { 0 })
        .max(1);
    let first = here
        .unwrap_or(0)
        .saturating_sub(room / 2)
        .min(way.len().saturating_sub(room));
    for (index, place) in way.iter().enumerate().skip(first).take(room) {
        let (sign, tone) = match (place.here, place.done) {
            (true, _) => ("▶", Tone::Strong),
            (_, true) => ("✓", Tone::Good),
            _ => ("·", Tone::Quiet),
        };
        let branch = if index + 1 == way.len() { "└" } else { "├" };
        lines.push(Line::from(vec![
            theme.span(&format!("{branch} "), Tone::Quiet),
            theme.span(&format!("{sign} {}", place.word), tone),
        ]));
        if place.here {
            for line in wrapped(&now, TREE - 4, 2, Tone::Busy, theme) {
                let mut spans = vec![theme.span("│   ", Tone::Quiet)];
                spans.extend(line.spans);
                lines.push(Line::from(spans));
            }
        }
    }
    lines
}

/// What happened, the newest first.
fn events(model: &Model, theme: Theme) -> Vec<Line<'static>> {
    let transitions = model.transitions();
    if transitions.is_empty() {
        return Vec::new();
    }
    let row = |t: &Transition| {
        Line::from(vec![
            theme.span(&t.at.strftime("%H:%M:%SZ").to_string(), Tone::Quiet),
            theme.span(&format!(" {:>3}%  ", t.weight), Tone::Plain),
            theme.span(&t.reason, Tone::Strong),
            theme.span(&format!("  {}", t.message), Tone::Plain),
        ])
    };
    let older = usize::from(model.scrolled);
    let title = match older {
        0 => "events".to_owned(),
        _ => format!("events, {older} newer above"),
    };
    iter::once(Line::from(theme.span(&title, Tone::Quiet)))
        .chain(transitions.iter().rev().skip(older).map(row))
        .collect()
}

fn keys(theme: Theme) -> Line<'static> {
    let help = [
        ("q", " quit"),
        ("↑↓", " events"),
        ("home", " newest"),
        ("tab", " next objective"),
    ];
    let spans = help.into_iter().enumerate().flat_map(|(index, (key, what))| {
        let gap = if index == 0 { "" } else { "  " };
        [
            Span::raw(gap),
            theme.span(key, Tone::Strong),
            theme.span(what, Tone::Quiet),
        ]
    });
    Line::from(spans.collect::<Vec<_>>())
}
