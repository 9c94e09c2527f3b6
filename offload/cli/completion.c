/* offload/cli/completion.c: what bash and zsh complete, from the tables of commands and flags. */
#include "offload/cli/flags.h"

#include <stdio.h>
#include <string.h>

static void print_flag_words(unsigned bit)
{
    for (size_t i = 0; i < cli_flag_count; i++)
        for (size_t n = 0; n < 3 && cli_flags[i].names[n] != NULL; n++)
            if ((cli_flags[i].commands & bit) != 0)
                printf(" %s", cli_flags[i].names[n]);
}

/* -m|--model|…: those behind which a value stands, in some command. */
static void print_value_flags(void)
{
    const char *between = "";
    for (size_t i = 0; i < cli_flag_count; i++)
        for (size_t n = 0; n < 3 && cli_flags[i].names[n] != NULL && cli_flags[i].value != NULL; n++, between = "|")
            printf("%s%s", between, cli_flags[i].names[n]);
}

/* Where no words are offered, bash completes names of files. */
static void print_bash(void)
{
    puts("_sluice() {\n  local words operands= word=\"${COMP_WORDS[COMP_CWORD]}\"\n  case \"${COMP_WORDS[1]}\" in");
    for (size_t c = 0; c < cli_command_count; c++) {
        printf("  %s) words=\"", cli_commands[c].name);
        print_flag_words(cli_commands[c].bit);
        printf("\"%s ;;\n", cli_commands[c].operands_max > 0 ? " operands=1" : "");
    }
    printf("  *) words=\"--help --version");
    for (size_t c = 0; c < cli_command_count; c++)
        printf(" %s", cli_commands[c].name);
    printf(
        "\" ;;\n  esac\n  [[ -z $operands || $word == -* || $COMP_CWORD == 1 ]] || words=\n  case \"${COMP_WORDS[COMP_CWORD-1]}\" in\n  ");
    print_value_flags();
    puts(") words= ;;\n  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n}\ncomplete -o default -F _sluice sluice");
}

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

/* '(-m --model)'{-m,--model}'[help]:FILE:_files' */
static void print_zsh_flag(const cli_flag *f)
{
    if (f->names[1] != NULL && f->kind != STOPS)
        printf(" '(%s %s)'", f->names[0], f->names[1]);
    if (f->kind == STOPS)
        printf(" '*'");
    if (f->names[1] != NULL)
        printf("{%s,%s}'", f->names[0], f->names[1]);
    else
        printf(" '%s", f->names[0]);
    putchar('[');
    print_zsh_text(f->help);
    putchar(']');
    if (f->value != NULL)
        printf(":%s:%s", f->value, strcmp(f->value, "FILE") == 0 ? "_files" : " ");
    putchar('\'');
}

static void print_zsh(void)
{
    puts("#compdef sluice\nlocal -a commands\ncommands=(");
    for (size_t c = 0; c < cli_command_count; c++) {
        printf("  '%s:", cli_commands[c].name);
        print_zsh_text(cli_commands[c].summary);
        puts("'");
    }
    puts(")\nif (( CURRENT == 2 )); then\n  _describe command commands\n  compadd -- --help --version\n  return\nfi\n"
         "shift words\n(( CURRENT-- ))\ncase $words[1] in");
    for (size_t c = 0; c < cli_command_count; c++) {
        printf("%s) _arguments", cli_commands[c].name);
        for (size_t i = 0; i < cli_flag_count; i++)
            if ((cli_flags[i].commands & cli_commands[c].bit) != 0)
                print_zsh_flag(&cli_flags[i]);
        puts(cli_commands[c].operands_max > 0 ? " '*:file:_files' ;;" : " ;;");
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
