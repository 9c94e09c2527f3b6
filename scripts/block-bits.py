#!/usr/bin/env python3
"""scripts/block-bits.py: which bits of a quantised block belong to which element, found by experiment with the `gguf` package.

Each bit of a random block is flipped and the block dequantised: a bit that changes a single element, whatever the other bits are, is that
element's own; one that changes several is shared. Prints the golden file tests/golden/block_bits.txt:
    TYPE ELEMENT BIT...     the bits (8 * byte + bit of the byte) of some elements, lowest value first
    TYPE shared COUNT       how many bits the block shares
Needs numpy and gguf."""
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize

# Byte offsets of the fp16 fields, which have to be ordinary numbers for an experiment to show anything.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2],
          "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0]}
SHOWN = [0, 1, 7, 8, 15, 16, 31, 32, 63, 64, 100, 127, 128, 200, 255]
BLOCKS = 24


def owners(name, random):
    """Per bit: the element it belongs to, or None; and how much it changes that element."""
    kind = T[name]
    elements, size = GGML_QUANT_SIZES[kind]
    base = random.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
    for offset in HALVES[name]:
        base[:, offset:offset + 2] = random.uniform(0.5, 1.0, (BLOCKS, 1)).astype(np.float16).view(np.uint8)
    before = dequantize(base.reshape(-1), kind).reshape(BLOCKS, elements)
    found = []
    for bit in range(8 * size):
        flipped = base.copy()
        flipped[:, bit // 8] ^= 1 << bit % 8
        with np.errstate(all="ignore"):
            after = dequantize(flipped.reshape(-1), kind).reshape(BLOCKS, elements)
        changed = np.flatnonzero((before != after).any(axis=0))
        one = changed.size == 1
        assert changed.size > 0, f"{name}: bit {bit} changes nothing"
        found.append((int(changed[0]), float(np.abs(after - before).max())) if one else None)
    return elements, found


def main():
    random = np.random.default_rng(1)
    print("# Made by scripts/block-bits.py: the bits of a block that belong to an element, and how many the block shares.")
    for name in HALVES:
        elements, found = owners(name, random)
        by_value = not name.startswith("IQ")  # a table of values has no lowest bit: the order of positions is the order of the index
        for element in (e for e in SHOWN if e < elements):
            bits = [b for b, owner in enumerate(found) if owner and owner[0] == element]
            bits.sort(key=lambda b: found[b][1] if by_value else b)
            print(name, element, *bits)
        per_element = {sum(1 for owner in found if owner and owner[0] == e) for e in range(elements)}
        assert len(per_element) == 1, f"{name}: elements with {per_element} bits"
        print(name, "shared", sum(1 for owner in found if not owner))
    return 0


if __name__ == "__main__":
    sys.exit(main())
