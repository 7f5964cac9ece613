#!/usr/bin/env python3
"""Makes prices.csv, the price table that is built into Trunkline, from the collected facts.

    python3 make_prices.py /work/shared/data/prices.csv > prices.csv

What is kept: current models (not past their deprecation date) of the providers we speak to, with a price that a
call can be charged by. What is left out, because a wrong price is worse than none (none raises an alarm):
rows whose only prices are 0; names that LiteLLM made up for one size, region or commitment of a model; chat
models that lack a price of prompt or answer; and models whose tokens are mostly audio or images, since the facts
only hold the price of text tokens. The rules are below, each where it is applied.
"""

import csv
import decimal
import sys

AS_OF = "2026-11-20"
NAMELESS = "LiteLLM price map 1.109.1 (no page named there)"
PROVIDERS = """openai azure anthropic gemini bedrock mistral cohere groq deepseek xai openrouter together fireworks
cerebras sambanova deepinfra perplexity nvidia""".split()
# Where `/` is no part of a name that a caller sends: prefixes of size, quality, region or commitment.
PLAIN_NAMES = {"openai", "azure", "bedrock", "xai"}
TEXT = {"chat", "responses", "completion"}

# Dearer rates for long prompts. The facts have one price a model, so these stand here, each checked against the
# page named: (kind, what the model's name begins with, tokens, factor of input and cache, factor of output).
LONG_PROMPTS = [
    # https://developers.openai.com/api/docs/pricing: above 272K input tokens the whole session is 2x and 1.5x.
    # (Only the models of that list that take so much; Azure and Bedrock do not say that they do the same.)
    ("openai", "gpt-5.4", 272_000, 2, "1.5"),
    ("openai", "gpt-5.5", 272_000, 2, "1.5"),
    ("openai", "gpt-5.6", 272_000, 2, "1.5"),
    ("openai", "gpt-6", 272_000, 2, "1.5"),
    ("openai", "daybreak-blue", 272_000, 2, "1.5"),
    ("openai", "gpt-daybreak-blue", 272_000, 2, "1.5"),
    # https://ai.google.dev/gemini-api/docs/pricing: prompts above 200k tokens.
    ("gemini", "gemini-2.5-pro", 200_000, 2, "1.5"),
    ("gemini", "gemini-3.1-pro", 200_000, 2, "1.5"),
    ("gemini", "gemini-pro-latest", 200_000, 2, "1.5"),
    # https://docs.x.ai/developers/models: a prompt that reaches 200k tokens is billed at the higher rate.
    ("xai", "grok-4.", 199_999, 2, "2"),
    ("xai", "grok-build-latest", 199_999, 2, "2"),
    # https://platform.claude.com/docs/en/about-claude/pricing: Sonnet 4 and 4.5 with the 1M context.
    ("anthropic", "claude-sonnet-4-5", 200_000, 2, "1.5"),
    ("anthropic", "claude-sonnet-4-2", 200_000, 2, "1.5"),
    ("bedrock", "anthropic.claude-sonnet-4-5", 200_000, 2, "1.5"),
    ("bedrock", "anthropic.claude-sonnet-4-2", 200_000, 2, "1.5"),
]
# Snapshots past their date that cost more than the family of which they would otherwise have the price.
DEARER_SNAPSHOTS = {("openai", "gpt-4o-2024-05-13")}
# Bedrock's names may begin with where the call is served.
PLACES = ("global.", "us.", "eu.", "apac.", "jp.", "au.", "us-gov.")


def past(fact):
    return fact["deprecation_date"] != "" and fact["deprecation_date"] <= AS_OF


def number(cell, places):
    """A plain decimal with at most so many places, or nothing."""
    if cell == "":
        return ""
    value = decimal.Decimal(cell)
    assert value >= 0, cell
    value = value.quantize(decimal.Decimal(1).scaleb(-places), rounding=decimal.ROUND_HALF_UP)
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def positive(cell):
    return cell != "" and decimal.Decimal(cell) > 0


def kept(row):
    """Why not, or nothing."""
    mode = row["mode"]
    tokens = positive(row["input"]) or positive(row["output"])
    units = [row[name] for name in ("image", "second", "character", "query")]
    if not tokens and not any(map(positive, units)):
        return "every price is 0"
    if row["provider"] in PLAIN_NAMES and "/" in row["model"]:
        return "a made-up name"
    if row["model"] == "search" or mode == "":
        return "no model"
    if mode in TEXT and "audio_output" in row["supports"].split("|"):
        return "audio tokens have a price of their own"
    if mode in TEXT and not (positive(row["input"]) and positive(row["output"])):
        return "half a price"
    if mode in ("image_generation", "image_edit") and tokens:
        return "image tokens have a price of their own"
    if mode in ("realtime", "audio_transcription", "audio_speech") and not any(map(positive, units)):
        return "audio tokens have a price of their own"
    return ""


def tidy(row):
    """Only the prices that a call is charged by."""
    mode = row["mode"]
    if mode == "audio_transcription" and positive(row["second"]):
        # Audio tokens are dearer than the text tokens whose price is given; the price per second covers both.
        row["input"] = row["output"] = row["cached"] = ""
    if mode == "audio_speech" and positive(row["second"]):
        row["output"] = ""
    for name in ("input", "output", "cached", "write", "reasoning", "image", "second", "character", "query"):
        if not positive(row[name]):
            row[name] = ""
    if row["reasoning"] == row["output"]:
        row["reasoning"] = ""
    if row["input"] == "":
        row["cached"] = row["write"] = ""


def tiers(row):
    name = row["model"]
    if row["provider"] == "bedrock":
        for place in PLACES:
            name = name.removeprefix(place)
    for kind, start, above, input_factor, output_factor in LONG_PROMPTS:
        if row["provider"] == kind and name.startswith(start) and row["input"]:
            if kind == "openai" and int(row["max_in"] or 0) < 900_000:
                continue
            times = lambda cell, factor: number(str(decimal.Decimal(cell) * decimal.Decimal(factor)), 9) if cell else ""
            rates = [times(row["input"], input_factor), times(row["output"], output_factor)]
            rates += [times(row["cached"], input_factor), times(row["write"], input_factor)]
            return f"{above}:" + ":".join(rates)
    return ""


def main():
    rows = {}
    left_out = {}
    with open(sys.argv[1], newline="") as file:
        for fact in csv.DictReader(file):
            if fact["provider"] not in PROVIDERS:
                continue
            if past(fact) and (fact["provider"], fact["model"]) not in DEARER_SNAPSHOTS:
                left_out["past its deprecation date"] = left_out.get("past its deprecation date", 0) + 1
                continue
            row = {
                "provider": fact["provider"],
                "model": fact["model"],
                "mode": fact["mode"],
                "supports": fact["supports"],
                "input": number(fact["input_per_million_usd"], 9),
                "output": number(fact["output_per_million_usd"], 9),
                "cached": number(fact["cached_read_per_million_usd"], 9),
                "write": number(fact["cache_write_per_million_usd"], 9),
                "reasoning": number(fact["reasoning_per_million_usd"], 9),
                "image": number(fact["per_image_usd"], 15),
                "second": number(fact["per_second_usd"], 15),
                "character": number(fact["per_character_usd"], 15),
                "query": number(fact["per_query_usd"], 15),
                "max_in": number(fact["max_input_tokens"], 0),
                "max_out": number(fact["max_output_tokens"], 0),
                "source": fact["source"] or NAMELESS,
            }
            reason = kept(row)
            if reason:
                left_out[reason] = left_out.get(reason, 0) + 1
                continue
            tidy(row)
            key = (row["provider"], row["model"])
            assert not set(",\"\n;#") & set("".join(key)), key
            # A model named twice keeps its first row: where both have a price, the prices are the same.
            first = rows.setdefault(key, row)
            assert all(first[name] == row[name] for name in ("input", "output", "cached")), key
    sources = sorted({row["source"] for row in rows.values()})
    print("# Built-in prices, made by make_prices.py: do not edit. Dollars per million tokens, or per unit.")
    print("# source NUMBER DATE WHERE; a row ends with the number of its source. Tiers: above:input:output:cached:write")
    for index, source in enumerate(sources):
        print(f"#source {index} {AS_OF} {source}")
    columns = "provider model input output cached write reasoning image second character query max_in max_out".split()
    print(",".join(columns + ["tiers", "source"]))
    for _, row in sorted(rows.items(), key=lambda item: (item[0][0].encode(), item[0][1].encode())):
        cells = [row[name] for name in columns] + [tiers(row), str(sources.index(row["source"]))]
        assert not any("," in cell for cell in cells), cells
        print(",".join(cells))
    print(f"{len(rows)} rows; left out: {left_out}", file=sys.stderr)


main()
