//! A vCon, the IETF's container of a conversation (<https://datatracker.ietf.org/doc/draft-ietf-vcon-vcon-core/>):
//! parties, dialog, analysis and attachments in one JSON object.
//!
//! It is read once, changed in memory and written once. What we do not know, and what nobody changes, stays byte
//! for byte; only the four lists are opened, one level deep.

mod canonical;
mod object;
pub mod validate;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

pub use object::{Object, raw};

/// The syntax that we write.
pub const SYNTAX: &str = "0.4.0";
/// How deep JSON may be nested in a vCon.
pub const MAX_DEPTH: usize = 100;

/// A list of a vCon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Who took part.
    Parties,
    /// What was said: recordings and texts.
    Dialog,
    /// What was made of it: transcripts, summaries.
    Analysis,
    /// What belongs to it: documents, tags.
    Attachments,
}

impl List {
    const ALL: [List; 4] = [List::Parties, List::Dialog, List::Analysis, List::Attachments];

    /// The name of the member.
    pub fn as_str(self) -> &'static str {
        match self {
            List::Parties => "parties",
            List::Dialog => "dialog",
            List::Analysis => "analysis",
            List::Attachments => "attachments",
        }
    }
}

/// A vCon.
#[derive(Clone)]
pub struct Vcon {
    uuid: String,
    members: Vec<(Box<str>, Member)>,
    /// The lists that `members` names.
    lists: [Vec<Object>; 4],
    /// The text it was read from, while nothing is changed.
    text: Option<Bytes>,
}

#[derive(Clone)]
enum Member {
    Raw(Box<RawValue>),
    List(List),
}

/// Why bytes are not a vCon.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VconError {
    /// They are not JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// They are JSON of another form.
    #[error("{0}")]
    Form(String),
    /// They are nested deeper than is taken.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    Depth,
}

impl Vcon {
    /// Reads a vCon. That it has a uuid is all that is asked of it here; the API checks more.
    pub fn parse(text: impl Into<Bytes>) -> Result<Self, VconError> {
        let text = text.into();
        check_depth(&text)?;
        let Members(members, lists) = serde_json::from_slice(&text).map_err(|e| match e.classify() {
            serde_json::error::Category::Data => VconError::Form(format!("not a JSON object: {e}")),
            _ => VconError::Json(e.to_string()),
        })?;
        let mut vcon = Vcon { uuid: String::new(), members, lists, text: Some(text) };
        vcon.uuid = vcon
            .text("uuid")
            .filter(|uuid| is_uuid(uuid))
            .map(|uuid| uuid.to_ascii_lowercase())
            .ok_or_else(|| VconError::Form("it has no `uuid`".into()))?;
        Ok(vcon)
    }

    /// A new vCon without content.
    pub fn new(uuid: &str, created_at: &str) -> Self {
        let member = |value: Value| Member::Raw(raw(&value));
        let mut members = vec![
            ("vcon".into(), member(SYNTAX.into())),
            ("uuid".into(), member(uuid.into())),
            ("created_at".into(), member(created_at.into())),
        ];
        members.extend(List::ALL.map(|list| (list.as_str().into(), Member::List(list))));
        Vcon { uuid: uuid.to_owned(), members, lists: Default::default(), text: None }
    }

    /// Its uuid, in lower case.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// When it was made, as it says so.
    pub fn created_at(&self) -> Option<Cow<'_, str>> {
        self.text("created_at")
    }

    /// When it was made, in milliseconds since the epoch.
    pub fn created_ms(&self) -> Option<i64> {
        match self.value("created_at")? {
            Value::String(text) => parse_time(&text),
            Value::Number(seconds) => seconds.as_f64().map(|seconds| (seconds * 1e3) as i64),
            _ => None,
        }
    }

    /// Who took part.
    pub fn parties(&self) -> &[Object] {
        self.list(List::Parties)
    }

    /// What was said.
    pub fn dialog(&self) -> &[Object] {
        self.list(List::Dialog)
    }

    /// What was made of it.
    pub fn analysis(&self) -> &[Object] {
        self.list(List::Analysis)
    }

    /// What belongs to it.
    pub fn attachments(&self) -> &[Object] {
        self.list(List::Attachments)
    }

    /// The objects of a list; none where the member is no list of objects.
    pub fn list(&self, list: List) -> &[Object] {
        match self.member(list.as_str()) {
            Some(Member::List(_)) => &self.lists[list as usize],
            _ => &[],
        }
    }

    /// A list to be changed; it is made when it is not there.
    pub fn list_mut(&mut self, list: List) -> &mut Vec<Object> {
        self.text = None;
        let objects = &mut self.lists[list as usize];
        match self.members.iter_mut().find(|(name, _)| **name == *list.as_str()) {
            Some((_, Member::List(_))) => {}
            Some((_, member)) => {
                *member = Member::List(list);
                objects.clear();
            }
            None => {
                self.members.push((list.as_str().into(), Member::List(list)));
                objects.clear();
            }
        }
        objects
    }

    /// The JSON text of a member that is none of the four lists.
    pub fn get(&self, key: &str) -> Option<&RawValue> {
        match self.member(key)? {
            Member::Raw(value) => Some(value),
            Member::List(_) => None,
        }
    }

    /// A member that is a string.
    pub fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        object::text(self.get(key)?)
    }

    /// A member that is none of the four lists, as a value.
    pub fn value(&self, key: &str) -> Option<Value> {
        serde_json::from_str(self.get(key)?.get()).ok()
    }

    /// Sets a member that is none of the four lists.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.set_raw(key, raw(&value.into()));
    }

    /// Sets a member that is none of the four lists to this text of JSON.
    pub fn set_raw(&mut self, key: &str, value: Box<RawValue>) {
        self.text = None;
        match self.members.iter_mut().find(|(name, _)| **name == *key) {
            Some((_, member)) => *member = Member::Raw(value),
            None => self.members.push((key.into(), Member::Raw(value))),
        }
    }

    /// Removes a member; whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        let before = self.members.len();
        self.members.retain(|(name, _)| **name != *key);
        let removed = self.members.len() < before;
        if removed {
            self.text = None;
        }
        removed
    }

    /// The names of the members, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|(name, _)| &**name)
    }

    /// Takes another content under the same uuid, as what a program made of this vCon. Refuses one with another
    /// uuid.
    pub fn replace(&mut self, text: impl Into<Bytes>) -> Result<(), VconError> {
        let other = Vcon::parse(text)?;
        if other.uuid != self.uuid {
            let text = format!("its uuid is {}, not {}", other.uuid, self.uuid);
            return Err(VconError::Form(text));
        }
        if other.to_bytes() != self.to_bytes() {
            *self = other;
            self.text = None;
        }
        Ok(())
    }

    /// The tags: of each `name:value` the two parts; those of any attachment that says it holds tags.
    pub fn tags(&self) -> Vec<(String, String)> {
        let mut tags = Vec::new();
        for attachment in self.attachments().iter().filter(|attachment| is_tags(attachment)) {
            tags.extend(read_tags(attachment));
        }
        tags
    }

    /// The value of a tag.
    pub fn tag(&self, name: &str) -> Option<String> {
        self.tags().into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Adds a tag, unless it is there with this value.
    pub fn add_tag(&mut self, name: &str, value: &str) {
        let found = self.attachments().iter().position(is_tags);
        let mut tags = match found {
            Some(place) => read_tags(&self.attachments()[place]),
            None => Vec::new(),
        };
        if tags.iter().any(|(known, other)| known == name && other == value) {
            return;
        }
        tags.push((name.to_owned(), value.to_owned()));
        let tags: Vec<String> = tags.into_iter().map(|(name, value)| format!("{name}:{value}")).collect();
        let body = Value::from(tags).to_string();
        let attachments = self.list_mut(List::Attachments);
        match found {
            Some(place) => {
                let attachment = &mut attachments[place];
                attachment.set("body", body);
                attachment.set("encoding", "json");
            }
            None => {
                let mut attachment = Object::new();
                attachment.set("purpose", "tags");
                attachment.set("body", body);
                attachment.set("encoding", "json");
                attachments.push(attachment);
            }
        }
    }

    /// Adds an analysis. A body that is not a string becomes JSON text with `encoding: json`.
    pub fn add_analysis(&mut self, analysis: Analysis<'_>) {
        let mut object = Object::new();
        object.set("type", analysis.kind);
        object.set("dialog", analysis.dialog);
        object.set("vendor", analysis.vendor);
        let (body, encoding) = match analysis.body {
            Value::String(text) => (text, analysis.encoding),
            other => (other.to_string(), "json"),
        };
        object.set("body", body);
        object.set("encoding", encoding);
        for (key, value) in analysis.extra {
            object.set(key, value);
        }
        self.list_mut(List::Analysis).push(object);
    }

    /// Adds an attachment of this purpose. A body that is not a string becomes JSON text with `encoding: json`.
    pub fn add_attachment(&mut self, purpose: &str, body: Value, encoding: &str) {
        let (body, encoding) = match body {
            Value::String(text) => (text, encoding),
            other => (other.to_string(), "json"),
        };
        let mut object = Object::new();
        object.set("purpose", purpose);
        object.set("body", body);
        object.set("encoding", encoding);
        self.list_mut(List::Attachments).push(object);
    }

    /// The analysis of this type that is about this dialog.
    pub fn find_analysis(&self, dialog: usize, kind: &str) -> Option<&Object> {
        self.analysis().iter().find(|analysis| {
            analysis.text("type").as_deref() == Some(kind)
                && match analysis.value("dialog") {
                    Some(Value::Number(number)) => number.as_u64() == Some(dialog as u64),
                    Some(Value::Array(numbers)) => numbers.contains(&json!(dialog)),
                    _ => false,
                }
        })
    }

    /// Whether anything was changed since it was read.
    pub fn is_changed(&self) -> bool {
        self.text.is_none()
    }

    /// The text: the one it was read from while nothing is changed.
    pub fn to_bytes(&self) -> Bytes {
        match &self.text {
            Some(text) => text.clone(),
            // Maps with text as keys, and text: writing them cannot fail.
            None => serde_json::to_vec(self).unwrap_or_default().into(),
        }
    }

    /// Writes the text, and counts as unchanged from then on.
    pub fn settle(&mut self) -> Bytes {
        let text = self.to_bytes();
        self.text = Some(text.clone());
        text
    }

    /// The whole as a value; numbers that do not fit lose what does not.
    pub fn to_value(&self) -> Value {
        serde_json::from_slice(&self.to_bytes()).unwrap_or_default()
    }

    fn member(&self, key: &str) -> Option<&Member> {
        self.members.iter().find(|(name, _)| **name == *key).map(|(_, member)| member)
    }
}

/// An analysis to be added.
#[derive(Clone, Debug)]
pub struct Analysis<'a> {
    /// Its type, as `transcript`.
    pub kind: &'a str,
    /// The dialog it is about: an index, or a list of them.
    pub dialog: Value,
    /// Who made it, as `openai`.
    pub vendor: &'a str,
    /// What was found.
    pub body: Value,
    /// How a body that is a string is to be read: `none`, `json`, `base64url`.
    pub encoding: &'a str,
    /// Further members: `vendor_schema`, `product`, `schema`, …
    pub extra: Vec<(&'a str, Value)>,
}

/// Whether an attachment holds tags: by its purpose, or its type as earlier versions say.
fn is_tags(attachment: &Object) -> bool {
    ["purpose", "type"].iter().any(|key| attachment.text(key).as_deref() == Some("tags"))
}

/// The tags of an attachment: an array of `name:value`, or its text; or a map, as some programs write it.
fn read_tags(attachment: &Object) -> Vec<(String, String)> {
    let body = match attachment.value("body") {
        Some(Value::String(text)) => serde_json::from_str(&text).unwrap_or_default(),
        other => other.unwrap_or_default(),
    };
    let plain = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    match body {
        Value::Array(tags) => tags
            .into_iter()
            .filter_map(|tag| {
                let tag = plain(tag);
                let (name, value) = tag.split_once(':')?;
                Some((name.to_owned(), value.to_owned()))
            })
            .collect(),
        Value::Object(tags) => tags.into_iter().map(|(name, value)| (name, plain(value))).collect(),
        _ => Vec::new(),
    }
}

/// Whether this is a UUID in its usual form, of any version.
pub fn is_uuid(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(i, byte)| match i {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// A time as vCons write it (RFC 3339, or without an offset for UTC), in milliseconds since the epoch.
pub fn parse_time(text: &str) -> Option<i64> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_millisecond());
    }
    let time: jiff::civil::DateTime = text.parse().ok()?;
    let zoned = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_millisecond())
}

/// Refuses nesting that some reader down the line would give up on.
pub(crate) fn check_depth(text: &[u8]) -> Result<(), VconError> {
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for byte in text {
        match (in_text, *byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (true, b'"') => in_text = false,
            (true, _) => {}
            (false, b'"') => in_text = true,
            (false, b'[' | b'{') => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(VconError::Depth);
                }
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// The members of a vCon, the lists opened.
struct Members(Vec<(Box<str>, Member)>, [Vec<Object>; 4]);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::with_capacity(12);
                let mut lists: [Vec<Object>; 4] = Default::default();
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    let text: &'de RawValue = map.next_value()?;
                    let list = List::ALL.into_iter().find(|list| list.as_str() == key);
                    let opened = list.and_then(|list| Some((list, serde_json::from_str(text.get()).ok()?)));
                    let member = match opened {
                        Some((list, objects)) => {
                            lists[list as usize] = objects;
                            Member::List(list)
                        }
                        None => Member::Raw(text.to_owned()),
                    };
                    members.push((key.into(), member));
                }
                Ok(Members(object::last_of_each(members), lists))
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

impl Serialize for Vcon {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.members.len()))?;
        for (key, member) in &self.members {
            match member {
                Member::Raw(value) => map.serialize_entry(&**key, value)?,
                Member::List(list) => map.serialize_entry(&**key, &self.lists[*list as usize])?,
            }
        }
        map.end()
    }
}

impl fmt::Debug for Vcon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What people said does not belong into a log.
        f.debug_struct("Vcon").field("uuid", &self.uuid).finish_non_exhaustive()
    }
}
