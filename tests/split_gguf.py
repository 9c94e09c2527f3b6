#!/usr/bin/env python3
"""tests/split_gguf.py IN PREFIX PARTS [--empty-first]: cuts a GGUF file into PREFIX-00001-of-0000N.gguf and so on, as llama-gguf-split does.

The first part has all metadata; each says split.no, split.count and split.tensors.count. With --empty-first the first has no tensors.
With --seed FILE also writes the headers of the first two parts, as tests/fuzz/fuzz_split.c takes them.
"""
import argparse
import struct


def string(text):
    return struct.pack("<Q", len(text)) + text


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        value = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return value if len(value) > 1 else value[0]

    def text(self):
        length = self.take("Q")
        self.at += length
        return self.data[self.at - length:self.at]

    def skip_value(self, kind):
        sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
        if kind in sizes:
            self.at += sizes[kind]
        elif kind == 8:
            self.text()
        else:
            inner, count = self.take("IQ")
            for _ in range(count):
                self.skip_value(inner)


def read(path):
    """The values as bytes with their count, and the tensors as (name, shape, type, data)."""
    data = open(path, "rb").read()
    r = Reader(data)
    r.at = 8
    tensor_count, value_count = r.take("QQ")
    begin, alignment = r.at, 32
    for _ in range(value_count):
        key = r.text()
        kind = r.take("I")
        if key == b"general.alignment":
            alignment = struct.unpack_from("<I", data, r.at)[0]
        r.skip_value(kind)
    values = data[begin:r.at]
    infos = []
    for _ in range(tensor_count):
        name, dims = r.text(), r.take("I")
        shape = [r.take("Q") for _ in range(dims)]
        infos.append((name, shape, r.take("I"), r.take("Q")))
    base = -(-r.at // alignment) * alignment
    ends = sorted(offset for *_, offset in infos) + [len(data) - base]
    tensors = [(n, s, t, data[base + o:base + min(e for e in ends if e > o)]) for n, s, t, o in infos]
    return value_count, values, tensors, alignment


def part(values, value_count, tensors, alignment):
    infos, body = b"", b""
    for name, shape, kind, data in tensors:
        infos += string(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in shape)
        infos += struct.pack("<IQ", kind, len(body))
        body += data + bytes(-len(data) % alignment)
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), value_count) + values + infos
    padding = bytes(-len(header) % alignment) if tensors else b""
    return header, header + padding + body


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("prefix")
    parser.add_argument("parts", type=int)
    parser.add_argument("--empty-first", action="store_true")
    parser.add_argument("--seed")
    args = parser.parse_args()
    value_count, values, tensors, alignment = read(args.source)
    full = args.parts - 1 if args.empty_first else args.parts
    each = -(-len(tensors) // full)
    chunks = [tensors[i * each:(i + 1) * each] for i in range(full)]
    if args.empty_first:
        chunks.insert(0, [])
    headers = []
    for number, chunk in enumerate(chunks):
        split = string(b"split.no") + struct.pack("<IH", 2, number) + string(b"split.count") + struct.pack("<IH", 2, args.parts)
        split += string(b"split.tensors.count") + struct.pack("<Ii", 5, len(tensors))
        kept = values if number == 0 else string(b"general.alignment") + struct.pack("<II", 4, alignment)
        header, data = part(kept + split, (value_count if number == 0 else 1) + 3, chunk, alignment)
        headers.append(header)
        with open(f"{args.prefix}-{number + 1:05}-of-{args.parts:05}.gguf", "wb") as file:
            file.write(data)
    if args.seed:
        with open(args.seed, "wb") as file:
            file.write(struct.pack("<I", len(headers[0])) + headers[0] + headers[1])


if __name__ == "__main__":
    main()
