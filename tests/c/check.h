/*
 * The frame of a C test. It counts checks, ends a test that hangs, removes leftover files, and prints
 * "N passed, N failed" as its last line.
 *
 * The checks run in a child process, in a folder of their own that SHMKIT_DIR names. So the parent can clean up and
 * print the counts even if the child crashes or hangs.
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

/* Seconds after which a test program counts as hanging. */
enum { DEADLINE_SECONDS = 120 };

/* The counts, in memory that all processes of the test share. */
static struct {
    int passed;
    int failed;
} *check_counts;

static char check_folder[64];

/* The noun under test, for the messages of a program that repeats its checks for several nouns. */
static const char *check_subject = "check";

/* Counts a check, and prints a failed one with the last error. */
static bool check_at(bool holds, const char *what, const char *file, int line)
{
    if (holds) {
        __atomic_fetch_add(&check_counts->passed, 1, __ATOMIC_RELAXED);
    } else {
        const char *text = NULL;
        __atomic_fetch_add(&check_counts->failed, 1, __ATOMIC_RELAXED);
        shmkit_last_error(NULL, NULL, &text);
        printf("%s:%d: %s failed: %s (last error: %s)\n", file, line, check_subject, what, text ? text : "");
        fflush(stdout);
    }
    return holds;
}

#define CHECK(condition) check_at((condition), #condition, __FILE__, __LINE__)

/* Checks the status that a call returned. */
static inline bool check_status(shmkit_status expected, shmkit_status found, const char *what, const char *file,
                                int line)
{
    char text[512];
    snprintf(text, sizeof text, "%s: %d (%s), expected %d", what, found, shmkit_strerror(found), expected);
    return check_at(found == expected, text, file, line);
}

#define STATUS(expected, call) check_status((expected), (call), #call, __FILE__, __LINE__)

/* Reports that checks are skipped, and the reason. */
static inline void check_skip(const char *why)
{
    printf("SKIPPED: %s\n", why);
    fflush(stdout);
}

/* Returns the path of a file in the folder. The path is valid until the fourth call after this one. */
static inline const char *check_path(const char *name)
{
    static char paths[4][320];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", check_folder, name);
    return path;
}

/* Creates a file of `size` bytes, each 7. */
static inline void check_file(const char *name, size_t size)
{
    FILE *file = fopen(check_path(name), "w");
    CHECK(file != NULL);
    for (size_t at = 0; file && at < size; at++)
        putc(7, file);
    if (file)
        fclose(file);
}

/* Creates a managed segment, in which objects can be placed. */
static inline shmkit_segment *managed_segment(const char *name, uint64_t size)
{
    shmkit_segment *segment = NULL;
    shmkit_segment_options options = {.struct_size = sizeof options, .flags = SHMKIT_SEGMENT_MANAGED};
    STATUS(SHMKIT_OK, shmkit_segment_create(name, size, &options, &segment));
    return segment;
}

/* Returns the number of entries in the folder, including temporary files. */
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

/* Removes all entries of the folder. */
static inline void check_clear_folder(void)
{
    DIR *folder = opendir(check_folder);
    for (struct dirent *entry; folder && (entry = readdir(folder)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            remove(check_path(entry->d_name));
    if (folder)
        closedir(folder);
}

/* Returns a pointer to valid memory that is misaligned for every type but char. */
static inline void *check_misaligned(void)
{
    static _Alignas(64) char block[128];
    return block + 1;
}

/* Runs `body` in a child process and returns its wait status (waitpid(2)), or -1 on failure. */
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

/* Runs the tests and returns the exit code of main. */
static int check_main(void (*tests)(void))
{
    int status = 0;
    check_counts = mmap(NULL, sizeof *check_counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    strcpy(check_folder, "/dev/shm/shmkit-test-c-XXXXXX");
    if (check_counts == MAP_FAILED || mkdtemp(check_folder) == NULL || setenv("SHMKIT_DIR", check_folder, 1) != 0) {
        perror("cannot set up the test");
        return 1;
    }
    pid_t child = fork();
    if (child == 0) {
        FILE *score = fopen("/proc/self/oom_score_adj", "w");
        if (score) {
            /* If memory runs out, the kernel kills the test first. */
            fputs("1000", score);
            fclose(score);
        }
        alarm(DEADLINE_SECONDS);
        tests();
        CHECK(check_entries() == 0);
        fflush(stdout);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        printf("the tests ended with wait status %#x%s\n", (unsigned)status,
               WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? ": they hung" : "");
        check_counts->failed++;
    }
    check_clear_folder();
    rmdir(check_folder);
    printf("%d passed, %d failed\n", check_counts->passed, check_counts->failed);
    return check_counts->failed != 0;
}

#endif
