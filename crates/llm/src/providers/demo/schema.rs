//! Fills in a JSON Schema (<https://json-schema.org/draft/2020-12>) with a value that conforms to it.
//!
//! Read are `const`, `enum`, `default`, `examples`, `$ref` within the schema, `allOf`, the first of `anyOf` and
//! `oneOf` that can be filled, `type`, and what constrains each type. `pattern` is refused, unless one of the
//! first four gives a value: texts are taken from the user's words, not invented. Conditions (`not`, `if`,
//! `dependentRequired`) are not looked at.

use serde_json::{Map, Number, Value};

use super::text::Words;

/// How deep values may nest.
const DEEPEST: usize = 32;

/// How large a value may be, roughly in bytes: a small schema can ask for an enormous one.
const LARGEST: usize = 64 * 1024;

/// What each part of a value costs beside its text.
const PER_VALUE: usize = 16;

/// The most items among which no two may be equal.
const MOST_UNIQUE: u64 = 100;

const ANY: &Value = &Value::Bool(true);

/// The texts for `format`; each is an example value of the documentation ranges where there is one.
const FORMATS: &[(&str, &str)] = &[
    ("date", "2026-01-31"),
    ("date-time", "2026-01-31T12:00:00Z"),
    ("duration", "P1D"),
    ("email", "demo@example.com"),
    ("hostname", "example.com"),
    ("ipv4", "192.0.2.1"),
    ("ipv6", "2001:db8::1"),
    ("time", "12:00:00Z"),
    ("uri", "https://example.com/"),
    ("uuid", "00000000-0000-4000-8000-000000000000"),
];

/// A value that conforms to `schema`, its texts and numbers from `words`; or why there is none. The same
/// schema and words give the same value.
pub(super) fn fill(schema: &Value, words: &Words) -> Result<Value, String> {
    let mut filler =
        Filler { root: schema, words, left: LARGEST, depth: 0, open: Vec::new(), texts: 0, numbers: 0 };
    filler.value(schema)
}

struct Filler<'a> {
    root: &'a Value,
    words: &'a Words,
    /// What is left of [`LARGEST`].
    left: usize,
    depth: usize,
    /// The `$ref`s being filled, so that one that leads to itself is noticed at once.
    open: Vec<String>,
    /// Names and numbers taken so far.
    texts: usize,
    numbers: usize,
}

impl Filler<'_> {
    fn value(&mut self, schema: &Value) -> Result<Value, String> {
        self.spend(PER_VALUE)?;
        let map = match schema {
            Value::Bool(true) => return self.text(&Map::new()),
            Value::Bool(false) => return Err("a schema of `false` allows no value".to_owned()),
            Value::Object(map) => map,
            _ => return Err("a schema is an object or a boolean".to_owned()),
        };
        if self.depth == DEEPEST {
            return Err(format!("it nests deeper than {DEEPEST} levels"));
        }
        self.depth += 1;
        let value = self.of_map(map);
        self.depth -= 1;
        value
    }

    fn of_map(&mut self, map: &Map<String, Value>) -> Result<Value, String> {
        let listed = |key| map.get(key).and_then(Value::as_array).map(Vec::as_slice);
        let given = map
            .get("const")
            .or_else(|| listed("enum").and_then(<[Value]>::first))
            .or_else(|| map.get("default"))
            .or_else(|| listed("examples").and_then(<[Value]>::first));
        if let Some(given) = given {
            self.spend(given.to_string().len())?;
            return Ok(given.clone());
        }
        if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
            return self.reference(reference);
        }
        if let Some(all) = listed("allOf") {
            let merged = self.merged(map, all)?;
            return self.value(&Value::Object(merged));
        }
        if let Some(choices) = listed("anyOf").or_else(|| listed("oneOf")) {
            let mut why = "an empty `anyOf` allows no value".to_owned();
            for choice in choices {
                match self.value(choice) {
                    Ok(value) => return Ok(value),
                    Err(error) => why = error,
                }
            }
            return Err(why);
        }
        match kind(map) {
            "object" => self.object(map),
            "array" => self.array(map),
            "number" => self.number(map, false),
            "integer" => self.number(map, true),
            "boolean" => Ok(Value::Bool(true)),
            "null" => Ok(Value::Null),
            "string" => self.text(map),
            other => Err(format!("`{}` is not a type", super::text::beginning(other, 60))),
        }
    }

    fn spend(&mut self, cost: usize) -> Result<(), String> {
        let left = self.left.checked_sub(cost);
        self.left = left.unwrap_or(0);
        left.map(|_| ()).ok_or_else(|| format!("the value would be larger than {} KiB", LARGEST / 1024))
    }

    fn reference(&mut self, reference: &str) -> Result<Value, String> {
        let shown = super::text::beginning(reference, 100);
        if self.open.iter().any(|open| open == reference) {
            return Err(format!("`{shown}` leads to itself without an end"));
        }
        let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let target = target.ok_or_else(|| format!("`{shown}` leads nowhere within the schema"))?;
        self.open.push(reference.to_owned());
        let value = self.value(target);
        self.open.pop();
        value
    }

    /// One schema of all the parts of an `allOf` and what stands beside it: properties and required names
    /// together, of anything else the last.
    fn merged(&mut self, map: &Map<String, Value>, all: &[Value]) -> Result<Map<String, Value>, String> {
        let mut merged = Map::new();
        let beside: Map<_, _> = map.iter().filter(|(key, _)| *key != "allOf").map(own).collect();
        for part in all.iter().chain([&Value::Object(beside)]) {
            let part = match part.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'))
            {
                Some(pointer) => self.root.pointer(pointer).unwrap_or(part),
                None => part,
            };
            self.spend(part.to_string().len())?;
            for (key, value) in part.as_object().into_iter().flatten() {
                match (key.as_str(), merged.get_mut(key), value) {
                    ("properties", Some(Value::Object(known)), Value::Object(more)) => {
                        known.extend(more.iter().map(own));
                    }
                    ("required", Some(Value::Array(known)), Value::Array(more)) => known.extend(more.clone()),
                    _ => {
                        merged.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        Ok(merged)
    }

    /// The required properties, and of the others as many as `minProperties` wants.
    fn object(&mut self, map: &Map<String, Value>) -> Result<Value, String> {
        let none = Map::new();
        let properties = map.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let others = map.get("additionalProperties").unwrap_or(ANY);
        let mut object = Map::new();
        let required = map.get("required").and_then(Value::as_array).into_iter().flatten();
        for name in required.filter_map(Value::as_str) {
            self.spend(name.len())?;
            object.insert(name.to_owned(), self.value(properties.get(name).unwrap_or(others))?);
        }
        let least = bound(map, "minProperties").unwrap_or(0);
        for (name, schema) in properties {
            if object.len() as u64 >= least {
                break;
            }
            if !object.contains_key(name) {
                self.spend(name.len())?;
                object.insert(name.clone(), self.value(schema)?);
            }
        }
        if (object.len() as u64) < least {
            return Err(format!("it wants {least} properties and names fewer"));
        }
        Ok(Value::Object(object))
    }

    /// One item, or as many as it must have.
    fn array(&mut self, map: &Map<String, Value>) -> Result<Value, String> {
        let first = map.get("prefixItems").or_else(|| map.get("items")).and_then(Value::as_array);
        let first = first.map(Vec::as_slice).unwrap_or_default();
        let rest = map.get("items").filter(|items| !items.is_array()).unwrap_or(ANY);
        let least = bound(map, "minItems").unwrap_or(0);
        let most = bound(map, "maxItems").unwrap_or(u64::MAX);
        if least > most {
            return Err("its `minItems` is above its `maxItems`".to_owned());
        }
        let wanted = least.max(first.len() as u64).max(1).min(most);
        let unique = map.get("uniqueItems") == Some(ANY);
        if unique && wanted > MOST_UNIQUE {
            return Err(format!("it wants more than {MOST_UNIQUE} different items"));
        }
        let mut items: Vec<Value> = Vec::new();
        let mut schemas = first.iter();
        while (items.len() as u64) < wanted {
            let item = self.value(schemas.next().unwrap_or(rest)).and_then(|item| {
                let again = unique && items.contains(&item);
                if again {
                    Err("its items must differ and the user's words do not".to_owned())
                } else {
                    Ok(item)
                }
            });
            match item {
                Ok(item) => items.push(item),
                Err(_) if items.len() as u64 >= least => break,
                Err(why) => return Err(why),
            }
        }
        Ok(Value::Array(items))
    }

    /// A name from the user's words, cut or repeated to the length wanted.
    fn text(&mut self, map: &Map<String, Value>) -> Result<Value, String> {
        if map.contains_key("pattern") {
            return Err("a `pattern` needs a `default` or `examples` beside it".to_owned());
        }
        let least = bound(map, "minLength").unwrap_or(0);
        let most = bound(map, "maxLength").unwrap_or(u64::MAX);
        self.spend(usize::try_from(least).unwrap_or(usize::MAX))?;
        let format = map.get("format").and_then(Value::as_str);
        if let Some((_, example)) = FORMATS.iter().find(|(name, _)| Some(*name) == format) {
            let length = example.len() as u64;
            let fits = least <= length && length <= most;
            return if fits {
                Ok((*example).into())
            } else {
                Err("its lengths do not suit its `format`".to_owned())
            };
        }
        if least > most {
            return Err("its `minLength` is above its `maxLength`".to_owned());
        }
        let name = self.words.name(self.texts);
        self.texts += 1;
        self.spend(name.len())?;
        let length = (name.chars().count() as u64).clamp(least, most);
        let repeated = name.chars().cycle().take(usize::try_from(length).unwrap_or(usize::MAX));
        Ok(Value::String(repeated.collect()))
    }

    /// A number of the user's text, or the nearest bound.
    fn number(&mut self, map: &Map<String, Value>, whole: bool) -> Result<Value, String> {
        let wanted = self.words.number(self.numbers);
        self.numbers += 1;
        let wanted = if whole { wanted.trunc() } else { wanted };
        let (low, high) = range(map, whole);
        let fits = |value: &f64| (low..=high).contains(value) && (!whole || value.fract() == 0.0);
        let nearest = if wanted < low { [low.ceil(), low] } else { [high.floor(), high] };
        let near = [wanted, nearest[0], nearest[1]].into_iter().find(|value| fits(value));
        let step = map.get("multipleOf").and_then(Value::as_f64).filter(|step| *step > 0.0);
        let value = match (near, step) {
            (Some(near), Some(step)) => {
                let up = (near / step).ceil() * step;
                [up, up - step].into_iter().find(|value| fits(value))
            }
            (near, _) => near,
        };
        let value = value.ok_or("no number is within its bounds")?;
        if whole {
            // Beyond 2^53 a float no longer holds each whole number.
            let exact = value.abs() <= 9_007_199_254_740_992.0;
            return if exact {
                Ok((value as i64).into())
            } else {
                Err("its bounds are too far out".to_owned())
            };
        }
        Number::from_f64(value).map(Value::Number).ok_or_else(|| "no number is within its bounds".to_owned())
    }
}

/// The schema's type: the first that is not `null` when there are several, and what its other words imply
/// when there is none.
fn kind(map: &Map<String, Value>) -> &str {
    let has = |keys: &[&str]| keys.iter().any(|key| map.contains_key(*key));
    match map.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            let mut kinds = kinds.iter().filter_map(Value::as_str);
            kinds.find(|kind| *kind != "null").unwrap_or("null")
        }
        _ if has(&["properties", "required", "additionalProperties", "minProperties"]) => "object",
        _ if has(&["items", "prefixItems", "minItems"]) => "array",
        _ if has(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]) => "number",
        _ => "string",
    }
}

/// A bound of a length or a count.
fn bound(map: &Map<String, Value>, key: &str) -> Option<u64> {
    map.get(key).and_then(Value::as_u64)
}

/// The bounds of a number, both inclusive.
fn range(map: &Map<String, Value>, whole: bool) -> (f64, f64) {
    let get = |key| map.get(key).and_then(Value::as_f64);
    let above = |low: f64| if whole { low.floor() + 1.0 } else { low.next_up() };
    let below = |high: f64| if whole { high.ceil() - 1.0 } else { high.next_down() };
    let low = get("minimum").unwrap_or(f64::NEG_INFINITY);
    let high = get("maximum").unwrap_or(f64::INFINITY);
    let low = low.max(get("exclusiveMinimum").map_or(f64::NEG_INFINITY, above));
    let high = high.min(get("exclusiveMaximum").map_or(f64::INFINITY, below));
    (low, high)
}

fn own((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}
