"""BentoML answering v2 JSON, one worker, at most eight requests inside."""

import bentoml
import numpy as np
from onnx_session import session


@bentoml.service(workers=1, traffic={"max_concurrency": 8, "timeout": 10}, logging={"access": {"enabled": False}})
class Conv:
    """ONNX Runtime in the worker."""

    def __init__(self):
        self.session = session()

    @bentoml.api(route="/v2/models/conv/infer")
    def infer(self, inputs: list[dict]) -> dict:
        tensor = inputs[0]
        values = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
        output = self.session.run(None, {"x": values})[0]
        answer = {"name": "y", "datatype": "FP32", "shape": list(output.shape), "data": output.ravel().tolist()}
        return {"model_name": "conv", "outputs": [answer]}
