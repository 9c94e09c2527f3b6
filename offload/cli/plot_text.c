/* offload/cli/plot_text.c: what all plots have: escaped text, colours, title, legend, marks, and the table beside them. */
#include "offload/cli/plot.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LINE 19 /* of the legend */

/* ---- what is plotted ---- */

void plot_free(plot *p)
{
    for (size_t i = 0; i < p->series_count; i++)
        free(p->series[i].points);
    free(p->rows);
    p->series_count = p->row_count = 0;
    p->rows = NULL;
}

plot_series *plot_find_series(plot *p, const char *name)
{
    for (size_t i = 0; i < p->series_count; i++)
        if (strncmp(p->series[i].name, name, PLOT_TEXT - 1) == 0)
            return &p->series[i];
    if (p->series_count == PLOT_SERIES_MAX) {
        p->series_lost++;
        return NULL;
    }
    plot_series *s = &p->series[p->series_count++];
    *s = (plot_series){.line = true};
    snprintf(s->name, sizeof s->name, "%s", name);
    return s;
}

size_t plot_find_row(plot *p, const char *name)
{
    for (size_t i = 0; i < p->row_count; i++)
        if (strncmp(p->rows[i], name, PLOT_TEXT - 1) == 0)
            return i;
    if (p->row_count == p->row_capacity) {
        size_t capacity = p->row_capacity == 0 ? 16 : 2 * p->row_capacity;
        char(*grown)[PLOT_TEXT] = realloc(p->rows, capacity * sizeof *grown);
        if (grown == NULL)
            return SIZE_MAX;
        p->rows = grown;
        p->row_capacity = capacity;
    }
    snprintf(p->rows[p->row_count], PLOT_TEXT, "%s", name);
    return p->row_count++;
}

static bool shows(const plot_axis *axis, double value)
{
    return isfinite(value) && fabs(value) < 1e18 && (!axis->log || value > 1e-18);
}

bool plot_add(plot *p, plot_series *s, plot_point point)
{
    if ((p->kind == PLOT_XY && !shows(&p->x, point.x)) || !shows(&p->y, point.y)) {
        p->points_lost++;
        return true;
    }
    if (!shows(&p->y, point.low) || !shows(&p->y, point.high) || !(point.low <= point.high))
        point.low = point.high = point.y;
    if (s->count == s->capacity) {
        size_t capacity = s->capacity == 0 ? 16 : 2 * s->capacity;
        plot_point *grown = realloc(s->points, capacity * sizeof *grown);
        if (grown == NULL)
            return false;
        s->points = grown;
        s->capacity = capacity;
    }
    s->points[s->count++] = point;
    return true;
}

bool plot_is_empty(const plot *p)
{
    for (size_t i = 0; i < p->series_count; i++)
        if (p->series[i].count > 0)
            return false;
    return true;
}

/* ---- text ---- */

/* Bytes of a character that XML can hold, or 0. */
static size_t good_character(const unsigned char *c)
{
    if (c[0] < 0x80)
        return c[0] >= 0x20 || c[0] == '\t' || c[0] == '\n' ? 1 : 0;
    size_t n = c[0] >= 0xF0 && c[0] < 0xF5 ? 4 : c[0] >= 0xE0 && c[0] < 0xF0 ? 3 : c[0] >= 0xC2 && c[0] < 0xE0 ? 2 : 0;
    for (size_t i = 1; i < n; i++)
        if ((c[i] & 0xC0) != 0x80)
            return 0;
    bool overlong = (c[0] == 0xE0 && c[1] < 0xA0) || (c[0] == 0xF0 && c[1] < 0x90);
    bool beyond = (c[0] == 0xED && c[1] > 0x9F) || (c[0] == 0xF4 && c[1] > 0x8F);
    bool no_character = n == 3 && c[0] == 0xEF && c[1] == 0xBF && c[2] >= 0xBE;
    return overlong || beyond || no_character ? 0 : n;
}

void plot_escape(FILE *out, const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0';) {
        size_t n = good_character(c);
        if (n == 0)
            fputs("\xEF\xBF\xBD", out);
        else if (*c == '&')
            fputs("&amp;", out);
        else if (*c == '<')
            fputs("&lt;", out);
        else if (*c == '>')
            fputs("&gt;", out);
        else if (*c == '"')
            fputs("&quot;", out);
        else if (*c == '\'')
            fputs("&#39;", out);
        else
            fprintf(out, "%.*s", (int)n, (const char *)c);
        c += n > 0 ? n : 1;
    }
}

/* Okabe and Ito's colours, which people who see fewer can tell apart; lighter ones in the dark. */
void plot_style(FILE *out, const char *selector)
{
    fprintf(out,
            "%s{--paper:#ffffff;--ink:#1f2328;--faint:#59636e;--grid:#dfe3e8;--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#b04a90;"
            "--c4:#8a6d00;--c5:#2b8fc7;--c6:#5a4fcf;--c7:#59636e}\n"
            "@media (prefers-color-scheme:dark){%s{--paper:#0d1117;--ink:#e6edf3;--faint:#9da7b3;--grid:#2b323b;--c0:#58a6ff;--c1:#ff8f4d;"
            "--c2:#3fd0a4;--c3:#f0a3d8;--c4:#e3c34a;--c5:#7fd1ff;--c6:#b7aaff;--c7:#9da7b3}}\n",
            selector, selector);
    fputs("svg.plot{font:13px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\n"
          "svg.plot text{fill:var(--ink)}svg.plot .faint{fill:var(--faint)}svg.plot .paper{fill:var(--paper)}\n"
          "svg.plot .title{font-size:16px;font-weight:600}\n"
          "svg.plot .grid{stroke:var(--grid);stroke-width:1}svg.plot .axis{stroke:var(--faint);stroke-width:1}\n"
          "svg.plot .line{fill:none;stroke-width:2;stroke-linejoin:round}svg.plot .dashed{stroke-dasharray:6 4}\n"
          "svg.plot .mark{stroke-width:2}svg.plot .hollow{fill:var(--paper)}svg.plot .range{stroke-width:1.5;opacity:.75}\n"
          "svg.plot .name{paint-order:stroke;stroke:var(--paper);stroke-width:5px}\n",
          out);
    for (int i = 0; i < PLOT_SERIES_MAX; i++)
        fprintf(out, ".s%d{stroke:var(--c%d);fill:var(--c%d)}", i, i, i);
    fputc('\n', out);
}

/* ---- the frame ---- */

static double text_width(const char *text)
{
    size_t characters = 0;
    for (; *text != '\0'; text++)
        characters += ((unsigned char)*text & 0xC0) != 0x80;
    return 7.2 * (double)characters; /* of 13 px, on the wide side */
}

/* The mark says which series it is, as well as the colour. */
void plot_mark(FILE *out, const plot_series *s, size_t index, double x, double y)
{
    const char *hollow = s->hollow ? " hollow" : "";
    switch (index % 4) {
    case 0: fprintf(out, "<circle class=\"mark s%zu%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>", index, hollow, x, y); return;
    case 1:
        fprintf(out, "<rect class=\"mark s%zu%s\" x=\"%.1f\" y=\"%.1f\" width=\"7\" height=\"7\"/>", index, hollow, x - 3.5, y - 3.5);
        return;
    case 2: fprintf(out, "<path class=\"mark s%zu%s\" d=\"M%.1f %.1fl4.5 8h-9z\"/>", index, hollow, x, y - 5); return;
    default: fprintf(out, "<path class=\"mark s%zu%s\" d=\"M%.1f %.1fl5 5l-5 5l-5 -5z\"/>", index, hollow, x, y - 5);
    }
}

static void legend_entry(FILE *out, const plot *p, size_t index, double x, double y)
{
    const plot_series *s = &p->series[index];
    if (p->kind == PLOT_STACK)
        fprintf(out, "<rect class=\"s%zu\" x=\"%.1f\" y=\"%.1f\" width=\"14\" height=\"10\"/>", index, x + 4, y - 9);
    else if (p->kind == PLOT_XY && (s->line || s->dashed))
        fprintf(out, "<path class=\"line s%zu%s\" d=\"M%.1f %.1fh22\"/>", index, s->dashed ? " dashed" : "", x, y - 4);
    if (p->kind != PLOT_STACK && !s->dashed)
        plot_mark(out, s, index, x + 11, y - 4);
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\">", x + 28, y);
    plot_escape(out, s->name);
    fputs("</text>\n", out);
}

/* Lays the legend out, entries side by side where they fit; `out` NULL: only how high it is. */
static double legend(FILE *out, const plot *p, double top)
{
    double x = 12, y = top;
    for (size_t i = 0; i < p->series_count; i++) {
        double width = 28 + text_width(p->series[i].name) + 14;
        if (x > 12 && x + width > PLOT_WIDTH) {
            x = 12;
            y += LINE;
        }
        if (out != NULL)
            legend_entry(out, p, i, x, y);
        x += width;
    }
    return y + 12;
}

double plot_open(FILE *out, const plot *p, double height, bool standalone)
{
    double top = legend(NULL, p, 46);
    if (standalone)
        fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n", out);
    fprintf(out,
            "<svg class=\"plot\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" role=\"img\" aria-labelledby=\"%s-t %s-d\"",
            PLOT_WIDTH, top + height, p->id, p->id);
    fprintf(out, standalone ? " width=\"%d\" height=\"%.0f\">\n<style>\n" : ">\n", PLOT_WIDTH, top + height);
    if (standalone) {
        plot_style(out, "svg");
        fputs("</style>\n", out);
    }
    fprintf(out, "<title id=\"%s-t\">", p->id);
    plot_escape(out, p->title);
    fprintf(out, "</title>\n<desc id=\"%s-d\">", p->id);
    plot_escape(out, p->description);
    fprintf(out, "</desc>\n<rect class=\"paper\" width=\"%d\" height=\"%.0f\"/>\n<text class=\"title\" x=\"12\" y=\"22\">", PLOT_WIDTH,
            top + height);
    plot_escape(out, p->title);
    fputs("</text>\n", out);
    return legend(out, p, 46);
}

void plot_svg(FILE *out, plot *p, bool standalone)
{
    double top = plot_open(out, p, p->kind == PLOT_XY ? plot_height_xy() : plot_height_rows(p), standalone);
    if (p->kind == PLOT_XY)
        plot_draw_xy(out, p, top);
    else
        plot_draw_rows(out, p, top);
    fputs("</svg>\n", out);
}

/* ---- the table ---- */

static void cell(FILE *out, plot_unit unit, const plot_point *point)
{
    char text[32], low[32], high[32];
    plot_value_text(unit, point->y, text);
    fprintf(out, "<td>%s", text);
    if (point->low < point->high) {
        plot_value_text(unit, point->low, low);
        plot_value_text(unit, point->high, high);
        fprintf(out, " <small>(%s to %s)</small>", low, high);
    }
    fputs("</td>", out);
}

static void heading(FILE *out, const char *text)
{
    fputs("<th scope=\"col\">", out);
    plot_escape(out, text);
    fputs("</th>", out);
}

static void table_xy(FILE *out, const plot *p)
{
    char x[32];
    heading(out, "series");
    heading(out, p->x.label);
    heading(out, p->y.label);
    fputs("</tr></thead>\n<tbody>\n", out);
    for (size_t s = 0; s < p->series_count; s++)
        for (size_t i = 0; i < p->series[s].count; i++) {
            plot_value_text(p->x.unit, p->series[s].points[i].x, x);
            fputs("<tr><th scope=\"row\">", out);
            plot_escape(out, p->series[s].name);
            fprintf(out, "</th><td>%s</td>", x);
            cell(out, p->y.unit, &p->series[s].points[i]);
            fputs("</tr>\n", out);
        }
}

static void table_rows(FILE *out, const plot *p)
{
    heading(out, p->x.label);
    for (size_t s = 0; s < p->series_count; s++)
        heading(out, p->series[s].name);
    fputs("</tr></thead>\n<tbody>\n", out);
    for (size_t r = 0; r < p->row_count; r++) {
        fputs("<tr><th scope=\"row\">", out);
        plot_escape(out, p->rows[r]);
        fputs("</th>", out);
        for (size_t s = 0; s < p->series_count; s++) {
            const plot_point *found = NULL;
            for (size_t i = 0; i < p->series[s].count; i++)
                found = p->series[s].points[i].row == r ? &p->series[s].points[i] : found;
            if (found != NULL)
                cell(out, p->y.unit, found);
            else
                fputs("<td>\xE2\x80\x93</td>", out);
        }
        fputs("</tr>\n", out);
    }
}

void plot_table(FILE *out, const plot *p)
{
    fputs("<table><caption>", out);
    plot_escape(out, p->kind == PLOT_XY ? p->title : p->y.label);
    fputs("</caption>\n<thead><tr>", out);
    if (p->kind == PLOT_XY)
        table_xy(out, p);
    else
        table_rows(out, p);
    fputs("</tbody></table>\n", out);
}
