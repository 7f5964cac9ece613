//! An item of a list: a bare body, or one with a line of ours before it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::queue::new_id;

/// What our line begins with. `scripts` knows it too.
const MARK: &[u8] = b"trunkline:1 ";

/// An item that was read.
#[derive(Debug, PartialEq)]
pub(super) struct Item {
    pub(super) body: Bytes,
    pub(super) partition: Option<String>,
    pub(super) enqueued_at: Option<i64>,
}

/// The line: `trunkline:1 {"id":"…","p":"…","t":…}`.
#[derive(Serialize, Deserialize)]
struct Line {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p: Option<String>,
    #[serde(default)]
    t: Option<i64>,
}

impl Item {
    /// The item of a message. Without a partition it is the body itself, unless that looks like a line of ours.
    pub(super) fn write(body: &Bytes, partition: Option<&str>, enqueued_at: i64) -> Bytes {
        if partition.is_none() && !body.starts_with(MARK) {
            return body.clone();
        }
        let line = Line { id: new_id(), p: partition.map(str::to_owned), t: Some(enqueued_at) };
        let mut item = MARK.to_vec();
        // Writing texts and a number into memory cannot fail.
        if serde_json::to_writer(&mut item, &line).is_err() {
            return body.clone();
        }
        item.push(b'\n');
        item.extend_from_slice(body);
        item.into()
    }

    /// Reads an item, from us or from another program.
    pub(super) fn read(item: Vec<u8>) -> Item {
        let item = Bytes::from(item);
        let parsed = item.strip_prefix(MARK).and_then(|rest| {
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            let line: Line = serde_json::from_slice(&rest[..end]).ok()?;
            Some((line, MARK.len() + end + 1))
        });
        match parsed {
            Some((line, body)) => Item { body: item.slice(body..), partition: line.p, enqueued_at: line.t },
            None => Item { body: item, partition: None, enqueued_at: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (body, partition) in [
            ("plain", None),
            ("ordered", Some("key \"1\"\n")),
            ("", Some("p")),
            ("trunkline:1 {\"id\":\"x\"}\nforged", None),
        ] {
            let body = Bytes::from(body);
            let item = Item::read(Item::write(&body, partition, 5).to_vec());
            assert_eq!((&item.body, item.partition.as_deref()), (&body, partition));
        }
        assert_eq!(Item::write(&Bytes::from("bare"), None, 5), "bare", "others can read it");
    }

    #[test]
    fn what_only_looks_like_ours_is_a_body() {
        for body in ["trunkline:1 ", "trunkline:1 {}\nx", "trunkline:1 {\"id\":\"x\"", "trunkline:1 \n"] {
            assert_eq!(Item::read(body.into()).body, body);
        }
    }
}
