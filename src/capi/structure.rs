//! Structs that can grow: each begins with the size that the caller knows, so that old callers work
//! with new libraries.
//!
//! When a struct is read, fields that the caller does not know are zero, and fields that this
//! library does not know must be zero. When a struct is written, the library fills the part that
//! the caller knows, and sets `struct_size` to the number of bytes filled.

use crate::error::{Error, Result};
use std::mem::size_of;

/// Maximum size of a struct in any version: a larger size comes from an uninitialised struct, not from a
/// newer program.
const MAX_STRUCT_BYTES: usize = 4096;

/// A struct of the C ABI whose first field is `uint32_t struct_size`.
///
/// # Safety
/// The type is `repr(C)`, has no padding, and any bytes, such as all zeros, are a valid value.
pub unsafe trait Sized32: Copy {
    /// The size of its first version.
    const FIRST: usize;
}

unsafe fn declared_size<T: Sized32>(structure: *const T, what: &'static str) -> Result<usize> {
    super::check_pointer(structure, what)?;
    // SAFETY: not NULL and aligned (checked above); every Sized32 begins with a u32, which the caller has set.
    let declared = unsafe { structure.cast::<u32>().read() } as usize;
    if !(T::FIRST..=MAX_STRUCT_BYTES).contains(&declared) {
        let text = format!(
            "{what}: struct_size must be sizeof the struct, {} or a little more, not {declared}",
            T::FIRST
        );
        return Err(Error::Invalid(text.into()));
    }
    Ok(declared)
}

/// Reads a struct that the caller has filled. NULL reads as zeros.
///
/// # Safety
/// If `from` is not NULL and aligned, as many bytes as its `struct_size` must be readable there.
pub unsafe fn read<T: Sized32>(from: *const T, what: &'static str) -> Result<T> {
    // SAFETY: Sized32 guarantees that zeros are a value.
    let mut value: T = unsafe { std::mem::zeroed() };
    if from.is_null() {
        return Ok(value);
    }
    // SAFETY: the caller guarantees it (see # Safety).
    let declared = unsafe { declared_size(from, what) }?;
    let known = declared.min(size_of::<T>());
    // SAFETY: `known` bytes are readable at `from` (the caller guarantees it) and fit into `value`; any bytes are a T.
    unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>(), (&raw mut value).cast(), known) };
    for offset in known..declared {
        // SAFETY: offset < declared bytes, which are readable (the caller guarantees it).
        let byte = unsafe { from.cast::<u8>().add(offset) };
        // SAFETY: as above.
        if unsafe { byte.read() } != 0 {
            return Err(Error::Unsupported(
                format!("{what}: bytes {known} to {declared} must be 0, because this version does not know them").into(),
            ));
        }
    }
    Ok(value)
}

/// Checks the `struct_size` that the caller has set in a struct for outputs.
///
/// # Safety
/// As for `read`.
pub unsafe fn check<T: Sized32>(to: *mut T, what: &'static str) -> Result<()> {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { declared_size(to, what) }.map(drop)
}

/// Writes the part of `value` that the caller has room for.
///
/// # Safety
/// `check` has accepted `to`, and as many bytes as its `struct_size` are writable.
pub unsafe fn write<T: Sized32>(to: *mut T, value: T) {
    // SAFETY: `check` has read the same bytes.
    let declared = unsafe { to.cast::<u32>().read() } as usize;
    let known = declared.min(size_of::<T>());
    // SAFETY: `known` bytes are writable at `to` (the caller guarantees it) and exist in `value`.
    unsafe { std::ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), to.cast(), known) };
    // SAFETY: the struct begins with a u32, which the caller may write.
    unsafe { to.cast::<u32>().write(known as u32) };
}
