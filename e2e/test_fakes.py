"""The fakes speak as the providers do: their official clients understand them."""

import anthropic
import boto3
import botocore
import pytest
from botocore.config import Config

from native_fakes import TEXT, fakes  # noqa: F401

ASK = {"model": "m", "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]}
SAY = {"modelId": "amazon.nova-pro-v1:0", "messages": [{"role": "user", "content": [{"text": "hi"}]}]}


def claude(url):
    # The client adds /v1 itself.
    return anthropic.Anthropic(base_url=url.removesuffix("/v1"), api_key="k", max_retries=0)


def bedrock(url):
    return boto3.client(
        "bedrock-runtime",
        endpoint_url=url,
        region_name="eu-west-1",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="fake-secret",
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_anthropic_reads_the_fake(fakes):  # noqa: F811
    client = claude(fakes["ok"])
    message = client.messages.create(**ASK)
    assert message.content[0].text == TEXT
    assert (message.stop_reason, message.usage.input_tokens, message.usage.cache_read_input_tokens) == ("end_turn", 8, 3)
    with client.messages.stream(**ASK) as stream:
        assert "".join(stream.text_stream) == TEXT
        assert stream.get_final_message().usage.output_tokens == 7
    assert client.messages.count_tokens(model="m", messages=ASK["messages"]).input_tokens == 11
    call = claude(fakes["tool"]).messages.create(**ASK).content[0]
    assert (call.type, call.name, call.input) == ("tool_use", "get_weather", {"city": "Paris"})
    with claude(fakes["tool"]).messages.stream(**ASK) as stream:
        assert stream.get_final_message().content[0].input == {"city": "Paris"}


def test_anthropic_reads_the_fakes_errors(fakes):  # noqa: F811
    with pytest.raises(anthropic.RateLimitError) as limited:
        claude(fakes["limited"]).messages.create(**ASK)
    assert limited.value.response.headers["retry-after"] == "7"
    with pytest.raises(anthropic.InternalServerError):
        claude(fakes["failed"]).messages.create(**ASK)
    with pytest.raises(anthropic.BadRequestError, match="too long"):
        claude(fakes["overflow"]).messages.create(**ASK)
    with pytest.raises(anthropic.APIStatusError) as broken, claude(fakes["broken"]).messages.stream(**ASK) as stream:
        stream.until_done()
    assert broken.value.type == "overloaded_error"


def test_boto3_reads_the_fake(fakes):  # noqa: F811
    client = bedrock(fakes["ok"])
    answer = client.converse(**SAY)
    assert answer["output"]["message"]["content"] == [{"text": TEXT}]
    assert (answer["stopReason"], answer["usage"]["cacheReadInputTokens"]) == ("end_turn", 3)
    events = list(client.converse_stream(**SAY)["stream"])
    assert "".join(e["contentBlockDelta"]["delta"]["text"] for e in events if "contentBlockDelta" in e) == TEXT
    assert events[-1]["metadata"]["usage"]["outputTokens"] == 7
    call = bedrock(fakes["tool"]).converse(**SAY)["output"]["message"]["content"][0]["toolUse"]
    assert call["input"] == {"city": "Paris"}
    parts = list(bedrock(fakes["tool"]).converse_stream(**SAY)["stream"])
    inputs = (e["contentBlockDelta"]["delta"]["toolUse"]["input"] for e in parts if "contentBlockDelta" in e)
    assert "".join(inputs) == '{"city":"Paris"}'


def test_boto3_reads_the_fakes_errors(fakes):  # noqa: F811
    with pytest.raises(botocore.exceptions.ClientError) as limited:
        bedrock(fakes["limited"]).converse(**SAY)
    assert limited.value.response["Error"]["Code"] == "ThrottlingException"
    with pytest.raises(botocore.exceptions.ClientError) as overflow:
        bedrock(fakes["overflow"]).converse(**SAY)
    assert overflow.value.response["Error"]["Code"] == "ValidationException"
    with pytest.raises(botocore.exceptions.EventStreamError, match="modelStreamErrorException"):
        list(bedrock(fakes["broken"]).converse_stream(**SAY)["stream"])
