"""Sends tasks all the time, and answers what became of them: GET /report, at port 8000.

A task is sent once the broker has taken it; what could not be sent is tried again under another name. RATE tasks per
second are short, half of them acknowledged early; every LONG_EVERY seconds one runs for LONG seconds, late and early in turn.
NEW=1 sends `shop.new` as well.
"""

import collections
import itertools
import json
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tasks import app, ledger

RATE = float(os.environ.get("RATE", "10"))
LONG = float(os.environ.get("LONG", "180"))
LONG_EVERY = float(os.environ.get("LONG_EVERY", "10"))
NEW = os.environ.get("NEW") == "1"
going = threading.Event()
going.set()
numbers = itertools.count(1)
refused = itertools.count()


def send(task, *args):
    what = "%s %s-%d" % (socket.gethostname(), task, next(numbers))
    try:
        app.send_task("shop." + task, args=(what, *args), queue="default", retry=False)
        ledger.hset("sent", what, task)
    except Exception as error:  # The broker is away: nobody has promised anything.
        next(refused)
        print("not sent:", error, flush=True)
        time.sleep(1)


def shorts():
    kinds = itertools.cycle(["short", "early", "new"] if NEW else ["short", "early"])
    while True:
        if going.is_set():
            send(next(kinds))
        time.sleep(1 / RATE)


def longs():
    kinds = itertools.cycle(["long", "long_early"])
    while True:
        if going.is_set():
            send(next(kinds), LONG)
        time.sleep(LONG_EVERY)


def runs(table):
    """The runs of each task: task -> [words of a run]."""
    found = collections.defaultdict(list)
    for run in ledger.smembers(table):
        what, words = run.decode().split("|", 1)
        found[what].append(words.split(" "))
    return found


def report():
    sent = [what.decode() for what in ledger.hkeys("sent")]
    done, started = runs("done"), runs("started")
    open_ = [what for what in sent if what not in done]
    told = lambda what: "%s: %s" % (what, "; ".join(" ".join(words) for words in done[what]))
    return {
        "sent": len(sent),
        "done": len(sent) - len(open_),
        "open": len(open_),
        "never_started": [what for what in open_ if what not in started][:20],
        "not_finished": [what for what in open_ if what in started][:20],
        "twice": [told(what) for what in sent if len(done[what]) > 1][:20],
        "begun_twice": sum(len(started[what]) > 1 for what in sent),
        "by": dict(collections.Counter(" ".join(words[3:]) for all_ in done.values() for words in all_)),
        "queued": ledger.llen("default"),
        "ticks": [tick.decode() for tick in ledger.zrange("ticks", 0, -1)],
    }


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/stop":
            going.clear()
        try:
            status, answer = 200, report()
        except Exception as error:
            status, answer = 503, {"error": str(error)}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


for loop in (shorts, longs):
    threading.Thread(target=loop, daemon=True).start()
ThreadingHTTPServer(("", 8000), Answers).serve_forever()
