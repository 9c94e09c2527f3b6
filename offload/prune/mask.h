/* offload/prune/mask.h: which weights become zero.
 *
 * A rule either keeps a share of all weights of a matrix (or of what a method compares: a row, a block of columns), or sets `drop` of every `of`
 * neighbours in a row to zero (2:4, 4:8, and 3:4, which leaves a quarter). Scores are magnitudes; the smallest go, and of equal ones those that come
 * first, so that a count is always exact.
 *
 * Threads: pure. */
#ifndef SL_OFFLOAD_PRUNE_MASK_H
#define SL_OFFLOAD_PRUNE_MASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLI_PRUNE_GROUP_MAX 32 /* neighbours of a pattern, at most */

typedef struct sli_prune_rule {
    double density;    /* kept share; of a pattern 1 - drop / of */
    uint32_t drop, of; /* of == 0: no pattern */
} sli_prune_rule;

/* "2:4": of every four neighbours two become zero. False when it is no pattern, drops nothing or everything, or is longer than
 * SLI_PRUNE_GROUP_MAX. */
bool sli_prune_parse_pattern(const char *text, sli_prune_rule *out);

/* How many of `count` weights a density sets to zero. */
size_t sli_prune_drop_count(size_t count, double density);

/* Where magnitudes are cut so that exactly `drop` of them go: all below `value`, and the first `ties` of those that equal it. */
typedef struct sli_prune_cut {
    float value;
    size_t ties;
} sli_prune_cut;
sli_prune_cut sli_prune_cut_of(const float *scores, size_t count, size_t drop);

/* Takes one score after the other, in order; true: it goes. */
static inline bool sli_prune_cuts(sli_prune_cut *cut, float magnitude)
{
    if (magnitude < cut->value)
        return true;
    if (magnitude > cut->value || cut->ties == 0)
        return false;
    cut->ties--;
    return true;
}

/* goes[i] for a group of rule->of scores. */
void sli_prune_group(const sli_prune_rule *rule, const float *scores, bool *goes);

/* Sets to zero what is smallest of w[rows][cols]: of the whole matrix, or by the pattern. */
void sli_prune_magnitude(const sli_prune_rule *rule, size_t rows, size_t cols, float *w);
/* The same by |w| times its input's norm (Wanda, arXiv 2306.11695), compared within each row; scores: [cols]. */
void sli_prune_wanda(const sli_prune_rule *rule, size_t rows, size_t cols, const float *norms, float *scores, float *w);

#endif
