/* scripts/analyzer.h: what the static analyser cannot see for itself; scripts/lint puts it before every file, compilers never do.
 *
 * sl_fail returns the status that it is given. The analyser looks at one file at a time and would think that it may return SL_OK,
 * and then report what "happens" after a failure that succeeded. */
#ifndef SL_SCRIPTS_ANALYZER_H
#define SL_SCRIPTS_ANALYZER_H

#include "core/status.h"

#define sl_fail(err, status, ...) (sl_fail(err, status, __VA_ARGS__), (status))

#endif
