"""Ray Serve answering v2 JSON and binary: one replica, four requests at a time, eight waiting."""

import json
import sys
import time

import numpy as np
import ray
from onnx_session import session
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=1, max_ongoing_requests=4, max_queued_requests=8, ray_actor_options={"num_cpus": 0.5})
class Conv:
    """ONNX Runtime in the replica."""

    def __init__(self):
        self.session = session()

    async def __call__(self, request: Request) -> Response:
        body = await request.body()
        length = request.headers.get("inference-header-content-length")
        head = json.loads(body if length is None else body[: int(length)])
        tensor = head["inputs"][0]
        if length is None:
            values = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
        else:
            values = np.frombuffer(body, np.float32, offset=int(length)).reshape(tensor["shape"])
        output = self.session.run(None, {"x": values})[0]
        answer = {"name": "y", "datatype": "FP32", "shape": list(output.shape)}
        if length is None:
            answer["data"] = output.ravel().tolist()
            return Response(json.dumps({"model_name": "conv", "outputs": [answer]}), media_type="application/json")
        answer["parameters"] = {"binary_data_size": output.nbytes}
        first = json.dumps({"model_name": "conv", "outputs": [answer]}).encode()
        return Response(first + output.tobytes(), headers={"inference-header-content-length": str(len(first))})


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, _metrics_export_port=None)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Conv.bind(), route_prefix="/v2/models/conv/infer")
    while True:
        time.sleep(3600)
