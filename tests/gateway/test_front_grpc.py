"""gRPC through the front: calls go the way of HTTP requests, and Triton's client finds one server for several nodes."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from contextlib import ExitStack

import grpc
import numpy as np
import pytest

from gateway.front_rig import ScriptedNode, front_of, model, until_standing
from gateway.gateway_process import gateway
from gateway.small_models import add_model
from gateway.test_front import story, timed, two
from gateway.test_front_process import COMMAND, command, one_line, root
from gateway.test_grpc import SERVICE
from gateway.test_grpc_calls import Context, answered, message, refused
from nearhall.core.errors import InputError
from nearhall.drivers.authority import issue, make_authority
from nearhall.gateway.grpc import open_inference_pb2 as pb
from nearhall.gateway.grpc.calls import Calls
from nearhall.gateway.nodes.calls import FrontCalls, FrontTold
from nearhall.gateway.nodes.settings import FrontLimits, FrontSettings, NodeAt, check_front
from nearhall.policy.storm import IMPATIENT_S, OVER_BUDGET_S, Budget
from nearhall.wire.oip import decode_request
from waiting import until, until_async

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def calls_of(rig):
    for node in rig.nodes.values():
        node.does = "doubles"
    return Calls(FrontCalls(rig.relay, name=b"s/front"))


def asked(**more):
    return message(model="m", **more)


@story
async def test_calls_are_spread_as_requests_are_and_say_who_answered():
    async with front_of(*two(model())) as rig:
        calls, served = calls_of(rig), Counter()
        for _ in range(20):
            context = Context()
            values, found = await answered(calls, asked(), context)
            assert values == [2.0, 4.0, 6.0, 8.0]
            assert (found.model_name, found.model_version, found.id) == ("m", "1", "9")
            served[context.trailing["x-nearhall-served-by"]] += 1
        assert served == {"s/n1": 10, "s/n2": 10}
        assert context.trailing["x-nearhall-reason"] == "local_first"
        assert rig.relay.stats.latency.n == 20
        assert rig.relay.stats.in_flight == 0


@story
async def test_a_node_is_asked_in_binary_rest_with_all_that_the_caller_said():
    async with front_of(ScriptedNode("n1", model())) as rig:
        calls = calls_of(rig)
        said = [
            ("x-nearhall-residency", "site"),
            ("x-nearhall-workload", "cams"),
            ("x-nearhall-peer", "forged"),
            ("x-nearhall-front", "9"),
            ("authorization", "secret"),
        ]
        await answered(calls, asked(version="1", priority=3, timeout=5_000_000), Context(said, left_s=0.5))
        (got,) = rig.nodes["n1"].got
        assert (got.method, got.path) == ("POST", "/v2/models/m/versions/1/infer")
        given = {name: got.headers.get(f"x-nearhall-{name}") for name in ("residency", "workload", "priority", "front", "peer")}
        assert given == {"residency": "site", "workload": "cams", "priority": "2", "front": "1", "peer": None}
        assert "authorization" not in got.headers
        assert 400 < float(got.headers["x-nearhall-deadline-ms"]) < 500
        request = decode_request(got.body, int(got.headers["inference-header-content-length"]))
        assert request.inputs[0].data.cast("f").tolist() == [1.0, 2.0, 3.0, 4.0]
        await answered(calls, asked(priority=3), Context([("x-nearhall-priority", "7")]))
        assert rig.nodes["n1"].got[-1].headers["x-nearhall-priority"] == "7", "our header comes first, as at a node"
        assert "x-nearhall-deadline-ms" not in rig.nodes["n1"].got[-1].headers, "the front's own limit is not the client's"


@pytest.mark.parametrize(
    ("header", "timeout", "left_s"), [("300", 9_000_000, 9.0), ("9000", 300_000, 9.0), ("9000", 9_000_000, 0.3)]
)
def test_the_earliest_deadline_goes_on(header, timeout, left_s):
    async def tell():
        async with front_of(ScriptedNode("n1", model())) as rig:
            await answered(calls_of(rig), asked(timeout=timeout), Context([("x-nearhall-deadline-ms", header)], left_s=left_s))
            assert 200 < float(rig.nodes["n1"].got[0].headers["x-nearhall-deadline-ms"]) < 300

    asyncio.run(tell())


@story
async def test_what_is_wrong_is_told_as_a_node_tells_it():
    async with front_of(*two(model())) as rig:
        calls = calls_of(rig)
        cases = {
            grpc.StatusCode.NOT_FOUND: ("model_unknown", message(model="none"), Context()),
            grpc.StatusCode.UNIMPLEMENTED: ("unsupported", asked(sequence_id=1), Context()),
            grpc.StatusCode.INVALID_ARGUMENT: ("bad_request", b"\xff", Context()),
            grpc.StatusCode.DEADLINE_EXCEEDED: ("deadline", asked(), Context(left_s=1e-6)),
        }
        for code, (reason, data, context) in cases.items():
            assert (await refused(calls, data, context))[:2] == (code, reason)
            assert context.trailing["x-nearhall-served-by"] == "s/front"
        bad = Context([("x-nearhall-priority", "x")])
        assert (await refused(calls, asked(), bad))[0] is grpc.StatusCode.INVALID_ARGUMENT
        assert (await refused(calls, asked(version="2"), Context()))[0] is grpc.StatusCode.NOT_FOUND
        assert not rig.nodes["n1"].got, "no node has seen any of it"
        assert rig.relay.stats.refused == {"model_unknown": 2, "unsupported": 1, "bad_request": 2, "deadline": 1}
        rig.relay.draining = True
        assert (await refused(calls, asked(), Context()))[:2] == (grpc.StatusCode.UNAVAILABLE, "draining")


@story
async def test_a_nodes_refusal_is_the_last_word_only_where_no_other_can_make_it():
    async with front_of(*two(model())) as rig:
        calls = calls_of(rig)
        rig.nodes["n1"].does = "refuses"
        for _ in range(4):
            await answered(calls, asked(), context := Context())
            assert context.trailing["x-nearhall-served-by"] == "s/n2"
        rig.nodes["n2"].does = "refuses"
        code, reason, says = await refused(calls, asked(), context := Context())
        assert (code, reason, says) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "queue_full", "no")
        assert context.trailing["x-nearhall-served-by"] in {"s/n1", "s/n2"}
        assert rig.relay.stats.refused == {}, "it is the node's, and counted there"


@story
async def test_a_frozen_node_is_left_within_the_deadline_and_alone_it_is_told():
    async with front_of(*two(model())) as rig:
        calls = calls_of(rig)
        for _ in rig.nodes:
            await answered(calls, asked(), Context())
        rig.nodes["n1"].frozen.clear()
        for _ in range(4):
            await answered(calls, asked(), context := Context(left_s=1.0))
            assert context.trailing["x-nearhall-served-by"] == "s/n2"
        rig.nodes["n2"].frozen.clear()
        told, took_ms = await timed(refused(calls, asked(), Context(left_s=0.1)))
        assert told[:2] == (grpc.StatusCode.DEADLINE_EXCEEDED, "deadline")
        assert took_ms < 200
        for name in rig.nodes:
            await until_standing(rig, name, "away")
        assert (await refused(calls, asked(), Context()))[:2] == (grpc.StatusCode.UNAVAILABLE, "nodes_away")


@story
async def test_a_lost_node_is_left_at_once():
    async with front_of(*two(model())) as rig:
        calls = calls_of(rig)
        rig.nodes["n1"].does = "drops"
        for _ in range(4):
            await answered(calls, asked(), context := Context())
            assert context.trailing["x-nearhall-served-by"] == "s/n2"


@story
async def test_a_call_that_is_given_up_is_given_up_at_its_node():
    async with front_of(ScriptedNode("n1", model())) as rig:
        calls = calls_of(rig)
        node = rig.nodes["n1"]
        node.does = "holds"
        cancelled = asyncio.create_task(calls.infer(asked(), Context()))
        late = asyncio.create_task(calls.infer(asked(), passed := Context(left_s=60.0)))
        await until_async(lambda: len(node.got) == 2, what="both are at the node")
        passed._left_s = 0.0  # gRPC ends a call at its deadline as it does one that was cancelled
        for task in (cancelled, late):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await until_async(lambda: node.gone == 2, what="the node has seen that nobody waits")
        assert (rig.relay.stats.cancelled, rig.relay.stats.refused) == (1, {"deadline": 1})
        assert rig.node("n1").in_flight == 0


@story
async def test_an_answer_that_breaks_off_or_cannot_be_read_is_a_fault():
    async with front_of(ScriptedNode("n1", model())) as rig:
        calls = calls_of(rig)
        node = rig.nodes["n1"]
        node.does = "answers"  # its name, which is no answer to an inference
        code, reason, says = await refused(calls, asked(), Context())
        assert (code, reason) == (grpc.StatusCode.INTERNAL, "runtime_failed")
        assert "cannot be read" in says
        node.does = "breaks"
        for piece in (b"a", b"b"):
            node.pieces.put_nowait(piece)
        assert (await refused(calls, asked(), Context()))[:2] == (grpc.StatusCode.INTERNAL, "runtime_failed")
        node.does = "doubles"
        await answered(calls, asked(), Context())


@story
async def test_in_a_storm_a_caller_that_comes_back_at_once_waits():
    async with front_of(ScriptedNode("n1", model())) as rig:
        calls = calls_of(rig)
        rig.nodes["n1"].does = "refuses"

        async def waited_s(peer, **more):
            _, took_ms = await timed(refused(calls, asked(), Context(peer=peer, **more)))
            return took_ms / 1e3

        assert min([await waited_s("a") for _ in range(4)]) < OVER_BUDGET_S
        rig.relay._budget = Budget(tokens=-1e12, at_s=0.0)
        assert max([await waited_s("a") for _ in range(4)]) >= IMPATIENT_S
        assert OVER_BUDGET_S <= min([await waited_s(peer) for peer in "bcde"]) < IMPATIENT_S
        assert min([await waited_s("b", left_s=0.02) for _ in range(4)]) < IMPATIENT_S, "not past its deadline"


@story
async def test_what_calls_hold_together_is_bounded():
    async with front_of(ScriptedNode("n1", model()), limits=FrontLimits(held_mib=0.001)) as rig:
        calls = calls_of(rig)
        large = asked(values=[1.0] * 200)
        assert (await refused(calls, large, Context()))[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "queue_full")
        await answered(calls, asked(), Context())


@story
async def test_readiness_is_that_of_any_node():
    async with front_of(*two(model(), second=[model(ready=False, state="loading"), model("other", ready=False)])) as rig:
        told = FrontTold(rig.relay)
        assert (await told.ready(pb.ServerReadyRequest())).ready
        assert (await told.model_ready(pb.ModelReadyRequest(name="m", version="1"))).ready
        for name, version in (("other", ""), ("nothing", ""), ("m", "9")):
            assert not (await told.model_ready(pb.ModelReadyRequest(name=name, version=version))).ready
        index = await told.index(pb.RepositoryIndexRequest())
        assert [(row.name, row.state) for row in index.models] == [("m", "READY"), ("other", "UNAVAILABLE")]
        assert [row.name for row in (await told.index(pb.RepositoryIndexRequest(ready=True))).models] == ["m"]
        rig.relay.draining = True
        assert not (await told.ready(pb.ServerReadyRequest())).ready


@pytest.mark.parametrize("body", [b"[1]", b'{"name": 7}', b"\xff", b'{"inputs": 3}'])
def test_what_a_node_says_and_nobody_can_read_is_told(body):
    async def tell():
        async with front_of(ScriptedNode("n1", model())) as rig:
            rig.nodes["n1"].says = body
            service = FrontTold(rig.relay)
            with pytest.raises(Exception, match="cannot be read"):
                await service.model(pb.ModelMetadataRequest(name="m"))

    asyncio.run(tell())


def test_an_address_that_is_none_is_refused():
    right = FrontSettings(port=0, grpc="unix:g", nodes=[NodeAt(id="n1", url="http://a:1")])
    check_front(right, where="c")
    with pytest.raises(InputError, match="c: grpc: 'x' is no address"):
        check_front(FrontSettings(port=0, grpc="x", nodes=right.nodes), where="c")


# ---- Triton's client, unmodified ----------------------------------------------------------------------------------------


@pytest.fixture
def models(tmp_path):
    add_model(tmp_path / "models", "double", doubled=True)
    return tmp_path / "models"


@pytest.fixture
def triton():
    return pytest.importorskip("tritonclient.grpc")


@pytest.fixture
def failure():
    return pytest.importorskip("tritonclient.utils").InferenceServerException


VALUES = np.arange(8, dtype=np.float32).reshape(2, 4)


def infer(triton, client, name="double", **more):
    given = triton.InferInput("x", VALUES.shape, "FP32")
    given.set_data_from_numpy(VALUES)
    return client.infer(name, [given], **more).as_numpy("y")


def test_a_client_finds_one_server_through_a_freeze_and_a_death(short_folder, models, triton, failure):
    with ExitStack() as stack:
        nodes = []
        for name in ("n1", "n2"):
            (short_folder / name).mkdir()
            nodes.append(stack.enter_context(gateway(short_folder / name, models, node=f"s/{name}", port=0, control_socket=None)))
        options = [f"--node=n{i + 1}=http://{node.address}" for i, node in enumerate(nodes)]
        said, _ = stack.enter_context(command(short_folder, *options, "--http", "0", "--grpc", "0"))
        client = stack.enter_context(triton.InferenceServerClient(json.loads(said)["grpc"]))

        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("double")
        assert not client.is_model_ready("nothing")
        extensions = list(client.get_server_metadata().extensions)
        assert extensions == ["binary_tensor_data", "model_configuration", "schedule_policy"]
        (given,) = client.get_model_metadata("double", "1").inputs
        assert (given.name, given.datatype, list(given.shape)) == ("x", "FP32", [-1, 4])
        assert client.get_model_config("double").config.backend == "onnxruntime"
        (row,) = client.get_model_repository_index().models
        assert (row.name, row.state, row.reason) == ("double", "READY", "ready at n1, n2, of n1, n2")
        more = {"request_id": "7", "priority": 1, "timeout": 5_000_000, "client_timeout": 5.0, "compression_algorithm": "gzip"}
        for _ in range(6):
            assert (infer(triton, client, **more) == 2 * VALUES).all()
        for says, ask in {
            "NOT_FOUND.*'none'": lambda: infer(triton, client, "none"),
            "NOT_FOUND.*'nothing'": lambda: client.get_model_metadata("nothing"),
            "NOT_FOUND.*version|NOT_FOUND.*'double'": lambda: client.get_model_config("double", "9"),
            "UNIMPLEMENTED.*each node's own": client.get_inference_statistics,
            "UNIMPLEMENTED.*at their node": lambda: client.load_model("double"),
            "UNIMPLEMENTED.*at their node ": lambda: client.unload_model("double"),
        }.items():
            with pytest.raises(failure, match=says.strip()):
                ask()

        nodes[0].process.send_signal(signal.SIGSTOP)
        for _ in range(20):
            assert (infer(triton, client, client_timeout=0.5) == 2 * VALUES).all()
        nodes[0].kill()
        for _ in range(20):
            assert (infer(triton, client, client_timeout=0.5) == 2 * VALUES).all()
        nodes[1].process.send_signal(signal.SIGSTOP)
        with pytest.raises(failure, match="DEADLINE_EXCEEDED"):
            infer(triton, client, timeout=100_000)
        until(lambda: not client.is_server_ready(), what="no node answers")
        with pytest.raises(failure, match=r"UNAVAILABLE.*away"):
            infer(triton, client, client_timeout=5.0)
        nodes[1].process.send_signal(signal.SIGCONT)
        until(client.is_server_ready, what="a node is back")
        assert (infer(triton, client, client_timeout=5.0) == 2 * VALUES).all()


def test_on_a_unix_socket_and_over_mutual_tls(short_folder, models, triton):
    authority = make_authority(short_folder / "ca")
    server = issue(authority, "n1", short_folder / "n1", kind="hub", dns_names=[], ip_addresses=["127.0.0.1"])
    files = {"ca": str(server.ca), "cert": str(server.cert), "key": str(server.key)}
    with gateway(short_folder, models, node="s/n1") as running:
        nodes = [{"id": "n1", "url": f"http://{running.address}"}]
        with root(short_folder, nodes=nodes, grpc=f"unix:{short_folder}/g") as ready:
            assert "grpc_port" not in json.dumps(ready) or ready["grpc_port"] is None
            with triton.InferenceServerClient(f"unix:{short_folder}/g") as client:
                assert (infer(triton, client) == 2 * VALUES).all()
        assert not (short_folder / "g").exists()
        with root(short_folder, nodes=nodes, grpc="127.0.0.1:0", tls=files) as ready:
            where = f"127.0.0.1:{ready['grpc_port']}"
            own = {"root_certificates": files["ca"], "private_key": files["key"], "certificate_chain": files["cert"]}
            with triton.InferenceServerClient(where, ssl=True, **own) as client:
                assert (infer(triton, client) == 2 * VALUES).all()
            with grpc.insecure_channel(where) as stranger, pytest.raises(grpc.RpcError):
                stranger.unary_unary(f"{SERVICE}ServerLive")(b"", timeout=5)


def test_a_document_names_its_grpc_address_and_a_person_is_told(short_folder, free_port):
    document = {"schema": "nearhall/front/v1", "http": 0, "grpc": "unix:g", "nodes": [{"id": "n1", "url": "http://127.0.0.1:1"}]}
    (short_folder / "front.yaml").write_text(json.dumps(document))
    with command(short_folder, "--config", str(short_folder / "front.yaml"), as_json=False) as (_, process):
        assert f"gRPC at unix:{short_folder}/g" in process.stdout.readline()
    port = free_port()
    with command(short_folder, "--config", str(short_folder / "front.yaml"), "--grpc", str(port)) as (said, _):
        assert json.loads(said)["grpc"] == f"127.0.0.1:{port}", "the option comes first"


def test_what_is_wrong_with_the_address_is_one_line(short_folder):
    for says, wrong in {
        "--grpc: 'x' is no address": "x",
        "--grpc: '70000' is no address": "70000",
        "grpc: /none/g cannot be made (there is no folder /none); make it, or name a path in a folder of yours": "unix:/none/g",
    }.items():
        one_line(says, [*COMMAND, "--http", "0", "--node", "n1=http://127.0.0.1:1", "--grpc", wrong])
