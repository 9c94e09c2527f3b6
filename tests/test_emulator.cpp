/* tests/test_emulator.cpp: the emulator of kernels: what it computes, and that it finds what a GPU would not say. */
#include "kernels/cuda/launch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

extern "C" {
#include <cmocka.h>
}

/* A launch runs at once. */
static sl_error said;
sl_status sli_emulated_enqueue(sl_device *, sl_stream, sli_closure_run run, const void *closure, size_t, sli_traffic, sl_error *err)
{
    return run(closure, err);
}
template <typename... P, typename... A> static sl_status launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, A... args)
{
    said = {};
    return sli_launch(NULL, &said, 0, kernel, grid, block, shared, args...);
}

/* Everything once: ascending, and in two other orders. */
static void in_all_orders(void (*check)(void))
{
    static const uint64_t orders[] = {0, 1, 99};
    for (uint64_t order : orders) {
        sli_emulated_order(order);
        check();
    }
    sli_emulated_order(0);
}

static void assert_fault(sl_status status, const char *part)
{
    assert_int_equal(status, SL_INTERNAL);
    if (strstr(said.message, part) == NULL)
        fail_msg("'%s' does not say '%s'", said.message, part);
}

/* ---- what is computed ---- */

static __global__ void places(uint32_t *out)
{
    SLI_DYNAMIC_SHARED(uint32_t, shared);
    uint32_t thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    uint32_t block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z), threads = blockDim.x * blockDim.y * blockDim.z;
    shared[thread] = block * 1000 + thread;
    __syncthreads();
    out[block * threads + thread] = shared[threads - 1 - thread];
}

static void check_places(void)
{
    uint32_t out[12 * 42] = {};
    assert_int_equal(launch(places, dim3(2, 3, 2), dim3(7, 3, 2), 42 * sizeof(uint32_t), out), SL_OK);
    for (uint32_t block = 0; block < 12; block++)
        for (uint32_t thread = 0; thread < 42; thread++)
            assert_int_equal(out[block * 42 + thread], block * 1000 + 41 - thread);
}

static void every_thread_of_every_block_runs_once_and_knows_its_place(void **)
{
    in_all_orders(check_places);
}

struct exchanges {
    uint32_t from, across, down, up, half, ballot;
    int count;
};

static __global__ void exchange(exchanges *out)
{
    uint32_t i = threadIdx.x, lane = i % 32;
    exchanges e = {};
    e.from = __shfl_sync(SLI_FULL_WARP, i, 5);
    e.across = __shfl_xor_sync(SLI_FULL_WARP, i, 16);
    e.down = __shfl_down_sync(SLI_FULL_WARP, i, 3, 8);
    e.up = __shfl_up_sync(SLI_FULL_WARP, i, 1);
    if (lane < 16)
        e.half = __shfl_xor_sync(0xffffu, i, 1);
    e.ballot = __ballot_sync(SLI_FULL_WARP, i % 3 == 0);
    e.count = __syncthreads_count(i % 5 == 0);
    out[i] = e;
}

static void check_exchange(void)
{
    exchanges out[96];
    assert_int_equal(launch(exchange, 1, 96, 0, out), SL_OK);
    for (uint32_t i = 0; i < 96; i++) {
        uint32_t lane = i % 32, ballot = 0;
        for (uint32_t l = 0; l < 32; l++)
            ballot |= (uint32_t)((i - lane + l) % 3 == 0) << l;
        assert_int_equal(out[i].from, i - lane + 5);
        assert_int_equal(out[i].across, i ^ 16);
        assert_int_equal(out[i].down, lane % 8 < 5 ? i + 3 : i);
        assert_int_equal(out[i].up, lane > 0 ? i - 1 : i);
        assert_int_equal(out[i].half, lane < 16 ? i ^ 1 : 0);
        assert_int_equal(out[i].ballot, ballot);
        assert_int_equal(out[i].count, 20);
    }
}

static void lanes_of_a_warp_exchange_what_they_hold(void **)
{
    in_all_orders(check_exchange);
}

static __global__ void multiply(const int8_t *a, const int8_t *b, int *d) /* a [16][32], b [8][32], d [16][8] */
{
    uint32_t g = threadIdx.x / 4, t = threadIdx.x % 4, aw[4], bw[2];
    for (uint32_t w = 0; w < 4; w++)
        memcpy(&aw[w], a + (g + w % 2 * 8) * 32 + w / 2 * 16 + 4 * t, 4);
    for (uint32_t w = 0; w < 2; w++)
        memcpy(&bw[w], b + g * 32 + w * 16 + 4 * t, 4);
    int sum[4] = {1, 1, 1, 1};
    sli_mma_s8(sum, aw, bw);
    for (uint32_t w = 0; w < 4; w++)
        d[(g + w / 2 * 8) * 8 + 2 * t + w % 2] = sum[w];
}

static void check_multiply(void)
{
    int8_t a[16 * 32], b[8 * 32];
    int d[16 * 8];
    for (int i = 0; i < 16 * 32; i++)
        a[i] = (int8_t)(i * 37);
    for (int i = 0; i < 8 * 32; i++)
        b[i] = (int8_t)(i * 91 + 5);
    assert_int_equal(launch(multiply, 1, 32, 0, a, b, d), SL_OK);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++) {
            int want = 1;
            for (int k = 0; k < 32; k++)
                want += a[i * 32 + k] * b[j * 32 + k];
            assert_int_equal(d[i * 8 + j], want);
        }
}

static void a_warp_multiplies_matrices_of_bytes(void **)
{
    in_all_orders(check_multiply);
}

static __global__ void count_up(uint32_t *counter, uint32_t *most)
{
    uint32_t old = atomicAdd(counter, 1u);
    atomicMax(most, old);
}

static void check_atomics(void)
{
    uint32_t counter = 0, most = 0;
    assert_int_equal(launch(count_up, 10, 100, 0, &counter, &most), SL_OK);
    assert_int_equal(counter, 1000);
    assert_int_equal(most, 999);
}

static void atomics_lose_nothing(void **)
{
    in_all_orders(check_atomics);
}

/* ---- what is found ---- */

static __global__ void some_wait(uint32_t count)
{
    if (threadIdx.x < count)
        __syncthreads();
}
static __global__ void wait_apart(uint32_t count)
{
    if (threadIdx.x < count)
        __syncthreads();
    else
        __syncthreads();
}
static __global__ void some_lanes_exchange(uint32_t count)
{
    if (threadIdx.x < count)
        (void)__shfl_xor_sync(SLI_FULL_WARP, 1, 1);
}
static __global__ void lanes_exchange_apart(uint32_t count)
{
    if (threadIdx.x < count)
        (void)__shfl_xor_sync(SLI_FULL_WARP, 1, 1);
    else
        __syncwarp();
}
static __global__ void ask_who_is_not_there(void)
{
    if (threadIdx.x < 16)
        (void)__shfl_down_sync(0xffffu, 1, 8);
}

static void check_faults(void)
{
    assert_fault(launch(some_wait, 2, 64, 0, 5u), "5 of 64 threads wait at a barrier that the others do not reach");
    assert_fault(launch(wait_apart, 2, 64, 0, 5u), "wait at another barrier");
    assert_fault(launch(some_lanes_exchange, 1, 32, 0, 31u), "wait for others that do not come");
    assert_fault(launch(lanes_exchange_apart, 1, 32, 0, 8u), "at another exchange");
    assert_fault(launch(ask_who_is_not_there, 1, 32, 0), "of one that does not take part");
    check_places(); /* and goes on as if nothing had been */
    check_exchange();
}

static void threads_that_do_not_meet_are_reported(void **)
{
    in_all_orders(check_faults);
}

/* Reads what another thread writes, with a barrier between or without. */
static __global__ void reverse(bool with_barrier, uint32_t *out)
{
    __shared__ uint32_t shared[64];
    shared[threadIdx.x] = threadIdx.x;
    if (with_barrier)
        __syncthreads();
    out[threadIdx.x] = shared[63 - threadIdx.x];
}

static uint32_t wrong_when_reversed(bool with_barrier)
{
    uint32_t out[64], wrong = 0;
    assert_int_equal(launch(reverse, 1, 64, 0, with_barrier, out), SL_OK);
    for (uint32_t i = 0; i < 64; i++)
        wrong += out[i] != 63 - i;
    return wrong;
}

static void a_missing_barrier_shows_in_other_orders(void **)
{
    for (uint64_t order = 1; order < 20; order++) {
        sli_emulated_order(order);
        assert_int_equal(wrong_when_reversed(true), 0);
        assert_int_not_equal(wrong_when_reversed(false), 0);
    }
    sli_emulated_order(0);
}

static void a_launch_that_no_gpu_takes_is_refused(void **)
{
    assert_fault(launch(some_wait, 1, 1025, 0, 0u), "blocks of (1025, 1, 1)");
    assert_fault(launch(some_wait, dim3(1, 65536), 32, 0, 0u), "grid of (1, 65536, 1)");
    assert_fault(launch(some_wait, 0, 32, 0, 0u), "grid of (0, 1, 1)");
    assert_fault(launch(some_wait, 1, 32, 49153, 0u), "49153 bytes shared");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_of_every_block_runs_once_and_knows_its_place),
        cmocka_unit_test(lanes_of_a_warp_exchange_what_they_hold),
        cmocka_unit_test(a_warp_multiplies_matrices_of_bytes),
        cmocka_unit_test(atomics_lose_nothing),
        cmocka_unit_test(threads_that_do_not_meet_are_reported),
        cmocka_unit_test(a_missing_barrier_shows_in_other_orders),
        cmocka_unit_test(a_launch_that_no_gpu_takes_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
