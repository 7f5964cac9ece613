//! Taking a JSON object apart, field by field: what is wrong is told by its place, and what nobody took is known.

use serde_json::{Map, Value};

use crate::openai::Refusal;

/// The fields of an object, taken one after another.
pub(in crate::dialects) struct Fields {
    /// As it is written to somebody who must find it: `messages[2].content[0]`.
    place: String,
    /// The top-level field it belongs to.
    param: &'static str,
    map: Map<String, Value>,
}

impl Fields {
    /// `value` must be an object. `param` is the field of the request it belongs to.
    pub(in crate::dialects) fn of(
        value: Value,
        place: impl Into<String>,
        param: &'static str,
    ) -> Result<Fields, Refusal> {
        let place = place.into();
        match value {
            Value::Object(map) => Ok(Fields { place, param, map }),
            _ => Err(Refusal { message: format!("`{place}` must be an object."), param: Some(param) }),
        }
    }

    /// A refusal about this object.
    pub(in crate::dialects) fn refuse(&self, message: impl Into<String>) -> Refusal {
        Refusal { message: message.into(), param: Some(self.param) }
    }

    /// A refusal about a field of it.
    fn wrong(&self, name: &'static str, what: &str) -> Refusal {
        let param = if self.place.is_empty() { name } else { self.param };
        Refusal { message: format!("`{}` {what}", self.at(name)), param: Some(param) }
    }

    /// How a field of it is written.
    pub(in crate::dialects) fn at(&self, name: &str) -> String {
        if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) }
    }

    /// The field, unless it is absent or null.
    pub(in crate::dialects) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// Puts a field back, for another to take.
    pub(in crate::dialects) fn put(&mut self, name: &str, value: Value) {
        self.map.insert(name.to_owned(), value);
    }

    /// A string, if there is one.
    pub(in crate::dialects) fn string(&mut self, name: &'static str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "must be a string.")),
        }
    }

    /// A string that must be there.
    pub(in crate::dialects) fn need(&mut self, name: &'static str) -> Result<String, Refusal> {
        let text = self.string(name)?;
        text.ok_or_else(|| self.wrong(name, "is missing: give a string."))
    }

    /// A list, empty when absent.
    pub(in crate::dialects) fn list(&mut self, name: &'static str) -> Result<Vec<Value>, Refusal> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(self.wrong(name, "must be a list.")),
        }
    }

    /// An object, if there is one.
    pub(in crate::dialects) fn object(&mut self, name: &'static str) -> Result<Option<Fields>, Refusal> {
        let place = self.at(name);
        let param = if self.place.is_empty() { name } else { self.param };
        self.take(name).map(|value| Fields::of(value, place, param)).transpose()
    }

    /// true or false, if it is there.
    pub(in crate::dialects) fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(self.wrong(name, "must be true or false.")),
        }
    }

    /// A whole number, if there is one.
    pub(in crate::dialects) fn whole(&mut self, name: &'static str) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_u64() {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(name, "must be a whole number that is not negative.")),
        }
    }

    /// A number within bounds, if there is one.
    pub(in crate::dialects) fn number(
        &mut self,
        name: &'static str,
        least: f64,
        most: f64,
    ) -> Result<Option<f64>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_f64().filter(|number| (least..=most).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(name, &format!("must be a number from {least} to {most}."))),
        }
    }

    /// What nobody took, without nulls.
    pub(in crate::dialects) fn rest(self) -> impl Iterator<Item = (String, Value)> {
        self.map.into_iter().filter(|(_, value)| !value.is_null())
    }
}
