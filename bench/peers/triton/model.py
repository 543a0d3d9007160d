"""Triton's Python backend calling ONNX Runtime."""

import triton_python_backend_utils as backend
from onnx_session import session


class TritonPythonModel:
    """One model; requests come in batches of one unless the configuration batches."""

    def initialize(self, args):
        self.session = session()

    def execute(self, requests):
        answers = []
        for request in requests:
            values = backend.get_input_tensor_by_name(request, "x").as_numpy()
            answers.append(backend.InferenceResponse([backend.Tensor("y", self.session.run(None, {"x": values})[0])]))
        return answers
