/*
 * shmkit: shared memory, locks and queues that survive the death of any process that uses them.
 *
 * Any process may be killed at any instruction, and the others go on. Linux, 64 bits.
 *
 *   #include <shmkit.h>                        cc frames.c $(pkg-config --cflags --libs shmkit)
 *
 *   shmkit_segment *segment;
 *   void *data;
 *   if (shmkit_segment_create("frames", 1 << 20, NULL, &segment) == SHMKIT_OK
 *       && shmkit_segment_data(segment, &data) == SHMKIT_OK)
 *       memset(data, 42, 1 << 20);
 *   shmkit_segment_close(segment);             this process lets go; the name stays
 *
 * Results     Functions return a shmkit_status: SHMKIT_OK or a negative number. Outputs come last and are written only
 *             on SHMKIT_OK, unless the function says otherwise. shmkit_last_error has a sentence with names and figures
 *             about the last failure on a thread.
 * Handles     Types such as shmkit_segment are used by pointer alone. Who opens a handle closes it. A NULL, closed or
 *             wrong handle is a status, not a crash; any other pointer is undefined.
 * Threads     Any thread may use any handle. Closing one while another thread uses it is undefined.
 * Fork        A child has its parent's mappings and may go on using and closing its handles.
 * Signals     Calls go on through signals unless they are told otherwise: SHMKIT_INTERRUPTIBLE.
 * Names       A segment is a file of its name in /dev/shm, in the directory that the variable SHMKIT_DIR names, or in
 *             the one that a call is given. Files begin as 0600 and are never opened through a symbolic link.
 * Structs     Option and result structs begin with uint32_t struct_size, which the caller sets to sizeof the struct.
 *             Flags and reserved fields that mean nothing are refused.
 * Close       This process lets go.     Unlink      The name goes; the memory stays until the last user lets go.
 *
 * Contents
 *
 * @contents@
 *
 * This file is generated from src/capi of the Rust sources: do not edit it.
 */
