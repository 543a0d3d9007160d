"""LitServe answering v2 JSON: what it speaks is JSON of one's own."""

import sys

import litserve
import numpy as np
from onnx_session import session


class Conv(litserve.LitAPI):
    """One worker process, as its guide begins."""

    def setup(self, device):
        self.session = session()

    def decode_request(self, request):
        tensor = request["inputs"][0]
        return np.array(tensor["data"], np.float32).reshape(tensor["shape"])

    def predict(self, values):
        return self.session.run(None, {"x": values})[0]

    def encode_response(self, output):
        tensor = {"name": "y", "datatype": "FP32", "shape": list(output.shape), "data": output.ravel().tolist()}
        return {"model_name": "conv", "outputs": [tensor]}


if __name__ == "__main__":
    server = litserve.LitServer(
        Conv(api_path="/v2/models/conv/infer"), accelerator="cpu", workers_per_device=1, timeout=False, track_requests=False
    )
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
