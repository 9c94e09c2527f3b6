/* tests/fuzz/fuzz_exits.c: any bytes as a section of exit classifiers; what the reader takes is then asked for scores. */
#include "offload/exit.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static void ask(const sli_exits *x)
{
    for (sl_early_exit kind = SL_EARLY_EXIT_SVM; kind <= SL_EARLY_EXIT_GAP; kind++) {
        sli_exit_walk walk = {0};
        for (uint32_t p = 0; p < x->probe_count; p++) {
            if (x->probes[p] < 0 || (uint32_t)x->probes[p] + 1 >= x->layers)
                __builtin_trap();
            volatile double score = sli_exit_score(x, kind, &(sli_exit_look){p % 3, 0.7f, 0.5f}, &walk);
            (void)score;
        }
        const sli_exit_point *point = sli_exit_point_of(x, kind, 0.9);
        if (point != NULL && !(point->layers_mean >= 1 && point->layers_mean <= (float)x->layers))
            __builtin_trap();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    uint32_t words[SLI_EXIT_WORDS] = {0};
    sli_exits x;
    void *blob = malloc(length + 1); /* aligned, and its end is watched */
    if (blob == NULL)
        return 0;
    if (length > 0)
        memcpy(blob, data, length);
    memcpy(words, data, length < sizeof words ? length : sizeof words);
    sli_exit_shape shape = {words[SLI_EXIT_LAYERS] % 2048, words[SLI_EXIT_D], words[SLI_EXIT_VOCAB] % (1u << 20)};
    if (sli_exits_view(blob, length, &shape, &x) == NULL)
        ask(&x);
    free(blob);
    return 0;
}
