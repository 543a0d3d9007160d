"""GRPCInferenceService: which method is answered by what, and how a call may end."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.gateway import describe
from nearhall.gateway.grpc import open_inference_pb2 as pb
from nearhall.gateway.grpc.calls import Answering, Calls, Context, refuse

log = logging.getLogger("nearhall.gateway")

SERVICE = "inference.GRPCInferenceService"
Asked = TypeVar("Asked", bound=Message)
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


class Telling(Protocol):
    """Who says how the server and its models stand; each raises Refusal."""

    async def ready(self, asked: pb.ServerReadyRequest, /) -> Message:
        """Whether it should be sent work."""
        ...

    async def model_ready(self, asked: pb.ModelReadyRequest, /) -> Message:
        """Whether a model answers."""
        ...

    async def server(self, asked: pb.ServerMetadataRequest, /) -> Message:
        """Name, version, and which parts of the protocol are served."""
        ...

    async def model(self, asked: pb.ModelMetadataRequest, /) -> Message:
        """A model's inputs and outputs."""
        ...

    async def config(self, asked: pb.ModelConfigRequest, /) -> Message:
        """A model's configuration."""
        ...

    async def statistics(self, asked: pb.ModelStatisticsRequest, /) -> Message:
        """What was counted, of one model or of all."""
        ...

    async def index(self, asked: pb.RepositoryIndexRequest, /) -> Message:
        """The models that there are."""
        ...

    async def load(self, asked: pb.RepositoryModelLoadRequest, /) -> Message:
        """Loads a model."""
        ...

    async def unload(self, asked: pb.RepositoryModelUnloadRequest, /) -> Message:
        """Unloads one."""
        ...


class Service(grpc.GenericRpcHandler):
    """The service's methods by name, on messages as bytes: what reads them, and how, is each method's own business."""

    def __init__(self, answering: Answering, telling: Telling) -> None:
        self._name = answering.name
        tell = self._told
        methods: dict[str, Answer] = {
            "ServerLive": tell(pb.ServerLiveRequest, self._live),
            "ServerReady": tell(pb.ServerReadyRequest, telling.ready),
            "ModelReady": tell(pb.ModelReadyRequest, telling.model_ready),
            "ServerMetadata": tell(pb.ServerMetadataRequest, telling.server),
            "ModelMetadata": tell(pb.ModelMetadataRequest, telling.model),
            "ModelInfer": Calls(answering).infer,
            "ModelConfig": tell(pb.ModelConfigRequest, telling.config),
            "ModelStatistics": tell(pb.ModelStatisticsRequest, telling.statistics),
            "RepositoryIndex": tell(pb.RepositoryIndexRequest, _own_repository(telling.index)),
            "RepositoryModelLoad": tell(pb.RepositoryModelLoadRequest, _own_repository(telling.load)),
            "RepositoryModelUnload": tell(pb.RepositoryModelUnloadRequest, _own_repository(telling.unload)),
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
            return await refuse(context, refusal, self._name)

        return answer

    def _not_served(self, what: str) -> Answer:
        async def answer(_: bytes, context: Context) -> bytes:
            return await refuse(context, Refusal(Reason.UNSUPPORTED, describe.NOT_SERVED[what]), self._name)

        return answer

    async def _stream(self, _: AsyncIterator[bytes], context: Context) -> None:
        await refuse(context, Refusal(Reason.UNSUPPORTED, describe.NOT_SERVED["stream"]), self._name)

    async def _live(self, _: pb.ServerLiveRequest) -> Message:
        return pb.ServerLiveResponse(live=True)


def _own_repository(tell: Callable[[Any], Awaitable[Message]]) -> Callable[[Any], Awaitable[Message]]:
    """The same, for requests to the one repository that there is."""

    async def answer(asked: Any) -> Message:
        if asked.repository_name:
            name = asked.repository_name[:64]
            raise Refusal(Reason.UNSUPPORTED, f"there is one repository here, so repository_name stays empty, not {name!r}")
        return await tell(asked)

    return answer
