//! The windows on a Redis server or cluster.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base::seams::SeamError;
use redis::{Script, ScriptInvocation};
use tokio::runtime::Handle;

use super::{
    Settle, SharedOutcome, SharedPermit, SharedReading, SharedRequest, SharedWindow, SharedWindows,
    WindowsHealth,
};
use crate::redis::{REDIS, Redis};

/// How often a server that is gone is asked whether it is back.
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// Leases renewed in one script.
const RENEWED_AT_ONCE: usize = 500;

/// How limits are kept in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisWindowsOptions {
    /// What the keys begin with; replicas that count together have the same.
    pub prefix: String,
    /// How long a request waits for Redis before the server is taken for gone.
    pub timeout: Duration,
    /// How long the place of a request in progress stays taken when its replica has died.
    pub lease: Duration,
}

impl Default for RedisWindowsOptions {
    fn default() -> Self {
        RedisWindowsOptions {
            prefix: "trunkline:".into(),
            timeout: Duration::from_millis(250),
            lease: Duration::from_secs(60),
        }
    }
}

/// The windows on Redis. Everything runs on the runtime it was made on, whoever asks.
pub struct RedisWindows {
    inner: Arc<Inner>,
}

struct Inner {
    redis: Redis,
    runtime: Handle,
    options: RedisWindowsOptions,
    admit: Script,
    settle: Script,
    renew: Script,
    /// Tells this replica's requests from others'.
    replica: String,
    requests: AtomicU64,
    /// The places that requests in progress hold, by member.
    held: Mutex<HashMap<String, Vec<String>>>,
    up: AtomicBool,
    down: Mutex<Option<(Instant, String)>>,
}

impl RedisWindows {
    /// Begins to count. A server that is not there now is used as soon as it is.
    pub async fn start(redis: Redis, options: RedisWindowsOptions) -> Self {
        let script = |body: &str| Script::new(&format!("{}\n{body}", include_str!("window.lua")));
        let inner = Arc::new(Inner {
            redis,
            runtime: Handle::current(),
            options,
            admit: script(include_str!("admit.lua")),
            settle: script(include_str!("settle.lua")),
            renew: script(include_str!("renew.lua")),
            replica: format!("{:016x}", fastrand::u64(..)),
            requests: AtomicU64::new(0),
            held: Mutex::default(),
            up: AtomicBool::new(true),
            down: Mutex::new(None),
        });
        inner.probe().await;
        inner.runtime.spawn(keep(Arc::downgrade(&inner)));
        RedisWindows { inner }
    }
}

#[async_trait]
impl SharedWindows for RedisWindows {
    async fn admit(&self, request: SharedRequest) -> Result<SharedOutcome, SeamError> {
        let inner = &self.inner;
        if !inner.up.load(Ordering::Acquire) {
            let reason = lock(&inner.down).as_ref().map(|(_, reason)| reason.clone()).unwrap_or_default();
            return Err(SeamError::Unavailable { backend: REDIS, reason });
        }
        // When the caller goes away while this runs, the task's outcome is dropped, and with it the permit.
        let task = inner.runtime.spawn(admit(Arc::clone(inner), request));
        task.await.map_err(|error| SeamError::Unavailable { backend: REDIS, reason: error.to_string() })?
    }

    async fn unblock(&self, key: &str) -> Result<bool, SeamError> {
        let inner = Arc::clone(&self.inner);
        let key = inner.key(key);
        let task = self.inner.runtime.spawn(async move {
            inner.redis.run::<i64>("limits_unblock", redis::cmd("DEL").arg(key)).await.map(|gone| gone > 0)
        });
        task.await.map_err(|error| SeamError::Unavailable { backend: REDIS, reason: error.to_string() })?
    }

    fn health(&self) -> WindowsHealth {
        match &*lock(&self.inner.down) {
            None => WindowsHealth::Up,
            Some((since, reason)) => WindowsHealth::Down { since: since.elapsed(), reason: reason.clone() },
        }
    }
}

async fn admit(inner: Arc<Inner>, request: SharedRequest) -> Result<SharedOutcome, SeamError> {
    let member = format!("{}:{:x}", inner.replica, inner.requests.fetch_add(1, Ordering::Relaxed));
    let answer = inner.ask(&request, &member).await.inspect_err(|error| inner.went_down(error))?;
    let broken = || SeamError::Refused { backend: REDIS, reason: "its answer is not understood".into() };
    let &[status, stamp, ref rest @ ..] = answer.as_slice() else { return Err(broken()) };
    let positive = |value: i64| u64::try_from(value).unwrap_or(0);
    if status == 2 {
        return Ok(SharedOutcome::Blocked { millis: positive(stamp) });
    }
    if rest.len() != request.windows.len() * 5 + request.places.len() {
        return Err(broken());
    }
    let (windows, places) = rest.split_at(request.windows.len() * 5);
    let reading = |row: &[i64]| SharedReading {
        used: positive(row[0]),
        wait_ms: u64::try_from(row[1]).ok(),
        frees_ms: positive(row[2]),
        full_ms: positive(row[3]),
        fresh_ms: positive(row[4]),
    };
    let readings = windows.chunks_exact(5).map(reading).collect();
    if status == 0 {
        return Ok(SharedOutcome::Refused {
            readings,
            in_use: places.iter().copied().map(positive).collect(),
        });
    }
    let places: Vec<String> = request.places.iter().map(|place| inner.key(&place.key)).collect();
    if !places.is_empty() {
        lock(&inner.held).insert(member.clone(), places.clone());
    }
    let permit =
        Permit { inner, member, at_ms: stamp, windows: request.windows, places, end: End::AsCharged };
    Ok(SharedOutcome::Admitted { readings, permit: SharedPermit::new(Box::new(permit)) })
}

impl Inner {
    /// The key at the server. The braces are the hash tag.
    fn key(&self, key: &str) -> String {
        format!("{{{}limits}}:{key}", self.options.prefix)
    }

    async fn ask(&self, request: &SharedRequest, member: &str) -> Result<Vec<i64>, SeamError> {
        let mut call = self.admit.prepare_invoke();
        call.arg(request.windows.len())
            .arg(request.places.len())
            .arg(request.block.as_ref().map_or(0, |block| block.millis))
            .arg(member)
            .arg(millis(self.options.lease));
        for window in &request.windows {
            call.key(self.key(&window.key));
            call.arg(window.slot_ms).arg(window.slots).arg(window.max).arg(window.amount);
            call.arg(u8::from(window.blocks));
        }
        for place in &request.places {
            call.key(self.key(&place.key)).arg(place.max);
        }
        if let Some(block) = &request.block {
            call.key(self.key(&block.key));
        }
        self.run("limits_admit", &call).await
    }

    async fn run<T: redis::FromRedisValue>(
        &self,
        operation: &'static str,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, SeamError> {
        let after = self.options.timeout;
        let answer = tokio::time::timeout(after, self.redis.script(operation, call)).await;
        answer.unwrap_or(Err(SeamError::TimedOut { backend: REDIS, after }))
    }

    fn went_down(&self, error: &SeamError) {
        self.up.store(false, Ordering::Release);
        lock(&self.down).get_or_insert_with(|| (Instant::now(), error.to_string()));
    }

    /// Whether the server does now what requests ask of it.
    async fn probe(&self) {
        let window = SharedWindow {
            key: "probe".into(),
            slot_ms: 1_000,
            slots: 1,
            max: u64::from(u32::MAX),
            amount: 1,
            estimate: false,
            blocks: false,
        };
        let request = SharedRequest { windows: vec![window], ..SharedRequest::default() };
        match self.ask(&request, "probe").await {
            Ok(_) => {
                *lock(&self.down) = None;
                self.up.store(true, Ordering::Release);
            }
            Err(error) => self.went_down(&error),
        }
    }

    /// Renews the leases of all requests in progress.
    async fn renew(&self) {
        let held: Vec<(String, String)> = lock(&self.held)
            .iter()
            .flat_map(|(member, places)| places.iter().map(|place| (place.clone(), member.clone())))
            .collect();
        for part in held.chunks(RENEWED_AT_ONCE) {
            let mut call = self.renew.prepare_invoke();
            call.arg(millis(self.options.lease));
            for (place, member) in part {
                call.key(place).arg(member);
            }
            if let Err(error) = self.run::<i64>("limits_renew", &call).await {
                return self.went_down(&error);
            }
        }
    }
}

/// Probes and renews for as long as somebody uses the windows.
async fn keep(inner: Weak<Inner>) {
    let mut renewed = Instant::now();
    let mut pause = PROBE_EVERY;
    loop {
        tokio::time::sleep(pause).await;
        let Some(inner) = inner.upgrade() else { return };
        pause = PROBE_EVERY.min(inner.options.lease / 6);
        if !inner.up.load(Ordering::Acquire) {
            inner.probe().await;
        } else if renewed.elapsed() >= inner.options.lease / 3 {
            renewed = Instant::now();
            inner.renew().await;
        }
    }
}

/// What an admitted request holds.
struct Permit {
    inner: Arc<Inner>,
    member: String,
    /// When it was admitted, by the server's clock.
    at_ms: i64,
    windows: Vec<SharedWindow>,
    places: Vec<String>,
    end: End,
}

/// What is to be told at the end.
enum End {
    AsCharged,
    Tokens(u64),
    Cancelled,
}

impl Settle for Permit {
    fn correct(&mut self, tokens: u64) {
        self.end = End::Tokens(tokens);
    }

    fn cancel(&mut self) {
        self.end = End::Cancelled;
    }
}

impl Permit {
    /// What is to be added to a window.
    fn change(&self, window: &SharedWindow) -> i64 {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        match self.end {
            End::Tokens(tokens) if window.estimate => signed(tokens) - signed(window.amount),
            End::Cancelled => -signed(window.amount),
            _ => 0,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.places.is_empty() {
            lock(&self.inner.held).remove(&self.member);
        }
        let changes: Vec<(SharedWindow, i64)> = std::mem::take(&mut self.windows)
            .into_iter()
            .map(|window| (self.change(&window), window))
            .filter(|(change, _)| *change != 0)
            .map(|(change, window)| (window, change))
            .collect();
        if changes.is_empty() && self.places.is_empty() {
            return;
        }
        let inner = Arc::clone(&self.inner);
        let (member, at_ms) = (std::mem::take(&mut self.member), self.at_ms);
        let places = std::mem::take(&mut self.places);
        self.inner.runtime.spawn(async move {
            let mut call = inner.settle.prepare_invoke();
            call.arg(changes.len()).arg(member).arg(at_ms);
            for (window, change) in &changes {
                call.key(inner.key(&window.key)).arg(window.slot_ms).arg(window.slots).arg(*change);
            }
            for place in &places {
                call.key(place);
            }
            // What is lost with the server is what it counted anyway; leases end by themselves.
            if let Err(error) = inner.run::<i64>("limits_settle", &call).await {
                inner.went_down(&error);
            }
        });
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
