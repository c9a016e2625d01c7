/* The queue of shmkit: with the capacity of its peers, unbounded, and with leases. */

#include "queue.h"

#include <shmkit.h>
#include <sys/stat.h>

static void *make(uint64_t max_bytes_wanted, const char **why)
{
	shmkit_queue_options options = {.struct_size = sizeof(options), .max_bytes = max_bytes_wanted};
	shmkit_queue *made = NULL;

	if (shmkit_queue_create(NULL, &options, &made))
		shmkit_last_error(NULL, NULL, why);
	return made;
}

static void *make_bounded(size_t size, size_t room, const char **why)
{
	(void)size;
	return make(room, why);
}

static void *make_unbounded(size_t size, size_t room, const char **why)
{
	(void)size, (void)room;
	return make(0, why);
}

static void unmake(void *it)
{
	shmkit_queue_close(it);
}

static int put(void *it, const void *data, size_t size)
{
	return shmkit_queue_put(it, data, size, SHMKIT_FOREVER, 0);
}

static int get(void *it, void *buffer, size_t size)
{
	uint64_t got = 0;

	return shmkit_queue_get(it, buffer, size, SHMKIT_FOREVER, 0, &got) || got != size;
}

static int put_many(void *it, const char *data, size_t size, int count)
{
	shmkit_queue_message messages[BATCH];
	uint64_t put = 0;

	for (int i = 0; i < count; i++)
		messages[i] = (shmkit_queue_message){data + (size_t)i * size, size};
	for (uint64_t done = 0; done < (uint64_t)count; done += put)
		if (shmkit_queue_put_many(it, messages + done, (uint64_t)count - done, SHMKIT_FOREVER, 0, &put))
			return -1;
	return 0;
}

static int get_many(void *it, char *buffer, size_t size, int max)
{
	uint64_t sizes[BATCH], got = 0;

	if (shmkit_queue_get_many(it, buffer, (uint64_t)max * size, sizes, (uint64_t)max, SHMKIT_FOREVER, 0, &got))
		return -1;
	for (uint64_t i = 0; i < got; i++)
		if (sizes[i] != size)
			return -1;
	return (int)got;
}

static int add_up_copy(void *it, void *buffer, size_t size, uint64_t *sum)
{
	int failed = get(it, buffer, size);

	*sum += sum_of(buffer, size);
	return failed;
}

static int add_up_leased(void *it, void *buffer, size_t size, uint64_t *sum)
{
	const void *data;
	uint64_t got = 0, token;

	(void)buffer;
	if (shmkit_queue_lease(it, SHMKIT_FOREVER, 0, &data, &got, &token, NULL) || got != size)
		return -1;
	*sum += sum_of(data, size);
	return shmkit_queue_ack(it, token);
}

int64_t memory_of_ours(void *it)
{
	struct stat file;
	uint64_t offset;
	int32_t fd;

	if (shmkit_queue_fd(it, &fd, &offset) || fstat(fd, &file))
		return -1;
	return (int64_t)file.st_blocks * 512;
}

static const struct rival OURS = {.name = "shmkit",
				  .make = make_bounded,
				  .unmake = unmake,
				  .put = put,
				  .get = get,
				  .put_many = put_many,
				  .get_many = get_many,
				  .add_up = add_up_copy};
static const struct rival OURS_UNBOUNDED = {
	.name = "shmkit", .make = make_unbounded, .unmake = unmake, .put = put, .get = get};
static const struct rival OURS_LEASED = {.name = "shmkit, lease",
					 .make = make_bounded,
					 .unmake = unmake,
					 .put = put,
					 .get = get,
					 .add_up = add_up_leased};
static const struct rival OURS_OF_FOUR = {
	.name = "shmkit, two to two", .helpers = 4, .make = make_bounded, .unmake = unmake, .put = put, .get = get};

WORK(OURS, OURS)
WORK(OURS_UNBOUNDED, OURS_UNBOUNDED)
WORK(OURS_LEASED, OURS_LEASED)
WORK(OURS_OF_FOUR, OURS_OF_FOUR)
