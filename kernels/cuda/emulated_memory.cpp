/* kernels/cuda/emulated_memory.cpp: see emulated.h. One mapping is the device's memory; who has what of it is a map of extents, first fit.
 *
 * What is new, and what was given back, is filled with bytes that are no number in any float, so that whoever reads them sees it. */
#include "kernels/cuda/emulated.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

namespace emulated
{

enum { ALIGNMENT = 256, GARBAGE = 0xff };
static const uint64_t garbage_max = (uint64_t)64 << 20; /* beyond that it would cost more than it finds */

static uint64_t rounded(uint64_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

sl_status memory_create(device *d, sl_error *err)
{
    void *memory = mmap(NULL, d->how.memory, d->how.guard ? PROT_NONE : PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                        -1, 0);
    if (memory == MAP_FAILED)
        return sl_fail(err, SL_NO_MEMORY, "no address space for an emulated device of %llu bytes", (unsigned long long)d->how.memory);
    d->memory = static_cast<uint8_t *>(memory);
    return SL_OK;
}

void memory_destroy(device *d)
{
    munmap(d->memory, d->how.memory);
    for (const range &r : d->pinned)
        if (r.owned)
            free(r.at);
}

void open_gate(device *d)
{
    if (d->how.guard && d->gates++ == 0)
        mprotect(d->memory, d->how.memory, PROT_READ | PROT_WRITE);
}

void close_gate(device *d)
{
    if (d->how.guard && --d->gates == 0)
        mprotect(d->memory, d->how.memory, PROT_NONE);
}

static void spoil(device *d, uint64_t offset, uint64_t bytes)
{
    open_gate(d);
    memset(d->memory + offset, GARBAGE, bytes < garbage_max ? bytes : garbage_max);
    close_gate(d);
}

sl_status memory_take(device *d, uint64_t bytes, sl_device_ptr *out, sl_error *err)
{
    uint64_t at = 0, wanted = rounded(bytes);
    for (const auto &[offset, length] : d->taken) {
        if (wanted <= offset - at)
            break;
        at = offset + rounded(length);
    }
    if (bytes == 0 || bytes > d->how.memory || wanted > d->how.memory - at)
        return sl_fail(err, SL_NO_DEVICE_MEMORY, "no %llu bytes of the device's memory in one piece; %llu of %llu are free",
                       (unsigned long long)bytes, (unsigned long long)memory_free_bytes(d), (unsigned long long)d->how.memory);
    d->taken[at] = bytes;
    spoil(d, at, bytes);
    *out = (sl_device_ptr)(uintptr_t)(d->memory + at);
    return SL_OK;
}

void memory_give(device *d, sl_device_ptr p)
{
    auto found = d->taken.find(p - (uintptr_t)d->memory);
    if (found == d->taken.end())
        return;
    spoil(d, found->first, found->second);
    d->taken.erase(found);
}

uint64_t memory_free_bytes(const device *d)
{
    uint64_t used = 0;
    for (const auto &[offset, length] : d->taken)
        used += rounded(length);
    return d->how.memory - used;
}

bool memory_holds(const device *d, sl_device_ptr p, uint64_t bytes)
{
    uint64_t offset = p - (uintptr_t)d->memory;
    auto next = d->taken.upper_bound(offset);
    if (next == d->taken.begin() || p < (uintptr_t)d->memory)
        return false;
    --next;
    return offset - next->first <= next->second && bytes <= next->second - (offset - next->first);
}

sl_status pinned_take(device *d, size_t bytes, void **out, sl_error *err)
{
    const size_t page = 4096;
    if (bytes > d->how.pinned - d->pinned_bytes)
        return sl_fail(err, SL_NO_MEMORY, "no %zu bytes of page-locked memory; %llu are", bytes,
                       (unsigned long long)(d->how.pinned - d->pinned_bytes));
    uint8_t *memory = static_cast<uint8_t *>(aligned_alloc(page, (bytes + page - 1) / page * page));
    if (memory == NULL)
        return sl_fail(err, SL_NO_MEMORY, "no memory for %zu page-locked bytes", bytes);
    memset(memory, GARBAGE, bytes < garbage_max ? bytes : garbage_max);
    d->pinned.push_back(range{memory, bytes, true});
    d->pinned_bytes += bytes;
    *out = memory;
    return SL_OK;
}

sl_status pinned_register(device *d, void *p, size_t bytes, sl_error *err)
{
    uint8_t *begin = static_cast<uint8_t *>(p);
    for (const range &r : d->pinned)
        if (begin < r.at + r.bytes && r.at < begin + bytes)
            return sl_fail(err, SL_INVALID, "memory of %zu bytes is page-locked already, or part of it is", bytes);
    if (bytes > d->how.pinned - d->pinned_bytes)
        return sl_fail(err, SL_NO_MEMORY, "%zu bytes cannot be page-locked; %llu more can", bytes,
                       (unsigned long long)(d->how.pinned - d->pinned_bytes));
    d->pinned.push_back(range{begin, bytes, false});
    d->pinned_bytes += bytes;
    return SL_OK;
}

void pinned_give(device *d, void *p, bool owned)
{
    for (size_t i = 0; i < d->pinned.size(); i++) {
        if (d->pinned[i].at != p || d->pinned[i].owned != owned)
            continue;
        d->pinned_bytes -= d->pinned[i].bytes;
        d->pinned.erase(d->pinned.begin() + (ptrdiff_t)i);
        if (owned)
            free(p);
        return;
    }
}

bool pinned_holds(const device *d, const void *p, uint64_t bytes)
{
    const uint8_t *begin = static_cast<const uint8_t *>(p);
    for (const range &r : d->pinned)
        if (begin >= r.at && begin <= r.at + r.bytes && bytes <= (uint64_t)(r.at + r.bytes - begin))
            return true;
    return false;
}

} // namespace emulated
