"""What the demo's exit status says of what happened in it."""

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path

import summary

START = 1_800_000_000


def time(after: float) -> str:
    return summary.datetime.fromtimestamp(START + after, summary.datetime.now().astimezone().tzinfo).isoformat()


def record(revision: str, start: float, end: float, outcome: str) -> dict:
    return {
        "spec": {"revision": revision, "startedAt": time(start)},
        "status": {"outcome": outcome, "endedAt": time(end), "durationSeconds": int(end - start), "maxWeight": 10},
    }


def request(at: float, version: str, status: int = 200) -> dict:
    return {"t": START + at, "status": status, "version": version, "ms": 1.0, "error": ""}


class Demo(unittest.TestCase):
    """A demo that went as it should, in which each test spoils one thing."""

    def setUp(self) -> None:
        self.records = [
            record("aaa", 0, 10, "Promoted"),
            record("bbb", 20, 60, "Promoted"),
            record("ccc", 70, 90, "RolledBack"),
        ]
        self.load = [request(15, "v1"), request(50, "v2"), request(80, "v3", 500), request(100, "v2")]
        self.backends = [{"name": "demo-bbb", "weight": 100}, {"name": "demo-ccc", "weight": 0}]

    def ends(self) -> tuple[int, str]:
        route = {"spec": {"rules": [{"backendRefs": self.backends}]}}
        printed = io.StringIO()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(printed):
            records, load, routes = (Path(folder) / name for name in ("records", "load", "route"))
            records.write_text(json.dumps({"items": self.records}))
            load.write_text("".join(json.dumps(r) + "\n" for r in self.load) + '{"t": 1')
            routes.write_text(json.dumps(route))
            code = summary.main(str(records), str(load), str(routes))
        return code, printed.getvalue()

    def fails(self, what: str) -> None:
        code, text = self.ends()
        self.assertIn(f"WRONG: {what}", text)
        self.assertEqual(code, 1)

    def test_a_demo_that_went_well_passes(self) -> None:
        code, text = self.ends()
        self.assertNotIn("WRONG", text)
        self.assertIn("first failed request to weight 0: 10.0 s", text)
        self.assertEqual(code, 0)

    def test_what_came_before_the_first_answer_is_told_and_not_counted(self) -> None:
        self.load.insert(0, request(14, "", 404))
        code, text = self.ends()
        self.assertIn("not counted: 1", text)
        self.assertEqual(code, 0)

    def test_a_failed_request_of_another_version_fails_the_demo(self) -> None:
        self.load.append(request(101, "v2", 503))
        self.fails("failed requests that are not v3's own: 1")

    def test_a_request_without_an_answer_fails_the_demo(self) -> None:
        self.load.append(request(101, "", 0))
        self.fails("failed requests that are not v3's own: 1")

    def test_a_gateway_that_has_lost_the_route_fails_the_demo(self) -> None:
        self.load.append(request(101, "", 404))
        self.fails("failed requests that are not v3's own: 1")

    def test_a_weight_that_stays_fails_the_demo(self) -> None:
        self.backends[1]["weight"] = 10
        self.fails("v3's weight is 10 at the end, not 0")

    def test_users_who_still_meet_the_bad_release_fail_the_demo(self) -> None:
        self.load.append(request(95, "v3"))
        self.fails("requests to v3 after it had been taken back: 1")

    def test_a_bad_release_that_is_promoted_fails_the_demo(self) -> None:
        self.records[2]["status"]["outcome"] = "Promoted"
        self.fails("v3 should have ended RolledBack; it is Promoted")

    def test_a_release_that_was_never_tried_fails_the_demo(self) -> None:
        del self.records[2]
        self.fails("v3 should have ended RolledBack; it is never tried")

    def test_no_load_is_no_proof(self) -> None:
        self.load = []
        self.fails("no request was answered")


if __name__ == "__main__":
    unittest.main()
