//! Responses that a caller may ask for again or go on from (`/v1/responses`): whole, or only where they are kept.

use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::db::Db;
use crate::error::StoreError;
use crate::sql::skip_locked;
use crate::time::now_ms;

/// The longest id, owner or provider, in bytes.
const LONGEST: usize = 512;
/// Rows removed in one statement.
const BATCH: i64 = 1000;

/// A response that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResponse {
    /// Its id, as the client knows it.
    pub id: String,
    /// Whose it is: nobody else sees it.
    pub owner: String,
    /// Where the whole of it is.
    pub place: Place,
    /// When it is forgotten, in milliseconds since the epoch.
    pub expires_at: i64,
}

/// Where a response is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Here.
    Here {
        /// The response, as JSON.
        response: String,
        /// The items it was made from, as a JSON list.
        input: String,
    },
    /// At this provider.
    At(String),
}

impl Db {
    /// Keeps a response. `false` when its id is taken: nothing is overwritten.
    pub async fn keep_response(&self, kept: &StoredResponse) -> Result<bool, StoreError> {
        let (provider, response, input) = match &kept.place {
            Place::Here { response, input } => (None, Some(response.as_str()), Some(input.as_str())),
            Place::At(provider) => (Some(provider.as_str()), None, None),
        };
        for text in [Some(kept.id.as_str()), Some(&kept.owner), provider].into_iter().flatten() {
            if text.is_empty() || text.len() > LONGEST || text.contains('\0') {
                return Err(StoreError::Invalid("the id of the response cannot be kept".into()));
            }
        }
        let query = "INSERT INTO responses (id, owner, provider, response, input, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING";
        let query =
            sqlx::query(query).bind(&kept.id).bind(&kept.owner).bind(provider).bind(response).bind(input);
        let done = query.bind(now_ms()).bind(kept.expires_at).execute(self.write()).await?;
        Ok(done.rows_affected() > 0)
    }

    /// A response of this owner, unless it is past its time.
    pub async fn response(&self, owner: &str, id: &str) -> Result<Option<StoredResponse>, StoreError> {
        if id.contains('\0') {
            return Ok(None);
        }
        let query = "SELECT id, owner, provider, response, input, expires_at FROM responses \
             WHERE id = $1 AND owner = $2 AND expires_at > $3";
        // From the writer: what was kept a moment ago is asked for now.
        let row = sqlx::query(query).bind(id).bind(owner).bind(now_ms()).fetch_optional(self.write()).await?;
        row.as_ref().map(read).transpose()
    }

    /// Forgets a response of this owner. `false` when there is none.
    pub async fn forget_response(&self, owner: &str, id: &str) -> Result<bool, StoreError> {
        if id.contains('\0') {
            return Ok(false);
        }
        let query = "DELETE FROM responses WHERE id = $1 AND owner = $2 AND expires_at > $3";
        let query = sqlx::query(query).bind(id).bind(owner).bind(now_ms());
        Ok(query.execute(self.write()).await?.rows_affected() > 0)
    }

    /// Removes what is past its time. Returns how many.
    pub async fn prune_responses(&self) -> Result<u64, StoreError> {
        let query = format!(
            "DELETE FROM responses WHERE id IN (SELECT id FROM responses WHERE expires_at <= $1 LIMIT $2{})",
            skip_locked(self.engine())
        );
        let mut pruned = 0;
        loop {
            let query = sqlx::query(AssertSqlSafe(query.clone())).bind(now_ms()).bind(BATCH);
            let deleted = query.execute(self.write()).await?.rows_affected();
            pruned += deleted;
            if deleted == 0 {
                return Ok(pruned);
            }
        }
    }
}

fn read(row: &AnyRow) -> Result<StoredResponse, StoreError> {
    let provider: Option<String> = row.try_get(2)?;
    let place = match provider {
        Some(provider) => Place::At(provider),
        None => Place::Here {
            response: row.try_get::<Option<String>, _>(3)?.unwrap_or_default(),
            input: row.try_get::<Option<String>, _>(4)?.unwrap_or_default(),
        },
    };
    Ok(StoredResponse { id: row.try_get(0)?, owner: row.try_get(1)?, place, expires_at: row.try_get(5)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::on_each_engine;

    fn kept(id: &str, owner: &str, place: Place, left: i64) -> StoredResponse {
        StoredResponse { id: id.into(), owner: owner.into(), place, expires_at: now_ms() + left }
    }

    fn here() -> Place {
        Place::Here { response: "{\"é\":\"'; --\"}".repeat(1000), input: "[1]".into() }
    }

    /// Mutations: the owner left out of a query; an insert that overwrites.
    #[tokio::test]
    async fn only_its_owner_sees_a_response() {
        on_each_engine(|db| async move {
            let mine = kept("resp_1", "group:1", here(), 60_000);
            assert!(db.keep_response(&mine).await.unwrap());
            assert_eq!(db.response("group:1", "resp_1").await.unwrap(), Some(mine.clone()));
            assert_eq!(db.response("group:2", "resp_1").await.unwrap(), None);
            assert!(!db.forget_response("group:2", "resp_1").await.unwrap());

            let theirs = kept("resp_1", "group:2", Place::At("lab".into()), 60_000);
            assert!(!db.keep_response(&theirs).await.unwrap(), "the id is taken");
            assert_eq!(db.response("group:1", "resp_1").await.unwrap(), Some(mine));

            assert!(db.forget_response("group:1", "resp_1").await.unwrap());
            assert!(!db.forget_response("group:1", "resp_1").await.unwrap());
            assert!(db.keep_response(&theirs).await.unwrap());
            assert_eq!(db.response("group:2", "resp_1").await.unwrap(), Some(theirs));
            assert_eq!(db.response("group:2", "a\0").await.unwrap(), None);
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_past_its_time_is_gone() {
        on_each_engine(|db| async move {
            db.keep_response(&kept("old", "o", here(), -1)).await.unwrap();
            db.keep_response(&kept("new", "o", here(), 60_000)).await.unwrap();
            assert_eq!(db.response("o", "old").await.unwrap(), None);
            assert!(!db.forget_response("o", "old").await.unwrap());
            assert_eq!(db.prune_responses().await.unwrap(), 1);
            assert!(db.response("o", "new").await.unwrap().is_some());
            assert!(db.keep_response(&kept("old", "p", here(), 60_000)).await.unwrap(), "its id is free");
        })
        .await;
    }

    #[tokio::test]
    async fn an_absurd_id_is_refused() {
        on_each_engine(|db| async move {
            for id in [String::new(), "a\0".into(), "x".repeat(LONGEST + 1)] {
                assert!(db.keep_response(&kept(&id, "o", here(), 1)).await.is_err());
            }
        })
        .await;
    }
}
