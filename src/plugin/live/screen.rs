//! A terminal that is given back as it was, whatever happens.

use std::io::{self, IsTerminal};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Interval, interval};

use super::draw::{Theme, draw};
use super::model::{Key, Model};
use crate::plugin::Failure;
use crate::plugin::text::{Style, is_dumb, is_terminal};

/// How often the times on the screen go on.
const TICK: Duration = Duration::from_secs(1);

/// Somebody looks, and can press keys; the terminal can place characters.
pub fn is_possible() -> bool {
    is_terminal() && io::stdin().is_terminal() && !is_dumb()
}

/// What may happen to a screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The person asks for something.
    Key(Key),
    /// Time has passed, or the terminal has another size.
    Look,
    /// The person has seen enough.
    Quit,
    /// The process is told to end by the signal of this number.
    Signal(u8),
}

/// The terminal, for as long as it shows the view. A panic gives it back too: ratatui's hook does.
pub struct Screen {
    terminal: DefaultTerminal,
    theme: Theme,
    events: UnboundedReceiver<io::Result<Event>>,
    tick: Interval,
    signals: [(Signal, u8); 3],
}

impl Screen {
    /// Takes the terminal.
    pub fn open() -> Result<Self, Failure> {
        let listen = |kind, number| match signal(kind) {
            Ok(signal) => Ok((signal, number)),
            Err(error) => Err(unusable(&error)),
        };
        let signals = [
            listen(SignalKind::hangup(), 1)?,
            listen(SignalKind::interrupt(), 2)?,
            listen(SignalKind::terminate(), 15)?,
        ];
        let terminal = ratatui::try_init().map_err(|error| {
            ratatui::restore();
            unusable(&error)
        })?;
        let (sender, events) = unbounded_channel();
        // It waits for keys in a system call, and ends with the process.
        std::thread::spawn(move || listen_to_keys(&sender));
        let theme = if Style::of_stdout() == Style::PLAIN {
            Theme::Plain
        } else {
            Theme::Colours
        };
        Ok(Self {
            terminal,
            theme,
            events,
            tick: interval(TICK),
            signals,
        })
    }

    /// Shows the model.
    pub fn draw(&mut self, model: &Model) -> Result<(), Failure> {
        let theme = self.theme;
        let drawn = self.terminal.draw(|frame| draw(frame, model, theme));
        drawn.map(drop).map_err(|error| unusable(&error))
    }

    /// What happens next. Nothing is lost when it is not waited for to the end.
    pub async fn input(&mut self) -> Input {
        let [(hangup, h), (interrupt, i), (terminate, t)] = &mut self.signals;
        tokio::select! {
            event = self.events.recv() => match event {
                Some(Ok(Event::Key(key))) => meaning(key),
                Some(Ok(_)) => Input::Look,
                // The terminal is gone.
                Some(Err(_)) | None => Input::Quit,
            },
            _ = self.tick.tick() => Input::Look,
            _ = hangup.recv() => Input::Signal(*h),
            _ = interrupt.recv() => Input::Signal(*i),
            _ = terminate.recv() => Input::Signal(*t),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn listen_to_keys(events: &UnboundedSender<io::Result<Event>>) {
    loop {
        let event = event::read();
        let is_over = event.is_err();
        if events.send(event).is_err() || is_over {
            return;
        }
    }
}

fn unusable(error: &io::Error) -> Failure {
    Failure::Other(format!(
        "the terminal can't show the view: {error}; with TERM=dumb it is told in lines"
    ))
}

fn meaning(key: KeyEvent) -> Input {
    if key.kind == KeyEventKind::Release {
        return Input::Look;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        // The terminal hands it over as a key; elsewhere it would be the signal.
        KeyCode::Char('c') if control => Input::Signal(2),
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => Input::Quit,
        KeyCode::Tab | KeyCode::Right => Input::Key(Key::Next),
        KeyCode::BackTab | KeyCode::Left => Input::Key(Key::Previous),
        KeyCode::Down | KeyCode::Char('j') => Input::Key(Key::Down),
        KeyCode::Up | KeyCode::Char('k') => Input::Key(Key::Up),
        KeyCode::Home => Input::Key(Key::Top),
        _ => Input::Look,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_help_says() {
        let key = |code, modifiers| meaning(KeyEvent::new(code, modifiers));
        let none = KeyModifiers::NONE;
        assert_eq!(key(KeyCode::Char('q'), none), Input::Quit);
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Input::Signal(2));
        assert_eq!(key(KeyCode::Char('c'), none), Input::Look);
        assert_eq!(key(KeyCode::Tab, none), Input::Key(Key::Next));
        assert_eq!(key(KeyCode::Left, none), Input::Key(Key::Previous));
        assert_eq!(key(KeyCode::Down, none), Input::Key(Key::Down));
        assert_eq!(key(KeyCode::Up, none), Input::Key(Key::Up));
    }
}
