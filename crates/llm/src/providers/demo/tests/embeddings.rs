//! The embedding model.

use super::*;

fn embed(input: Value, more: Value) -> Value {
    let mut body = json!({"model": "embedding", "input": input});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, answer) = ask(DemoOperation::Embeddings, &body);
    assert_eq!(status, 200, "{answer}");
    answer
}

fn vector(text: &str) -> Vec<f64> {
    serde_json::from_value(embed(json!(text), json!({}))["data"][0]["embedding"].clone()).unwrap()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn vectors_have_length_one_and_the_dimensions_asked_for() {
    for text in ["a", "Hello, world", " ", "!?", "界", &"long ".repeat(1_000)] {
        let vector = vector(text);
        assert_eq!(vector.len(), 256);
        assert!((dot(&vector, &vector) - 1.0).abs() < 1e-5, "{text:?}");
    }
    for dimensions in [1, 2, 3, 2048] {
        let answer = embed(json!("one two three"), json!({"dimensions": dimensions}));
        assert_eq!(answer["data"][0]["embedding"].as_array().unwrap().len(), dimensions);
    }
}

#[test]
fn similar_texts_are_closer() {
    let cat = vector("The cat sat on the mat");
    let close = dot(&cat, &vector("A cat sits on a mat"));
    let far = dot(&cat, &vector("Quarterly revenue grew by nine percent"));
    assert!(close > far + 0.2, "{close} against {far}");
    assert!(dot(&vector("running"), &vector("runner")) > dot(&vector("running"), &vector("teapot")));
    assert!((dot(&cat, &vector("the CAT sat, on the mat!")) - 1.0).abs() < 1e-5);
}

#[test]
fn base64_holds_the_same_floats() {
    let floats = embed(json!("hello"), json!({"encoding_format": "float"}));
    let packed = embed(json!("hello"), json!({"encoding_format": "base64"}));
    let bytes = STANDARD.decode(packed["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let unpacked: Vec<f32> = bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let floats: Vec<f32> = serde_json::from_value(floats["data"][0]["embedding"].clone()).unwrap();
    assert_eq!(unpacked, floats);
}

#[test]
fn each_form_of_input_is_answered_in_order() {
    let answer = embed(json!(["one two", "three"]), json!({}));
    assert_eq!((&answer["object"], &answer["model"]), (&json!("list"), &json!("embedding")));
    assert_eq!(answer["data"][1]["index"], 1);
    assert_eq!(answer["data"][1]["embedding"], embed(json!("three"), json!({}))["data"][0]["embedding"]);
    assert_eq!(answer["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
    let tokens = embed(json!([[1, 2], [1, 2], [3]]), json!({}));
    assert_eq!(tokens["data"][0]["embedding"], tokens["data"][1]["embedding"]);
    assert_ne!(tokens["data"][0]["embedding"], tokens["data"][2]["embedding"]);
    assert_eq!(tokens["usage"]["total_tokens"], 5);
    assert_eq!(embed(json!([1, 2]), json!({}))["data"][0]["embedding"], tokens["data"][0]["embedding"]);
}

#[test]
fn bad_inputs_are_refused() {
    let many: Vec<&str> = vec!["a"; 2049];
    let cases = [
        (json!({"input": ""}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": ["a", ""]}), "input"),
        (json!({"input": [[1], []]}), "input"),
        (json!({"input": many}), "input"),
        (json!({"input": {"a": 1}}), "input"),
        (json!({"input": [1, "a"]}), "input"),
        (json!({}), "input"),
        (json!({"input": "a", "dimensions": 0}), "dimensions"),
        (json!({"input": "a", "dimensions": 2049}), "dimensions"),
        (json!({"input": "a", "dimensions": "many"}), "dimensions"),
        (json!({"input": "a", "encoding_format": "hex"}), "encoding_format"),
    ];
    for (mut body, param) in cases {
        body["model"] = "embedding".into();
        let (status, answer) = ask(DemoOperation::Embeddings, &body);
        assert_eq!((status, &answer["error"]["param"]), (400, &json!(param)), "{answer}");
    }
    assert_eq!(
        embed(json!(vec!["a"; 2048]), json!({"dimensions": 2}))["data"].as_array().unwrap().len(),
        2048
    );
}
