//! Makes new inputs of old ones: of JSON by its members, of anything by its bytes.
//!
//! Must not know a target. Invariant: the same inputs and seed give the same result.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};

/// Texts that are special in JSON, YAML, URIs, ARNs or Kubernetes objects.
const TOKENS: [&str; 32] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ": ",
    ",",
    "- ",
    "&a ",
    "*a",
    "<<: ",
    "|\n",
    "!!str ",
    "#",
    "\n",
    "\n  ",
    "\t",
    "\\u0000",
    "\\ud83d\\ude00",
    "é",
    "null",
    "true",
    "~",
    "-0",
    "1e999",
    "0x1F",
    "9223372036854775808",
    "%00",
    "/",
    "arn:aws:iam::123456789012:role/r",
    "aws:",
];

/// A variation of `data` with parts of `other`.
pub fn mutate(data: &[u8], other: &[u8], seed: u64) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(seed);
    let tree = serde_json::from_slice::<Value>(data).ok().filter(|_| rng.random_bool(0.7));
    let Some(mut tree) = tree else { return mutate_bytes(data.to_vec(), other, &mut rng) };
    let donor =
        serde_json::from_slice::<Value>(other).unwrap_or_else(|_| json!(String::from_utf8_lossy(other)));
    for _ in 0..rng.random_range(1..=4) {
        mutate_tree(&mut tree, &donor, &mut rng);
    }
    tree.to_string().into_bytes()
}

fn mutate_bytes(mut data: Vec<u8>, other: &[u8], rng: &mut StdRng) -> Vec<u8> {
    for _ in 0..rng.random_range(1..=6) {
        let (from, to) = range(data.len(), rng);
        match rng.random_range(0..6) {
            0 => drop(data.drain(from..to.min(from + 8))),
            1 => {
                let copy = data[from..to].to_vec();
                data.splice(from..from, copy);
            }
            2 => {
                let (start, end) = range(other.len(), rng);
                data.splice(from..to, other[start..end].iter().copied());
            }
            3 if from < data.len() => data[from] = rng.random(),
            4 if from < data.len() => data[from] ^= 0x20,
            _ => {
                data.splice(from..from, TOKENS[rng.random_range(0..TOKENS.len())].bytes());
            }
        }
    }
    data
}

/// Two places in a text of a length, in order and mostly close to each other.
fn range(length: usize, rng: &mut StdRng) -> (usize, usize) {
    let from = rng.random_range(0..=length);
    let most = if rng.random_bool(0.8) { 16 } else { 1024 };
    (from, length.min(from + rng.random_range(0..=most)))
}

fn mutate_tree(tree: &mut Value, donor: &Value, rng: &mut StdRng) {
    let gift = nth(donor, &mut rng.random_range(0..count(donor))).cloned().unwrap_or_default();
    let Some(node) = nth_mut(tree, &mut rng.random_range(0..count(tree))) else { return };
    let choice = rng.random_range(0..8);
    match node {
        Value::Object(members) if choice < 5 => mutate_object(members, gift, rng),
        Value::Array(items) if choice < 5 => mutate_array(items, gift, rng),
        Value::String(text) if choice < 5 => {
            let bytes = mutate_bytes(std::mem::take(text).into_bytes(), gift.to_string().as_bytes(), rng);
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        Value::Number(_) if choice < 5 => *node = number(rng),
        _ => match choice {
            5 => *node = scalar(rng),
            6 => *node = json!([node.take()]),
            _ => *node = gift,
        },
    }
}

fn mutate_object(members: &mut Map<String, Value>, gift: Value, rng: &mut StdRng) {
    let keys: Vec<String> = members.keys().cloned().collect();
    let Some(key) = (!keys.is_empty()).then(|| &keys[rng.random_range(0..keys.len())]) else {
        members.insert(String::new(), gift);
        return;
    };
    match rng.random_range(0..5) {
        0 => drop(members.remove(key)),
        1 => {
            let value = members.remove(key).unwrap_or_default();
            let bytes = mutate_bytes(key.clone().into_bytes(), b"", rng);
            members.insert(String::from_utf8_lossy(&bytes).into_owned(), value);
        }
        2 => {
            let value = members.get(key).cloned().unwrap_or_default();
            let other = if rng.random_bool(0.5) { key.to_uppercase() } else { key.to_lowercase() };
            members.insert(other, value);
        }
        3 => drop(members.insert(key.clone(), scalar(rng))),
        _ => drop(members.insert(key.clone(), gift)),
    }
}

fn mutate_array(items: &mut Vec<Value>, gift: Value, rng: &mut StdRng) {
    let at = rng.random_range(0..=items.len());
    match rng.random_range(0..4) {
        0 if at < items.len() => drop(items.remove(at)),
        1 if at < items.len() => items.insert(at, items[at].clone()),
        2 if at < items.len() => items.swap(at, 0),
        _ => items.insert(at, gift),
    }
}

fn scalar(rng: &mut StdRng) -> Value {
    match rng.random_range(0..5) {
        0 => Value::Null,
        1 => Value::Bool(rng.random()),
        2 => json!(TOKENS[rng.random_range(0..TOKENS.len())]),
        3 => json!("x".repeat(1 << rng.random_range(0..13))),
        _ => number(rng),
    }
}

fn number(rng: &mut StdRng) -> Value {
    match rng.random_range(0..5) {
        0 => json!(rng.random_range(-3..100)),
        1 => {
            json!([i64::MIN, i64::from(i32::MIN), i64::from(i32::MAX) + 1, i64::MAX][rng.random_range(0..4)])
        }
        2 => json!(u64::MAX),
        3 => json!(rng.random::<f64>()),
        _ => json!(f64::MAX),
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Object(members) => members.values().map(count).sum(),
        Value::Array(items) => items.iter().map(count).sum(),
        _ => 0,
    }
}

fn nth<'a>(value: &'a Value, n: &mut usize) -> Option<&'a Value> {
    if *n == 0 {
        return Some(value);
    }
    *n -= 1;
    match value {
        Value::Object(members) => members.values().find_map(|member| nth(member, n)),
        Value::Array(items) => items.iter().find_map(|item| nth(item, n)),
        _ => None,
    }
}

fn nth_mut<'a>(value: &'a mut Value, n: &mut usize) -> Option<&'a mut Value> {
    if *n == 0 {
        return Some(value);
    }
    *n -= 1;
    match value {
        Value::Object(members) => members.values_mut().find_map(|member| nth_mut(member, n)),
        Value::Array(items) => items.iter_mut().find_map(|item| nth_mut(item, n)),
        _ => None,
    }
}
