//! Log probabilities: `LogprobsResult` and OpenAI's `logprobs.content`, in either direction.

use serde_json::{Map, Value, json};

/// In OpenAI's form; `None` when it holds no chosen tokens.
pub(super) fn read(result: &Value) -> Option<Value> {
    let chosen = result.get("chosenCandidates")?.as_array()?;
    let top = result.get("topCandidates").and_then(Value::as_array);
    let content: Vec<Value> = chosen
        .iter()
        .enumerate()
        .map(|(at, one)| {
            let others = top.and_then(|top| top.get(at)?.get("candidates")?.as_array());
            let others: Vec<Value> = others.into_iter().flatten().map(|other| token(other).into()).collect();
            let mut token = token(one);
            token.insert("top_logprobs".into(), others.into());
            token.into()
        })
        .collect();
    Some(json!({"content": content, "refusal": null}))
}

fn token(one: &Value) -> Map<String, Value> {
    let text = one.get("token").and_then(Value::as_str).unwrap_or_default();
    let mut token = Map::new();
    token.insert("token".into(), text.into());
    token.insert("logprob".into(), one.get("logProbability").cloned().unwrap_or(json!(-9999.0)));
    token.insert("bytes".into(), text.bytes().map(Value::from).collect());
    token
}

/// In Gemini's form.
pub(super) fn write(logprobs: &Value) -> Option<Value> {
    let content = logprobs.get("content")?.as_array()?;
    let candidate = |one: &Value| json!({"token": one.get("token"), "logProbability": one.get("logprob")});
    let chosen: Vec<Value> = content.iter().map(candidate).collect();
    let top: Vec<Value> = content
        .iter()
        .map(|one| {
            let others = one.get("top_logprobs").and_then(Value::as_array);
            let others: Vec<Value> = others.into_iter().flatten().map(candidate).collect();
            json!({"candidates": others})
        })
        .collect();
    Some(json!({"chosenCandidates": chosen, "topCandidates": top}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_back() {
        let top = json!([
            {"token": "é", "logprob": -0.1, "bytes": [195, 169]},
            {"token": "e", "logprob": -3.5, "bytes": [101]},
        ]);
        let own = json!({"content": [{"token": "é", "logprob": -0.1, "bytes": [195, 169], "top_logprobs": top}],
            "refusal": null});
        assert_eq!(read(&write(&own).unwrap()), Some(own));
        assert_eq!(read(&json!({})), None);
        assert_eq!(write(&json!({"content": null})), None);
    }
}
