//! Reading the members of a JSON object one by one, with refusals that name the place.

use serde_json::{Map, Value};

use crate::openai::Refusal;

/// A JSON object being read. What is left at the end was not known.
pub(super) struct Fields {
    map: Map<String, Value>,
    /// Where it stands in the request, as `input[2].content[0]`; empty for the request itself.
    path: String,
    /// The field of the request that it belongs to.
    param: Option<&'static str>,
}

impl Fields {
    pub(super) fn new(map: Map<String, Value>, path: String, param: Option<&'static str>) -> Self {
        Fields { map, path, param }
    }

    /// The object at `path`; anything else is refused.
    pub(super) fn of(value: Value, path: String, param: &'static str) -> Result<Self, Refusal> {
        match value {
            Value::Object(map) => Ok(Fields::new(map, path, Some(param))),
            _ => Err(refuse(Some(param), format!("`{path}` must be an object."))),
        }
    }

    /// The path of a member.
    pub(super) fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A refusal that says what is wrong with a member.
    pub(super) fn wrong(&self, name: &'static str, what: &str) -> Refusal {
        refuse(self.param.or(Some(name)), format!("`{}` {what}.", self.at(name)))
    }

    /// A member as it stands; null is as if it were not there.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn peek(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn string(&mut self, name: &'static str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "must be a string")),
        }
    }

    pub(super) fn needed(&mut self, name: &'static str) -> Result<String, Refusal> {
        self.string(name)?.ok_or_else(|| self.wrong(name, "is missing: it must be a string"))
    }

    pub(super) fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(self.wrong(name, "must be true or false, without quotes")),
        }
    }

    /// A whole number; `1e3` and `16.0` are whole too.
    pub(super) fn whole(&mut self, name: &'static str) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let float = value.as_f64().filter(|f| f.fract() == 0.0 && (0.0..=9.0e15).contains(f));
        // A float within that range is exact.
        let number = value.as_u64().or(float.map(|f| f as u64));
        number.map(Some).ok_or_else(|| self.wrong(name, "must be a whole number that is not negative"))
    }

    pub(super) fn number(&mut self, name: &'static str) -> Result<Option<f64>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(number.as_f64()),
            Some(_) => Err(self.wrong(name, "must be a number")),
        }
    }

    pub(super) fn list(&mut self, name: &'static str) -> Result<Option<Vec<Value>>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => Err(self.wrong(name, "must be a list")),
        }
    }

    pub(super) fn object(&mut self, name: &'static str) -> Result<Option<Fields>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Fields::new(map, self.at(name), self.param.or(Some(name))))),
            Some(_) => Err(self.wrong(name, "must be an object")),
        }
    }

    /// What was not read.
    pub(super) fn rest(self) -> Map<String, Value> {
        self.map
    }

    /// Puts what was not read among the leftovers.
    pub(super) fn leave_all(self, lost: &mut Map<String, Value>) {
        lost.extend(self.map.into_iter().filter(|(_, value)| !value.is_null()));
    }

    /// Puts what was not read among the request's own leftovers, by its whole name.
    pub(super) fn leave(self, prefix: &str, lost: &mut Map<String, Value>) {
        for (name, value) in self.map {
            if !value.is_null() {
                lost.insert(format!("{prefix}.{name}"), value);
            }
        }
    }
}

pub(super) fn refuse(param: Option<&'static str>, message: impl Into<String>) -> Refusal {
    Refusal { message: message.into(), param }
}
