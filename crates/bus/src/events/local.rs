//! Events within one process, for an installation of one.

use async_trait::async_trait;
use base::seams::{Backend, Events, SeamError, Subscription, check_event};

use super::hub::Hub;

/// Events within this process. Cheap to clone; clones hear each other.
#[derive(Clone, Default)]
pub struct LocalEvents {
    hub: Hub,
}

#[async_trait]
impl Backend for LocalEvents {
    fn backend(&self) -> &'static str {
        "local"
    }

    async fn ping(&self) -> Result<(), SeamError> {
        Ok(())
    }
}

#[async_trait]
impl Events for LocalEvents {
    async fn publish(&self, topic: &str, payload: &str) -> Result<(), SeamError> {
        check_event(topic, payload)?;
        self.hub.publish(topic, payload);
        Ok(())
    }

    async fn subscribe(&self, topic: &str) -> Result<Box<dyn Subscription>, SeamError> {
        self.hub.subscribe(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn conforms() {
        let events = LocalEvents::default();
        crate::conformance::events(&events, &events.clone(), "local").await.unwrap();
    }
}
