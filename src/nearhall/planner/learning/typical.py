"""Draws of a typical site together with a next one: further pilots teach the typical site, not by how the next one differs."""

from __future__ import annotations

import numpy as np
from scipy.special import betaincinv, ndtri

from nearhall.planner.learning.slo_blocks import CONCENTRATIONS, MEANS, ShareKept
from nearhall.planner.learning.update import Posterior
from nearhall.planner.samples.draws import Samples

Uniforms = tuple[Samples, Samples, Samples]
"""In (0, 1), shape (samples,) each."""


def typical_and_next(model: Posterior | ShareKept, uniforms: Uniforms) -> tuple[Samples, Samples]:
    """(typical, next site), each of shape (samples,): on the normal scale, or of a share."""
    return _share(model, uniforms) if isinstance(model, ShareKept) else _normal(model, uniforms)


def _normal(model: Posterior, uniforms: Uniforms) -> tuple[Samples, Samples]:
    at = _picked(model.weight, uniforms[0])
    typical = model.mean[at] + model.sd[at] * np.asarray(ndtri(uniforms[1]))
    return typical, typical + model.tau[at] * np.asarray(ndtri(uniforms[2]))


def _share(model: ShareKept, uniforms: Uniforms) -> tuple[Samples, Samples]:
    at = _picked(model.weight.ravel(), uniforms[0])
    mean = MEANS[at // len(CONCENTRATIONS)]
    alike = CONCENTRATIONS[at % len(CONCENTRATIONS)]
    new_site: Samples = np.asarray(betaincinv(mean * alike, (1.0 - mean) * alike, uniforms[2]), dtype=np.float64)
    return mean, new_site


def _picked(weight: Samples, uniform: Samples) -> np.ndarray:
    """The points of a grid that the uniforms fall on."""
    return np.minimum(np.searchsorted(np.cumsum(weight) / weight.sum(), uniform), len(weight) - 1)
