/*
 * shmkit: shared memory, locks and queues for Linux that survive the death of any process.
 *
 * If a process is killed at any instruction, the others continue. Its locks pass to the next owner,
 * and messages in a queue stay there. A named file stays until it is unlinked. The library is for
 * Linux on 64-bit processors.
 *
 *   #include <stdio.h>
 *   #include <string.h>
 *   #include <shmkit.h>                     cc frames.c $(pkg-config --cflags --libs shmkit)
 *
 *   shmkit_segment *segment = NULL;
 *   void *data;
 *   if (shmkit_segment_create("frames", 1 << 20, NULL, &segment) == SHMKIT_OK
 *       && shmkit_segment_data(segment, &data) == SHMKIT_OK)
 *       memset(data, 42, 1 << 20);
 *   else {
 *       const char *reason;
 *       shmkit_last_error(NULL, NULL, &reason);
 *       fprintf(stderr, "%s\n", reason);
 *   }
 *   shmkit_segment_close(segment);          unmaps the segment; its name stays
 *
 * Contents (a section is found by its title and a colon, such as "Locks:")
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
 * Rules for every function
 *
 * Results     A function returns a shmkit_status: SHMKIT_OK, or a negative SHMKIT_ERR_ number. It
 *             writes its outputs, which come last, only on SHMKIT_OK, unless stated otherwise.
 *             shmkit_last_error describes the last failure on a thread, with names and figures.
 * Arguments   The order is: handle, inputs, timeout, flags, outputs.
 * Pointers    Each pointer must be NULL or valid for what the function reads or writes there: a C
 *             string, an output, a struct whose struct_size is set, a buffer of the given size.
 *             If a value is needed, NULL is SHMKIT_ERR_INVALID.
 * Handles     Types such as shmkit_segment are used by pointer only. The program closes each handle
 *             that it opens. A NULL or wrong handle is an error, not a crash. So is a closed one,
 *             until 1024 more handles have been closed. Any other pointer is undefined. Closing
 *             NULL is SHMKIT_OK.
 * Threads     Any thread may use any handle. Closing a handle while another thread uses it is
 *             undefined.
 * Fork        A child inherits its parent's mappings, and may use and close the handles. It holds
 *             nothing that its parent holds. If a signal handler or the interrupt hook forks during
 *             a call, the call continues in the parent. In the child it fails at its next system
 *             call with SHMKIT_ERR_FORKED. Until then it acts for the parent: a handler that forks
 *             should call exec or _exit in the child.
 * Cancel      No function is a cancellation point. pthread_cancel takes effect after the call
 *             returns: end a wait by a timeout or by the interrupt hook.
 * Signals     Signals do not end a call. With SHMKIT_INTERRUPTIBLE the interrupt hook may end it. A
 *             signal handler may call only shmkit_strerror, shmkit_event_set, shmkit_event_clear,
 *             shmkit_event_is_set, and shmkit_semaphore_release of a plain semaphore.
 * Names       A name is a file in /dev/shm, in the directory that the variable SHMKIT_DIR names, or
 *             in the directory that the options give. New files have mode 0600. A symbolic link is
 *             never followed. A program that gains privileges at its start (set-user-ID and the
 *             like) ignores SHMKIT_DIR.
 * Structs     Option and info structs begin with uint32_t struct_size, which the caller sets to
 *             sizeof the struct. Unknown flags and nonzero reserved fields are refused.
 * Death       A process dies when it ends in any way, executes another program, or closes its
 *             last handle of a segment. A call that waits for it sees that at most 12 ms after the
 *             kernel has torn the process down. With SHMKIT_NOWAIT a call may count a process as
 *             alive that died in the last millisecond.
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

/* ==============================================================================================
 * Status: the results of functions, and the last failure of a thread.
 * ============================================================================================== */

#ifndef SHMKIT_TYPES

/**
 * The result of most functions: SHMKIT_OK, or a negative SHMKIT_ERR_ number. These never
 * change.
 */
typedef int32_t shmkit_status;

/** Success. */
#define SHMKIT_OK 0

/**
 * An argument is not valid, for example a NULL pointer, a size of 0 or a name with a slash
 * inside.
 */
#define SHMKIT_ERR_INVALID (-1)

/** The handle was closed. */
#define SHMKIT_ERR_CLOSED (-2)

/** The handle, the object or the file is of another kind. */
#define SHMKIT_ERR_WRONG_KIND (-3)

/** The name, the directory or the object does not exist, or no longer exists. */
#define SHMKIT_ERR_NOT_FOUND (-4)

/** The name is taken, or the object exists and SHMKIT_EXCLUSIVE was given. */
#define SHMKIT_ERR_EXISTS (-5)

/** The kernel does not permit this user the operation, or the handle is read-only. */
#define SHMKIT_ERR_PERMISSION (-6)

/**
 * The operation is possible, but the file belongs to another user, is a symbolic link, or could be
 * truncated.
 */
#define SHMKIT_ERR_UNTRUSTED (-7)

/**
 * Not enough memory in the file system, the cgroup or the machine, or more than the file size
 * limit. The text of shmkit_last_error has the bytes requested, the bytes free, and where.
 */
#define SHMKIT_ERR_NO_SPACE (-8)

/** This process has not enough address space, lockable memory or heap. */
#define SHMKIT_ERR_NO_MEMORY (-9)

/** The timeout expired. Some calls also have a fixed limit, which their comments state. */
#define SHMKIT_ERR_TIMEOUT (-10)

/** The call would have to wait, but SHMKIT_NOWAIT was given, or the function never waits. */
#define SHMKIT_ERR_WOULD_BLOCK (-11)

/** The interrupt hook ended the call (see shmkit_set_interrupt). */
#define SHMKIT_ERR_INTERRUPTED (-12)

/** The caller does not hold what the call would release or change. */
#define SHMKIT_ERR_NOT_OWNER (-13)

/** A counter would exceed its maximum. */
#define SHMKIT_ERR_OVERFLOW (-14)

/** The barrier is broken. */
#define SHMKIT_ERR_BROKEN (-15)

/** The queue is empty. */
#define SHMKIT_ERR_EMPTY (-16)

/** The queue is full. */
#define SHMKIT_ERR_FULL (-17)

/** The size is larger than this object, a file or the caller's buffer can hold. */
#define SHMKIT_ERR_TOO_LARGE (-18)

/**
 * The segment has no room for another process, or the object has none for another reader, holder
 * or waiter. Live processes occupy all of it.
 */
#define SHMKIT_ERR_TOO_MANY_PROCESSES (-19)

/** This process can no longer find out which processes are alive. */
#define SHMKIT_ERR_LIVENESS_UNKNOWN (-20)

/** The shared bytes contradict each other or the size of the file. */
#define SHMKIT_ERR_CORRUPT (-21)

/** The library or the layout of the segment has another major version. */
#define SHMKIT_ERR_VERSION_MISMATCH (-22)

/**
 * This kernel, file system or version of the library does not support the operation. Every
 * function with options returns it if a newer program sets a field that this version does not
 * know. An unknown flag is SHMKIT_ERR_INVALID.
 */
#define SHMKIT_ERR_UNSUPPORTED (-23)

/** Another error of the kernel: shmkit_last_error has its errno. Every function may return it. */
#define SHMKIT_ERR_SYSTEM (-24)

/**
 * A defect of this library was caught before it did harm: please report it. Every function may
 * return it.
 */
#define SHMKIT_ERR_INTERNAL (-25)

/** The call would wait forever: what it waits for is waiting for the caller. */
#define SHMKIT_ERR_DEADLOCK (-26)

/** The queue was shut down: no message is put any more, and none is left to get. */
#define SHMKIT_ERR_SHUT_DOWN (-27)

/**
 * A signal handler or the interrupt hook forked during the call, and this is the child. The call
 * continues in the parent only, and the child holds nothing of it. The next call of the child acts
 * for the child. Every function that makes a system call may return it.
 */
#define SHMKIT_ERR_FORKED (-28)

/**
 * A process that may only read the file keeps a read lock on a byte of it. The first use of an
 * object in a process may return this, an unlink, and the resize of a plain segment. Processes that
 * have used the object before are not affected. Create files with mode 0600, so that other users
 * cannot open them.
 */
#define SHMKIT_ERR_READ_LOCKED (-29)

#endif /* SHMKIT_TYPES */

/**
 * Returns a short English sentence for a status, without a full stop.
 *
 * The string is static and never NULL: do not free it. An unknown number has a sentence too. Any
 * thread may call this function, and so may a signal handler (async-signal-safe).
 */
const char *shmkit_strerror(shmkit_status status);

/**
 * Returns what is known about the last call that failed on this thread.
 *
 *   code          its status; SHMKIT_OK if no call has failed yet
 *   system_errno  the errno of the system call that failed; 0 if none did
 *   text          a sentence with names and figures. The library owns it. It stays valid until the
 *                 next call that fails on this thread, or until the thread ends
 *
 * Each output may be NULL. Calls that succeed change nothing here.
 *
 *   SHMKIT_ERR_INVALID  a pointer is not aligned
 */
shmkit_status shmkit_last_error(shmkit_status *code, int32_t *system_errno, const char **text);

/* ==============================================================================================
 * Version: which library runs, and whether a program was built for it.
 * ============================================================================================== */

#ifndef SHMKIT_TYPES

/**
 * Incremented by changes that break programs. While the major version is 0,
 * SHMKIT_VERSION_MINOR has this role.
 */
#define SHMKIT_VERSION_MAJOR 0

/** Incremented by additions. */
#define SHMKIT_VERSION_MINOR 1

/** Incremented by fixes. */
#define SHMKIT_VERSION_PATCH 0

/** The version as one number that only grows: major * 1000000 + minor * 1000 + patch. */
#define SHMKIT_VERSION 1000

#endif /* SHMKIT_TYPES */

/** Returns the version of the running library, to be compared with SHMKIT_VERSION of the header. */
uint32_t shmkit_version(void);

/** Returns the version of the running library as text, such as "0.1.0". Do not free it. */
const char *shmkit_version_string(void);

/**
 * Checks that a program built with version `built_with` of the header can use the running library.
 *
 * Call it first: shmkit_check_version(SHMKIT_VERSION).
 *
 *   SHMKIT_ERR_VERSION_MISMATCH  the library has another major version (while that is 0, another
 *                                minor version), or is older than the header
 */
shmkit_status shmkit_check_version(uint32_t built_with);

/* ==============================================================================================
 * Interrupt hook: a function of the program that can end a long call.
 * ============================================================================================== */

#ifndef SHMKIT_TYPES

/**
 * In the flags of a call or of segment options: the interrupt hook may end the call, which then
 * fails with SHMKIT_ERR_INTERRUPTED. Without this flag signals do not end a call.
 */
#define SHMKIT_INTERRUPTIBLE 1

/**
 * A function that long calls run to ask whether to continue. It returns 0 to continue, or another
 * number to end the call.
 */
typedef int32_t (*shmkit_interrupt_hook)(void *argument);

#endif /* SHMKIT_TYPES */

/**
 * Installs the interrupt hook of this process; there is only one. NULL removes it.
 *
 * Calls with SHMKIT_INTERRUPTIBLE run the hook on their own thread: after a signal, and after each
 * step. A step is at most 64 MiB of reserved memory or 12 ms of sleep. If the hook returns
 * nonzero, the call undoes what it began and fails with SHMKIT_ERR_INTERRUPTED. Several threads may
 * run the hook at the same time.
 *
 * The hook may call any function of this library. A replaced hook may still run: keep its
 * `argument` valid until all calls that began before the replacement have ended.
 */
shmkit_status shmkit_set_interrupt(shmkit_interrupt_hook hook, void *argument);

/* ==============================================================================================
 * Timeouts: how long a call waits, in nanoseconds.
 * ============================================================================================== */

#ifndef SHMKIT_TYPES

/** As a timeout: wait without a time limit. */
#define SHMKIT_FOREVER (-1)

/**
 * As a timeout: do not wait. If the call would have to wait, it fails with SHMKIT_ERR_WOULD_BLOCK;
 * a call of a queue fails with SHMKIT_ERR_EMPTY or SHMKIT_ERR_FULL.
 */
#define SHMKIT_NOWAIT 0

#endif /* SHMKIT_TYPES */

/* ==============================================================================================
 * Limits: how large a segment can be.
 * ============================================================================================== */

#ifndef SHMKIT_TYPES

/** In shmkit_limits_info: the file system of the directory keeps its files in memory (tmpfs). */
#define SHMKIT_LIMITS_IN_MEMORY 1

/**
 * The limits of a segment's size at the time of the call. Sizes are in bytes; UINT64_MAX means no
 * limit.
 *
 * Set struct_size to sizeof(shmkit_limits_info) before the call. All figures are advice, because
 * other processes allocate and free memory meanwhile.
 */
typedef struct shmkit_limits_info {
  /** sizeof(shmkit_limits_info); on return, the number of bytes filled. */
  uint32_t struct_size;
  /** SHMKIT_LIMITS_IN_MEMORY or 0. */
  uint32_t flags;
  /** The largest segment that can be created in the directory now, in whole pages. */
  uint64_t largest_named;
  /** The largest anonymous segment that can be created now, in whole pages. */
  uint64_t largest_anonymous;
  /** The size of the directory's file system (statfs). */
  uint64_t directory_total;
  /** The free space of that file system for this user. */
  uint64_t directory_free;
  /** MemTotal of /proc/meminfo. */
  uint64_t memory_total;
  /** MemAvailable of /proc/meminfo. */
  uint64_t memory_available;
  /** SwapTotal of /proc/meminfo. */
  uint64_t swap_total;
  /** SwapFree of /proc/meminfo. */
  uint64_t swap_free;
  /**
   * The limit of the cgroup with the least memory left, from this process's own cgroup up to the
   * root.
   */
  uint64_t cgroup_limit;
  /** The memory that this cgroup has left. Page cache counts as free. */
  uint64_t cgroup_free;
  /** CommitLimit minus Committed_AS of /proc/meminfo, if overcommit_policy is 2. */
  uint64_t commit_free;
  /** RLIMIT_FSIZE: the maximum size of a file that this process writes. */
  uint64_t file_size_limit;
  /** RLIMIT_MEMLOCK: the maximum of memory that this process locks. */
  uint64_t locked_memory_limit;
  /** RLIMIT_AS: the maximum of address space of this process. */
  uint64_t address_space_limit;
  /** RLIMIT_NOFILE: the maximum number of descriptors of this process. */
  uint64_t open_files_limit;
  /** The size of a page. */
  uint64_t page_size;
  /** The size of a huge page. 0: the kernel has none. */
  uint64_t huge_page_size;
  /** /proc/sys/vm/overcommit_memory: 0 heuristic, 1 always, 2 never. */
  uint32_t overcommit_policy;
  /** Always 0. */
  uint32_t reserved;
} shmkit_limits_info;

#endif /* SHMKIT_TYPES */

/**
 * Returns how large a segment can be: the limits of file system, machine, cgroups and this
 * process.
 *
 *   directory  NULL: SHMKIT_DIR, else /dev/shm
 *
 *   SHMKIT_ERR_NOT_FOUND   no such directory
 *   SHMKIT_ERR_PERMISSION  the path of the directory cannot be searched
 *   SHMKIT_ERR_INVALID     the path has a component that is not a directory, or is too long
 */
shmkit_status shmkit_limits(const char *directory, shmkit_limits_info *out);

/**
 * Writes the figures of shmkit_limits as one readable line: NUL-terminated, without a newline.
 *
 *   directory  NULL: SHMKIT_DIR, else /dev/shm
 *   size       the size of `buffer` in bytes; 1024 is enough
 *
 *   SHMKIT_ERR_TOO_LARGE  the line does not fit; nothing is written
 *   and the errors of shmkit_limits
 */
shmkit_status shmkit_limits_line(const char *directory, char *buffer, uint64_t size);

/* ==============================================================================================
 * Segments: shared memory by name or by descriptor.
 * ============================================================================================== */

#ifndef SHMKIT_TYPES

/**
 * In shmkit_segment_options, except for shmkit_segment_create: map the segment read-only. A write
 * to it raises SIGSEGV. In shmkit_segment_info: the handle is read-only.
 */
#define SHMKIT_SEGMENT_READONLY 0x10

/**
 * In the options of segments and objects: accept a foreign owner. Without it an open refuses a
 * file of another user, and a file without a name that is not sealed against shrinking.
 */
#define SHMKIT_TRUST 0x20000

/**
 * In shmkit_segment_options and for shmkit_segment_resize: do not compare the size with the free
 * memory of file system, machine and cgroup. The kernel decides.
 */
#define SHMKIT_SEGMENT_NO_SPACE_CHECK 0x40

/**
 * In shmkit_segment_options and for shmkit_segment_resize: do not reserve memory. Each page gets
 * memory when it is first touched; without free memory that touch raises SIGBUS. Not with
 * SHMKIT_SEGMENT_PREFAULT, SHMKIT_SEGMENT_HUGE or SHMKIT_SEGMENT_LOCK.
 */
#define SHMKIT_SEGMENT_SPARSE 0x80

/**
 * In shmkit_segment_options: map all pages during the call, so that no first touch enters the
 * kernel.
 */
#define SHMKIT_SEGMENT_PREFAULT 0x100

/**
 * In shmkit_segment_options: ask for huge pages. shmkit_segment_huge returns how many bytes have
 * them. The rest stays in small pages.
 */
#define SHMKIT_SEGMENT_HUGE 0x200

/**
 * In shmkit_segment_options: keep the segment in physical memory (mlock). The call fails with
 * SHMKIT_ERR_NO_MEMORY if RLIMIT_MEMLOCK does not allow it.
 */
#define SHMKIT_SEGMENT_LOCK 0x400

/** In shmkit_segment_info: this handle created the segment. */
#define SHMKIT_SEGMENT_CREATED 0x800

/** In shmkit_segment_info: the file is sealed, so no process can ever shrink it. */
#define SHMKIT_SEGMENT_SEALED 0x1000

/**
 * In shmkit_segment_options: create a managed segment, with a control area before the data, which
 * can contain locks and other objects; or open only such a segment. Without this flag a new segment
 * is plain, and an open accepts both kinds. In shmkit_segment_info: the segment is managed.
 */
#define SHMKIT_SEGMENT_MANAGED 0x2000

/**
 * In shmkit_segment_options: open the bare file. Byte 0 is the first byte of the file, even if the
 * file looks like a managed segment. Not with SHMKIT_SEGMENT_MANAGED.
 */
#define SHMKIT_SEGMENT_PLAIN 0x4000

/**
 * In shmkit_segment_options, with SHMKIT_SEGMENT_MANAGED: remove the name when no process has the
 * segment mapped any more. The last process to close the segment removes it. If that process dies,
 * is of another user, or opened the segment by its descriptor and knows no name, the name stays
 * until shmkit_segment_gc. In shmkit_segment_info: the segment is ephemeral.
 */
#define SHMKIT_SEGMENT_EPHEMERAL 0x8000

/**
 * A segment: shared memory that this process has mapped, from a file with a name or an anonymous
 * memory file.
 *
 *   Plain    All bytes of the file belong to the program, so any process that maps files can share
 *            it.
 *   Managed  The file begins with a control area before the data. The segment can contain locks and
 *            other objects.
 *   Threads  Any thread may use the handle. Closing it ends all use.
 *   Death    If a process dies while it creates a segment, other processes find no name, or a
 *            complete segment. If it dies while it resizes one, they see the old size or the new
 *            one.
 */
typedef struct shmkit_segment shmkit_segment;

/** How to create or open a segment. NULL, or zeros after struct_size, mean the defaults. */
typedef struct shmkit_segment_options {
  /** sizeof(shmkit_segment_options). */
  uint32_t struct_size;
  /**
   * SHMKIT_SEGMENT_READONLY, SHMKIT_SEGMENT_NO_SPACE_CHECK, SHMKIT_SEGMENT_SPARSE,
   * SHMKIT_SEGMENT_PREFAULT, SHMKIT_SEGMENT_HUGE, SHMKIT_SEGMENT_LOCK, SHMKIT_SEGMENT_MANAGED,
   * SHMKIT_SEGMENT_PLAIN, SHMKIT_SEGMENT_EPHEMERAL, SHMKIT_TRUST and SHMKIT_INTERRUPTIBLE, or-ed.
   */
  uint32_t flags;
  /**
   * Bytes of address space to map, so that the segment can grow without moving; at least its size.
   * 0: its size in whole pages, or the capacity that an existing managed segment was created with.
   */
  uint64_t capacity;
  /**
   * Permission bits of a new segment, at most 0777, exactly these whatever the umask. 0 means 0600,
   * for its owner alone. For an anonymous segment 0 means 0666. No other process has a path to it,
   * and a process that gives up its privileges still needs it. It gets no execute bits.
   */
  uint32_t mode;
  /**
   * The number of processes that can use the objects of a new managed segment at a time, 1 to
   * 4096. 0: 128. For a plain segment: 0.
   */
  uint32_t participants;
  /** The directory of a named segment. NULL: SHMKIT_DIR, else /dev/shm. */
  const char *directory;
} shmkit_segment_options;

/** The state of a segment. Sizes are in bytes. */
typedef struct shmkit_segment_info {
  /** sizeof(shmkit_segment_info); on return, the number of bytes filled. */
  uint32_t struct_size;
  /**
   * SHMKIT_SEGMENT_READONLY, SHMKIT_SEGMENT_CREATED, SHMKIT_SEGMENT_SEALED, SHMKIT_SEGMENT_MANAGED
   * and SHMKIT_SEGMENT_EPHEMERAL, or-ed.
   */
  uint32_t flags;
  /** The size of the data. */
  uint64_t size;
  /** The address space that this handle has mapped for the data. */
  uint64_t capacity;
  /** The memory that the file system has reserved for the file. */
  uint64_t allocated;
  /** The file system of the file (st_dev). */
  uint64_t device;
  /**
   * The number of the file there (st_ino). Device and inode identify the segment as long as it
   * exists.
   */
  uint64_t inode;
  /** The number of names that the file has. 0: it was unlinked, or is anonymous. */
  uint64_t links;
  /** The user id of the owner. */
  uint32_t user;
  /** The permission bits of the file. */
  uint32_t mode;
  /** A random number that a managed segment got when it was created. 0: a plain segment. */
  uint64_t id;
  /** The size of the control area of a managed segment: the bytes of the file before the data. */
  uint64_t control_bytes;
  /**
   * The number of processes that can use the objects of the segment at a time. 0: a plain
   * segment.
   */
  uint32_t participants;
  /** Always 0. */
  uint32_t reserved;
} shmkit_segment_info;

/**
 * The function that shmkit_segment_list calls for each name. It returns 0 to continue, or another
 * number to stop.
 */
typedef int32_t (*shmkit_segment_visit)(const char *name, void *argument);

#endif /* SHMKIT_TYPES */

/**
 * Creates a segment of `size` zero bytes and maps it.
 *
 *   name     at most 255 bytes, with or without a leading slash, without another slash. NULL: an
 *            anonymous segment, a memory file that no process can ever shrink, and that the kernel
 *            frees when no process has it open
 *   size     at least 1
 *   options  NULL: the defaults
 *   out      gets a handle, which shmkit_segment_close frees
 *
 * The memory is reserved before the segment gets its name, and the name comes last: no open ever
 * finds an incomplete segment. If the caller dies before that, the kernel frees everything. Bytes
 * after `size` on the last page do not belong to the segment.
 *
 *   SHMKIT_ERR_EXISTS       the name is taken
 *   SHMKIT_ERR_NO_SPACE     file system, machine or cgroup have not enough memory, or RLIMIT_FSIZE
 *                           is too low
 *   SHMKIT_ERR_NO_MEMORY    not enough address space, or the memory cannot be locked
 *   SHMKIT_ERR_NOT_FOUND    no such directory
 *   SHMKIT_ERR_PERMISSION   this user may not create files in the directory
 *   SHMKIT_ERR_INVALID      `size` is 0 or more than `capacity`, the name is not valid,
 *                           SHMKIT_SEGMENT_READONLY was given, or the options contradict each
 *                           other or exceed a bound
 *   SHMKIT_ERR_TOO_LARGE    more than a file or an address space can hold
 *   SHMKIT_ERR_INTERRUPTED  the interrupt hook ended the call
 *   SHMKIT_ERR_UNSUPPORTED  the kernel or the file system cannot hold a managed segment
 *                           (F_OFD_SETLK, MADV_WIPEONFORK)
 */
shmkit_status shmkit_segment_create(const char *name,
                                    uint64_t size,
                                    const shmkit_segment_options *options,
                                    shmkit_segment **out);

/**
 * Opens the segment of this name and maps it. It may come from any program, for example Python.
 *
 *   size     the minimum size of the segment in bytes; 0: any size
 *   options  NULL: the defaults. With SHMKIT_SEGMENT_READONLY, read permission is enough
 *
 * A failed open changes nothing. A process that may write to a named file may also truncate it
 * (ftruncate): a later access to the lost bytes raises SIGBUS. Anonymous segments cannot be
 * truncated.
 *
 *   SHMKIT_ERR_NOT_FOUND         no such name
 *   SHMKIT_ERR_PERMISSION        this user may not open the file
 *   SHMKIT_ERR_UNTRUSTED         a symbolic link, always; a file of another user, unless
 *                                SHMKIT_TRUST was given
 *   SHMKIT_ERR_WRONG_KIND        a directory, a FIFO or a device; the file of an object; or a
 *                                plain segment, if SHMKIT_SEGMENT_MANAGED was given
 *   SHMKIT_ERR_CORRUPT           the file is empty, or has a header that contradicts it
 *   SHMKIT_ERR_INVALID           the segment has fewer than `size` bytes or more than `capacity`,
 *                                the name is not valid, or the options contradict each other
 *   SHMKIT_ERR_NO_MEMORY         not enough address space, or the memory cannot be locked
 *   SHMKIT_ERR_TOO_LARGE         capacity is more than an address space can hold
 *   SHMKIT_ERR_NO_SPACE          SHMKIT_SEGMENT_PREFAULT, SHMKIT_SEGMENT_HUGE or
 *                                SHMKIT_SEGMENT_LOCK need more memory than is free
 *   SHMKIT_ERR_INTERRUPTED       the interrupt hook ended the call
 *   SHMKIT_ERR_VERSION_MISMATCH  the layout of the segment has another major version
 *   SHMKIT_ERR_UNSUPPORTED       the kernel or the file system cannot hold a managed segment
 *                                (F_OFD_SETLK, MADV_WIPEONFORK)
 */
shmkit_status shmkit_segment_open(const char *name,
                                  uint64_t size,
                                  const shmkit_segment_options *options,
                                  shmkit_segment **out);

/**
 * Opens the segment of this name, or creates it with `size` bytes if it does not exist.
 *
 * If several processes race, exactly one creates it: SHMKIT_SEGMENT_CREATED in shmkit_segment_stat
 * marks that one. If `name` is NULL, the call creates an anonymous segment.
 *
 *   SHMKIT_ERR_INVALID  the segment exists with fewer than `size` bytes
 *   and the errors of shmkit_segment_create and shmkit_segment_open, except SHMKIT_ERR_EXISTS
 */
shmkit_status shmkit_segment_open_or_create(const char *name,
                                            uint64_t size,
                                            const shmkit_segment_options *options,
                                            shmkit_segment **out);

/**
 * Opens the segment behind a descriptor that was inherited, received over a socket, or opened
 * through /proc/PID/fd.
 *
 * The call duplicates the descriptor, which remains the caller's. `size` is the minimum size of the
 * segment in bytes; 0: any size.
 *
 *   SHMKIT_ERR_INVALID     not an open descriptor
 *   SHMKIT_ERR_NOT_FOUND   the segment is ephemeral, and its name is being removed
 *   SHMKIT_ERR_PERMISSION  the descriptor is not open for reading; or not for writing, and
 *                          SHMKIT_SEGMENT_READONLY was not given
 *   SHMKIT_ERR_UNTRUSTED   a file without a name that is not sealed against shrinking, unless
 *                          SHMKIT_TRUST was given: its sender could make an access raise SIGBUS
 *   and the errors of shmkit_segment_open
 */
shmkit_status shmkit_segment_open_fd(int32_t fd,
                                     uint64_t size,
                                     const shmkit_segment_options *options,
                                     shmkit_segment **out);

/**
 * Sets the size of the segment to `size` bytes, for every process that has it mapped.
 *
 * No address moves, and no pointer into the segment becomes invalid. New bytes are zero. Other
 * processes see the new size in shmkit_segment_size, up to the capacity of their mapping.
 * Concurrent resizes wait for each other.
 *
 *   flags  SHMKIT_SEGMENT_NO_SPACE_CHECK, SHMKIT_SEGMENT_SPARSE and SHMKIT_INTERRUPTIBLE, or-ed
 *
 * On SHMKIT_ERR_NO_SPACE and SHMKIT_ERR_INTERRUPTED nothing has changed, with one exception. If the
 * options of the handle ask for prefault, huge pages or locking, these follow after the growth. If
 * they fail with SHMKIT_ERR_NO_MEMORY or SHMKIT_ERR_INTERRUPTED, the segment stays grown;
 * shmkit_segment_size returns its size.
 *
 *   SHMKIT_ERR_TOO_LARGE         `size` exceeds the capacity of this mapping
 *   SHMKIT_ERR_INVALID           `size` is less than the present size (segments do not shrink), an
 *                                unknown flag, or SHMKIT_SEGMENT_SPARSE with a handle that
 *                                prefaults, locks or asks for huge pages
 *   SHMKIT_ERR_PERMISSION        a read-only handle, or the mode of the file does not let this
 *                                user write to it
 *   SHMKIT_ERR_NO_SPACE          file system, machine or cgroup have not enough memory, or
 *                                RLIMIT_FSIZE is too low
 *   SHMKIT_ERR_NO_MEMORY         the new bytes cannot be locked
 *   SHMKIT_ERR_INTERRUPTED       the interrupt hook ended the call
 *   SHMKIT_ERR_CORRUPT           the file was truncated
 *   SHMKIT_ERR_LIVENESS_UNKNOWN  the descriptor of the handle was closed by other code (closefrom)
 */
shmkit_status shmkit_segment_resize(shmkit_segment *segment, uint64_t size, uint32_t flags);

/** Returns the address of the data, which stays the same until the handle is closed. */
shmkit_status shmkit_segment_data(const shmkit_segment *segment,
                                  void **out);

/**
 * Returns the size of the data in bytes, at most the capacity of this handle: the bytes that may be
 * accessed.
 *
 * The size grows when any process resizes the segment. The call asks the kernel, which takes about
 * 0.2 microseconds.
 *
 *   SHMKIT_ERR_CORRUPT           the file is shorter than before: it was truncated, and an access
 *                                to the lost bytes raises SIGBUS
 *   SHMKIT_ERR_LIVENESS_UNKNOWN  the descriptor of the handle was closed by other code (closefrom)
 */
shmkit_status shmkit_segment_size(const shmkit_segment *segment, uint64_t *out);

/** Returns the mapped address space in bytes: the maximum size of the segment in this process. */
shmkit_status shmkit_segment_capacity(const shmkit_segment *segment, uint64_t *out);

/**
 * Returns the descriptor of the segment's file, to pass on. It belongs to the handle: do not close
 * it.
 */
shmkit_status shmkit_segment_fd(const shmkit_segment *segment, int32_t *out);

/**
 * Returns the name of the segment, without directory and slash. It stays valid until the handle is
 * closed.
 *
 * NULL: the segment is anonymous, or was opened by its descriptor.
 */
shmkit_status shmkit_segment_name(const shmkit_segment *segment, const char **out);

/**
 * Returns the directory of the segment. It stays valid until the handle is closed.
 *
 * NULL: the segment is anonymous, or was opened by its descriptor.
 */
shmkit_status shmkit_segment_directory(const shmkit_segment *segment, const char **out);

/**
 * Returns how many bytes of the segment this process maps by huge pages now.
 *
 * The call reads /proc/self/smaps, which takes at least 0.1 ms, depending on how much the process
 * has mapped.
 */
shmkit_status shmkit_segment_huge(const shmkit_segment *segment, uint64_t *out);

/**
 * Returns the state of the segment: sizes, owner, device and inode.
 *
 *   SHMKIT_ERR_LIVENESS_UNKNOWN  the descriptor of the handle was closed by other code (closefrom)
 */
shmkit_status shmkit_segment_stat(const shmkit_segment *segment,
                                  shmkit_segment_info *out);

/**
 * Removes the name of the segment. Processes that have the segment mapped keep it. The memory is
 * freed when the last of them closes it.
 *
 * An anonymous segment has no name: the call returns SHMKIT_OK.
 *
 *   SHMKIT_ERR_NOT_FOUND         the name is gone, or belongs to a newer segment, which keeps it
 *   SHMKIT_ERR_INVALID           a named segment that was opened by its descriptor: this handle
 *                                does not know its name
 *   SHMKIT_ERR_PERMISSION        this user may not remove names from the directory
 *   SHMKIT_ERR_INTERRUPTED       the segment was opened with SHMKIT_INTERRUPTIBLE, and the
 *                                interrupt hook ended the call
 *   SHMKIT_ERR_LIVENESS_UNKNOWN  a handle without a name, whose descriptor was closed by other
 *                                code (closefrom)
 */
shmkit_status shmkit_segment_unlink(shmkit_segment *segment);

/**
 * Removes a name without opening the segment, for clean-up.
 *
 *   directory      NULL: SHMKIT_DIR, else /dev/shm
 *   device, inode  remove the name only if it belongs to this file (see shmkit_segment_info); 0
 *                  and 0: any file
 *   flags          SHMKIT_INTERRUPTIBLE or 0
 *
 *   SHMKIT_ERR_NOT_FOUND    no such name, or it belongs to another file than the one given
 *   SHMKIT_ERR_WRONG_KIND   not a regular file; it keeps its name
 *   SHMKIT_ERR_PERMISSION   this user may not remove names from the directory
 *   SHMKIT_ERR_INVALID      the name is not valid, or an unknown flag
 *   SHMKIT_ERR_INTERRUPTED  the interrupt hook ended the call
 */
shmkit_status shmkit_segment_unlink_name(const char *name,
                                         const char *directory,
                                         uint64_t device,
                                         uint64_t inode,
                                         uint32_t flags);

/**
 * Calls `visit` with the name of each regular file in `directory` and with `argument`, in no
 * particular order.
 *
 * These are the files that shmkit_segment_open might open, whatever created them. If `visit`
 * returns nonzero, the list ends, also with SHMKIT_OK. The name is valid until `visit` returns.
 *
 *   directory  NULL: SHMKIT_DIR, else /dev/shm
 *
 *   SHMKIT_ERR_NOT_FOUND   no such directory
 *   SHMKIT_ERR_PERMISSION  this user may not read the directory
 *   SHMKIT_ERR_INVALID     `directory` is not a directory
 */
shmkit_status shmkit_segment_list(const char *directory,
                                  shmkit_segment_visit visit,
                                  void *argument);

/**
 * Removes the names of ephemeral segments that no process has mapped, and the unfinished files of
 * dead processes.
 *
 * The call never removes a segment that a process has mapped. A process that opens one meanwhile
 * finds it, or finds no such name. Only files of this user are considered.
 *
 *   directory  NULL: SHMKIT_DIR, else /dev/shm
 *   flags      SHMKIT_INTERRUPTIBLE or 0
 *   removed    (may be NULL) the number of segments that were removed
 *
 *   SHMKIT_ERR_NOT_FOUND    no such directory
 *   SHMKIT_ERR_PERMISSION   this user may not read the directory, or not remove names from it
 *   SHMKIT_ERR_INVALID      `directory` is not a directory, or an unknown flag
 *   SHMKIT_ERR_INTERRUPTED  the interrupt hook ended the call; the rest is left
 */
shmkit_status shmkit_segment_gc(const char *directory, uint32_t flags, uint64_t *removed);

/**
 * Closes a handle: unmaps the memory and closes the descriptor. The name stays. NULL is SHMKIT_OK.
 *
 * Pointers into the segment become invalid. If this was the last mapping of an ephemeral segment,
 * its name is removed, as SHMKIT_SEGMENT_EPHEMERAL describes. A second close fails with
 * SHMKIT_ERR_CLOSED, as does any other use of the handle, until 1024 more handles have been closed.
 * After that it is undefined, as after free.
 */
shmkit_status shmkit_segment_close(shmkit_segment *segment);

/* ==============================================================================================
 * Objects: what can be placed in shared memory, and the life cycle that all objects share.
 *
 * An object has one of three places:
 *
 * named     in a file of its own, which other processes open by its name
 * unnamed   (name NULL) in a memory file of this process. Threads and forked children share it.
 *           Other processes open it by what shmkit_<noun>_fd returns. Thousands of small unnamed
 *           objects share one descriptor; an unnamed queue has a memory file of its own
 * placed    at an offset of a managed segment, beside other objects and the program's own data
 *
 * The functions below exist for every noun whose section follows. That section describes only the
 * differences: the size, the options, and what a close does to objects that the process still
 * holds.
 *
 * shmkit_<noun>_size (options, out)
 *
 * Returns the number of bytes that a placed object occupies. Objects begin at multiples of 64.
 * SHMKIT_ERR_INVALID        the options contradict each other or exceed a bound
 *
 * shmkit_<noun>_create (name, options, out)
 *
 * Creates a named or an unnamed object. The name appears last, so no process ever opens an
 * incomplete object. If the caller dies before that, the kernel frees the file.
 * SHMKIT_ERR_EXISTS         the name is taken
 * SHMKIT_ERR_INVALID        as for shmkit_<noun>_size, or a bad name
 * and the other errors of shmkit_segment_create
 *
 * shmkit_<noun>_open (name, options, out)
 *
 * Opens an existing object. Options that describe a new one must be valid, but are not compared. A
 * failed open changes nothing.
 * SHMKIT_ERR_NOT_FOUND      no such name
 * SHMKIT_ERR_WRONG_KIND     the name belongs to another kind of object
 * SHMKIT_ERR_INVALID        name is NULL or bad, or the options contradict each other
 * and the other errors of shmkit_segment_open
 *
 * shmkit_<noun>_open_or_create (name, options, out)
 *
 * Opens the object, or creates it if it does not exist. If several processes race, one creates it.
 * SHMKIT_ERR_INVALID        it was created with other options, or name is NULL
 * and the errors of both functions above
 *
 * shmkit_<noun>_create_at (segment, offset, options, out)
 *
 * Opens the object at this offset, or creates it if all of its bytes are zero. If several
 * processes race, one creates it; if that process dies midway, another one begins again. The
 * object keeps the segment mapped after the segment's handle is closed. To remove an object, fill
 * its bytes with zeros while no process uses it.
 * SHMKIT_ERR_INVALID        offset is not a multiple of 64, or the object does not fit into the
 *                           data, or it was created with other options
 * SHMKIT_ERR_WRONG_KIND     the segment is plain, or another object or other data is stored there
 * SHMKIT_ERR_EXISTS         the object exists, and SHMKIT_EXCLUSIVE was given
 * SHMKIT_ERR_PERMISSION     the segment's handle is read-only
 * SHMKIT_ERR_TIMEOUT        the live process that is creating it has been stopped for a second
 * SHMKIT_ERR_TOO_MANY_PROCESSES   the segment has no room for another process
 * SHMKIT_ERR_CORRUPT        the bytes there describe an object that does not fit
 * SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_NO_MEMORY   as for shmkit_lock_acquire
 *
 * shmkit_<noun>_open_at (segment, offset, options, out)
 *
 * Opens the object at this offset as it was created.
 * SHMKIT_ERR_NOT_FOUND      the bytes there are all zero, or their creator died midway
 * and the errors of shmkit_<noun>_create_at, except SHMKIT_ERR_EXISTS and that of other options
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
 * Opens an exported object. The descriptor remains the caller's.
 * SHMKIT_ERR_NOT_FOUND, SHMKIT_ERR_WRONG_KIND   no such object is stored there
 * SHMKIT_ERR_INVALID        no object can be at this offset
 * and the other errors of shmkit_segment_open_fd
 *
 * shmkit_<noun>_segment (handle, out)
 *
 * Opens the segment that contains the object: the one it was placed in, its own file, or the memory
 * file of unnamed objects. shmkit_segment_close frees this handle. The segment has the name, the
 * directory and the descriptor.
 *
 * shmkit_<noun>_unlink (handle)
 *
 * Removes the name of a named object. Open handles stay valid, in all processes. An unnamed queue
 * has a file, but no name: the call returns SHMKIT_OK.
 * SHMKIT_ERR_NOT_FOUND      the name is gone, or belongs to a newer object, which keeps it
 * SHMKIT_ERR_PERMISSION     this user may not remove names from the directory
 * SHMKIT_ERR_INVALID        a placed or another unnamed object, or a named one that was opened by
 *                           its descriptor
 *
 * shmkit_<noun>_close (handle)
 *
 * Frees the handle. The object and its name stay. If a process closes its last handle of a segment,
 * it counts as dead there: others take over what it holds. NULL is SHMKIT_OK.
 * SHMKIT_ERR_CLOSED         the handle was closed before
 * SHMKIT_ERR_WRONG_KIND     a handle of another noun
 *
 * Every function returns SHMKIT_ERR_INVALID for a NULL or misaligned pointer or a wrong
 * struct_size. For a closed handle it returns SHMKIT_ERR_CLOSED, and for one of another noun
 * SHMKIT_ERR_WRONG_KIND.
 * ============================================================================================== */

#ifndef SHMKIT_TYPES

/**
 * In the options of shmkit_<noun>_create_at: fails with SHMKIT_ERR_EXISTS if the object exists,
 * instead of opening it.
 */
#define SHMKIT_EXCLUSIVE 0x100000

/**
 * The options of locks, recursive locks, events and once flags. NULL, or zeros after struct_size,
 * mean the defaults. The options of every other noun begin with the same fields.
 */
typedef struct shmkit_object_options {
  /** sizeof(shmkit_object_options). */
  uint32_t struct_size;
  /** SHMKIT_TRUST, SHMKIT_EXCLUSIVE and the flags of the noun, or-ed. */
  uint32_t flags;
  /** Permission bits of a new named object, at most 0777, whatever the umask. 0: 0600. */
  uint32_t mode;
  /**
   * The number of processes that can use a new named object at a time, 1 to 4096. 0: 128. Any
   * number can use an event.
   */
  uint32_t participants;
  /** The directory of a named object. NULL: SHMKIT_DIR, else /dev/shm. */
  const char *directory;
} shmkit_object_options;

#endif /* SHMKIT_TYPES */

/* ==============================================================================================
 * Locks: mutual exclusion between processes and threads that survives the death of the owner.
 * ============================================================================================== */

#ifndef SHMKIT_TYPES

/**
 * In the options of a lock: any process may release the lock, not only its owner, as with
 * multiprocessing.Lock. If a process releases the lock of a dead owner, the next owner does not
 * see that death. In shmkit_lock_info: the lock was created with this option.
 */
#define SHMKIT_LOCK_TRANSFERABLE 0x10000

/** In shmkit_lock_info: a process holds the lock. It may be dead. */
#define SHMKIT_LOCK_HELD 0x40000

/** In shmkit_lock_info: an owner died, and the lock has not been marked consistent since. */
#define SHMKIT_LOCK_OWNER_DIED 0x80000

/**
 * A lock, which has one owner at a time.
 *
 *   Owner    A process. Any of its threads may release the lock. The lock is not recursive: a
 *            second acquire waits for the release of the first.
 *   Death    If the owner dies, for any reason, a waiter acquires the lock at most 12 ms after the
 *            kernel has torn the process down. It sees `*owner_died` = 1, because what the lock
 *            guards may be half written.
 *   Threads  All threads of a process may use a handle at once, and so may forked children. A
 *            child holds nothing that its parent holds.
 *   Size     64 bytes in a segment.
 *   Options  shmkit_object_options with SHMKIT_LOCK_TRANSFERABLE, which shmkit_lock_open_or_create
 *            and shmkit_lock_create_at compare with an existing lock.
 *   Close    A close does not release the lock. If the process closes its last handle of the
 *            segment while it holds the lock, the lock has a dead owner.
 */
typedef struct shmkit_lock shmkit_lock;

/** The state of a lock or recursive lock. Each figure was true at some moment during the call. */
typedef struct shmkit_lock_info {
  /** sizeof(shmkit_lock_info); on return, the number of bytes filled. */
  uint32_t struct_size;
  /** SHMKIT_LOCK_HELD, SHMKIT_LOCK_OWNER_DIED and SHMKIT_LOCK_TRANSFERABLE, or-ed. */
  uint32_t flags;
  /** The number of acquisitions. */
  uint64_t acquisitions;
  /** The number of acquisitions that had to wait. */
  uint64_t contended;
  /** The number of acquisitions from a dead owner. */
  uint64_t recoveries;
  /**
   * The time when the first waiter for the present owner went to sleep, in nanoseconds of
   * CLOCK_MONOTONIC, even if its wait has ended. 0: no process has waited for this owner.
   */
  uint64_t contended_since;
  /**
   * The ticket of the owner: its number among the participants of the segment, never reused. 0:
   * the lock is free.
   */
  uint64_t owner_ticket;
  /** The PID namespace of the owner, as the inode of /proc/PID/ns/pid. 0: unknown. */
  uint64_t owner_namespace;
  /**
   * The offset of the lock in the data of its segment, or in the memory file of unnamed objects. 0
   * for the lock of shmkit_segment_lock, which is stored before the data.
   */
  uint64_t offset;
  /** The PID of the owner in that namespace. 0: the lock is free, or the PID is unknown. */
  uint32_t owner_pid;
  /** Always 0. */
  uint32_t reserved;
} shmkit_lock_info;

#endif /* SHMKIT_TYPES */

/** Returns the number of bytes that a lock occupies in a segment. */
shmkit_status shmkit_lock_size(const shmkit_object_options *options, uint64_t *out);

/** Creates a lock: named, in a file of its own, or unnamed if `name` is NULL. */
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

/**
 * Opens a lock that another process exported.
 *
 * `offset` must be the offset that shmkit_lock_fd returned there.
 */
shmkit_status shmkit_lock_open_fd(int32_t fd,
                                  uint64_t offset,
                                  const shmkit_object_options *options,
                                  shmkit_lock **out);

/**
 * Exports a lock.
 *
 * Returns the descriptor and the offset that shmkit_lock_open_fd needs in another process.
 */
shmkit_status shmkit_lock_fd(const shmkit_lock *lock, int32_t *fd, uint64_t *offset);

/** Opens the segment that contains a lock. */
shmkit_status shmkit_lock_segment(const shmkit_lock *lock, shmkit_segment **out);

/** Removes the name of a lock. Open handles stay valid. */
shmkit_status shmkit_lock_unlink(shmkit_lock *lock);

/** Closes a handle of a lock and frees it. NULL is SHMKIT_OK. */
shmkit_status shmkit_lock_close(shmkit_lock *lock);

/**
 * Opens the built-in lock of a managed segment.
 *
 * `out` gets a handle, which shmkit_lock_close frees.
 *
 *   SHMKIT_ERR_WRONG_KIND  a plain segment
 *   SHMKIT_ERR_PERMISSION  the segment's handle is read-only
 */
shmkit_status shmkit_segment_lock(const shmkit_segment *segment, shmkit_lock **out);

/**
 * Acquires the lock, and waits for it if necessary.
 *
 * The caller holds the lock if and only if the call returns SHMKIT_OK.
 *
 *   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
 *   flags       SHMKIT_INTERRUPTIBLE or 0
 *   owner_died  (may be NULL) 1 if an owner died and shmkit_lock_mark_consistent has not been
 *               called since: check and repair what the lock guards. Otherwise 0
 *
 *   SHMKIT_ERR_WOULD_BLOCK         a live process holds the lock, and SHMKIT_NOWAIT was given
 *   SHMKIT_ERR_TIMEOUT             the timeout expired
 *   SHMKIT_ERR_INTERRUPTED         the interrupt hook ended the call
 *   SHMKIT_ERR_INVALID             a negative timeout other than SHMKIT_FOREVER, or an unknown
 *                                  flag
 *   SHMKIT_ERR_TOO_MANY_PROCESSES  the segment has no room for another process: live processes own
 *                                  all participant slots
 *   SHMKIT_ERR_LIVENESS_UNKNOWN    this process has lost all descriptors of the segment
 *                                  (closefrom), and the lock is held: its owner cannot be checked.
 *                                  Also at the first use of the segment
 *   SHMKIT_ERR_PERMISSION          this user may not write to the file of the segment
 *   SHMKIT_ERR_NO_MEMORY           no address space is left, at the first use of the segment
 *   SHMKIT_ERR_CORRUPT             the shared bytes of the segment are corrupt
 */
shmkit_status shmkit_lock_acquire(shmkit_lock *lock,
                                  int64_t timeout_ns,
                                  uint32_t flags,
                                  uint32_t *owner_died);

/**
 * Releases the lock.
 *
 * After the death of an owner the lock stays marked until shmkit_lock_mark_consistent is called.
 *
 *   SHMKIT_ERR_NOT_OWNER  this process does not hold the lock; for a transferable lock: no process
 *                         holds it
 */
shmkit_status shmkit_lock_release(shmkit_lock *lock);

/**
 * Marks what the lock guards as repaired after the death of an owner.
 *
 *   SHMKIT_ERR_NOT_OWNER  this process does not hold the lock
 */
shmkit_status shmkit_lock_mark_consistent(shmkit_lock *lock);

/**
 * Returns the state of the lock. It does not check whether the owner is alive: only an acquire
 * does.
 */
shmkit_status shmkit_lock_stat(const shmkit_lock *lock, shmkit_lock_info *out);

/* ==============================================================================================
 * Recursive locks: the thread that holds one may acquire it again.
 * ============================================================================================== */

#ifndef SHMKIT_TYPES

/**
 * A recursive lock.
 *
 *   Owner    A thread. It may acquire the lock again, and must release it as many times.
 *   Death    If the owner's process dies, for any reason, a waiter acquires the lock at most 12 ms
 *            after the kernel has torn the process down. It sees `*owner_died` = 1, because what
 *            the lock guards may be half written. If only the owner's thread ends, the lock stays
 *            held.
 *   Threads  All threads of a process may use a handle at once, and so may forked children. A
 *            child holds nothing that its parent holds.
 *   Size     64 bytes in a segment.
 *   Options  shmkit_object_options, without flags of its own.
 *   Close    A close does not release the lock. If the process closes its last handle of the
 *            segment while it holds the lock, the lock has a dead owner.
 */
typedef struct shmkit_rlock shmkit_rlock;

#endif /* SHMKIT_TYPES */

/** Returns the number of bytes that a recursive lock occupies in a segment. */
shmkit_status shmkit_rlock_size(const shmkit_object_options *options, uint64_t *out);

/** Creates a recursive lock: named, in a file of its own, or unnamed if `name` is NULL. */
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

/**
 * Opens a recursive lock that another process exported.
 *
 * `offset` must be the offset that shmkit_rlock_fd returned there.
 */
shmkit_status shmkit_rlock_open_fd(int32_t fd,
                                   uint64_t offset,
                                   const shmkit_object_options *options,
                                   shmkit_rlock **out);

/**
 * Exports a recursive lock.
 *
 * Returns the descriptor and the offset that shmkit_rlock_open_fd needs in another process.
 */
shmkit_status shmkit_rlock_fd(const shmkit_rlock *rlock, int32_t *fd, uint64_t *offset);

/** Opens the segment that contains a recursive lock. */
shmkit_status shmkit_rlock_segment(const shmkit_rlock *rlock, shmkit_segment **out);

/** Removes the name of a recursive lock. Open handles stay valid. */
shmkit_status shmkit_rlock_unlink(shmkit_rlock *rlock);

/** Closes a handle of a recursive lock and frees it. NULL is SHMKIT_OK. */
shmkit_status shmkit_rlock_close(shmkit_rlock *rlock);

/**
 * Acquires the lock, and waits for it if necessary. If this thread holds the lock, it acquires the
 * lock once more.
 *
 * The caller holds the lock if and only if the call returns SHMKIT_OK.
 *
 *   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
 *   flags       SHMKIT_INTERRUPTIBLE or 0
 *   owner_died  (may be NULL) 1 if an owner died and shmkit_rlock_mark_consistent has not been
 *               called since: check and repair what the lock guards. Otherwise 0
 *
 *   SHMKIT_ERR_OVERFLOW  this thread holds the lock 2^64 - 1 times
 *   and the errors of shmkit_lock_acquire
 */
shmkit_status shmkit_rlock_acquire(shmkit_rlock *lock,
                                   int64_t timeout_ns,
                                   uint32_t flags,
                                   uint32_t *owner_died);

/**
 * Releases the lock once.
 *
 * After the death of an owner the lock stays marked until shmkit_rlock_mark_consistent is called.
 *
 *   SHMKIT_ERR_NOT_OWNER  this thread does not hold the lock
 */
shmkit_status shmkit_rlock_release(shmkit_rlock *lock);

/** Returns how many times this thread holds the lock; 0 if it does not hold it. */
shmkit_status shmkit_rlock_depth(const shmkit_rlock *lock, uint64_t *out);

/**
 * Marks what the lock guards as repaired after the death of an owner.
 *
 *   SHMKIT_ERR_NOT_OWNER  this thread does not hold the lock
 */
shmkit_status shmkit_rlock_mark_consistent(shmkit_rlock *lock);

/**
 * Returns the state of the lock. It does not check whether the owner is alive: only an acquire
 * does.
 */
shmkit_status shmkit_rlock_stat(const shmkit_rlock *lock, shmkit_lock_info *out);

/* ==============================================================================================
 * Readers-writer locks: many processes read at a time, or one writes.
 * ============================================================================================== */

#ifndef SHMKIT_TYPES

/** In shmkit_rwlock_info: a process writes. It may be dead. */
#define SHMKIT_RWLOCK_WRITING 0x40000

/**
 * In shmkit_rwlock_info: a writer died, and shmkit_rwlock_mark_consistent has not been called
 * since.
 */
#define SHMKIT_RWLOCK_OWNER_DIED 0x80000

/** In shmkit_rwlock_info: a writer waits for the readers to release the lock. It may be dead. */
#define SHMKIT_RWLOCK_WAITING 0x200000

/**
 * A readers-writer lock: many processes hold it for reading, or one for writing.
 *
 *   Owner     Processes. Any thread of a holder may release the lock. A process may hold it for
 *             reading up to 65,535 times, for writing once.
 *   Readers   A reader writes only to a cache line of its own process.
 *   Writers   As soon as a writer waits, new readers wait for it: writers do not starve.
 *   Deadlock  A process that reads must not acquire the lock for reading again before it has
 *             released it, unless no other process ever writes. Otherwise a writer that comes in
 *             between waits for the first read, and the second read waits for that writer.
 *   Death     If a holder dies, for any reason, a waiter acquires the lock at most 12 ms after the
 *             kernel has torn the process down. If a writer dies while it writes, all later
 *             holders see `*owner_died` = 1 until shmkit_rwlock_mark_consistent, because what the
 *             lock guards may be half written. The death of a reader is not reported.
 *   Threads   All threads of a process may use a handle at once, and so may forked children. A
 *             child holds nothing that its parent holds.
 *   Size      128 bytes in a segment, and 64 for each process that can read at a time.
 *   Options   shmkit_rwlock_options. shmkit_rwlock_open_or_create and shmkit_rwlock_create_at
 *             compare `readers` with an existing lock.
 *   Close     A close releases nothing. If the process closes its last handle of the segment, it
 *             counts as dead for the locks that it holds there.
 */
typedef struct shmkit_rwlock shmkit_rwlock;

/**
 * How to create or open a readers-writer lock. NULL, or zeros after struct_size, mean the
 * defaults.
 */
typedef struct shmkit_rwlock_options {
  /** sizeof(shmkit_rwlock_options). */
  uint32_t struct_size;
  /** SHMKIT_TRUST and SHMKIT_EXCLUSIVE, or-ed. */
  uint32_t flags;
  /** Permission bits of a new named lock, whatever the umask. 0: 0600. */
  uint32_t mode;
  /** The number of processes that can use a new named lock at a time, 1 to 4096. 0: 128. */
  uint32_t participants;
  /** The directory of a named lock. NULL: SHMKIT_DIR, else /dev/shm. */
  const char *directory;
  /** The number of processes that can read at a time, 1 to 4096: each has a cache line. 0: 128. */
  uint32_t readers;
  /** Must be 0. */
  uint32_t reserved;
} shmkit_rwlock_options;

/** The state of a readers-writer lock. Each figure was true at some moment during the call. */
typedef struct shmkit_rwlock_info {
  /** sizeof(shmkit_rwlock_info); on return, the number of bytes filled. */
  uint32_t struct_size;
  /** SHMKIT_RWLOCK_WRITING, SHMKIT_RWLOCK_WAITING and SHMKIT_RWLOCK_OWNER_DIED, or-ed. */
  uint32_t flags;
  /** The number of acquisitions for writing. Acquisitions for reading are not counted. */
  uint64_t writes;
  /** The number of times that a process waited for a writer, or a writer for readers. */
  uint64_t contended;
  /** The number of times that a waiter took over from a writer that died while it wrote. */
  uint64_t recoveries;
  /**
   * The time when the first waiter for the present holder went to sleep, in nanoseconds of
   * CLOCK_MONOTONIC, even if its wait has ended. 0: no process has waited for this holder.
   */
  uint64_t contended_since;
  /**
   * The ticket of the process that writes or waits to write: its number among the participants of
   * the segment, never reused. 0: there is none.
   */
  uint64_t owner_ticket;
  /** The PID namespace of that process, as the inode of /proc/PID/ns/pid. 0: unknown. */
  uint64_t owner_namespace;
  /**
   * The offset of the lock in the data of its segment, or in the memory file of unnamed
   * objects.
   */
  uint64_t offset;
  /** The number of holds for reading. Dead readers count until a writer has waited for them. */
  uint64_t readers;
  /**
   * The PID of the process that writes or waits to write, in that namespace. 0: there is none, or
   * unknown.
   */
  uint32_t owner_pid;
  /** The number of processes that read. Dead readers count until a writer has waited for them. */
  uint32_t reading_processes;
  /** The number of processes that can read at a time. */
  uint32_t max_readers;
  /** Always 0. */
  uint32_t reserved;
} shmkit_rwlock_info;

#endif /* SHMKIT_TYPES */

/** Returns the number of bytes that a readers-writer lock occupies in a segment. */
shmkit_status shmkit_rwlock_size(const shmkit_rwlock_options *options, uint64_t *out);

/** Creates a readers-writer lock: named, in a file of its own, or unnamed if `name` is NULL. */
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

/**
 * Opens a readers-writer lock that another process exported.
 *
 * `offset` must be the offset that shmkit_rwlock_fd returned there.
 */
shmkit_status shmkit_rwlock_open_fd(int32_t fd,
                                    uint64_t offset,
                                    const shmkit_rwlock_options *options,
                                    shmkit_rwlock **out);

/**
 * Exports a readers-writer lock.
 *
 * Returns the descriptor and the offset that shmkit_rwlock_open_fd needs in another process.
 */
shmkit_status shmkit_rwlock_fd(const shmkit_rwlock *rwlock, int32_t *fd, uint64_t *offset);

/** Opens the segment that contains a readers-writer lock. */
shmkit_status shmkit_rwlock_segment(const shmkit_rwlock *rwlock, shmkit_segment **out);

/** Removes the name of a readers-writer lock. Open handles stay valid. */
shmkit_status shmkit_rwlock_unlink(shmkit_rwlock *rwlock);

/** Closes a handle of a readers-writer lock and frees it. NULL is SHMKIT_OK. */
shmkit_status shmkit_rwlock_close(shmkit_rwlock *rwlock);

/**
 * Acquires the lock for reading. It waits while a process writes or waits to write.
 *
 * The caller reads if and only if the call returns SHMKIT_OK.
 *
 *   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
 *   flags       SHMKIT_INTERRUPTIBLE or 0
 *   owner_died  (may be NULL) 1 if a writer died and shmkit_rwlock_mark_consistent has not been
 *               called since: what is read may be half written. Otherwise 0
 *
 *   SHMKIT_ERR_TOO_MANY_PROCESSES  also: live processes occupy all places for readers
 *   SHMKIT_ERR_OVERFLOW            this process holds the lock for reading 65,535 times
 *   and the errors of shmkit_lock_acquire
 */
shmkit_status shmkit_rwlock_acquire_read(shmkit_rwlock *lock,
                                         int64_t timeout_ns,
                                         uint32_t flags,
                                         uint32_t *owner_died);

/**
 * Releases the lock once from reading.
 *
 *   SHMKIT_ERR_NOT_OWNER  this process does not read
 */
shmkit_status shmkit_rwlock_release_read(shmkit_rwlock *lock);

/**
 * Acquires the lock for writing. It waits until no process reads or writes.
 *
 * New readers wait as soon as it is the caller's turn. The caller writes if and only if the call
 * returns SHMKIT_OK.
 *
 *   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
 *   flags       SHMKIT_INTERRUPTIBLE or 0
 *   owner_died  (may be NULL) 1 if a writer died and shmkit_rwlock_mark_consistent has not been
 *               called since: check and repair what the lock guards. Otherwise 0
 *
 *   the errors of shmkit_lock_acquire
 */
shmkit_status shmkit_rwlock_acquire_write(shmkit_rwlock *lock,
                                          int64_t timeout_ns,
                                          uint32_t flags,
                                          uint32_t *owner_died);

/**
 * Releases the lock from writing.
 *
 * After the death of a writer the lock stays marked until shmkit_rwlock_mark_consistent is called.
 *
 *   SHMKIT_ERR_NOT_OWNER  this process does not write
 */
shmkit_status shmkit_rwlock_release_write(shmkit_rwlock *lock);

/**
 * Changes from reading to writing. It waits until this is the only hold for reading; no process
 * writes in between.
 *
 * On SHMKIT_OK the caller writes, and holds the lock for reading once less. On any error but
 * SHMKIT_ERR_FORKED it reads as before.
 *
 *   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
 *   flags       SHMKIT_INTERRUPTIBLE or 0
 *
 *   SHMKIT_ERR_DEADLOCK   another process waits for all readers, and so for the caller, to write
 *                         or to upgrade. Release the lock, and acquire it for writing; that
 *                         process writes in between
 *   SHMKIT_ERR_NOT_OWNER  this process does not read
 *   and the errors of shmkit_lock_acquire
 */
shmkit_status shmkit_rwlock_upgrade(shmkit_rwlock *lock, int64_t timeout_ns, uint32_t flags);

/**
 * Changes from writing to reading, without waiting; no process writes in between. On any error but
 * SHMKIT_ERR_FORKED the caller still writes.
 *
 *   SHMKIT_ERR_NOT_OWNER           this process does not write
 *   SHMKIT_ERR_TOO_MANY_PROCESSES  live processes occupy all places for readers
 *   SHMKIT_ERR_OVERFLOW            this process holds the lock for reading 65,535 times
 *   SHMKIT_ERR_LIVENESS_UNKNOWN    this process has lost all descriptors of the segment
 *                                  (closefrom), so it cannot check whether the readers are alive
 */
shmkit_status shmkit_rwlock_downgrade(shmkit_rwlock *lock);

/**
 * Marks what the lock guards as repaired after the death of a writer.
 *
 *   SHMKIT_ERR_NOT_OWNER  this process does not write
 */
shmkit_status shmkit_rwlock_mark_consistent(shmkit_rwlock *lock);

/**
 * Returns the state of the lock. It does not check whether the holders are alive: only an acquire
 * does.
 */
shmkit_status shmkit_rwlock_stat(const shmkit_rwlock *lock, shmkit_rwlock_info *out);

/* ==============================================================================================
 * Semaphores: permits that processes and threads acquire and release; with undo the permits of a
 * dead process are released.
 * ============================================================================================== */

#ifndef SHMKIT_TYPES

/**
 * In shmkit_semaphore_options: the permits of a process are released when it ends. Before that
 * only this process may release them. In shmkit_semaphore_info: the semaphore was created with
 * this option.
 */
#define SHMKIT_SEMAPHORE_UNDO 0x10000

/**
 * A semaphore: a number of permits, which are acquired and released.
 *
 *   Plain    For signalling, like sem_t. Any process may release permits, and any number of
 *            processes may use it. If a process dies, the permits that it had acquired are lost.
 *   Undo     With SHMKIT_SEMAPHORE_UNDO, for resources that processes hold, like SEM_UNDO. The
 *            semaphore records how many permits each process holds. If a process ends, for any
 *            reason, the next acquire that finds too few permits releases those of the dead
 *            process. A waiter does so at most 12 ms after the kernel has torn the process down.
 *   Order    Waiters are served in no particular order. A waiter for many permits may wait long
 *            while others acquire few.
 *   Threads  All threads of a process may use a handle at once, and so may forked children. A
 *            child holds none of the permits that its parent holds.
 *   Size     128 bytes in a segment; with undo 64 more for each of `processes`.
 *   Options  shmkit_semaphore_options. shmkit_semaphore_open_or_create and
 *            shmkit_semaphore_create_at compare SHMKIT_SEMAPHORE_UNDO, `maximum` and `processes`
 *            with an existing semaphore. `value` describes a new one only.
 *   Close    A close releases no permits. If the process closes its last handle of the segment, it
 *            counts as dead there: with undo its permits are released.
 */
typedef struct shmkit_semaphore shmkit_semaphore;

/**
 * How to create or open a semaphore. NULL, or zeros after struct_size, mean a plain one without
 * permits.
 */
typedef struct shmkit_semaphore_options {
  /** sizeof(shmkit_semaphore_options). */
  uint32_t struct_size;
  /** SHMKIT_SEMAPHORE_UNDO, SHMKIT_TRUST and SHMKIT_EXCLUSIVE, or-ed. */
  uint32_t flags;
  /** Permission bits of a new named semaphore, whatever the umask. 0: 0600. */
  uint32_t mode;
  /**
   * The number of processes that can use a new named semaphore with undo at a time, 1 to 4096;
   * any number can use a plain one. 0: 128.
   */
  uint32_t participants;
  /** The directory of a named semaphore. NULL: SHMKIT_DIR, else /dev/shm. */
  const char *directory;
  /**
   * The permits of a new semaphore, 0 to 2147483647, at most `maximum`. With undo these are all
   * permits: at least 1.
   */
  uint64_t value;
  /**
   * The maximum number of permits, 1 to 2147483647. 0: 2147483647. With undo: `value`, or 0 for
   * the same.
   */
  uint64_t maximum;
  /**
   * With undo: the number of processes that can hold permits at a time, 1 to 4096. 0: 128. Without
   * undo: 0.
   */
  uint32_t processes;
  /** Must be 0. */
  uint32_t reserved;
} shmkit_semaphore_options;

/** The state of a semaphore. Each figure was true at some moment during the call. */
typedef struct shmkit_semaphore_info {
  /** sizeof(shmkit_semaphore_info); on return, the number of bytes filled. */
  uint32_t struct_size;
  /** SHMKIT_SEMAPHORE_UNDO or 0. */
  uint32_t flags;
  /** The number of permits that are available. */
  uint64_t value;
  /** The maximum number of permits; with undo: all permits. */
  uint64_t maximum;
  /** The number of acquires that had to sleep, counted when the sleep begins. */
  uint64_t waits;
  /** The number of times that permits of a dead process were released. */
  uint64_t recoveries;
  /** With undo: the number of processes that hold permits. Some may be dead. */
  uint64_t holders;
  /**
   * The offset of the semaphore in the data of its segment, or in the memory file of unnamed
   * objects.
   */
  uint64_t offset;
  /** With undo: the number of processes that can hold permits at a time. */
  uint32_t processes;
  /** Always 0. */
  uint32_t reserved;
} shmkit_semaphore_info;

#endif /* SHMKIT_TYPES */

/** Returns the number of bytes that a semaphore occupies in a segment. */
shmkit_status shmkit_semaphore_size(const shmkit_semaphore_options *options, uint64_t *out);

/** Creates a semaphore: named, in a file of its own, or unnamed if `name` is NULL. */
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

/**
 * Opens a semaphore that another process exported.
 *
 * `offset` must be the offset that shmkit_semaphore_fd returned there.
 */
shmkit_status shmkit_semaphore_open_fd(int32_t fd,
                                       uint64_t offset,
                                       const shmkit_semaphore_options *options,
                                       shmkit_semaphore **out);

/**
 * Exports a semaphore.
 *
 * Returns the descriptor and the offset that shmkit_semaphore_open_fd needs in another process.
 */
shmkit_status shmkit_semaphore_fd(const shmkit_semaphore *semaphore,
                                  int32_t *fd,
                                  uint64_t *offset);

/** Opens the segment that contains a semaphore. */
shmkit_status shmkit_semaphore_segment(const shmkit_semaphore *semaphore,
                                       shmkit_segment **out);

/** Removes the name of a semaphore. Open handles stay valid. */
shmkit_status shmkit_semaphore_unlink(shmkit_semaphore *semaphore);

/** Closes a handle of a semaphore and frees it. NULL is SHMKIT_OK. */
shmkit_status shmkit_semaphore_close(shmkit_semaphore *semaphore);

/**
 * Acquires `n` permits, all of them or none, and waits for them if necessary.
 *
 * The caller holds the permits if and only if the call returns SHMKIT_OK. The caller then sees all
 * that was written before the release of these permits.
 *
 *   n           1 to the maximum of the semaphore
 *   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
 *   flags       SHMKIT_INTERRUPTIBLE or 0
 *
 *   SHMKIT_ERR_WOULD_BLOCK  fewer than `n` permits are available, and SHMKIT_NOWAIT was given
 *   SHMKIT_ERR_TIMEOUT      the timeout expired
 *   SHMKIT_ERR_INTERRUPTED  the interrupt hook ended the call
 *   SHMKIT_ERR_INVALID      `n` is 0 or above the maximum, a negative timeout other than
 *                           SHMKIT_FOREVER, or an unknown flag
 *
 * With undo also:
 *
 *   SHMKIT_ERR_TOO_MANY_PROCESSES  live processes occupy all places for holders of the semaphore,
 *                                  or all participant slots of the segment
 *   SHMKIT_ERR_OVERFLOW            this process would hold more than 65,535 permits
 *   SHMKIT_ERR_LIVENESS_UNKNOWN    this process has lost all descriptors of the segment
 *                                  (closefrom), and permits are held: their holders cannot be
 *                                  checked. Also at the first use of the segment
 *   SHMKIT_ERR_PERMISSION          this user may not write to the file of the segment
 *   SHMKIT_ERR_NO_MEMORY           no address space is left, at the first use of the segment
 *   SHMKIT_ERR_CORRUPT             the shared bytes of the segment are corrupt
 *
 * With undo, an acquire waits for a process that is stopped inside an acquire or a release. That
 * wait may take one second, even with SHMKIT_NOWAIT or a shorter timeout.
 */
shmkit_status shmkit_semaphore_acquire(shmkit_semaphore *semaphore,
                                       uint32_t n,
                                       int64_t timeout_ns,
                                       uint32_t flags);

/**
 * Releases `n` permits. For a plain semaphore any process may do so, whether or not it has acquired
 * them before.
 *
 * A signal handler may release a plain semaphore, as with sem_post, if the call does not fail: a
 * successful release neither allocates nor waits. With undo a release waits for a process that is
 * inside an acquire or a release, which takes less than a microsecond.
 *
 *   SHMKIT_ERR_OVERFLOW  there would be more permits than the maximum; none is released
 *   SHMKIT_ERR_INVALID   `n` is 0
 *   SHMKIT_ERR_CORRUPT   the semaphore has more permits than its maximum
 *
 * With undo also:
 *
 *   SHMKIT_ERR_NOT_OWNER         this process holds fewer than `n` permits
 *   SHMKIT_ERR_TIMEOUT           another process has been stopped for five seconds inside an
 *                                acquire or a release; nothing is released
 *   SHMKIT_ERR_LIVENESS_UNKNOWN  this process has lost all descriptors of the segment (closefrom)
 *                                and cannot check such a process
 */
shmkit_status shmkit_semaphore_release(shmkit_semaphore *semaphore, uint32_t n);

/**
 * Returns the number of available permits. It does not count the permits of dead processes: only an
 * acquire releases them.
 *
 *   SHMKIT_ERR_CORRUPT  the semaphore has more permits than its maximum
 */
shmkit_status shmkit_semaphore_value(const shmkit_semaphore *semaphore, uint64_t *out);

/**
 * Returns the number of permits that this process holds.
 *
 *   SHMKIT_ERR_INVALID  a semaphore without undo does not record its holders
 */
shmkit_status shmkit_semaphore_held(const shmkit_semaphore *semaphore, uint64_t *out);

/**
 * Returns the state of the semaphore. It does not check whether the holders are alive: only an
 * acquire does.
 *
 *   SHMKIT_ERR_CORRUPT  the semaphore has more permits than its maximum
 */
shmkit_status shmkit_semaphore_stat(const shmkit_semaphore *semaphore,
                                    shmkit_semaphore_info *out);

/* ==============================================================================================
 * Conditions: a thread that holds a lock releases it and waits until another owner notifies it.
 * ============================================================================================== */

#ifndef SHMKIT_TYPES

/**
 * A condition (pthread_cond_t, std::sync::Condvar): owners of a lock wait for a notification.
 *
 * The lock is a shmkit_lock or a shmkit_rlock of the program. Each call names the lock, which must
 * always be the same one.
 *
 *   Waiters  Each waiting thread occupies a cell. A notification wakes the threads that it is
 *            meant for, and no other thread returns.
 *   Death    If a waiter dies, notifications skip it. If it dies between its notification and its
 *            acquisition of the lock, another thread that waited at that time gets the
 *            notification, at most 12 ms after the kernel has torn the process down.
 *   Threads  All threads of a process may use a handle at once, and so may forked children.
 *   Size     64 bytes and 16 for each cell, rounded up to a multiple of 64.
 *   Options  shmkit_condition_open_or_create and shmkit_condition_create_at compare cells; 0 means
 *            128. The other opens accept any valid number, and the condition keeps its cells.
 *   Export   A process that opens an exported condition needs its lock too: export both.
 *   Unlink   The lock keeps its own name.
 *   Close    The lock stays open.
 */
typedef struct shmkit_condition shmkit_condition;

/** How to create or open a condition. NULL, or zeros after struct_size, mean the defaults. */
typedef struct shmkit_condition_options {
  /** sizeof(shmkit_condition_options). */
  uint32_t struct_size;
  /** SHMKIT_TRUST and SHMKIT_EXCLUSIVE, or-ed. */
  uint32_t flags;
  /** Permission bits of a new named condition, 1 to 0777, whatever the umask. 0: 0600. */
  uint32_t mode;
  /**
   * The number of processes that can wait at a new named condition at a time, 1 to 4096.
   * 0: 128.
   */
  uint32_t participants;
  /** The directory of a named condition. NULL: SHMKIT_DIR, else /dev/shm. */
  const char *directory;
  /** The number of threads of all processes that can wait at a time, 1 to 4096. 0: 128. */
  uint32_t cells;
  /** Must be 0. */
  uint32_t reserved;
} shmkit_condition_options;

/** The state of a condition. Each figure was true at some moment during the call. */
typedef struct shmkit_condition_info {
  /** sizeof(shmkit_condition_info); on return, the number of bytes filled. */
  uint32_t struct_size;
  /** Always 0. */
  uint32_t flags;
  /** The number of threads that can wait at a time. */
  uint64_t cells;
  /** The number of waiting threads, including those of dead processes. */
  uint64_t waiting;
  /** The number of waits that have begun. */
  uint64_t waits;
  /** The number of notifications sent to waiters. */
  uint64_t notified;
  /** The number of waits that ended without a notification. */
  uint64_t timeouts;
  /** The number of notifications that passed from dead or interrupted waiters to other waiters. */
  uint64_t recoveries;
  /**
   * The offset of the condition in the data of its segment, or in the memory file of unnamed
   * objects.
   */
  uint64_t offset;
} shmkit_condition_info;

#endif /* SHMKIT_TYPES */

/** Returns the number of bytes that a condition occupies in a segment. */
shmkit_status shmkit_condition_size(const shmkit_condition_options *options, uint64_t *out);

/** Creates a condition: named, in a file of its own, or unnamed if `name` is NULL. */
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

/**
 * Opens a condition that another process exported.
 *
 * `offset` must be the offset that shmkit_condition_fd returned there.
 */
shmkit_status shmkit_condition_open_fd(int32_t fd,
                                       uint64_t offset,
                                       const shmkit_condition_options *options,
                                       shmkit_condition **out);

/**
 * Exports a condition.
 *
 * Returns the descriptor and the offset that shmkit_condition_open_fd needs in another process.
 */
shmkit_status shmkit_condition_fd(const shmkit_condition *condition,
                                  int32_t *fd,
                                  uint64_t *offset);

/** Opens the segment that contains a condition. */
shmkit_status shmkit_condition_segment(const shmkit_condition *condition,
                                       shmkit_segment **out);

/** Removes the name of a condition. Open handles stay valid. */
shmkit_status shmkit_condition_unlink(shmkit_condition *condition);

/** Closes a handle of a condition and frees it. NULL is SHMKIT_OK. */
shmkit_status shmkit_condition_close(shmkit_condition *condition);

/**
 * Releases the lock, waits for a notification, and acquires the lock again.
 *
 * Other threads may have held the lock between the notification and the return: check in a loop
 * for the state that the caller waits for.
 *
 *   lock_or_rlock  a shmkit_lock * or a shmkit_rlock * that the caller holds. A recursive lock is
 *                  released completely; afterwards it is held as many times as before
 *   timeout_ns     nanoseconds to wait for a notification, SHMKIT_FOREVER, or SHMKIT_NOWAIT, which
 *                  only allows other threads to acquire the lock. The second acquisition has no
 *                  time limit, and the interrupt hook cannot end it
 *   flags          SHMKIT_INTERRUPTIBLE or 0
 *   owner_died     (may be NULL) 1 if an owner of the lock died and mark_consistent has not been
 *                  called since, else 0. After 1, check and repair what the lock guards. Written
 *                  on SHMKIT_OK and with the first three errors below
 *
 * The caller holds the lock again whatever the call returns, except for SHMKIT_ERR_NOT_OWNER and
 * SHMKIT_ERR_FORKED.
 *
 *   SHMKIT_ERR_TIMEOUT             the timeout expired without a notification
 *   SHMKIT_ERR_WOULD_BLOCK         no notification, and SHMKIT_NOWAIT was given
 *   SHMKIT_ERR_INTERRUPTED         the interrupt hook ended the call. A notification that came at
 *                                  the same moment goes to another waiter
 *   SHMKIT_ERR_NOT_OWNER           the caller does not hold the lock. Or it cannot acquire the
 *                                  lock again, because this process has lost all descriptors of
 *                                  the lock's segment (closefrom) and another owner holds it
 *   SHMKIT_ERR_INVALID             the condition was first used with another lock, in any process;
 *                                  or a negative timeout other than SHMKIT_FOREVER, or an unknown
 *                                  flag
 *   SHMKIT_ERR_WRONG_KIND          lock_or_rlock is not a lock
 *   SHMKIT_ERR_TOO_MANY_PROCESSES  as many threads wait as the condition has cells; or the
 *                                  condition's segment has no room for another process
 *   SHMKIT_ERR_LIVENESS_UNKNOWN    this process has lost all descriptors of the condition's
 *                                  segment, at the first use of the segment
 *   SHMKIT_ERR_PERMISSION          this user may not write to the file of the condition's segment
 *   SHMKIT_ERR_NO_MEMORY           no address space is left, at the first use of the segment
 *   SHMKIT_ERR_CORRUPT             the shared bytes of the segment are corrupt
 */
shmkit_status shmkit_condition_wait(shmkit_condition *condition,
                                    void *lock_or_rlock,
                                    int64_t timeout_ns,
                                    uint32_t flags,
                                    uint32_t *owner_died);

/**
 * Notifies the `count` threads that have waited longest, or all if fewer wait.
 *
 * The caller must hold the lock. Only the notified threads return, as soon as they have acquired
 * the lock. Dead waiters are skipped. If no thread waits, nothing happens, and the notification is
 * not stored. `count` is 0 to 4294967295; 0 notifies no thread.
 *
 *   SHMKIT_ERR_NOT_OWNER   the caller does not hold the lock
 *   SHMKIT_ERR_INVALID     the condition was first used with another lock, in any process
 *   SHMKIT_ERR_WRONG_KIND  lock_or_rlock is not a lock
 */
shmkit_status shmkit_condition_notify(shmkit_condition *condition,
                                      void *lock_or_rlock,
                                      uint32_t count);

/** Notifies all threads that wait. Rules and errors are those of shmkit_condition_notify. */
shmkit_status shmkit_condition_notify_all(shmkit_condition *condition, void *lock_or_rlock);

/**
 * Returns the state of the condition.
 *
 * The call does not check which waiters are alive: only a notification does.
 */
shmkit_status shmkit_condition_stat(const shmkit_condition *condition,
                                    shmkit_condition_info *out);

/* ==============================================================================================
 * Events: a flag that processes and threads set, clear and wait for.
 * ============================================================================================== */

#ifndef SHMKIT_TYPES

/** In shmkit_event_info: the event is set. */
#define SHMKIT_EVENT_SET 0x40000

/**
 * An event: set or clear. A new event is clear.
 *
 *   Owner    None: any number of processes and threads may set, clear and wait. They occupy no
 *            participant slots of the segment.
 *   Death    If a process dies in any of these calls, all others continue. If a wake is lost with
 *            the process, waiters return at most 12 ms later.
 *   Signals  A signal handler may call shmkit_event_set, shmkit_event_clear and
 *            shmkit_event_is_set on an open event, whatever code it interrupted, even these
 *            functions. They allocate nothing, lock nothing and do not change errno.
 *   Threads  All threads of a process may use a handle at once, and so may forked children.
 *   Size     64 bytes.
 *   Close    The event stays set or clear.
 */
typedef struct shmkit_event shmkit_event;

/** The state of an event. Each figure was true at some moment during the call. */
typedef struct shmkit_event_info {
  /** sizeof(shmkit_event_info); on return, the number of bytes filled. */
  uint32_t struct_size;
  /** SHMKIT_EVENT_SET or 0. */
  uint32_t flags;
  /** The number of times that the event went from clear to set. */
  uint64_t sets;
  /** The number of waits that had to sleep. */
  uint64_t waits;
  /**
   * The offset of the event in the data of its segment, or in the memory file of unnamed
   * objects.
   */
  uint64_t offset;
} shmkit_event_info;

#endif /* SHMKIT_TYPES */

/** Returns the number of bytes that an event occupies in a segment. */
shmkit_status shmkit_event_size(const shmkit_object_options *options, uint64_t *out);

/** Creates an event: named, in a file of its own, or unnamed if `name` is NULL. */
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

/**
 * Opens an event that another process exported.
 *
 * `offset` must be the offset that shmkit_event_fd returned there.
 */
shmkit_status shmkit_event_open_fd(int32_t fd,
                                   uint64_t offset,
                                   const shmkit_object_options *options,
                                   shmkit_event **out);

/**
 * Exports an event.
 *
 * Returns the descriptor and the offset that shmkit_event_open_fd needs in another process.
 */
shmkit_status shmkit_event_fd(const shmkit_event *event, int32_t *fd, uint64_t *offset);

/** Opens the segment that contains an event. */
shmkit_status shmkit_event_segment(const shmkit_event *event, shmkit_segment **out);

/** Removes the name of an event. Open handles stay valid. */
shmkit_status shmkit_event_unlink(shmkit_event *event);

/** Closes a handle of an event and frees it. NULL is SHMKIT_OK. */
shmkit_status shmkit_event_close(shmkit_event *event);

/**
 * Sets the event: wakes all waiters, and no wait blocks until the event is cleared.
 *
 * A thread that then returns from a wait sees all that the caller has written before. A signal
 * handler may call this function.
 */
shmkit_status shmkit_event_set(shmkit_event *event);

/**
 * Clears the event: a wait that begins afterwards blocks until the next shmkit_event_set.
 *
 * A thread that began to wait before the event was set returns all the same. A signal handler may
 * call this function.
 */
shmkit_status shmkit_event_clear(shmkit_event *event);

/** Returns 1 if the event is set, else 0. A signal handler may call this function. */
shmkit_status shmkit_event_is_set(const shmkit_event *event, uint32_t *out);

/**
 * Waits until the event is set.
 *
 * Returns SHMKIT_OK if the event is set, or was set at any moment since the call began. So
 * shmkit_event_set followed by shmkit_event_clear releases every thread that had begun to wait.
 *
 *   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
 *   flags       SHMKIT_INTERRUPTIBLE or 0
 *
 *   SHMKIT_ERR_WOULD_BLOCK  the event is clear, and SHMKIT_NOWAIT was given
 *   SHMKIT_ERR_TIMEOUT      the timeout expired
 *   SHMKIT_ERR_INTERRUPTED  the interrupt hook ended the call
 *   SHMKIT_ERR_INVALID      a negative timeout other than SHMKIT_FOREVER, or an unknown flag
 */
shmkit_status shmkit_event_wait(shmkit_event *event, int64_t timeout_ns, uint32_t flags);

/** Returns the state of the event. */
shmkit_status shmkit_event_stat(const shmkit_event *event,
                                shmkit_event_info *out);

/* ==============================================================================================
 * Barriers: a fixed number of threads, of any processes, wait until all of them have arrived.
 * ============================================================================================== */

#ifndef SHMKIT_TYPES

/**
 * For shmkit_barrier_wait: make the last party the serial party. It returns while the others still
 * wait, until shmkit_barrier_release.
 */
#define SHMKIT_BARRIER_SERIAL 0x2

/** In shmkit_barrier_info: the barrier is broken. */
#define SHMKIT_BARRIER_BROKEN 0x40000

/** The largest number of parties of a barrier. */
#define SHMKIT_BARRIER_MAX_PARTIES 2048

/**
 * A barrier (pthread_barrier_t): its parties wait until all have arrived. Then all continue, and
 * the next round begins.
 *
 *   Parties  Each waiting thread is a party, of the same process or of another one.
 *   Death    If a party dies while it waits, the barrier is broken. Every party that waits or
 *            arrives sees SHMKIT_ERR_BROKEN, at most 12 ms after the kernel has torn the process
 *            down. If a party dies before it arrives, the others wait for it: use timeouts.
 *   Serial   With SHMKIT_BARRIER_SERIAL, the last party to arrive is the serial party. It returns
 *            while the others still wait, until its process calls shmkit_barrier_release.
 *            (pthreads has PTHREAD_BARRIER_SERIAL_THREAD, but does not hold the others.)
 *   Threads  All threads of a process may use a handle at once, and so may forked children.
 *   Size     128 bytes and 32 for each party, rounded up to a multiple of 64.
 *   Options  shmkit_barrier_size and every function that may create a barrier need parties; 0 is
 *            SHMKIT_ERR_INVALID. shmkit_barrier_open_or_create and shmkit_barrier_create_at
 *            compare parties. The other opens accept 0 or NULL options.
 *   Close    If a process closes its last handle of the segment while its serial party holds the
 *            others, the process counts as dead: the barrier is broken.
 */
typedef struct shmkit_barrier shmkit_barrier;

/**
 * How to create or open a barrier. To create one, set struct_size and parties. NULL is enough to
 * open one.
 */
typedef struct shmkit_barrier_options {
  /** sizeof(shmkit_barrier_options). */
  uint32_t struct_size;
  /** SHMKIT_TRUST and SHMKIT_EXCLUSIVE, or-ed. */
  uint32_t flags;
  /** Permission bits of a new named barrier, 1 to 0777, whatever the umask. 0: 0600. */
  uint32_t mode;
  /** The number of processes that can use a new named barrier at a time, 1 to 4096. 0: 128. */
  uint32_t participants;
  /** The directory of a named barrier. NULL: SHMKIT_DIR, else /dev/shm. */
  const char *directory;
  /** The number of parties, 1 to SHMKIT_BARRIER_MAX_PARTIES. 0 is only valid to open a barrier. */
  uint32_t parties;
  /** Must be 0. */
  uint32_t reserved;
} shmkit_barrier_options;

/** The state of a barrier. Each figure was true at some moment during the call. */
typedef struct shmkit_barrier_info {
  /** sizeof(shmkit_barrier_info); on return, the number of bytes filled. */
  uint32_t struct_size;
  /** SHMKIT_BARRIER_BROKEN or 0. */
  uint32_t flags;
  /** The number of parties that must arrive. */
  uint32_t parties;
  /** The number of parties that wait; 0 if the barrier is broken. */
  uint32_t waiting;
  /** The number of times that all parties arrived and continued. */
  uint64_t turns;
  /**
   * The number of times that the barrier was broken: by an abort, a reset while a party waited, a
   * timeout or a death.
   */
  uint64_t breaks;
  /** The number of times that a death broke the barrier. */
  uint64_t deaths;
  /**
   * The offset of the barrier in the data of its segment, or in the memory file of unnamed
   * objects.
   */
  uint64_t offset;
} shmkit_barrier_info;

#endif /* SHMKIT_TYPES */

/** Returns the number of bytes that a barrier occupies in a segment. */
shmkit_status shmkit_barrier_size(const shmkit_barrier_options *options, uint64_t *out);

/** Creates a barrier: named, in a file of its own, or unnamed if `name` is NULL. */
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

/**
 * Opens a barrier that another process exported.
 *
 * `offset` must be the offset that shmkit_barrier_fd returned there.
 */
shmkit_status shmkit_barrier_open_fd(int32_t fd,
                                     uint64_t offset,
                                     const shmkit_barrier_options *options,
                                     shmkit_barrier **out);

/**
 * Exports a barrier.
 *
 * Returns the descriptor and the offset that shmkit_barrier_open_fd needs in another process.
 */
shmkit_status shmkit_barrier_fd(const shmkit_barrier *barrier,
                                int32_t *fd,
                                uint64_t *offset);

/** Opens the segment that contains a barrier. */
shmkit_status shmkit_barrier_segment(const shmkit_barrier *barrier, shmkit_segment **out);

/** Removes the name of a barrier. Open handles stay valid. */
shmkit_status shmkit_barrier_unlink(shmkit_barrier *barrier);

/** Closes a handle of a barrier and frees it. NULL is SHMKIT_OK. */
shmkit_status shmkit_barrier_close(shmkit_barrier *barrier);

/**
 * Waits until all parties have arrived.
 *
 * Every party that returns sees all that each party has written before it arrived.
 *
 *   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
 *   flags       SHMKIT_INTERRUPTIBLE and SHMKIT_BARRIER_SERIAL, or-ed, or 0
 *   place       (may be NULL) the index of the caller among the parties, 0 to parties - 1. All
 *               parties of a round have different ones, and the last party to arrive has
 *               parties - 1
 *
 * With SHMKIT_BARRIER_SERIAL the last party to arrive returns while all others still wait; its
 * place is parties - 1. After its work it calls shmkit_barrier_release, or shmkit_barrier_abort if
 * the work failed. If it dies before that, the barrier is broken.
 *
 *   SHMKIT_ERR_BROKEN              a waiting party died or timed out, or the barrier was aborted
 *                                  or reset. On a broken barrier every call fails with this at
 *                                  once, until shmkit_barrier_reset
 *   SHMKIT_ERR_TIMEOUT             the timeout expired, and the barrier is now broken. It is not
 *                                  broken if the caller could not arrive, because the serial party
 *                                  held the others, or a process was stopped while it arrived
 *   SHMKIT_ERR_WOULD_BLOCK         SHMKIT_NOWAIT was given, and parties are missing, or the caller
 *                                  could not arrive for a reason named at SHMKIT_ERR_TIMEOUT. The
 *                                  caller does not count as arrived. The call may wait one second
 *                                  for a process that was stopped while it arrived or left
 *   SHMKIT_ERR_INTERRUPTED         the interrupt hook ended the call. The caller no longer counts
 *                                  as arrived, and the others still wait for as many parties as
 *                                  before. If all parties had arrived meanwhile, the others
 *                                  continue. If a process has been stopped for a second while it
 *                                  arrived or left, the barrier is broken instead
 *   SHMKIT_ERR_INVALID             a negative timeout other than SHMKIT_FOREVER, or an unknown
 *                                  flag
 *   SHMKIT_ERR_TOO_MANY_PROCESSES  the segment has no room for another process
 *   SHMKIT_ERR_LIVENESS_UNKNOWN    this process has lost all descriptors of the segment
 *                                  (closefrom), and cannot find out which processes are alive
 *   SHMKIT_ERR_PERMISSION          this user may not write to the file of the segment
 *   SHMKIT_ERR_NO_MEMORY           no address space is left, at the first use of the segment
 *   SHMKIT_ERR_CORRUPT             the shared bytes of the segment are corrupt
 */
shmkit_status shmkit_barrier_wait(shmkit_barrier *barrier,
                                  int64_t timeout_ns,
                                  uint32_t flags,
                                  uint32_t *place);

/**
 * Releases the parties that the serial party holds (SHMKIT_BARRIER_SERIAL).
 *
 * Any thread of the serial party's process may call this function.
 *
 *   SHMKIT_ERR_BROKEN     the barrier was broken meanwhile
 *   SHMKIT_ERR_NOT_OWNER  no serial party of this process holds the others, or the barrier was
 *                         reset meanwhile
 */
shmkit_status shmkit_barrier_release(shmkit_barrier *barrier);

/**
 * Resets the barrier: it is no longer broken, and no party waits.
 *
 * Waiting parties get SHMKIT_ERR_BROKEN. The entries of dead parties are removed. On an error
 * but SHMKIT_ERR_FORKED the call has changed nothing.
 *
 *   SHMKIT_ERR_TIMEOUT             a process has been stopped for a second while it arrived or
 *                                  left
 *   SHMKIT_ERR_TOO_MANY_PROCESSES, SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_PERMISSION,
 *   SHMKIT_ERR_NO_MEMORY, SHMKIT_ERR_CORRUPT  as for shmkit_barrier_wait
 */
shmkit_status shmkit_barrier_reset(shmkit_barrier *barrier);

/**
 * Breaks the barrier: parties that wait, or arrive before shmkit_barrier_reset, get
 * SHMKIT_ERR_BROKEN.
 */
shmkit_status shmkit_barrier_abort(shmkit_barrier *barrier);

/** Returns the number of parties that must arrive. */
shmkit_status shmkit_barrier_parties(const shmkit_barrier *barrier,
                                     uint32_t *out);

/** Returns the number of parties that wait; 0 if the barrier is broken. */
shmkit_status shmkit_barrier_waiting(const shmkit_barrier *barrier, uint32_t *out);

/**
 * Returns 1 if the barrier is broken, else 0.
 *
 * The call does not check which parties are alive: only a wait does.
 */
shmkit_status shmkit_barrier_is_broken(const shmkit_barrier *barrier, uint32_t *out);

/**
 * Returns the state of the barrier.
 *
 * The call does not check which parties are alive: only a wait does.
 */
shmkit_status shmkit_barrier_stat(const shmkit_barrier *barrier,
                                  shmkit_barrier_info *out);

/* ==============================================================================================
 * Once flags: work that is done exactly once among all processes.
 * ============================================================================================== */

#ifndef SHMKIT_TYPES

/** In shmkit_once_info: a process, perhaps a dead one, does the work. */
#define SHMKIT_ONCE_RUNNING 0x40000

/** In shmkit_once_info: an owner died during the work, and the work is not done yet. */
#define SHMKIT_ONCE_OWNER_DIED 0x80000

/** In shmkit_once_info: the work is done. */
#define SHMKIT_ONCE_DONE 0x200000

/**
 * A once flag (pthread_once_t, std::sync::Once): not done, running in one process, or done
 * forever.
 *
 * Of all callers of shmkit_once_begin one becomes the owner and does the work. The others wait
 * until the work is done. A new once flag is not done.
 *
 *   Owner    A process: any of its threads may call shmkit_once_done or shmkit_once_abort. Its
 *            other threads wait in shmkit_once_begin like those of other processes. If a thread
 *            begins again inside its own work, it waits for itself.
 *   Death    If the owner dies, the next caller becomes the owner, at most 12 ms after the kernel
 *            has torn the process down. It sees `*owner_died` = 1: the work may be half done.
 *   Threads  All threads of a process may use a handle at once, and so may forked children.
 *   Size     64 bytes.
 *   Close    A close neither completes nor ends the work. If a process closes its last handle of
 *            the segment while it is the owner, it counts as dead.
 */
typedef struct shmkit_once shmkit_once;

/** The state of a once flag. Each figure was true at some moment during the call. */
typedef struct shmkit_once_info {
  /** sizeof(shmkit_once_info); on return, the number of bytes filled. */
  uint32_t struct_size;
  /** SHMKIT_ONCE_RUNNING, SHMKIT_ONCE_OWNER_DIED and SHMKIT_ONCE_DONE, or-ed. */
  uint32_t flags;
  /** The number of times that a caller became the owner. */
  uint64_t attempts;
  /** The number of times that a caller took over from a dead owner. */
  uint64_t recoveries;
  /** The number of waits that had to sleep. */
  uint64_t waits;
  /**
   * The ticket of the owner: its number among the participants of the segment, never reused. 0:
   * no owner.
   */
  uint64_t owner_ticket;
  /** The owner's PID namespace: the inode of /proc/PID/ns/pid. 0: unknown. */
  uint64_t owner_namespace;
  /**
   * The offset of the once flag in the data of its segment, or in the memory file of unnamed
   * objects.
   */
  uint64_t offset;
  /** The PID of the owner in that namespace. 0: no owner, or unknown. */
  uint32_t owner_pid;
  /** Always 0. */
  uint32_t reserved;
} shmkit_once_info;

#endif /* SHMKIT_TYPES */

/** Returns the number of bytes that a once flag occupies in a segment. */
shmkit_status shmkit_once_size(const shmkit_object_options *options, uint64_t *out);

/** Creates a once flag: named, in a file of its own, or unnamed if `name` is NULL. */
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

/**
 * Opens a once flag that another process exported.
 *
 * `offset` must be the offset that shmkit_once_fd returned there.
 */
shmkit_status shmkit_once_open_fd(int32_t fd,
                                  uint64_t offset,
                                  const shmkit_object_options *options,
                                  shmkit_once **out);

/**
 * Exports a once flag.
 *
 * Returns the descriptor and the offset that shmkit_once_open_fd needs in another process.
 */
shmkit_status shmkit_once_fd(const shmkit_once *once, int32_t *fd, uint64_t *offset);

/** Opens the segment that contains a once flag. */
shmkit_status shmkit_once_segment(const shmkit_once *once, shmkit_segment **out);

/** Removes the name of a once flag. Open handles stay valid. */
shmkit_status shmkit_once_unlink(shmkit_once *once);

/** Closes a handle of a once flag and frees it. NULL is SHMKIT_OK. */
shmkit_status shmkit_once_close(shmkit_once *once);

/**
 * Makes the caller the owner of the work, or waits until the work is done.
 *
 * If `mine` is 1, the caller does the work, then calls shmkit_once_done, or shmkit_once_abort if
 * it cannot finish. If `mine` is 0, the work is done, and the caller sees all that was written
 * before shmkit_once_done.
 *
 *   timeout_ns  nanoseconds to wait for the owner, SHMKIT_FOREVER or SHMKIT_NOWAIT
 *   flags       SHMKIT_INTERRUPTIBLE or 0
 *   mine        gets 1 if the caller is the owner, 0 if the work is done
 *   owner_died  (may be NULL) 1 if `mine` is 1 and an earlier owner died during the work, which
 *               may be half done, else 0
 *
 *   SHMKIT_ERR_WOULD_BLOCK         a live owner does the work, and SHMKIT_NOWAIT was given
 *   SHMKIT_ERR_TIMEOUT             the timeout expired
 *   SHMKIT_ERR_INTERRUPTED         the interrupt hook ended the call
 *   SHMKIT_ERR_INVALID             a negative timeout other than SHMKIT_FOREVER, or an unknown
 *                                  flag
 *   SHMKIT_ERR_TOO_MANY_PROCESSES  the segment has no room for another process
 *   SHMKIT_ERR_LIVENESS_UNKNOWN    this process has lost all descriptors of the segment
 *                                  (closefrom), and cannot find out whether the owner is alive
 *   SHMKIT_ERR_PERMISSION          this user may not write to the file of the segment
 *   SHMKIT_ERR_NO_MEMORY           no address space is left, at the first use of the segment
 *   SHMKIT_ERR_CORRUPT             the shared bytes of the segment are corrupt
 */
shmkit_status shmkit_once_begin(shmkit_once *once,
                                int64_t timeout_ns,
                                uint32_t flags,
                                uint32_t *mine,
                                uint32_t *owner_died);

/**
 * Marks the work as done forever: waiters return, and every later begin finds it done.
 *
 *   SHMKIT_ERR_NOT_OWNER  this process is not the owner
 */
shmkit_status shmkit_once_done(shmkit_once *once);

/**
 * Ends the work undone: the next caller of shmkit_once_begin becomes the owner.
 *
 * If an earlier owner died during the work, the next owner sees `*owner_died` = 1 again.
 *
 *   SHMKIT_ERR_NOT_OWNER  this process is not the owner
 */
shmkit_status shmkit_once_abort(shmkit_once *once);

/**
 * Returns 1 if the work is done, else 0. After 1 the caller sees all that was written before
 * shmkit_once_done.
 */
shmkit_status shmkit_once_is_done(const shmkit_once *once, uint32_t *out);

/**
 * Returns the state of the once flag.
 *
 * The call does not check whether the owner is alive: only shmkit_once_begin does.
 */
shmkit_status shmkit_once_stat(const shmkit_once *once, shmkit_once_info *out);

/* ==============================================================================================
 * Queues: messages of any length from many producers to many consumers.
 * ============================================================================================== */

#ifndef SHMKIT_TYPES

/**
 * In shmkit_queue_options: a put without room fails with SHMKIT_ERR_FULL at once, whatever its
 * timeout.
 */
#define SHMKIT_QUEUE_FAIL 0x10000

/**
 * In shmkit_queue_options: a put without room discards the oldest available messages to make
 * room.
 */
#define SHMKIT_QUEUE_OVERWRITE 0x40000

/** In shmkit_queue_info: the queue was shut down. */
#define SHMKIT_QUEUE_SHUTDOWN 0x80000

/** For shmkit_queue_put_many: put all messages or none. */
#define SHMKIT_QUEUE_ALL 0x200000

/** For shmkit_queue_fileno: the descriptor is readable while there may be a message. */
#define SHMKIT_QUEUE_MESSAGES 0

/** For shmkit_queue_fileno: the descriptor is readable while there may be room for a message. */
#define SHMKIT_QUEUE_ROOM 1

/**
 * A queue: any number of processes and threads put messages of any length, and any number get
 * them.
 *
 * These guarantees hold at whatever instruction a process dies:
 *
 *   Producers   When shmkit_queue_put returns SHMKIT_OK, the message is in the queue, and it stays
 *               there if its producer dies. If a producer dies inside the call, consumers see the
 *               whole message or none of it. The messages of one shmkit_queue_put_many appear all
 *               at once, with nothing between them.
 *   Consumers   Each message is taken once, without delay unless an earlier message is still
 *               reserved. If a consumer dies inside shmkit_queue_get before it has taken the
 *               message, another consumer gets it. If the consumer dies later, the message is
 *               lost, as if the consumer had died right after the call. shmkit_queue_lease
 *               prevents that.
 *   Leases      If a consumer dies between shmkit_queue_lease and shmkit_queue_ack, another
 *               consumer gets the message; a new lease then sees attempts 1 higher. The bytes of a
 *               lease do not change until ack or nack, unless a process that can write to the
 *               queue breaks the rules.
 *   Order       Messages come in the order of put and reserve; those of one producer in its own
 *               order. A message that is redelivered after a lease comes later than the messages
 *               that were taken meanwhile.
 *   Waiting     No call waits for a dead process: a waiting call checks at least every 12 ms
 *               whether the process that it waits for is alive. A call does wait for a live
 *               process that was stopped (SIGSTOP) inside a call. That wait may take a quarter of a
 *               second, even with SHMKIT_NOWAIT or a shorter timeout. A message that a live
 *               producer has reserved and not committed blocks all messages behind it. So does a
 *               message of 64 KiB or more while it is put. shmkit_queue_stat returns the process
 *               that blocks the queue.
 *   Memory      A queue with a file of its own occupies as much memory as its deepest backlog
 *               needed. It checks its use each time a consumer finds it empty, and at each new lap
 *               of its ring. A check counts if the queue has more than 2 MiB, and more than four
 *               times what was in use. After 64 such checks in a row, each check frees up to
 *               64 MiB; at least 1 MiB stays. While a consumer waits, that takes seconds. No
 *               memory is freed while no process uses the queue. Memory in use is always reserved:
 *               if none is left, a put fails with SHMKIT_ERR_NO_SPACE, and no message is lost.
 *   Corruption  The queue checks its own bytes at each step. If another process has overwritten
 *               them, a call fails with SHMKIT_ERR_CORRUPT; it never crashes.
 *   Shutdown    After shmkit_queue_shutdown every put fails with SHMKIT_ERR_SHUT_DOWN, and so does
 *               a get when no message is left. SHMKIT_ERR_CLOSED is another error: a closed
 *               handle.
 *   Threads     All threads of a process may use a handle at once, and so may forked children. A
 *               child holds none of the reservations and leases of its parent.
 *   Size        The capacity and 704 bytes, so a multiple of 64 only if the capacity is. A placed
 *               queue never occupies more.
 *   Options     shmkit_queue_open_or_create and shmkit_queue_create_at compare capacity, maxsize,
 *               max_bytes, SHMKIT_QUEUE_FAIL and SHMKIT_QUEUE_OVERWRITE; a capacity of 0 means its
 *               default. The other opens accept any valid values, and the queue keeps its own. If
 *               RLIMIT_AS leaves too little address space, shmkit_queue_create fails with
 *               SHMKIT_ERR_NO_MEMORY: give a smaller capacity.
 *   Close       When a process has closed its last handle of the queue and of its segment, it
 *               counts as dead. Messages that it has reserved are skipped. Messages that it has
 *               leased go to other consumers.
 */
typedef struct shmkit_queue shmkit_queue;

/**
 * How to create or open a queue. NULL, or zeros after struct_size, mean a queue without bounds, on
 * which no put blocks. A placed queue then has a capacity of 65536 bytes.
 */
typedef struct shmkit_queue_options {
  /** sizeof(shmkit_queue_options). */
  uint32_t struct_size;
  /**
   * SHMKIT_QUEUE_FAIL or SHMKIT_QUEUE_OVERWRITE, not both; SHMKIT_TRUST and SHMKIT_EXCLUSIVE;
   * or-ed. Without the first two a put without room waits.
   */
  uint32_t flags;
  /**
   * Permission bits of a new queue with a file of its own, 1 to 0777, whatever the umask.
   * 0: 0600.
   */
  uint32_t mode;
  /**
   * The number of processes that can use a new queue with a file of its own at a time, 1 to 4096.
   * 0: 128.
   */
  uint32_t participants;
  /** The directory of a named queue. NULL: SHMKIT_DIR, else /dev/shm. */
  const char *directory;
  /**
   * The capacity in bytes, a multiple of 32 from 1024 to 2^46. A message occupies its size and 32
   * bytes, rounded up to a multiple of 32. Its size is at most half the capacity. 0: 64 GiB of
   * address space, where only the part in use has memory; for a placed queue: 65536 bytes, all of
   * which have memory.
   */
  uint64_t capacity;
  /** The maximum number of messages in the queue, without leased ones. 0: any number. */
  uint64_t maxsize;
  /** The maximum of the bytes of those messages together. 0: any number. */
  uint64_t max_bytes;
} shmkit_queue_options;

/** A message for shmkit_queue_put_many. */
typedef struct shmkit_queue_message {
  /** The bytes of the message. May be NULL if size is 0. */
  const void *data;
  /** The number of bytes. */
  uint64_t size;
} shmkit_queue_message;

/**
 * The state of a queue. Each figure was true at some moment during the call; all are exact if no
 * process changes the queue meanwhile.
 */
typedef struct shmkit_queue_info {
  /** sizeof(shmkit_queue_info); on return, the number of bytes filled. */
  uint32_t struct_size;
  /** SHMKIT_QUEUE_FAIL, SHMKIT_QUEUE_OVERWRITE and SHMKIT_QUEUE_SHUTDOWN, or-ed. */
  uint32_t flags;
  /** The number of messages that wait for a consumer, including those behind a reserved message. */
  uint64_t messages;
  /** The bytes of those messages. */
  uint64_t bytes;
  /**
   * The number of messages that are reserved and not committed, including those of dead
   * processes.
   */
  uint64_t reserved;
  /** The number of messages that are leased, including those of dead processes. */
  uint64_t leased;
  /** The number of messages that were ever put or reserved. */
  uint64_t puts;
  /** The number of messages that were ever got, leased, overwritten or skipped. */
  uint64_t gets;
  /** The number of messages that were overwritten. */
  uint64_t overwritten;
  /** The number of messages that were skipped, because their producer died or aborted them. */
  uint64_t skipped;
  /** The number of times that a message was redelivered after a lease. */
  uint64_t redelivered;
  /** The number of times that a consumer had to sleep. */
  uint64_t get_waits;
  /** The number of times that a producer had to sleep. */
  uint64_t put_waits;
  /** The bytes of memory that messages can use now. */
  uint64_t memory;
  /** The capacity in bytes, as in shmkit_queue_options. */
  uint64_t capacity;
  /** The maximum number of messages. 0: any number. */
  uint64_t maxsize;
  /** The maximum of their bytes together. 0: any number. */
  uint64_t max_bytes;
  /** The size of the largest possible message. */
  uint64_t largest;
  /** The offset in the segment's data. 0: a queue with a file of its own. */
  uint64_t offset;
  /**
   * The ticket of the process that reserved the next message and has not committed it: its number
   * among the participants of the segment. If it is dead, the next get skips the message. 0: the
   * next message is available, or there is none.
   */
  uint64_t held_up_by_ticket;
  /** The PID namespace of that process: the inode of /proc/PID/ns/pid. 0: none, or unknown. */
  uint64_t held_up_by_namespace;
  /** The PID of that process in that namespace. 0: none, or unknown. */
  uint32_t held_up_by_pid;
  /** Always 0. */
  uint32_t unused;
} shmkit_queue_info;

#endif /* SHMKIT_TYPES */

/** Returns the number of bytes that a queue occupies in a segment. */
shmkit_status shmkit_queue_size(const shmkit_queue_options *options, uint64_t *out);

/** Creates a queue: named, in a file of its own, or unnamed if `name` is NULL. */
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

/**
 * Opens a queue that another process exported.
 *
 * `offset` must be the offset that shmkit_queue_fd returned there.
 */
shmkit_status shmkit_queue_open_fd(int32_t fd,
                                   uint64_t offset,
                                   const shmkit_queue_options *options,
                                   shmkit_queue **out);

/**
 * Exports a queue.
 *
 * Returns the descriptor and the offset that shmkit_queue_open_fd needs in another process.
 */
shmkit_status shmkit_queue_fd(const shmkit_queue *queue, int32_t *fd, uint64_t *offset);

/** Opens the segment that contains a queue. */
shmkit_status shmkit_queue_segment(const shmkit_queue *queue, shmkit_segment **out);

/** Removes the name of a queue. Open handles stay valid. */
shmkit_status shmkit_queue_unlink(shmkit_queue *queue);

/** Closes a handle of a queue and frees it. NULL is SHMKIT_OK. */
shmkit_status shmkit_queue_close(shmkit_queue *queue);

/**
 * Puts a message at the end of the queue, and waits for room.
 *
 * The message is in the queue if and only if the call returns SHMKIT_OK. The consumer that gets the
 * message sees all that the caller has written to memory before.
 *
 *   data        the bytes of the message; may be NULL if size is 0
 *   size        its size, at most half the capacity, and at most max_bytes unless that is 0
 *   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
 *   flags       SHMKIT_INTERRUPTIBLE or 0
 *
 *   SHMKIT_ERR_FULL                no room, and SHMKIT_NOWAIT was given or the queue has
 *                                  SHMKIT_QUEUE_FAIL. With SHMKIT_QUEUE_OVERWRITE: there is no
 *                                  room even after all discardable messages are discarded
 *   SHMKIT_ERR_TIMEOUT             the timeout expired without room
 *   SHMKIT_ERR_INTERRUPTED         the interrupt hook ended the call
 *   SHMKIT_ERR_TOO_LARGE           size is more than half the capacity, or than max_bytes
 *   SHMKIT_ERR_NO_SPACE            the queue would have to grow, and no memory is left. Its
 *                                  messages stay, and consumers can get them
 *   SHMKIT_ERR_SHUT_DOWN           the queue was shut down
 *   SHMKIT_ERR_WOULD_BLOCK         a live process has been stopped inside a call for a quarter
 *                                  of a second, and SHMKIT_NOWAIT was given
 *   SHMKIT_ERR_INVALID             a negative timeout other than SHMKIT_FOREVER, or an unknown
 *                                  flag
 *   SHMKIT_ERR_TOO_MANY_PROCESSES  the segment has no room for another process
 *   SHMKIT_ERR_LIVENESS_UNKNOWN    this process has lost all descriptors of the segment
 *                                  (closefrom), and cannot find out which processes are alive
 *   SHMKIT_ERR_PERMISSION          this user may not write to the file of the segment
 *   SHMKIT_ERR_NO_MEMORY           the kernel has no memory for growth, or no address space is
 *                                  left at the first use of the segment
 *   SHMKIT_ERR_CORRUPT             the shared bytes of the segment are corrupt
 */
shmkit_status shmkit_queue_put(shmkit_queue *queue,
                               const void *data,
                               uint64_t size,
                               int64_t timeout_ns,
                               uint32_t flags);

/**
 * Removes the first message and copies it to `buffer`; waits for a message.
 *
 * The message is taken, and no other consumer gets it, if and only if the call returns SHMKIT_OK.
 *
 *   buffer      gets the message; may be NULL if capacity is 0
 *   capacity    the size of buffer in bytes
 *   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
 *   flags       SHMKIT_INTERRUPTIBLE or 0
 *   size        gets the size of the message in bytes
 *
 *   SHMKIT_ERR_EMPTY               no message is available, and SHMKIT_NOWAIT was given
 *   SHMKIT_ERR_TIMEOUT             the timeout expired without a message
 *   SHMKIT_ERR_INTERRUPTED         the interrupt hook ended the call
 *   SHMKIT_ERR_TOO_LARGE           the message has more than `capacity` bytes, and is still in the
 *                                  queue. shmkit_queue_peek returns its size
 *   SHMKIT_ERR_SHUT_DOWN           the queue was shut down, no message is left, and no other
 *                                  process has a lease that it may return
 *   SHMKIT_ERR_WOULD_BLOCK         a live process has been stopped inside a call for a quarter
 *                                  of a second, and SHMKIT_NOWAIT was given
 *   SHMKIT_ERR_INVALID             a negative timeout other than SHMKIT_FOREVER, or an unknown
 *                                  flag
 *   SHMKIT_ERR_TOO_MANY_PROCESSES, SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_PERMISSION,
 *   SHMKIT_ERR_NO_MEMORY, SHMKIT_ERR_CORRUPT  as for shmkit_queue_put
 */
shmkit_status shmkit_queue_get(shmkit_queue *queue,
                               void *buffer,
                               uint64_t capacity,
                               int64_t timeout_ns,
                               uint32_t flags,
                               uint64_t *size);

/**
 * Copies the beginning of the first message to `buffer`, and leaves the message in the queue.
 *
 *   buffer    gets as much of the message as fits; may be NULL if capacity is 0
 *   size      gets the size of the whole message in bytes
 *
 * Another consumer may take the message before the caller gets it. Other parameters and the errors
 * are those of shmkit_queue_get, except SHMKIT_ERR_TOO_LARGE.
 */
shmkit_status shmkit_queue_peek(shmkit_queue *queue,
                                void *buffer,
                                uint64_t capacity,
                                int64_t timeout_ns,
                                uint32_t flags,
                                uint64_t *size);

/**
 * Puts `count` messages in a row, with nothing between them.
 *
 *   messages    their bytes and sizes; may be NULL if count is 0
 *   count       the number of messages; 0 puts nothing
 *   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
 *   flags       SHMKIT_INTERRUPTIBLE and SHMKIT_QUEUE_ALL, or-ed, or 0. With SHMKIT_QUEUE_ALL the
 *               call puts all messages or none, and waits for room for all. Without it the call
 *               waits for room for the first, and puts as many as there is room for
 *   put         gets the number of messages that were put, from the first on
 *
 *   SHMKIT_ERR_TOO_LARGE  one of the messages is too large for shmkit_queue_put. Or, with
 *                         SHMKIT_QUEUE_ALL, all together occupy more than half the capacity, have
 *                         more than max_bytes, or are more than maxsize
 *   and the errors of shmkit_queue_put
 */
shmkit_status shmkit_queue_put_many(shmkit_queue *queue,
                                    const shmkit_queue_message *messages,
                                    uint64_t count,
                                    int64_t timeout_ns,
                                    uint32_t flags,
                                    uint64_t *put);

/**
 * Removes the first messages and copies them to `buffer`, one behind the other.
 *
 * The call waits for the first message. It then takes as many as are available and fit.
 *
 *   buffer      gets the messages; may be NULL if capacity is 0
 *   capacity    the size of buffer in bytes
 *   sizes       gets the size of each message in bytes; may be NULL if max_items is 0
 *   max_items   the maximum number of messages to take; 0 takes none
 *   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
 *   flags       SHMKIT_INTERRUPTIBLE or 0
 *   count       gets the number of messages that were taken
 *
 *   SHMKIT_ERR_TOO_LARGE  the first message alone has more than `capacity` bytes
 *   and the errors of shmkit_queue_get
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
 * Reserves room for a message at the end of the queue, which the caller then fills in place.
 *
 * The message already has its position in the order. Until shmkit_queue_commit or
 * shmkit_queue_abort, no consumer gets the messages behind it. If the process ends before that, the
 * message is skipped. The memory may be written until the commit, and only while the handle is
 * open. Its initial contents are those of earlier messages.
 *
 *   size        the maximum size of the message in bytes
 *   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
 *   flags       SHMKIT_INTERRUPTIBLE or 0
 *   data        gets the address of the memory, a multiple of 32
 *   token       gets the number for shmkit_queue_commit and shmkit_queue_abort
 *
 * The errors are those of shmkit_queue_put.
 */
shmkit_status shmkit_queue_reserve(shmkit_queue *queue,
                                   uint64_t size,
                                   int64_t timeout_ns,
                                   uint32_t flags,
                                   void **data,
                                   uint64_t *token);

/**
 * Puts a reserved message into the queue, with the first `size` bytes of its memory.
 *
 * The consumer that gets the message sees all that was written there.
 *
 *   SHMKIT_ERR_NOT_OWNER  the token is unknown, was committed or aborted before, or belongs to
 *                         another process
 *   SHMKIT_ERR_INVALID    size is more than was reserved; the message stays reserved
 *   SHMKIT_ERR_TOO_MANY_PROCESSES, SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_PERMISSION,
 *   SHMKIT_ERR_NO_MEMORY, SHMKIT_ERR_CORRUPT  as for shmkit_queue_put
 */
shmkit_status shmkit_queue_commit(shmkit_queue *queue, uint64_t token, uint64_t size);

/**
 * Aborts a reserved message: no consumer gets it.
 *
 * The errors are those of shmkit_queue_commit, except SHMKIT_ERR_INVALID.
 */
shmkit_status shmkit_queue_abort(shmkit_queue *queue, uint64_t token);

/**
 * Takes the first message, which the caller then reads in place.
 *
 * Until shmkit_queue_ack or shmkit_queue_nack no other consumer gets the message; other consumers
 * get the messages behind it. If the process ends before that, another consumer gets the message. A
 * consumer that waits gets it at most 12 ms after the kernel has torn the process down. While other
 * messages are available, consumers look for such leases once per 64 messages, at 512 records each.
 *
 * The bytes may be read until ack or nack, and only while the handle is open. Their memory is not
 * reused during the lease: a long lease keeps the messages behind it in memory too. A lease belongs
 * to the process. Closing the handle does not end the lease while another handle of the queue is
 * open.
 *
 *   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
 *   flags       SHMKIT_INTERRUPTIBLE or 0
 *   data        gets the address of the bytes, a multiple of 32
 *   size        gets the size of the message in bytes
 *   token       gets the number for shmkit_queue_ack and shmkit_queue_nack
 *   attempts    (may be NULL) the number of times that the message was leased, this time included.
 *               65535 means that many or more
 *
 * The errors are those of shmkit_queue_get, except SHMKIT_ERR_TOO_LARGE.
 */
shmkit_status shmkit_queue_lease(shmkit_queue *queue,
                                 int64_t timeout_ns,
                                 uint32_t flags,
                                 const void **data,
                                 uint64_t *size,
                                 uint64_t *token,
                                 uint32_t *attempts);

/**
 * Ends a lease and removes the message: no consumer gets it again.
 *
 *   SHMKIT_ERR_NOT_OWNER  the token is unknown, its lease was ended before, or it belongs to
 *                         another process
 *   SHMKIT_ERR_TOO_MANY_PROCESSES, SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_PERMISSION,
 *   SHMKIT_ERR_NO_MEMORY, SHMKIT_ERR_CORRUPT  as for shmkit_queue_put
 */
shmkit_status shmkit_queue_ack(shmkit_queue *queue, uint64_t token);

/**
 * Ends a lease and returns the message: the next consumer gets it.
 *
 * The errors are those of shmkit_queue_ack.
 */
shmkit_status shmkit_queue_nack(shmkit_queue *queue, uint64_t token);

/**
 * Waits until every message has been taken, and none is reserved or leased.
 *
 * If consumers acknowledge finished work, this is the end of all work. A message whose consumer
 * died during a lease is not finished: it waits for the next consumer.
 *
 *   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
 *   flags       SHMKIT_INTERRUPTIBLE or 0
 *
 *   SHMKIT_ERR_WOULD_BLOCK  messages are left, and SHMKIT_NOWAIT was given
 *   SHMKIT_ERR_TIMEOUT      the timeout expired, and messages are left
 *   SHMKIT_ERR_INTERRUPTED  the interrupt hook ended the call
 *   SHMKIT_ERR_INVALID      a negative timeout other than SHMKIT_FOREVER, or an unknown flag
 *   SHMKIT_ERR_TOO_MANY_PROCESSES, SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_PERMISSION,
 *   SHMKIT_ERR_NO_MEMORY, SHMKIT_ERR_CORRUPT  as for shmkit_queue_put
 */
shmkit_status shmkit_queue_join(shmkit_queue *queue, int64_t timeout_ns, uint32_t flags);

/**
 * Shuts the queue down for all processes and forever: every put that begins later fails.
 *
 * Producers that wait for room get SHMKIT_ERR_SHUT_DOWN. Consumers get the remaining messages, and
 * then SHMKIT_ERR_SHUT_DOWN. A put in progress may still succeed, and until it ends no consumer
 * gets SHMKIT_ERR_SHUT_DOWN. Messages that were reserved before can be committed, and leases can be
 * acknowledged. A second shutdown changes nothing.
 *
 *   SHMKIT_ERR_TOO_MANY_PROCESSES, SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_PERMISSION,
 *   SHMKIT_ERR_NO_MEMORY, SHMKIT_ERR_CORRUPT  as for shmkit_queue_put
 */
shmkit_status shmkit_queue_shutdown(shmkit_queue *queue);

/**
 * Returns a descriptor for poll, select and event loops.
 *
 *   what  SHMKIT_QUEUE_MESSAGES: readable while there may be a message; or SHMKIT_QUEUE_ROOM:
 *         readable while there may be room for one. Any process may have put or taken it
 *   fd    gets the descriptor. It belongs to the handle: only poll it, do not read or close it
 *
 * When it is readable, call the queue with SHMKIT_NOWAIT. If another consumer or producer was
 * faster, that call makes the descriptor unreadable again.
 *
 * A thread of this process, which blocks all signals, watches the queue and checks it every 12 ms.
 * It starts at the first call. It ends, and closes the descriptor, at most 25 ms after the handle
 * is closed. A forked child must call this function again.
 *
 *   SHMKIT_ERR_INVALID      `what` is another number
 *   SHMKIT_ERR_UNSUPPORTED  no thread or no descriptor is available
 *   SHMKIT_ERR_NO_MEMORY    not enough memory for a thread or a descriptor
 */
shmkit_status shmkit_queue_fileno(shmkit_queue *queue,
                                  uint32_t what,
                                  int32_t *fd);

/**
 * Returns 1 if an empty message would have to wait for room, else 0.
 *
 *   SHMKIT_ERR_WOULD_BLOCK  a process has been stopped inside a put for a quarter of a second
 *   SHMKIT_ERR_TOO_MANY_PROCESSES, SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_PERMISSION,
 *   SHMKIT_ERR_NO_MEMORY, SHMKIT_ERR_CORRUPT  as for shmkit_queue_put
 */
shmkit_status shmkit_queue_is_full(const shmkit_queue *queue,
                                   uint32_t *out);

/**
 * Returns the state of the queue. The call waits for no process and changes nothing.
 *
 *   SHMKIT_ERR_LIVENESS_UNKNOWN  a message is reserved or leased, and this process has lost the
 *                                descriptor of the segment (closefrom)
 *   SHMKIT_ERR_CORRUPT           the shared bytes of the queue are corrupt
 */
shmkit_status shmkit_queue_stat(const shmkit_queue *queue,
                                shmkit_queue_info *out);

/* shmkit/__init__.pxd declares the types too: the second of the two is skipped. */
#define SHMKIT_TYPES

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* SHMKIT_H */
