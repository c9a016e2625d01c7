/*
 * The life cycle that the objects of all nouns share: create, open, share by descriptor, close, unlink, and bad inputs.
 *
 * Each test runs once for each row of nouns.h. test_<noun>.c tests all other functions of a noun.
 */
#include "object.h"

/* Offsets of placed objects, and the size of their segment, which is not a multiple of 64. */
enum { OFFSET = 128, FREE_OFFSET = 8192, SEGMENT_BYTES = 16384 + 8 };

static union options sized(const struct noun *noun, union options options)
{
    options.common.struct_size = (uint32_t)noun->options_size;
    return options;
}

/* Returns the options with which the tests create objects, plus these flags. */
static union options with(const struct noun *noun, uint32_t flags)
{
    union options options = sized(noun, noun->made);
    options.common.flags |= flags;
    return options;
}

static void *create(const struct noun *noun, const char *name)
{
    union options options = with(noun, 0);
    void *object = NULL;
    STATUS(SHMKIT_OK, noun->create(name, &options, &object));
    return object;
}

static void *create_at(const struct noun *noun, const shmkit_segment *segment, uint64_t offset)
{
    union options options = with(noun, 0);
    void *object = NULL;
    STATUS(SHMKIT_OK, noun->create_at(segment, offset, &options, &object));
    return object;
}

/* Checks that the object works, and that both handles refer to it. */
static void check_same(const struct noun *noun, void *one, void *other)
{
    CHECK(!noun->is_marked(one) && !noun->is_marked(other));
    noun->mark(one);
    CHECK(noun->is_marked(one) && noun->is_marked(other));
    noun->unmark(other);
    CHECK(!noun->is_marked(one) && !noun->is_marked(other));
}

/* Checks that the handles refer to two objects. */
static void check_distinct(const struct noun *noun, void *one, void *other)
{
    noun->mark(one);
    CHECK(noun->is_marked(one) && !noun->is_marked(other));
    noun->unmark(one);
}

/* Checks that each function that takes a handle fails with this one, and writes no output. */
static void check_refused(const struct noun *noun, void *handle, shmkit_status expected)
{
    union info info, before;
    shmkit_segment *segment = NULL;
    int32_t fd = 77;
    uint64_t offset = 77;
    memset(&info, 77, sizeof info);
    info.struct_size = (uint32_t)noun->info_size;
    before = info;
    STATUS(expected, noun->stat(handle, &info));
    STATUS(expected, noun->unlink(handle));
    STATUS(expected, noun->fd(handle, &fd, &offset));
    STATUS(expected, noun->segment(handle, &segment));
    STATUS(handle == NULL ? SHMKIT_OK : expected, noun->close(handle));
    noun->refuses(handle, expected);
    CHECK(fd == 77 && offset == 77 && segment == NULL && memcmp(&info, &before, sizeof info) == 0);
}

/* An object, and the function with which a child process gets a handle. */
struct target {
    const struct noun *noun;
    void *object;
    void *(*reach)(const struct target *target);
};

static void *keep_inherited(const struct target *target)
{
    return target->object;
}

static void *open_by_name(const struct target *target)
{
    void *opened = NULL;
    STATUS(SHMKIT_OK, target->noun->open("named", NULL, &opened));
    return opened;
}

/* Opens the object like a process that received a descriptor and an offset from its parent. */
static void *open_through_proc(const struct target *target)
{
    char path[64];
    int32_t fd = -1;
    uint64_t offset = 7;
    void *opened = NULL;
    STATUS(SHMKIT_OK, target->noun->fd(target->object, &fd, &offset));
    snprintf(path, sizeof path, "/proc/%d/fd/%d", getppid(), fd);
    int own = open(path, O_RDWR | O_CLOEXEC);
    CHECK(own >= 0);
    STATUS(SHMKIT_OK, target->noun->open_fd(own, offset, NULL, &opened));
    close(own);
    CHECK(target->noun->offset(opened) == offset);
    return opened;
}

static void check_mark_and_close(void *argument)
{
    const struct target *target = argument;
    void *reached = target->reach(target);
    CHECK(target->noun->is_marked(reached));
    STATUS(SHMKIT_OK, target->noun->close(reached));
    check_refused(target->noun, reached, SHMKIT_ERR_CLOSED);
}

static void check_same_and_close(void *argument)
{
    const struct target *target = argument;
    void *reached = target->reach(target);
    check_same(target->noun, reached, target->object);
    check_same(target->noun, target->object, reached);
    STATUS(SHMKIT_OK, target->noun->close(reached));
}

/* Checks that child processes use the same object, and that it still works after they have ended. */
static void check_in_children(const struct noun *noun, void *object, void *(*reach)(const struct target *target))
{
    struct target target = {noun, object, reach};
    noun->mark(object);
    CHECK(check_fork(check_mark_and_close, &target) == 0);
    noun->unmark(object);
    CHECK(check_fork(check_same_and_close, &target) == 0);
    check_same(noun, object, object);
}

static void test_sizes(const struct noun *noun)
{
    union options options = with(noun, 0);
    uint64_t bytes = 77;
    STATUS(SHMKIT_ERR_INVALID, noun->size(&options, NULL));
    STATUS(SHMKIT_ERR_INVALID, noun->size(&options, check_misaligned()));
    STATUS(SHMKIT_ERR_INVALID, noun->size(check_misaligned(), &bytes));
    CHECK(bytes == 77);
    STATUS(SHMKIT_OK, noun->size(&options, &bytes));
    CHECK(bytes == noun->bytes && bytes % 64 == 0);
    bytes = 77;
    STATUS(noun->default_bytes ? SHMKIT_OK : SHMKIT_ERR_INVALID, noun->size(NULL, &bytes));
    CHECK(bytes == (noun->default_bytes ? noun->default_bytes : 77));
}

/* --- options ------------------------------------------------------------------------------------------------------ */

/* Checks that each function that takes options fails with these. */
static void check_options_refused(const struct noun *noun, shmkit_status expected, const void *options)
{
    shmkit_segment *segment = managed_segment(NULL, SEGMENT_BYTES);
    void *none = NULL;
    uint64_t bytes = 77;
    STATUS(expected, noun->size(options, &bytes));
    STATUS(expected, noun->create("a", options, &none));
    STATUS(expected, noun->create(NULL, options, &none));
    STATUS(expected, noun->open("a", options, &none));
    STATUS(expected, noun->open_or_create("a", options, &none));
    STATUS(expected, noun->create_at(segment, OFFSET, options, &none));
    STATUS(expected, noun->open_at(segment, OFFSET, options, &none));
    STATUS(expected, noun->open_fd(0, 0, options, &none));
    CHECK(bytes == 77 && none == NULL && check_entries() == 0);
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void test_options(const struct noun *noun)
{
    const uint32_t known = noun->flags | SHMKIT_TRUST | SHMKIT_EXCLUSIVE;
    const uint32_t modes[] = {01000, 04755, UINT32_MAX}, participants[] = {4097, 65536, UINT32_MAX};
    union options options;
    void *object = NULL;
    for (uint32_t flag = 1; flag != 0; flag <<= 1) {
        options = with(noun, flag);
        if (!(flag & known))
            check_options_refused(noun, SHMKIT_ERR_INVALID, &options);
    }
    options = with(noun, 0);
    for (size_t at = 0; at < sizeof modes / sizeof *modes; at++) {
        options.common.mode = modes[at];
        check_options_refused(noun, SHMKIT_ERR_INVALID, &options);
    }
    options = with(noun, 0);
    for (size_t at = 0; at < sizeof participants / sizeof *participants; at++) {
        options.common.participants = participants[at];
        STATUS(SHMKIT_ERR_INVALID, noun->create("a", &options, &object));
        if (noun->own_file)
            STATUS(SHMKIT_ERR_INVALID, noun->create(NULL, &options, &object));
    }
    CHECK(object == NULL && check_entries() == 0);
    options = with(noun, SHMKIT_TRUST);
    STATUS(SHMKIT_OK, noun->create(NULL, &options, &object));
    check_same(noun, object, object);
    STATUS(SHMKIT_OK, noun->close(object));
}

static void test_struct_sizes(const struct noun *noun)
{
    struct {
        union options known;
        uint64_t more[2];
    } newer;
    void *object = NULL;
    for (uint32_t size = 0; size < noun->options_size; size++) {
        union options options = with(noun, 0);
        options.common.struct_size = size;
        check_options_refused(noun, SHMKIT_ERR_INVALID, &options);
    }
    /* A program built for a newer version: the fields that this library does not know must be 0. */
    memset(&newer, 0, sizeof newer);
    newer.known = with(noun, 0);
    newer.known.common.struct_size += 8;
    ((char *)&newer)[noun->options_size + 7] = 1;
    check_options_refused(noun, SHMKIT_ERR_UNSUPPORTED, &newer);
    ((char *)&newer)[noun->options_size + 7] = 0;
    STATUS(SHMKIT_OK, noun->create(NULL, &newer, &object));
    STATUS(SHMKIT_OK, noun->close(object));
}

/* NULL options create an object with the defaults, if the noun has defaults. */
static void test_null_options(const struct noun *noun)
{
    const shmkit_status expected = noun->default_bytes ? SHMKIT_OK : SHMKIT_ERR_INVALID;
    shmkit_segment *segment = managed_segment(NULL, OFFSET + noun->default_bytes);
    void *objects[4] = {NULL};
    STATUS(expected, noun->create(NULL, NULL, &objects[0]));
    STATUS(expected, noun->create("named", NULL, &objects[1]));
    STATUS(expected, noun->open_or_create("named", NULL, &objects[2]));
    STATUS(expected, noun->create_at(segment, OFFSET, NULL, &objects[3]));
    CHECK(check_entries() == (noun->default_bytes != 0));
    if (noun->default_bytes)
        STATUS(SHMKIT_OK, noun->unlink(objects[2]));
    for (size_t at = 0; at < sizeof objects / sizeof *objects; at++)
        if (CHECK((objects[at] != NULL) == (noun->default_bytes != 0)) && objects[at] != NULL)
            STATUS(SHMKIT_OK, noun->close(objects[at]));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void test_contradictions(const struct noun *noun)
{
    static const union options defaults;
    shmkit_segment *segment = managed_segment(NULL, SEGMENT_BYTES);
    void *named = create(noun, "named"), *placed = create_at(noun, segment, OFFSET), *opened = NULL, *none = NULL;
    int32_t fd = -1;
    uint64_t offset = 7;
    STATUS(SHMKIT_OK, noun->fd(named, &fd, &offset));
    for (size_t at = 0; at < noun->others; at++) {
        union options other = sized(noun, noun->other[at]);
        if (memcmp(&noun->other[at], &defaults, sizeof defaults) == 0) {
            STATUS(SHMKIT_ERR_INVALID, noun->open_or_create("named", NULL, &none));
            STATUS(SHMKIT_ERR_INVALID, noun->create_at(segment, OFFSET, NULL, &none));
        }
        STATUS(SHMKIT_ERR_INVALID, noun->open_or_create("named", &other, &none));
        STATUS(SHMKIT_ERR_INVALID, noun->create_at(segment, OFFSET, &other, &none));
        /* An open accepts these options, and the object keeps its own. */
        STATUS(SHMKIT_OK, noun->open("named", &other, &opened));
        check_same(noun, opened, named);
        STATUS(SHMKIT_OK, noun->close(opened));
        STATUS(SHMKIT_OK, noun->open_fd(fd, offset, &other, &opened));
        check_same(noun, opened, named);
        STATUS(SHMKIT_OK, noun->close(opened));
        STATUS(SHMKIT_OK, noun->open_at(segment, OFFSET, &other, &opened));
        check_same(noun, opened, placed);
        STATUS(SHMKIT_OK, noun->close(opened));
    }
    CHECK(none == NULL);
    STATUS(SHMKIT_OK, noun->unlink(named));
    STATUS(SHMKIT_OK, noun->close(named));
    STATUS(SHMKIT_OK, noun->close(placed));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

/* --- names -------------------------------------------------------------------------------------------------------- */

static void test_named(const struct noun *noun)
{
    void *made = NULL, *opened = NULL, *third = NULL, *none = NULL;
    union options options = with(noun, 0);
    struct stat file;
    int32_t fd = -1;
    uint64_t offset = 7;
    options.common.mode = 0660;
    options.common.participants = 5;
    STATUS(SHMKIT_ERR_NOT_FOUND, noun->open("named", NULL, &none));
    CHECK(check_entries() == 0);
    STATUS(SHMKIT_OK, noun->create("/named", &options, &made));
    STATUS(SHMKIT_ERR_EXISTS, noun->create("named", &options, &none));
    CHECK(check_entries() == 1);
    CHECK(stat(check_path("named"), &file) == 0 && (file.st_mode & 07777) == 0660);
    STATUS(SHMKIT_OK, noun->open("named", NULL, &opened));
    check_same(noun, made, opened);
    options = with(noun, 0);
    STATUS(SHMKIT_OK, noun->open_or_create("named", &options, &third));
    check_same(noun, opened, third);
    CHECK(noun->offset(third) == 0);
    check_in_children(noun, made, open_by_name);
    STATUS(SHMKIT_OK, noun->close(third));
    STATUS(SHMKIT_OK, noun->fd(made, &fd, &offset));
    CHECK(offset == 0);
    STATUS(SHMKIT_OK, noun->open_fd(fd, offset, &options, &third));
    check_same(noun, made, third);
    /* A handle from a descriptor has no name to unlink. */
    STATUS(SHMKIT_ERR_INVALID, noun->unlink(third));
    STATUS(SHMKIT_OK, noun->close(third));
    CHECK(check_entries() == 1);
    STATUS(SHMKIT_OK, noun->unlink(opened));
    STATUS(SHMKIT_ERR_NOT_FOUND, noun->unlink(made));
    STATUS(SHMKIT_ERR_NOT_FOUND, noun->open("named", NULL, &none));
    STATUS(SHMKIT_OK, noun->close(opened));
    /* The name is free for another object, and the first one still works. */
    STATUS(SHMKIT_OK, noun->open_or_create("named", &options, &opened));
    CHECK(stat(check_path("named"), &file) == 0 && (file.st_mode & 07777) == 0600);
    check_distinct(noun, made, opened);
    STATUS(SHMKIT_ERR_NOT_FOUND, noun->unlink(made));
    STATUS(SHMKIT_OK, noun->unlink(opened));
    STATUS(SHMKIT_OK, noun->close(opened));
    check_same(noun, made, made);
    STATUS(SHMKIT_OK, noun->close(made));
    CHECK(none == NULL);
}

/* Checks that the name cannot be opened. */
static void check_not_opened(const struct noun *noun, shmkit_status expected, const char *name)
{
    union options options = with(noun, 0);
    void *none = NULL;
    STATUS(expected, noun->open(name, NULL, &none));
    STATUS(expected, noun->open(name, &options, &none));
    STATUS(expected, noun->open_or_create(name, &options, &none));
    CHECK(none == NULL);
}

static void test_names_that_cannot_be_opened(const struct noun *noun)
{
    shmkit_segment *segment = managed_segment("segment", 4096), *plain = NULL;
    union options options = with(noun, 0);
    void *object = create(noun, "object"), *none = NULL;
    STATUS(SHMKIT_OK, shmkit_segment_create("plain", 4096, NULL, &plain));
    CHECK(symlink("object", check_path("link")) == 0 && mkdir(check_path("folder"), 0700) == 0);
    check_file("bytes", 8192);
    check_not_opened(noun, SHMKIT_ERR_INVALID, NULL);
    check_not_opened(noun, SHMKIT_ERR_INVALID, "a/b");
    check_not_opened(noun, SHMKIT_ERR_INVALID, "");
    check_not_opened(noun, SHMKIT_ERR_WRONG_KIND, "segment");
    check_not_opened(noun, SHMKIT_ERR_WRONG_KIND, "plain");
    check_not_opened(noun, SHMKIT_ERR_WRONG_KIND, "bytes");
    check_not_opened(noun, SHMKIT_ERR_WRONG_KIND, "folder");
    check_not_opened(noun, SHMKIT_ERR_UNTRUSTED, "link");
    STATUS(SHMKIT_ERR_INVALID, noun->create("a/b", &options, &none));
    STATUS(SHMKIT_ERR_EXISTS, noun->create("bytes", &options, &none));
    CHECK(none == NULL && check_entries() == 6);
    check_same(noun, object, object);
    STATUS(SHMKIT_OK, noun->close(object));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
    STATUS(SHMKIT_OK, shmkit_segment_close(plain));
    check_clear_folder();
}

static void test_directories(const struct noun *noun)
{
    union options options = with(noun, 0);
    void *made = NULL, *opened = NULL, *none = NULL;
    CHECK(mkdir(check_path("folder"), 0700) == 0);
    options.common.directory = check_path("folder");
    STATUS(SHMKIT_OK, noun->create("named", &options, &made));
    CHECK(access(check_path("folder/named"), F_OK) == 0);
    STATUS(SHMKIT_ERR_NOT_FOUND, noun->open("named", NULL, &none));
    STATUS(SHMKIT_OK, noun->open("named", &options, &opened));
    check_same(noun, made, opened);
    STATUS(SHMKIT_OK, noun->unlink(opened));
    CHECK(rmdir(check_path("folder")) == 0);
    STATUS(SHMKIT_OK, noun->close(made));
    STATUS(SHMKIT_OK, noun->close(opened));
    options.common.directory = "/nowhere";
    STATUS(SHMKIT_ERR_NOT_FOUND, noun->create("named", &options, &none));
    STATUS(SHMKIT_ERR_NOT_FOUND, noun->open_or_create("named", &options, &none));
    CHECK(none == NULL && check_entries() == 0);
}

/* Objects of another user open only with SHMKIT_TRUST. */
static void test_trust(const struct noun *noun)
{
    union options trusting = with(noun, SHMKIT_TRUST);
    void *object = NULL, *opened = NULL;
    if (geteuid() != 0) {
        check_skip("only root can give a file to another user");
        return;
    }
    object = create(noun, "foreign");
    CHECK(chown(check_path("foreign"), 65534, 65534) == 0);
    check_not_opened(noun, SHMKIT_ERR_UNTRUSTED, "foreign");
    STATUS(SHMKIT_OK, noun->open("foreign", &trusting, &opened));
    check_same(noun, object, opened);
    STATUS(SHMKIT_OK, noun->close(opened));
    STATUS(SHMKIT_OK, noun->open_or_create("foreign", &trusting, &opened));
    check_same(noun, object, opened);
    STATUS(SHMKIT_OK, noun->unlink(opened));
    STATUS(SHMKIT_OK, noun->close(opened));
    STATUS(SHMKIT_OK, noun->close(object));
}

/* --- descriptors -------------------------------------------------------------------------------------------------- */

static void test_unnamed(const struct noun *noun)
{
    void *one = create(noun, NULL), *other = create(noun, NULL), *opened = NULL;
    int32_t fd[2] = {-1, -1}, same = -1;
    uint64_t offset[2] = {7, 7}, again = 7;
    STATUS(SHMKIT_OK, noun->fd(one, &fd[0], &offset[0]));
    STATUS(SHMKIT_OK, noun->fd(other, &fd[1], &offset[1]));
    STATUS(SHMKIT_OK, noun->fd(one, &same, &again));
    CHECK(fd[0] >= 0 && same == fd[0] && again == offset[0] && noun->offset(one) == offset[0] && offset[0] % 64 == 0);
    if (noun->own_file)
        CHECK(fd[0] != fd[1] && offset[0] == 0 && offset[1] == 0);
    else
        CHECK(fd[0] == fd[1] && offset[0] != offset[1]);
    check_distinct(noun, one, other);
    STATUS(SHMKIT_OK, noun->open_fd(fd[0], offset[0], NULL, &opened));
    check_same(noun, one, opened);
    STATUS(SHMKIT_OK, noun->close(opened));
    check_in_children(noun, one, open_through_proc);
    STATUS(noun->own_file ? SHMKIT_OK : SHMKIT_ERR_INVALID, noun->unlink(one));
    STATUS(SHMKIT_OK, noun->close(one));
    check_same(noun, other, other);
    STATUS(SHMKIT_OK, noun->close(other));
    CHECK(check_entries() == 0);
}

static void test_descriptors_that_cannot_be_opened(const struct noun *noun)
{
    shmkit_segment *segment = managed_segment(NULL, SEGMENT_BYTES), *plain = NULL;
    void *object = create(noun, NULL), *none = NULL;
    int32_t fd = -1, other = -1;
    uint64_t offset = 7;
    STATUS(SHMKIT_OK, noun->fd(object, &fd, &offset));
    const uint64_t bad[] = {offset + 1, offset + 8, offset + 63, UINT64_MAX - 63, UINT64_MAX};
    for (size_t at = 0; at < sizeof bad / sizeof *bad; at++)
        STATUS(SHMKIT_ERR_INVALID, noun->open_fd(fd, bad[at], NULL, &none));
    /* In the arena that offset is free. A memory file of its own contains one object, at offset 0. */
    STATUS(noun->own_file ? SHMKIT_ERR_INVALID : SHMKIT_ERR_NOT_FOUND,
           noun->open_fd(fd, 1024 * 64 - noun->bytes, NULL, &none));
    STATUS(SHMKIT_ERR_INVALID, noun->open_fd(-1, 0, NULL, &none));
    STATUS(SHMKIT_OK, shmkit_segment_fd(segment, &other));
    STATUS(SHMKIT_ERR_WRONG_KIND, noun->open_fd(other, 0, NULL, &none));
    STATUS(SHMKIT_OK, shmkit_segment_create(NULL, 4096, NULL, &plain));
    STATUS(SHMKIT_OK, shmkit_segment_fd(plain, &other));
    STATUS(SHMKIT_ERR_WRONG_KIND, noun->open_fd(other, 0, NULL, &none));
    CHECK(none == NULL);
    STATUS(SHMKIT_OK, noun->close(object));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
    STATUS(SHMKIT_OK, shmkit_segment_close(plain));
}

/* --- placed objects ----------------------------------------------------------------------------------------------- */

static bool is_zero(const volatile char *data, uint64_t from, uint64_t to)
{
    while (from < to && data[from] == 0)
        from++;
    return from >= to;
}

static void test_placed(const struct noun *noun)
{
    shmkit_segment *segment = managed_segment(NULL, SEGMENT_BYTES);
    void *made = create_at(noun, segment, OFFSET), *opened = NULL, *third = NULL, *none = NULL, *data = NULL;
    int32_t fd = 77;
    uint64_t offset = 77;
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    opened = create_at(noun, segment, OFFSET);
    check_same(noun, made, opened);
    STATUS(SHMKIT_OK, noun->open_at(segment, OFFSET, NULL, &third));
    check_same(noun, opened, third);
    CHECK(noun->offset(third) == OFFSET);
    STATUS(SHMKIT_OK, noun->close(third));
    CHECK(!is_zero(data, OFFSET, OFFSET + 8));
    CHECK(is_zero(data, 0, OFFSET) && is_zero(data, OFFSET + noun->bytes, SEGMENT_BYTES));
    /* A placed object has neither a name nor a descriptor of its own. */
    STATUS(SHMKIT_ERR_INVALID, noun->fd(made, &fd, &offset));
    STATUS(SHMKIT_ERR_INVALID, noun->unlink(made));
    CHECK(fd == 77 && offset == 77);
    /* The object keeps the memory mapped after the segment's handle is closed. */
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
    STATUS(SHMKIT_ERR_CLOSED, noun->open_at(segment, OFFSET, NULL, &none));
    union options options = with(noun, 0);
    STATUS(SHMKIT_ERR_CLOSED, noun->create_at(segment, OFFSET, &options, &none));
    check_same(noun, made, opened);
    STATUS(SHMKIT_OK, noun->close(made));
    check_same(noun, opened, opened);
    STATUS(SHMKIT_OK, noun->close(opened));
    CHECK(none == NULL);
}

static void test_offsets_out_of_bounds(const struct noun *noun)
{
    const uint64_t last = (SEGMENT_BYTES - noun->bytes) / 64 * 64;
    const uint64_t bad[] = {1,     8, 63, 96, SEGMENT_BYTES - 8, SEGMENT_BYTES, SEGMENT_BYTES + 56, UINT64_MAX,
                            UINT64_MAX - 63};
    shmkit_segment *segment = managed_segment(NULL, SEGMENT_BYTES);
    union options options = with(noun, 0);
    void *object = NULL, *none = NULL;
    for (size_t at = 0; at < sizeof bad / sizeof *bad; at++) {
        STATUS(SHMKIT_ERR_INVALID, noun->create_at(segment, bad[at], &options, &none));
        STATUS(SHMKIT_ERR_INVALID, noun->open_at(segment, bad[at], NULL, &none));
    }
    STATUS(SHMKIT_ERR_INVALID, noun->create_at(segment, last + 64, &options, &none));
    CHECK(noun->open_at(segment, last + 64, NULL, &none) != SHMKIT_OK && none == NULL);
    STATUS(SHMKIT_ERR_NOT_FOUND, noun->open_at(segment, last, NULL, &none));
    STATUS(SHMKIT_ERR_NOT_FOUND, noun->open_at(segment, OFFSET, &options, &none));
    CHECK(none == NULL);
    object = create_at(noun, segment, last);
    check_same(noun, object, object);
    STATUS(SHMKIT_OK, noun->close(object));
    object = create_at(noun, segment, 0);
    check_same(noun, object, object);
    STATUS(SHMKIT_OK, noun->close(object));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void test_segments_that_cannot_hold_objects(const struct noun *noun)
{
    shmkit_segment_options reading = {.struct_size = sizeof reading, .flags = SHMKIT_SEGMENT_READONLY};
    shmkit_segment *segment = managed_segment("segment", SEGMENT_BYTES), *reader = NULL, *plain = NULL;
    union options options = with(noun, 0);
    void *object = NULL, *none = NULL;
    STATUS(SHMKIT_OK, shmkit_segment_open("segment", 0, &reading, &reader));
    STATUS(SHMKIT_OK, shmkit_segment_create(NULL, SEGMENT_BYTES, NULL, &plain));
    STATUS(SHMKIT_ERR_PERMISSION, noun->create_at(reader, OFFSET, &options, &none));
    object = create_at(noun, segment, OFFSET);
    STATUS(SHMKIT_ERR_PERMISSION, noun->create_at(reader, OFFSET, &options, &none));
    STATUS(SHMKIT_ERR_PERMISSION, noun->open_at(reader, OFFSET, NULL, &none));
    STATUS(SHMKIT_ERR_WRONG_KIND, noun->create_at(plain, OFFSET, &options, &none));
    STATUS(SHMKIT_ERR_WRONG_KIND, noun->open_at(plain, OFFSET, NULL, &none));
    CHECK(none == NULL);
    check_same(noun, object, object);
    STATUS(SHMKIT_OK, noun->close(object));
    STATUS(SHMKIT_OK, shmkit_segment_unlink(segment));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
    STATUS(SHMKIT_OK, shmkit_segment_close(reader));
    STATUS(SHMKIT_OK, shmkit_segment_close(plain));
}

static void test_offsets_with_other_bytes(const struct noun *noun)
{
    shmkit_segment *segment = managed_segment(NULL, SEGMENT_BYTES);
    union options options = with(noun, 0);
    void *none = NULL, *data = NULL;
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    const volatile uint8_t *bytes = data;
    for (int byte = 1; byte < 256; byte++) {
        memset((char *)data + FREE_OFFSET, byte, 64);
        STATUS(SHMKIT_ERR_WRONG_KIND, noun->create_at(segment, FREE_OFFSET, &options, &none));
        STATUS(SHMKIT_ERR_WRONG_KIND, noun->open_at(segment, FREE_OFFSET, NULL, &none));
        CHECK(bytes[FREE_OFFSET] == byte && bytes[FREE_OFFSET + 63] == byte);
    }
    CHECK(none == NULL);
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void test_exclusive_create_at(const struct noun *noun)
{
    shmkit_segment *segment = managed_segment(NULL, SEGMENT_BYTES);
    union options exclusive = with(noun, SHMKIT_EXCLUSIVE);
    void *object = NULL, *none = NULL, *data = NULL;
    STATUS(SHMKIT_OK, noun->create_at(segment, OFFSET, &exclusive, &object));
    STATUS(SHMKIT_ERR_EXISTS, noun->create_at(segment, OFFSET, &exclusive, &none));
    check_same(noun, object, object);
    STATUS(SHMKIT_OK, noun->close(object));
    STATUS(SHMKIT_ERR_EXISTS, noun->create_at(segment, OFFSET, &exclusive, &none));
    object = create_at(noun, segment, OFFSET);
    check_same(noun, object, object);
    STATUS(SHMKIT_OK, noun->close(object));
    /* After its bytes are set to zero, the offset is free again. */
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    memset((char *)data + OFFSET, 0, noun->bytes);
    STATUS(SHMKIT_ERR_NOT_FOUND, noun->open_at(segment, OFFSET, NULL, &none));
    STATUS(SHMKIT_OK, noun->create_at(segment, OFFSET, &exclusive, &object));
    check_same(noun, object, object);
    STATUS(SHMKIT_OK, noun->close(object));
    CHECK(none == NULL);
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

/* --- the segment of an object ------------------------------------------------------------------------------------- */

static void test_segment_of(const struct noun *noun)
{
    shmkit_segment *segment = managed_segment(NULL, SEGMENT_BYTES), *same = NULL;
    shmkit_segment_info info = {.struct_size = sizeof info};
    void *object = create_at(noun, segment, OFFSET), *data = NULL, *seen = NULL;
    const char *name = NULL;
    struct stat file;
    STATUS(SHMKIT_ERR_INVALID, noun->segment(object, NULL));
    STATUS(SHMKIT_OK, noun->segment(object, &same));
    STATUS(SHMKIT_OK, shmkit_segment_data(segment, &data));
    STATUS(SHMKIT_OK, shmkit_segment_data(same, &seen));
    CHECK(data == seen);
    /* Each handle is closed once, and the object keeps its segment. */
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
    STATUS(SHMKIT_OK, shmkit_segment_close(same));
    STATUS(SHMKIT_ERR_CLOSED, shmkit_segment_close(same));
    check_same(noun, object, object);
    STATUS(SHMKIT_OK, noun->close(object));

    object = create(noun, "named");
    STATUS(SHMKIT_OK, noun->segment(object, &same));
    STATUS(SHMKIT_OK, shmkit_segment_name(same, &name));
    CHECK(strcmp(name, "named") == 0);
    STATUS(SHMKIT_OK, shmkit_segment_stat(same, &info));
    CHECK(stat(check_path("named"), &file) == 0 && info.inode == file.st_ino && info.links == 1);
    CHECK(noun->own_file || info.size == noun->bytes);
    STATUS(SHMKIT_OK, noun->unlink(object));
    STATUS(SHMKIT_OK, noun->close(object));
    STATUS(SHMKIT_OK, shmkit_segment_close(same));

    object = create(noun, NULL);
    STATUS(SHMKIT_OK, noun->segment(object, &same));
    STATUS(SHMKIT_OK, shmkit_segment_stat(same, &info));
    CHECK(info.links == 0 && (info.flags & SHMKIT_SEGMENT_SEALED));
    STATUS(SHMKIT_OK, shmkit_segment_close(same));
    check_same(noun, object, object);
    STATUS(SHMKIT_OK, noun->close(object));
}

/* --- kinds -------------------------------------------------------------------------------------------------------- */

/* An object of a noun cannot be opened or used as an object of another noun. */
static void test_kinds(const struct noun *noun)
{
    shmkit_segment *segment = managed_segment(NULL, SEGMENT_BYTES), *no_segment = NULL;
    void *unnamed = create(noun, NULL), *named = create(noun, "named"), *placed = create_at(noun, segment, OFFSET);
    void *none = NULL, *data = NULL;
    int32_t fd = -1, named_fd = -1;
    uint64_t offset = 7, named_offset = 7;
    STATUS(SHMKIT_OK, noun->fd(unnamed, &fd, &offset));
    STATUS(SHMKIT_OK, noun->fd(named, &named_fd, &named_offset));
    for (const struct noun *other = nouns; other < nouns + NOUNS; other++) {
        union options options = with(other, 0);
        if (other == noun)
            continue;
        check_not_opened(other, SHMKIT_ERR_WRONG_KIND, "named");
        STATUS(SHMKIT_ERR_WRONG_KIND, other->create_at(segment, OFFSET, &options, &none));
        STATUS(SHMKIT_ERR_WRONG_KIND, other->open_at(segment, OFFSET, NULL, &none));
        STATUS(SHMKIT_ERR_WRONG_KIND, other->open_fd(fd, offset, NULL, &none));
        STATUS(SHMKIT_ERR_WRONG_KIND, other->open_fd(named_fd, named_offset, NULL, &none));
        check_refused(other, unnamed, SHMKIT_ERR_WRONG_KIND);
        check_refused(other, placed, SHMKIT_ERR_WRONG_KIND);
        STATUS(SHMKIT_ERR_WRONG_KIND, other->create_at(unnamed, 0, &options, &none));
        STATUS(SHMKIT_ERR_WRONG_KIND, other->open_at(unnamed, 0, NULL, &none));
    }
    check_refused(noun, segment, SHMKIT_ERR_WRONG_KIND);
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_segment_open("named", 0, NULL, &no_segment));
    STATUS(SHMKIT_ERR_WRONG_KIND, shmkit_segment_data(unnamed, &data));
    CHECK(none == NULL && no_segment == NULL && data == NULL);
    check_same(noun, unnamed, unnamed);
    check_same(noun, named, named);
    check_same(noun, placed, placed);
    STATUS(SHMKIT_OK, noun->unlink(named));
    STATUS(SHMKIT_OK, noun->close(named));
    STATUS(SHMKIT_OK, noun->close(unnamed));
    STATUS(SHMKIT_OK, noun->close(placed));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

/* --- pointers and handles ----------------------------------------------------------------------------------------- */

static void test_bad_handles(const struct noun *noun)
{
    _Alignas(64) char block[256] = {0};
    void *object = create(noun, NULL);
    check_refused(noun, NULL, SHMKIT_ERR_INVALID);
    check_refused(noun, check_misaligned(), SHMKIT_ERR_INVALID);
    check_refused(noun, block, SHMKIT_ERR_WRONG_KIND);
    check_same(noun, object, object);
    STATUS(SHMKIT_OK, noun->close(object));
    check_refused(noun, object, SHMKIT_ERR_CLOSED);
}

static void test_bad_pointers(const struct noun *noun)
{
    void *odd = check_misaligned();
    shmkit_segment *segment = managed_segment(NULL, SEGMENT_BYTES);
    union options options = with(noun, 0);
    union info info = {.struct_size = 4};
    void *object = create(noun, NULL), *none = NULL;
    int32_t fd = 77;
    uint64_t offset = 77;
    void **const outs[] = {NULL, odd};
    for (size_t at = 0; at < sizeof outs / sizeof *outs; at++) {
        STATUS(SHMKIT_ERR_INVALID, noun->create("a", &options, outs[at]));
        STATUS(SHMKIT_ERR_INVALID, noun->create(NULL, &options, outs[at]));
        STATUS(SHMKIT_ERR_INVALID, noun->open("a", NULL, outs[at]));
        STATUS(SHMKIT_ERR_INVALID, noun->open_or_create("a", &options, outs[at]));
        STATUS(SHMKIT_ERR_INVALID, noun->create_at(segment, 0, &options, outs[at]));
        STATUS(SHMKIT_ERR_INVALID, noun->open_at(segment, 0, NULL, outs[at]));
        STATUS(SHMKIT_ERR_INVALID, noun->open_fd(0, 0, NULL, outs[at]));
        STATUS(SHMKIT_ERR_INVALID, noun->segment(object, (shmkit_segment **)outs[at]));
        STATUS(SHMKIT_ERR_INVALID, noun->stat(object, outs[at]));
        STATUS(SHMKIT_ERR_INVALID, noun->fd(object, (int32_t *)(void *)outs[at], &offset));
        STATUS(SHMKIT_ERR_INVALID, noun->fd(object, &fd, (uint64_t *)(void *)outs[at]));
        STATUS(SHMKIT_ERR_INVALID, noun->create_at((shmkit_segment *)(void *)outs[at], 0, &options, &none));
        STATUS(SHMKIT_ERR_INVALID, noun->open_at((shmkit_segment *)(void *)outs[at], 0, NULL, &none));
    }
    STATUS(SHMKIT_ERR_INVALID, noun->create("a", odd, &none));
    STATUS(SHMKIT_ERR_INVALID, noun->stat(object, &info));
    STATUS(SHMKIT_ERR_WRONG_KIND, noun->create_at(object, 0, &options, &none));
    STATUS(SHMKIT_ERR_WRONG_KIND, noun->open_at(object, 0, NULL, &none));
    CHECK(fd == 77 && offset == 77 && none == NULL && info.struct_size == 4 && check_entries() == 0);
    CHECK(is_zero(odd, 0, 64));
    check_same(noun, object, object);
    STATUS(SHMKIT_OK, noun->close(object));
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void *close_in_a_thread(void *argument)
{
    const struct target *target = argument;
    STATUS(SHMKIT_OK, target->noun->close(target->object));
    return NULL;
}

static void test_closed_by_another_thread(const struct noun *noun)
{
    struct target target = {.noun = noun, .object = create(noun, NULL)};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, close_in_a_thread, &target) == 0 && pthread_join(thread, NULL) == 0);
    check_refused(noun, target.object, SHMKIT_ERR_CLOSED);
}

/* --- forks -------------------------------------------------------------------------------------------------------- */

static void test_forked_children(const struct noun *noun)
{
    shmkit_segment *segment = managed_segment(NULL, SEGMENT_BYTES);
    void *objects[] = {create(noun, NULL), create(noun, "named"), create_at(noun, segment, OFFSET)};
    STATUS(SHMKIT_OK, noun->unlink(objects[1]));
    for (size_t at = 0; at < sizeof objects / sizeof *objects; at++) {
        check_in_children(noun, objects[at], keep_inherited);
        STATUS(SHMKIT_OK, noun->close(objects[at]));
    }
    STATUS(SHMKIT_OK, shmkit_segment_close(segment));
}

static void tests(void)
{
    void (*const all[])(const struct noun *) = {
        test_sizes,
        test_options,
        test_struct_sizes,
        test_null_options,
        test_contradictions,
        test_named,
        test_names_that_cannot_be_opened,
        test_directories,
        test_trust,
        test_unnamed,
        test_descriptors_that_cannot_be_opened,
        test_placed,
        test_offsets_out_of_bounds,
        test_segments_that_cannot_hold_objects,
        test_offsets_with_other_bytes,
        test_exclusive_create_at,
        test_segment_of,
        test_kinds,
        test_bad_handles,
        test_bad_pointers,
        test_closed_by_another_thread,
        test_forked_children,
    };
    for (const struct noun *noun = nouns; noun < nouns + NOUNS; noun++) {
        check_subject = noun->name;
        for (size_t at = 0; at < sizeof all / sizeof *all; at++)
            all[at](noun);
    }
}

int main(void)
{
    return check_main(tests);
}
