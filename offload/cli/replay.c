/* offload/cli/replay.c: `sluice replay`: a recorded run again, to the byte, and as other policies, memory and links would have had it. */
#include "pager/replay.h"
#include "core/os.h"
#include "offload/cli/cli.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MAX 32

typedef struct asked {
    sl_replay_policy policy[LIST_MAX];
    uint64_t cache_bytes[LIST_MAX], link_Bps[LIST_MAX]; /* link 0: the run's */
    size_t policy_count, cache_count, link_count;
} asked;

typedef struct replaying {
    const cli_args *args;
    const char *path;
    sl_record_file file;
    sl_replay *replay;
    sl_replayed again;
    sl_replay_result own; /* the model of the run as it was */
    asked asked;
    json_t *rows;
} replaying;

/* ---- lists ---- */

typedef sl_status (*take_word)(replaying *r, const char *word, sl_error *err);

static sl_status each_word(const char *flag, const char *list, replaying *r, take_word take, sl_error *err)
{
    char word[64];
    for (size_t n = 0; list != NULL; n++) {
        size_t length = strcspn(list, ",");
        if (n == LIST_MAX || length == 0 || length >= sizeof word)
            return sl_fail(err, SL_INVALID, "%s %s: a list of 1 to %d words with commas between", flag, list, LIST_MAX);
        memcpy(word, list, length);
        word[length] = '\0';
        SL_TRY(take(r, word, err));
        list = list[length] == ',' ? list + length + 1 : NULL;
    }
    return SL_OK;
}

static sl_status take_policy(replaying *r, const char *word, sl_error *err)
{
    int policy;
    SL_TRY(cli_one_of("--policy", word, cli_policy_word, &policy, err));
    r->asked.policy[r->asked.policy_count++] = (sl_replay_policy)policy;
    return SL_OK;
}

static sl_status take_cache(replaying *r, const char *word, sl_error *err)
{
    char *end;
    double share = strtod(word, &end);
    uint64_t *out = &r->asked.cache_bytes[r->asked.cache_count++];
    if (strcmp(end, "%") == 0 && share >= 0 && share <= 100)
        *out = (uint64_t)(share / 100 * (double)r->file.head.weight_bytes);
    else if (!sl_parse_size(word, out))
        return sl_fail(err, SL_INVALID, "--cache %s: it must be a size such as 512M, or a share of the weights from 0%% to 100%%", word);
    return SL_OK;
}

static sl_status take_link(replaying *r, const char *word, sl_error *err)
{
    uint64_t *out = &r->asked.link_Bps[r->asked.link_count++];
    if (!sl_parse_size(word, out) || *out == 0)
        return sl_fail(err, SL_INVALID, "--throttle %s: it must be a size per second above zero, such as 500M or 2G", word);
    return SL_OK;
}

static sl_status read_lists(replaying *r, sl_error *err)
{
    asked *a = &r->asked;
    SL_TRY(each_word("--policy", r->args->policies, r, take_policy, err));
    SL_TRY(each_word("--cache", r->args->caches, r, take_cache, err));
    SL_TRY(each_word("--throttle", r->args->links, r, take_link, err));
    for (int i = 0; r->args->policies == NULL && i < SL_REPLAY_POLICIES; i++)
        a->policy[a->policy_count++] = (sl_replay_policy)i;
    if (a->cache_count == 0)
        a->cache_bytes[a->cache_count++] = sl_replay_cache_bytes(&r->file);
    if (a->link_count == 0)
        a->link_Bps[a->link_count++] = 0;
    return SL_OK;
}

/* ---- what is said ---- */

static uint64_t bytes_of_run(const replaying *r)
{
    return r->file.head.bytes_read + r->file.head.bundle_bytes_read;
}

static double per_pass(const replaying *r, double what)
{
    return r->file.head.passes > 0 ? what / (double)r->file.head.passes : 0;
}

static double hit_rate(const sl_replay_result *m)
{
    return m->used_bytes > 0 ? (double)m->hit_bytes / (double)m->used_bytes : 1;
}

static void print_run(const replaying *r)
{
    const sl_record_head *h = &r->file.head;
    char read[24], cache[24], weights[24], link[24];
    sl_format_size(bytes_of_run(r), read);
    sl_format_size(sl_replay_cache_bytes(&r->file), cache);
    sl_format_size(h->weight_bytes, weights);
    sl_format_size((uint64_t)sl_replay_link(&r->file), link);
    printf("%s: %llu passes over %s (%s), of which %s stayed%s\n", r->path, (unsigned long long)h->passes, r->file.name, weights, cache,
           (h->flags & SL_RECORD_CUT) != 0 ? "; the recorder's memory was full before the run's end" : "");
    printf("run again: %llu bytes read in %llu requests, as in the run (%s, %s/s while it read, %.3f s)\n",
           (unsigned long long)r->again.bytes_read, (unsigned long long)r->again.requests, read, link, (double)h->elapsed_ns * 1e-9);
    printf("the model of it: %+.2f %% of the bytes, %+.1f %% of the time\n\n",
           100 * ((double)r->own.bytes_read / fmax(1, (double)bytes_of_run(r)) - 1),
           100 * (r->own.seconds / fmax(1e-9, (double)h->elapsed_ns * 1e-9) - 1));
    printf("| policy | cache | link | hits | read | a pass | predicted | a pass |\n|---|---|---|---|---|---|---|---|\n");
}

static void print_row(const replaying *r, sl_replay_policy policy, const sl_replay_result *m)
{
    char cache[24], link[24], read[24], pass[24];
    sl_format_size(m->cache_bytes, cache);
    sl_format_size((uint64_t)m->link_Bps, link);
    sl_format_size(m->bytes_read, read);
    sl_format_size((uint64_t)per_pass(r, (double)m->bytes_read), pass);
    printf("| %s | %s | %s/s | %.1f %% | %s | %s | %.3f s | %.2f ms |\n", cli_policy_word(policy), cache, link, 100 * hit_rate(m), read,
           pass, m->seconds, 1e3 * per_pass(r, m->seconds));
}

static json_t *json_row(const replaying *r, sl_replay_policy policy, const sl_replay_result *m)
{
    return json_pack("{s:s, s:I, s:f, s:f, s:I, s:I, s:f, s:f, s:f}", "policy", cli_policy_word(policy), "cache_bytes",
                     (json_int_t)m->cache_bytes, "link_bytes_per_s", m->link_Bps, "hit_rate", hit_rate(m), "bytes_read",
                     (json_int_t)m->bytes_read, "requests", (json_int_t)m->requests, "predicted_s", m->seconds, "predicted_wait_s",
                     m->wait_s, "predicted_s_per_pass", per_pass(r, m->seconds));
}

static json_t *json_all(const replaying *r)
{
    const sl_record_head *h = &r->file.head;
    json_t *run = json_pack(
        "{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:b}", "model", cli_json_text(r->file.name, strlen(r->file.name)),
        "passes", (json_int_t)h->passes, "rows", (json_int_t)h->rows, "weight_bytes", (json_int_t)h->weight_bytes, "cache_bytes",
        (json_int_t)sl_replay_cache_bytes(&r->file), "ram_budget_bytes", (json_int_t)h->budget_bytes, "bytes_read",
        (json_int_t)bytes_of_run(r), "requests", (json_int_t)(h->requests + h->bundle_requests), "elapsed_s", (double)h->elapsed_ns * 1e-9,
        "wait_s", (double)h->wait_ns * 1e-9, "link_bytes_per_s", sl_replay_link(&r->file), "complete", (h->flags & SL_RECORD_CUT) == 0);
    return json_pack("{s:o, s:{s:I, s:I}, s:{s:I, s:f}, s:O}", "run", run, "replayed", "bytes_read", (json_int_t)r->again.bytes_read,
                     "requests", (json_int_t)r->again.requests, "model_of_run", "bytes_read", (json_int_t)r->own.bytes_read, "predicted_s",
                     r->own.seconds, "rows", r->rows);
}

/* ---- the command ---- */

static sl_status predict(replaying *r, sl_replay_policy policy, uint64_t cache_bytes, uint64_t link_Bps, sl_error *err)
{
    sl_replay_config config = {policy, cache_bytes, (double)link_Bps};
    sl_replay_result m;
    SL_TRY(sl_replay_model(r->replay, &config, &m, err));
    if (r->args->json)
        json_array_append_new(r->rows, json_row(r, policy, &m));
    else
        print_row(r, policy, &m);
    return cli_interrupted() ? sl_fail(err, SL_INTERRUPTED, "interrupted") : SL_OK;
}

static sl_status predict_all(replaying *r, sl_error *err)
{
    const asked *a = &r->asked;
    for (size_t p = 0; p < a->policy_count; p++)
        for (size_t c = 0; c < (a->policy[p] == SL_REPLAY_RUN ? 1 : a->cache_count); c++) /* the run had the memory that it had */
            for (size_t l = 0; l < a->link_count; l++)
                SL_TRY(predict(r, a->policy[p], a->cache_bytes[c], a->link_Bps[l], err));
    return SL_OK;
}

static sl_status replay_all(replaying *r, sl_error *err)
{
    sl_replay_config own = {.policy = SL_REPLAY_RUN};
    if (r->args->operands != 1)
        return sl_fail(err, SL_INVALID, "name the file that run --record wrote; usage: sluice replay FILE");
    SL_TRY(sl_record_open(r->path, &r->file, err));
    SL_TRY(read_lists(r, err));
    SL_TRY(sl_replay_run(r->path, &r->file, &r->again, err));
    SL_TRY(sl_replay_open(&r->file, &r->replay, err));
    SL_TRY(sl_replay_model(r->replay, &own, &r->own, err));
    if (!r->args->json)
        print_run(r);
    return predict_all(r, err);
}

int cli_replay(const cli_args *args)
{
    replaying r = {.args = args, .path = args->operand[0], .rows = json_array()};
    sl_error err = {0};
    cli_catch_interrupt(NULL);
    sl_status status = replay_all(&r, &err);
    int result;
    if (status != SL_OK)
        result = cli_fail(args, &err);
    else
        result = args->json ? cli_print_json(json_all(&r)) : cli_finish_text();
    sl_replay_close(r.replay);
    sl_record_close(&r.file);
    json_decref(r.rows);
    return result;
}
