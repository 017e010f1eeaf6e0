"""The unrolled recurrent network, step by step and by hand.

Three computations of one network must agree: NumPy with a loop over time steps, ``torch.nn.RNN``,
and the recurrent layer of chargen's own model:

    h_t = tanh(W x_t + U h_{t-1} + b)

Then backpropagation through time by hand, with the loss L = sum over t of <g_t, h_t>:

    dL/dh_t = g_t + U^T d_{t+1}        d_t = dL/dh_t * (1 - h_t^2)
    dL/dW = sum d_t x_t^T     dL/dU = sum d_t h_{t-1}^T     dL/db = sum d_t

is compared with autograd. Everything is in float64. Run it:

    python examples/rnn_chapter/unrolled_rnn.py --steps 12 --hidden 8
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from chargen import ModelConfig
from chargen.cli.scripts import at_least, run_script
from chargen.lm.model import CharLM

Array = NDArray[np.float64]
VOCABULARY = 11


def forward(x: Array, w: Array, u: Array, b: Array) -> Array:
    """Return all states, (T + 1, H), from inputs (T, E); the first row is h_0 = 0."""
    states = np.zeros((len(x) + 1, len(b)))
    for t in range(len(x)):
        states[t + 1] = np.tanh(w @ x[t] + u @ states[t] + b)
    return states


def backward(x: Array, states: Array, u: Array, g: Array) -> tuple[Array, Array, Array]:
    """Return the gradients of W, U and b by backpropagation through time; g is (T, H)."""
    hidden = states.shape[1]
    dw, du, db = np.zeros((hidden, x.shape[1])), np.zeros((hidden, hidden)), np.zeros(hidden)
    from_later = np.zeros(hidden)  # gradient with respect to h_t through the steps after t
    for t in reversed(range(len(x))):
        d = (g[t] + from_later) * (1 - states[t + 1] ** 2)
        dw += np.outer(d, x[t])
        du += np.outer(d, states[t])
        db += d
        from_later = u.T @ d
    return dw, du, db


def largest(a: Array, b: Array) -> float:
    """Return the largest absolute difference."""
    return float(np.abs(a - b).max())


def main() -> None:
    """Compute, compare and print."""
    parser = argparse.ArgumentParser(description="The unrolled RNN by hand.")
    parser.add_argument("--steps", type=at_least(1), default=12, help="time steps T")
    parser.add_argument("--hidden", type=at_least(1), default=8, help="units H")
    parser.add_argument("--seed", type=at_least(0), default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    config = ModelConfig(
        vocabulary_size=VOCABULARY,
        cell="rnn",
        hidden_size=args.hidden,
        num_layers=1,
        embedding_size=5,
        dropout=0.0,
        embedding_dropout=0.0,
        weight_dropout=0.0,
    )
    model = CharLM(config).double()
    layer = model.layers[0]
    ids = torch.randint(VOCABULARY, (args.steps, 1))
    inputs = model.embedding(ids).detach()  # (T, 1, E)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    w, u, b_in, b_rec = (layer.get_parameter(name).detach().numpy() for name in names)

    x = inputs[:, 0].numpy()
    states = forward(x, w, u, b_in + b_rec)  # torch keeps two biases; only their sum matters
    for t in range(1, min(4, args.steps) + 1):
        print(f"h_{t} = {np.array2string(states[t], precision=3, max_line_width=200)}")

    reference = nn.RNN(inputs.shape[2], args.hidden).double()
    reference.load_state_dict({name: layer.get_parameter(name).detach() for name in names})
    by_torch, _ = reference(inputs)
    start = tuple(part.double() for part in model.initial_state(1))
    by_chargen, _ = model.features(ids, start)
    print("\nlargest difference of the states from those by hand")
    print(f"  torch.nn.RNN  {largest(states[1:], by_torch[:, 0].detach().numpy()):.1e}")
    print(f"  chargen       {largest(states[1:], by_chargen[:, 0].detach().numpy()):.1e}")

    g = torch.randn(by_torch.shape, dtype=torch.float64)
    torch.autograd.backward((by_torch * g).sum())
    gradients = dict(zip("WUb", backward(x, states, u, g[:, 0].numpy()), strict=True))
    print("\nlargest difference of the gradients by hand from autograd's")
    for (letter, by_hand), name in zip(gradients.items(), names, strict=False):
        gradient = reference.get_parameter(name).grad
        assert gradient is not None
        print(f"  dL/d{letter}  {largest(by_hand, gradient.numpy()):.1e}")


if __name__ == "__main__":
    run_script(main)
