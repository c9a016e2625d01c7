/*
 * Compares segments from C with bare system calls.
 *
 *   segment PAIRS [BENCH...]      prints the samples of each bench as lines of JSON (pairs.h)
 *   segment --once CONTENDER      runs one round of create or attach between two marks, to count system calls
 *
 * "bare" makes the same system calls as the library, in the same order. "minimal" makes the fewest calls that work; it
 * promises less. It reserves no memory, publishes the name before the segment is complete, does not check what it
 * opened, and unlinks any file of that name.
 */

#include "pairs.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define DIRECTORY "/dev/shm"

enum { SMALL = 4096, PATH = 128 };

/* The byte that a process locks to unlink (src/sys/lockfile.rs). */
static const off_t UNLINK_BYTE = ((off_t)1 << 61) + 1;

static const uint64_t GIB = (uint64_t)1 << 30;
/* 64 MiB of float64. */
static const size_t DOUBLES = (size_t)8 << 20;

/* The name that this run uses: plain, with a slash, and with its directory. */
static char name[PATH], slashed[PATH], path[PATH];
/* Bytes that are read are stored here, so that the compiler keeps the reads. */
static volatile unsigned char seen;

/* --- create and unlink 4 KiB ------------------------------------------------------------------------------------ */

static int create_ours(void)
{
	shmkit_segment *segment;

	if (shmkit_segment_create(name, SMALL, NULL, &segment))
		return refused("create");
	if (shmkit_segment_unlink(segment))
		return refused("unlink");
	if (shmkit_segment_close(segment))
		return refused("close");
	return 0;
}

static int lock_byte(int fd, int command, short kind)
{
	struct flock lock = {.l_type = kind, .l_whence = SEEK_SET, .l_start = UNLINK_BYTE, .l_len = 1};

	return fcntl(fd, command, &lock);
}

static int create_bare(void)
{
	char link[64];
	struct rlimit limit;
	struct stat mine, named;
	void *data;
	int fd, again;

	fd = open(DIRECTORY, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return bad("open");
	if (fchmod(fd, 0600))
		return bad("fchmod");
	getrlimit(RLIMIT_FSIZE, &limit);
	if (fallocate(fd, 0, 0, SMALL))
		return bad("fallocate");
	data = mmap(NULL, SMALL, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED)
		return bad("mmap");
	if (linkat(fd, "", AT_FDCWD, path, AT_EMPTY_PATH))
		return bad("linkat");
	if (fstat(fd, &mine))
		return bad("fstat");

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	again = open(link, O_RDWR | O_CLOEXEC);
	if (again < 0)
		return bad("open again");
	if (lock_byte(again, F_OFD_SETLKW, F_WRLCK))
		return bad("lock");
	if (lstat(path, &named) || named.st_ino != mine.st_ino || unlink(path))
		return bad("unlink");
	lock_byte(again, F_OFD_SETLK, F_UNLCK);
	close(again);

	munmap(data, SMALL);
	if (fstat(fd, &named) || named.st_ino != mine.st_ino)
		return bad("fstat again");
	close(fd);
	return 0;
}

static int create_minimal(void)
{
	void *data;
	int fd = shm_open(slashed, O_CREAT | O_EXCL | O_RDWR, 0600);

	if (fd < 0)
		return bad("shm_open");
	if (ftruncate(fd, SMALL))
		return bad("ftruncate");
	data = mmap(NULL, SMALL, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED)
		return bad("mmap");
	munmap(data, SMALL);
	close(fd);
	return shm_unlink(slashed) ? bad("shm_unlink") : 0;
}

/* --- attach, read a byte, detach -------------------------------------------------------------------------------- */

static int attach_ours(void)
{
	shmkit_segment *segment;
	void *data;

	if (shmkit_segment_open(name, 0, NULL, &segment))
		return refused("open");
	if (shmkit_segment_data(segment, &data))
		return refused("data");
	seen = *(volatile unsigned char *)data;
	if (shmkit_segment_close(segment))
		return refused("close");
	return 0;
}

static int attach_bare(void)
{
	struct stat facts, again;
	unsigned char *data;
	char head[128];
	int fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return bad("open");
	if (fstat(fd, &facts) || facts.st_nlink == 0 || facts.st_uid != geteuid())
		return bad("fstat");
	if (pread(fd, head, sizeof(head), 0) < 0)
		return bad("pread");
	data = mmap(NULL, (size_t)facts.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED)
		return bad("mmap");
	seen = *(volatile unsigned char *)data;
	munmap(data, (size_t)facts.st_size);
	if (fstat(fd, &again) || again.st_ino != facts.st_ino)
		return bad("fstat again");
	close(fd);
	return 0;
}

static int attach_minimal(void)
{
	struct stat facts;
	unsigned char *data;
	int fd = shm_open(slashed, O_RDWR, 0);

	if (fd < 0 || fstat(fd, &facts))
		return bad("shm_open");
	data = mmap(NULL, (size_t)facts.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED)
		return bad("mmap");
	close(fd);
	seen = *(volatile unsigned char *)data;
	munmap(data, (size_t)facts.st_size);
	return 0;
}

static int64_t repeat(int (*once)(void), long rounds)
{
	int64_t begin = now();

	for (long i = 0; i < rounds; i++)
		if (once())
			return -1;
	return now() - begin;
}

TURN_BY(turn_create_ours, repeat(create_ours, rounds))
TURN_BY(turn_create_bare, repeat(create_bare, rounds))
TURN_BY(turn_create_minimal, repeat(create_minimal, rounds))
TURN_BY(turn_attach_ours, repeat(attach_ours, rounds))
TURN_BY(turn_attach_bare, repeat(attach_bare, rounds))
TURN_BY(turn_attach_minimal, repeat(attach_minimal, rounds))

static int bench_create(int pairs)
{
	static const struct contender them[] = {
		{"shmkit", turn_create_ours}, {"bare", turn_create_bare}, {"minimal", turn_create_minimal}};

	return measure("create", them, 3, pairs, 0);
}

static int bench_attach(int pairs)
{
	static const struct contender them[] = {
		{"shmkit", turn_attach_ours}, {"bare", turn_attach_bare}, {"minimal", turn_attach_minimal}};
	shmkit_segment *segment;
	int result;

	if (shmkit_segment_create(name, SMALL, NULL, &segment))
		return refused("create");
	result = measure("attach", them, 3, pairs, 0);
	shmkit_segment_unlink(segment);
	shmkit_segment_close(segment);
	return result;
}

/* --- populate 1 GiB --------------------------------------------------------------------------------------------- */

static uint64_t page_size;
static unsigned char *warm;
static uint64_t huge_bytes;

static void touch(unsigned char *data, uint64_t size)
{
	for (uint64_t at = 0; at < size; at += page_size)
		((volatile unsigned char *)data)[at] = 1;
}

/* Times an unnamed segment until all its pages are mapped; its removal is not timed. */
static int64_t populate(uint32_t flags, int touched)
{
	shmkit_segment_options options = {.struct_size = sizeof(options), .flags = flags};
	shmkit_segment *segment;
	void *data;
	int64_t took, begin = now();

	if (shmkit_segment_create(NULL, GIB, &options, &segment))
		return refused("create");
	shmkit_segment_data(segment, &data);
	if (touched)
		touch(data, GIB);
	took = now() - begin;
	if (flags & SHMKIT_SEGMENT_HUGE)
		shmkit_segment_huge(segment, &huge_bytes);
	shmkit_segment_close(segment);
	return took;
}

TURN_BY(turn_huge_prefault, populate(SHMKIT_SEGMENT_HUGE | SHMKIT_SEGMENT_PREFAULT, 0))
TURN_BY(turn_huge_touch, populate(SHMKIT_SEGMENT_HUGE, 1))
TURN_BY(turn_prefault, populate(SHMKIT_SEGMENT_PREFAULT, 0))
TURN_BY(turn_plain_touch, populate(0, 1))

static int64_t turn_minimal_touch(long rounds)
{
	unsigned char *data;
	int64_t took, begin = now();
	int fd = memfd_create("shmkit-bench", MFD_CLOEXEC);

	(void)rounds;
	if (fd < 0 || ftruncate(fd, (off_t)GIB))
		return bad("memfd_create");
	data = mmap(NULL, GIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED)
		return bad("mmap");
	touch(data, GIB);
	took = now() - begin;
	munmap(data, GIB);
	close(fd);
	return took;
}

static int64_t turn_memset(long rounds)
{
	int64_t begin = now();

	memset(warm, (int)rounds, GIB);
	seen = warm[GIB / 2];
	return now() - begin;
}

/* Times private memory of the same size. */
static int64_t populate_private(int huge)
{
	int64_t took, begin = now();
	unsigned char *data = mmap(NULL, GIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (data == MAP_FAILED)
		return bad("mmap");
	madvise(data, GIB, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	touch(data, GIB);
	took = now() - begin;
	munmap(data, GIB);
	return took;
}

TURN_BY(turn_private_huge, populate_private(1))
TURN_BY(turn_private_small, populate_private(0))

static int bench_populate(int pairs)
{
	/* Few contenders at a time: memory that was freed long ago may have returned to the host of a virtual machine. */
	static const struct contender them[] = {{"huge+prefault", turn_huge_prefault},
						{"new private, huge", turn_private_huge},
						{"memset", turn_memset}};
	static const struct contender others[] = {
		{"huge, touched", turn_huge_touch},	    {"prefault", turn_prefault},
		{"plain, touched", turn_plain_touch},	    {"minimal, touched", turn_minimal_touch},
		{"new private, small", turn_private_small}, {"memset", turn_memset}};
	shmkit_limits_info limits = {.struct_size = sizeof(limits)};
	int result;

	if (shmkit_limits(NULL, &limits) || limits.largest_anonymous < 3 * GIB) {
		skip("populate", "it needs 3 GiB of free memory");
		return 0;
	}
	/* Give the peer huge pages if possible: they make memset faster. */
	warm = mmap(NULL, GIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (warm == MAP_FAILED)
		return bad("mmap");
	madvise(warm, GIB, MADV_HUGEPAGE);
	memset(warm, 1, GIB);
	result = measure("populate", them, 3, pairs, 1);
	if (!result)
		result = measure("populate, others", others, 6, pairs, 1);
	munmap(warm, GIB);
	printf("{\"bench\": \"populate\", \"huge_bytes\": %" PRIu64 "}\n", huge_bytes);
	return result;
}

/* --- hand 64 MiB of float64 to another process, which sums them --------------------------------------------------- */

struct request {
	char name[PATH];
	uint32_t flags;
};

static int to_receiver[2], to_sender[2];
static double *source, *kept, *kept_copy;
static shmkit_segment *kept_segment;
static uint32_t kept_flags;
static double wanted;

static double sum(const double *values, size_t count)
{
	double part[8] = {0};

	for (size_t i = 0; i < count; i += 8)
		for (size_t j = 0; j < 8; j++)
			part[j] += values[i + j];
	return part[0] + part[1] + part[2] + part[3] + part[4] + part[5] + part[6] + part[7];
}

static int send_all(int fd, const void *from, size_t size)
{
	return write(fd, from, size) == (ssize_t)size ? 0 : -1;
}

static int receive_all(int fd, void *to, size_t size)
{
	return read(fd, to, size) == (ssize_t)size ? 0 : -1;
}

/* Attaches each named segment, sends its sum, detaches and reports that; ends when the pipe closes. */
static void receiver(void)
{
	struct request request;

	while (!receive_all(to_receiver[0], &request, sizeof(request))) {
		shmkit_segment_options options = {.struct_size = sizeof(options), .flags = request.flags};
		shmkit_segment *segment;
		double answer = -1;
		void *data;

		if (shmkit_segment_open(request.name, 0, &options, &segment)) {
			refused("receiver: open");
			break;
		}
		shmkit_segment_data(segment, &data);
		answer = sum(data, DOUBLES);
		if (send_all(to_sender[1], &answer, sizeof(answer)))
			break;
		shmkit_segment_close(segment);
		if (send_all(to_sender[1], "", 1))
			break;
	}
	_exit(0);
}

/* Asks the receiver and waits for its sum. */
static int ask(uint32_t flags)
{
	struct request request = {.flags = flags};
	double answer;

	memcpy(request.name, name, sizeof(request.name));
	if (send_all(to_receiver[1], &request, sizeof(request)) ||
	    receive_all(to_sender[0], &answer, sizeof(answer)))
		return bad("the receiver ended");
	if (answer != wanted) {
		complain("the receiver", "computed another sum");
		return -1;
	}
	return 0;
}

/* Waits until the receiver has detached; this is not timed. */
static int wait_for_detach(void)
{
	char byte;

	return receive_all(to_sender[0], &byte, 1) ? bad("the receiver ended") : 0;
}

static int64_t fresh(uint32_t flags)
{
	shmkit_segment_options options = {.struct_size = sizeof(options), .flags = flags};
	shmkit_segment *segment;
	void *data;
	int64_t took = -1, begin = now();

	if (shmkit_segment_create(name, DOUBLES * sizeof(double), &options, &segment))
		return refused("create");
	shmkit_segment_data(segment, &data);
	memcpy(data, source, DOUBLES * sizeof(double));
	if (!ask(flags)) {
		took = now() - begin;
		if (wait_for_detach())
			took = -1;
	}
	shmkit_segment_unlink(segment);
	shmkit_segment_close(segment);
	return took;
}

TURN_BY(turn_fresh_plain, fresh(0))
TURN_BY(turn_fresh_prefault, fresh(SHMKIT_SEGMENT_PREFAULT))
TURN_BY(turn_fresh_huge, fresh(SHMKIT_SEGMENT_HUGE))
TURN_BY(turn_fresh_huge_prefault, fresh(SHMKIT_SEGMENT_HUGE | SHMKIT_SEGMENT_PREFAULT))

/* Copies to new memory, as malloc maps it for this size, and sums; with `huge`, in huge pages. */
static int64_t copy_and_sum(int huge)
{
	int64_t took, begin = now();
	double *copy = mmap(NULL, DOUBLES * sizeof(double), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (copy == MAP_FAILED)
		return bad("mmap");
	if (huge)
		madvise(copy, DOUBLES * sizeof(double), MADV_HUGEPAGE);
	memcpy(copy, source, DOUBLES * sizeof(double));
	if (sum(copy, DOUBLES) != wanted)
		return bad("sum");
	took = now() - begin;
	munmap(copy, DOUBLES * sizeof(double));
	return took;
}

TURN_BY(turn_fresh_copy, copy_and_sum(0))
TURN_BY(turn_huge_copy, copy_and_sum(1))

static int64_t turn_warm_copy(long rounds)
{
	int64_t begin = now();

	(void)rounds;
	memcpy(kept_copy, source, DOUBLES * sizeof(double));
	if (sum(kept_copy, DOUBLES) != wanted)
		return bad("sum");
	return now() - begin;
}

static int64_t turn_kept(long rounds)
{
	int64_t took, begin = now();

	(void)rounds;
	memcpy(kept, source, DOUBLES * sizeof(double));
	if (ask(kept_flags))
		return -1;
	took = now() - begin;
	return wait_for_detach() ? -1 : took;
}

static int start_receiver(pid_t *child)
{
	if (pipe2(to_receiver, O_CLOEXEC) || pipe2(to_sender, O_CLOEXEC))
		return bad("pipe");
	*child = fork();
	if (*child < 0)
		return bad("fork");
	if (*child == 0) {
		close(to_receiver[1]);
		close(to_sender[0]);
		receiver();
	}
	close(to_receiver[0]);
	close(to_sender[1]);
	return 0;
}

static void end_receiver(pid_t child)
{
	close(to_receiver[1]);
	close(to_sender[0]);
	waitpid(child, NULL, 0);
}

static int handover_fresh(int pairs)
{
	static const struct contender them[] = {{"plain", turn_fresh_plain},
						{"prefault", turn_fresh_prefault},
						{"huge", turn_fresh_huge},
						{"huge+prefault", turn_fresh_huge_prefault},
						{"copy", turn_fresh_copy},
						{"huge copy", turn_huge_copy}};

	return measure("handover", them, 6, pairs, 1);
}

/* Reuses one segment: both mappings of the sender are warm; the receiver attaches each time. */
static int handover_kept(const char *bench, uint32_t flags, int pairs)
{
	static const struct contender them[] = {{"kept", turn_kept}, {"warm copy", turn_warm_copy}};
	shmkit_segment_options options = {.struct_size = sizeof(options), .flags = flags};
	void *data;
	int result;

	if (shmkit_segment_create(name, DOUBLES * sizeof(double), &options, &kept_segment))
		return refused("create");
	shmkit_segment_data(kept_segment, &data);
	kept = data;
	kept_flags = flags;
	result = measure(bench, them, 2, pairs, 1);
	shmkit_segment_unlink(kept_segment);
	shmkit_segment_close(kept_segment);
	return result;
}

static int bench_handover(int pairs)
{
	shmkit_limits_info limits = {.struct_size = sizeof(limits)};
	const size_t size = DOUBLES * sizeof(double);
	pid_t child;
	int result;

	if (shmkit_limits(NULL, &limits) || limits.largest_named < 2 * size || limits.largest_anonymous < 6 * size) {
		skip("handover", "it needs 128 MiB free in " DIRECTORY " and 384 MiB of memory");
		return 0;
	}
	/* Fork while there are few pages to copy. */
	if (start_receiver(&child))
		return -1;
	source = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (source == MAP_FAILED)
		return bad("mmap");
	madvise(source, 2 * size, MADV_HUGEPAGE);
	kept_copy = source + DOUBLES;
	for (size_t i = 0; i < DOUBLES; i++)
		source[i] = (double)(i % 1000);
	memcpy(kept_copy, source, size);
	wanted = sum(source, DOUBLES);
	result = handover_fresh(pairs);
	if (!result)
		result = handover_kept("handover, kept", 0, pairs);
	if (!result)
		result = handover_kept("handover, kept, huge", SHMKIT_SEGMENT_HUGE | SHMKIT_SEGMENT_PREFAULT, pairs);
	munmap(source, 2 * size);
	end_receiver(child);
	return result;
}

/* ---------------------------------------------------------------------------------------------------------------- */

static const struct bench BENCHES[] = {
	{"create", bench_create, 1},
	{"attach", bench_attach, 1},
	{"populate", bench_populate, 1},
	{"handover", bench_handover, 1}};

static const struct {
	const char *name;
	int (*run)(void);
} ONCE[] = {{"create shmkit", create_ours}, {"create bare", create_bare}, {"create minimal", create_minimal},
	    {"attach shmkit", attach_ours}, {"attach bare", attach_bare}, {"attach minimal", attach_minimal}};

/* Runs one contender once between two calls of getppid, which no contender makes. */
static int once(const char *which)
{
	shmkit_segment *segment = NULL;
	int attach = strncmp(which, "attach", 6) == 0, result = -1;

	/* Complete the initialization of the first call. */
	if (create_ours())
		return -1;
	if (attach && shmkit_segment_create(name, SMALL, NULL, &segment))
		return refused("create");
	for (size_t i = 0; i < sizeof(ONCE) / sizeof(*ONCE); i++) {
		if (strcmp(ONCE[i].name, which) == 0) {
			getppid();
			result = ONCE[i].run();
			getppid();
		}
	}
	if (attach) {
		shmkit_segment_unlink(segment);
		shmkit_segment_close(segment);
	}
	return result;
}

static int prepare(void)
{
	page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	snprintf(name, sizeof(name), "shmkit-bench-%d", (int)getpid());
	snprintf(slashed, sizeof(slashed), "/shmkit-bench-%d", (int)getpid());
	snprintf(path, sizeof(path), DIRECTORY "/shmkit-bench-%d", (int)getpid());
	return 0;
}

int main(int argc, char **argv)
{
	int status;

	if (argc == 3 && strcmp(argv[1], "--once") == 0) {
		unsetenv("SHMKIT_DIR");
		return prepare() || once(argv[2]) ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	status = bench_main(argc, argv, BENCHES, sizeof(BENCHES) / sizeof(*BENCHES), prepare);
	/* A failed turn may have left the name. */
	if (status)
		unlink(path);
	return status;
}
