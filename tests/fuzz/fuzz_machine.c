/* tests/fuzz/fuzz_machine.c: any bytes as a machine file. What is accepted can be asked anything, and survives being written and read. */
#include "offload/cli/machine_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static void expect(bool holds)
{
    if (!holds)
        __builtin_trap();
}

static void ask(const sli_machine *m)
{
    for (uint32_t threads = 1; threads < 10000; threads *= 3)
        expect(sli_machine_memory_rate(m, threads) > 0);
    for (uint64_t bytes = 512; bytes < 1 << 24; bytes *= 5)
        for (uint32_t depth = 1; depth < 1000; depth *= 9) {
            double Bps = sli_machine_read_rate(m, NULL, bytes, depth);
            expect(isfinite(Bps) && Bps > 0);
        }
    for (uint64_t bytes = 0; bytes < (uint64_t)1 << 40; bytes = bytes * 9 + 1) {
        sli_machine_rate rate = sli_machine_rate_of(m, SL_TYPE_Q4_0, m->cores, bytes);
        expect(isfinite(rate.weights_Bps) && rate.weights_Bps > 0 && rate.ops_per_s > 0);
    }
}

static void write_and_read(const sli_machine *m)
{
    sli_machine again;
    sl_error err = {0};
    json_t *value = cli_machine_json(m);
    char *text = value != NULL ? json_dumps(value, 0) : NULL;
    if (text != NULL) {
        expect(cli_machine_parse(text, strlen(text), "again", &again, &err) == SL_OK);
        expect(again.cores == m->cores && again.reads == m->reads && again.bandwidths == m->bandwidths && again.rates == m->rates);
    }
    free(text);
    json_decref(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    sli_machine m;
    sl_error err = {0};
    sl_status status = cli_machine_parse((const char *)data, length, "file", &m, &err);
    expect(status == SL_OK ? err.message[0] == '\0' : status == SL_INVALID && err.message[0] != '\0');
    expect(strchr(err.message, '\n') == NULL);
    if (status == SL_OK) {
        ask(&m);
        write_and_read(&m);
    }
    return 0;
}
