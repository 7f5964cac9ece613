//! A ledger in Redis: delays, attempts and dead letters beside the lists themselves, for an installation that has
//! nothing but a Redis.
//!
//! Of each queue, beside its list: `{list}:parked` orders what waits by the time it may be handed out, and
//! `{list}:parcels` has what it is; `{list}:letters` and `{list}:dead` are the dead letters and their order;
//! `{list}:notes` what is known of messages that stay in their list. A parcel that is out has a token, and its place
//! in the order is the end of its lease.

use std::time::Duration;

use async_trait::async_trait;
use base::seams::{
    Backend, DeadLetter, Delivery, Depth, Ledger, MAX_BATCH, Message, Note, Parked, Queue, Retry, SeamError,
    Which, cut_reason,
};
use bytes::Bytes;
use redis::Script;
use serde::{Deserialize, Serialize};

use super::{LEASE_ENDED, check_push, check_queue, new_id};
use crate::redis::{REDIS, Redis};
use crate::time::{after, now_ms};

/// Hands out up to ARGV[1] parcels that are due at ARGV[2], until ARGV[3], under the token ARGV[4].
const PULL: &str = r#"
local parked, parcels, attempts, tokens = unpack(KEYS)
local out = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', parked, '-inf', ARGV[2], 'LIMIT', 0, ARGV[1])) do
  local parcel = redis.call('HGET', parcels, id)
  if parcel then
    local again = redis.call('HEXISTS', tokens, id)
    redis.call('ZADD', parked, ARGV[3], id)
    redis.call('HSET', tokens, id, ARGV[4])
    out[#out + 1] = {id, parcel, redis.call('HINCRBY', attempts, id, 1), again}
  else
    redis.call('ZREM', parked, id)
  end
end
return out
"#;

/// Changes the parcel ARGV[1], if ARGV[2] is its token: `remove`; `extend` until ARGV[4]; `retry` at ARGV[4] as
/// ARGV[5]; `release` at ARGV[4].
const CHANGE: &str = r#"
local parked, parcels, attempts, tokens = unpack(KEYS)
local id, token, what = ARGV[1], ARGV[2], ARGV[3]
if redis.call('HGET', tokens, id) ~= token then return 0 end
if what == 'remove' then
  redis.call('ZREM', parked, id)
  redis.call('HDEL', parcels, id)
  redis.call('HDEL', attempts, id)
  redis.call('HDEL', tokens, id)
  return 1
end
redis.call('ZADD', parked, ARGV[4], id)
if what == 'retry' then
  redis.call('HSET', parcels, id, ARGV[5])
  redis.call('HDEL', tokens, id)
elseif what == 'release' then
  redis.call('HINCRBY', attempts, id, -1)
  redis.call('HDEL', tokens, id)
end
return 1
"#;

/// How many are due at ARGV[1], out, and in all.
const DEPTH: &str = r#"
local parked, parcels, attempts, tokens = unpack(KEYS)
local out = 0
for _, id in ipairs(redis.call('HKEYS', tokens)) do
  local score = redis.call('ZSCORE', parked, id)
  if score and tonumber(score) > tonumber(ARGV[1]) then out = out + 1 end
end
return {redis.call('ZCOUNT', parked, '-inf', ARGV[1]), out, redis.call('ZCARD', parked)}
"#;

/// Forgets what is not out at ARGV[1]; how many.
const PURGE: &str = r#"
local parked, parcels, attempts, tokens = unpack(KEYS)
local gone = 0
for _, id in ipairs(redis.call('ZRANGE', parked, 0, -1)) do
  local out = redis.call('HEXISTS', tokens, id) == 1 and tonumber(redis.call('ZSCORE', parked, id)) > tonumber(ARGV[1])
  if not out then
    redis.call('ZREM', parked, id)
    redis.call('HDEL', parcels, id)
    redis.call('HDEL', attempts, id)
    redis.call('HDEL', tokens, id)
    gone = gone + 1
  end
end
return gone
"#;

/// Adds the dead letter ARGV[1], unless it is there, and forgets its note.
const BURY: &str = r#"
local letters, dead, notes, count = unpack(KEYS)
if redis.call('HSETNX', letters, ARGV[1], ARGV[2]) == 1 then
  redis.call('ZADD', dead, redis.call('INCR', count), ARGV[1])
end
return redis.call('HDEL', notes, ARGV[1])
"#;

/// What a parcel is, but for its attempts.
#[derive(Serialize, Deserialize)]
struct Parcel {
    body: Vec<u8>,
    reason: Option<String>,
    enqueued_at: Option<i64>,
}

/// A dead letter as it is kept.
#[derive(Serialize, Deserialize)]
struct Letter {
    body: Vec<u8>,
    partition: Option<String>,
    attempts: u32,
    reason: String,
    enqueued_at: Option<i64>,
    died_at: i64,
}

/// A note as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    attempts: u32,
    reason: Option<String>,
    due_at: i64,
}

/// Delays, attempts and dead letters in Redis.
pub struct RedisLedger {
    redis: Redis,
    prefix: String,
    pull: Script,
    change: Script,
    depth: Script,
    purge: Script,
    bury: Script,
}

impl RedisLedger {
    /// Those of this Redis, beside the lists of a [`super::RedisQueue`] with the same prefix.
    pub fn new(redis: Redis, prefix: &str) -> Self {
        RedisLedger {
            redis,
            prefix: prefix.to_owned(),
            pull: Script::new(PULL),
            change: Script::new(CHANGE),
            depth: Script::new(DEPTH),
            purge: Script::new(PURGE),
            bury: Script::new(BURY),
        }
    }

    async fn key(&self, queue: &str, what: &str) -> Result<String, SeamError> {
        Ok(format!("{{{}}}:{what}", self.redis.key(&self.prefix, queue).await?))
    }

    async fn parcels(&self, queue: &str) -> Result<[String; 4], SeamError> {
        Ok([
            self.key(queue, "parked").await?,
            self.key(queue, "parcels").await?,
            self.key(queue, "attempts").await?,
            self.key(queue, "tokens").await?,
        ])
    }

    async fn script<T: redis::FromRedisValue>(
        &self,
        operation: &'static str,
        script: &Script,
        keys: &[String],
        arguments: &[Vec<u8>],
    ) -> Result<T, SeamError> {
        let mut call = script.prepare_invoke();
        for key in keys {
            call.key(key);
        }
        for argument in arguments {
            call.arg(argument);
        }
        self.redis.script(operation, &call).await
    }

    async fn run<T: redis::FromRedisValue>(
        &self,
        name: &str,
        key: &str,
        arguments: &[Vec<u8>],
    ) -> Result<T, SeamError> {
        let mut command = redis::cmd(name);
        command.arg(key);
        for argument in arguments {
            command.arg(argument);
        }
        self.redis.run("ledger", &command).await
    }

    async fn changed(
        &self,
        delivery: &Delivery,
        what: &str,
        at: i64,
        parcel: Option<&Parcel>,
    ) -> Result<(), SeamError> {
        let keys = self.parcels(&delivery.queue).await?;
        let arguments = [
            delivery.id.clone().into_bytes(),
            delivery.receipt.clone().into_bytes(),
            what.into(),
            number(at),
            parcel.map(write).unwrap_or_default(),
        ];
        match self.script::<i64>("ledger", &self.change, &keys, &arguments).await? {
            1 => Ok(()),
            _ => Err(SeamError::LeaseLost { queue: delivery.queue.clone(), id: delivery.id.clone() }),
        }
    }
}

fn number(number: i64) -> Vec<u8> {
    number.to_string().into_bytes()
}

fn write(value: &impl Serialize) -> Vec<u8> {
    // Texts, numbers and bytes: writing them cannot fail.
    serde_json::to_vec(value).unwrap_or_default()
}

#[async_trait]
impl Backend for RedisLedger {
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
impl Queue for RedisLedger {
    async fn push(&self, queue: &str, messages: &[Message]) -> Result<(), SeamError> {
        check_push(queue, messages)?;
        if messages.iter().any(|message| message.partition.is_some()) {
            return Err(SeamError::Invalid("a message with a partition stays in its list".into()));
        }
        let now = now_ms();
        let parked: Vec<Parked> = messages
            .iter()
            .map(|message| Parked {
                id: new_id(),
                body: message.body.clone(),
                attempts: 0,
                reason: None,
                enqueued_at: Some(now),
                due_at: after(message.delay),
            })
            .collect();
        self.park(queue, &parked).await
    }

    async fn pull(
        &self,
        queue: &str,
        max: usize,
        lease: Duration,
        _: Duration,
    ) -> Result<Vec<Delivery>, SeamError> {
        check_queue(queue)?;
        let (keys, token) = (self.parcels(queue).await?, new_id());
        let max = i64::try_from(max.min(MAX_BATCH)).unwrap_or(i64::MAX);
        let arguments = [number(max), number(now_ms()), number(after(lease)), token.clone().into_bytes()];
        let taken: Vec<(String, Vec<u8>, u32, bool)> =
            self.script("ledger", &self.pull, &keys, &arguments).await?;
        let mut deliveries = Vec::with_capacity(taken.len());
        for (id, text, attempt, again) in taken {
            let parcel: Parcel = serde_json::from_slice(&text).map_err(|error| {
                SeamError::Invalid(format!("what is parked in {queue} cannot be read: {error}"))
            })?;
            deliveries.push(Delivery {
                queue: queue.to_owned(),
                id,
                body: parcel.body.into(),
                partition: None,
                attempt,
                reason: if again { Some(LEASE_ENDED.to_owned()) } else { parcel.reason },
                enqueued_at: parcel.enqueued_at,
                receipt: token.clone(),
            });
        }
        Ok(deliveries)
    }

    async fn ack(&self, delivery: &Delivery) -> Result<(), SeamError> {
        self.changed(delivery, "remove", 0, None).await
    }

    async fn nack(&self, delivery: &Delivery, retry: Retry, reason: &str) -> Result<(), SeamError> {
        match retry {
            Retry::After(delay) => {
                let parcel = Parcel {
                    body: delivery.body.to_vec(),
                    reason: Some(cut_reason(reason)),
                    enqueued_at: delivery.enqueued_at,
                };
                self.changed(delivery, "retry", after(delay), Some(&parcel)).await
            }
            Retry::Release => self.changed(delivery, "release", now_ms(), None).await,
            Retry::Never => {
                // It must still be ours, and be in the dead letters before it is nowhere else.
                self.changed(delivery, "extend", after(Duration::from_secs(30)), None).await?;
                let letter = DeadLetter {
                    id: delivery.id.clone(),
                    body: delivery.body.clone(),
                    partition: None,
                    attempts: delivery.attempt,
                    reason: cut_reason(reason),
                    enqueued_at: delivery.enqueued_at,
                    died_at: now_ms(),
                };
                self.bury(&delivery.queue, &letter).await?;
                self.changed(delivery, "remove", 0, None).await
            }
        }
    }

    async fn extend(&self, delivery: &Delivery, lease: Duration) -> Result<(), SeamError> {
        self.changed(delivery, "extend", after(lease), None).await
    }

    async fn depth(&self, queue: &str) -> Result<Depth, SeamError> {
        check_queue(queue)?;
        let keys = self.parcels(queue).await?;
        let (waiting, leased, all): (u64, u64, u64) =
            self.script("ledger", &self.depth, &keys, &[number(now_ms())]).await?;
        let dead = self.run("ZCARD", &self.key(queue, "dead").await?, &[]).await?;
        Ok(Depth { waiting, leased, delayed: all.saturating_sub(waiting + leased), dead })
    }

    async fn dead(&self, queue: &str, skip: u64, limit: usize) -> Result<Vec<DeadLetter>, SeamError> {
        check_queue(queue)?;
        if limit == 0 {
            return Ok(Vec::new());
        }
        let first = i64::try_from(skip).unwrap_or(i64::MAX / 2);
        let last = first.saturating_add(i64::try_from(limit).unwrap_or(i64::MAX / 2)) - 1;
        let ids: Vec<Vec<u8>> =
            self.run("ZRANGE", &self.key(queue, "dead").await?, &[number(first), number(last)]).await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let texts: Vec<Option<Vec<u8>>> = self.run("HMGET", &self.key(queue, "letters").await?, &ids).await?;
        let read = |(id, text): (Vec<u8>, Option<Vec<u8>>)| {
            let letter: Letter = serde_json::from_slice(&text?).ok()?;
            Some(DeadLetter {
                id: String::from_utf8(id).ok()?,
                body: letter.body.into(),
                partition: letter.partition,
                attempts: letter.attempts,
                reason: letter.reason,
                enqueued_at: letter.enqueued_at,
                died_at: letter.died_at,
            })
        };
        Ok(ids.into_iter().zip(texts).filter_map(read).collect())
    }

    async fn replay(&self, queue: &str, which: &Which) -> Result<u64, SeamError> {
        let mut replayed = 0;
        for letter in self.chosen(queue, which).await? {
            let parked = Parked {
                id: letter.id.clone(),
                body: letter.body,
                attempts: 0,
                reason: None,
                enqueued_at: letter.enqueued_at,
                due_at: now_ms(),
            };
            self.park(queue, &[parked]).await?;
            replayed += self.purge_dead(queue, &Which::Ids(vec![letter.id])).await?;
        }
        Ok(replayed)
    }

    async fn purge_dead(&self, queue: &str, which: &Which) -> Result<u64, SeamError> {
        let ids: Vec<Vec<u8>> = match which {
            Which::Ids(ids) => ids.iter().map(|id| id.clone().into_bytes()).collect(),
            _ => self.chosen(queue, which).await?.into_iter().map(|letter| letter.id.into_bytes()).collect(),
        };
        if ids.is_empty() {
            return Ok(0);
        }
        let gone: u64 = self.run("ZREM", &self.key(queue, "dead").await?, &ids).await?;
        let _: u64 = self.run("HDEL", &self.key(queue, "letters").await?, &ids).await?;
        if self.run::<u64>("ZCARD", &self.key(queue, "dead").await?, &[]).await? == 0 {
            let _: u64 = self.run("DEL", &self.key(queue, "count").await?, &[]).await?;
        }
        Ok(gone)
    }

    async fn purge(&self, queue: &str) -> Result<u64, SeamError> {
        check_queue(queue)?;
        let keys = self.parcels(queue).await?;
        self.script("ledger", &self.purge, &keys, &[number(now_ms())]).await
    }
}

impl RedisLedger {
    async fn chosen(&self, queue: &str, which: &Which) -> Result<Vec<DeadLetter>, SeamError> {
        let most = match which {
            Which::Oldest(most) => usize::try_from(*most).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        let (mut chosen, mut skip) = (Vec::new(), 0);
        while chosen.len() < most {
            let some = self.dead(queue, skip, 1_000.min(most - chosen.len())).await?;
            if some.is_empty() {
                break;
            }
            skip += some.len() as u64;
            let wanted = |letter: &DeadLetter| match which {
                Which::Ids(ids) => ids.contains(&letter.id),
                _ => true,
            };
            chosen.extend(some.into_iter().filter(wanted));
        }
        Ok(chosen)
    }
}

#[async_trait]
impl Ledger for RedisLedger {
    async fn park(&self, queue: &str, messages: &[Parked]) -> Result<(), SeamError> {
        check_queue(queue)?;
        let [parked, parcels, attempts, tokens] = self.parcels(queue).await?;
        for message in messages {
            let parcel = Parcel {
                body: message.body.to_vec(),
                reason: message.reason.as_deref().map(cut_reason),
                enqueued_at: message.enqueued_at,
            };
            let id = message.id.clone().into_bytes();
            // Its place in the order comes last: nobody finds half of it.
            let _: u64 = self.run("HSET", &parcels, &[id.clone(), write(&parcel)]).await?;
            let _: u64 = self.run("HSET", &attempts, &[id.clone(), number(message.attempts.into())]).await?;
            let _: u64 = self.run("HDEL", &tokens, std::slice::from_ref(&id)).await?;
            let _: u64 = self.run("ZADD", &parked, &[number(message.due_at), id]).await?;
        }
        Ok(())
    }

    async fn note(&self, queue: &str, note: &Note) -> Result<(), SeamError> {
        let kept = Kept {
            attempts: note.attempts,
            reason: note.reason.as_deref().map(cut_reason),
            due_at: note.due_at,
        };
        let key = self.key(queue, "notes").await?;
        let _: u64 = self.run("HSET", &key, &[note.id.clone().into_bytes(), write(&kept)]).await?;
        Ok(())
    }

    async fn notes(&self, queue: &str, ids: &[String]) -> Result<Vec<Note>, SeamError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let fields: Vec<Vec<u8>> = ids.iter().map(|id| id.clone().into_bytes()).collect();
        let texts: Vec<Option<Vec<u8>>> =
            self.run("HMGET", &self.key(queue, "notes").await?, &fields).await?;
        let read = |(id, text): (&String, Option<Vec<u8>>)| {
            let kept: Kept = serde_json::from_slice(&text?).ok()?;
            Some(Note { id: id.clone(), attempts: kept.attempts, reason: kept.reason, due_at: kept.due_at })
        };
        Ok(ids.iter().zip(texts).filter_map(read).collect())
    }

    async fn forget(&self, queue: &str, id: &str) -> Result<(), SeamError> {
        let _: u64 = self.run("HDEL", &self.key(queue, "notes").await?, &[id.into()]).await?;
        Ok(())
    }

    async fn bury(&self, queue: &str, letter: &DeadLetter) -> Result<(), SeamError> {
        let kept = Letter {
            body: letter.body.to_vec(),
            partition: letter.partition.clone(),
            attempts: letter.attempts,
            reason: cut_reason(&letter.reason),
            enqueued_at: letter.enqueued_at,
            died_at: letter.died_at,
        };
        let keys = [
            self.key(queue, "letters").await?,
            self.key(queue, "dead").await?,
            self.key(queue, "notes").await?,
            self.key(queue, "count").await?,
        ];
        let arguments = [letter.id.clone().into_bytes(), write(&kept)];
        let _: i64 = self.script("ledger", &self.bury, &keys, &arguments).await?;
        Ok(())
    }

    async fn buried(&self, queue: &str, ids: &[String]) -> Result<Vec<String>, SeamError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let fields: Vec<Vec<u8>> = ids.iter().map(|id| id.clone().into_bytes()).collect();
        let texts: Vec<Option<Bytes>> = self
            .run::<Vec<Option<Vec<u8>>>>("HMGET", &self.key(queue, "letters").await?, &fields)
            .await?
            .into_iter()
            .map(|text| text.map(Bytes::from))
            .collect();
        Ok(ids.iter().zip(texts).filter(|(_, text)| text.is_some()).map(|(id, _)| id.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::Arc;

    use super::*;
    use crate::queue::RedisQueue;
    use crate::settings::RedisSettings;
    use crate::testing::{REDIS_URL, redis, there_is, unique};

    fn keys(name: &str) -> String {
        let out = Command::new("redis-cli").args(["KEYS", &format!("*{name}*")]).output().unwrap();
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn conforms() {
        if !there_is("Redis", 6379) {
            return;
        }
        let name = unique("ledger");
        let redis = redis(REDIS_URL, RedisSettings::default()).await;
        let ledger = Arc::new(RedisLedger::new(redis.clone(), ""));
        crate::conformance::ledger(&*ledger, &name).await.unwrap();
        let queue = RedisQueue::new(redis, ledger, "");
        crate::conformance::queue(&queue, &name).await.unwrap();
        assert_eq!(keys(&name), "", "nothing is left behind");
    }
}
