/* offload/cli/options.c: the flags, as one table that is parsed, printed as help, completed by shells and made into the man page. */
#include "core/os.h"
#include "offload/cli/cli.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    RUN = 1,
    PERPLEXITY = 2,
    TOKENIZE = 4,
    INFO = 8,
    SYNTH = 16,
    WIDEN = 32,
    PACK = 64,
    UNPACK = 128,
    CALIBRATE = 256,
    CHAT = 512,
    DOCTOR = 1024,
    GENERATE = RUN | CHAT,
    ENGINE = GENERATE | PERPLEXITY,
    ALL = 2047,
    SETTABLE = 2048 /* no command: what /set changes in a conversation */
};

typedef struct command {
    const char *name;
    unsigned bit;
    int operands_max;
    const char *usage, *summary, *example;
} command;

static const command commands[] = {
    {"run", RUN, 0, "run -m MODEL -p TEXT [flags]", "generate text under a memory budget",
     "sluice run -m model.gguf -p \"Why is the sky blue?\" --chat --ram-budget 2G\n"
     "sluice run -m model.gguf -f prompt.txt -n 64 --temp 0 --json | jq .timings"},
    {"chat", CHAT, 0, "chat -m MODEL [flags]", "a conversation: what was said is kept and not evaluated again; /help lists its commands",
     "sluice chat -m model.gguf --ram-budget 2G -sys \"Answer in one sentence.\"\n"
     "printf '%s\\n' \"Name a river.\" \"And a longer one?\" | sluice chat -m model.gguf --temp 0"},
    {"perplexity", PERPLEXITY, 0, "perplexity -m MODEL -f TEXT [flags]", "perplexity of a text, in chunks as llama-perplexity makes them",
     "sluice perplexity -m model.gguf -f wiki.txt -c 512 --chunks 20"},
    {"tokenize", TOKENIZE, 0, "tokenize -m MODEL -p TEXT [flags]", "text to token ids, and back with --decode",
     "sluice tokenize -m model.gguf -p \"Hello world\"\nsluice tokenize -m model.gguf --decode -p \"19556 905\""},
    {"info", INFO, 1, "info FILE [--json]", "a file's metadata and tensors", "sluice info model.gguf"},
    {"synth", SYNTH, 0, "synth --shape SHAPE --type TYPE -o OUT", "write a valid model of random weights, for tests and benchmarks",
     "sluice synth --shape llama-7b --type Q4_0 -o llama-7b-random.gguf"},
    {"widen", WIDEN, 0, "widen -m IN -o OUT --factor M [--type TYPE]", "a larger model that computes what the small one does",
     "sluice widen -m small.gguf -o large.gguf --factor 8 --type Q4_0"},
    {"pack", PACK, 2, "pack IN OUT [--order ORDER] [--seed N], or pack --verify FILE",
     "re-lay a model so that one neuron is one short read; nothing is lost",
     "sluice pack model.gguf model.packed.gguf\nsluice pack --verify model.packed.gguf"},
    {"unpack", UNPACK, 2, "unpack IN OUT", "the file that was packed, byte for byte", "sluice unpack model.packed.gguf model.gguf"},
    {"calibrate", CALIBRATE, 0, "calibrate -m MODEL -f TEXT [-o OUT] [flags]",
     "learn from a text which neurons fire, for run --sparsity fine: predictors, their order on disk, density of layers",
     "sluice calibrate -m model.gguf -f novel.txt -o model.packed.gguf"},
    {"doctor", DOCTOR, 1, "doctor [FOLDER or MODEL] [--quick] [--json]",
     "whether this machine suits offloading, and why: processors, memory, limits, and how fast the folder's disk reads",
     "sluice doctor model.gguf --ram-budget 2G"},
};
#define COMMANDS (sizeof commands / sizeof *commands)

typedef enum kind { FLAG, TEXT, SIZE, COUNT, REAL, SEED, STOPS } kind;

typedef struct flag {
    const char *names[3]; /* the first is the one shown first */
    kind kind;
    unsigned commands;
    size_t at; /* offset in cli_args */
    double min, max;
    const char *value, *help;
} flag;

#define AT(member) offsetof(cli_args, member)
#define INTS       2147483647.0

static const flag flags[] = {
    {{"-m", "--model"}, TEXT, ALL & ~(SYNTH | INFO | PACK | UNPACK | DOCTOR), AT(model), 0, 0, "FILE", "the model, a GGUF file"},
    {{"-p", "--prompt"}, TEXT, RUN | TOKENIZE, AT(prompt), 0, 0, "TEXT", "the prompt"},
    {{"-f", "--file"},
     TEXT,
     RUN | TOKENIZE | PERPLEXITY | CALIBRATE,
     AT(file),
     0,
     0,
     "FILE",
     "read the text from FILE; - is standard input"},
    {{"-sys", "--system-prompt"}, TEXT, GENERATE, AT(system), 0, 0, "TEXT", "system message (of run: implies --chat)"},
    {{"--chat"}, FLAG, RUN, AT(chat), 0, 0, NULL, "put the prompt into the model's chat template (llama.cpp: -cnv)"},
    {{"--chat-template"},
     TEXT,
     GENERATE,
     AT(chat_template),
     0,
     0,
     "NAME",
     "use this template family instead of the file's (of run: implies --chat); an unknown one lists all"},
    {{"-n", "--predict"},
     COUNT,
     GENERATE | SETTABLE,
     AT(predict),
     -1,
     INTS,
     "N",
     "generate at most N tokens; -1: until the end or a full context (default -1, as llama.cpp)"},
    {{"--ram-budget"},
     SIZE,
     ENGINE | CALIBRATE | DOCTOR,
     AT(ram_budget_bytes),
     0,
     0,
     "SIZE",
     "peak memory of the process, such as 2G or 512M (default 0.8 of the available memory or the cgroup's limit)"},
    {{"-c", "--ctx-size"},
     COUNT,
     ENGINE,
     AT(context),
     1,
     INTS,
     "N",
     "context in tokens (default min(the model's, 4096); perplexity: 512; llama.cpp: the model's)"},
    {{"-b", "--batch-size"},
     COUNT,
     ENGINE,
     AT(batch),
     1,
     65536,
     "N",
     "rows of a prefill pass (default 512 or less where the budget is tight; llama.cpp: 2048/512)"},
    {{"-t", "--threads"}, COUNT, ENGINE | CALIBRATE, AT(threads), 1, 1024, "N", "threads (default: the physical cores)"},
    {{"-ctk", "--cache-type-k"},
     TEXT,
     ENGINE,
     AT(cache_type_k),
     0,
     0,
     "TYPE",
     "type of stored keys: f16, f32, bf16, q8_0, q4_0 (default f16)"},
    {{"-ctv", "--cache-type-v"},
     TEXT,
     ENGINE,
     AT(cache_type_v),
     0,
     0,
     "TYPE",
     "type of stored values: f16, f32, bf16, q8_0, q4_0 (default f16)"},
    {{"--temp", "--temperature"},
     REAL,
     GENERATE | SETTABLE,
     AT(temperature),
     0,
     1000,
     "T",
     "temperature; 0 is greedy (default 0.8, as llama.cpp)"},
    {{"--top-k"}, COUNT, GENERATE | SETTABLE, AT(top_k), 0, INTS, "K", "keep the K likeliest tokens; 0: all (default 40, as llama.cpp)"},
    {{"--top-p"},
     REAL,
     GENERATE | SETTABLE,
     AT(top_p),
     0,
     1,
     "P",
     "keep the likeliest tokens up to probability P; 1: all (default 0.95, as llama.cpp)"},
    {{"--min-p"},
     REAL,
     GENERATE | SETTABLE,
     AT(min_p),
     0,
     1,
     "P",
     "keep tokens of at least P times the likeliest's probability; 0: all (default 0.05, as llama.cpp)"},
    {{"--repeat-penalty"},
     REAL,
     GENERATE | SETTABLE,
     AT(repeat_penalty),
     0.01,
     100,
     "R",
     "penalty of repeated tokens; 1: none (default 1, as llama.cpp)"},
    {{"--repeat-last-n"},
     COUNT,
     GENERATE | SETTABLE,
     AT(repeat_last_n),
     0,
     INTS,
     "N",
     "tokens that count as repeated (default 64, as llama.cpp)"},
    {{"-s", "--seed"},
     SEED,
     GENERATE | SYNTH | WIDEN | PACK | SETTABLE,
     AT(seed),
     0,
     0,
     "N",
     "seed; the same seed gives the same text under any budget (default: run and chat random, else 1)"},
    {{"--stop", "-r"}, STOPS, GENERATE, AT(stop), 0, 0, "TEXT", "end before this text; may be given up to 16 times (llama.cpp: -r)"},
    {{"--ignore-eos"}, FLAG, GENERATE, AT(ignore_eos), 0, 0, NULL, "never generate an end token"},
    {{"--logprobs"},
     COUNT,
     RUN,
     AT(logprobs),
     1,
     SL_LOGPROBS_MAX,
     "N",
     "tell each token's log probability and the N likeliest tokens there, before sampling: in --json as logprobs, else on stderr behind "
     "the "
     "text; without drafts"},
    {{"--chunks"}, COUNT, PERPLEXITY, AT(chunks), 1, INTS, "N", "score the first N chunks only"},
    {{"--score-last"},
     COUNT,
     PERPLEXITY,
     AT(score_last),
     1,
     INTS,
     "N",
     "score only the last N tokens of a chunk (default: its second half)"},
    {{"--no-bos"}, FLAG, TOKENIZE, AT(no_bos), 0, 0, NULL, "add no beginning-of-sequence token"},
    {{"--no-parse-special"}, FLAG, TOKENIZE | RUN, AT(no_parse_special), 0, 0, NULL, "special tokens in the text are plain text"},
    {{"--decode"}, FLAG, TOKENIZE, AT(decode), 0, 0, NULL, "the text is token ids; print what they spell"},
    {{"--ids"}, FLAG, TOKENIZE, AT(ids), 0, 0, NULL, "print ids only, [1, 2, 3]"},
    {{"--shape"}, TEXT, SYNTH, AT(shape), 0, 0, "SHAPE", "tiny, smollm2-135m, llama-7b, llama-13b, ... (an unknown one lists all)"},
    {{"--type"},
     TEXT,
     SYNTH | WIDEN,
     AT(type),
     0,
     0,
     "TYPE",
     "F32, F16, BF16, Q4_0, Q4_1, Q8_0; synth: any (widen: default as in the file)"},
    {{"--factor"}, COUNT, WIDEN, AT(factor), 2, 64, "M", "copies of every feature, head and neuron"},
    {{"-o", "--output"}, TEXT, SYNTH | WIDEN | CALIBRATE, AT(output), 0, 0, "FILE", "the file to write; it appears whole or not at all"},
    {{"--order"}, TEXT, PACK, AT(order), 0, 0, "ORDER", "of the neurons on disk: file, or random by --seed (default file)"},
    {{"--predictor-bytes"},
     SIZE,
     CALIBRATE,
     AT(predictor_bytes),
     0,
     0,
     "SIZE",
     "of the stored predictors, at most (default 15 % of the feed-forwards')"},
    {{"--tokens"}, COUNT, CALIBRATE, AT(tokens), 1, INTS, "N", "of the text that are used (default 8192)"},
    {{"--verify"}, FLAG, PACK, AT(verify), 0, 0, NULL, "compare all checksums of the packed FILE; names the first section that is bad"},
    {{"--force"}, FLAG, SYNTH | WIDEN | PACK | UNPACK | CALIBRATE, AT(force), 0, 0, NULL, "replace the output if it exists"},
    {{"--sparsity"},
     TEXT,
     ENGINE,
     AT(sparsity),
     0,
     0,
     "MODE",
     "off: exact; coarse: one set of neurons from the prompt; fine: a predicted set per token (default off)"},
    {{"--density"}, REAL, ENGINE, AT(density), 0, 1, "D", "kept share of the neurons with --sparsity, above 0 up to 1 (default 0.5)"},
    {{"--predictor"},
     TEXT,
     ENGINE,
     AT(predictor),
     0,
     0,
     "NAME",
     "of --sparsity fine: stored; oracle and gate read everything, for comparison (default stored)"},
    {{"--draft"},
     TEXT,
     GENERATE,
     AT(draft),
     0,
     0,
     "N",
     "tokens that are drafted and then checked by one dense pass: auto, or a number; 0: none. With --sparsity its neurons draft, and the "
     "text is dense decoding's (default auto where weights are streamed and without --sparsity; else 0)"},
    {{"--drafter"},
     TEXT,
     GENERATE,
     AT(drafter),
     0,
     0,
     "WHO",
     "lookup: what followed in the text before; model: the neurons of --sparsity, or those of a packed file that stay in memory; mixed: "
     "both (default: mixed with --sparsity, else lookup)"},
    {{"--tree"},
     TEXT,
     RUN,
     AT(tree),
     0,
     0,
     "W",
     "drafts by the model that branch: the W likeliest tokens at each depth, or best: the likeliest --tree-rows of all; --draft is then "
     "the greatest depth (default: drafts are chains; depth 6, best 10)"},
    {{"--tree-rows"}, COUNT, RUN, AT(tree_rows), 2, SL_TREE_ROWS_MAX, "R", "rows of a check with --tree best (default 24)"},
    {{"--least-chance"},
     REAL,
     RUN,
     AT(least_chance),
     0,
     1,
     "P",
     "a draft by the model ends where it gives its tokens, together, less than P (default 0: never)"},
    {{"--accept"},
     TEXT,
     GENERATE,
     AT(accept),
     0,
     0,
     "POLICY",
     "drafts that are kept: exact: those that change nothing; threshold: those of probability --tau and more, lossy; sample: another text "
     "of the same distribution (default exact)"},
    {{"--tau"}, REAL, GENERATE, AT(tau), 0, 1, "P", "least probability of a draft with --accept threshold (default 0.1)"},
    {{"--tau-temperature"},
     REAL,
     GENERATE,
     AT(tau_temperature),
     0.01,
     100,
     "T",
     "temperature at which --tau is a probability (default 0.6, the paper's)"},
    {{"--late"},
     TEXT,
     ENGINE,
     AT(late),
     0,
     0,
     "WHAT",
     "neurons that are not read in time: wait, or drop: faster, worse, and not reproducible (default wait)"},
    {{"--uniform-density"}, FLAG, ENGINE, AT(uniform_density), 0, 0, NULL, "the same density in every layer, not the calibrated ones"},
    {{"--sparq-k"},
     COUNT,
     ENGINE,
     AT(sparq_k),
     0,
     INTS,
     "K",
     "attend to the K positions that matter most to a token, instead of all; prompts and checks of drafts stay dense. Approximates; wants "
     "--sparq-r (default 0: off)"},
    {{"--sparq-r"},
     COUNT,
     ENGINE,
     AT(sparq_r),
     1,
     INTS,
     "R",
     "components of the keys that positions are chosen by, at most a head's; 8 to 32 of 64 or 128"},
    {{"--sparq-local"},
     COUNT,
     ENGINE,
     AT(sparq_local),
     1,
     INTS,
     "L",
     "of the K positions, so many are the last of the text (default a quarter)"},
    {{"--sparq-reallocate"},
     TEXT,
     ENGINE,
     AT(sparq_reallocate),
     0,
     0,
     "WHEN",
     "on, off: whether the mean of all values stands for the positions left out; auto: where no query heads share a key head (default "
     "auto)"},
    {{"--isa"}, TEXT, ENGINE, AT(isa), 0, 0, "SET", "scalar, avx2, avx512, neon or neon-dotprod (default: the best that runs here)"},
    {{"--io-engine"}, TEXT, ENGINE, AT(io_engine), 0, 0, "ENGINE", "auto, uring or pread (default auto)"},
    {{"--io-depth"}, COUNT, ENGINE, AT(io_depth), 1, 1024, "N", "reads in flight (default: the engine's)"},
    {{"--throttle"}, SIZE, ENGINE, AT(throttle_Bps), 0, 0, "SIZE", "read at most SIZE per second, to act as a slower disk"},
    {{"--buffered"}, FLAG, ENGINE, AT(buffered), 0, 0, NULL, "read through the page cache, where a file system refuses direct reads"},
    {{"--quick"}, FLAG, DOCTOR, AT(quick), 0, 0, NULL, "measure for 3 seconds, not 10, and less exactly"},
    {{"--json"}, FLAG, ALL & ~CHAT, AT(json), 0, 0, NULL, "print one JSON value on stdout and nothing else"},
    {{"-v", "--verbose"}, FLAG, ENGINE, AT(verbose), 0, 0, NULL, "say how the budget is divided"},
    {{"-h", "--help"}, FLAG, ALL, AT(help), 0, 0, NULL, "this text"},
};
#define FLAGS (sizeof flags / sizeof *flags)

/* ---- parsing ---- */

static const command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

bool cli_is_command(const char *name)
{
    return find_command(name) != NULL;
}

static const flag *find_flag(const char *name, unsigned bit)
{
    for (size_t i = 0; i < FLAGS; i++)
        for (size_t n = 0; n < 3 && flags[i].names[n] != NULL; n++)
            if ((flags[i].commands & bit) != 0 && strcmp(flags[i].names[n], name) == 0)
                return &flags[i];
    return NULL;
}

static sl_status parse_number(const flag *f, const char *name, const char *text, double *out, sl_error *err)
{
    char *end;
    errno = 0;
    *out = strtod(text, &end);
    bool whole = f->kind != COUNT || (*out == floor(*out));
    if (end == text || *end != '\0' || errno != 0 || !(*out >= f->min && *out <= f->max) || !whole)
        return sl_fail(err, SL_INVALID, "%s %s: it must be a %snumber from %.12g to %.12g", name, text, f->kind == COUNT ? "whole " : "",
                       f->min, f->max);
    return SL_OK;
}

static sl_status parse_seed(const char *name, const char *text, cli_args *out, sl_error *err)
{
    char *end;
    errno = 0;
    out->seed = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0) /* strtoull would take blanks and signs */
        return sl_fail(err, SL_INVALID, "%s %s: it must be a whole number from 0 to 18446744073709551615", name, text);
    out->seed_given = true;
    return SL_OK;
}

static sl_status store(const flag *f, const char *name, const char *text, cli_args *out, sl_error *err)
{
    char *at = (char *)out + f->at;
    double number = 0;
    switch (f->kind) {
    case FLAG: *(bool *)at = true; return SL_OK;
    case TEXT: *(const char **)(void *)at = text; return SL_OK;
    case SEED: return parse_seed(name, text, out, err);
    case SIZE:
        if (!sl_parse_size(text, (uint64_t *)(void *)at) || *(uint64_t *)(void *)at == 0)
            return sl_fail(err, SL_INVALID, "%s %s: it must be a size above zero such as 512M, 2G or 1.5G", name, text);
        return SL_OK;
    case COUNT:
    case REAL:
        SL_TRY(parse_number(f, name, text, &number, err));
        if (f->kind == REAL)
            *(double *)(void *)at = number;
        else
            *(int64_t *)(void *)at = (int64_t)number;
        return SL_OK;
    case STOPS:
        if (text[0] == '\0' || out->stops == CLI_STOPS_MAX)
            return sl_fail(err, SL_INVALID, "%s: a stop text must not be empty, and there may be %d of them", name, CLI_STOPS_MAX);
        out->stop[out->stops++] = text;
        return SL_OK;
    }
    return SL_INTERNAL;
}

static void set_defaults(cli_args *out)
{
    *out = (cli_args){.predict = -1,
                      .temperature = 0.8,
                      .top_k = 40,
                      .top_p = 0.95,
                      .min_p = 0.05,
                      .repeat_penalty = 1,
                      .repeat_last_n = 64,
                      .seed = 1,
                      .density = -1,
                      .tau = -1,
                      .tau_temperature = -1,
                      .least_chance = -1};
}

/* One argument: a flag, with its value as the next argument or behind "=" for long ones; or an operand. */
static sl_status parse_one(const command *c, int argc, char **argv, int *index, cli_args *out, sl_error *err)
{
    const char *arg = argv[*index];
    if (arg[0] != '-' || arg[1] == '\0') {
        if (out->operands == c->operands_max)
            return sl_fail(err, SL_INVALID, "%s: one argument too many; usage: sluice %s", arg, c->usage);
        out->operand[out->operands++] = arg;
        return SL_OK;
    }
    char name[40];
    const char *equals = arg[1] == '-' ? strchr(arg, '=') : NULL;
    size_t length = equals != NULL ? (size_t)(equals - arg) : strlen(arg);
    if (length >= sizeof name)
        return sl_fail(err, SL_INVALID, "%.60s: no such flag; sluice %s --help lists them", arg, c->name);
    memcpy(name, arg, length);
    name[length] = '\0';
    const flag *f = find_flag(name, c->bit);
    if (f == NULL)
        return sl_fail(err, SL_INVALID, "%s: no such flag; sluice %s --help lists them", name, c->name);
    if (f->kind == FLAG && equals != NULL)
        return sl_fail(err, SL_INVALID, "%s takes no value", name);
    if (f->kind == FLAG)
        return store(f, name, NULL, out, err);
    if (equals == NULL && *index + 1 >= argc)
        return sl_fail(err, SL_INVALID, "%s needs a value: %s", name, f->value);
    return store(f, name, equals != NULL ? equals + 1 : argv[++*index], out, err);
}

sl_status cli_parse(int argc, char **argv, cli_args *out, sl_error *err)
{
    bool json = false;
    set_defaults(out);
    if (argc < 2)
        return sl_fail(err, SL_INVALID, "no command; sluice --help lists them");
    /* Heeded also behind a mistake: whoever reads JSON can read the failure, too. */
    for (int i = 2; i < argc; i++)
        json |= strcmp(argv[i], "--json") == 0;
    const command *c = find_command(argv[1]);
    out->json = c == NULL && json;
    if (c == NULL)
        return sl_fail(err, SL_INVALID, "%.60s: no such command; sluice --help lists them", argv[1]);
    out->command = c->name;
    sl_status status = SL_OK;
    for (int i = 2; i < argc && status == SL_OK; i++)
        status = parse_one(c, argc, argv, &i, out, err);
    out->json |= status != SL_OK && json && find_flag("--json", c->bit) != NULL;
    return status;
}

sl_status cli_set(cli_args *args, const char *key, const char *value, sl_error *err)
{
    char name[40];
    snprintf(name, sizeof name, "--%.30s", key);
    const flag *f = find_flag(name, SETTABLE);
    if (f == NULL)
        return sl_fail(err, SL_INVALID, "%.30s cannot be set; /help says what can", key);
    cli_args changed = *args;
    SL_TRY(store(f, key, value, &changed, err));
    if (changed.predict == 0)
        return sl_fail(err, SL_INVALID, "predict 0: it must be at least 1, or -1 for no limit");
    *args = changed;
    return SL_OK;
}

/* ---- texts made from the table ---- */

static void names_of(const flag *f, char out[80])
{
    int used = 0;
    for (size_t n = 0; n < 3 && f->names[n] != NULL; n++)
        used += snprintf(out + used, 80 - (size_t)used, "%s%s", n > 0 ? ", " : "", f->names[n]);
    if (f->value != NULL)
        snprintf(out + used, 80 - (size_t)used, " %s", f->value);
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
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(to, "  %-12s %s\n", commands[i].name, commands[i].summary);
    fputs("\nsluice COMMAND --help explains one; sluice --version says what this is.\n\nexamples:\n", to);
    for (size_t i = 0; i < COMMANDS; i++)
        print_indented(to, commands[i].example, "  ");
    fputs("\nexit status: 0 done, 1 failed, 2 wrong usage, 3 does not fit (the message says what would), 130 interrupted\n", to);
}

void cli_print_help(const char *command_name, void *stream)
{
    FILE *to = stream;
    const command *c = command_name == NULL ? NULL : find_command(command_name);
    if (c == NULL) {
        print_program_help(to);
        return;
    }
    fprintf(to, "sluice %s: %s\n\nusage: sluice %s\n\n", c->name, c->summary, c->usage);
    for (size_t i = 0; i < FLAGS; i++) {
        char names[80];
        if ((flags[i].commands & c->bit) == 0)
            continue;
        names_of(&flags[i], names);
        fprintf(to, "  %-28s %s\n", names, flags[i].help);
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
    for (size_t c = 0; c < COMMANDS; c++) {
        printf(".SS ");
        print_roff(commands[c].usage);
        printf("\n%s.\n", commands[c].summary);
        for (size_t i = 0; i < FLAGS; i++) {
            char names[80];
            if ((flags[i].commands & commands[c].bit) == 0)
                continue;
            names_of(&flags[i], names);
            printf(".TP\n.B ");
            print_roff(names);
            putchar('\n');
            print_roff(flags[i].help);
            putchar('\n');
        }
        puts(".PP\n.nf");
        print_roff(commands[c].example);
        puts("\n.fi");
    }
    puts(".SH EXIT STATUS\n0 done, 1 failed, 2 wrong usage, 3 does not fit (the message says what would), 130 interrupted.");
}

/* ---- completion ---- */

static void print_flag_words(unsigned bit)
{
    for (size_t i = 0; i < FLAGS; i++)
        for (size_t n = 0; n < 3 && flags[i].names[n] != NULL; n++)
            if ((flags[i].commands & bit) != 0)
                printf(" %s", flags[i].names[n]);
}

static void print_bash(void)
{
    puts("_sluice() {\n  local words\n  case \"${COMP_WORDS[1]}\" in");
    for (size_t c = 0; c < COMMANDS; c++) {
        printf("  %s) words=\"", commands[c].name);
        print_flag_words(commands[c].bit);
        puts("\" ;;");
    }
    printf("  *) words=\"--help --version");
    for (size_t c = 0; c < COMMANDS; c++)
        printf(" %s", commands[c].name);
    puts(
        "\" ;;\n  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\ncomplete -o default -F _sluice sluice");
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
static void print_zsh_flag(const flag *f)
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
    for (size_t c = 0; c < COMMANDS; c++) {
        printf("  '%s:", commands[c].name);
        print_zsh_text(commands[c].summary);
        puts("'");
    }
    puts(")\nif (( CURRENT == 2 )); then\n  _describe command commands\n  compadd -- --help --version\n  return\nfi\n"
         "shift words\n(( CURRENT-- ))\ncase $words[1] in");
    for (size_t c = 0; c < COMMANDS; c++) {
        printf("%s) _arguments", commands[c].name);
        for (size_t i = 0; i < FLAGS; i++)
            if ((flags[i].commands & commands[c].bit) != 0)
                print_zsh_flag(&flags[i]);
        puts(commands[c].operands_max > 0 ? " '*:file:_files' ;;" : " ;;");
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
