"""Runs a link module written for the Conserver, `run(vcon_uuid, link_name, opts)`, for Trunkline's `links.python`.

Standard input: one JSON object with `vcon`, `module`, `link_name`, `options`, `pip_name`, `path`.
Standard output: one JSON object with `next` (continue, halt, replace), `uuid`, `vcon` (null when unchanged), `others`
(further vCons that were stored), `routes` (lists it was pushed to), `keep` (seconds). What the link prints goes to
standard error. Exit codes: 0 done, 65 the link cannot be run at all, 1 it failed.

The link finds what the Conserver gave it (`lib.vcon_redis`, `vcon`, `redis_mgr`, `lib.logging_utils`, `lib.metrics`,
`lib.error_tracking`, `lib.links.filters`), backed by the one vCon it was given; other modules of `lib` come from the
folders in `path`, if they are there.
"""

import asyncio
import copy
import importlib
import importlib.util
import inspect
import json
import logging
import os
import random
import sys
import traceback
import types

CANNOT_RUN = 65


class Vcon:
    """A vCon as the Conserver's links know it."""

    def __init__(self, vcon_dict=None):
        self.vcon_dict = copy.deepcopy(vcon_dict or {})
        for key in ("parties", "dialog", "analysis", "attachments"):
            self.vcon_dict.setdefault(key, [])

    @classmethod
    def build_from_json(cls, text):
        return cls(json.loads(text))

    @staticmethod
    def decoded_body(entry):
        if not entry:
            return None
        body = entry.get("body")
        if entry.get("encoding") == "json" and isinstance(body, str):
            return json.loads(body)
        return body

    @staticmethod
    def with_decoded_body(entry):
        return {**entry, "body": Vcon.decoded_body(entry)} if entry else None

    def __getattr__(self, name):
        if name in ("parties", "dialog", "analysis", "attachments", "group"):
            return self.vcon_dict.setdefault(name, [])
        if name in ("uuid", "vcon", "subject", "created_at", "updated_at", "redacted", "appended"):
            return self.vcon_dict.get(name)
        raise AttributeError(name)

    @property
    def tags(self):
        return self.find_attachment_by_purpose("tags")

    def find_attachment_by_purpose(self, purpose):
        named = (a for a in self.attachments if purpose in (a.get("purpose"), a.get("type")))
        return next(named, None)

    find_attachment_by_type = find_attachment_by_purpose

    def get_tag(self, tag_name):
        tags = self.decoded_body(self.tags) or []
        found = (tag for tag in tags if tag.startswith(tag_name + ":"))
        return next((tag.split(":", 1)[1] for tag in found), None)

    def add_tag(self, tag_name, tag_value):
        attachment = self.tags
        if attachment is None:
            attachment = {"purpose": "tags"}
            self.attachments.append(attachment)
        tags = self.decoded_body(attachment) or []
        if isinstance(tags, dict):
            tags = ["%s:%s" % item for item in tags.items()]
        tags.append("%s:%s" % (tag_name, tag_value))
        attachment["body"] = json.dumps(tags)
        attachment["encoding"] = "json"

    @staticmethod
    def _body(body, encoding):
        if encoding not in ("json", "none", "base64url"):
            raise ValueError("encoding must be json, none or base64url")
        return (json.dumps(body), "json") if isinstance(body, (dict, list)) else (body, encoding)

    def add_attachment(self, *, body, type, encoding="none"):
        body, encoding = self._body(body, encoding)
        self.attachments.append({"purpose": type, "body": body, "encoding": encoding})

    def find_analysis_by_type(self, type):
        return next((a for a in self.analysis if a.get("type") == type), None)

    def add_analysis(self, *, type, dialog, vendor, body, encoding="none", extra=None):
        body, encoding = self._body(body, encoding)
        entry = {"type": type, "dialog": dialog, "vendor": vendor, "body": body, "encoding": encoding}
        self.analysis.append({**entry, **(extra or {})})

    def add_party(self, party):
        self.parties.append(party)

    def add_dialog(self, dialog):
        self.dialog.append(dialog)

    def find_party_index(self, by, val):
        return next((i for i, party in enumerate(self.parties) if party.get(by) == val), None)

    def find_dialog(self, by, val):
        return next((dialog for dialog in self.dialog if dialog.get(by) == val), None)

    def to_dict(self):
        return copy.deepcopy(self.vcon_dict)

    def to_json(self):
        return json.dumps(self.vcon_dict)

    dumps = to_json


class Store:
    """What stands for Redis: vCons by uuid, and what was asked of the queues."""

    def __init__(self):
        self.values, self.routes, self.keep = {}, [], None

    # VconRedis
    def get_vcon(self, vcon_id):
        found = self.values.get("vcon:%s" % vcon_id)
        return Vcon(found) if found is not None else None

    def get_vcon_dict(self, vcon_id):
        return copy.deepcopy(self.values.get("vcon:%s" % vcon_id))

    def store_vcon(self, vcon, ttl=None):
        self.store_vcon_dict(vcon.to_dict())

    def store_vcon_dict(self, vcon_dict, ttl=None):
        self.values["vcon:%s" % vcon_dict["uuid"]] = copy.deepcopy(vcon_dict)

    # redis
    def json(self):
        return self

    def get(self, key, *_):
        return copy.deepcopy(self.values.get(key))

    def set(self, key, path, value=None, **_):
        if value is None:
            path, value = "$", path
        if path not in ("$", "."):
            raise NotImplementedError("only whole documents can be set here, not the path %s" % path)
        self.values[key] = copy.deepcopy(value)
        return True

    def delete(self, *keys):
        return sum(self.values.pop(key, None) is not None for key in keys)

    def exists(self, key):
        return int(key in self.values)

    def rpush(self, name, *uuids):
        self.routes.extend((name, str(uuid)) for uuid in uuids)
        return len(uuids)

    lpush = rpush

    def expire(self, key, seconds):
        self.keep = int(seconds)
        return True


def is_included(options, vcon):
    only_if = (options or {}).get("only_if")
    if not only_if:
        return True
    target = only_if.get("purpose") or only_if.get("type")
    for element in getattr(vcon, only_if["section"]):
        if target not in (element.get("type"), element.get("purpose")):
            continue
        body = Vcon.decoded_body(element)
        found = body if isinstance(body, (str, list)) else json.dumps(body)
        if only_if["includes"] in found:
            return True
    return False


def with_sampling(options):
    rate = options.get("sampling_rate")
    return random.random() < rate if rate else True


def provide(name, **members):
    module = types.ModuleType(name)
    module.__dict__.update(members)
    sys.modules[name] = module
    return module


def surroundings(store, folders):
    """The modules that the Conserver gives its links."""

    def nothing(*_, **__):
        return None

    lib = provide("lib")
    lib.__path__ = [os.path.join(folder, "lib") for folder in folders]
    links = provide("lib.links")
    links.__path__ = [os.path.join(folder, "lib", "links") for folder in folders]
    provide("vcon", Vcon=Vcon)
    provide("redis_mgr", redis=store, get_client=lambda *_: store)
    provide("lib.vcon_redis", VconRedis=lambda *_, **__: store)
    provide("lib.logging_utils", init_logger=logging.getLogger)
    provide("lib.error_tracking", init_error_tracker=nothing)
    provide(
        "lib.metrics",
        record_histogram=nothing,
        increment_counter=nothing,
        init_metrics=nothing,
        stats_gauge=nothing,
        stats_count=nothing,
    )
    provide(
        "lib.links.filters", is_included=is_included, randomly_execute_with_sampling=with_sampling
    )


def load(given):
    """The link's module, by its name or the path of its file."""
    name = given["module"]
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        spec = importlib.util.spec_from_file_location("conserver_custom_link", name)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    except (ImportError, OSError) as error:
        package = given.get("pip_name") or getattr(error, "name", None) or name
        print(
            "%s cannot be imported (%s): add its folder to `path`, or run: %s -m pip install %s"
            % (name, error, sys.executable, package),
            file=sys.stderr,
        )
        sys.exit(CANNOT_RUN)


def main():
    given = json.load(sys.stdin)
    answer = os.fdopen(os.dup(1), "w")
    # What a link prints must not stand in the answer.
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    logging.basicConfig(stream=sys.stderr, level=os.environ.get("LOG_LEVEL", "WARNING").upper())
    folders = given.get("path") or []
    sys.path[:0] = folders
    store, before = Store(), given["vcon"]
    uuid = before["uuid"]
    store.store_vcon_dict(before)
    surroundings(store, folders)
    module = load(given)
    if not callable(getattr(module, "run", None)):
        print("%s has no function `run`" % given["module"], file=sys.stderr)
        sys.exit(CANNOT_RUN)
    options = given.get("options")
    arguments = [uuid, given["link_name"]] + ([options] if options is not None else [])
    try:
        result = module.run(*arguments)
        if inspect.isawaitable(result):
            result = asyncio.run(result)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
    after = store.values.pop("vcon:%s" % uuid, before)
    others = [value for key, value in store.values.items() if key.startswith("vcon:")]
    step = "halt" if not result else "continue" if str(result) == uuid else "replace"
    told = {
        "next": step,
        "uuid": str(result) if result else None,
        "vcon": None if after == before else after,
        "others": others,
        "routes": [name for name, pushed in store.routes if pushed == uuid],
        "keep": store.keep,
    }
    json.dump(told, answer)
    answer.close()


if __name__ == "__main__":
    main()
