"""The memory of the machine, or of the control group that this process may use."""

from __future__ import annotations

from typing import Protocol


class NodeMemory(Protocol):
    """Read when a model is loaded, and at no request."""

    def resident_mib(self, pid: int | None = None) -> float:
        """What a process holds now, MiB; this one without a pid, 0 for one that is gone."""
        ...

    def free_mib(self) -> float:
        """What may still be taken without swapping or being killed for it, MiB."""
        ...
