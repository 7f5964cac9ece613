//! The bytes of the benchmark: what is asked, what the mock provider answers.

use std::sync::Arc;

/// What the mock answers without `stream`: about 0.7 KB, with usage.
pub const ANSWER: &str = concat!(
    r#"{"id":"chatcmpl-bench0000000000000000000","object":"chat.completion","created":1750000000,"#,
    r#""model":"gpt-4.1","choices":[{"index":0,"message":{"role":"assistant","content":"A reverse proxy stands in "#,
    r#"front of other servers and hands each request to one of them. It keeps connections open on both sides, so "#,
    r#"that a new request seldom waits for a handshake; it can also limit, log and retry, which is why it is the "#,
    r#"usual place for such rules. The price is one more hop, and one more thing to watch.","#,
    r#""refusal":null},"logprobs":null,"finish_reason":"stop"}],"#,
    r#""usage":{"prompt_tokens":231,"completion_tokens":64,"total_tokens":295,"#,
    r#""prompt_tokens_details":{"cached_tokens":0}},"system_fingerprint":"fp_bench"}"#,
);

/// Chunks of a stream, the role and the finish reason included; `[DONE]` and the usage chunk come on top.
pub const CHUNKS: usize = 20;

/// The models the benchmark asks for; the mock answers slowly when the body names [`SLOW`].
pub const FAST: &str = "bench";
/// See [`FAST`].
pub const SLOW: &str = "slow";

/// A request, and the only answer to it that is right.
pub struct Exchange {
    /// The whole request, head and body.
    pub request: Vec<u8>,
    /// The body that must come back.
    pub expected: Vec<u8>,
    /// So many bytes of `expected` hold the first content token.
    pub first_at: usize,
}

/// The requests of one run. All three systems get the same bytes.
pub struct Exchanges {
    /// One answer in one piece.
    pub chat: Arc<Exchange>,
    /// A stream without pauses.
    pub stream: Arc<Exchange>,
    /// A stream that stays open for seconds.
    pub slow: Arc<Exchange>,
}

impl Exchanges {
    /// The requests, authorised by `key`.
    pub fn new(key: &str) -> Self {
        let events = events();
        let stream = |model| {
            Arc::new(Exchange {
                request: request(key, model, true),
                expected: format!("{}{}", events.concat(), done()).into_bytes(),
                first_at: events[0].len() + events[1].len(),
            })
        };
        Exchanges {
            chat: Arc::new(Exchange {
                request: request(key, FAST, false),
                expected: ANSWER.into(),
                first_at: ANSWER.len(),
            }),
            stream: stream(FAST),
            slow: stream(SLOW),
        }
    }
}

/// The chunks of a stream as server-sent events.
pub fn events() -> Vec<String> {
    (0..CHUNKS)
        .map(|index| {
            let (delta, finish) = match index {
                0 => (r#"{"role":"assistant","content":""}"#.to_owned(), "null"),
                i if i == CHUNKS - 1 => ("{}".to_owned(), r#""stop""#),
                _ => (format!(r#"{{"content":" token{index}"}}"#), "null"),
            };
            chunk(&format!(r#"[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]"#), "")
        })
        .collect()
}

/// The chunk that ends a stream for which `include_usage` was asked.
pub fn usage() -> String {
    chunk("[]", r#","usage":{"prompt_tokens":231,"completion_tokens":18,"total_tokens":249}"#)
}

/// The end of every stream.
pub fn done() -> &'static str {
    "data: [DONE]\n\n"
}

fn chunk(choices: &str, rest: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-bench0000000000000000000\",\"object\":\"chat.completion.chunk\",\
         \"created\":1750000000,\"model\":\"gpt-4.1\",\"choices\":{choices}{rest}}}\n\n"
    )
}

/// A request of about 1.2 KB: a system prompt, a question, a few parameters.
fn request(key: &str, model: &str, stream: bool) -> Vec<u8> {
    let prompt =
        "You answer questions about computer networks. Be brief and exact, use plain words, give the \
                  reason before the rule, and say so when you do not know. "
            .repeat(4);
    let question =
        "What does a reverse proxy do, and why would a team put one between its applications and the \
                    providers of the language models that they call? Please name the costs too. "
            .repeat(2);
    let stream = if stream { r#","stream":true"# } else { "" };
    let body = format!(
        "{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"system\",\"content\":\"{prompt}\"}},\
         {{\"role\":\"user\",\"content\":\"{question}\"}}],\"temperature\":0.2,\"max_tokens\":256{stream}}}"
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nAccept: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_the_method_states() {
        assert!((650..=750).contains(&ANSWER.len()), "{}", ANSWER.len());
        let request = Exchanges::new("sk-0123456789abcdef").chat.request.len();
        assert!((1150..=1300).contains(&request), "{request}");
    }

    #[test]
    fn every_body_is_json() {
        serde_json::from_str::<serde_json::Value>(ANSWER).unwrap();
        for event in events().iter().chain([&usage()]) {
            let data = event.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap();
            serde_json::from_str::<serde_json::Value>(data).unwrap();
        }
        let request = String::from_utf8(Exchanges::new("k").slow.request.clone()).unwrap();
        let (_, body) = request.split_once("\r\n\r\n").unwrap();
        serde_json::from_str::<serde_json::Value>(body).unwrap();
        assert!(body.contains(r#""slow""#));
    }

    #[test]
    fn the_first_content_token_is_in_the_second_event() {
        let stream = Exchanges::new("k").stream;
        let text = std::str::from_utf8(&stream.expected[..stream.first_at]).unwrap();
        assert!(text.ends_with("\n\n") && text.matches("data: ").count() == 2 && text.contains(" token1\""));
    }
}
