#!/usr/bin/env python3
"""An independent implementation of the llama architecture, to check ours against.

It shares nothing with the C code: the file is read and its weights are dequantised by the `gguf` package, the arithmetic is NumPy in
double precision, activations are never quantised, and attention is written as one matrix product over the whole sequence. So it does
not give the program's bits (the program rounds activations to int8 where a weight is quantised); it gives what those bits approximate.

    python3 scripts/oracle.py MODEL.gguf --tokens 504,253,... > tests/golden/NAME.txt

prints one line for each token but the last: the token, the negative log-likelihood of the token that follows it, and the five most
likely next tokens, each as id and logit. Needs: pip install numpy gguf.
"""

import argparse
import hashlib
import sys

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

TOP = 5


class File:
    """A GGUF file's values and its tensors in double precision, rows first."""

    def __init__(self, path):
        self.reader = GGUFReader(path)
        self.tensors = {tensor.name: tensor for tensor in self.reader.tensors}
        self.arch = self.value("general.architecture")
        if self.arch != "llama":
            sys.exit(f"{path}: architecture {self.arch!r}, this oracle knows only 'llama'")

    def value(self, key, default=None):
        field = self.reader.fields.get(key)
        return default if field is None else field.contents()

    def param(self, key, default=None):
        return self.value(f"{self.arch}.{key}", default)

    def tensor(self, name):
        tensor = self.tensors[name]
        return dequantize(tensor.data, tensor.tensor_type).astype(np.float64)

    def has(self, name):
        return name in self.tensors


def rms_norm(x, weight, epsilon):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + epsilon) * weight


def silu(x):
    return x / (1.0 + np.exp(-x))


def rotary_angles(file, positions, rope_dim):
    """Angles [position, rope_dim / 2]: frequencies fall from 1 to nearly 1 / base."""
    frequency = file.param("rope.freq_base", 10000.0) ** (-np.arange(0, rope_dim, 2) / rope_dim)
    if file.has("rope_freqs.weight"):
        frequency = frequency / file.tensor("rope_freqs.weight")
    kind = file.param("rope.scaling.type", "linear")
    if kind == "linear":
        frequency = frequency / file.param("rope.scaling.factor", file.param("rope.scale_linear", 1.0))
    elif kind != "none":
        sys.exit(f"rope scaling {kind!r} is not known to this oracle")
    return np.outer(np.arange(positions), frequency)


def rotate(x, angles):
    """Turns the neighbouring components 2i, 2i+1 of every head by the position's i-th angle; components beyond stay."""
    half = angles.shape[1]
    even, odd = x[..., 0 : 2 * half : 2], x[..., 1 : 2 * half : 2]
    cos, sin = np.cos(angles)[:, None, :], np.sin(angles)[:, None, :]
    turned = x.copy()
    turned[..., 0 : 2 * half : 2] = even * cos - odd * sin
    turned[..., 1 : 2 * half : 2] = even * sin + odd * cos
    return turned


def attention(q, k, v):
    """Causal attention; q [position, head, component], k and v with fewer heads, each serving a group of consecutive ones of q."""
    positions, heads, size = q.shape
    group = heads // k.shape[1]
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    scores = np.einsum("ihc,jhc->hij", q, k) / np.sqrt(size)
    scores += np.triu(np.full((positions, positions), -np.inf), 1)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("hij,jhc->ihc", weights, v)


def logits_of(file, tokens, neurons=lambda layer, activations: activations):
    """The logits after each token, [position, vocabulary]. `neurons` may change a feed-forward's activations [position, neuron]."""
    width, heads = file.param("embedding_length"), file.param("attention.head_count")
    kv_heads = file.param("attention.head_count_kv", heads)
    head_size = file.param("attention.key_length", width // heads)
    epsilon = file.param("attention.layer_norm_rms_epsilon")
    angles = rotary_angles(file, len(tokens), file.param("rope.dimension_count", head_size))

    embedding = file.tensor("token_embd.weight")
    x = embedding[tokens]
    for layer in range(file.param("block_count")):
        weight = lambda name: file.tensor(f"blk.{layer}.{name}.weight")  # noqa: E731
        bias = lambda name: file.tensor(f"blk.{layer}.{name}.bias") if file.has(f"blk.{layer}.{name}.bias") else 0.0  # noqa: E731
        h = rms_norm(x, weight("attn_norm"), epsilon)
        q = (h @ weight("attn_q").T + bias("attn_q")).reshape(len(tokens), heads, head_size)
        k = (h @ weight("attn_k").T + bias("attn_k")).reshape(len(tokens), kv_heads, head_size)
        v = (h @ weight("attn_v").T + bias("attn_v")).reshape(len(tokens), kv_heads, -1)
        mixed = attention(rotate(q, angles), rotate(k, angles), v)
        x = x + mixed.reshape(len(tokens), -1) @ weight("attn_output").T
        h = rms_norm(x, weight("ffn_norm"), epsilon)
        x = x + neurons(layer, silu(h @ weight("ffn_gate").T) * (h @ weight("ffn_up").T)) @ weight("ffn_down").T
    head = file.tensor("output.weight") if file.has("output.weight") else embedding
    return rms_norm(x, file.tensor("output_norm.weight"), epsilon) @ head.T


def main():
    parser = argparse.ArgumentParser(description="golden logits of a llama model, from NumPy alone")
    parser.add_argument("model")
    parser.add_argument("--tokens", required=True, help="comma-separated ids; the last one is only predicted")
    parser.add_argument("--note", help="a line about the text, kept in the output")
    args = parser.parse_args()
    tokens = [int(word) for word in args.tokens.strip("[] ").split(",")]
    logits = logits_of(File(args.model), np.array(tokens[:-1]))

    peak = logits.max(axis=-1, keepdims=True)
    log_total = peak[:, 0] + np.log(np.exp(logits - peak).sum(axis=-1))
    nll = log_total - logits[np.arange(len(tokens) - 1), tokens[1:]]
    with open(args.model, "rb") as model:
        print(f"# model sha256 {hashlib.sha256(model.read()).hexdigest()}")
    if args.note:
        print(f"# {args.note}")
    print(f"# {len(tokens) - 1} positions; the token after the last is {tokens[-1]}; mean nll {nll.mean():.6f}")
    print(f"# token next_nll, then the {TOP} largest logits as id and logit")
    for position, row in enumerate(logits):
        top = np.argsort(-row, kind="stable")[:TOP]
        print(tokens[position], f"{nll[position]:.6f}", *(f"{token} {row[token]:.5f}" for token in top))


if __name__ == "__main__":
    main()
