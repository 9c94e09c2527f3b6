/* offload/embed.c: what a pass needs before the first layer: its rows of the embedding, resident or read, and the turns of their positions. */
#include "core/mathx.h"
#include "offload/pass.h"

typedef sli_pass pass;

static void fill_rope_table(const pass *p, uint32_t table)
{
    uint32_t half = p->engine->model->rope_dim / 2;
    const double *step = p->engine->rope_step + (size_t)table * half, magnitude = p->engine->model->rope_magnitude;
    for (uint32_t row = 0; row < p->rows; row++)
        for (uint32_t i = 0; i < half; i++) {
            size_t at = ((size_t)table * p->rows + row) * half + i;
            double sine, cosine;
            sl_sincos((double)sli_pass_position(p, row) * step[i], &sine, &cosine);
            p->engine->scratch.rope_cos[at] = (float)(cosine * magnitude);
            p->engine->scratch.rope_sin[at] = (float)(sine * magnitude);
        }
}

void sli_pass_turn(const pass *p)
{
    for (uint32_t table = 0; p->engine->model->rope_dim > 0 && table < sl_model_rope_tables(p->engine->model); table++)
        fill_rope_table(p, table);
}

/* A row of a resident embedding (it is the head's matrix too). */
static bool embed_resident(const pass *p, sl_token token, float *out)
{
    const sli_matrix *e = &p->engine->units.embedding;
    if (e->unit_count == 0)
        return false;
    uint32_t unit = (uint32_t)token / e->rows_per_unit, row = (uint32_t)token % e->rows_per_unit, panel = row / SL_PANEL_ROWS;
    const uint8_t *home = sl_pager_resident(p->engine->pager, e->first_unit + unit);
    if (home == NULL)
        return false;
    uint32_t unit_rows = e->rows - unit * e->rows_per_unit; /* or more: then every panel is whole */
    const uint8_t *at = home + (size_t)panel * SL_PANEL_ROWS * e->row_bytes;
    bool whole = (panel + 1) * SL_PANEL_ROWS <= unit_rows;
    if (whole)
        p->engine->kernels->dequantize_panel_row(e->type, at, row % SL_PANEL_ROWS, e->cols, out);
    else
        p->engine->kernels->dequantize_row(e->type, home + (size_t)row * e->row_bytes, e->cols, out);
    return true;
}

/* Reads some rows of a matrix, several at once, into memory set aside for it. */
static sl_status read_rows(const pass *p, const sli_matrix *m, const uint32_t *wanted, uint32_t count, sl_error *err)
{
    uint64_t offsets[SLI_EMBED_READS];
    for (uint32_t i = 0; i < count; i++)
        offsets[i] = m->offset + (uint64_t)wanted[i] * m->row_bytes;
    return sl_pager_read_small(p->engine->pager, m->file, offsets, count, m->row_bytes, p->engine->scratch.embed_rows, err);
}

static void take_read_row(const pass *p, const sli_matrix *m, uint32_t index, float *out)
{
    p->engine->kernels->dequantize_row(m->type, p->engine->scratch.embed_rows + (size_t)index * m->row_bytes, m->cols, out);
}

/* Rows of the embedding that are not resident. */
static sl_status embed_absent(const pass *p, const uint32_t *rows, uint32_t count, sl_error *err)
{
    const sli_matrix *e = &p->engine->units.embedding;
    uint32_t wanted[SLI_EMBED_READS];
    for (uint32_t i = 0; i < count; i++)
        wanted[i] = (uint32_t)p->tokens[rows[i]];
    SL_TRY(read_rows(p, e, wanted, count, err));
    for (uint32_t i = 0; i < count; i++)
        take_read_row(p, e, i, sli_pass_buffer(p, SL_BUF_RESIDUAL) + (size_t)rows[i] * e->cols);
    return SL_OK;
}

/* Learned positions are added to what the tokens are. Their rows are read as they are needed, one for each row of a pass. */
static sl_status add_positions(const pass *p, sl_error *err)
{
    const sli_matrix *m = &p->engine->units.positions;
    float *position = sli_pass_buffer(p, SL_BUF_NORMED); /* not in use yet */
    for (uint32_t row = 0; m->rows > 0 && row < p->rows; row += SLI_EMBED_READS) {
        uint32_t wanted[SLI_EMBED_READS], count = p->rows - row < SLI_EMBED_READS ? p->rows - row : SLI_EMBED_READS;
        for (uint32_t i = 0; i < count; i++)
            wanted[i] = sli_pass_position(p, row + i);
        SL_TRY(read_rows(p, m, wanted, count, err));
        for (uint32_t i = 0; i < count; i++) {
            take_read_row(p, m, i, position);
            p->engine->kernels->add(sli_pass_buffer(p, SL_BUF_RESIDUAL) + (size_t)(row + i) * m->cols, position, m->cols);
        }
    }
    return SL_OK;
}

sl_status sli_pass_embed(const pass *p, sl_error *err)
{
    uint32_t absent[SLI_EMBED_READS], n = 0;
    for (uint32_t row = 0; row < p->rows; row++) {
        if (!embed_resident(p, p->tokens[row], sli_pass_buffer(p, SL_BUF_RESIDUAL) + (size_t)row * p->engine->model->d))
            absent[n++] = row;
        if (n == SLI_EMBED_READS || (n > 0 && row + 1 == p->rows)) {
            SL_TRY(embed_absent(p, absent, n, err));
            n = 0;
        }
    }
    if (p->engine->model->arch->embedding_scaled)
        p->engine->kernels->scale(sli_pass_buffer(p, SL_BUF_RESIDUAL), p->engine->model->embedding_scale,
                                  (size_t)p->rows * p->engine->model->d);
    return add_positions(p, err);
}
