"""How long a model computes: the roofline of compute and memory bandwidth (Williams, Waterman, Patterson 2009)."""

from __future__ import annotations

from nearhall.core.elementwise import Value, maximum


def prefill_flops(*, params: Value, tokens: Value) -> Value:
    """Operations to read a prompt: 2 x params x tokens (a multiplication and an addition for each weight)."""
    return 2.0 * params * tokens


def prefill_s(
    *,
    params: Value,
    tokens: Value,
    weights_bytes: Value,
    peak_flops: Value,
    bandwidth: Value,
    compute_share: Value,
    bandwidth_share: Value,
) -> Value:
    """Seconds to the first token once it is computed: whichever of compute and reading the weights takes longer.

    `peak_flops` in operations a second, `bandwidth` in bytes a second; the shares are what a runtime reaches of them.
    """
    computing = prefill_flops(params=params, tokens=tokens) / (peak_flops * compute_share)
    return maximum(computing, weights_bytes / (bandwidth * bandwidth_share))


def decode_s_per_token(
    *,
    params: Value,
    weights_bytes: Value,
    kv_bytes: Value,
    batch: Value,
    peak_flops: Value,
    bandwidth: Value,
    compute_share: Value,
    bandwidth_share: Value,
) -> Value:
    """Seconds for one more token of each of `batch` conversations: weights and all of their cache are read once."""
    reading = (weights_bytes + kv_bytes) / (bandwidth * bandwidth_share)
    return maximum(reading, prefill_flops(params=params, tokens=batch) / (peak_flops * compute_share))


def forward_s(
    *, flops: Value, weights_bytes: Value, peak_flops: Value, bandwidth: Value, compute_share: Value, bandwidth_share: Value
) -> Value:
    """Seconds of one pass of any other network, by its operations and the bytes of its weights."""
    return maximum(flops / (peak_flops * compute_share), weights_bytes / (bandwidth * bandwidth_share))
