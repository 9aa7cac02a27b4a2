/* What a response is wrapped in, its head and the chunked transfer coding, taken off in place.
 *
 * A relay may put its chunks' frames anywhere, in the midst of a word too: what is looked for in a
 * body can be found only once they are gone. The reads may cut all of it anywhere as well.
 */
#ifndef FRAMING_H
#define FRAMING_H

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LINE_ROOM 63                /* of a longer line the rest does not matter here */
#define WITHOUT_END UINT64_MAX

/* All zero is the beginning of a response. */
struct framing {
    enum { IN_HEAD, AT_SIZE, IN_CHUNK, IN_TRAILERS, ENDED } state;
    bool chunked;
    unsigned char line_length;
    char line[LINE_ROOM + 1];       /* what has come of the one that has not ended */
    uint64_t left;                  /* of the chunk */
};

static inline void end_head(struct framing *framing)
{
    /* Without the coding the body is all that follows: one chunk, which the connection ends. */
    framing->state = framing->chunked ? AT_SIZE : IN_CHUNK;
    framing->left = WITHOUT_END;
}

static inline void read_size(struct framing *framing)
{
    char *rest;
    framing->left = strtoull(framing->line, &rest, 16);
    /* Behind the size may be an extension. What follows a line that is no size can't be read. */
    if (!isxdigit((unsigned char)framing->line[0]) || !strchr("; \t", *rest))
        framing->state = ENDED;
    else
        framing->state = framing->left ? IN_CHUNK : IN_TRAILERS;
}

static inline void end_line(struct framing *framing)
{
    char *line = framing->line;
    bool empty = !framing->line_length;
    line[framing->line_length] = '\0';
    framing->line_length = 0;
    if (framing->state == IN_HEAD && empty)
        end_head(framing);
    else if (framing->state == IN_HEAD && !strncasecmp(line, "Transfer-Encoding:", 18))
        framing->chunked = framing->chunked || strcasestr(line + 18, "chunked");
    else if (framing->state == AT_SIZE && !empty)  /* an empty one ends the chunk before it */
        read_size(framing);
    else if (framing->state == IN_TRAILERS && empty)
        framing->state = ENDED;
}

/* Read on to the end of the line, or of what has come; return where that is. */
static inline const char *read_line(struct framing *framing, const char *at, const char *end)
{
    const char *line_end = memchr(at, '\n', end - at);
    size_t room = LINE_ROOM - framing->line_length, come = (line_end ? line_end : end) - at;
    memcpy(framing->line + framing->line_length, at, come < room ? come : room);
    framing->line_length += come < room ? come : room;
    if (!line_end)
        return end;
    if (framing->line_length && framing->line[framing->line_length - 1] == '\r')
        framing->line_length--;
    end_line(framing);
    return line_end + 1;
}

/* Put what is body in this text together at its front; return the length of that. */
static inline size_t take_off(struct framing *framing, char *text, size_t length)
{
    const char *at = text, *end = text + length;
    char *body_end = text;
    while (at < end && framing->state != ENDED) {
        if (framing->state != IN_CHUNK) {
            at = read_line(framing, at, end);
            continue;
        }
        size_t come = end - at, run = come < framing->left ? come : framing->left;
        if (body_end != at)
            memmove(body_end, at, run);
        body_end += run;
        at += run;
        if (framing->left != WITHOUT_END && !(framing->left -= run))
            framing->state = AT_SIZE;
    }
    return body_end - text;
}

#endif
