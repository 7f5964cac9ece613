"""The official Anthropic client against `trunkline serve`, in front of providers of every dialect."""

import anthropic
import pytest

from native_fakes import KINDS, TEXT, fakes, front  # noqa: F401

TOOLS = [
    {
        "name": "get_weather",
        "description": "The weather in a city.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]
HI = [{"role": "user", "content": "hi"}]

pytestmark = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def client(front):  # noqa: F811
    with anthropic.Anthropic(base_url=front.url, api_key=front.key, max_retries=0) as client:
        yield client


def ask(kind, behaviour="ok", **more):
    return {"model": f"{kind}-{behaviour}", "max_tokens": 50, "messages": HI, **more}


def test_a_message(client, kind):
    message = client.messages.create(**ask(kind, system="Be brief.", stop_sequences=["END"]))
    assert [block.text for block in message.content] == [TEXT]
    assert (message.role, message.stop_reason) == ("assistant", "end_turn")
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (8, 3, 7)


def test_a_stream(client, kind):
    with client.messages.stream(**ask(kind)) as stream:
        assert "".join(stream.text_stream) == TEXT
        message = stream.get_final_message()
    assert (message.stop_reason, message.usage.output_tokens, message.usage.input_tokens) == ("end_turn", 7, 8)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool(client, kind, streamed):
    asked = ask(kind, "tool", tools=TOOLS, tool_choice={"type": "any", "disable_parallel_tool_use": True})
    if streamed:
        with client.messages.stream(**asked) as stream:
            message = stream.get_final_message()
    else:
        message = client.messages.create(**asked)
    # Gemini signs its calls: the signature travels sealed in a block before the call.
    *sealed, call = message.content
    assert [block.type for block in sealed] == (["redacted_thinking"] if kind == "gemini" else [])
    assert (call.type, call.name, call.input) == ("tool_use", "get_weather", {"city": "Paris"})
    assert message.stop_reason == "tool_use"
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "Sunny."}]}
    turns = [*HI, {"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    assert client.messages.create(**ask(kind, messages=turns, tools=TOOLS)).content[0].text == TEXT


def test_counting_tokens(client, kind):
    counted = client.messages.count_tokens(model=f"{kind}-ok", messages=HI, system="Be brief.", tools=TOOLS)
    assert counted.input_tokens > 5


def test_a_refusal(client, kind):
    assert client.messages.create(**ask(kind, "filtered")).stop_reason == "refusal"


def test_errors_are_of_the_client_s_own_classes(client, front, kind):  # noqa: F811
    with pytest.raises(anthropic.RateLimitError) as limited:
        client.messages.create(**ask(kind, "limited"))
    assert (limited.value.response.headers["retry-after"], limited.value.type) == ("7", "rate_limit_error")
    assert limited.value.error_code == "upstream_rate_limited"
    assert limited.value.request_id
    with pytest.raises(anthropic.InternalServerError) as failed:
        client.messages.create(**ask(kind, "failed"))
    assert (failed.value.status_code, failed.value.type) == (502, "api_error")
    with pytest.raises(anthropic.BadRequestError) as overflow:
        client.messages.create(**ask(kind, "overflow"))
    assert overflow.value.type == "invalid_request_error"
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**{**ask(kind), "model": "nobody"})
    with anthropic.Anthropic(base_url=front.url, api_key="wrong", max_retries=0) as stranger:
        with pytest.raises(anthropic.AuthenticationError):
            stranger.messages.create(**ask(kind))


@pytest.mark.parametrize("behaviour", ["broken", "cut"])
def test_a_stream_that_breaks_is_an_error(client, kind, behaviour):
    said = ""
    with pytest.raises(anthropic.APIStatusError) as broken, client.messages.stream(**ask(kind, behaviour)) as stream:
        for text in stream.text_stream:
            said += text
    assert said and TEXT.startswith(said)
    assert broken.value.type == "api_error"
