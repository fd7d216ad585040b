//! The lines of the log for machines: JSON with the keys that upstream's logger writes, so that what reads its log reads
//! ours: `level`, `ts`, `logger`, `msg`, and what it is about as further keys.
//!
//! Decides nothing about what is logged. Invariant: a line is one JSON object without a key twice; what the message itself
//! says goes before what it is part of.

use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes a line for each event.
pub(crate) struct Lines;

impl<S> FormatEvent<S, JsonFields> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let target = said.target.as_deref().unwrap_or(event.metadata().target());
        let mut line = Line::begin(*event.metadata().level(), Timestamp::now(), target, &said.message);
        for (key, value) in said.fields {
            line.add(key, &value);
        }
        // The innermost first: it knows best.
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let Some(fields) = extensions.get::<FormattedFields<JsonFields>>() else { continue };
            let fields: Map<String, Value> = serde_json::from_str(fields).unwrap_or_default();
            for (key, value) in &fields {
                line.add(key, value);
            }
        }
        writeln!(writer, "{}", line.end())
    }
}

/// A line as it grows, in the order in which its keys come.
struct Line {
    text: String,
    keys: Vec<String>,
}

impl Line {
    fn begin(level: Level, now: Timestamp, logger: &str, message: &str) -> Self {
        let mut line = Self { text: "{".to_owned(), keys: Vec::new() };
        for (key, value) in
            [("level", level_name(level)), ("ts", &format!("{now:.3}")), ("logger", logger), ("msg", message)]
        {
            line.add(key, &Value::from(value));
        }
        line
    }

    /// Adds a key, unless the line has it.
    fn add(&mut self, key: &str, value: &Value) {
        if self.keys.iter().any(|known| known == key) {
            return;
        }
        if !self.keys.is_empty() {
            self.text.push(',');
        }
        self.text.push_str(&Value::from(key).to_string());
        self.text.push(':');
        self.text.push_str(&value.to_string());
        self.keys.push(key.to_owned());
    }

    fn end(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

/// The levels of upstream's logger, which has none below debug.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

/// What an event says.
#[derive(Default)]
struct Said {
    message: String,
    /// Who says it, where a library of the `log` crate does.
    target: Option<String>,
    fields: Vec<(&'static str, Value)>,
}

impl Said {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("log.target", Value::String(text)) => self.target = Some(text),
            (name, _) if name.starts_with("log.") => {}
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Said {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::from(format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: impl FnOnce()) -> Vec<Value> {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_writer(move || writer.clone())
            .fmt_fields(JsonFields::new())
            .event_format(Lines)
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = written.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_has_the_keys_of_upstreams_logger_and_what_it_is_about() {
        let lines = logged(|| {
            let _pass = tracing::info_span!("pass", kind = "jobrun", name = "etl").entered();
            tracing::warn!(target: "here", kind = "inner", tries = 3, ok = false, "said \"so\"");
        });
        let line = &lines[0];
        assert_eq!(
            [&line["level"], &line["logger"], &line["msg"], &line["name"]],
            ["warn", "here", "said \"so\"", "etl"]
        );
        assert_eq!((&line["tries"], &line["ok"]), (&Value::from(3), &Value::from(false)));
        assert_eq!(line["kind"], "inner", "the message goes before what it is part of");
        let ts = line["ts"].as_str().unwrap();
        assert!(ts.parse::<Timestamp>().is_ok() && ts.len() == "2026-11-21T16:00:00.000Z".len(), "{ts}");
    }

    #[test]
    fn every_level_has_upstreams_name() {
        let lines = logged(|| {
            tracing::error!("1");
            tracing::info!("2");
            tracing::debug!("3");
            tracing::trace!("4");
        });
        let levels: Vec<&Value> = lines.iter().map(|line| &line["level"]).collect();
        assert_eq!(levels, ["error", "info", "debug", "debug"]);
    }
}
