//! Tables: which field goes where, and how money, times and numbers are written so that people can compare them.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde_json::{Map, Value};

/// What stands where there is nothing.
const NOTHING_THERE: &str = "-";
/// The most characters of a cell.
const LONGEST: usize = 400;

/// One column: its title and the field in it.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    title: &'static str,
    field: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Id,
    Count,
    Money,
    Time,
    Flag,
}

/// A text, a list or an object.
pub const fn text(title: &'static str, field: &'static str) -> Column {
    Column { title, field, kind: Kind::Text }
}

/// A number that is a name.
pub const fn id(title: &'static str, field: &'static str) -> Column {
    Column { title, field, kind: Kind::Id }
}

/// A number that is compared: `1,234,567`.
pub const fn count(title: &'static str, field: &'static str) -> Column {
    Column { title, field, kind: Kind::Count }
}

/// Dollars, the points below each other.
pub const fn money(title: &'static str, field: &'static str) -> Column {
    Column { title, field, kind: Kind::Money }
}

/// A time, in UTC.
pub const fn time(title: &'static str, field: &'static str) -> Column {
    Column { title, field, kind: Kind::Time }
}

/// Yes or no.
pub const fn flag(title: &'static str, field: &'static str) -> Column {
    Column { title, field, kind: Kind::Flag }
}

impl Column {
    /// The field in it.
    pub fn field(&self) -> &'static str {
        self.field
    }

    fn cell(&self, row: &Value) -> String {
        let value = row.get(self.field).unwrap_or(&Value::Null);
        match (self.kind, value) {
            (_, Value::Null) => NOTHING_THERE.into(),
            (Kind::Money, Value::String(amount)) => dollars(amount),
            (Kind::Time, Value::String(time)) => moment(time),
            (Kind::Count, Value::Number(number)) => thousands(&number.to_string()),
            (Kind::Flag, Value::Bool(flag)) => (if *flag { "yes" } else { "no" }).into(),
            (_, value) => plain(value),
        }
    }

    fn alignment(&self) -> CellAlignment {
        match self.kind {
            Kind::Id | Kind::Count | Kind::Money => CellAlignment::Right,
            Kind::Text | Kind::Time | Kind::Flag => CellAlignment::Left,
        }
    }
}

/// Rows below a line of titles.
pub fn grid(columns: &[Column], rows: &[Value]) -> String {
    let mut table = bare();
    table.set_header(columns.iter().map(|column| column.title));
    let mut cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|column| column.cell(row)).collect()).collect();
    for (at, column) in columns.iter().enumerate() {
        if column.kind == Kind::Money {
            align_points(&mut cells, at);
        }
        if let Some(aligned) = table.column_mut(at) {
            aligned.set_cell_alignment(column.alignment());
        }
    }
    table.add_rows(cells);
    table.trim_fmt()
}

/// One thing, a field a line.
pub fn record(columns: &[Column], item: &Value) -> String {
    let mut table = bare();
    for column in columns.iter().filter(|column| item.get(column.field).is_some()) {
        table.add_row([column.title.to_owned(), column.cell(item)]);
    }
    let empty = Map::new();
    for (field, value) in item.as_object().unwrap_or(&empty) {
        let empty = match value {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            Value::String(text) => text.is_empty(),
            _ => false,
        };
        if !empty && !columns.iter().any(|column| column.field == field) {
            table.add_row(unlisted(field, value));
        }
    }
    table.trim_fmt()
}

/// A field without a column: it says by itself what it is.
fn unlisted(field: &str, value: &Value) -> [String; 2] {
    let title = printable(&field.replace('_', " "));
    match value {
        Value::Bool(flag) => [title, (if *flag { "yes" } else { "no" }).into()],
        Value::String(time) if is_moment(time) => [format!("{title} (UTC)"), moment(time)],
        other => [title, plain(other)],
    }
}

/// Whether a text is a time as the API writes them: `2026-11-20T22:58:30.123Z`.
fn is_moment(text: &str) -> bool {
    text.len() >= 20 && text.is_ascii() && text.ends_with('Z') && text.as_bytes()[10] == b'T'
}

fn bare() -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table
}

/// A value as people write it: lists with commas, objects as `name=value`.
fn plain(value: &Value) -> String {
    let text = match value {
        Value::Null => NOTHING_THERE.to_owned(),
        Value::String(text) if text.is_empty() => NOTHING_THERE.to_owned(),
        Value::String(text) => printable(text),
        Value::Array(items) if items.is_empty() => NOTHING_THERE.to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(fields) if fields.is_empty() => NOTHING_THERE.to_owned(),
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(name, value)| format!("{}={}", printable(name), plain(value)));
            pairs.collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// What others wrote must not steer our terminal: control characters, and those that turn the direction of
/// reading, are shown as what they are.
pub fn printable(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().fold(String::new(), |mut shown, c| {
        if steers(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
        shown
    })
}

/// `2026-11-20T22:58:30.123Z` as `2026-11-20 22:58:30`.
fn moment(time: &str) -> String {
    match time.split_once('T') {
        Some((day, clock)) if clock.ends_with('Z') => {
            let clock = clock.trim_end_matches('Z');
            printable(&format!("{day} {}", clock.split('.').next().unwrap_or(clock)))
        }
        _ => printable(time),
    }
}

/// `1234.5` as `1,234.50`; what is no amount as it is.
fn dollars(amount: &str) -> String {
    let (sign, digits) = amount.strip_prefix('-').map_or(("", amount), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let numeric = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !numeric(whole) || !numeric(fraction) {
        return printable(amount);
    }
    format!("{sign}{}.{fraction:0<2}", thousands(whole))
}

fn thousands(digits: &str) -> String {
    let mut grouped = String::new();
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}")
}

/// Fills up the fractions of a column of money, so that the points stand below each other.
fn align_points(cells: &mut [Vec<String>], at: usize) {
    let fraction = |cell: &str| cell.split_once('.').map(|(_, fraction)| fraction.len());
    let longest = cells.iter().filter_map(|row| fraction(row.get(at)?)).max().unwrap_or_default();
    for cell in cells.iter_mut().filter_map(|row| row.get_mut(at)) {
        if let Some(length) = fraction(cell) {
            cell.extend(std::iter::repeat_n(' ', longest - length));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: &[Column] = &[
        id("id", "id"),
        text("name", "name"),
        money("balance ($)", "balance"),
        count("tokens", "tokens"),
        time("made (UTC)", "at"),
        flag("enabled", "enabled"),
    ];

    #[test]
    fn a_table_is_aligned_and_readable() {
        let rows = [
            json!({"id": 7, "name": "team-a", "balance": "1234.5", "tokens": 1234567, "at": "2026-11-20T22:58:30.123Z", "enabled": true}),
            json!({"id": 12, "name": "b", "balance": "-0.000001", "tokens": 12, "at": null, "enabled": false}),
            json!({"id": 13, "name": "c", "balance": "unlimited"}),
        ];
        let text = grid(COLUMNS, &rows);
        assert_eq!(
            text,
            " id  name     balance ($)     tokens  made (UTC)           enabled\n  \
              7  team-a  1,234.50      1,234,567  2026-11-20 22:58:30  yes\n \
             12  b          -0.000001         12  -                    no\n \
             13  c          unlimited          -  -                    -"
        );
    }

    #[test]
    fn a_record_shows_what_no_column_knows_of() {
        let item = json!({"id": 7, "name": "a", "limits": {"burst": 5}, "tags": ["x", "y"], "user": null, "note": "",
            "single_use": false, "updated_at": "2026-11-20T22:58:30.123Z"});
        let shown = record(COLUMNS, &item);
        let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines,
            [
                vec!["id", "7"],
                vec!["name", "a"],
                vec!["limits", "burst=5"],
                vec!["single", "use", "no"],
                vec!["tags", "x,", "y"],
                vec!["updated", "at", "(UTC)", "2026-11-20", "22:58:30"]
            ]
        );
    }

    #[test]
    fn a_terminal_is_not_steered_by_what_others_wrote() {
        let rows =
            [json!({"name": "a\u{1b}[2J\r\nb\u{202e}c", "at": "\u{1b}T\u{7}Z", "balance": "\u{1b}[1m"})];
        let shown = grid(COLUMNS, &rows);
        assert!(shown.contains("a\\u{1b}[2J\\r\\nb\\u{202e}c"), "{shown}");
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
        assert_eq!(shown.lines().count(), 2);
    }

    #[test]
    fn long_cells_are_cut() {
        let shown = plain(&json!("ä".repeat(1000)));
        assert_eq!(shown.chars().count(), LONGEST + 1);
    }
}
