//! Finding vCons: by terms, by words, by when they were made.

use sqlx::AssertSqlSafe;

use super::StoreVcons;
use crate::db::Engine;
use crate::error::StoreError;
use base::vcons::Query;

impl StoreVcons {
    pub(super) async fn look(&self, query: &Query) -> Result<Vec<String>, StoreError> {
        let engine = self.db.engine();
        let mut conditions = Vec::new();
        let mut texts: Vec<String> = Vec::new();
        for term in &query.terms {
            texts.push(term.replace('\0', "\u{fffd}"));
            conditions.push(format!(
                "EXISTS (SELECT 1 FROM vcon_terms t WHERE t.uuid = v.uuid AND t.term = ${})",
                texts.len()
            ));
        }
        if let Some(text) = &query.text {
            texts.push(match engine {
                Engine::Sqlite => fts5(text),
                Engine::Postgres => text.replace('\0', " "),
            });
            conditions.push(match engine {
                Engine::Sqlite => {
                    format!("v.id IN (SELECT rowid FROM vcon_words WHERE vcon_words MATCH ${})", texts.len())
                }
                Engine::Postgres => format!(
                    "v.id IN (SELECT w.id FROM vcon_words w WHERE w.words @@ plainto_tsquery('simple', ${}))",
                    texts.len()
                ),
            });
        }
        let first = texts.len();
        conditions.push(format!("v.created_at >= ${} AND v.created_at <= ${}", first + 1, first + 2));
        let sql = format!(
            "SELECT v.uuid FROM vcons v WHERE {} ORDER BY v.created_at DESC, v.id DESC LIMIT ${} OFFSET ${}",
            conditions.join(" AND "),
            first + 3,
            first + 4
        );
        let mut select = sqlx::query_scalar::<_, String>(AssertSqlSafe(sql));
        for text in texts {
            select = select.bind(text);
        }
        let found = select
            .bind(query.since.unwrap_or(i64::MIN))
            .bind(query.until.unwrap_or(i64::MAX))
            .bind(i64::try_from(query.limit).unwrap_or(i64::MAX))
            .bind(i64::try_from(query.skip).unwrap_or(i64::MAX))
            .fetch_all(self.db.read_any())
            .await?;
        Ok(found)
    }
}

/// Words that all must be there, each as it is: what a caller writes is no query language.
fn fts5(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let quoted: Vec<String> = words.map(|word| format!("\"{word}\"")).collect();
    match quoted.is_empty() {
        // Nothing that could be found.
        true => "\"\"".to_owned(),
        false => quoted.join(" "),
    }
}
