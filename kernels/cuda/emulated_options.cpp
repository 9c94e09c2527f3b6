/* kernels/cuda/emulated_options.cpp: "memory=4G,link=12G,lazy=1": what an emulated device is to be like. The names are emulated.h's. */
#include "kernels/cuda/emulated.h"

extern "C" {
#include "core/os.h"
}

#include <stdlib.h>

namespace emulated
{

static bool number(const char *text, uint64_t *out)
{
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9')
        return false;
    *out = strtoull(text, &end, 10);
    return *end == '\0';
}

static bool rate(const char *text, double *out)
{
    uint64_t bytes = 0;
    if (!sl_parse_size(text, &bytes) || bytes == 0)
        return false;
    *out = (double)bytes;
    return true;
}

static bool nanoseconds(const char *text, double *out)
{
    uint64_t ns = 0;
    if (!number(text, &ns))
        return false;
    *out = (double)ns * 1e-9;
    return true;
}

static bool yes_or_no(const char *text, bool *out)
{
    *out = text[0] == '1';
    return (text[0] == '0' || text[0] == '1') && text[1] == '\0';
}

static bool set(options *o, const char *name, const char *value)
{
    const struct {
        const char *name;
        uint64_t *count, *size;
        double *rate, *ns;
        bool *flag;
    } known[] = {
        {"memory", NULL, &o->memory, NULL, NULL, NULL},
        {"pinned", NULL, &o->pinned, NULL, NULL, NULL},
        {"link", NULL, NULL, &o->link, NULL, NULL},
        {"memory_bandwidth", NULL, NULL, &o->memory_bandwidth, NULL, NULL},
        {"latency_ns", NULL, NULL, NULL, &o->latency_s, NULL},
        {"launch_ns", NULL, NULL, NULL, &o->launch_s, NULL},
        {"call_ns", NULL, NULL, NULL, &o->call_s, NULL},
        {"seed", &o->seed, NULL, NULL, NULL, NULL},
        {"order", &o->order, NULL, NULL, NULL, NULL},
        {"fail", &o->fail, NULL, NULL, NULL, NULL},
        {"lost", &o->lost, NULL, NULL, NULL, NULL},
        {"broken", &o->broken, NULL, NULL, NULL, NULL},
        {"lazy", NULL, NULL, NULL, NULL, &o->lazy},
        {"guard", NULL, NULL, NULL, NULL, &o->guard},
        {"graphs", NULL, NULL, NULL, NULL, &o->graphs},
        {"zero_copy", NULL, NULL, NULL, NULL, &o->zero_copy},
        {"timing_only", NULL, NULL, NULL, NULL, &o->timing_only},
    };
    for (const auto &k : known) {
        if (strcmp(k.name, name) != 0)
            continue;
        if (strcmp(name, "lazy") == 0 && value[0] == '1')
            o->guard = true;
        return (k.count != NULL && number(value, k.count)) || (k.size != NULL && sl_parse_size(value, k.size)) ||
               (k.rate != NULL && rate(value, k.rate)) || (k.ns != NULL && nanoseconds(value, k.ns)) ||
               (k.flag != NULL && yes_or_no(value, k.flag));
    }
    return false;
}

sl_status parse(const char *text, options *out, sl_error *err)
{
    *out = options();
    while (*text != '\0') {
        char part[64] = "";
        size_t length = strcspn(text, ",");
        memcpy(part, text, length < sizeof part ? length : sizeof part - 1);
        char *value = strchr(part, '=');
        if (value != NULL)
            *value++ = '\0';
        if (value == NULL || length >= sizeof part || !set(out, part, value))
            return sl_fail(err, SL_INVALID,
                           "'%.*s' is no option of the emulated device; memory, pinned, link and memory_bandwidth (sizes), latency_ns, "
                           "launch_ns, call_ns, seed, order, fail, lost and broken (numbers), lazy, guard, graphs, zero_copy and "
                           "timing_only (0 or 1) are",
                           (int)(length < 64 ? length : 64), text);
        text += length + (text[length] == ',');
    }
    if (out->memory == 0 || out->memory > (uint64_t)1 << 44)
        return sl_fail(err, SL_INVALID, "an emulated device of %llu bytes; up to 16 TiB work", (unsigned long long)out->memory);
    return SL_OK;
}

} // namespace emulated
