"""What is counted by model, for v2 statistics: the requests that this gateway answered itself; cumulative since it started."""

from __future__ import annotations

from nearhall.wire.oip_describe import ModelCounts, Spent


class ModelCounter:
    """The counters of one version of a model. Only the event loop touches them; times are milliseconds."""

    __slots__ = ("_compute_ms", "_executions", "_fail", "_fail_ms", "_last_s", "_queue_ms", "_success", "_success_ms")

    def __init__(self) -> None:
        self._success = self._fail = 0
        self._executions = self._last_s = 0.0
        self._success_ms = self._fail_ms = self._queue_ms = self._compute_ms = 0.0

    def answered(self, *, latency_ms: float, queue_ms: float, compute_ms: float, at_s: float, together: int = 1) -> None:
        """One answer, at `at_s` (seconds since 1970 UTC); `together` is how many requests shared its run."""
        self._success += 1
        self._success_ms += latency_ms
        self._queue_ms += queue_ms
        self._compute_ms += compute_ms
        self._executions += 1 / together
        self._last_s = at_s

    def failed(self, latency_ms: float) -> None:
        """One request that the model was found for and that got no answer."""
        self._fail += 1
        self._fail_ms += latency_ms

    def frozen(self) -> ModelCounts:
        """As it is told."""
        return ModelCounts(
            last_inference_s=self._last_s,
            executions=round(self._executions),
            success=Spent(count=self._success, total_ms=self._success_ms),
            fail=Spent(count=self._fail, total_ms=self._fail_ms),
            queue=Spent(count=self._success, total_ms=self._queue_ms),
            compute=Spent(count=self._success, total_ms=self._compute_ms),
        )
