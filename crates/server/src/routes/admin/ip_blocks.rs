//! Addresses that nobody is let in from for a time: after too many wrong keys, too many requests, or by hand.

use std::net::IpAddr;

use access::Block;
use base::Duration;
use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::{Body, Call, Created, Done, Json, Nothing, Refusal, Resource, Route, Text, Time};

/// The longest that an address can be blocked by hand.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

pub(super) fn routes() -> Vec<Route> {
    let (all, one) = ("/api/ip-blocks", "/api/ip-blocks/{ip}");
    vec![
        Route::new(
            Method::GET,
            all,
            "ip.blocks",
            "Lists the addresses that this replica lets nobody in from for a time, the longest first.",
            list,
        ),
        Route::new(Method::POST, all, "ip.block", "Lets nobody in from an address for a time.", block)
            .idempotent(),
        Route::new(Method::DELETE, one, "ip.lift", "Lets an address in again, on every replica.", lift),
    ]
}

/// An address that nobody is let in from for a time.
#[derive(Debug, Serialize, JsonSchema)]
struct IpBlock {
    /// The address, or the first of its /64 network.
    ip: IpAddr,
    until: Time,
    reason: String,
}

impl From<Block> for IpBlock {
    fn from(block: Block) -> Self {
        IpBlock { ip: block.ip, until: Time(block.until_ms), reason: block.reason }
    }
}

impl Resource for IpBlock {
    const VERSIONED: bool = false;

    fn path(&self) -> String {
        format!("ip-blocks/{}", self.ip)
    }

    fn version(&self) -> Option<i64> {
        None
    }
}

/// The addresses.
#[derive(Debug, Serialize, JsonSchema)]
struct IpBlocks {
    data: Vec<IpBlock>,
}

async fn list(call: Call) -> Result<Json<IpBlocks>, Refusal> {
    let blocks = call.shared.access.door().blocks();
    Ok(Json(IpBlocks { data: blocks.into_iter().map(IpBlock::from).collect() }))
}

/// Whom to keep out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewIpBlock {
    /// An address; of IPv6 its /64 network is meant.
    ip: IpAddr,
    /// For how long, as `1h`.
    #[serde(rename = "for")]
    duration: Duration,
    reason: Option<Text<0, 200>>,
}

async fn block(call: Call<Nothing, Nothing, Body<NewIpBlock>>) -> Result<Created<IpBlock>, Refusal> {
    let Body(NewIpBlock { ip, duration, reason }) = call.body;
    if duration > LONGEST || duration.0.is_zero() {
        return Err(Refusal::invalid(
            "for",
            format!("`for`: expected more than nothing, at most {LONGEST}."),
        ));
    }
    let access = &call.shared.access;
    let reason = reason.map_or_else(|| "blocked by hand".to_owned(), Text::into_inner);
    let ban = access.door().bans().block(ip, duration.0, &reason);
    access.tell_ban(&ban).await;
    Ok(Created(IpBlock { ip: ban.ip, until: Time(ban.until_ms), reason: ban.reason }))
}

/// `{ip}` in a path.
#[derive(Debug, Deserialize, JsonSchema)]
struct IpPath {
    /// An address.
    ip: IpAddr,
}

async fn lift(call: Call<IpPath>) -> Result<Done, Refusal> {
    match call.shared.access.lift(call.path.ip).await {
        true => Ok(Done),
        false => Err(Refusal::not_found(format!("{} is not blocked on this replica.", call.path.ip))),
    }
}
