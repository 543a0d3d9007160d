"""Reads what people write: YAML or JSON into a checked document, or one message with every mistake, its place and its mend."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from nearhall.core.errors import InputError
from nearhall.documents.addresses import GRPC_PATTERN, HTTP_PATTERN

DOCUMENT_BYTES_MAX = 4 * 1024 * 1024
"""A site.yaml is a few kilobytes, a fleet's plan some hundred; beyond this it is another kind of file."""
MISTAKES_SHOWN_MAX = 20
NODES_MAX, DEPTH_MAX = 1_000_000, 40
"""What a document may hold with its aliases written out, and how deep: a file of 4 MB has no more values than that, if nobody
multiplies them with aliases."""


class _Loader(yaml.SafeLoader):
    """Plain words as YAML 1.2 reads them: NO is Norway, 8e9 a number, 12:30 no count of seconds; dates stay dates."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # pyright: ignore[reportIncompatibleVariableOverride]


for _tag, _form, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9_]*)|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.0123456789")),
    ("timestamp", r"[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ][0-9:.]+ *(Z|[-+][0-9:]+)?)?", list("0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_form})$"), _first)  # pyright: ignore[reportUnknownMemberType]

Document = TypeVar("Document", bound=BaseModel)
Path_ = tuple[str | int, ...]
Across = Callable[[Mapping[str, Any]], Iterable[tuple[Path_, str]]]
"""What a document's parts say wrong of each other: (path, what and what would be right), of the document as it is written."""


def read_document(path: Path, model: type[Document], *, across: Across | None = None) -> Document:
    """The document in `path`; raises InputError that names every mistake with file, line, path in the document and mend."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(path), right="name a file that exists") from error
    return parse_document(data, model, name=str(path), across=across)


def parse_document(data: bytes, model: type[Document], *, name: str, across: Across | None = None) -> Document:
    """The same for bytes; `name` stands in messages."""
    if len(data) > DOCUMENT_BYTES_MAX:
        raise InputError(f"is {len(data)} bytes long", where=name, right=f"at most {DOCUMENT_BYTES_MAX} bytes")
    lines: dict[Path_, int] = {}
    try:
        loader = _Loader(data.decode())
        node = loader.get_single_node()
        if node is not None:
            _written_out(node, name, {}, [])
        value = _value(loader, node, (), lines, name) if node is not None else None
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text", where=name, right="write YAML or JSON in UTF-8") from error
    except RecursionError as error:
        raise _too_deep(name) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{name}:{mark.line + 1}" if mark is not None else name
        raise InputError(
            f"is not valid YAML ({error.problem})", where=place, right="mind indentation, colons and quotes"
        ) from error
    except yaml.YAMLError as error:
        raise InputError(
            "is not valid YAML (it holds characters that no text has)", where=name, right="write plain text"
        ) from error
    if not isinstance(value, dict):
        raise InputError("is not a mapping of keys to values", where=name, right=f"start with `schema: {_schema_of(model)}`")
    written: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
    crossed = [_told(path, text, lines, name) for path, text in across(written)] if across is not None else []
    try:
        document = model.model_validate(value)
    except ValidationError as error:
        raise _all_mistakes(error, crossed, model, lines, name) from error
    if crossed:
        raise _shortened(crossed, name)
    return document


def dump_document(document: BaseModel) -> bytes:
    """The document as YAML, keys in the order of the model, defaults written out."""
    plain = document.model_dump(mode="json", by_alias=True)
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120).encode()


def _too_deep(where: str) -> InputError:
    return InputError("is nested too deep", where=where, right=f"at most {DEPTH_MAX} levels")


def _written_out(node: yaml.Node, name: str, known: dict[int, int], above: list[int]) -> int:
    """How many values the node holds with aliases written out; raises InputError where they are too many, too deep or endless."""
    where = f"{name}:{node.start_mark.line + 1}"
    if id(node) in above:
        raise InputError("holds itself by an alias", where=where, right="write the value out")
    if len(above) > DEPTH_MAX:
        raise _too_deep(where)
    if id(node) not in known:
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            parts = node.value
        elif isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_written_out(part, name, known, [*above, id(node)]) for part in parts)
    if known[id(node)] > NODES_MAX:
        raise InputError(
            f"holds more than {NODES_MAX} values", where=where, right="write fewer; an alias counts as what it stands for"
        )
    return known[id(node)]


def _value(loader: yaml.SafeLoader, node: yaml.Node, path: Path_, lines: dict[Path_, int], name: str) -> Any:
    """The node's value; remembers the line of every path and refuses a key given twice."""
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, item, (*path, index), lines, name) for index, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        try:
            return loader.construct_object(node, deep=True)  # pyright: ignore[reportUnknownMemberType]
        except ValueError as error:
            right = "write a day that there is, or put it in quotes"
            raise InputError(f"{_dotted(path)}: {error}", where=f"{name}:{lines[path]}", right=right) from error
    found: dict[Any, Any] = {}
    loader.flatten_mapping(node)
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)  # pyright: ignore[reportUnknownMemberType]
        where = f"{name}:{key_node.start_mark.line + 1}"
        if not isinstance(key, str | int | float | bool):
            raise InputError("a key is not plain text", where=where, right="write keys as words or numbers")
        key = key if isinstance(key, str) else str(key_node.value)
        if key in found:
            raise InputError(f"{_dotted((*path, key))} is given twice", where=where, right="keep one of the two")
        found[key] = _value(loader, value_node, (*path, key), lines, name)
        lines[*path, key] = key_node.start_mark.line + 1
    return found


def _all_mistakes(
    error: ValidationError, crossed: list[str], model: type[BaseModel], lines: Mapping[Path_, int], name: str
) -> InputError:
    return _shortened([_mistake(detail, model, lines, name) for detail in error.errors(include_url=False)] + crossed, name)


def _shortened(told: list[str], name: str) -> InputError:
    shown = told[:MISTAKES_SHOWN_MAX]
    if len(told) > MISTAKES_SHOWN_MAX:
        shown.append(f"{name}: and {len(told) - MISTAKES_SHOWN_MAX} more")
    return InputError("\n       ".join(shown))


def _told(path: Path_, text: str, lines: Mapping[Path_, int], name: str) -> str:
    line = _line(lines, path)
    return f"{name}:{line}: {_dotted(path)}: {text}" if line else f"{name}: {_dotted(path)}: {text}"


def _mistake(detail: Any, model: type[BaseModel], lines: Mapping[Path_, int], name: str) -> str:
    path: Path_ = tuple(part for part in detail["loc"] if not str(part).startswith("function-"))
    line = _line(lines, path)
    where = f"{name}:{line}" if line else name
    if detail["type"] == "extra_forbidden":
        known = _keys_at(model, path[:-1])
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        right = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return f"{where}: {_dotted(path)} is not known; {right}"
    if detail["type"] == "missing":
        return f"{where}: {_dotted(path)} is missing; add it"
    given = detail.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    message = _said(detail, given)
    return f"{where}: {_dotted(path) or 'the document'}: {message[0].lower()}{message[1:]}{shown}"


PATTERNS: dict[str, str] = {
    "^[a-z0-9][a-z0-9-]{0,30}$": "lower case letters, digits and dashes, at most 31",
    "^[A-Za-z0-9][A-Za-z0-9-]{0,30}$": "letters, digits and dashes, at most 31",
    HTTP_PATTERN: "[HOST:]PORT, such as 8080 or 0.0.0.0:8080",
    GRPC_PATTERN: "[HOST:]PORT, such as 8001 or 0.0.0.0:8001, or unix:PATH",
    "^[A-Z]{2}(-[A-Z0-9]{1,3})?$": "a country's two capital letters, or with its region, such as DE or US-CA",
    r"^0?[0-7]{3}$": 'three octal digits in quotes, such as "0660"',
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$": "letters, digits, dots, dashes and underscores, at most 64; no dot first",
    r"^\S{1,128}$": "at most 128 characters without spaces, such as shop-01/n1",
    r"^https?://\S+$": "an address such as https://hub.example:8443",
    r"^https://\S+$": "an address such as https://hub.example:8443",
    r"^https://": "an address such as https://hub.example:8443",
    r"^(https?://\S+:\d{1,5}/?|unix:\S.*)$": "http://HOST:PORT, https://HOST:PORT or unix:PATH",
    r"^\S+:\d{1,5}$": "HOST:PORT",
    r"^modbus://": "modbus://HOST:PORT/UNIT",
    r"^[0-9a-f]{64}$": "the 64 hexadecimal digits that sha256sum prints",
    r"^(cpu|cuda:.+|elsewhere)$": "cpu, cuda:N or elsewhere",
    r"^[a-z0-9][a-z0-9-]*$": "lower case letters, digits and dashes",
    r"^[a-z0-9][a-z0-9.-]*$": "lower case letters, digits, dots and dashes",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "the name of a variable: letters, digits and underscores",
    r'^[^"\\$/]*$': "text without quotation marks, backslashes, dollar signs and slashes",
    r"\.csv$": "the name of a .csv file",
}
"""What names are made of, in words, by the expression that they must match."""


def _said(detail: Any, given: Any) -> str:
    """What is wrong and what would be right, in plain words for the mistakes that people make most."""
    about: Mapping[str, Any] = detail.get("ctx", {})
    match detail["type"]:
        case "string_pattern_mismatch":
            return f"wants {PATTERNS.get(about['pattern'], about['pattern'])}"
        case "too_short":
            return f"holds {about['actual_length']}; wants at least {about['min_length']}"
        case "too_long":
            return f"holds {about['actual_length']}; wants at most {about['max_length']}"
        case "list_type":
            one = f"; write [{given}] for one" if isinstance(given, str | int | float) else ""
            return f"wants a list{one}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "wants keys with values, such as {key: value}"
        case "float_parsing" | "int_parsing" | "int_from_float":
            return f"wants a {'whole ' if detail['type'].startswith('int') else ''}number without a unit"
        case "literal_error" | "enum":
            known = re.findall(r"'([^']+)'", str(about["expected"]))
            near = difflib.get_close_matches(str(given), known, n=1) if len(known) > 1 else []
            return f"wants {about['expected']}" + (f"; did you mean {near[0]!r}?" if near else "")
        case _:
            return str(detail["msg"]).removeprefix("Value error, ")


def _line(lines: Mapping[Path_, int], path: Path_) -> int | None:
    """The line of the path, or of the nearest thing above it that stands in the file."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path)


def _dotted(path: Sequence[str | int]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text


def _keys_at(model: type[BaseModel], path: Path_) -> list[str]:
    """The keys that the model knows at a path; empty where the path leaves the models."""
    at: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int) or at is None:
            continue
        field = next((f for n, f in at.model_fields.items() if part in {n, f.alias}), None)
        at = _model_in(field.annotation) if field is not None else _model_in(at)
    return [] if at is None else [_key(n, f) for n, f in at.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The first document model within an annotation such as `list[Model] | None` or `dict[str, Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _model_in(argument)
        if found is not None:
            return found
    return None


def _key(name: str, field: FieldInfo) -> str:
    return field.alias or name


def _schema_of(model: type[BaseModel]) -> str:
    for name, field in model.model_fields.items():
        if _key(name, field) == "schema":
            return str(field.default if isinstance(field.default, str) else get_args(field.annotation)[0])
    return "..."
