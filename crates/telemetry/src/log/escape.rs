//! Escaping, so that text from outside can neither forge a line nor drive a terminal.

use std::fmt;

/// Bytes that need a look: those that are escaped, and those that begin a character that may be.
const SUSPECT: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[0x7f] = true;
    table[0xc2] = true;
    table[0xe2] = true;
    table
};

/// Appends `text`. Control characters (C0, DEL, C1), line separators and characters that reorder what a
/// terminal shows become escapes. With `quoted`, `"` and `\` do as well, and the result is the inside of a
/// JSON string (RFC 8259 §7).
pub(super) fn escape(out: &mut String, text: &str, quoted: bool) {
    // Nearly all text is plain, and copied whole.
    if !text.bytes().any(|byte| SUSPECT[usize::from(byte)]) {
        return out.push_str(text);
    }
    let mut kept = 0;
    for (at, c) in text.char_indices() {
        if is_hidden(c) || (quoted && matches!(c, '"' | '\\')) {
            out.push_str(&text[kept..at]);
            push_escaped(out, c);
            kept = at + c.len_utf8();
        }
    }
    out.push_str(&text[kept..]);
}

/// Whether a value stands on its own in `key=value`.
pub(super) fn is_bare(text: &str) -> bool {
    let plain = |c: char| !matches!(c, '"' | '=' | '\\') && !c.is_whitespace() && !is_hidden(c);
    !text.is_empty() && text.chars().all(plain)
}

fn is_hidden(c: char) -> bool {
    // Bidirectional marks and the line separators, beside the control characters proper.
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        _ => {
            // All of them are in the first plane: four digits are enough.
            out.push_str("\\u");
            for shift in [12, 8, 4, 0] {
                out.push(char::from(b"0123456789abcdef"[(u32::from(c) >> shift & 0xf) as usize]));
            }
        }
    }
}

/// Escapes what is formatted through it, without a buffer in between.
pub(super) struct Escaped<'a> {
    pub(super) out: &'a mut String,
    pub(super) quoted: bool,
}

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.out, text, self.quoted);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str, quoted: bool) -> String {
        let mut out = String::new();
        escape(&mut out, text, quoted);
        out
    }

    #[test]
    fn quoted_text_is_what_a_json_parser_reads_back() {
        for text in [
            "",
            "plain",
            "a\"b\\c",
            "\n\r\t\u{0}\u{1b}[31m\u{7f}",
            "é€😀\u{85}\u{9b}31m\u{2028}\u{202e}",
            "\u{c2}\u{e2}â",
        ] {
            let json = format!("\"{}\"", escaped(text, true));
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text, "{json}");
            assert!(!json.chars().any(is_hidden), "{json}");
        }
    }

    #[test]
    fn bare_text_keeps_quotes_and_loses_control_characters() {
        assert_eq!(escaped("say \"hi\"\nINFO \u{1b}[2J", false), "say \"hi\"\\nINFO \\u001b[2J");
        assert_eq!(escaped("né", false), "né");
    }

    #[test]
    fn a_value_that_could_be_two_is_not_bare() {
        for text in ["", "a b", "a=b", "a\"", "a\\", "a\u{1b}", "a\u{2028}", "a\u{a0}b"] {
            assert!(!is_bare(text), "{text:?}");
        }
        assert!(is_bare("req_00ff/é:1"));
    }
}
