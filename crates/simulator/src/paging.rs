//! Lists: filters on creation time, pages and their tokens.
//!
//! Decisions where AWS documents nothing:
//! - lists start with the newest, so what is created while a caller pages never shifts a page;
//! - `createdAfter` and `createdBefore` exclude their bound and see whole seconds, as replies
//!   show them: the reading under which a careless caller misses most;
//! - a token belongs to the filters that it was given for; with others it is refused;
//! - a larger `maxResults` than the page size is cut to it.
//!
//! Invariant: a token names a place between two items, so items made later don't move it.

use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;

use crate::clock::whole_seconds;
use crate::error::ApiError;

/// Query parameters in the order of the request; lists repeat a key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(pub(crate) Vec<(String, String)>);

impl Query {
    pub(crate) fn first(&self, key: &str) -> Option<&String> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    pub(crate) fn all(&self, key: &str) -> Vec<String> {
        self.0.iter().filter(|(name, _)| name == key).map(|(_, value)| value.clone()).collect()
    }
}

/// One page of a list as it was asked for.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) size: usize,
    /// Only items with an index below this one.
    pub(crate) below: usize,
    filters: u64,
    after: Option<Timestamp>,
    before: Option<Timestamp>,
}

impl Page {
    /// Reads the parameters that all lists share. `scope` is what else the token is bound to.
    pub(crate) fn parse(query: &Query, scope: &str, largest: usize) -> Result<Self, ApiError> {
        let mut size = largest.max(1);
        if let Some(asked) = query.first("maxResults") {
            let asked = asked.parse::<usize>().ok().filter(|asked| *asked > 0);
            let Some(asked) = asked else {
                return Err(ApiError::validation("maxResults must be a positive integer."));
            };
            size = size.min(asked);
        }
        let mut hasher = DefaultHasher::new();
        scope.hash(&mut hasher);
        let mut filters: Vec<_> =
            query.0.iter().filter(|(key, _)| key != "nextToken" && key != "maxResults").collect();
        filters.sort();
        filters.hash(&mut hasher);
        let filters = hasher.finish();
        let below = match query.first("nextToken") {
            None => usize::MAX,
            Some(token) => read(token, filters)
                .ok_or_else(|| ApiError::validation("The provided nextToken is invalid."))?,
        };
        let (after, before) = (bound(query, "createdAfter")?, bound(query, "createdBefore")?);
        Ok(Self { size, below, filters, after, before })
    }

    /// The indexes of items whose creation time fits; items are sorted by it.
    pub(crate) fn range<T>(&self, items: &[T], created_at: impl Fn(&T) -> Timestamp) -> (usize, usize) {
        let low = self
            .after
            .map_or(0, |after| items.partition_point(|item| whole_seconds(created_at(item)) <= after));
        let high = self.before.map_or(items.len(), |before| {
            items.partition_point(|item| whole_seconds(created_at(item)) < before)
        });
        (low, high.min(self.below).max(low))
    }

    /// Takes a page from indexes that come newest first, and the token of the next one.
    pub(crate) fn take(&self, mut indexes: impl Iterator<Item = usize>) -> (Vec<usize>, Option<String>) {
        let page: Vec<usize> = indexes.by_ref().take(self.size).collect();
        let more = indexes.next().is_some();
        let token = page.last().filter(|_| more).map(|last| write(*last, self.filters));
        (page, token)
    }
}

fn bound(query: &Query, key: &str) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = query.first(key) else { return Ok(None) };
    match text.parse() {
        Ok(at) => Ok(Some(at)),
        Err(_) => Err(ApiError::serialization(format!("{key} is not an ISO 8601 date: {text}"))),
    }
}

/// Not meant to be read by callers: a mask keeps it from looking like a number.
const MASK: u64 = 0x9e37_79b9_7f4a_7c15;

fn write(index: usize, filters: u64) -> String {
    format!("{:016x}{filters:016x}", u64::try_from(index).unwrap_or(u64::MAX) ^ MASK)
}

fn read(token: &str, filters: u64) -> Option<usize> {
    let (index, bound_to) = token.split_at_checked(16)?;
    let index = u64::from_str_radix(index, 16).ok()? ^ MASK;
    (u64::from_str_radix(bound_to, 16).ok()? == filters).then_some(())?;
    usize::try_from(index).ok()
}
