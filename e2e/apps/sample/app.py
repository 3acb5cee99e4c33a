"""Sample application for tests: a small web service whose faults are switched on by environment variables."""

import asyncio
import os
import random
import signal
import sys
import time

import uvicorn
from fastapi import FastAPI, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse
from prometheus_client import Histogram
from prometheus_fastapi_instrumentator import Instrumentator


def number(name: str, default: float, high: float = float("inf")) -> float:
    """A number from the environment, in 0..high; a wrong one ends the program with a clear message."""
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        sys.exit(f"error: {name}={text!r} is not a number; fix: set a number such as {default:g}, or remove it")
    if not 0 <= value <= high:  # also refuses nan
        sys.exit(f"error: {name}={text!r} is out of range; fix: set a number from 0 to {high:g}")
    return value


def switch(name: str) -> bool:
    text = os.environ.get(name, "")
    if text not in ("", "0", "1"):
        sys.exit(f"error: {name}={text!r} is neither 0 nor 1; fix: set 1 to switch it on, or remove it")
    return text == "1"


def fits(source: str, text: str) -> str:
    """The text, if it can be a header's value; else a clear message ends the program."""
    if not text.isascii() or not text.isprintable():
        sys.exit(f"error: {source}={text!r} does not fit into a header; fix: use printable ASCII characters")
    return text


VERSION = fits("APP_VERSION", os.environ.get("APP_VERSION", "dev"))
VERSION_FILE = os.environ.get("APP_VERSION_FILE", "")


def version() -> str:
    """The version that answers: APP_VERSION, or what APP_VERSION_FILE holds at this moment."""
    if not VERSION_FILE:
        return VERSION
    with open(VERSION_FILE, encoding="utf-8") as file:
        return fits("APP_VERSION_FILE", file.read().strip())


ERROR_RATIO = number("ERROR_RATIO", 0, 1)
EXTRA_LATENCY = number("EXTRA_LATENCY_MS", 0) / 1000
CRASH_AFTER = number("CRASH_AFTER_SECONDS", 0)
LEAK = number("LEAK_MB_PER_MINUTE", 0)
BLOCK = number("BLOCK_LOOP_MS", 0, 60_000) / 1000
MEASURE_LAG = switch("MEASURE_LOOP_LAG")
FAIL_READINESS = switch("FAIL_READINESS")
START_DELAY = number("START_DELAY_SECONDS", 0)
PORT = int(number("PORT", 8000, 65535))
DRAIN = number("DRAIN_SECONDS", 5)

app = FastAPI(title="sample", docs_url=None, redoc_url=None, openapi_url=None)
Instrumentator().instrument(app).expose(app)
leaked: list[bytearray] = []
faults = {"error_ratio": ERROR_RATIO}


@app.get("/")
async def root() -> JSONResponse:
    if EXTRA_LATENCY:
        await asyncio.sleep(EXTRA_LATENCY)
    answering = version()
    headers = {"x-app-version": answering}
    if server.draining:
        # The caller's idle connections go before the socket does, so that no request meets a closed one.
        headers["connection"] = "close"
    if random.random() < faults["error_ratio"]:
        return JSONResponse({"error": "ERROR_RATIO", "version": answering}, 500, headers)
    return JSONResponse({"version": answering}, 200, headers)


@app.websocket("/stream")
async def stream(socket: WebSocket) -> None:
    """Answers each message with the version, for as long as the caller likes."""
    await socket.accept()
    try:
        while True:
            await socket.receive_text()
            await socket.send_text(version())
    except WebSocketDisconnect:
        pass


@app.get("/faults")
async def change_faults(error_ratio: float) -> JSONResponse:
    """From now on this pod fails so much of its requests, whatever ERROR_RATIO says."""
    faults["error_ratio"] = error_ratio
    return JSONResponse(faults)


@app.get("/fail")
async def fail() -> Response:
    """Fails in every version, as when something that all of them need is down."""
    return JSONResponse({"error": "asked for"}, 503)


@app.get("/healthz")
async def healthz() -> Response:
    if FAIL_READINESS:
        return JSONResponse({"status": "FAIL_READINESS"}, 503)
    return JSONResponse({"status": "ok"})


async def leak() -> None:
    while True:
        await asyncio.sleep(1)
        # Written to, or the kernel would not count it.
        leaked.append(bytearray(b"x") * int(LEAK * 1024 * 1024 / 60))


async def watch_loop() -> None:
    """Measures how late the event loop is, four times a second."""
    lag = Histogram(
        "event_loop_lag_seconds",
        "How late the event loop runs what is due",
        buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
    )
    while True:
        due = time.monotonic() + 0.25
        await asyncio.sleep(0.25)
        lag.observe(max(0.0, time.monotonic() - due))


async def block_loop() -> None:
    """Holds the event loop for BLOCK seconds out of every two, as a synchronous call in a handler would."""
    while True:
        await asyncio.sleep(max(0.0, 2 - BLOCK))
        time.sleep(BLOCK)


class Server(uvicorn.Server):
    """uvicorn, but on SIGTERM it goes on accepting for DRAIN seconds.

    Kubernetes sends SIGTERM at the same moment as it takes the pod out of the endpoints; until the
    gateway has heard of that, it still sends new requests here. A server that closes its socket at
    once loses them.
    """

    draining = False

    async def serve(self, sockets=None) -> None:
        loop = asyncio.get_running_loop()
        if CRASH_AFTER:
            loop.call_later(CRASH_AFTER, self.crash)
        if MEASURE_LAG:
            self.watching = loop.create_task(watch_loop())
        if LEAK:
            self.leaking = loop.create_task(leak())
        if BLOCK:
            self.blocking = loop.create_task(block_loop())
        await super().serve(sockets)

    @staticmethod
    def crash() -> None:
        print("CRASH_AFTER_SECONDS is over: ending with 1", file=sys.stderr, flush=True)
        os._exit(1)

    def handle_exit(self, sig, frame) -> None:
        if sig == signal.SIGTERM and not self.draining and not self.should_exit:
            self.draining = True
            self.drained_at = time.monotonic() + DRAIN
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        # Called ten times a second. From should_exit on, uvicorn itself lets requests in flight finish.
        if self.draining and time.monotonic() >= self.drained_at:
            self.should_exit = True
        return await super().on_tick(counter)


# The gateway keeps idle connections for an hour. A server that closes them first, as uvicorn does after 5 s, now and
# then closes one that a request is on its way through: a 503 that no rollout has caused.
KEEP_ALIVE = 3700

server = Server(
    uvicorn.Config(
        app,
        host="0.0.0.0",
        port=PORT,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
    )
)

if __name__ == "__main__":
    time.sleep(START_DELAY)
    print(f"sample {version()} on port {PORT}", flush=True)
    server.run()
