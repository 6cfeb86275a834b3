/* A clock that a test sets wrong (see preload.py).
 *
 * The file that WRONG_CLOCK names holds how many seconds the time of day is ahead, less than zero if it is behind. Without that file
 * the time is right. Clocks that only measure how long something takes are left alone, as they are by whoever sets a machine's clock. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long ahead(void) {
    int errno_before = errno;
    char text[32];
    const char *name = getenv("WRONG_CLOCK");
    int fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t length = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[length < 0 ? 0 : length] = '\0';
    errno = errno_before;
    return strtol(text, NULL, 10);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int done = (int)syscall(SYS_clock_gettime, clock, now);
    if (!done && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += ahead();
    return done;
}
