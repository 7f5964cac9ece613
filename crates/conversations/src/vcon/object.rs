//! A JSON object that keeps the order and the text of its members.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// Beyond this many members doubles are looked for with a map.
const FEW: usize = 24;

/// A JSON object: its members in their order, each value as the text it came with, so that what nobody changes
/// goes out byte for byte as it came in.
#[derive(Clone, Default)]
pub struct Object {
    members: Vec<(Box<str>, Box<RawValue>)>,
}

impl Object {
    /// An object without members.
    pub fn new() -> Self {
        Object::default()
    }

    /// The text of a member's value.
    pub fn get(&self, key: &str) -> Option<&RawValue> {
        self.members.iter().find(|(name, _)| **name == *key).map(|(_, value)| &**value)
    }

    /// Whether there is a member of this name, `null` included.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// A member that is a string.
    pub fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        text(self.get(key)?)
    }

    /// A member as a value; numbers that do not fit lose what does not.
    pub fn value(&self, key: &str) -> Option<Value> {
        self.read(key)
    }

    /// A member read as a type; none when it is not there or of another form.
    pub fn read<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        serde_json::from_str(self.get(key)?.get()).ok()
    }

    /// Sets a member: in its place, or at the end.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.set_raw(key, raw(&value.into()));
    }

    /// Sets a member to this text of JSON.
    pub fn set_raw(&mut self, key: &str, value: Box<RawValue>) {
        match self.members.iter_mut().find(|(name, _)| **name == *key) {
            Some((_, old)) => *old = value,
            None => self.members.push((key.into(), value)),
        }
    }

    /// Removes a member; its value.
    pub fn remove(&mut self, key: &str) -> Option<Box<RawValue>> {
        let index = self.members.iter().position(|(name, _)| **name == *key)?;
        Some(self.members.remove(index).1)
    }

    /// Gives a member another name, in its place, unless there is one of that name; whether it did.
    pub fn rename(&mut self, old: &str, new: &str) -> bool {
        if self.has(new) {
            return false;
        }
        match self.members.iter_mut().find(|(name, _)| **name == *old) {
            Some((name, _)) => {
                *name = new.into();
                true
            }
            None => false,
        }
    }

    /// The members, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.members.iter().map(|(name, value)| (&**name, &**value))
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

/// The value as JSON text.
pub fn raw(value: &Value) -> Box<RawValue> {
    // A `Value` can always be written; there is no other answer to give.
    to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// A string in JSON text.
pub(crate) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let json = value.get();
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(json).ok().map(Cow::Owned)
}

impl From<serde_json::Map<String, Value>> for Object {
    fn from(map: serde_json::Map<String, Value>) -> Self {
        Object { members: map.into_iter().map(|(key, value)| (key.into(), raw(&value))).collect() }
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.members.len()))?;
        for (key, value) in &self.members {
            map.serialize_entry(&**key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<Cow<'de, str>, Box<RawValue>>()? {
                    members.push((member.0.into(), member.1));
                }
                Ok(Object { members: last_of_each(members) })
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Of members with the same name the last counts, as it does for most readers of JSON.
pub(super) fn last_of_each<T>(members: Vec<(Box<str>, T)>) -> Vec<(Box<str>, T)> {
    if members.len() <= FEW {
        let double = |i: usize| members[..i].iter().any(|(name, _)| *name == members[i].0);
        if !(1..members.len()).any(double) {
            return members;
        }
    }
    let mut places: HashMap<Box<str>, usize> = HashMap::with_capacity(members.len());
    let mut kept: Vec<(Box<str>, T)> = Vec::with_capacity(members.len());
    for (name, value) in members {
        match places.get(&name) {
            Some(place) => kept[*place].1 = value,
            None => {
                places.insert(name.clone(), kept.len());
                kept.push((name, value));
            }
        }
    }
    kept
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What people said does not belong into a log.
        f.debug_list().entries(self.members.iter().map(|(name, _)| name)).finish()
    }
}
