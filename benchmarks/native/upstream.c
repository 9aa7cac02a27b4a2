/* A stand-in for DeepSeek that costs little: `upstream [--port 0]`.
 *
 * POST .../chat/completions streams an answer. What it is like is said by words anywhere in the
 * body, so that they survive a relay that writes the JSON anew:
 *
 *     rate=50      events a second, 0.5 is possible; 0: as fast as the socket takes them
 *     tokens=8     so many events; 0 or none: without end
 *     silent=1     nothing after the first event
 *     tag=a_1      the name in the ledger
 *
 * GET /ledger?tag=T tells what became of the requests of that tag, GET /ledger what there was in
 * all, DELETE /ledger forgets what has ended. Times are nanoseconds of CLOCK_MONOTONIC.
 *
 * Rules:
 * - Each event is a chunk, a send() and a packet of its own, as DeepSeek sends them. Only a stream
 *   that is behind its due times (at rate 0 it always is) may send several at once.
 * - An event bears the time of its send, so that its delay can be told from the bytes alone.
 * - A peer that closes its side has left, and the time is written down at once.
 * - Nothing is allocated for an event, and a peer that doesn't read costs nothing.
 * - No pipelining: the next request comes after the end of the answer.
 */
#define _GNU_SOURCE
#include "ledger.h"
#include "native.h"

#define MOST_AT_ONCE 16          /* events in one send; with a rate, in a millisecond too */
#define MOST_IN_A_TURN 32        /* streams served before the sockets are looked at again */
#define LARGEST_REQUEST (8 << 20)
#define NEVER_DUE INT64_MAX

#define CHUNK_HEAD "10e\r\n"
#define BEFORE_ID "data: {\"id\":\""
#define ID "00000000-57a2-4c0d-9e1b-6f0c3d2b1a00"
#define BEFORE_TEXT "\",\"object\":\"chat.completion.chunk\",\"created\":1700000000," \
    "\"model\":\"deepseek-chat\",\"system_fingerprint\":\"fp_8802369\"," \
    "\"choices\":[{\"index\":0,\"delta\":{\"content\":\""
#define TEXT "@0000000000000000000 "
#define AFTER_TEXT "\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n"
#define EVENT CHUNK_HEAD BEFORE_ID ID BEFORE_TEXT TEXT AFTER_TEXT "\r\n"
#define EVENT_LENGTH (sizeof EVENT - 1)
#define AT_ID (sizeof CHUNK_HEAD BEFORE_ID - 1)
#define AT_STAMP (sizeof CHUNK_HEAD BEFORE_ID ID BEFORE_TEXT "@" - 1)
_Static_assert(EVENT_LENGTH == 0x10e + sizeof CHUNK_HEAD "\r\n" - 1, "the chunk's size is wrong");

#define LAST_EVENT BEFORE_ID ID BEFORE_TEXT \
    "\"},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n"
#define DONE "data: [DONE]\n\n"

struct peer {
    int fd;                      /* -1: closed, and freed at the end of the turn */
    bool wants_room, closing;    /* closing: after this reply */
    struct bytes in, out;
    struct entry *entry;         /* of the answer that is being given, if any */
    int64_t interval, due, stamp;
    uint64_t tokens, made, unsent;   /* events: wanted, made, made and not yet sent */
    bool silent, last;           /* last: the end is in `out` */
    char event[EVENT_LENGTH];
    int64_t tick;                /* the place in the wheel */
    struct peer *next, **link;   /* link is NULL outside of it */
};

struct request {
    char method[8], path[1024];
    const char *body;
    bool closing;
};

static int poller;
static struct peer *closed;

/* ---- The wheel: who is to send in which millisecond ---- */

#define SLOTS 4096
static struct { struct peer *slots[SLOTS]; int64_t tick; unsigned count; } wheel;

static void wait_for_due(struct peer *peer)
{
    if (peer->due == NEVER_DUE)
        return;
    peer->tick = peer->due / MILLISECOND + 1;
    if (peer->tick <= wheel.tick)    /* behind: its slot is being read, or was */
        peer->tick = wheel.tick + 1;
    peer->link = &wheel.slots[peer->tick % SLOTS];
    peer->next = *peer->link;
    if (peer->next)
        peer->next->link = &peer->next;
    *peer->link = peer;
    wheel.count++;
}

static void stop_waiting(struct peer *peer)
{
    if (!peer->link)
        return;
    *peer->link = peer->next;
    if (peer->next)
        peer->next->link = peer->link;
    peer->link = NULL;
    wheel.count--;
}

/* For how long epoll may wait, in milliseconds. */
static int time_to_wait(void)
{
    if (!wheel.count)
        return -1;
    int64_t tick = wheel.tick;
    while (!wheel.slots[tick % SLOTS])
        tick++;
    int64_t left = tick * MILLISECOND - now();
    return left <= 0 ? 0 : (left + MILLISECOND - 1) / MILLISECOND;
}

/* ---- Answers ---- */

static void want_room(struct peer *peer, bool wanted)
{
    if (peer->wants_room == wanted)
        return;
    peer->wants_room = wanted;
    uint32_t events = EPOLLIN | EPOLLRDHUP | (wanted ? EPOLLOUT : 0);
    watch(poller, EPOLL_CTL_MOD, peer->fd, events, peer);
}

static void hang_up(struct peer *peer)
{
    if (peer->fd < 0)
        return;
    if (peer->entry) {
        peer->entry->gone = now();
        totals.open--;
    }
    close(peer->fd);
    peer->fd = -1;
    stop_waiting(peer);
    peer->next = closed;
    closed = peer;
}

static void free_closed(void)
{
    while (closed) {
        struct peer *peer = closed;
        closed = peer->next;
        release(&peer->in);
        release(&peer->out);
        free(peer);
    }
}

static void add_chunk(struct bytes *out, const char *text)
{
    print(out, "%zx\r\n%s\r\n", strlen(text), text);
}

static void add_event(struct peer *peer)
{
    int64_t rest = peer->stamp;
    for (int i = STAMP_DIGITS - 1; i >= 0; i--, rest /= 10)
        peer->event[AT_STAMP + i] = '0' + rest % 10;
    append(&peer->out, peer->event, EVENT_LENGTH);
    peer->made++;
    peer->unsent++;
}

static void add_end(struct peer *peer)
{
    char text[] = LAST_EVENT;
    memcpy(text + sizeof BEFORE_ID - 1, peer->event + AT_ID, sizeof ID - 1);
    add_chunk(&peer->out, text);
    add_chunk(&peer->out, DONE);
    print(&peer->out, "0\r\n\r\n");
    peer->last = true;
}

static void add_what_is_due(struct peer *peer)
{
    peer->stamp = now();
    while (peer->due <= peer->stamp && peer->unsent < MOST_AT_ONCE && !peer->last) {
        if (peer->tokens && peer->made == peer->tokens) {
            add_end(peer);
        } else {
            add_event(peer);
            peer->due += peer->interval;
        }
    }
}

static void after_send(struct peer *peer)
{
    count_sends(peer->entry, peer->unsent, peer->stamp);
    peer->unsent = 0;
    if (peer->last) {
        peer->entry->finished = true;
        peer->entry = NULL;
        totals.open--;
    }
    /* At rate 0 the socket sets the pace. */
    bool saturating = peer->entry && !peer->interval && !peer->silent;
    want_room(peer, saturating);
    if (peer->entry && !saturating)
        wait_for_due(peer);
}

/* Send what is in `out`; what does not fit waits for room. */
static void push(struct peer *peer)
{
    switch (hand_over(peer->fd, &peer->out)) {
    case NEVER:
        hang_up(peer);
        return;
    case SOME:
        want_room(peer, true);
        return;
    case ALL:
        break;
    }
    if (peer->entry)
        after_send(peer);
    else
        want_room(peer, false);
    if (!peer->entry && peer->closing)
        hang_up(peer);
}

static void go_on(struct peer *peer)
{
    if (peer->entry && !peer->out.length)
        add_what_is_due(peer);
    if (peer->out.length)
        push(peer);
}

static void reply(struct peer *peer, const char *status, struct bytes *json)
{
    print(&peer->out, "HTTP/1.1 %s\r\nContent-Type: application/json\r\n"
                      "Content-Length: %zu\r\n\r\n",
          status, json->length);
    append(&peer->out, json->at, json->length);
    release(json);
    push(peer);
}

static void refuse(struct peer *peer, const char *status, const char *why)
{
    struct bytes json = {0};
    print(&json, "{\"error\":{\"message\":\"%s\"}}", why);
    reply(peer, status, &json);
}

static double number(const char *body, const char *word)
{
    const char *found = strstr(body, word);
    return found ? strtod(found + strlen(word), NULL) : 0;
}

static bool find_tag(const char *body, char tag[TAG_ROOM])
{
    const char *found = strstr(body, "tag=");
    return found && sscanf(found, "tag=%159[A-Za-z0-9_]", tag) == 1;
}

static void begin(struct peer *peer, const char *body)
{
    char tag[TAG_ROOM];
    if (!find_tag(body, tag) || !strstr(body, "rate=")) {
        refuse(peer, "400 Bad Request", "the body has no rate= and tag=");
        return;
    }
    double rate = number(body, "rate=");
    peer->entry = enter(tag);
    peer->interval = rate > 0 ? SECOND / rate : 0;
    peer->tokens = number(body, "tokens=");
    peer->silent = number(body, "silent=");
    peer->made = peer->unsent = peer->last = 0;
    memcpy(peer->event, EVENT, EVENT_LENGTH);
    snprintf(peer->event + AT_ID, 9, "%08x", (unsigned)totals.requests);
    peer->event[AT_ID + 8] = '-';

    print(&peer->out, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                      "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n");
    peer->stamp = now();
    add_event(peer);
    /* The rest follows at a random phase, so that streams begun together don't send together. */
    peer->due = peer->silent ? NEVER_DUE : 0;
    if (peer->interval && !peer->silent)
        peer->due = peer->stamp + dice(peer->interval);
    push(peer);
}

/* ---- Requests ---- */

static void answer(struct peer *peer, const struct request *request)
{
    static const char completions[] = "/chat/completions", ledger_of[] = "/ledger?tag=";
    size_t length = strlen(request->path), end = sizeof completions - 1;
    struct bytes json = {0};
    if (!strcmp(request->method, "POST") && length >= end
        && !strcmp(request->path + length - end, completions)) {
        begin(peer, request->body);
        return;
    }
    if (!strncmp(request->path, ledger_of, sizeof ledger_of - 1)) {
        print_tag(&json, request->path + sizeof ledger_of - 1);
    } else if (!strcmp(request->path, "/ledger")) {
        if (!strcmp(request->method, "DELETE"))
            forget_ended();
        print_totals(&json);
    } else {
        refuse(peer, "404 Not Found", "there is no such path");
        return;
    }
    reply(peer, "200 OK", &json);
}

/* Put the chunks of a body together at its front. Return its length with the framing, 0 if its
 * end has not come yet; with `joined` NULL, nothing is moved. */
static size_t join_chunks(char *body, size_t length, size_t *joined)
{
    for (size_t at = 0;;) {
        char *line_end = memmem(body + at, length - at, "\r\n", 2);
        if (!line_end)
            return 0;
        size_t size = strtoul(body + at, NULL, 16), start = line_end + 2 - body;
        if (size > length || start + size + 2 > length)
            return 0;
        if (!size)
            return start + 2;
        if (joined) {
            memmove(body + *joined, body + start, size);
            *joined += size;
        }
        at = start + size + 2;
    }
}

/* The value of a header. The head ends with a NUL. */
static const char *header(const char *head, const char *name)
{
    const char *found = strcasestr(head, name);
    return found ? found + strlen(name) + strspn(found + strlen(name), " ") : NULL;
}

/* Find the body behind its head. Return its length with the framing, -1 if it is not whole yet. */
static ssize_t find_body(const char *head, char *body, size_t length)
{
    const char *encoding = header(head, "\r\nTransfer-Encoding:");
    if (encoding && !strncasecmp(encoding, "chunked", 7)) {
        size_t joined = 0, whole = join_chunks(body, length, NULL);
        if (!whole)
            return -1;
        join_chunks(body, length, &joined);
        body[joined] = '\0';
        return whole;
    }
    const char *size = header(head, "\r\nContent-Length:");
    size_t whole = size ? strtoul(size, NULL, 10) : 0;
    return whole <= length ? (ssize_t)whole : -1;
}

/* Answer the request in `in`, if it is whole. */
static void serve(struct peer *peer)
{
    struct bytes *in = &peer->in;
    struct request request = {0};
    *reserve(in, 1) = '\0';
    char *head_end = strstr(in->at, "\r\n\r\n");
    if (!head_end)
        return;
    *head_end = '\0';
    request.body = head_end + 4;
    ssize_t length = find_body(in->at, head_end + 4, in->at + in->length - head_end - 4);
    if (length >= 0) {
        const char *connection = header(in->at, "\r\nConnection:");
        sscanf(in->at, "%7s %1023s", request.method, request.path);
        peer->closing = connection && !strncasecmp(connection, "close", 5);
        answer(peer, &request);
        take_front(in, request.body + length - in->at);
    } else {
        *head_end = '\r';
    }
}

static void hear(struct peer *peer)
{
    static char room[1 << 16];
    ssize_t length = recv(peer->fd, room, sizeof room, 0);
    if (length < 0 && errno == EAGAIN)
        return;
    if (length <= 0 || peer->in.length + length > LARGEST_REQUEST) {
        hang_up(peer);
        return;
    }
    append(&peer->in, room, length);
    if (!peer->entry && !peer->out.length)
        serve(peer);
}

/* ---- The loop ---- */

static void accept_all(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct peer *peer = calloc(1, sizeof *peer);
        if (!peer)
            die("calloc");
        peer->fd = fd;
        send_at_once(fd);
        watch(poller, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP, peer);
    }
    if (errno != EAGAIN && errno != ECONNABORTED)
        die("accept");
}

static void look_at(struct peer *peer, uint32_t events)
{
    if (events & EPOLLIN)    /* first, so that who asks and leaves at once is in the ledger */
        hear(peer);
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        hang_up(peer);
    if (peer->fd >= 0 && events & EPOLLOUT)
        go_on(peer);
}

/* Let those send whose time has come: some of them, so that no departure waits for long. */
static void serve_due(void)
{
    int64_t last = now() / MILLISECOND;
    int left = MOST_IN_A_TURN;
    if (wheel.tick <= last - SLOTS)
        wheel.tick = last - SLOTS + 1;    /* once around is enough */
    for (; wheel.tick <= last; wheel.tick++)
        for (struct peer *peer = wheel.slots[wheel.tick % SLOTS], *next; peer; peer = next) {
            next = peer->next;
            if (peer->tick > wheel.tick)    /* of a later round */
                continue;
            if (!left--)
                return;
            stop_waiting(peer);
            go_on(peer);
        }
}

static _Noreturn void run(int listener)
{
    struct epoll_event events[64];
    for (;;) {
        int count = epoll_wait(poller, events, 64, time_to_wait());
        if (count < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < count; i++)
            if (events[i].data.ptr)
                look_at(events[i].data.ptr, events[i].events);
            else
                accept_all(listener);
        serve_due();
        free_closed();
    }
}

static int listen_on(int port)
{
    struct sockaddr_in address = loopback(port);
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, 1 << 14) < 0)
        die("listen");
    getsockname(fd, (struct sockaddr *)&address, &length);
    printf("simulated DeepSeek on http://127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 1 && !(argc == 3 && !strcmp(argv[1], "--port"))) {
        fprintf(stderr, "usage: upstream [--port 0]\n");
        return 2;
    }
    allow_many_files();
    poller = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(argc == 3 ? atoi(argv[2]) : 0);
    watch(poller, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    run(listener);
}
