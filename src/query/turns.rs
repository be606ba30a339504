//! Whose turn it is: statements of one principal run a few at a time, the next ones wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::principal::Principal;

/// Statements that run now, by principal. It remembers only those that have any.
#[derive(Debug)]
pub(super) struct Turns {
    each: usize,
    of: Mutex<HashMap<Principal, Weak<Semaphore>>>,
}

impl Turns {
    /// `each` statements of every principal at once.
    pub(super) fn new(each: usize) -> Turns {
        Turns { each, of: Mutex::default() }
    }

    /// Waits for a turn, which ends when the permit is dropped. `None` is not possible: nobody closes a semaphore here.
    pub(super) async fn take(&self, principal: &Principal) -> Option<OwnedSemaphorePermit> {
        self.semaphore(principal).acquire_owned().await.ok()
    }

    fn semaphore(&self, principal: &Principal) -> Arc<Semaphore> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(semaphore) = of.get(principal).and_then(Weak::upgrade) {
            return semaphore;
        }
        // Whoever has neither a statement that runs nor one that waits is forgotten.
        of.retain(|_, semaphore| semaphore.strong_count() > 0);
        let semaphore = Arc::new(Semaphore::new(self.each));
        of.insert(principal.clone(), Arc::downgrade(&semaphore));
        semaphore
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn one_principal_waits_and_another_does_not() {
        let turns = Turns::new(1);
        let (one, two) = (Principal::Organisation("one".into()), Principal::Organisation("two".into()));
        let first = turns.take(&one).now_or_never().expect("a turn");
        assert!(turns.take(&one).now_or_never().is_none(), "two at once");
        assert!(turns.take(&two).now_or_never().is_some(), "others do not wait");
        drop(first);
        assert!(turns.take(&one).now_or_never().is_some(), "a turn was not given back");
        assert!(turns.of.lock().unwrap().len() <= 2, "forgets who has no statement");
    }
}
