use proptest::prelude::*;

use super::*;
use crate::prices::{testing, to_csv, to_json};

fn read(form: Form, text: &str) -> Imported {
    import(form, text.as_bytes()).unwrap()
}

fn price(json: &str) -> Price {
    serde_json::from_str(json).unwrap()
}

fn skipped(imported: &Imported) -> Vec<(u64, &str)> {
    imported.skipped.iter().map(|row| (row.line, row.name.as_str())).collect()
}

proptest! {
    /// Mutation that made it fail: a column left out of the CSV.
    #[test]
    fn what_is_written_is_read_back(prices in testing::prices()) {
        let csv = to_csv(&prices).unwrap();
        prop_assert_eq!(Form::detect(csv.as_bytes()), Form::Csv);
        prop_assert_eq!(import(Form::Csv, csv.as_bytes()).unwrap(), Imported { prices: prices.clone(), skipped: vec![] });
        let json = to_json(&prices).unwrap();
        prop_assert_eq!(Form::detect(json.as_bytes()), Form::Json);
        prop_assert_eq!(import(Form::Json, json.as_bytes()).unwrap(), Imported { prices, skipped: vec![] });
    }

    /// Whatever comes in, an answer goes out.
    #[test]
    fn no_list_makes_it_fail(text in "[\\PC\n]{0,200}", form in 0..5_usize) {
        let forms = [Form::Csv, Form::Json, Form::LiteLlm, Form::ConduitCsv, Form::ConduitJson];
        let _ = import(forms[form], text.as_bytes());
    }
}

#[test]
fn the_built_in_table_comes_back_from_csv() {
    let prices: Prices = crate::prices::builtin_rows().collect();
    assert_eq!(read(Form::Csv, &to_csv(&prices).unwrap()).prices, prices);
}

#[test]
fn own_csv_with_the_header_of_the_collected_facts() {
    let csv = "\u{feff}provider,model,mode,input_per_million_usd,output_per_million_usd,cached_read_per_million_usd,\
        cache_write_per_million_usd,reasoning_per_million_usd,per_image_usd,per_second_usd,per_character_usd,\
        per_query_usd,max_input_tokens,max_output_tokens,supports,deprecation_date,source\n\
        openai,gpt-4.1,chat,2,8,0.5,,,,,,,1047576,32768,vision,,https://example.com\n\
        \n\
        openai,bad,chat,-2,8,,,,,,,,,,,,\n\
        openai,worse,chat,NaN,8,,,,,,,,,,,,\n\
        openai,huge,chat,1e12,8,,,,,,,,,,,,\n\
        openai,none,chat,,,,,,,,,,,,,,\n\
        ,nobody,chat,1,1,,,,,,,,,,,,\n\
        azure,live,realtime,,,,,,,0.0002833333333333333,,,,,,,\n\
        openai,gpt-4.1,chat,3,8,,,,,,,,,,,,\n\
        openai,short,chat,1\n";
    let imported = read(Form::Csv, csv);
    let gpt = r#"{"input": 2, "output": 8, "cached_input": 0.5, "max_input_tokens": 1047576,
        "max_output_tokens": 32768, "source": "https://example.com"}"#;
    assert_eq!(imported.prices["openai/gpt-4.1"], price(gpt));
    assert_eq!(imported.prices["azure/live"], price(r#"{"second": "0.000283333333333"}"#));
    assert_eq!(imported.prices["openai/short"], price(r#"{"input": 1}"#));
    assert_eq!(imported.prices.len(), 3);
    let expected = [
        (4, "openai/bad", "not negative"),
        (5, "openai/worse", "`input_per_million_usd`: a price is a decimal number"),
        (6, "openai/huge", "at most 9000000000"),
        (7, "openai/none", "prices nothing"),
        (8, "/nobody", "provider/model"),
        (10, "openai/gpt-4.1", "an earlier row"),
    ];
    for (row, (line, name, reason)) in imported.skipped.iter().zip(expected) {
        assert!((row.line, row.name.as_str()) == (line, name) && row.reason.contains(reason), "{row:?}");
    }
    assert_eq!(imported.skipped.len(), expected.len());
}

#[test]
fn lines_are_counted_with_either_line_end_and_within_quotes() {
    for csv in [
        "provider,model,input_per_million_usd,source\r\na,b,1,\"two\r\nlines\"\r\n\r\na,c,-1,\r\na,d,-1,\r\n",
        "provider,model,input_per_million_usd,source\na,b,1,\"two\nlines\"\n\na,c,-1,\na,d,-1,",
    ] {
        assert_eq!(skipped(&read(Form::Csv, csv)), [(2, "a/b"), (5, "a/c"), (6, "a/d")]);
    }
}

#[test]
fn a_header_that_is_wrong_is_refused_whole() {
    for (csv, reason) in [
        ("", "`provider` is missing"),
        ("provider,inputs\n", "\"inputs\" is unknown"),
        ("provider,model,model\n", "twice"),
        ("model\nx\n", "`provider` is missing"),
    ] {
        let error = import(Form::Csv, csv.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(reason), "{csv:?}: {error}");
    }
    assert_eq!(import(Form::Csv, b"\xff"), Err(ImportError::NotText));
    let json = import(Form::Json, b"{\"a/b\": ").unwrap_err().to_string();
    assert!(json.contains("line 1"), "{json}");
    assert!(matches!(import(Form::LiteLlm, b"[]"), Err(ImportError::Json { .. })));
    assert!(matches!(import(Form::ConduitJson, b"{}"), Err(ImportError::Json { .. })));
}

#[test]
fn size_and_rows_are_bounded() {
    assert_eq!(import(Form::Csv, &vec![b'\n'; MAX_BYTES + 1]), Err(ImportError::TooLarge));
    let csv = format!("provider,model\n{}", "a,b\n".repeat(MAX_ROWS + 1));
    assert_eq!(import(Form::Csv, csv.as_bytes()), Err(ImportError::TooManyRows));
    let json = format!("{{{}\"a/b\": 1}}", "\"a/b\": 1,".repeat(MAX_ROWS));
    assert_eq!(import(Form::Json, json.as_bytes()), Err(ImportError::TooManyRows));
    let list = format!("[{}1]", "1,".repeat(MAX_ROWS));
    assert_eq!(import(Form::ConduitJson, list.as_bytes()), Err(ImportError::TooManyRows));
}

#[test]
fn own_json() {
    let json = r#"{
        "lab/*": {"request": 0.001},
        "lab/a": {"inputs": 1},
        "lab/b": {"input": -1},
        "nobody": {"input": 1},
        "lab/c": 5
    }"#;
    let imported = read(Form::detect(json.as_bytes()), json);
    assert_eq!(
        imported.prices.into_iter().collect::<Vec<_>>(),
        [("lab/*".into(), price(r#"{"request": 0.001}"#))]
    );
    let lines: Vec<u64> = imported.skipped.iter().map(|row| row.line).collect();
    assert_eq!(lines, [3, 4, 5, 6]);
    assert!(imported.skipped[1].reason.starts_with("a price is not negative"), "{:?}", imported.skipped);
}

const LITELLM: &str = r#"{
    "sample_spec": {"litellm_provider": "one of …", "input_cost_per_token": 0.0, "max_input_tokens": "words"},
    "gpt-4.1": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2e-06,
        "input_cost_per_token_batches": 1e-06, "output_cost_per_token_batches": 4e-06,
        "output_cost_per_token": 8e-06, "cache_read_input_token_cost": 5e-07, "input_cost_per_token_priority": 9e-06,
        "max_input_tokens": 1047576, "max_output_tokens": 32768, "max_tokens": 32768.0,
        "source": "https://openai.com/api/pricing/", "supports_vision": true},
    "gemini/gemini-2.5-pro": {"litellm_provider": "gemini", "mode": "chat",
        "input_cost_per_token": 1.25e-06, "input_cost_per_token_above_200k_tokens": 2.5e-06,
        "output_cost_per_token": 1e-05, "output_cost_per_token_above_200k_tokens": 1.5e-05,
        "output_cost_per_token_above_200k_tokens_priority": 9e-05,
        "cache_creation_input_token_cost_above_1hr_above_200k_tokens": 9e-05,
        "output_cost_per_reasoning_token": 1e-05, "cache_read_input_token_cost_above_200k_tokens": 2.5e-07},
    "anthropic.claude-x": {"litellm_provider": "bedrock_converse", "mode": "chat",
        "input_cost_per_token": 3.0000000000000001e-06, "output_cost_per_token": 1.5e-05,
        "cache_creation_input_token_cost": 3.75e-06, "cache_creation_input_token_cost_above_1hr": 6e-06},
    "together_ai/meta-llama/Llama-3": {"litellm_provider": "together_ai", "input_cost_per_token": 2e-07},
    "whisper-1": {"litellm_provider": "openai", "mode": "audio_transcription", "input_cost_per_second": 0.0001,
        "output_cost_per_second": 0.0001},
    "dall-e-3": {"litellm_provider": "openai", "mode": "image_generation", "input_cost_per_image": 0.04},
    "gpt-image-1": {"litellm_provider": "openai", "mode": "image_generation", "input_cost_per_token": 5e-06,
        "input_cost_per_image_token": 1e-05, "output_cost_per_image_token": 4e-05, "output_cost_per_image": 0.04},
    "rerank-v3.5": {"litellm_provider": "cohere", "mode": "rerank", "input_cost_per_query": 0.002,
        "input_cost_per_token": 0.0},
    "tts-1": {"litellm_provider": "openai", "mode": "audio_speech", "input_cost_per_character": 1.5e-05},
    "ollama/llama3": {"litellm_provider": "ollama", "input_cost_per_token": 0.0, "output_cost_per_token": 0.0},
    "negative": {"litellm_provider": "openai", "input_cost_per_token": -1e-06},
    "text": {"litellm_provider": "openai", "input_cost_per_token": "Infinity"},
    "unpriced": {"litellm_provider": "openai", "mode": "chat"},
    "number": 5
}"#;

#[test]
fn litellm_price_map() {
    assert_eq!(Form::detect(LITELLM.as_bytes()), Form::LiteLlm);
    let imported = read(Form::LiteLlm, LITELLM);
    for (name, json) in [
        (
            "openai/gpt-4.1",
            r#"{"input": 2, "output": 8, "cached_input": 0.5, "batch": 0.5, "max_input_tokens": 1047576,
                "max_output_tokens": 32768, "source": "https://openai.com/api/pricing/"}"#,
        ),
        (
            "gemini/gemini-2.5-pro",
            r#"{"input": 1.25, "output": 10, "reasoning": 10,
                "tiers": [{"above": 200000, "input": 2.5, "output": 15, "cached_input": 0.25}]}"#,
        ),
        ("bedrock/anthropic.claude-x", r#"{"input": 3, "output": 15, "cache_write": 3.75}"#),
        ("together/meta-llama/Llama-3", r#"{"input": 0.2}"#),
        ("openai/whisper-1", r#"{"second": 0.0001}"#),
        ("openai/dall-e-3", r#"{"image": 0.04}"#),
        // Most tokens of an image model are images: the dearest rate, and not the image's price on top.
        ("openai/gpt-image-1", r#"{"input": 10, "output": 40}"#),
        ("cohere/rerank-v3.5", r#"{"input": 0, "search": 0.002}"#),
        ("openai/tts-1", r#"{"character": 0.000015}"#),
    ] {
        assert_eq!(imported.prices.get(name), Some(&price(json)), "{name}");
    }
    assert_eq!(imported.prices.len(), 9);
    let names = [
        (26, "ollama/llama3"),
        (27, "openai/negative"),
        (28, "openai/text"),
        (29, "openai/unpriced"),
        (30, "number"),
    ];
    assert_eq!(skipped(&imported), names);
    assert!(imported.skipped[0].reason.contains("request: 0"));
    assert!(imported.skipped[1].reason.contains("`input_cost_per_token`: a price is not negative"));
}

#[test]
fn conduit_csv_of_its_documents() {
    let csv = "Model Pattern,Provider,Model Type,Input Cost (per 1K tokens),Output Cost (per 1K tokens),\
        Embedding Cost (per 1K tokens),Image Cost (per image),Audio Cost (per minute),Video Cost (per second),\
        Batch Processing Multiplier,Supports Batch Processing,Image Quality Multipliers,Video Resolution Multipliers,\
        Priority,Active,Description\n\
        gpt-4o,OpenAI,chat,0.005,0.015,,,,,0.5,Yes,,,10,Yes,\"hello, world\"\n\
        gpt-4*,OpenAI,chat,0.03,0.06,,,,,0.5,No,,,10,true,\n\
        text-embedding-3-small,OpenAI,embedding,0,0,0.00002,,,,,,,,10,Yes,\n\
        dall-e-3,OpenAI,image,,,,0.04,,,,,\"{\"\"standard\"\": 1.0, \"\"hd\"\": 2.0}\",,10,Yes,\n\
        whisper,,audio,,,,,0.006,,,,,,0,Yes,\n\
        video-01,MiniMax,video,,,,,,0.3,,,,\"{\"\"720p\"\": 1.0, \"\"4k\"\": 3.0}\",10,Yes,\n\
        old,OpenAI,chat,1,1,,,,,,,,,1,No,\n\
        broken,OpenAI,image,,,,0.04,,,,,{hd: 2},,1,Yes,\n\
        zero,OpenAI,chat,0,0,,,,,,,,,1,Yes,\n\
        ,OpenAI,chat,1,1,,,,,,,,,1,Yes,\n";
    assert_eq!(Form::detect(csv.as_bytes()), Form::ConduitCsv);
    let imported = read(Form::ConduitCsv, csv);
    for (name, json) in [
        ("openai/gpt-4o", r#"{"input": 5, "output": 15, "batch": 0.5}"#),
        ("openai/gpt-4*", r#"{"input": 30, "output": 60}"#),
        ("openai/text-embedding-3-small", r#"{"input": 0.02}"#),
        ("openai/dall-e-3", r#"{"image": 0.04, "image_quality": {"standard": 1, "hd": 2}}"#),
        ("*/whisper", r#"{"second": 0.0001}"#),
        ("minimax/video-01", r#"{"second": 0.3, "video_resolution": {"720p": 1, "4k": 3}}"#),
    ] {
        assert_eq!(imported.prices.get(name), Some(&price(json)), "{name}");
    }
    assert_eq!(imported.prices.len(), 6);
    assert_eq!(skipped(&imported), [(8, "old"), (9, "broken"), (10, "zero"), (11, "")]);
    assert!(import(Form::ConduitCsv, b"Model Pattern,Input Cost (per mile)\n").is_err());
}

#[test]
fn conduit_csv_of_its_server_and_its_web_ui() {
    let server = "Cost Name,Pricing Model,Pricing Configuration,Input Cost (per million tokens),\
        Output Cost (per million tokens),Search Unit Cost (per 1K units),Inference Step Cost,Default Inference Steps\n\
        gpt-4o,Standard,,2.500000,10.000000,,,\n\
        rerank,0,,0.000000,0.000000,2.000000,,\n\
        flux,Standard,,0,0,,0.00035,20\n\
        GPT 4 pricing,Standard,,1,1,,,\n";
    let imported = read(Form::detect(server.as_bytes()), server);
    assert_eq!(imported.prices["*/gpt-4o"], price(r#"{"input": 2.5, "output": 10}"#));
    assert_eq!(imported.prices["*/rerank"], price(r#"{"search": 0.002}"#));
    assert_eq!(imported.prices["*/flux"], price(r#"{"image": 0.007}"#));
    assert_eq!(skipped(&imported), [(5, "GPT 4 pricing")]);
    let ui = "Cost Name,Associated Model Aliases,Model Type,Input Cost (per million tokens),\
        Output Cost (per million tokens),Cached Input Cost (per million tokens),Audio Cost (per 1K characters)\n\
        Some name,\"gpt-4o, openai/gpt-4.1\",chat,2,8,0.5,0.015\n";
    let imported = read(Form::detect(ui.as_bytes()), ui);
    let both = price(r#"{"input": 2, "output": 8, "cached_input": 0.5, "character": 0.000015}"#);
    assert_eq!((&imported.prices["*/gpt-4o"], &imported.prices["openai/gpt-4.1"]), (&both, &both));
}

#[test]
fn conduit_json_in_its_eight_pricing_models() {
    let json = r#"[
{"CostName": "gpt-4o", "PricingModel": 0, "PricingConfiguration": null, "InputCostPerMillionTokens": 2.50,
 "OutputCostPerMillionTokens": 10.00, "CachedInputCostPerMillionTokens": 1.25, "SupportsBatchProcessing": true,
 "BatchProcessingMultiplier": 0.5, "CostPerSearchUnit": 2.0},
{"CostName": "openai/video-flat", "PricingModel": 1, "PricingConfiguration": "{\"rates\":{\"512p_6\":0.10,\"768p_6\":0.28}}"},
{"costName": "video", "pricingModel": "PerSecondVideo",
 "pricingConfiguration": "{\"BaseRate\":0.09,\"ResolutionMultipliers\":{\"480p\":0.5}}"},
{"CostName": "flux", "PricingModel": 3, "PricingConfiguration": "{\"costPerStep\":0.00035,\"defaultSteps\":20,\"modelSteps\":{\"fast\":8}}"},
{"CostName": "m1", "PricingModel": 4, "PricingConfiguration": "{\"tiers\":[{\"maxContext\":null,\"inputCost\":1.3,\"outputCost\":2.2},{\"maxContext\":200000,\"inputCost\":0.4,\"outputCost\":2.2}]}"},
{"CostName": "dall-e-3", "PricingModel": 5, "PricingConfiguration": {"baseRate": 0.04, "qualityMultipliers": {"hd": 1.5}, "resolutionMultipliers": {"1792x1024": 1.5}}},
{"CostName": "whisper", "PricingModel": 6, "PricingConfiguration": "{\"ratePerMinute\":0.15}"},
{"CostName": "tts", "PricingModel": 7, "PricingConfiguration": "{\"ratePerThousand\":0.015}"},
{"CostName": "tts-2", "PricingModel": 7, "AudioCostPerKCharacters": 0.03, "Provider": "OpenAI", "ModelPattern": "tts-2*"},
{"CostName": "nine", "PricingModel": 9, "InputCostPerMillionTokens": 1},
{"CostName": "bad", "PricingModel": 5, "PricingConfiguration": "{}"},
{"CostName": "negative", "InputCostPerMillionTokens": -1},
7
]"#;
    assert_eq!(Form::detect(json.as_bytes()), Form::ConduitJson);
    let imported = read(Form::ConduitJson, json);
    for (name, json) in [
        ("*/gpt-4o", r#"{"input": 2.5, "output": 10, "cached_input": 1.25, "batch": 0.5, "search": 0.002}"#),
        ("openai/video-flat", r#"{"video": {"512p_6": 0.1, "768p_6": 0.28}}"#),
        ("*/video", r#"{"second": 0.09, "video_resolution": {"480p": 0.5}}"#),
        ("*/flux", r#"{"image": 0.007}"#),
        (
            "*/m1",
            r#"{"input": 0.4, "output": 2.2, "tiers": [{"above": 200000, "input": 1.3, "output": 2.2}]}"#,
        ),
        ("*/dall-e-3", r#"{"image": 0.04, "image_quality": {"hd": 1.5}, "image_size": {"1792x1024": 1.5}}"#),
        ("*/whisper", r#"{"second": 0.0025}"#),
        ("*/tts", r#"{"character": 0.000015}"#),
        ("openai/tts-2*", r#"{"character": 0.00003}"#),
    ] {
        assert_eq!(imported.prices.get(name), Some(&price(json)), "{name}");
    }
    assert_eq!(imported.prices.len(), 9);
    assert_eq!(skipped(&imported), [(8, "flux"), (14, "nine"), (15, "bad"), (16, "negative"), (17, "")]);
    assert!(imported.skipped[0].reason.contains("modelSteps"));
}
