"""The sample application as a gRPC service, of sample.proto. Its counters are at METRICS_PORT."""

import asyncio
import os
import random
import signal

import grpc
from prometheus_client import Counter, start_http_server

VERSION = os.environ.get("APP_VERSION", "dev")
PORT = int(os.environ.get("PORT", "8000"))
METRICS_PORT = int(os.environ.get("METRICS_PORT", "9100"))
ERROR_RATIO = float(os.environ.get("ERROR_RATIO") or 0)
DRAIN = float(os.environ.get("DRAIN_SECONDS") or 5)

CALLS = Counter("sample_calls", "Calls that were answered")
FAILURES = Counter("sample_call_failures", "Calls that failed")
# The message Answer, as protobuf encodes it: field 1, a text. The image needs no compiler for that.
ANSWER = b"\x0a" + bytes([len(VERSION)]) + VERSION.encode()


async def ask(question: bytes, context: grpc.aio.ServicerContext) -> bytes:
    CALLS.inc()
    await context.send_initial_metadata([("x-app-version", VERSION)])
    if random.random() < ERROR_RATIO:
        FAILURES.inc()
        await context.abort(grpc.StatusCode.INTERNAL, "ERROR_RATIO")
    return ANSWER


async def watch(question: bytes, context: grpc.aio.ServicerContext):
    while True:
        yield ANSWER
        await asyncio.sleep(0.5)


async def serve() -> None:
    server = grpc.aio.server()
    calls = {"Ask": grpc.unary_unary_rpc_method_handler(ask), "Watch": grpc.unary_stream_rpc_method_handler(watch)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("sample.Sample", calls),))
    server.add_insecure_port(f"0.0.0.0:{PORT}")
    await server.start()
    start_http_server(METRICS_PORT)
    print(f"sample {VERSION} on port {PORT}, by gRPC", flush=True)
    ends = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ends.set)
    await ends.wait()
    # Proxies hear of the end of a pod a moment later: calls are answered until then.
    await asyncio.sleep(DRAIN)
    await server.stop(grace=2)


if __name__ == "__main__":
    asyncio.run(serve())
