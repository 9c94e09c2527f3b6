/* core/os_private.h: the parts of os.h that tests ask of a machine laid out in a folder. */
#ifndef SL_CORE_OS_PRIVATE_H
#define SL_CORE_OS_PRIVATE_H

#include "core/os.h"

/* As sl_memory_info_get and sl_cgroup_peak_bytes, for the machine under `root`. */
void sli_memory_info_from(const char *root, sl_memory_info *out);
uint64_t sli_cgroup_peak_from(const char *root);

/* CPUs' worth of time that the control groups allow, rounded up; UINT_MAX when there is no quota. */
unsigned sli_cpu_quota_from(const char *root);

#endif
