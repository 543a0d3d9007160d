"""Triton's gRPC client, unmodified, against a real gateway; and what a client may do wrong on the wire."""

from __future__ import annotations

import json
import random
import socket
import stat
import threading

import grpc
import httpcore
import numpy as np
import pytest
from msgspec.structs import replace

from gateway.gateway_process import gateway
from gateway.small_models import add_model, add_worker
from gateway.test_conformance import NAMES, VALUES
from gateway.test_gateway_process import run_root
from nearhall.cli.roots.listening import hold, number_of, remove_socket, socket_at
from nearhall.core.errors import InputError
from nearhall.drivers.authority import issue, make_authority
from nearhall.gateway.grpc import open_inference_pb2 as pb
from nearhall.gateway.settings import Settings, Uds, check_settings
from waiting import until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

SERVICE = "/inference.GRPCInferenceService/"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway")
    for name, dtype in NAMES.items():
        add_model(folder / "models", name, dtype)
    add_model(folder / "models", "double", doubled=True)
    add_worker(folder / "models", "worker")
    (folder / "models" / "torn").mkdir()
    (folder / "models" / "torn" / "model.yaml").write_text("schema: nearhall/model/v1\nnam: torn\n")
    more = {"grpc": "127.0.0.1:0", "uds": {"path": str(folder / "uds")}, "limits": {"body_mib": 2.0}}
    with gateway(folder, folder / "models", **more) as running:
        yield running


@pytest.fixture
def triton(served):
    module = pytest.importorskip("tritonclient.grpc")
    with module.InferenceServerClient(f"127.0.0.1:{served.ready['grpc_port']}") as client:
        yield module, client


@pytest.fixture
def failure():
    return pytest.importorskip("tritonclient.utils").InferenceServerException


def tensor(module, values, dtype="FP32"):
    given = module.InferInput("x", values.shape, dtype)
    given.set_data_from_numpy(values)
    return given


@pytest.mark.parametrize("model", VALUES)
@pytest.mark.parametrize("packed", [None, "gzip", "deflate"])
def test_every_type_goes_through_and_back(triton, model, packed):
    module, client = triton
    asked = [module.InferRequestedOutput("y")]
    result = client.infer(
        model, [tensor(module, VALUES[model], NAMES[model])], outputs=asked, request_id="r1", compression_algorithm=packed
    )
    found = result.as_numpy("y")
    assert found.dtype == VALUES[model].dtype or model == "texts"
    assert (found == VALUES[model]).all()
    response = result.get_response()
    assert (response.id, response.model_name, response.model_version) == ("r1", model, "1")


def test_all_outputs_by_default_versions_and_parameters(triton, failure):
    module, client = triton
    values = np.arange(8, dtype=np.float32).reshape(2, 4)
    asked = [tensor(module, values)]
    more = {"priority": 1, "timeout": 5_000_000, "headers": {"x-nearhall-deadline-ms": "5000"}, "client_timeout": 5.0}
    assert (client.infer("double", asked, model_version="1", **more).as_numpy("y") == 2 * values).all()
    with pytest.raises(failure, match=r"NOT_FOUND.*version '2'"):
        client.infer("double", asked, model_version="2")
    with pytest.raises(failure, match=r"UNIMPLEMENTED.*sequence_"):
        client.infer("double", asked, sequence_id=3)
    with pytest.raises(failure, match=r"UNAVAILABLE.*in time"):
        client.infer("double", asked, timeout=1)
    with pytest.raises(failure, match=r"INVALID_ARGUMENT.*x-nearhall-priority"):
        client.infer("double", asked, headers={"x-nearhall-priority": "first"})


def test_metadata_health_configuration_and_index(triton, failure):
    _, client = triton
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("double")
    assert not client.is_model_ready("torn")
    assert not client.is_model_ready("nothing")
    assert not client.is_model_ready("double", "9")
    extensions = list(client.get_server_metadata().extensions)  # load and unload are the control socket's
    assert extensions == ["binary_tensor_data", "model_configuration", "schedule_policy", "statistics"]
    (given,) = client.get_model_metadata("double").inputs
    assert (given.name, given.datatype, list(given.shape)) == ("x", "FP32", [-1, 4])
    config = client.get_model_config("texts").config
    assert (config.name, config.backend, config.max_batch_size) == ("texts", "onnxruntime", 0)
    assert (config.input[0].data_type, list(config.input[0].dims)) == (13, [-1, 4])
    assert list(config.version_policy.specific.versions) == [1]
    assert config.default_model_filename == "m.onnx"
    with pytest.raises(failure, match=r"UNAVAILABLE.*'torn' is failed"):
        client.get_model_config("torn")
    index = {entry.name: entry for entry in client.get_model_repository_index().models}
    assert index["double"].state == "READY"
    assert index["torn"].state == "UNAVAILABLE"
    assert "nam" in index["torn"].reason
    with pytest.raises(failure, match="NOT_FOUND"):
        client.get_model_metadata("nothing")


def test_statistics_count_what_was_asked_over_grpc_and_http(triton, served, failure):
    module, client = triton

    def stats():
        return client.get_inference_statistics("double").model_stats[0]

    before = stats()
    values = np.ones((1, 4), np.float32)
    for _ in range(3):
        client.infer("double", [tensor(module, values)])
    http = pytest.importorskip("tritonclient.http")
    with http.InferenceServerClient(served.address) as other:
        other.infer("double", [tensor(http, values)])
        told = other.get_inference_statistics("double")["model_stats"][0]
        every = {entry["name"] for entry in other.get_inference_statistics()["model_stats"]}
        config = other.get_model_config("double")
    with pytest.raises(failure, match="INVALID_ARGUMENT"):
        client.infer("double", [tensor(module, np.ones((1, 3), np.float32))])
    after = stats()
    assert after.inference_count - before.inference_count == 4
    assert after.inference_stats.success.count - before.inference_stats.success.count == 4
    assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns
    assert after.inference_stats.fail.count - before.inference_stats.fail.count == 1
    assert told["inference_count"] == after.inference_count
    assert told["last_inference"] > 1_700_000_000_000
    assert {"double", "texts"} <= every
    assert "torn" not in every
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 4]}]
    assert len(client.get_inference_statistics().model_stats) == len(every)


def test_what_is_not_served_says_so(triton, served, failure):
    _, client = triton
    for ask, says in {
        client.get_system_shared_memory_status: "shared memory",
        client.get_cuda_shared_memory_status: "shared memory",
        client.get_trace_settings: "tracing",
        client.get_log_settings: "log settings",
        lambda: client.unload_model("double"): "control socket",
        lambda: client.load_model("double"): "control socket",
    }.items():
        with pytest.raises(failure, match=f"UNIMPLEMENTED.*{says}"):
            ask()
    told = []
    client.start_stream(lambda result, error: told.append(error))
    until(lambda: bool(told), what="the stream's end")
    assert "ModelStreamInfer is not served" in str(told[0])
    client.stop_stream()
    with httpcore.ConnectionPool() as pool:
        for path in (
            "systemsharedmemory/status",
            "cudasharedmemory/status",
            "trace/setting",
            "models/double/trace/setting",
            "logging",
        ):
            answer = pool.request("GET", f"http://{served.address}/v2/{path}")
            assert answer.status == 501, path
            assert b"not served" in answer.content
        assert pool.request("GET", f"http://{served.address}/v2/models/double").status == 200


def test_many_at_once(triton):
    module, client = triton
    values = np.ones((1, 4), np.float32)
    found = []
    left = threading.Semaphore(0)

    def note(result, error):
        found.append((result, error))
        left.release()

    for _ in range(64):
        client.async_infer("double", [tensor(module, values)], note)
    assert all(left.acquire(timeout=20) for _ in range(64))
    assert all(error is None and (result.as_numpy("y") == 2).all() for result, error in found)


def test_a_cancelled_call_is_counted_as_that(triton, served):
    module, client = triton
    values = np.ones((256, 4), np.float32)

    def cancelled():
        return served.stats()["workloads"].get("model:worker", {}).get("cancelled", 0)

    client.infer("worker", [tensor(module, values)])
    for _ in range(20):
        calls = [client.async_infer("worker", [tensor(module, values)], lambda result, error: None) for _ in range(8)]
        for call in calls:
            call.cancel()
        if cancelled():
            break
    until(lambda: cancelled() > 0, what="a cancelled call")
    until(lambda: served.stats().get("in_flight", 0) == 0, what="nothing in flight")


def test_a_message_over_the_limit_is_refused(triton, failure):
    module, client = triton
    most = np.zeros((131_000, 4), np.float32)
    assert client.infer("double", [tensor(module, most)]).as_numpy("y").shape == most.shape
    with pytest.raises(failure, match="RESOURCE_EXHAUSTED"):
        client.infer("double", [tensor(module, np.zeros((140_000, 4), np.float32))])
    with pytest.raises(failure, match="RESOURCE_EXHAUSTED"):  # 400 MB of nothing, packed into less than the limit
        client.infer("double", [tensor(module, np.zeros((25_000_000, 4), np.float32))], compression_algorithm="gzip")


@pytest.fixture
def raw(served):
    with grpc.insecure_channel(f"127.0.0.1:{served.ready['grpc_port']}") as channel:
        yield lambda method, data: channel.unary_unary(SERVICE + method)(data, timeout=20)


def test_reason_and_times_come_as_metadata(served):
    asked = pb.ModelInferRequest(model_name="double", raw_input_contents=[bytes(16)])
    asked.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    with grpc.insecure_channel(f"127.0.0.1:{served.ready['grpc_port']}") as channel:
        call = channel.unary_unary(SERVICE + "ModelInfer")
        _, done = call.with_call(asked.SerializeToString(), timeout=20, metadata=[("x-nearhall-residency", "site")])
        said = dict(done.trailing_metadata())
        assert (said["x-nearhall-served-by"], said["x-nearhall-variant"], said["x-nearhall-reason"]) == (
            "s/n",
            "cpu",
            "local_first",
        )
        assert {part.partition(";")[0] for part in said["server-timing"].split(", ")} == {"queue", "compute", "network"}
        asked.inputs[0].name = "z"
        with pytest.raises(grpc.RpcError) as caught:
            call(asked.SerializeToString(), timeout=20)
        said = dict(caught.value.trailing_metadata())
        assert (said["x-nearhall-reason"], said["x-should-retry"]) == ("bad_request", "false")


def test_malformed_messages_are_the_clients_fault(raw):
    draw = random.Random(7)
    asked = pb.ModelInferRequest(model_name="double", raw_input_contents=[bytes(16)], id="a")
    asked.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    asked.parameters["timeout"].int64_param = 10**9
    sound = asked.SerializeToString()
    assert raw("ModelInfer", sound)
    codes = set()
    for _ in range(400):
        spoilt = bytearray(sound)
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(spoilt))
            spoilt[at : at + draw.randint(0, 2)] = draw.randbytes(draw.randint(0, 3))
        try:
            raw("ModelInfer", bytes(spoilt))
        except grpc.RpcError as error:
            codes.add(error.code())
    assert grpc.StatusCode.INVALID_ARGUMENT in codes
    assert codes <= {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNAVAILABLE,
    }
    for method in ("ServerLive", "ModelReady", "ModelConfig", "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad"):
        with pytest.raises(grpc.RpcError) as caught:
            raw(method, b"\x0a\xff")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, method
    with pytest.raises(grpc.RpcError) as caught:
        raw("Unheard", b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert raw("ModelInfer", sound)


def test_another_repository_is_not_known(raw):
    named = pb.RepositoryIndexRequest(repository_name="elsewhere").SerializeToString()
    with pytest.raises(grpc.RpcError, match="one repository"):
        raw("RepositoryIndex", named)
    assert raw("RepositoryIndex", b"")


def test_the_unix_socket_answers_as_the_port_does(served):
    path = served.socket.replace("ctl", "uds")
    with httpcore.ConnectionPool(uds=path) as local, httpcore.ConnectionPool() as pool:
        assert local.request("GET", "http://localhost/v2").content == pool.request("GET", f"http://{served.address}/v2").content
        body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}'
        answer = local.request("POST", "http://localhost/v2/models/double/infer", content=body)
        assert b'"data":[2.0,4.0,6.0,8.0]' in answer.content


def test_models_are_loaded_through_grpc_where_only_this_machine_can(tmp_path, failure):
    module = pytest.importorskip("tritonclient.grpc")
    add_model(tmp_path / "models", "double", doubled=True)
    local = str(tmp_path / "g")
    with gateway(tmp_path, tmp_path / "models", control_socket=None, grpc=f"unix:{local}") as running:
        assert "grpc_port" not in running.ready
        assert stat.S_IMODE((tmp_path / "g").stat().st_mode) == 0o600
        with module.InferenceServerClient(f"unix:{local}") as client:
            assert "model_repository" in client.get_server_metadata().extensions
            client.unload_model("double")
            assert not client.is_model_ready("double")
            with pytest.raises(failure, match="UNAVAILABLE"):
                client.infer("double", [tensor(module, np.ones((1, 4), np.float32))])
            client.load_model("double")
            assert client.is_model_ready("double")
            with pytest.raises(failure, match="parameters of load"):
                client.load_model("double", config="{}")
            with pytest.raises(failure, match="NOT_FOUND"):
                client.load_model("nothing")
    assert not (tmp_path / "g").exists()


def test_both_ends_show_a_certificate(tmp_path, failure):
    module = pytest.importorskip("tritonclient.grpc")
    add_model(tmp_path / "models", "double", doubled=True)
    authority = make_authority(tmp_path / "ca")
    hub = issue(authority, "hub", tmp_path / "ca" / "hub", kind="hub", dns_names=[], ip_addresses=["127.0.0.1"])
    site = issue(authority, "shop", tmp_path / "ca" / "shop", kind="site", dns_names=[], ip_addresses=[])
    secured = {"ca": str(hub.ca), "cert": str(hub.cert), "key": str(hub.key)}
    with gateway(tmp_path, tmp_path / "models", grpc="127.0.0.1:0", tls=secured) as running:
        address = f"127.0.0.1:{running.ready['grpc_port']}"
        shown = {"root_certificates": str(site.ca), "private_key": str(site.key), "certificate_chain": str(site.cert)}
        with module.InferenceServerClient(address, ssl=True, **shown) as client:
            values = np.ones((1, 4), np.float32)
            assert (client.infer("double", [tensor(module, values)]).as_numpy("y") == 2).all()
        for less in ({"ssl": True, "root_certificates": str(site.ca)}, {}):
            with module.InferenceServerClient(address, **less) as client, pytest.raises(failure):
                client.is_server_live()


def test_falling_back_over_grpc(tmp_path):
    module = pytest.importorskip("tritonclient.grpc")
    (tmp_path / "hub").mkdir()
    (tmp_path / "site" / "models").mkdir(parents=True)
    for name, dtype in NAMES.items():
        add_model(tmp_path / "hub" / "models", name, dtype)
    with gateway(tmp_path / "hub", tmp_path / "hub" / "models", node="hub") as hub:
        link = {"url": f"http://{hub.address}", "jurisdiction": "DE"}
        with (
            gateway(tmp_path / "site", tmp_path / "site" / "models", hub=link, grpc="127.0.0.1:0") as site,
            module.InferenceServerClient(f"127.0.0.1:{site.ready['grpc_port']}") as client,
        ):
            for model, values in VALUES.items():
                result = client.infer(
                    model, [tensor(module, values, NAMES[model])], request_id="r", headers={"x-nearhall-residency": "any"}
                )
                assert (result.as_numpy("y") == values).all()
                assert result.get_response().id == "r"
            counts = site.stats()["workloads"]
            assert {name: counted["hub"] for name, counted in counts.items()} == {f"model:{model}": 1 for model in VALUES}


def test_a_clean_stop_lets_calls_end(tmp_path, failure):
    module = pytest.importorskip("tritonclient.grpc")
    add_worker(tmp_path / "models", "worker")
    with gateway(tmp_path, tmp_path / "models", grpc="127.0.0.1:0") as running:
        with module.InferenceServerClient(f"127.0.0.1:{running.ready['grpc_port']}") as client:
            given = [tensor(module, np.ones((256, 4), np.float32))]
            client.infer("worker", given)
            ends, left = [], threading.Semaphore(0)

            def note(result, error):
                ends.append(error)
                left.release()

            for _ in range(40):
                client.async_infer("worker", given, note)
            assert left.acquire(timeout=20)
            assert running.stop() == 0
            assert all(left.acquire(timeout=20) for _ in range(39))
        assert None in ends
        assert [str(error) for error in ends if error is not None and "UNAVAILABLE" not in str(error)] == []


PLAIN = Settings(node="s/n", jurisdiction="DE", repository="models", port=0)


def test_a_taken_port_is_one_line(tmp_path):
    add_model(tmp_path / "models", "double", doubled=True)
    config = tmp_path / "c.json"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        plain = {"node": "s/n", "jurisdiction": "DE", "repository": str(tmp_path / "models"), "port": 0}
        config.write_text(json.dumps({**plain, "grpc": f"127.0.0.1:{taken.getsockname()[1]}"}))
        ended = run_root(config)
    assert (ended.returncode, "Traceback" in ended.stderr, ended.stdout) == (2, False, "")
    (line,) = ended.stderr.splitlines()  # before anything is loaded
    assert f"grpc: cannot listen at {json.loads(config.read_text())['grpc']} (Address already in use); choose another" in line


def test_addresses_that_are_none_are_refused():
    check_settings(replace(PLAIN, grpc="[::1]:0", uds=Uds(path="s", mode="660")), where="c")
    check_settings(replace(PLAIN, grpc="unix:anything"), where="c")
    for says, wrong in {
        "c: grpc: 'x' is no address": replace(PLAIN, grpc="x"),
        "port is 70000": replace(PLAIN, port=70000),
        "uds.mode is '0999'": replace(PLAIN, uds=Uds(path="s", mode="0999")),
    }.items():
        with pytest.raises(InputError) as caught:
            check_settings(wrong, where="c")
        assert says in str(caught.value)


def test_nothing_is_removed_for_a_socket_but_a_dead_one(tmp_path):
    (tmp_path / "file").write_text("mine")
    dead = tmp_path / "dead"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(dead))
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(tmp_path / "alive"))
        alive.listen()
        for says, name in {
            "another program listens at": "alive",
            "is there already and is no socket": "file",
            "cannot be made (Not a directory)": "file/s",
        }.items():
            for uds, grpc_at in ((str(tmp_path / name), None), (None, f"unix:{tmp_path / name}")):
                with pytest.raises(InputError) as caught:
                    hold("127.0.0.1", 0, uds=uds, grpc=grpc_at)
                assert says in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"
    uds = Uds(path=str(dead), mode="0660")
    with hold("127.0.0.1", 0, uds=str(dead), grpc="127.0.0.1:0"):
        assert not dead.exists()
    with socket_at(uds):
        assert stat.S_IMODE(dead.stat().st_mode) == 0o660
        with pytest.raises(InputError, match="cannot be made"):
            socket_at(uds)
        remove_socket(str(dead), number_of(str(dead)) + 1)
        assert dead.exists(), "another's"
        remove_socket(str(dead), number_of(str(dead)))
    assert not dead.exists()
    remove_socket(str(dead), 1)
