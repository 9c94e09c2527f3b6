/* offload/cli/plot.h: figures as SVG, for the report's page and for pictures of their own.
 *
 *   plot_scale.c  ranges, ticks and their texts: pure      plot_text.c  escaped text, the legend, the frame that all plots have
 *   plot_xy.c     points and lines over two axes           plot_rows.c  rows of bars, or of points with intervals
 *
 * Colours are classes, so that one style sheet (plot_style) has them for light and for dark; series differ in their marks, too, and every
 * plot has a title and a description for who does not see it. Nothing outside the text is referred to. */
#ifndef SL_OFFLOAD_CLI_PLOT_H
#define SL_OFFLOAD_CLI_PLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { PLOT_SERIES_MAX = 8, PLOT_TEXT = 160, PLOT_WIDTH = 430 };

typedef enum plot_unit { PLOT_NUMBER = 0, PLOT_BYTES } plot_unit; /* bytes: ticks at powers of two, or in GiB and the like */

typedef struct plot_axis {
    char label[PLOT_TEXT];
    plot_unit unit;
    bool log, from_zero;
} plot_axis;

typedef struct plot_point {
    double x, y, low, high; /* low and high: where the value may lie; equal: not known */
    size_t row;             /* of plots by rows: which, instead of x */
} plot_point;

typedef struct plot_series {
    char name[PLOT_TEXT];
    bool line, dashed, hollow; /* joined; joined by dashes and without marks; marks that are not filled */
    plot_point *points;
    size_t count, capacity;
} plot_series;

typedef enum plot_kind { PLOT_XY = 0, PLOT_STACK, PLOT_DOTS } plot_kind;

typedef struct plot {
    plot_kind kind;
    const char *id; /* "speed" */
    char title[PLOT_TEXT], description[400];
    plot_axis x, y; /* of plots by rows: y has the values, x says what the rows are */
    plot_series series[PLOT_SERIES_MAX];
    size_t series_count, series_lost; /* there is room for so many; the others */
    char (*rows)[PLOT_TEXT];
    size_t row_count, row_capacity;
    size_t points_lost; /* that the axes cannot show: not finite, or not above zero on a logarithmic one */
} plot;

void plot_free(plot *p);
/* The series of that name, made where there is none; NULL where there is no room or no memory, and then series_lost counts. */
plot_series *plot_find_series(plot *p, const char *name);
/* Adds a point, or counts it as lost. False where memory is out. */
bool plot_add(plot *p, plot_series *series, plot_point point);
/* The row of that name, made where there is none; SIZE_MAX where memory is out. */
size_t plot_find_row(plot *p, const char *name);
bool plot_is_empty(const plot *p);

/* ---- scales ---- */

#define PLOT_TICKS_MAX 12
typedef struct plot_scale {
    double low, high; /* low < high; both above zero where log */
    bool log;
    plot_unit unit;
    double divisor; /* of bytes: what the ticks' numbers count, such as 2^30 */
    const char *suffix;
    double ticks[PLOT_TICKS_MAX];
    size_t tick_count;
} plot_scale;
/* A scale that holds all of [low, high], widened to round numbers. */
plot_scale plot_scale_of(const plot_axis *axis, double low, double high);
/* 0 at low, 1 at high. */
double plot_place(const plot_scale *scale, double value);
void plot_tick_text(const plot_scale *scale, double value, char out[32]);
/* A value for people: "2.5 GiB", "0.031". */
void plot_value_text(plot_unit unit, double value, char out[32]);

/* ---- text ---- */

/* For XML and HTML, in text and in attributes; what XML cannot hold becomes U+FFFD. */
void plot_escape(FILE *out, const char *text);
/* The style sheet of plots, whose colours are variables that `selector` sets ("svg" or ":root"). */
void plot_style(FILE *out, const char *selector);
/* As an element of a page; or, standalone, as a file of its own with its style sheet. */
void plot_svg(FILE *out, plot *p, bool standalone); /* puts the points of its lines in order */
/* The same figures as an HTML table. */
void plot_table(FILE *out, const plot *p);

/* Shared by plots: not for others. */
double plot_open(FILE *out, const plot *p, double height, bool standalone); /* gives where the legend ends */
void plot_mark(FILE *out, const plot_series *s, size_t index, double x, double y);
void plot_draw_xy(FILE *out, plot *p, double top);
void plot_draw_rows(FILE *out, const plot *p, double top);
double plot_height_xy(void);
double plot_height_rows(const plot *p);

#endif
