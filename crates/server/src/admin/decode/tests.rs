use serde::Deserialize;
use serde_json::json;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Colour {
    Red,
    DarkBlue,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Part {
    size: u8,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct Thing {
    name: Option<String>,
    count: Option<i64>,
    share: Option<f64>,
    on: bool,
    colour: Option<Colour>,
    parts: Vec<Part>,
    amount: base::Money,
}

fn native(value: &Value) -> Result<Thing, Refusal> {
    json(value, Form::Native)
}

/// The code, the field and the message of a refusal.
fn told(refusal: &Refusal) -> (&str, &str, &str) {
    (refusal.error.code, refusal.field.as_deref().unwrap_or(""), &refusal.error.message)
}

#[test]
fn reads_what_is_right() {
    let body = json!({"name": "a", "count": 3.0, "share": 1, "on": true, "colour": "dark-blue",
        "parts": [{"size": 7}], "amount": "12.5"});
    let thing = native(&body).unwrap();
    assert_eq!((thing.count, thing.share, thing.on), (Some(3), Some(1.0), true));
    assert_eq!((thing.colour, thing.parts), (Some(Colour::DarkBlue), vec![Part { size: 7 }]));
    assert_eq!(thing.amount.to_string(), "12.5");
    assert_eq!(native(&json!({"name": null})).unwrap(), Thing::default());
}

#[test]
fn says_which_field_is_wrong_and_how() {
    for (body, code, field, message) in [
        (json!({"nmae": 1}), "unknown_field", "nmae", "There is no field `nmae`: did you mean `name`?"),
        (
            json!({"parts": [{"size": 1}, {"size": 1, "sise": 2}]}),
            "unknown_field",
            "parts[1].sise",
            "There is no field `parts[1].sise`: did you mean `size`?",
        ),
        (json!({"parts": [{}]}), "missing_field", "parts[0].size", "The field `parts[0].size` is missing."),
        (json!({"count": "3"}), "invalid_value", "count", "`count`: expected a whole number, found a text."),
        (
            json!({"count": 1.5}),
            "invalid_value",
            "count",
            "`count`: expected a whole number, found a number with decimals.",
        ),
        (
            json!({"parts": [{"size": 256}]}),
            "invalid_value",
            "parts[0].size",
            "`parts[0].size`: expected a whole number from 0 to 255, found another number.",
        ),
        (json!({"on": "true"}), "invalid_value", "on", "`on`: expected true or false, found a text."),
        (
            json!({"colour": "darkblu"}),
            "invalid_value",
            "colour",
            "`colour`: expected `red`, `dark-blue`. Did you mean `dark-blue`?",
        ),
        (
            json!({"amount": "1e3"}),
            "invalid_value",
            "amount",
            "`amount`: an amount is a decimal number of dollars without exponent, as \"12.5\".",
        ),
        (json!([]), "invalid_value", "", "The body: expected an object, found a list."),
    ] {
        assert_eq!(told(&native(&body).unwrap_err()), (code, field, message), "{body}");
    }
}

#[test]
fn what_was_given_is_not_repeated() {
    let secret = "sk-very-secret";
    for body in [json!({"count": secret}), json!({"colour": secret}), json!({"parts": secret})] {
        assert!(!native(&body).unwrap_err().error.message.contains(secret), "{body}");
    }
    let name = "x".repeat(10_000);
    assert!(native(&json!({name: 1})).unwrap_err().error.message.len() < 400);
}

#[test]
fn parameters_are_texts_of_their_types() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Query {
        limit: Option<u16>,
        after: Option<i64>,
        on: Option<bool>,
        by: Option<Vec<Colour>>,
        name: Option<String>,
    }
    let read = |query: &str| {
        let pairs: Vec<_> = query
            .split('&')
            .filter_map(|part| part.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        parameters::<Query>(&pairs, Form::Native)
    };
    let query = read("limit=5&after=-3&on=false&by=red,dark-blue&name=7").unwrap();
    assert_eq!(
        query,
        Query {
            limit: Some(5),
            after: Some(-3),
            on: Some(false),
            by: Some(vec![Colour::Red, Colour::DarkBlue]),
            name: Some("7".into()),
        }
    );
    for (bad, field) in [
        ("limit=70000", "limit"),
        ("limit=", "limit"),
        ("limit=+5", "limit"),
        ("limit=1e2", "limit"),
        ("after=9223372036854775808", "after"),
        ("on=yes", "on"),
        ("by=red,green", "by[1]"),
        ("limmit=5", "limmit"),
        ("limit=5&limit=6", "limit"),
    ] {
        assert_eq!(read(bad).unwrap_err().field.as_deref(), Some(field), "{bad}");
    }
}

#[test]
fn conduit_reads_as_asp_net_does() {
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase")]
    struct Key {
        key_name: String,
        group_id: i64,
        is_enabled: Option<bool>,
    }
    let body = json!({"KeyName": "old", "keyname": "a", "GROUPID": "7", "isEnabled": "true", "unknown": [1]});
    let key: Key = json(&body, Form::Conduit).unwrap();
    assert_eq!(key, Key { key_name: "a".into(), group_id: 7, is_enabled: Some(true) });
    assert!(json::<Key>(&body, Form::Native).is_err());
}

#[test]
fn enums_may_hold_something() {
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Shape {
        Round,
        Square(u8),
        Oblong { wide: u8 },
    }
    let read = |value: Value| json::<Shape>(&value, Form::Native);
    assert_eq!(read(json!("round")).unwrap(), Shape::Round);
    assert_eq!(read(json!({"square": 3})).unwrap(), Shape::Square(3));
    assert_eq!(read(json!({"oblong": {"wide": 3}})).unwrap(), Shape::Oblong { wide: 3 });
    for bad in [json!({"oblong": {"wid": 3}}), json!({}), json!(3), json!({"round": 1}), json!("sqare")] {
        assert!(read(bad.clone()).is_err(), "{bad}");
    }
}
