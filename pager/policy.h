/* pager/policy.h: which units get a home. Pure functions over data.
 *
 * A dense pass uses every unit once, in a cycle. For such a cycle keeping a fixed part is the optimum (an LRU cache would hit nothing), and
 * which part matters only for overlap: homes are spread evenly along the cycle, so that reads never pause while a long run of resident
 * layers computes.
 *
 * Where drafts compute with the homes alone, which part it is matters more, and the first places of each layer are kept. Reads then pause when the ring
 * is full before a layer's resident part is computed. They don't as long as that part takes no longer to compute than the ring to read: of a 7 B in
 * 2 GiB some 50 MiB, 2.4 ms for one row and 8 for sixteen, against 32 MiB from a disk of 3 GB/s, 11 ms
 * (reckoned from the rates in bench/SPEED.md, not measured). */
#ifndef SL_PAGER_POLICY_H
#define SL_PAGER_POLICY_H

#include "pager/pager.h"

/* Sets units[i].home so that the homes' bytes stay within budget_bytes and are spread evenly by bytes over the order given. A unit
 * larger than what is left is passed over for later, smaller ones. A home counts as the pager packs it, rounded up to 64 bytes. Returns the
 * bytes given homes. Everything fits: all get one. */
uint64_t sl_policy_spread(sl_unit *units, const sl_unit_id *order, uint32_t count, uint64_t budget_bytes);

/* Consecutive units of which the first ones are the most useful: a layer's neurons, hot first. */
typedef struct sl_policy_run {
    sl_unit_id first;
    uint32_t count;
    uint32_t kept; /* out: the first so many have homes */
} sl_policy_run;

/* For what computes with the homes alone: each run keeps the same share of its units, from its first one on, as large as fits. What is left
 * when the next unit does not fit everywhere goes to runs all over the cycle, one unit each. No run that keeps less could have its next
 * unit instead. Sets home for all units of the runs; returns the bytes given, at most budget_bytes. */
uint64_t sl_policy_prefixes(sl_unit *units, sl_policy_run *runs, uint32_t count, uint64_t budget_bytes);

/* For passes that may end early: units [first, end) get homes in their order, each that still fits; one that does not is passed over for later,
 * smaller ones. Sets home for all of them; returns the bytes given. */
uint64_t sl_policy_in_order(sl_unit *units, sl_unit_id first, sl_unit_id end, uint64_t budget_bytes);

#endif
