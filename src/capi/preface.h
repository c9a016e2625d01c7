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
 * @contents@
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
