"""The official `openai` package's responses and completions, against models that only speak chat: what Trunkline
converts and keeps itself."""

import json
import urllib.request

import openai
import pytest
from pydantic import BaseModel

CHAT = "demo/chat"
HELLO = "Say hello to the people of Vienna."
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "strict": False,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class City(BaseModel):
    name: str
    people: int


def test_create(client):
    response = client.responses.create(model=CHAT, input=HELLO, instructions="Be brief.", metadata={"k": "v"})
    assert response.object == "response"
    assert response.status == "completed"
    assert response.output_text
    assert response.instructions == "Be brief."
    assert response.metadata == {"k": "v"}
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens > 0
    [message] = response.output
    assert message.type == "message" and message.role == "assistant" and message.id


def test_stream_has_every_event_in_order(client):
    events = list(client.responses.create(model=CHAT, input=HELLO, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    names = [event.type for event in events]
    assert names[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert names[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text != ""
    assert events[-1].response.usage.output_tokens > 0


def test_the_stream_helper_accumulates(client):
    with client.responses.stream(model=CHAT, input=HELLO) as stream:
        for _ in stream:
            pass
        response = stream.get_final_response()
    assert response.output_text and response.status == "completed"


def test_tools_whole_and_streamed(client):
    asked = {
        "model": CHAT,
        "input": "What is the weather in Vienna?",
        "tools": [WEATHER],
        "tool_choice": {"type": "function", "name": "get_weather"},
    }
    [call] = client.responses.create(**asked).output
    assert call.type == "function_call" and call.name == "get_weather" and call.call_id
    assert "city" in json.loads(call.arguments)

    with client.responses.stream(**asked) as stream:
        deltas = "".join(e.delta for e in stream if e.type == "response.function_call_arguments.delta")
        [streamed] = stream.get_final_response().output
    assert deltas == streamed.arguments == call.arguments

    answer = client.responses.create(
        model=CHAT,
        tools=[WEATHER],
        input=[
            {"role": "user", "content": asked["input"]},
            {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
            {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."},
        ],
    )
    assert answer.output_text


def test_structured_output_is_parsed(client):
    parsed = client.responses.parse(model=CHAT, input="Which city is it?", text_format=City)
    assert isinstance(parsed.output_parsed, City)


def test_a_response_is_kept_gone_on_from_and_deleted(client):
    first = client.responses.create(model=CHAT, input="My name is Ann.")
    again = client.responses.retrieve(first.id)
    assert again.id == first.id and again.output_text == first.output_text

    second = client.responses.create(model=CHAT, input="What is my name?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    items = client.responses.input_items.list(second.id, order="asc").data
    assert [item.role for item in items] == ["user", "assistant", "user"]
    assert items[0].content[0].text == "My name is Ann."

    client.responses.delete(first.id)
    for gone in (
        lambda: client.responses.retrieve(first.id),
        lambda: client.responses.input_items.list(first.id),
        lambda: client.responses.delete(first.id),
    ):
        with pytest.raises(openai.NotFoundError):
            gone()
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=CHAT, input="x", previous_response_id=first.id)
    assert refused.value.code == "previous_response_not_found"
    assert refused.value.param == "previous_response_id"
    assert client.responses.retrieve(second.id).id == second.id


def test_a_streamed_response_is_kept_when_its_last_event_is_here(client):
    with client.responses.stream(model=CHAT, input="My name is Ann.") as stream:
        first = stream.get_final_response()
    assert client.responses.retrieve(first.id).output_text == first.output_text
    with client.responses.stream(model=CHAT, input="And now?", previous_response_id=first.id) as stream:
        assert stream.get_final_response().previous_response_id == first.id


def test_nothing_is_kept_that_was_not_to_be(client):
    response = client.responses.create(model=CHAT, input=HELLO, store=False)
    assert response.store is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_what_makes_no_sense_is_refused(client):
    first = client.responses.create(model=CHAT, input=HELLO)
    for refused, says in (
        (lambda: client.responses.cancel(first.id), "not running"),
        (lambda: client.responses.create(model=CHAT, input=HELLO, background=True), "background"),
        (lambda: client.responses.create(model=CHAT, input=[]), "at least one"),
        (lambda: client.responses.create(model=CHAT, input=HELLO, tools=[{"type": "web_search"}]), "web_search"),
    ):
        with pytest.raises(openai.BadRequestError, match=says):
            refused()


def test_what_is_lost_is_told(client):
    response = client.responses.with_raw_response.create(model=CHAT, input=HELLO, prompt_cache_key="k")
    assert response.headers["x-trunkline-dropped"] == "prompt_cache_key"


def test_another_group_sees_nothing(demo, client):
    def admin(path, body):
        request = urllib.request.Request(
            demo.url + path,
            data=json.dumps(body).encode(),
            headers={"authorization": f"Bearer {demo.admin_key}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    group = admin("/api/groups", {"name": "other-responses"})
    secret = admin("/api/keys", {"name": "other-responses", "group_id": group["id"]})["key"]
    mine = client.responses.create(model=CHAT, input=HELLO)
    with demo.client(api_key=secret) as other:
        with pytest.raises(openai.NotFoundError):
            other.responses.retrieve(mine.id)
        with pytest.raises(openai.NotFoundError):
            other.responses.delete(mine.id)
        with pytest.raises(openai.BadRequestError, match="not found"):
            other.responses.create(model=CHAT, input="x", previous_response_id=mine.id)
    assert client.responses.retrieve(mine.id).id == mine.id


def test_completions(client):
    completion = client.completions.create(model=CHAT, prompt="Once upon a time", echo=True)
    [choice] = completion.choices
    assert completion.object == "text_completion"
    assert choice.text.startswith("Once upon a time") and len(choice.text) > 20
    assert choice.finish_reason == "stop"
    assert completion.usage.completion_tokens > 0

    chunks = list(
        client.completions.create(
            model=CHAT, prompt="Once upon a time", stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    assert chunks[-1].usage.completion_tokens > 0
    with pytest.raises(openai.BadRequestError, match="suffix"):
        client.completions.create(model=CHAT, prompt="x", suffix="y")
