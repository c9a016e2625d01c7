//! Queues: messages of any length from many producers to many consumers.

use super::handle::Handle;
use super::object::{Object, with};
use super::status::{SHMKIT_OK, shmkit_status};
use super::structure::{self, Sized32};
use super::{check_pointer, optional, output, wait};
use crate::error::{Error, Result};
use crate::object::FileOptions;
use crate::object::queue::{Batch, LARGE_MESSAGE, Options, Overflow, Queue, What};
use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;

/// A queue: any number of processes and threads put messages of any length, and any number get
/// them.
///
/// These guarantees hold at whatever instruction a process dies:
///
///   Producers   When shmkit_queue_put returns SHMKIT_OK, the message is in the queue, and it stays
///               there if its producer dies. If a producer dies inside the call, consumers see the
///               whole message or none of it. The messages of one shmkit_queue_put_many appear all
///               at once, with nothing between them.
///   Consumers   Each message is taken once, without delay unless an earlier message is still
///               reserved. If a consumer dies inside shmkit_queue_get before it has taken the
///               message, another consumer gets it. If the consumer dies later, the message is
///               lost, as if the consumer had died right after the call. shmkit_queue_lease
///               prevents that.
///   Leases      If a consumer dies between shmkit_queue_lease and shmkit_queue_ack, another
///               consumer gets the message; a new lease then sees attempts 1 higher. The bytes of a
///               lease do not change until ack or nack, unless a process that can write to the
///               queue breaks the rules.
///   Order       Messages come in the order of put and reserve; those of one producer in its own
///               order. A message that is redelivered after a lease comes later than the messages
///               that were taken meanwhile.
///   Waiting     No call waits for a dead process: a waiting call checks at least every 12 ms
///               whether the process that it waits for is alive. A call does wait for a live
///               process that was stopped (SIGSTOP) inside a call. That wait may take a quarter of a
///               second, even with SHMKIT_NOWAIT or a shorter timeout. A message that a live
///               producer has reserved and not committed blocks all messages behind it. So does a
///               message of 64 KiB or more while it is put. shmkit_queue_stat returns the process
///               that blocks the queue.
///   Memory      A queue with a file of its own occupies as much memory as its deepest backlog
///               needed. It checks its use each time a consumer finds it empty, and at each new lap
///               of its ring. A check counts if the queue has more than 2 MiB, and more than four
///               times what was in use. After 64 such checks in a row, each check frees up to
///               64 MiB; at least 1 MiB stays. While a consumer waits, that takes seconds. No
///               memory is freed while no process uses the queue. Memory in use is always reserved:
///               if none is left, a put fails with SHMKIT_ERR_NO_SPACE, and no message is lost.
///   Corruption  The queue checks its own bytes at each step. If another process has overwritten
///               them, a call fails with SHMKIT_ERR_CORRUPT; it never crashes.
///   Shutdown    After shmkit_queue_shutdown every put fails with SHMKIT_ERR_SHUT_DOWN, and so does
///               a get when no message is left. SHMKIT_ERR_CLOSED is another error: a closed
///               handle.
///   Threads     All threads of a process may use a handle at once, and so may forked children. A
///               child holds none of the reservations and leases of its parent.
///   Size        The capacity and 704 bytes, so a multiple of 64 only if the capacity is. A placed
///               queue never occupies more.
///   Options     shmkit_queue_open_or_create and shmkit_queue_create_at compare capacity, maxsize,
///               max_bytes, SHMKIT_QUEUE_FAIL and SHMKIT_QUEUE_OVERWRITE; a capacity of 0 means its
///               default. The other opens accept any valid values, and the queue keeps its own. If
///               RLIMIT_AS leaves too little address space, shmkit_queue_create fails with
///               SHMKIT_ERR_NO_MEMORY: give a smaller capacity.
///   Close       When a process has closed its last handle of the queue and of its segment, it
///               counts as dead. Messages that it has reserved are skipped. Messages that it has
///               leased go to other consumers.
#[allow(non_camel_case_types)]
pub struct shmkit_queue {
    _opaque: (),
}

/// In shmkit_queue_options: a put without room fails with SHMKIT_ERR_FULL at once, whatever its
/// timeout.
pub const SHMKIT_QUEUE_FAIL: u32 = 0x10000;
/// In shmkit_queue_options: a put without room discards the oldest available messages to make
/// room.
pub const SHMKIT_QUEUE_OVERWRITE: u32 = 0x40000;
/// In shmkit_queue_info: the queue was shut down.
pub const SHMKIT_QUEUE_SHUTDOWN: u32 = 0x80000;
/// For shmkit_queue_put_many: put all messages or none.
pub const SHMKIT_QUEUE_ALL: u32 = 0x200000;

/// For shmkit_queue_fileno: the descriptor is readable while there may be a message.
pub const SHMKIT_QUEUE_MESSAGES: u32 = 0;
/// For shmkit_queue_fileno: the descriptor is readable while there may be room for a message.
pub const SHMKIT_QUEUE_ROOM: u32 = 1;

/// How to create or open a queue. NULL, or zeros after struct_size, mean a queue without bounds, on
/// which no put blocks. A placed queue then has a capacity of 65536 bytes.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_queue_options {
    /// sizeof(shmkit_queue_options).
    pub struct_size: u32,
    /// SHMKIT_QUEUE_FAIL or SHMKIT_QUEUE_OVERWRITE, not both; SHMKIT_TRUST and SHMKIT_EXCLUSIVE;
    /// or-ed. Without the first two a put without room waits.
    pub flags: u32,
    /// Permission bits of a new queue with a file of its own, 1 to 0777, whatever the umask.
    /// 0: 0600.
    pub mode: u32,
    /// The number of processes that can use a new queue with a file of its own at a time, 1 to 4096.
    /// 0: 128.
    pub participants: u32,
    /// The directory of a named queue. NULL: SHMKIT_DIR, else /dev/shm.
    pub directory: *const c_char,
    /// The capacity in bytes, a multiple of 32 from 1024 to 2^46. A message occupies its size and 32
    /// bytes, rounded up to a multiple of 32. Its size is at most half the capacity. 0: 64 GiB of
    /// address space, where only the part in use has memory; for a placed queue: 65536 bytes, all of
    /// which have memory.
    pub capacity: u64,
    /// The maximum number of messages in the queue, without leased ones. 0: any number.
    pub maxsize: u64,
    /// The maximum of the bytes of those messages together. 0: any number.
    pub max_bytes: u64,
}

// SAFETY: repr(C), integers and one pointer, each at a multiple of its size: no padding; any bytes are a value. The
// pointer is followed only as the caller of the exported function guarantees.
unsafe impl Sized32 for shmkit_queue_options {
    const FIRST: usize = size_of::<shmkit_queue_options>();
}
const _: () = assert!(size_of::<shmkit_queue_options>() == 48);

/// A message for shmkit_queue_put_many.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_queue_message {
    /// The bytes of the message. May be NULL if size is 0.
    pub data: *const c_void,
    /// The number of bytes.
    pub size: u64,
}

/// The state of a queue. Each figure was true at some moment during the call; all are exact if no
/// process changes the queue meanwhile.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_queue_info {
    /// sizeof(shmkit_queue_info); on return, the number of bytes filled.
    pub struct_size: u32,
    /// SHMKIT_QUEUE_FAIL, SHMKIT_QUEUE_OVERWRITE and SHMKIT_QUEUE_SHUTDOWN, or-ed.
    pub flags: u32,
    /// The number of messages that wait for a consumer, including those behind a reserved message.
    pub messages: u64,
    /// The bytes of those messages.
    pub bytes: u64,
    /// The number of messages that are reserved and not committed, including those of dead
    /// processes.
    pub reserved: u64,
    /// The number of messages that are leased, including those of dead processes.
    pub leased: u64,
    /// The number of messages that were ever put or reserved.
    pub puts: u64,
    /// The number of messages that were ever got, leased, overwritten or skipped.
    pub gets: u64,
    /// The number of messages that were overwritten.
    pub overwritten: u64,
    /// The number of messages that were skipped, because their producer died or aborted them.
    pub skipped: u64,
    /// The number of times that a message was redelivered after a lease.
    pub redelivered: u64,
    /// The number of times that a consumer had to sleep.
    pub get_waits: u64,
    /// The number of times that a producer had to sleep.
    pub put_waits: u64,
    /// The bytes of memory that messages can use now.
    pub memory: u64,
    /// The capacity in bytes, as in shmkit_queue_options.
    pub capacity: u64,
    /// The maximum number of messages. 0: any number.
    pub maxsize: u64,
    /// The maximum of their bytes together. 0: any number.
    pub max_bytes: u64,
    /// The size of the largest possible message.
    pub largest: u64,
    /// The offset in the segment's data. 0: a queue with a file of its own.
    pub offset: u64,
    /// The ticket of the process that reserved the next message and has not committed it: its number
    /// among the participants of the segment. If it is dead, the next get skips the message. 0: the
    /// next message is available, or there is none.
    pub held_up_by_ticket: u64,
    /// The PID namespace of that process: the inode of /proc/PID/ns/pid. 0: none, or unknown.
    pub held_up_by_namespace: u64,
    /// The PID of that process in that namespace. 0: none, or unknown.
    pub held_up_by_pid: u32,
    /// Always 0.
    pub unused: u32,
}

// SAFETY: repr(C), nothing but integers, each at a multiple of its size: no padding, and any bytes are a value.
unsafe impl Sized32 for shmkit_queue_info {
    const FIRST: usize = size_of::<shmkit_queue_info>();
}
const _: () = assert!(size_of::<shmkit_queue_info>() == 168);

// SAFETY: the options begin with the fields of shmkit_object_options.
unsafe impl Object for Queue {
    type CSpec = shmkit_queue_options;
    const FLAGS: u32 = SHMKIT_QUEUE_FAIL | SHMKIT_QUEUE_OVERWRITE;

    fn options(spec: &shmkit_queue_options, file: FileOptions) -> Result<Options> {
        let overflow = match spec.flags & (SHMKIT_QUEUE_FAIL | SHMKIT_QUEUE_OVERWRITE) {
            0 => Overflow::Block,
            SHMKIT_QUEUE_FAIL => Overflow::Fail,
            SHMKIT_QUEUE_OVERWRITE => Overflow::Overwrite,
            _ => {
                return Err(Error::Invalid(
                    "options: SHMKIT_QUEUE_FAIL and SHMKIT_QUEUE_OVERWRITE must not be combined"
                        .into(),
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
}

/// Refuses NULL if there are bytes, and more bytes than the address space.
fn check_bytes<T>(data: *const T, size: u64, what: &'static str) -> Result<usize> {
    if size > 0 {
        check_pointer(data, what)?;
    }
    let length = usize::try_from(size).ok();
    length
        .filter(|&length| isize::try_from(length).is_ok())
        .ok_or_else(|| {
            Error::TooLarge(
                format!("{what}: {size} bytes are more than the address space; pass the true size")
                    .into(),
            )
        })
}

/// Returns the caller's `count` values; an empty slice if `count` is 0.
///
/// # Safety
/// `data` must be NULL, or point to `count` readable values that no thread writes during the call.
#[inline(always)]
unsafe fn values<'a, T>(data: *const T, count: u64, what: &'static str) -> Result<&'a [T]> {
    let bytes = count.saturating_mul(size_of::<T>() as u64);
    let length = check_bytes(data, bytes, what)? / size_of::<T>();
    let data = if length == 0 {
        std::ptr::dangling()
    } else {
        data
    };
    // SAFETY: not NULL, aligned, and no longer than an address space (checked above); the caller guarantees the rest.
    Ok(unsafe { std::slice::from_raw_parts(data, length) })
}

/// Returns the bytes of the caller's message.
///
/// # Safety
/// As for `values`.
#[inline(always)]
unsafe fn message<'a>(data: *const c_void, size: u64) -> Result<&'a [u8]> {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { values(data.cast(), size, "data") }
}

/// Returns the caller's memory for `count` values; an empty slice if `count` is 0.
///
/// # Safety
/// `buffer` must be NULL, or have room for `count` values that no other thread uses during the call.
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
    // SAFETY: not NULL, aligned, and no longer than an address space (checked above); the caller guarantees the rest.
    Ok(unsafe { std::slice::from_raw_parts_mut(buffer.cast(), length) })
}

/// Returns what `message` does, for short messages that are not NULL.
///
/// # Safety
/// As for `message`.
#[inline(always)]
unsafe fn easy_message<'a>(data: *const c_void, size: u64) -> Option<&'a [u8]> {
    if data.is_null() || size >= LARGE_MESSAGE {
        return None;
    }
    // SAFETY: not NULL, and short (checked above); the caller guarantees the rest.
    Some(unsafe { std::slice::from_raw_parts(data.cast(), size as usize) })
}

/// Returns what `room` does, for a buffer that is not NULL; of a large buffer only the beginning.
///
/// # Safety
/// As for `room`.
#[inline(always)]
unsafe fn easy_room<'a>(buffer: *mut c_void, capacity: u64) -> Option<&'a mut [MaybeUninit<u8>]> {
    if buffer.is_null() {
        return None;
    }
    let length = capacity.min(LARGE_MESSAGE) as usize;
    // SAFETY: not NULL, and short (checked above); the caller guarantees the rest.
    Some(unsafe { std::slice::from_raw_parts_mut(buffer.cast(), length) })
}

/// Puts a message at the end of the queue, and waits for room.
///
/// The message is in the queue if and only if the call returns SHMKIT_OK. The consumer that gets the
/// message sees all that the caller has written to memory before.
///
///   data        the bytes of the message; may be NULL if size is 0
///   size        its size, at most half the capacity, and at most max_bytes unless that is 0
///   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
///   flags       SHMKIT_INTERRUPTIBLE or 0
///
///   SHMKIT_ERR_FULL                no room, and SHMKIT_NOWAIT was given or the queue has
///                                  SHMKIT_QUEUE_FAIL. With SHMKIT_QUEUE_OVERWRITE: there is no
///                                  room even after all discardable messages are discarded
///   SHMKIT_ERR_TIMEOUT             the timeout expired without room
///   SHMKIT_ERR_INTERRUPTED         the interrupt hook ended the call
///   SHMKIT_ERR_TOO_LARGE           size is more than half the capacity, or than max_bytes
///   SHMKIT_ERR_NO_SPACE            the queue would have to grow, and no memory is left. Its
///                                  messages stay, and consumers can get them
///   SHMKIT_ERR_SHUT_DOWN           the queue was shut down
///   SHMKIT_ERR_WOULD_BLOCK         a live process has been stopped inside a call for a quarter
///                                  of a second, and SHMKIT_NOWAIT was given
///   SHMKIT_ERR_INVALID             a negative timeout other than SHMKIT_FOREVER, or an unknown
///                                  flag
///   SHMKIT_ERR_TOO_MANY_PROCESSES  the segment has no room for another process
///   SHMKIT_ERR_LIVENESS_UNKNOWN    this process has lost all descriptors of the segment
///                                  (closefrom), and cannot find out which processes are alive
///   SHMKIT_ERR_PERMISSION          this user may not write to the file of the segment
///   SHMKIT_ERR_NO_MEMORY           the kernel has no memory for growth, or no address space is
///                                  left at the first use of the segment
///   SHMKIT_ERR_CORRUPT             the shared bytes of the segment are corrupt
///
/// # Safety
/// `queue` must be NULL or a handle of this library that no other thread is closing; `data` NULL with a size of 0, or
/// readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_put(
    queue: *mut shmkit_queue,
    data: *const c_void,
    size: u64,
    timeout_ns: i64,
    flags: u32,
) -> shmkit_status {
    // The path that cannot panic comes first: an uncontended put is a copy and two exchanges.
    if wait::is_valid(timeout_ns, flags)
        // SAFETY: the caller guarantees it (see # Safety).
        && let Some(queue) = unsafe { Handle::<Queue>::peek(queue.cast()) }
        // SAFETY: the caller guarantees it (see # Safety).
        && let Some(message) = unsafe { easy_message(data, size) }
        && queue.fast_put(message)
    {
        return SHMKIT_OK;
    }
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { put_slow(queue, data, size, timeout_ns, flags) }
}

/// The exported function with the C calling convention, so that the call compiles to a jump.
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
        // SAFETY: the caller guarantees it (see # Safety).
        let message = unsafe { message(data, size) }?;
        queue.put_with(message, wait::options(timeout_ns, flags)?)
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(queue, body) }
}

/// Removes the first message and copies it to `buffer`; waits for a message.
///
/// The message is taken, and no other consumer gets it, if and only if the call returns SHMKIT_OK.
///
///   buffer      gets the message; may be NULL if capacity is 0
///   capacity    the size of buffer in bytes
///   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
///   flags       SHMKIT_INTERRUPTIBLE or 0
///   size        gets the size of the message in bytes
///
///   SHMKIT_ERR_EMPTY               no message is available, and SHMKIT_NOWAIT was given
///   SHMKIT_ERR_TIMEOUT             the timeout expired without a message
///   SHMKIT_ERR_INTERRUPTED         the interrupt hook ended the call
///   SHMKIT_ERR_TOO_LARGE           the message has more than `capacity` bytes, and is still in the
///                                  queue. shmkit_queue_peek returns its size
///   SHMKIT_ERR_SHUT_DOWN           the queue was shut down, no message is left, and no other
///                                  process has a lease that it may return
///   SHMKIT_ERR_WOULD_BLOCK         a live process has been stopped inside a call for a quarter
///                                  of a second, and SHMKIT_NOWAIT was given
///   SHMKIT_ERR_INVALID             a negative timeout other than SHMKIT_FOREVER, or an unknown
///                                  flag
///   SHMKIT_ERR_TOO_MANY_PROCESSES, SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_PERMISSION,
///   SHMKIT_ERR_NO_MEMORY, SHMKIT_ERR_CORRUPT  as for shmkit_queue_put
///
/// # Safety
/// `queue` must be NULL or a handle of this library that no other thread is closing; `buffer` NULL with a capacity of 0,
/// or writable; `size` NULL or writable.
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
        // SAFETY: the caller guarantees it (see # Safety).
        && let Some(queue) = unsafe { Handle::<Queue>::peek(queue.cast()) }
        // SAFETY: the caller guarantees it (see # Safety).
        && let Some(buffer) = unsafe { easy_room(buffer, capacity) }
        && let Some(length) = queue.fast_get(buffer)
    {
        // SAFETY: neither NULL nor unaligned (checked above); the caller guarantees that it is writable.
        unsafe { size.write(length) };
        return SHMKIT_OK;
    }
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { get_slow(queue, buffer, capacity, timeout_ns, flags, size) }
}

/// The exported function with the C calling convention, so that the call compiles to a jump.
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
        // SAFETY: the caller guarantees it (see # Safety).
        let size = unsafe { output(size, "size") }?;
        // SAFETY: the caller guarantees it (see # Safety).
        let buffer = unsafe { room(buffer.cast::<u8>(), capacity, "buffer") }?;
        let taken = queue.get_into_with(buffer, wait::options(timeout_ns, flags)?)?;
        size.write(taken.length);
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(queue, body) }
}

/// Copies the beginning of the first message to `buffer`, and leaves the message in the queue.
///
///   buffer    gets as much of the message as fits; may be NULL if capacity is 0
///   size      gets the size of the whole message in bytes
///
/// Another consumer may take the message before the caller gets it. Other parameters and the errors
/// are those of shmkit_queue_get, except SHMKIT_ERR_TOO_LARGE.
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
        // SAFETY: the caller guarantees it (see # Safety).
        let size = unsafe { output(size, "size") }?;
        // SAFETY: the caller guarantees it (see # Safety).
        let buffer = unsafe { room(buffer.cast::<u8>(), capacity, "buffer") }?;
        let seen = queue.peek_into_with(buffer, wait::options(timeout_ns, flags)?)?;
        size.write(seen.length);
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(queue, body) }
}

/// Puts `count` messages in a row, with nothing between them.
///
///   messages    their bytes and sizes; may be NULL if count is 0
///   count       the number of messages; 0 puts nothing
///   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
///   flags       SHMKIT_INTERRUPTIBLE and SHMKIT_QUEUE_ALL, or-ed, or 0. With SHMKIT_QUEUE_ALL the
///               call puts all messages or none, and waits for room for all. Without it the call
///               waits for room for the first, and puts as many as there is room for
///   put         gets the number of messages that were put, from the first on
///
///   SHMKIT_ERR_TOO_LARGE  one of the messages is too large for shmkit_queue_put. Or, with
///                         SHMKIT_QUEUE_ALL, all together occupy more than half the capacity, have
///                         more than max_bytes, or are more than maxsize
///   and the errors of shmkit_queue_put
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
        // SAFETY: the caller guarantees it (see # Safety).
        let put = unsafe { output(put, "put") }?;
        // SAFETY: the caller guarantees it (see # Safety).
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
            // SAFETY: the caller guarantees it (see # Safety); NULL with a size above 0 was refused above.
            unsafe { message(spec.data, spec.size) }.unwrap_or_default()
        });
        put.write(queue.put_many_with(messages, batch, options)?);
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(queue, body) }
}

/// Removes the first messages and copies them to `buffer`, one behind the other.
///
/// The call waits for the first message. It then takes as many as are available and fit.
///
///   buffer      gets the messages; may be NULL if capacity is 0
///   capacity    the size of buffer in bytes
///   sizes       gets the size of each message in bytes; may be NULL if max_items is 0
///   max_items   the maximum number of messages to take; 0 takes none
///   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
///   flags       SHMKIT_INTERRUPTIBLE or 0
///   count       gets the number of messages that were taken
///
///   SHMKIT_ERR_TOO_LARGE  the first message alone has more than `capacity` bytes
///   and the errors of shmkit_queue_get
///
/// # Safety
/// `queue` must be NULL or a handle of this library that no other thread is closing. `buffer` must be NULL with a
/// capacity of 0, or writable. `sizes` must be NULL with a `max_items` of 0, or have room for as many. `count` must be
/// NULL or writable.
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
        // SAFETY: the caller guarantees it (see # Safety).
        let count = unsafe { output(count, "count") }?;
        // SAFETY: the caller guarantees it (see # Safety).
        let buffer = unsafe { room(buffer.cast::<u8>(), capacity, "buffer") }?;
        // SAFETY: the caller guarantees it (see # Safety).
        let sizes = unsafe { room(sizes, max_items, "sizes") }?;
        let options = wait::options(timeout_ns, flags)?;
        count.write(queue.get_many_into_with(buffer, sizes, options)?);
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(queue, body) }
}

/// Reserves room for a message at the end of the queue, which the caller then fills in place.
///
/// The message already has its position in the order. Until shmkit_queue_commit or
/// shmkit_queue_abort, no consumer gets the messages behind it. If the process ends before that, the
/// message is skipped. The memory may be written until the commit, and only while the handle is
/// open. Its initial contents are those of earlier messages.
///
///   size        the maximum size of the message in bytes
///   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
///   flags       SHMKIT_INTERRUPTIBLE or 0
///   data        gets the address of the memory, a multiple of 32
///   token       gets the number for shmkit_queue_commit and shmkit_queue_abort
///
/// The errors are those of shmkit_queue_put.
///
/// # Safety
/// `queue` must be NULL or a handle of this library that no other thread is closing; `data` and `token` NULL or
/// writable.
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
        // SAFETY: the caller guarantees it (see # Safety).
        let data = unsafe { output(data, "data") }?;
        // SAFETY: the caller guarantees it (see # Safety).
        let token = unsafe { output(token, "token") }?;
        let place = queue.reserve_with(size, wait::options(timeout_ns, flags)?)?;
        let address = queue.address(place.offset, place.room)?;
        data.write(address.as_ptr().cast());
        token.write(place.token);
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(queue, body) }
}

/// Puts a reserved message into the queue, with the first `size` bytes of its memory.
///
/// The consumer that gets the message sees all that was written there.
///
///   SHMKIT_ERR_NOT_OWNER  the token is unknown, was committed or aborted before, or belongs to
///                         another process
///   SHMKIT_ERR_INVALID    size is more than was reserved; the message stays reserved
///   SHMKIT_ERR_TOO_MANY_PROCESSES, SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_PERMISSION,
///   SHMKIT_ERR_NO_MEMORY, SHMKIT_ERR_CORRUPT  as for shmkit_queue_put
///
/// # Safety
/// `queue` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_commit(
    queue: *mut shmkit_queue,
    token: u64,
    size: u64,
) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(queue, |queue: &Queue| queue.commit(token, size)) }
}

/// Aborts a reserved message: no consumer gets it.
///
/// The errors are those of shmkit_queue_commit, except SHMKIT_ERR_INVALID.
///
/// # Safety
/// As for shmkit_queue_commit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_abort(queue: *mut shmkit_queue, token: u64) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(queue, |queue: &Queue| queue.abort(token)) }
}

/// Takes the first message, which the caller then reads in place.
///
/// Until shmkit_queue_ack or shmkit_queue_nack no other consumer gets the message; other consumers
/// get the messages behind it. If the process ends before that, another consumer gets the message. A
/// consumer that waits gets it at most 12 ms after the kernel has torn the process down. While other
/// messages are available, consumers look for such leases once per 64 messages, at 512 records each.
///
/// The bytes may be read until ack or nack, and only while the handle is open. Their memory is not
/// reused during the lease: a long lease keeps the messages behind it in memory too. A lease belongs
/// to the process. Closing the handle does not end the lease while another handle of the queue is
/// open.
///
///   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
///   flags       SHMKIT_INTERRUPTIBLE or 0
///   data        gets the address of the bytes, a multiple of 32
///   size        gets the size of the message in bytes
///   token       gets the number for shmkit_queue_ack and shmkit_queue_nack
///   attempts    (may be NULL) the number of times that the message was leased, this time included.
///               65535 means that many or more
///
/// The errors are those of shmkit_queue_get, except SHMKIT_ERR_TOO_LARGE.
///
/// # Safety
/// `queue` must be NULL or a handle of this library that no other thread is closing; `data`, `size` and `token` NULL or
/// writable; `attempts` NULL or writable.
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
        // SAFETY: the caller guarantees it (see # Safety).
        let data = unsafe { output(data, "data") }?;
        // SAFETY: the caller guarantees it (see # Safety).
        let size = unsafe { output(size, "size") }?;
        // SAFETY: the caller guarantees it (see # Safety).
        let token = unsafe { output(token, "token") }?;
        // SAFETY: the caller guarantees it (see # Safety).
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
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(queue, body) }
}

/// Ends a lease and removes the message: no consumer gets it again.
///
///   SHMKIT_ERR_NOT_OWNER  the token is unknown, its lease was ended before, or it belongs to
///                         another process
///   SHMKIT_ERR_TOO_MANY_PROCESSES, SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_PERMISSION,
///   SHMKIT_ERR_NO_MEMORY, SHMKIT_ERR_CORRUPT  as for shmkit_queue_put
///
/// # Safety
/// `queue` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_ack(queue: *mut shmkit_queue, token: u64) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(queue, |queue: &Queue| queue.ack(token)) }
}

/// Ends a lease and returns the message: the next consumer gets it.
///
/// The errors are those of shmkit_queue_ack.
///
/// # Safety
/// As for shmkit_queue_ack.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_nack(queue: *mut shmkit_queue, token: u64) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(queue, |queue: &Queue| queue.nack(token)) }
}

/// Waits until every message has been taken, and none is reserved or leased.
///
/// If consumers acknowledge finished work, this is the end of all work. A message whose consumer
/// died during a lease is not finished: it waits for the next consumer.
///
///   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
///   flags       SHMKIT_INTERRUPTIBLE or 0
///
///   SHMKIT_ERR_WOULD_BLOCK  messages are left, and SHMKIT_NOWAIT was given
///   SHMKIT_ERR_TIMEOUT      the timeout expired, and messages are left
///   SHMKIT_ERR_INTERRUPTED  the interrupt hook ended the call
///   SHMKIT_ERR_INVALID      a negative timeout other than SHMKIT_FOREVER, or an unknown flag
///   SHMKIT_ERR_TOO_MANY_PROCESSES, SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_PERMISSION,
///   SHMKIT_ERR_NO_MEMORY, SHMKIT_ERR_CORRUPT  as for shmkit_queue_put
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
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(queue, body) }
}

/// Shuts the queue down for all processes and forever: every put that begins later fails.
///
/// Producers that wait for room get SHMKIT_ERR_SHUT_DOWN. Consumers get the remaining messages, and
/// then SHMKIT_ERR_SHUT_DOWN. A put in progress may still succeed, and until it ends no consumer
/// gets SHMKIT_ERR_SHUT_DOWN. Messages that were reserved before can be committed, and leases can be
/// acknowledged. A second shutdown changes nothing.
///
///   SHMKIT_ERR_TOO_MANY_PROCESSES, SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_PERMISSION,
///   SHMKIT_ERR_NO_MEMORY, SHMKIT_ERR_CORRUPT  as for shmkit_queue_put
///
/// # Safety
/// `queue` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_shutdown(queue: *mut shmkit_queue) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(queue, Queue::shut_down) }
}

/// Returns a descriptor for poll, select and event loops.
///
///   what  SHMKIT_QUEUE_MESSAGES: readable while there may be a message; or SHMKIT_QUEUE_ROOM:
///         readable while there may be room for one. Any process may have put or taken it
///   fd    gets the descriptor. It belongs to the handle: only poll it, do not read or close it
///
/// When it is readable, call the queue with SHMKIT_NOWAIT. If another consumer or producer was
/// faster, that call makes the descriptor unreadable again.
///
/// A thread of this process, which blocks all signals, watches the queue and checks it every 12 ms.
/// It starts at the first call. It ends, and closes the descriptor, at most 25 ms after the handle
/// is closed. A forked child must call this function again.
///
///   SHMKIT_ERR_INVALID      `what` is another number
///   SHMKIT_ERR_UNSUPPORTED  no thread or no descriptor is available
///   SHMKIT_ERR_NO_MEMORY    not enough memory for a thread or a descriptor
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
        // SAFETY: the caller guarantees it (see # Safety).
        let fd = unsafe { output(fd, "fd") }?;
        let what = match what {
            SHMKIT_QUEUE_MESSAGES => What::Messages,
            SHMKIT_QUEUE_ROOM => What::Room,
            _ => {
                return Err(Error::Invalid(
                    format!(
                        "what is {what}, but must be SHMKIT_QUEUE_MESSAGES or SHMKIT_QUEUE_ROOM"
                    )
                    .into(),
                ));
            }
        };
        fd.write(queue.notice(what)?);
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(queue, body) }
}

/// Returns 1 if an empty message would have to wait for room, else 0.
///
///   SHMKIT_ERR_WOULD_BLOCK  a process has been stopped inside a put for a quarter of a second
///   SHMKIT_ERR_TOO_MANY_PROCESSES, SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_PERMISSION,
///   SHMKIT_ERR_NO_MEMORY, SHMKIT_ERR_CORRUPT  as for shmkit_queue_put
///
/// # Safety
/// `queue` must be NULL or a handle of this library that no other thread is closing; `out` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_is_full(
    queue: *const shmkit_queue,
    out: *mut u32,
) -> shmkit_status {
    let body = |queue: &Queue| {
        // SAFETY: the caller guarantees it (see # Safety).
        let out = unsafe { output(out, "out") }?;
        out.write(queue.is_full()?.into());
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(queue, body) }
}

/// Returns the state of the queue. The call waits for no process and changes nothing.
///
///   SHMKIT_ERR_LIVENESS_UNKNOWN  a message is reserved or leased, and this process has lost the
///                                descriptor of the segment (closefrom)
///   SHMKIT_ERR_CORRUPT           the shared bytes of the queue are corrupt
///
/// # Safety
/// `queue` must be NULL or a handle of this library; `out` NULL or a struct whose struct_size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_queue_stat(
    queue: *const shmkit_queue,
    out: *mut shmkit_queue_info,
) -> shmkit_status {
    let body = |queue: &Queue| {
        // SAFETY: the caller guarantees it (see # Safety).
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
            flags: overflow
                | if stat.shut_down {
                    SHMKIT_QUEUE_SHUTDOWN
                } else {
                    0
                },
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
        // SAFETY: checked above; the caller guarantees that it is writable.
        unsafe { structure::write(out, info) };
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(queue, body) }
}

include!(concat!(env!("OUT_DIR"), "/object_queue.rs"));
