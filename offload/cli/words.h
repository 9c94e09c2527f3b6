/* offload/cli/words.h: the words that flags take, each list once: parsed, helped, completed and refused from here.
 *
 * A list is a function of a place in it, so that lists of the library (shapes, chat templates, instruction sets) are asked and not copied. Where the words
 * stand for an enumeration they are in its order: a word's place is its value. */
#ifndef SL_OFFLOAD_CLI_WORDS_H
#define SL_OFFLOAD_CLI_WORDS_H

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef const char *(*cli_words)(size_t index); /* NULL behind the last */

const char *cli_sparsity_word(size_t index);   /* sl_sparsity */
const char *cli_predictor_word(size_t index);  /* sl_predictor */
const char *cli_late_word(size_t index);       /* whether they are dropped */
const char *cli_early_exit_word(size_t index); /* sl_early_exit */
const char *cli_select_word(size_t index);     /* sl_sparq_select */
const char *cli_reallocate_word(size_t index); /* sl_sparq_reallocate */
const char *cli_kv_type_word(size_t index);    /* sl_kv_type */
const char *cli_accept_word(size_t index);     /* sl_accept */
const char *cli_drafter_word(size_t index);    /* sl_drafter */
const char *cli_isa_word(size_t index);        /* sl_isa */
const char *cli_io_engine_word(size_t index);  /* sl_io_engine */
const char *cli_io_order_word(size_t index);
const char *cli_template_word(size_t index); /* families of chat templates */
const char *cli_shape_word(size_t index);
const char *cli_type_word(size_t index);      /* formats of weights that are supported */
const char *cli_made_type_word(size_t index); /* those that weights can be put into */
const char *cli_order_word(size_t index);     /* sli_pack_order */
const char *cli_zeros_word(size_t index);     /* sli_pack_zero_rule */
const char *cli_method_word(size_t index);    /* sli_prune_method */
const char *cli_rates_word(size_t index);     /* sli_prune_rates */
const char *cli_format_word(size_t index);    /* of bench */
const char *cli_mode_word(size_t index);      /* of eval */
const char *cli_plot_word(size_t index);      /* of report */
const char *cli_policy_word(size_t index);    /* sl_replay_policy */
/* Of flags that take other values, too. */
const char *cli_draft_word(size_t index);
const char *cli_kv_host_word(size_t index);
const char *cli_tree_word(size_t index);
const char *cli_budget_word(size_t index);  /* of plan */
const char *cli_machine_word(size_t index); /* presets, and list */
const char *cli_device_word(size_t index);
const char *cli_pattern_word(size_t index);

/* Finds a flag's word in a list; *out is its place, 0 where the flag was not given. SL_INVALID names all that are known. */
SL_MUST_USE sl_status cli_one_of(const char *flag, const char *word, cli_words words, int *out, sl_error *err);
/* "off, coarse or fine": `before_last` is " or ". False where `out` was too small for all. */
bool cli_join_words(cli_words words, const char *before_last, char *out, size_t room);

#endif
