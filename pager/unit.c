/* pager/unit.c: the transitions of unit.h. */
#include "pager/unit.h"

#include <assert.h>

void sli_unit_begin_load(sli_units *units, sl_unit_id id, uint32_t extent) /* ABSENT -> LOADING */
{
    sli_unit *u = &units->unit[id];
    assert(u->state == SLI_ABSENT && u->pins == 0 && u->claims == 0 && extent != SLI_NONE);
    u->state = SLI_LOADING;
    u->extent = extent;
}

void sli_unit_loaded(sli_units *units, sl_unit_id id) /* LOADING -> STAGED */
{
    sli_unit *u = &units->unit[id];
    assert(u->state == SLI_LOADING && u->pins == 0);
    u->state = SLI_STAGED;
}

void sli_unit_load_failed(sli_units *units, sl_unit_id id) /* LOADING -> FAILED */
{
    sli_unit *u = &units->unit[id];
    assert(u->state == SLI_LOADING && u->pins == 0 && u->claims == 0);
    u->state = SLI_FAILED;
    u->extent = SLI_NONE;
}

void sli_unit_settle(sli_units *units, sl_unit_id id) /* STAGED -> RESIDENT */
{
    sli_unit *u = &units->unit[id];
    assert(u->state == SLI_STAGED && u->pins > 0 && u->home_at != SLI_NO_HOME);
    u->state = SLI_RESIDENT;
    u->extent = SLI_NONE;
    units->resident_bytes += u->bytes;
}

void sli_unit_drop(sli_units *units, sl_unit_id id) /* STAGED -> ABSENT */
{
    sli_unit *u = &units->unit[id];
    assert(u->state == SLI_STAGED && u->pins == 0 && u->claims == 0);
    u->state = SLI_ABSENT;
    u->extent = SLI_NONE;
}

void sli_unit_retry(sli_units *units, sl_unit_id id) /* FAILED -> ABSENT */
{
    sli_unit *u = &units->unit[id];
    assert(u->state == SLI_FAILED);
    u->state = SLI_ABSENT;
}

void sli_unit_pin(sli_units *units, sl_unit_id id)
{
    sli_unit *u = &units->unit[id];
    assert((u->state == SLI_STAGED || u->state == SLI_RESIDENT) && u->pins < UINT16_MAX);
    u->pins++;
}

void sli_unit_unpin(sli_units *units, sl_unit_id id)
{
    sli_unit *u = &units->unit[id];
    assert(u->pins > 0 && (u->state == SLI_STAGED || u->state == SLI_RESIDENT));
    u->pins--;
}

const char *sli_units_broken(const sli_units *units)
{
    uint64_t resident = 0;
    for (uint32_t i = 0; i < units->count; i++) {
        const sli_unit *u = &units->unit[i];
        bool staging = u->state == SLI_LOADING || u->state == SLI_STAGED;
        if (staging != (u->extent != SLI_NONE))
            return "U1";
        if (u->pins > 0 && u->state != SLI_STAGED && u->state != SLI_RESIDENT)
            return "U2";
        if (u->state == SLI_RESIDENT && u->home_at == SLI_NO_HOME)
            return "U3";
        if (u->claims > 0 && !staging && u->state != SLI_RESIDENT)
            return "U4";
        resident += u->state == SLI_RESIDENT ? u->bytes : 0;
    }
    return resident == units->resident_bytes ? NULL : "U5";
}
