"""summary.py RECORDS LOAD: the demo as a table, from its RolloutRecords and the load generator's log.

Exits 0 if the good release was promoted and the bad one rolled back.
"""

import json
import sys
from datetime import datetime

VERSIONS = ["v1", "v2", "v3"]
EXPECTED = {"v2": "Promoted", "v3": "RolledBack"}


def seconds(time: str) -> float:
    return datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp()


def requests(path: str) -> list[dict]:
    found = []
    with open(path) as lines:
        for line in lines:
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                pass  # the last line of a generator that was stopped
    return found


def failed(request: dict) -> bool:
    return request["status"] == 0 or request["status"] >= 500


def row(version: str, record: dict, load: list[dict]) -> list[str]:
    spec, status = record["spec"], record.get("status", {})
    end = seconds(status["endedAt"]) if "endedAt" in status else float("inf")
    served = [r for r in load if r["version"] == version and seconds(spec["startedAt"]) <= r["t"] <= end]
    slos = status.get("slos", [])
    return [
        version,
        spec["revision"],
        status.get("outcome", "still runs"),
        f'{status.get("durationSeconds", 0)} s',
        f'{status.get("maxWeight", 0)} %',
        str(len(served)),
        str(sum(map(failed, served))),
        ", ".join(f'{s["name"]} {s["spentByRollout"]}' for s in slos) or "-",
    ]


def main(records_path: str, load_path: str) -> int:
    with open(records_path) as file:
        records = sorted(json.load(file)["items"], key=lambda r: r["spec"]["startedAt"])
    load = requests(load_path)
    named = dict(zip(VERSIONS, records))
    table = [["", "revision", "outcome", "took", "at most", "requests", "failed", "error budget spent"]]
    table += [row(version, record, load) for version, record in named.items()]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    for line in table:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    print()
    bad = [r["t"] for r in load if r["version"] == "v3" and failed(r)]
    ended = named.get("v3", {}).get("status", {}).get("endedAt")
    if bad and ended:
        print(f"from v3's first failed request to weight 0: {seconds(ended) - bad[0]:.1f} s")
    own = [r for r in load if failed(r) and r["version"] == "v3"]
    others = [r for r in load if failed(r) and r["version"] != "v3"]
    print(f"requests: {len(load)}; failed: {len(own)} by v3 itself, {len(others)} others")
    for request in others[:5]:
        print(f'  {request["status"]} {request["version"] or "(no answer of the application)"} {request["error"]}')
    outcomes = {version: record.get("status", {}).get("outcome") for version, record in named.items()}
    wrong = {v: outcomes.get(v) for v, outcome in EXPECTED.items() if outcomes.get(v) != outcome}
    for version, outcome in wrong.items():
        print(f"{version} should have ended {EXPECTED[version]}; it ended {outcome}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
