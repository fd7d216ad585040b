//! Decides who acts for an object, and where. Pure.
//!
//! The precedence is upstream's. Region: where the resource is, then what the object says, then its namespace, then the
//! flag. Role: of the namespace's team or account, then of the account that the resource is in, then a selector's, then
//! our own. Invariant: what isn't known or can't be followed withholds every call; nothing is done in another's name
//! instead.

use std::collections::{BTreeMap, HashMap, VecDeque};

use emrcontainers_api::condition::{IAM_ROLE_SELECTED, Wanted};
use emrcontainers_api::status::AckResourceMetadata;
use emrcontainers_api::{IAMRoleSelectorSpec, annotations};

use super::namespace::Namespace;
use super::role_map::{Map, RoleMap, account_of};
use super::selector::{self, Candidate};
use crate::emr::pool::Scope;
use crate::settings;

/// What is decided by flags and our own credentials.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are switches of the user's")]
pub struct Rules {
    /// Our own account, and the region of the flag.
    pub home: Scope,
    /// Whether roles come from the maps.
    pub carm: bool,
    /// Whether a namespace's team decides.
    pub teams: bool,
    /// Whether a role for this service goes before.
    pub of_service: bool,
    /// Whether selectors decide.
    pub selectors: bool,
    /// Whether endpoints that are not https are accepted.
    pub allow_unsafe: bool,
}

/// What the API server says.
#[derive(Debug, Default)]
pub struct Known {
    /// By name.
    pub namespaces: HashMap<String, Namespace>,
    /// Those that went last, with their names, the last one last: for objects that went with them and are seen off.
    pub gone: VecDeque<(String, Namespace)>,
    /// Roles by account.
    pub accounts: RoleMap,
    /// Roles by team.
    pub teams: RoleMap,
    /// Those that make sense, by name: the version of the object, and the selector.
    pub selectors: BTreeMap<String, (String, IAMRoleSelectorSpec)>,
}

/// How many of the namespaces that are gone are remembered.
const MAX_GONE: usize = 100;

impl Known {
    /// A namespace; one that is gone only for an object that is gone, too.
    pub fn namespace(&self, name: &str, is_gone: bool) -> Option<&Namespace> {
        let last = || self.gone.iter().rev().find(|(gone, _)| gone == name).map(|(_, namespace)| namespace);
        self.namespaces.get(name).or_else(|| is_gone.then(last).flatten())
    }

    /// Takes a namespace out that is gone.
    pub fn remove(&mut self, name: &str) {
        if let Some(gone) = self.namespaces.remove_entry(name) {
            self.gone.push_back(gone);
            if self.gone.len() > MAX_GONE {
                self.gone.pop_front();
            }
        }
    }

    /// One of the maps.
    pub fn map(&self, map: Map) -> &RoleMap {
        match map {
            Map::Accounts => &self.accounts,
            Map::Teams => &self.teams,
        }
    }
}

/// The object that is to be acted for.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// API group, version and kind.
    pub resource: [&'a str; 3],
    /// Its labels.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// Its annotation of the region.
    pub region: Option<&'a str>,
    /// Where its resource is.
    pub place: Option<&'a AckResourceMetadata>,
    /// Whether it is gone and is being seen off.
    pub is_gone: bool,
}

/// Who acts for an object, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acting {
    /// Account, region, role and endpoint.
    pub scope: Scope,
    /// What is told beside of how that came about.
    pub told: Told,
}

impl Acting {
    /// Stands in where nobody acts, for what takes no call: to say why, or to let an object go.
    pub fn nobody(home: &Scope) -> Self {
        Self { scope: home.clone(), told: Told::default() }
    }
}

/// Reason of `ACK.Advisory` on an object whose resource is in another region than it should be.
pub const REGION_DRIFT: &str = "RegionDrift";

/// What a status tells of who acts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// By which selector the role was chosen.
    pub selected: Option<String>,
    /// That the resource is in another region than it should be.
    pub drift: Option<String>,
}

impl Told {
    /// Adds what is told as a condition of its own.
    pub fn add_to(&self, wanted: Wanted) -> Wanted {
        match &self.selected {
            Some(selected) => wanted.yes(IAM_ROLE_SELECTED, "Selected", selected),
            None => wanted,
        }
    }
}

/// Why nobody may act for an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// Its namespace isn't known yet.
    UnknownNamespace,
    /// The map that has its role isn't known yet.
    UnknownMap(Map),
    /// No role is known: the cause in upstream's words.
    NoRole(String),
    /// What is asked for can't be followed.
    Unfit(String),
}

/// Who acts for an object.
///
/// # Errors
/// When nobody may.
pub fn acting(subject: &Subject<'_>, known: &Known, rules: &Rules) -> Result<Acting, Withheld> {
    let Some(namespace) = known.namespace(subject.namespace, subject.is_gone) else {
        return Err(Withheld::UnknownNamespace);
    };
    let endpoint_url = namespace.endpoint_url.clone().transpose().map_err(Withheld::Unfit)?;
    let (region, drift) = region(subject, namespace, rules)?;
    let (role, selected) = match selected(subject, namespace, known, rules)? {
        Some((role, told)) => (Some(role), Some(told)),
        None => (mapped(subject, namespace, known, rules)?, None),
    };
    let account = match role {
        Some(role) => account_of(role).map_err(|why| Withheld::Unfit(unfit_role(role, why)))?,
        None => rules.home.account.as_str(),
    };
    let scope = Scope { account: account.to_owned(), region, role: role.map(str::to_owned), endpoint_url };
    Ok(Acting { scope, told: Told { selected, drift } })
}

/// The region, and that the object asks for another one than its resource is in.
fn region(
    subject: &Subject<'_>,
    namespace: &Namespace,
    rules: &Rules,
) -> Result<(String, Option<String>), Withheld> {
    let asked = match subject.region {
        Some(region) => settings::region(region)
            .map_err(|problem| format!("annotation {} {problem}", annotations::REGION)),
        None => namespace.region.clone().unwrap_or_else(|| Ok(rules.home.region.clone())),
    };
    let there = subject.place.map(|place| place.region.as_str()).filter(|region| !region.is_empty());
    let Some(there) = there else { return asked.map(|region| (region, None)).map_err(Withheld::Unfit) };
    let drift = match asked {
        Ok(asked) if asked == there => None,
        Ok(asked) => Some(format!(
            "Resource already exists in region {there}, but the desired state specifies region {asked}. It stays where it is; \
             to move it, delete the object and apply it again"
        )),
        Err(problem) => Some(problem),
    };
    Ok((there.to_owned(), drift))
}

/// The role of the selector that fits, and what is told of it.
fn selected<'k>(
    subject: &Subject<'_>,
    namespace: &Namespace,
    known: &'k Known,
    rules: &Rules,
) -> Result<Option<(&'k str, String)>, Withheld> {
    if !rules.selectors {
        return Ok(None);
    }
    let candidate = Candidate {
        namespace: subject.namespace,
        namespace_labels: &namespace.labels,
        resource: subject.resource,
        labels: subject.labels,
    };
    let fitting: Vec<_> =
        known.selectors.iter().filter(|(_, (_, spec))| selector::fits(spec, &candidate)).collect();
    match fitting.as_slice() {
        [] => Ok(None),
        [(name, (version, spec))] => {
            let arn = spec.arn.as_str();
            let told = format!("roleARN: {arn}, selectorName: {name}, selectorResourceVersion: {version}");
            Ok(Some((arn, told)))
        }
        several => {
            let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
            Err(Withheld::Unfit(format!(
                "multiple ({}) matching IAMRoleSelectors found: {}; change them so that one fits",
                several.len(),
                names.join(", ")
            )))
        }
    }
}

/// The role that a map has for the object, if one is to be looked up.
fn mapped<'k>(
    subject: &Subject<'_>,
    namespace: &Namespace,
    known: &'k Known,
    rules: &Rules,
) -> Result<Option<&'k str>, Withheld> {
    if !rules.carm {
        return Ok(None);
    }
    let elsewhere = subject
        .place
        .map(|place| place.owner_account_id.as_str())
        .filter(|account| !account.is_empty() && *account != rules.home.account);
    let (map, id) = match (&namespace.team, namespace.owner.as_deref().or(elsewhere)) {
        (Some(team), _) if rules.teams => (Map::Teams, team.as_str()),
        (_, Some(account)) => (Map::Accounts, account),
        (_, None) => return Ok(None),
    };
    let Some(found) = known.map(map).role(map, id, rules.of_service) else {
        return Err(Withheld::UnknownMap(map));
    };
    let role = found.map_err(Withheld::NoRole)?;
    if let Err(why) = account_of(role) {
        let name = map.name();
        return Err(Withheld::NoRole(format!(
            "parsing role ARN \"{role}\" from \"{name}\" configmap: {why}"
        )));
    }
    Ok(Some(role))
}

fn unfit_role(role: &str, why: &str) -> String {
    format!("parsing role ARN \"{role}\": {why}")
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
