"""MLServer with a model of its own: arrays in, arrays out."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
from onnx_session import session


class Conv(MLModel):
    """ONNX Runtime in MLServer's process."""

    async def load(self):
        self.session = session()
        return True

    async def predict(self, payload):
        values = NumpyCodec.decode_input(payload.inputs[0]).astype("float32", copy=False)
        output = self.session.run(None, {"x": values})[0]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", output)])
