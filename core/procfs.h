/* core/procfs.h: the small text files of /proc and /sys, read whole into a caller's buffer.
 *
 * `root` goes before every path, so that a test can lay out a machine of its own in a folder; it is "" for the real one.
 *
 * Threads: pure. */
#ifndef SL_CORE_PROCFS_H
#define SL_CORE_PROCFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLI_PATH_MAX 4096

/* What a path of control groups leads through, from the process's own group up to the root of its hierarchy. */
typedef struct sli_cgroup {
    bool v2;
    size_t mount_length;     /* `path` is never shortened below this */
    char path[SLI_PATH_MAX]; /* the folder of the group, `root` included */
} sli_cgroup;

/* Reads the file into `text`, NUL-terminated, cut at `size` - 1 bytes. False when it can't be read. */
bool sli_proc_read(const char *root, const char *path, char *text, size_t size);

/* The number after "\nkey" in text such as /proc/meminfo's; false when there is none. */
bool sli_proc_number(const char *text, const char *key, uint64_t *out);

/* The process's own group in the hierarchy that has `controller`: v1 where it is mounted, else v2. */
bool sli_cgroup_find(const char *root, const char *controller, sli_cgroup *out);

/* One step towards the root; false when it is reached. */
bool sli_cgroup_up(sli_cgroup *group);

/* A file of the group, as text; false when the group has none of that name. */
bool sli_cgroup_read(const sli_cgroup *group, const char *file, char *text, size_t size);

/* A file that holds one number; "max" reads as UINT64_MAX. */
bool sli_cgroup_number(const sli_cgroup *group, const char *file, uint64_t *out);

#endif
