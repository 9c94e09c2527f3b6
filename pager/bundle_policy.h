/* pager/bundle_policy.h: which bundles stay. Pure decisions over one layer's ledger: what each slot holds and what each place is worth.
 *
 * A worth is a number of 16 bits that means something within its layer only. LRU: the number of the use at which the place was used last.
 * FREQUENT: a mean of its uses that fades, about the share of the last uses that it had part in. After a use, the slots keep those of
 * largest worth among what they hold and what was just read; at equal worth what is there stays, and a place that comes first in storage
 * order goes first.
 *
 * Invariants
 *  L1  No two slots hold the same place.
 *  L2  LRU, FREQUENT: exactly the first `filled` slots hold a place. STATIC: slot s holds place s or nothing; filled counts them.
 *
 * Threads: none of its own; the ledger belongs to its owner. */
#ifndef SL_PAGER_BUNDLE_POLICY_H
#define SL_PAGER_BUNDLE_POLICY_H

#include "pager/bundles.h"

#define SLI_NO_PLACE UINT32_MAX
#define SLI_NO_SLOT  UINT32_MAX
#define SLI_FADE     4 /* about sixteen tokens; measured on a real trace (bench/SPEED.md, "Bundles") */

typedef struct sli_ledger {
    uint32_t *place_of; /* by slot; SLI_NO_PLACE: free */
    uint16_t *worth;    /* by place */
    uint32_t count, capacity, filled;
    uint16_t uses; /* LRU: counted, and set back before it overflows */
    uint8_t fade;  /* FREQUENT: at each use of the layer a worth moves a 2^fade-th of the way to its bound; 1 to 8 */
    sl_bundle_policy policy;
} sli_ledger;

typedef struct sli_admission {
    uint32_t place, slot;
} sli_admission;

/* These places (any order, each once) are used now. */
void sli_policy_use(sli_ledger *ledger, const uint32_t *places, uint32_t count);
/* Which of the candidates (ascending, in no slot) get a slot, and which one; at most `count`, the number is returned. */
uint32_t sli_policy_admit(const sli_ledger *ledger, const uint32_t *candidates, uint32_t count, sli_admission *out);
/* The slot for a place (in no slot) that may be had for nothing, or SLI_NO_SLOT. */
uint32_t sli_policy_offer(const sli_ledger *ledger, uint32_t place);
/* Carries an admission out in the ledger; the place that loses its slot, or SLI_NO_PLACE. */
uint32_t sli_policy_settle(sli_ledger *ledger, sli_admission admission);

/* The first invariant that does not hold, or NULL; `seen` has room for a byte a place. For tests. */
const char *sli_policy_broken(const sli_ledger *ledger, uint8_t *seen);

#endif
