//! `kubectl molt status`; [`live`](super::live) follows a service.

use std::process::ExitCode;

use jiff::Timestamp;

use super::connect::Cluster;
use super::get::without_bookkeeping;
use super::render::render;
use super::text::{self, Style};
use super::{Failure, Output};
use crate::api::v1alpha1::{Phase, PythonService};

pub(super) async fn once(cluster: &Cluster, name: &str, output: Option<Output>) -> Result<ExitCode, Failure> {
    let mut service = cluster.service(name).await?;
    without_bookkeeping(&mut service);
    match output {
        Some(output) => output.print(&service)?,
        None => text::print(&render(&service, Timestamp::now(), Style::of_stdout())),
    }
    Ok(exit_code(&service))
}

/// Something may still change by itself, or a person is awaited.
pub(super) fn moves(service: &PythonService) -> bool {
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
