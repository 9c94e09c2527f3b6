/* tests/test_price.c: what a price list promises, over many budgets, batches and contexts, for models without any weights.
 *
 * The prices are pure: a header that says it is 7B is priced like one. */
#include "core/os.h"
#include "offload/engine.h"
#include "offload/tools/synth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

/* ---- models without weights ---- */

typedef struct shape {
    sl_model model; /* first: the tensors below are its own */
    sl_gguf_tensor *tensors;
    uint64_t matrix_bytes;
} shape;

static void put_tensor(shape *s, size_t index, uint32_t type, uint64_t columns, uint64_t rows, uint64_t *at)
{
    sl_gguf_tensor *t = &s->tensors[index];
    *t = (sl_gguf_tensor){
        .type = type, .dims = 2, .shape = {columns, rows, 1, 1}, .offset = *at, .bytes = sl_row_bytes(type, columns) * rows};
    *at += (t->bytes + 31) / 32 * 32;
    s->model.tensors[index] = t;
    if (rows > 1)
        s->matrix_bytes += t->bytes;
}

static shape *make_shape(const char *name, uint32_t type)
{
    const sl_synth_shape *from = NULL;
    for (size_t i = 0; (from = sl_synth_shape_at(i)) != NULL && strcmp(from->name, name) != 0;)
        i++;
    assert_non_null(from);
    shape *s = calloc(1, sizeof *s);
    assert_non_null(s);
    sl_model *m = &s->model;
    *m = (sl_model){.arch = sl_arch_find((sl_str){"llama", 5}),
                    .layers = from->layers,
                    .d = from->d,
                    .ff = from->ff,
                    .heads = from->heads,
                    .kv_heads = from->kv_heads,
                    .head_dim = from->d / from->heads,
                    .rope_dim = from->d / from->heads,
                    .vocab = from->vocab,
                    .context = from->context,
                    .tied = from->tied,
                    .gated = true};
    size_t of_layer = SL_ROLE_COUNT - SL_ROLE_ATTN_NORM, slots = SL_ROLE_ATTN_NORM + m->layers * of_layer;
    s->tensors = calloc(slots, sizeof *s->tensors);
    m->tensors = calloc(slots, sizeof *m->tensors);
    assert_true(s->tensors != NULL && m->tensors != NULL);
    uint64_t at = 4000, kv = (uint64_t)m->kv_heads * m->head_dim; /* the data of a file starts anywhere */
    put_tensor(s, SL_ROLE_TOKEN_EMBD, type, m->d, m->vocab, &at);
    put_tensor(s, SL_ROLE_OUTPUT_NORM, SL_TYPE_F32, m->d, 1, &at);
    if (!m->tied) {
        put_tensor(s, SL_ROLE_OUTPUT, type, m->d, m->vocab, &at);
        s->matrix_bytes -= s->tensors[SL_ROLE_TOKEN_EMBD].bytes; /* its rows are read one by one: no unit */
    }
    for (uint32_t layer = 0; layer < m->layers; layer++) {
        size_t base = layer * of_layer;
        put_tensor(s, base + SL_ROLE_ATTN_NORM, SL_TYPE_F32, m->d, 1, &at);
        put_tensor(s, base + SL_ROLE_ATTN_Q, type, m->d, m->d, &at);
        put_tensor(s, base + SL_ROLE_ATTN_K, type, m->d, kv, &at);
        put_tensor(s, base + SL_ROLE_ATTN_V, type, m->d, kv, &at);
        put_tensor(s, base + SL_ROLE_ATTN_OUT, type, m->d, m->d, &at);
        put_tensor(s, base + SL_ROLE_FFN_NORM, SL_TYPE_F32, m->d, 1, &at);
        put_tensor(s, base + SL_ROLE_FFN_GATE, type, m->d, m->ff, &at);
        put_tensor(s, base + SL_ROLE_FFN_UP, type, m->d, m->ff, &at);
        put_tensor(s, base + SL_ROLE_FFN_DOWN, type, m->ff, m->d, &at);
    }
    return s;
}

static void free_shape(shape *s)
{
    free(s->model.tensors);
    free(s->tensors);
    free(s);
}

/* ---- prices ---- */

static sli_wishes usual(uint64_t budget)
{
    return (sli_wishes){.budget_bytes = budget,
                        .process_bytes = 12 * MIB + 345,
                        .threads = 4,
                        .kv = {.context = 512, .k_type = SL_TYPE_F16, .v_type = SL_TYPE_F16},
                        .io_alignment = 4096};
}

typedef struct priced {
    sl_status status;
    sli_price price;
    uint64_t least;
    uint64_t home_bytes, streamed_bytes;
    uint32_t units;
} priced;

/* Checks what must hold of any price, too. */
static priced ask(const shape *s, const sli_wishes *wishes)
{
    priced p = {0};
    sli_units units;
    sl_error err = {0};
    p.status = sli_price_model(&s->model, "model", wishes, &p.price, &units, &p.least, &err);
    if (p.status != SL_OK) {
        assert_int_equal(p.status, SL_NO_BUDGET);
        assert_true(err.ram_budget_min_bytes == p.least && p.least > wishes->budget_bytes);
        assert_true(units.units == NULL && units.matrices == NULL);
        return p;
    }
    const sli_price *q = &p.price;
    assert_true(q->total_bytes <= wishes->budget_bytes);
    assert_true(q->total_bytes ==
                q->process_bytes + q->kv_bytes + q->scratch_bytes + q->staging_bytes + q->table_bytes + q->resident_bytes);
    assert_true(q->process_bytes == wishes->process_bytes);
    assert_true(q->kv_bytes == sli_kv_price(&s->model, &wishes->kv));
    assert_true(q->batch >= 1 && (wishes->batch == 0 || q->batch == wishes->batch));
    assert_true(q->staging_bytes >= sl_pager_staging_min(units.units, units.count, wishes->io_alignment));
    for (uint32_t i = 0; i < units.count; i++)
        *(units.units[i].home ? &p.home_bytes : &p.streamed_bytes) += units.units[i].bytes;
    assert_true(q->resident_bytes >= p.home_bytes);
    assert_true(p.home_bytes + p.streamed_bytes == s->matrix_bytes);
    p.units = units.count;
    sli_units_free(&units);
    return p;
}

typedef void (*visit)(const shape *s, const char *name, bool large);

static void for_each_shape(visit check)
{
    static const struct {
        const char *name;
        uint32_t type;
        bool large;
    } shapes[] = {{"tiny", SL_TYPE_Q4_0, false},    {"tiny-untied", SL_TYPE_F32, false}, {"smollm2-135m", SL_TYPE_Q4_1, false},
                  {"llama-7b", SL_TYPE_Q4_0, true}, {"llama3-8b", SL_TYPE_F16, true},    {"llama-70b", SL_TYPE_Q8_0, true}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        shape *s = make_shape(shapes[i].name, shapes[i].type);
        check(s, shapes[i].name, shapes[i].large);
        free_shape(s);
    }
}

/* ---- tests ---- */

static void units_cover_each(const shape *s, const char *name, bool large)
{
    (void)large;
    for (uint32_t unit_bytes = 4096; unit_bytes <= 4 * MIB; unit_bytes *= 8) {
        sli_units units;
        assert_int_equal(sli_units_build(&s->model, NULL, unit_bytes, &units, NULL), SL_OK);
        assert_true(units.bytes == s->matrix_bytes);
        for (uint32_t entry = 0; entry < s->model.layers * units.layer_ops + units.head_ops; entry++) {
            const sli_matrix *m = &units.matrices[entry];
            uint64_t at = m->offset;
            for (uint32_t i = 0; i < m->unit_count; i++) {
                const sl_unit *u = &units.units[m->first_unit + i];
                if (u->offset != at || u->bytes == 0 || u->bytes > units.largest_bytes || u->bytes % m->row_bytes != 0)
                    fail_msg("%s: unit %u of matrix %u", name, i, entry);
                at += u->bytes;
            }
            assert_true(at == m->offset + (uint64_t)m->rows * m->row_bytes * (m->unit_count > 0));
            assert_true(m->unit_count == 0 || m->rows_per_unit % SL_PANEL_ROWS == 0);
        }
        sli_units_free(&units);
    }
}

static void units_cover_each_matrix_without_gap_or_overlap(void **state)
{
    (void)state;
    for_each_shape(units_cover_each);
}

static void no_budget_is_exceeded_by(const shape *s, const char *name, bool large)
{
    static const uint32_t batches[] = {0, 1, 7, 512}, contexts[] = {1, 64, 513, 4096};
    uint64_t most = s->matrix_bytes * 2 + GIB;
    for (size_t c = 0; c < 4; c++)
        for (size_t b = 0; b < 4; b++)
            for (uint64_t budget = MIB; budget < most; budget = budget * (large ? 3 : 2) + 54321) {
                sli_wishes wishes = usual(budget);
                wishes.batch = batches[b];
                wishes.kv.context = contexts[c];
                wishes.all_logits = b == 1;
                ask(s, &wishes);
            }
    (void)name;
}

static void no_budget_is_exceeded_whatever_is_asked(void **state)
{
    (void)state;
    for_each_shape(no_budget_is_exceeded_by);
}

static void the_least_works(const shape *s, const char *name, bool large)
{
    (void)large;
    static const uint32_t batches[] = {0, 1, 64};
    for (size_t i = 0; i < 3; i++)
        for (uint64_t odd = 0; odd < 3; odd++) {
            sli_wishes wishes = usual(0);
            wishes.batch = batches[i];
            wishes.process_bytes += odd * 333 * KIB;
            priced refused = ask(s, &wishes);
            assert_int_equal(refused.status, SL_NO_BUDGET);
            wishes.budget_bytes = refused.least;
            priced taken = ask(s, &wishes);
            if (taken.status != SL_OK)
                fail_msg("%s: %llu bytes were named and are refused", name, (unsigned long long)refused.least);
            assert_true(taken.least == refused.least);
            wishes.budget_bytes = refused.least - 2 * MIB;
            assert_int_equal(ask(s, &wishes).status, SL_NO_BUDGET);
            wishes.budget_bytes = refused.least;
            wishes.process_bytes += SLI_PROCESS_DRIFT_BYTES;
            if (ask(s, &wishes).status != SL_OK)
                fail_msg("%s: %llu bytes are refused to a process that is a little larger", name, (unsigned long long)refused.least);
        }
}

static void the_minimum_that_is_named_works_for_a_larger_process_too_and_two_mebibytes_less_are_refused(void **state)
{
    (void)state;
    for_each_shape(the_least_works);
}

static void an_ample_budget_keeps_all(const shape *s, const char *name, bool large)
{
    (void)name;
    (void)large;
    sli_wishes wishes = usual(s->matrix_bytes * 2 + 2 * GIB);
    priced p = ask(s, &wishes);
    assert_int_equal(p.status, SL_OK);
    assert_true(p.streamed_bytes == 0);
    assert_int_equal(p.price.batch, 512);
    wishes.kv.context = 32;
    assert_int_equal(ask(s, &wishes).price.batch, 32); /* more rows than positions are no use */
}

static void an_ample_budget_keeps_every_weight(void **state)
{
    (void)state;
    for_each_shape(an_ample_budget_keeps_all);
}

static void a_tight_budget_is_spent(const shape *s, const char *name, bool large)
{
    sli_wishes wishes = usual(0);
    uint64_t least = ask(s, &wishes).least;
    if (!large)
        return;
    for (int part = 1; part <= 3; part++) {
        wishes.budget_bytes = least + s->matrix_bytes / 4 * (uint64_t)part;
        priced p = ask(s, &wishes);
        assert_int_equal(p.status, SL_OK);
        /* Nothing that would have fit is left out: less than a unit, or the rounding of an arena, is free. */
        uint64_t left = wishes.budget_bytes - p.price.total_bytes;
        if (p.streamed_bytes == 0 || left > 3 * MIB + p.price.unit_bytes)
            fail_msg("%s: %llu MiB of %llu are not used", name, (unsigned long long)(left / MIB), (unsigned long long)wishes.budget_bytes);
        /* At least nine tenths of what exceeds the minimum is weights that stay. */
        assert_true(p.home_bytes >= (wishes.budget_bytes - least) / 10 * 9);
    }
}

static void what_a_tight_budget_leaves_is_weights_that_stay(void **state)
{
    (void)state;
    for_each_shape(a_tight_budget_is_spent);
}

static void more_memory_streams_less(const shape *s, const char *name, bool large)
{
    sli_wishes wishes = usual(0);
    uint64_t least = ask(s, &wishes).least, step = large ? s->matrix_bytes / 50 : s->matrix_bytes / 50 + MIB / 2, before = UINT64_MAX;
    for (wishes.budget_bytes = least; wishes.budget_bytes < least + s->matrix_bytes * 5 / 4 + 64 * MIB; wishes.budget_bytes += step) {
        priced p = ask(s, &wishes);
        assert_int_equal(p.status, SL_OK);
        /* Units, ring and batch grow in steps, which may take back a little. */
        if (before != UINT64_MAX && p.streamed_bytes > before + before / 50 + 4 * MIB)
            fail_msg("%s: %llu MiB stream %llu, less memory %llu", name, (unsigned long long)(wishes.budget_bytes / MIB),
                     (unsigned long long)p.streamed_bytes, (unsigned long long)before);
        before = p.streamed_bytes;
    }
    assert_true(before == 0);
}

static void more_memory_never_streams_noticeably_more(void **state)
{
    (void)state;
    for_each_shape(more_memory_streams_less);
}

static void what_stays_is_spread_over_the_layers(void **state)
{
    (void)state;
    shape *s = make_shape("llama-7b", SL_TYPE_Q4_0);
    sli_wishes wishes = usual(0);
    wishes.budget_bytes = ask(s, &wishes).least + s->matrix_bytes / 2;
    sli_price price;
    sli_units units;
    uint64_t least;
    assert_int_equal(sli_price_model(&s->model, "model", &wishes, &price, &units, &least, NULL), SL_OK);
    uint32_t per_quarter = units.body_count / 4;
    for (uint32_t quarter = 0; quarter < 4; quarter++) {
        uint32_t homes = 0;
        for (uint32_t i = quarter * per_quarter; i < (quarter + 1) * per_quarter; i++)
            homes += units.units[i].home;
        assert_in_range(homes, per_quarter / 3, per_quarter * 2 / 3);
    }
    sli_units_free(&units);
    free_shape(s);
}

static void each_wish_has_its_price(void **state)
{
    (void)state;
    shape *s = make_shape("llama-7b", SL_TYPE_Q4_0);
    sli_wishes wishes = usual(0);
    uint64_t base = ask(s, &wishes).least;
    wishes.kv.context = 4096;
    uint64_t longer = ask(s, &wishes).least;
    /* 7 x 512 positions of 32 layers, 4096 components, keys and values, two bytes each; and 1/512 for page tables. */
    assert_in_range(longer - base, 7 * 256 * MIB, 7 * 257 * MIB + MIB);
    wishes.kv.k_type = SL_TYPE_Q8_0;
    wishes.kv.v_type = SL_TYPE_Q8_0;
    assert_true(ask(s, &wishes).least < longer - 900 * MIB);
    wishes.kv.v_type = SL_TYPE_F32;
    assert_true(ask(s, &wishes).least > longer + 900 * MIB / 2);

    wishes = usual(0);
    wishes.batch = 512;
    uint64_t rows = ask(s, &wishes).least;
    assert_true(rows > base + 50 * MIB);
    wishes.all_logits = true;
    assert_true(ask(s, &wishes).least > rows + 60 * MIB); /* 511 rows of 32000 floats */
    wishes = usual(0);
    wishes.process_bytes += 100 * MIB;
    assert_in_range(ask(s, &wishes).least - base, 100 * MIB, 102 * MIB);
    free_shape(s);
}

/* Rows for the logits of a check are paid for, but never make a model fit worse than it did without. */
static void drafts_are_granted_where_there_is_room_and_never_raise_the_minimum(void **state)
{
    (void)state;
    shape *s = make_shape("llama-7b", SL_TYPE_Q4_0);
    sli_wishes wishes = usual(0);
    uint64_t least = ask(s, &wishes).least;
    wishes.draft_max = 16;
    assert_true(ask(s, &wishes).least == least);
    wishes.budget_bytes = least;
    assert_int_equal(ask(s, &wishes).price.draft_max, 0);
    wishes.budget_bytes = least + s->matrix_bytes / 2;
    priced with = ask(s, &wishes);
    assert_int_equal(with.price.draft_max, 16);
    assert_true(with.price.batch >= 17);
    wishes.draft_max = 0;
    priced without = ask(s, &wishes);
    uint64_t rows = 16 * (uint64_t)s->model.vocab * sizeof(float);
    assert_true(with.price.batch != without.price.batch || with.price.scratch_bytes >= without.price.scratch_bytes + rows);
    wishes.draft_max = 16;
    wishes.batch = 9;
    assert_int_equal(ask(s, &wishes).price.draft_max, 8);
    wishes.kv.context = 6;
    assert_int_equal(ask(s, &wishes).price.draft_max, 5);
    free_shape(s);
}

static void the_refusal_names_what_was_asked_what_works_and_the_cache(void **state)
{
    (void)state;
    shape *s = make_shape("llama-7b", SL_TYPE_Q4_0);
    sli_wishes wishes = usual(100 * MIB);
    sli_price price;
    sli_units units;
    uint64_t least;
    sl_error err = {0};
    char needed[24];
    assert_int_equal(sli_price_model(&s->model, "seven.gguf", &wishes, &price, &units, &least, &err), SL_NO_BUDGET);
    sl_format_size(least, needed);
    assert_non_null(strstr(err.message, "seven.gguf: a RAM budget of 100"));
    assert_non_null(strstr(err.message, needed));
    assert_non_null(strstr(err.message, "512 positions"));
    assert_int_equal(sli_price_model(&s->model, "seven.gguf", &wishes, &price, &units, &least, NULL), SL_NO_BUDGET);
    free_shape(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_cover_each_matrix_without_gap_or_overlap),
        cmocka_unit_test(no_budget_is_exceeded_whatever_is_asked),
        cmocka_unit_test(the_minimum_that_is_named_works_for_a_larger_process_too_and_two_mebibytes_less_are_refused),
        cmocka_unit_test(an_ample_budget_keeps_every_weight),
        cmocka_unit_test(what_a_tight_budget_leaves_is_weights_that_stay),
        cmocka_unit_test(more_memory_never_streams_noticeably_more),
        cmocka_unit_test(what_stays_is_spread_over_the_layers),
        cmocka_unit_test(each_wish_has_its_price),
        cmocka_unit_test(drafts_are_granted_where_there_is_room_and_never_raise_the_minimum),
        cmocka_unit_test(the_refusal_names_what_was_asked_what_works_and_the_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
