//! How often each family struck, and how often that was felt: noted by those who strike, while a round goes on.
//!
//! Must not: judge. Invariant: what is felt has struck.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::family::Family;

/// How often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// It was brought about.
    pub struck: usize,
    /// Of these, it was seen to have had an effect.
    pub felt: usize,
}

/// The counts of each family; a clone counts in the same place.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<Family, Count>>>);

impl Tally {
    /// A family struck.
    pub fn note(&self, family: Family, felt: bool) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(family).or_default();
        count.struck += 1;
        count.felt += usize::from(felt);
    }

    /// What was noted so far.
    pub fn counts(&self) -> BTreeMap<Family, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
