//! vCons in Redis, for an installation that has nothing else: plain commands, no modules, and the keys of the
//! Conserver (`vcon:<uuid>`, the sorted set of all, `tel:…`, `mailto:…`, `name:…`).
//!
//! What else is known of a vCon is the hash `trunkline:vcon:<uuid>`: the content that was sent, its terms, the lists
//! that it waits in. A vCon expires only by a time that is set when no list waits for it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use base::seams::{Backend, SeamError};
use base::vcons::{Change, Draft, Kept, MAX_VCONS, Posted, Query, Stored, Vcons};
use redis::Pipeline;

use crate::redis::{REDIS, Redis};

/// What the keys of the Conserver begin with.
const VCON: &str = "vcon:";
/// The most uuids of one term that are looked at.
const MAX_FOUND: usize = 1_000_000;

/// How vCons are kept in Redis.
#[derive(Clone, Debug)]
pub struct RedisVconsOptions {
    /// The sorted set of all vCons.
    pub sorted_set: String,
    /// How long terms are kept after a vCon that has them came.
    pub index_keep: Duration,
}

/// vCons in Redis.
pub struct RedisVcons {
    redis: Redis,
    options: RedisVconsOptions,
}

/// What is known of a vCon beside its text.
#[derive(Default)]
struct Known {
    content: Option<String>,
    terms: Vec<String>,
    /// The content that was put into each list.
    posted: HashMap<String, String>,
    waiting: HashSet<String>,
}

impl RedisVcons {
    /// Those of this Redis.
    pub fn new(redis: Redis, options: RedisVconsOptions) -> Self {
        RedisVcons { redis, options }
    }

    async fn key(&self, key: &str) -> Result<String, SeamError> {
        self.redis.key("", key).await
    }

    async fn vcon_key(&self, uuid: &str) -> Result<String, SeamError> {
        self.key(&format!("{VCON}{uuid}")).await
    }

    async fn meta_key(&self, uuid: &str) -> Result<String, SeamError> {
        self.key(&format!("trunkline:vcon:{uuid}")).await
    }

    /// What is known of these, in their order.
    async fn known(&self, uuids: impl Iterator<Item = &str>) -> Result<Vec<Known>, SeamError> {
        let mut pipe = Pipeline::new();
        for uuid in uuids {
            pipe.cmd("HGETALL").arg(self.meta_key(uuid).await?);
        }
        let all: Vec<HashMap<String, String>> = self.redis.pipe("vcons", &pipe).await?;
        Ok(all.into_iter().map(Known::read).collect())
    }

    async fn terms(
        &self,
        pipe: &mut Pipeline,
        uuid: &str,
        old: &[String],
        new: &[String],
    ) -> Result<(), SeamError> {
        for term in old.iter().filter(|term| !new.contains(term)) {
            pipe.cmd("SREM").arg(self.key(term).await?).arg(uuid).ignore();
        }
        let keep = self.options.index_keep.as_secs();
        for term in new {
            let key = self.key(term).await?;
            pipe.cmd("SADD").arg(&key).arg(uuid).ignore();
            if keep > 0 {
                pipe.cmd("EXPIRE").arg(&key).arg(keep).ignore();
            }
        }
        let meta = self.meta_key(uuid).await?;
        let text = serde_json::to_string(new).unwrap_or_default();
        pipe.cmd("HSET").arg(meta).arg("terms").arg(text).ignore();
        Ok(())
    }

    /// The text of one that some module keeps: `JSON.GET` where `GET` is refused.
    async fn one(&self, uuid: &str) -> Result<Option<Vec<u8>>, SeamError> {
        let key = self.vcon_key(uuid).await?;
        let mut get = redis::cmd("GET");
        get.arg(&key);
        match self.redis.run::<Option<Vec<u8>>>("vcons", &get).await {
            Err(SeamError::Refused { reason, .. }) if reason.starts_with("WRONGTYPE") => {
                let mut get = redis::cmd("JSON.GET");
                get.arg(&key);
                self.redis.run("vcons", &get).await
            }
            found => found,
        }
    }
}

impl Known {
    fn read(fields: HashMap<String, String>) -> Self {
        let mut known = Known::default();
        for (name, value) in fields {
            match name.split_once(':') {
                Some(("posted", list)) => drop(known.posted.insert(list.to_owned(), value)),
                Some(("waiting", list)) => drop(known.waiting.insert(list.to_owned())),
                _ if name == "content" => known.content = Some(value),
                _ if name == "terms" => known.terms = serde_json::from_str(&value).unwrap_or_default(),
                _ => {}
            }
        }
        known
    }
}

fn check(count: usize) -> Result<(), SeamError> {
    match count <= MAX_VCONS {
        true => Ok(()),
        false => Err(SeamError::Invalid(format!("at most {MAX_VCONS} vCons at once"))),
    }
}

#[async_trait]
impl Backend for RedisVcons {
    fn backend(&self) -> &'static str {
        REDIS
    }

    async fn ping(&self) -> Result<(), SeamError> {
        self.redis.ping().await
    }

    async fn warnings(&self) -> Vec<String> {
        self.redis.dangers().await
    }
}

#[async_trait]
impl Vcons for RedisVcons {
    async fn put(&self, drafts: &[Draft]) -> Result<Vec<Kept>, SeamError> {
        check(drafts.len())?;
        let known = self.known(drafts.iter().map(|draft| draft.uuid.as_str())).await?;
        let mut there = Pipeline::new();
        for draft in drafts {
            there.cmd("EXISTS").arg(self.vcon_key(&draft.uuid).await?);
        }
        // What has expired is not there, whatever is known of it.
        let there: Vec<bool> = self.redis.pipe("vcons", &there).await?;
        let mut pipe = Pipeline::new();
        let mut all = Vec::with_capacity(drafts.len());
        for ((draft, known), there) in drafts.iter().zip(&known).zip(there) {
            let same = there && known.content.as_deref() == Some(draft.content.as_str());
            let (key, meta) = (self.vcon_key(&draft.uuid).await?, self.meta_key(&draft.uuid).await?);
            let queued: Vec<String> = match same {
                true => draft
                    .lists
                    .iter()
                    .filter(|list| known.posted.get(*list) == Some(&draft.content))
                    .cloned()
                    .collect(),
                false => Vec::new(),
            };
            // First that it is waited for, so that it cannot expire meanwhile.
            for list in draft.lists.iter().filter(|list| !queued.contains(list)) {
                pipe.cmd("HSET").arg(&meta).arg(format!("waiting:{list}")).arg("1").ignore();
                pipe.cmd("PERSIST").arg(&key).ignore();
                pipe.cmd("PERSIST").arg(&meta).ignore();
            }
            if !same {
                pipe.cmd("SET").arg(&key).arg(&draft.body[..]).ignore();
                pipe.cmd("HSET").arg(&meta).arg("content").arg(&draft.content).ignore();
                let trace = draft.trace.as_deref().unwrap_or_default();
                pipe.cmd("HSET").arg(&meta).arg("trace").arg(trace).ignore();
                self.terms(&mut pipe, &draft.uuid, &known.terms, &draft.terms).await?;
                let score = draft.created_at as f64 / 1e3;
                pipe.cmd("ZADD").arg(self.key(&self.options.sorted_set).await?).arg(score);
                pipe.arg(format!("{VCON}{}", draft.uuid)).ignore();
                if let Some(at) =
                    draft.expires_at.filter(|_| draft.lists.is_empty() && known.waiting.is_empty())
                {
                    pipe.cmd("PEXPIREAT").arg(&key).arg(at).ignore();
                    pipe.cmd("PEXPIREAT").arg(&meta).arg(at).ignore();
                }
            }
            all.push(Kept { same, queued });
        }
        self.redis.pipe::<()>("vcons", &pipe).await?;
        Ok(all)
    }

    async fn posted(&self, posted: &[Posted]) -> Result<(), SeamError> {
        let mut pipe = Pipeline::new();
        for posted in posted {
            let meta = self.meta_key(&posted.uuid).await?;
            pipe.cmd("HSET").arg(meta).arg(format!("posted:{}", posted.list)).arg(&posted.content).ignore();
        }
        self.redis.pipe::<()>("vcons", &pipe).await
    }

    async fn get(&self, uuids: &[String]) -> Result<Vec<Stored>, SeamError> {
        let (mut texts, mut traces) = (Pipeline::new(), Pipeline::new());
        for uuid in uuids {
            texts.cmd("GET").arg(self.vcon_key(uuid).await?);
            traces.cmd("HGET").arg(self.meta_key(uuid).await?).arg("trace");
        }
        let bodies: Vec<Option<Vec<u8>>> = match self.redis.pipe("vcons", &texts).await {
            Ok(bodies) => bodies,
            Err(SeamError::Refused { .. }) => {
                let mut bodies = Vec::with_capacity(uuids.len());
                for uuid in uuids {
                    bodies.push(self.one(uuid).await?);
                }
                bodies
            }
            Err(error) => return Err(error),
        };
        let traces: Vec<Option<String>> = self.redis.pipe("vcons", &traces).await?;
        let found = uuids.iter().zip(bodies).zip(traces).filter_map(|((uuid, body), trace)| {
            let trace = trace.filter(|trace| !trace.is_empty());
            Some(Stored { uuid: uuid.clone(), body: body?.into(), trace })
        });
        Ok(found.collect())
    }

    async fn change(&self, changes: &[Change]) -> Result<(), SeamError> {
        check(changes.len())?;
        let known = self.known(changes.iter().map(|change| change.uuid.as_str())).await?;
        let mut there = Pipeline::new();
        for change in changes {
            there.cmd("EXISTS").arg(self.vcon_key(&change.uuid).await?);
        }
        let there: Vec<bool> = self.redis.pipe("vcons", &there).await?;
        let mut pipe = Pipeline::new();
        for ((change, mut known), there) in changes.iter().zip(known).zip(there) {
            let (key, meta) = (self.vcon_key(&change.uuid).await?, self.meta_key(&change.uuid).await?);
            if let Some(body) = change.body.as_ref().filter(|_| there) {
                // A module's document becomes a plain one.
                pipe.cmd("SET").arg(&key).arg(&body[..]).arg("XX").arg("KEEPTTL").ignore();
                self.terms(&mut pipe, &change.uuid, &known.terms, &change.terms).await?;
            }
            if let Some(list) = &change.done {
                pipe.cmd("HDEL").arg(&meta).arg(format!("waiting:{list}")).ignore();
                known.waiting.remove(list);
            }
            match change.expires_at {
                Some(at) if at > 0 && known.waiting.is_empty() => {
                    pipe.cmd("PEXPIREAT").arg(&key).arg(at).ignore();
                    pipe.cmd("PEXPIREAT").arg(&meta).arg(at).ignore();
                }
                Some(0) => {
                    pipe.cmd("PERSIST").arg(&key).ignore();
                    pipe.cmd("PERSIST").arg(&meta).ignore();
                }
                _ => {}
            }
        }
        self.redis.pipe::<()>("vcons", &pipe).await
    }

    async fn delete(&self, uuid: &str) -> Result<bool, SeamError> {
        let known = self.known(std::iter::once(uuid)).await?.pop().unwrap_or_default();
        let mut pipe = Pipeline::new();
        pipe.cmd("DEL").arg(self.vcon_key(uuid).await?);
        pipe.cmd("DEL").arg(self.meta_key(uuid).await?).ignore();
        let set = self.key(&self.options.sorted_set).await?;
        pipe.cmd("ZREM").arg(set).arg(format!("{VCON}{uuid}")).ignore();
        for term in &known.terms {
            pipe.cmd("SREM").arg(self.key(term).await?).arg(uuid).ignore();
        }
        let gone: Vec<u64> = self.redis.pipe("vcons", &pipe).await?;
        Ok(gone.first().is_some_and(|count| *count > 0))
    }

    async fn find(&self, query: &Query) -> Result<Vec<String>, SeamError> {
        if query.text.is_some() {
            return Err(SeamError::Invalid("words cannot be searched where Redis keeps vCons".into()));
        }
        let set = self.key(&self.options.sorted_set).await?;
        let score =
            |time: Option<i64>, open: &str| time.map_or(open.to_owned(), |ms| (ms as f64 / 1e3).to_string());
        let (least, most) = (score(query.since, "-inf"), score(query.until, "+inf"));
        let plain = |member: String| member.strip_prefix(VCON).map_or(member.clone(), str::to_owned);
        if query.terms.is_empty() {
            let mut range = redis::cmd("ZREVRANGEBYSCORE");
            range.arg(set).arg(most).arg(least).arg("LIMIT").arg(query.skip).arg(query.limit);
            let members: Vec<String> = self.redis.run("vcons", &range).await?;
            return Ok(members.into_iter().map(plain).collect());
        }
        let mut common: Option<HashSet<String>> = None;
        for term in &query.terms {
            let mut members = redis::cmd("SMEMBERS");
            members.arg(self.key(term).await?);
            let found: HashSet<String> = self.redis.run("vcons", &members).await?;
            common = Some(match common {
                None => found,
                Some(common) => common.into_iter().filter(|uuid| found.contains(uuid)).collect(),
            });
        }
        let uuids: Vec<String> = common.unwrap_or_default().into_iter().take(MAX_FOUND).collect();
        if uuids.is_empty() {
            return Ok(Vec::new());
        }
        let mut scores = redis::cmd("ZMSCORE");
        scores.arg(set);
        for uuid in &uuids {
            scores.arg(format!("{VCON}{uuid}"));
        }
        let scores: Vec<Option<f64>> = self.redis.run("vcons", &scores).await?;
        let bound = |time: Option<i64>, open: f64| time.map_or(open, |ms| ms as f64 / 1e3);
        let (since, until) = (bound(query.since, f64::MIN), bound(query.until, f64::MAX));
        // One that is in no sorted set was deleted.
        let mut found: Vec<(f64, String)> = scores
            .into_iter()
            .zip(uuids)
            .filter_map(|(score, uuid)| Some((score?, uuid)))
            .filter(|(score, _)| (since..=until).contains(score))
            .collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| b.1.cmp(&a.1)));
        let skip = usize::try_from(query.skip).unwrap_or(usize::MAX);
        Ok(found.into_iter().skip(skip).take(query.limit).map(|(_, uuid)| uuid).collect())
    }

    async fn tidy(&self, _: &(dyn for<'a> Fn(&'a [u8]) -> String + Send + Sync)) -> Result<bool, SeamError> {
        // Redis forgets by itself, and has no words.
        Ok(false)
    }

    fn has_full_text(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::RedisSettings;
    use crate::testing::{PrivateRedis, redis};

    fn draft(uuid: &str, content: &str, lists: &[&str]) -> Draft {
        Draft {
            uuid: uuid.into(),
            created_at: 1_000,
            body: format!("{uuid} {content}").into(),
            content: content.into(),
            terms: vec!["tel:+1".into(), format!("name:{uuid}")],
            lists: lists.iter().map(|list| (*list).to_owned()).collect(),
            trace: None,
            expires_at: None,
        }
    }

    /// V15: nothing expires that waits. Mutation: a time on every change.
    #[tokio::test(flavor = "multi_thread")]
    async fn vcons_are_plain_keys_that_expire_only_when_nobody_waits() {
        let server = PrivateRedis::start(&[]);
        let options = RedisVconsOptions { sorted_set: "vcons".into(), index_keep: Duration::from_secs(60) };
        let connection = redis(&server.url(), RedisSettings::default()).await;
        let vcons = RedisVcons::new(connection.clone(), options);
        let kept = vcons.put(&[draft("a", "1", &["in", "two"]), draft("b", "1", &[])]).await.unwrap();
        assert_eq!(kept, [Kept::default(), Kept::default()]);
        vcons.posted(&[Posted { uuid: "a".into(), list: "in".into(), content: "1".into() }]).await.unwrap();
        let kept = vcons.put(&[draft("a", "1", &["in"])]).await.unwrap();
        assert_eq!(kept, [Kept { same: true, queued: vec!["in".into()] }]);
        let mut get = redis::cmd("GET");
        get.arg("vcon:a");
        assert_eq!(connection.run::<String>("test", &get).await.unwrap(), "a 1");

        let terms = |terms: &[&str]| Query {
            terms: terms.iter().map(|term| (*term).to_owned()).collect(),
            limit: 10,
            ..Query::default()
        };
        assert_eq!(vcons.find(&terms(&["tel:+1", "name:b"])).await.unwrap(), ["b"]);
        assert_eq!(vcons.find(&terms(&["tel:+1"])).await.unwrap(), ["b", "a"]);
        assert!(vcons.find(&terms(&["tel:+1", "name:x"])).await.unwrap().is_empty());
        assert_eq!(vcons.find(&Query { limit: 9, ..Query::default() }).await.unwrap().len(), 2);

        let ttl = async |uuid: &str| {
            let mut ttl = redis::cmd("PTTL");
            ttl.arg(format!("vcon:{uuid}"));
            connection.run::<i64>("test", &ttl).await.unwrap()
        };
        let done = |list: &str| Change {
            uuid: "a".into(),
            body: Some("new".into()),
            terms: vec!["tag:x:y".into()],
            done: Some(list.into()),
            expires_at: Some(i64::MAX / 1_000_000),
        };
        vcons.change(&[done("in")]).await.unwrap();
        assert_eq!(ttl("a").await, -1, "the other list still waits");
        vcons.change(&[done("two")]).await.unwrap();
        assert!(ttl("a").await > 0);
        assert_eq!(vcons.get(&["a".into(), "x".into()]).await.unwrap()[0].body, "new");
        assert_eq!(vcons.find(&terms(&["tag:x:y"])).await.unwrap(), ["a"]);
        assert!(vcons.delete("a").await.unwrap() && !vcons.delete("a").await.unwrap());
        vcons.change(&[done("in")]).await.unwrap();
        assert!(vcons.get(&["a".into()]).await.unwrap().is_empty(), "nothing comes back");
    }
}
