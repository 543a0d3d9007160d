"""What a model takes of a device's memory: weights, the cache of keys and values, activations, and the runtime itself.

GB are 10^9 bytes, GiB 2^30: a card sold with 24 GB mostly has 24 GiB, and 7 % lie between the two.
"""

from __future__ import annotations

from nearhall.core.elementwise import Value, floor, maximum

GB = 1e9
GIB = 2.0**30


def weights_bytes(*, params: Value, bits: Value, overhead: Value = 0.0) -> Value:
    """Bytes of the weights: params x bits / 8, more by the share that scales of quantised groups take (0 for fp16)."""
    return params * bits / 8.0 * (1.0 + overhead)


def kv_bytes_per_token(*, layers: Value, kv_heads: Value, head_dim: Value, bytes_per_value: Value = 2.0) -> Value:
    """Bytes of keys and values for each token that is held: 2 x layers x heads x dimension x bytes.

    `kv_heads` is fewer than the attention's heads where queries share them (grouped-query attention, Ainslie et al. 2023).
    """
    return 2.0 * layers * kv_heads * head_dim * bytes_per_value


def kv_bytes(*, per_token: Value, tokens: Value, concurrent: Value) -> Value:
    """Bytes of the whole cache, for conversations of `tokens` held at once."""
    return per_token * tokens * concurrent


def needed_bytes(*, weights: Value, kv: Value, activations: Value, runtime: Value, fragmentation: Value) -> Value:
    """All of it; `fragmentation` is the share of cache and activations that allocation wastes."""
    return weights + (kv + activations) * (1.0 + fragmentation) + runtime


def concurrent_at_most(*, usable: Value, weights: Value, runtime: Value, per_conversation: Value) -> Value:
    """Conversations that fit beside the weights, rounded down; none where the weights alone do not fit.

    For 14 GB of weights and 2,000 tokens of 524,288 bytes: 9 in 24 GB, 11 in 24 GiB, less what runtime and fragmentation take. An
    often repeated "3 to 4" follows from none of these figures.
    """
    return maximum(floor((usable - weights - runtime) / per_conversation), 0.0)
