/* offload/cli/help.c: help and the man page, from the tables of commands and flags. */
#include "offload/cli/flags.h"

#include <stdio.h>
#include <string.h>

#define LEAST_TEXT    30 /* columns that a text beside its name must have */
#define NARROW_INDENT 6

static void names_of(const cli_flag *f, char out[80])
{
    int used = 0;
    for (size_t n = 0; n < 3 && f->names[n] != NULL; n++)
        used += snprintf(out + used, 80 - (size_t)used, "%s%s", n > 0 ? ", " : "", f->names[n]);
    if (f->value != NULL)
        snprintf(out + used, 80 - (size_t)used, " %s", f->value);
}

void cli_flag_help(const cli_flag *f, char out[CLI_HELP_MAX])
{
    const char *mark = f->words != NULL ? strstr(f->help, "{}") : NULL;
    size_t used = mark != NULL ? (size_t)(mark - f->help) : strlen(f->help);
    snprintf(out, CLI_HELP_MAX, "%.*s", (int)used, f->help);
    if (mark == NULL)
        return;
    cli_join_words(f->words, " or ", out + used, CLI_HELP_MAX - used);
    used = strlen(out);
    snprintf(out + used, CLI_HELP_MAX - used, "%s", mark + 2);
}

/* A name and what it is, the text from `column` on; in a terminal broken between words, and where that is narrow, below the name. Elsewhere lines
 * are for other programs, and whole. */
static void print_entry(FILE *to, const char *name, const char *text, size_t column, size_t width)
{
    bool narrow = width != 0 && width < column + LEAST_TEXT, below = narrow || (width != 0 && strlen(name) + 3 > column);
    size_t indent = narrow ? NARROW_INDENT : column, at = indent;
    if (below)
        fprintf(to, "  %s\n%*s", name, (int)indent, "");
    else
        fprintf(to, "  %-*s ", (int)column - 3, name);
    if (width == 0)
        fputs(text, to);
    for (size_t word; width != 0 && *text != '\0'; text += word + strspn(text + word, " "), at += word) {
        word = strcspn(text, " ");
        if (at > indent && at + 1 + word >= width) {
            fprintf(to, "\n%*s", (int)indent, "");
            at = indent;
        } else if (at > indent) {
            putc(' ', to);
            at++;
        }
        fprintf(to, "%.*s", (int)word, text);
    }
    putc('\n', to);
}

static void print_indented(FILE *to, const char *lines, const char *indent)
{
    for (const char *line = lines; *line != '\0';) {
        size_t n = strcspn(line, "\n");
        fprintf(to, "%s%.*s\n", indent, (int)n, line);
        line += n + (line[n] == '\n');
    }
}

static void print_program_help(FILE *to)
{
    fputs("sluice runs language models that do not fit the memory of the machine they run on.\n\nusage: sluice COMMAND [flags]\n\n", to);
    for (size_t i = 0; i < cli_command_count; i++)
        print_entry(to, cli_commands[i].name, cli_commands[i].summary, 15, cli_columns(fileno(to)));
    fputs("\nsluice COMMAND --help explains one; sluice --version says what this is.\n\nexamples:\n", to);
    for (size_t i = 0; i < cli_command_count; i++)
        print_indented(to, cli_commands[i].example, "  ");
    fputs("\nexit status: 0 done, 1 failed, 2 wrong usage, 3 does not fit (the message says what would), 130 interrupted\n", to);
}

void cli_print_help(const char *command_name, void *stream)
{
    FILE *to = stream;
    const cli_command *c = command_name == NULL ? NULL : cli_find_command(command_name);
    if (c == NULL) {
        print_program_help(to);
        return;
    }
    fprintf(to, "sluice %s: %s\n\nusage: sluice %s\n\n", c->name, c->summary, c->usage);
    for (size_t i = 0; i < cli_flag_count; i++) {
        char names[80];
        if ((cli_flags[i].commands & c->bit) == 0)
            continue;
        char help[CLI_HELP_MAX];
        names_of(&cli_flags[i], names);
        cli_flag_help(&cli_flags[i], help);
        print_entry(to, names, help, 31, cli_columns(fileno(to)));
    }
    fputs("\nexamples:\n", to);
    print_indented(to, c->example, "  ");
}

/* roff wants a leading dash and backslashes escaped. */
static void print_roff(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '-' || *text == '\\')
            putchar('\\');
        putchar(*text);
    }
}

void cli_print_man(void)
{
    printf(".TH SLUICE 1 \"\" \"sluice %s\" \"User Commands\"\n.SH NAME\nsluice \\- run language models bigger than memory\n",
           SLUICE_VERSION);
    puts(".SH SYNOPSIS\n.B sluice\n.I COMMAND\n[flags]\n.SH DESCRIPTION\nRuns language models that do not fit the memory of the machine "
         "they run on: part of\n"
         "the weights stays in memory, the rest is streamed from disk ahead of its use. The same tokens come out under any budget.\n.SH "
         "COMMANDS");
    for (size_t c = 0; c < cli_command_count; c++) {
        printf(".SS ");
        print_roff(cli_commands[c].usage);
        printf("\n%s.\n", cli_commands[c].summary);
        for (size_t i = 0; i < cli_flag_count; i++) {
            char names[80];
            if ((cli_flags[i].commands & cli_commands[c].bit) == 0)
                continue;
            char help[CLI_HELP_MAX];
            names_of(&cli_flags[i], names);
            cli_flag_help(&cli_flags[i], help);
            printf(".TP\n.B ");
            print_roff(names);
            putchar('\n');
            print_roff(help);
            putchar('\n');
        }
        puts(".PP\n.nf");
        print_roff(cli_commands[c].example);
        puts("\n.fi");
    }
    puts(".SH EXIT STATUS\n0 done, 1 failed, 2 wrong usage, 3 does not fit (the message says what would), 130 interrupted.");
}
