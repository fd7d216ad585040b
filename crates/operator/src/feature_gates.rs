//! What `--feature-gates` turns on and off: upstream's gates, with upstream's defaults.
//!
//! Reads the flag and holds the answers; acts on none. Invariant: a name that is no gate is refused, so that a gate that
//! was meant is never silently left as it was.

use crate::args::go_bool;

/// The gates. [`FeatureGates::default`] is what holds without the flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a gate is open or shut, and they don't depend on each other"
)]
pub struct FeatureGates {
    /// `ResourceAdoption`: whether the adoption annotations count.
    pub resource_adoption: bool,
    /// `ReadOnlyResources`: whether the read-only annotation counts.
    pub read_only_resources: bool,
    /// `TeamLevelCARM`: whether a namespace's team decides the role.
    pub team_level_carm: bool,
    /// `ServiceLevelCARM`: whether a role for this service goes before the account's or the team's.
    pub service_level_carm: bool,
    /// `IAMRoleSelector`: whether IAMRoleSelectors decide the role.
    pub iam_role_selector: bool,
}

impl Default for FeatureGates {
    fn default() -> Self {
        Self {
            resource_adoption: true,
            read_only_resources: true,
            team_level_carm: false,
            service_level_carm: false,
            iam_role_selector: false,
        }
    }
}

/// The names of the gates, in the order of upstream.
const NAMES: &str = "ResourceAdoption, ReadOnlyResources, TeamLevelCARM, ServiceLevelCARM, IAMRoleSelector";

impl FeatureGates {
    /// Reads `Gate=true,Gate=false`; of a gate that is named twice the last one counts.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut gates = Self::default();
        if text.trim().is_empty() {
            return Ok(gates);
        }
        for part in text.split(',') {
            let Some((name, value)) = part.split_once('=') else {
                return Err(format!("has `{part}`, which is no gate: use the form Gate=true,Gate=false"));
            };
            let (name, value) = (name.trim(), value.trim());
            let Some(gate) = gates.gate(name) else {
                return Err(format!("has the unknown feature gate `{name}`: use one of {NAMES}"));
            };
            let Some(value) = go_bool(value) else {
                return Err(format!("sets {name} to `{value}`: use true or false"));
            };
            *gate = value;
        }
        Ok(gates)
    }

    fn gate(&mut self, name: &str) -> Option<&mut bool> {
        Some(match name {
            "ResourceAdoption" => &mut self.resource_adoption,
            "ReadOnlyResources" => &mut self.read_only_resources,
            "TeamLevelCARM" => &mut self.team_level_carm,
            "ServiceLevelCARM" => &mut self.service_level_carm,
            "IAMRoleSelector" => &mut self.iam_role_selector,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_upstreams_and_the_last_word_counts() {
        let default = FeatureGates::default();
        assert_eq!(FeatureGates::parse(" "), Ok(default));
        assert_eq!(
            FeatureGates::parse("ReadOnlyResources=false, TeamLevelCARM = 1,ServiceLevelCARM=t"),
            Ok(FeatureGates {
                read_only_resources: false,
                team_level_carm: true,
                service_level_carm: true,
                ..default
            })
        );
        assert_eq!(
            FeatureGates::parse("IAMRoleSelector=true,ResourceAdoption=F,IAMRoleSelector=false"),
            Ok(FeatureGates { resource_adoption: false, ..default })
        );
    }

    #[test]
    fn what_is_no_gate_is_refused() {
        for (text, expected) in [
            ("TeamLevelCARM", "has `TeamLevelCARM`, which is no gate"),
            ("TeamLevelCARM=true,", "has ``, which is no gate"),
            ("=true", "unknown feature gate ``"),
            ("teamlevelcarm=true", "unknown feature gate `teamlevelcarm`: use one of ResourceAdoption, "),
            ("TeamLevelCARM=yes", "sets TeamLevelCARM to `yes`: use true or false"),
        ] {
            let problem = FeatureGates::parse(text).unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
        }
    }
}
