/* offload/cli/plot_xy.c: points and lines over two axes. */
#include "offload/cli/plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LEFT   62
#define RIGHT  16
#define HEIGHT 220 /* of the area */
#define BELOW  48  /* ticks and the axis' label */
#define ABOVE  22  /* the other axis' label */

typedef struct area {
    plot_scale x, y;
    double top;
} area;

double plot_height_xy(void)
{
    return ABOVE + HEIGHT + BELOW;
}

static double at_x(const area *a, double x)
{
    return LEFT + plot_place(&a->x, x) * (PLOT_WIDTH - LEFT - RIGHT);
}

static double at_y(const area *a, double y)
{
    return a->top + (1 - plot_place(&a->y, y)) * HEIGHT;
}

static area area_of(const plot *p, double top)
{
    double x_low = HUGE_VAL, x_high = -HUGE_VAL, y_low = HUGE_VAL, y_high = -HUGE_VAL;
    for (size_t s = 0; s < p->series_count; s++)
        for (size_t i = 0; i < p->series[s].count; i++) {
            const plot_point *point = &p->series[s].points[i];
            x_low = fmin(x_low, point->x);
            x_high = fmax(x_high, point->x);
            y_low = fmin(y_low, point->low);
            y_high = fmax(y_high, point->high);
        }
    return (area){plot_scale_of(&p->x, x_low, x_high), plot_scale_of(&p->y, y_low, y_high), top + ABOVE};
}

static void label_of(const plot_axis *axis, const plot_scale *scale, char out[PLOT_TEXT + 16])
{
    snprintf(out, PLOT_TEXT + 16, "%s%s%s%s", axis->label, scale->suffix[0] != '\0' ? ", " : "", scale->suffix, axis->log ? " (log)" : "");
}

static void draw_axes(FILE *out, const plot *p, const area *a)
{
    char text[32], label[PLOT_TEXT + 16];
    double bottom = a->top + HEIGHT, last = -100;
    for (size_t i = 0; i < a->y.tick_count; i++) {
        double y = at_y(a, a->y.ticks[i]);
        plot_tick_text(&a->y, a->y.ticks[i], text);
        fprintf(out, "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text class=\"faint\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
                LEFT, y, PLOT_WIDTH - RIGHT, LEFT - 6, y + 4, text);
    }
    for (size_t i = 0; i < a->x.tick_count; i++) {
        double x = at_x(a, a->x.ticks[i]);
        plot_tick_text(&a->x, a->x.ticks[i], text);
        double half = 3.6 * (double)strlen(text);
        fprintf(out, "<path class=\"axis\" d=\"M%.1f %.1fv4\"/>", x, bottom);
        if (x - half < last + 6) /* no text over the one before */
            continue;
        last = x + half;
        fprintf(out, "<text class=\"faint\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, bottom + 18,
                x + half > PLOT_WIDTH - 2 ? "end" : "middle", text);
    }
    fprintf(out, "<path class=\"axis\" d=\"M%d %.1fH%d\"/>\n", LEFT, bottom, PLOT_WIDTH - RIGHT);
    label_of(&p->x, &a->x, label);
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", (LEFT + PLOT_WIDTH - RIGHT) / 2.0, bottom + 38);
    plot_escape(out, label);
    label_of(&p->y, &a->y, label);
    fprintf(out, "</text>\n<text x=\"12\" y=\"%.1f\">", a->top - 10);
    plot_escape(out, label);
    fputs("</text>\n", out);
}

static int by_x(const void *a, const void *b)
{
    const plot_point *left = a, *right = b;
    return (left->x > right->x) - (left->x < right->x);
}

static void draw_line(FILE *out, const plot_series *s, size_t index, const area *a)
{
    fprintf(out, "<path class=\"line s%zu%s\" style=\"fill:none\" d=\"", index, s->dashed ? " dashed" : "");
    for (size_t i = 0; i < s->count; i++)
        fprintf(out, "%c%.1f %.1f", i == 0 ? 'M' : 'L', at_x(a, s->points[i].x), at_y(a, s->points[i].y));
    fputs("\"/>\n", out);
}

static void draw_series(FILE *out, plot_series *s, size_t index, const area *a)
{
    if (s->count == 0)
        return;
    qsort(s->points, s->count, sizeof *s->points, by_x);
    if ((s->line || s->dashed) && s->count > 1)
        draw_line(out, s, index, a);
    for (size_t i = 0; i < s->count && !s->dashed; i++) {
        const plot_point *point = &s->points[i];
        double x = at_x(a, point->x);
        if (point->low < point->high)
            fprintf(out, "<path class=\"range s%zu\" d=\"M%.1f %.1fV%.1f\"/>", index, x, at_y(a, point->low), at_y(a, point->high));
        plot_mark(out, s, index, x, at_y(a, point->y));
        fputc('\n', out);
    }
}

void plot_draw_xy(FILE *out, plot *p, double top)
{
    area a = area_of(p, top);
    draw_axes(out, p, &a);
    for (size_t i = 0; i < p->series_count; i++)
        draw_series(out, &p->series[i], i, &a);
}
