/* A disk that fails when a test says so (see preload.py).
 *
 * The file that BAD_DISK names holds the rules of the moment, one a line: `write PART` or `sync PART`. Such a call fails with EIO
 * where PART lies in the path of the file it is for. Without that file, or with an empty one, all calls go through. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static ssize_t rules_now(char *rules, size_t room) {
    const char *name = getenv("BAD_DISK");
    int fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return 0;
    ssize_t length = read(fd, rules, room - 1);
    close(fd);
    rules[length < 0 ? 0 : length] = '\0';
    return length;
}

static int fails(int fd, const char *call) {
    char rules[1024], link[64], path[PATH_MAX], *rest;
    int errno_before = errno;
    int found = 0;
    if (rules_now(rules, sizeof rules) > 0) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        path[length < 0 ? 0 : length] = '\0';
        for (char *rule = strtok_r(rules, "\n", &rest); rule; rule = strtok_r(NULL, "\n", &rest)) {
            char *part = strchr(rule, ' ');
            size_t named = part ? (size_t)(part - rule) : 0;
            if (part && strlen(call) == named && !strncmp(rule, call, named) && strstr(path, part + 1))
                found = 1;
        }
    }
    errno = found ? EIO : errno_before;
    return found;
}

ssize_t write(int fd, const void *data, size_t size) {
    return fails(fd, "write") ? -1 : syscall(SYS_write, fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return fails(fd, "write") ? -1 : syscall(SYS_writev, fd, parts, count);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    return fails(fd, "write") ? -1 : syscall(SYS_pwrite64, fd, data, size, at);
}

int ftruncate64(int fd, off64_t size) {
    return fails(fd, "write") ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

int fsync(int fd) {
    return fails(fd, "sync") ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    return fails(fd, "sync") ? -1 : (int)syscall(SYS_fdatasync, fd);
}
