//! What paths come to, that hostile ones end, and what memory the worst take that are evaluated.

use serde_json::json;

use super::path;
use super::value::{MAX_OBJECT_BYTES, NoValue, read_value};

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
    for path in
        [".status.gone", ".status.nothing", ".status.big", ".status", ".spec.list", "empty", ".spec.none[]?"]
    {
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
    let splits = format!(".a|({})|length", vec!["split(\"\")"; 47].join("+"));
    let long = format!(".{}", "a".repeat(path::LONGEST));
    assert!(path::admit(&long[1..]).is_err() && path::admit(&long[..path::LONGEST]).is_ok());
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
        "@base64",
        "@sh \"\\(.)\"",
        ".a[.b]",
        ".a[.b:]",
        ".a|has(.b)",
        &doubling,
        &splits,
        &long,
        "try error catch .",
        "nope",
        "split(\"a\"; \"b\")",
    ] {
        let found = value(path).await;
        assert!(matches!(found, Err(NoValue::Unparsable(_))), "{path}: {found:?}");
        assert!(found.unwrap_err().is_final(), "{path}");
    }
    assert!(!NoValue::Missing.is_final() && !NoValue::Failed("").is_final());
    let words = "`..` isn't supported in the path of a FieldExport, which only walks down to a value";
    assert_eq!(path::admit(".."), Err(words.to_owned()));
}

#[tokio::test]
async fn what_a_path_makes_is_bounded_by_the_size_of_the_object() {
    let large = |bytes: usize| json!({ "a": "x-y", "b": "z".repeat(bytes) }).to_string().into_bytes();
    let too_much = Err(NoValue::Failed("it would make more than 1 MiB of an object of this size"));
    for (path, fits, bytes) in [
        (".a", "x-y", 262_000),
        (".a|split(\"-\")[1]", "y", 131_000),
        (".a + \"-\" + .a", "x-y-x-y", 262_000),
        ("\"\\(.a).\\(.a)\"", "x-y.x-y", 262_000),
        ("(.a+.a|.+.|length)", "12", 174_000),
        ("if (.a|split(\"-\")|length) == 2 then .a|split(\"-\")|last else \"none\" end", "y", 65_000),
    ] {
        assert_eq!(read_value(path, large(bytes)).await.as_deref(), Ok(fits), "{path}");
        if bytes < 262_000 {
            assert_eq!(read_value(path, large(bytes + 1000)).await, too_much, "{path}");
        }
    }
    // Written as text, this one takes six bytes.
    let escaped = json!({ "a": "\u{7f}".repeat(60_000) }).to_string().into_bytes();
    assert_eq!(read_value("tojson|length", escaped.clone()).await.as_deref(), Ok("360008"));
    assert_eq!(read_value("tojson + tojson|length", escaped).await, too_much);
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

/// What an evaluation may take at most, beyond what a process of the tests takes: less than a third of the chart's limit.
#[cfg(target_os = "linux")]
const MOST_MIB: u64 = 40;

/// Paths that make as much as they can of one object, and which field of [`heavy`] they do it with.
#[cfg(target_os = "linux")]
fn worst() -> Vec<(&'static str, String)> {
    let sum = |part: &str, times: usize| vec![part; times].join("+");
    let nested =
        |part: &str, times: usize| format!("{}0{}", format!("{part}==(").repeat(times), ")".repeat(times));
    vec![
        (r#""x""#, format!(".a|({})|length", sum(r#"split("")"#, 47))),
        (r#""x""#, format!(".a|({})|length", sum(r#"split("")"#, 4))),
        (r#""x""#, r#".a|split("")|length"#.to_owned()),
        (r#""x""#, r#".a|split("")|reverse|.[1:]|length"#.to_owned()),
        (r#""x""#, nested(r#"(.a|split(""))"#, 24)),
        (r#""x""#, r#"last(.a|split("")[])"#.to_owned()),
        (r#""x""#, format!(".a|({})|length", sum(".", 240))),
        (r#""x""#, format!(".a|\"{}\"|length", r"\(.)".repeat(120))),
        (r#""x""#, nested("(.a|ascii_upcase)", 24)),
        (r#""\u007f""#, format!("\"{}\"|length", r"\(.)".repeat(120))),
        (r#""\u007f""#, nested("tojson", 48)),
        (r#""\u007f""#, nested("(tostring|tojson)", 24)),
        (r#"[""]"#, format!(".a|({})|length", sum(".", 240))),
        (r#"[""]"#, nested(".a[1:]", 48)),
        (r#"[""]"#, nested("(.a|reverse)", 28)),
        (r#"[""]"#, nested("(.a|keys)", 36)),
        (r#"[""]"#, format!("last({}[])", ".a[]?//".repeat(30) + ".a")),
        ("[null]", format!("{}0", ".a[]//".repeat(80))),
        ("[{}]", format!(".a|({})|length", sum(".", 240))),
        (r#"[{"":0}]"#, format!(".a|({})|length", sum(".", 240))),
        ("[[]]", nested("(.a|tostring)", 26)),
    ]
}

/// An object whose field `a` is a text, or an array, of so many bytes.
#[cfg(target_os = "linux")]
fn heavy(part: &str, bytes: usize) -> Vec<u8> {
    let inner = &part[1..part.len() - 1];
    // What the API server sends has this character as it is.
    let inner = if inner == r"\u007f" { "\u{7f}" } else { inner };
    let value = if part.starts_with('"') {
        format!("\"{}\"", inner.repeat(bytes / inner.len()))
    } else {
        format!("[{}]", vec![inner; bytes / (inner.len() + 1)].join(","))
    };
    format!("{{\"a\":{value}}}").into_bytes()
}

#[cfg(target_os = "linux")]
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Each path in a process of its own, since it is the process that has a peak.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_worst_paths_fit_into_the_memory_of_the_operator() {
    const WHICH: &str = "WHICH_OF_THE_WORST_PATHS";
    if let Ok(which) = std::env::var(WHICH) {
        let (part, path) = &worst()[which.parse::<usize>().unwrap()];
        let before = peak_kib();
        let mut admitted = 0;
        for bytes in std::iter::successors(Some(255_000), |bytes| Some(bytes * 7 / 10)).take(16) {
            let found = read_value(path, heavy(part, bytes)).await;
            if !matches!(found, Err(NoValue::Unparsable(_) | NoValue::Failed(_))) {
                admitted = admitted.max(bytes);
            }
        }
        println!("PEAK {} KiB, up to {admitted} bytes", peak_kib() - before);
        return;
    }
    for (which, (part, path)) in worst().iter().enumerate() {
        let name = "field_export::value_tests::the_worst_paths_fit_into_the_memory_of_the_operator";
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(WHICH, which.to_string())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stdout).into_owned();
        let told = text.split("PEAK ").nth(1).and_then(|told| told.lines().next());
        let kib: u64 = told.and_then(|told| told.split(' ').next()?.parse().ok()).expect(&text);
        println!("{:>4} MiB {} {part} {path}", kib / 1024, told.unwrap());
        assert!(kib / 1024 <= MOST_MIB, "{} MiB for {path} on {part}", kib / 1024);
    }
}
