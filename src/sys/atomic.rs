//! The atomics of `sync`: the machine's, or those of the loom model checker, which runs the same code.

#[cfg(loom)]
pub use loom::{
    hint::spin_loop, sync::atomic::AtomicU64, sync::atomic::Ordering, sync::atomic::fence,
};
#[cfg(not(loom))]
pub use std::{
    hint::spin_loop, sync::atomic::AtomicU64, sync::atomic::Ordering, sync::atomic::fence,
};

/// Has loom see the one order of all SeqCst accesses: it knows only that of fences. On the machine it is nothing.
#[inline(always)]
pub fn one_order() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}
