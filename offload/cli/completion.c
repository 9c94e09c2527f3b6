/* offload/cli/completion.c: what bash and zsh complete, from the tables of commands and flags: commands, flags, and behind a flag what it takes:
 * its words, or names of files or folders; of a number or a text nothing. */
#include "offload/cli/flags.h"

#include <stdio.h>
#include <string.h>

static bool takes_words(const cli_flag *f)
{
    return f->words != NULL || f->kind == SIZE_OR_AUTO;
}

static bool takes_files(const cli_flag *f)
{
    return f->kind == PATH || f->files != NULL;
}

/* Several values with commas between: always, or where bench sweeps them. */
static bool takes_list(const cli_flag *f, unsigned bit)
{
    return f->kind == WORD_LIST || (bit == BENCH && (f->commands & LISTED) != 0);
}

/* With blanks between; characters of `escaped` get a backslash. */
static void print_words(const cli_flag *f, const char *escaped)
{
    if (f->words == NULL)
        fputs("auto", stdout);
    for (size_t i = 0; f->words != NULL && f->words(i) != NULL; i++) {
        fputs(i > 0 ? " " : "", stdout);
        for (const char *c = f->words(i); *c != '\0'; c++)
            printf("%s%c", strchr(escaped, *c) != NULL ? "\\" : "", *c);
    }
}

static void print_commands(const char *between)
{
    for (size_t c = 0; c < cli_command_count; c++)
        printf("%s%s", c > 0 ? between : "", cli_commands[c].name);
}

/* ---- bash ---- */

/* What is being typed is $word. Where nothing is put into COMPREPLY, `-o default` lets bash complete any file, and quote it. */
static const char bash_begin[] =
    "# bash completion of sluice\n"
    "\n"
    "_sluice_words() { COMPREPLY+=($(compgen -W \"$1\" -- \"$word\")); }\n"
    "\n"
    "# Words with commas between.\n"
    "_sluice_list() {\n"
    "  local before=\n"
    "  [[ $word != *,* ]] || before=${word%,*},\n"
    "  COMPREPLY+=($(compgen -P \"$before\" -W \"$1\" -- \"${word##*,}\"))\n"
    "  compopt -o nospace\n"
    "}\n"
    "\n"
    "# Files of such names and folders; where there are none, or any name will do, all files.\n"
    "_sluice_files() {\n"
    "  local name typed=${word#[\\'\\\"]}\n"
    "  typed=${typed//\\\\/}\n"
    "  compopt -o filenames -o default\n"
    "  [[ -n $1 ]] || return\n"
    "  while IFS= read -r name; do COMPREPLY+=(\"$name\"); done < <(compgen -f -X \"!$1\" -- \"$typed\"; compgen -d -- \"$typed\")\n"
    "}\n"
    "\n"
    "_sluice_folders() { compopt -o dirnames; }\n"
    "\n"
    "# Flags, once one is begun; else what the command takes beside them.\n"
    "_sluice_operands() { if [[ $word == -* ]]; then _sluice_words \"$flags\"; else _sluice_files \"$1\"; fi; }\n"
    "\n"
    "_sluice() {\n"
    "  local at=$COMP_CWORD word=${COMP_WORDS[COMP_CWORD]} flag flags kept i\n"
    "  COMPREPLY=()\n"
    "  # Bash breaks words at = and :, which belong to a value here.\n"
    "  while [[ $at -gt 1 && ( $word == [=:]* || ${COMP_WORDS[at-1]} == [=:]* ) ]]; do word=${COMP_WORDS[--at]}$word; done\n"
    "  flag=${COMP_WORDS[at-1]}\n"
    "  [[ $word != --*=* ]] || { flag=${word%%=*}; word=${word#*=}; }\n"
    "  case $at:${COMP_WORDS[1]} in\n";

/* What stands before the last colon of a word was typed and is not replaced. */
static const char bash_end[] = "  esac\n"
                               "  [[ $word == *:* && $COMP_WORDBREAKS == *:* ]] || return 0\n"
                               "  kept=${word%\"${word##*:}\"}\n"
                               "  for i in \"${!COMPREPLY[@]}\"; do COMPREPLY[i]=${COMPREPLY[i]#\"$kept\"}; done\n"
                               "}\n"
                               "complete -F _sluice sluice";

static void print_names(const cli_flag *f, const char *between)
{
    for (size_t n = 0; n < 3 && f->names[n] != NULL; n++)
        printf("%s%s", n > 0 ? between : "", f->names[n]);
}

/* "    -m|--model) _sluice_files '*.gguf' ;;" */
static void print_bash_values(const cli_flag *f, unsigned bit)
{
    fputs("    ", stdout);
    print_names(f, "|");
    putchar(')');
    if (takes_words(f)) {
        printf(" _sluice_%s '", takes_list(f, bit) ? "list" : "words");
        print_words(f, "");
        printf("'%s", takes_files(f) ? ";" : "");
    }
    if (takes_files(f))
        printf(" _sluice_files '%s'", f->files != NULL ? f->files : "");
    puts(f->kind == FOLDER ? " _sluice_folders ;;" : " ;;");
}

static void print_bash_command(const cli_command *c)
{
    printf("  *:%s) flags=\"", c->name);
    const char *between = "";
    for (size_t i = 0; i < cli_flag_count; i++)
        if ((cli_flags[i].commands & c->bit) != 0) {
            fputs(between, stdout);
            print_names(&cli_flags[i], " ");
            between = " ";
        }
    puts("\"\n    case $flag in");
    for (size_t i = 0; i < cli_flag_count; i++)
        if ((cli_flags[i].commands & c->bit) != 0 && cli_flags[i].value != NULL)
            print_bash_values(&cli_flags[i], c->bit);
    if (c->operands_max > 0)
        printf("    *) _sluice_operands '%s' ;;\n", c->operand_files != NULL ? c->operand_files : "");
    else
        puts("    *) _sluice_words \"$flags\" ;;");
    puts("    esac ;;");
}

static void print_bash(void)
{
    fputs(bash_begin, stdout);
    fputs("  1:*) _sluice_words \"--help --version ", stdout);
    print_commands(" ");
    fputs("\" ;;\n  2:help | 2:--help | 2:-h) _sluice_words \"", stdout);
    print_commands(" ");
    puts("\" ;;\n  2:--completion) _sluice_words \"bash zsh\" ;;");
    for (size_t c = 0; c < cli_command_count; c++)
        print_bash_command(&cli_commands[c]);
    puts(bash_end);
}

/* ---- zsh ---- */

static const char zsh_begin[] = "#compdef sluice\n"
                                "\n"
                                "# Words, or files of such names: of what takes either.\n"
                                "_sluice_words_or_files() { _alternative \"words:word:($2)\" \"files:file:_files -g '$1'\"; }\n"
                                "\n"
                                "local -a commands\n"
                                "commands=(\n";

static const char zsh_commands_end[] = ")\n"
                                       "if (( CURRENT == 2 )); then\n"
                                       "  _describe command commands\n"
                                       "  compadd -- --help --version\n"
                                       "  return\n"
                                       "fi\n"
                                       "shift words\n"
                                       "(( CURRENT-- ))\n"
                                       "case $words[1] in\n"
                                       "help|--help|-h) (( CURRENT == 2 )) && _describe command commands ;;\n"
                                       "--completion) (( CURRENT == 2 )) && compadd bash zsh ;;\n";

/* Text within single quotes, where zsh's _arguments and _describe take colons and brackets for their own. */
static void print_zsh_text(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else if (strchr(":[]\\", *text) != NULL)
            printf("\\%c", *text);
        else
            putchar(*text);
    }
}

static void print_zsh_files(const char *names)
{
    fputs("_files", stdout);
    if (names != NULL)
        printf(" -g \"%s\"", names);
}

/* What completes a value, within a specification of _arguments: "(off coarse fine)", "_files -g *.gguf". */
static void print_zsh_action(const cli_flag *f, unsigned bit)
{
    if (takes_words(f) && takes_files(f)) {
        printf(" _sluice_words_or_files \"%s\" \"", f->files != NULL ? f->files : "*");
        print_words(f, ":");
        putchar('"');
    } else if (takes_words(f) && takes_list(f, bit)) {
        printf("_values -s , %s ", f->value);
        print_words(f, ":");
    } else if (takes_words(f)) {
        putchar('(');
        print_words(f, ":");
        putchar(')');
    } else if (takes_files(f)) {
        print_zsh_files(f->files);
    } else {
        fputs(f->kind == FOLDER ? "_files -/" : " ", stdout);
    }
}

/* Long flags take their value behind "=", too. */
static void print_zsh_name(const cli_flag *f, size_t n)
{
    printf("%s%s", f->names[n], f->value != NULL && f->names[n][1] == '-' ? "=" : "");
}

/* '(-m --model)'{-m,--model=}'[help]:FILE:_files -g "*.gguf"' */
static void print_zsh_flag(const cli_flag *f, unsigned bit)
{
    char help[CLI_HELP_MAX];
    bool repeated = f->kind == STOPS || takes_list(f, bit);
    cli_flag_help(f, help);
    fputs(" \\\n  ", stdout);
    if (repeated) {
        fputs("'*'", stdout);
    } else if (f->names[1] != NULL) {
        fputs("'(", stdout);
        print_names(f, " ");
        fputs(")'", stdout);
    }
    if (f->names[1] != NULL) {
        putchar('{');
        for (size_t n = 0; n < 3 && f->names[n] != NULL; n++) {
            fputs(n > 0 ? "," : "", stdout);
            print_zsh_name(f, n);
        }
        fputs("}'", stdout);
    } else {
        putchar('\'');
        print_zsh_name(f, 0);
    }
    putchar('[');
    print_zsh_text(help);
    putchar(']');
    if (f->value != NULL) {
        putchar(':');
        print_zsh_text(f->value);
        putchar(':');
        print_zsh_action(f, bit);
    }
    putchar('\'');
}

static void print_zsh(void)
{
    fputs(zsh_begin, stdout);
    for (size_t c = 0; c < cli_command_count; c++) {
        printf("  '%s:", cli_commands[c].name);
        print_zsh_text(cli_commands[c].summary);
        puts("'");
    }
    fputs(zsh_commands_end, stdout);
    for (size_t c = 0; c < cli_command_count; c++) {
        printf("%s) _arguments", cli_commands[c].name);
        for (size_t i = 0; i < cli_flag_count; i++)
            if ((cli_flags[i].commands & cli_commands[c].bit) != 0)
                print_zsh_flag(&cli_flags[i], cli_commands[c].bit);
        if (cli_commands[c].operands_max > 0) {
            fputs(" \\\n  '*:file:", stdout);
            print_zsh_files(cli_commands[c].operand_files);
            putchar('\'');
        }
        puts(" ;;");
    }
    puts("esac");
}

void cli_print_completion(const char *shell)
{
    if (strcmp(shell, "zsh") == 0)
        print_zsh();
    else
        print_bash();
}
