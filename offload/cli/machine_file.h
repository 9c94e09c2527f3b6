/* offload/cli/machine_file.h: a machine (offload/machine.h) as a JSON file: what doctor keeps of its measurements, and what users write for a machine
 * that is not at hand.
 *
 *     {"name": "the old laptop", "memory_bytes": "16G", "cores": 4, "isa": "avx2",
 *      "memory_bandwidth": [{"threads": 1, "bytes_per_s": 14e9}, {"threads": 4, "bytes_per_s": 28e9}],
 *      "reads": [{"engine": "uring", "request_bytes": 1048576, "depth": 32, "bytes_per_s": 2.1e9}]}
 *
 * and, not needed: "source", "measured", "products" [{"type", "weights_bytes_per_s", "operations_per_s"}] and "gpu" {"name", "memory_bytes",
 * "memory_bytes_per_s", "link_bytes_per_s"}. What is missing, unknown or out of bounds is named with its key and what would be right. */
#ifndef SL_OFFLOAD_CLI_MACHINE_FILE_H
#define SL_OFFLOAD_CLI_MACHINE_FILE_H

#include "core/status.h"
#include "offload/machine.h"

#include <jansson.h>

/* `name` is the file's, for messages. SL_INVALID. */
SL_MUST_USE sl_status cli_machine_parse(const char *text, size_t length, const char *name, sli_machine *out, sl_error *err);
SL_MUST_USE sl_status cli_machine_read(const char *path, sli_machine *out, sl_error *err);
json_t *cli_machine_json(const sli_machine *machine);
/* Whole or not at all. */
SL_MUST_USE sl_status cli_machine_write(const char *path, const sli_machine *machine, sl_error *err);

#endif
