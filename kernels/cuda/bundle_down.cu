/* kernels/cuda/bundle_down.cu: the down product over a list of neurons and their columns (D8; kernels/columns.h says how a column lies).
 *
 * A thread has four neighbouring rows and one segment of neurons. Four rows of a column are one word in any plane: rows r..r + 3 with r % 4 = 0 lie in
 * neighbouring bytes at the same bits, whatever a plane's number of bits. Four members' words are transposed, so that a row's integers of four neurons
 * are multiplied at once. Sixteen threads read 32 bytes of a plane of nibbles in one piece. Up to four rows of activations share what was read. */
#include "kernels/cuda/products.h"

#include <assert.h>

#define ROWS          4  /* of a thread */
#define LANES         16 /* threads that share a segment */
#define BLOCK_ROWS    (ROWS * LANES)
#define PASS_SEGMENTS 32
#define ACTS          4  /* rows of activations that share what is read, at most: A */
#define GROUP         32 /* rows of a group of a column's plane */

struct down_job {
    uint32_t rows, count;
    uint32_t column; /* first byte of the column in a bundle */
    bool add;
    const uint8_t *const *at;
    const uint16_t *meta;
    const uint32_t *members; /* NULL: all */
    float *out;
};

/* Bits of a column's planes, lowest first, and where a block's meta data has its scales. */
struct column_form {
    uint8_t bits[2];
    uint8_t words;      /* 16-bit numbers of meta data */
    uint8_t first_half; /* the fp16 scale's among them, which a second number follows if there is one */
    uint8_t first_word; /* the packed scales' first 32-bit word in a block's words, as sli_lines counts them .. */
    uint8_t scales;     /* .. and where they are in the meta data */
};

__host__ __device__ constexpr column_form column_form_of(uint32_t type)
{
    switch (type) {
    case SL_TYPE_Q4_0:
    case SL_TYPE_IQ4_NL: return {{4, 0}, 1, 0, 0, 0};
    case SL_TYPE_Q4_1: return {{4, 0}, 2, 0, 0, 0};
    case SL_TYPE_Q5_0: return {{4, 1}, 1, 0, 0, 0};
    case SL_TYPE_Q5_1: return {{4, 1}, 2, 0, 0, 0};
    case SL_TYPE_Q8_0: return {{8, 0}, 1, 0, 0, 0};
    case SL_TYPE_Q2_K: return {{2, 0}, 10, 8, 0, 0};
    case SL_TYPE_Q3_K: return {{2, 1}, 7, 6, 24, 0};
    case SL_TYPE_Q4_K: return {{4, 0}, 8, 0, 0, 2};
    case SL_TYPE_Q5_K: return {{4, 1}, 8, 0, 0, 2};
    case SL_TYPE_Q6_K: return {{4, 2}, 9, 8, 48, 0};
    case SL_TYPE_IQ4_XS: return {{4, 0}, 4, 0, 0, 2};
    default: return {{0, 0}, 0, 0, 0, 0};
    }
}

/* A row's meta data as a source of sli_lines, whose quants are not there and are not asked for. */
template <uint32_t TYPE> struct meta_source {
    const uint16_t *at; /* of the segment's first block */
    uint32_t rows;

    SLI_METHOD uint16_t number(uint32_t block, uint32_t i) const
    {
        return __ldg(at + ((size_t)block * column_form_of(TYPE).words + i) * rows);
    }
    SLI_METHOD uint32_t word(uint32_t block, uint32_t w) const
    {
        constexpr column_form form = column_form_of(TYPE);
        if constexpr (form.first_word != 0)
            if (w < form.first_word)
                return 0;
        uint32_t i = form.scales + (w - form.first_word) * 2;
        return i + 1 < form.words ? number(block, i) | (uint32_t)number(block, i + 1) << 16 : 0;
    }
    SLI_METHOD uint16_t half(uint32_t block, uint32_t h) const { return number(block, column_form_of(TYPE).first_half + h); }
};

SLI_DEVICE uint32_t word_at(const uint8_t *p) /* 2-byte aligned */
{
    if ((uintptr_t)p % 4 == 0)
        return *(const uint32_t *)p;
    return ((const uint16_t *)p)[0] | (uint32_t)((const uint16_t *)p)[1] << 16;
}

/* Rows row..row + 3 of a plane, a byte each. */
SLI_DEVICE uint32_t plane_word(const uint8_t *plane, uint32_t bits, uint32_t row)
{
    uint32_t in_group = row % GROUP, bytes = 4 * bits;
    uint32_t word = word_at(plane + row / GROUP * bytes + in_group % bytes);
    return word >> in_group / bytes * bits & ((1u << bits) - 1) * 0x01010101u;
}

/* The four rows' integers of one neuron. */
template <uint32_t TYPE> SLI_DEVICE uint32_t column_word(const uint8_t *column, uint32_t rows, uint32_t row)
{
    constexpr column_form form = column_form_of(TYPE);
    uint32_t word = plane_word(column, form.bits[0], row);
    if constexpr (form.bits[1] != 0)
        word |= plane_word(column + (rows + GROUP - 1) / GROUP * 4 * form.bits[0], form.bits[1], row) << form.bits[0];
    switch (TYPE) {
    case SL_TYPE_Q4_0: return sli_less(word, 8);
    case SL_TYPE_Q5_0: return sli_less(word, 16);
    case SL_TYPE_Q3_K:
    case SL_TYPE_Q6_K: return sli_signed(word << sli_form_of(TYPE).shift, 0);
    case SL_TYPE_IQ4_NL:
    case SL_TYPE_IQ4_XS: return sli_iq4(word);
    default: return word;
    }
}

/* Byte r of word n to byte n of word r. */
SLI_DEVICE void transpose(uint32_t w[4])
{
    uint32_t a = __byte_perm(w[0], w[1], 0x5140), b = __byte_perm(w[2], w[3], 0x5140);
    uint32_t c = __byte_perm(w[0], w[1], 0x7362), d = __byte_perm(w[2], w[3], 0x7362);
    w[0] = __byte_perm(a, b, 0x5410);
    w[1] = __byte_perm(a, b, 0x7632);
    w[2] = __byte_perm(c, d, 0x5410);
    w[3] = __byte_perm(c, d, 0x7632);
}

/* ---- the list ---- */

SLI_DEVICE uint32_t member_at(const down_job &job, uint32_t i)
{
    return job.members != NULL ? __ldg(job.members + i) : i;
}

/* The first place in the list whose neuron is not below `neuron`. */
SLI_DEVICE uint32_t place_of(const down_job &job, uint32_t neuron)
{
    uint32_t low = 0, high = job.count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (member_at(job, middle) < neuron)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Takes in the members from place i on that are in `unit` (of neurons / SIZE), and gives the place behind them. isum and sum go on from what they are. */
template <uint32_t TYPE, uint32_t SIZE, int A>
SLI_DEVICE uint32_t add_members(const down_job &job, const sli_acts_view &x, uint32_t unit, uint32_t i, uint32_t end, uint32_t row,
                                int isum[A][ROWS], int sum[A])
{
    while (i < end && member_at(job, i) / SIZE == unit) {
        uint32_t words[4] = {0, 0, 0, 0}, four[A] = {}, taken = 0;
#pragma unroll
        for (uint32_t n = 0; n < 4; n++) {
            uint32_t member = i + n < end ? member_at(job, i + n) : UINT32_MAX;
            if (member / SIZE != unit)
                continue;
            words[n] = column_word<TYPE>(job.at[member] + job.column, job.rows, row);
#pragma unroll
            for (int a = 0; a < A; a++)
                four[a] |= (uint32_t)(uint8_t)__ldg(x.q + (size_t)a * x.cols + member) << 8 * n;
            taken++;
        }
        i += taken;
        transpose(words);
#pragma unroll
        for (int a = 0; a < A; a++) {
#pragma unroll
            for (int r = 0; r < ROWS; r++)
                isum[a][r] = __dp4a((int)words[r], (int)four[a], isum[a][r]);
            sum[a] = __dp4a((int)four[a], 0x01010101, sum[a]);
        }
    }
    return i;
}

/* ---- a segment ---- */

/* Members [i, end) of segment `segment` in rows row..row + 3, which all have a place in the column, and may lie behind the last in the matrix; for the
 * first A rows of activations of x. */
template <uint32_t TYPE, int A>
SLI_DEVICE void down_quantized(const down_job &job, const sli_acts_view &x, uint32_t segment, uint32_t i, uint32_t end, uint32_t row,
                               float out[A][ROWS])
{
    constexpr sli_form form = sli_form_of(TYPE);
    constexpr uint32_t unit = form.sub == 16 ? 16 : SLI_LINE_COLS;
    const size_t first_block = (size_t)segment * (SLI_SEGMENT_COLS / form.elements);
    sli_segment_sum s[A][ROWS] = {};
    sli_terms terms[ROWS] = {};
    sli_lines<TYPE, 1> lines[ROWS];
    meta_source<TYPE> source[ROWS];
    for (int r = 0; r < ROWS; r++) {
        source[r] = {job.meta + first_block * column_form_of(TYPE).words * job.rows + min(row + (uint32_t)r, job.rows - 1), job.rows};
        if constexpr (form.elements != 32) {
            lines[r].open(source[r], 0);
            sli_block_terms(source[r], 0, form.has_min, &terms[r]);
        }
    }
#pragma unroll 1
    while (i < end) {
        uint32_t line = member_at(job, i) / SLI_LINE_COLS, j = line % SLI_SEGMENT_LINES;
        int low[A][ROWS] = {}, high[A][ROWS] = {}, sum0[A] = {}, sum1[A] = {};
        i = add_members<TYPE, unit, A>(job, x, line * (SLI_LINE_COLS / unit), i, end, row, low, sum0);
        if constexpr (unit == 16)
            i = add_members<TYPE, unit, A>(job, x, line * 2 + 1, i, end, row, high, sum1);
        for (int r = 0; r < ROWS; r++) {
            if constexpr (form.elements == 32)
                sli_block_terms(source[r], j, form.has_min, &terms[r]);
            lines[r].terms(source[r], (int)j, &terms[r]);
#pragma unroll
            for (int a = 0; a < A; a++) {
                float d = __ldg(x.d + (size_t)a * (x.cols / SLI_LINE_COLS) + line);
                const float share[2] = {d * (float)sum0[a], d * (float)sum1[a]};
                sli_add_line<TYPE>(&s[a][r], terms[r], low[a][r], high[a][r], d, share);
            }
        }
    }
    for (int a = 0; a < A; a++)
        for (int r = 0; r < ROWS; r++)
            out[a][r] = sli_end_segment<TYPE>(s[a][r], terms[r]);
}

/* D3's lanes go by the neuron. */
template <uint32_t TYPE, int A>
SLI_DEVICE void down_floats(const down_job &job, const sli_acts_view &x, uint32_t i, uint32_t end, uint32_t row, float out[A][ROWS])
{
    float acc[A][ROWS][4] = {};
#pragma unroll 2
    for (; i < end; i++) {
        uint32_t member = member_at(job, i);
        sli_row_source<TYPE> column(job.at[member] + job.column, 0);
#pragma unroll
        for (uint32_t r = 0; r < ROWS; r++) {
            float w = column.element(min(row + r, job.rows - 1));
#pragma unroll
            for (int a = 0; a < A; a++) {
                float value = __ldg(x.f32 + (size_t)a * x.cols + member);
#pragma unroll
                for (uint32_t lane = 0; lane < 4; lane++)
                    acc[a][r][lane] = member % 4 == lane ? fmaf(w, value, acc[a][r][lane]) : acc[a][r][lane];
            }
        }
    }
    for (int a = 0; a < A; a++)
        for (int r = 0; r < ROWS; r++)
            out[a][r] = (acc[a][r][0] + acc[a][r][1]) + (acc[a][r][2] + acc[a][r][3]);
}

/* Block: lanes x segments; grid: groups of BLOCK_ROWS rows x groups of A rows of activations. Shared: sums
 * [A][segment][BLOCK_ROWS]. */
template <uint32_t TYPE, int A>
__global__ void __launch_bounds__(LANES *PASS_SEGMENTS, 1) down_kernel(down_job job, sli_acts_view x, uint32_t first_act)
{
    SLI_DYNAMIC_SHARED(float, sums);
    uint32_t me = threadIdx.y * LANES + threadIdx.x, first_row = blockIdx.x * BLOCK_ROWS, row = first_row + threadIdx.x * ROWS;
    uint32_t segments = sli_segments_of(x.cols), act = first_act + blockIdx.y * A;
    float total[A] = {};
    x.f32 += (size_t)act * x.cols;
    x.q += (size_t)act * x.cols;
    x.d += (size_t)act * (x.cols / SLI_LINE_COLS);

    for (uint32_t first = 0; first < segments; first += blockDim.y) {
        uint32_t segment = first + threadIdx.y;
        float out[A][ROWS] = {};
        if (segment < segments && row < job.rows) {
            uint32_t i = place_of(job, segment * SLI_SEGMENT_COLS), end = place_of(job, (segment + 1) * SLI_SEGMENT_COLS);
            if constexpr (sli_form_of(TYPE).words != 0)
                down_quantized<TYPE, A>(job, x, segment, i, end, row, out);
            else
                down_floats<TYPE, A>(job, x, i, end, row, out);
        }
        for (int a = 0; a < A; a++)
            for (uint32_t r = 0; r < ROWS; r++)
                sums[(a * blockDim.y + threadIdx.y) * BLOCK_ROWS + threadIdx.x * ROWS + r] = out[a][r];
        __syncthreads();
        for (uint32_t s = 0; s < blockDim.y && first + s < segments && me < BLOCK_ROWS; s++)
            for (int a = 0; a < A; a++)
                total[a] = total[a] + sums[(a * blockDim.y + s) * BLOCK_ROWS + me];
        __syncthreads();
    }
    for (int a = 0; a < A && me < BLOCK_ROWS && first_row + me < job.rows; a++) {
        float *out = job.out + (size_t)(act + a) * job.rows + first_row + me;
        *out = job.add ? *out + total[a] : total[a];
    }
}

/* Rows of activations [first, first + count), A at a time. */
template <uint32_t TYPE, int A>
static sl_status launch_by(sl_device *dev, const down_job *job, const sli_acts_view *x, uint32_t first, uint32_t count, sli_traffic bytes,
                           sl_error *err)
{
    uint32_t segments = (x->cols + SLI_SEGMENT_COLS - 1) / SLI_SEGMENT_COLS, passes = (segments + PASS_SEGMENTS - 1) / PASS_SEGMENTS;
    uint32_t at_once = (segments + passes - 1) / passes, groups = count / A;
    at_once = at_once < BLOCK_ROWS / LANES ? BLOCK_ROWS / LANES : at_once; /* as many threads as results */
    if (groups == 0)
        return SL_OK;
    return sli_launch(dev, err, sli_traffic(bytes.memory_bytes * groups, bytes.link_bytes * groups), down_kernel<TYPE, A>,
                      dim3((job->rows + BLOCK_ROWS - 1) / BLOCK_ROWS, groups), dim3(LANES, at_once),
                      (size_t)A * at_once * BLOCK_ROWS * sizeof(float), *job, *x, first);
}

template <uint32_t TYPE>
static sl_status launch(sl_device *dev, const down_job *job, const sli_acts_view *x, sli_traffic bytes, sl_error *err)
{
    uint32_t whole = x->rows / ACTS * ACTS;
    SL_TRY((launch_by<TYPE, ACTS>(dev, job, x, 0, whole, bytes, err)));
    if (x->rows - whole < 2)
        return launch_by<TYPE, 1>(dev, job, x, whole, x->rows - whole, bytes, err);
    SL_TRY((launch_by<TYPE, 2>(dev, job, x, whole, 2, bytes, err)));
    return launch_by<TYPE, 1>(dev, job, x, whole + 2, x->rows - whole - 2, bytes, err);
}

sl_status sli_device_bundle_down(sl_device *dev, const sl_device_bundles *b, sl_device_ptr neurons, uint32_t count, const sl_device_acts *h,
                                 sl_device_ptr out, bool add, sl_error *err)
{
    assert(h->cols == b->ff && count <= b->ff);
    sli_acts_view x = sli_view_of(h);
    down_job job = {b->d,
                    neurons != 0 ? count : b->ff,
                    b->gate_bytes + b->up_bytes,
                    add,
                    sli_at<const uint8_t *const>(b->at),
                    sli_at<const uint16_t>(b->meta),
                    sli_at<const uint32_t>(neurons),
                    sli_at<float>(out)};
    uint64_t column_bytes = (uint64_t)job.count * b->column_bytes;
    sli_traffic bytes(column_bytes, (uint64_t)((double)b->host_share * (double)column_bytes));
    SLI_FOR_QUANTIZED(b->down_type, launch, dev, &job, &x, bytes, err)
    if (b->down_type == SL_TYPE_F32)
        return launch<SL_TYPE_F32>(dev, &job, &x, bytes, err);
    return b->down_type == SL_TYPE_F16 ? launch<SL_TYPE_F16>(dev, &job, &x, bytes, err) : launch<SL_TYPE_BF16>(dev, &job, &x, bytes, err);
}
