"""Draws: each named quantity has its own stream, so that site and hub, plan and decision see the same numbers.

Stratified (Latin hypercube; McKay, Beckman, Conover 1979): each of n equal slices of probability is drawn from once, which
tells a quantile from fewer samples. The stream hangs on seed and name alone: adding a site changes nothing for the others.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from nearhall.core.quantity import Exact, LogNormal, Normal, Quantity, Triangular, Uniform

Samples = NDArray[np.float64]
"""One value per sample, shape (samples,)."""


class Draws:
    """Gives each quantity its samples, the same ones each time it is asked by the same name."""

    def __init__(self, *, seed: int, samples: int) -> None:
        self.seed = seed
        self.samples = samples
        self._uniform: dict[str, Samples] = {}

    def uniform(self, name: str) -> Samples:
        """Stratified uniforms in (0, 1), shape (samples,), in an order of their own for each name."""
        if name not in self._uniform:
            key = int.from_bytes(blake2b(f"{self.seed}/{name}".encode(), digest_size=16).digest(), "big")
            random = np.random.Generator(np.random.PCG64(key))
            slices = random.permutation(self.samples).astype(np.float64)
            slices += random.random(self.samples)
            self._uniform[name] = np.clip(slices / self.samples, 1e-12, 1.0 - 1e-12)
        return self._uniform[name]

    def normal(self, name: str) -> Samples:
        """Standard normals of the same stream."""
        return np.asarray(ndtri(self.uniform(name)), dtype=np.float64)

    def of(self, name: str, quantity: Quantity) -> Samples:
        """Samples of the quantity, shape (samples,)."""
        match quantity.spread:
            case Exact():
                return np.full(self.samples, quantity.p50)
            case LogNormal(sigma):
                return quantity.p50 * np.exp(sigma * self.normal(name))
            case Normal(sd, low, high):
                return np.clip(quantity.p50 + sd * self.normal(name), low, high)
            case Uniform(low, high):
                return low + (high - low) * self.uniform(name)
            case Triangular(low, mode, high):
                return _triangular(self.uniform(name), low, mode, high)


def _triangular(u: Samples, low: float, mode: float, high: float) -> Samples:
    if high == low:
        return np.full_like(u, low)
    turn = (mode - low) / (high - low)
    rising = low + np.sqrt((high - low) * (mode - low) * u)
    falling = high - np.sqrt((high - low) * (high - mode) * (1.0 - u))
    return np.where(u <= turn, rising, falling)
