"""KServe's Python SDK: v2 over HTTP and gRPC."""

import sys

import kserve
from kserve import InferOutput, InferResponse
from onnx_session import session


class Conv(kserve.Model):
    """ONNX Runtime in the server's process."""

    def __init__(self, name):
        super().__init__(name)
        self.session = session()
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):
        values = payload.inputs[0].as_numpy().astype("float32", copy=False)
        output = self.session.run(None, {"x": values})[0]
        tensor = InferOutput(name="y", shape=list(output.shape), datatype="FP32")
        tensor.set_data_from_numpy(output, binary_data=bool(headers and "inference-header-content-length" in headers))
        return InferResponse(response_id=payload.id or "", model_name=self.name, infer_outputs=[tensor])


if __name__ == "__main__":
    kserve.ModelServer(
        http_port=int(sys.argv[1]), grpc_port=int(sys.argv[2]), workers=1, enable_docs_url=False, access_log_format=None
    ).start([Conv("conv")])
