#!/usr/bin/env python3
"""An independent implementation of the architectures that we run, to check ours against.

It shares nothing with the C code: the file is read and its weights are dequantised by the `gguf` package, the arithmetic is NumPy in
double precision, activations are never quantised, and attention is written as one matrix product over the whole sequence. So it does
not give the program's bits (the program rounds activations to int8 where a weight is quantised); it gives what those bits approximate.

    python3 scripts/oracle.py MODEL.gguf --tokens 504,253,... > tests/golden/NAME.txt

prints one line for each token but the last: the token, the negative log-likelihood of the token that follows it, and the five most
likely next tokens, each as id and logit. With --sparq the positions from --dense on attend as SparQ (arXiv 2312.04985) has it, written down from
the paper. Needs: pip install numpy gguf.
"""

import argparse
import functools
import hashlib
import sys

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

TOP = 5
ARCHITECTURES = "llama", "qwen2", "qwen3", "gemma3", "phi3", "opt"


class File:
    """A GGUF file's values and its tensors in double precision, rows first."""

    def __init__(self, path):
        self.reader = GGUFReader(path)
        self.tensors = {tensor.name: tensor for tensor in self.reader.tensors}
        self.arch = self.value("general.architecture")
        if self.arch not in ARCHITECTURES:
            sys.exit(f"{path}: architecture {self.arch!r}, this oracle knows only {', '.join(ARCHITECTURES)}")

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


def layer_norm(x, weight, bias, epsilon):
    centred = x - np.mean(x, axis=-1, keepdims=True)
    return rms_norm(centred, weight, epsilon) + bias


def silu(x):
    return x / (1.0 + np.exp(-x))


def gelu_tanh(x):
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def rotary_angles(file, positions, rope_dim, local):
    """Angles [position, rope_dim / 2]: frequencies fall from 1 to nearly 1 / base. Gemma's local layers have a base of their own."""
    exponent = -np.arange(0, rope_dim, 2) / rope_dim
    if local and file.arch == "gemma3":
        return np.outer(np.arange(positions), file.param("rope.freq_base_swa", 10000.0) ** exponent)
    base = file.param("rope.freq_base", 10000.0)
    frequency = base**exponent
    if file.has("rope_freqs.weight"):
        frequency = frequency / file.tensor("rope_freqs.weight")
    original = file.param("rope.scaling.original_context_length", file.param("context_length"))
    if file.has("rope_factors_long.weight"):
        longer = file.param("context_length") > original
        frequency = frequency / file.tensor(f"rope_factors_{'long' if longer else 'short'}.weight")
    kind = file.param("rope.scaling.type", "linear")
    if kind == "linear":
        frequency = frequency / file.param("rope.scaling.factor", file.param("rope.scale_linear", 1.0))
    elif kind == "yarn":
        frequency = yarn(frequency, file.param("rope.scaling.factor", 1.0), base, original)
    elif kind != "none":
        sys.exit(f"rope scaling {kind!r} is not known to this oracle")
    return np.outer(np.arange(positions), frequency)


def yarn(frequency, scale, base, original, beta_fast=32, beta_slow=1):
    """NTK by parts, section 3.2 of arXiv 2309.00071, with bounds on the pairs as its authors' code has them: a pair is interpolated (divided by the
    scale) the more, the fewer turns it makes in the original context."""
    pairs = len(frequency)

    def pair_with(turns):
        return pairs * np.log(original / (2 * np.pi * turns)) / np.log(base)

    first, last = max(np.floor(pair_with(beta_fast)), 0), min(np.ceil(pair_with(beta_slow)), 2 * pairs - 1)
    gamma = np.interp(np.arange(pairs), [first, max(last, first + 0.001)], [0.0, 1.0])
    return gamma * frequency / scale + (1 - gamma) * frequency


def rotary_magnitude(file):
    """What cosine and sine are multiplied by: both queries and keys, so scores by its square."""
    scale = file.param("rope.scaling.factor", 1.0) if file.param("rope.scaling.type") == "yarn" else 1.0
    return file.param("rope.scaling.attn_factor", 1.0) * (0.1 * np.log(scale) + 1 if scale > 1 else 1.0)


def rotate(x, angles, halves, magnitude):
    """Turns pairs of components of every head by the position's angles: the neighbours 2i and 2i + 1, or i and i + n / 2. Components
    beyond stay."""
    half = angles.shape[1]
    first, second = (slice(0, half), slice(half, 2 * half)) if halves else (slice(0, 2 * half, 2), slice(1, 2 * half, 2))
    cos, sin = magnitude * np.cos(angles)[:, None, :], magnitude * np.sin(angles)[:, None, :]
    turned = x.copy()
    turned[..., first] = x[..., first] * cos - x[..., second] * sin
    turned[..., second] = x[..., first] * sin + x[..., second] * cos
    return turned


def attention(q, k, v, window):
    """Causal attention; q [position, head, component], k and v with fewer heads, each serving a group of consecutive ones of q. A window
    hides what lies so many positions back, or more."""
    positions, heads, size = q.shape
    group = heads // k.shape[1]
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    scores = np.einsum("ihc,jhc->hij", q, k) / np.sqrt(size)
    distance = np.arange(positions)[:, None] - np.arange(positions)[None, :]
    hidden = (distance < 0) | (distance >= window) if window else distance < 0
    scores = np.where(hidden, -np.inf, scores)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("hij,jhc->ihc", weights, v)


def softmax(scores):
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def sparq_row(q, keys, values, count, rank, local, reallocate):
    """One position's query heads [head, component] that share a key head; keys and values [position, component] are what it sees."""
    seen, size = keys.shape
    if seen <= count:
        return softmax(q @ keys.T / np.sqrt(size)) @ values
    strongest = np.argsort(-np.abs(q).sum(axis=0), kind="stable")[:rank]
    part = np.abs(q[:, strongest]).sum(axis=1) / np.abs(q).sum(axis=1)
    approximate = softmax(q[:, strongest] @ keys[:, strongest].T / np.sqrt(size * part)[:, None])
    merit = approximate.sum(axis=0)
    merit[seen - local :] = np.inf
    best = np.argsort(-merit, kind="stable")[:count]
    out = softmax(q @ keys[best].T / np.sqrt(size)) @ values[best]
    if not reallocate:
        return out
    share = approximate[:, best].sum(axis=1, keepdims=True)
    return share * out + (1 - share) * values.mean(axis=0)


def sparq_attention(q, k, v, window, dense, settings):
    """As attention(), but that positions from `dense` on see a part of the others."""
    out, group = attention(q, k, v, window), q.shape[1] // k.shape[1]
    for position in range(dense, len(q)):
        begin = max(0, position + 1 - window) if window else 0
        for head in range(k.shape[1]):
            heads = slice(head * group, (head + 1) * group)
            keys, values = k[begin : position + 1, head], v[begin : position + 1, head]
            out[position, heads] = sparq_row(q[position, heads], keys, values, *settings)
    return out


def local_layers(file):
    """For each layer, whether it sees a window only."""
    layers = file.param("block_count")
    if not file.param("attention.sliding_window", 0):
        return [False] * layers
    pattern = file.param("attention.sliding_window_pattern", 6 if file.arch == "gemma3" else 0)
    if isinstance(pattern, list):
        return [bool(local) for local in pattern]
    return [pattern == 0 or (layer + 1) % pattern != 0 for layer in range(layers)]


class Layer:
    """The weights of a layer by name, and the products with them."""

    def __init__(self, file, number):
        self.file, self.prefix = file, f"blk.{number}."

    def has(self, name):
        return self.file.has(self.prefix + name)

    def weight(self, name):
        return self.file.tensor(f"{self.prefix}{name}.weight")

    def product(self, name, x):
        y = x @ self.weight(name).T
        return y + self.file.tensor(f"{self.prefix}{name}.bias") if self.has(f"{name}.bias") else y

    def layer_norm(self, name, x, epsilon):
        return layer_norm(x, self.weight(name), self.file.tensor(f"{self.prefix}{name}.bias"), epsilon)

    def norm_if(self, name, x, epsilon):
        return rms_norm(x, self.weight(name), epsilon) if self.has(f"{name}.weight") else x


def query_key_value(layer, h, heads, kv_heads, size):
    if layer.has("attn_qkv.weight"):
        parts = np.split(layer.product("attn_qkv", h), [heads * size, (heads + kv_heads) * size], axis=-1)
    else:
        parts = [layer.product(name, h) for name in ("attn_q", "attn_k", "attn_v")]
    return [part.reshape(len(h), -1, size) for part in parts]


def feed_forward(layer, h, activation, neurons):
    if layer.has("ffn_gate.weight"):
        gate, up = layer.product("ffn_gate", h), layer.product("ffn_up", h)
    else:
        gate, up = np.split(layer.product("ffn_up", h), 2, axis=-1)
    return layer.product("ffn_down", neurons(activation(gate) * up))


def opt_logits_of(file, tokens, neurons, attend):
    """As logits_of, for OPT: learned positions, layer norms before each block, biases everywhere, and a feed-forward of relu without a gate."""
    heads, epsilon = file.param("attention.head_count"), file.param("attention.layer_norm_epsilon")
    size = file.param("embedding_length") // heads
    embedding = file.tensor("token_embd.weight")
    x = embedding[tokens] + file.tensor("position_embd.weight")[: len(tokens)]
    for number in range(file.param("block_count")):
        layer = Layer(file, number)
        q, k, v = query_key_value(layer, layer.layer_norm("attn_norm", x, epsilon), heads, heads, size)
        x = x + layer.product("attn_output", attend(q, k, v, 0).reshape(len(tokens), -1))
        activations = np.maximum(layer.product("ffn_up", layer.layer_norm("ffn_norm", x, epsilon)), 0)
        x = x + layer.product("ffn_down", neurons(number, activations))
    head = file.tensor("output.weight") if file.has("output.weight") else embedding
    return layer_norm(x, file.tensor("output_norm.weight"), file.tensor("output_norm.bias"), epsilon) @ head.T


def logits_of(file, tokens, neurons=lambda layer, activations: activations, attend=attention):
    """The logits after each token, [position, vocabulary]. `neurons` may change a feed-forward's activations [position, neuron], and `attend`
    be another attention."""
    if file.arch == "opt":
        return opt_logits_of(file, tokens, neurons, attend)
    width, heads = file.param("embedding_length"), file.param("attention.head_count")
    kv_heads = file.param("attention.head_count_kv", heads)
    size = file.param("attention.key_length", width // heads)
    epsilon, halves = file.param("attention.layer_norm_rms_epsilon"), file.arch != "llama"
    activation = gelu_tanh if file.arch == "gemma3" else silu
    rope_dim = file.param("rope.dimension_count", size)

    embedding = file.tensor("token_embd.weight")
    x = embedding[tokens] * (np.sqrt(width) if file.arch == "gemma3" else 1.0)
    for number, local in enumerate(local_layers(file)):
        layer, angles = Layer(file, number), rotary_angles(file, len(tokens), rope_dim, local)
        h = rms_norm(x, layer.weight("attn_norm"), epsilon)
        q, k, v = query_key_value(layer, h, heads, kv_heads, size)
        q, k = layer.norm_if("attn_q_norm", q, epsilon), layer.norm_if("attn_k_norm", k, epsilon)
        window = file.param("attention.sliding_window") if local else 0
        q, k = (rotate(part, angles, halves, rotary_magnitude(file)) for part in (q, k))
        mixed = attend(q, k, v, window)
        attended = layer.product("attn_output", mixed.reshape(len(tokens), -1))
        x = x + layer.norm_if("post_attention_norm", attended, epsilon)
        h = rms_norm(x, layer.weight("ffn_norm"), epsilon)
        changed = functools.partial(neurons, number)
        x = x + layer.norm_if("post_ffw_norm", feed_forward(layer, h, activation, changed), epsilon)
    head = file.tensor("output.weight") if file.has("output.weight") else embedding
    return rms_norm(x, file.tensor("output_norm.weight"), epsilon) @ head.T


def main():
    parser = argparse.ArgumentParser(description="golden logits of a model, from NumPy alone")
    parser.add_argument("model")
    parser.add_argument("--tokens", required=True, help="comma-separated ids; the last one is only predicted")
    parser.add_argument("--sparq", help="K,R,LOCAL,on or off: positions, components, the last ones, reallocation")
    parser.add_argument("--dense", type=int, default=0, help="with --sparq: the first positions, whose attention is dense")
    parser.add_argument("--note", help="a line about the text, kept in the output")
    args = parser.parse_args()
    tokens = [int(word) for word in args.tokens.strip("[] ").split(",")]
    attend = attention
    if args.sparq:
        *numbers, reallocate = args.sparq.split(",")
        settings = (*map(int, numbers), reallocate == "on")
        attend = functools.partial(sparq_attention, dense=args.dense, settings=settings)
    logits = logits_of(File(args.model), np.array(tokens[:-1]), attend=attend)

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
