"""Records what healthy services tell of their runtime: two real servers of the same code, one as stable, one as canary, under load.

    python -m venv /tmp/v && /tmp/v/bin/pip install -r requirements.txt
    /tmp/v/bin/python record.py runs

Writes one CSV file for each of the runs below, a line for each scrape. Everything stays on 127.0.0.1, all runs go on at once and
take eleven minutes. `crates/core/tests/recordings.rs` replays the files through the guards: none may raise an alarm.
"""

import asyncio
import contextlib
import csv
import os
import pathlib
import random
import sys
import time

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

HERE = pathlib.Path(__file__).resolve().parent
BIN = pathlib.Path(sys.executable).parent
SCRAPE = 10.0
# Stable has run for so long when the canary starts, and both are recorded for so long from then.
AHEAD, LENGTH = 150.0, 480.0
# The canary's weight from so many seconds after its start.
WEIGHTS = [(0, 0.0), (20, 0.2), (120, 0.35), (240, 0.5)]
COLUMNS = [
    "seconds", "revision", "weight", "started", "memory", "cpu", "open_fds", "collections",
    "lag_total", "lag_within", "requests", "client_errors",
]

UVICORN = ["uvicorn", "service:asgi", "--host=127.0.0.1", "--log-level=warning", "--no-access-log"]
GUNICORN = ["gunicorn", "service:asgi", "--workers=1", "--worker-class=uvicorn_worker.UvicornWorker"]
THREADS = ["gunicorn", "service:wsgi", "--workers=1", "--threads=8"]
SAMPLE = [str(BIN / "python"), str(HERE.parent / "apps/sample/app.py")]


def runs():
    """Name, command, what the service does, requests a second, the share of requests that is refused."""
    servers = [("uvicorn", UVICORN), ("gunicorn-uvicorn", GUNICORN), ("gunicorn-threads", THREADS)]
    for name, command in servers:
        for kind, rate, refused in [("plain", 8, 0.02), ("cache", 10, 0.05), ("churn", 6, 0.02)]:
            yield f"{name}-{kind}", command, kind, rate, refused
            yield f"{name}-{kind}-quiet", command, kind, rate / 2, refused
    # Workers that are replaced now and then, as it is usual against leaks: memory and counters begin anew.
    replaced = THREADS + ["--max-requests=900", "--max-requests-jitter=200"]
    yield "gunicorn-threads-replaced", replaced, "churn", 8, 0.02
    yield "sample", SAMPLE, "plain", 8, 0.02


def value(families, name, **labels):
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and all(sample.labels.get(key) == text for key, text in labels.items())
    )


class Server:
    def __init__(self, command, kind, port):
        self.port, self.started = port, time.monotonic()
        env = os.environ | {
            "SERVICE": kind, "PORT": str(port), "APP_VERSION": "v1", "MEASURE_LOOP_LAG": "1", "PYTHONUNBUFFERED": "1",
        }
        if command[0] == "uvicorn":
            command = command + [f"--port={port}"]
        elif command[0] == "gunicorn":
            command = command + [f"--bind=127.0.0.1:{port}", "--log-level=error"]
        program = command[0] if "/" in command[0] else str(BIN / command[0])
        self.process = asyncio.create_subprocess_exec(program, *command[1:], cwd=HERE, env=env)

    async def ready(self, session):
        self.process = await self.process
        for _ in range(200):
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"http://127.0.0.1:{self.port}/healthz") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.2)
        raise SystemExit(f"port {self.port}: not ready")

    async def scrape(self, session):
        async with session.get(f"http://127.0.0.1:{self.port}/metrics") as response:
            families = list(text_string_to_metric_families(await response.text()))
        lag = "event_loop_lag_seconds"
        return [
            f"{value(families, 'process_resident_memory_bytes'):.0f}",
            f"{value(families, 'process_cpu_seconds_total'):.2f}",
            f"{value(families, 'process_open_fds'):.0f}",
            f"{value(families, 'python_gc_collections_total'):.0f}",
            f"{value(families, lag + '_count'):.0f}",
            f"{value(families, lag + '_bucket', le='0.25'):.0f}",
            f"{value(families, 'http_requests_total'):.0f}",
            f"{value(families, 'http_requests_total', status='4xx'):.0f}",
        ]


async def call(session, port, refused):
    path = "missing" if random.random() < refused else f"?key={int(random.expovariate(1 / 3000))}"
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with session.get(f"http://127.0.0.1:{port}/{path}") as response:
            await response.read()


async def run(name, command, kind, rate, refused, port, target):
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        servers = {"stable": Server(command, kind, port)}
        await servers["stable"].ready(session)
        begin = time.monotonic() + AHEAD
        rows = []

        def weight():
            return [w for at, w in WEIGHTS if time.monotonic() - begin >= at][-1:] or [0.0]

        async def load():
            calls = set()
            while time.monotonic() < begin + LENGTH:
                await asyncio.sleep(random.expovariate(rate))
                to_canary = "canary" in servers and random.random() < weight()[0]
                server = servers["canary" if to_canary else "stable"]
                task = asyncio.create_task(call(session, server.port, refused))
                calls.add(task)
                task.add_done_callback(calls.discard)
            await asyncio.gather(*calls)

        async def scrapes(revision):
            server = servers[revision]
            await asyncio.sleep(random.uniform(0, SCRAPE))
            while (now := time.monotonic()) < begin + LENGTH:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    told = await server.scrape(session)
                    if now >= begin - 60:
                        head = [f"{now - begin:.3f}", revision, int(weight()[0] * 100), f"{server.started - begin:.3f}"]
                        rows.append(head + told)
                await asyncio.sleep(max(0.0, now + SCRAPE - time.monotonic()))

        async def canary():
            await asyncio.sleep(begin - time.monotonic())
            server = Server(command, kind, port + 1)
            await server.ready(session)
            servers["canary"] = server
            await scrapes("canary")

        try:
            await asyncio.gather(load(), scrapes("stable"), canary())
        finally:
            for server in servers.values():
                with contextlib.suppress(ProcessLookupError):
                    server.process.terminate()
                await server.process.wait()
    rows.sort(key=lambda row: float(row[0]))
    with open(target / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    print(f"{name}: {len(rows)} scrapes", flush=True)


async def main():
    if len(sys.argv) != 2:
        raise SystemExit("usage: record.py DIRECTORY")
    target = pathlib.Path(sys.argv[1])
    target.mkdir(exist_ok=True)
    await asyncio.gather(*(run(*one, 21000 + 2 * i, target) for i, one in enumerate(runs())))


if __name__ == "__main__":
    asyncio.run(main())
