/* tests/fuzz/fuzz_record.c: any bytes through the reader of recorded accesses; what it takes is walked, and played by the model.
 *
 * The checksum would stop every mutation at the door, so it is made right before, unless the last byte is odd. */
#include "pager/replay.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

static void walk(const sl_record_file *file)
{
    sl_record_cursor cursor;
    sl_record_event e;
    sl_error err;
    uint64_t events = 0;
    if (sl_record_begin(file, &cursor, &err) != SL_OK)
        return;
    for (; sl_record_next(&cursor, &e); events++)
        if (e.count > file->list_max)
            __builtin_trap();
    if (events != file->head.event_count)
        __builtin_trap();
    sl_record_end(&cursor);
}

static void play(const sl_record_file *file)
{
    sl_replay *replay;
    sl_replay_result result;
    sl_error err;
    uint64_t places = 0;
    for (uint64_t i = 0; i < file->head.layer_count; i++)
        places += file->layers[i].count;
    if (places > 4096 || sl_replay_open(file, &replay, &err) != SL_OK) /* honest, but slow */
        return;
    for (int policy = 0; policy < SL_REPLAY_POLICIES; policy++) {
        sl_replay_config config = {(sl_replay_policy)policy, file->head.weight_bytes / 2, 1e9};
        if (sl_replay_model(replay, &config, &result, &err) == SL_OK && result.hit_bytes > result.used_bytes)
            __builtin_trap();
    }
    sl_replay_close(replay);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    uint8_t *bytes = malloc(length + 1);
    sl_record_file file;
    sl_error err = {0};
    if (!bytes)
        return 0;
    if (length > 0)
        memcpy(bytes, data, length);
    if (length >= 8 && (data[length - 1] & 1) == 0) {
        uint64_t sum = XXH64(bytes, length - 8, 0);
        memcpy(bytes + length - 8, &sum, 8);
    }
    if (sl_record_parse("fuzz", bytes, length, &file, &err) == SL_OK) {
        walk(&file);
        play(&file);
        sl_record_close(&file);
    } else if (err.message[0] == '\0') {
        __builtin_trap();
    }
    return 0;
}
