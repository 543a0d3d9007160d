"""The parsers under Atheris, which is guided by the lines that a request reaches: run by `bench/fuzz.py --guided`.

The first byte of an input says which parser, the next two where the JSON of a binary request ends.
"""

import sys

import atheris

with atheris.instrument_imports(include=["nearhall"]):
    from dataclasses import replace

    from nearhall.cli.roots.bench import mutations
    from nearhall.core.errors import Refusal
    from nearhall.wire.oip import decode_request, encode_response
    from nearhall.wire.openai import decode_chat
    from nearhall.wire.openai_params import TokensMax
    from nearhall.wire.refusal import STATUS


def one(data: bytes) -> None:
    """A refusal for the client's fault passes; whatever else is raised is what is looked for."""
    kind, length, body = data[:1], int.from_bytes(data[1:3], "little"), data[3:]
    try:
        if kind == b"c":
            decode_chat(body, tokens_max=TokensMax(own=1024))
        else:
            request = decode_request(body, length if kind == b"b" else None)
            outputs = [replace(tensor, name="y") for tensor in request.inputs]
            encode_response(model="m", version="1", request=request, outputs=outputs)
    except Refusal as refusal:
        if STATUS[refusal.reason] >= 500:
            raise


def seeds(folder: str) -> None:
    """The valid requests, as a corpus to begin with."""
    for kind, corpus in ((b"j", mutations.V2_JSON), (b"b", mutations.V2_BINARY), (b"c", mutations.CHAT)):
        for index, request in enumerate(corpus):
            head = b"".join(request.tokens)
            with open(f"{folder}/{kind.decode()}{index}", "wb") as file:
                file.write(kind + len(head).to_bytes(2, "little") + head + request.tail)


if __name__ == "__main__":
    seeds(sys.argv[-1])
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
