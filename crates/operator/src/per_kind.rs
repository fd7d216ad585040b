//! Settings that may differ from kind to kind, and which kinds are worked on: read from the names that flags give them.
//!
//! Must not know what a setting means. Invariant: a name that no kind has is refused, so that a misspelt one is no
//! setting that is silently ignored.

use crate::metrics::Kind;

/// The kinds that passes are made over, by their names in manifests and flags.
const NAMED: [(&str, Kind); 2] = [("JobRun", Kind::JobRun), ("VirtualCluster", Kind::VirtualCluster)];

/// A value for all kinds, and others for some of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerKind<T> {
    default: T,
    own: Vec<(Kind, T)>,
}

impl<T: Copy> PerKind<T> {
    /// One value for all but some kinds. Of several for one kind the last counts, as it does for a flag.
    pub fn new(default: T, own: impl IntoIterator<Item = (Kind, T)>) -> Self {
        Self { default, own: own.into_iter().collect() }
    }

    /// The value for a kind.
    pub fn of(&self, kind: Kind) -> T {
        self.own.iter().rev().find(|(named, _)| *named == kind).map_or(self.default, |(_, own)| *own)
    }
}

/// The kinds that are worked on; all others are only read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkedOn(Vec<Kind>);

impl WorkedOn {
    /// Whether objects of a kind are worked on: all kinds are where none is named.
    pub fn includes(&self, kind: Kind) -> bool {
        self.0.is_empty() || self.0.contains(&kind)
    }
}

/// Reads a list of kinds, separated by commas.
pub(crate) fn kinds(text: &str) -> Result<WorkedOn, String> {
    if text.trim().is_empty() {
        return Ok(WorkedOn::default());
    }
    let mut kinds = Vec::new();
    for name in text.split(',').map(str::trim) {
        if name.is_empty() {
            return Err(format!("is `{text}`, which has a blank entry: remove the comma too many"));
        }
        let kind = named(name)?;
        if kinds.contains(&kind) {
            return Err(format!("names `{name}` twice: remove one of them"));
        }
        kinds.push(kind);
    }
    Ok(WorkedOn(kinds))
}

/// Reads `Kind=number`, where the number is above zero.
pub(crate) fn numbers<N>(texts: &[String]) -> Result<Vec<(Kind, N)>, String>
where
    N: std::str::FromStr + PartialOrd + From<u8>,
{
    let read = |text: &String| {
        let malformed = || {
            format!("is `{text}`: use the form Kind=number with a whole number above 0, such as JobRun=10")
        };
        let (name, number) = text.split_once('=').ok_or_else(malformed)?;
        let number = number.parse().ok().filter(|number| *number >= N::from(1)).ok_or_else(malformed)?;
        Ok((named(name)?, number))
    };
    texts.iter().map(read).collect()
}

fn named(name: &str) -> Result<Kind, String> {
    let found = NAMED.iter().find(|(known, _)| *known == name);
    found.map(|(_, kind)| *kind).ok_or_else(|| {
        let known: Vec<&str> = NAMED.iter().map(|(known, _)| *known).collect();
        format!("names the kind `{name}`, which is none of this operator's: use {}", known.join(" or "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_its_own_value_or_that_of_all() {
        let texts = ["JobRun=5", "JobRun=7"].map(str::to_owned);
        let per_kind = PerKind::new(20_u16, numbers(&texts).unwrap());
        assert_eq!((per_kind.of(Kind::JobRun), per_kind.of(Kind::VirtualCluster)), (7, 20));
    }

    #[test]
    fn all_kinds_are_worked_on_unless_some_are_named() {
        let [all, runs] = ["", " JobRun "].map(|text| kinds(text).unwrap());
        assert!(all.includes(Kind::JobRun) && all.includes(Kind::VirtualCluster));
        assert!(runs.includes(Kind::JobRun) && !runs.includes(Kind::VirtualCluster));
    }

    #[test]
    fn what_upstream_refuses_is_refused() {
        for text in ["JobRun", "JobRun=", "=5", "JobRun=0", "JobRun=-1", "JobRun=x", "JobRun=1=2", "jobrun=5"]
        {
            assert!(numbers::<u64>(&[text.to_owned()]).is_err(), "{text}");
        }
        assert!(numbers::<u16>(&["JobRun=65536".to_owned()]).is_err());
        for text in ["JobRun,", ",", "JobRun,JobRun", "FieldExport", "jobrun"] {
            assert!(kinds(text).is_err(), "{text}");
        }
    }
}
