/* kernels/cpu/vector_tree.h: the last pages of a tree's rows, where what a row sees lies among what it does not (D5). Part of vector_attention.h.
 *
 * Slots are in the order of depth on every path, so nothing is moved but single numbers of a query's:
 *
 *     scores    of all slots of the tree's pages, for all queries at once            tail, by slot
 *     softmax   page by page of positions: a query's scores are gathered             p, by position
 *     output    the exponentials go back to their slots, zeros between them          spread, by slot; then p * V as ever
 *
 * What is not on the path is multiplied by zero, and sums run in the path's order: the bits are those of the path as a chain. */
#ifndef SL_KERNELS_CPU_VECTOR_TREE_H
#define SL_KERNELS_CPU_VECTOR_TREE_H

/* The slot, counted from position 0's, where a row finds a position. */
static uint32_t slot_of(const sl_attention *job, uint32_t row, uint32_t position)
{
    return position >= job->pos0 ? job->pos0 + job->tree->path[row][position - job->pos0] : position;
}

static float *tail_of(const block *b, uint32_t page, uint32_t query)
{
    size_t number = page - b->job->pos0 / SL_KV_PAGE;
    return b->s.tail + (number * sli_block_queries(b->job->head_dim) + query) * CHUNK;
}

/* tail = scores of the slots of `page` before `end`. */
static void score_slots(const block *b, uint32_t page, uint32_t end)
{
    product scores = scores_of(b, page, tail_of(b, page, 0));
    run_product(&scores, 0, b->count, 0, (end + 15) / 16 * 16);
}

/* s.p = the exponentials of a page of positions. */
static void softmax_positions(const block *b, uint32_t page)
{
    const sl_attention *job = b->job;
    for (uint32_t i = 0; i < b->count; i++) {
        uint32_t row = (b->first + i) / job->group;
        span seen = visible_in_page(job, row, page);
        float *p = b->s.p + (size_t)i * CHUNK;
        for (uint32_t j = seen.begin; j < seen.end; j++) {
            uint32_t slot = slot_of(job, row, page * SL_KV_PAGE + j);
            p[j] = tail_of(b, slot / SL_KV_PAGE, i)[slot % SL_KV_PAGE];
        }
        b->s.correction[i] = softmax_page(p, seen, &b->s.m[i], &b->s.l[i]);
    }
}

/* s.spread = those of the exponentials of a page of positions that belong to the slots of `page`; which slots have any. */
static span spread_exponentials(const block *b, uint32_t positions_page, uint32_t page)
{
    const sl_attention *job = b->job;
    span used = {SL_KV_PAGE, 0};
    memset(b->s.spread, 0, (size_t)b->count * CHUNK * sizeof *b->s.spread);
    for (uint32_t i = 0; i < b->count; i++) {
        uint32_t row = (b->first + i) / job->group;
        span seen = visible_in_page(job, row, positions_page);
        for (uint32_t j = seen.begin; j < seen.end; j++) {
            uint32_t slot = slot_of(job, row, positions_page * SL_KV_PAGE + j), at = slot % SL_KV_PAGE;
            if (slot / SL_KV_PAGE != page)
                continue;
            b->s.spread[(size_t)i * CHUNK + at] = b->s.p[(size_t)i * CHUNK + j];
            used.begin = at < used.begin ? at : used.begin;
            used.end = at + 1 > used.end ? at + 1 : used.end;
        }
    }
    return used;
}

static void attend_tree(const block *b)
{
    const sl_attention *job = b->job;
    uint32_t first_row = b->first / job->group, last_row = (b->first + b->count - 1) / job->group, position_end = 0, slot_end = 0;
    for (uint32_t row = first_row; row <= last_row; row++) {
        uint32_t position = position_of(job, row), slot = slot_of(job, row, position);
        position_end = position + 1 > position_end ? position + 1 : position_end;
        slot_end = slot + 1 > slot_end ? slot + 1 : slot_end;
    }
    uint32_t begin = job->pos0 / SL_KV_PAGE, slot_pages = (slot_end + SL_KV_PAGE - 1) / SL_KV_PAGE;
    for (uint32_t page = begin; page < slot_pages; page++)
        score_slots(b, page, slot_end - page * SL_KV_PAGE < SL_KV_PAGE ? slot_end - page * SL_KV_PAGE : SL_KV_PAGE);
    for (uint32_t positions = begin; positions * SL_KV_PAGE < position_end; positions++) {
        softmax_positions(b, positions);
        for (uint32_t page = begin; page < slot_pages; page++) {
            span used = spread_exponentials(b, positions, page);
            if (used.begin >= used.end)
                continue;
            product output = output_of(b, page, b->s.spread, used);
            run_product(&output, 0, b->count, 0, job->head_dim);
            for (uint32_t i = 0; i < b->count; i++) /* it is done once */
                b->s.correction[i] = 1.0f;
        }
    }
}

#endif
