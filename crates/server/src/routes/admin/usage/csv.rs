//! Tables as CSV (RFC 4180), for programs and for spreadsheets.

use bytes::Bytes;

/// A table in the making.
pub(super) struct Table(String);

impl Table {
    pub(super) fn new(columns: &[&str]) -> Self {
        let mut table = Table(String::new());
        table.row(columns.iter().map(|column| (*column).to_owned()));
        table
    }

    pub(super) fn row(&mut self, fields: impl Iterator<Item = String>) {
        for (at, field) in fields.enumerate() {
            if at > 0 {
                self.0.push(',');
            }
            if field.contains(['"', ',', '\r', '\n']) {
                self.0.push('"');
                self.0 += &field.replace('"', "\"\"");
                self.0.push('"');
            } else {
                self.0 += &field;
            }
        }
        self.0 += "\r\n";
    }

    pub(super) fn finish(self) -> Bytes {
        self.0.into()
    }
}

/// A text that callers chose. A spreadsheet would take one that begins like this for a formula and run it.
pub(super) fn plain(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if formula { format!("'{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be_and_are_no_formulas() {
        let mut table = Table::new(&["a", "b"]);
        table.row([plain("=1+1"), "say \"x\", y".to_owned()].into_iter());
        table.row([plain("gpt-4"), "-3".to_owned()].into_iter());
        assert_eq!(&table.finish()[..], b"a,b\r\n'=1+1,\"say \"\"x\"\", y\"\r\ngpt-4,-3\r\n");
    }
}
