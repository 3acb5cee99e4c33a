//! Logs, on standard error.

use std::fmt::{self, Debug};
use std::io::{self, IsTerminal};

use clap::ValueEnum;
use serde_json::{Map, Value, json};
use thiserror::Error;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields, MakeWriter};
use tracing_subscriber::registry::{LookupSpan, Scope};
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
        Box::new(builder.fmt_fields(JsonFields::new()).event_format(Flat).finish())
    } else {
        Box::new(builder.with_ansi(colours).finish())
    }
}

/// One JSON object a line, in which what is said of the whole work (a service, its revision, its attempt) stands beside
/// what the line says, so that it is looked for by one name.
struct Flat;

impl<S> FormatEvent<S, JsonFields> for Flat
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Map::new();
        for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<JsonFields>>();
            let fields = fields.and_then(|fields| serde_json::from_str::<Map<_, _>>(&fields.fields).ok());
            line.extend(fields.unwrap_or_default());
        }
        event.record(&mut Said(&mut line));
        let metadata = event.metadata();
        line.insert("timestamp".to_owned(), json!(jiff::Timestamp::now()));
        line.insert("level".to_owned(), json!(metadata.level().as_str()));
        line.insert("target".to_owned(), json!(metadata.target()));
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// The fields of one line.
struct Said<'a>(&'a mut Map<String, Value>);

impl Said<'_> {
    fn say(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Said<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.say(field, json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.say(field, json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.say(field, json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.say(field, json!(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.say(field, json!(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.say(field, json!(format!("{value:?}")));
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
    fn what_is_said_of_the_whole_work_stands_beside_what_a_line_says() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(filter(Some("warn")).unwrap(), true, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            let span = crate::controller::log_span(&crate::k8s::Key::new("shop", "checkout"));
            let _in = span.enter();
            tracing::warn!(wait_seconds = 5_u64, "first");
            span.record("revision", "7d9f8c0000");
            span.record("attempt", 1_u32);
            span.record("attempt", 2_u32);
            tracing::warn!("second");
        });
        let bytes = lines.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(
            (
                &lines[0]["namespace"],
                &lines[0]["service"],
                &lines[0]["wait_seconds"]
            ),
            (&json!("shop"), &json!("checkout"), &json!(5))
        );
        assert_eq!(
            (&lines[1]["message"], &lines[1]["revision"], &lines[1]["attempt"]),
            (&json!("second"), &json!("7d9f8c0000"), &json!(2))
        );
        assert!(lines[1]["timestamp"].is_string());
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
