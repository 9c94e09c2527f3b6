/* offload/cli/flags.h: what a command and a flag are, for what is made of their tables: parsing, help, the man page, completion. */
#ifndef SL_OFFLOAD_CLI_FLAGS_H
#define SL_OFFLOAD_CLI_FLAGS_H

#include "offload/cli/cli.h"

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
    PLAN = 2048,
    BENCH = 4096,
    EVAL = 8192,
    REPORT = 16384,
    PRUNE = 32768,
    REPLAY = 65536,
    GENERATE = RUN | CHAT,
    ENGINE = GENERATE | PERPLEXITY | EVAL,
    ALL = 131071,
    SETTABLE = 131072, /* no command: what /set changes in a conversation */
    LISTED = 1 << 20,  /* no command: of bench it is a list, the values of which are swept (cli_args.list); elsewhere one value */
    SWEPT = BENCH | LISTED
};

typedef struct cli_command {
    const char *name;
    unsigned bit;
    int operands_max;
    const char *usage, *summary, *example;
    const char *operand_files; /* as in cli_flag */
} cli_command;

typedef enum cli_flag_kind {
    FLAG,
    TEXT,
    WORD,      /* one of `words` */
    WORD_LIST, /* several, with commas between, which the command takes apart */
    PATH,      /* of a file */
    FOLDER,
    SIZE,
    SIZE_OR_AUTO, /* auto: 0 */
    COUNT,
    POSITIONS, /* a count; 0: SL_CONTEXT_MODEL */
    REAL,
    SEED,
    STOPS
} cli_flag_kind;

typedef struct cli_flag {
    const char *names[3]; /* the first is the one shown first */
    cli_flag_kind kind;
    unsigned commands;
    size_t at; /* offset in cli_args */
    double min, max;
    const char *value, *help; /* "{}" in the help stands for all of `words` */
    cli_words words;          /* that it takes; of a TEXT not they alone. NULL: none */
    const char *files;        /* names of files that are offered first: "*.gguf"; NULL: any, of a PATH */
} cli_flag;

extern const cli_command cli_commands[];
extern const size_t cli_command_count;
extern const cli_flag cli_flags[];
extern const size_t cli_flag_count;

const cli_command *cli_find_command(const char *name);                 /* NULL where there is none */
const cli_flag *cli_find_flag(const char *name, unsigned command_bit); /* of this command; NULL where it has none of this name */
/* What was probably meant by a name that is not known: "did you mean --temp?", or "". */
#define CLI_HINT_BYTES 160
void cli_hint_flag(const char *name, const cli_command *command, char out[CLI_HINT_BYTES]);
void cli_hint_command(const char *name, char out[CLI_HINT_BYTES]);
/* The text for people, with its words. */
#define CLI_HELP_MAX 800
void cli_flag_help(const cli_flag *flag, char out[CLI_HELP_MAX]);
/* Gives a flag one value. */
SL_MUST_USE sl_status cli_store(const cli_flag *flag, const char *name, const char *text, cli_args *out, sl_error *err);

#endif
