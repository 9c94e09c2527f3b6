/* pager/policy.h: which units get a home. Pure functions over data.
 *
 * A dense pass uses every unit once, in a cycle. For such a cycle keeping a fixed part is the optimum (an LRU cache would hit nothing), and
 * which part matters only for overlap: homes are spread evenly along the cycle, so that reads never pause while a long run of resident
 * layers computes. */
#ifndef SL_PAGER_POLICY_H
#define SL_PAGER_POLICY_H

#include "pager/pager.h"

/* Sets units[i].home so that the homes' bytes stay within budget_bytes and are spread evenly by bytes over the order given. A unit
 * larger than what is left is passed over for later, smaller ones. A home counts as the pager packs it, rounded up to 64 bytes. Returns the
 * bytes given homes. Everything fits: all get one. */
uint64_t sl_policy_spread(sl_unit *units, const sl_unit_id *order, uint32_t count, uint64_t budget_bytes);

#endif
