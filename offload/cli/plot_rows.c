/* offload/cli/plot_rows.c: named rows: bars of parts that add up, or points with intervals. */
#include "offload/cli/plot.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LEFT  12
#define RIGHT 20
#define NAME  17 /* height of a row's name, which stands above its values: names may be long, and screens narrow */
#define BAR   18
#define DOT   11 /* of each series */
#define BELOW 48

static double row_height(const plot *p)
{
    return NAME + (p->kind == PLOT_STACK ? BAR : DOT * (double)p->series_count) + 6;
}

double plot_height_rows(const plot *p)
{
    return 8 + row_height(p) * (double)p->row_count + BELOW;
}

static double at(const plot_scale *scale, double value)
{
    return LEFT + plot_place(scale, value) * (PLOT_WIDTH - LEFT - RIGHT);
}

/* What the row's parts are together. */
static double sum_of(const plot *p, size_t row)
{
    double sum = 0;
    for (size_t s = 0; s < p->series_count; s++)
        for (size_t i = 0; i < p->series[s].count; i++)
            sum += p->series[s].points[i].row == row ? p->series[s].points[i].y : 0;
    return sum;
}

static plot_scale scale_of(const plot *p)
{
    double low = HUGE_VAL, high = -HUGE_VAL;
    for (size_t r = 0; r < p->row_count && p->kind == PLOT_STACK; r++) {
        low = 0;
        high = fmax(high, sum_of(p, r));
    }
    for (size_t s = 0; s < p->series_count && p->kind == PLOT_DOTS; s++)
        for (size_t i = 0; i < p->series[s].count; i++) {
            low = fmin(low, p->series[s].points[i].low);
            high = fmax(high, p->series[s].points[i].high);
        }
    return plot_scale_of(&p->y, low, high);
}

static void draw_axis(FILE *out, const plot *p, const plot_scale *scale, double top, double bottom)
{
    char text[32];
    for (size_t i = 0; i < scale->tick_count; i++) {
        double x = at(scale, scale->ticks[i]);
        plot_tick_text(scale, scale->ticks[i], text);
        fprintf(
            out,
            "<path class=\"grid\" d=\"M%.1f %.1fV%.1f\"/><text class=\"faint\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", x,
            top, bottom, x, bottom + 16, text);
    }
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", (LEFT + PLOT_WIDTH - RIGHT) / 2.0, bottom + 36);
    plot_escape(out, p->y.label);
    fputs("</text>\n", out);
}

static void draw_stack(FILE *out, const plot *p, const plot_scale *scale, size_t row, double y)
{
    double from = 0;
    for (size_t s = 0; s < p->series_count; s++)
        for (size_t i = 0; i < p->series[s].count; i++) {
            const plot_point *point = &p->series[s].points[i];
            if (point->row != row || point->y <= 0)
                continue;
            fprintf(out, "<rect class=\"s%zu\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\"/>", s, at(scale, from), y,
                    at(scale, from + point->y) - at(scale, from), BAR - 4);
            from += point->y;
        }
    fputc('\n', out);
}

static void draw_dots(FILE *out, const plot *p, const plot_scale *scale, size_t row, double y)
{
    for (size_t s = 0; s < p->series_count; s++)
        for (size_t i = 0; i < p->series[s].count; i++) {
            const plot_point *point = &p->series[s].points[i];
            double middle = y + DOT * ((double)s + 0.5);
            if (point->row != row)
                continue;
            if (point->low < point->high)
                fprintf(out, "<path class=\"range s%zu\" d=\"M%.1f %.1fH%.1f\"/>", s, at(scale, point->low), middle,
                        at(scale, point->high));
            plot_mark(out, &p->series[s], s, at(scale, point->y), middle);
            fputc('\n', out);
        }
}

void plot_draw_rows(FILE *out, const plot *p, double top)
{
    plot_scale scale = scale_of(p);
    double height = row_height(p), bottom = top + 8 + height * (double)p->row_count;
    draw_axis(out, p, &scale, top + 4, bottom);
    for (size_t r = 0; r < p->row_count; r++) {
        double y = top + 8 + height * (double)r;
        fprintf(out, "<text class=\"name\" x=\"%d\" y=\"%.1f\">", LEFT, y + 12);
        plot_escape(out, p->rows[r]);
        fputs("</text>", out);
        if (p->kind == PLOT_STACK)
            draw_stack(out, p, &scale, r, y + NAME);
        else
            draw_dots(out, p, &scale, r, y + NAME - 1);
    }
}
