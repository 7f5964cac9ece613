"""The official `openai` package against Trunkline's demo models: what works."""

import asyncio
import json
import math
import urllib.request
from typing import Literal

import pytest
from pydantic import BaseModel

CHAT = "demo/chat"
EMBEDDING = "demo/embedding"
HELLO = [{"role": "user", "content": "Say hello to the people of Vienna."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["c", "f"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
ASK_WEATHER = [{"role": "user", "content": "What is the weather in Vienna?"}]
CALL_WEATHER = {"type": "function", "function": {"name": "get_weather"}}
# The smallest PNG: one transparent pixel.
PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def joined(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_the_ready_file_is_for_its_owner_only(demo):
    assert demo.mode == 0o600
    assert demo.key and demo.admin_key and demo.key != demo.admin_key


def test_chat(client):
    completion = client.chat.completions.create(model=CHAT, messages=HELLO)
    assert completion.object == "chat.completion"
    assert completion.id
    assert completion.created > 0
    [choice] = completion.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason == "stop"
    assert completion.usage.prompt_tokens > 0
    assert completion.usage.completion_tokens > 0
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


def test_the_same_question_has_the_same_answer(client):
    answers = {
        client.chat.completions.create(model=CHAT, messages=HELLO, seed=7).choices[0].message.content for _ in range(3)
    }
    assert len(answers) == 1


def test_response_headers(client):
    response = client.chat.completions.with_raw_response.create(model=CHAT, messages=HELLO)
    assert response.headers["x-request-id"]
    assert response.headers["x-trunkline-target"] == CHAT
    assert response.headers["x-trunkline-attempts"] == "1"
    assert int(response.headers["x-trunkline-overhead-us"]) >= 0
    assert response.parse()._request_id == response.headers["x-request-id"]


def test_a_request_id_of_the_client_is_kept(client):
    response = client.chat.completions.with_raw_response.create(
        model=CHAT, messages=HELLO, extra_headers={"x-request-id": "e2e-7f3a"}
    )
    assert response.headers["x-request-id"] == "e2e-7f3a"


def test_async_calls_side_by_side(demo):
    async def run():
        async with demo.async_client() as client:
            calls = [
                client.chat.completions.create(model=CHAT, messages=[{"role": "user", "content": f"Number {n}"}])
                for n in range(20)
            ]
            answers = await asyncio.gather(*calls)
            stream = await client.chat.completions.create(model=CHAT, messages=HELLO, stream=True)
            return answers, [chunk async for chunk in stream]

    answers, chunks = asyncio.run(run())
    assert len({answer.id for answer in answers}) == 20
    assert all(answer.choices[0].message.content for answer in answers)
    assert joined(chunks)


def test_stream(client):
    whole = client.chat.completions.create(model=CHAT, messages=HELLO)
    chunks = list(client.chat.completions.create(model=CHAT, messages=HELLO, stream=True))
    assert joined(chunks) == whole.choices[0].message.content
    assert len(chunks) > 2, "the answer came in one piece"
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert all(chunk.choices and chunk.usage is None for chunk in chunks), "usage that nobody asked for"


def test_stream_with_usage(client):
    whole = client.chat.completions.create(model=CHAT, messages=HELLO)
    stream = client.chat.completions.create(
        model=CHAT, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = stream
    assert last.choices == []
    assert last.usage == whole.usage
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_a_stream_closed_early_leaves_the_client_usable(client):
    stream = client.chat.completions.create(model=CHAT, messages=HELLO, stream=True)
    next(stream)
    stream.close()
    assert client.chat.completions.create(model=CHAT, messages=HELLO).choices[0].message.content


def test_the_sdk_gathers_a_stream(client):
    with client.chat.completions.stream(model=CHAT, messages=HELLO) as stream:
        kinds = {event.type for event in stream}
        completion = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert completion.choices[0].message.content


def test_max_tokens_ends_the_answer(client):
    completion = client.chat.completions.create(model=CHAT, messages=HELLO, max_completion_tokens=2)
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.completion_tokens == 2


def test_tool_calls_in_a_full_round(client):
    first = client.chat.completions.create(
        model=CHAT, messages=ASK_WEATHER, tools=[WEATHER], tool_choice=CALL_WEATHER
    ).choices[0]
    [call] = first.message.tool_calls
    assert call.id and call.type == "function"
    assert call.function.name == "get_weather"
    arguments = json.loads(call.function.arguments)
    assert isinstance(arguments["city"], str) and set(arguments) <= {"city", "unit"}

    result = {"role": "tool", "tool_call_id": call.id, "content": "Snow, 2 degrees below zero"}
    messages = [*ASK_WEATHER, first.message.model_dump(exclude_none=True), result]
    answer = client.chat.completions.create(model=CHAT, messages=messages, tools=[WEATHER]).choices[0]
    assert answer.finish_reason == "stop"
    assert not answer.message.tool_calls
    assert "Snow, 2 degrees below zero" in answer.message.content


def test_a_model_calls_a_tool_of_its_own_accord(client):
    choice = client.chat.completions.create(model=CHAT, messages=ASK_WEATHER, tools=[WEATHER]).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls[0].function.name == "get_weather"


def test_tool_choice_none_calls_no_tool(client):
    choice = client.chat.completions.create(
        model=CHAT, messages=ASK_WEATHER, tools=[WEATHER], tool_choice="none"
    ).choices[0]
    assert choice.finish_reason == "stop"
    assert choice.message.content and not choice.message.tool_calls


def test_streamed_tool_calls(client):
    whole = client.chat.completions.create(model=CHAT, messages=ASK_WEATHER, tools=[WEATHER]).choices[0]
    stream = client.chat.completions.create(model=CHAT, messages=ASK_WEATHER, tools=[WEATHER], stream=True)
    name, arguments, finish = "", "", None
    for chunk in stream:
        [choice] = chunk.choices
        finish = choice.finish_reason or finish
        for delta in choice.delta.tool_calls or []:
            assert delta.index == 0
            name += delta.function.name or ""
            arguments += delta.function.arguments or ""
    assert finish == "tool_calls"
    expected = whole.message.tool_calls[0].function
    assert (name, arguments) == (expected.name, expected.arguments)


class Place(BaseModel):
    name: str
    inhabitants: int


class Answer(BaseModel):
    kind: Literal["city", "country"]
    place: Place
    languages: list[str]
    nice: bool
    latitude: float


def test_structured_output(client):
    completion = client.chat.completions.parse(model=CHAT, messages=HELLO, response_format=Answer)
    message = completion.choices[0].message
    assert message.refusal is None
    assert isinstance(message.parsed, Answer)
    assert Answer.model_validate_json(message.content) == message.parsed


def test_structured_output_streamed(client):
    with client.chat.completions.stream(model=CHAT, messages=HELLO, response_format=Answer) as stream:
        for _ in stream:
            pass
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Answer)


def test_json_object(client):
    completion = client.chat.completions.create(
        model=CHAT, messages=HELLO, response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(completion.choices[0].message.content), dict)


def test_an_image_in_a_message(client):
    content = [
        {"type": "text", "text": "What is in this picture?"},
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
    ]
    completion = client.chat.completions.create(model=CHAT, messages=[{"role": "user", "content": content}])
    assert completion.choices[0].message.content


def test_embeddings(client):
    words = ["a cat", "a kitten", "the stock exchange"]
    # The package asks for base64 by default, and decodes it.
    packed = client.embeddings.create(model=EMBEDDING, input=words)
    plain = client.embeddings.create(model=EMBEDDING, input=words, encoding_format="float")
    assert [item.index for item in packed.data] == [0, 1, 2]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    lengths = {len(item.embedding) for item in plain.data}
    assert len(lengths) == 1
    assert packed.usage.prompt_tokens > 0
    assert plain.data[0].embedding != plain.data[1].embedding


def test_embeddings_as_base64(client):
    response = client.embeddings.create(model=EMBEDDING, input="a cat", encoding_format="base64")
    assert isinstance(response.data[0].embedding, str)


def test_embeddings_of_so_many_dimensions(client):
    response = client.embeddings.create(model=EMBEDDING, input="a cat", dimensions=64)
    [item] = response.data
    assert len(item.embedding) == 64
    assert math.hypot(*item.embedding) == pytest.approx(1, abs=1e-3)


def test_embeddings_of_tokens(client):
    response = client.embeddings.create(model=EMBEDDING, input=[[1, 2, 3], [4, 5]])
    assert len(response.data) == 2
    assert response.usage.prompt_tokens == 5


def test_models(client):
    models = {model.id: model for model in client.models.list()}
    assert {CHAT, EMBEDDING} <= set(models)
    model = client.models.retrieve(CHAT)
    assert (model.id, model.object) == (CHAT, "model")
    assert model == models[CHAT]


def test_the_key_in_x_api_key(demo):
    """What clients of other makers send; the official package cannot leave `Authorization` out."""
    body = json.dumps({"model": CHAT, "messages": HELLO}).encode()
    headers = {"X-API-Key": demo.key, "Content-Type": "application/json"}
    request = urllib.request.Request(demo.url + "/v1/chat/completions", data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        assert json.load(response)["choices"][0]["message"]["content"]
