//! Followers: other Conservers whose egress lists are taken from.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::config::Follower;
use crate::pipeline::Core;
use crate::plan::seconds;

/// How long one answer of the other may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest vCon that is taken, in bytes.
const MAX: usize = 64 << 20;

/// Follows all that are configured, until told to stop. What fails is told and tried again at the next turn.
pub(crate) async fn follow(core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    let mut next: HashMap<String, Instant> = HashMap::new();
    loop {
        let plan = core.plan.load_full();
        for (name, follower) in plan.sections.followers.iter() {
            let now = Instant::now();
            if next.get(name).is_some_and(|next| *next > now) {
                continue;
            }
            let interval = seconds(follower.pulling_interval).unwrap_or(Duration::from_secs(60));
            next.insert(name.to_owned(), now + interval);
            if let Err(error) = pull(&core, follower).await {
                tracing::warn!(follower = name, error, "a follower got nothing; it tries again");
            }
        }
        tokio::select! {
            stopped = stop.wait_for(|stop| *stop) => {
                drop(stopped);
                return;
            }
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
    }
}

async fn pull(core: &Core, follower: &Follower) -> Result<(), String> {
    let base = follower.url.trim_end_matches('/');
    let limit = follower.fetch_vcon_limit.max(1).to_string();
    let url = reqwest::Url::parse_with_params(
        &format!("{base}/vcon/egress"),
        &[("egress_list", follower.egress_list.as_str()), ("limit", &limit)],
    )
    .map_err(|_| "its `url` is no URL".to_owned())?;
    let uuids: Vec<String> = serde_json::from_slice(&fetch(core, follower, url).await?)
        .map_err(|_| "its egress list is no list of uuids".to_owned())?;
    for uuid in uuids {
        // It is off the other's list now: it is asked for until it is here.
        let url = reqwest::Url::parse(&format!("{base}/vcon/{uuid}"))
            .map_err(|_| "its `url` is no URL".to_owned())?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let taken = match fetch(core, follower, url.clone()).await {
                Ok(text) => core.take_in(text, &follower.follower_ingress_list).await,
                Err(error) => Err(error),
            };
            match taken {
                Ok(()) => break,
                Err(error) if attempts >= 5 => {
                    tracing::error!(
                        vcon_uuid = uuid,
                        error,
                        "a vCon that is off the other's list did not arrive"
                    );
                    break;
                }
                Err(_) => tokio::time::sleep(Duration::from_secs(1 << attempts)).await,
            }
        }
    }
    Ok(())
}

async fn fetch(core: &Core, follower: &Follower, url: reqwest::Url) -> Result<bytes::Bytes, String> {
    let mut request = core.environment.load().http.get(url).timeout(TIMEOUT);
    if let Some(token) = &follower.auth_token {
        request = request.header("x-conserver-api-token", token.expose());
    }
    let failed = |error: reqwest::Error| error.without_url().to_string();
    let mut response = request.send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
    let mut all = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(failed)? {
        if all.len() + piece.len() > MAX {
            return Err("its answer is too large".into());
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.into())
}
