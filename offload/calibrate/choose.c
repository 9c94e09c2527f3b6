/* offload/calibrate/choose.c: see choose.h. */
#include "offload/calibrate/choose.h"

#include <string.h>

static const double low_rank_shares[] = {0.05, 0.10, 0.15, 0.25};
static const double copy_bits[] = {1.0, 1.5, 2.0, 2.5, 3.0};

/* A fit of a layer of so many weights a matrix takes longer than a look at the table is worth: of such models what does not fit is left out, and one layer
 * speaks for all. */
#define WIDE_WEIGHTS ((uint64_t)1 << 24)

typedef struct listing {
    sli_candidate *out;
    uint32_t count, d, ff;
    uint64_t budget;
} listing;

static void add(listing *list, const char *name, const sli_fit_plan *plan)
{
    for (uint32_t i = 0; i < list->count; i++) {
        const sli_fit_plan *other = &list->out[i].plan;
        if (list->out[i].chooser == SLI_CHOOSE_GUESS && other->kind == plan->kind && other->blocks == plan->blocks &&
            other->planes == plan->planes)
            return;
    }
    if (list->count == SLI_CALIBRATE_ROWS)
        return;
    sli_candidate c = {.name = name, .chooser = SLI_CHOOSE_GUESS, .plan = *plan, .fits = plan->bytes <= list->budget};
    c.bits = (double)plan->planes * SL_SIGN_COLS / list->d;
    list->out[list->count++] = c;
}

static void add_within(listing *list, sli_fit_kind kind, uint64_t bytes)
{
    sli_fit_plan plan;
    if (sli_fit_plan_of(kind, list->d, list->ff, bytes, &plan))
        add(list, kind == SLI_FIT_COPY ? "copy" : "low rank", &plan);
}

static void add_copy(listing *list, double bits)
{
    sli_fit_plan plan;
    uint32_t blocks = list->d / SL_SIGN_COLS, planes = (uint32_t)(bits * blocks);
    if (!sli_fit_plan_of(SLI_FIT_COPY, list->d, list->ff, SIZE_MAX, &plan))
        return;
    size_t plane_bytes = (size_t)2 * sli_guess_rows(list->ff) / SL_SIGN_ROWS * SL_SIGN_PLANE_BYTES;
    plan.bytes -= (plan.planes - planes) * plane_bytes;
    plan.planes = planes;
    add(list, "copy", &plan);
}

uint32_t sli_choose_layers(uint32_t d, uint32_t ff)
{
    return (uint64_t)d * ff > WIDE_WEIGHTS ? 1 : SLI_CHOOSE_LAYERS;
}

#define FREE_CANDIDATES 3 /* the first ones, which need no fit */

uint32_t sli_choose_candidates(uint32_t d, uint32_t ff, uint64_t layer_budget, uint64_t layer_bytes, sli_candidate out[SLI_CALIBRATE_ROWS])
{
    listing list = {.out = out, .d = d, .ff = ff, .budget = layer_budget};
    out[list.count++] = (sli_candidate){.name = "exact", .chooser = SLI_CHOOSE_EXACT};
    out[list.count++] = (sli_candidate){.name = "static", .chooser = SLI_CHOOSE_STATIC};
    out[list.count++] = (sli_candidate){.name = "recent tokens", .chooser = SLI_CHOOSE_RECENT};
    add_within(&list, SLI_FIT_LOW_RANK, layer_budget);
    add_within(&list, SLI_FIT_COPY, layer_budget);
    if (sli_choose_layers(d, ff) == 1)
        return list.count;
    /* What the tokens before would add to the best use of the budget; no state is kept for it, as it is next to nothing. */
    if (list.count > FREE_CANDIDATES) {
        sli_candidate both = out[list.count - 1];
        both.name = "the same + recent";
        both.chooser = SLI_CHOOSE_BOTH;
        out[list.count++] = both;
    }
    for (size_t i = 0; i < sizeof low_rank_shares / sizeof *low_rank_shares; i++)
        add_within(&list, SLI_FIT_LOW_RANK, (uint64_t)(low_rank_shares[i] * (double)layer_bytes));
    for (size_t i = 0; i < sizeof copy_bits / sizeof *copy_bits; i++)
        add_copy(&list, copy_bits[i]);
    return list.count;
}

void sli_choose_sizes(const sli_candidate *candidates, uint32_t count, uint32_t d, uint32_t ff, size_t *blob_bytes, size_t *scratch_bytes)
{
    *blob_bytes = *scratch_bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (candidates[i].plan.bytes == 0)
            continue;
        size_t scratch = sli_fit_scratch_bytes(&candidates[i].plan, d, ff);
        *blob_bytes = candidates[i].plan.bytes > *blob_bytes ? candidates[i].plan.bytes : *blob_bytes;
        *scratch_bytes = scratch > *scratch_bytes ? scratch : *scratch_bytes;
    }
}

uint32_t sli_choose_best(const sli_calibrate_row *rows, const sli_candidate *candidates, uint32_t count)
{
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < count; i++) {
        if (candidates[i].chooser != SLI_CHOOSE_GUESS || !candidates[i].fits)
            continue;
        if (best == UINT32_MAX ||
            rows[i].quality.lost[0] + rows[i].quality.lost[1] < rows[best].quality.lost[0] + rows[best].quality.lost[1])
            best = i;
    }
    return best;
}
