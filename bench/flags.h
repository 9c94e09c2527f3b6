/* bench/flags.h: the flags of a benchmark, as a table: each has a value. */
#ifndef SL_BENCH_FLAGS_H
#define SL_BENCH_FLAGS_H

#include "core/format.h"
#include "core/os.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum flag_kind {
    FLAG_WORD,   /* const char * */
    FLAG_RATE,   /* const char *, a size */
    FLAG_SIZE,   /* uint64_t */
    FLAG_COUNT,  /* uint32_t, at least one */
    FLAG_NUMBER, /* double, above 0 */
    FLAG_SHARE,  /* double, above 0 and at most 1 */
    FLAG_TYPE    /* uint32_t, a format's */
} flag_kind;

typedef struct flag {
    const char *name;
    flag_kind kind;
    void *to;
} flag;

static inline bool flag_take(const flag *f, const char *value)
{
    uint64_t size;
    switch (f->kind) {
    case FLAG_WORD: *(const char **)f->to = value; return true;
    case FLAG_RATE: *(const char **)f->to = value; return sl_parse_size(value, &size);
    case FLAG_SIZE: return sl_parse_size(value, f->to);
    case FLAG_COUNT: return (*(uint32_t *)f->to = (uint32_t)strtoul(value, NULL, 10)) >= 1;
    case FLAG_NUMBER: return (*(double *)f->to = strtod(value, NULL)) > 0;
    case FLAG_SHARE: return (*(double *)f->to = strtod(value, NULL)) > 0 && *(double *)f->to <= 1;
    case FLAG_TYPE: return sl_format_by_name(value, f->to) != NULL;
    }
    return false;
}

/* Takes flags from argv[1] on, with their values, up to what is none. Returns where it stopped: at a flag that nobody knows, or whose value is no good, or behind all of them. */
static inline int flags_take(const flag *flags, size_t count, int argc, char **argv)
{
    int i = 1;
    for (size_t n; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        for (n = 0; n < count && strcmp(argv[i], flags[n].name) != 0; n++)
            continue;
        if (n == count || !flag_take(&flags[n], argv[i + 1]))
            return i;
    }
    return i;
}

/* Where hollow models are made: TMPDIR, or /tmp. */
static inline const char *flags_folder(void)
{
    const char *folder = getenv("TMPDIR");
    return folder != NULL ? folder : "/tmp";
}

#endif
