//! The hash of a vCon as the Conserver makes it, so that those who check its statements can check ours: SHA-256 of the
//! text that Python's `json.dumps` writes, members in their order.

use std::fmt::Write as _;

use ring::digest;

use crate::link::LinkError;
use crate::vcon::Vcon;

/// The hash in hexadecimal.
pub(in crate::links) fn vcon_hash(vcon: &Vcon) -> Result<String, LinkError> {
    let text = python(&vcon.to_bytes())
        .ok_or_else(|| LinkError::permanent("the vCon holds text that cannot be hashed"))?;
    Ok(hex::encode(digest::digest(&digest::SHA256, text.as_bytes())))
}

/// JSON as `json.dumps` writes what `json.loads` read: `, ` and `: `, nothing but ASCII, numbers as Python has them.
fn python(json: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(json).ok()?;
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => {
                let length = string_length(rest)?;
                quote(&serde_json::from_str::<String>(&rest[..length]).ok()?, &mut out);
                length
            }
            ',' => {
                out.push_str(", ");
                1
            }
            ':' => {
                out.push_str(": ");
                1
            }
            '-' | '0'..='9' => {
                let end = rest.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'));
                let length = end.unwrap_or(rest.len());
                number(&rest[..length], &mut out)?;
                length
            }
            c if c.is_ascii_whitespace() => 1,
            c => {
                out.push(c);
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    Some(out)
}

/// How long the string that begins here is, with its quotes.
fn string_length(text: &str) -> Option<usize> {
    let mut escaped = false;
    let end = text.bytes().enumerate().skip(1).find(|(_, byte)| match (escaped, byte) {
        (true, _) => {
            escaped = false;
            false
        }
        (false, b'\\') => {
            escaped = true;
            false
        }
        (false, byte) => *byte == b'"',
    });
    end.map(|(at, _)| at + 1)
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    // Writing to a text cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

fn number(text: &str, out: &mut String) -> Option<()> {
    if !text.contains(['.', 'e', 'E']) {
        out.push_str(if text == "-0" { "0" } else { text });
        return Some(());
    }
    let value: f64 = text.parse().ok()?;
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
        return Some(());
    }
    let shortest = format!("{value:e}");
    let (digits, exponent) = shortest.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    if (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        out.push_str(&plain);
        if !plain.contains('.') {
            out.push_str(".0");
        }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        // Writing to a text cannot fail.
        let _ = write!(out, "{digits}e{sign}{:02}", exponent.abs());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_writes_as_python_does() {
        // What CPython 3.12 answers to json.dumps(json.loads(…)).
        for (json, expected) in [
            (r#"{"a":1,"b":[1,2 , 3],"c":{}}"#, r#"{"a": 1, "b": [1, 2, 3], "c": {}}"#),
            (
                r#"["é😀","\u00e9\/\b\f\n\r\t\"\\","\u007f a,b:c"]"#,
                "[\"\\u00e9\\ud83d\\ude00\", \"\\u00e9/\\b\\f\\n\\r\\t\\\"\\\\\", \"\\u007f a,b:c\"]",
            ),
            (
                "[1.0,1.50,-0.0,1e5,1E16,1e15,1e-4,1e-5,12345678901234567890.0,1.7976931348623157e308,0.1,5e-324]",
                "[1.0, 1.5, -0.0, 100000.0, 1e+16, 1000000000000000.0, 0.0001, 1e-05, 1.2345678901234567e+19, 1.7976931348623157e+308, 0.1, 5e-324]",
            ),
            (
                "[12345678901234567890123,-0,true,false,null]",
                "[12345678901234567890123, 0, true, false, null]",
            ),
        ] {
            assert_eq!(python(json.as_bytes()).as_deref(), Some(expected));
        }
        assert_eq!(python(br#"["\ud800"]"#), None);
    }

    #[test]
    fn python_itself_agrees() {
        let vcon = crate::testing::vcon();
        let script = "import json,sys;sys.stdout.write(json.dumps(json.load(sys.stdin)))";
        let python3 = std::process::Command::new("python3")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn();
        let Ok(mut child) = python3 else {
            println!("skipped: no python3 on the PATH");
            return;
        };
        let text = vcon.to_bytes();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), &text).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(python(&text).unwrap().as_bytes(), output.stdout);
    }
}
