"""Real things behind the ports: runtimes, meters, stores, uplinks, certificates, packages; and the fakes that stand for them.

Belongs here: one file per thing, foreign errors translated at the edge, heavy libraries imported by the file that needs
them. Never: a decision (policy), a program's loop (gateway, site, hub).
"""

import os
import sys

# ONNX Runtime's packages for Linux send what is loaded and run to Microsoft since 1.29, and keep it on disk until they can
# (microsoft/onnxruntime 27379); told before it is imported, they neither send nor keep anything. Children are told with it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# OpenVINO would tell Google Analytics of each start, by a process that it forks; without this module of its it does not.
sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType, reportCallIssue]
