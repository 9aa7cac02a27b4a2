/* What upstream.c and load.c share: the clock, growing buffers, sockets.
 *
 * A program that fails for want of anything from the system says what, and ends: a measurement
 * that went on without it would be wrong.
 */
#ifndef NATIVE_H
#define NATIVE_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)
#define MILLISECOND INT64_C(1000000)

/* An event bears the time at which it was sent: `"@` and this many digits. */
#define STAMP_DIGITS 19

/* The time that both programs, and Python's time.monotonic_ns(), go by. */
static inline int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static inline _Noreturn void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

/* Bytes that grow at their end and are taken from their front. All zero is empty. */
struct bytes {
    char *at;
    size_t length, room;
};

static inline char *reserve(struct bytes *bytes, size_t more)
{
    if (bytes->length + more > bytes->room) {
        bytes->room = 2 * bytes->room + more;
        bytes->at = realloc(bytes->at, bytes->room);
        if (!bytes->at)
            die("realloc");
    }
    return bytes->at + bytes->length;
}

static inline void append(struct bytes *bytes, const void *what, size_t length)
{
    memcpy(reserve(bytes, length), what, length);
    bytes->length += length;
}

__attribute__((format(printf, 2, 3)))
static inline void print(struct bytes *bytes, const char *format, ...)
{
    va_list some, again;
    va_start(some, format);
    va_copy(again, some);
    int length = vsnprintf(NULL, 0, format, some);
    vsnprintf(reserve(bytes, length + 1), length + 1, format, again);
    bytes->length += length;
    va_end(again);
    va_end(some);
}

static inline void take_front(struct bytes *bytes, size_t length)
{
    bytes->length -= length;
    memmove(bytes->at, bytes->at + length, bytes->length);
}

static inline void release(struct bytes *bytes)
{
    free(bytes->at);
    *bytes = (struct bytes){0};
}

/* Hand as much as it takes to the socket. */
enum handed { ALL, SOME, NEVER };

static inline enum handed hand_over(int fd, struct bytes *out)
{
    ssize_t sent = send(fd, out->at, out->length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN)
        return NEVER;
    take_front(out, sent < 0 ? 0 : sent);
    return out->length ? SOME : ALL;
}

static inline void watch(int poller, int operation, int fd, uint32_t events, void *owner)
{
    struct epoll_event event = {.events = events, .data.ptr = owner};
    if (epoll_ctl(poller, operation, fd, &event) < 0)
        die("epoll_ctl");
}

static inline struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
}

static inline void send_at_once(int fd)
{
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

static inline void allow_many_files(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* A number below the limit, the same ones in every run. */
static inline uint64_t dice(uint64_t limit)
{
    static uint64_t state = 20260724;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % limit;
}

#endif
