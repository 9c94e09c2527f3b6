/* tests/test_report.c: results into plots, and plots into SVG: scales, escaping, and inputs that nobody wants to plot. Whether pages are well-formed,
 * and what a browser makes of them, is tested by tests/cli_report.sh. */
#include "offload/cli/report.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* JSON in C is easier to read with single quotes. */
static sl_status read_text(cli_report_data *r, const char *text, sl_error *err)
{
    char *json = strdup(text);
    for (char *c = json; *c != '\0'; c++)
        *c = *c == '\'' ? '"' : *c;
    sl_status status = cli_report_read(r, "results.json", json, strlen(json), err);
    free(json);
    return status;
}

static void fill(cli_report_data *r, const char *text)
{
    sl_error err = {0};
    assert_int_equal(cli_report_open(r, &err), SL_OK);
    if (read_text(r, text, &err) != SL_OK || cli_report_fill(r, &err) != SL_OK)
        fail_msg("%s", err.message);
}

/* Malloc'd. */
static char *svg_of(plot *p)
{
    char *text;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    plot_svg(out, p, true);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void scales_end_at_round_numbers_that_hold_all_values(void **state)
{
    (void)state;
    static const struct {
        plot_axis axis;
        double low, high;
    } cases[] = {
        {{.log = true}, 0.25, 5.4},
        {{.log = true}, 1, 1},
        {{.log = true}, 1e-9, 1e12},
        {{.from_zero = true}, 3, 97},
        {{.log = false}, 0.3, 0.7},
        {{.log = false}, 5, 5},
        {{.log = false}, -4, -4},
        {{.unit = PLOT_BYTES, .log = true}, 4096, 1048576},
        {{.unit = PLOT_BYTES, .from_zero = true}, 2e9, 7e9},
        {{.from_zero = true}, 0, 0},
        {{.log = true}, 22, 31},
        {{.log = false}, 1e17, 1.0000001e17},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        plot_scale s = plot_scale_of(&cases[i].axis, cases[i].low, cases[i].high);
        if (!(s.low <= cases[i].low * (1 + 1e-9) || s.low <= cases[i].low) || !(s.high >= cases[i].high * (1 - 1e-9)) || !(s.low < s.high))
            fail_msg("case %zu: %g..%g does not hold %g..%g", i, s.low, s.high, cases[i].low, cases[i].high);
        if (s.tick_count < 2 || s.tick_count > PLOT_TICKS_MAX)
            fail_msg("case %zu: %zu ticks", i, s.tick_count);
        assert_true(plot_place(&s, s.ticks[s.tick_count - 1]) > 0.6); /* they go all the way */
        for (size_t t = 0; t < s.tick_count; t++)
            assert_true(plot_place(&s, s.ticks[t]) > -1e-6 && plot_place(&s, s.ticks[t]) < 1 + 1e-6);
    }
}

static void values_are_written_for_people(void **state)
{
    (void)state;
    static const struct {
        plot_unit unit;
        double value;
        const char *text;
    } cases[] = {{PLOT_NUMBER, 0, "0"},
                 {PLOT_NUMBER, 1.2, "1.2"},
                 {PLOT_NUMBER, 100, "100"},
                 {PLOT_NUMBER, 0.031, "0.031"},
                 {PLOT_NUMBER, 12.34, "12.3"},
                 {PLOT_NUMBER, -2.5, "-2.5"},
                 {PLOT_NUMBER, 2500000, "2.5e+06"},
                 {PLOT_BYTES, 4096, "4 KiB"},
                 {PLOT_BYTES, 2684354560.0, "2.5 GiB"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[32];
        plot_value_text(cases[i].unit, cases[i].value, text);
        assert_string_equal(text, cases[i].text);
    }
}

#define ROW(program, budget, speed)                                                                                                        \
    "{'program': '" program "', 'n_gen': 8, 'n_prompt': 0, 'ram_budget_bytes': " budget ", 'avg_ts': " speed "}"

static void rows_of_bench_are_series_by_what_ran(void **state)
{
    (void)state;
    cli_report_data r;
    fill(&r, "[" ROW("sluice", "2147483648", "1.2") "," ROW("sluice", "3221225472", "2.1") "," ROW("llama.cpp", "2147483648", "0.3") "]");
    const plot *p = &r.plots[REPORT_SPEED];
    assert_int_equal(p->series_count, 2);
    assert_string_equal(p->series[0].name, "sluice");
    assert_int_equal(p->series[0].count, 2);
    assert_true(p->series[1].points[0].y == 0.3 && p->series[1].points[0].x == 2147483648.0);
    assert_true(plot_is_empty(&r.plots[REPORT_ROOFLINE]) && plot_is_empty(&r.plots[REPORT_TASKS]));
    cli_report_close(&r);
}

static void results_may_follow_each_other_without_a_list(void **state)
{
    (void)state;
    cli_report_data r;
    fill(&r, ROW("sluice", "1", "1") "\n" ROW(
                 "sluice", "2", "2") "{'perplexity': 30.5}{'perplexity': 40, 'sparsity': {'mode': 'coarse', 'density_asked': 0.5}}");
    assert_int_equal(r.plots[REPORT_SPEED].series[0].count, 2);
    const plot *p = &r.plots[REPORT_QUALITY];
    assert_true(p->series_count == 2 && p->series[0].dashed && p->series[0].count == 2); /* dense, drawn as far as the others go */
    cli_report_close(&r);
}

static void what_cannot_be_shown_is_said(void **state)
{
    (void)state;
    cli_report_data r;
    fill(&r, "[" ROW("a", "1e9", "1e300") "," ROW("a", "1e9", "null") "," ROW(
                 "b", "1e9", "2") ","
                                  "{'perplexity': -1}, {'perplexity': 1e300}, {'perplexity': 3, 'sparq': {}}, {'error': {'code': 'io', "
                                  "'message': 'it broke'}}]");
    assert_true(json_array_size(r.notes) >= 4); /* rows that failed, values that have no place, SparQ, a failure */
    assert_true(plot_is_empty(&r.plots[REPORT_QUALITY]));
    cli_report_close(&r);
}

static void more_series_than_colours_are_counted(void **state)
{
    (void)state;
    cli_report_data r;
    sl_error err = {0};
    assert_int_equal(cli_report_open(&r, &err), SL_OK);
    for (int i = 0; i < 12; i++) {
        char line[200];
        snprintf(line, sizeof line, "{\"program\": \"p%d\", \"n_gen\": 1, \"ram_budget_bytes\": 1000, \"avg_ts\": 1}", i);
        assert_int_equal(cli_report_read(&r, "f", line, strlen(line), &err), SL_OK);
    }
    assert_int_equal(cli_report_fill(&r, &err), SL_OK);
    assert_true(r.plots[REPORT_SPEED].series_count == PLOT_SERIES_MAX && r.plots[REPORT_SPEED].series_lost == 4);
    assert_int_equal(json_array_size(r.notes), 1);
    cli_report_close(&r);
}

static void what_is_no_result_is_refused_with_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *text, *said;
    } broken[] = {{"", "there is no result"},
                  {"[]", "there is no result"},
                  {"{", "no JSON at byte"},
                  {"nonsense", "no JSON at byte"},
                  {"3", "no JSON at byte"},
                  {"[1]", "element 0 of the list"},
                  {"{'colour': 'red'}", "value 0 is nothing that bench"},
                  {"[{'avg_ts': 1}, {'x': 1}]", "value 1 is nothing that bench"}};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        cli_report_data r;
        sl_error err = {0};
        assert_int_equal(cli_report_open(&r, &err), SL_OK);
        if (read_text(&r, broken[i].text, &err) != SL_INVALID || strstr(err.message, broken[i].said) == NULL)
            fail_msg("%s: \"%s\", not \"%s\"", broken[i].text, err.message, broken[i].said);
        cli_report_close(&r);
    }
}

#define BAD "\xEF\xBF\xBD" /* stands for each byte of what XML cannot hold */

static void text_cannot_leave_its_place(void **state)
{
    (void)state;
    cli_report_data r;
    fill(&r, ROW("</text><script>alert(1)</script>&", "1000", "1"));
    char *svg = svg_of(&r.plots[REPORT_SPEED]);
    assert_null(strstr(svg, "<script"));
    assert_non_null(strstr(svg, "&lt;/text&gt;&lt;script&gt;"));
    free(svg);
    cli_report_close(&r);
    char *text;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    plot_escape(out, "a\"b'c\x01"
                     "\xFF"
                     "\xEF\xBF\xBF"
                     "\xE2\x82\xAC\xC0\x80");
    assert_int_equal(fclose(out), 0);
    assert_string_equal(text, "a&quot;b&#39;c" BAD BAD BAD BAD BAD "\xE2\x82\xAC" BAD BAD);
    free(text);
}

static void a_picture_has_a_title_a_description_and_both_themes(void **state)
{
    (void)state;
    cli_report_data r;
    fill(&r, ROW("sluice", "1000", "1"));
    char *svg = svg_of(&r.plots[REPORT_SPEED]);
    assert_non_null(strstr(svg, "role=\"img\" aria-labelledby=\"speed-t speed-d\""));
    assert_non_null(strstr(svg, "<title id=\"speed-t\">Speed by memory budget</title>"));
    assert_non_null(strstr(svg, "prefers-color-scheme:dark"));
    assert_null(strstr(svg, "href"));
    assert_null(strstr(svg, "nan"));
    free(svg);
    cli_report_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scales_end_at_round_numbers_that_hold_all_values),
        cmocka_unit_test(values_are_written_for_people),
        cmocka_unit_test(rows_of_bench_are_series_by_what_ran),
        cmocka_unit_test(results_may_follow_each_other_without_a_list),
        cmocka_unit_test(what_cannot_be_shown_is_said),
        cmocka_unit_test(more_series_than_colours_are_counted),
        cmocka_unit_test(what_is_no_result_is_refused_with_its_place),
        cmocka_unit_test(text_cannot_leave_its_place),
        cmocka_unit_test(a_picture_has_a_title_a_description_and_both_themes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
