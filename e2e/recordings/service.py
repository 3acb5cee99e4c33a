"""Healthy services whose runtimes are recorded: what guards must not take for harm.

`SERVICE` says what one does beside answering: `cache` fills a cache in its first minutes, `churn` leaves cyclic garbage and now and
then answers with some megabytes, `plain` neither. `asgi` is for uvicorn, alone or under gunicorn, `wsgi` for gunicorn's threads.
"""

import asyncio
import contextlib
import json
import os
import random
import threading
import time

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from flask import Flask, Response as FlaskResponse
from prometheus_client import Counter, Histogram, generate_latest

KIND = os.environ.get("SERVICE", "plain")
if KIND not in ("plain", "cache", "churn"):
    raise SystemExit(f"error: SERVICE={KIND!r} is unknown; fix: plain, cache or churn")

requests = Counter("http_requests", "Requests by class of status", ["status"])
cache: dict[int, str] = {}
lock = threading.Lock()


class Node:
    """Two of these hold each other until the collector comes."""

    def __init__(self, other: "Node | None", load: list[int]):
        self.other, self.load = other, load


def work(key: int) -> str:
    """What a request costs."""
    if KIND == "cache":
        with lock:
            if key not in cache:
                cache[key] = json.dumps({"key": key, "text": os.urandom(2048).hex()})
            return cache[key]
    if KIND == "churn":
        for _ in range(50):
            one = Node(None, list(range(200)))
            one.other = Node(one, list(range(200)))
        size = 2_000_000 if key % 200 == 0 else 2_000
        return json.dumps({"key": key, "text": "x" * size})
    return json.dumps({"key": key, "sum": sum(i * i for i in range(2000))})


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


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI):
    watching = asyncio.get_running_loop().create_task(watch_loop())
    yield
    watching.cancel()


asgi = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)


@asgi.middleware("http")
async def count(request, call_next):
    response = await call_next(request)
    if request.url.path not in ("/metrics", "/healthz"):
        requests.labels(f"{response.status_code // 100}xx").inc()
    return response


@asgi.get("/")
async def root(key: int) -> Response:
    # A wait for a database, and what is done with the answer.
    await asyncio.sleep(random.expovariate(1 / 0.02))
    return Response(work(key), media_type="application/json")


@asgi.get("/healthz")
async def healthz() -> Response:
    return JSONResponse({"status": "ok"})


@asgi.get("/metrics")
async def metrics() -> Response:
    return Response(generate_latest(), media_type="text/plain")


wsgi = Flask(__name__)


@wsgi.after_request
def count_wsgi(response):
    from flask import request

    if request.path not in ("/metrics", "/healthz"):
        requests.labels(f"{response.status_code // 100}xx").inc()
    return response


@wsgi.get("/")
def root_wsgi() -> FlaskResponse:
    from flask import request

    key = request.args.get("key", "")
    if not key.isdigit():
        return FlaskResponse("{}", 422, mimetype="application/json")
    time.sleep(random.expovariate(1 / 0.02))
    return FlaskResponse(work(int(key)), mimetype="application/json")


@wsgi.get("/healthz")
def healthz_wsgi() -> str:
    return "ok"


@wsgi.get("/metrics")
def metrics_wsgi() -> FlaskResponse:
    return FlaskResponse(generate_latest(), mimetype="text/plain")
