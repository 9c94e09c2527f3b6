#!/usr/bin/env python3
"""SparseGPT and SparseLLM written down from their papers in NumPy, in double precision, to check ours against.

    python3 scripts/prune_oracle.py > tests/golden/prune.txt

Shares nothing with the C code but how its inputs are drawn, so that they need not be stored. Prints matrices, one line each: a name, rows, columns,
and the values. SparseLLM's are those of its second iteration, the first that refits. Needs: pip install numpy.
"""

import numpy as np

MASK = (1 << 64) - 1


def draws(seed, count, scale=1.0):
    """Numbers in [-1, 1) of splitmix64, as fp32."""
    out = np.empty(count)
    for i in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        x = seed
        x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ x >> 27) * 0x94D049BB133111EB) & MASK
        out[i] = ((x ^ x >> 31) >> 40) / 2.0**23 - 1.0
    return (out.astype(np.float32) * np.float32(scale)).astype(np.float64)


def inputs(seed, rows, columns):
    """Rows whose neighbouring features go together."""
    x = draws(seed, rows * columns).reshape(rows, columns)
    for i in range(1, columns):
        x[:, i] = (x[:, i] + 0.5 * x[:, i - 1]).astype(np.float32)
    return x


def damped(x):
    gram = x.T @ x
    return gram + 0.01 * np.mean(np.diag(gram)) * np.eye(len(gram))


def sparsegpt(w, h, density=0.5, drop=0, of=0, block=128):
    w = w.copy()
    upper = np.linalg.cholesky(np.linalg.inv(h)).T
    for first in range(0, w.shape[1], block):
        end = min(first + block, w.shape[1])
        part, u = w[:, first:end].copy(), upper[first:end, first:end]
        errors = np.zeros_like(part)
        mask = np.zeros(part.shape, dtype=bool)
        if not of:
            scores = (part / np.diag(u)) ** 2
            order = np.argsort(scores, axis=None, kind="stable")
            mask.flat[order[: int(np.floor(scores.size * (1 - density) + 1e-6))]] = True
        for i in range(end - first):
            if of and i % of == 0:
                scores = (part[:, i : i + of] / np.diag(u)[i : i + of]) ** 2
                for row, order in enumerate(np.argsort(scores, axis=1, kind="stable")):
                    mask[row, i + order[:drop]] = True
            errors[:, i] = np.where(mask[:, i], part[:, i], 0) / u[i, i]
            part[:, i:] -= np.outer(errors[:, i], u[i, i:])
            part[mask[:, i], i] = 0
        w[:, first:end] = part
        w[:, end:] -= errors @ upper[first:end, end:]
    return w


def silu(s):
    return s / (1 + np.exp(-s))


def silu_slope(s):
    sigmoid = 1 / (1 + np.exp(-s))
    return sigmoid * (1 + s * (1 - sigmoid))


def move_s(s, z, p, m):
    """A few damped Gauss-Newton steps on (s - m)^2 + (p - silu(s) z)^2, each taken where it helps."""
    gap = lambda s: (s - m) ** 2 + (p - silu(s) * z) ** 2
    stuck = np.zeros(s.shape, dtype=bool)
    for _ in range(3):
        pull = silu_slope(s) * z
        step = ((m - s) + pull * (p - silu(s) * z)) / (1 + pull * pull)
        moved = stuck.copy()
        for half in range(4):
            better = ~moved & (gap(s + step / 2**half) < gap(s))
            s = np.where(better, s + step / 2**half, s)
            moved |= better
        stuck |= ~moved
    return s


def sparsellm(x, gate, up, down, iterations, density):
    s, z = x @ gate.T, x @ up.T
    p = silu(s) * z
    y = p @ down.T
    hx = damped(x)
    for iteration in range(iterations):
        hp = damped(p)
        if iteration > 0:
            gate = gate + (s - x @ gate.T).T @ x @ np.linalg.inv(hx)
            up = up + (z - x @ up.T).T @ x @ np.linalg.inv(hx)
            down = down + (y - p @ down.T).T @ p @ np.linalg.inv(hp)
        gate, up, down = sparsegpt(gate, hx, density), sparsegpt(up, hx, density), sparsegpt(down, hp, density)
        if iteration + 1 == iterations:
            return gate, up, down
        q = silu(s) * z
        p = np.linalg.solve(down.T @ down + np.eye(down.shape[1]), (y @ down + q).T).T
        z = (x @ up.T + silu(s) * p) / (1 + silu(s) ** 2)
        s = move_s(s, z, p, x @ gate.T)


def best_z(p, m):
    """Of (z - m)^2 + (p - relu(z))^2 the best z that is not negative, and the best of the others: the better of the two."""
    gap = lambda z: (z - m) ** 2 + (p - np.maximum(z, 0)) ** 2
    active, silent = np.maximum((p + m) / 2, 0), np.minimum(m, 0)
    return np.where(gap(active) <= gap(silent), active, silent)


def sparsellm_relu(x, up, bias, down, iterations, density):
    """For OPT's feed-forwards: relu, no gate. The biases of down are outside of all this."""
    z = x @ up.T + bias
    p = np.maximum(z, 0)
    y = p @ down.T
    hx = damped(x)
    for iteration in range(iterations):
        hp = damped(p)
        if iteration > 0:
            up = up + (z - bias - x @ up.T).T @ x @ np.linalg.inv(hx)
            down = down + (y - p @ down.T).T @ p @ np.linalg.inv(hp)
        up, down = sparsegpt(up, hx, density), sparsegpt(down, hp, density)
        if iteration + 1 == iterations:
            return up, down
        p = np.linalg.solve(down.T @ down + np.eye(down.shape[1]), (y @ down + np.maximum(z, 0)).T).T
        z = best_z(p, x @ up.T + bias)


def show(name, matrix):
    print(name, *matrix.shape, *(f"{value:.7g}" for value in matrix.flat))


def main():
    x, w = inputs(1, 300, 160), draws(2, 16 * 160).reshape(16, 160)
    show("half", sparsegpt(w, damped(x), 0.5))
    show("2:4", sparsegpt(w, damped(x), drop=2, of=4))
    d, ff = 32, 48
    x = inputs(3, 200, d)
    gate, up = draws(4, ff * d, 0.5).reshape(ff, d), draws(5, ff * d, 0.5).reshape(ff, d)
    down = draws(6, d * ff, 0.5).reshape(d, ff)
    for name, matrix in zip(("gate", "up", "down"), sparsellm(x, gate, up, down, 2, 0.5)):
        show(name, matrix)
    bias = draws(7, ff, 0.5)
    for name, matrix in zip(("relu-up", "relu-down"), sparsellm_relu(x, up, bias, down, 2, 0.5)):
        show(name, matrix)


if __name__ == "__main__":
    main()
