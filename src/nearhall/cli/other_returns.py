"""Returns of sites that run something else: from a Prometheus server or CSV files, by a mapping."""

from __future__ import annotations

import os
from pathlib import Path

from nearhall.cli.moments import moment
from nearhall.core.errors import InputError
from nearhall.documents.mapping import MappingDocument, read_mapping
from nearhall.documents.site_returns import SiteReturns
from nearhall.drivers.clock import SystemClock
from nearhall.drivers.csv_series import csv_returns
from nearhall.drivers.prometheus import prometheus_returns


def other_returns(
    *, prometheus: str | None, csv: Path | None, mapping: Path | None, start: str | None, end: str | None
) -> tuple[SiteReturns, ...]:
    """The returns of every site of the mapping; raises InputError for what is missing or cannot be read."""
    if mapping is None:
        raise InputError("which query or column is which quantity is not said", where="--mapping", right="name a mapping.yaml")
    if (prometheus is None) == (csv is None):
        raise InputError("a mapping is for one source", where="--mapping", right="--prometheus URL or --csv DIR, one of the two")
    document = read_mapping(mapping)
    if csv is not None:
        return csv_returns(document, folder=csv)
    start_s, end_s = moment(start, "--from"), moment(end, "--to")
    if start_s is None or end_s is None:
        right = "both, for example --from 2026-10-01 --to 2026-11-01"
        raise InputError("the period is not said", where="--from, --to", right=right)
    return prometheus_returns(
        prometheus or "", document, start_s=start_s, end_s=end_s, secret=_secret(document), clock=SystemClock()
    )


def _secret(document: MappingDocument) -> str | None:
    """What the login's environment variable holds; a login of which nothing is set is refused, not left out."""
    if document.login is None:
        return None
    name = document.login.bearer_env or document.login.basic_env or ""
    if name not in os.environ:
        raise InputError(f"the variable {name} is not set", where="mapping: login", right=f"export {name}=...")
    return os.environ[name]
