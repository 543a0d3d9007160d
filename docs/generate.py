"""Writes docs/reference/ out of the code: commands, settings, documents, headers, metrics, reasons, and the rooms' pages.

Run by `make docs`; nothing it writes is kept in the repository, so none of it can be out of date. It fails when something
that a user can set or see has no words.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer

from nearhall.cli.main import COMMANDS
from nearhall.core import reasons
from nearhall.gateway.grpc.status import CODES as GRPC_CODES
from nearhall.gateway.metering.metrics import METRICS
from nearhall.gateway.nodes.metrics import FRONT_METRICS
from nearhall.wire import headers

DOCS = Path(__file__).parent
SOURCE = DOCS.parent / "src" / "nearhall"
REFERENCE = DOCS / "reference"

REQUEST_HEADERS: dict[str, str] = {
    "DEADLINE": "The answer is worthless after this many milliseconds. For chat: to the first token.",
    "TOTAL_DEADLINE": "For chat: milliseconds to the last token.",
    "RESIDENCY": "`site`, `jurisdiction:DE` or `any`. It can only tighten the workload's own rule.",
    "PRIORITY": "0 (first) to 9: a lower one goes before all higher ones that wait for the same model; unsaid, the "
    "workload's `priority`, or 5 without one.",
    "WORKLOAD": "The workload that the request belongs to, where its model does not say so.",
    "RAW_BYTES": "What a sensible central design would have sent for this request; counted as `raw`.",
    "PROBE": "`1`: a paired probe, set by gateways; served, and counted apart.",
    "HEAD_LENGTH": "Length of the JSON before binary tensors (Open Inference Protocol).",
}
ANSWER_HEADERS: dict[str, str] = {
    "SERVED_BY": "`<site>/<node>`, or `hub`.",
    "VARIANT": "The variant of the model that ran.",
    "STEPPED_DOWN": "The better variant that it stood in for: a power cap, an overload or a short deadline made it step down.",
    "REASON": "Why it was served where it was, or refused: one of the [reasons](reasons.md).",
    "SERVER_TIMING": "`queue`, `compute` and `network`, in milliseconds (W3C Server Timing).",
}
FRONT_HEADERS: dict[str, str] = {
    "FRONT": "`1`: from the front of several nodes, which holds back those who come again at once, so that the node need not.",
}
HUB_HEADERS: dict[str, str] = {
    "PEER": "The common name of the certificate that the gateway has verified; dropped where a client sends it.",
    "PEER_URI": "A URI of that certificate, e.g. `nearhall:site:shop-01`; repeated for each.",
}
NOT_HEADERS = frozenset({"PRIORITY_MAX", "RAW_BYTES_MAX"})

SETTINGS: dict[str, str] = {
    "gateway/settings.py": "gateway",
    "gateway/nodes/settings.py": "front",
    "site/settings.py": "agent",
    "hub/settings.py": "hub",
    "cabinet/settings.py": "virtual cabinet",
    "sim/link.py": "link",
    "sim/players/settings.py": "players",
}
DOCUMENTS: dict[str, str] = {
    "documents/up.py": "pilot.yaml",
    "documents/site.py": "site.yaml",
    "documents/serve.py": "serve.yaml",
    "documents/front.py": "front.yaml",
    "documents/addresses.py": "addresses in site.yaml, serve.yaml and front.yaml",
    "documents/model.py": "model.yaml",
    "documents/profile.py": "profile.json",
    "documents/plan.py": "plan.yaml",
    "documents/plan_work.py": "plan.yaml: workloads",
    "documents/plan_place.py": "plan.yaml: places",
    "documents/mapping.py": "mapping.yaml",
    "documents/hardware.py": "the hardware catalogue",
}


class UndocumentedError(Exception):
    """Something that a user can set or see has no words."""


# ---- commands -------------------------------------------------------------------------------------------------


def commands_page() -> str:
    """Every command with its arguments and options, from the same objects that print `--help`."""
    out = [
        "# Commands",
        "",
        "Exit codes: 0 success, 1 a failed run, 2 bad input. `--json` prints one object on standard output.",
        "",
    ]
    for name, line in COMMANDS.items():
        try:
            module = import_module(f"nearhall.cli.commands.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"nearhall.cli.commands.{name}":
                raise
            continue
        out += [f"## nearhall {name}", "", line, ""]
        out += _command(typer.main.get_command(module.app), f"nearhall {name}")
    return "\n".join(out)


def _command(command: Any, path: str) -> Iterator[str]:
    if hasattr(command, "commands"):
        if getattr(command, "invoke_without_command", False):
            yield from _alone(command, path)
        for name, inner in sorted(command.commands.items()):
            yield from (f"### {path} {name}", "")
            yield from _command(inner, f"{path} {name}")
        return
    yield from _alone(command, path)


def _alone(command: Any, path: str) -> Iterator[str]:
    described = _plain(command.help or "")
    if not described:
        raise UndocumentedError(path)
    yield from (described, "", f"    {path} {_usage(command)}", "")
    rows = [row for parameter in command.params if (row := _parameter(parameter, path)) is not None]
    if rows:
        yield from ("| option | default | |", "|---|---|---|", *rows, "")
    if command.epilog:
        yield from (_plain(command.epilog), "")


def _usage(command: Any) -> str:
    arguments = [p.metavar or p.name.upper() for p in command.params if p.param_type_name == "argument"]
    return " ".join(["[OPTIONS]", *arguments])


def _parameter(parameter: Any, path: str) -> str | None:
    if getattr(parameter, "hidden", False) or parameter.name == "help":
        return None
    said = _plain(getattr(parameter, "help", None) or "")
    argument = parameter.param_type_name == "argument"
    names = [parameter.metavar or parameter.name.upper()] if argument else [*parameter.opts, *parameter.secondary_opts]
    name = ", ".join(f"`{each}`" for each in names)
    if not said:
        message = f"{path} {name} has no help"
        raise UndocumentedError(message)
    default = parameter.default
    shown = "" if default in (None, False, ...) or callable(default) else f"`{default}`"
    return f"| {name} | {shown} | {said} |"


def _plain(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", re.sub(r"\[/?[a-z ]+\]", "", text)).strip().replace("|", "\\|").replace("[", "\\[")


# ---- classes with fields --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldWords:
    """One field as its source has it."""

    name: str
    kind: str
    default: str
    words: str


def classes_of(file: Path) -> Iterator[tuple[str, str, list[FieldWords]]]:
    """(name, docstring, fields) of every public class with annotated fields, in the source's order."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            fields = list(_fields(node))
            if fields:
                yield node.name, ast.get_docstring(node) or "", fields


def _fields(node: ast.ClassDef) -> Iterator[FieldWords]:
    for this, following in zip(node.body, [*node.body[1:], ast.Pass()], strict=True):
        if isinstance(this, ast.AnnAssign) and isinstance(this.target, ast.Name):
            after = following.value if isinstance(following, ast.Expr) else None
            words = str(after.value) if isinstance(after, ast.Constant) and isinstance(after.value, str) else ""
            default, limits = _said_of(this.value)
            kind = ", ".join(part for part in (_kind(this.annotation), limits) if part)
            yield FieldWords(name=_alias(this) or this.target.id, kind=kind, default=default, words=words)


LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "min_length": "at least", "max_length": "at most"}
QUANTITY_LIMITS = {"least": "at least", "most": "at most", "above": "above"}


def _said_of(value: ast.expr | None) -> tuple[str, str]:
    """(default, limits) of a field, in words, from what stands right of its `=`."""
    if value is None:
        return "", ""
    if not (isinstance(value, ast.Call) and ast.unparse(value.func) == "Field"):
        return ast.unparse(value).removeprefix("None"), ""
    said = {keyword.arg or "": ast.unparse(keyword.value) for keyword in value.keywords}
    return said.get("default", "").removeprefix("None"), ", ".join(
        f"{words} {said[key]}" for key, words in LIMITS.items() if key in said
    )


def _kind(annotation: ast.expr) -> str:
    """What may be written, in words: a unit and limits, names, or the type."""
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return " or ".join(_kind(side) for side in (annotation.left, annotation.right) if ast.unparse(side) != "None")
    if isinstance(annotation, ast.Subscript):
        inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        outer = ast.unparse(annotation.value)
        if outer == "Literal":
            return " or ".join(str(each.value) for each in inner if isinstance(each, ast.Constant))
        if outer == "Annotated" and isinstance(inner[1], ast.Call):
            return _quantity(inner[1]) if ast.unparse(inner[1].func) in {"InUnit", "Plain"} else _kind(inner[0])
        if outer in {"list", "dict"}:
            return f"{outer} of {' to '.join(_kind(each) for each in inner)}"
    written = ast.unparse(annotation)
    return WORDS_OF_TYPES.get(written, written)


WORDS_OF_TYPES = {
    "float": "plain number",
    "int": "whole number",
    "str": "text",
    "bool": "true or false",
    "Identifier": "name of lower case letters, digits and dashes",
    "FeederName": "name of letters, digits and dashes",
    "Name": "name of letters, digits, dots, dashes and underscores",
    "Address": "\\[HOST:]PORT",
    "Jurisdiction": "country's two capital letters, or with its region: US-CA",
    "Shape": "flat, office, shop, evening, 24 numbers, or a .csv file of them",
    "Existing": "24 numbers, or a .csv file of 24 or 8,760 of them",
}


def _quantity(call: ast.Call) -> str:
    unit = ast.literal_eval(call.args[0])
    limits = [f"{QUANTITY_LIMITS[k.arg]} {ast.unparse(k.value)}" for k in call.keywords if k.arg in QUANTITY_LIMITS]
    return ", ".join([f"number in {unit}" if unit != "1" else "number", *limits])


def _alias(field: ast.AnnAssign) -> str | None:
    if isinstance(field.value, ast.Call):
        for keyword in field.value.keywords:
            if keyword.arg == "alias" and isinstance(keyword.value, ast.Constant):
                return str(keyword.value.value)
    return None


def _fields_page(title: str, intro: str, files: dict[str, str]) -> str:
    out = [f"# {title}", "", intro, ""]
    for name, heading in files.items():
        file = SOURCE / name
        if not file.exists():
            continue
        out += [f"## {heading}", "", _first_paragraph(ast.get_docstring(ast.parse(file.read_text())) or ""), ""]
        for class_name, said, fields in classes_of(file):
            out += [f"### {class_name}", "", said, "", "| key | type | default | |", "|---|---|---|---|"]
            out += [f"| `{f.name}` | {_code(f.kind)} | {_code(f.default)} | {_plain(f.words)} |" for f in fields]
            out += [""]
    return "\n".join(out)


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else ""


def _first_paragraph(text: str) -> str:
    return text.partition("\n\n")[0].replace("\n", " ")


# ---- the wire -------------------------------------------------------------------------------------------------


def headers_page() -> str:
    """Every header of ours, from wire/headers.py; each needs its words above."""
    names = {k: v.decode() for k, v in vars(headers).items() if k.isupper() and isinstance(v, bytes)}
    if missing := set(names) - set(REQUEST_HEADERS) - set(ANSWER_HEADERS) - set(FRONT_HEADERS) - set(HUB_HEADERS):
        message = f"wire/headers.py has {sorted(missing)}, which docs/generate.py does not describe"
        raise UndocumentedError(message)
    out = ["# Headers", ""]
    for title, words in (
        ("In requests", REQUEST_HEADERS),
        ("In answers", ANSWER_HEADERS),
        ("Between the front and the nodes of a site", FRONT_HEADERS),
        ("Between the two programs of a hub", HUB_HEADERS),
    ):
        out += [
            f"## {title}",
            "",
            "| header | |",
            "|---|---|",
            *(f"| `{names[key]}` | {said} |" for key, said in words.items()),
            "",
        ]
    out += [
        "Refusals carry `Retry-After` in whole seconds and `retry-after-ms`; `x-should-retry: false` where retrying is futile.",
        "A forwarded answer keeps the hub's `x-nearhall-served-by` and its queue and compute; network is the rest.",
        "",
    ]
    return "\n".join(out)


def reasons_page() -> str:
    """Every reason with its words, from the one enum."""
    where = "In `x-nearhall-reason` (header, or gRPC metadata), in `/metrics`, and as the keys of `rejected` in `pilot.json`."
    out = ["# Reasons", "", f"{where} A call that was admitted and ran out of time ends with `DEADLINE_EXCEEDED` over gRPC.", ""]
    out += ["| reason | | gRPC |", "|---|---|---|"]
    source = ast.parse(Path(reasons.__file__).read_text())
    body = next(node for node in source.body if isinstance(node, ast.ClassDef) and node.name == "Reason").body
    for this, following in pairwise(body):
        if isinstance(this, ast.Assign) and isinstance(this.value, ast.Constant):
            if not (isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)):
                message = f"the reason {this.value.value} has no words"
                raise UndocumentedError(message)
            code = GRPC_CODES.get(reasons.Reason(this.value.value))
            status = "" if code is None else f"`{code.name}`"
            out += [f"| `{this.value.value}` | {_plain(str(following.value.value))} | {status} |"]
    return "\n".join([*out, ""])


def metrics_page() -> str:
    """Every metric with its help."""
    rows = [f"| `{name}` | {said} |" for name, said in {**METRICS, **FRONT_METRICS}.items()]
    return "\n".join(
        [
            "# Metrics",
            "",
            "At `/metrics` of every gateway, in Prometheus' text format. Counters end in `_total`.",
            "",
            "| metric | |",
            "|---|---|",
            *rows,
            "",
            "`nearhall_energy_joules` has the labels `model`, `share` (`marginal`: above the servers' idle power; `full`: with",
            "idle power, cooling and losses), `kind` (of evidence: `measured`, `vendor`, `simulated`, `assumed`) and `source`",
            "(`meter`: the site's meters, told by its agent; `rapl`, `nvml` or `rapl+nvml`: the machine's own counters). What",
            "cannot be told is absent.",
            "",
            "Joules for one answer over a while: the increase of it over that of `nearhall_requests_total`, or at a glance",
            "`nearhall_energy_joules_per_request`. [How they are reckoned](../pilot-json.md#joules-of-a-request).",
            "",
        ]
    )


# ---- the rooms ------------------------------------------------------------------------------------------------

ROOMS = ("core", "physics", "policy", "wire", "documents", "ports")
"""What others may build on; the rest is programs."""


def room_pages() -> dict[str, str]:
    """A page for each room that others may build on, from docstrings."""
    pages: dict[str, str] = {}
    for room in ROOMS:
        files = sorted((SOURCE / room).glob("*.py"))
        rule = ast.get_docstring(ast.parse((SOURCE / room / "__init__.py").read_text())) or ""
        out = [f"# nearhall.{room}", "", rule, ""]
        for file in files:
            if file.stem != "__init__":
                out += [f"## {file.stem}", "", f"::: nearhall.{room}.{file.stem}", ""]
        pages[f"api-{room}.md"] = "\n".join(out)
    return pages


PAGES = frozenset(
    {
        *("commands.md", "settings.md", "documents.md", "headers.md", "reasons.md", "metrics.md"),
        *(f"api-{room}.md" for room in ROOMS),
    }
)
"""What is written; other pages may link to these."""


def pages() -> dict[str, str]:
    """Every generated page by its file's name."""
    return {
        "commands.md": commands_page(),
        "settings.md": _fields_page(
            "Settings of the programs",
            "`nearhall up` and the commands write these JSON objects; nobody has to. Each program is started as "
            "`python -m nearhall.cli.roots.NAME SETTINGS.json` and refuses a key that it does not know.",
            SETTINGS,
        ),
        "documents.md": _fields_page(
            "Documents",
            "What people write, and what programs write beside it. An unknown key is refused with the nearest known name. "
            "A *number in kW* takes any form: "
            "a number, `{p50: .., p90: ..}`, `{dist: ..}`, `{ref: ..}`, each with its `source`, `date` and `kind`.",
            DOCUMENTS,
        ),
        "headers.md": headers_page(),
        "reasons.md": reasons_page(),
        "metrics.md": metrics_page(),
        **room_pages(),
    }


def main() -> None:
    """Writes what changed, so that a docs server does not rebuild for nothing."""
    REFERENCE.mkdir(exist_ok=True)
    written = pages()
    for name, text in written.items():
        file = REFERENCE / name
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
    for old in REFERENCE.glob("*.md"):
        if old.name not in written:
            old.unlink()
    sys.stdout.write(json.dumps({"pages": len(written)}) + "\n")


if __name__ == "__main__":
    main()
