//! Whose turn it is to write a target: exports into one would only refuse each other.
//!
//! Must not know what is written. Invariant: who waits for a target waits for those who write the same one, and for nobody
//! else; and a target that nobody writes or waits for takes no memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

use super::target::Target;
use crate::timing;

/// The targets that are being written.
#[derive(Default)]
pub struct Turns(Mutex<HashMap<Target, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// The turn to write a target, until the guard is dropped; none if it doesn't come soon. A target that is slow to write,
    /// because of an admission webhook perhaps, keeps its exports from holding all passes that there may be.
    pub async fn take(&self, target: &Target) -> Option<OwnedMutexGuard<()>> {
        let turn = self.of(target).lock_owned();
        tokio::time::timeout(timing::EXPORT_TURN, turn).await.ok()
    }

    fn of(&self, target: &Target) -> Arc<tokio::sync::Mutex<()>> {
        // Consistent between statements: a panic elsewhere doesn't break it.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // There are no more of them than passes.
        all.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = all.get(target).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        all.insert(target.clone(), Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn target(name: &str) -> Target {
        Target::parse(&format!("configmap/ns/{name}")).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_is_written_by_one_at_a_time_and_waits_for_no_other() {
        let turns = Turns::default();
        let first = turns.take(&target("a")).await.unwrap();
        assert!(turns.take(&target("b")).now_or_never().flatten().is_some(), "another target");
        assert!(turns.take(&target("a")).await.is_none(), "it didn't come soon");
        let (one, two) = (target("a"), target("a"));
        let (waiting, also) = (turns.take(&one), turns.take(&two));
        let ((), second, third) = tokio::join!(async { drop(first) }, waiting, also);
        assert!(second.is_some() && third.is_none());
        drop(second);
        assert!(turns.take(&target("a")).await.is_some());
        drop(turns.of(&target("c")));
        turns.of(&target("d"));
        assert_eq!(turns.0.lock().unwrap().len(), 1, "what nobody writes is forgotten");
    }
}
