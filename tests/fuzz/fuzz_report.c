/* tests/fuzz/fuzz_report.c: any bytes as a file of results: a page in which no text leaves its place, or a refusal of one line. */
/* fuzz: -max_len=1200 */
#include "offload/cli/report.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static void expect(bool holds)
{
    if (!holds)
        __builtin_trap();
}

/* Tags balance as far as their brackets go, and no coordinate is a number that is none. */
static void check_page(const char *page, size_t length)
{
    long open = 0;
    expect(strlen(page) == length);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)page[i];
        open += c == '<' ? 1 : c == '>' ? -1 : 0;
        expect(open == 0 || open == 1 || open == -1); /* "->" may not occur, and "<<" neither */
        expect(c >= 0x20 || c == '\n' || c == '\t');
    }
    expect(open == 0 && strstr(page, "\"nan") == NULL && strstr(page, "inf\"") == NULL && strstr(page, "<script") == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    cli_report_data r;
    sl_error err = {0};
    char *page, *text = malloc(length + 1);
    size_t page_length;
    if (text == NULL || cli_report_open(&r, &err) != SL_OK)
        return 0;
    if (length > 0)
        memcpy(text, data, length);
    text[length] = '\0';
    sl_status status = cli_report_read(&r, "r.json", text, length, &err);
    expect(status == SL_OK || (status == SL_INVALID && err.message[0] != '\0' && strchr(err.message, '\n') == NULL));
    if (status == SL_OK) {
        FILE *out = open_memstream(&page, &page_length);
        expect(out != NULL && cli_report_fill(&r, &err) == SL_OK);
        cli_report_page(out, &r, "title");
        expect(fclose(out) == 0);
        check_page(page, page_length);
        free(page);
    }
    cli_report_close(&r);
    free(text);
    return 0;
}
