use std::time::Instant;

use super::*;

#[test]
fn every_row_can_be_read_is_a_price_and_has_source_and_date() {
    let lines: Vec<&str> = HEAD.rows.lines().collect();
    assert!(lines.len() > 1_000, "{} rows", lines.len());
    assert!(HEAD.sources.iter().all(|(day, source)| day.starts_with("2026-11-") && !source.is_empty()));
    for line in &lines {
        let (name, price) = parse(line).unwrap_or_else(|| panic!("unreadable: {line}"));
        assert_eq!(names::check(&name), Ok(()), "{line}");
        assert_eq!(price.check(), Ok(()), "{line}");
        // What is free in a list is mostly what the list does not know.
        assert!(!price.is_free(), "{line}");
        assert!(price.source.is_some() && price.as_of.is_some(), "{line}");
    }
    assert_eq!(rows().count(), lines.len());
    assert_eq!(version(), "2026-11-20");
}

/// Searching by halves needs the order, and finds every row because of it.
#[test]
fn rows_are_sorted_and_each_is_found() {
    let key = |line: &'static str| -> (&str, &str) {
        let mut cells = line.split(',');
        (cells.next().unwrap(), cells.next().unwrap())
    };
    let keys: Vec<_> = HEAD.rows.lines().map(key).collect();
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
    for (line, (kind, model)) in HEAD.rows.lines().zip(keys) {
        assert_eq!(row_of(HEAD.rows, kind, model), Some(line));
    }
    for (kind, model) in
        [("", ""), ("aaa", "x"), ("openai", "gpt"), ("openai", "zzz"), ("zzz", "x"), ("öö", "ü")]
    {
        assert_eq!(row_of(HEAD.rows, kind, model), None, "{kind}/{model}");
    }
    assert_eq!(row_of("", "a", "b"), None);
    assert_eq!(row_of("a,b,c", "a", "b"), Some("a,b,c"));
    assert_eq!(row_of("a,b", "a", "b"), Some("a,b"));
    assert_eq!(row_of("broken", "a", "b"), None);
}

/// Facts of `shared/data/prices.csv`, November 2026.
#[test]
fn well_known_models_cost_what_they_cost() {
    for (kind, model, facts) in [
        ("openai", "gpt-4.1", r#"{"input": 2, "output": 8, "cached_input": 0.5}"#),
        ("openai", "gpt-4o", r#"{"input": 2.5, "output": 10, "cached_input": 1.25}"#),
        (
            "anthropic",
            "claude-opus-4-8",
            r#"{"input": 5, "output": 25, "cached_input": 0.5, "cache_write": 6.25}"#,
        ),
        ("gemini", "gemini-2.5-flash", r#"{"input": 0.3, "output": 2.5, "cached_input": 0.03}"#),
        ("perplexity", "sonar-deep-research", r#"{"input": 2, "output": 8, "reasoning": 3}"#),
        ("openai", "whisper-1", r#"{"second": 0.0001}"#),
        ("openai", "tts-1", r#"{"character": 0.000015}"#),
        ("cohere", "rerank-v3.5", r#"{"search": 0.002}"#),
        ("bedrock", "stability.stable-image-core-v1:1", r#"{"image": 0.04}"#),
        ("groq", "whisper-large-v3", r#"{"second": 0.00003083}"#),
    ] {
        let found = find(kind, model).unwrap_or_else(|| panic!("{kind}/{model} is missing"));
        let rates = Price {
            max_input_tokens: None,
            max_output_tokens: None,
            source: None,
            as_of: None,
            tiers: Vec::new(),
            ..found
        };
        assert_eq!(rates, serde_json::from_str(facts).unwrap(), "{kind}/{model}");
    }
    let known = find("openai", "gpt-4.1").unwrap();
    assert_eq!((known.max_input_tokens, known.max_output_tokens), (Some(1_047_576), Some(32_768)));
    assert_eq!(known.source.as_deref(), Some("https://developers.openai.com/api/docs/pricing"));
    let tier = find("gemini", "gemini-2.5-pro").unwrap().tiers.remove(0);
    let expected = r#"{"above": 200000, "input": 2.5, "cached_input": 0.25, "output": 15}"#;
    assert_eq!(tier, serde_json::from_str(expected).unwrap());
}

#[test]
fn a_dated_name_has_its_own_price_or_its_familys() {
    assert_eq!(find("openai", "gpt-5.4-mini-2099-01-01"), find("openai", "gpt-5.4-mini"));
    assert_eq!(find("anthropic", "claude-opus-4-8-20991231"), find("anthropic", "claude-opus-4-8"));
    // The snapshot that costs twice what its family costs.
    assert_ne!(find("openai", "gpt-4o-2024-05-13"), find("openai", "gpt-4o"));
    let tuned = find("openai", "ft:gpt-4.1-2025-04-14:acme::abc123");
    assert!(
        tuned.is_some()
            && tuned == find("openai", "ft:gpt-4.1-2025-04-14")
            && tuned != find("openai", "gpt-4.1")
    );
    assert_eq!(find("openai", "gpt-5.4-mini-0101"), None);
    assert_eq!(find("anthropic", "gpt-4.1"), None);
}

/// What the table costs a process: nothing but the text, of which only touched pages are in memory.
#[test]
fn the_table_is_small_and_fast() {
    assert!(TEXT.len() < 160 * 1024, "{} bytes", TEXT.len());
    let start = Instant::now();
    assert!(rows().count() > 1_000);
    // Reading all of it in a debug build on a busy machine; a release build takes about a millisecond.
    assert!(start.elapsed().as_millis() < 1_000, "{:?}", start.elapsed());
}
