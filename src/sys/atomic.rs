//! The atomics of `raw`: the machine's, or those of the loom model checker, which runs the same code.

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

/// Is `fence(SeqCst)` where the last thing that was done is an exchange (a swap, a compare-and-swap that took place).
///
/// On x86-64 that has already had everything before it come before everything after it (Intel SDM 3A, 9.2.5; AMD APM 2,
/// 7.1), so only the compiler is still to be told; a second barrier costs as much as the exchange.
#[inline(always)]
pub fn fence_after_exchange() {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    fence(Ordering::SeqCst);
}

/// Has the processor fetch the cache line at `address`, to be written soon: a hint, which accesses nothing.
///
/// What another core has read has to be taken from it before it can be written; that takes longer than to write it.
#[inline(always)]
pub fn prefetch_to_write(address: *const u8) {
    // SAFETY: PREFETCHW (Intel SDM 2B; AMD APM 3) changes nothing but caches, and never faults, whatever the address.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags, readonly))
    };
    // SAFETY: nor does PRFM (Arm ARM, C6.2).
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("prfm pstl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly))
    };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
