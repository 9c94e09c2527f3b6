/* offload/plan.c: see plan.h. The constants were fitted with bench/plan.py (bench/SPEED.md, "What plan predicts"). */
#include "offload/plan.h"

#include <string.h>

/* What is not bytes or products: a layer's norms, rotary factors, meetings of the threads; and a token's sampling, by entry of the vocabulary. */
#define LAYER_S      22e-6
#define VOCABULARY_S 3e-9

#define BUNDLED_SLOWER   1.75   /* rows and columns of bundles beside panels */
#define SCATTERED_SLOWER 1.9    /* single bundles, as a set has them */
#define ATTENTION_SHARE  0.6    /* of memory's bandwidth, that attention reads keys and values at */
#define PREDICTOR_SHARE  0.7    /* ... and a predictor its signs */
#define CHOOSE_S         12e-9  /* to choose a set and find its bundles, by neuron */
#define PACK_BPS         6e9    /* streamed rows become panels before several rows of activations are multiplied; by thread */
#define REQUEST_S        2e-6   /* of a processor, for a read */
#define WAKE_S           130e-6 /* until who waits for a read goes on: told to the disk, slept, woken, and caches warm again */
#define OVERLAP_COST     0.06   /* of the shorter of reading and computing, that is not hidden behind the longer */

#define DENSE_DEPTH   32 /* reads in flight */
#define BUNDLES_DEPTH 128
#define PROMPT_USUAL  512

/* Mean advance where nobody has measured it: chats with SmolLM2 (bench/SPEED.md). A drafted token's chance grows with the share of the neurons that
 * draft: chosen ones, or those that happen to be in memory. */
#define LOOKUP_ADVANCE  1.15
#define CHOSEN_CHANCE   0.35
#define CHOSEN_GROWTH   0.5
#define RESIDENT_CHANCE 0.22
#define RESIDENT_GROWTH 0.65

/* How far off a prediction may be, each way. */
#define RANGE_MEASURED 0.15
#define RANGE_TYPICAL  0.35
#define RANGE_SPARSE   0.1
#define RANGE_ASSUMED  0.5 /* of what drafts gain */

const char *sli_plan_limit_name(sli_plan_limit limit)
{
    static const char *const names[] = {
        [SLI_LIMITED_BY_DISK] = "disk", [SLI_LIMITED_BY_MEMORY] = "memory bandwidth", [SLI_LIMITED_BY_COMPUTE] = "compute"};
    return names[limit];
}

typedef struct planner {
    const sli_division *at;
    const sli_bundle_trial *trial;
    const sli_machine *machine;
    const sli_plan_work *work;
    double memory_Bps;
    uint64_t touched_bytes;
} planner;

/* Seconds of one or several rows, by what they would take alone. */
typedef struct cost {
    double link_s, memory_s, compute_s, fixed_s;
} cost;

static double larger(double a, double b)
{
    return a > b ? a : b;
}
static double smaller(double a, double b)
{
    return a < b ? a : b;
}

/* ---- the link ---- */

static double link_Bps(const planner *p, double request_bytes, uint32_t depth)
{
    uint64_t bytes = request_bytes < 512 ? 512 : (uint64_t)request_bytes;
    double Bps = sli_machine_read_rate(p->machine, p->work->engine, bytes, p->work->depth != 0 ? p->work->depth : depth);
    if (p->work->link_Bps > 0 && (Bps <= 0 || p->work->link_Bps < Bps))
        return p->work->link_Bps;
    return Bps;
}

static double over(double amount, double rate)
{
    return amount <= 0 ? 0 : rate > 0 ? amount / rate : 1e12;
}

/* Reads are widened to whole blocks: one more for each, on average. */
static double widened(const planner *p, double bytes)
{
    return p->at->request_bytes > 0 ? bytes * (1 + (double)p->at->io_alignment / (double)p->at->request_bytes) : bytes;
}

static double streamed_of(const planner *p, sli_part part)
{
    return widened(p, (double)p->at->part[part].bytes - (double)p->at->part[part].resident_bytes);
}

/* Bytes that a pass over everything reads: units that do not stay. Bundles that single rows fetch have no homes, and all are read. */
static double dense_read_bytes(const planner *p, double part_bytes[SLI_PART_COUNT])
{
    double all = 0;
    for (int i = SLI_PART_ATTENTION; i < SLI_PART_COUNT; i++) {
        part_bytes[i] = i == SLI_PART_FFN && p->at->bundles.layers > 0 ? widened(p, (double)p->at->part[i].bytes)
                                                                       : streamed_of(p, (sli_part)i);
        all += part_bytes[i];
    }
    return all;
}

/* ---- computing ---- */

/* A part of the weights times `rows` rows; `share` of it. */
static void add_part(const planner *p, const sli_part_division *part, double share, double rows, double slower, cost *c)
{
    sli_machine_rate rate = sli_machine_rate_of(p->machine, part->type, p->at->threads, p->touched_bytes);
    double by_memory = slower * over(share * (double)part->bytes, rate.weights_Bps);
    double by_compute = slower * over(share * part->operations * rows, rate.ops_per_s);
    bool counts = rows > 1 && by_compute > by_memory;
    c->compute_s += counts ? by_compute : 0;
    c->memory_s += counts ? 0 : by_memory;
}

double sli_plan_kv_bytes(const sli_division *at)
{
    double positions = smaller(at->context, 512) / 2;
    if (at->sparq_k > 0 && at->sparq_k < positions) /* r components of all keys, then the chosen keys and values */
        return (double)at->kv_position_bytes * (positions * at->sparq_r / at->head_dim / 2 + smaller(at->sparq_k, positions));
    return (double)at->kv_position_bytes * positions;
}

static void add_rest(const planner *p, double logits_rows, cost *c)
{
    c->memory_s += over(sli_plan_kv_bytes(p->at), ATTENTION_SHARE * p->memory_Bps);
    c->fixed_s += p->at->layers * LAYER_S + logits_rows * p->at->vocab * VOCABULARY_S;
}

static double shorter_than(const planner *p)
{
    return p->at->packed ? BUNDLED_SLOWER : 1;
}

/* One pass over all weights. */
static cost dense_pass(const planner *p, double rows, double logits_rows)
{
    cost c = {0};
    double part[SLI_PART_COUNT] = {0}, read = dense_read_bytes(p, part);
    add_part(p, &p->at->part[SLI_PART_ATTENTION], 1, rows, 1, &c);
    add_part(p, &p->at->part[SLI_PART_FFN], 1, rows, shorter_than(p), &c);
    if (logits_rows > 0)
        add_part(p, &p->at->part[SLI_PART_HEAD], 1, logits_rows, 1, &c);
    if (rows > 1)
        c.memory_s += over(read, PACK_BPS * p->at->threads);
    add_rest(p, logits_rows, &c);
    c.link_s = over(read, link_Bps(p, (double)p->at->request_bytes, DENSE_DEPTH));
    return c;
}

static double computing(const cost *c)
{
    return c->memory_s + c->compute_s + c->fixed_s;
}

static double seconds_of(const cost *c)
{
    double cpu = computing(c);
    return larger(c->link_s, cpu) + OVERLAP_COST * smaller(c->link_s, cpu);
}

/* ---- a sparse row ---- */

typedef struct sparse_row {
    cost cost;
    double seconds, ahead_bytes, late_bytes, dense_bytes;
} sparse_row;

/* Attention and head in units, the sets in single bundles: two queues of reads, over one disk, or each with a throttle of its own. While a layer waits for
 * its bundles the units of the next one come, as far as the ring holds them; what the head wants beyond it comes at the end. */
static sparse_row fetching_row(const planner *p)
{
    sparse_row r = {0};
    const sli_bundle_division *b = &p->at->bundles;
    cost around = {0}, set = {0}, head = {.fixed_s = p->at->vocab * VOCABULARY_S};
    double layers = b->layers, attention_bytes = streamed_of(p, SLI_PART_ATTENTION), head_bytes = streamed_of(p, SLI_PART_HEAD);
    r.dense_bytes = attention_bytes + head_bytes;
    r.ahead_bytes = p->trial->bytes_ahead * layers;
    r.late_bytes = p->trial->bytes_late * layers;
    add_part(p, &p->at->part[SLI_PART_ATTENTION], 1, 1, 1, &around);
    add_rest(p, 0, &around);
    add_part(p, &p->at->part[SLI_PART_FFN], b->kept_share, 1, SCATTERED_SLOWER, &set);
    add_part(p, &p->at->part[SLI_PART_HEAD], 1, 1, 1, &head);
    double requests = p->trial->requests * layers, read = r.ahead_bytes + r.late_bytes;
    double predicting = over((double)p->at->price.predictor_bytes, PREDICTOR_SHARE * p->memory_Bps);
    set.memory_s += predicting;
    set.fixed_s += layers * b->count * CHOOSE_S + requests * REQUEST_S;
    if (b->cached_share < 1)
        around.memory_s += predicting; /* once more, ahead */
    if (read > 0)
        set.fixed_s += layers * 2 * WAKE_S;
    double Bps = link_Bps(p, requests > 0 ? read / requests : 0, BUNDLES_DEPTH),
           dense_Bps = link_Bps(p, (double)p->at->request_bytes, DENSE_DEPTH);
    double ring = smaller((double)p->at->price.staging_bytes, head_bytes);
    double dense_s = over(r.dense_bytes - head_bytes + ring, dense_Bps), head_s = over(head_bytes - ring, dense_Bps);
    double body = larger(computing(&around), over(r.ahead_bytes, Bps)) + over(r.late_bytes, Bps) + computing(&set);
    bool shared = p->work->link_Bps <= 0;
    r.cost.link_s = head_s + (shared ? dense_s + over(read, Bps) : larger(dense_s, over(read, Bps)));
    r.cost.memory_s = around.memory_s + set.memory_s + head.memory_s;
    r.cost.fixed_s = around.fixed_s + set.fixed_s + head.fixed_s;
    r.seconds = larger(body, shared ? dense_s + over(read, Bps) : dense_s) + larger(head_s, computing(&head));
    return r;
}

/* Sets without a packed file, or with scores that need everything: all is read, some of it is computed. */
static sparse_row reading_row(const planner *p)
{
    sparse_row r = {.cost = dense_pass(p, 1, 1)};
    double part[SLI_PART_COUNT] = {0};
    r.dense_bytes = dense_read_bytes(p, part);
    r.seconds = seconds_of(&r.cost);
    return r;
}

/* A draft with the neurons that are in memory. */
static sparse_row resident_row(const planner *p)
{
    sparse_row r = {0};
    add_part(p, &p->at->part[SLI_PART_ATTENTION], 1, 1, 1, &r.cost);
    add_part(p, &p->at->part[SLI_PART_FFN], p->at->draft_share, 1, SCATTERED_SLOWER, &r.cost);
    add_part(p, &p->at->part[SLI_PART_HEAD], 1, 1, 1, &r.cost);
    add_rest(p, 1, &r.cost);
    r.seconds = computing(&r.cost);
    return r;
}

static sparse_row sparse_row_of(const planner *p)
{
    if (p->trial != NULL)
        return fetching_row(p);
    return p->at->draft_share > 0 && p->at->draft_share < 1 ? resident_row(p) : reading_row(p);
}

/* ---- a token ---- */

static void count_sparse_bytes(const planner *p, const sparse_row *r, double times, sli_plan *out)
{
    bool fetched = p->trial != NULL;
    const sli_part_division *part = p->at->part;
    double kept = fetched ? p->at->bundles.kept_share : p->at->draft_share > 0 ? p->at->draft_share : 1;
    out->part_used_bytes[SLI_PART_ATTENTION] += times * (double)part[SLI_PART_ATTENTION].bytes;
    out->part_used_bytes[SLI_PART_HEAD] += times * (double)part[SLI_PART_HEAD].bytes;
    out->part_used_bytes[SLI_PART_FFN] += times * kept * (double)part[SLI_PART_FFN].bytes;
    out->predictor_bytes += times * (double)p->at->price.predictor_bytes;
    if (r->dense_bytes > 0) {
        out->part_read_bytes[SLI_PART_ATTENTION] += times * streamed_of(p, SLI_PART_ATTENTION);
        out->part_read_bytes[SLI_PART_HEAD] += times * streamed_of(p, SLI_PART_HEAD);
    }
    out->part_read_bytes[SLI_PART_FFN] += times * (fetched              ? r->ahead_bytes + r->late_bytes
                                                   : r->dense_bytes > 0 ? streamed_of(p, SLI_PART_FFN)
                                                                        : 0);
}

static void count_dense_bytes(const planner *p, double times, sli_plan *out)
{
    double part[SLI_PART_COUNT] = {0};
    dense_read_bytes(p, part);
    for (int i = SLI_PART_ATTENTION; i < SLI_PART_COUNT; i++) {
        out->part_read_bytes[i] += times * part[i];
        out->part_used_bytes[i] += times * (double)p->at->part[i].bytes;
    }
}

static void add_cost(const cost *c, double times, sli_plan *out)
{
    out->link_s += times * c->link_s;
    out->memory_s += times * c->memory_s;
    out->compute_s += times * (c->compute_s + c->fixed_s);
}

static double draft_chance(const planner *p)
{
    if (p->at->draft_share > 0)
        return RESIDENT_CHANCE + RESIDENT_GROWTH * p->at->draft_share;
    return CHOSEN_CHANCE + CHOSEN_GROWTH * p->at->density;
}

static double advance_of(const planner *p, bool *assumed)
{
    double all = 1, chance = 1;
    *assumed = !(p->work->advance > 0);
    if (!*assumed)
        return p->work->advance;
    if (p->work->drafter == SLI_PLAN_LOOKUP)
        return smaller(LOOKUP_ADVANCE, 1 + p->work->drafted);
    for (uint32_t i = 0; i < p->work->drafted; i++)
        all += chance *= draft_chance(p);
    return all;
}

/* Drafts, then a check of them and of the token before. The check's first reads come while the last draft is computed. */
static void predict_drafted(const planner *p, sli_plan *out)
{
    double rows = 1 + p->work->drafted;
    sparse_row draft = {0};
    out->advance = advance_of(p, &out->advance_assumed);
    if (p->work->drafter == SLI_PLAN_MODEL)
        draft = sparse_row_of(p);
    else if (p->work->advance <= 0) /* looked up: most checks have nothing to go by */
        rows = LOOKUP_ADVANCE;
    cost check = dense_pass(p, rows, rows);
    double begun = smaller(over((double)p->at->price.staging_bytes, link_Bps(p, (double)p->at->request_bytes, DENSE_DEPTH)), draft.seconds);
    out->draft_s = draft.seconds;
    out->check_s = larger(seconds_of(&check) - smaller(begun, check.link_s), computing(&check));
    out->token_s = (p->work->drafted * out->draft_s + out->check_s) / out->advance;
    double drafts = p->work->drafter == SLI_PLAN_MODEL ? p->work->drafted / out->advance : 0;
    add_cost(&draft.cost, drafts, out);
    add_cost(&check, 1 / out->advance, out);
    if (drafts > 0)
        count_sparse_bytes(p, &draft, drafts, out);
    count_dense_bytes(p, 1 / out->advance, out);
}

static void leave_out(sli_plan *out, sli_part part, double bytes)
{
    out->part_read_bytes[part] -= bytes;
    out->left_out_bytes += bytes;
}

/* A token takes a share of the layers, and of those that it leaves out the next one to go deeper computes its row beside its own: another row of a pass
 * that reads them anyway. */
static void predict_leaving(const planner *p, sli_plan *out)
{
    const sli_exit_division *x = &p->at->exits;
    cost c = {0};
    double taken = x->layers_mean / p->at->layers, read[SLI_PART_COUNT] = {0}, all = dense_read_bytes(p, read);
    const sli_part_division *attention = &p->at->part[SLI_PART_ATTENTION], *ffn = &p->at->part[SLI_PART_FFN];
    double streamed = read[SLI_PART_ATTENTION] + read[SLI_PART_FFN];
    double left = smaller((1 - taken) * ((double)attention->bytes + (double)ffn->bytes), streamed);
    count_dense_bytes(p, 1, out);
    for (int part = SLI_PART_ATTENTION; part <= SLI_PART_FFN && streamed > 0; part++)
        leave_out(out, (sli_part)part, left * read[part] / streamed);
    add_part(p, attention, taken, 1, 1, &c);
    add_part(p, ffn, taken, 1, shorter_than(p), &c);
    double head = (double)p->at->part[SLI_PART_HEAD].bytes, probed = x->probes * (double)x->probe_bytes;
    add_part(p, &p->at->part[SLI_PART_HEAD], 1 + over(probed, head), 1, 1, &c);
    add_rest(p, 1 + over(probed, head), &c);
    c.link_s = over(all - left, link_Bps(p, (double)p->at->request_bytes, DENSE_DEPTH));
    out->advance = 1;
    out->token_s = seconds_of(&c);
    add_cost(&c, 1, out);
}

static void predict_plain(const planner *p, sli_plan *out)
{
    out->advance = 1;
    if (p->at->sparsity != SL_SPARSITY_OFF) {
        sparse_row r = sparse_row_of(p);
        out->token_s = r.seconds;
        add_cost(&r.cost, 1, out);
        count_sparse_bytes(p, &r, 1, out);
        return;
    }
    cost pass = dense_pass(p, 1, 1);
    out->token_s = seconds_of(&pass);
    add_cost(&pass, 1, out);
    count_dense_bytes(p, 1, out);
}

static double prompt_tokens_per_s(const planner *p)
{
    uint32_t context = p->at->context, usual = PROMPT_USUAL < context ? PROMPT_USUAL : context / 2 + 1;
    uint32_t tokens = p->work->prompt != 0 ? p->work->prompt : usual, batch = p->at->batch > 0 ? p->at->batch : 1;
    double seconds = 0;
    for (uint32_t done = 0; done < tokens; done += batch) {
        double rows = tokens - done < batch ? tokens - done : batch;
        cost pass = dense_pass(p, rows, done + batch >= tokens ? 1 : 0);
        seconds += seconds_of(&pass);
    }
    return over(tokens, seconds);
}

static void set_range(const planner *p, sli_plan *out)
{
    double range = p->machine->measured || p->work->link_Bps > 0 ? RANGE_MEASURED : RANGE_TYPICAL;
    range += p->trial != NULL ? RANGE_SPARSE : 0;
    double gain = out->advance_assumed ? RANGE_ASSUMED * (1 - 1 / out->advance) : 0;
    out->decode_low = out->decode_tokens_per_s * (1 - range) * (1 - gain);
    out->decode_high = out->decode_tokens_per_s * (1 + range) * (1 + gain);
}

static sli_plan_limit limit_of(const sli_plan *plan)
{
    if (plan->link_s >= plan->memory_s + plan->compute_s)
        return SLI_LIMITED_BY_DISK;
    return plan->memory_s >= plan->compute_s ? SLI_LIMITED_BY_MEMORY : SLI_LIMITED_BY_COMPUTE;
}

uint64_t sli_plan_touched_bytes(const sli_division *at)
{
    double kept = at->bundles.layers > 0 ? at->bundles.kept_share : 1;
    double bytes = kept * (double)at->part[SLI_PART_FFN].bytes + (double)at->price.predictor_bytes;
    return (uint64_t)bytes + at->part[SLI_PART_ATTENTION].bytes + at->part[SLI_PART_HEAD].bytes;
}

void sli_plan_predict(const sli_division *placement, const sli_bundle_trial *trial, const sli_machine *machine, const sli_plan_work *work,
                      sli_plan *out)
{
    planner p = {placement, trial, machine, work, sli_machine_memory_rate(machine, placement->threads), sli_plan_touched_bytes(placement)};
    memset(out, 0, sizeof *out);
    if (work->drafter != SLI_PLAN_NO_DRAFTS && work->drafted > 0)
        predict_drafted(&p, out);
    else if (work->leave)
        predict_leaving(&p, out);
    else
        predict_plain(&p, out);
    out->kv_bytes = sli_plan_kv_bytes(placement);
    out->part_read_bytes[SLI_PART_EMBEDDING] = (double)placement->embedding_row_bytes;
    for (int i = 0; i < SLI_PART_COUNT; i++)
        out->read_bytes += out->part_read_bytes[i];
    out->cached_share = trial != NULL ? trial->cached_share : 0;
    out->decode_tokens_per_s = over(1, out->token_s);
    out->prompt_tokens_per_s = prompt_tokens_per_s(&p);
    out->limit = limit_of(out);
    set_range(&p, out);
}
