/* core/device.c: finding and opening a device. A plug-in is looked for, loaded, asked for its version and for what it has; all the rest is behind its
 * vtable.
 *
 * A plug-in stays loaded until the process ends: its maker's library has threads and handlers that outlive the last device. Its names are its own
 * (RTLD_LOCAL): what it links statically meets nothing of the program's. */
#include "core/device_private.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOO_LONG "%.300s: is too long for the name of a device"

sl_status sli_device_parse(const char *wanted, sli_device_wanted *out, sl_error *err)
{
    memset(out, 0, sizeof *out);
    const char *slash = strrchr(wanted, '/'), *colon = strchr(slash != NULL ? slash : wanted, ':');
    size_t length = colon != NULL ? (size_t)(colon - wanted) : strlen(wanted);
    if (length >= sizeof out->name)
        return sl_fail(err, SL_INVALID, TOO_LONG, wanted);
    memcpy(out->name, wanted, length);
    out->by_path = slash != NULL;
    out->options = colon != NULL ? colon + 1 : "";

    bool plain = strcmp(out->name, "auto") == 0 || strcmp(out->name, "none") == 0;
    bool known = plain || out->by_path || strcmp(out->name, "cuda") == 0 || strcmp(out->name, "emulated") == 0;
    if (!known || (plain && colon != NULL))
        return sl_fail(err, SL_INVALID, "there is no device '%.200s'; auto, none, cuda, cuda:1, emulated or a plug-in's path is one",
                       wanted);

    char *end = NULL;
    const char *digits = out->options;
    if (digits[0] < '0' || digits[0] > '9')
        return SL_OK;
    errno = 0;
    unsigned long index = strtoul(digits, &end, 10);
    if (errno != 0 || index > UINT16_MAX || (*end != '\0' && *end != ','))
        return sl_fail(err, SL_INVALID, "'%.200s' is no number of a device; cuda:0 is the first", wanted);
    out->index = (uint32_t)index;
    out->options = *end == ',' ? end + 1 : end;
    return SL_OK;
}

sl_status sli_device_check(const sl_device_plugin *plugin, const char *path, sl_error *err)
{
    if (plugin == NULL)
        return sl_fail(err, SL_UNSUPPORTED, "%.300s: gives no device", path);
    if (plugin->version != SL_DEVICE_VERSION)
        return sl_fail(err, SL_UNSUPPORTED,
                       "%.300s: is for version %u of the interface to devices, this program for %u; build both together", path,
                       plugin->version, SL_DEVICE_VERSION);
    return SL_OK;
}

/* The folder of `file`, without a slash at its end; false where it has none or is too long. */
static bool folder_of(const char *file, char out[PATH_MAX])
{
    const char *slash = strrchr(file, '/');
    if (slash == NULL || slash - file >= PATH_MAX)
        return false;
    memcpy(out, file, (size_t)(slash - file));
    out[slash - file] = '\0';
    return true;
}

/* Where a plug-in of this name may lie, best first: beside the program, where `make install` puts it, above the program (its tests lie one deeper) and
 * below it (a checkout's ./sluice is a copy of build/sluice), beside the library that this is part of, and where the system looks (a bare name). The count. */
enum { PLACES = 6 };
static unsigned places_of(const char *backend, char place[PLACES][PATH_MAX])
{
    static const char *const beside[] = {"", "/../lib", "/..", "/build"};
    char exe[PATH_MAX], folder[PATH_MAX];
    unsigned count = 0;
    ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[length > 0 ? length : 0] = '\0';
    if (folder_of(exe, folder))
        for (unsigned i = 0; i < sizeof beside / sizeof *beside; i++)
            count += snprintf(place[count], PATH_MAX, "%s%s/libsluice-%s.so", folder, beside[i], backend) < PATH_MAX;
    Dl_info self;
    if (dladdr(sli_device_parse, &self) != 0 && self.dli_fname != NULL && folder_of(self.dli_fname, folder))
        count += snprintf(place[count], PATH_MAX, "%s/libsluice-%s.so", folder, backend) < PATH_MAX;
    snprintf(place[count++], PATH_MAX, "libsluice-%s.so", backend);
    return count;
}

static void *load(const char *path)
{
    return dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
}

/* A file that is there and does not load is the reason, not that others are not there. */
static void *find(const char *backend, char path[PATH_MAX], sl_error *err)
{
    char place[PLACES][PATH_MAX];
    unsigned count = places_of(backend, place);
    for (unsigned i = 0; i < count; i++) {
        bool bare = i + 1 == count;
        if (!bare && access(place[i], F_OK) != 0)
            continue;
        memcpy(path, place[i], PATH_MAX);
        void *handle = load(path);
        if (handle != NULL)
            return handle;
        const char *reason = dlerror();
        if (!bare) {
            sl_fail(err, SL_UNSUPPORTED, "%.200s: cannot be loaded: %.200s", path, reason != NULL ? reason : "no reason given");
            return NULL;
        }
    }
    sl_fail(err, SL_UNSUPPORTED, "the plug-in libsluice-%s.so is not there: this was built without it", backend);
    return NULL;
}

static sl_status load_plugin(const sli_device_wanted *wanted, const sl_device_plugin **out, sl_error *err)
{
    char path[PATH_MAX] = "";
    void *handle = NULL;
    if (wanted->by_path) {
        snprintf(path, sizeof path, "%s", wanted->name);
        handle = load(path);
        if (handle == NULL)
            return sl_fail(err, SL_UNSUPPORTED, "cannot be loaded: %.400s", dlerror());
    } else {
        handle = find(wanted->name, path, err);
        if (handle == NULL)
            return SL_UNSUPPORTED;
    }
    sl_device_entry entry = NULL;
    *(void **)&entry = dlsym(handle, SL_DEVICE_ENTRY);
    *out = entry != NULL ? entry() : NULL;
    sl_status status = entry == NULL ? sl_fail(err, SL_UNSUPPORTED, "%.300s: is no plug-in of ours: it has no %s", path, SL_DEVICE_ENTRY)
                                     : sli_device_check(*out, path, err);
    dlclose(handle); /* it stays, see above */
    return status;
}

static sl_status count_devices(const sl_device_plugin *plugin, uint32_t *count, sl_error *err)
{
    char reason[256] = "";
    *count = plugin->count(reason, sizeof reason);
    if (*count == 0)
        return sl_fail(err, SL_UNSUPPORTED, "%s", reason[0] != '\0' ? reason : "there is no device");
    return SL_OK;
}

static sl_status open_index(const sli_device_wanted *wanted, sl_device **out, sl_error *err)
{
    const sl_device_plugin *plugin = NULL;
    uint32_t count = 0;
    SL_TRY(load_plugin(wanted, &plugin, err));
    SL_TRY(count_devices(plugin, &count, err));
    if (wanted->index >= count)
        return sl_fail(err, SL_UNSUPPORTED, "there is no device %s:%u; there %s %u, the first is %s:0", plugin->backend, wanted->index,
                       count == 1 ? "is" : "are", count, plugin->backend);
    return plugin->open(wanted->index, wanted->options, out, err);
}

/* The one with the most free memory; one that does not open is passed over, and said if none does. */
static sl_status open_roomiest(sl_device **out, sl_error *err)
{
    const sli_device_wanted wanted = {.name = "cuda"};
    const sl_device_plugin *plugin = NULL;
    uint32_t count = 0;
    SL_TRY(load_plugin(&wanted, &plugin, err));
    SL_TRY(count_devices(plugin, &count, err));
    sl_status status = SL_UNSUPPORTED;
    for (uint32_t i = 0; i < count; i++) {
        sl_device *device = NULL;
        sl_status opened = plugin->open(i, "", &device, err);
        if (opened != SL_OK) {
            status = *out == NULL ? opened : SL_OK;
            continue;
        }
        status = SL_OK;
        bool better = *out == NULL || device->attrs.free_bytes > (*out)->attrs.free_bytes;
        sl_device_close(better ? *out : device);
        *out = better ? device : *out;
    }
    return status;
}

sl_status sl_device_open(const char *wanted, sl_device **out, char *why, size_t why_bytes, sl_error *err)
{
    sli_device_wanted parsed;
    *out = NULL;
    if (why_bytes > 0)
        why[0] = '\0';
    SL_TRY(sli_device_parse(wanted, &parsed, err));
    if (strcmp(parsed.name, "none") == 0) {
        snprintf(why, why_bytes, "none is wanted");
        return SL_OK;
    }
    if (strcmp(parsed.name, "auto") != 0)
        return open_index(&parsed, out, err);

    sl_error reason = {0};
    if (open_roomiest(out, &reason) != SL_OK)
        snprintf(why, why_bytes, "%s", reason.message);
    return SL_OK;
}

void sl_device_close(sl_device *device)
{
    if (device != NULL)
        device->ops->close(device);
}
