//! Queues: messages from many producers to many consumers.

use super::handle::Handle;
use super::object::{self, Object, with};
use super::status::{SHMKIT_OK, shmkit_status};
use super::structure::{self, Sized32};
use super::{check_pointer, optional, output, wait};
use crate::error::{Error, Result};
use crate::object::FileOptions;
use crate::object::queue::{Batch, LARGE_MESSAGE, Options, Overflow, Queue, What};
use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;

/// A queue: messages of any length, put by any number of processes and threads and got by any number of others.
///
/// What is promised, and to whom, whoever is killed at whatever instruction:
///
///   Producers     A message that was put (the call returned SHMKIT_OK) is in the queue, whatever becomes of its producer.
///                 Who is killed inside the call has put the whole message or nothing. Of shmkit_queue_put_many all messages
///                 appear at once, with nothing between them.
///   Consumers     A message is got once, and at once, unless something before it is still reserved. Who is killed inside
///                 shmkit_queue_get before the message was taken leaves it to the others; behind that it is gone with its
///                 consumer, as it would be one instruction after the call. Who must not lose it leases it
///                 (shmkit_queue_lease): if the process ends before it says shmkit_queue_ack, the next one gets the
///                 message, and its attempts say so.
///   Order         Messages come in the order of put and reserve, those of one producer in its own. One that is given a
///                 second time, after a lease, comes later than those that were got in between.
///   Waiting       Nothing waits for the dead: a call that waits looks every 12 ms at the latest whether whom it waits for
///                 lives. It does wait for who is alive and stopped (SIGSTOP) inside a call, for a quarter of a second even
///                 where less was asked for; and a message that somebody who lives has reserved and not committed, or is
///                 just putting if it has 64 KiB or more, holds up what was put behind it: shmkit_queue_stat tells who that
///                 is.
///   Memory        A queue with a file of its own takes as much memory as its deepest backlog needed. When little of that was
///                 used 64 times in a row (somebody found the queue empty, or it began anew at its beginning), what is
///                 beyond 2 MiB goes, 64 MiB each time from then on: within seconds where a consumer waits, and not at all
///                 while nobody uses the queue. What it uses is never a hole: where no memory is left a put fails with
///                 SHMKIT_ERR_NO_SPACE, and nothing is lost.
///   Readers in place   The bytes of a lease stay as they are until it is acknowledged or given back, unless somebody who
///                 can write the queue breaks the rules. What the queue keeps for itself is checked at each step: a lie is
///                 SHMKIT_ERR_CORRUPT, never a crash.
///
/// A handle may be used by all threads at once, and by forked children, which have not reserved or leased what their parent
/// has.
#[allow(non_camel_case_types)]
pub struct shmkit_queue {
    _opaque: (),
}

/// A put for which there is no room fails with SHMKIT_ERR_FULL, however long it would wait.
pub const SHMKIT_QUEUE_FAIL: u32 = 0x10000;
/// A put for which there is no room throws the oldest messages away that can be had, until there is.
pub const SHMKIT_QUEUE_OVERWRITE: u32 = 0x40000;
/// In shmkit_queue_info: nothing more is put.
pub const SHMKIT_QUEUE_SHUTDOWN: u32 = 0x80000;
/// For shmkit_queue_put_many: all messages or none.
pub const SHMKIT_QUEUE_ALL: u32 = 0x200000;

/// For shmkit_queue_fileno: readable while there may be a message.
pub const SHMKIT_QUEUE_MESSAGES: u32 = 0;
/// For shmkit_queue_fileno: readable while there may be room for a message.
pub const SHMKIT_QUEUE_ROOM: u32 = 1;

/// How to make or open a queue. All zeros but struct_size is one without bounds, which never blocks who puts; so is a NULL
/// pointer to it.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_queue_options {
    /// sizeof(shmkit_queue_options).
    pub struct_size: u32,
    /// SHMKIT_QUEUE_FAIL or SHMKIT_QUEUE_OVERWRITE, SHMKIT_TRUST, SHMKIT_EXCLUSIVE, or-ed.
    pub flags: u32,
    /// Permission bits of a new one with a file of its own. 0: 0600.
    pub mode: u32,
    /// How many processes may use a new one with a file of its own at a time, 1 to 4096. 0: 128.
    pub participants: u32,
    /// Where a named one stands. NULL: SHMKIT_DIR, else /dev/shm.
    pub directory: *const c_char,
    /// How many bytes it may hold, a multiple of 32 from 1024 to 2^46. A message takes its own bytes and 32, rounded up to
    /// a multiple of 32, and may have half the capacity. 0: 64 GiB of address space, of which only what is in use has
    /// memory; in a segment, where all of it has memory, 65536.
    pub capacity: u64,
    /// How many messages it may hold, not counting leased ones. 0: any number.
    pub maxsize: u64,
    /// How many bytes those may have together. 0: any number.
    pub max_bytes: u64,
}

// SAFETY: repr(C), integers and one pointer, each at a multiple of its size: no padding; any bytes are a value (the
// pointer is followed only as the caller of the exported function promises).
unsafe impl Sized32 for shmkit_queue_options {
    const FIRST: usize = size_of::<shmkit_queue_options>();
}
const _: () = assert!(size_of::<shmkit_queue_options>() == 48);

/// One of several messages to be put.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_queue_message {
    /// Its bytes. NULL where it has none.
    pub data: *const c_void,
    /// How many.
    pub size: u64,
}

/// What is known of a queue: each figure as it was at some moment during the call; exact where nobody changes it meanwhile.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_queue_info {
    /// sizeof(shmkit_queue_info); on return how much of it was filled.
    pub struct_size: u32,
    /// SHMKIT_QUEUE_FAIL, SHMKIT_QUEUE_OVERWRITE, SHMKIT_QUEUE_SHUTDOWN, or-ed.
    pub flags: u32,
    /// How many messages there are to be got, those included that something reserved before them holds up.
    pub messages: u64,
    /// How many bytes those have.
    pub bytes: u64,
    /// How many messages are reserved and not committed yet, perhaps by dead processes.
    pub reserved: u64,
    /// How many are leased, perhaps by dead processes.
    pub leased: u64,
    /// How many were ever put or reserved.
    pub puts: u64,
    /// How many were ever got, leased, overwritten or skipped.
    pub gets: u64,
    /// How many were overwritten.
    pub overwritten: u64,
    /// How many were skipped, because who had reserved them died or aborted them.
    pub skipped: u64,
    /// How often a message was given again after a lease.
    pub redelivered: u64,
    /// How often a consumer had to sleep.
    pub get_waits: u64,
    /// How often a producer had to sleep.
    pub put_waits: u64,
    /// How many bytes of memory the messages have at their disposal now.
    pub memory: u64,
    /// How many bytes it may hold, as shmkit_queue_options says.
    pub capacity: u64,
    /// How many messages it may hold. 0: any number.
    pub maxsize: u64,
    /// How many bytes those may have together. 0: any number.
    pub max_bytes: u64,
    /// How many bytes the largest message may have.
    pub largest: u64,
    /// Where it stands in its segment's data. 0 of one with a file of its own.
    pub offset: u64,
    /// Who has reserved the message that is next and has not committed it: its number among the participants of the
    /// segment. 0: the next message can be got, or there is none.
    pub held_up_by_ticket: u64,
    /// That one's PID namespace, as the inode of /proc/PID/ns/pid. 0: nobody, or unknown.
    pub held_up_by_namespace: u64,
    /// That one's process number in that namespace. 0: nobody, or unknown.
    pub held_up_by_pid: u32,
    /// 0.
    pub unused: u32,
}

// SAFETY: repr(C), nothing but integers, each at a multiple of its size: no padding, and any bytes are a value.
unsafe impl Sized32 for shmkit_queue_info {
    const FIRST: usize = size_of::<shmkit_queue_info>();
}
const _: () = assert!(size_of::<shmkit_queue_info>() == 168);

impl Object for Queue {
    type CSpec = shmkit_queue_options;
    type Options = Options;
    const FLAGS: u32 = SHMKIT_QUEUE_FAIL | SHMKIT_QUEUE_OVERWRITE;

    fn options(spec: &shmkit_queue_options, file: FileOptions) -> Result<Options> {
        let overflow = match spec.flags & (SHMKIT_QUEUE_FAIL | SHMKIT_QUEUE_OVERWRITE) {
            0 => Overflow::Block,
            SHMKIT_QUEUE_FAIL => Overflow::Fail,
            SHMKIT_QUEUE_OVERWRITE => Overflow::Overwrite,
            _ => {
                return Err(Error::Invalid(
                    "options: a queue fails or overwrites, not both".into(),
                ));
            }
        };
        Ok(Options {
            capacity: spec.capacity,
            messages: spec.maxsize,
            bytes: spec.max_bytes,
            overflow,
            file,
        })
    }

    fn size(options: &Options) -> Result<u64> {
        options.size()
    }

    object::forward!();
}

/// Refuses a NULL where there are bytes, and more bytes than an address space has.
fn check_bytes<T>(data: *const T, size: u64, what: &'static str) -> Result<usize> {
    if size > 0 {
        check_pointer(data, what)?;
    }
    let length = usize::try_from(size).ok();
    length
        .filter(|&length| isize::try_from(length).is_ok())
        .ok_or_else(|| {
            Error::TooLarge(
                format!("{what}: {size} bytes are more than an address space has").into(),
            )
        })
}

/// Returns `count` values of a caller; none where that is 0.
///
/// # Safety
/// `data` must be NULL, or `count` values of it be readable that nobody writes during the call.
#[inline(always)]
unsafe fn values<'a, T>(data: *const T, count: u64, what: &'static str) -> Result<&'a [T]> {
    let bytes = count.saturating_mul(size_of::<T>() as u64);
    let length = check_bytes(data, bytes, what)? / size_of::<T>();
    let data = if length == 0 {
        std::ptr::dangling()
    } else {
        data
    };
    // SAFETY: not NULL, aligned, and no longer than an address space (checked above); the caller promises the rest.
    Ok(unsafe { std::slice::from_raw_parts(data, length) })
}

/// Returns the bytes of a caller's message.
///
/// # Safety
/// As `values`.
#[inline(always)]
unsafe fn message<'a>(data: *const c_void, size: u64) -> Result<&'a [u8]> {
    // SAFETY: the caller's promise.
    unsafe { values(data.cast(), size, "data") }
}

/// Returns the memory of a caller for `count` values; none where it is NULL and `count` is 0.
///
/// # Safety
/// `buffer` must be NULL, or have room for `count` values that nobody else uses during the call.
#[inline(always)]
unsafe fn room<'a, T>(
    buffer: *mut T,
    count: u64,
    what: &'static str,
) -> Result<&'a mut [MaybeUninit<T>]> {
    let bytes = count.saturating_mul(size_of::<T>() as u64);
    let length = check_bytes(buffer, bytes, what)? / size_of::<T>();
    let buffer = if length == 0 {
        std::ptr::dangling_mut()
    } else {
        buffer
    };
    // SAFETY: not NULL, aligned, and no longer than an address space (checked above); the caller promises the rest.
    Ok(unsafe { std::slice::from_raw_parts_mut(buffer.cast(), length) })
}

/// As `message`, where that is plain.
///
/// # Safety
/// As `message`.
#[inline(always)]
unsafe fn easy_message<'a>(data: *const c_void, size: u64) -> Option<&'a [u8]> {
    if data.is_null() || size >= LARGE_MESSAGE {
        return None;
    }
    // SAFETY: not NULL, and short (checked above); the caller promises the rest.
    Some(unsafe { std::slice::from_raw_parts(data.cast(), size as usize) })
}

/// As `room`, where that is plain: of a larger buffer the beginning will do.
///
/// # Safety
/// As `room`.
#[inline(always)]
unsafe fn easy_room<'a>(buffer: *mut c_void, capacity: u64) -> Option<&'a mut [MaybeUninit<u8>]> {
    if buffer.is_null() {
        return None;
    }
    let length = capacity.min(LARGE_MESSAGE) as usize;
    // SAFETY: not NULL, and short (checked above); the caller promises the rest.
    Some(unsafe { std::slice::from_raw_parts_mut(buffer.cast(), length) })
}

/// Puts a message of `size` bytes at the end, waiting up to `timeout_ns` nanoseconds for room: SHMKIT_FOREVER, SHMKIT_NOWAIT,
/// or a time.
///
/// SHMKIT_OK if and only if it is in the queue. `flags`: SHMKIT_INTERRUPTIBLE. What was written to memory before is seen by who
/// gets the message.
///
/// SHMKIT_ERR_FULL: there is no room, and SHMKIT_NOWAIT or SHMKIT_QUEUE_FAIL; or SHMKIT_QUEUE_OVERWRITE, and nothing that can be
/// thrown away makes room. SHMKIT_ERR_TIMEOUT. SHMKIT_ERR_INTERRUPTED. SHMKIT_ERR_TOO_LARGE: larger than half the capacity, or
/// than max_bytes. SHMKIT_ERR_NO_SPACE: the queue would have to grow, and there is no memory; what is in it stays, and others can
/// take it. SHMKIT_ERR_SHUT_DOWN: shut down. SHMKIT_ERR_WOULD_BLOCK: somebody who lives was stopped inside a call a quarter of a
/// second ago, and SHMKIT_NOWAIT. SHMKIT_ERR_INVALID: a negative time, unknown flags, NULL. SHMKIT_ERR_TOO_MANY_PROCESSES,
/// SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_PERMISSION: as of shmkit_lock_acquire. SHMKIT_ERR_CORRUPT.
///
/// # Safety
/// `queue` must be NULL or a handle of this library that no other thread is closing; `data` NULL with a size of 0, or readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_put(
    queue: *mut shmkit_queue,
    data: *const c_void,
    size: u64,
    timeout_ns: i64,
    flags: u32,
) -> shmkit_status {
    // What cannot panic goes ahead of what could: where nothing is in the way, a put is a copy and two exchanges.
    if wait::is_valid(timeout_ns, flags)
        // SAFETY: the caller's promise.
        && let Some(queue) = unsafe { Handle::<Queue>::peek(queue.cast()) }
        // SAFETY: the caller's promise.
        && let Some(message) = unsafe { easy_message(data, size) }
        && queue.fast_put(message)
    {
        return SHMKIT_OK;
    }
    // SAFETY: the caller's promise.
    unsafe { put_slow(queue, data, size, timeout_ns, flags) }
}

/// As the exported function, by its own convention: a jump leads here.
///
/// # Safety
/// As for shmkit_queue_put.
#[cold]
#[inline(never)]
unsafe extern "C" fn put_slow(
    queue: *mut shmkit_queue,
    data: *const c_void,
    size: u64,
    timeout_ns: i64,
    flags: u32,
) -> shmkit_status {
    let body = |queue: &Queue| {
        // SAFETY: the caller's promise.
        let message = unsafe { message(data, size) }?;
        queue.put_with(message, wait::options(timeout_ns, flags)?)
    };
    // SAFETY: the caller's promise.
    unsafe { with(queue, body) }
}

/// Gets the first message: copies it to `buffer`, which has room for `capacity` bytes, and tells its size; waits up to
/// `timeout_ns` nanoseconds for one.
///
/// SHMKIT_OK if and only if it was taken: then nobody else gets it. `flags`: SHMKIT_INTERRUPTIBLE.
///
/// SHMKIT_ERR_EMPTY: there is none, and SHMKIT_NOWAIT. SHMKIT_ERR_TIMEOUT. SHMKIT_ERR_INTERRUPTED. SHMKIT_ERR_TOO_LARGE: it has more
/// than `capacity` bytes and is still there; shmkit_queue_peek tells its size. SHMKIT_ERR_SHUT_DOWN: shut down, and nothing is
/// left, nor leased by another process that may give it back. SHMKIT_ERR_WOULD_BLOCK and others as of shmkit_queue_put.
///
/// # Safety
/// `queue` must be NULL or a handle of this library that no other thread is closing; `buffer` NULL with a capacity of 0, or
/// writable; `size` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_get(
    queue: *mut shmkit_queue,
    buffer: *mut c_void,
    capacity: u64,
    timeout_ns: i64,
    flags: u32,
    size: *mut u64,
) -> shmkit_status {
    // As in shmkit_queue_put.
    if wait::is_valid(timeout_ns, flags)
        && check_pointer(size, "size").is_ok()
        // SAFETY: the caller's promise.
        && let Some(queue) = unsafe { Handle::<Queue>::peek(queue.cast()) }
        // SAFETY: the caller's promise.
        && let Some(buffer) = unsafe { easy_room(buffer, capacity) }
        && let Some(length) = queue.fast_get(buffer)
    {
        // SAFETY: neither NULL nor unaligned (checked above); the caller promises that it is writable.
        unsafe { size.write(length) };
        return SHMKIT_OK;
    }
    // SAFETY: the caller's promise.
    unsafe { get_slow(queue, buffer, capacity, timeout_ns, flags, size) }
}

/// As the exported function, by its own convention: a jump leads here.
///
/// # Safety
/// As for shmkit_queue_get.
#[cold]
#[inline(never)]
unsafe extern "C" fn get_slow(
    queue: *mut shmkit_queue,
    buffer: *mut c_void,
    capacity: u64,
    timeout_ns: i64,
    flags: u32,
    size: *mut u64,
) -> shmkit_status {
    let body = |queue: &Queue| {
        // SAFETY: the caller's promise.
        let size = unsafe { output(size, "size") }?;
        // SAFETY: the caller's promise.
        let buffer = unsafe { room(buffer.cast::<u8>(), capacity, "buffer") }?;
        let taken = queue.get_into_with(buffer, wait::options(timeout_ns, flags)?)?;
        size.write(taken.length);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(queue, body) }
}

/// Copies the beginning of the first message to `buffer`, as much as there is room for, tells its whole size, and leaves it
/// where it is.
///
/// As shmkit_queue_get, but for SHMKIT_ERR_TOO_LARGE. Another may have taken it before it can be got.
///
/// # Safety
/// As for shmkit_queue_get.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_peek(
    queue: *mut shmkit_queue,
    buffer: *mut c_void,
    capacity: u64,
    timeout_ns: i64,
    flags: u32,
    size: *mut u64,
) -> shmkit_status {
    let body = |queue: &Queue| {
        // SAFETY: the caller's promise.
        let size = unsafe { output(size, "size") }?;
        // SAFETY: the caller's promise.
        let buffer = unsafe { room(buffer.cast::<u8>(), capacity, "buffer") }?;
        let seen = queue.peek_into_with(buffer, wait::options(timeout_ns, flags)?)?;
        size.write(seen.length);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(queue, body) }
}

/// Puts `count` messages, one behind the other and nothing between them, and tells how many were put.
///
/// `flags`: SHMKIT_INTERRUPTIBLE; SHMKIT_QUEUE_ALL: all of them or none, waiting until there is room for all; without it as many
/// as there is room for, waiting for the first. A `count` of 0 puts nothing.
///
/// As shmkit_queue_put. SHMKIT_ERR_TOO_LARGE: one of them is; or, with SHMKIT_QUEUE_ALL, together they are more than half the
/// capacity, counted as there, or than maxsize or max_bytes.
///
/// # Safety
/// `queue` must be NULL or a handle of this library that no other thread is closing; `messages` NULL with a count of 0,
/// or an array whose data are readable; `put` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_put_many(
    queue: *mut shmkit_queue,
    messages: *const shmkit_queue_message,
    count: u64,
    timeout_ns: i64,
    flags: u32,
    put: *mut u64,
) -> shmkit_status {
    let body = |queue: &Queue| {
        // SAFETY: the caller's promise.
        let put = unsafe { output(put, "put") }?;
        // SAFETY: the caller's promise.
        let spec = unsafe { values(messages, count, "messages") }?;
        for message in spec {
            check_bytes(message.data, message.size, "data of a message")?;
        }
        let batch = match flags & SHMKIT_QUEUE_ALL {
            0 => Batch::Some,
            _ => Batch::All,
        };
        let options = wait::options(timeout_ns, flags & !SHMKIT_QUEUE_ALL)?;
        let messages = spec.iter().map(|spec| {
            // SAFETY: the caller's promise; what is NULL where there are bytes was refused above.
            unsafe { message(spec.data, spec.size) }.unwrap_or_default()
        });
        put.write(queue.put_many_with(messages, batch, options)?);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(queue, body) }
}

/// Gets the first messages, `max_items` at the most and as many as there are and `buffer` has room for: one behind the other in it,
/// their sizes in `sizes`. Waits for the first of them, and tells how many it got.
///
/// As shmkit_queue_get; SHMKIT_ERR_TOO_LARGE: the first alone has more than `capacity` bytes. A `max_items` of 0 gets nothing.
///
/// # Safety
/// `queue` must be NULL or a handle of this library that no other thread is closing; `buffer` NULL with a capacity of 0, or writable;
/// `sizes` NULL with a `max_items` of 0, or room for as many; `count` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_get_many(
    queue: *mut shmkit_queue,
    buffer: *mut c_void,
    capacity: u64,
    sizes: *mut u64,
    max_items: u64,
    timeout_ns: i64,
    flags: u32,
    count: *mut u64,
) -> shmkit_status {
    let body = |queue: &Queue| {
        // SAFETY: the caller's promise.
        let count = unsafe { output(count, "count") }?;
        // SAFETY: the caller's promise.
        let buffer = unsafe { room(buffer.cast::<u8>(), capacity, "buffer") }?;
        // SAFETY: the caller's promise.
        let sizes = unsafe { room(sizes, max_items, "sizes") }?;
        let options = wait::options(timeout_ns, flags)?;
        count.write(queue.get_many_into_with(buffer, sizes, options)?);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(queue, body) }
}

/// Reserves room for a message of up to `size` bytes, at the end, to be filled in place: tells where, at a multiple of 32, and a
/// token by which it is committed or aborted.
///
/// Its place in the order is the one it has now: until it is committed or aborted nobody gets what is put behind it. If the
/// process ends before, it is skipped. The bytes are what an earlier message has left there. The memory may be written until the
/// commit, and no longer than the handle is open.
///
/// As shmkit_queue_put.
///
/// # Safety
/// `queue` must be NULL or a handle of this library that no other thread is closing; `data` and `token` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_reserve(
    queue: *mut shmkit_queue,
    size: u64,
    timeout_ns: i64,
    flags: u32,
    data: *mut *mut c_void,
    token: *mut u64,
) -> shmkit_status {
    let body = |queue: &Queue| {
        // SAFETY: the caller's promise.
        let data = unsafe { output(data, "data") }?;
        // SAFETY: the caller's promise.
        let token = unsafe { output(token, "token") }?;
        let place = queue.reserve_with(size, wait::options(timeout_ns, flags)?)?;
        let address = queue.address(place.offset, place.room)?;
        data.write(address.as_ptr().cast());
        token.write(place.token);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(queue, body) }
}

/// Puts what was reserved into the queue, with the first `size` bytes of its room; what was written there is seen by who gets
/// it.
///
/// SHMKIT_ERR_NOT_OWNER: the token is none, was committed or aborted already, or is another process' own.
/// SHMKIT_ERR_INVALID: more bytes than were reserved; it stays reserved.
///
/// # Safety
/// `queue` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_commit(
    queue: *mut shmkit_queue,
    token: u64,
    size: u64,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { with(queue, |queue: &Queue| queue.commit(token, size)) }
}

/// Gives up what was reserved: nobody gets it. Errors as of shmkit_queue_commit.
///
/// # Safety
/// As for shmkit_queue_commit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_abort(queue: *mut shmkit_queue, token: u64) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { with(queue, |queue: &Queue| queue.abort(token)) }
}

/// Takes the first message to read it in place: tells where its bytes are, at a multiple of 32, how many, a token by which it is
/// acknowledged or given back, and how often it was leased, this time included (65535: so often or more).
///
/// Until then nobody else gets it; others get what lies behind it. If the process ends before, however it ends, the next one gets
/// it, within 12 ms after the kernel has torn the process down. Its memory is not used for anything else while it is leased: one
/// that is kept for long keeps what lies behind it in memory too. The bytes may be read until then, and no longer than the handle
/// is open. A lease belongs to the process: closing the handle does not end it as long as another handle of this queue is open.
///
/// As shmkit_queue_get.
///
/// # Safety
/// `queue` must be NULL or a handle of this library that no other thread is closing; `data`, `size` and `token` NULL or
/// writable; `attempts` NULL where it is not wanted, or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_lease(
    queue: *mut shmkit_queue,
    timeout_ns: i64,
    flags: u32,
    data: *mut *const c_void,
    size: *mut u64,
    token: *mut u64,
    attempts: *mut u32,
) -> shmkit_status {
    let body = |queue: &Queue| {
        // SAFETY: the caller's promise.
        let data = unsafe { output(data, "data") }?;
        // SAFETY: the caller's promise.
        let size = unsafe { output(size, "size") }?;
        // SAFETY: the caller's promise.
        let token = unsafe { output(token, "token") }?;
        // SAFETY: the caller's promise.
        let attempts = unsafe { optional(attempts, "attempts") }?;
        let lease = queue.lease_with(wait::options(timeout_ns, flags)?)?;
        let address = queue.address(lease.offset, lease.length)?;
        data.write(address.as_ptr().cast_const().cast());
        size.write(lease.length);
        token.write(lease.token);
        if let Some(attempts) = attempts {
            attempts.write(lease.attempts);
        }
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(queue, body) }
}

/// Acknowledges a lease: the message is done with, and nobody gets it any more.
///
/// SHMKIT_ERR_NOT_OWNER: the token is none, was acknowledged or given back already, or is another process' own.
///
/// # Safety
/// `queue` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_ack(queue: *mut shmkit_queue, token: u64) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { with(queue, |queue: &Queue| queue.ack(token)) }
}

/// Gives a lease back: whoever gets something next gets this message. Errors as of shmkit_queue_ack.
///
/// # Safety
/// As for shmkit_queue_ack.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_nack(queue: *mut shmkit_queue, token: u64) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { with(queue, |queue: &Queue| queue.nack(token)) }
}

/// Waits until every message has been taken, and none is reserved or leased: until all work is done, where consumers acknowledge
/// what they have done.
///
/// A message that somebody died over is not done: it waits for the next consumer. SHMKIT_ERR_WOULD_BLOCK, SHMKIT_ERR_TIMEOUT,
/// SHMKIT_ERR_INTERRUPTED; others as of shmkit_queue_put.
///
/// # Safety
/// `queue` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_join(
    queue: *mut shmkit_queue,
    timeout_ns: i64,
    flags: u32,
) -> shmkit_status {
    let body = |queue: &Queue| queue.join_with(wait::options(timeout_ns, flags)?);
    // SAFETY: the caller's promise.
    unsafe { with(queue, body) }
}

/// Says that nothing more is put, for all processes and for good: a put that begins after this fails. One that was in progress
/// may still succeed, and as long as it may, nobody is told SHMKIT_ERR_SHUT_DOWN by shmkit_queue_get.
///
/// Whoever waits for room gets SHMKIT_ERR_SHUT_DOWN; whoever waits for a message gets what is left, and then SHMKIT_ERR_SHUT_DOWN. What
/// was reserved before can still be committed, what was leased can be acknowledged. To do it twice changes nothing.
///
/// # Safety
/// `queue` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_shutdown(queue: *mut shmkit_queue) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { with(queue, Queue::shut_down) }
}

/// Tells a descriptor for poll, select and event loops: readable while there may be a message (`what` is SHMKIT_QUEUE_MESSAGES) or
/// room for one (SHMKIT_QUEUE_ROOM), whichever process put or took it.
///
/// It is the handle's: only poll it, neither read nor close it. When it is readable, try with SHMKIT_NOWAIT; who finds nothing, because
/// another was faster, has it unreadable again. A thread of this process, which takes no signals, waits for the queue and
/// looks every 12 ms; it is started at the first call and ends, as if it were closed, within 25 ms after the handle. A forked
/// child calls this once more.
///
/// SHMKIT_ERR_UNSUPPORTED: no thread or no descriptor is to be had. SHMKIT_ERR_INVALID: another `what`.
///
/// # Safety
/// `queue` must be NULL or a handle of this library that no other thread is closing; `fd` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_fileno(
    queue: *mut shmkit_queue,
    what: u32,
    fd: *mut i32,
) -> shmkit_status {
    let body = |queue: &Queue| {
        // SAFETY: the caller's promise.
        let fd = unsafe { output(fd, "fd") }?;
        let what = match what {
            SHMKIT_QUEUE_MESSAGES => What::Messages,
            SHMKIT_QUEUE_ROOM => What::Room,
            _ => {
                return Err(Error::Invalid(
                    format!("{what}: neither messages nor room").into(),
                ));
            }
        };
        fd.write(queue.notice(what)?);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(queue, body) }
}

/// Tells whether an empty message would have to wait for room: 1, or 0.
///
/// SHMKIT_ERR_WOULD_BLOCK: somebody was stopped inside a put. SHMKIT_ERR_CORRUPT.
///
/// # Safety
/// `queue` must be NULL or a handle of this library that no other thread is closing; `out` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_is_full(
    queue: *const shmkit_queue,
    out: *mut u32,
) -> shmkit_status {
    let body = |queue: &Queue| {
        // SAFETY: the caller's promise.
        let out = unsafe { output(out, "out") }?;
        out.write(queue.is_full()?.into());
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(queue, body) }
}

/// Tells what is in the queue and what has happened to it.
///
/// SHMKIT_ERR_WOULD_BLOCK: something is reserved or leased, and who is just getting something was stopped. SHMKIT_ERR_CORRUPT.
///
/// # Safety
/// `queue` must be NULL or a handle of this library; `out` NULL or a struct whose struct_size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_stat(
    queue: *const shmkit_queue,
    out: *mut shmkit_queue_info,
) -> shmkit_status {
    let body = |queue: &Queue| {
        // SAFETY: the caller's promise.
        unsafe { structure::check(out, "out") }?;
        let stat = queue.stat()?;
        let (capacity, maxsize, max_bytes) = queue.bounds();
        let overflow = match queue.overflow() {
            Overflow::Block => 0,
            Overflow::Fail => SHMKIT_QUEUE_FAIL,
            Overflow::Overwrite => SHMKIT_QUEUE_OVERWRITE,
        };
        let process_info = stat.held_up_by.and_then(|id| queue.process_info(id));
        let info = shmkit_queue_info {
            struct_size: 0,
            flags: overflow | if stat.shut { SHMKIT_QUEUE_SHUTDOWN } else { 0 },
            messages: stat.messages,
            bytes: stat.bytes,
            reserved: stat.reserved,
            leased: stat.leased,
            puts: stat.puts,
            gets: stat.gets,
            overwritten: stat.overwritten,
            skipped: stat.skipped,
            redelivered: stat.redelivered,
            get_waits: stat.waits.0,
            put_waits: stat.waits.1,
            memory: stat.memory,
            capacity,
            maxsize,
            max_bytes,
            largest: queue.largest(),
            offset: queue.offset(),
            held_up_by_ticket: stat.held_up_by.map_or(0, |id| id.ticket()),
            held_up_by_namespace: process_info.map_or(0, |process_info| process_info.namespace),
            held_up_by_pid: process_info.map_or(0, |process_info| process_info.pid),
            unused: 0,
        };
        // SAFETY: checked above; the caller promises that it is writable.
        unsafe { structure::write(out, info) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(queue, body) }
}

include!(concat!(env!("OUT_DIR"), "/object_queue.rs"));
