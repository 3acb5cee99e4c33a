"""What celery-exporter (github.com/danihodovic/celery-exporter) exports, as far as Molt reads it: that one is an image on a
registry and no package, and nothing is pulled here. The same names and labels, from the same events of Celery's own.
"""

import threading
import time

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from tasks import app

LABELS = ["name", "hostname", "queue_name"]
counters = {
    "task-" + end: Counter("celery_task_" + end, "Tasks that ended so.", LABELS + more)
    for end, more in {"succeeded": [], "failed": ["exception"], "rejected": [], "retried": []}.items()
}
runtime = Histogram("celery_task_runtime", "Seconds that a task ran.", LABELS)
wait = Histogram("celery_task_queue_wait_time", "Seconds that a task waited.", LABELS)
up = Gauge("celery_worker_up", "A worker that was heard of lately.", ["hostname"])
heard, sent, names = {}, {}, {}


def hostname(event):
    return event["hostname"].split("@")[-1]


def on_event(event):
    kind, host = event["type"], hostname(event)
    if kind.startswith("worker-"):
        up.labels(host).set(0 if kind == "worker-offline" else 1)
        heard[host] = time.time()
        return
    uuid = event.get("uuid")
    if kind == "task-sent":
        sent[uuid] = event["timestamp"]
        return
    if kind == "task-received":
        names[uuid] = event.get("name") or "unknown"
    labels = (names.get(uuid, "unknown"), host, "default")
    for end, counter in counters.items():
        # All of them from the first event on, at 0.
        more = ("",) if end == "task-failed" else ()
        counter.labels(*labels, *more).inc(0)
    if kind == "task-started" and uuid in sent:
        wait.labels(*labels).observe(max(0.0, event["timestamp"] - sent.pop(uuid)))
    if kind == "task-failed":
        exception = event.get("exception", "").split("(")[0] or "unknown"
        counters[kind].labels(*labels, exception).inc()
    elif kind in counters:
        counters[kind].labels(*labels).inc()
    if kind == "task-succeeded":
        runtime.labels(*labels).observe(event["runtime"])
    if kind in counters and kind != "task-retried":
        names.pop(uuid, None)


def forget():
    while True:
        time.sleep(5)
        for host, at in list(heard.items()):
            if time.time() - at > 30:
                up.labels(host).set(0)


start_http_server(9808)
threading.Thread(target=forget, daemon=True).start()
while True:
    try:
        with app.connection() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": on_event})
            receiver.capture(limit=None, timeout=None, wakeup=True)
    except Exception as error:  # The broker is away.
        print("no events:", error, flush=True)
        time.sleep(1)
