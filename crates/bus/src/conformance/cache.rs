//! What every cache does.

use std::time::{Duration, Instant};

use base::seams::{Cache, MAX_CACHE_KEY, MAX_CACHE_VALUE, SeamError};
use bytes::Bytes;
use futures_util::future::join_all;

/// Runs all of it.
pub async fn cache(cache: &dyn Cache, name: &str) -> Result<(), SeamError> {
    cache.ping().await?;
    let key = |what: &str| format!("{name}:{what}");
    values(cache, &key("value")).await?;
    expiry(cache, &key("expiry")).await?;
    absent(cache, &key("absent")).await?;
    counters(cache, &key("counter")).await?;
    counters_expire(cache, &key("counted")).await?;
    bad_input(cache, &key("bad")).await
}

async fn values(cache: &dyn Cache, key: &str) -> Result<(), SeamError> {
    assert_eq!(cache.get(key).await?, None);
    let bytes: Vec<u8> = (0..=255).collect();
    cache.set(key, bytes.clone().into(), None).await?;
    assert_eq!(cache.get(key).await?.as_deref(), Some(&bytes[..]));
    cache.set(key, Bytes::new(), Some(Duration::from_secs(60))).await?;
    assert_eq!(cache.get(key).await?.as_deref(), Some(&b""[..]), "an empty value is a value");
    assert!(cache.delete(key).await?);
    assert!(!cache.delete(key).await?);
    assert_eq!(cache.get(key).await?, None);
    let other = format!("{key} ü/{{}}%*");
    cache.set(&other, "x".into(), None).await?;
    assert_eq!(cache.get(&other).await?.as_deref(), Some(&b"x"[..]));
    cache.delete(&other).await?;
    Ok(())
}

/// Waits until a value is gone; how long that was after `since`.
async fn gone(cache: &dyn Cache, key: &str, since: Instant) -> Result<Duration, SeamError> {
    while cache.get(key).await?.is_some() {
        assert!(since.elapsed() < Duration::from_secs(10), "{key} does not expire");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(since.elapsed())
}

async fn expiry(cache: &dyn Cache, key: &str) -> Result<(), SeamError> {
    let ttl = Duration::from_millis(300);
    let began = Instant::now();
    cache.set(key, "x".into(), Some(ttl)).await?;
    // The clocks of two machines, and rounding to milliseconds.
    assert!(gone(cache, key, began).await? >= Duration::from_millis(290), "it expired early");
    assert!(cache.set_if_absent(key, "y".into(), None).await?, "what has expired is absent");
    cache.set(key, "z".into(), Some(ttl)).await?;
    cache.set(key, "z".into(), None).await?;
    tokio::time::sleep(ttl + Duration::from_millis(50)).await;
    assert_eq!(cache.get(key).await?.as_deref(), Some(&b"z"[..]), "a later set without a time lifts it");
    cache.delete(key).await?;
    Ok(())
}

async fn absent(cache: &dyn Cache, key: &str) -> Result<(), SeamError> {
    let ttl = Some(Duration::from_secs(60));
    let tries = (0..16).map(|n| cache.set_if_absent(key, n.to_string().into(), ttl));
    let won: Vec<bool> = join_all(tries).await.into_iter().collect::<Result<_, _>>()?;
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "exactly one may win");
    let winner = won.iter().position(|won| *won).unwrap_or_default().to_string();
    assert_eq!(cache.get(key).await?, Some(Bytes::from(winner)));
    cache.delete(key).await?;
    Ok(())
}

async fn counters(cache: &dyn Cache, key: &str) -> Result<(), SeamError> {
    let mut sums: Vec<i64> = join_all((0..50).map(|_| cache.increment(key, 1, None)))
        .await
        .into_iter()
        .collect::<Result<_, _>>()?;
    sums.sort_unstable();
    assert_eq!(sums, (1..=50).collect::<Vec<i64>>(), "no increment is lost or seen twice");
    assert_eq!(cache.increment(key, -60, None).await?, -10);
    assert_eq!(cache.get(key).await?.as_deref(), Some(&b"-10"[..]), "a counter reads as its digits");
    // Beyond what a float holds.
    assert_eq!(cache.increment(key, (1 << 60) + 11, None).await?, (1 << 60) + 1);
    assert!(cache.increment(key, i64::MAX, None).await.is_err(), "it does not wrap around");
    assert_eq!(cache.increment(key, 0, None).await?, (1 << 60) + 1);
    cache.delete(key).await?;

    cache.set(key, "text".into(), None).await?;
    let refused = cache.increment(key, 1, None).await;
    assert!(matches!(refused, Err(SeamError::Invalid(_))), "{refused:?}");
    cache.delete(key).await?;
    Ok(())
}

async fn counters_expire(cache: &dyn Cache, key: &str) -> Result<(), SeamError> {
    let began = Instant::now();
    let ttl = Some(Duration::from_millis(400));
    cache.increment(key, 1, ttl).await?;
    while began.elapsed() < Duration::from_millis(250) {
        cache.increment(key, 1, ttl).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let lived = gone(cache, key, began).await?;
    assert!(lived >= Duration::from_millis(390), "the counter expired early, after {lived:?}");
    assert!(lived < Duration::from_millis(640), "adding prolonged the counter's life to {lived:?}");
    assert_eq!(cache.increment(key, 5, None).await?, 5, "it begins again");
    cache.delete(key).await?;
    Ok(())
}

async fn bad_input(cache: &dyn Cache, key: &str) -> Result<(), SeamError> {
    let long = "k".repeat(MAX_CACHE_KEY + 1);
    assert!(matches!(cache.get(&long).await, Err(SeamError::TooLarge { .. })));
    assert!(matches!(cache.get("").await, Err(SeamError::Invalid(_))));
    let large = Bytes::from(vec![0; MAX_CACHE_VALUE + 1]);
    assert!(matches!(cache.set(key, large, None).await, Err(SeamError::TooLarge { .. })));
    for ttl in [Duration::ZERO, Duration::MAX] {
        assert!(matches!(cache.set(key, "x".into(), Some(ttl)).await, Err(SeamError::Invalid(_))));
    }
    Ok(())
}
