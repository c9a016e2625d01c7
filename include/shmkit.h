/*
 * shmkit: shared memory, locks and queues for Linux that survive the death of any process.
 *
 * Any process may be killed at any instruction, and the others continue: no lock stays held, no
 * acknowledged message is lost, nothing leaks.
 *
 *   #include <shmkit.h>                     cc frames.c $(pkg-config --cflags --libs shmkit)
 *
 *   shmkit_segment *segment;
 *   void *data;
 *   if (shmkit_segment_create("frames", 1 << 20, NULL, &segment) == SHMKIT_OK
 *       && shmkit_segment_data(segment, &data) == SHMKIT_OK)
 *       memset(data, 42, 1 << 20);
 *   shmkit_segment_close(segment);          unmaps the segment; its name stays
 *
 * Contents
 *
 *   Status
 *   Version
 *   Interrupt hook
 *   Timeouts
 *   Limits
 *   Segments
 *   Objects
 *   Locks
 *   Recursive locks
 *   Readers-writer locks
 *   Semaphores
 *   Conditions
 *   Events
 *   Barriers
 *   Once flags
 *   Queues
 *
 * Rules that hold for every function
 *
 * Results     A function returns a shmkit_status: SHMKIT_OK, or a negative SHMKIT_ERR_ number. It
 *             writes its outputs, which come last, only on SHMKIT_OK, unless it says otherwise.
 *             shmkit_last_error describes the last failure on a thread, with names and figures.
 * Arguments   The order is: handle, inputs, timeout, flags, outputs.
 * Pointers    Each pointer must be NULL or valid for what the function reads or writes there: a C
 *             string, an output, a struct whose struct_size is set, a buffer of the given size.
 *             NULL where a value is needed is SHMKIT_ERR_INVALID.
 * Handles     Types such as shmkit_segment are used by pointer only. The program closes each handle
 *             that it opens. A NULL, closed or wrong handle is an error, not a crash, until 1024
 *             more handles have been closed; any other pointer is undefined. Closing NULL is
 *             SHMKIT_OK.
 * Threads     Any thread may use any handle. To close a handle while another thread uses it is
 *             undefined.
 * Fork        A child inherits its parent's mappings and may use and close its handles. It owns
 *             none of what its parent holds.
 * Signals     A call continues after a signal handler returns, unless SHMKIT_INTERRUPTIBLE was
 *             given.
 * Names       A name is a file in /dev/shm, in the directory of the variable SHMKIT_DIR, or in the
 *             directory that the options give. New files have mode 0600. A symbolic link is never
 *             followed.
 * Structs     Option and info structs begin with uint32_t struct_size, which the caller sets to
 *             sizeof the struct. Unknown flags and nonzero reserved fields are refused.
 * Death       If a process dies, a waiter learns of it at most 12 ms after the kernel has torn the
 *             process down.
 * Times       Timeouts are in nanoseconds, sizes in bytes.
 *
 * This file is generated from src/capi of the Rust sources: do not edit it.
 */

#ifndef SHMKIT_H
#define SHMKIT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* =================================================================================================
 * Status: codes, their sentences, and the last failure of a thread.
 * ================================================================================================= */

#ifndef SHMKIT_TYPES

/**
 * What most functions return: SHMKIT_OK, or one of the negative SHMKIT_ERR_... numbers. Outputs are written only on
 * SHMKIT_OK, unless the function says otherwise. The numbers never change.
 */
typedef int32_t shmkit_status;

/** Done. */
#define SHMKIT_OK 0

/** An argument cannot be meant: NULL, a size of zero, a name with a slash inside. */
#define SHMKIT_ERR_INVALID (-1)

/** The handle has been closed. */
#define SHMKIT_ERR_CLOSED (-2)

/** Something else stands here: another kind of handle, of object or of file. */
#define SHMKIT_ERR_WRONG_KIND (-3)

/** Nothing has this name (any more). */
#define SHMKIT_ERR_NOT_FOUND (-4)

/** The name is taken. */
#define SHMKIT_ERR_EXISTS (-5)

/** The kernel does not permit it to this user. */
#define SHMKIT_ERR_PERMISSION (-6)

/** It could be done, but what is there belongs to somebody else, is a symbolic link, or could be pulled away. */
#define SHMKIT_ERR_UNTRUSTED (-7)

/** The memory is not there. The text says how much was asked for, how much is free, and where. */
#define SHMKIT_ERR_NO_SPACE (-8)

/** This process cannot have it: address space, locked memory, heap. */
#define SHMKIT_ERR_NO_MEMORY (-9)

/** The time was up. */
#define SHMKIT_ERR_TIMEOUT (-10)

/** It would have had to wait, and was told not to. */
#define SHMKIT_ERR_WOULD_BLOCK (-11)

/** The interrupt hook asked for the end (see shmkit_set_interrupt). */
#define SHMKIT_ERR_INTERRUPTED (-12)

/** The caller does not hold what it wants to give back. */
#define SHMKIT_ERR_NOT_OWNER (-13)

/** A counter would go past its end. */
#define SHMKIT_ERR_OVERFLOW (-14)

/** The barrier is broken. */
#define SHMKIT_ERR_BROKEN (-15)

/** The queue is empty. */
#define SHMKIT_ERR_EMPTY (-16)

/** The queue is full. */
#define SHMKIT_ERR_FULL (-17)

/** Larger than what this object can ever hold. */
#define SHMKIT_ERR_TOO_LARGE (-18)

/**
 * The table of participants is full of living processes; or so are all places of one object: as many read, hold or wait
 * as it was made for.
 */
#define SHMKIT_ERR_TOO_MANY_PROCESSES (-19)

/** This process can no longer ask who is alive. */
#define SHMKIT_ERR_LIVENESS_UNKNOWN (-20)

/** The shared bytes contradict themselves or what the file allows. */
#define SHMKIT_ERR_CORRUPT (-21)

/** Another major version of the library or of the layout. */
#define SHMKIT_ERR_VERSION_MISMATCH (-22)

/** This kernel, file system or version of the library cannot do it. */
#define SHMKIT_ERR_UNSUPPORTED (-23)

/** Another error of the kernel: shmkit_last_error has its errno. */
#define SHMKIT_ERR_SYSTEM (-24)

/** A defect of this library was caught before it could do harm: please report it. */
#define SHMKIT_ERR_INTERNAL (-25)

/** It would wait for what waits for the caller: for ever. */
#define SHMKIT_ERR_DEADLOCK (-26)

/** The queue was shut down: nothing more is put, and nothing is left to get. */
#define SHMKIT_ERR_SHUT_DOWN (-27)

#endif /* SHMKIT_TYPES */

/**
 * Returns a short sentence for a status, in English, without a full stop; it lives for ever and is not freed.
 *
 * Never NULL: a number that means nothing has a sentence which says so. Any thread; async-signal-safe.
 */
const char *shmkit_strerror(shmkit_status status);

/**
 * Tells what the last call that failed on this thread had to say.
 *
 * `code` gets its status, SHMKIT_OK if none has failed yet; `system_errno` the errno of the system call that failed,
 * 0 where none did; `text` a sentence with names and figures. Each may be NULL if it is not wanted. The text belongs
 * to the library and lives until the next call that fails on this thread, or the thread's end. Calls that succeed
 * change nothing here. SHMKIT_ERR_INVALID: a pointer is not aligned.
 */
shmkit_status shmkit_last_error(shmkit_status *code,
                                int32_t *system_errno,
                                const char **text);

/* =================================================================================================
 * Version: which library runs, and whether a program was built for it.
 * ================================================================================================= */

#ifndef SHMKIT_TYPES

/** Changes when programs must be changed; while it is 0, SHMKIT_VERSION_MINOR takes its place. */
#define SHMKIT_VERSION_MAJOR 0

/** Changes when something is added. */
#define SHMKIT_VERSION_MINOR 1

/** Changes when something is mended. */
#define SHMKIT_VERSION_PATCH 0

/** The version as one number, which grows: major, minor and patch with two, three and three decimal places. */
#define SHMKIT_VERSION 1000

#endif /* SHMKIT_TYPES */

/** Returns the version of the library that runs, to be compared with the header's SHMKIT_VERSION. */
uint32_t shmkit_version(void);

/** Returns the version of the library that runs as text, such as "0.1.0"; it is not freed. */
const char *shmkit_version_string(void);

/**
 * Says whether a program built with the header of version `built_with` runs with this library.
 *
 * Call it first: shmkit_check_version(SHMKIT_VERSION). SHMKIT_ERR_VERSION_MISMATCH: another major version (while that
 * is 0, another minor version), or a library older than the header.
 */
shmkit_status shmkit_check_version(uint32_t built_with);

/* =================================================================================================
 * Interrupt hook: how a caller ends a long call.
 * ================================================================================================= */

#ifndef SHMKIT_TYPES

/** Lets the hook end this call with SHMKIT_ERR_INTERRUPTED. Without it signals do not end a call. */
#define SHMKIT_INTERRUPTIBLE 1

/** A function that long operations ask whether to go on: 0, or anything else to end them. */
typedef int32_t (*shmkit_interrupt_hook)(void *argument);

#endif /* SHMKIT_TYPES */

/**
 * Installs the one interrupt hook of this process; NULL takes it away.
 *
 * Calls that were given SHMKIT_INTERRUPTIBLE call it, on their own thread, when a signal has come and after each
 * step: at most 64 MiB of memory set aside, or 12 ms of sleep. If it returns nonzero, they undo what they had begun and return
 * SHMKIT_ERR_INTERRUPTED. It may call any function of this library. Whoever replaces a hook makes sure that calls
 * begun before have ended before its `argument` goes.
 */
shmkit_status shmkit_set_interrupt(shmkit_interrupt_hook hook,
                                   void *argument);

/* =================================================================================================
 * Timeouts: how long a call waits.
 * ================================================================================================= */

#ifndef SHMKIT_TYPES

/** As a timeout: wait as long as it takes. */
#define SHMKIT_FOREVER (-1)

/**
 * As a timeout: do not wait; SHMKIT_ERR_WOULD_BLOCK where that would be needed, of a queue SHMKIT_ERR_EMPTY or
 * SHMKIT_ERR_FULL.
 */
#define SHMKIT_NOWAIT 0

#endif /* SHMKIT_TYPES */

/* =================================================================================================
 * Limits: how large a segment may be.
 * ================================================================================================= */

#ifndef SHMKIT_TYPES

/** The file system of the directory keeps what it holds in memory (tmpfs). */
#define SHMKIT_LIMITS_IN_MEMORY 1

/**
 * What bounds the size of a segment just now. Sizes in bytes; UINT64_MAX means that there is no limit.
 *
 * Set struct_size to sizeof(shmkit_limits_info) before the call. Every figure was true when it was read, and others
 * take and give memory meanwhile.
 */
typedef struct shmkit_limits_info {
  /** sizeof(shmkit_limits_info); on return how much of it was filled. */
  uint32_t struct_size;
  /** SHMKIT_LIMITS_IN_MEMORY or 0. */
  uint32_t flags;
  /** The largest segment that could be made in the directory now, in whole pages. */
  uint64_t largest_named;
  /** The largest anonymous segment that could be made now, in whole pages. */
  uint64_t largest_anonymous;
  /** What the file system of the directory can hold (statfs). */
  uint64_t directory_total;
  /** What is free there for this user. */
  uint64_t directory_free;
  /** MemTotal of /proc/meminfo. */
  uint64_t memory_total;
  /** MemAvailable of /proc/meminfo. */
  uint64_t memory_available;
  /** SwapTotal of /proc/meminfo. */
  uint64_t swap_total;
  /** SwapFree of /proc/meminfo. */
  uint64_t swap_free;
  /** The limit of the cgroup that has least left, from this process' own up to the root. */
  uint64_t cgroup_limit;
  /** What that cgroup has left, page cache counted as free. */
  uint64_t cgroup_free;
  /** CommitLimit less Committed_AS where overcommit_policy is 2. */
  uint64_t commit_free;
  /** RLIMIT_FSIZE: the largest file this process may write. */
  uint64_t file_size_limit;
  /** RLIMIT_MEMLOCK: how much this process may lock in memory. */
  uint64_t locked_memory_limit;
  /** RLIMIT_AS: how much address space this process may have. */
  uint64_t address_space_limit;
  /** RLIMIT_NOFILE: how many descriptors this process may have. */
  uint64_t open_files_limit;
  /** The size of a page. */
  uint64_t page_size;
  /** The size of a huge page; 0 where the kernel has none. */
  uint64_t huge_page_size;
  /** /proc/sys/vm/overcommit_memory: 0 guesses, 1 always says yes, 2 counts. */
  uint32_t overcommit_policy;
  /** 0. */
  uint32_t reserved;
} shmkit_limits_info;

#endif /* SHMKIT_TYPES */

/**
 * Tells how large a segment may be: what file system, machine, cgroup and this process' own limits leave.
 *
 * `directory` NULL: SHMKIT_DIR, else /dev/shm. SHMKIT_ERR_NOT_FOUND: no such directory.
 */
shmkit_status shmkit_limits(const char *directory,
                            shmkit_limits_info *out);

/**
 * Writes the answer of shmkit_limits as one line for people, NUL-terminated, without a newline.
 *
 * `size` is the room in `buffer` in bytes: 1024 are enough. SHMKIT_ERR_TOO_LARGE: they are not, and nothing is written.
 */
shmkit_status shmkit_limits_line(const char *directory,
                                 char *buffer,
                                 uint64_t size);

/* =================================================================================================
 * Segments: shared memory by name or by descriptor.
 * ================================================================================================= */

#ifndef SHMKIT_TYPES

/** Map it for reading only: writing to it is then SIGSEGV. Not for create. */
#define SHMKIT_SEGMENT_READONLY 0x10

/**
 * In the options of segments and objects: accept a foreign owner. Without it an open refuses what belongs to another
 * user, and a file without a name that is not sealed against shrinking.
 */
#define SHMKIT_TRUST 0x20000

/** Do not compare the size with what file system, machine and cgroup have: let the kernel decide. */
#define SHMKIT_SEGMENT_NO_SPACE_CHECK 0x40

/**
 * Do not set memory aside: a page gets memory when it is touched, and where there is none, that is SIGBUS. Not with
 * SHMKIT_SEGMENT_PREFAULT, SHMKIT_SEGMENT_HUGE or SHMKIT_SEGMENT_LOCK.
 */
#define SHMKIT_SEGMENT_SPARSE 0x80

/** Map all pages now, so that no first touch waits for the kernel. */
#define SHMKIT_SEGMENT_PREFAULT 0x100

/** Ask for huge pages; shmkit_segment_huge tells how many bytes got them. Where there are none nothing is lost. */
#define SHMKIT_SEGMENT_HUGE 0x200

/** Keep it in physical memory (mlock); SHMKIT_ERR_NO_MEMORY where RLIMIT_MEMLOCK does not allow it. */
#define SHMKIT_SEGMENT_LOCK 0x400

/** In shmkit_segment_info: this handle made the segment. */
#define SHMKIT_SEGMENT_CREATED 0x800

/** In shmkit_segment_info: nobody can ever shrink it. */
#define SHMKIT_SEGMENT_SEALED 0x1000

/**
 * Make it with a control area before byte 0, so that it can hold locks and other objects; or open only such a one.
 * Without this a new segment is plain, and any kind is opened for what it is.
 */
#define SHMKIT_SEGMENT_MANAGED 0x2000

/** Open the bare file: byte 0 is the first one, whatever stands there. */
#define SHMKIT_SEGMENT_PLAIN 0x4000

/**
 * Of a full one: its name goes when nobody has it mapped any more. The last to close removes it; if that one is
 * killed, or has opened it by its descriptor and knows no name, shmkit_segment_gc does.
 */
#define SHMKIT_SEGMENT_EPHEMERAL 0x8000

/** A segment of shared memory that this process has mapped. Any thread may use it; closing it ends all use. */
typedef struct shmkit_segment shmkit_segment;

/** How to make or open a segment. All zeros but struct_size is what most want; so is a NULL pointer to it. */
typedef struct shmkit_segment_options {
  /** sizeof(shmkit_segment_options). */
  uint32_t struct_size;
  /**
   * SHMKIT_SEGMENT_READONLY to SHMKIT_SEGMENT_LOCK, SHMKIT_SEGMENT_MANAGED to SHMKIT_SEGMENT_EPHEMERAL and
   * SHMKIT_INTERRUPTIBLE, or-ed.
   */
  uint32_t flags;
  /** Bytes of address space to map, so that the segment can grow without moving. 0: its size in whole pages. */
  uint64_t capacity;
  /**
   * Permission bits of a new segment, exactly these whatever the umask. 0: 0600, its owner's alone. An anonymous
   * one has no execute bits.
   */
  uint32_t mode;
  /** How many processes may hold something in a new full segment at a time, 1 to 4096. 0: 128. */
  uint32_t participants;
  /** Where it stands. NULL: SHMKIT_DIR, else /dev/shm. */
  const char *directory;
} shmkit_segment_options;

/** What is known of a segment. Sizes in bytes. */
typedef struct shmkit_segment_info {
  /** sizeof(shmkit_segment_info); on return how much of it was filled. */
  uint32_t struct_size;
  /**
   * SHMKIT_SEGMENT_READONLY, SHMKIT_SEGMENT_CREATED, SHMKIT_SEGMENT_SEALED, SHMKIT_SEGMENT_MANAGED,
   * SHMKIT_SEGMENT_EPHEMERAL, or-ed.
   */
  uint32_t flags;
  /** Its length. */
  uint64_t size;
  /** How much address space is mapped here. */
  uint64_t capacity;
  /** How much memory its file system has set aside for it. */
  uint64_t allocated;
  /** The file system it lies in (st_dev). */
  uint64_t device;
  /** Its number there (st_ino): with the device it names the segment for as long as it lives. */
  uint64_t inode;
  /** How many names it has: 0 once it is unlinked, or where it is anonymous. */
  uint64_t links;
  /** Its owner. */
  uint32_t user;
  /** Its permission bits. */
  uint32_t mode;
  /** Of a full one: a random number, written when it was made. 0: a plain one. */
  uint64_t id;
  /** How many bytes of its file lie before byte 0: the control area of a full one. */
  uint64_t control_bytes;
  /** How many processes may hold something in it at a time. 0: a plain one. */
  uint32_t participants;
  /** 0. */
  uint32_t reserved;
} shmkit_segment_info;

/** What shmkit_segment_list calls for each name; nonzero ends the list. */
typedef int32_t (*shmkit_segment_visit)(const char *name, void *argument);

#endif /* SHMKIT_TYPES */

/**
 * Makes a segment of `size` bytes, all zero, and maps it.
 *
 * `name` has at most 255 bytes, with or without a leading slash, no other. NULL: an anonymous segment, a memory file
 * that goes when nobody has it open any more, and that nobody can ever shrink. `options` NULL: none. `out` gets the
 * handle, which shmkit_segment_close frees.
 *
 * Its memory is set aside before it has a name, and the name comes last: who finds it finds it whole, and if this
 * process is killed before that, the kernel takes everything back. Bytes at the end of the last page lie beyond
 * `size` and belong to nobody.
 *
 * SHMKIT_ERR_EXISTS: the name is taken. SHMKIT_ERR_NO_SPACE: not enough memory in file system, machine or cgroup.
 * SHMKIT_ERR_NO_MEMORY: no address space, or not lockable. SHMKIT_ERR_NOT_FOUND: no such directory.
 * SHMKIT_ERR_PERMISSION. SHMKIT_ERR_INVALID: size 0, capacity below size, a name that cannot be.
 * SHMKIT_ERR_TOO_LARGE: more than a file can have. SHMKIT_ERR_INTERRUPTED.
 */
shmkit_status shmkit_segment_create(const char *name,
                                    uint64_t size,
                                    const shmkit_segment_options *options,
                                    shmkit_segment **out);

/**
 * Opens the segment of this name and maps it, whoever made it: this library, shm_open, Python.
 *
 * `size` is the least that is expected of it in bytes; 0: any will do. `options` NULL: none. With
 * SHMKIT_SEGMENT_READONLY read permission is enough. Nothing that fails here removes or changes anything.
 *
 * SHMKIT_ERR_NOT_FOUND. SHMKIT_ERR_PERMISSION. SHMKIT_ERR_UNTRUSTED: a symbolic link, always; another user's, unless
 * SHMKIT_TRUST. SHMKIT_ERR_WRONG_KIND: a directory, a FIFO, a device. SHMKIT_ERR_CORRUPT: no bytes. SHMKIT_ERR_INVALID: fewer
 * than `size`. SHMKIT_ERR_INVALID: capacity below its size, a name that cannot be. SHMKIT_ERR_NO_MEMORY: no address
 * space, or not lockable.
 *
 * Whoever may write to a named file may also truncate it (ftruncate), and the next touch is then SIGBUS. Anonymous
 * segments cannot be truncated.
 */
shmkit_status shmkit_segment_open(const char *name,
                                  uint64_t size,
                                  const shmkit_segment_options *options,
                                  shmkit_segment **out);

/**
 * Opens the segment of this name, or makes it with `size` bytes if there is none.
 *
 * Of several processes that race exactly one makes it: SHMKIT_SEGMENT_CREATED in shmkit_segment_stat tells which.
 * `name` NULL: as shmkit_segment_create. Errors as of both; SHMKIT_ERR_INVALID: it exists with fewer than `size`
 * bytes.
 */
shmkit_status shmkit_segment_open_or_create(const char *name,
                                            uint64_t size,
                                            const shmkit_segment_options *options,
                                            shmkit_segment **out);

/**
 * Opens the segment behind a file descriptor: inherited, received over a socket, or opened through /proc/PID/fd.
 *
 * The descriptor is duplicated and stays the caller's. `size` and errors as for shmkit_segment_open, and:
 * SHMKIT_ERR_INVALID: not an open descriptor. SHMKIT_ERR_PERMISSION: not open for reading, or not for writing and
 * SHMKIT_SEGMENT_READONLY was not asked for. SHMKIT_ERR_UNTRUSTED: a file without a name that is not sealed against
 * shrinking, unless SHMKIT_TRUST: who sent it could make touching it SIGBUS.
 */
shmkit_status shmkit_segment_open_fd(int32_t fd,
                                     uint64_t size,
                                     const shmkit_segment_options *options,
                                     shmkit_segment **out);

/**
 * Makes the segment `size` bytes long, for every process that has it mapped.
 *
 * No address moves and no pointer into it dangles; new bytes are zero. Others see the growth in shmkit_segment_size,
 * as far as the capacity of their mapping goes. `flags`: SHMKIT_SEGMENT_NO_SPACE_CHECK, SHMKIT_SEGMENT_SPARSE,
 * SHMKIT_INTERRUPTIBLE. Growers wait for each other; one that is killed leaves the old size or the new one.
 *
 * SHMKIT_ERR_TOO_LARGE: beyond the capacity of this mapping. SHMKIT_ERR_INVALID: smaller than it is: segments do not
 * shrink. SHMKIT_ERR_PERMISSION: a read-only handle, or a file whose mode does not let this user write it.
 * SHMKIT_ERR_NO_SPACE, SHMKIT_ERR_INTERRUPTED: nothing has changed.
 * But where its options ask for prefault, huge pages or locking, that is done once it has grown: then
 * SHMKIT_ERR_NO_MEMORY and SHMKIT_ERR_INTERRUPTED leave it grown, as shmkit_segment_size tells.
 */
shmkit_status shmkit_segment_resize(shmkit_segment *segment,
                                    uint64_t size,
                                    uint32_t flags);

/** Tells the address of byte 0, which stays the same until the handle is closed. */
shmkit_status shmkit_segment_data(const shmkit_segment *segment,
                                  void **out);

/**
 * Tells how many bytes of the mapping have memory now.
 *
 * It grows when any process resizes the segment; it asks the kernel (about 0.2 microseconds). SHMKIT_ERR_CORRUPT: it
 * is shorter than it has been, so somebody has truncated its file, and touching what is gone is SIGBUS.
 */
shmkit_status shmkit_segment_size(const shmkit_segment *segment,
                                  uint64_t *out);

/** Tells how many bytes of address space are mapped: how far the segment can grow in this process. */
shmkit_status shmkit_segment_capacity(const shmkit_segment *segment, uint64_t *out);

/** Tells the descriptor of the segment's file, to be passed on. It is the handle's: do not close it. */
shmkit_status shmkit_segment_fd(const shmkit_segment *segment, int32_t *out);

/**
 * Tells the name of the segment, without directory or slash; it lives until the handle is closed.
 *
 * NULL where it is anonymous or was opened by its descriptor.
 */
shmkit_status shmkit_segment_name(const shmkit_segment *segment, const char **out);

/**
 * Tells the directory in which the segment was found or made; it lives until the handle is closed.
 *
 * NULL where it is anonymous or was opened by its descriptor.
 */
shmkit_status shmkit_segment_directory(const shmkit_segment *segment, const char **out);

/**
 * Tells how many bytes of the segment this process reaches through huge pages just now.
 *
 * It reads /proc/self/smaps, which takes the longer the more is mapped: 0.1 ms and up.
 */
shmkit_status shmkit_segment_huge(const shmkit_segment *segment, uint64_t *out);

/** Tells what is known of the segment: sizes, owner, device and inode. */
shmkit_status shmkit_segment_stat(const shmkit_segment *segment,
                                  shmkit_segment_info *out);

/**
 * Removes the name of the segment. Whoever has it mapped keeps it, and its memory goes with the last of them.
 *
 * Only if the name still stands for this segment: a new one that has come under the old name is left alone, and that
 * is SHMKIT_ERR_NOT_FOUND. An anonymous segment has no name: SHMKIT_OK. SHMKIT_ERR_INVALID: a named one that was
 * opened by its descriptor, so that its name is not known here.
 */
shmkit_status shmkit_segment_unlink(shmkit_segment *segment);

/**
 * Removes a name without opening the segment: what a clean-up needs.
 *
 * `directory` NULL: SHMKIT_DIR, else /dev/shm. With `device` and `inode` of shmkit_segment_stat only that segment is
 * meant; 0 and 0: whatever stands there. `flags`: SHMKIT_INTERRUPTIBLE. SHMKIT_ERR_NOT_FOUND: nothing stands there, or
 * another segment. SHMKIT_ERR_WRONG_KIND: not a regular file; it is left alone. SHMKIT_ERR_PERMISSION.
 */
shmkit_status shmkit_segment_unlink_name(const char *name,
                                         const char *directory,
                                         uint64_t device,
                                         uint64_t inode,
                                         uint32_t flags);

/**
 * Calls `visit` with the name of each regular file in `directory`, in no particular order, and with `argument`.
 *
 * They are what shmkit_segment_open might open, whoever made them. A nonzero answer of `visit` ends the list, which is
 * SHMKIT_OK too. The name lives until `visit` returns. `directory` NULL: SHMKIT_DIR, else /dev/shm.
 * SHMKIT_ERR_NOT_FOUND: no such directory.
 */
shmkit_status shmkit_segment_list(const char *directory,
                                  shmkit_segment_visit visit,
                                  void *argument);

/**
 * Removes the names of ephemeral segments in `directory` that nobody has mapped, and what killed processes have left
 * there half made; `removed` (NULL: not wanted) tells how many segments that were.
 *
 * It never takes one from under somebody: who is opening one meanwhile finds it, or finds that the name is gone. Only
 * this user's own are looked at. `directory` NULL: SHMKIT_DIR, else /dev/shm. `flags`: SHMKIT_INTERRUPTIBLE.
 * SHMKIT_ERR_NOT_FOUND: no such directory. SHMKIT_ERR_INTERRUPTED: the rest is left.
 */
shmkit_status shmkit_segment_gc(const char *directory,
                                uint32_t flags,
                                uint64_t *removed);

/**
 * Lets go of the segment: its memory is unmapped, its descriptor closed, its name stays. NULL is SHMKIT_OK.
 *
 * All pointers into it end here. A second close is SHMKIT_ERR_CLOSED, as is any other use of the handle, until 1024
 * more handles have been closed; after that it is undefined, as after free.
 */
shmkit_status shmkit_segment_close(shmkit_segment *segment);

/* =================================================================================================
 * Objects: what can be placed in shared memory, and the life cycle that all of it shares.
 *
 * An object has one of three places:
 *
 * named     in a file of its own, which other processes open by its name
 * unnamed   (name NULL) in a memory file of this process; threads and forked children share it,
 *           and other processes open what shmkit_<noun>_fd returns. Thousands of small unnamed
 *           objects share one descriptor; an unnamed queue has a memory file of its own
 * placed    at an offset of a managed segment, beside other objects and the program's own data
 *
 * The functions below exist for every noun: lock, rlock, rwlock, semaphore, condition, event,
 * barrier, once and queue. A noun's own section adds only what differs: the bytes that it
 * occupies, its options, and what a close does to what the process holds.
 *
 * shmkit_<noun>_size (options, out)
 *
 * Returns the bytes that a placed object occupies, a multiple of 64. Lay out a segment with it.
 * SHMKIT_ERR_INVALID        the options contradict each other or exceed a bound
 *
 * shmkit_<noun>_create (name, options, out)
 *
 * Creates a named or an unnamed object. The name appears last, so no process ever opens a half
 * made one. If the caller dies before that, the kernel frees the file.
 * SHMKIT_ERR_EXISTS         the name is taken
 * SHMKIT_ERR_INVALID        as for shmkit_<noun>_size, or a bad name
 * SHMKIT_ERR_NO_SPACE, SHMKIT_ERR_NO_MEMORY, SHMKIT_ERR_NOT_FOUND, SHMKIT_ERR_PERMISSION
 *                           as for shmkit_segment_create
 *
 * shmkit_<noun>_open (name, options, out)
 *
 * Opens an existing object as it was created. Options that describe a new object are not compared
 * with it. A failed open removes and changes nothing.
 * SHMKIT_ERR_NOT_FOUND      no such name
 * SHMKIT_ERR_WRONG_KIND     the name belongs to something else
 * SHMKIT_ERR_INVALID        name is NULL
 * SHMKIT_ERR_UNTRUSTED, SHMKIT_ERR_PERMISSION, SHMKIT_ERR_CORRUPT, SHMKIT_ERR_NO_MEMORY
 *                           as for shmkit_segment_open
 *
 * shmkit_<noun>_open_or_create (name, options, out)
 *
 * Opens the object, or creates it if there is none. Of several racing processes one creates it.
 * SHMKIT_ERR_INVALID        it was created with other options, or name is NULL
 * and the errors of both functions above
 *
 * shmkit_<noun>_create_at (segment, offset, options, out)
 *
 * Opens the object at this offset, or creates it if all of its bytes are zero. Of several racing
 * processes one creates it; if that process dies midway, the next one begins again. The object
 * keeps the segment mapped after the segment's handle is closed. To remove an object, fill its
 * bytes with zeros while no process uses it.
 * SHMKIT_ERR_INVALID        offset is not a multiple of 64, or the object does not fit into the
 *                           data, or it was created with other options
 * SHMKIT_ERR_WRONG_KIND     the segment is plain, or something else is stored there
 * SHMKIT_ERR_EXISTS         it is there, and SHMKIT_EXCLUSIVE was given
 * SHMKIT_ERR_PERMISSION     the segment's handle is read-only
 * SHMKIT_ERR_TIMEOUT        the process that is creating it has been stopped for a second
 * SHMKIT_ERR_TOO_MANY_PROCESSES   the segment has no room for another process
 * SHMKIT_ERR_CORRUPT        the bytes there describe an object that does not fit
 *
 * shmkit_<noun>_open_at (segment, offset, options, out)
 *
 * Opens the object at this offset as it was created.
 * SHMKIT_ERR_NOT_FOUND      only zeros are stored there
 * and the errors of shmkit_<noun>_create_at
 *
 * shmkit_<noun>_fd (handle, fd, offset)
 *
 * Exports a named or unnamed object: returns the descriptor to pass on and the offset to send with
 * it. The descriptor belongs to the handle: do not close it. The bytes of an exported unnamed
 * object are never reused for another one.
 * SHMKIT_ERR_INVALID        a placed object: export its segment, and send the offset
 *
 * shmkit_<noun>_open_fd (fd, offset, options, out)
 *
 * Opens an exported object. The descriptor stays the caller's.
 * SHMKIT_ERR_NOT_FOUND, SHMKIT_ERR_WRONG_KIND   no such object is stored there
 * SHMKIT_ERR_INVALID, SHMKIT_ERR_PERMISSION, SHMKIT_ERR_UNTRUSTED
 *                           as for shmkit_segment_open_fd
 *
 * shmkit_<noun>_segment (handle, out)
 *
 * Opens the segment that holds the object: the one it was placed in, its own file, or the memory
 * file of unnamed objects. shmkit_segment_close frees this handle. The segment has the name, the
 * directory and the descriptor.
 *
 * shmkit_<noun>_unlink (handle)
 *
 * Removes the name of a named object. Open handles stay valid, in all processes.
 * SHMKIT_ERR_NOT_FOUND      the name is gone, or belongs to a newer object, which is left alone
 * SHMKIT_ERR_INVALID        the object has no file of its own, or was opened by its descriptor
 *
 * shmkit_<noun>_close (handle)
 *
 * Frees the handle. The object and its name stay. When a process closes its last handle of a
 * segment, what it still holds there is treated like the belongings of a dead process. NULL is
 * SHMKIT_OK.
 * SHMKIT_ERR_CLOSED         the handle was closed before
 * SHMKIT_ERR_WRONG_KIND     a handle of another noun
 *
 * Every function returns SHMKIT_ERR_INVALID for a NULL or misaligned pointer or a wrong struct_size,
 * and SHMKIT_ERR_CLOSED or SHMKIT_ERR_WRONG_KIND for a handle that is closed or of another noun.
 * ================================================================================================= */

#ifndef SHMKIT_TYPES

/** In the options of shmkit_<noun>_create_at: fail with SHMKIT_ERR_EXISTS instead of opening an object that is there. */
#define SHMKIT_EXCLUSIVE 0x100000

/**
 * The options of an object that needs no others. NULL, or zeros behind struct_size, give the defaults. The options of
 * every other noun begin with the same fields.
 */
typedef struct shmkit_object_options {
  /** sizeof(shmkit_object_options). */
  uint32_t struct_size;
  /** SHMKIT_TRUST, SHMKIT_EXCLUSIVE and the flags of the noun, or-ed. */
  uint32_t flags;
  /** Permission bits of a new named object, whatever the umask. 0: 0600. */
  uint32_t mode;
  /** The number of processes that the file of a new named object has room for, 1 to 4096. 0: 128. */
  uint32_t participants;
  /** The directory of a named object. NULL: SHMKIT_DIR, else /dev/shm. */
  const char *directory;
} shmkit_object_options;

#endif /* SHMKIT_TYPES */

/* =================================================================================================
 * Locks: mutual exclusion between processes and threads that survives the death of its owner.
 * ================================================================================================= */

#ifndef SHMKIT_TYPES

/**
 * Any process may release it, not its owner alone, as multiprocessing.Lock allows. Whoever releases one of a dead owner
 * has taken the matter into its own hands: the next owner is not told of that death.
 */
#define SHMKIT_LOCK_TRANSFERABLE 0x10000

/** In shmkit_lock_info: somebody holds it, perhaps a dead process. */
#define SHMKIT_LOCK_HELD 0x40000

/** In shmkit_lock_info: an owner died, and mark_consistent has not been called since. */
#define SHMKIT_LOCK_OWNER_DIED 0x80000

/**
 * A lock: one owner at a time, which is a process. Any thread of the owner may release it. It is not recursive: a
 * second acquire waits for the first one's release.
 *
 * If the owner dies, however it dies, whoever waits gets the lock within 12 ms after the kernel has torn the dead
 * process down, and is told so: what the lock guards may be half written. A handle may be used by all threads at once
 * and by forked children.
 */
typedef struct shmkit_lock shmkit_lock;

/** What is known of a lock: each figure as it was at some moment during the call. */
typedef struct shmkit_lock_info {
  /** sizeof(shmkit_lock_info); on return how much of it was filled. */
  uint32_t struct_size;
  /** SHMKIT_LOCK_HELD, SHMKIT_LOCK_OWNER_DIED, SHMKIT_LOCK_TRANSFERABLE, or-ed. */
  uint32_t flags;
  /** How often it was acquired. */
  uint64_t acquisitions;
  /** How often that took waiting. */
  uint64_t contended;
  /** How often it was taken over from the dead. */
  uint64_t recoveries;
  /**
   * When the first waiter for the present owner went to sleep, in nanoseconds of CLOCK_MONOTONIC, even if it has
   * given up since. 0: nobody has waited for this owner.
   */
  uint64_t contended_since;
  /** The owner's number among the participants of the segment, which no other ever has. 0: nobody holds it. */
  uint64_t owner_ticket;
  /** The owner's PID namespace, as the inode of /proc/PID/ns/pid. 0: unknown. */
  uint64_t owner_namespace;
  /** Where it stands in its segment's data, or in its arena. 0 of the one that is built in, which stands before both. */
  uint64_t offset;
  /** The owner's process number in that namespace. 0: nobody holds it, or unknown. */
  uint32_t owner_pid;
  /** 0. */
  uint32_t reserved;
} shmkit_lock_info;

#endif /* SHMKIT_TYPES */

/** Returns how many bytes a lock occupies in a segment: a multiple of 64. */
shmkit_status shmkit_lock_size(const shmkit_object_options *options, uint64_t *out);

/** Creates a lock: a named one in a file of its own, or, if `name` is NULL, an unnamed one. */
shmkit_status shmkit_lock_create(const char *name,
                                 const shmkit_object_options *options,
                                 shmkit_lock **out);

/** Opens a lock by its name. */
shmkit_status shmkit_lock_open(const char *name,
                               const shmkit_object_options *options,
                               shmkit_lock **out);

/** Opens a lock by its name, or creates it if there is none. */
shmkit_status shmkit_lock_open_or_create(const char *name,
                                         const shmkit_object_options *options,
                                         shmkit_lock **out);

/** Opens a lock at `offset` of a managed segment's data, or creates it there. */
shmkit_status shmkit_lock_create_at(const shmkit_segment *segment,
                                    uint64_t offset,
                                    const shmkit_object_options *options,
                                    shmkit_lock **out);

/** Opens a lock at `offset` of a managed segment's data. */
shmkit_status shmkit_lock_open_at(const shmkit_segment *segment,
                                  uint64_t offset,
                                  const shmkit_object_options *options,
                                  shmkit_lock **out);

/** Opens a lock that another process exported: `offset` is what shmkit_lock_fd returned there. */
shmkit_status shmkit_lock_open_fd(int32_t fd,
                                  uint64_t offset,
                                  const shmkit_object_options *options,
                                  shmkit_lock **out);

/** Exports a lock: returns the descriptor and the offset that shmkit_lock_open_fd needs in another process. */
shmkit_status shmkit_lock_fd(const shmkit_lock *lock,
                             int32_t *fd,
                             uint64_t *offset);

/** Opens the segment that holds a lock. */
shmkit_status shmkit_lock_segment(const shmkit_lock *lock, shmkit_segment **out);

/** Removes the name of a lock. Handles that are open stay valid. */
shmkit_status shmkit_lock_unlink(shmkit_lock *lock);

/** Closes a handle of a lock and frees it. NULL is SHMKIT_OK. */
shmkit_status shmkit_lock_close(shmkit_lock *lock);

/** Opens the lock that every full segment has. SHMKIT_ERR_WRONG_KIND: a plain one. SHMKIT_ERR_PERMISSION: read-only. */
shmkit_status shmkit_segment_lock(const shmkit_segment *segment,
                                  shmkit_lock **out);

/**
 * Takes the lock, waiting up to `timeout_ns` nanoseconds for it: SHMKIT_FOREVER, SHMKIT_NOWAIT, or a time.
 *
 * SHMKIT_OK if and only if the caller holds the lock now. `owner_died` (NULL: not wanted) then tells 1 where an owner
 * died and shmkit_lock_mark_consistent has not been called since: look at what the lock guards, and make it whole.
 * `flags`: SHMKIT_INTERRUPTIBLE.
 *
 * SHMKIT_ERR_WOULD_BLOCK: a living process holds it, and SHMKIT_NOWAIT. SHMKIT_ERR_TIMEOUT. SHMKIT_ERR_INTERRUPTED.
 * SHMKIT_ERR_INVALID: a negative time, unknown flags. SHMKIT_ERR_TOO_MANY_PROCESSES: as many processes as the segment has
 * room for are alive. SHMKIT_ERR_LIVENESS_UNKNOWN: somebody holds it, and this process has lost all descriptors of the segment
 * (closefrom), so it cannot ask whether that one lives. SHMKIT_ERR_PERMISSION: the file cannot be written.
 * SHMKIT_ERR_CORRUPT.
 */
shmkit_status shmkit_lock_acquire(shmkit_lock *lock,
                                  int64_t timeout_ns,
                                  uint32_t flags,
                                  uint32_t *owner_died);

/**
 * Gives the lock back.
 *
 * SHMKIT_ERR_NOT_OWNER: this process does not hold it; of a transferable lock: nobody does. What a dead owner left
 * marked stays marked until shmkit_lock_mark_consistent.
 */
shmkit_status shmkit_lock_release(shmkit_lock *lock);

/** Says that what the lock guards is whole again after an owner's death. SHMKIT_ERR_NOT_OWNER. */
shmkit_status shmkit_lock_mark_consistent(shmkit_lock *lock);

/** Tells what is known of the lock. Nobody is asked whether the owner lives: only an acquire does that. */
shmkit_status shmkit_lock_stat(const shmkit_lock *lock,
                               shmkit_lock_info *out);

/* =================================================================================================
 * Recursive locks: a thread that holds one may take it again.
 * ================================================================================================= */

#ifndef SHMKIT_TYPES

/**
 * A recursive lock: its owner is a thread, which may take it again and gives it back as often. All else is as with
 * shmkit_lock: it survives the death of its owner's process. A thread that ends frees nothing.
 */
typedef struct shmkit_rlock shmkit_rlock;

#endif /* SHMKIT_TYPES */

/** Returns how many bytes a recursive lock occupies in a segment: a multiple of 64. */
shmkit_status shmkit_rlock_size(const shmkit_object_options *options, uint64_t *out);

/** Creates a recursive lock: a named one in a file of its own, or, if `name` is NULL, an unnamed one. */
shmkit_status shmkit_rlock_create(const char *name,
                                  const shmkit_object_options *options,
                                  shmkit_rlock **out);

/** Opens a recursive lock by its name. */
shmkit_status shmkit_rlock_open(const char *name,
                                const shmkit_object_options *options,
                                shmkit_rlock **out);

/** Opens a recursive lock by its name, or creates it if there is none. */
shmkit_status shmkit_rlock_open_or_create(const char *name,
                                          const shmkit_object_options *options,
                                          shmkit_rlock **out);

/** Opens a recursive lock at `offset` of a managed segment's data, or creates it there. */
shmkit_status shmkit_rlock_create_at(const shmkit_segment *segment,
                                     uint64_t offset,
                                     const shmkit_object_options *options,
                                     shmkit_rlock **out);

/** Opens a recursive lock at `offset` of a managed segment's data. */
shmkit_status shmkit_rlock_open_at(const shmkit_segment *segment,
                                   uint64_t offset,
                                   const shmkit_object_options *options,
                                   shmkit_rlock **out);

/** Opens a recursive lock that another process exported: `offset` is what shmkit_rlock_fd returned there. */
shmkit_status shmkit_rlock_open_fd(int32_t fd,
                                   uint64_t offset,
                                   const shmkit_object_options *options,
                                   shmkit_rlock **out);

/** Exports a recursive lock: returns the descriptor and the offset that shmkit_rlock_open_fd needs in another process. */
shmkit_status shmkit_rlock_fd(const shmkit_rlock *rlock,
                              int32_t *fd,
                              uint64_t *offset);

/** Opens the segment that holds a recursive lock. */
shmkit_status shmkit_rlock_segment(const shmkit_rlock *rlock, shmkit_segment **out);

/** Removes the name of a recursive lock. Handles that are open stay valid. */
shmkit_status shmkit_rlock_unlink(shmkit_rlock *rlock);

/** Closes a handle of a recursive lock and frees it. NULL is SHMKIT_OK. */
shmkit_status shmkit_rlock_close(shmkit_rlock *rlock);

/**
 * Takes the lock, or takes it once more where this thread has it, waiting as shmkit_lock_acquire does.
 *
 * Errors and `owner_died` as there; SHMKIT_ERR_OVERFLOW: held 2^64 - 1 times.
 */
shmkit_status shmkit_rlock_acquire(shmkit_rlock *lock,
                                   int64_t timeout_ns,
                                   uint32_t flags,
                                   uint32_t *owner_died);

/** Gives the lock back once. SHMKIT_ERR_NOT_OWNER: this thread does not hold it. */
shmkit_status shmkit_rlock_release(shmkit_rlock *lock);

/** Tells how often this thread holds the lock; 0: not at all. */
shmkit_status shmkit_rlock_depth(const shmkit_rlock *lock, uint64_t *out);

/** Says that what the lock guards is whole again. SHMKIT_ERR_NOT_OWNER: this thread does not hold it. */
shmkit_status shmkit_rlock_mark_consistent(shmkit_rlock *lock);

/** Tells what is known of the lock; as shmkit_lock_stat. */
shmkit_status shmkit_rlock_stat(const shmkit_rlock *lock, shmkit_lock_info *out);

/* =================================================================================================
 * Readers-writer locks: many processes read at once, or one writes.
 * ================================================================================================= */

#ifndef SHMKIT_TYPES

/** In shmkit_rwlock_info: somebody writes, perhaps a dead process. */
#define SHMKIT_RWLOCK_WRITING 0x40000

/** In shmkit_rwlock_info: a writer died, and mark_consistent has not been called since. */
#define SHMKIT_RWLOCK_OWNER_DIED 0x80000

/** In shmkit_rwlock_info: somebody waits for the readers to leave, to write; perhaps a dead process. */
#define SHMKIT_RWLOCK_WAITING 0x200000

/**
 * A readers-writer lock: many processes read at once, or one writes. Its holders are processes; any thread of a holder
 * may give it back. A process may read several times at once; it writes once.
 *
 * Who reads changes nothing but a cache line of its own process. As soon as somebody wants to write, new readers wait
 * for it: writers do not starve. So who reads must not acquire it for reading once more before it has given it back,
 * unless nobody else ever writes: a writer that came in between waits for the first time, and the second time for that
 * writer.
 *
 * If a holder dies, however it dies, whoever waits gets the lock within 12 ms after the kernel has torn the dead process
 * down. Where it died writing, all who come later are told so: what the lock guards may be half written. A reader that
 * dies leaves nothing to tell. A handle may be used by all threads at once and by forked children.
 */
typedef struct shmkit_rwlock shmkit_rwlock;

/** How to make or open a readers-writer lock. All zeros but struct_size is what most want; so is a NULL pointer to it. */
typedef struct shmkit_rwlock_options {
  /** sizeof(shmkit_rwlock_options). */
  uint32_t struct_size;
  /** SHMKIT_TRUST, SHMKIT_EXCLUSIVE, or-ed. */
  uint32_t flags;
  /** Permission bits of a new named one. 0: 0600. */
  uint32_t mode;
  /** How many processes may use a new named one at a time, 1 to 4096. 0: 128. */
  uint32_t participants;
  /** Where a named one stands. NULL: SHMKIT_DIR, else /dev/shm. */
  const char *directory;
  /** How many processes may read at a time, 1 to 4096: each has a cache line for it. 0: 128. */
  uint32_t readers;
  /** 0. */
  uint32_t reserved;
} shmkit_rwlock_options;

/** What is known of a readers-writer lock: each figure as it was at some moment during the call. */
typedef struct shmkit_rwlock_info {
  /** sizeof(shmkit_rwlock_info); on return how much of it was filled. */
  uint32_t struct_size;
  /** SHMKIT_RWLOCK_WRITING, SHMKIT_RWLOCK_WAITING, SHMKIT_RWLOCK_OWNER_DIED, or-ed. */
  uint32_t flags;
  /** How often it was acquired for writing. How often for reading nobody counts. */
  uint64_t writes;
  /** How often somebody waited for a writer, or a writer for readers. */
  uint64_t contended;
  /** How many writers were found that had died writing. */
  uint64_t recoveries;
  /**
   * When the first to wait for who holds it now went to sleep, in nanoseconds of CLOCK_MONOTONIC, even if it has given
   * up since. 0: nobody has waited for that one.
   */
  uint64_t contended_since;
  /** The number of who writes, or waits to, among the participants of the segment, which no other ever has. 0: nobody. */
  uint64_t owner_ticket;
  /** Its PID namespace, as the inode of /proc/PID/ns/pid. 0: unknown. */
  uint64_t owner_namespace;
  /** Where it stands in its segment's data, or in its arena. */
  uint64_t offset;
  /** How often it is held for reading, by the dead too as long as no writer has waited for them. */
  uint64_t readers;
  /** The process number of who writes, or waits to, in that namespace. 0: nobody, or unknown. */
  uint32_t owner_pid;
  /** How many processes hold it for reading, the dead too as long as no writer has waited for them. */
  uint32_t reading_processes;
  /** How many processes may read at a time. */
  uint32_t max_readers;
  /** 0. */
  uint32_t reserved;
} shmkit_rwlock_info;

#endif /* SHMKIT_TYPES */

/** Returns how many bytes a readers-writer lock occupies in a segment: a multiple of 64. */
shmkit_status shmkit_rwlock_size(const shmkit_rwlock_options *options, uint64_t *out);

/** Creates a readers-writer lock: a named one in a file of its own, or, if `name` is NULL, an unnamed one. */
shmkit_status shmkit_rwlock_create(const char *name,
                                   const shmkit_rwlock_options *options,
                                   shmkit_rwlock **out);

/** Opens a readers-writer lock by its name. */
shmkit_status shmkit_rwlock_open(const char *name,
                                 const shmkit_rwlock_options *options,
                                 shmkit_rwlock **out);

/** Opens a readers-writer lock by its name, or creates it if there is none. */
shmkit_status shmkit_rwlock_open_or_create(const char *name,
                                           const shmkit_rwlock_options *options,
                                           shmkit_rwlock **out);

/** Opens a readers-writer lock at `offset` of a managed segment's data, or creates it there. */
shmkit_status shmkit_rwlock_create_at(const shmkit_segment *segment,
                                      uint64_t offset,
                                      const shmkit_rwlock_options *options,
                                      shmkit_rwlock **out);

/** Opens a readers-writer lock at `offset` of a managed segment's data. */
shmkit_status shmkit_rwlock_open_at(const shmkit_segment *segment,
                                    uint64_t offset,
                                    const shmkit_rwlock_options *options,
                                    shmkit_rwlock **out);

/** Opens a readers-writer lock that another process exported: `offset` is what shmkit_rwlock_fd returned there. */
shmkit_status shmkit_rwlock_open_fd(int32_t fd,
                                    uint64_t offset,
                                    const shmkit_rwlock_options *options,
                                    shmkit_rwlock **out);

/** Exports a readers-writer lock: returns the descriptor and the offset that shmkit_rwlock_open_fd needs in another process. */
shmkit_status shmkit_rwlock_fd(const shmkit_rwlock *rwlock,
                               int32_t *fd,
                               uint64_t *offset);

/** Opens the segment that holds a readers-writer lock. */
shmkit_status shmkit_rwlock_segment(const shmkit_rwlock *rwlock, shmkit_segment **out);

/** Removes the name of a readers-writer lock. Handles that are open stay valid. */
shmkit_status shmkit_rwlock_unlink(shmkit_rwlock *rwlock);

/** Closes a handle of a readers-writer lock and frees it. NULL is SHMKIT_OK. */
shmkit_status shmkit_rwlock_close(shmkit_rwlock *rwlock);

/**
 * Takes the lock for reading, waiting as shmkit_lock_acquire does until nobody writes or wants to.
 *
 * SHMKIT_OK if and only if the caller reads now. `owner_died` (NULL: not wanted) then tells 1 where a writer died and
 * shmkit_rwlock_mark_consistent has not been called since: what is read may be half written.
 *
 * Errors as of shmkit_lock_acquire; SHMKIT_ERR_TOO_MANY_PROCESSES: also where as many processes read as may at a time.
 * SHMKIT_ERR_OVERFLOW: this process reads 65,535 times.
 */
shmkit_status shmkit_rwlock_acquire_read(shmkit_rwlock *lock,
                                         int64_t timeout_ns,
                                         uint32_t flags,
                                         uint32_t *owner_died);

/** Gives back what was taken for reading, once. SHMKIT_ERR_NOT_OWNER: this process does not read. */
shmkit_status shmkit_rwlock_release_read(shmkit_rwlock *lock);

/**
 * Takes the lock for writing, waiting as shmkit_lock_acquire does until nobody writes or reads.
 *
 * New readers wait as soon as it is the caller's turn. SHMKIT_OK if and only if the caller writes now. `owner_died` (NULL:
 * not wanted) then tells 1 where a writer died and shmkit_rwlock_mark_consistent has not been called since: look at what
 * the lock guards, and make it whole.
 *
 * Errors as of shmkit_lock_acquire.
 */
shmkit_status shmkit_rwlock_acquire_write(shmkit_rwlock *lock,
                                          int64_t timeout_ns,
                                          uint32_t flags,
                                          uint32_t *owner_died);

/**
 * Gives back what was taken for writing.
 *
 * SHMKIT_ERR_NOT_OWNER: this process does not write. What a dead writer left marked stays marked until
 * shmkit_rwlock_mark_consistent.
 */
shmkit_status shmkit_rwlock_release_write(shmkit_rwlock *lock);

/**
 * Goes from reading to writing, waiting as shmkit_lock_acquire does until nobody else reads; nobody writes in between.
 *
 * SHMKIT_OK: the caller writes now, and reads once less. Else it still reads as before. SHMKIT_ERR_DEADLOCK: somebody
 * else waits for the readers, to write or to upgrade, and so for the caller: give it back and acquire it for writing;
 * that one writes in between. SHMKIT_ERR_NOT_OWNER: this process does not read. Other errors as of shmkit_lock_acquire.
 */
shmkit_status shmkit_rwlock_upgrade(shmkit_rwlock *lock,
                                    int64_t timeout_ns,
                                    uint32_t flags);

/**
 * Goes from writing to reading, without waiting; nobody writes in between.
 *
 * SHMKIT_ERR_NOT_OWNER: this process does not write. SHMKIT_ERR_TOO_MANY_PROCESSES, SHMKIT_ERR_OVERFLOW,
 * SHMKIT_ERR_LIVENESS_UNKNOWN: as of shmkit_rwlock_acquire_read; the caller still writes.
 */
shmkit_status shmkit_rwlock_downgrade(shmkit_rwlock *lock);

/**
 * Says that what the lock guards is whole again after a writer's death. SHMKIT_ERR_NOT_OWNER: this process does not
 * write.
 */
shmkit_status shmkit_rwlock_mark_consistent(shmkit_rwlock *lock);

/** Tells what is known of the lock. Nobody is asked whether its holders live: only an acquire does that. */
shmkit_status shmkit_rwlock_stat(const shmkit_rwlock *lock,
                                 shmkit_rwlock_info *out);

/* =================================================================================================
 * Semaphores: permits that processes and threads take and give back; with undo the dead give back theirs.
 * ================================================================================================= */

#ifndef SHMKIT_TYPES

/** What a process holds comes back when it ends. Only it may give it back before. */
#define SHMKIT_SEMAPHORE_UNDO 0x10000

/**
 * A semaphore: a number of permits, which are taken and given back.
 *
 * A plain one is for signalling, as sem_t is: anybody may give permits, any number of processes may use it, and what a
 * process had taken when it died is gone. One with SHMKIT_SEMAPHORE_UNDO is for things that processes hold: it records
 * who holds how many, and what a process holds comes back when it ends, however it ends, within 12 ms after the kernel
 * has torn it down. Who waits is served in no order; who wants many may wait for long where others want few. A handle
 * may be used by all threads at once and by forked children, which hold nothing of what their parent holds.
 */
typedef struct shmkit_semaphore shmkit_semaphore;

/**
 * How to make or open a semaphore. All zeros but struct_size is a plain one without a permit; so is a NULL pointer to
 * it.
 */
typedef struct shmkit_semaphore_options {
  /** sizeof(shmkit_semaphore_options). */
  uint32_t struct_size;
  /** SHMKIT_SEMAPHORE_UNDO, SHMKIT_TRUST, SHMKIT_EXCLUSIVE, or-ed. */
  uint32_t flags;
  /** Permission bits of a new named one. 0: 0600. */
  uint32_t mode;
  /** How many processes may use a new named one at a time, 1 to 4096; of a plain one any number may. 0: 128. */
  uint32_t participants;
  /** Where a named one stands. NULL: SHMKIT_DIR, else /dev/shm. */
  const char *directory;
  /** How many permits a new one has, 0 to 2147483647. With undo that is how many there are, so at least 1. */
  uint64_t value;
  /** How many it may ever have. 0: 2147483647, or with undo `value`, and nothing else is possible then. */
  uint64_t maximum;
  /** With undo: how many processes may hold permits at a time, 1 to 4096. 0: 128. */
  uint32_t processes;
  /** 0. */
  uint32_t reserved;
} shmkit_semaphore_options;

/** What is known of a semaphore: each figure as it was at some moment during the call. */
typedef struct shmkit_semaphore_info {
  /** sizeof(shmkit_semaphore_info); on return how much of it was filled. */
  uint32_t struct_size;
  /** SHMKIT_SEMAPHORE_UNDO or 0. */
  uint32_t flags;
  /** How many permits are to be had. */
  uint64_t value;
  /** How many there may be; with undo: how many there are in all. */
  uint64_t maximum;
  /** How often an acquire had to sleep: counted when it begins to. */
  uint64_t waits;
  /** How often permits came back from a dead process. */
  uint64_t recoveries;
  /** With undo: how many processes hold permits, perhaps dead ones. */
  uint64_t holders;
  /** Where it stands in its segment's data, or in its arena. */
  uint64_t offset;
  /** With undo: how many processes may hold permits at a time. */
  uint32_t processes;
  /** 0. */
  uint32_t reserved;
} shmkit_semaphore_info;

#endif /* SHMKIT_TYPES */

/** Returns how many bytes a semaphore occupies in a segment: a multiple of 64. */
shmkit_status shmkit_semaphore_size(const shmkit_semaphore_options *options, uint64_t *out);

/** Creates a semaphore: a named one in a file of its own, or, if `name` is NULL, an unnamed one. */
shmkit_status shmkit_semaphore_create(const char *name,
                                      const shmkit_semaphore_options *options,
                                      shmkit_semaphore **out);

/** Opens a semaphore by its name. */
shmkit_status shmkit_semaphore_open(const char *name,
                                    const shmkit_semaphore_options *options,
                                    shmkit_semaphore **out);

/** Opens a semaphore by its name, or creates it if there is none. */
shmkit_status shmkit_semaphore_open_or_create(const char *name,
                                              const shmkit_semaphore_options *options,
                                              shmkit_semaphore **out);

/** Opens a semaphore at `offset` of a managed segment's data, or creates it there. */
shmkit_status shmkit_semaphore_create_at(const shmkit_segment *segment,
                                         uint64_t offset,
                                         const shmkit_semaphore_options *options,
                                         shmkit_semaphore **out);

/** Opens a semaphore at `offset` of a managed segment's data. */
shmkit_status shmkit_semaphore_open_at(const shmkit_segment *segment,
                                       uint64_t offset,
                                       const shmkit_semaphore_options *options,
                                       shmkit_semaphore **out);

/** Opens a semaphore that another process exported: `offset` is what shmkit_semaphore_fd returned there. */
shmkit_status shmkit_semaphore_open_fd(int32_t fd,
                                       uint64_t offset,
                                       const shmkit_semaphore_options *options,
                                       shmkit_semaphore **out);

/** Exports a semaphore: returns the descriptor and the offset that shmkit_semaphore_open_fd needs in another process. */
shmkit_status shmkit_semaphore_fd(const shmkit_semaphore *semaphore,
                                  int32_t *fd,
                                  uint64_t *offset);

/** Opens the segment that holds a semaphore. */
shmkit_status shmkit_semaphore_segment(const shmkit_semaphore *semaphore,
                                       shmkit_segment **out);

/** Removes the name of a semaphore. Handles that are open stay valid. */
shmkit_status shmkit_semaphore_unlink(shmkit_semaphore *semaphore);

/** Closes a handle of a semaphore and frees it. NULL is SHMKIT_OK. */
shmkit_status shmkit_semaphore_close(shmkit_semaphore *semaphore);

/**
 * Takes `n` permits, all of them or none, waiting up to `timeout_ns` nanoseconds: SHMKIT_FOREVER, SHMKIT_NOWAIT, or a
 * time.
 *
 * SHMKIT_OK if and only if they are taken. `flags`: SHMKIT_INTERRUPTIBLE. Memory written before a release is seen
 * after the acquire that takes what it gave.
 *
 * SHMKIT_ERR_WOULD_BLOCK: not as many are there, and SHMKIT_NOWAIT. SHMKIT_ERR_TIMEOUT. SHMKIT_ERR_INTERRUPTED.
 * SHMKIT_ERR_INVALID: `n` is 0, or more than there may ever be; a negative time, unknown flags. With undo also
 * SHMKIT_ERR_TOO_MANY_PROCESSES: as many living processes hold permits as the options said, or use the segment as it has
 * room for. SHMKIT_ERR_OVERFLOW: one process holds at most 65535. SHMKIT_ERR_LIVENESS_UNKNOWN: they are held, and this process
 * has lost all descriptors of the segment (closefrom), so it cannot ask whether the holders live.
 * SHMKIT_ERR_PERMISSION: the file cannot be written. SHMKIT_ERR_CORRUPT. Where a process is stopped just while it takes
 * or gives, one with undo keeps even SHMKIT_NOWAIT waiting, for a second at the most.
 */
shmkit_status shmkit_semaphore_acquire(shmkit_semaphore *semaphore,
                                       uint32_t n,
                                       int64_t timeout_ns,
                                       uint32_t flags);

/**
 * Gives `n` permits back; of a plain one anybody may, whether or not they were taken before.
 *
 * Of a plain one a signal handler may call it, as it may sem_post, as long as it does not fail: then nothing is
 * allocated and nothing is waited for. With undo it waits for whoever is just taking or giving, which takes less than
 * a microsecond.
 *
 * SHMKIT_ERR_OVERFLOW: there would be more permits than there may be, so none is given. SHMKIT_ERR_INVALID: `n` is 0.
 * With undo SHMKIT_ERR_NOT_OWNER: this process does not hold as many. SHMKIT_ERR_TIMEOUT: somebody was stopped five
 * seconds ago while just taking or giving; it is not given back. SHMKIT_ERR_LIVENESS_UNKNOWN. SHMKIT_ERR_CORRUPT.
 */
shmkit_status shmkit_semaphore_release(shmkit_semaphore *semaphore,
                                       uint32_t n);

/**
 * Tells how many permits are to be had. What the dead hold is not looked for: only an acquire does that.
 *
 * SHMKIT_ERR_CORRUPT: more than there may be.
 */
shmkit_status shmkit_semaphore_value(const shmkit_semaphore *semaphore,
                                     uint64_t *out);

/** Tells how many permits this process holds. SHMKIT_ERR_INVALID: without undo nobody knows. */
shmkit_status shmkit_semaphore_held(const shmkit_semaphore *semaphore, uint64_t *out);

/**
 * Tells what is known of the semaphore. Nobody is asked whether the holders live: only an acquire does that.
 *
 * SHMKIT_ERR_CORRUPT: it says that it has more permits than there may be.
 */
shmkit_status shmkit_semaphore_stat(const shmkit_semaphore *semaphore,
                                    shmkit_semaphore_info *out);

/* =================================================================================================
 * Conditions: a thread that holds a lock waits, without it, until another one that holds it notifies.
 * ================================================================================================= */

#ifndef SHMKIT_TYPES

/**
 * A condition: who holds a lock gives it back and waits until somebody who holds it notifies; then has it again. The
 * lock is a shmkit_lock or a shmkit_rlock of the caller's, which is named in each call: always the same one.
 *
 * Each waiting thread has a cell, so that a notification reaches those that it is meant for, and nobody else returns. If
 * a waiter dies, however it dies, it is skipped, and a notification that it was sent goes to another one that waited
 * then, within 12 ms after the kernel has torn the dead process down. A handle may be used by all threads at once and by
 * forked children.
 */
typedef struct shmkit_condition shmkit_condition;

/** How to make or open a condition. All zeros but struct_size is what most want; so is a NULL pointer to it. */
typedef struct shmkit_condition_options {
  /** sizeof(shmkit_condition_options). */
  uint32_t struct_size;
  /** SHMKIT_TRUST, SHMKIT_EXCLUSIVE, or-ed. */
  uint32_t flags;
  /** Permission bits of a new named one. 0: 0600. */
  uint32_t mode;
  /** How many processes may wait at a new named one at a time, 1 to 4096. 0: 128. */
  uint32_t participants;
  /** Where a named one stands. NULL: SHMKIT_DIR, else /dev/shm. */
  const char *directory;
  /** How many threads may wait at a time, 1 to 4096; of all processes together. 0: 128. */
  uint32_t cells;
  /** 0. */
  uint32_t reserved;
} shmkit_condition_options;

/** What is known of a condition: each figure as it was at some moment during the call. */
typedef struct shmkit_condition_info {
  /** sizeof(shmkit_condition_info); on return how much of it was filled. */
  uint32_t struct_size;
  /** 0. */
  uint32_t flags;
  /** How many threads can wait at a time. */
  uint64_t cells;
  /** How many wait; of these some may be dead. */
  uint64_t waiting;
  /** How often somebody began to wait. */
  uint64_t waits;
  /** How many notifications waiters were sent. */
  uint64_t notified;
  /** How many waits ended without a notification. */
  uint64_t timeouts;
  /** How many notifications went from the dead and the interrupted to other waiters. */
  uint64_t recoveries;
  /** Where it stands in its segment's data, or in its arena. */
  uint64_t offset;
} shmkit_condition_info;

#endif /* SHMKIT_TYPES */

/** Returns how many bytes a condition occupies in a segment: a multiple of 64. */
shmkit_status shmkit_condition_size(const shmkit_condition_options *options, uint64_t *out);

/** Creates a condition: a named one in a file of its own, or, if `name` is NULL, an unnamed one. */
shmkit_status shmkit_condition_create(const char *name,
                                      const shmkit_condition_options *options,
                                      shmkit_condition **out);

/** Opens a condition by its name. */
shmkit_status shmkit_condition_open(const char *name,
                                    const shmkit_condition_options *options,
                                    shmkit_condition **out);

/** Opens a condition by its name, or creates it if there is none. */
shmkit_status shmkit_condition_open_or_create(const char *name,
                                              const shmkit_condition_options *options,
                                              shmkit_condition **out);

/** Opens a condition at `offset` of a managed segment's data, or creates it there. */
shmkit_status shmkit_condition_create_at(const shmkit_segment *segment,
                                         uint64_t offset,
                                         const shmkit_condition_options *options,
                                         shmkit_condition **out);

/** Opens a condition at `offset` of a managed segment's data. */
shmkit_status shmkit_condition_open_at(const shmkit_segment *segment,
                                       uint64_t offset,
                                       const shmkit_condition_options *options,
                                       shmkit_condition **out);

/** Opens a condition that another process exported: `offset` is what shmkit_condition_fd returned there. */
shmkit_status shmkit_condition_open_fd(int32_t fd,
                                       uint64_t offset,
                                       const shmkit_condition_options *options,
                                       shmkit_condition **out);

/** Exports a condition: returns the descriptor and the offset that shmkit_condition_open_fd needs in another process. */
shmkit_status shmkit_condition_fd(const shmkit_condition *condition,
                                  int32_t *fd,
                                  uint64_t *offset);

/** Opens the segment that holds a condition. */
shmkit_status shmkit_condition_segment(const shmkit_condition *condition,
                                       shmkit_segment **out);

/** Removes the name of a condition. Handles that are open stay valid. */
shmkit_status shmkit_condition_unlink(shmkit_condition *condition);

/** Closes a handle of a condition and frees it. NULL is SHMKIT_OK. */
shmkit_status shmkit_condition_close(shmkit_condition *condition);

/**
 * Gives the lock back, waits up to `timeout_ns` nanoseconds for a notification, and takes the lock again.
 *
 * `lock_or_rlock`: a handle of a shmkit_lock or of a shmkit_rlock, which the caller holds; a recursive one is given back wholly,
 * and held as often as before afterwards. `timeout_ns`: SHMKIT_FOREVER, SHMKIT_NOWAIT (others get a chance at the lock),
 * or a time. `flags`: SHMKIT_INTERRUPTIBLE. Taking the lock again is bounded by no time, and nothing interrupts it.
 *
 * SHMKIT_OK: notified. SHMKIT_ERR_TIMEOUT, SHMKIT_ERR_WOULD_BLOCK (after SHMKIT_NOWAIT): not notified in that time.
 * SHMKIT_ERR_INTERRUPTED: the hook has ended it; a notification that came at the same moment goes to another waiter.
 * With these four `owner_died` (NULL: not wanted) tells 1 where an owner of the lock died and mark_consistent has not been
 * called since: look at what the lock guards, and make it whole.
 *
 * The lock is held again whatever this returns, but for SHMKIT_ERR_NOT_OWNER: the caller did not hold it; or it is not to
 * be had again, because this process has lost all descriptors of its segment while somebody else holds it (closefrom).
 * SHMKIT_ERR_INVALID: NULL, a negative time, unknown flags; or another lock than the one with which the condition was used
 * first, in any process. SHMKIT_ERR_WRONG_KIND: `lock_or_rlock` is no lock. SHMKIT_ERR_TOO_MANY_PROCESSES: as many threads as the
 * condition has cells wait already, or as many processes as its segment has room for are alive. SHMKIT_ERR_LIVENESS_UNKNOWN,
 * SHMKIT_ERR_PERMISSION: this process cannot wait in its segment. SHMKIT_ERR_CORRUPT.
 *
 * Ask in a loop for what you wait for: between a notification and the lock others may have had it.
 */
shmkit_status shmkit_condition_wait(shmkit_condition *condition,
                                    void *lock_or_rlock,
                                    int64_t timeout_ns,
                                    uint32_t flags,
                                    uint32_t *owner_died);

/**
 * Notifies the `count` threads that have waited longest, or as many as wait: those return, and no others, once they have
 * the lock that the caller holds. The dead are skipped. Nobody waits: nothing happens, and nothing is remembered.
 *
 * SHMKIT_ERR_NOT_OWNER: the caller does not hold `lock_or_rlock`. SHMKIT_ERR_INVALID, SHMKIT_ERR_WRONG_KIND: as of
 * shmkit_condition_wait.
 */
shmkit_status shmkit_condition_notify(shmkit_condition *condition,
                                      void *lock_or_rlock,
                                      uint32_t count);

/** Notifies all threads that wait; otherwise as shmkit_condition_notify. */
shmkit_status shmkit_condition_notify_all(shmkit_condition *condition, void *lock_or_rlock);

/** Tells what is known of the condition. Nobody is asked who lives: only a notification does that. */
shmkit_status shmkit_condition_stat(const shmkit_condition *condition,
                                    shmkit_condition_info *out);

/* =================================================================================================
 * Events: something that has happened or has not, for which processes and threads can wait.
 * ================================================================================================= */

#ifndef SHMKIT_TYPES

/** In shmkit_event_info: it is set. */
#define SHMKIT_EVENT_SET 0x40000

/**
 * An event: set, or clear. Nobody owns it, and any number of processes and threads may set it, clear it and wait for it;
 * none of them takes a place among the participants of the segment. A handle may be used by all threads at once and by
 * forked children.
 *
 * If one of them dies, however it dies, all others go on: a wake that was lost with it costs 12 ms at the most.
 *
 * shmkit_event_set, shmkit_event_clear and shmkit_event_is_set may be called by a signal handler, whatever it has
 * interrupted, these functions too, as long as the handle is one of an event that is open: they allocate nothing, lock
 * nothing and leave errno as it is.
 */
typedef struct shmkit_event shmkit_event;

/** What is known of an event: each figure as it was at some moment during the call. */
typedef struct shmkit_event_info {
  /** sizeof(shmkit_event_info); on return how much of it was filled. */
  uint32_t struct_size;
  /** SHMKIT_EVENT_SET, or 0. */
  uint32_t flags;
  /** How often it was set when it was clear. */
  uint64_t sets;
  /** How often somebody had to sleep for it. */
  uint64_t waits;
  /** Where it stands in its segment's data, or in its arena. */
  uint64_t offset;
} shmkit_event_info;

#endif /* SHMKIT_TYPES */

/** Returns how many bytes an event occupies in a segment: a multiple of 64. */
shmkit_status shmkit_event_size(const shmkit_object_options *options, uint64_t *out);

/** Creates an event: a named one in a file of its own, or, if `name` is NULL, an unnamed one. */
shmkit_status shmkit_event_create(const char *name,
                                  const shmkit_object_options *options,
                                  shmkit_event **out);

/** Opens an event by its name. */
shmkit_status shmkit_event_open(const char *name,
                                const shmkit_object_options *options,
                                shmkit_event **out);

/** Opens an event by its name, or creates it if there is none. */
shmkit_status shmkit_event_open_or_create(const char *name,
                                          const shmkit_object_options *options,
                                          shmkit_event **out);

/** Opens an event at `offset` of a managed segment's data, or creates it there. */
shmkit_status shmkit_event_create_at(const shmkit_segment *segment,
                                     uint64_t offset,
                                     const shmkit_object_options *options,
                                     shmkit_event **out);

/** Opens an event at `offset` of a managed segment's data. */
shmkit_status shmkit_event_open_at(const shmkit_segment *segment,
                                   uint64_t offset,
                                   const shmkit_object_options *options,
                                   shmkit_event **out);

/** Opens an event that another process exported: `offset` is what shmkit_event_fd returned there. */
shmkit_status shmkit_event_open_fd(int32_t fd,
                                   uint64_t offset,
                                   const shmkit_object_options *options,
                                   shmkit_event **out);

/** Exports an event: returns the descriptor and the offset that shmkit_event_open_fd needs in another process. */
shmkit_status shmkit_event_fd(const shmkit_event *event,
                              int32_t *fd,
                              uint64_t *offset);

/** Opens the segment that holds an event. */
shmkit_status shmkit_event_segment(const shmkit_event *event, shmkit_segment **out);

/** Removes the name of an event. Handles that are open stay valid. */
shmkit_status shmkit_event_unlink(shmkit_event *event);

/** Closes a handle of an event and frees it. NULL is SHMKIT_OK. */
shmkit_status shmkit_event_close(shmkit_event *event);

/**
 * Sets the event: all go on that wait for it, and nobody waits until it is cleared. What the caller has done before is
 * seen by whoever goes on. A signal handler may call it.
 */
shmkit_status shmkit_event_set(shmkit_event *event);

/**
 * Clears the event: who waits from now on waits until it is set again. Who had begun to wait before it was set goes on
 * all the same. A signal handler may call it.
 */
shmkit_status shmkit_event_clear(shmkit_event *event);

/** Tells whether the event is set: 1 or 0. A signal handler may call it. */
shmkit_status shmkit_event_is_set(const shmkit_event *event, uint32_t *out);

/**
 * Waits up to `timeout_ns` nanoseconds until the event is set: SHMKIT_FOREVER, SHMKIT_NOWAIT, or a time.
 *
 * SHMKIT_OK if it is set, or was at some moment since the call began: shmkit_event_set and then shmkit_event_clear lets
 * all go on that had begun to wait. `flags`: SHMKIT_INTERRUPTIBLE.
 *
 * SHMKIT_ERR_WOULD_BLOCK: it is not set, and SHMKIT_NOWAIT. SHMKIT_ERR_TIMEOUT. SHMKIT_ERR_INTERRUPTED.
 * SHMKIT_ERR_INVALID: a negative time, unknown flags.
 */
shmkit_status shmkit_event_wait(shmkit_event *event,
                                int64_t timeout_ns,
                                uint32_t flags);

/** Tells what is known of the event. */
shmkit_status shmkit_event_stat(const shmkit_event *event,
                                shmkit_event_info *out);

/* =================================================================================================
 * Barriers: so many processes and threads wait for each other; one that dies waiting breaks the barrier.
 * ================================================================================================= */

#ifndef SHMKIT_TYPES

/** For shmkit_barrier_wait: the last to come holds the others, until it calls shmkit_barrier_release. */
#define SHMKIT_BARRIER_SERIAL 0x2

/** In shmkit_barrier_info: it is broken. */
#define SHMKIT_BARRIER_BROKEN 0x40000

/** The most parties a barrier can have. */
#define SHMKIT_BARRIER_MAX_PARTIES 2048

/**
 * A barrier: its parties wait until all of them are there, and then all go on, turn after turn. Each thread that waits
 * is a party, of the same process or of others.
 *
 * If one dies while it waits, however it dies, the barrier is broken, and who waits or comes is told so, within 12 ms
 * after the kernel has torn the dead process down. One that dies elsewhere is missed like one that has not come yet: give
 * waits a time. A handle may be used by all threads at once and by forked children.
 */
typedef struct shmkit_barrier shmkit_barrier;

/** How to make or open a barrier. Who makes one sets struct_size and parties; to open one a NULL pointer does. */
typedef struct shmkit_barrier_options {
  /** sizeof(shmkit_barrier_options). */
  uint32_t struct_size;
  /** SHMKIT_TRUST, SHMKIT_EXCLUSIVE, or-ed. */
  uint32_t flags;
  /** Permission bits of a new named one. 0: 0600. */
  uint32_t mode;
  /** How many processes may use a new named one at a time, 1 to 4096. 0: 128. */
  uint32_t participants;
  /** Where a named one stands. NULL: SHMKIT_DIR, else /dev/shm. */
  const char *directory;
  /** How many must come, 1 to SHMKIT_BARRIER_MAX_PARTIES. Who only opens one need not know: 0. */
  uint32_t parties;
  /** 0. */
  uint32_t reserved;
} shmkit_barrier_options;

/** What is known of a barrier: each figure as it was at some moment during the call. */
typedef struct shmkit_barrier_info {
  /** sizeof(shmkit_barrier_info); on return how much of it was filled. */
  uint32_t struct_size;
  /** SHMKIT_BARRIER_BROKEN, or 0. */
  uint32_t flags;
  /** How many must come. */
  uint32_t parties;
  /** How many wait; 0 of a broken one. */
  uint32_t waiting;
  /** How often all were there and went on. */
  uint64_t turns;
  /** How often it was broken: by abort, by a reset while somebody waited, by a wait whose time was over, by a death. */
  uint64_t breaks;
  /** How often one that had died was the reason. */
  uint64_t deaths;
  /** Where it stands in its segment's data, or in its arena. */
  uint64_t offset;
} shmkit_barrier_info;

#endif /* SHMKIT_TYPES */

/** Returns how many bytes a barrier occupies in a segment: a multiple of 64. */
shmkit_status shmkit_barrier_size(const shmkit_barrier_options *options, uint64_t *out);

/** Creates a barrier: a named one in a file of its own, or, if `name` is NULL, an unnamed one. */
shmkit_status shmkit_barrier_create(const char *name,
                                    const shmkit_barrier_options *options,
                                    shmkit_barrier **out);

/** Opens a barrier by its name. */
shmkit_status shmkit_barrier_open(const char *name,
                                  const shmkit_barrier_options *options,
                                  shmkit_barrier **out);

/** Opens a barrier by its name, or creates it if there is none. */
shmkit_status shmkit_barrier_open_or_create(const char *name,
                                            const shmkit_barrier_options *options,
                                            shmkit_barrier **out);

/** Opens a barrier at `offset` of a managed segment's data, or creates it there. */
shmkit_status shmkit_barrier_create_at(const shmkit_segment *segment,
                                       uint64_t offset,
                                       const shmkit_barrier_options *options,
                                       shmkit_barrier **out);

/** Opens a barrier at `offset` of a managed segment's data. */
shmkit_status shmkit_barrier_open_at(const shmkit_segment *segment,
                                     uint64_t offset,
                                     const shmkit_barrier_options *options,
                                     shmkit_barrier **out);

/** Opens a barrier that another process exported: `offset` is what shmkit_barrier_fd returned there. */
shmkit_status shmkit_barrier_open_fd(int32_t fd,
                                     uint64_t offset,
                                     const shmkit_barrier_options *options,
                                     shmkit_barrier **out);

/** Exports a barrier: returns the descriptor and the offset that shmkit_barrier_open_fd needs in another process. */
shmkit_status shmkit_barrier_fd(const shmkit_barrier *barrier,
                                int32_t *fd,
                                uint64_t *offset);

/** Opens the segment that holds a barrier. */
shmkit_status shmkit_barrier_segment(const shmkit_barrier *barrier, shmkit_segment **out);

/** Removes the name of a barrier. Handles that are open stay valid. */
shmkit_status shmkit_barrier_unlink(shmkit_barrier *barrier);

/** Closes a handle of a barrier and frees it. NULL is SHMKIT_OK. */
shmkit_status shmkit_barrier_close(shmkit_barrier *barrier);

/**
 * Waits until all parties are there, up to `timeout_ns` nanoseconds: SHMKIT_FOREVER, SHMKIT_NOWAIT, or a time.
 *
 * `place` (NULL: not wanted) gets the caller's place among them, from 0 on: no two are alike, and the last to come has
 * the highest, parties - 1. What each party has done before it came is seen by all behind the barrier.
 *
 * `flags`: SHMKIT_INTERRUPTIBLE; SHMKIT_BARRIER_SERIAL: the last to come, which is told so by its place, returns while
 * all others still wait, and has something to itself to do. Then it calls shmkit_barrier_release, or shmkit_barrier_abort
 * if it has failed. If it dies in between, the barrier is broken.
 *
 * SHMKIT_ERR_BROKEN: one of those who waited has died, or somebody has called abort or reset, or was out of time; it
 * comes without waiting as long as nobody has called shmkit_barrier_reset. SHMKIT_ERR_TIMEOUT: the barrier is broken
 * now; not so if the caller was not let in in that time, because the last one held the others, or somebody was stopped
 * while it came. SHMKIT_ERR_WOULD_BLOCK: others are missing, or one of those two, and SHMKIT_NOWAIT: the caller has not
 * come. SHMKIT_ERR_INTERRUPTED: the caller has come and gone, and the others wait for as many as before; if they have
 * passed meanwhile, they have passed. SHMKIT_ERR_INVALID: a negative time, unknown flags. SHMKIT_ERR_TOO_MANY_PROCESSES: as
 * many processes as the segment has room for are alive. SHMKIT_ERR_LIVENESS_UNKNOWN: this process has lost all descriptors of
 * the segment (closefrom), so it cannot ask who lives. SHMKIT_ERR_PERMISSION: the file cannot be written.
 * SHMKIT_ERR_CORRUPT.
 */
shmkit_status shmkit_barrier_wait(shmkit_barrier *barrier,
                                  int64_t timeout_ns,
                                  uint32_t flags,
                                  uint32_t *place);

/**
 * Lets those go on whom the last to come has held (SHMKIT_BARRIER_SERIAL). Any thread of its process may call it.
 *
 * SHMKIT_ERR_BROKEN: somebody has broken the barrier meanwhile. SHMKIT_ERR_NOT_OWNER: this process holds nobody, or
 * somebody has called shmkit_barrier_reset meanwhile.
 */
shmkit_status shmkit_barrier_release(shmkit_barrier *barrier);

/**
 * Has the barrier be as new: whole, and nobody waits. Who waits gets SHMKIT_ERR_BROKEN; what the dead have left goes.
 *
 * SHMKIT_ERR_TIMEOUT: somebody was stopped a second ago while it came or went. SHMKIT_ERR_TOO_MANY_PROCESSES,
 * SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_PERMISSION, SHMKIT_ERR_CORRUPT: as for shmkit_barrier_wait. Then nothing has been
 * done.
 */
shmkit_status shmkit_barrier_reset(shmkit_barrier *barrier);

/** Breaks the barrier: who waits, or comes before somebody calls shmkit_barrier_reset, gets SHMKIT_ERR_BROKEN. */
shmkit_status shmkit_barrier_abort(shmkit_barrier *barrier);

/** Tells how many must come. */
shmkit_status shmkit_barrier_parties(const shmkit_barrier *barrier,
                                     uint32_t *out);

/** Tells how many wait; 0 of a broken barrier. */
shmkit_status shmkit_barrier_waiting(const shmkit_barrier *barrier, uint32_t *out);

/** Tells 1 where the barrier is broken, else 0. Nobody is asked who lives: only a wait does that. */
shmkit_status shmkit_barrier_is_broken(const shmkit_barrier *barrier, uint32_t *out);

/** Tells what is known of the barrier. Nobody is asked who lives: only a wait does that. */
shmkit_status shmkit_barrier_stat(const shmkit_barrier *barrier,
                                  shmkit_barrier_info *out);

/* =================================================================================================
 * Once flags: something that is done exactly once among all processes.
 * ================================================================================================= */

#ifndef SHMKIT_TYPES

/** In shmkit_once_info: somebody is doing it, perhaps a dead process. */
#define SHMKIT_ONCE_RUNNING 0x40000

/** In shmkit_once_info: somebody died halfway, and it is not done yet. */
#define SHMKIT_ONCE_OWNER_DIED 0x80000

/** In shmkit_once_info: it is done. */
#define SHMKIT_ONCE_DONE 0x200000

/**
 * A once: not done, being done by one process, or done, which stays so. Of all who begin, one has it to do; the others
 * wait until it is done.
 *
 * If that one dies, however it dies, the next one has it to do within 12 ms after the kernel has torn the dead process
 * down, and is told so: it may be half done. The owner is a process; any thread of it may say that it is done. Who
 * begins again before that waits for itself. A handle may be used by all threads at once and by forked children.
 */
typedef struct shmkit_once shmkit_once;

/** What is known of a once: each figure as it was at some moment during the call. */
typedef struct shmkit_once_info {
  /** sizeof(shmkit_once_info); on return how much of it was filled. */
  uint32_t struct_size;
  /** SHMKIT_ONCE_RUNNING, SHMKIT_ONCE_OWNER_DIED, SHMKIT_ONCE_DONE, or-ed. */
  uint32_t flags;
  /** How often it was begun. */
  uint64_t attempts;
  /** How often it was taken over from the dead. */
  uint64_t recoveries;
  /** How often somebody had to sleep for it. */
  uint64_t waits;
  /** The number of who is doing it among the participants of the segment, which no other ever has. 0: nobody is. */
  uint64_t owner_ticket;
  /** Its PID namespace, as the inode of /proc/PID/ns/pid. 0: unknown. */
  uint64_t owner_namespace;
  /** Where the once stands in its segment's data, or in its arena. */
  uint64_t offset;
  /** The process number of who is doing it, in that namespace. 0: nobody is, or unknown. */
  uint32_t owner_pid;
  /** 0. */
  uint32_t reserved;
} shmkit_once_info;

#endif /* SHMKIT_TYPES */

/** Returns how many bytes a once flag occupies in a segment: a multiple of 64. */
shmkit_status shmkit_once_size(const shmkit_object_options *options, uint64_t *out);

/** Creates a once flag: a named one in a file of its own, or, if `name` is NULL, an unnamed one. */
shmkit_status shmkit_once_create(const char *name,
                                 const shmkit_object_options *options,
                                 shmkit_once **out);

/** Opens a once flag by its name. */
shmkit_status shmkit_once_open(const char *name,
                               const shmkit_object_options *options,
                               shmkit_once **out);

/** Opens a once flag by its name, or creates it if there is none. */
shmkit_status shmkit_once_open_or_create(const char *name,
                                         const shmkit_object_options *options,
                                         shmkit_once **out);

/** Opens a once flag at `offset` of a managed segment's data, or creates it there. */
shmkit_status shmkit_once_create_at(const shmkit_segment *segment,
                                    uint64_t offset,
                                    const shmkit_object_options *options,
                                    shmkit_once **out);

/** Opens a once flag at `offset` of a managed segment's data. */
shmkit_status shmkit_once_open_at(const shmkit_segment *segment,
                                  uint64_t offset,
                                  const shmkit_object_options *options,
                                  shmkit_once **out);

/** Opens a once flag that another process exported: `offset` is what shmkit_once_fd returned there. */
shmkit_status shmkit_once_open_fd(int32_t fd,
                                  uint64_t offset,
                                  const shmkit_object_options *options,
                                  shmkit_once **out);

/** Exports a once flag: returns the descriptor and the offset that shmkit_once_open_fd needs in another process. */
shmkit_status shmkit_once_fd(const shmkit_once *once,
                             int32_t *fd,
                             uint64_t *offset);

/** Opens the segment that holds a once flag. */
shmkit_status shmkit_once_segment(const shmkit_once *once, shmkit_segment **out);

/** Removes the name of a once flag. Handles that are open stay valid. */
shmkit_status shmkit_once_unlink(shmkit_once *once);

/** Closes a handle of a once flag and frees it. NULL is SHMKIT_OK. */
shmkit_status shmkit_once_close(shmkit_once *once);

/**
 * Begins, unless it is done: waits up to `timeout_ns` nanoseconds for who is doing it: SHMKIT_FOREVER, SHMKIT_NOWAIT, or a
 * time.
 *
 * SHMKIT_OK and `mine` 1: the caller has it to do, and then calls shmkit_once_done, or shmkit_once_abort where it cannot.
 * `owner_died` (NULL: not wanted) tells 1 where somebody died halfway before: it may be half done. SHMKIT_OK and `mine` 0:
 * it is done, and what was done before shmkit_once_done is seen. `flags`: SHMKIT_INTERRUPTIBLE.
 *
 * SHMKIT_ERR_WOULD_BLOCK: a living process is doing it, and SHMKIT_NOWAIT. SHMKIT_ERR_TIMEOUT. SHMKIT_ERR_INTERRUPTED.
 * SHMKIT_ERR_INVALID: a negative time, unknown flags, `mine` is NULL. SHMKIT_ERR_TOO_MANY_PROCESSES: as many processes as the
 * segment has room for are alive. SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_PERMISSION, SHMKIT_ERR_CORRUPT: as of
 * shmkit_lock_acquire.
 */
shmkit_status shmkit_once_begin(shmkit_once *once,
                                int64_t timeout_ns,
                                uint32_t flags,
                                uint32_t *mine,
                                uint32_t *owner_died);

/**
 * Says that it is done, which stays so: whoever waits goes on, and whoever begins finds it done.
 *
 * SHMKIT_ERR_NOT_OWNER: this process is not doing it.
 */
shmkit_status shmkit_once_done(shmkit_once *once);

/**
 * Gives it back undone: the next one has it to do. Where somebody had died halfway, that one is told so again.
 *
 * SHMKIT_ERR_NOT_OWNER: this process is not doing it.
 */
shmkit_status shmkit_once_abort(shmkit_once *once);

/** Tells whether it is done: 1 or 0. If it is, what was done before shmkit_once_done is seen. */
shmkit_status shmkit_once_is_done(const shmkit_once *once, uint32_t *out);

/** Tells what is known of it. Nobody is asked whether who is doing it lives: only begin does that. */
shmkit_status shmkit_once_stat(const shmkit_once *once, shmkit_once_info *out);

/* =================================================================================================
 * Queues: messages from many producers to many consumers.
 * ================================================================================================= */

#ifndef SHMKIT_TYPES

/** A put for which there is no room fails with SHMKIT_ERR_FULL, however long it would wait. */
#define SHMKIT_QUEUE_FAIL 0x10000

/** A put for which there is no room throws the oldest messages away that can be had, until there is. */
#define SHMKIT_QUEUE_OVERWRITE 0x40000

/** In shmkit_queue_info: nothing more is put. */
#define SHMKIT_QUEUE_SHUTDOWN 0x80000

/** For shmkit_queue_put_many: all messages or none. */
#define SHMKIT_QUEUE_ALL 0x200000

/** For shmkit_queue_fileno: readable while there may be a message. */
#define SHMKIT_QUEUE_MESSAGES 0

/** For shmkit_queue_fileno: readable while there may be room for a message. */
#define SHMKIT_QUEUE_ROOM 1

/**
 * A queue: messages of any length, put by any number of processes and threads and got by any number of others.
 *
 * What is promised, and to whom, whoever is killed at whatever instruction:
 *
 *   Producers     A message that was put (the call returned SHMKIT_OK) is in the queue, whatever becomes of its producer.
 *                 Who is killed inside the call has put the whole message or nothing. Of shmkit_queue_put_many all messages
 *                 appear at once, with nothing between them.
 *   Consumers     A message is got once, and at once, unless something before it is still reserved. Who is killed inside
 *                 shmkit_queue_get before the message was taken leaves it to the others; behind that it is gone with its
 *                 consumer, as it would be one instruction after the call. Who must not lose it leases it
 *                 (shmkit_queue_lease): if the process ends before it says shmkit_queue_ack, the next one gets the
 *                 message, and its attempts say so.
 *   Order         Messages come in the order of put and reserve, those of one producer in its own. One that is given a
 *                 second time, after a lease, comes later than those that were got in between.
 *   Waiting       Nothing waits for the dead: a call that waits looks every 12 ms at the latest whether whom it waits for
 *                 lives. It does wait for who is alive and stopped (SIGSTOP) inside a call, for a quarter of a second even
 *                 where less was asked for; and a message that somebody who lives has reserved and not committed, or is
 *                 just putting if it has 64 KiB or more, holds up what was put behind it: shmkit_queue_stat tells who that
 *                 is.
 *   Memory        A queue with a file of its own takes as much memory as its deepest backlog needed. When little of that was
 *                 used 64 times in a row (somebody found the queue empty, or it began anew at its beginning), what is
 *                 beyond 2 MiB goes, 64 MiB each time from then on: within seconds where a consumer waits, and not at all
 *                 while nobody uses the queue. What it uses is never a hole: where no memory is left a put fails with
 *                 SHMKIT_ERR_NO_SPACE, and nothing is lost.
 *   Readers in place   The bytes of a lease stay as they are until it is acknowledged or given back, unless somebody who
 *                 can write the queue breaks the rules. What the queue keeps for itself is checked at each step: a lie is
 *                 SHMKIT_ERR_CORRUPT, never a crash.
 *
 * A handle may be used by all threads at once, and by forked children, which have not reserved or leased what their parent
 * has.
 */
typedef struct shmkit_queue shmkit_queue;

/**
 * How to make or open a queue. All zeros but struct_size is one without bounds, which never blocks who puts; so is a NULL
 * pointer to it.
 */
typedef struct shmkit_queue_options {
  /** sizeof(shmkit_queue_options). */
  uint32_t struct_size;
  /** SHMKIT_QUEUE_FAIL or SHMKIT_QUEUE_OVERWRITE, SHMKIT_TRUST, SHMKIT_EXCLUSIVE, or-ed. */
  uint32_t flags;
  /** Permission bits of a new one with a file of its own. 0: 0600. */
  uint32_t mode;
  /** How many processes may use a new one with a file of its own at a time, 1 to 4096. 0: 128. */
  uint32_t participants;
  /** Where a named one stands. NULL: SHMKIT_DIR, else /dev/shm. */
  const char *directory;
  /**
   * How many bytes it may hold, a multiple of 32 from 1024 to 2^46. A message takes its own bytes and 32, rounded up to
   * a multiple of 32, and may have half the capacity. 0: 64 GiB of address space, of which only what is in use has
   * memory; in a segment, where all of it has memory, 65536.
   */
  uint64_t capacity;
  /** How many messages it may hold, not counting leased ones. 0: any number. */
  uint64_t maxsize;
  /** How many bytes those may have together. 0: any number. */
  uint64_t max_bytes;
} shmkit_queue_options;

/** One of several messages to be put. */
typedef struct shmkit_queue_message {
  /** Its bytes. NULL where it has none. */
  const void *data;
  /** How many. */
  uint64_t size;
} shmkit_queue_message;

/** What is known of a queue: each figure as it was at some moment during the call; exact where nobody changes it meanwhile. */
typedef struct shmkit_queue_info {
  /** sizeof(shmkit_queue_info); on return how much of it was filled. */
  uint32_t struct_size;
  /** SHMKIT_QUEUE_FAIL, SHMKIT_QUEUE_OVERWRITE, SHMKIT_QUEUE_SHUTDOWN, or-ed. */
  uint32_t flags;
  /** How many messages there are to be got, those included that something reserved before them holds up. */
  uint64_t messages;
  /** How many bytes those have. */
  uint64_t bytes;
  /** How many messages are reserved and not committed yet, perhaps by dead processes. */
  uint64_t reserved;
  /** How many are leased, perhaps by dead processes. */
  uint64_t leased;
  /** How many were ever put or reserved. */
  uint64_t puts;
  /** How many were ever got, leased, overwritten or skipped. */
  uint64_t gets;
  /** How many were overwritten. */
  uint64_t overwritten;
  /** How many were skipped, because who had reserved them died or aborted them. */
  uint64_t skipped;
  /** How often a message was given again after a lease. */
  uint64_t redelivered;
  /** How often a consumer had to sleep. */
  uint64_t get_waits;
  /** How often a producer had to sleep. */
  uint64_t put_waits;
  /** How many bytes of memory the messages have at their disposal now. */
  uint64_t memory;
  /** How many bytes it may hold, as shmkit_queue_options says. */
  uint64_t capacity;
  /** How many messages it may hold. 0: any number. */
  uint64_t maxsize;
  /** How many bytes those may have together. 0: any number. */
  uint64_t max_bytes;
  /** How many bytes the largest message may have. */
  uint64_t largest;
  /** Where it stands in its segment's data. 0 of one with a file of its own. */
  uint64_t offset;
  /**
   * Who has reserved the message that is next and has not committed it: its number among the participants of the
   * segment. 0: the next message can be got, or there is none.
   */
  uint64_t held_up_by_ticket;
  /** That one's PID namespace, as the inode of /proc/PID/ns/pid. 0: nobody, or unknown. */
  uint64_t held_up_by_namespace;
  /** That one's process number in that namespace. 0: nobody, or unknown. */
  uint32_t held_up_by_pid;
  /** 0. */
  uint32_t unused;
} shmkit_queue_info;

#endif /* SHMKIT_TYPES */

/** Returns how many bytes a queue occupies in a segment: a multiple of 64. */
shmkit_status shmkit_queue_size(const shmkit_queue_options *options, uint64_t *out);

/** Creates a queue: a named one in a file of its own, or, if `name` is NULL, an unnamed one. */
shmkit_status shmkit_queue_create(const char *name,
                                  const shmkit_queue_options *options,
                                  shmkit_queue **out);

/** Opens a queue by its name. */
shmkit_status shmkit_queue_open(const char *name,
                                const shmkit_queue_options *options,
                                shmkit_queue **out);

/** Opens a queue by its name, or creates it if there is none. */
shmkit_status shmkit_queue_open_or_create(const char *name,
                                          const shmkit_queue_options *options,
                                          shmkit_queue **out);

/** Opens a queue at `offset` of a managed segment's data, or creates it there. */
shmkit_status shmkit_queue_create_at(const shmkit_segment *segment,
                                     uint64_t offset,
                                     const shmkit_queue_options *options,
                                     shmkit_queue **out);

/** Opens a queue at `offset` of a managed segment's data. */
shmkit_status shmkit_queue_open_at(const shmkit_segment *segment,
                                   uint64_t offset,
                                   const shmkit_queue_options *options,
                                   shmkit_queue **out);

/** Opens a queue that another process exported: `offset` is what shmkit_queue_fd returned there. */
shmkit_status shmkit_queue_open_fd(int32_t fd,
                                   uint64_t offset,
                                   const shmkit_queue_options *options,
                                   shmkit_queue **out);

/** Exports a queue: returns the descriptor and the offset that shmkit_queue_open_fd needs in another process. */
shmkit_status shmkit_queue_fd(const shmkit_queue *queue,
                              int32_t *fd,
                              uint64_t *offset);

/** Opens the segment that holds a queue. */
shmkit_status shmkit_queue_segment(const shmkit_queue *queue, shmkit_segment **out);

/** Removes the name of a queue. Handles that are open stay valid. */
shmkit_status shmkit_queue_unlink(shmkit_queue *queue);

/** Closes a handle of a queue and frees it. NULL is SHMKIT_OK. */
shmkit_status shmkit_queue_close(shmkit_queue *queue);

/**
 * Puts a message of `size` bytes at the end, waiting up to `timeout_ns` nanoseconds for room: SHMKIT_FOREVER, SHMKIT_NOWAIT,
 * or a time.
 *
 * SHMKIT_OK if and only if it is in the queue. `flags`: SHMKIT_INTERRUPTIBLE. What was written to memory before is seen by who
 * gets the message.
 *
 * SHMKIT_ERR_FULL: there is no room, and SHMKIT_NOWAIT or SHMKIT_QUEUE_FAIL; or SHMKIT_QUEUE_OVERWRITE, and nothing that can be
 * thrown away makes room. SHMKIT_ERR_TIMEOUT. SHMKIT_ERR_INTERRUPTED. SHMKIT_ERR_TOO_LARGE: larger than half the capacity, or
 * than max_bytes. SHMKIT_ERR_NO_SPACE: the queue would have to grow, and there is no memory; what is in it stays, and others can
 * take it. SHMKIT_ERR_SHUT_DOWN: shut down. SHMKIT_ERR_WOULD_BLOCK: somebody who lives was stopped inside a call a quarter of a
 * second ago, and SHMKIT_NOWAIT. SHMKIT_ERR_INVALID: a negative time, unknown flags, NULL. SHMKIT_ERR_TOO_MANY_PROCESSES,
 * SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_PERMISSION: as of shmkit_lock_acquire. SHMKIT_ERR_CORRUPT.
 */
shmkit_status shmkit_queue_put(shmkit_queue *queue,
                               const void *data,
                               uint64_t size,
                               int64_t timeout_ns,
                               uint32_t flags);

/**
 * Gets the first message: copies it to `buffer`, which has room for `capacity` bytes, and tells its size; waits up to
 * `timeout_ns` nanoseconds for one.
 *
 * SHMKIT_OK if and only if it was taken: then nobody else gets it. `flags`: SHMKIT_INTERRUPTIBLE.
 *
 * SHMKIT_ERR_EMPTY: there is none, and SHMKIT_NOWAIT. SHMKIT_ERR_TIMEOUT. SHMKIT_ERR_INTERRUPTED. SHMKIT_ERR_TOO_LARGE: it has more
 * than `capacity` bytes and is still there; shmkit_queue_peek tells its size. SHMKIT_ERR_SHUT_DOWN: shut down, and nothing is
 * left, nor leased by another process that may give it back. SHMKIT_ERR_WOULD_BLOCK and others as of shmkit_queue_put.
 */
shmkit_status shmkit_queue_get(shmkit_queue *queue,
                               void *buffer,
                               uint64_t capacity,
                               int64_t timeout_ns,
                               uint32_t flags,
                               uint64_t *size);

/**
 * Copies the beginning of the first message to `buffer`, as much as there is room for, tells its whole size, and leaves it
 * where it is.
 *
 * As shmkit_queue_get, but for SHMKIT_ERR_TOO_LARGE. Another may have taken it before it can be got.
 */
shmkit_status shmkit_queue_peek(shmkit_queue *queue,
                                void *buffer,
                                uint64_t capacity,
                                int64_t timeout_ns,
                                uint32_t flags,
                                uint64_t *size);

/**
 * Puts `count` messages, one behind the other and nothing between them, and tells how many were put.
 *
 * `flags`: SHMKIT_INTERRUPTIBLE; SHMKIT_QUEUE_ALL: all of them or none, waiting until there is room for all; without it as many
 * as there is room for, waiting for the first. A `count` of 0 puts nothing.
 *
 * As shmkit_queue_put. SHMKIT_ERR_TOO_LARGE: one of them is; or, with SHMKIT_QUEUE_ALL, together they are more than half the
 * capacity, counted as there, or than maxsize or max_bytes.
 */
shmkit_status shmkit_queue_put_many(shmkit_queue *queue,
                                    const shmkit_queue_message *messages,
                                    uint64_t count,
                                    int64_t timeout_ns,
                                    uint32_t flags,
                                    uint64_t *put);

/**
 * Gets the first messages, `max_items` at the most and as many as there are and `buffer` has room for: one behind the other in it,
 * their sizes in `sizes`. Waits for the first of them, and tells how many it got.
 *
 * As shmkit_queue_get; SHMKIT_ERR_TOO_LARGE: the first alone has more than `capacity` bytes. A `max_items` of 0 gets nothing.
 */
shmkit_status shmkit_queue_get_many(shmkit_queue *queue,
                                    void *buffer,
                                    uint64_t capacity,
                                    uint64_t *sizes,
                                    uint64_t max_items,
                                    int64_t timeout_ns,
                                    uint32_t flags,
                                    uint64_t *count);

/**
 * Reserves room for a message of up to `size` bytes, at the end, to be filled in place: tells where, at a multiple of 32, and a
 * token by which it is committed or aborted.
 *
 * Its place in the order is the one it has now: until it is committed or aborted nobody gets what is put behind it. If the
 * process ends before, it is skipped. The bytes are what an earlier message has left there. The memory may be written until the
 * commit, and no longer than the handle is open.
 *
 * As shmkit_queue_put.
 */
shmkit_status shmkit_queue_reserve(shmkit_queue *queue,
                                   uint64_t size,
                                   int64_t timeout_ns,
                                   uint32_t flags,
                                   void **data,
                                   uint64_t *token);

/**
 * Puts what was reserved into the queue, with the first `size` bytes of its room; what was written there is seen by who gets
 * it.
 *
 * SHMKIT_ERR_NOT_OWNER: the token is none, was committed or aborted already, or is another process' own.
 * SHMKIT_ERR_INVALID: more bytes than were reserved; it stays reserved.
 */
shmkit_status shmkit_queue_commit(shmkit_queue *queue,
                                  uint64_t token,
                                  uint64_t size);

/** Gives up what was reserved: nobody gets it. Errors as of shmkit_queue_commit. */
shmkit_status shmkit_queue_abort(shmkit_queue *queue, uint64_t token);

/**
 * Takes the first message to read it in place: tells where its bytes are, at a multiple of 32, how many, a token by which it is
 * acknowledged or given back, and how often it was leased, this time included (65535: so often or more).
 *
 * Until then nobody else gets it; others get what lies behind it. If the process ends before, however it ends, the next one gets
 * it, within 12 ms after the kernel has torn the process down. Its memory is not used for anything else while it is leased: one
 * that is kept for long keeps what lies behind it in memory too. The bytes may be read until then, and no longer than the handle
 * is open. A lease belongs to the process: closing the handle does not end it as long as another handle of this queue is open.
 *
 * As shmkit_queue_get.
 */
shmkit_status shmkit_queue_lease(shmkit_queue *queue,
                                 int64_t timeout_ns,
                                 uint32_t flags,
                                 const void **data,
                                 uint64_t *size,
                                 uint64_t *token,
                                 uint32_t *attempts);

/**
 * Acknowledges a lease: the message is done with, and nobody gets it any more.
 *
 * SHMKIT_ERR_NOT_OWNER: the token is none, was acknowledged or given back already, or is another process' own.
 */
shmkit_status shmkit_queue_ack(shmkit_queue *queue,
                               uint64_t token);

/** Gives a lease back: whoever gets something next gets this message. Errors as of shmkit_queue_ack. */
shmkit_status shmkit_queue_nack(shmkit_queue *queue, uint64_t token);

/**
 * Waits until every message has been taken, and none is reserved or leased: until all work is done, where consumers acknowledge
 * what they have done.
 *
 * A message that somebody died over is not done: it waits for the next consumer. SHMKIT_ERR_WOULD_BLOCK, SHMKIT_ERR_TIMEOUT,
 * SHMKIT_ERR_INTERRUPTED; others as of shmkit_queue_put.
 */
shmkit_status shmkit_queue_join(shmkit_queue *queue,
                                int64_t timeout_ns,
                                uint32_t flags);

/**
 * Says that nothing more is put, for all processes and for good: a put that begins after this fails. One that was in progress
 * may still succeed, and as long as it may, nobody is told SHMKIT_ERR_SHUT_DOWN by shmkit_queue_get.
 *
 * Whoever waits for room gets SHMKIT_ERR_SHUT_DOWN; whoever waits for a message gets what is left, and then SHMKIT_ERR_SHUT_DOWN. What
 * was reserved before can still be committed, what was leased can be acknowledged. To do it twice changes nothing.
 */
shmkit_status shmkit_queue_shutdown(shmkit_queue *queue);

/**
 * Tells a descriptor for poll, select and event loops: readable while there may be a message (`what` is SHMKIT_QUEUE_MESSAGES) or
 * room for one (SHMKIT_QUEUE_ROOM), whichever process put or took it.
 *
 * It is the handle's: only poll it, neither read nor close it. When it is readable, try with SHMKIT_NOWAIT; who finds nothing, because
 * another was faster, has it unreadable again. A thread of this process, which takes no signals, waits for the queue and
 * looks every 12 ms; it is started at the first call and ends, as if it were closed, within 25 ms after the handle. A forked
 * child calls this once more.
 *
 * SHMKIT_ERR_UNSUPPORTED: no thread or no descriptor is to be had. SHMKIT_ERR_INVALID: another `what`.
 */
shmkit_status shmkit_queue_fileno(shmkit_queue *queue,
                                  uint32_t what,
                                  int32_t *fd);

/**
 * Tells whether an empty message would have to wait for room: 1, or 0.
 *
 * SHMKIT_ERR_WOULD_BLOCK: somebody was stopped inside a put. SHMKIT_ERR_CORRUPT.
 */
shmkit_status shmkit_queue_is_full(const shmkit_queue *queue,
                                   uint32_t *out);

/**
 * Tells what is in the queue and what has happened to it.
 *
 * SHMKIT_ERR_WOULD_BLOCK: something is reserved or leased, and who is just getting something was stopped. SHMKIT_ERR_CORRUPT.
 */
shmkit_status shmkit_queue_stat(const shmkit_queue *queue,
                                shmkit_queue_info *out);

/* shmkit/__init__.pxd declares the types too: the second of the two is skipped. */
#define SHMKIT_TYPES

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* SHMKIT_H */
