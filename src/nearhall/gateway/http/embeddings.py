"""POST /v1/embeddings: texts to a model of embeddings, which is a model of tensors in all but how it is asked."""

from __future__ import annotations

from nearhall.core.errors import Refusal
from nearhall.core.reasons import Reason
from nearhall.core.tensor import BYTES, Tensor
from nearhall.gateway.body import read_body
from nearhall.gateway.exchange import Exchange, Header
from nearhall.gateway.models.model import Model
from nearhall.gateway.plane import Call, Plane, check_able
from nearhall.gateway.queues.lanes import Done
from nearhall.gateway.tensors import answer
from nearhall.wire.oip import InferRequest
from nearhall.wire.oip_tensors import pack_rows
from nearhall.wire.openai_embeddings import EmbeddingsRequest, decode_embeddings, embeddings_answer

_JSON = (b"content-type", b"application/json")


async def embed(plane: Plane, exchange: Exchange) -> None:
    """Answers one request; raises Refusal or ClientGoneError."""
    body = await read_body(exchange, plane.limits)
    request = decode_embeddings(body.plain)
    name = request.model
    rules = plane.workloads.rules(exchange.ask, name)
    exchange.workload = rules.workload
    model = plane.models.find(name)
    check_able(model, request.beyond)
    if model is not None:
        _check(model, request)
    rows = tuple(text.encode(errors="replace") for text in request.texts)
    texts = Tensor("text", BYTES, (len(rows),), memoryview(pack_rows(rows)), rows)

    async def give(done: Done, headers: list[Header]) -> None:
        made = {tensor.name: tensor for tensor in done.outputs}
        vectors = made["embedding"]
        each = len(vectors.data) // len(rows)
        parts = [vectors.data[at : at + each] for at in range(0, len(vectors.data), each)]
        tokens = sum(made["tokens"].data.cast("B").cast("q"))
        encoded = embeddings_answer(name, parts, base64=request.base64, prompt_tokens=tokens)
        await exchange.reply(200, [*headers, _JSON], encoded)

    asked = InferRequest(id="", inputs=(texts,), outputs=(), binary_by_default=False, timeout_us=None, priority=None)
    await answer(Call(plane, exchange, rules, name, model, body, beyond=request.beyond), asked, give)


def _check(model: Model, request: EmbeddingsRequest) -> None:
    if not model.entry.embeds:
        raise Refusal(Reason.UNSUPPORTED, f"model {request.model!r} makes no embeddings; {model.door}")
    size = next((spec.shape[-1] for spec in model.outputs if spec.name == "embedding"), None)
    if request.dimensions is not None and size is not None and request.dimensions != size:
        message = f"dimensions is {request.dimensions}; model {request.model!r} makes vectors of {size}, which cannot be cut"
        raise Refusal(Reason.UNSUPPORTED, message, parameter="dimensions")
