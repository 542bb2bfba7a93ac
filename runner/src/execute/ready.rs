//! The steps that can start, the one with the longest way to the end first, and pools that let only so many of theirs run at one
//! time. Knows nothing of what a step is: to it they are numbers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A step that can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    /// How long it and what waits for it take, in milliseconds.
    way: u64,
    /// Of two with as long a way the earlier in the file goes first.
    step: Reverse<usize>,
    pool: Option<usize>,
    /// In which round it came.
    since: u64,
}

/// A step that is to start now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    /// Which one.
    pub(super) step: usize,
    /// Whether it could have started in an earlier round, had there been a place.
    pub(super) held_up: bool,
}

/// Steps that wait for nothing but a place to run.
#[derive(Debug)]
pub(super) struct Ready {
    heap: BinaryHeap<Waiting>,
    pools: Vec<Pool>,
    round: u64,
}

#[derive(Debug)]
struct Pool {
    free: usize,
    /// Those that found it full.
    waiting: BinaryHeap<Waiting>,
}

impl Ready {
    /// No step yet, and pools of these sizes.
    pub(super) fn new(pools: &[usize]) -> Self {
        let pools = pools.iter().map(|&free| Pool { free, waiting: BinaryHeap::new() }).collect();
        Self { heap: BinaryHeap::new(), pools, round: 0 }
    }

    /// Adds a step; `way` is how long it and what waits for it take.
    pub(super) fn push(&mut self, step: usize, way: u64, pool: Option<usize>) {
        self.heap.push(Waiting { way, step: Reverse(step), pool, since: self.round });
    }

    /// The step to start next, which then holds a place of its pool; none where no step can start.
    pub(super) fn pop(&mut self) -> Option<Next> {
        while let Some(waiting) = self.heap.pop() {
            if let Some(pool) = waiting.pool.map(|pool| &mut self.pools[pool]) {
                if pool.free == 0 {
                    pool.waiting.push(waiting);
                    continue;
                }
                pool.free -= 1;
            }
            return Some(Next { step: waiting.step.0, held_up: waiting.since < self.round });
        }
        None
    }

    /// Forgets all steps.
    pub(super) fn clear(&mut self) {
        self.heap.clear();
        for pool in &mut self.pools {
            pool.waiting.clear();
        }
    }

    /// A step has ended: its place in its pool is free, and a new round begins.
    pub(super) fn ended(&mut self, pool: Option<usize>) {
        self.round += 1;
        if let Some(pool) = pool.map(|pool| &mut self.pools[pool]) {
            pool.free += 1;
            self.heap.extend(pool.waiting.pop());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn popped(ready: &mut Ready) -> Vec<usize> {
        std::iter::from_fn(|| ready.pop()).map(|next| next.step).collect()
    }

    #[test]
    fn the_longest_way_goes_first_and_then_the_files_order() {
        let mut ready = Ready::new(&[]);
        for (step, way) in [5, 90, 5, 30].into_iter().enumerate() {
            ready.push(step, way, None);
        }
        assert_eq!(popped(&mut ready), [1, 3, 0, 2]);
    }

    #[test]
    fn a_full_pool_holds_up_its_own_steps_only() {
        let mut ready = Ready::new(&[1, 2]);
        for (step, pool) in [Some(0), Some(0), Some(1), Some(0), None].into_iter().enumerate() {
            ready.push(step, 100 - step as u64, pool);
        }
        assert_eq!(popped(&mut ready), [0, 2, 4]);
        ready.ended(None);
        assert_eq!(popped(&mut ready), [0; 0]);
        ready.ended(Some(0));
        assert_eq!(popped(&mut ready), [1]);
        ready.ended(Some(0));
        assert_eq!(popped(&mut ready), [3]);
    }

    #[test]
    fn a_step_is_held_up_if_an_earlier_round_had_no_place_for_it() {
        let mut ready = Ready::new(&[]);
        ready.push(0, 2, None);
        ready.push(1, 1, None);
        assert_eq!(ready.pop(), Some(Next { step: 0, held_up: false }));
        ready.ended(None);
        ready.push(2, 0, None);
        assert_eq!(ready.pop(), Some(Next { step: 1, held_up: true }));
        assert_eq!(ready.pop(), Some(Next { step: 2, held_up: false }));
    }
}
