/* offload/sparq_pages.h: attention to whole pages of the cache: those that an index of their keys finds most attention in.
 *
 *     q ──▶ components (sparq.h) ──▶ scores of all keys by them, from the index (D10) ──▶ softmax, summed over heads and over each page ──▶ pages
 *                                                                                                                     their keys and values ──▶ attention (D5)
 *
 * The index holds the keys of complete pages once more, in four bits and component by component, and stays in memory: of an f16 cache a seventh. A page is
 * one piece of memory and of a spill file, so that what is chosen is read in pieces of tens of kilobytes, and nothing of what is not. Bounds of a page's keys
 * (Quest, arXiv 2406.10774) take a fifth of that memory and promise too much of most pages; a page's best key counts for less than what all of its
 * keys add up to (bench/SPEED.md, "Pages").
 *
 * The first page (where attention goes that has nothing to look for: arXiv 2309.17453) and the last positions are always attended to, and of a tree all
 * of its rows; layers with a window attend to all of it. What a row attends to is a function of what is stored and of its query. */
#ifndef SL_OFFLOAD_SPARQ_PAGES_H
#define SL_OFFLOAD_SPARQ_PAGES_H

#include "offload/engine.h"

/* Scratch of a thread behind attention's own; 0 where pages are not chosen. */
size_t sli_pages_thread_bytes(const sl_engine *engine);
/* The most pages that a row attends to, those of a tree included. */
uint32_t sli_pages_most(const sl_engine *engine);

uint32_t *sli_pages_list(const sl_engine *engine, const sl_attention *row); /* room for a list in the job's scratch */
/* The pages that the job's single row attends to, ascending, into list[sli_pages_most()]; how many, 0: all that it sees. Uses the job's scratch. */
uint32_t sli_pages_choose(const sl_session *session, uint32_t layer, uint32_t head, const sl_attention *row, uint32_t *list);
/* Attention of that row to those pages, which are in memory. */
void sli_pages_attend(sl_session *session, const sl_attention *row, const uint32_t *list, uint32_t count);

/* After rows were written from some slot on, or moved there: the index of what is complete before `end`, of a head; that all heads of a layer have it; and
 * both, for all layers, after sli_kv_begin_write at `slot`. */
void sli_pages_index(const sl_session *session, uint32_t layer, uint32_t head, uint32_t end);
void sli_pages_indexed(sli_kv *kv, uint32_t layer, uint32_t end);
void sli_pages_index_anew(sl_session *session, uint32_t slot, uint32_t end);

#endif
