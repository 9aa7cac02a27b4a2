/* The ledger of upstream.c: what became of each request, by its tag. */
#ifndef LEDGER_H
#define LEDGER_H

#include "native.h"

#define TAG_ROOM 160
#define SENDS_KEPT 16
#define BUCKETS (1 << 16)

/* One request, as the ledger knows it. */
struct entry {
    struct entry *next;
    int64_t received, gone;      /* gone: 0 if the peer did not leave before the end */
    uint64_t events;             /* handed over whole */
    int64_t sends[SENDS_KEPT];   /* a ring */
    bool finished;
    char tag[TAG_ROOM];
};

static struct entry *ledger[BUCKETS];
static struct { uint64_t open, requests, events; } totals;

static struct entry **bucket_of(const char *tag)
{
    uint32_t hash = 2166136261;
    for (; *tag; tag++)
        hash = (hash ^ (unsigned char)*tag) * 16777619;
    return &ledger[hash % BUCKETS];
}

static struct entry *enter(const char *tag)
{
    struct entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        die("calloc");
    snprintf(entry->tag, sizeof entry->tag, "%s", tag);
    entry->received = now();
    struct entry **end = bucket_of(tag);
    while (*end)
        end = &(*end)->next;
    *end = entry;
    totals.open++;
    totals.requests++;
    return entry;
}

static void count_sends(struct entry *entry, uint64_t events, int64_t stamp)
{
    totals.events += events;
    while (events--)
        entry->sends[entry->events++ % SENDS_KEPT] = stamp;
}

static void forget_ended(void)
{
    for (struct entry **bucket = ledger; bucket < ledger + BUCKETS; bucket++)
        for (struct entry **link = bucket; *link;) {
            struct entry *entry = *link;
            if (entry->gone || entry->finished) {
                *link = entry->next;
                free(entry);
            } else {
                link = &entry->next;
            }
        }
}

static void print_entry(struct bytes *json, const struct entry *entry)
{
    print(json, "{\"received\":%ld,\"gone\":", entry->received);
    print(json, entry->gone ? "%ld" : "null", entry->gone);
    print(json, ",\"finished\":%s,\"events\":%lu,\"last_sends\":[",
          entry->finished ? "true" : "false", entry->events);
    uint64_t first = entry->events > SENDS_KEPT ? entry->events - SENDS_KEPT : 0;
    for (uint64_t i = first; i < entry->events; i++)
        print(json, "%s%ld", i == first ? "" : ",", entry->sends[i % SENDS_KEPT]);
    print(json, "]}");
}

static void print_tag(struct bytes *json, const char *tag)
{
    const char *comma = "";
    print(json, "{\"requests\":[");
    for (struct entry *entry = *bucket_of(tag); entry; entry = entry->next)
        if (!strcmp(entry->tag, tag)) {
            print(json, "%s", comma);
            print_entry(json, entry);
            comma = ",";
        }
    print(json, "]}");
}

static void print_totals(struct bytes *json)
{
    print(json, "{\"open\":%lu,\"requests\":%lu,\"events\":%lu}",
          totals.open, totals.requests, totals.events);
}

#endif
