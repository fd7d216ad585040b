//! The value that a path has in an object, worked out in a thread of its own and with a bound on the work.
//!
//! [`path`](super::path) says which paths are evaluated at all; what is here is the second net. Must not tell values in an
//! error: the target may be a Secret. Invariant: whatever the path and the object are, an evaluation ends, and the thread
//! that runs the operator isn't held up.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::thread;

use jaq_core::data::HasLut;
use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, DataT, Lut, Vars};
use jaq_json::{Num, Val, read};
use tokio::sync::oneshot;

use super::path;

/// How many steps an evaluation may take. A path that walks to a field takes a handful; this is some tens of milliseconds.
const MAX_STEPS: u32 = 100_000;

/// The largest object whose fields are exported, as JSON: ten times that of a run with long overrides.
pub const MAX_OBJECT_BYTES: usize = 256 * 1024;

/// Enough for the deepest path and the deepest object that there can be; what isn't used takes no memory.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// Why a path has no value that can be exported. The words are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoValue {
    /// It is no path, or none that is evaluated.
    #[error("unable to parse path: {0}")]
    Unparsable(String),
    /// It can't be applied to the object.
    #[error("unable to execute query: {0}")]
    Failed(&'static str),
    /// There is nothing, or neither a text nor a whole number nor a boolean.
    #[error("path does not exist in this object")]
    Missing,
}

impl NoValue {
    /// Whether no other state of the object will help.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Unparsable(_))
    }
}

/// The first value of a path in an object, given as JSON, in the words that go into the target.
pub async fn read_value(path: &str, object: Vec<u8>) -> Result<String, NoValue> {
    if object.len() > MAX_OBJECT_BYTES {
        return Err(NoValue::Failed("the object is larger than 256 KiB"));
    }
    let path = path.to_owned();
    let (tell, told) = oneshot::channel();
    let thread = thread::Builder::new().name("path".to_owned()).stack_size(STACK_BYTES);
    let started = thread.spawn(move || tell.send(evaluate(&path, &object)));
    if started.is_err() {
        return Err(NoValue::Failed("no thread can be started for it now"));
    }
    // A thread that unwinds tells nothing.
    told.await.unwrap_or(Err(NoValue::Failed("it takes too many steps")))
}

/// Evaluates with a meter that jaq asks at every step.
struct Metered;

#[derive(Clone)]
struct Meter<'a> {
    lut: &'a Lut<Metered>,
    steps: &'a Cell<u32>,
}

impl DataT for Metered {
    type V<'a> = Val;
    type Data<'a> = Meter<'a>;
}

impl<'a> HasLut<'a, Metered> for Meter<'a> {
    fn lut(&self) -> &'a Lut<Metered> {
        let steps = self.steps.get() + 1;
        self.steps.set(steps);
        if steps > MAX_STEPS {
            // There is no other way out of an evaluation; without the words of a panic in the log.
            resume_unwind(Box::new("too many steps"));
        }
        self.lut
    }
}

fn evaluate(path: &str, object: &[u8]) -> Result<String, NoValue> {
    path::admit(path).map_err(NoValue::Unparsable)?;
    let needed = |def: &jaq_core::load::parse::Def<&'static str>| path::is_needed(def.name, def.args.len());
    let library = jaq_core::defs().chain(jaq_std::defs().filter(needed));
    let functions = jaq_core::funs::<Metered>().chain(jaq_std::base_funs()).chain(jaq_json::funs());
    let arena = Arena::default();
    let no_jq = || NoValue::Unparsable("it is no jq".to_owned());
    let modules = Loader::new(library).load(&arena, File { code: path, path: () });
    let modules = modules.map_err(|_| no_jq())?;
    let filter = Compiler::default().with_funs(functions).compile(modules).map_err(|_| no_jq())?;
    let object = read::parse_single(object).map_err(|_| NoValue::Failed("the object is no JSON"))?;
    let steps = Cell::new(0);
    let context = Ctx::<Metered>::new(Meter { lut: &filter.lut, steps: &steps }, Vars::new([]));
    match filter.id.run((context, object)).next() {
        Some(Ok(Val::TStr(text))) => String::from_utf8(text.to_vec()).map_err(|_| NoValue::Missing),
        Some(Ok(Val::Bool(value))) => Ok(value.to_string()),
        Some(Ok(Val::Num(Num::Int(value)))) => Ok(value.to_string()),
        None | Some(Ok(_)) => Err(NoValue::Missing),
        Some(Err(_)) => Err(NoValue::Failed("the path doesn't fit the object as it is now")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object() -> Vec<u8> {
        json!({
            "metadata": {"name": "etl", "labels": {"a/b": "c"}},
            "spec": {"tags": {"team": "data"}, "list": ["x", "y"]},
            "status": {
                "id": "abc123", "count": 7, "big": 1.5, "ok": true, "nothing": null, "empty": "",
                "arn": "arn:aws:emr-containers:us-west-2:111122223333:/virtualclusters/abc123",
                "conditions": [{"type": "Ready", "status": "True"}, {"type": "Stalled", "status": "False"}],
            },
        })
        .to_string()
        .into_bytes()
    }

    async fn value(path: &str) -> Result<String, NoValue> {
        read_value(path, object()).await
    }

    #[tokio::test]
    async fn paths_have_the_values_that_jq_gives_them() {
        for (path, expected) in [
            (".status.id", "abc123"),
            (".status[\"id\"]", "abc123"),
            (" .status | .id ", "abc123"),
            (".metadata.labels.\"a/b\"", "c"),
            (".spec.list[1]", "y"),
            (".spec.list[-1:][0]", "y"),
            (".spec.list[]", "x"),
            (".spec.list | last", "y"),
            (".spec.tags | keys | first", "team"),
            (".status.count", "7"),
            (".status.ok", "true"),
            (".status.ok | not", "false"),
            (".status.empty", ""),
            (".status.conditions[] | select(.type == \"Ready\") | .status", "True"),
            ("first(.status.conditions[] | select(.type != \"Ready\")).status", "False"),
            ("any(.status.conditions[]; .type == \"Ready\" and .status == \"True\")", "true"),
            (".status.gone // \"none\"", "none"),
            (".status.gone?.id? // .status.id", "abc123"),
            ("if .status.count > 5 then \"many\" elif .status.ok then 1 else 0 end", "many"),
            ("\"\\(.metadata.name)-\\(.status.count)\"", "etl-7"),
            (".metadata.name + \"-\" + .status.id", "etl-abc123"),
            (".status.arn | split(\":\")[4]", "111122223333"),
            (".status.arn | ltrimstr(\"arn:aws:\") | split(\":\") | .[0] | ascii_upcase", "EMR-CONTAINERS"),
            (".status | has(\"id\")", "true"),
            (".spec.tags | tojson", "{\"team\":\"data\"}"),
            (".status.conditions | length", "2"),
            ("-3", "-3"),
        ] {
            assert_eq!(value(path).await.as_deref(), Ok(expected), "{path}");
        }
    }

    #[tokio::test]
    async fn what_is_neither_a_text_nor_a_whole_number_nor_a_boolean_is_missing() {
        for path in [
            ".status.gone",
            ".status.nothing",
            ".status.big",
            ".status",
            ".spec.list",
            "empty",
            ".spec.none[]?",
        ] {
            assert_eq!(value(path).await, Err(NoValue::Missing), "{path}");
        }
        assert!(matches!(value(".status.id.further").await, Err(NoValue::Failed(_))));
        assert!(matches!(value(".status.id[]").await, Err(NoValue::Failed(_))));
    }

    #[tokio::test]
    async fn a_hostile_path_is_refused_before_it_is_evaluated() {
        let deep = format!("{}.{}", "(".repeat(255), ")".repeat(255));
        assert_eq!(value(&deep).await, Err(NoValue::Missing), "deep, and as harmless as `.`");
        let minus = format!("{}1", "-".repeat(500));
        let _ = value(&minus).await;
        let doubling = vec![".+."; 100].join("|");
        let long = format!(".{}", "a".repeat(path::LONGEST));
        for path in [
            "",
            "   ",
            ".status.",
            "$",
            ")(",
            "\"",
            "\u{0}",
            "import \"a\" as a; .",
            "include \"a\"; .",
            "repeat(.)",
            "[range(1e12)]",
            "last(range(1e12))",
            "def f: f; f",
            "[limit(1e9; repeat(1))]",
            "until(false; .)",
            "recurse(.)",
            "..",
            "while(true; .)",
            "reduce .[] as $x (0; 1)",
            "foreach .[] as $x (0; 1)",
            "label $f | break $f",
            "env",
            "env.PATH",
            "$ENV",
            "$ENV.PATH",
            "$__loc__",
            "input",
            "inputs",
            "debug",
            "stderr",
            "now",
            "halt",
            "halt_error",
            "input_filename",
            "error(\"x\")",
            "getpath([\"a\"])",
            "\"x\" * 1000000000",
            "1 / 0",
            "[.,.]|[.,.]",
            "{a: .}",
            ".a = 1",
            ".a |= .",
            "del(.a)",
            "(.,.)|(.,.)",
            ".[] == .[]",
            "\"\\(.[])\"",
            ".[.[]]",
            "select(.[])",
            "has(.[])",
            "walk(.)",
            "map(.)",
            "to_entries",
            "combinations",
            "tojson|tojson",
            "split(\"\")|tojson",
            "@base64",
            "@sh \"\\(.)\"",
            "\"\\(.)\\(.)\" | \"\\(.)\\(.)\"",
            &doubling,
            &long,
            "try error catch .",
            "nope",
            "split(\"a\"; \"b\")",
        ] {
            let found = value(path).await;
            assert!(matches!(found, Err(NoValue::Unparsable(_))), "{path}: {found:?}");
        }
    }

    #[tokio::test]
    async fn an_evaluation_ends_whatever_the_object_is() {
        let items: Vec<_> = (0..40_000).map(|item| item % 2).collect();
        let object = json!({ "a": items }).to_string().into_bytes();
        let slow = "last(.a[] | select(. == 3 or . == 4))";
        assert_eq!(read_value(slow, object.clone()).await, Err(NoValue::Failed("it takes too many steps")));
        assert_eq!(read_value("last(.a[])", object).await.as_deref(), Ok("1"));
        let large = json!({ "a": "x".repeat(MAX_OBJECT_BYTES) }).to_string().into_bytes();
        assert!(matches!(read_value(".a", large).await, Err(NoValue::Failed(_))));
        let deep = format!("{}{}", "[".repeat(120), "]".repeat(120)).into_bytes();
        assert!(matches!(read_value("tojson", deep).await.as_deref(), Ok(text) if text.len() == 240));
    }
}
