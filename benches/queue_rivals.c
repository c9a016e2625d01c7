/* Other queues between processes: Boost.Interprocess, POSIX message queues, pipes. */

#include "queue.h"

#include <fcntl.h>
#include <mqueue.h>
#include <sys/resource.h>
#include <unistd.h>

/* boost.cpp */
void *boost_queue_make(const char *name, size_t count, size_t size);
void boost_queue_unmake(void *queue);
int boost_queue_put(void *queue, const void *data, size_t size);
int boost_queue_get(void *queue, void *buffer, size_t capacity, size_t *size);

/* --- Boost.Interprocess ------------------------------------------------------------------------------------------ */

static void *make_boost(size_t size, size_t room, const char **why)
{
	void *made = boost_queue_make(own_name(), room / size, size);

	if (!made)
		*why = "not installed: libboost-dev";
	return made;
}

static int put_boost(void *it, const void *data, size_t size)
{
	return boost_queue_put(it, data, size);
}

static int get_boost(void *it, void *buffer, size_t size)
{
	size_t got = 0;

	return boost_queue_get(it, buffer, size, &got) || got != size;
}

static const struct rival BOOST = {
	.name = "Boost", .make = make_boost, .unmake = boost_queue_unmake, .put = put_boost, .get = get_boost};

/* --- POSIX message queues ---------------------------------------------------------------------------------------- */

struct posix {
	mqd_t queue;
};

/* With the capacity of the other rivals, or with 10 messages, the limit of an unprivileged process. */
static void *make_mq(size_t size, size_t room, const char **why)
{
	struct rlimit max = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
	struct mq_attr how = {.mq_maxmsg = (long)(room / size), .mq_msgsize = (long)size};
	struct posix *made = malloc(sizeof(*made));
	char name[80];

	snprintf(name, sizeof(name), "/%s", own_name());
	if (!made)
		return NULL;
	setrlimit(RLIMIT_MSGQUEUE, &max);
	made->queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &how);
	if (made->queue < 0) {
		how.mq_maxmsg = 10;
		made->queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &how);
	}
	if (made->queue >= 0) {
		mq_unlink(name);
		return made;
	}
	*why = strerror(errno);
	free(made);
	return NULL;
}

static void unmake_mq(void *it)
{
	struct posix *made = it;

	mq_close(made->queue);
	free(made);
}

static int put_mq(void *it, const void *data, size_t size)
{
	return mq_send(((struct posix *)it)->queue, data, size, 0);
}

static int get_mq(void *it, void *buffer, size_t size)
{
	return mq_receive(((struct posix *)it)->queue, buffer, size, NULL) != (ssize_t)size;
}

static const struct rival MQ = {
	.name = "POSIX mq", .make = make_mq, .unmake = unmake_mq, .put = put_mq, .get = get_mq};

/* --- pipes ------------------------------------------------------------------------------------------------------- */

struct pipe {
	int ends[2];
};

/* Messages of one size need no frame, the best case of a pipe. Writes of up to PIPE_BUF bytes are atomic. */
static void *make_pipe(size_t size, size_t room, const char **why)
{
	struct pipe *made = malloc(sizeof(*made));

	if (!made)
		return NULL;
	if (pipe(made->ends) == 0) {
		/* A large message determines the size, which is then the limit of an unprivileged process. */
		if (fcntl(made->ends[1], F_SETPIPE_SZ, size > room / 8 ? size : room) >= 0)
			return made;
		close(made->ends[0]);
		close(made->ends[1]);
	}
	*why = strerror(errno);
	free(made);
	return NULL;
}

static void unmake_pipe(void *it)
{
	struct pipe *made = it;

	close(made->ends[0]);
	close(made->ends[1]);
	free(made);
}

static int put_pipe(void *it, const void *data, size_t size)
{
	const char *from = data;

	while (size) {
		ssize_t put = write(((struct pipe *)it)->ends[1], from, size);

		if (put < 0)
			return -1;
		from += put;
		size -= (size_t)put;
	}
	return 0;
}

static int get_pipe(void *it, void *buffer, size_t size)
{
	char *to = buffer;

	while (size) {
		ssize_t got = read(((struct pipe *)it)->ends[0], to, size);

		if (got <= 0)
			return -1;
		to += got;
		size -= (size_t)got;
	}
	return 0;
}

static int put_many_pipe(void *it, const char *data, size_t size, int count)
{
	return put_pipe(it, data, (size_t)count * size);
}

static int get_many_pipe(void *it, char *buffer, size_t size, int max)
{
	ssize_t got = read(((struct pipe *)it)->ends[0], buffer, (size_t)max * size);

	return got > 0 && (size_t)got % size == 0 ? (int)((size_t)got / size) : -1;
}

static const struct rival PIPE = {.name = "pipe",
				  .make = make_pipe,
				  .unmake = unmake_pipe,
				  .put = put_pipe,
				  .get = get_pipe,
				  .put_many = put_many_pipe,
				  .get_many = get_many_pipe};

/* ----------------------------------------------------------------------------------------------------------------- */

WORK(BOOST, BOOST)
WORK(MQ, MQ)
WORK(PIPE, PIPE)
