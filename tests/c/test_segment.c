/* Segments in C: the results of all functions, and every bad input that a C program can pass. */
#include "check.h"

#include <errno.h>
#include <pthread.h>

static const shmkit_segment_options PLAIN = {.struct_size = sizeof(shmkit_segment_options)};
static const size_t HANDLE_FUNCTIONS = 11;

/* Creates an unnamed segment. */
static shmkit_segment *unnamed(uint64_t size)
{
    shmkit_segment *segment = NULL;
    STATUS(SHMKIT_OK, shmkit_segment_create(NULL, size, NULL, &segment));
    return segment;
}

static void test_versions(void)
{
    char text[32];
    CHECK(shmkit_version() == SHMKIT_VERSION);
    snprintf(text, sizeof text, "%d.%d.%d", SHMKIT_VERSION_MAJOR, SHMKIT_VERSION_MINOR, SHMKIT_VERSION_PATCH);
    CHECK(strcmp(shmkit_version_string(), text) == 0);
    STATUS(SHMKIT_OK, shmkit_check_version(SHMKIT_VERSION));
    STATUS(SHMKIT_ERR_VERSION_MISMATCH, shmkit_check_version(SHMKIT_VERSION + 1));
    STATUS(SHMKIT_ERR_VERSION_MISMATCH, shmkit_check_version(SHMKIT_VERSION + 1000000));
    STATUS(SHMKIT_ERR_VERSION_MISMATCH, shmkit_check_version(0));
}

static void test_strerror(void)
{
    const char *unknown = shmkit_strerror(1);
    for (shmkit_status status = SHMKIT_ERR_READ_LOCKED; status <= SHMKIT_OK; status++)
        CHECK(strlen(shmkit_strerror(status)) > 5 && strcmp(shmkit_strerror(status), unknown) != 0);
    CHECK(strcmp(shmkit_strerror(INT32_MIN), unknown) == 0);
    CHECK(strcmp(shmkit_strerror(SHMKIT_ERR_READ_LOCKED - 1), unknown) == 0);
}

static void test_life_cycle(uint64_t size)
{
    shmkit_segment *made = NULL, *opened = NULL;
    shmkit_segment_options options = PLAIN;
    shmkit_segment_info info = {.struct_size = sizeof info};
    void *data = NULL, *same = NULL;
    const char *name = NULL, *directory = NULL;
    uint64_t found = 0, huge = 1;
    int32_t fd = -1;
    struct stat file;
    bool zeros = true;

    options.capacity = 1 << 20;
    STATUS(SHMKIT_OK, shmkit_segment_create("/life", size, &options, &made));
    STATUS(SHMKIT_ERR_EXISTS, shmkit_segment_create("life", size, &options, &opened));
    CHECK(opened == NULL);
    STATUS(SHMKIT_OK, shmkit_segment_open("life", size, &options, &opened));
    STATUS(SHMKIT_OK, shmkit_segment_data(made, &data));
    STATUS(SHMKIT_OK, shmkit_segment_data(opened, &same));
    CHECK(data != same);
    for (uint64_t at = 0; at < size; at++)
        zeros = zeros && ((char *)data)[at] == 0;
    CHECK(zeros);
    memset(data, 42, size);
    CHECK(memcmp(data, same, size) == 0);
    STATUS(SHMKIT_OK, shmkit_segment_size(opened, &found));
    CHECK(found == size);
    CHECK(stat(check_path("life"), &file) == 0 && (uint64_t)file.st_size == size && (file.st_mode & 07777) == 0600);
    STATUS(SHMKIT_OK, shmkit_segment_capacity(opened, &found));
    CHECK(found == 1 << 20);
    STATUS(SHMKIT_OK, shmkit_segment_fd(opened, &fd));
    CHECK(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    STATUS(SHMKIT_OK, shmkit_segment_name(opened, &name));
    STATUS(SHMKIT_OK, shmkit_segment_directory(opened, &directory));
    CHECK(strcmp(name, "life") == 0 && strcmp(directory, check_folder) == 0);
    STATUS(SHMKIT_OK, shmkit_segment_huge(opened, &huge));
    CHECK(huge == 0);

    STATUS(SHMKIT_OK, shmkit_segment_resize(opened, size + 10000, SHMKIT_SEGMENT_NO_SPACE_CHECK));
    STATUS(SHMKIT_OK, shmkit_segment_size(made, &found));
    CHECK(found == size + 10000 && ((char *)data)[size] == 0 && ((char *)data)[size - 1] == 42);
    STATUS(SHMKIT_ERR_TOO_LARGE, shmkit_segment_resize(made, (1 << 20) + 1, 0));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_resize(made, size, 0));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_resize(made, size + 10000, SHMKIT_SEGMENT_READONLY));
    STATUS(SHMKIT_OK, shmkit_segment_stat(made, &info));
    CHECK(info.flags == SHMKIT_SEGMENT_CREATED && info.size == size + 10000 && info.allocated >= info.size);
    CHECK(info.links == 1 && info.user == geteuid() && info.mode == 0600 && info.inode == file.st_ino);

    STATUS(SHMKIT_OK, shmkit_segment_close(opened));
    STATUS(SHMKIT_ERR_NOT_FOUND, shmkit_segment_unlink_name("life", NULL, info.device, info.inode + 1, 0));
    STATUS(SHMKIT_OK, shmkit_segment_unlink(made));
    STATUS(SHMKIT_ERR_NOT_FOUND, shmkit_segment_unlink(made));
    STATUS(SHMKIT_ERR_NOT_FOUND, shmkit_segment_unlink_name("life", NULL, 0, 0, 0));
    STATUS(SHMKIT_OK, shmkit_segment_close(made));
}

static void test_names(void)
{
    const char *wrong[] = {"", "/", ".", "..", "a/b", "//a", "a/", "../a", ".shmkit-0"};
    char longest[257];
    shmkit_segment *segment = NULL;
    for (size_t at = 0; at < sizeof wrong / sizeof *wrong; at++) {
        STATUS(SHMKIT_ERR_INVALID, shmkit_segment_create(wrong[at], 1, NULL, &segment));
        STATUS(SHMKIT_ERR_INVALID, shmkit_segment_open(wrong[at], 0, NULL, &segment));
        STATUS(SHMKIT_ERR_INVALID, shmkit_segment_open_or_create(wrong[at], 1, NULL, &segment));
        STATUS(SHMKIT_ERR_INVALID, shmkit_segment_unlink_name(wrong[at], NULL, 0, 0, 0));
    }
    memset(longest, 'x', 256);
    longest[256] = 0;
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_create(longest, 1, NULL, &segment));
    longest[255] = 0;
    CHECK(segment == NULL);
    STATUS(SHMKIT_OK, shmkit_segment_create(longest, 1, NULL, &segment));
    STATUS(SHMKIT_OK, shmkit_segment_unlink(segment));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void test_options(void)
{
    struct {
        shmkit_segment_options known;
        uint64_t unknown;
    } newer = {.known = PLAIN};
    shmkit_segment_options options;
    shmkit_segment *segment = NULL;
    const uint32_t wrong[] = {2, 8, SHMKIT_SEGMENT_CREATED, SHMKIT_SEGMENT_SEALED, UINT32_C(1) << 31,
                              SHMKIT_SEGMENT_READONLY, SHMKIT_SEGMENT_SPARSE | SHMKIT_SEGMENT_HUGE,
                              SHMKIT_SEGMENT_SPARSE | SHMKIT_SEGMENT_PREFAULT};
    for (size_t at = 0; at < sizeof wrong / sizeof *wrong; at++) {
        options = PLAIN;
        options.flags = wrong[at];
        STATUS(SHMKIT_ERR_INVALID, shmkit_segment_create("a", 1, &options, &segment));
    }
    memset(&options, 0, sizeof options);
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_create("a", 1, &options, &segment));
    options = PLAIN;
    options.participants = 1;
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_create("a", 1, &options, &segment));
    options = PLAIN;
    options.mode = 04755;
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_create("a", 1, &options, &segment));
    options = PLAIN;
    options.capacity = 4999;
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_create("a", 5000, &options, &segment));
    options = PLAIN;
    options.directory = "/nowhere";
    STATUS(SHMKIT_ERR_NOT_FOUND, shmkit_segment_create("a", 1, &options, &segment));
    newer.known.struct_size = sizeof newer;
    newer.unknown = 1;
    STATUS(SHMKIT_ERR_UNSUPPORTED, shmkit_segment_create("a", 1, &newer.known, &segment));
    CHECK(segment == NULL && check_entries() == 0);
    newer.unknown = 0;
    newer.known.flags = SHMKIT_SEGMENT_NO_SPACE_CHECK | SHMKIT_SEGMENT_PREFAULT | SHMKIT_SEGMENT_HUGE | SHMKIT_TRUST;
    STATUS(SHMKIT_OK, shmkit_segment_create(NULL, 1, &newer.known, &segment));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

/* Calls the function of this number with a handle, and checks that it writes no output if it fails. */
static shmkit_status call(size_t function, shmkit_segment *handle)
{
    void *data = NULL;
    const char *text = NULL;
    uint64_t number = 77;
    int32_t fd = 77;
    shmkit_segment_info info = {.struct_size = sizeof info, .size = 77};
    shmkit_status status = SHMKIT_OK;
    switch (function) {
    case 0: status = shmkit_segment_data(handle, &data); break;
    case 1: status = shmkit_segment_size(handle, &number); break;
    case 2: status = shmkit_segment_capacity(handle, &number); break;
    case 3: status = shmkit_segment_fd(handle, &fd); break;
    case 4: status = shmkit_segment_name(handle, &text); break;
    case 5: status = shmkit_segment_directory(handle, &text); break;
    case 6: status = shmkit_segment_huge(handle, &number); break;
    case 7: status = shmkit_segment_stat(handle, &info); break;
    case 8: status = shmkit_segment_resize(handle, 4096, 0); break;
    case 9: status = shmkit_segment_unlink(handle); break;
    case 10: status = shmkit_segment_close(handle); break;
    }
    CHECK(status == SHMKIT_OK || (!data && !text && number == 77 && fd == 77 && info.size == 77));
    return status;
}

static void test_bad_pointers(void)
{
    _Alignas(64) char block[256] = {0};
    shmkit_segment *segment = unnamed(4096), *none = NULL;
    shmkit_segment_info info = {.struct_size = 4};
    for (size_t function = 0; function < HANDLE_FUNCTIONS; function++) {
        STATUS(function == HANDLE_FUNCTIONS - 1 ? SHMKIT_OK : SHMKIT_ERR_INVALID, call(function, NULL));
        STATUS(SHMKIT_ERR_INVALID, call(function, (shmkit_segment *)(block + 1)));
        STATUS(SHMKIT_ERR_WRONG_KIND, call(function, (shmkit_segment *)block));
    }
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_data(segment, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_size(segment, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_capacity(segment, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_fd(segment, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_name(segment, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_directory(segment, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_huge(segment, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_stat(segment, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_stat(segment, &info));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_size(segment, (uint64_t *)(void *)(block + 1)));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_create("a", 1, NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_open("a", 1, NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_open_or_create("a", 1, NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_open_fd(0, 1, NULL, NULL));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_open(NULL, 0, NULL, &none));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_unlink_name(NULL, NULL, 0, 0, 0));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_list(NULL, NULL, NULL));
    STATUS(SHMKIT_OK, shmkit_last_error(NULL, NULL, NULL));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
    for (size_t function = 0; function < HANDLE_FUNCTIONS; function++)
        STATUS(SHMKIT_ERR_CLOSED, call(function, segment));
    CHECK(none == NULL && check_entries() == 0);
}

static void test_files_that_cannot_be_opened(void)
{
    shmkit_segment *segment = NULL;
    CHECK(mkdir(check_path("folder"), 0700) == 0);
    CHECK(mkfifo(check_path("fifo"), 0700) == 0);
    CHECK(symlink("short", check_path("link")) == 0);
    CHECK(symlink("nowhere", check_path("dangling")) == 0);
    check_file("empty", 0);
    check_file("short", 100);
    STATUS(SHMKIT_ERR_NOT_FOUND, shmkit_segment_open("nothing", 0, NULL, &segment));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_segment_open("folder", 0, NULL, &segment));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_segment_open("fifo", 0, NULL, &segment));
    STATUS(SHMKIT_ERR_UNTRUSTED, shmkit_segment_open("link", 0, NULL, &segment));
    STATUS(SHMKIT_ERR_UNTRUSTED, shmkit_segment_open_or_create("dangling", 1, NULL, &segment));
    STATUS(SHMKIT_ERR_CORRUPT, shmkit_segment_open("empty", 0, NULL, &segment));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_open("short", 101, NULL, &segment));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_segment_unlink_name("link", NULL, 0, 0, 0));
    CHECK(segment == NULL && check_entries() == 6);
    check_clear_folder();
}

static void test_descriptors(void)
{
    int ends[2] = {-1, -1};
    shmkit_segment *made = unnamed(5000), *opened = NULL;
    shmkit_segment_options options = PLAIN;
    shmkit_segment_info info = {.struct_size = sizeof info};
    int32_t fd = -1;
    int unsealed = memfd_create("test", MFD_CLOEXEC);
    CHECK(ftruncate(unsealed, 4096) == 0 && pipe(ends) == 0);
    STATUS(SHMKIT_OK, shmkit_segment_fd(made, &fd));
    CHECK(ftruncate(fd, 4999) == -1 && errno == EPERM);
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_open_fd(-1, 0, NULL, &opened));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_open_fd(9999, 0, NULL, &opened));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_segment_open_fd(ends[0], 0, NULL, &opened));
    STATUS(SHMKIT_ERR_PERMISSION, shmkit_segment_open_fd(ends[1], 0, NULL, &opened));
    STATUS(SHMKIT_ERR_UNTRUSTED, shmkit_segment_open_fd(unsealed, 0, NULL, &opened));
    CHECK(opened == NULL);
    options.flags = SHMKIT_TRUST;
    STATUS(SHMKIT_OK, shmkit_segment_open_fd(unsealed, 0, &options, &opened));
    STATUS(SHMKIT_OK, shmkit_segment_close(opened));
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_open_fd(fd, 5001, NULL, &opened));
    STATUS(SHMKIT_OK, shmkit_segment_open_fd(fd, 5000, NULL, &opened));
    STATUS(SHMKIT_OK, shmkit_segment_stat(opened, &info));
    CHECK(info.flags == SHMKIT_SEGMENT_SEALED && info.links == 0);
    STATUS(SHMKIT_OK, shmkit_segment_unlink(opened));
    STATUS(SHMKIT_OK, shmkit_segment_close(opened));
    STATUS(SHMKIT_OK, shmkit_segment_close(made));
    close(unsealed);
    close(ends[0]);
    close(ends[1]);
}

static void child_grows(void *handle)
{
    void *data = NULL;
    STATUS(SHMKIT_OK, shmkit_segment_resize(handle, 1 << 20, 0));
    STATUS(SHMKIT_OK, shmkit_segment_data(handle, &data));
    ((volatile char *)data)[(1 << 20) - 1] = 42;
    STATUS(SHMKIT_OK, shmkit_segment_close(handle));
}

static void child_writes(void *data)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    *(volatile char *)data = 1;
}

static void test_children(void)
{
    shmkit_segment *made = NULL, *reader = NULL;
    shmkit_segment_options options = PLAIN;
    uint64_t size = 0;
    void *data = NULL;
    options.capacity = 1 << 20;
    STATUS(SHMKIT_OK, shmkit_segment_create("shared", 4096, &options, &made));
    STATUS(SHMKIT_OK, shmkit_segment_data(made, &data));
    CHECK(check_fork(child_grows, made) == 0);
    STATUS(SHMKIT_OK, shmkit_segment_size(made, &size));
    CHECK(size == 1 << 20 && ((volatile char *)data)[size - 1] == 42);
    options.flags = SHMKIT_SEGMENT_READONLY;
    STATUS(SHMKIT_OK, shmkit_segment_open("shared", 0, &options, &reader));
    STATUS(SHMKIT_ERR_PERMISSION, shmkit_segment_resize(reader, 1 << 20, 0));
    STATUS(SHMKIT_OK, shmkit_segment_data(reader, &data));
    CHECK(check_fork(child_writes, data) == SIGSEGV);
    CHECK(truncate(check_path("shared"), 4096) == 0);
    STATUS(SHMKIT_ERR_CORRUPT, shmkit_segment_size(made, &size));
    STATUS(SHMKIT_OK, shmkit_segment_data(made, &data));
    CHECK(check_fork(child_writes, (char *)data + 8192) == SIGBUS);
    STATUS(SHMKIT_OK, shmkit_segment_unlink(made));
    STATUS(SHMKIT_OK, shmkit_segment_close(made));
    STATUS(SHMKIT_OK, shmkit_segment_close(reader));
}

static int32_t count_names(const char *name, void *count)
{
    CHECK(name[0] == 'n');
    return ++*(int *)count == 2;
}

static void test_list(void)
{
    int count = 0;
    STATUS(SHMKIT_OK, shmkit_segment_list(NULL, count_names, &count));
    CHECK(count == 0);
    check_file("n1", 1);
    check_file("n2", 1);
    check_file("n3", 1);
    STATUS(SHMKIT_OK, shmkit_segment_list(check_folder, count_names, &count));
    CHECK(count == 2);
    STATUS(SHMKIT_ERR_NOT_FOUND, shmkit_segment_list("/nowhere", count_names, &count));
    for (const char *name = "n1\0n2\0n3\0"; *name; name += 3)
        STATUS(SHMKIT_OK, shmkit_segment_unlink_name(name, check_folder, 0, 0, SHMKIT_INTERRUPTIBLE));
}

static int32_t interrupt_second_call(void *calls)
{
    return ++*(int *)calls == 2;
}

static void test_interrupt(void)
{
    int calls = 0;
    shmkit_segment *segment = NULL;
    shmkit_segment_options options = PLAIN;
    options.flags = SHMKIT_INTERRUPTIBLE;
    STATUS(SHMKIT_OK, shmkit_set_interrupt(interrupt_second_call, &calls));
    STATUS(SHMKIT_ERR_INTERRUPTED, shmkit_segment_create("a", UINT64_C(512) << 20, &options, &segment));
    CHECK(calls == 2 && segment == NULL && check_entries() == 0);
    STATUS(SHMKIT_OK, shmkit_set_interrupt(NULL, NULL));
}

static void *fail_in_a_thread(void *unused)
{
    shmkit_status code = 1;
    shmkit_segment *segment = NULL;
    STATUS(SHMKIT_OK, shmkit_last_error(&code, NULL, NULL));
    CHECK(code == SHMKIT_OK);
    STATUS(SHMKIT_ERR_NOT_FOUND, shmkit_segment_open("nothing", 0, NULL, &segment));
    return unused;
}

static void test_last_error(void)
{
    pthread_t thread;
    shmkit_status code = 1;
    int32_t system_errno = -1;
    const char *text = NULL;
    shmkit_segment *segment = NULL;
    STATUS(SHMKIT_ERR_INVALID, shmkit_segment_create("a", 0, NULL, &segment));
    CHECK(pthread_create(&thread, NULL, fail_in_a_thread, NULL) == 0 && pthread_join(thread, NULL) == 0);
    STATUS(SHMKIT_OK, shmkit_last_error(&code, &system_errno, &text));
    CHECK(code == SHMKIT_ERR_INVALID && system_errno == 0 && strstr(text, "at least one byte") != NULL);
    STATUS(SHMKIT_ERR_NOT_FOUND, shmkit_segment_open("nothing", 0, NULL, &segment));
    STATUS(SHMKIT_OK, shmkit_last_error(&code, &system_errno, &text));
    CHECK(code == SHMKIT_ERR_NOT_FOUND && system_errno == ENOENT && strstr(text, "/nothing") != NULL);
}

static void tests(void)
{
    const uint64_t sizes[] = {1, 4095, 4096, 4097, 5000};
    test_versions();
    test_strerror();
    for (size_t at = 0; at < sizeof sizes / sizeof *sizes; at++)
        test_life_cycle(sizes[at]);
    test_names();
    test_options();
    test_bad_pointers();
    test_files_that_cannot_be_opened();
    test_descriptors();
    test_children();
    test_list();
    test_interrupt();
    test_last_error();
}

int main(void)
{
    return check_main(tests);
}
