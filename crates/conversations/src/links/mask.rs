//! `links.mask`: masks personal data in what was said and what was made of it: e-mail addresses, phone numbers,
//! cards by their check digit, accounts by theirs.

use std::borrow::Cow;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use guard::mask::{self, Kind, Style};
use serde::Deserialize;
use serde_json::Value;

use crate::environment::Environment;
use crate::link::{Link, LinkContext, LinkError, Next};
use crate::options::{self, OptionsError};
use crate::vcon::{List, Object, Vcon};

pub(super) const MODULE: &str = "links.mask";
pub(super) const OPTIONS: &[&str] = &["kinds", "style", "sections"];

/// Its options.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Options {
    /// What is masked.
    kinds: Vec<Kind>,
    /// What is put in its place.
    style: Style,
    /// Where it is looked for.
    sections: Vec<Section>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Section {
    /// The vCon's subject.
    Subject,
    /// Texts and transcripts inside of dialogs.
    Dialog,
    /// What was made of them.
    Analysis,
    /// What belongs to them.
    Attachments,
    /// Names and addresses of who took part: by these vCons are found, so only when it is asked for.
    Parties,
}

impl Default for Options {
    fn default() -> Self {
        let sections = vec![Section::Subject, Section::Dialog, Section::Analysis, Section::Attachments];
        Options { kinds: Kind::ALL.to_vec(), style: Style::Label, sections }
    }
}

struct Mask {
    options: Options,
}

pub(super) fn make(options: Value, _: &Environment) -> Result<Box<dyn Link>, OptionsError> {
    Ok(Box::new(Mask { options: options::read(MODULE, options, OPTIONS)? }))
}

impl Mask {
    fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        mask::mask(text, &self.options.kinds, self.options.style)
    }

    /// Masks the texts within a value, and numbers that are cards; whether there was anything.
    fn value(&self, value: &mut Value) -> bool {
        match value {
            Value::String(text) => match self.text(text) {
                Cow::Borrowed(_) => false,
                Cow::Owned(masked) => {
                    *text = masked;
                    true
                }
            },
            Value::Number(number) => {
                let text = number.to_string();
                let is_card = self.options.kinds.contains(&Kind::Card) && mask::is_card(&text);
                if is_card {
                    *value = Value::String(self.text(&text).into_owned());
                }
                is_card
            }
            // No short cut: each of them is masked.
            Value::Array(items) => {
                items.iter_mut().filter_map(|item| self.value(item).then_some(())).count() > 0
            }
            Value::Object(members) => {
                members.values_mut().filter_map(|member| self.value(member).then_some(())).count() > 0
            }
            Value::Null | Value::Bool(_) => false,
        }
    }

    /// The body of a dialog, analysis or attachment with its personal data masked; none when there is none.
    fn body(&self, object: &Object) -> Option<Value> {
        let mut body = object.value("body")?;
        let encoding = object.text("encoding");
        let Value::String(text) = &body else { return self.value(&mut body).then_some(body) };
        match encoding.as_deref() {
            Some("json") => {
                let mut inner: Value = serde_json::from_str(text).ok()?;
                self.value(&mut inner).then(|| Value::String(inner.to_string()))
            }
            Some("base64url") if is_text(object) => {
                let inner = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
                let inner = String::from_utf8(inner).ok()?;
                match self.text(&inner) {
                    Cow::Borrowed(_) => None,
                    Cow::Owned(masked) => Some(Value::String(match text.ends_with('=') {
                        true => URL_SAFE.encode(masked),
                        false => URL_SAFE_NO_PAD.encode(masked),
                    })),
                }
            }
            // Sound and pictures in base64 hold no text, and digits by chance.
            Some("base64url" | "base64") => None,
            None if object.text("type").as_deref() == Some("recording") => None,
            _ => self.value(&mut body).then_some(body),
        }
    }

    fn bodies(&self, vcon: &mut Vcon, list: List) -> usize {
        let found: Vec<(usize, Value)> = vcon
            .list(list)
            .iter()
            .enumerate()
            .filter_map(|(at, object)| Some((at, self.body(object)?)))
            .collect();
        let count = found.len();
        for (at, body) in found {
            vcon.list_mut(list)[at].set("body", body);
        }
        count
    }

    fn parties(&self, vcon: &mut Vcon) -> usize {
        let mut found = Vec::new();
        for (at, party) in vcon.parties().iter().enumerate() {
            for (key, _) in party.iter().filter(|(key, _)| *key != "uuid") {
                let Some(mut value) = party.value(key) else { continue };
                if self.value(&mut value) {
                    found.push((at, key.to_owned(), value));
                }
            }
        }
        let count = found.len();
        for (at, key, value) in found {
            vcon.list_mut(List::Parties)[at].set(&key, value);
        }
        count
    }
}

fn is_text(object: &Object) -> bool {
    ["mediatype", "mimetype"].into_iter().filter_map(|key| object.text(key)).any(|kind| {
        kind.starts_with("text/") || kind.starts_with("application/json") || kind.starts_with("message/")
    })
}

#[async_trait]
impl Link for Mask {
    fn module(&self) -> &'static str {
        MODULE
    }

    async fn run(&self, vcon: &mut Vcon, context: &LinkContext) -> Result<Next, LinkError> {
        let mut count = 0;
        for section in &self.options.sections {
            count += match section {
                Section::Dialog => self.bodies(vcon, List::Dialog),
                Section::Analysis => self.bodies(vcon, List::Analysis),
                Section::Attachments => self.bodies(vcon, List::Attachments),
                Section::Parties => self.parties(vcon),
                Section::Subject => {
                    let masked = vcon.text("subject").and_then(|subject| match self.text(&subject) {
                        Cow::Borrowed(_) => None,
                        Cow::Owned(masked) => Some(masked),
                    });
                    let found = masked.is_some();
                    if let Some(masked) = masked {
                        vcon.set("subject", masked);
                    }
                    usize::from(found)
                }
            };
        }
        context.environment.meters.count("link.mask.masked", &context.link, count as u64);
        Ok(Next::Continue)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing;
    use crate::vcon::Analysis;

    fn link(options: Value) -> Box<dyn Link> {
        make(options, &testing::environment()).unwrap()
    }

    fn filled() -> Vcon {
        let mut vcon = testing::vcon();
        vcon.set("subject", "from ann@example.com");
        let dialog = |value: Value| serde_json::from_value::<Object>(value).unwrap();
        vcon.list_mut(List::Dialog).extend([
            dialog(json!({"type": "text", "body": "card 4111 1111 1111 1111", "encoding": "none"})),
            dialog(json!({"type": "text", "body": URL_SAFE_NO_PAD.encode("IBAN DE89370400440532013000"), "encoding": "base64url", "mediatype": "text/plain"})),
            dialog(json!({"type": "recording", "body": "4111111111111111", "encoding": "base64url", "mediatype": "audio/wav"})),
        ]);
        vcon.add_analysis(Analysis {
            kind: "transcript",
            dialog: json!(1),
            vendor: "x",
            body: json!({"text": "call +49 30 1234567", "words": [{"w": "bob@example.com", "n": 4111111111111111u64, "at": 1.5}]}),
            encoding: "json",
            extra: vec![],
        });
        vcon
    }

    #[tokio::test]
    async fn it_masks_what_was_said_and_what_was_made_of_it() {
        let mut vcon = filled();
        assert_eq!(link(Value::Null).run(&mut vcon, &testing::context()).await.unwrap(), Next::Continue);
        assert_eq!(vcon.text("subject").unwrap(), "from [EMAIL]");
        let body = |at: usize| vcon.dialog()[at].text("body").unwrap().into_owned();
        assert_eq!(body(1), "card [CARD]");
        assert_eq!(URL_SAFE_NO_PAD.decode(body(2)).unwrap(), b"IBAN [IBAN]");
        assert_eq!(body(3), "4111111111111111", "a recording is no text");
        let transcript: Value = serde_json::from_str(&vcon.analysis()[0].text("body").unwrap()).unwrap();
        assert_eq!(
            transcript,
            json!({"text": "call [PHONE]", "words": [{"w": "[EMAIL]", "n": "[CARD]", "at": 1.5}]})
        );
        assert_eq!(
            vcon.parties()[0].text("tel").unwrap(),
            "+15551234567",
            "parties are left unless asked for"
        );
    }

    #[tokio::test]
    async fn it_masks_only_what_and_where_it_is_told() {
        let mut vcon = filled();
        let options = json!({"kinds": ["email"], "sections": ["parties", "analysis"], "style": "stars"});
        link(options).run(&mut vcon, &testing::context()).await.unwrap();
        assert_eq!(vcon.parties()[1].text("mailto").unwrap(), "***************");
        assert_eq!(vcon.parties()[0].text("tel").unwrap(), "+15551234567");
        assert_eq!(vcon.text("subject").unwrap(), "from ann@example.com");
        assert!(vcon.analysis()[0].text("body").unwrap().contains("+49 30 1234567"));
        assert!(make(json!({"kinds": ["ssn"]}), &testing::environment()).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn what_has_no_personal_data_stays_byte_for_byte(text in "[a-zA-Z ,.!?é]{0,80}") {
            let mut vcon = testing::vcon();
            vcon.set("subject", text);
            let before = vcon.settle();
            let run = async { link(Value::Null).run(&mut vcon, &testing::context()).await.unwrap() };
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run);
            prop_assert!(!vcon.is_changed());
            prop_assert_eq!(vcon.to_bytes(), before);
        }
    }
}
