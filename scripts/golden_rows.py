#!/usr/bin/env python3
"""One row of random blocks in every quantised format, and what the `gguf` package says they mean.

    python3 scripts/golden_rows.py > tests/golden/rows.txt

A line is a format's name, the row's bytes and its elements as fp32 bits, all in hexadecimal. All bits of a block are random but those of
its one or two fp16 numbers, which are ordinary. Needs: pip install numpy gguf.
"""

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

ELEMENTS = 256
# Where a block has its fp16 numbers.
HALVES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "IQ4_NL": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_XS": [0],
}  # fmt: skip


def main():
    random = np.random.default_rng(1)
    for name, offsets in HALVES.items():
        kind = GGMLQuantizationType[name]
        block_elements, block_bytes = GGML_QUANT_SIZES[kind]
        blocks = random.integers(0, 256, (ELEMENTS // block_elements, block_bytes), dtype=np.uint8)
        for offset in offsets:
            numbers = random.normal(0, 0.1, (len(blocks), 1)).astype("<f2")
            blocks[:, offset : offset + 2] = numbers.view(np.uint8)
        row = blocks.reshape(1, -1)
        floats = dequantize(row, kind).astype("<f4")
        print(name, row.tobytes().hex(), "".join(f"{bits:08x}" for bits in floats.view("<u4").ravel()))


if __name__ == "__main__":
    main()
