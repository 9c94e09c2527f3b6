/* core/procfs.c: see procfs.h.
 *
 * Where a control group's files are takes two steps. /proc/self/cgroup says which group the process is in, hierarchy by hierarchy
 * ("4:memory:/a/b" in v1, "0::/a/b" in v2); /proc/self/mountinfo says where the hierarchy is mounted and which of its folders the mount
 * shows. In a container the mount often shows only the container's own group, so that part is taken off the front of the path. */
#include "core/procfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* mountinfo has a line per mount: some hundred bytes each, and a machine full of containers has hundreds of them. */
#define MOUNTINFO_MAX (256 * 1024)

bool sli_proc_read(const char *root, const char *path, char *text, size_t size)
{
    char full[SLI_PATH_MAX];
    int length = snprintf(full, sizeof full, "%s%s", root, path);
    if (length < 0 || (size_t)length >= sizeof full)
        return false;
    int fd = open(full, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    size_t have = 0;
    while (have + 1 < size) {
        ssize_t got = read(fd, text + have, size - 1 - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            have = 0;
        if (got <= 0)
            break;
        have += (size_t)got;
    }
    close(fd);
    text[have] = '\0';
    return have > 0;
}

bool sli_proc_number(const char *text, const char *key, uint64_t *out)
{
    size_t key_length = strlen(key);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, key_length) == 0) {
            char *end = NULL;
            *out = strtoull(line + key_length, &end, 10);
            return end != line + key_length;
        }
        if (*line == '\0')
            break;
    }
    return false;
}

/* Is `word` one of the comma-separated words of `list` (which ends at `stop`)? */
static bool has_word(const char *list, const char *stop, const char *word)
{
    size_t length = strlen(word);
    while (list < stop) {
        const char *end = memchr(list, ',', (size_t)(stop - list));
        if (end == NULL)
            end = stop;
        if ((size_t)(end - list) == length && memcmp(list, word, length) == 0)
            return true;
        list = end + 1;
    }
    return false;
}

/* The process's path in the hierarchy of `controller` (NULL: of v2), from the text of /proc/self/cgroup. */
static bool group_path(const char *text, const char *controller, char *path, size_t size)
{
    for (const char *line = text; line != NULL && *line != '\0'; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        const char *list = strchr(line, ':');
        const char *stop = list != NULL ? strchr(list + 1, ':') : NULL;
        if (stop == NULL)
            continue;
        list++;
        bool match = controller == NULL ? list == stop && strncmp(line, "0:", 2) == 0 : has_word(list, stop, controller);
        if (!match)
            continue;
        size_t length = strcspn(stop + 1, "\n");
        if (length >= size)
            return false;
        memcpy(path, stop + 1, length);
        path[length] = '\0';
        return true;
    }
    return false;
}

/* mountinfo writes blanks and the like as \ooo: undoes that in place. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0';) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' && from[2] <= '7' && from[3] >= '0' && from[3] <= '7') {
            *to++ = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
}

/* One line of mountinfo: "36 35 98:0 /shown /where options... - type source super-options". */
static bool mount_matches(char *line, const char *controller, char **shown, char **where)
{
    char *dash = strstr(line, " - ");
    if (dash == NULL)
        return false;
    *dash = '\0';
    char *save = NULL;
    char *type = strtok_r(dash + 3, " ", &save);
    strtok_r(NULL, " ", &save);
    const char *super = strtok_r(NULL, " ", &save);
    if (type == NULL || super == NULL || strcmp(type, controller == NULL ? "cgroup2" : "cgroup") != 0)
        return false;
    if (controller != NULL && !has_word(super, super + strlen(super), controller))
        return false;
    save = NULL;
    strtok_r(line, " ", &save);
    strtok_r(NULL, " ", &save);
    strtok_r(NULL, " ", &save);
    *shown = strtok_r(NULL, " ", &save);
    *where = strtok_r(NULL, " ", &save);
    if (*shown == NULL || *where == NULL)
        return false;
    unescape(*shown);
    unescape(*where);
    return true;
}

/* Joins mount and group; a group outside of what the mount shows is looked up at the mount itself. */
static bool join(const char *root, const char *where, const char *shown, const char *group, sli_cgroup *out)
{
    size_t shown_length = strcmp(shown, "/") == 0 ? 0 : strlen(shown);
    bool inside = strncmp(group, shown, shown_length) == 0 && (group[shown_length] == '/' || group[shown_length] == '\0');
    const char *rest = inside && strstr(group, "/..") == NULL ? group + shown_length : "";
    if (strcmp(rest, "/") == 0)
        rest = "";
    int mount = snprintf(out->path, sizeof out->path, "%s%s", root, where);
    int all = snprintf(out->path, sizeof out->path, "%s%s%s", root, where, rest);
    if (mount < 0 || all < 0 || (size_t)all >= sizeof out->path)
        return false;
    out->mount_length = (size_t)mount;
    return access(out->path, X_OK) == 0;
}

static bool find_mounted(const char *root, char *mounts, const char *controller, const char *group, sli_cgroup *out)
{
    char *save = NULL;
    for (char *line = strtok_r(mounts, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        char *shown = NULL, *where = NULL;
        if (mount_matches(line, controller, &shown, &where) && join(root, where, shown, group, out))
            return true;
    }
    return false;
}

bool sli_cgroup_find(const char *root, const char *controller, sli_cgroup *out)
{
    char groups[4096], path[SLI_PATH_MAX / 2];
    if (!sli_proc_read(root, "/proc/self/cgroup", groups, sizeof groups))
        return false;
    char *mounts = malloc(MOUNTINFO_MAX);
    if (mounts == NULL)
        return false;
    const char *const choices[2] = {controller, NULL};
    bool found = false;
    for (int i = 0; i < 2 && !found; i++) {
        out->v2 = choices[i] == NULL;
        found = group_path(groups, choices[i], path, sizeof path) && sli_proc_read(root, "/proc/self/mountinfo", mounts, MOUNTINFO_MAX) &&
                find_mounted(root, mounts, choices[i], path, out);
    }
    free(mounts);
    return found;
}

bool sli_cgroup_up(sli_cgroup *group)
{
    size_t length = strlen(group->path);
    if (length <= group->mount_length)
        return false;
    while (length > group->mount_length && group->path[length - 1] != '/')
        length--;
    if (length > group->mount_length)
        length--;
    group->path[length] = '\0';
    return true;
}

bool sli_cgroup_read(const sli_cgroup *group, const char *file, char *text, size_t size)
{
    char path[SLI_PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/%s", group->path, file);
    return length > 0 && (size_t)length < sizeof path && sli_proc_read("", path, text, size);
}

bool sli_cgroup_number(const sli_cgroup *group, const char *file, uint64_t *out)
{
    char text[64];
    if (!sli_cgroup_read(group, file, text, sizeof text))
        return false;
    if (strncmp(text, "max", 3) == 0) {
        *out = UINT64_MAX;
        return true;
    }
    return sli_proc_number(text, "", out);
}
