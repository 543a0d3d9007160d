"""The Open Inference Protocol v2 over gRPC: open_inference.proto, its generated stubs, and the service on grpc.aio.

Imported only where gRPC is asked for. What a request may do is decided where REST's is; nothing here decides.
"""
