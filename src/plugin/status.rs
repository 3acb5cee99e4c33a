//! `kubectl molt status`.

use std::process::ExitCode;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use kube::runtime::watcher::watch_object;

use super::connect::Cluster;
use super::get::without_bookkeeping;
use super::render::{line, render};
use super::text::{self, Style};
use super::{Failure, Output};
use crate::api::v1alpha1::{Phase, PythonService};

/// How often the times on the screen go on.
const TICK: Duration = Duration::from_secs(1);

pub(super) async fn once(cluster: &Cluster, name: &str, output: Option<Output>) -> Result<ExitCode, Failure> {
    let mut service = cluster.service(name).await?;
    without_bookkeeping(&mut service);
    match output {
        Some(output) => output.print(&service)?,
        None => text::print(&render(&service, Timestamp::now(), Style::of_stdout())),
    }
    Ok(exit_code(&service))
}

/// Follows the service until nothing moves: redrawn in place on a terminal, else a line for each change.
pub(super) async fn watch(cluster: &Cluster, name: &str) -> Result<ExitCode, Failure> {
    // Says what there is when there is no such service; a watch would wait for it in silence.
    let mut service = cluster.service(name).await?;
    let mut screen = Screen::new();
    let mut news = std::pin::pin!(watch_object(cluster.services(), name));
    let mut tick = tokio::time::interval(TICK);
    loop {
        screen.show(&service);
        if !moves(&service) {
            return Ok(exit_code(&service));
        }
        tokio::select! {
            event = news.next() => match event {
                Some(Ok(Some(newer))) => service = newer,
                Some(Ok(None)) => return Err(Failure::NotFound(format!("PythonService {name} was deleted"))),
                // The watch is taken up again by itself; what is on the screen stays true until then.
                Some(Err(error)) => screen.trouble(&error),
                None => return Err(Failure::Other("the watch ended".to_owned())),
            },
            _ = tick.tick() => {}
        }
    }
}

struct Screen {
    terminal: bool,
    style: Style,
    last: String,
}

impl Screen {
    fn new() -> Self {
        let terminal = text::is_terminal();
        if terminal {
            text::print("\x1b[2J");
        }
        Self {
            terminal,
            style: Style::of_stdout(),
            last: String::new(),
        }
    }

    fn show(&mut self, service: &PythonService) {
        let now = Timestamp::now();
        let shown = if self.terminal {
            render(service, now, self.style)
        } else {
            line(service)
        };
        if shown == self.last {
            return;
        }
        if self.terminal {
            // Home, then each line over the old one, then nothing below: no flicker, and lines may wrap.
            let lines = shown.replace('\n', "\x1b[K\n");
            text::print(&format!("\x1b[H{lines}\x1b[J"));
        } else {
            text::print(&format!("{} {shown}\n", now.strftime("%H:%M:%SZ")));
        }
        self.last = shown;
    }

    fn trouble(&mut self, error: &kube::runtime::watcher::Error) {
        eprintln!("the watch is interrupted: {}", super::failure::chain(error));
        self.last.clear();
    }
}

/// Something may still change by itself, or a person is awaited.
fn moves(service: &PythonService) -> bool {
    let Some(status) = &service.status else {
        return true;
    };
    let late = status.observed_generation.unwrap_or(0) < service.metadata.generation.unwrap_or(0);
    late || !matches!(
        status.phase,
        Some(Phase::Healthy | Phase::RolledBack | Phase::Degraded)
    )
}

/// 0 if nothing moves and all is well, 1 if something is wrong, 2 while it moves or waits.
pub(super) fn exit_code(service: &PythonService) -> ExitCode {
    let phase = service.status.as_ref().and_then(|status| status.phase);
    match phase {
        _ if moves(service) => 2,
        Some(Phase::Healthy) => 0,
        _ => 1,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::render::fixtures::progressing;

    #[test]
    fn the_exit_code_tells_the_phase() {
        let code = |phase, seen| {
            let mut service = progressing();
            service.metadata.generation = Some(7);
            let status = service.status.as_mut().unwrap();
            status.phase = phase;
            status.observed_generation = Some(seen);
            exit_code(&service)
        };
        assert_eq!(code(Some(Phase::Healthy), 7), ExitCode::from(0));
        assert_eq!(code(Some(Phase::RolledBack), 7), ExitCode::from(1));
        assert_eq!(code(Some(Phase::Degraded), 7), ExitCode::from(1));
        for moving in [
            Phase::Progressing,
            Phase::Initializing,
            Phase::RollingBack,
            Phase::Paused,
        ] {
            assert_eq!(code(Some(moving), 7), ExitCode::from(2));
        }
        // What is said of an older spec does not count.
        assert_eq!(code(Some(Phase::Healthy), 6), ExitCode::from(2));
        assert_eq!(code(None, 7), ExitCode::from(2));
    }
}
