"""Starts `trunkline serve`: once with nothing but its demo models, once in front of a provider that fails on
request."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import openai
import pytest

from fake_upstream import FakeUpstream

BINARY = os.environ["TRUNKLINE_BIN"]
START_SECONDS = 30
STOP_SECONDS = 20


class Trunkline:
    """One running server, as its ready file describes it."""

    def __init__(self, folder: Path, *arguments: str, environment: dict[str, str] | None = None):
        ready_file = folder / "ready.json"
        self.log = folder / "log"
        command = [
            *(BINARY, "serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"),
            *("--data-dir", str(folder / "data"), "--ready-file", str(ready_file), *arguments),
        ]
        # A clean environment: no provider's key of whoever runs the tests.
        clean = {"PATH": os.environ["PATH"], "HOME": str(folder), **(environment or {})}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=clean, stdout=log, stderr=log)
        ready = self._wait_for(ready_file)
        self.mode = ready_file.stat().st_mode & 0o777
        self.url = ready["url"].rstrip("/")
        self.metrics_url = ready["metrics_url"]
        self.key = ready["key"]
        self.admin_key = ready["admin_key"]

    def _wait_for(self, ready_file: Path) -> dict:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                pytest.fail(f"trunkline ended with {self.process.returncode}:\n{self.log.read_text()}")
            try:
                return json.loads(ready_file.read_text())
            except (FileNotFoundError, json.JSONDecodeError):
                time.sleep(0.02)
        self.process.kill()
        pytest.fail(f"trunkline was not ready within {START_SECONDS} s:\n{self.log.read_text()}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert status == 0, f"exit code {status} after SIGTERM:\n{self.log.read_text()}"

    def client(self, **options) -> openai.OpenAI:
        return openai.OpenAI(**{"base_url": self.url + "/v1", "api_key": self.key, "max_retries": 0, **options})

    def async_client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=self.url + "/v1", api_key=self.key, max_retries=0)


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """A server on its first run, with neither settings nor provider keys."""
    server = Trunkline(tmp_path_factory.mktemp("demo"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def upstream():
    """The provider that fails on request."""
    upstream = FakeUpstream()
    yield upstream
    upstream.close()


SETTINGS = """
server:
  max_body: 1MiB
providers:
  lab:
    kind: openai-compatible
    base_url: {base_url}
    api_key: lab-secret
models:
  sturdy:
    targets:
      - {{provider: lab, model: broken}}
      - {{provider: lab, model: echo}}
  fragile:
    targets:
      # A model of its own: aliases that lead to one target share its breaker.
      - provider: lab
        model: fragile
        resilience: {{breaker: {{failures: 1, successes: 1, open_for: 60s}}}}
resilience:
  retries: 0
  first_token_timeout: 2s
  idle_timeout: 2s
  request_timeout: 2s
  breaker: {{failures: 1000}}
"""


@pytest.fixture(scope="session")
def lab(tmp_path_factory, upstream):
    """A server in front of `upstream`, without retries and with short timeouts."""
    folder = tmp_path_factory.mktemp("lab")
    settings = folder / "trunkline.yaml"
    settings.write_text(SETTINGS.format(base_url=upstream.base_url))
    server = Trunkline(folder, "--config", str(settings))
    yield server
    server.stop()


@pytest.fixture
def client(demo):
    """The official client, at the demo models."""
    with demo.client() as client:
        yield client


@pytest.fixture
def lab_client(lab):
    """The official client, in front of the provider that fails on request."""
    with lab.client() as client:
        yield client
