"""The official Gemini client against `trunkline serve`, in front of providers of every dialect."""

import pytest
from google import genai
from google.genai import errors, types

from native_fakes import KINDS, TEXT, fakes, front  # noqa: F401

TOOLS = [
    {
        "function_declarations": [
            {
                "name": "get_weather",
                "description": "The weather in a city.",
                "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]},
            }
        ]
    }
]
HI = "hi"

kinds = pytest.mark.parametrize("kind", KINDS)


def connect(url, key):
    options = types.HttpOptions(base_url=url, api_version="v1beta", retry_options=types.HttpRetryOptions(attempts=1))
    return genai.Client(api_key=key, http_options=options)


@pytest.fixture
def client(front):  # noqa: F811
    return connect(front.url, front.key)


def config(**more):
    return types.GenerateContentConfig(**more)


def test_the_fake_alone(fakes):  # noqa: F811
    # The client adds the version itself; the fake serves every path. One that is let go is closed.
    clients = {name: connect(url.removesuffix("/v1"), "k") for name, url in fakes.items()}

    def fake(name):
        return clients[name].models

    answer = fake("ok").generate_content(model="m", contents=HI)
    assert answer.text == TEXT
    usage = answer.usage_metadata
    assert (usage.prompt_token_count, usage.cached_content_token_count, usage.thoughts_token_count) == (11, 3, 2)
    assert "".join(chunk.text or "" for chunk in fake("ok").generate_content_stream(model="m", contents=HI)) == TEXT
    [call] = fake("tool").generate_content(model="m", contents=HI).function_calls
    assert (call.name, call.args) == ("get_weather", {"city": "Paris"})
    for name, code in [("limited", 429), ("failed", 500), ("overflow", 400)]:
        with pytest.raises(errors.APIError) as failed:
            fake(name).generate_content(model="m", contents=HI)
        assert failed.value.code == code
    with pytest.raises(errors.APIError):
        list(fake("broken").generate_content_stream(model="m", contents=HI))


@kinds
def test_an_answer(client, kind):
    asked = config(system_instruction="Be brief.", stop_sequences=["END"], temperature=0.5, max_output_tokens=50)
    answer = client.models.generate_content(model=f"{kind}-ok", contents=HI, config=asked)
    assert answer.text == TEXT
    assert answer.candidates[0].finish_reason == types.FinishReason.STOP
    usage = answer.usage_metadata
    assert (usage.prompt_token_count, usage.cached_content_token_count, usage.total_token_count) == (11, 3, 18)


@kinds
def test_a_stream(client, kind):
    chunks = list(client.models.generate_content_stream(model=f"{kind}-ok", contents=HI))
    assert "".join(chunk.text or "" for chunk in chunks) == TEXT
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert chunks[-1].usage_metadata.total_token_count == 18


@kinds
@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool(client, kind, streamed):
    asked = config(
        tools=TOOLS,
        tool_config={"function_calling_config": {"mode": "ANY"}},
        automatic_function_calling={"disable": True},
    )
    models = client.models
    if streamed:
        chunks = list(models.generate_content_stream(model=f"{kind}-tool", contents=HI, config=asked))
        [content] = [c.candidates[0].content for c in chunks if c.function_calls]
    else:
        content = models.generate_content(model=f"{kind}-tool", contents=HI, config=asked).candidates[0].content
    [part] = content.parts
    call = part.function_call
    assert (call.name, call.args) == ("get_weather", {"city": "Paris"})
    assert call.id
    result = types.Part(
        function_response=types.FunctionResponse(id=call.id, name=call.name, response={"output": "Sunny."})
    )
    turns = [types.UserContent(HI), content, types.Content(role="user", parts=[result])]
    answer = models.generate_content(model=f"{kind}-ok", contents=turns, config=config(tools=TOOLS))
    assert answer.text == TEXT


@kinds
def test_a_chat_keeps_its_history(client, kind):
    chat = client.chats.create(model=f"{kind}-ok")
    assert "".join(chunk.text or "" for chunk in chat.send_message_stream(HI)) == TEXT
    assert chat.send_message("and?").text == TEXT
    assert len(chat.get_history()) >= 4


@kinds
def test_a_picture_and_a_schema(client, kind):
    picture = types.Part.from_bytes(data=b"\xfb\xff\xfe\x00", mime_type="image/png")
    schema = {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]}
    asked = config(response_mime_type="application/json", response_schema=schema)
    answer = client.models.generate_content(model=f"{kind}-ok", contents=[picture, HI], config=asked)
    assert answer.candidates[0].content.parts[0].text == TEXT


@kinds
def test_counting_tokens(client, kind):
    assert client.models.count_tokens(model=f"{kind}-ok", contents=HI).total_tokens > 3


@kinds
def test_errors_are_of_the_client_s_own_classes(client, front, kind):  # noqa: F811
    def failed(model, who=client):
        with pytest.raises(errors.APIError) as failed:
            who.models.generate_content(model=model, contents=HI)
        return failed.value

    limited = failed(f"{kind}-limited")
    assert isinstance(limited, errors.ClientError)
    assert (limited.code, limited.status) == (429, "RESOURCE_EXHAUSTED")
    down = failed(f"{kind}-failed")
    assert isinstance(down, errors.ServerError) and down.code == 502
    assert failed(f"{kind}-overflow").code == 400
    assert (failed("nobody").code, failed("nobody").status) == (404, "NOT_FOUND")
    stranger = failed(f"{kind}-ok", connect(front.url, "wrong"))
    assert (stranger.code, stranger.status) == (401, "UNAUTHENTICATED")


@kinds
@pytest.mark.parametrize("behaviour", ["broken", "cut"])
def test_a_stream_that_breaks_is_an_error(client, kind, behaviour):
    said = ""
    with pytest.raises(errors.APIError):
        for chunk in client.models.generate_content_stream(model=f"{kind}-{behaviour}", contents=HI):
            said += chunk.text or ""
    assert said and TEXT.startswith(said)


def test_models(client, front):  # noqa: F811
    names = [model.name for model in client.models.list()]
    assert "models/openai-ok" in names
    assert client.models.get(model="openai-ok").name == "models/openai-ok"
