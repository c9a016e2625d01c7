/*
 * The nouns, one row each. test_object.c checks the life cycle that their objects share.
 *
 *   OBJECT(noun, type of its options, type of its info, fields of struct noun)
 *
 *   .bytes          size in bytes of an object with the options `made`
 *   .default_bytes  size in bytes of an object with NULL options; 0: NULL is invalid
 *   .flags          option flags that only this noun has
 *   .own_file       an unnamed object has its own memory file, not a part of the arena
 *   .made           the options with which the tests create objects
 *   .other          options that contradict `made`
 *
 * object.h contains the functions of the tests for each noun.
 */
OBJECT(lock, shmkit_object_options, shmkit_lock_info, .bytes = 64, .default_bytes = 64,
       .flags = SHMKIT_LOCK_TRANSFERABLE, .others = 1, .other = {{.lock.flags = SHMKIT_LOCK_TRANSFERABLE}})
OBJECT(rlock, shmkit_object_options, shmkit_lock_info, .bytes = 64, .default_bytes = 64)
OBJECT(rwlock, shmkit_rwlock_options, shmkit_rwlock_info, .bytes = 256, .default_bytes = 8320,
       .made.rwlock.readers = 2, .others = 2, .other = {{.rwlock.readers = 0}, {.rwlock.readers = 3}})
OBJECT(semaphore, shmkit_semaphore_options, shmkit_semaphore_info, .bytes = 128, .default_bytes = 128,
       .flags = SHMKIT_SEMAPHORE_UNDO, .made.semaphore.value = 1, .others = 2,
       .other = {{.semaphore = {.value = 1, .maximum = 5}},
                 {.semaphore = {.value = 1, .flags = SHMKIT_SEMAPHORE_UNDO}}})
OBJECT(condition, shmkit_condition_options, shmkit_condition_info, .bytes = 128, .default_bytes = 2112,
       .made.condition.cells = 3, .others = 2, .other = {{.condition.cells = 0}, {.condition.cells = 5}})
OBJECT(event, shmkit_object_options, shmkit_event_info, .bytes = 64, .default_bytes = 64)
OBJECT(barrier, shmkit_barrier_options, shmkit_barrier_info, .bytes = 192, .made.barrier.parties = 2, .others = 2,
       .other = {{.barrier.parties = 0}, {.barrier.parties = 3}})
OBJECT(once, shmkit_object_options, shmkit_once_info, .bytes = 64, .default_bytes = 64)
OBJECT(queue, shmkit_queue_options, shmkit_queue_info, .bytes = 2048 + 704, .default_bytes = 65536 + 704,
       .flags = SHMKIT_QUEUE_FAIL | SHMKIT_QUEUE_OVERWRITE, .own_file = true, .made.queue.capacity = 2048,
       .others = 4, .other = {{.queue.capacity = 0},
                              {.queue = {.capacity = 2048, .maxsize = 6}},
                              {.queue = {.capacity = 2048, .max_bytes = 6}},
                              {.queue = {.capacity = 2048, .flags = SHMKIT_QUEUE_OVERWRITE}}})
