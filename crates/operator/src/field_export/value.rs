//! The value that a path has in an object, worked out in a thread of its own and with a bound on the work.
//!
//! [`path`](super::path) says which paths are evaluated at all, and how much they make of an object; the bound on steps is
//! the second net. Must not tell values in an error: the target may be a Secret. Invariant: whatever the path
//! and the object are, an evaluation ends, there is one at a time, and the thread that runs the operator isn't held up.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::thread;

use jaq_core::data::HasLut;
use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, DataT, Lut, Vars};
use jaq_json::{Num, Val, read};
use tokio::sync::{Mutex, oneshot};

use super::path;

/// How many steps an evaluation may take. A path that walks to a field takes a handful; this is some tens of milliseconds.
const MAX_STEPS: u32 = 100_000;

/// The largest object whose fields are exported, as JSON: ten times that of a run with long overrides.
pub const MAX_OBJECT_BYTES: usize = 256 * 1024;

/// How much may be made of an object, as JSON: a config map has room for no more.
const MAX_MADE_BYTES: usize = 1024 * 1024;

/// What the longest escape of a character that JSON may have as it is adds to it: `\u007f`.
const ESCAPE_BYTES: usize = 5;

/// Held while a path is evaluated: what each may take of the memory isn't taken twice.
static TURN: Mutex<()> = Mutex::const_new(());

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
    let turn = TURN.lock().await;
    let (tell, told) = oneshot::channel();
    let thread = thread::Builder::new().name("path".to_owned()).stack_size(STACK_BYTES);
    let started = thread.spawn(move || {
        // Nobody listens if the pass was given up.
        let _ = tell.send(evaluate(&path, &object));
        // The thread's, and not the pass's, until the thread has ended, and the memory that it took is free.
        turn
    });
    let Ok(thread) = started else {
        return Err(NoValue::Failed("no thread can be started for it now"));
    };
    // A thread that unwinds tells nothing.
    let value = told.await.unwrap_or(Err(NoValue::Failed("it takes too many steps")));
    // It has nothing left to do, so that this is no wait.
    drop(thread.join());
    value
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
    let copies = path::admit(path).map_err(NoValue::Unparsable)?;
    let escaped = object.iter().filter(|byte| byte.is_ascii_control()).count().saturating_mul(ESCAPE_BYTES);
    let made =
        object.len().saturating_add(escaped).saturating_mul(usize::try_from(copies).unwrap_or(usize::MAX));
    if made > MAX_MADE_BYTES {
        return Err(NoValue::Failed("it would make more than 1 MiB of an object of this size"));
    }
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
