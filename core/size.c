/* core/size.c: sizes as people write and read them. See os.h. */
#include "core/os.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* The power of 1024 that a suffix stands for, -1 for one that we do not know: K, KB, KiB and the same for M, G, T; B or nothing is 0. */
static int suffix_power(const char *suffix)
{
    static const char letters[] = "KMGT";
    if (*suffix == '\0' || strcasecmp(suffix, "B") == 0)
        return 0;
    const char *letter = strchr(letters, toupper((unsigned char)*suffix));
    const char *rest = suffix + 1;
    if (letter == NULL || (*rest != '\0' && strcasecmp(rest, "B") != 0 && strcasecmp(rest, "iB") != 0))
        return -1;
    return (int)(letter - letters) + 1;
}

/* Fixed point: whole and up to nine decimals apart, so that "0.1G" is the same on every machine and no bit of 2^63 gets lost. */
bool sl_parse_size(const char *text, uint64_t *out)
{
    uint64_t whole = 0, fraction = 0, scale = 1;
    const char *at = text;
    for (; isdigit((unsigned char)*at); at++) {
        if (__builtin_mul_overflow(whole, 10, &whole) || __builtin_add_overflow(whole, (uint64_t)(*at - '0'), &whole))
            return false;
    }
    if (at == text)
        return false;
    if (*at == '.') {
        const char *first = ++at;
        for (; isdigit((unsigned char)*at); at++) {
            if (scale < 1000000000) {
                fraction = fraction * 10 + (uint64_t)(*at - '0');
                scale *= 10;
            }
        }
        if (at == first)
            return false;
    }
    int power = suffix_power(at);
    if (power < 0 || (power == 0 && scale > 1)) /* half a byte is nothing that we can hold */
        return false;
    uint64_t unit = (uint64_t)1 << (10 * power);
    uint64_t part = (uint64_t)((unsigned __int128)fraction * unit / scale);
    return !__builtin_mul_overflow(whole, unit, &whole) && !__builtin_add_overflow(whole, part, out);
}

void sl_format_size(uint64_t bytes, char out[24])
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t power = 0;
    double value = (double)bytes;
    while (power + 1 < sizeof names / sizeof *names && value >= 1024) {
        value /= 1024;
        power++;
    }
    snprintf(out, 24, power == 0 ? "%.0f %s" : "%.2f %s", value, names[power]);
}
