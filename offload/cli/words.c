/* offload/cli/words.c: see words.h. */
#include "offload/cli/words.h"
#include "core/chat_family.h"
#include "core/cpu.h"
#include "core/format.h"
#include "offload/choices.h"
#include "offload/cli/eval.h"
#include "offload/cli/report.h"
#include "offload/machine.h"
#include "offload/prune/prune.h"
#include "offload/tools/pack.h"
#include "offload/tools/quantize.h"
#include "offload/tools/synth.h"
#include "pager/replay.h"
#include "pager/tier.h"

#include <stdio.h>
#include <string.h>

/* ---- lists that are the program's ---- */

#define LIST(name, ...)                                                                                                                    \
    const char *name(size_t index)                                                                                                         \
    {                                                                                                                                      \
        static const char *const words[] = {__VA_ARGS__};                                                                                  \
        return index < sizeof words / sizeof *words ? words[index] : NULL;                                                                 \
    }

LIST(cli_late_word, "wait", "drop")
LIST(cli_select_word, [SL_SPARQ_SELECT_AUTO] = "auto", [SL_SPARQ_KEYS] = "keys", [SL_SPARQ_PAGES] = "pages")
LIST(cli_reallocate_word, [SL_SPARQ_REALLOCATE_AUTO] = "auto", [SL_SPARQ_REALLOCATE_ON] = "on", [SL_SPARQ_REALLOCATE_OFF] = "off")
LIST(cli_kv_type_word, [SL_KV_F16] = "f16", [SL_KV_F32] = "f32", [SL_KV_Q8_0] = "q8_0", [SL_KV_BF16] = "bf16", [SL_KV_Q4_0] = "q4_0")
LIST(cli_accept_word, [SL_ACCEPT_EXACT] = "exact", [SL_ACCEPT_THRESHOLD] = "threshold", [SL_ACCEPT_SAMPLE] = "sample")
LIST(cli_drafter_word, [SL_DRAFTER_AUTO] = "auto", [SL_DRAFTER_LOOKUP] = "lookup", [SL_DRAFTER_MODEL] = "model",
     [SL_DRAFTER_MIXED] = "mixed")
LIST(cli_io_engine_word, [SL_IO_AUTO] = "auto", [SL_IO_URING] = "uring", [SL_IO_PREAD] = "pread")
LIST(cli_io_order_word, "sequential", "random")
LIST(cli_order_word, [SLI_PACK_FILE_ORDER] = "file", [SLI_PACK_RANDOM_ORDER] = "random")
LIST(cli_zeros_word, [SLI_PACK_ZEROS_AUTO] = "auto", [SLI_PACK_STORE_ZEROS] = "store", [SLI_PACK_LEAVE_ZEROS_OUT] = "leave-out")
LIST(cli_rates_word, [SLI_PRUNE_RATES_LAYER] = "layer", [SLI_PRUNE_RATES_GLOBAL] = "global")
LIST(cli_format_word, "md", "csv", "json", "jsonl", "sql")
LIST(cli_policy_word, [SL_REPLAY_RUN] = "run", [SL_REPLAY_STATIC] = "static", [SL_REPLAY_LRU] = "lru", [SL_REPLAY_FREQUENT] = "frequent",
     [SL_REPLAY_BELADY] = "belady")
LIST(cli_draft_word, "auto")
LIST(cli_tree_word, "best")
LIST(cli_budget_word, "auto", "min")
LIST(cli_kv_host_word, [SL_KV_HOST_AUTO] = "auto", [SL_KV_HOST_NONE] = "none", [SL_KV_HOST_ALL] = "all")
LIST(cli_device_word, "auto", "none", "cuda", "emulated")
LIST(cli_pattern_word, "2:4", "4:8", "3:4")

/* ---- lists that another file has ---- */

const char *cli_sparsity_word(size_t index)
{
    return sli_sparsity_name(index);
}

const char *cli_predictor_word(size_t index)
{
    return sli_predictor_name(index);
}

const char *cli_early_exit_word(size_t index)
{
    return sli_early_exit_name(index);
}

const char *cli_isa_word(size_t index)
{
    return index < SL_ISA_COUNT ? sl_isa_name((sl_isa)index) : NULL;
}

const char *cli_template_word(size_t index)
{
    const sl_chat_family *family = sl_chat_family_at(index);
    return family != NULL ? sl_chat_name(family) : NULL;
}

const char *cli_shape_word(size_t index)
{
    const sl_synth_shape *shape = sl_synth_shape_at(index);
    return shape != NULL ? shape->name : NULL;
}

static const char *format_name(size_t index, bool made)
{
    for (uint32_t type = 0; type < SL_TYPE_LIMIT; type++) {
        const sl_format *format = sl_format_of(type);
        if (format != NULL && format->supported && (!made || sl_quantize_knows(type)) && index-- == 0)
            return format->name;
    }
    return NULL;
}

const char *cli_type_word(size_t index)
{
    return format_name(index, false);
}

const char *cli_made_type_word(size_t index)
{
    return format_name(index, true);
}

const char *cli_method_word(size_t index)
{
    return index <= SLI_PRUNE_SPARSELLM ? sli_prune_method_name((sli_prune_method)index) : NULL;
}

const char *cli_mode_word(size_t index)
{
    return index < CLI_EVAL_MODES ? cli_eval_modes[index] : NULL;
}

const char *cli_plot_word(size_t index)
{
    return index < REPORT_PLOTS ? cli_report_plots[index] : NULL;
}

const char *cli_machine_word(size_t index)
{
    return index == 0 ? "list" : sli_machine_preset_name(index - 1);
}

/* ---- what is made of a list ---- */

bool cli_join_words(cli_words words, const char *before_last, char *out, size_t room)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; words(i) != NULL && used < room; i++)
        used += (size_t)snprintf(out + used, room - used, "%s%s", i == 0 ? "" : words(i + 1) != NULL ? ", " : before_last, words(i));
    return used < room;
}

sl_status cli_one_of(const char *flag, const char *word, cli_words words, int *out, sl_error *err)
{
    char known[SL_ERROR_MESSAGE_MAX];
    *out = 0;
    if (word == NULL)
        return SL_OK;
    for (size_t i = 0; words(i) != NULL; i++)
        if (strcmp(word, words(i)) == 0) {
            *out = (int)i;
            return SL_OK;
        }
    cli_join_words(words, " and ", known, sizeof known);
    return sl_fail(err, SL_INVALID, "%s %.60s: known are %s", flag, word, known);
}
