//! The log of requests: each model call, newest first.

use sqlx::{AssertSqlSafe, Row as _};

use super::pages::{STRIDE, Subject, calls_of};
use super::record::{Calls, UsageCall, UsageRecord};
use crate::db::Db;
use crate::error::StoreError;
use crate::sql::Conditions;

/// A row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRow {
    /// Its id.
    pub id: i64,
    /// What was called, by whom, and what it used.
    pub record: UsageRecord,
}

/// Which requests to list.
#[derive(Clone, Debug, Default)]
pub struct RequestFilter {
    /// Not before this time.
    pub from: Option<i64>,
    /// Before this time.
    pub to: Option<i64>,
    /// Of this key.
    pub key_id: Option<i64>,
    /// Of this group.
    pub group_id: Option<i64>,
    /// Of this user.
    pub user: Option<String>,
    /// Of this model, as the caller or as the provider names it.
    pub model: Option<String>,
    /// Of this provider.
    pub provider: Option<String>,
    /// With this HTTP status.
    pub status: Option<i64>,
    /// With this outcome.
    pub outcome: Option<String>,
    /// With this request id.
    pub request_id: Option<String>,
}

/// The most rows listed at once.
const PAGE: i64 = 1000;
/// Pages of calls read at first, when many calls are in each, and at most.
const PAGES: (i64, i64) = (2, 32);

impl Db {
    /// Requests, newest first, below the id `after` (0: from the newest); at most a thousand. May be a moment old: it
    /// asks the read replica, where there is one.
    pub async fn requests(
        &self,
        filter: &RequestFilter,
        after: i64,
        limit: i64,
    ) -> Result<Vec<RequestRow>, StoreError> {
        let after = if after > 0 { after } else { i64::MAX };
        let limit = usize::try_from(limit.clamp(1, PAGE)).unwrap_or(1);
        let (mut found, mut at_once, mut next) = (Vec::new(), PAGES.0, after / STRIDE);
        loop {
            let pages = self.pages(filter, next, at_once).await?;
            let last = pages.last().map(|(id, _)| *id);
            for (page, body) in &pages {
                let places: Vec<&[u8]> = Calls::places(calls_of(*page, body)?).collect();
                for (place, call) in places.into_iter().enumerate().rev() {
                    let id = page * STRIDE + place as i64;
                    let Some(call) = UsageCall::decode(call).filter(|call| id < after && filter.takes(call))
                    else {
                        continue;
                    };
                    found.push(RequestRow { id, record: call.to_record() });
                    if found.len() == limit {
                        return Ok(found);
                    }
                }
            }
            match last {
                Some(last) if pages.len() as i64 == at_once => next = last - 1,
                _ => return Ok(found),
            }
            at_once = (at_once * 2).min(PAGES.1);
        }
    }

    /// Some pages that may have what is looked for, newest first, from a page on.
    async fn pages(
        &self,
        filter: &RequestFilter,
        from: i64,
        limit: i64,
    ) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        let mut conditions = Conditions::default();
        // Of a key or a group the pages are known; what else there is to tell them apart is read from them.
        let subject = match (filter.key_id, filter.group_id) {
            (Some(key), _) => Some((Subject::Key, key)),
            (None, Some(group)) => Some((Subject::Group, group)),
            (None, None) => None,
        };
        let tables = match subject {
            None => "usage_pages AS p",
            Some((kind, subject)) => {
                conditions.integer("s.kind = {}", Some(kind as i64));
                conditions.integer("s.subject = {}", Some(subject));
                "usage_subjects AS s JOIN usage_pages AS p ON p.id = s.page"
            }
        };
        let id = if subject.is_some() { "s.page" } else { "p.id" };
        conditions.integer(if subject.is_some() { "s.page <= {}" } else { "p.id <= {}" }, Some(from));
        conditions.integer("p.last_at >= {}", filter.from);
        conditions.integer("p.first_at < {}", filter.to);
        let query = format!(
            "SELECT p.id, p.body FROM {tables}{} ORDER BY {id} DESC LIMIT ${}",
            conditions.as_sql(),
            conditions.next()
        );
        let query = conditions.bind(sqlx::query(AssertSqlSafe(query)).persistent(false)).bind(limit);
        let rows = query.fetch_all(self.read_any()).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

impl RequestFilter {
    fn takes(&self, call: &UsageCall<'_>) -> bool {
        let is =
            |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        self.from.is_none_or(|from| call.at >= from)
            && self.to.is_none_or(|to| call.at < to)
            && self.key_id.is_none_or(|key| call.key_id == Some(key))
            && self.group_id.is_none_or(|group| call.group_id == Some(group))
            && self.user.as_deref().is_none_or(|user| call.user == Some(user))
            && (is(&self.model, call.model) || is(&self.model, call.provider_model))
            && is(&self.provider, call.provider)
            && self.status.is_none_or(|status| i64::from(call.status) == status)
            && is(&self.outcome, call.outcome)
            && is(&self.request_id, call.request_id)
    }
}
