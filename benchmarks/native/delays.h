/* A histogram of delays: each is known to within half a per cent. */
#ifndef DELAYS_H
#define DELAYS_H

#include <stdint.h>
#include <string.h>

/* A power of two has 128 buckets; below 256 ns each number has its own. */
#define BUCKETS (57 * 128 + 128)

struct delays {
    uint64_t buckets[BUCKETS];
    uint64_t count, max;
};

static inline unsigned bucket_of(uint64_t ns)
{
    unsigned shift = ns < 256 ? 0 : 63 - __builtin_clzll(ns) - 7;
    return shift * 128 + (ns >> shift);
}

static inline double middle_of(unsigned bucket)
{
    if (bucket < 256)
        return bucket;
    unsigned shift = bucket / 128 - 1;
    return (bucket - shift * 128 + 0.5) * (UINT64_C(1) << shift);
}

static inline void add_delay(struct delays *delays, int64_t ns)
{
    uint64_t delay = ns < 0 ? 0 : ns;
    delays->buckets[bucket_of(delay)]++;
    delays->count++;
    if (delay > delays->max)
        delays->max = delay;
}

/* The delay that this share of them does not exceed, in nanoseconds. */
static inline double percentile(const struct delays *delays, double share)
{
    uint64_t passed = 0;
    for (unsigned bucket = 0; bucket < BUCKETS; bucket++) {
        passed += delays->buckets[bucket];
        if (passed && passed >= share * delays->count)
            return middle_of(bucket);
    }
    return 0;
}

static inline void forget_delays(struct delays *delays)
{
    memset(delays, 0, sizeof *delays);
}

#endif
