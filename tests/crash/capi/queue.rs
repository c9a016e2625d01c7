//! The functions of queues.

use crate::suite::capi::segment::Segment;
use crate::suite::capi::{FOREVER, NOWAIT, Status, TIMEOUT, Way, check, object_at};
use crate::suite::harness::fixture::NAME;
use crate::suite::harness::library::{Library, functions, pointer};
use shmkit::capi::queue::{SHMKIT_QUEUE_ALL, shmkit_queue_info, shmkit_queue_message};
use shmkit::capi::queue::{SHMKIT_QUEUE_OVERWRITE, shmkit_queue_options};
use shmkit::capi::segment::shmkit_segment;
use std::ffi::{CStr, c_char, c_void};

/// The number of idle laps in a row before a queue releases memory (src/raw/queue/memory.rs).
pub const IDLE_LAPS: usize = 64;

functions! {
    Queues:
    create(*const c_char, *const shmkit_queue_options, *mut *mut c_void);
    open(*const c_char, *const shmkit_queue_options, *mut *mut c_void);
    open_or_create(*const c_char, *const shmkit_queue_options, *mut *mut c_void);
    create_at(*const shmkit_segment, u64, *const shmkit_queue_options, *mut *mut c_void);
    open_at(*const shmkit_segment, u64, *const shmkit_queue_options, *mut *mut c_void);
    segment(*const c_void, *mut *mut shmkit_segment);
    put(*mut c_void, *const c_void, u64, i64, u32);
    get(*mut c_void, *mut c_void, u64, i64, u32, *mut u64);
    peek(*mut c_void, *mut c_void, u64, i64, u32, *mut u64);
    put_many(*mut c_void, *const shmkit_queue_message, u64, i64, u32, *mut u64);
    get_many(*mut c_void, *mut c_void, u64, *mut u64, u64, i64, u32, *mut u64);
    reserve(*mut c_void, u64, i64, u32, *mut *mut c_void, *mut u64);
    commit(*mut c_void, u64, u64);
    abort(*mut c_void, u64);
    lease(*mut c_void, i64, u32, *mut *const c_void, *mut u64, *mut u64, *mut u32);
    ack(*mut c_void, u64);
    nack(*mut c_void, u64);
    join(*mut c_void, i64, u32);
    shutdown(*mut c_void);
    is_full(*const c_void, *mut u32);
    stat(*const c_void, *mut shmkit_queue_info);
    unlink(*const c_void);
    close(*mut c_void);
}

/// The options of a queue.
#[derive(Clone, Copy)]
pub struct Shape {
    /// As in shmkit_queue_options.
    pub capacity: u64,
    /// As in shmkit_queue_options.
    pub maxsize: u64,
    /// Whether a put without room overwrites the oldest messages.
    pub overwrites: bool,
}

/// The number of processes that may use it: victim, bystander, waiter, survivor; or workers and their auditor.
pub const PARTICIPANTS: u32 = 5;

impl Shape {
    fn options(self) -> shmkit_queue_options {
        shmkit_queue_options {
            struct_size: size_of::<shmkit_queue_options>() as u32,
            flags: match self.overwrites {
                true => SHMKIT_QUEUE_OVERWRITE,
                false => 0,
            },
            mode: 0,
            participants: PARTICIPANTS,
            // From SHMKIT_DIR.
            directory: std::ptr::null(),
            capacity: self.capacity,
            maxsize: self.maxsize,
            max_bytes: 0,
        }
    }
}

/// An open queue.
#[derive(Clone, Copy)]
pub struct Queue<'a> {
    functions: &'a Queues,
    handle: *mut c_void,
}

/// A message that is read in place.
pub struct Lease {
    /// Where its bytes are.
    pub data: *const u8,
    /// Their number.
    pub size: u64,
    /// The token for ack and nack.
    pub token: u64,
    /// The number of times that it was leased.
    pub attempts: u32,
}

impl<'a> Queue<'a> {
    /// Creates or opens the queue of this name; without a name it is created in the arena of this process.
    pub fn named(
        shmkit: &'a Library,
        name: Option<&CStr>,
        way: Way,
        shape: Shape,
    ) -> Result<Queue<'a>, Status> {
        let (functions, mut handle) = (&shmkit.queues, std::ptr::null_mut());
        let function = match way {
            Way::Create => functions.create,
            Way::Open => functions.open,
            Way::OpenOrCreate => functions.open_or_create,
        };
        // SAFETY: the name is NULL or ends with a NUL byte; options and output live through the call.
        check(unsafe { function(pointer(name), &shape.options(), &raw mut handle) })?;
        Ok(Queue { functions, handle })
    }

    /// Opens the queue under test.
    pub fn open(shmkit: &'a Library, shape: Shape) -> Result<Queue<'a>, Status> {
        Queue::named(shmkit, Some(NAME), Way::Open, shape)
    }

    /// Opens a queue at `offset` of the data, and creates it if `create`.
    pub fn at(
        shmkit: &'a Library,
        segment: Segment,
        offset: u64,
        shape: Shape,
        create: bool,
    ) -> Result<Queue<'a>, Status> {
        let functions = &shmkit.queues;
        let function = match create {
            true => functions.create_at,
            false => functions.open_at,
        };
        let handle = object_at(function, segment, offset, Some(&shape.options()))?;
        Ok(Queue { functions, handle })
    }

    /// Opens its segment.
    pub fn segment(&self) -> Result<Segment, Status> {
        let mut out = std::ptr::null_mut();
        // SAFETY: a Queue is an open handle; the output lives through the call.
        check(unsafe { (self.functions.segment)(self.handle, &raw mut out) })?;
        Ok(Segment(out))
    }

    /// Puts a message.
    pub fn put(&self, timeout: i64, bytes: &[u8]) -> Result<(), Status> {
        // SAFETY: a Queue is an open handle; the bytes live through the call.
        check(unsafe {
            (self.functions.put)(
                self.handle,
                bytes.as_ptr().cast(),
                bytes.len() as u64,
                timeout,
                0,
            )
        })
    }

    /// Gets a message; returns its length.
    pub fn get(&self, timeout: i64, buffer: &mut [u8]) -> Result<usize, Status> {
        self.copy(self.functions.get, timeout, buffer)
    }

    /// Copies the next message without taking it; returns its length.
    pub fn peek(&self, timeout: i64, buffer: &mut [u8]) -> Result<usize, Status> {
        self.copy(self.functions.peek, timeout, buffer)
    }

    fn copy(
        &self,
        function: unsafe extern "C" fn(*mut c_void, *mut c_void, u64, i64, u32, *mut u64) -> Status,
        timeout: i64,
        buffer: &mut [u8],
    ) -> Result<usize, Status> {
        let mut size = 0;
        let (place, room) = (buffer.as_mut_ptr().cast(), buffer.len() as u64);
        // SAFETY: as in `put`; the buffer has `room` bytes.
        check(unsafe { function(self.handle, place, room, timeout, 0, &raw mut size) })?;
        Ok(size as usize)
    }

    /// Puts several messages, all or none.
    pub fn put_many(&self, timeout: i64, messages: &[Vec<u8>]) -> Result<u64, Status> {
        let given: Vec<_> = messages
            .iter()
            .map(|bytes| shmkit_queue_message {
                data: bytes.as_ptr().cast(),
                size: bytes.len() as u64,
            })
            .collect();
        let (all, count, mut put) = (SHMKIT_QUEUE_ALL, given.len() as u64, 0);
        // SAFETY: as in `put`.
        check(unsafe {
            (self.functions.put_many)(
                self.handle,
                given.as_ptr(),
                count,
                timeout,
                all,
                &raw mut put,
            )
        })?;
        Ok(put)
    }

    /// Gets several messages; returns their number.
    pub fn get_many(
        &self,
        timeout: i64,
        buffer: &mut [u8],
        sizes: &mut [u64],
    ) -> Result<usize, Status> {
        let mut count = 0;
        // SAFETY: as in `get`; there is room for `sizes.len()` sizes.
        check(unsafe {
            (self.functions.get_many)(
                self.handle,
                buffer.as_mut_ptr().cast(),
                buffer.len() as u64,
                sizes.as_mut_ptr(),
                sizes.len() as u64,
                timeout,
                0,
                &raw mut count,
            )
        })?;
        Ok(count as usize)
    }

    /// Reserves room; returns its address, and the token.
    pub fn reserve(&self, timeout: i64, size: u64) -> Result<(*mut u8, u64), Status> {
        let (mut data, mut token) = (std::ptr::null_mut(), 0);
        // SAFETY: as in `put`; the outputs live through the call.
        check(unsafe {
            (self.functions.reserve)(self.handle, size, timeout, 0, &raw mut data, &raw mut token)
        })?;
        Ok((data.cast(), token))
    }

    /// Commits a reservation.
    pub fn commit(&self, token: u64, size: u64) -> Result<(), Status> {
        // SAFETY: a Queue is an open handle.
        check(unsafe { (self.functions.commit)(self.handle, token, size) })
    }

    /// Gives a reservation up.
    pub fn abort(&self, token: u64) -> Result<(), Status> {
        // SAFETY: as in `commit`.
        check(unsafe { (self.functions.abort)(self.handle, token) })
    }

    /// Leases a message.
    pub fn lease(&self, timeout: i64) -> Result<Lease, Status> {
        let (mut data, mut size, mut token, mut attempts) = (std::ptr::null(), 0, 0, 0);
        // SAFETY: as in `reserve`.
        check(unsafe {
            (self.functions.lease)(
                self.handle,
                timeout,
                0,
                &raw mut data,
                &raw mut size,
                &raw mut token,
                &raw mut attempts,
            )
        })?;
        Ok(Lease {
            data: data.cast(),
            size,
            token,
            attempts,
        })
    }

    /// Acknowledges a lease.
    pub fn ack(&self, token: u64) -> Result<(), Status> {
        // SAFETY: as in `commit`.
        check(unsafe { (self.functions.ack)(self.handle, token) })
    }

    /// Returns a lease.
    pub fn nack(&self, token: u64) -> Result<(), Status> {
        // SAFETY: as in `commit`.
        check(unsafe { (self.functions.nack)(self.handle, token) })
    }

    /// Waits until all messages are taken.
    pub fn join(&self, timeout: i64) -> Result<(), Status> {
        // SAFETY: as in `commit`.
        check(unsafe { (self.functions.join)(self.handle, timeout, 0) })
    }

    /// Shuts the queue down.
    pub fn shutdown(&self) -> Result<(), Status> {
        // SAFETY: as in `commit`.
        check(unsafe { (self.functions.shutdown)(self.handle) })
    }

    /// Returns whether a put of an empty message would wait.
    pub fn is_full(&self) -> Result<bool, Status> {
        let mut out = 7;
        // SAFETY: as in `commit`; the output lives through the call.
        check(unsafe { (self.functions.is_full)(self.handle, &raw mut out) })?;
        Ok(out != 0)
    }

    /// Returns its counters.
    pub fn stat(&self) -> Result<shmkit_queue_info, Status> {
        // SAFETY: it consists of integers, for which zero is a value.
        let mut out: shmkit_queue_info = unsafe { std::mem::zeroed() };
        out.struct_size = size_of::<shmkit_queue_info>() as u32;
        // SAFETY: as in `is_full`; out has its size set.
        check(unsafe { (self.functions.stat)(self.handle, &raw mut out) })?;
        Ok(out)
    }

    /// Removes its name.
    pub fn unlink(&self) -> Result<(), Status> {
        // SAFETY: as in `commit`.
        check(unsafe { (self.functions.unlink)(self.handle) })
    }

    /// Closes the handle.
    pub fn close(&self) -> Result<(), Status> {
        // SAFETY: as in `commit`; a handle is closed once.
        check(unsafe { (self.functions.close)(self.handle) })
    }
}

/// The offset of the queue used by the first calls, apart from those of other objects.
const WARM_UP: u64 = 4096;
/// The smallest queue.
const SMALLEST: Shape = Shape {
    capacity: 1024,
    maxsize: 2,
    overwrites: false,
};

impl Library {
    /// Calls each function of queues once.
    pub fn warm_up_queues(&self, segment: Segment) -> Result<(), Status> {
        Queue::at(self, segment, WARM_UP, SMALLEST, true)?.close()?;
        Queue::at(self, segment, WARM_UP, SMALLEST, false)?.warm_up()?;
        for way in [Way::Create, Way::Open, Way::OpenOrCreate] {
            let queue = Queue::named(self, Some(c"warm-up-queue"), way, SMALLEST)?;
            self.close(queue.segment()?);
            if way == Way::OpenOrCreate {
                queue.unlink()?;
            }
            queue.close()?;
        }
        Ok(())
    }
}

impl Queue<'_> {
    /// Calls each function of an open queue once.
    fn warm_up(&self) -> Result<(), Status> {
        let (mut buffer, mut sizes) = ([0; 64], [0; 2]);
        assert_eq!(self.get(1, &mut buffer), Err(TIMEOUT), "it is empty");
        self.put(FOREVER, b"first")?;
        self.put_many(FOREVER, &[b"second".to_vec()])?;
        assert_eq!(self.put(1, b"third"), Err(TIMEOUT), "it is full");
        assert_eq!(self.join(1), Err(TIMEOUT), "it is not finished");
        self.peek(FOREVER, &mut buffer)?;
        self.nack(self.lease(FOREVER)?.token)?;
        self.ack(self.lease(FOREVER)?.token)?;
        self.get_many(FOREVER, &mut buffer, &mut sizes)?;
        self.abort(self.reserve(FOREVER, 8)?.1)?;
        self.commit(self.reserve(FOREVER, 8)?.1, 8)?;
        self.get(FOREVER, &mut buffer)?;
        self.is_full()?;
        self.join(NOWAIT)?;
        self.stat()?;
        self.shutdown()?;
        self.close()
    }
}
