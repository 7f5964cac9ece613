//! The check of the log, page by page, while others append to it and retention removes from it.

use sqlx::{AssertSqlSafe, Row as _};

use super::chain::{BadRow, Link, check};
use super::prune::removed_through;
use super::{ANCHOR, AuditRow, COLUMNS, HEAD, read_row};
use crate::db::Db;
use crate::error::StoreError;

/// Rows read at once.
const PAGE: i64 = 500;

/// What the check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Rows that are as they were written.
    pub rows: u64,
    /// The first that is not; none when the log is whole.
    pub first_bad: Option<BadRow>,
    /// The last row that is as it was written. A note of it, kept elsewhere, also shows a log that was replaced as a
    /// whole.
    pub head: Link,
}

impl Verified {
    /// Whether the log is whole.
    pub fn is_ok(&self) -> bool {
        self.first_bad.is_none()
    }
}

impl Db {
    /// Checks the log from the row of this number on (0: from its beginning; only then is it seen whether the
    /// beginning was removed without a record). Tells how many rows have been checked, now and then.
    pub async fn verify_audit<F>(&self, from: i64, mut progress: F) -> Result<Verified, StoreError>
    where
        F: FnMut(u64) + Send,
    {
        let mut run = match self.audit_start(from).await? {
            Ok(run) => run,
            Err(bad) => return Ok(Verified { rows: 0, first_bad: Some(bad), head: Link::first() }),
        };
        let first_bad = loop {
            let bad = match self.audit_page(run.last.seq).await? {
                Page::Rows(rows) if rows.is_empty() => match self.audit_end(&mut run).await? {
                    End::More => continue,
                    End::Whole => break None,
                    End::Bad(bad) => break Some(bad),
                },
                Page::Rows(rows) => rows.iter().try_for_each(|row| run.step(row)).err(),
                Page::Unreadable(seq) => Some(BadRow::new(seq, "cannot be read: it was changed")),
            };
            progress(run.rows);
            if let Some(bad) = bad {
                // Retention may have come between: then the anchor has moved past where we are.
                let anchor = self.audit_link(ANCHOR).await?;
                if anchor.seq <= run.last.seq {
                    break Some(bad);
                }
                (run.anchor, run.last) = (anchor.clone(), anchor);
            }
        };
        Ok(Verified { rows: run.rows, first_bad, head: run.last })
    }

    async fn audit_start(&self, from: i64) -> Result<Result<Run, BadRow>, StoreError> {
        let anchor = self.audit_link(ANCHOR).await?;
        // SQLite takes NULL for a number here; no row of the program's has it, or one that retention has removed.
        let stray = "SELECT COUNT(*), CAST(COALESCE(MIN(seq), 0) AS BIGINT) FROM audit WHERE seq IS NULL OR seq <= $1";
        let stray = sqlx::query(stray).bind(anchor.seq).fetch_one(self.read()).await?;
        if stray.try_get::<i64, _>(0)? > 0 {
            let seq = stray.try_get(1)?;
            return Ok(Err(BadRow::new(seq, "was put in: rows of this age were removed, or never were")));
        }
        if from <= anchor.seq + 1 {
            let last = anchor.clone();
            return Ok(Ok(Run { whole: true, anchor, last, rows: 0, removed: 0, waited: None }));
        }
        let before = "SELECT hash FROM audit WHERE seq = $1";
        let before: Option<String> =
            sqlx::query_scalar(before).bind(from - 1).fetch_optional(self.read()).await?;
        Ok(match before {
            Some(hash) => {
                let last = Link { seq: from - 1, hash };
                Ok(Run { whole: false, anchor, last, rows: 0, removed: 0, waited: None })
            }
            None => Err(BadRow::new(from - 1, "is missing")),
        })
    }

    /// The rows after one.
    pub(super) async fn audit_page(&self, after: i64) -> Result<Page, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2");
        let page = async |limit: i64, after: i64| {
            let query = sqlx::query(AssertSqlSafe(query.clone())).bind(after).bind(limit);
            query.fetch_all(self.read()).await?.iter().map(read_row).collect::<Result<Vec<_>, _>>()
        };
        match page(PAGE, after).await {
            Ok(rows) => return Ok(Page::Rows(rows)),
            Err(error) if !is_unreadable(&error) => return Err(error.into()),
            Err(_) => {}
        }
        // One of them holds what its column cannot: give what is before it, and then find it.
        let mut rows = Vec::new();
        let mut last = after;
        loop {
            match page(1, last).await {
                Ok(mut one) => match one.pop() {
                    Some(row) => {
                        last = row.seq;
                        rows.push(row);
                    }
                    None => return Ok(Page::Rows(rows)),
                },
                Err(error) if !is_unreadable(&error) => return Err(error.into()),
                Err(_) if rows.is_empty() => return Ok(Page::Unreadable(last + 1)),
                Err(_) => return Ok(Page::Rows(rows)),
            }
        }
    }

    /// No row is left: is this where the log ends?
    async fn audit_end(&self, run: &mut Run) -> Result<End, StoreError> {
        let head = self.audit_link(HEAD).await?;
        if head.seq > run.last.seq {
            // A row is there before the head names it: look once more, then it is gone.
            if run.waited.replace(run.last.seq) != Some(run.last.seq) {
                return Ok(End::More);
            }
            return Ok(End::Bad(BadRow::new(run.last.seq + 1, "is missing: the end of the log was removed")));
        }
        if head.seq < run.last.seq {
            return Ok(End::Bad(BadRow::new(head.seq + 1, "was put in: it is after the end of the log")));
        }
        if head.hash != run.last.hash {
            return Ok(End::Bad(BadRow::new(head.seq, "was replaced: it is not what the log ended with")));
        }
        if run.whole && run.removed < run.anchor.seq {
            return Ok(End::Bad(BadRow::new(
                run.anchor.seq,
                "is missing: no record says that the rows up to it were removed",
            )));
        }
        Ok(End::Whole)
    }
}

/// How far the check has come.
struct Run {
    /// From the beginning of the log.
    whole: bool,
    /// The last row that retention removed.
    anchor: Link,
    /// The last row that was checked.
    last: Link,
    rows: u64,
    /// Up to which row retention says it has removed rows.
    removed: i64,
    /// After which row we have looked for another already.
    waited: Option<i64>,
}

impl Run {
    fn step(&mut self, row: &AuditRow) -> Result<(), BadRow> {
        self.last = check(&self.last, row)?;
        self.rows += 1;
        self.removed = self.removed.max(removed_through(&row.entry));
        Ok(())
    }
}

pub(super) enum Page {
    Rows(Vec<AuditRow>),
    /// The first of them is not even a row of ours any more.
    Unreadable(i64),
}

enum End {
    More,
    Whole,
    Bad(BadRow),
}

fn is_unreadable(error: &sqlx::Error) -> bool {
    matches!(
        error,
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::AnyDriverError(_)
    )
}
