//! The canonical form (syntax 0.4.0), and the legacy form (0.0.1) that older readers expect.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{List, Member, Object, SYNTAX, Vcon, check_depth};

/// The syntax of the legacy form.
pub const LEGACY: &str = "0.0.1";

impl Vcon {
    /// Brings it to the form of draft-ietf-vcon-vcon-core-02: names of earlier drafts become those of today, and
    /// bodies become strings. Changes nothing in one that has that form.
    pub fn canonicalise(&mut self) {
        if self.text("vcon").as_deref() != Some(SYNTAX) {
            self.set("vcon", SYNTAX);
        }
        self.rename("appended", "amended");
        self.rename("must_support", "critical");
        for key in ["group", "redacted", "amended"] {
            let empty = self
                .get(key)
                .is_some_and(|value| matches!(compact(value.get()).as_str(), "[]" | "{}" | "null"));
            if empty {
                self.remove(key);
            }
        }
        for list in List::ALL {
            let todo = self.list(list).iter().any(|object| needs_change(list, object));
            if todo {
                self.list_mut(list).iter_mut().for_each(|object| change(list, object));
            }
        }
    }

    /// A copy in the legacy form: `vcon: 0.0.1`, the names that its readers know, bodies that are JSON opened, and the
    /// members that it always has.
    #[must_use]
    pub fn to_legacy(&self) -> Vcon {
        let mut legacy = self.clone();
        legacy.set("vcon", LEGACY);
        legacy.rename("amended", "appended");
        legacy.rename("critical", "must_support");
        for list in [List::Dialog, List::Analysis, List::Attachments] {
            if legacy.list(list).is_empty() {
                continue;
            }
            for object in legacy.list_mut(list) {
                object.rename("mediatype", "mimetype");
                object.rename("schema", "schema_version");
                if list == List::Attachments {
                    object.rename("purpose", "type");
                }
                if list != List::Dialog {
                    open_body(object);
                }
            }
        }
        for (key, empty) in [("group", json!([])), ("redacted", json!({})), ("appended", Value::Null)] {
            if legacy.get(key).is_none() {
                legacy.set(key, empty);
            }
        }
        legacy
    }

    /// Gives a member that is none of the four lists another name, in its place.
    pub fn rename(&mut self, old: &str, new: &str) {
        if self.members.iter().any(|(name, _)| **name == *new) {
            return;
        }
        if let Some((name, Member::Raw(_))) = self.members.iter_mut().find(|(name, _)| **name == *old) {
            *name = new.into();
            self.text = None;
        }
    }
}

/// A body that is JSON in a string becomes that JSON, as older readers expect it.
fn open_body(object: &mut Object) {
    if object.text("encoding").as_deref() != Some("json") {
        return;
    }
    // What is no JSON, or nested deeper than readers follow, stays a text.
    if let Some(text) = object.text("body")
        && check_depth(text.as_bytes()).is_ok()
        && let Ok(opened) = RawValue::from_string(text.trim().to_owned())
    {
        object.set_raw("body", opened);
        object.set("encoding", "none");
    }
}

/// JSON text without the white space around it; enough to know what is empty.
fn compact(text: &str) -> String {
    text.chars().take(32).filter(|c| !c.is_ascii_whitespace()).collect()
}

fn has_structured_body(list: List, object: &Object) -> bool {
    matches!(list, List::Analysis | List::Attachments)
        && object.get("body").is_some_and(|body| body.get().starts_with(['{', '[']))
}

fn needs_change(list: List, object: &Object) -> bool {
    let old = |old: &str, new: &str| object.has(old) && !object.has(new);
    old("mimetype", "mediatype")
        || old("schema_version", "schema")
        || (list == List::Attachments && old("type", "purpose"))
        || has_structured_body(list, object)
}

fn change(list: List, object: &mut Object) {
    object.rename("mimetype", "mediatype");
    object.rename("schema_version", "schema");
    if list == List::Attachments {
        object.rename("type", "purpose");
    }
    if has_structured_body(list, object)
        && let Some(body) = object.get("body").map(|body| body.get().to_owned())
    {
        object.set("body", Value::String(body));
        object.set("encoding", "json");
    }
}
