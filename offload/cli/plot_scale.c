/* offload/cli/plot_scale.c: ranges that end at round numbers, ticks in them, and numbers as text. */
#include "offload/cli/plot.h"

#include <math.h>
#include <string.h>

static const char *const byte_names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};

static int power_of_1024(double bytes)
{
    int power = 0;
    while (power < 5 && bytes >= 1024) {
        bytes /= 1024;
        power++;
    }
    return power;
}

/* The least of 1, 2, 5 times a power of ten that is not below. */
static double round_up(double value)
{
    double ten = pow(10, floor(log10(value)));
    const double steps[] = {1, 2, 5, 10};
    for (size_t i = 0; i < 4; i++)
        if (steps[i] * ten >= value * (1 - 1e-9))
            return steps[i] * ten;
    return 10 * ten;
}

static void linear_ticks(plot_scale *s, double low, double high)
{
    double step = round_up((high - low) / s->divisor / 5) * s->divisor;
    s->low = floor(low / step + 1e-9) * step;
    s->high = ceil(high / step - 1e-9) * step;
    while (s->tick_count < PLOT_TICKS_MAX && s->low + step * (double)s->tick_count <= s->high + step / 2) {
        s->ticks[s->tick_count] = s->low + step * (double)s->tick_count;
        s->tick_count++;
    }
}

/* Decades, with 2 and 5 between where they are few; powers of two for bytes. */
static void log_ticks(plot_scale *s, double low, double high)
{
    double base = s->unit == PLOT_BYTES ? 2 : 10;
    double first = floor(log(low) / log(base) + 1e-9), last = ceil(log(high) / log(base) - 1e-9);
    double every = ceil((last - first + 1) / 8);
    bool between = base > 2 && last - first <= 2;
    static const double parts[] = {1, 2, 5};
    s->low = pow(base, first);
    s->high = pow(base, last);
    if (between) { /* the range may end at a 2 or a 5 */
        while (s->low * 2 <= low * (1 + 1e-9))
            s->low *= s->low * 5 <= low * (1 + 1e-9) ? 5 : 2;
        double end = round_up(high);
        s->high = end > s->low ? end : s->high;
    }
    for (int n = 0; first + every * n <= last + 0.5; n++)
        for (size_t i = 0; i < (between ? 3 : 1); i++) {
            double t = pow(base, first + every * n) * parts[i];
            if (t >= s->low * (1 - 1e-9) && t <= s->high * (1 + 1e-9) && s->tick_count < PLOT_TICKS_MAX)
                s->ticks[s->tick_count++] = t;
        }
}

plot_scale plot_scale_of(const plot_axis *axis, double low, double high)
{
    plot_scale s = {.log = axis->log, .unit = axis->unit, .divisor = 1, .suffix = ""};
    if (axis->from_zero && !axis->log)
        low = low < 0 ? low : 0;
    if (!(high > low)) { /* one value: some room around it */
        double room = axis->log ? 2 : low != 0 ? fabs(low) * 0.5 : 1;
        high = axis->log ? high * room : high + room;
        low = axis->log ? low / room : axis->from_zero ? low : low - room;
    }
    if (s.unit == PLOT_BYTES && !axis->log) {
        int power = power_of_1024(high);
        s.divisor = pow(1024, power);
        s.suffix = byte_names[power];
    }
    if (axis->log)
        log_ticks(&s, low, high);
    else
        linear_ticks(&s, low, high);
    return s;
}

double plot_place(const plot_scale *s, double value)
{
    if (s->log)
        return (log(value) - log(s->low)) / (log(s->high) - log(s->low));
    return (value - s->low) / (s->high - s->low);
}

void plot_value_text(plot_unit unit, double value, char out[32])
{
    double size = fabs(value);
    if (unit == PLOT_BYTES) {
        int power = power_of_1024(size);
        snprintf(out, 32, "%.4g %s", value / pow(1024, power), byte_names[power]);
    } else if (size != 0 && (size >= 1e6 || size < 1e-4)) {
        snprintf(out, 32, "%.3g", value);
    } else {
        snprintf(out, 32, "%.*f", size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3, value);
        if (strchr(out, '.') != NULL)
            for (size_t n = strlen(out); n > 0 && (out[n - 1] == '0' || out[n - 1] == '.'); n--) {
                bool point = out[n - 1] == '.';
                out[n - 1] = '\0';
                if (point)
                    break;
            }
    }
}

void plot_tick_text(const plot_scale *s, double value, char out[32])
{
    if (s->unit == PLOT_BYTES && s->log) {
        plot_value_text(PLOT_BYTES, value, out);
        return;
    }
    plot_value_text(PLOT_NUMBER, fabs(value / s->divisor) < 1e-12 ? 0 : value / s->divisor, out);
}
