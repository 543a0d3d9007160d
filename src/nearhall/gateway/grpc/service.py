"""GRPCInferenceService: which method is answered by what, and how a call may end."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError, Message

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.gateway import describe
from nearhall.gateway.grpc import open_inference_pb2 as pb
from nearhall.gateway.grpc.calls import Calls, Context, refuse
from nearhall.gateway.plane import Plane
from nearhall.gateway.repository_api import change

log = logging.getLogger("nearhall.gateway")

SERVICE = "inference.GRPCInferenceService"
Asked = TypeVar("Asked", bound=Message)
Told = TypeVar("Told", bound=Message)
Answer = Callable[[bytes, Context], Awaitable[bytes]]

_NOT_SERVED: Mapping[str, str] = {
    "SystemSharedMemoryStatus": "shared memory",
    "SystemSharedMemoryRegister": "shared memory",
    "SystemSharedMemoryUnregister": "shared memory",
    "CudaSharedMemoryStatus": "shared memory",
    "CudaSharedMemoryRegister": "shared memory",
    "CudaSharedMemoryUnregister": "shared memory",
    "TraceSetting": "trace",
    "LogSettings": "log",
}


class Service(grpc.GenericRpcHandler):
    """The service's methods by name, on messages as bytes: what reads them, and how, is each method's own business."""

    def __init__(self, plane: Plane, *, may_load: bool) -> None:
        """`may_load`: whether models may be loaded and unloaded through this port."""
        self._plane = plane
        self._calls = Calls(plane)
        self._may_load = may_load
        methods: dict[str, Answer] = {
            "ServerLive": self._told(pb.ServerLiveRequest, self._live),
            "ServerReady": self._told(pb.ServerReadyRequest, self._ready),
            "ModelReady": self._told(pb.ModelReadyRequest, self._model_ready),
            "ServerMetadata": self._told(pb.ServerMetadataRequest, self._server),
            "ModelMetadata": self._told(pb.ModelMetadataRequest, self._model),
            "ModelInfer": self._calls.infer,
            "ModelConfig": self._told(pb.ModelConfigRequest, self._config),
            "ModelStatistics": self._told(pb.ModelStatisticsRequest, self._statistics),
            "RepositoryIndex": self._told(pb.RepositoryIndexRequest, self._index),
            "RepositoryModelLoad": self._told(pb.RepositoryModelLoadRequest, self._load),
            "RepositoryModelUnload": self._told(pb.RepositoryModelUnloadRequest, self._unload),
            **{name: self._not_served(what) for name, what in _NOT_SERVED.items()},
        }
        self._handlers: dict[str, Any] = {
            f"/{SERVICE}/{name}": grpc.unary_unary_rpc_method_handler(answer) for name, answer in methods.items()
        }
        self._handlers[f"/{SERVICE}/ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._stream)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of a method; None for one that is not the service's, which gRPC answers with UNIMPLEMENTED."""
        return self._handlers.get(handler_call_details.method)

    def _told(self, kind: type[Asked], tell: Callable[[Asked], Awaitable[Message]]) -> Answer:
        """A method that is answered from what is known."""

        async def answer(data: bytes, context: Context) -> bytes:
            try:
                asked = kind.FromString(data)
                return (await tell(asked)).SerializeToString()
            except DecodeError as error:
                refusal = Refusal(Reason.BAD_REQUEST, f"the message is no {kind.DESCRIPTOR.name}: {error}")
            except Refusal as error:
                refusal = error
            except Exception:  # the last net: a fault of ours is told, and the call ends in order
                log.exception("gRPC %s", kind.DESCRIPTOR.name)
                refusal = Refusal(Reason.RUNTIME_FAILED, "the gateway failed; its log says why")
            return await refuse(context, refusal, self._plane.node)

        return answer

    def _not_served(self, what: str) -> Answer:
        async def answer(_: bytes, context: Context) -> bytes:
            return await refuse(context, Refusal(Reason.UNSUPPORTED, describe.NOT_SERVED[what]), self._plane.node)

        return answer

    async def _stream(self, _: AsyncIterator[bytes], context: Context) -> None:
        await refuse(context, Refusal(Reason.UNSUPPORTED, describe.NOT_SERVED["stream"]), self._plane.node)

    async def _live(self, _: pb.ServerLiveRequest) -> Message:
        return pb.ServerLiveResponse(live=True)

    async def _ready(self, _: pb.ServerReadyRequest) -> Message:
        return pb.ServerReadyResponse(ready=not self._plane.draining and self._plane.models.settled)

    async def _model_ready(self, asked: pb.ModelReadyRequest) -> Message:
        return pb.ModelReadyResponse(ready=describe.found(self._plane, asked.name, asked.version).ready)

    async def _server(self, _: pb.ServerMetadataRequest) -> Message:
        return ParseDict(describe.server_metadata(), pb.ServerMetadataResponse())

    async def _model(self, asked: pb.ModelMetadataRequest) -> Message:
        return ParseDict(
            describe.model_metadata(describe.found(self._plane, asked.name, asked.version)), pb.ModelMetadataResponse()
        )

    async def _config(self, asked: pb.ModelConfigRequest) -> Message:
        config = describe.model_config(describe.found(self._plane, asked.name, asked.version))
        return ParseDict({"config": config}, pb.ModelConfigResponse())

    async def _statistics(self, asked: pb.ModelStatisticsRequest) -> Message:
        return ParseDict(describe.model_statistics(self._plane, asked.name, asked.version), pb.ModelStatisticsResponse())

    async def _index(self, asked: pb.RepositoryIndexRequest) -> Message:
        self._own_repository(asked.repository_name)
        models = describe.repository_index(self._plane, ready=asked.ready)
        return ParseDict({"models": models}, pb.RepositoryIndexResponse(), ignore_unknown_fields=True)  # it has no variants

    async def _load(self, asked: pb.RepositoryModelLoadRequest) -> Message:
        self._own_repository(asked.repository_name)
        await change(self._plane, "load", asked.model_name, _plain(asked.parameters), may_load=self._may_load)
        return pb.RepositoryModelLoadResponse()

    async def _unload(self, asked: pb.RepositoryModelUnloadRequest) -> Message:
        self._own_repository(asked.repository_name)
        await change(self._plane, "unload", asked.model_name, _plain(asked.parameters), may_load=self._may_load)
        return pb.RepositoryModelUnloadResponse()

    def _own_repository(self, name: str) -> None:
        if name:
            raise Refusal(Reason.UNSUPPORTED, f"there is one repository here, so repository_name stays empty, not {name[:64]!r}")


def _plain(parameters: Mapping[str, pb.ModelRepositoryParameter]) -> dict[str, Any]:
    """Parameters as plain values."""
    plain: dict[str, Any] = {}
    for key, value in parameters.items():
        which = value.WhichOneof("parameter_choice")
        plain[key] = None if which is None else getattr(value, which)
    return plain
