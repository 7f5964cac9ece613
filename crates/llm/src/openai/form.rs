//! Bodies that are forms with files (`multipart/form-data`): where the fields stand that we act on.
//!
//! As with JSON the body is not rebuilt: the model's name is spliced at its place and every other byte goes on as it
//! came.
//!
//! Source: RFC 7578, RFC 2046 §5.1.

use std::ops::Range;

use memchr::memmem;

use super::Refusal;

/// More fields than any request has.
const MAX_PARTS: usize = 256;
/// The longest head of a part.
const MAX_HEAD: usize = 8 << 10;

/// One field.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// Its name.
    pub(super) name: String,
    /// It has a file's name.
    pub(super) is_file: bool,
    /// Where its value stands in the body.
    pub(super) at: Range<usize>,
}

/// Whether a body is such a form, by its `content-type`.
pub fn is_form(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    media.eq_ignore_ascii_case("multipart/form-data")
}

/// The fields of a form.
pub(super) fn fields(content_type: &str, body: &[u8]) -> Result<Vec<Field>, Refusal> {
    let boundary = boundary(content_type).ok_or_else(|| {
        refuse("The `Content-Type` of the form has no valid `boundary`: let your HTTP client set it.")
    })?;
    let delimiter = [b"--", boundary.as_bytes()].concat();
    let broken = || refuse("The form is cut off or its boundary does not match: send it whole.");
    let mut rest = memmem::find(body, &delimiter).ok_or_else(broken)? + delimiter.len();
    let mut fields = Vec::new();
    let between = [b"\r\n", &delimiter[..]].concat();
    let finder = memmem::Finder::new(&between);
    loop {
        if body[rest..].starts_with(b"--") {
            return Ok(fields);
        }
        // Padding may stand between the delimiter and its line's end.
        let line = memmem::find(&body[rest..], b"\r\n").ok_or_else(broken)?;
        if body[rest..rest + line].iter().any(|byte| !matches!(byte, b' ' | b'\t')) {
            return Err(broken());
        }
        let head = rest + line + 2;
        let end_of_head = match body[head..].starts_with(b"\r\n") {
            true => head,
            false => head + memmem::find(&body[head..], b"\r\n\r\n").ok_or_else(broken)? + 2,
        };
        if end_of_head - head > MAX_HEAD || fields.len() >= MAX_PARTS {
            return Err(refuse("The form has too many fields, or one with too long a head."));
        }
        let start = end_of_head + 2;
        let length = finder.find(&body[start.min(body.len())..]).ok_or_else(broken)?;
        let (name, is_file) = disposition(&body[head..end_of_head]);
        fields.push(Field { name: name.unwrap_or_default(), is_file, at: start..start + length });
        rest = start + length + between.len();
    }
}

fn refuse(message: &str) -> Refusal {
    Refusal { message: message.to_owned(), param: None }
}

fn boundary(content_type: &str) -> Option<String> {
    let boundary = parameter(content_type, "boundary")?;
    ((1..=70).contains(&boundary.len()) && boundary.is_ascii()).then_some(boundary)
}

/// The field's name, and whether it is a file.
fn disposition(head: &[u8]) -> (Option<String>, bool) {
    let head = String::from_utf8_lossy(head);
    let line = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    });
    let value = line.unwrap_or_default();
    (
        parameter(value, "name"),
        parameter(value, "filename").is_some() || parameter(value, "filename*").is_some(),
    )
}

/// A parameter of a header's value, its quotes taken off.
fn parameter(value: &str, name: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (key, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (found, next) = match after.strip_prefix('"') {
            Some(quoted) => {
                let mut text = String::new();
                let mut chars = quoted.char_indices();
                let end = loop {
                    match chars.next()? {
                        (at, '"') => break at + 1,
                        (_, '\\') => text.push(chars.next()?.1),
                        (_, c) => text.push(c),
                    }
                };
                (text, &quoted[end..])
            }
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(found);
        }
        rest = next.split_once(';')?.1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPE: &str = "multipart/form-data; charset=utf-8; boundary=\"a b\"";

    #[test]
    fn fields_are_found_where_they_stand() {
        let body = b"preamble\r\n--a b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--a b  \r\n\
            content-disposition: form-data; filename=\"a;\\\"b.mp3\"; name=file\r\nContent-Type: audio/mpeg\r\n\r\n\
            \r\n--a\r\n\0\xff\r\n--a b--\r\nrest";
        let fields = fields(TYPE, body).unwrap();
        let named: Vec<_> =
            fields.iter().map(|f| (f.name.as_str(), f.is_file, &body[f.at.clone()])).collect();
        assert_eq!(named, [("model", false, &b"whisper-1"[..]), ("file", true, &b"\r\n--a\r\n\0\xff"[..])]);
    }

    #[test]
    fn a_broken_form_is_refused() {
        for body in [
            &b""[..],
            b"--a b",
            b"--a b\r\n",
            b"--a b\r\n\r\n",
            b"--a b\r\nx: y\r\n\r\nz",
            b"--a bx\r\n\r\nz\r\n--a b--",
        ] {
            assert!(fields(TYPE, body).is_err(), "{body:?}");
        }
        for kind in
            ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\"a"]
        {
            assert!(fields(kind, b"--\r\n").is_err(), "{kind}");
        }
        assert!(fields(TYPE, b"--a b--").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn nothing_panics(body in prop::collection::vec(prop::sample::select(b"-ab \r\n:;=\"\\x".to_vec()), 0..200)) {
            let _ = fields(TYPE, &body);
            let _ = fields(&String::from_utf8_lossy(&body), &body);
        }
    }
}
