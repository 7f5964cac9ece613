//! What all events do.

use std::time::Duration;

use base::seams::{Event, Events, MAX_EVENT, SeamError, Subscription};

/// How long an event is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs all of it between two replicas (the same twice for a backend within the process), with topics that
/// begin with `name`.
pub async fn events(here: &dyn Events, there: &dyn Events, name: &str) -> Result<(), SeamError> {
    let (topic, other) = (format!("{name}.topic"), format!("{name}.other"));
    let mut hears_itself = here.subscribe(&topic).await?;
    let mut first = there.subscribe(&topic).await?;
    let mut second = there.subscribe(&topic).await?;
    let mut elsewhere = there.subscribe(&other).await?;
    here.ping().await?;

    let largest = "ü".repeat((MAX_EVENT - topic.len()) / 2);
    let payloads = ["a", "", "{\"quotes\": \"'\\\"\"}", "line\nline", &largest, "last"];
    for payload in payloads {
        here.publish(&topic, payload).await?;
    }
    for subscription in [&mut hears_itself, &mut first, &mut second] {
        for payload in payloads {
            assert_eq!(next(subscription).await, Event::Published(payload.to_owned()));
        }
    }
    here.publish(&other, "for others").await?;
    assert_eq!(next(&mut elsewhere).await, Event::Published("for others".into()), "topics are kept apart");

    too_slow(here, &mut first, &topic).await?;
    bad_input(here, &topic).await;
    Ok(())
}

/// A subscriber that does not keep up hears that it missed some, and then goes on.
async fn too_slow(
    here: &dyn Events,
    subscription: &mut Box<dyn Subscription>,
    topic: &str,
) -> Result<(), SeamError> {
    for n in 0..3_000 {
        here.publish(topic, &n.to_string()).await?;
    }
    here.publish(topic, "the last").await?;
    let (mut missed, mut heard) = (false, 0);
    loop {
        match next(subscription).await {
            Event::Missed => missed = true,
            Event::Published(payload) if payload == "the last" => break,
            Event::Published(_) => heard += 1,
        }
    }
    assert!(missed || heard == 3_000, "of 3000 events {heard} came, and nothing said so");
    Ok(())
}

async fn bad_input(here: &dyn Events, topic: &str) {
    let large = "x".repeat(MAX_EVENT);
    assert!(matches!(here.publish(topic, &large).await, Err(SeamError::TooLarge { .. })));
    assert!(matches!(here.publish(topic, "a\0b").await, Err(SeamError::Invalid(_))));
    assert!(matches!(here.publish("a b", "x").await, Err(SeamError::Invalid(_))));
    assert!(here.subscribe("").await.is_err());
}

async fn next(subscription: &mut Box<dyn Subscription>) -> Event {
    let event = tokio::time::timeout(PATIENCE, subscription.next()).await.ok().flatten();
    assert!(event.is_some(), "no event came");
    event.unwrap_or(Event::Missed)
}
