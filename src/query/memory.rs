//! A session's share of the memory of all statements.

use std::fmt;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::memory_pool::{
    GreedyMemoryPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};

/// What one session may take, from what all sessions may take together.
#[derive(Debug)]
pub(super) struct Share {
    own: GreedyMemoryPool,
    all: Arc<dyn MemoryPool>,
}

impl Share {
    /// At most `bytes` of `all`.
    pub(super) fn new(bytes: usize, all: Arc<dyn MemoryPool>) -> Share {
        Share { own: GreedyMemoryPool::new(bytes), all }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of {}", self.own, self.all)
    }
}

impl MemoryPool for Share {
    fn name(&self) -> &str {
        "session"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.all.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.all.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.own.grow(reservation, additional);
        self.all.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.own.shrink(reservation, shrink);
        self.all.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.own.try_grow(reservation, additional)?;
        self.all.try_grow(reservation, additional).inspect_err(|_| self.own.shrink(reservation, additional))
    }

    fn reserved(&self) -> usize {
        self.own.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.own.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_ends_before_all_and_all_before_the_sum() {
        let all: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(150));
        let [one, two]: [Arc<dyn MemoryPool>; 2] = [(); 2].map(|()| Arc::new(Share::new(100, Arc::clone(&all))) as _);
        let first = MemoryConsumer::new("first").register(&one);
        let second = MemoryConsumer::new("second").register(&two);
        assert!(first.try_grow(101).is_err());
        first.try_grow(100).unwrap();
        assert!(second.try_grow(51).is_err());
        assert_eq!((one.reserved(), two.reserved(), all.reserved()), (100, 0, 100), "a refusal takes nothing");
        drop(first);
        second.try_grow(100).unwrap();
        assert_eq!(all.reserved(), 100);
    }
}
