/* Limits in C: the reported values. A call beyond a limit fails with a status, without a signal, and leaves nothing. */
#include "check.h"

#include <errno.h>

static const uint64_t MIB = UINT64_C(1) << 20;

/* Sets a soft limit of this process. */
static void limit(int resource, rlim_t soft)
{
    struct rlimit both;
    CHECK(getrlimit(resource, &both) == 0);
    both.rlim_cur = soft;
    CHECK(setrlimit(resource, &both) == 0);
}

static rlim_t soft_limit(int resource)
{
    struct rlimit both = {0, 0};
    CHECK(getrlimit(resource, &both) == 0);
    return both.rlim_cur == RLIM_INFINITY ? UINT64_MAX : both.rlim_cur;
}

/* Returns whether the last error contains this number of bytes and this text. */
static bool last_error_contains(uint64_t requested, const char *words)
{
    char bytes[32];
    const char *text = NULL;
    snprintf(bytes, sizeof bytes, "%llu bytes", (unsigned long long)requested);
    return shmkit_last_error(NULL, NULL, &text) == SHMKIT_OK && strstr(text, bytes) && strstr(text, words);
}

static void test_limits_info(void)
{
    shmkit_limits_info info = {.struct_size = sizeof info};
    STATUS(SHMKIT_OK, shmkit_limits(NULL, &info));
    CHECK(info.struct_size == sizeof info && info.flags == SHMKIT_LIMITS_IN_MEMORY && info.reserved == 0);
    CHECK(info.page_size == (uint64_t)sysconf(_SC_PAGESIZE));
    CHECK(info.memory_total == (uint64_t)sysconf(_SC_PHYS_PAGES) * info.page_size);
    CHECK(info.memory_available > 0 && info.memory_available <= info.memory_total);
    CHECK(info.swap_free <= info.swap_total && info.cgroup_free <= info.cgroup_limit);
    CHECK(info.largest_named > 0 && info.largest_named % info.page_size == 0);
    CHECK(info.largest_named <= info.directory_free && info.directory_free <= info.directory_total);
    CHECK(info.largest_anonymous > 0 && info.largest_anonymous % info.page_size == 0);
    CHECK(info.file_size_limit == soft_limit(RLIMIT_FSIZE));
    CHECK(info.locked_memory_limit == soft_limit(RLIMIT_MEMLOCK));
    CHECK(info.address_space_limit == soft_limit(RLIMIT_AS));
    CHECK(info.open_files_limit == soft_limit(RLIMIT_NOFILE));
    CHECK(info.overcommit_policy <= 2);
}

static void test_line(void)
{
    char buffer[1024];
    memset(buffer, 'x', sizeof buffer);
    STATUS(SHMKIT_ERR_TOO_LARGE, shmkit_limits_line(NULL, buffer, 0));
    STATUS(SHMKIT_ERR_TOO_LARGE, shmkit_limits_line(NULL, buffer, 10));
    CHECK(buffer[0] == 'x' && buffer[9] == 'x');
    STATUS(SHMKIT_OK, shmkit_limits_line(NULL, buffer, sizeof buffer));
    CHECK(strncmp(buffer, "largest segment now: ", 21) == 0 && strstr(buffer, check_folder) != NULL);
    CHECK(strchr(buffer, '\n') == NULL);
    memset(buffer, 'x', sizeof buffer);
    size_t length = strlen("largest segment now: ");
    STATUS(SHMKIT_ERR_TOO_LARGE, shmkit_limits_line(check_folder, buffer, length));
    CHECK(buffer[0] == 'x');
}

static void test_bad_inputs(void)
{
    struct {
        shmkit_limits_info known;
        uint64_t unknown;
    } newer;
    _Alignas(8) char block[sizeof(shmkit_limits_info) + 8] = {0};
    shmkit_limits_info info = {.struct_size = sizeof info, .page_size = 77};
    char buffer[8] = "";
    STATUS(SHMKIT_ERR_INVALID, shmkit_limits(NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_limits(NULL, (shmkit_limits_info *)(void *)(block + 1)));
    STATUS(SHMKIT_ERR_INVALID, shmkit_limits_line(NULL, NULL, 1024));
    STATUS(SHMKIT_ERR_NOT_FOUND, shmkit_limits("/nowhere", &info));
    STATUS(SHMKIT_ERR_NOT_FOUND, shmkit_limits_line("/nowhere", buffer, sizeof buffer));
    info.struct_size = 0;
    STATUS(SHMKIT_ERR_INVALID, shmkit_limits(NULL, &info));
    info.struct_size = sizeof info - 1;
    STATUS(SHMKIT_ERR_INVALID, shmkit_limits(NULL, &info));
    CHECK(info.page_size == 77);
    newer.known.struct_size = sizeof newer;
    newer.unknown = 77;
    STATUS(SHMKIT_OK, shmkit_limits(NULL, &newer.known));
    CHECK(newer.unknown == 77 && newer.known.struct_size == sizeof newer.known && newer.known.page_size > 0);
}

/* Interrupts a call after its first step. So it cannot use all memory of the machine if it does not fail before. */
static int32_t interrupt_first_call(void *unused)
{
    (void)unused;
    return 1;
}

static void test_sizes_above_the_free_memory(void)
{
    shmkit_segment *segment = NULL;
    const shmkit_segment_options interruptible = {.struct_size = sizeof interruptible, .flags = SHMKIT_INTERRUPTIBLE};
    const uint64_t size = UINT64_C(1) << 50;
    STATUS(SHMKIT_OK, shmkit_set_interrupt(interrupt_first_call, NULL));
    STATUS(SHMKIT_ERR_NO_SPACE, shmkit_segment_create("a", size, &interruptible, &segment));
    CHECK(last_error_contains(size, check_folder));
    STATUS(SHMKIT_ERR_NO_SPACE, shmkit_segment_create(NULL, size, &interruptible, &segment));
    CHECK(last_error_contains(size, "free in"));
    STATUS(SHMKIT_OK, shmkit_set_interrupt(NULL, NULL));
    STATUS(SHMKIT_ERR_TOO_LARGE, shmkit_segment_create("a", UINT64_MAX, NULL, &segment));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_create("a", 0, NULL, &segment));
    CHECK(segment == NULL && check_entries() == 0);
}

static void small_files(void *unused)
{
    shmkit_segment *segment = NULL;
    shmkit_segment_options options = {.struct_size = sizeof options, .capacity = 2 * MIB};
    (void)unused;
    limit(RLIMIT_FSIZE, MIB);
    options.flags = SHMKIT_SEGMENT_NO_SPACE_CHECK;
    STATUS(SHMKIT_ERR_NO_SPACE, shmkit_segment_create("a", MIB + 1, &options, &segment));
    CHECK(last_error_contains(MIB + 1, "RLIMIT_FSIZE"));
    options.flags = SHMKIT_SEGMENT_SPARSE;
    STATUS(SHMKIT_ERR_NO_SPACE, shmkit_segment_create("a", MIB + 1, &options, &segment));
    STATUS(SHMKIT_OK, shmkit_segment_create("a", MIB, &options, &segment));
    STATUS(SHMKIT_ERR_NO_SPACE, shmkit_segment_resize(segment, MIB + 1, 0));
    STATUS(SHMKIT_OK, shmkit_segment_unlink(segment));
}

static void small_address_space(void *unused)
{
    shmkit_segment *segment = NULL;
    shmkit_segment_options options = {.struct_size = sizeof options, .capacity = UINT64_C(1) << 40};
    int32_t system_errno = 0;
    (void)unused;
    limit(RLIMIT_AS, 512 * MIB);
    STATUS(SHMKIT_ERR_NO_MEMORY, shmkit_segment_create("a", 4096, &options, &segment));
    STATUS(SHMKIT_OK, shmkit_last_error(NULL, &system_errno, NULL));
    CHECK(system_errno == ENOMEM && check_entries() == 0);
    STATUS(SHMKIT_OK, shmkit_segment_create(NULL, 4096, NULL, &segment));
}

static void no_descriptors(void *unused)
{
    shmkit_segment *segment = NULL;
    int32_t system_errno = 0;
    (void)unused;
    limit(RLIMIT_NOFILE, 0);
    STATUS(SHMKIT_ERR_SYSTEM, shmkit_segment_create(NULL, 4096, NULL, &segment));
    STATUS(SHMKIT_OK, shmkit_last_error(NULL, &system_errno, NULL));
    CHECK(system_errno == EMFILE);
    STATUS(SHMKIT_ERR_SYSTEM, shmkit_segment_create("a", 4096, NULL, &segment));
}

static void small_lock_limit(void *unused)
{
    shmkit_segment *segment = NULL;
    shmkit_segment_options options = {.struct_size = sizeof options, .flags = SHMKIT_SEGMENT_LOCK};
    (void)unused;
    limit(RLIMIT_MEMLOCK, 64 << 10);
    if (geteuid() == 0)
        CHECK(setgid(65534) == 0 && setuid(65534) == 0);
    STATUS(SHMKIT_ERR_NO_MEMORY, shmkit_segment_create(NULL, MIB, &options, &segment));
    CHECK(last_error_contains(MIB, "RLIMIT_MEMLOCK"));
    STATUS(SHMKIT_OK, shmkit_segment_create(NULL, 32 << 10, &options, &segment));
}

static void no_permission(void *unused)
{
    shmkit_segment *segment = NULL;
    (void)unused;
    if (geteuid() == 0)
        CHECK(setgid(65534) == 0 && setuid(65534) == 0);
    STATUS(SHMKIT_ERR_PERMISSION, shmkit_segment_create("a", 1, NULL, &segment));
}

static void tests(void)
{
    test_limits_info();
    test_line();
    test_bad_inputs();
    test_sizes_above_the_free_memory();
    CHECK(check_fork(small_files, NULL) == 0);
    CHECK(check_fork(small_address_space, NULL) == 0);
    CHECK(check_fork(no_descriptors, NULL) == 0);
    CHECK(check_fork(small_lock_limit, NULL) == 0);
    CHECK(chmod(check_folder, 0500) == 0);
    CHECK(check_fork(no_permission, NULL) == 0);
    CHECK(chmod(check_folder, 0700) == 0);
}

int main(void)
{
    return check_main(tests);
}
