//! The table of samples: on a terminal redrawn in place, elsewhere a line for each change.
//!
//! Must not: ask the API server anything; it shows what it is given.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Instant;

use ::tests::objects;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::show::{self, bold, green, red, yellow};

/// One sample: what is expected of it and what was last seen.
pub(crate) struct Row {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) expected: String,
    pub(crate) seen: Option<DynamicObject>,
}

impl Row {
    pub(crate) fn state(&self) -> &str {
        self.text("/status/state").unwrap_or_default()
    }

    /// Whether it is where it should be.
    pub(crate) fn is_expected(&self) -> bool {
        self.state() == self.expected
    }

    /// Whether nothing will move it any more, so that waiting for the expected state is in vain.
    pub(crate) fn is_stuck(&self) -> bool {
        let ended = matches!(self.state(), "COMPLETED" | "FAILED" | "CANCELLED" | "TERMINATED" | "ARRESTED");
        let refused = self.seen.as_ref().and_then(|object| objects::condition(object, "ACK.Terminal"));
        !self.is_expected() && (ended || refused.is_some_and(|condition| condition.status == "True"))
    }

    /// A string somewhere in the object.
    pub(crate) fn text(&self, pointer: &str) -> Option<&str> {
        self.seen.as_ref()?.data.pointer(pointer).and_then(Value::as_str)
    }

    /// As kubectl takes it.
    pub(crate) fn label(&self) -> String {
        format!("{}/{}", self.kind.to_lowercase(), self.name)
    }

    fn cluster(&self) -> &str {
        let cluster =
            self.text("/spec/virtualClusterRef/from/name").or_else(|| self.text("/spec/virtualClusterID"));
        cluster.unwrap_or_default()
    }

    /// Since its creation; for a run that has ended, up to its end.
    fn age(&self, now: Timestamp) -> String {
        let end = self.text("/status/finishedAt").and_then(|time| time.parse().ok()).unwrap_or(now);
        let created = self.seen.as_ref().and_then(ResourceExt::creation_timestamp);
        created.map_or_else(String::new, |created| {
            format!("{} s", end.duration_since(created.0).as_secs().max(0))
        })
    }

    fn coloured_state(&self, width: usize) -> String {
        let state = if self.state().is_empty() { "-" } else { self.state() };
        let padded = format!("{state:width$}");
        match state {
            _ if self.is_expected() => green(&padded),
            _ if self.is_stuck() => red(&padded),
            _ => yellow(&padded),
        }
    }
}

/// All rows, and how much of the terminal they take.
pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
    started: Instant,
    drawn_lines: usize,
}

impl Table {
    pub(crate) fn new(rows: Vec<Row>) -> Self {
        Self { rows, started: Instant::now(), drawn_lines: 0 }
    }

    /// Takes in what was seen; without a terminal a changed state is printed at once.
    pub(crate) fn update(&mut self, kind: &str, object: DynamicObject) {
        let name = object.name_any();
        let Some(row) = self.rows.iter_mut().find(|row| row.kind == kind && row.name == name) else { return };
        let before = row.state().to_owned();
        row.seen = Some(object);
        if !show::is_terminal() && before != row.state() {
            let since_start = self.started.elapsed().as_secs_f64();
            println!(
                "{since_start:6.1} s  {:<34} {}",
                format!("{}/{name}", kind.to_lowercase()),
                row.state()
            );
        }
    }

    /// Draws the table over the one before. Without a terminal it does nothing.
    pub(crate) fn draw(&mut self) {
        if !show::is_terminal() {
            return;
        }
        let text = self.render(Timestamp::now());
        let mut out = std::io::stdout().lock();
        if self.drawn_lines > 0 {
            // Up to the first line of the table and clear what follows.
            write!(out, "\x1b[{}A\x1b[J", self.drawn_lines).ok();
        }
        // Without wrapping: a line wider than the terminal is cut, so that the count of lines stays true.
        write!(out, "\x1b[?7l{text}\x1b[?7h").and_then(|()| out.flush()).ok();
        self.drawn_lines = text.lines().count();
    }

    /// The table as text.
    fn render(&self, now: Timestamp) -> String {
        let names: Vec<String> = self.rows.iter().map(Row::label).collect();
        let widest =
            |title: &str, cells: &mut dyn Iterator<Item = usize>| cells.fold(title.len(), usize::max);
        let name_width = widest("NAME", &mut names.iter().map(String::len));
        let cluster_width = widest("CLUSTER", &mut self.rows.iter().map(|row| row.cluster().len()));
        // The longest state, so that the table doesn't jitter.
        let state_width = "CANCEL_PENDING".len();
        let title =
            format!("{:name_width$}  {:cluster_width$}  {:state_width$}    AGE", "NAME", "CLUSTER", "STATE");
        let mut text = format!("\n{}\n", bold(&title));
        for (row, name) in self.rows.iter().zip(&names) {
            let (cluster, state, age) = (row.cluster(), row.coloured_state(state_width), row.age(now));
            let mark = if row.is_expected() { "as expected" } else { "" };
            writeln!(text, "{name:name_width$}  {cluster:cluster_width$}  {state}  {age:>5}  {mark}").ok();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(expected: &str, status: &Value) -> Row {
        let seen = serde_json::from_value(json!({
            "metadata": {"name": "word-count", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"virtualClusterRef": {"from": {"name": "analytics"}}},
            "status": status,
        }));
        Row {
            kind: "JobRun".into(),
            name: "word-count".into(),
            expected: expected.into(),
            seen: seen.unwrap(),
        }
    }

    #[test]
    fn a_run_in_another_final_state_or_refused_is_stuck() {
        assert!(row("COMPLETED", &json!({"state": "FAILED"})).is_stuck());
        assert!(!row("FAILED", &json!({"state": "FAILED"})).is_stuck());
        assert!(!row("COMPLETED", &json!({"state": "RUNNING"})).is_stuck());
        let refused =
            json!({"conditions": [{"type": "ACK.Terminal", "status": "True", "message": "no such role"}]});
        assert!(row("COMPLETED", &refused).is_stuck());
    }

    #[test]
    fn the_age_of_a_run_stops_at_its_end() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let shown =
            |row: Row| Table::new(vec![row]).render(now).split_whitespace().collect::<Vec<_>>().join(" ");
        let running = shown(row("COMPLETED", &json!({"state": "RUNNING"})));
        assert!(running.ends_with("jobrun/word-count analytics RUNNING 60 s"), "{running}");
        let ended =
            shown(row("COMPLETED", &json!({"state": "COMPLETED", "finishedAt": "2026-01-01T00:00:07Z"})));
        assert!(ended.ends_with("jobrun/word-count analytics COMPLETED 7 s as expected"), "{ended}");
    }
}
