//! The roles of accounts and teams, as config maps hold them. Pure.
//!
//! Invariant: the words of what is missing are upstream's, so that what users search for stays the same.

use std::collections::BTreeMap;

/// Which of the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Map {
    /// Roles by account.
    Accounts,
    /// Roles by team.
    Teams,
}

impl Map {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Accounts, Self::Teams];

    /// The name of the config map.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accounts => "ack-role-account-map",
            Self::Teams => "ack-role-team-map",
        }
    }
}

/// A config map, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RoleMap {
    /// It hasn't been looked at.
    #[default]
    Unknown,
    /// It can't be read.
    Unreadable(String),
    /// There is none.
    Missing,
    /// What it holds.
    Found(BTreeMap<String, String>),
}

/// The name of the service in keys of a role for it alone.
const SERVICE: &str = "emrcontainers";

impl RoleMap {
    /// The role of an account or team; `None` as long as the map isn't known. With `of_service` a role for this service
    /// goes before.
    pub fn role(&self, map: Map, id: &str, of_service: bool) -> Option<Result<&str, String>> {
        let cause = match self {
            Self::Unknown => return None,
            Self::Unreadable(why) => why,
            Self::Missing => "CARM configmap not found",
            Self::Found(roles) => {
                let of_service = of_service.then(|| roles.get(&format!("{SERVICE}.{id}"))).flatten();
                match of_service.filter(|role| !role.is_empty()).or_else(|| roles.get(id)).map(String::as_str)
                {
                    None => "key not found in CARM configmap",
                    Some("") => "role value is empty in CARM configmap",
                    Some(role) => return Some(Ok(role)),
                }
            }
        };
        Some(Err(format!(
            "retrieving role ARN for account/team ID \"{id}\" from \"{}\" configmap: {cause}",
            map.name()
        )))
    }
}

/// The account in the ARN of a role, or what is wrong with it.
pub fn account_of(role: &str) -> Result<&str, &'static str> {
    let mut parts = role.splitn(6, ':');
    if parts.next() != Some("arn") {
        return Err("arn: invalid prefix");
    }
    let (service, account) = (parts.nth(1), parts.nth(1));
    let Some(resource) = parts.next() else { return Err("arn: not enough sections") };
    let account = account.filter(|text| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()));
    match account {
        Some(account) if service == Some("iam") && resource.starts_with("role/") => Ok(account),
        _ => Err("it is not the ARN of a role: use the form arn:aws:iam::111122223333:role/NAME"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_found_or_what_is_missing_is_told_in_upstreams_words() {
        let roles = [("1", "arn:1"), ("emrcontainers.1", "arn:emr"), ("2", ""), ("emrcontainers.3", "")];
        let map = RoleMap::Found(
            roles.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect(),
        );
        assert_eq!(map.role(Map::Accounts, "1", false), Some(Ok("arn:1")));
        assert_eq!(map.role(Map::Accounts, "1", true), Some(Ok("arn:emr")));
        let why = |map: &RoleMap, id: &str| map.role(Map::Accounts, id, true).unwrap().unwrap_err();
        let prefix = "retrieving role ARN for account/team ID \"";
        for (map, id, expected) in [
            (&map, "2", "2\" from \"ack-role-account-map\" configmap: role value is empty in CARM configmap"),
            (&map, "3", "3\" from \"ack-role-account-map\" configmap: key not found in CARM configmap"),
            (&RoleMap::Missing, "1", "1\" from \"ack-role-account-map\" configmap: CARM configmap not found"),
        ] {
            assert_eq!(why(map, id), format!("{prefix}{expected}"));
        }
        assert!(
            RoleMap::Missing.role(Map::Teams, "t", true).unwrap().unwrap_err().contains("ack-role-team-map")
        );
        assert_eq!(RoleMap::Unknown.role(Map::Accounts, "1", false), None);
    }

    #[test]
    fn the_account_comes_from_the_role() {
        assert_eq!(account_of("arn:aws-cn:iam::111122223333:role/path/emr"), Ok("111122223333"));
        for role in [
            "emr",
            "arn:aws:iam::111122223333",
            "arn:aws:iam::1:role/emr",
            "arn:aws:s3::111122223333:role/emr",
            "arn:aws:iam::111122223333:user/emr",
        ] {
            assert!(account_of(role).is_err(), "{role}");
        }
    }
}
