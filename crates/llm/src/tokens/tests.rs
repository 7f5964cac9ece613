use serde_json::json;

use super::*;

#[test]
fn known_texts_have_their_known_counts() {
    // tiktoken's own examples: the counts of its README, cookbook and tests.
    assert_eq!(count("gpt-4", "hello world"), 2);
    assert_eq!(count("gpt-4", "tiktoken is great!"), 6);
    assert_eq!(count("gpt-4", "antidisestablishmentarianism"), 6);
    assert_eq!(count("gpt-4o", "antidisestablishmentarianism"), 6);
    assert_eq!(count("gpt-4", "2 + 2 = 4"), 7);
    assert_eq!(count("gpt-4", "お誕生日おめでとう"), 9);
    assert_eq!(count("gpt-4o", "お誕生日おめでとう"), 8);
    assert_eq!(count("gpt-4o", ""), 0);
    assert_eq!(count("gpt-4", ""), 0);
}

#[test]
fn each_model_has_its_encoding() {
    let birthday = "お誕生日おめでとう";
    for model in ["gpt-4", "gpt-4-turbo", "gpt-3.5-turbo", "text-embedding-3-small", "openai/gpt-4"] {
        assert_eq!(count(model, birthday), 9, "{model} is counted with cl100k");
    }
    for model in ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-5", "o1", "o3-mini", "o4-mini", "lab/qwen3", ""] {
        assert_eq!(count(model, birthday), 8, "{model} is counted with o200k");
    }
}

#[test]
fn what_looks_like_a_special_token_is_text() {
    assert!(count("gpt-4o", "<|endoftext|>") > 1);
}

#[test]
fn slicing_does_not_change_the_count_of_prose() {
    let prose = "It was 1851, and the whale -- an old one -- didn't surface.  Nobody spoke.\n".repeat(400);
    assert!(prose.len() > 3 * SLICE);
    let whole = tiktoken_rs::o200k_base_singleton().encode_ordinary(&prose).len() as u64;
    assert_eq!(count("gpt-4o", &prose), whole);
    assert_eq!(slices(&prose).collect::<String>(), prose);
    assert!(slices(&prose).all(|slice| slice.len() <= SLICE));
}

#[test]
fn long_runs_of_one_character_are_counted_all_the_same() {
    for character in [" ", "a", "\n", "^", "é", "界", "\u{200d}"] {
        let run = character.repeat(64 * 1024 / character.len());
        assert!(count("gpt-4o", &run) > 0, "{character:?}");
        assert!(count("gpt-4", &format!("{run}x{run}")) > 0, "{character:?}");
    }
}

#[test]
fn samples_come_close_to_the_exact_count() {
    let lines =
        (0..16_000).map(|line| format!("Line {line} of a text that is about nothing in particular.\n"));
    let long: String = lines.collect();
    assert!(long.len() > 2 * EXACT);
    let exact = exactly(tiktoken_rs::o200k_base_singleton(), &long);
    let sampled = count("gpt-4o", &long);
    assert!(sampled.abs_diff(exact) * 50 < exact, "{sampled} is not within 2 % of {exact}");
}

#[test]
fn a_chat_counts_its_messages_as_the_cookbook_does() {
    // The cookbook's example for gpt-4: 129 tokens as the API counts them.
    let body = json!({"model": "gpt-4", "messages": [
        {"role": "system", "content": "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."},
        {"role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth."},
        {"role": "system", "name": "example_assistant", "content": "Things working well together will increase revenue."},
        {"role": "system", "name": "example_user", "content": "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage."},
        {"role": "system", "name": "example_assistant", "content": "Let's talk later when we're less busy about how to do better."},
        {"role": "user", "content": "This late pivot means we don't have time to boil the ocean for the client deliverable."},
    ]});
    assert_eq!(count_chat_input("gpt-4", body.to_string().as_bytes()), 129);
    assert_eq!(count_chat_input("gpt-4o", body.to_string().as_bytes()), 124);
}

#[test]
fn images_tools_and_calls_are_part_of_the_input() {
    let count = |body: Value| count_chat_input("gpt-4o", body.to_string().as_bytes());
    let parts = |parts: Value| count(json!({"messages": [{"role": "user", "content": parts}]}));
    let bare = parts(json!([]));
    assert_eq!(bare, PER_MESSAGE + PER_ANSWER + 1);
    let data = format!("data:image/png;base64,{}", "A".repeat(10_000));
    assert_eq!(parts(json!([{"type": "image_url", "image_url": {"url": data}}])), bare + 765);
    assert_eq!(parts(json!([{"type": "image_url", "image_url": {"url": data, "detail": "low"}}])), bare + 85);
    assert_eq!(parts(json!([{"type": "file", "file": {"file_data": data}}])), bare + 765);
    assert_eq!(parts(json!([{"type": "text", "text": "hello world"}])), bare + 2);
    assert_eq!(parts(json!("hello world")), bare + 2);

    let tool = json!({"type": "function", "function": {"name": "hello"}});
    assert_eq!(count(json!({"tools": [tool]})), super::count("gpt-4o", &tool.to_string()));
    let call = json!({"id": "c", "type": "function", "function": {"name": "hello", "arguments": " world"}});
    let calling = json!({"messages": [{"role": "user", "content": null, "tool_calls": [call]}]});
    assert_eq!(count(calling), bare + 2);
}

#[test]
fn embedding_inputs_are_counted_in_each_form() {
    let count = |input: Value| count_chat_input("gpt-4o", json!({"input": input}).to_string().as_bytes());
    assert_eq!(count(json!("hello world")), 2);
    assert_eq!(count(json!(["hello world", "hello"])), 3);
    assert_eq!(count(json!([1, 2, 3])), 3);
    assert_eq!(count(json!([[1, 2], [3, 4, 5]])), 5);
}

#[test]
fn a_huge_or_broken_body_is_estimated() {
    assert_eq!(count_chat_input("gpt-4o", &[b'{'; 10]), 3);
    assert_eq!(count_chat_input("gpt-4o", b"[]"), 0);
    let messages: Vec<Value> =
        (0..40_000).map(|_| json!({"role": "user", "content": "hello world"})).collect();
    let body = json!({"messages": messages}).to_string();
    let exact = 40_000 * (PER_MESSAGE + 3) + PER_ANSWER;
    let counted = count_chat_input("gpt-4o", body.as_bytes());
    assert!(counted.abs_diff(exact) * 4 < exact, "{counted} is not near {exact}");
}
