//! A clock that can be set, for processes: a library that is loaded before the C library answers with another time.
//!
//! Must not: set the monotonic clock back, or touch any process that isn't given [`Clock::environment`].
//! Invariant: all processes of one clock show the same time, and see at once that it is set.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::SignedDuration;

use crate::process;

/// Its source; a C compiler is there, since the TLS stack needs one.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/clock/shift.c");
/// Where the library finds by how much to move the time.
const OFFSET_VARIABLE: &str = "WALL_CLOCK_OFFSET";

/// A clock.
pub struct Clock {
    library: PathBuf,
    path: PathBuf,
    offset: File,
}

impl Clock {
    /// One that shows the right time, with its files in `directory`.
    pub async fn create(directory: &Path) -> Result<Self> {
        let library = library(directory).await?;
        let offset = tempfile::Builder::new().prefix("clock-").tempfile_in(directory)?;
        let (offset, path) = offset.keep().context("can't keep the clock's offset")?;
        let clock = Self { library, path, offset };
        clock.set(SignedDuration::ZERO)?;
        clock.pass(Duration::ZERO)?;
        Ok(clock)
    }

    /// Shows a time that is wrong by so many whole seconds.
    pub fn set(&self, offset: SignedDuration) -> Result<()> {
        // In place: processes have the file mapped, and a moment without content would kill them.
        Ok(self.offset.write_all_at(&offset.as_secs().to_ne_bytes(), 0)?)
    }

    /// Lets so many whole seconds pass since the start, by the monotonic clock: each time-out that is shorter has run out by
    /// the next time that the process looks.
    pub fn pass(&self, time: Duration) -> Result<()> {
        Ok(self.offset.write_all_at(&time.as_secs().to_ne_bytes(), size_of::<i64>().try_into()?)?)
    }

    /// What a process has to be started with.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let shown = |path: &Path| path.display().to_string();
        [("LD_PRELOAD", shown(&self.library)), (OFFSET_VARIABLE, shown(&self.path))]
    }
}

/// Builds the library, once for a directory.
async fn library(directory: &Path) -> Result<PathBuf> {
    let library = directory.join("clock.so");
    if library.exists() {
        return Ok(library);
    }
    // Under another name until it is whole: tests share the directory.
    let unfinished = tempfile::Builder::new().prefix("clock-").suffix(".so").tempfile_in(directory)?;
    let mut compiler = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]).arg(unfinished.path()).arg(SOURCE);
    process::run(compiler, None).await.context("can't build the library that moves the clock")?;
    unfinished.persist(&library).context("can't keep the library that moves the clock")?;
    Ok(library)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::guard::Scratch;

    #[tokio::test]
    async fn a_process_shows_the_time_that_is_set() -> Result<()> {
        let scratch = Scratch::create("clock-test-")?;
        let clock = Clock::create(scratch.path()).await?;
        for offset in [SignedDuration::ZERO, SignedDuration::from_hours(5), SignedDuration::from_mins(-3)] {
            clock.set(offset)?;
            let mut date = Command::new("date");
            date.arg("+%s").envs(clock.environment());
            let shown = Timestamp::from_second(process::run(date, None).await?.trim().parse()?)?;
            let wrong = shown.duration_since(Timestamp::now()) - offset;
            assert!(wrong.abs() < SignedDuration::from_secs(5), "{offset}: wrong by {wrong}");
        }
        Ok(())
    }
}
