/* offload/cli/report_page.c: the page: one file, well-formed as XML, too; nothing is fetched, and no script runs. */
#include "offload/cli/report.h"

#include <string.h>

static const char style[] =
    "*{box-sizing:border-box}html{color-scheme:light dark}\n"
    "body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu "
    "Sans',sans-serif}\n"
    "main{max-width:1180px;margin:0 auto;padding:20px 16px 48px}h1{font-size:1.6rem;line-height:1.25;margin:0 0 "
    "4px}h2{font-size:1.15rem;margin:0 0 8px}\n"
    "p,li{color:var(--faint);margin:4px 0}ul{padding-left:1.2em;margin:8px 0}nav "
    "a{margin-right:14px;white-space:nowrap}a{color:var(--c0)}\n"
    "section{border-top:1px solid var(--grid);padding:20px 0;display:grid;gap:16px;grid-template-columns:minmax(0,1fr)}\n"
    "@media (min-width:900px){section.figure{grid-template-columns:minmax(0,600px) minmax(0,1fr);align-items:start}}\n"
    "figure{margin:0}figure svg{width:100%;height:auto;display:block;border-radius:6px}\n"
    ".scroll{overflow:auto;max-height:420px}table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums;width:100%}\n"
    "caption{text-align:left;font-weight:600;padding-bottom:6px}th,td{padding:4px 10px 4px 0;text-align:right;border-bottom:1px solid "
    "var(--grid);vertical-align:top}\n"
    "th:first-child{text-align:left}th{font-weight:500}td{white-space:nowrap}small{color:var(--faint)}thead th{color:var(--faint)}\n";

static void list(FILE *out, const char *heading, const json_t *lines)
{
    size_t i;
    const json_t *line;
    if (json_array_size(lines) == 0)
        return;
    fprintf(out, "<p>%s</p>\n<ul>", heading);
    json_array_foreach(lines, i, line)
    {
        fputs("<li>", out);
        plot_escape(out, json_string_value(line));
        fputs("</li>", out);
    }
    fputs("</ul>\n", out);
}

static void links(FILE *out, const cli_report_data *r)
{
    fputs("<nav aria-label=\"Plots\">", out);
    for (size_t i = 0; i < REPORT_PLOTS; i++)
        if (!plot_is_empty(&r->plots[i]))
            fprintf(out, "<a href=\"#%s\">%s</a> ", r->plots[i].id, r->plots[i].title);
    fputs("</nav>\n", out);
}

static void figure(FILE *out, plot *p)
{
    fprintf(out, "<section class=\"figure\" id=\"%s\">\n<figure>\n", p->id);
    plot_svg(out, p, false);
    fputs("<figcaption><p>", out);
    plot_escape(out, p->description);
    /* A box that scrolls must be reachable by keys. */
    fprintf(out, "</p></figcaption>\n</figure>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Figures: %s\">\n",
            p->title);
    plot_table(out, p);
    fputs("</div>\n</section>\n", out);
}

void cli_report_page(FILE *out, cli_report_data *r, const char *title)
{
    fputs("<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>",
          out);
    plot_escape(out, title);
    fputs("</title>\n<style>\n", out);
    plot_style(out, ":root");
    fprintf(out, "%s</style>\n</head>\n<body>\n<main>\n<h1>", style);
    plot_escape(out, title);
    fputs("</h1>\n", out);
    list(out, "Measured on, or of:", r->facts);
    links(out, r);
    for (size_t i = 0; i < REPORT_PLOTS; i++)
        if (!plot_is_empty(&r->plots[i]))
            figure(out, &r->plots[i]);
    if (json_array_size(r->notes) > 0) {
        fputs("<section>\n", out);
        list(out, "Not shown:", r->notes);
        fputs("</section>\n", out);
    }
    fprintf(out, "<p><small>Made by sluice %s from results of bench, doctor, perplexity and eval.</small></p>\n</main>\n</body>\n</html>\n",
            SLUICE_VERSION);
}
