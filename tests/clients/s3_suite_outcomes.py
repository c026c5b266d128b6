"""Write each test's outcome to the file $S3_SUITE_OUTCOMES as it ends, so that a run broken off keeps what it found.

A plugin of pytest, loaded by s3-suite: a line of JSON for each case, {"test", "case", "outcome", "seconds", "said"};
`outcome` is passed, failed or skipped, its set-up and clean-up counted in, and `said` what the failure printed.
"""
import json
import os
import re

SAID_MAX = 6000
# What is known of the cases that have not ended.
open_cases = {}


def pytest_runtest_logreport(report):
    # A worker's reports all come to the one that started it.
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    case = open_cases.setdefault(report.nodeid, {"outcome": "passed", "seconds": 0.0, "said": ""})
    case["seconds"] += getattr(report, "duration", 0.0)
    if report.outcome == "failed" or report.outcome == "skipped" and case["outcome"] == "passed":
        case["outcome"] = report.outcome
    if report.outcome == "failed":
        case["said"] = (case["said"] + report.longreprtext)[-SAID_MAX:]
    # A worker that dies says so in place of the phases that are missing.
    if report.when in ("setup", "call"):
        return
    line = {"test": re.sub(r"\[.*", "", report.nodeid.split("::")[-1]), "case": report.nodeid, **open_cases.pop(report.nodeid)}
    with open(os.environ["S3_SUITE_OUTCOMES"], "a") as out:
        out.write(json.dumps(line) + "\n")
