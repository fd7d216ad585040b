//! Label selectors as Kubernetes writes them: `team=etl,tier in (gold, silver),!paused`.
//!
//! Pure; kube has selectors, but nothing that reads their text. Invariant: what is accepted, the API server accepts too.

use std::collections::BTreeSet;

use kube::core::{Expression, Selector};

/// Reads a selector; empty text selects everything.
pub fn parse(text: &str) -> Result<Selector, String> {
    if text.trim().is_empty() {
        return Ok(Selector::default());
    }
    requirements(text)?.into_iter().map(requirement).collect()
}

/// Splits at the commas that stand outside parentheses.
fn requirements(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut from, mut inside) = (Vec::new(), 0, false);
    for (at, character) in text.char_indices() {
        match character {
            '(' if !inside => inside = true,
            ')' if inside => inside = false,
            '(' | ')' => return Err(format!("is `{text}`, whose parentheses don't pair")),
            ',' if !inside => {
                parts.push(text.get(from..at).unwrap_or_default());
                from = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(format!("is `{text}`, whose parentheses don't pair"));
    }
    parts.push(text.get(from..).unwrap_or_default());
    Ok(parts)
}

fn requirement(text: &str) -> Result<Expression, String> {
    let text = text.trim();
    if let Some(name) = text.strip_prefix('!') {
        return Ok(Expression::DoesNotExist(key(name)?));
    }
    if let Some(head) = text.strip_suffix(')') {
        let (head, values) = head.split_once('(').ok_or_else(|| unreadable(text))?;
        let (name, operator) =
            head.trim().rsplit_once(char::is_whitespace).ok_or_else(|| unreadable(text))?;
        let values = values.split(',').map(value).collect::<Result<BTreeSet<_>, _>>()?;
        return match operator {
            "in" => Ok(Expression::In(key(name)?, values)),
            "notin" => Ok(Expression::NotIn(key(name)?, values)),
            _ => Err(unreadable(text)),
        };
    }
    if let Some((name, other)) = text.split_once("!=") {
        return Ok(Expression::NotEqual(key(name)?, value(other)?));
    }
    if let Some((name, equal)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Expression::Equal(key(name)?, value(equal)?));
    }
    Ok(Expression::Exists(key(text)?))
}

fn unreadable(text: &str) -> String {
    format!(
        "has `{text}`, which is no requirement: use key=value, key!=value, key in (a,b), key notin (a,b), key or !key"
    )
}

fn key(text: &str) -> Result<String, String> {
    let text = text.trim();
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let is_domain = |prefix: &str| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_part = |part: &str| {
            !part.is_empty() && part.bytes().all(allowed) && !part.starts_with('-') && !part.ends_with('-')
        };
        prefix.len() <= 253 && prefix.split('.').all(is_part)
    };
    if !name.is_empty() && is_label(name) && prefix.is_none_or(is_domain) {
        Ok(text.to_owned())
    } else if text.contains(char::is_whitespace) {
        Err(unreadable(text))
    } else {
        Err(format!(
            "has the key `{text}`, which can't be a label's: use up to 63 of A-Z, a-z, 0-9, -, _ and ."
        ))
    }
}

fn value(text: &str) -> Result<String, String> {
    let text = text.trim();
    if is_label(text) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "has the value `{text}`, which can't be a label's: use up to 63 of A-Z, a-z, 0-9, -, _ and ."
        ))
    }
}

/// Whether a text can be the value of a label.
fn is_label(text: &str) -> bool {
    let is_end = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && is_end(text.bytes().next())
        && is_end(text.bytes().next_back())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kube::core::SelectorExt;

    use super::*;

    #[test]
    fn every_form_is_read_and_selects_as_the_api_server_does() {
        let labels = |text: &str| -> BTreeMap<String, String> {
            text.split_whitespace()
                .filter_map(|pair| pair.split_once('='))
                .map(|(k, v)| (k.into(), v.into()))
                .collect()
        };
        for (selector, yes, no) in [
            ("", "a=b", ""),
            ("team=etl", "team=etl", "team=ml"),
            ("team == etl , tier=gold", "team=etl tier=gold", "team=etl"),
            ("team!=etl", "", "team=etl"),
            (
                "example.com/tier in (gold, silver),!paused",
                "example.com/tier=silver",
                "example.com/tier=gold paused=x",
            ),
            ("tier notin (gold)", "tier=tin", "tier=gold"),
            ("team", "team=", "tier=gold"),
            ("team=", "team=", "team=etl"),
        ] {
            let parsed = parse(selector).unwrap();
            assert!(parsed.matches(&labels(yes)), "{selector}: {yes}");
            assert!(selector.is_empty() || !parsed.matches(&labels(no)), "{selector}: {no}");
            assert_eq!(parse(&parsed.to_string()).unwrap(), parsed, "its text means the same");
        }
    }

    #[test]
    fn keys_and_values_are_those_that_a_label_can_have() {
        let (longest, domain) = ("a".repeat(63), "a.".repeat(126) + "a");
        for name in ["a", "A-b_c.9", &longest] {
            for text in
                [name.to_owned(), format!("k={name}"), format!("k in ({name})"), format!("a-b.9/{name}")]
            {
                assert!(parse(&text).is_ok(), "{text}");
            }
        }
        for name in ["-a", "a-", "_", "é", "a+", "a/b", &format!("{longest}a")] {
            for text in [
                format!("{name}=v"),
                format!("k!={name}"),
                format!("k notin (a,{name})"),
                format!("a/{name}/c"),
            ] {
                assert!(parse(&text).is_err() || text == "a/b=v", "{text}");
            }
        }
        assert!(parse(&format!("{domain}/a")).is_ok());
        for prefix in ["", "-a", "a-", "a..b", "A", "a_b", ".", &format!("{domain}a")] {
            assert!(parse(&format!("{prefix}/a")).is_err(), "{prefix}");
        }
        assert!(parse("a/").is_err() && parse("k=").is_ok());
    }

    #[test]
    fn what_is_no_selector_is_refused_with_the_part_that_is_wrong() {
        for (selector, part) in [
            ("team=etl,", "the key ``"),
            ("team=a b", "the value `a b`"),
            ("team within (a)", "`team within (a)`, which is no requirement"),
            ("team in (a", "parentheses"),
            ("team in ((a)", "parentheses"),
            ("team in a)", "parentheses"),
            ("-team=a", "the key `-team`"),
            ("Example.com/team=a", "the key `Example.com/team`"),
            ("team etl", "`team etl`, which is no requirement"),
        ] {
            let problem = parse(selector).unwrap_err();
            assert!(problem.contains(part), "{selector}: {problem}");
        }
    }
}
