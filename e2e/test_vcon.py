"""The `vcon` package of PyPI builds what we take, and reads what we serve in the legacy form.

The package knows syntax 0.0.1 alone: an attachment of today, with a `purpose` and no `type`, it calls invalid. So the
server that it reads from runs with EGRESS_FORMAT_VERSION=0.0.1, as a Conserver with such readers does.
"""

import json
import time
import urllib.error
import urllib.request

import pytest
from vcon import Vcon
from vcon.dialog import Dialog
from vcon.party import Party

from conftest import Trunkline

TOKEN = "token-of-the-tests"
CONFIG = """
links:
  tag: {{module: links.tag, options: {{tags: [seen]}}}}
storages:
  files: {{module: storage.file, options: {{path: "{files}"}}}}
chains:
  main: {{links: [tag], ingress_lists: [incoming], egress_lists: [done], storages: [files], enabled: 1}}
"""
PATIENCE_SECONDS = 30


class Conserver:
    """A server whose API is asked as a Conserver's."""

    def __init__(self, folder, **environment):
        self.files = folder / "files"
        config = folder / "config.yml"
        config.write_text(CONFIG.format(files=self.files))
        variables = {"CONSERVER_CONFIG_FILE": str(config), "CONSERVER_API_TOKEN": TOKEN, **environment}
        self.server = Trunkline(folder, environment=variables)

    def ask(self, method: str, path: str, body=None) -> tuple[int, bytes]:
        data = body.encode() if isinstance(body, str) else body
        headers = {"x-conserver-api-token": TOKEN, "content-type": "application/json"}
        request = urllib.request.Request(self.server.url + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def get(self, vcon: Vcon) -> Vcon:
        status, body = self.ask("GET", f"/api/vcon/{vcon.uuid}")
        assert status == 200, body
        return Vcon.build_from_json(body.decode())

    def through_the_chain(self, vcon: Vcon):
        """Posts a vCon, and waits until the chain has finished with it."""
        status, body = self.ask("POST", "/api/vcon?ingress_lists=incoming", vcon.to_json())
        assert status == 201, body
        deadline = time.monotonic() + PATIENCE_SECONDS
        taken = []
        while vcon.uuid not in taken:
            assert time.monotonic() < deadline, f"not through the chain\n{self.server.log.read_text()}"
            status, body = self.ask("GET", "/api/vcon/egress?egress_list=done&limit=10")
            assert status == 200, body
            taken += json.loads(body)
            time.sleep(0.02)


@pytest.fixture(scope="module")
def legacy(tmp_path_factory):
    """A server whose readers know the legacy form."""
    conserver = Conserver(tmp_path_factory.mktemp("legacy"), EGRESS_FORMAT_VERSION="0.0.1")
    yield conserver
    conserver.server.stop()


@pytest.fixture(scope="module")
def canonical(tmp_path_factory):
    """A server that serves what it keeps."""
    conserver = Conserver(tmp_path_factory.mktemp("canonical"))
    yield conserver
    conserver.server.stop()


def built() -> Vcon:
    """A call with everything that the package can build."""
    vcon = Vcon.build_new()
    vcon.add_party(Party(tel="+15551234567", name="Ann Müller", role="customer"))
    vcon.add_party(Party(mailto="bob@example.com", name="Bob", role="agent"))
    start = "2026-11-20T10:00:00+00:00"
    audio = {"mimetype": "audio/wav", "body": "UklGRg", "encoding": "base64url", "filename": "call.wav"}
    vcon.add_dialog(Dialog(type="recording", start=start, parties=[0, 1], duration=61.5, **audio))
    vcon.add_analysis(type="summary", dialog=0, vendor="acme", body="They agreed. 🦀")
    words = json.dumps({"text": "Good morning", "confidence": 0.98})
    vcon.add_analysis(type="transcript", dialog=[0], vendor="acme", body=words, encoding="json")
    vcon.add_attachment(type="contract", body="Zm9v", encoding="base64url")
    vcon.add_tag("colour", "blue")
    return vcon


def assert_valid(vcon: Vcon):
    valid, errors = vcon.is_valid()
    assert valid, errors


def test_what_the_package_builds_is_taken_and_given_back(canonical):
    vcon = built()
    assert_valid(vcon)
    status, body = canonical.ask("POST", "/api/vcon", vcon.to_json())
    assert status == 201, body
    read = canonical.get(vcon).to_dict()
    sent = json.loads(vcon.to_json())
    assert read["uuid"] == sent["uuid"]
    for party, kept in zip(sent["parties"], read["parties"], strict=True):
        assert party.items() <= kept.items()
    assert read["dialog"][0]["body"] == sent["dialog"][0]["body"]
    assert len(read["analysis"]) == 2 and len(read["attachments"]) == 2


def test_the_package_reads_the_legacy_form(legacy):
    vcon = built()
    legacy.through_the_chain(vcon)
    read = legacy.get(vcon)
    assert_valid(read)
    assert read.vcon == "0.0.1"
    assert read.get_tag("colour") == "blue"
    assert read.get_tag("seen") == "seen", "the chain's own tag"
    assert read.find_analysis_by_type("summary")["body"] == "They agreed. 🦀"
    assert read.find_analysis_by_type("transcript")["body"] == {"text": "Good morning", "confidence": 0.98}
    assert read.find_attachment_by_type("contract")["body"] == "Zm9v"
    assert read.to_dict()["dialog"][0]["mimetype"] == "audio/wav"
    assert (read.group, read.redacted, read.appended) == ([], {}, None)


def test_without_it_the_canonical_form_is_served(canonical):
    vcon = built()
    canonical.through_the_chain(vcon)
    status, body = canonical.ask("GET", f"/api/vcon/{vcon.uuid}")
    assert status == 200, body
    read = json.loads(body)
    assert read["vcon"] == "0.4.0"
    assert [attachment.get("purpose") for attachment in read["attachments"]] == ["contract", "tags"]
    assert all(isinstance(attachment["body"], str) for attachment in read["attachments"])
    valid, errors = Vcon(read).is_valid()
    assert not valid and any("type" in error for error in errors), "the reason for the legacy form"


def test_the_file_that_the_chain_stored_is_the_vcon(canonical):
    vcon = built()
    canonical.through_the_chain(vcon)
    (stored,) = canonical.files.glob(f"*/*/*/{vcon.uuid}.json")
    assert json.loads(stored.read_text())["uuid"] == vcon.uuid
    assert stored.stat().st_mode & 0o777 == 0o644


def test_a_vcon_that_is_none_is_refused(legacy):
    vcon = built().to_dict()
    vcon["parties"][0]["tel"] = "tel:+15551234567"
    status, body = legacy.ask("POST", "/api/vcon", json.dumps(vcon))
    assert status == 422, body
    assert json.loads(body)["detail"][0]["loc"]
