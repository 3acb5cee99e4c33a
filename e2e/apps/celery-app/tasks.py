"""Tasks that write down each of their runs, so that one that is lost, or run twice, can be told.

RELEASE names the version; `shop.new` is known from v2 on. FAILS is the share of tasks that fail.
"""

import os
import random
import socket
import time
import uuid

from celery import Celery
from celery.signals import before_task_publish
from redis import Redis

BROKER = os.environ.get("BROKER", "redis://redis:6379/0")
RELEASE = os.environ.get("RELEASE", "v1")
FAILS = float(os.environ.get("FAILS", "0"))

app = Celery("shop", broker=BROKER)
app.conf.update(
    # What celery-exporter reads: workers tell of each task, and producers when it was sent.
    worker_send_task_events=True,
    task_send_sent_event=True,
    task_default_queue="default",
    # One task ahead of each process at most: what a worker holds back, others can't do.
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
    beat_schedule={"tick": {"task": "shop.short", "schedule": 1.0, "args": ("tick",)}},
)
ledger = Redis.from_url(BROKER, socket_timeout=10, retry_on_timeout=True)


def run(task, what, seconds):
    """Writes down when this run begins and when it is done. A run has a name: a write that is tried again, because its
    answer was late, is no second run."""
    again = "redelivered" if task.request.delivery_info.get("redelivered") else "delivered"
    name = "%s|%s %s %s %s" % (what, uuid.uuid4().hex[:8], socket.gethostname(), again, RELEASE)
    ledger.sadd("started", name)
    time.sleep(seconds)
    if random.random() < FAILS:
        raise RuntimeError("as it was told to")
    ledger.sadd("done", "%s %s" % (name, task.name.removeprefix("shop.")))


@app.task(name="shop.short", acks_late=True, bind=True)
def short(self, what):
    run(self, what, 0.05)


@app.task(name="shop.early", bind=True)
def early(self, what):
    run(self, what, 0.05)


@app.task(name="shop.long", acks_late=True, bind=True)
def long(self, what, seconds):
    run(self, what, seconds)


@app.task(name="shop.long_early", bind=True)
def long_early(self, what, seconds):
    run(self, what, seconds)


if RELEASE != "v1":

    @app.task(name="shop.new", acks_late=True, bind=True)
    def new(self, what):
        run(self, what, 0.05)


@before_task_publish.connect
def note_tick(sender=None, body=None, **_):
    """Which scheduler sent each tick, and when."""
    if body[0] and body[0][0] == "tick":
        now = time.time()
        ledger.zadd("ticks", {"%.3f %s" % (now, socket.gethostname()): now})
