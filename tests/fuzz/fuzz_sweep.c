/* tests/fuzz/fuzz_sweep.c: any text as a list of values. The first byte says whether ranges are known. */
/* fuzz: -max_len=256 */
#include "offload/tools/sweep.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static void expect(bool holds)
{
    if (!holds)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    sl_sweep_values values = {0};
    sl_error err = {0};
    if (length == 0)
        return 0;
    char *list = malloc(length);
    if (list == NULL)
        return 0;
    memcpy(list, data + 1, length - 1);
    list[length - 1] = '\0';
    sl_status status = sl_sweep_parse("-x", list, (data[0] & 1) != 0, &values, &err);
    expect(status == SL_OK ? values.count > 0 : status == SL_INVALID && err.message[0] != '\0');
    expect(values.count <= SL_SWEEP_VALUES_MAX);
    for (size_t i = 0; i < values.count; i++)
        expect(values.text[i][0] != '\0' && strchr(values.text[i], ',') == NULL);
    sl_sweep_free(&values);
    free(list);
    return 0;
}
