/* Managed segments in C: the control area, the built-in lock, and ephemeral segments. */
#define NOUN lock
#include "locks.h"

static const shmkit_segment_options MANAGED = {.struct_size = sizeof(shmkit_segment_options),
                                               .flags = SHMKIT_SEGMENT_MANAGED};
static const shmkit_segment_options EPHEMERAL = {.struct_size = sizeof(shmkit_segment_options),
                                                 .flags = SHMKIT_SEGMENT_MANAGED | SHMKIT_SEGMENT_EPHEMERAL};

static void test_control_area(void)
{
    shmkit_segment *made = NULL, *opened = NULL;
    shmkit_segment_info info = {.struct_size = sizeof info}, other = {.struct_size = sizeof other};
    shmkit_segment_options options = MANAGED;
    void *data = NULL, *again = NULL;
    uint64_t found = 0;
    struct stat file;
    options.capacity = 1 << 20;
    options.participants = 200;
    STATUS(SHMKIT_OK, shmkit_segment_create("managed", 5000, &options, &made));
    STATUS(SHMKIT_OK, shmkit_segment_open("managed", 5000, NULL, &opened));
    STATUS(SHMKIT_OK, shmkit_segment_stat(made, &info));
    STATUS(SHMKIT_OK, shmkit_segment_stat(opened, &other));
    CHECK(info.flags == (SHMKIT_SEGMENT_MANAGED | SHMKIT_SEGMENT_CREATED) && other.flags == SHMKIT_SEGMENT_MANAGED);
    CHECK(info.participants == 200 && info.control_bytes % 4096 == 0 && info.control_bytes >= 200 * 64);
    CHECK(info.id != 0 && info.id == other.id && info.size == 5000 && other.capacity == info.capacity);
    CHECK(stat(check_path("managed"), &file) == 0 && (uint64_t)file.st_size == info.control_bytes + 5000);
    STATUS(SHMKIT_OK, shmkit_segment_capacity(opened, &found));
    CHECK(found >= 1 << 20);
    STATUS(SHMKIT_OK, shmkit_segment_data(made, &data));
    STATUS(SHMKIT_OK, shmkit_segment_data(opened, &again));
    CHECK(((uintptr_t)data & 4095) == 0 && ((char *)data)[0] == 0 && ((char *)data)[4999] == 0);
    memset(data, 42, 5000);
    CHECK(memcmp(data, again, 5000) == 0);
    STATUS(SHMKIT_OK, shmkit_segment_resize(opened, 1 << 20, 0));
    STATUS(SHMKIT_OK, shmkit_segment_size(made, &found));
    CHECK(found == 1 << 20 && ((char *)data)[5000] == 0 && ((char *)data)[(1 << 20) - 1] == 0);
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_resize(made, 5000, 0));
    STATUS(SHMKIT_OK, shmkit_segment_unlink(made));
    STATUS(SHMKIT_OK, shmkit_segment_close(made));
    STATUS(SHMKIT_OK, shmkit_segment_close(opened));
}

static void test_plain_and_managed(void)
{
    shmkit_segment *plain = NULL, *made = NULL, *bare = NULL, *none = NULL;
    shmkit_segment_options options = MANAGED;
    shmkit_segment_info info = {.struct_size = sizeof info};
    void *data = NULL;
    const uint32_t wrong[] = {4097, UINT32_MAX};
    STATUS(SHMKIT_OK, shmkit_segment_create("plain", 4096, NULL, &plain));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_segment_open("plain", 0, &MANAGED, &none));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_segment_open_or_create("plain", 1, &MANAGED, &none));
    made = managed_segment("managed", 64);
    options.flags = SHMKIT_SEGMENT_PLAIN;
    STATUS(SHMKIT_OK, shmkit_segment_open("managed", 0, &options, &bare));
    STATUS(SHMKIT_OK, shmkit_segment_stat(bare, &info));
    STATUS(SHMKIT_OK, shmkit_segment_data(bare, &data));
    CHECK(info.flags == 0 && info.participants == 0 && memcmp(data, "shmkit\r\x1a", 8) == 0);
    options.flags = SHMKIT_SEGMENT_PLAIN | SHMKIT_SEGMENT_MANAGED;
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_create("a", 1, &options, &none));
    options.flags = SHMKIT_SEGMENT_EPHEMERAL;
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_create("a", 1, &options, &none));
    for (size_t at = 0; at < sizeof wrong / sizeof *wrong; at++) {
        options = MANAGED;
        options.participants = wrong[at];
        STATUS(SHMKIT_ERR_INVALID, shmkit_segment_create("a", 1, &options, &none));
    }
    CHECK(none == NULL && check_entries() == 2);
    STATUS(SHMKIT_OK, shmkit_segment_unlink(plain));
    STATUS(SHMKIT_OK, shmkit_segment_unlink(bare));
    STATUS(SHMKIT_OK, shmkit_segment_close(plain));
    STATUS(SHMKIT_OK, shmkit_segment_close(bare));
    STATUS(SHMKIT_OK, shmkit_segment_close(made));
}

static void test_built_in_lock(void)
{
    shmkit_segment *made = managed_segment("managed", 64), *plain = NULL, *reader = NULL;
    shmkit_segment_options reading = {.struct_size = sizeof reading, .flags = SHMKIT_SEGMENT_READONLY};
    LOCK *lock = NULL, *same = NULL, *none = NULL;
    uint32_t owner_died = 7;
    int32_t fd = -1;
    uint64_t offset = 7;
    STATUS(SHMKIT_OK, shmkit_segment_create(NULL, 4096, NULL, &plain));
    STATUS(SHMKIT_OK, shmkit_segment_open("managed", 0, &reading, &reader));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_segment_lock(plain, &none));
    STATUS(SHMKIT_ERR_PERMISSION, shmkit_segment_lock(reader, &none));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_lock(NULL, &none));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_lock(made, NULL));
    CHECK(none == NULL);
    STATUS(SHMKIT_OK, shmkit_segment_lock(made, &lock));
    STATUS(SHMKIT_OK, shmkit_segment_lock(made, &same));
    acquire(lock);
    STATUS(SHMKIT_ERR_WOULD_BLOCK, shmkit_lock_acquire(same, SHMKIT_NOWAIT, 0, NULL));
    release(same);
    holder_kill(holder_start(acquire, release, lock));
    STATUS(SHMKIT_ERR_INVALID, shmkit_lock_fd(lock, &fd, &offset));
    STATUS(SHMKIT_ERR_INVALID, shmkit_lock_unlink(lock));
    STATUS(SHMKIT_OK, shmkit_segment_unlink(made));
    STATUS(SHMKIT_OK, shmkit_segment_close(made));
    STATUS(SHMKIT_ERR_CLOSED, shmkit_segment_lock(made, &none));
    STATUS(SHMKIT_OK, shmkit_lock_acquire(lock, SHMKIT_FOREVER, 0, &owner_died));
    CHECK(owner_died == 1 && info_of(same).recoveries == 1);
    release(lock);
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
    STATUS(SHMKIT_OK, shmkit_lock_close(same));
    STATUS(SHMKIT_OK, shmkit_segment_close(plain));
    STATUS(SHMKIT_OK, shmkit_segment_close(reader));
}

static void acquire_lock_of(void *handle)
{
    LOCK *lock = NULL;
    STATUS(SHMKIT_OK, shmkit_segment_lock(handle, &lock));
    acquire(lock);
}

static void hold_ephemeral(void *name)
{
    static shmkit_segment *segment;
    STATUS(SHMKIT_OK, shmkit_segment_open_or_create(name, 64, &EPHEMERAL, &segment));
    acquire_lock_of(segment);
}

/* Runs shmkit_segment_gc and returns the number of segments that it removed. */
static uint64_t collect_garbage(void)
{
    uint64_t removed = 77;
    STATUS(SHMKIT_OK, shmkit_segment_gc(NULL, 0, &removed));
    return removed;
}

static void test_ephemeral(void)
{
    shmkit_segment *made = NULL, *opened = NULL, *reader = NULL;
    shmkit_segment_options reading = {.struct_size = sizeof reading, .flags = SHMKIT_SEGMENT_READONLY};
    shmkit_segment_info info = {.struct_size = sizeof info};
    LOCK *lock = NULL;
    STATUS(SHMKIT_OK, shmkit_segment_create("brief", 64, &EPHEMERAL, &made));
    STATUS(SHMKIT_OK, shmkit_segment_open("brief", 0, NULL, &opened));
    STATUS(SHMKIT_OK, shmkit_segment_stat(opened, &info));
    CHECK(info.flags == (SHMKIT_SEGMENT_MANAGED | SHMKIT_SEGMENT_EPHEMERAL));
    STATUS(SHMKIT_OK, shmkit_segment_open("brief", 0, &reading, &reader));
    CHECK(collect_garbage() == 0);
    STATUS(SHMKIT_OK, shmkit_segment_close(made));
    STATUS(SHMKIT_OK, shmkit_segment_lock(opened, &lock));
    STATUS(SHMKIT_OK, shmkit_segment_close(opened));
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
    CHECK(collect_garbage() == 0 && check_entries() == 1);
    STATUS(SHMKIT_OK, shmkit_segment_close(reader));
    CHECK(check_entries() == 0 && collect_garbage() == 0);

    /* After the segment's handle is closed, a handle of its lock keeps the segment. */
    STATUS(SHMKIT_OK, shmkit_segment_create("brief", 64, &EPHEMERAL, &made));
    STATUS(SHMKIT_OK, shmkit_segment_lock(made, &lock));
    STATUS(SHMKIT_OK, shmkit_segment_close(made));
    CHECK(collect_garbage() == 0 && check_entries() == 1);
    STATUS(SHMKIT_OK, shmkit_lock_close(lock));
    CHECK(check_entries() == 0);

    struct holder user = holder_start(hold_ephemeral, do_nothing, "brief");
    CHECK(collect_garbage() == 0 && check_entries() == 1);
    STATUS(SHMKIT_OK, shmkit_segment_open("brief", 0, NULL, &opened));
    holder_kill(user);
    CHECK(collect_garbage() == 0 && check_entries() == 1);
    STATUS(SHMKIT_OK, shmkit_segment_close(opened));
    CHECK(check_entries() == 0);
    holder_kill(holder_start(hold_ephemeral, do_nothing, "brief"));
    holder_kill(holder_start(hold_ephemeral, do_nothing, "shorter"));
    CHECK(check_entries() == 2 && collect_garbage() == 2 && check_entries() == 0);
}

static void test_gc_keeps_all_other_files(void)
{
    shmkit_segment *segment = managed_segment("lasting", 64);
    uint64_t removed = 77;
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
    STATUS(SHMKIT_OK, shmkit_segment_create("plain", 64, NULL, &segment));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
    check_file("bytes", 500);
    check_file("empty", 0);
    CHECK(mkdir(check_path("folder"), 0700) == 0 && mkfifo(check_path("fifo"), 0600) == 0);
    CHECK(symlink("lasting", check_path("link")) == 0);
    holder_kill(holder_start(hold_ephemeral, do_nothing, "brief"));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_gc(NULL, 2, &removed));
    STATUS(SHMKIT_ERR_NOT_FOUND, shmkit_segment_gc("/nowhere", 0, &removed));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_gc(NULL, 0, (uint64_t *)((uintptr_t)&removed + 1)));
    CHECK(removed == 77 && check_entries() == 8);
    STATUS(SHMKIT_OK, shmkit_segment_gc(check_folder, SHMKIT_INTERRUPTIBLE, NULL));
    CHECK(check_entries() == 7 && collect_garbage() == 0 && check_entries() == 7);
    check_clear_folder();
}

static void tests(void)
{
    test_control_area();
    test_plain_and_managed();
    test_built_in_lock();
    test_ephemeral();
    test_gc_keeps_all_other_files();
}

int main(void)
{
    return check_main(tests);
}
