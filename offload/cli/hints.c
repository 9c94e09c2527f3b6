/* offload/cli/hints.c: what was probably meant by a name that is not known: a word of llama.cpp or ollama, a flag of another command, or the nearest
 * name that there is. */
#include "offload/cli/flags.h"

#include <stdio.h>
#include <string.h>

#define NAME_MAX_BYTES 40
#define OTHERS_SHOWN   3 /* commands that have a flag; of one that most have, being told so helps nobody */

typedef struct known_elsewhere {
    const char *names[4], *here;
} known_elsewhere;

static const known_elsewhere flags_elsewhere[] = {
    {{"-cnv", "--conversation", "-i", "--interactive"}, "a conversation is `sluice chat`; run --chat answers one message"},
    {{"-no-cnv", "--no-conversation"}, "run continues the text as it is unless --chat is given"},
    {{"-st", "--single-turn"}, "run --chat answers one message"},
    {{"--mlock", "--mmap", "--no-mmap"}, "--ram-budget says how much memory is used"},
    {{"-fa", "--flash-attn"}, "attention has one form here, which needs no flag"},
    {{"-ub", "--ubatch-size"}, "-b is the rows of a pass"},
    {{"-e", "--escape", "--no-escape"}, "a prompt is taken as it is; $'...' of the shell, or -f, has line ends"},
    {{"-no-display-prompt", "--no-display-prompt"}, "the prompt is not repeated"},
    {{"-hf", "--hf-repo", "-mu", "--model-url"}, "nothing is downloaded; -m names a GGUF file"},
    {{"--grammar", "--grammar-file", "-j", "--json-schema"}, "grammars are not supported"},
    {{"--presence-penalty", "--frequency-penalty", "--mirostat", "--typical"},
     "tokens are chosen by --temp, --top-k, --top-p, --min-p and --repeat-penalty"},
};

static const known_elsewhere commands_elsewhere[] = {
    {{"generate", "complete", "cli"}, "`sluice run` generates text"},
    {{"show", "inspect", "gguf"}, "`sluice info FILE` shows what a file holds"},
    {{"pull", "download", "list", "ls"}, "nothing is downloaded or kept; -m names a GGUF file"},
    {{"serve", "server"}, "there is no server; `sluice chat` reads messages from a pipe, too"},
    {{"ppl"}, "`sluice perplexity`"},
    {{"version"}, "`sluice --version`"},
};

static const char *find_elsewhere(const known_elsewhere *rows, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        for (size_t n = 0; n < 4 && rows[i].names[n] != NULL; n++)
            if (strcmp(rows[i].names[n], name) == 0)
                return rows[i].here;
    return NULL;
}

/* Letters to insert, leave out or replace (Levenshtein). */
static size_t distance(const char *a, const char *b)
{
    size_t row[NAME_MAX_BYTES + 1], width = strlen(b);
    if (strlen(a) > NAME_MAX_BYTES || width > NAME_MAX_BYTES)
        return NAME_MAX_BYTES;
    for (size_t j = 0; j <= width; j++)
        row[j] = j;
    for (size_t i = 0; a[i] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < width; j++) {
            size_t replaced = diagonal + (a[i] != b[j]), left_out = row[j + 1] + 1, inserted = row[j] + 1;
            diagonal = row[j + 1];
            row[j + 1] = replaced < left_out ? replaced : left_out;
            row[j + 1] = row[j + 1] < inserted ? row[j + 1] : inserted;
        }
    }
    return row[width];
}

/* The nearest so far. Dashes are no letters: two short names are always near. */
typedef struct nearest {
    const char *wanted, *name;
    size_t distance;
} nearest;

static void try_name(nearest *n, const char *name)
{
    const char *wanted = n->wanted + strspn(n->wanted, "-"), *letters = name + strspn(name, "-");
    size_t d = distance(wanted, letters), length = strlen(wanted), most = length < 3 ? 0 : length < 8 ? 1 : 2;
    bool begun = length >= 3 && strncmp(wanted, letters, length) == 0;
    if (begun && d > most)
        d = most; /* a beginning is as near as a misspelling may be */
    if (d <= most && (n->name == NULL || d < n->distance)) {
        n->name = name;
        n->distance = d;
    }
}

/* "it is a flag of widen and prune"; nothing where most have it. */
static bool say_others(const char *name, char *out)
{
    size_t used = 0, others = 0;
    const char *names[OTHERS_SHOWN];
    for (size_t c = 0; c < cli_command_count; c++)
        if (cli_find_flag(name, cli_commands[c].bit) != NULL && ++others <= OTHERS_SHOWN)
            names[others - 1] = cli_commands[c].name;
    for (size_t i = 0; others <= OTHERS_SHOWN && i < others; i++)
        used += (size_t)snprintf(out + used, CLI_HINT_BYTES - used, "%s%s",
                                 i == 0           ? "it is a flag of "
                                 : i + 1 < others ? ", "
                                                  : " and ",
                                 names[i]);
    return used > 0;
}

void cli_hint_flag(const char *name, const cli_command *c, char out[CLI_HINT_BYTES])
{
    const char *here = find_elsewhere(flags_elsewhere, sizeof flags_elsewhere / sizeof *flags_elsewhere, name);
    nearest near = {.wanted = name};
    out[0] = '\0';
    for (size_t i = 0; i < cli_flag_count; i++)
        for (size_t n = 0; n < 3 && cli_flags[i].names[n] != NULL; n++)
            if ((cli_flags[i].commands & c->bit) != 0)
                try_name(&near, cli_flags[i].names[n]);
    if (here != NULL)
        snprintf(out, CLI_HINT_BYTES, "%s", here);
    else if (!say_others(name, out) && near.name != NULL)
        snprintf(out, CLI_HINT_BYTES, "did you mean %s?", near.name);
}

void cli_hint_command(const char *name, char out[CLI_HINT_BYTES])
{
    const char *here = find_elsewhere(commands_elsewhere, sizeof commands_elsewhere / sizeof *commands_elsewhere, name);
    const char *dot = strrchr(name, '.');
    nearest near = {.wanted = name};
    for (size_t c = 0; c < cli_command_count; c++)
        try_name(&near, cli_commands[c].name);
    out[0] = '\0';
    if (here != NULL)
        snprintf(out, CLI_HINT_BYTES, "%s", here);
    else if (dot != NULL && strcmp(dot, ".gguf") == 0)
        snprintf(out, CLI_HINT_BYTES, "a model stands behind -m: sluice run -m FILE -p TEXT");
    else if (cli_find_flag(name, cli_find_command("run")->bit) != NULL)
        snprintf(out, CLI_HINT_BYTES, "the command comes first: sluice run %s ...", name);
    else if (near.name != NULL)
        snprintf(out, CLI_HINT_BYTES, "did you mean %s?", near.name);
}
