"""The model behind every peer: ONNX Runtime with the same options as this gateway's, so that only the servers differ."""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it would send what is loaded and run to Microsoft

import onnxruntime as ort


def session():
    """A session on the file that BENCH_MODEL names, one thread and no spinning."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    return ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])
