/* offload/cli/trace_file.c: what an engine traced, as a file of trace events that Perfetto and chrome://tracing open.
 *
 * Events are made and written one by one, so that a large trace takes no memory beside its own. Their format: work is "X" (complete) on its
 * thread's track; a read is an asynchronous pair "b", "e" with an id of its own, for reads overlap; levels are counters "C"; tokens instants "i".
 * Times are microseconds since the first event. */
#include "core/file_write.h"
#include "offload/cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct output {
    const sl_engine *engine;
    sl_file_writer *writer;
    uint64_t origin_ns, end_ns; /* of all events */
    uint64_t reads, events, read_bytes;
    unsigned threads;
    sl_status status;
    sl_error *err;
} output;

static double micros(const output *o, uint64_t ns)
{
    return (double)(ns - o->origin_ns) / 1000;
}

static void put(output *o, const char *text, size_t length)
{
    if (o->status == SL_OK)
        o->status = sl_file_writer_put(o->writer, text, length, o->err);
}

/* Takes the value over. */
static bool put_event(output *o, json_t *event)
{
    char *text = event != NULL ? json_dumps(event, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(event);
    if (text == NULL && o->status == SL_OK)
        o->status = sl_fail(o->err, SL_NO_MEMORY, "%s: out of memory for an event", sl_file_writer_path(o->writer));
    if (o->events++ > 0)
        put(o, ",\n", 2);
    if (text != NULL)
        put(o, text, strlen(text));
    free(text);
    return o->status == SL_OK;
}

/* ---- events ---- */

static bool put_span(output *o, const sl_trace_event *e)
{
    json_t *args = json_object();
    if (e->layer >= 0)
        json_object_set_new(args, "layer", json_integer(e->layer));
    if (e->rows > 0)
        json_object_set_new(args, "rows", json_integer(e->rows));
    return put_event(o, json_pack("{s:s, s:s, s:s, s:f, s:f, s:i, s:i, s:o}", "name", e->name, "cat", e->thread == 0 ? "work" : "share",
                                  "ph", "X", "ts", micros(o, e->begin_ns), "dur", (double)(e->end_ns - e->begin_ns) / 1000, "pid", 1, "tid",
                                  (int)e->thread, "args", args));
}

static bool put_depth(output *o, const sl_trace_event *e, uint64_t ns, uint32_t depth)
{
    bool neurons = strcmp(e->name, "neurons") == 0; /* a queue of their own */
    return put_event(o, json_pack("{s:s, s:s, s:f, s:i, s:{s:i}}", "name", neurons ? "queue depth (neurons)" : "queue depth", "ph", "C",
                                  "ts", micros(o, ns), "pid", 1, "args", "reads", (int)depth));
}

static bool put_read(output *o, const sl_trace_event *e)
{
    char id[24];
    snprintf(id, sizeof id, "0x%llx", (unsigned long long)++o->reads);
    bool back = e->end_ns != 0;
    o->read_bytes += e->bytes;
    json_t *args = json_pack("{s:I, s:I, s:I, s:o, s:b}", "file", (json_int_t)e->file, "offset", (json_int_t)e->offset, "bytes",
                             (json_int_t)e->bytes, "what", cli_json_text(e->what, strlen(e->what)), "finished", back);
    return put_event(o, json_pack("{s:s, s:s, s:s, s:s, s:f, s:i, s:i, s:o}", "name", e->name, "cat", "read", "ph", "b", "id", id, "ts",
                                  micros(o, e->begin_ns), "pid", 1, "tid", 0, "args", args)) &&
           put_event(o, json_pack("{s:s, s:s, s:s, s:s, s:f, s:i, s:i}", "name", e->name, "cat", "read", "ph", "e", "id", id, "ts",
                                  micros(o, back ? e->end_ns : o->end_ns), "pid", 1, "tid", 0)) &&
           put_depth(o, e, e->begin_ns, e->depth_begin) && (!back || put_depth(o, e, e->end_ns, e->depth_end));
}

static bool put_token(output *o, const sl_trace_event *e)
{
    size_t length;
    const char *text = sl_engine_piece(o->engine, e->token, true, &length);
    return put_event(o, json_pack("{s:s, s:s, s:s, s:s, s:f, s:i, s:i, s:{s:i, s:I, s:o}}", "name", e->name, "cat", "token", "ph", "i", "s",
                                  "p", "ts", micros(o, e->begin_ns), "pid", 1, "tid", 0, "args", "id", (int)e->token, "number",
                                  (json_int_t)e->value, "text", cli_json_text(text, length)));
}

static bool put_level(output *o, const sl_trace_event *e)
{
    bool share = strcmp(e->name, "hit rate") == 0;
    json_t *level = share ? json_real((double)e->value / 1000) : json_integer((json_int_t)e->value);
    return put_event(o, json_pack("{s:s, s:s, s:f, s:i, s:{s:o}}", "name", e->name, "ph", "C", "ts", micros(o, e->begin_ns), "pid", 1,
                                  "args", share ? "share" : "bytes", level));
}

static bool see(void *ctx, const sl_trace_event *e)
{
    output *o = ctx;
    switch (e->type) {
    case SL_EVENT_SPAN: return put_span(o, e);
    case SL_EVENT_READ: return put_read(o, e);
    case SL_EVENT_TOKEN: return put_token(o, e);
    case SL_EVENT_LEVEL: return put_level(o, e);
    }
    return true;
}

/* ---- the file ---- */

static bool find_times(void *ctx, const sl_trace_event *e)
{
    output *o = ctx;
    uint64_t end = e->end_ns > e->begin_ns ? e->end_ns : e->begin_ns;
    o->origin_ns = e->begin_ns < o->origin_ns ? e->begin_ns : o->origin_ns;
    o->end_ns = end > o->end_ns ? end : o->end_ns;
    return true;
}

static void put_names(output *o)
{
    put_event(o, json_pack("{s:s, s:s, s:i, s:{s:s}}", "name", "process_name", "ph", "M", "pid", 1, "args", "name", "sluice"));
    for (unsigned i = 0; i < o->threads; i++) {
        char name[48];
        snprintf(name, sizeof name, i == 0 ? "thread 0: passes, layers, work" : "thread %u: its shares", i);
        put_event(
            o, json_pack("{s:s, s:s, s:i, s:i, s:{s:s}}", "name", "thread_name", "ph", "M", "pid", 1, "tid", (int)i, "args", "name", name));
        put_event(o, json_pack("{s:s, s:s, s:i, s:i, s:{s:i}}", "name", "thread_sort_index", "ph", "M", "pid", 1, "tid", (int)i, "args",
                               "sort_index", (int)i));
    }
}

static void put_end(output *o, uint64_t dropped)
{
    sl_engine_stats stats;
    sl_engine_measure(o->engine, &stats);
    json_t *about = json_pack("{s:s, s:I, s:I, s:I, s:I}", "program", "sluice " SLUICE_VERSION, "events", (json_int_t)o->events,
                              "events_dropped", (json_int_t)dropped, "read_bytes", (json_int_t)o->read_bytes, "bytes_read",
                              (json_int_t)stats.bytes_read);
    char *text = json_dumps(about, JSON_COMPACT);
    put(o, "\n],\"displayTimeUnit\":\"ms\",\"otherData\":", strlen("\n],\"displayTimeUnit\":\"ms\",\"otherData\":"));
    put(o, text != NULL ? text : "{}", text != NULL ? strlen(text) : 2);
    put(o, "}\n", 2);
    free(text);
    json_decref(about);
}

sl_status cli_write_trace(const sl_engine *engine, const char *path, sl_error *err)
{
    sl_engine_info info;
    output o = {.engine = engine, .origin_ns = UINT64_MAX, .err = err};
    sl_engine_describe(engine, &info);
    o.threads = info.threads;
    (void)sl_engine_trace(engine, find_times, &o);
    SL_TRY(sl_file_writer_create(path, &o.writer, err));
    o.status = sl_file_writer_begin(o.writer, 0, false, err);
    put(&o, "{\"traceEvents\":[\n", strlen("{\"traceEvents\":[\n"));
    put_names(&o);
    uint64_t dropped = sl_engine_trace(engine, see, &o);
    put_end(&o, dropped);
    if (o.status != SL_OK) {
        sl_file_writer_discard(o.writer);
        return o.status;
    }
    if (dropped > 0)
        fprintf(stderr, "%s: the last %llu events; %llu before them had no room (--trace-buffer takes more)\n", path,
                (unsigned long long)o.events, (unsigned long long)dropped);
    return sl_file_writer_finish(o.writer, err);
}
