"""The official `openai` package when something is wrong: each failure is the exception its users expect, and
what they send beyond the known fields still reaches the provider."""

import openai
import pytest

HELLO = [{"role": "user", "content": "one two three four"}]


def ask(client, model, **options):
    return client.chat.completions.create(model=model, messages=HELLO, **options)


def test_a_wrong_key(demo):
    with demo.client(api_key="sk-wrong") as client, pytest.raises(openai.AuthenticationError) as raised:
        ask(client, "demo/chat")
    assert raised.value.code == "invalid_api_key"
    assert raised.value.request_id
    assert "sk-wrong" not in str(raised.value)


@pytest.mark.parametrize("model", ["no-such-model", "demo/no-such-model", "no-such-provider/chat"])
def test_an_unknown_model(client, model):
    with pytest.raises(openai.NotFoundError) as raised:
        ask(client, model)
    assert raised.value.code == "model_not_found"
    assert raised.value.param == "model"
    assert model.rsplit("/")[-1] in raised.value.message
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(model)


@pytest.mark.parametrize(
    ("field", "value"),
    [("messages", "hello"), ("messages", []), ("stream", "yes"), ("model", 7), ("temperature", 1e9), ("n", -1)],
)
def test_a_wrong_field_is_named(client, field, value):
    with pytest.raises(openai.BadRequestError) as raised:
        ask(client, "demo/chat", extra_body={field: value})
    assert raised.value.type == "invalid_request_error"
    assert raised.value.param == field
    assert raised.value.code
    assert field in raised.value.message


def test_a_body_over_the_limit(lab_client):
    with pytest.raises(openai.APIStatusError) as raised:
        ask(lab_client, "lab/echo", extra_body={"padding": "x" * (3 << 19)})
    assert raised.value.status_code == 413
    assert raised.value.type == "invalid_request_error"


def test_the_providers_rate_limit(lab_client):
    with pytest.raises(openai.RateLimitError) as raised:
        ask(lab_client, "lab/rate-limited")
    assert 1 <= int(raised.value.response.headers["retry-after"]) <= 7


def test_a_provider_that_fails(lab_client):
    with pytest.raises(openai.InternalServerError) as raised:
        ask(lab_client, "lab/broken")
    assert raised.value.status_code == 502


def test_our_key_refused_by_the_provider_is_not_the_clients_fault(lab_client):
    with pytest.raises(openai.InternalServerError) as raised:
        ask(lab_client, "lab/unauthorized")
    assert raised.value.status_code == 502
    assert "lab-secret" not in raised.value.response.text


def test_a_provider_that_is_silent(lab_client):
    with pytest.raises(openai.InternalServerError) as raised:
        ask(lab_client, "lab/silent")
    assert raised.value.status_code == 504


def test_an_open_breaker(lab_client):
    with pytest.raises(openai.InternalServerError) as first:
        ask(lab_client, "fragile")
    assert first.value.status_code == 502
    with pytest.raises(openai.InternalServerError) as second:
        ask(lab_client, "fragile")
    assert second.value.status_code == 503
    assert 1 <= int(second.value.response.headers["retry-after"]) <= 60


def test_a_request_that_is_too_long(lab_client):
    with pytest.raises(openai.BadRequestError) as raised:
        ask(lab_client, "lab/too-long")
    assert raised.value.code == "context_length_exceeded"


@pytest.mark.parametrize("model", ["lab/rate-limited", "lab/broken", "lab/silent"])
def test_a_stream_that_never_begins_is_an_ordinary_error(lab_client, model):
    expected = {"lab/rate-limited": 429, "lab/broken": 502, "lab/silent": 504}[model]
    with pytest.raises(openai.APIStatusError) as raised:
        ask(lab_client, model, stream=True)
    assert raised.value.status_code == expected


def test_a_stream_cut_short_raises(lab_client):
    stream = ask(lab_client, "lab/cut", stream=True)
    seen = ""
    with pytest.raises(openai.APIError) as raised:
        for chunk in stream:
            seen += chunk.choices[0].delta.content or ""
    assert seen == "one two", "what had arrived was not forwarded"
    # Told by an error event within the stream: a broken connection would be an APIConnectionError.
    assert type(raised.value) is openai.APIError
    assert raised.value.message
    assert raised.value.type == "server_error"


def test_the_next_target_answers(lab_client, upstream):
    response = lab_client.chat.completions.with_raw_response.create(model="sturdy", messages=HELLO)
    assert response.parse().choices[0].message.content == "one two three four"
    assert response.headers["x-trunkline-attempts"] == "2"
    assert response.headers["x-trunkline-target"] == "lab/echo"
    assert upstream.of("echo")[-1]["path"] == "/v1/chat/completions"


def test_a_client_that_hangs_up_stops_the_provider(lab_client, upstream):
    stream = ask(lab_client, "lab/endless", stream=True)
    next(stream)
    stream.close()
    assert upstream.hung_up.wait(10), "the provider goes on talking to nobody"


def test_unknown_fields_reach_the_provider(lab_client, upstream):
    unknown = {"future_field": {"deep": [1, 2.5, None, "ü"]}, "top_k": 40}
    ask(lab_client, "lab/echo", extra_body=unknown, temperature=0.25)
    request = upstream.of("echo")[-1]
    assert request["body"] == {"model": "echo", "messages": HELLO, "temperature": 0.25, **unknown}


def test_the_provider_sees_its_own_key_and_not_the_clients(lab, lab_client, upstream):
    ask(lab_client, "lab/echo")
    headers = {name.lower(): value for name, value in upstream.of("echo")[-1]["headers"].items()}
    assert headers["authorization"] == "Bearer lab-secret"
    assert lab.key not in str(headers)


def test_usage_is_always_asked_for_and_given_only_to_who_asks(lab_client, upstream):
    plain = list(ask(lab_client, "lab/echo", stream=True))
    assert upstream.of("echo")[-1]["body"]["stream_options"] == {"include_usage": True}
    assert all(chunk.choices and chunk.usage is None for chunk in plain)

    asked = list(ask(lab_client, "lab/echo", stream=True, stream_options={"include_usage": True}))
    assert asked[-1].choices == [] and asked[-1].usage.total_tokens == 8
    text = [chunk.choices[0].delta.content for chunk in asked if chunk.choices]
    assert text[:4] == ["one", " two", " three", " four"]
