"""The fake providers of `testkit` as a process, one for each behaviour, and a server in front of them.

A fake speaks every dialect it knows: the path of a request decides. So the same addresses serve providers of kind
`openai-compatible`, `anthropic` and `bedrock`.
"""

import json
import os
import subprocess

import pytest

from conftest import Trunkline

BEHAVIOURS = ["ok", "tool", "filtered", "limited", "failed", "overflow", "broken", "cut"]
KINDS = {
    "openai": "kind: openai-compatible, api_key: sk-fake",
    "anthropic": "kind: anthropic, api_key: sk-fake",
    "gemini": "kind: gemini, api_key: fake-secret",
    "bedrock": "kind: bedrock, aws: {region: eu-west-1, access_key_id: AKIDEXAMPLE, secret_access_key: fake-secret}",
}
TEXT = "Hello from the upstream."


@pytest.fixture(scope="session")
def fakes():
    """Base URLs by behaviour."""
    process = subprocess.Popen(
        [os.environ["TESTKIT_FAKE"], *BEHAVIOURS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield json.loads(process.stdout.readline())
    process.stdin.close()
    assert process.wait(20) == 0


@pytest.fixture(scope="session")
def front(tmp_path_factory, fakes):
    """A server whose aliases are `KIND-BEHAVIOUR`, without retries."""
    folder = tmp_path_factory.mktemp("front")
    providers, models = [], []
    for kind, options in KINDS.items():
        for behaviour, url in fakes.items():
            name = f"{kind}-{behaviour}"
            providers.append(f"  {name}: {{{options}, base_url: {url}}}")
            models.append(f"  {name}: {{targets: [{{provider: {name}, model: claude-sonnet-4-5}}]}}")
    lines = ["resilience: {retries: 0, breaker: {failures: 1000}}", "providers:", *providers, "models:", *models]
    settings = folder / "trunkline.yaml"
    settings.write_text("\n".join(lines) + "\n")
    server = Trunkline(folder, "--config", str(settings))
    yield server
    server.stop()
