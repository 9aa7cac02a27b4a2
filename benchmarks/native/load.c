/* Clients that cost little: `load --port P --path PATH --body-file F [--header "Name: value"]...
 * [--cancel-path PATH]`.
 *
 * Commands come one a line on stdin; each is answered with one line of JSON on stdout.
 *
 *     open N PREFIX SPEC...                   N streams that stay; the reply is when each has begun
 *     answers N CONCURRENCY PREFIX SPEC...    N answers from connect to end, so many at a time
 *     probe N INTERVAL_MS PREFIX SPEC...      the same, one every INTERVAL_MS
 *     mark                                    what came to the open streams since the last mark
 *     stop N INTERVAL_MS leave|cancel         end N of the open streams: by close(), or by a POST
 *                                             to the cancel path
 *     close                                   close all open streams
 *
 * In the body, the headers and the paths @TAG@ is the stream's own name (PREFIX_1 and so on) and
 * @SPEC@ the command's SPEC. The end of stdin ends the program.
 *
 * Rules:
 * - An event is found by its stamp, `"@` and 19 digits, whatever a relay wraps it in and wherever
 *   it is cut: by the reads, or by the frames of chunks, which are taken off before.
 * - An answer has ended with its last chunk, or with its connection.
 * - One recv() for a socket that has something, one reading of the clock for each; nothing is
 *   allocated for an event.
 * - What the open streams bring is counted during every command.
 * - A client is closed outside of a turn, or by what happens on its own socket.
 */
#define _GNU_SOURCE
#include "clients.h"
#include "delays.h"
#include "native.h"

/* ---- Commands ---- */

static void begin_run(unsigned number, const char *spec)
{
    const char *tokens = strstr(spec, "tokens=");
    free(run.first);
    memset(&run, 0, sizeof run);
    run.wanted = tokens ? strtoul(tokens + 7, NULL, 10) : 0;
    run.first = calloc(number + 1, sizeof *run.first);
    run.progress = now();
    if (!run.first)
        die("calloc");
}

static void say_quoted(const char *text)
{
    putchar('"');
    for (; *text; text++)
        if (*text < ' ' || *text == '"' || *text == '\\' || *text == 127)
            printf("\\u%04x", (unsigned char)*text);
        else
            putchar(*text);
    putchar('"');
}

static void say_failures_and_firsts(void)
{
    printf(",\"failures\":[");
    for (unsigned i = 0; i < run.failed && i < FAILURES_KEPT; i++) {
        printf("%s", i ? "," : "");
        say_quoted(run.failures[i]);
    }
    printf("],\"first\":[");
    for (uint64_t i = 0; i < run.firsts; i++)
        printf("%s%.3f", i ? "," : "", run.first[i]);
    printf("]}\n");
}

static void open_streams(unsigned number, const char *prefix, const char *spec)
{
    begin_run(number, spec);
    for (unsigned i = 1; i <= number; i++) {
        turn_while_waiting(MOST_BEGINNING - 1);
        start_numbered(STREAM, prefix, i, spec);
    }
    turn_while_waiting(0);
    printf("{\"open\":%u,\"failed\":%lu", number, run.failed);
    say_failures_and_firsts();
}

static void say_answers(unsigned number, int64_t begun)
{
    printf("{\"answers\":%u,\"whole\":%lu,\"events\":%lu,\"seconds\":%.6f",
           number, run.whole, run.events, (now() - begun) / 1e9);
    say_failures_and_firsts();
}

static void have_answers(unsigned number, unsigned at_once, const char *prefix, const char *spec)
{
    int64_t begun = now();
    begin_run(number, spec);
    for (unsigned i = 1; i <= number; i++) {
        turn_while_waiting(at_once - 1);
        start_numbered(ANSWER, prefix, i, spec);
    }
    turn_while_waiting(0);
    say_answers(number, begun);
}

static void probe(unsigned number, double interval, const char *prefix, const char *spec)
{
    int64_t begun = now();
    begin_run(number, spec);
    for (unsigned i = 1; i <= number; i++) {
        turn_until(begun + (i - 1) * interval * MILLISECOND);
        start_numbered(ANSWER, prefix, i, spec);
    }
    turn_while_waiting(0);
    say_answers(number, begun);
}

static void say_delays(const struct delays *delays)
{
    if (!delays->count) {
        printf("null");
        return;
    }
    printf("{\"p50\":%.6f,\"p90\":%.6f,\"p99\":%.6f,\"max\":%.6f}", percentile(delays, 0.50) / 1e6,
           percentile(delays, 0.90) / 1e6, percentile(delays, 0.99) / 1e6, delays->max / 1e6);
}

static void say_mark(void)
{
    struct timespec cpu;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    printf("{\"t\":%ld,\"events\":%lu,\"served\":%lu,\"live\":%u,\"ended\":%lu,\"delay_ms\":",
           now(), mark.events, mark.served, live.count + told.count, mark.ended);
    say_delays(&mark.delays);
    printf(",\"cpu\":%ld.%09ld}\n", cpu.tv_sec, cpu.tv_nsec);
    mark.number++;
    mark.events = mark.served = mark.ended = 0;
    forget_delays(&mark.delays);
}

static void stop_one(struct client *client, struct stop *stop, bool cancel)
{
    memcpy(stop->tag, client->tag, sizeof stop->tag);
    stop->sent = now();
    if (!cancel) {
        hang_up(client);
        return;
    }
    move(client, &told);
    start(CANCEL, stop->tag, "", stop);
}

static void say_stops(const struct stop *stops, unsigned number)
{
    printf("{\"stops\":[");
    for (unsigned i = 0; i < number; i++) {
        const struct stop *stop = &stops[i];
        printf("%s{\"tag\":\"%s\",\"sent\":%ld,\"status\":%d,\"answered_ms\":",
               i ? "," : "", stop->tag, stop->sent, stop->status);
        if (stop->answered)
            printf("%.6f}", (stop->answered - stop->sent) / 1e6);
        else
            printf("null}");
    }
    printf("]}\n");
}

static void stop_streams(unsigned number, double interval, bool cancel)
{
    int64_t begun = now();
    unsigned stopped = 0;
    struct stop *stops = calloc(number + 1, sizeof *stops);
    if (!stops)
        die("calloc");
    begin_run(0, "");
    for (; stopped < number; stopped++) {
        turn_until(begun + stopped * interval * MILLISECOND);
        if (!live.count)
            break;
        stop_one(live.at[dice(live.count)], &stops[stopped], cancel);
    }
    turn_while_waiting(0);
    say_stops(stops, stopped);
    free(stops);
}

static void close_streams(void)
{
    unsigned closed = live.count + told.count;
    while (live.count)
        hang_up(live.at[live.count - 1]);
    while (told.count)
        hang_up(told.at[told.count - 1]);
    printf("{\"closed\":%u}\n", closed);
}

static void obey(const char *line)
{
    unsigned number, at_once;
    double interval;
    char prefix[TAG_ROOM], mode[8];
    int spec = 0;
    if (sscanf(line, "open %u %159s %n", &number, prefix, &spec) == 2 && spec)
        open_streams(number, prefix, line + spec);
    else if (sscanf(line, "answers %u %u %159s %n", &number, &at_once, prefix, &spec) == 3 && spec
             && at_once)
        have_answers(number, at_once, prefix, line + spec);
    else if (sscanf(line, "probe %u %lf %159s %n", &number, &interval, prefix, &spec) == 3 && spec)
        probe(number, interval, prefix, line + spec);
    else if (sscanf(line, "stop %u %lf %7s", &number, &interval, mode) == 3
             && (!strcmp(mode, "leave") || (!strcmp(mode, "cancel") && options.cancel_path)))
        stop_streams(number, interval, !strcmp(mode, "cancel"));
    else if (!strcmp(line, "mark"))
        say_mark();
    else if (!strcmp(line, "close"))
        close_streams();
    else
        printf("{\"error\":\"no such command\"}\n");
    fflush(stdout);
}

static void obey_all(void)
{
    char *line_end;
    while (commands.length && (line_end = memchr(commands.at, '\n', commands.length))) {
        *line_end = '\0';
        char *line = strdup(commands.at);
        take_front(&commands, line_end + 1 - commands.at);
        obey(line);
        free(line);
    }
}

/* ---- The command line ---- */

static void read_body(const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file)
        die(path);
    size_t come;
    while ((come = fread(reserve(&options.body, 4096), 1, 4096, file)))
        options.body.length += come;
    fclose(file);
}

static bool take_option(const char *name, const char *value)
{
    if (!strcmp(name, "--port"))
        options.port = atoi(value);
    else if (!strcmp(name, "--path"))
        options.path = value;
    else if (!strcmp(name, "--body-file"))
        read_body(value);
    else if (!strcmp(name, "--header"))
        print(&options.headers, "%s\r\n", value);
    else if (!strcmp(name, "--cancel-path"))
        options.cancel_path = value;
    else
        return false;
    return true;
}

int main(int argc, char **argv)
{
    bool understood = argc % 2;
    for (int i = 1; understood && i < argc; i += 2)
        understood = take_option(argv[i], argv[i + 1]);
    if (!understood || !options.port || !options.path || !options.body.at) {
        fprintf(stderr, "usage: load --port P --path PATH --body-file F [--header H]... "
                        "[--cancel-path PATH]\n");
        return 2;
    }
    append(&options.body, "", 1);
    append(&options.headers, "", 1);
    allow_many_files();
    poller = epoll_create1(EPOLL_CLOEXEC);
    watch(poller, EPOLL_CTL_ADD, STDIN_FILENO, EPOLLIN, NULL);
    for (;;) {
        obey_all();
        turn(-1);
    }
}
