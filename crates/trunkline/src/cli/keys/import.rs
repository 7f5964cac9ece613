//! `trunkline keys import`: keys from elsewhere, by their hashes, many at once.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::super::admin_client::{Failure, Session, id_of, read_text};
use super::super::output::{Column, Progress, printable, text};
use super::number;

/// The most keys sent at once, and the most bytes: the server takes a body of 1 MiB.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 512 << 10;

const SKIPPED: &[Column] = &[text("name", "name"), text("why it was skipped", "reason")];

/// Conduit's columns, and ours.
const ALIASES: &[(&str, &str)] = &[
    ("keyname", "name"),
    ("virtualkeygroupid", "group_id"),
    ("groupid", "group_id"),
    ("keyhash", "key_sha256"),
    ("sha256", "key_sha256"),
    ("isenabled", "enabled"),
    ("expiresat", "expires_at"),
    ("allowedmodels", "allowed_models"),
];

/// Reads the file, sends it in parts, and says what was not taken.
pub async fn run(session: &Session<'_>, file: &Path, group: Option<&str>) -> Result<(), Failure> {
    let group = match group {
        Some(group) => Some(number(&id_of(&session.client, "groups", group).await?)?),
        None => None,
    };
    let text = read_text(file)?;
    let rows = match text.trim_start().starts_with(['[', '{']) {
        true => of_json(&text),
        false => of_csv(&text),
    };
    let mut rows = rows.map_err(|why| Failure::Setup(format!("`{}`: {why}", file.display())))?;
    let total = rows.len();
    let mut skipped = Vec::new();
    rows.retain_mut(|row| {
        if let (Some(group), None | Some(Value::Null)) = (&group, row.get("group_id")) {
            row.insert("group_id".into(), group.clone());
        }
        // The API makes keys that work; one that was disabled where it comes from must not begin to.
        let works = row.remove("enabled") != Some(Value::Bool(false));
        if !works {
            skipped.push(json!({"name": row.get("name"), "reason": "It is disabled."}));
        }
        works
    });
    let mut created = 0;
    let mut progress = Progress::new();
    let mut done = 0;
    for batch in batches(rows) {
        progress.show(&format!("{done} of {total} keys"));
        let first = done + 1;
        done += batch.len();
        let answer = session.client.post(&["keys", "import"], &vec![], &json!({"keys": batch})).await;
        let answer = answer.map_err(|failure| about(failure, first, done))?;
        created += answer.get("created").and_then(Value::as_u64).unwrap_or_default();
        if let Some(Value::Array(rows)) = answer.get("skipped") {
            skipped.extend(rows.iter().cloned());
        }
    }
    drop(progress);
    if session.out.is_json() {
        return session.out.document(&json!({"created": created, "skipped": skipped}));
    }
    session.out.say(&format!("{created} of {total} keys are imported"))?;
    if skipped.is_empty() { Ok(()) } else { session.out.rows(SKIPPED, &skipped) }
}

/// Which keys a failure is about, and that the import may be repeated.
fn about(failure: Failure, first: usize, last: usize) -> Failure {
    let hint = format!(
        "(among keys {first} to {last}; an import may be repeated: keys that are there already are skipped)"
    );
    match failure {
        Failure::Refused { status, code, message, field } => {
            Failure::Refused { status, code, message: format!("{message} {hint}"), field }
        }
        Failure::Lost { place, why } => Failure::Lost { place, why: format!("{why} {hint}") },
        other => other,
    }
}

fn batches(rows: Vec<Map<String, Value>>) -> Vec<Vec<Map<String, Value>>> {
    let mut batches: Vec<Vec<_>> = Vec::new();
    let mut bytes = 0;
    for row in rows {
        let size = Value::Object(row.clone()).to_string().len();
        match batches.last_mut().filter(|batch| batch.len() < BATCH && bytes + size <= BATCH_BYTES) {
            Some(batch) => {
                bytes += size;
                batch.push(row);
            }
            None => {
                bytes = size;
                batches.push(vec![row]);
            }
        }
    }
    batches
}

/// A list of keys, or an object with the list under `keys`.
fn of_json(text: &str) -> Result<Vec<Map<String, Value>>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
    let list = match value {
        Value::Array(list) => list,
        Value::Object(mut map) => match map.remove("keys") {
            Some(Value::Array(list)) => list,
            _ => return Err("expected a list of keys, or an object with the list under `keys`".into()),
        },
        _ => return Err("expected a list of keys".into()),
    };
    let rows = list.into_iter().enumerate().map(|(at, row)| match row {
        Value::Object(row) => Ok(row),
        _ => Err(format!("key {} of the list is not an object", at + 1)),
    });
    rows.collect()
}

/// CSV with a header. An empty cell is left out; lists have commas, semicolons or spaces between their items.
fn of_csv(text: &str) -> Result<Vec<Map<String, Value>>, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| error.to_string())?;
    let fields: Vec<String> = header.iter().map(field).collect();
    for needed in ["name", "key_sha256"] {
        if !fields.iter().any(|field| field == needed) {
            return Err(format!(
                "the header has no column `{needed}`: it begins with the names of the columns"
            ));
        }
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| error.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        let mut row = Map::new();
        for (field, cell) in fields.iter().zip(&record).filter(|(_, cell)| !cell.is_empty()) {
            let value = value_of(field, cell)
                .map_err(|why| format!("line {line}, column `{}`: {why}", printable(field)))?;
            row.insert(field.clone(), value);
        }
        rows.push(row);
    }
    Ok(rows)
}

/// The field that a column means.
fn field(title: &str) -> String {
    let title = title.trim_start_matches('\u{feff}').trim().to_lowercase();
    let bare = title.replace(['_', ' ', '-'], "");
    let known = ALIASES.iter().find(|(alias, _)| *alias == bare);
    known.map_or_else(|| title.replace([' ', '-'], "_"), |(_, field)| (*field).to_owned())
}

fn value_of(field: &str, cell: &str) -> Result<Value, String> {
    match field {
        "group_id" => cell.parse::<i64>().map(Value::from).map_err(|_| "expected the id of a group".into()),
        "enabled" | "single_use" => match cell.to_lowercase().as_str() {
            "true" | "t" | "yes" | "1" => Ok(true.into()),
            "false" | "f" | "no" | "0" => Ok(false.into()),
            _ => Err("expected true or false".into()),
        },
        "allowed_models" | "tags" => {
            let items = cell.split([',', ';', ' ']).filter(|item| !item.is_empty());
            Ok(items.map(Value::from).collect())
        }
        "limits" | "metadata" => {
            serde_json::from_str(cell).map_err(|error| format!("expected a JSON object: {error}"))
        }
        _ => Ok(cell.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_reads_our_columns_and_conduits() {
        let hash = "ab".repeat(32);
        let ours = format!("name,group_id,key_sha256,tags,enabled\na,7,{hash},x;y,\nb,,{hash},,false\n");
        let rows = of_csv(&ours).unwrap();
        assert_eq!(
            json!(rows),
            json!([
                {"name": "a", "group_id": 7, "key_sha256": hash, "tags": ["x", "y"]},
                {"name": "b", "key_sha256": hash, "enabled": false},
            ])
        );
        let conduit = format!(
            "\u{feff}KeyName,VirtualKeyGroupId,KeyHash,IsEnabled,AllowedModels\n\"Mobile, iOS\",3,{hash},t,\"gpt-4*,claude-3*\"\n"
        );
        assert_eq!(
            json!(of_csv(&conduit).unwrap()),
            json!([
                {"name": "Mobile, iOS", "group_id": 3, "key_sha256": hash, "enabled": true,
                    "allowed_models": ["gpt-4*", "claude-3*"]},
            ])
        );
    }

    #[test]
    fn says_what_is_wrong_with_a_file() {
        for (text, why) in [
            ("", "no column `name`"),
            ("a,b\n1,2\n", "no column `name`"),
            ("name,hash\na,b\n", "no column `key_sha256`"),
            ("name,key_sha256,group_id\na,b,team\n", "line 2, column `group_id`: expected the id"),
            ("name,key_sha256,enabled\na,b,maybe\n", "line 2, column `enabled`: expected true or false"),
        ] {
            let error = of_csv(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
        assert!(of_json("{\"a\": 1}").unwrap_err().contains("under `keys`"));
        assert!(of_json("[1]").unwrap_err().contains("key 1 of the list"));
        assert_eq!(of_json("{\"keys\": [{\"name\": \"a\"}]}").unwrap().len(), 1);
    }

    #[test]
    fn batches_are_bounded_in_keys_and_bytes() {
        let row = |size: usize| Map::from_iter([("name".to_owned(), Value::from("x".repeat(size)))]);
        let sizes = |rows| batches(rows).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(vec![row(1); 1201]), [500, 500, 201]);
        assert_eq!(sizes(vec![row(200 << 10); 5]), [2, 2, 1]);
        assert_eq!(sizes(vec![row(600 << 10); 2]), [1, 1]);
        assert!(sizes(vec![]).is_empty());
    }
}
