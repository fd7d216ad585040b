//! Ids of the lengths that the service gives: 19 characters for a run, 25 for a virtual cluster.
//!
//! Invariant: ids of a kind sort by the order in which they were made.

use jiff::Timestamp;
use rand::{RngExt, SeedableRng, rngs::StdRng};

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Room for ids within a millisecond: four digits, of which the random start leaves most free.
const PER_MILLISECOND: u64 = 36 * 36 * 36 * 36;

#[derive(Debug)]
pub(crate) struct Ids {
    rng: StdRng,
    millisecond: u64,
    within: u64,
}

impl Ids {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), millisecond: 0, within: 0 }
    }

    pub(crate) fn job_run(&mut self, now: Timestamp) -> String {
        format!("0000000{}", self.sortable(now))
    }

    pub(crate) fn virtual_cluster(&mut self, now: Timestamp) -> String {
        let head = self.sortable(now);
        let tail = self.random(13);
        head + &tail
    }

    /// An id without order, as of requests and credentials.
    pub(crate) fn random(&mut self, length: usize) -> String {
        (0..length).map(|_| digit(self.rng.random_range(0..36))).collect()
    }

    fn sortable(&mut self, now: Timestamp) -> String {
        let millisecond = u64::try_from(now.as_millisecond()).unwrap_or(0);
        if millisecond > self.millisecond {
            self.millisecond = millisecond;
            self.within = self.rng.random_range(0..36 * 36 * 36);
        } else {
            self.within += 1;
            if self.within >= PER_MILLISECOND {
                self.millisecond += 1;
                self.within = 0;
            }
        }
        base36(self.millisecond, 8) + &base36(self.within, 4)
    }
}

fn digit(value: u64) -> char {
    usize::try_from(value).ok().and_then(|index| DIGITS.get(index)).map_or('0', |byte| char::from(*byte))
}

fn base36(mut value: u64, length: usize) -> String {
    let mut digits: Vec<char> = Vec::with_capacity(length);
    for _ in 0..length {
        digits.push(digit(value % 36));
        value /= 36;
    }
    digits.iter().rev().collect()
}
