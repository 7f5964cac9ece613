//! The HTTP client that looks names up itself and keeps only the addresses that may be reached.

use std::error::Error as StdError;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::{Allowed, refusal as words};

/// No redirects: the caller checks each hop.
pub(super) fn build(allowed: &Arc<Allowed>, connect: Duration) -> reqwest::Result<Client> {
    Client::builder()
        .user_agent(concat!("trunkline/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .dns_resolver(Checked(allowed.clone()))
        .build()
}

/// A resolver that forgets what may not be reached, at the very lookup that is connected to: a name cannot change
/// its mind between being checked and being used.
struct Checked(Arc<Allowed>);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.0.clone();
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let free = allowed.name(&name);
            let kept: Vec<SocketAddr> =
                found.filter(|address| free || allowed.address(address.ip())).collect();
            match kept.is_empty() {
                true => Err(Box::new(Private(words(&name))) as Box<dyn StdError + Send + Sync>),
                false => Ok(Box::new(kept.into_iter()) as Addrs),
            }
        })
    }
}

/// A name that leads nowhere but to private addresses.
#[derive(Debug)]
struct Private(String);

impl fmt::Display for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Private {}

/// What our resolver refused, if that is why a request failed.
pub(super) fn refusal(error: &reqwest::Error) -> Option<String> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(Private(text)) = error.downcast_ref() {
            return Some(text.clone());
        }
        cause = error.source();
    }
    None
}
