//! Logs, on standard error.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

/// The environment variable that says what is logged, in the syntax of `EnvFilter`: `info,molt=debug`.
pub const LOG_VARIABLE: &str = "MOLT_LOG";

/// What is logged unless the variable says otherwise: the libraries only when something is wrong.
const DEFAULT_FILTER: &str = "info,kube=warn,hyper=warn,hyper_util=warn,reqwest=warn,rustls=warn,tower=warn";

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For reading.
    Text,
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
}

/// Why logs could not be set up.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The variable can't be read as a filter.
    #[error(
        "{LOG_VARIABLE}={value:?} is not a log filter: {cause}; write levels by target, such as info,molt=debug"
    )]
    Filter {
        /// What it says.
        value: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Logs were set up before.
    #[error("logs are set up already: call this once in a process")]
    Repeated,
}

/// Sends logs to standard error, for the rest of the process.
pub fn init(format: LogFormat) -> Result<(), TelemetryError> {
    let terminal = io::stderr().is_terminal();
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let filter = filter(std::env::var(LOG_VARIABLE).ok().as_deref())?;
    subscriber(filter, json, colours, io::stderr)
        .try_init()
        .map_err(|_| TelemetryError::Repeated)
}

/// An empty variable counts as absent: charts render one for a value that is not set.
fn filter(variable: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    let text = variable
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .unwrap_or(DEFAULT_FILTER);
    EnvFilter::builder()
        .parse(text)
        .map_err(|error| TelemetryError::Filter {
            value: text.to_owned(),
            cause: error.to_string(),
        })
}

fn subscriber<W>(filter: EnvFilter, json: bool, colours: bool, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    if json {
        Box::new(
            builder
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(false)
                .finish(),
        )
    } else {
        Box::new(builder.with_ansi(colours).finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool, variable: Option<&str>) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(filter(variable).unwrap(), json, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(service = "checkout", "weight raised");
            tracing::debug!("detail");
            tracing::info!(target: "kube::client", "chatter");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_is_one_object_a_line_and_libraries_are_quiet() {
        let log = logged(true, None);
        let line: serde_json::Value = serde_json::from_str(&log).unwrap();
        assert_eq!(line["message"], "weight raised");
        assert_eq!(line["service"], "checkout");
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn text_is_for_reading() {
        let log = logged(false, Some(""));
        assert!(
            log.contains("weight raised") && log.contains("service=\"checkout\""),
            "{log}"
        );
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(!log.contains('\u{1b}'), "{log}");
    }

    #[test]
    fn the_variable_decides_and_a_bad_one_is_named() {
        assert_eq!(logged(true, Some("debug")).lines().count(), 3);
        assert_eq!(logged(true, Some("off")), "");
        let error = filter(Some("info,molt=loud")).unwrap_err().to_string();
        assert!(
            error.contains("MOLT_LOG=\"info,molt=loud\"") && error.contains("info,molt=debug"),
            "{error}"
        );
    }
}
