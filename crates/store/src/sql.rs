//! SQL that depends on what is asked: conditions that are there or not, and several rows in one statement.
//!
//! sqlx's own `QueryBuilder` writes `?` for the `Any` driver, which PostgreSQL does not read; this writes `$1`.
//! Text of the SQL is `&'static str` throughout, so that what a caller says can only ever be a bound value.

use std::fmt::Write as _;

use sqlx::Any;
use sqlx::any::AnyArguments;
use sqlx::query::Query;

use crate::db::Engine;

/// Conditions that all hold, and the values they name.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    text: String,
    values: Vec<Value>,
}

#[derive(Debug)]
enum Value {
    Integer(i64),
    Text(String),
}

impl Conditions {
    /// A condition without a value.
    pub(crate) fn plain(&mut self, condition: &'static str) {
        self.text.push_str(if self.text.is_empty() { " WHERE " } else { " AND " });
        self.text.push_str(condition);
    }

    /// A condition on a number, when there is one; `{}` in it stands for the number.
    pub(crate) fn integer(&mut self, condition: &'static str, value: Option<i64>) {
        if let Some(value) = value {
            self.add(condition, Value::Integer(value));
        }
    }

    /// A condition on a text, when there is one; `{}` in it stands for the text.
    pub(crate) fn text(&mut self, condition: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            // PostgreSQL keeps no NUL, so no row can hold one; a text that fits nothing then fits nothing here too.
            self.add(condition, Value::Text(value.replace('\0', "\u{fffd}")));
        }
    }

    fn add(&mut self, condition: &'static str, value: Value) {
        let start = self.text.len();
        self.plain(condition);
        self.values.push(value);
        let numbered = self.text[start..].replace("{}", &format!("${}", self.values.len()));
        self.text.replace_range(start.., &numbered);
    }

    /// ` WHERE …`, or nothing.
    pub(crate) fn as_sql(&self) -> &str {
        &self.text
    }

    /// The number of the next placeholder.
    pub(crate) fn next(&self) -> usize {
        self.values.len() + 1
    }

    /// Binds the values, before any other.
    pub(crate) fn bind<'q>(&self, mut query: Query<'q, Any, AnyArguments>) -> Query<'q, Any, AnyArguments> {
        for value in &self.values {
            query = match value {
                Value::Integer(value) => query.bind(*value),
                Value::Text(value) => query.bind(value.clone()),
            };
        }
        query
    }
}

/// What a choice of rows to be removed ends with, so that two replicas that remove at once take different rows
/// instead of waiting for each other's.
pub(crate) fn skip_locked(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => "",
        Engine::Postgres => " FOR UPDATE SKIP LOCKED",
    }
}

/// `($1, $2), ($3, $4)`: placeholders for so many rows of so many columns.
pub(crate) fn placeholders(rows: usize, columns: usize) -> String {
    let mut text = String::with_capacity(rows * columns * 5);
    for index in 0..rows * columns {
        text.push_str(match index {
            0 => "(",
            _ if index % columns == 0 => "), (",
            _ => ", ",
        });
        // Writing into a text does not fail.
        let _ = write!(text, "${}", index + 1);
    }
    if !text.is_empty() {
        text.push(')');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_numbered_in_the_order_of_their_values() {
        let mut conditions = Conditions::default();
        assert_eq!((conditions.as_sql(), conditions.next()), ("", 1));
        conditions.plain("tag = ''");
        conditions.integer("at >= {}", Some(7));
        conditions.integer("at < {}", None);
        conditions.text("(model = {} OR provider_model = {})", Some("'; DROP TABLE usage; -- {}"));
        assert_eq!(
            conditions.as_sql(),
            " WHERE tag = '' AND at >= $1 AND (model = $2 OR provider_model = $2)"
        );
        assert_eq!(conditions.next(), 3);
    }

    #[test]
    fn rows_have_their_own_placeholders() {
        assert_eq!(placeholders(2, 3), "($1, $2, $3), ($4, $5, $6)");
        assert_eq!(placeholders(1, 1), "($1)");
        assert_eq!(placeholders(0, 3), "");
    }
}
