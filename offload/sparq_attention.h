/* offload/sparq_attention.h: attention to a part of the cache (SparQ, arXiv 2312.04985), for rows of a pass.
 *
 *     q ──▶ components (sparq.h) ──▶ scores of all positions by them (D10) ──▶ softmax, summed over the heads ──▶ positions (sparq.h)
 *                                                                                  │                                  │
 *     reallocation:  out = share * out + (1 - share) * mean of all values ◀── share of the chosen        their keys and values, copied to
 *                                                                                                        pages of their own ──▶ attention (D5)
 *
 * A row that sees no more positions than it would choose is dense attention. What a row attends to is a function of what is stored and of its
 * query: not of the batch, of threads, or of what was taken back before. Trees count by their paths, as in D5.
 *
 * Keys lie component by component, which is what the scores read; single keys would be a cache line per component, so the cache holds them a second
 * time, each in one piece (SLI_KV_KEY_ROWS; bench/SPEED.md, "SparQ"). */
#ifndef SL_OFFLOAD_SPARQ_ATTENTION_H
#define SL_OFFLOAD_SPARQ_ATTENTION_H

#include "offload/engine.h"

/* Whether the mean of the values stands for what is left out. */
bool sli_sparq_reallocates(const sl_engine *engine);

/* Scratch of a thread behind attention's own; 0 without SparQ. */
size_t sli_sparq_thread_bytes(const sl_engine *engine);

/* Attention of the job's single row, whose scratch has those bytes behind attention's. */
void sli_sparq_attend(sl_session *session, uint32_t layer, uint32_t head, const sl_attention *row);

/* Before rows attend: the sums of the values before the page of `position`, of a head; whether they are wanted and missing; and that all heads have them. */
bool sli_sparq_wants_sums(const sl_session *session, uint32_t layer, uint32_t position);
void sli_sparq_sum_values(sl_session *session, uint32_t layer, uint32_t head, uint32_t position);
void sli_sparq_summed(sl_session *session, uint32_t layer, uint32_t position);

#endif
