/* The clients of load.c: what each sends, what is made of what comes, and the loop. */
#ifndef CLIENTS_H
#define CLIENTS_H

#include "delays.h"
#include "framing.h"
#include "native.h"

#define MARKER_LENGTH (2 + STAMP_DIGITS)
#define TAIL (MARKER_LENGTH - 1)    /* what a cut marker can leave behind */
#define ROOM (1 << 16)
#define HEAD 300                    /* what is kept of a reply */
#define TAG_ROOM 160
#define MOST_BEGINNING 200
#define FAILURES_KEPT 3
#define PATIENCE (30 * SECOND)      /* without a byte for those that are waited for */

enum kind { STREAM, ANSWER, CANCEL };

struct set {
    struct client **at;
    unsigned count, room;
};

struct client {
    enum kind kind;
    int fd;
    struct set *set;
    unsigned place;                 /* in the set */
    int64_t sent, first;            /* first: when the first event came; of a CANCEL, any byte */
    uint64_t events, mark;          /* mark: the number of the last one in which it had an event */
    bool done;                      /* [DONE] came */
    unsigned tail_length, head_length;
    struct framing framing;
    char tail[TAIL], head[HEAD], tag[TAG_ROOM];
    struct bytes out;
    struct stop *stop;
};

struct stop {
    char tag[TAG_ROOM];
    int64_t sent, answered;
    int status;
};

static struct {
    int port;
    const char *path, *cancel_path;
    struct bytes body, headers;
} options;

/* Those that the command waits for; the open streams; those of them that were told to stop. */
static struct set waiting, live, told;

/* The command that runs. */
static struct {
    uint64_t wanted, whole, events, failed, firsts;
    char failures[FAILURES_KEPT][HEAD + 1];
    double *first;
    int64_t progress;
} run;

/* Since the last mark. */
static struct {
    uint64_t number, events, served, ended;
    struct delays delays;
} mark = {.number = 1};

static int poller;
static struct bytes commands;

/* ---- Sets of clients ---- */

static void leave_set(struct client *client)
{
    struct set *set = client->set;
    struct client *last = set->at[--set->count];
    set->at[client->place] = last;
    last->place = client->place;
}

static void join(struct set *set, struct client *client)
{
    if (set->count == set->room) {
        set->room = 2 * set->room + 64;
        set->at = realloc(set->at, set->room * sizeof *set->at);
        if (!set->at)
            die("realloc");
    }
    client->set = set;
    client->place = set->count;
    set->at[set->count++] = client;
}

static void move(struct client *client, struct set *set)
{
    leave_set(client);
    join(set, client);
}

static void hang_up(struct client *client)
{
    leave_set(client);
    close(client->fd);
    release(&client->out);
    free(client);
}

/* ---- How a client ends ---- */

static void keep_head(struct client *client, const char *text, size_t length)
{
    size_t left = HEAD - client->head_length;
    size_t kept = length < left ? length : left;
    memcpy(client->head + client->head_length, text, kept);
    client->head_length += kept;
}

static void keep_error(struct client *client)
{
    keep_head(client, strerror(errno), strlen(strerror(errno)));
}

static void fail(const struct client *client)
{
    if (run.failed < FAILURES_KEPT)
        memcpy(run.failures[run.failed], client->head, client->head_length);
    run.failed++;
}

static void end_stop(struct client *client)
{
    char head[HEAD + 1] = {0};
    memcpy(head, client->head, client->head_length);
    client->stop->sent = client->sent;
    client->stop->answered = client->first;
    sscanf(head, "HTTP/1.%*d %d", &client->stop->status);
}

/* The server has ended it, or it was waited for in vain. */
static void end(struct client *client)
{
    run.progress = now();
    switch (client->kind) {
    case STREAM:
        if (client->set == &waiting)
            fail(client);
        else if (client->set == &live)
            mark.ended++;
        break;
    case ANSWER:
        run.events += client->events;
        if (client->done && client->events == run.wanted)
            run.whole++;
        else
            fail(client);
        break;
    case CANCEL:
        end_stop(client);
    }
    hang_up(client);
}

/* ---- What comes ---- */

static void note_first(struct client *client, int64_t at)
{
    client->first = at;
    if (client->kind == CANCEL)
        return;
    run.first[run.firsts++] = (at - client->sent) / 1e6;
    run.progress = at;
    if (client->kind == STREAM)
        move(client, &live);
}

static void count_event(struct client *client, int64_t sent, int64_t at)
{
    client->events++;
    if (!client->first)
        note_first(client, at);
    if (client->kind != STREAM)
        return;
    mark.events++;
    add_delay(&mark.delays, at - sent);
    if (client->mark != mark.number) {
        client->mark = mark.number;
        mark.served++;
    }
}

/* The time in the stamp whose @ this is, -1 if it is none. */
static int64_t read_stamp(const char *at)
{
    int64_t time = 0;
    if (at[-1] != '"')
        return -1;
    for (int i = 1; i <= STAMP_DIGITS; i++) {
        if (at[i] < '0' || at[i] > '9')
            return -1;
        time = 10 * time + at[i] - '0';
    }
    return time;
}

/* The text begins with what was kept of the one before, too short for a marker that was counted. */
static void count_events(struct client *client, const char *text, size_t length, int64_t at)
{
    const char *end = text + length, *found = text + 1;
    while (end - found > STAMP_DIGITS && (found = memchr(found, '@', end - found - STAMP_DIGITS))) {
        int64_t sent = read_stamp(found++);
        if (sent >= 0)
            count_event(client, sent, at);
    }
}

/* Count what is in a piece of the body. Before it is room for what was kept of the one before. */
static void count_piece(struct client *client, char *piece, size_t come, int64_t at)
{
    char *text = piece - client->tail_length;
    size_t length = client->tail_length + come;
    memcpy(text, client->tail, client->tail_length);
    count_events(client, text, length, at);
    client->done = client->done || memmem(text, length, "[DONE]", 6);
    client->tail_length = length < TAIL ? length : TAIL;
    memcpy(client->tail, text + length - client->tail_length, client->tail_length);
}

static void hear(struct client *client)
{
    static char room[TAIL + ROOM], *const piece = room + TAIL;
    ssize_t come = recv(client->fd, piece, ROOM, 0);
    if (come < 0 && errno == EAGAIN)
        return;
    if (come <= 0) {
        if (come < 0)
            keep_error(client);
        end(client);
        return;
    }
    int64_t at = now();
    if (client->set == &waiting) {
        run.progress = at;
        keep_head(client, piece, come);
    }
    if (client->kind == CANCEL && !client->first)
        note_first(client, at);
    count_piece(client, piece, take_off(&client->framing, piece, come), at);
    if (client->framing.state == ENDED)
        end(client);
}

/* ---- What goes ---- */

/* Append a text, with the stream's tag and the command's spec in their places. */
static void fill(struct bytes *out, const char *text, const char *tag, const char *spec)
{
    for (const char *at; (at = strchr(text, '@')); ) {
        append(out, text, at - text);
        if (!strncmp(at, "@TAG@", 5)) {
            print(out, "%s", tag);
            text = at + 5;
        } else if (!strncmp(at, "@SPEC@", 6)) {
            print(out, "%s", spec);
            text = at + 6;
        } else {
            append(out, "@", 1);
            text = at + 1;
        }
    }
    print(out, "%s", text);
}

static void write_request(struct client *client, const char *spec)
{
    struct bytes body = {0};
    bool cancel = client->kind == CANCEL;
    fill(&body, cancel ? "" : options.body.at, client->tag, spec);
    print(&client->out, "POST ");
    fill(&client->out, cancel ? options.cancel_path : options.path, client->tag, spec);
    print(&client->out, " HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n");
    fill(&client->out, options.headers.at, client->tag, spec);
    print(&client->out, "Content-Length: %zu\r\n\r\n", body.length);
    append(&client->out, body.at, body.length);
    release(&body);
}

static enum handed push(struct client *client)
{
    enum handed handed = hand_over(client->fd, &client->out);
    if (handed == ALL)
        release(&client->out);
    if (handed == NEVER)
        keep_error(client);
    return handed;
}

/* Connect and ask. `stop` is what a CANCEL reports to. */
static void start(enum kind kind, const char *tag, const char *spec, struct stop *stop)
{
    struct sockaddr_in address = loopback(options.port);
    struct client *client = calloc(1, sizeof *client);
    if (!client)
        die("calloc");
    client->kind = kind;
    client->stop = stop;
    snprintf(client->tag, sizeof client->tag, "%s", tag);
    write_request(client, spec);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        die("socket");
    send_at_once(client->fd);
    join(&waiting, client);
    client->sent = run.progress = now();
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) < 0
        && errno != EINPROGRESS) {
        keep_error(client);
        end(client);
        return;
    }
    /* On the loopback interface it is mostly connected by now. An error comes by hear(). */
    uint32_t more = push(client) == SOME ? EPOLLOUT : 0;
    watch(poller, EPOLL_CTL_ADD, client->fd, EPOLLIN | more, client);
}

static void start_numbered(enum kind kind, const char *prefix, unsigned number, const char *spec)
{
    char tag[TAG_ROOM];
    snprintf(tag, sizeof tag, "%.140s_%u", prefix, number);
    start(kind, tag, spec, NULL);
}

/* ---- The loop ---- */

static void hear_commands(void)
{
    ssize_t come = read(STDIN_FILENO, reserve(&commands, 4096), 4096);
    if (come <= 0)
        exit(0);
    commands.length += come;
}

static void look_at(struct client *client, uint32_t events)
{
    if (events & EPOLLOUT && client->out.length && push(client) != SOME)
        watch(poller, EPOLL_CTL_MOD, client->fd, EPOLLIN, client);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        hear(client);
}

static void turn(int milliseconds)
{
    static struct epoll_event events[256];
    int count = epoll_wait(poller, events, 256, milliseconds);
    if (count < 0 && errno != EINTR)
        die("epoll_wait");
    for (int i = 0; i < count; i++)
        if (events[i].data.ptr)
            look_at(events[i].data.ptr, events[i].events);
        else
            hear_commands();
}

static void turn_until(int64_t when)
{
    for (int64_t left; (left = when - now()) > 0;)
        turn((left + MILLISECOND - 1) / MILLISECOND);
}

static void give_up(void)
{
    while (waiting.count) {
        errno = ETIMEDOUT;
        keep_error(waiting.at[0]);
        end(waiting.at[0]);
    }
}

/* Go on until no more than these are waited for; who is silent for too long has failed. */
static void turn_while_waiting(unsigned for_more_than)
{
    while (waiting.count > for_more_than) {
        turn(100);
        if (now() - run.progress > PATIENCE)
            give_up();
    }
}

#endif
