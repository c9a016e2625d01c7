//! The atomics of `raw`: the machine's, or those of the loom model checker.

#[cfg(loom)]
pub use loom::{
    hint::spin_loop, sync::atomic::AtomicU64, sync::atomic::Ordering, sync::atomic::fence,
};
#[cfg(not(loom))]
pub use std::{
    hint::spin_loop, sync::atomic::AtomicU64, sync::atomic::Ordering, sync::atomic::fence,
};

/// Adds a fence in loom models, because loom orders SeqCst fences only, not SeqCst accesses; does nothing otherwise.
#[inline(always)]
pub fn one_order() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// A `fence(SeqCst)` directly after an exchange: a swap, or a compare-and-swap that succeeded (D-060).
///
/// On x86-64 the exchange is a full barrier already (Intel SDM 3A, 9.2.5; AMD APM 2, 7.1). A second one would cost as much
/// as the exchange, so only the compiler needs a fence there.
#[inline(always)]
pub fn fence_after_exchange() {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    fence(Ordering::SeqCst);
}

/// Prefetches the cache line at `address` for a store (D-058): a hint that accesses nothing.
///
/// A line in another core's cache must be taken from that cache first, which takes longer than the store.
#[inline(always)]
pub fn prefetch_to_write(address: *const u8) {
    // SAFETY: PREFETCHW (Intel SDM 2B; AMD APM 3) changes nothing but caches, and never faults, whatever the address.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags, readonly))
    };
    // SAFETY: PRFM (Arm ARM, C6.2) is a hint, too, and never faults.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("prfm pstl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly))
    };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
