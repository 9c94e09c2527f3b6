/* kernels/cuda/sight.h: which positions a row of a pass sees, and in which slots of the cache it finds them. */
#ifndef SL_KERNELS_CUDA_SIGHT_H
#define SL_KERNELS_CUDA_SIGHT_H

#include "kernels/cuda/device_code.h"

/* What a row sees: positions [begin, end). */
struct sli_sight {
    uint32_t begin, end, tree_begin; /* positions from tree_begin on lie where the path says */
    const uint8_t *path;
};

SLI_DEVICE sli_sight sli_sight_of(const sl_device_pass *pass, uint32_t window, uint32_t row)
{
    uint32_t tree_row = pass->first + row;
    bool tree = pass->tree != 0;
    uint32_t position = pass->pos0 + (tree ? pass->depth[tree_row] : tree_row);
    uint32_t begin = window != 0 && position >= window ? position - window + 1 : 0;
    return {begin, position + 1, tree ? pass->pos0 : UINT32_MAX, tree ? pass->path[tree_row] : NULL};
}
SLI_DEVICE uint32_t sli_slot_of(const sli_sight &see, uint32_t position)
{
    return position >= see.tree_begin ? see.tree_begin + see.path[position - see.tree_begin] : position;
}

#endif
