/*
 * The frame of a C test: counts checks, watches over the time, removes what is left, prints "N passed, N failed" last.
 *
 * The checks run in a child process in a folder of their own, which SHMKIT_DIR names. So the parent can tidy up and
 * tell the figures even where the child crashes or hangs.
 */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <dirent.h>
#include <fcntl.h>
#include <shmkit.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* How long a program may take before it counts as hanging. */
enum { PATIENCE_SECONDS = 120 };

/* Shared by all processes of the test. */
static struct {
    int passed;
    int failed;
} *check_figures;

static char check_folder[64];

/* What the checks are about, in a program that repeats them for several things. */
static const char *check_subject = "check";

/* Counts one check, and says what has failed. */
static bool check_at(bool holds, const char *what, const char *file, int line)
{
    if (holds) {
        __atomic_fetch_add(&check_figures->passed, 1, __ATOMIC_RELAXED);
    } else {
        const char *text = NULL;
        __atomic_fetch_add(&check_figures->failed, 1, __ATOMIC_RELAXED);
        shmkit_last_error(NULL, NULL, &text);
        printf("%s:%d: %s failed: %s (last error: %s)\n", file, line, check_subject, what, text ? text : "");
        fflush(stdout);
    }
    return holds;
}

#define CHECK(condition) check_at((condition), #condition, __FILE__, __LINE__)

/* Checks what a call returns. */
static inline bool check_status(shmkit_status expected, shmkit_status found, const char *what, const char *file, int line)
{
    char text[512];
    snprintf(text, sizeof text, "%s: %d (%s), expected %d", what, found, shmkit_strerror(found), expected);
    return check_at(found == expected, text, file, line);
}

#define STATUS(expected, call) check_status((expected), (call), #call, __FILE__, __LINE__)

/* Says loudly what has not been looked at. */
static inline void check_skip(const char *why)
{
    printf("SKIPPED: %s\n", why);
    fflush(stdout);
}

/* The path of a file in the folder; good until the next call but three. */
static inline const char *check_path(const char *name)
{
    static char paths[4][320];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", check_folder, name);
    return path;
}

/* Makes a file with this many bytes of 7. */
static inline void check_file(const char *name, size_t size)
{
    FILE *file = fopen(check_path(name), "w");
    CHECK(file != NULL);
    for (size_t at = 0; file && at < size; at++)
        putc(7, file);
    if (file)
        fclose(file);
}

/* Makes a segment that can hold objects. */
static inline shmkit_segment *managed_segment(const char *name, uint64_t size)
{
    shmkit_segment *segment = NULL;
    shmkit_segment_options options = {.struct_size = sizeof options, .flags = SHMKIT_SEGMENT_MANAGED};
    STATUS(SHMKIT_OK, shmkit_segment_create(name, size, &options, &segment));
    return segment;
}

/* How many files there are in the folder, unfinished ones too. */
static int check_entries(void)
{
    int count = 0;
    DIR *folder = opendir(check_folder);
    for (struct dirent *entry; folder && (entry = readdir(folder)) != NULL;)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    if (folder)
        closedir(folder);
    return count;
}

/* Removes all that is in the folder. */
static inline void check_empty(void)
{
    DIR *folder = opendir(check_folder);
    for (struct dirent *entry; folder && (entry = readdir(folder)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            remove(check_path(entry->d_name));
    if (folder)
        closedir(folder);
}

/* A pointer that is aligned for bytes alone. */
static inline void *check_misaligned(void)
{
    static _Alignas(64) char block[128];
    return block + 1;
}

/* Runs `body` in a child process and returns how it has ended, as waitpid(2) tells. */
static inline int check_fork(void (*body)(void *), void *argument)
{
    int status = -1;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        body(argument);
        fflush(stdout);
        _exit(0);
    }
    return CHECK(child > 0) && waitpid(child, &status, 0) == child ? status : -1;
}

/* Runs the tests; what main returns. */
static int check_main(void (*tests)(void))
{
    int status = 0;
    check_figures = mmap(NULL, sizeof *check_figures, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    strcpy(check_folder, "/dev/shm/shmkit-test-c-XXXXXX");
    if (check_figures == MAP_FAILED || mkdtemp(check_folder) == NULL || setenv("SHMKIT_DIR", check_folder, 1) != 0) {
        perror("cannot begin");
        return 1;
    }
    pid_t child = fork();
    if (child == 0) {
        FILE *victim = fopen("/proc/self/oom_score_adj", "w");
        if (victim) {
            /* A test that takes too much memory is its own victim. */
            fputs("1000", victim);
            fclose(victim);
        }
        alarm(PATIENCE_SECONDS);
        tests();
        CHECK(check_entries() == 0);
        fflush(stdout);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        printf("the tests have ended with wait status %#x%s\n", (unsigned)status,
               WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? ": they hang" : "");
        check_figures->failed++;
    }
    check_empty();
    rmdir(check_folder);
    printf("%d passed, %d failed\n", check_figures->passed, check_figures->failed);
    return check_figures->failed != 0;
}

#endif
