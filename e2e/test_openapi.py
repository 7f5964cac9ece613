"""Requests made from the OpenAPI document of the admin API, right ones and wrong ones: none may be answered with a 5xx,
or with a status that the document does not tell of."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Trunkline

SECONDS = 60


@pytest.mark.timeout(SECONDS * 3)
def test_schemathesis_finds_no_5xx_and_no_undocumented_status(tmp_path):
    server = Trunkline(tmp_path)
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        *("run", f"{server.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {server.admin_key}"),
        *("--checks", "not_a_server_error,status_code_conformance"),
        # One after the other and with one seed, so that what is found is found again.
        *("--max-examples", "8", "--workers", "1", "--seed", "20261120", "--max-time", str(SECONDS)),
        *("--phases", "examples,coverage,fuzzing"),
        *("--suppress-health-check", "all", "--no-color"),
        # Limits that it sets would limit itself, and what it imports or rotates is its own.
        *("--exclude-path", "/api/settings/limits", "--exclude-path", "/api/ip-rules"),
        *("--exclude-path", "/api/ip-rules/{id}", "--exclude-path-regex", "(?i)^/api/ipfilter"),
    ]
    try:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    finally:
        server.stop()
    # A run that is over because its time is over has found what it found.
    report = done.stdout + done.stderr
    assert "generated" in report, report[-4000:]
    failures = [line for line in report.splitlines() if "Server error" in line or "Undocumented status" in line]
    assert not failures, report[-8000:]
