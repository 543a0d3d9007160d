"""Requests written by hand are what servers take, and what others' libraries read."""

from __future__ import annotations

import json
import os
import socket
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from nearhall.cli.roots.bench import built_in
from nearhall.cli.roots.bench.load import ask, whole_answer
from nearhall.cli.roots.bench.machine import Tree, available_cores, cpu_times, listener_of, on_cores, split_cores, waited_s
from nearhall.cli.roots.bench.protobuf import chunk, fields, number, packed, varint
from nearhall.cli.roots.bench.requests import binary_request, grpc_outputs, grpc_request, http_outputs, json_request
from nearhall.cli.roots.bench.servers import Limit, parse_against
from nearhall.core.errors import InputError, PermanentError, TemporaryError
from nearhall.wire.oip import decode_request

VALUES = built_in.example((1, 4))


def body_of(request: bytes) -> tuple[bytes, int | None]:
    head, _, body = request.partition(b"\r\n\r\n")
    length = dict(line.split(": ", 1) for line in head.decode().splitlines()[1:]).get("inference-header-content-length")
    return body, None if length is None else int(length)


@pytest.mark.parametrize("form", ["binary", "json"])
def test_a_request_is_one_of_the_protocol(form: str):
    request = binary_request("m", {"x": VALUES}, ["y"]) if form == "binary" else json_request("m", {"x": VALUES})
    assert request.startswith(b"POST /v2/models/m/infer HTTP/1.1\r\n")
    tensor = decode_request(*body_of(request)).inputs[0]
    assert tensor.shape == (1, 4)
    assert np.allclose(np.frombuffer(tensor.data, np.float32), VALUES.ravel())


def test_json_has_the_digits_that_clients_send():
    body, _ = body_of(json_request("conv", {"x": built_in.example(built_in.SHAPES[built_in.CONV])}))
    assert 200_000 < len(body) < 260_000


def test_grpc_is_what_another_library_reads():
    request = service_pb2.ModelInferRequest.FromString(grpc_request("m", {"x": VALUES}))
    assert (request.model_name, request.inputs[0].datatype, list(request.inputs[0].shape)) == ("m", "FP32", [1, 4])
    assert request.raw_input_contents[0] == VALUES.tobytes()


@pytest.mark.parametrize("raw", [True, False])
def test_grpc_answers_are_read_raw_and_typed(raw: bool):
    answer = service_pb2.ModelInferResponse(model_name="m")
    tensor = answer.outputs.add(name="y", datatype="FP32", shape=[1, 300])
    values = np.arange(300, dtype=np.float32)
    if raw:
        answer.raw_output_contents.append(values.tobytes())
    else:
        tensor.contents.fp32_contents.extend(values.tolist())
    found = grpc_outputs(answer.SerializeToString())
    assert found["y"].shape == (1, 300)
    assert np.array_equal(found["y"].ravel(), values)


def test_http_answers_are_read_in_both_forms_and_mixed():
    outputs = [
        {"name": "a", "datatype": "INT64", "shape": [2], "data": [1, 2]},
        {"name": "b", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}},
    ]
    head = json.dumps({"outputs": outputs}).encode()
    found = http_outputs(b"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: %d" % len(head), head + struct.pack("<2f", 1, 2))
    assert found["a"].tolist() == [1, 2]
    assert found["b"].tolist() == [[1.0, 2.0]]
    with pytest.raises(PermanentError, match="no inference response"):
        http_outputs(b"HTTP/1.1 200 OK", b'{"detail": "hello"}')


@given(st.integers(0, (1 << 64) - 1), st.binary(max_size=300), st.lists(st.integers(0, 1 << 40), max_size=9))
def test_fields_come_back(value: int, data: bytes, numbers: list[int]):
    message = number(1, value) + chunk(2, data) + packed(3, numbers)
    assert list(fields(message)) == [(1, value), (2, data), (3, b"".join(map(varint, numbers)))]


@pytest.mark.parametrize("message", [b"\x0a\x05ab", b"\x08", b"\x08" + b"\xff" * 11, b"\x0b"])
def test_bytes_that_are_no_message_are_told(message: bytes):
    with pytest.raises(ValueError, match=r"."):
        list(fields(message))


ANSWERS = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200),
    "chunked": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n", 200),
    "refusal": (b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", 503),
    "none": (b"HTTP/1.1 204 Empty\r\nx: y\r\n\r\n", 204),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_whole_when_it_is(name: str):
    text, status = ANSWERS[name]
    assert whole_answer(text + b"HTTP/1.1") == (status, len(text))
    assert all(whole_answer(text[:cut]) is None for cut in range(len(text)))


def test_asking_gives_the_body_without_its_chunks():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(ANSWERS["chunked"][0])
        assert ask(ours, b"x")[::2] == (200, b"abc")
        theirs.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab")
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(TemporaryError, match="closed"):
            ask(ours, b"x")


def test_the_test_models_run(tmp_path):
    built_in.write_models(tmp_path)
    for name, shape in built_in.SHAPES.items():
        limit = Limit(tmp_path / name / "1" / "cpu" / "m.onnx")
        assert limit.inputs["x"].shape == shape
        (values,) = limit.outputs().values()
        assert np.isfinite(values).all()
        assert values.std() > 0
        taken = limit.slice(0.02)
        assert taken.n > 0
        assert taken.cpu_s is not None
    (tmp_path / "no.onnx").write_bytes(b"no model")
    with pytest.raises(PermanentError, match="cannot load"):
        Limit(tmp_path / "no.onnx")


@pytest.mark.parametrize("text", ["http://a:1", "x=ftp://a:1", "x=http://a", "x=http://:1", "=http://a:1", "x=http://a:99999"])
def test_another_server_has_a_name_and_an_address(text: str):
    with pytest.raises(InputError, match="--against"):
        parse_against(text)


def test_another_server_may_name_its_model():
    found = parse_against("triton=grpc://127.0.0.1:8001/conv")
    assert (found.name, found.scheme, found.host, found.port, found.model) == ("triton", "grpc", "127.0.0.1", 8001, "conv")
    assert parse_against("t=http://h:1").model == ""


def test_client_and_server_get_cores_of_their_own():
    assert split_cores({3, 1, 2}).client == {1}
    assert split_cores({3, 1, 2}).server == {2, 3}
    assert split_cores({3, 1, 2}).disjoint
    assert not split_cores({1}).disjoint
    assert not split_cores({1, 2}, pinned=False).disjoint


def test_this_process_is_seen(free_port):
    tree = Tree(os.getpid())
    assert tree.cpu_s() > 0
    assert tree.pss_mib() > 1
    assert Tree(2**22 + 1).pids() == []
    assert cpu_times().stolen_since(cpu_times()) >= 0.0
    assert waited_s() >= 0.0
    with on_cores(available_cores()):
        assert available_cores()
    port = free_port()
    assert listener_of("127.0.0.1", port) is None
    with socket.create_server(("127.0.0.1", port)):
        assert listener_of("127.0.0.1", port) == os.getpid()
