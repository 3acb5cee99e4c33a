"""summary.py RECORDS LOAD ROUTE: the demo as a table, and whether all of it went as it should.

RECORDS and ROUTE are what kubectl prints of the RolloutRecords and the HTTPRoute, as JSON, after the load has
ended; LOAD is the load generator's log. Exits 0 if the good release was promoted and the bad one rolled back,
no request failed but the bad release's own, and the bad release's weight is back at 0; otherwise each line
that begins with `WRONG:` says what was not so.
"""

import json
import sys
from datetime import datetime
from itertools import dropwhile

VERSIONS = ["v1", "v2", "v3"]
BAD = "v3"
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
    # Also a 404: a gateway that has lost the route answers it.
    return request["status"] != 200


def outcome(record: dict) -> str:
    return record.get("status", {}).get("outcome", "no end yet")


def ended(record: dict) -> float:
    status = record.get("status", {})
    return seconds(status["endedAt"]) if "endedAt" in status else float("inf")


def row(version: str, record: dict, load: list[dict]) -> list[str]:
    spec, status = record["spec"], record.get("status", {})
    served = [r for r in load if r["version"] == version and seconds(spec["startedAt"]) <= r["t"] <= ended(record)]
    slos = status.get("slos", [])
    return [
        version,
        spec["revision"],
        outcome(record),
        f'{status.get("durationSeconds", 0)} s',
        f'{status.get("maxWeight", 0)} %',
        str(len(served)),
        str(sum(map(failed, served))),
        ", ".join(f'{s["name"]} {s["spentByRollout"]}' for s in slos) or "-",
    ]


def table(named: dict[str, dict], load: list[dict]) -> None:
    lines = [["", "revision", "outcome", "took", "at most", "requests", "failed", "error budget spent"]]
    lines += [row(version, record, load) for version, record in named.items()]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    print()


def wrong_outcomes(named: dict[str, dict]) -> list[str]:
    wrong = []
    for version, wanted in EXPECTED.items():
        found = outcome(named[version]) if version in named else "never tried"
        if found != wanted:
            wrong.append(f"{version} should have ended {wanted}; it is {found}")
    return wrong


def wrong_requests(load: list[dict]) -> list[str]:
    others = [r for r in load if failed(r) and r["version"] != BAD]
    if not load:
        return ["no request was answered"]
    if not others:
        return []
    shown = "".join(
        f'\n    {r["status"] or "no answer"} {r["version"] or "(not by the application)"} {r["error"]}'.rstrip()
        for r in others[:5]
    )
    more = f"\n    and {len(others) - 5} more" if len(others) > 5 else ""
    return [f"failed requests that are not {BAD}'s own: {len(others)}{shown}{more}"]


def wrong_weights(named: dict[str, dict], load: list[dict], route: dict) -> list[str]:
    if BAD not in named:
        return []
    revision = named[BAD]["spec"]["revision"]
    backends = [b for rule in route.get("spec", {}).get("rules", []) for b in rule.get("backendRefs", [])]
    if not backends:
        return ["the HTTPRoute has no backends at the end"]
    # What is left out counts as 1.
    left = sum(b.get("weight", 1) for b in backends if b["name"].endswith(f"-{revision}"))
    wrong = [f"{BAD}'s weight is {left} at the end, not 0"] if left else []
    # The record ends once the router has acknowledged the weight; answers may come a moment later.
    late = [r for r in load if r["version"] == BAD and r["t"] > ended(named[BAD]) + 1]
    if late:
        wrong.append(f"requests to {BAD} after it had been taken back: {len(late)}")
    return wrong


def main(records_path: str, load_path: str, route_path: str) -> int:
    with open(records_path) as file:
        records = sorted(json.load(file)["items"], key=lambda r: r["spec"]["startedAt"])
    with open(route_path) as file:
        route = json.load(file)
    everything = requests(load_path)
    # Before the gateway had heard of the new route, there was no service to fail.
    load = list(dropwhile(failed, everything))
    named = dict(zip(VERSIONS, records))
    table(named, load)
    own = [r for r in load if failed(r) and r["version"] == BAD]
    if own and BAD in named and "endedAt" in named[BAD].get("status", {}):
        print(f"from {BAD}'s first failed request to weight 0: {ended(named[BAD]) - own[0]['t']:.1f} s")
    others = sum(map(failed, load)) - len(own)
    print(f"requests: {len(load)}; failed: {len(own)} by {BAD} itself, {others} others")
    if len(load) < len(everything):
        print(f"not counted: {len(everything) - len(load)} from before the gateway's first answer")
    wrong = wrong_outcomes(named) + wrong_requests(load) + wrong_weights(named, load, route)
    for what in wrong:
        print(f"WRONG: {what}")
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: summary.py RECORDS LOAD ROUTE")
    sys.exit(main(*sys.argv[1:]))
