/* offload/tools/sweep.c: see sweep.h. */
#include "offload/tools/sweep.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ITEM_BYTES_MAX 4096

static sl_status append(const char *flag, const char *text, sl_sweep_values *out, sl_error *err)
{
    if (out->count == SL_SWEEP_VALUES_MAX)
        return sl_fail(err, SL_INVALID, "%s: more than %d values", flag, SL_SWEEP_VALUES_MAX);
    if ((out->count & (out->count - 1)) == 0) { /* full: it has room for a power of two */
        char **grown = realloc(out->text, (out->count > 0 ? 2 * out->count : 1) * sizeof *grown);
        if (grown == NULL)
            return sl_fail(err, SL_NO_MEMORY, "%s: out of memory for its values", flag);
        out->text = grown;
    }
    out->text[out->count] = strdup(text);
    if (out->text[out->count] == NULL)
        return sl_fail(err, SL_NO_MEMORY, "%s: out of memory for its values", flag);
    out->count++;
    return SL_OK;
}

/* A number at *at, which moves behind it. */
static bool take_number(const char **at, double *out)
{
    static const char units[] = "KMGT";
    char *end;
    if (!isdigit((unsigned char)**at) || ((*at)[0] == '0' && tolower((unsigned char)(*at)[1]) == 'x'))
        return false;
    *out = strtod(*at, &end);
    const char *unit = *end != '\0' ? strchr(units, toupper((unsigned char)*end)) : NULL;
    if (unit != NULL) {
        *out = ldexp(*out, 10 * (int)(unit - units + 1));
        end++;
    }
    *at = end;
    return isfinite(*out) && *out < 0x1p53;
}

typedef struct range {
    double first, last, step;
    char op;
} range;

static bool is_range(const char *item, range *out)
{
    const char *at = item;
    *out = (range){.op = '+', .step = 1};
    if (!take_number(&at, &out->first) || *at++ != '-' || !take_number(&at, &out->last))
        return false;
    if (*at == '\0')
        return true;
    out->op = *at++;
    return (out->op == '+' || out->op == '*') && take_number(&at, &out->step) && *at == '\0';
}

static sl_status append_range(const char *flag, const char *item, const range *r, sl_sweep_values *out, sl_error *err)
{
    if (r->last < r->first)
        return sl_fail(err, SL_INVALID, "%s %s: the range ends before it begins", flag, item);
    if (r->op == '+' ? r->step <= 0 : r->step <= 1 || r->first <= 0)
        return sl_fail(err, SL_INVALID, "%s %s: the range never ends; a step is above 0, a factor above 1 and then the first value above 0",
                       flag, item);
    /* By multiples of the step, with a little to spare at the end: 0.3-0.9+0.2 has 0.9 though sums of 0.2 do not meet it. */
    double slack = r->op == '+' ? r->step * 1e-6 : r->last * 1e-9, value = r->first;
    for (uint64_t i = 1; value <= r->last + slack; i++) {
        char text[40];
        snprintf(text, sizeof text, value == floor(value) ? "%.0f" : "%.10g", value);
        SL_TRY(append(flag, text, out, err));
        value = r->op == '+' ? r->first + (double)i * r->step : value * r->step;
    }
    return SL_OK;
}

sl_status sl_sweep_parse(const char *flag, const char *list, bool ranges, sl_sweep_values *out, sl_error *err)
{
    const char *at = list;
    do {
        char item[ITEM_BYTES_MAX];
        range r;
        size_t length = strcspn(at, ",");
        if (length == 0 || length >= sizeof item)
            return sl_fail(err, SL_INVALID, "%s %.60s: a list of values is written 1,2,4, none of them %s", flag, list,
                           length == 0 ? "empty" : "that long");
        memcpy(item, at, length);
        item[length] = '\0';
        SL_TRY(ranges && is_range(item, &r) ? append_range(flag, item, &r, out, err) : append(flag, item, out, err));
        at += length;
    } while (*at++ == ',');
    return SL_OK;
}

void sl_sweep_free(sl_sweep_values *values)
{
    for (size_t i = 0; i < values->count; i++)
        free(values->text[i]);
    free(values->text);
    *values = (sl_sweep_values){0};
}

uint64_t sl_sweep_count(const size_t *counts, size_t options)
{
    uint64_t product = 1;
    for (size_t i = 0; i < options; i++)
        if (__builtin_mul_overflow(product, counts[i], &product))
            return UINT64_MAX;
    return product;
}

void sl_sweep_at(const size_t *counts, size_t options, uint64_t index, size_t *chosen)
{
    for (size_t i = options; i-- > 0; index /= counts[i])
        chosen[i] = (size_t)(index % counts[i]);
}
