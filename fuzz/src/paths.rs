//! The path of a FieldExport, on the first line, and the object that it is evaluated in, on the others: whatever both are,
//! the path is refused, or the evaluation ends and makes no more than fits into a config map.

use emrcontainers_operator::field_export::path::admit;
use emrcontainers_operator::field_export::value::{NoValue, read_value};
use futures::executor::block_on;
use serde_json::{Value, json};

/// What fits into a config map.
const MOST_BYTES: usize = 1024 * 1024;

/// How long the text of a large object is: short enough that a path may make something of it.
const LARGE_BYTES: usize = 32 * 1024;

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (path, object) = text.split_once('\n').unwrap_or((text, ""));
    let object = serde_json::from_str(object).unwrap_or_else(|_| Value::from(object));
    let part = object.to_string();
    let large = json!({ "a": part.repeat(LARGE_BYTES / part.len()), "b": vec![&object; 100] });
    for object in [&object, &large] {
        let found = block_on(read_value(path, object.to_string().into_bytes()));
        match &found {
            Ok(value) => assert!(value.len() <= MOST_BYTES, "{} bytes", value.len()),
            Err(NoValue::Unparsable(why)) => assert!(!why.is_empty()),
            Err(NoValue::Failed(_) | NoValue::Missing) => {}
        }
        assert_eq!(matches!(found, Err(NoValue::Unparsable(_))), admit(path).is_err() || is_no_jq(&found));
    }
}

/// What the grammar takes and the compiler doesn't.
fn is_no_jq(found: &Result<String, NoValue>) -> bool {
    matches!(found, Err(NoValue::Unparsable(why)) if why == "it is no jq")
}
