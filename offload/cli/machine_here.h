/* offload/cli/machine_here.h: the machine that a plan is for: one that is named, or this one, from what doctor keeps of it or by a short look.
 *
 * What doctor measured is kept in $XDG_CACHE_HOME/sluice (~/.cache/sluice), a file for each host, processor and disk. */
#ifndef SL_OFFLOAD_CLI_MACHINE_HERE_H
#define SL_OFFLOAD_CLI_MACHINE_HERE_H

#include "offload/machine.h"
#include "offload/tools/doctor.h"

/* Formats whose products are wanted. */
typedef struct cli_machine_wish {
    const char *path; /* whose disk */
    uint32_t types[8];
    size_t type_count;
    uint64_t touched_bytes; /* of weights, by each token: what fits a cache is computed at its speed */
    bool no_reads;          /* the link's rate is given */
} cli_machine_wish;

/* This machine; *said: how its figures were come by, a line in the caller's buffer. Where doctor has kept nothing it takes about half a second. */
SL_MUST_USE sl_status cli_machine_here(const cli_machine_wish *wish, sli_machine *out, char *said, size_t said_bytes, sl_error *err);
/* A preset's name, or a file. */
SL_MUST_USE sl_status cli_machine_named(const char *name, sli_machine *out, sl_error *err);

/* Keeps what doctor measured; a quick measurement does not replace what is kept. *path (free it) is NULL where it was not kept, and *reason says why. */
void cli_machine_keep(const sl_doctor_report *report, bool quick, char **path, sl_error *reason);

#endif
