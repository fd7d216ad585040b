//! The constraints that the service model knows, and AWS's words for breaking them.
//!
//! The patterns are checked by hand, so that no expression engine is needed for a dozen of them.
//! Invariant: sensitive values are never repeated in a message.

use crate::error::ApiError;

/// A regular expression of the service model, and what it means.
pub(crate) type Pattern = (&'static str, fn(&str) -> bool);

pub(crate) const NAME: Pattern =
    (r"[\.\-_/#A-Za-z0-9]+", |s| s.chars().all(|c| c.is_ascii_alphanumeric() || ".-_/#".contains(c)));
pub(crate) const RELEASE_LABEL: Pattern =
    (r"[\.\-_/A-Za-z0-9]+", |s| s.chars().all(|c| c.is_ascii_alphanumeric() || ".-_/".contains(c)));
pub(crate) const ID: Pattern =
    ("[0-9a-z]+", |s| s.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()));
pub(crate) const NOT_BLANK: Pattern = (r".*\S.*", |s| !s.trim().is_empty());
pub(crate) const ANY: Pattern = (".*", |_| true);
pub(crate) const NAMESPACE: Pattern = ("[a-z0-9]([-a-z0-9]*[a-z0-9])?", is_label);
pub(crate) const NODE_LABEL: Pattern = ("^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$", is_label);
pub(crate) const CLUSTER: Pattern = (r"^[0-9A-Za-z][A-Za-z0-9\-_]*", |s| {
    s.starts_with(|c: char| c.is_ascii_alphanumeric())
        && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
});
pub(crate) const ROLE: Pattern = (
    r"^arn:(aws[a-zA-Z0-9-]*):iam::(\d{12})?:(role((\u002F)|(\u002F[\u0021-\u007F]+\u002F))[\w+=,.@-]+)$",
    is_role_arn,
);
pub(crate) const RSI_ARN: Pattern =
    (r"^arn:(aws[a-zA-Z0-9-]*):emr-containers:.+:(\d{12}):/virtualclusters/.+$", is_resource_arn);
pub(crate) const ROTATION_SIZE: Pattern = (r"^\d+(\.\d+)?[KMG][Bb]?$", is_rotation_size);
pub(crate) const KMS_KEY: Pattern =
    (r"^(arn:(aws[a-zA-Z0-9-]*):kms:.+:(\d{12})?:key\/[(0-9a-zA-Z)-?]+|\$\{[a-zA-Z]\w*\})$", |s| {
        (s.starts_with("arn:aws") && s.contains(":kms:") && s.contains(":key/"))
            || (s.starts_with("${") && s.ends_with('}'))
    });

fn is_label(s: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    s.starts_with(edge) && s.ends_with(edge) && s.chars().all(|c| edge(c) || c == '-')
}

fn is_partition(s: &str) -> bool {
    s.starts_with("aws") && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

fn is_account(s: &str) -> bool {
    s.len() == 12 && s.chars().all(|c| c.is_ascii_digit())
}

fn is_role_arn(s: &str) -> bool {
    let parts: Vec<&str> = s.splitn(6, ':').collect();
    let ["arn", partition, "iam", "", account, resource] = parts.as_slice() else { return false };
    let Some((path, name)) = resource.strip_prefix("role").and_then(|rest| rest.rsplit_once('/')) else {
        return false;
    };
    is_partition(partition)
        && (account.is_empty() || is_account(account))
        && (path.is_empty() || path.starts_with('/'))
        && path.chars().all(|c| ('\u{21}'..='\u{7f}').contains(&c))
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c))
}

fn is_resource_arn(s: &str) -> bool {
    let parts: Vec<&str> = s.splitn(6, ':').collect();
    let ["arn", partition, "emr-containers", region, account, resource] = parts.as_slice() else {
        return false;
    };
    is_partition(partition)
        && !region.is_empty()
        && is_account(account)
        && resource.strip_prefix("/virtualclusters/").is_some_and(|rest| !rest.is_empty())
}

fn is_rotation_size(s: &str) -> bool {
    let number = s.strip_suffix(['B', 'b']).unwrap_or(s);
    let Some(number) = number.strip_suffix(['K', 'M', 'G']) else { return false };
    let digits = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_digit());
    match number.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(number),
    }
}

/// What is wrong with a request.
#[derive(Default)]
pub(crate) struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, value: &str, field: &str, constraint: &str) {
        self.0.push(format!("Value {value}at '{field}' failed to satisfy constraint: {constraint}"));
    }

    pub(crate) fn required<T>(&mut self, field: &str, value: Option<&T>) {
        if value.is_none() {
            self.add("null ", field, "Member must not be null");
        }
    }

    pub(crate) fn text(
        &mut self,
        field: &str,
        value: Option<&String>,
        (min, max): (usize, usize),
        pattern: Pattern,
    ) {
        self.checked(field, value, (min, max), pattern, false);
    }

    pub(crate) fn secret(
        &mut self,
        field: &str,
        value: Option<&String>,
        (min, max): (usize, usize),
        pattern: Pattern,
    ) {
        self.checked(field, value, (min, max), pattern, true);
    }

    fn checked(
        &mut self,
        field: &str,
        value: Option<&String>,
        (min, max): (usize, usize),
        pattern: Pattern,
        sensitive: bool,
    ) {
        let Some(value) = value else { return };
        let shown = if sensitive { String::new() } else { format!("'{value}' ") };
        let length = value.chars().count();
        if length < min {
            self.add(&shown, field, &format!("Member must have length greater than or equal to {min}"));
        } else if length > max {
            self.add(&shown, field, &format!("Member must have length less than or equal to {max}"));
        }
        let (expression, matches) = pattern;
        if length > 0 && !matches(value) {
            self.add(&shown, field, &format!("Member must satisfy regular expression pattern: {expression}"));
        }
    }

    pub(crate) fn one_of(&mut self, field: &str, value: Option<&String>, allowed: &[&str]) {
        if let Some(value) = value
            && !allowed.contains(&value.as_str())
        {
            let set = allowed.join(", ");
            self.add(&format!("'{value}' "), field, &format!("Member must satisfy enum value set: [{set}]"));
        }
    }

    pub(crate) fn range(&mut self, field: &str, value: Option<i64>, (min, max): (i64, i64)) {
        let Some(value) = value else { return };
        let shown = format!("'{value}' ");
        if value < min {
            self.add(&shown, field, &format!("Member must have value greater than or equal to {min}"));
        } else if value > max {
            self.add(&shown, field, &format!("Member must have value less than or equal to {max}"));
        }
    }

    pub(crate) fn at_most(&mut self, field: &str, length: usize, max: usize) {
        if length > max {
            self.add("", field, &format!("Member must have length less than or equal to {max}"));
        }
    }

    pub(crate) fn done(self) -> Result<(), ApiError> {
        match self.0.len() {
            0 => Ok(()),
            1 => Err(ApiError::validation(format!("1 validation error detected: {}", self.0.join("")))),
            count => Err(ApiError::validation(format!(
                "{count} validation errors detected: {}",
                self.0.join("; ")
            ))),
        }
    }
}
