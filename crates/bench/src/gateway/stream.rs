//! Many streams held open at once, to see what they cost in memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::fixtures::Exchange;
use super::load::{AsyncConnection, PATIENCE, runtime};
use crate::Outcome;

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Opens `count` streams, and while all of them have begun and none has ended takes the largest of what `look`
/// sees. Then reads every stream to its end and checks it. Fails when they were never all open together.
pub fn hold(
    address: SocketAddr,
    exchange: &Arc<Exchange>,
    count: usize,
    look: impl Fn() -> Outcome<u64>,
) -> Outcome<u64> {
    runtime()?.block_on(async {
        let begun = Arc::new(AtomicUsize::new(0));
        let mut streams = JoinSet::new();
        for _ in 0..count {
            let mut connection = AsyncConnection::open(address).await?;
            let (exchange, begun) = (Arc::clone(exchange), Arc::clone(&begun));
            streams.spawn(async move {
                let on_first = || {
                    begun.fetch_add(1, Ordering::Relaxed);
                };
                connection.ask(&exchange, on_first).await
            });
            // Lets the stream send its request before the next one connects.
            tokio::task::yield_now().await;
        }
        let mut most = None;
        let mut ended = 0;
        let mut tick = tokio::time::interval(LOOK_EVERY);
        let end = tokio::time::Instant::now() + PATIENCE;
        while ended < count {
            tokio::select! {
                Some(stream) = streams.join_next() => {
                    stream.map_err(|error| error.to_string())??;
                    ended += 1;
                }
                _ = tick.tick() => {
                    if ended == 0 && begun.load(Ordering::Relaxed) == count {
                        most = most.max(Some(look()?));
                    }
                }
                () = tokio::time::sleep_until(end) => {
                    return Err(format!("{} of {count} streams did not end within {PATIENCE:?}", count - ended));
                }
            }
        }
        most.ok_or_else(|| format!("{count} streams were never all open at once"))
    })
}
