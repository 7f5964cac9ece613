//! Lists: putting vCons in, taking them out, and what lies in dead letters.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use base::seams::Which;
use conversations::vcon::is_uuid;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Asked, Needs, Refusal, Shares, json_response, no_content, serve};

/// The most uuids in one body.
const MAX_UUIDS: usize = 100_000;
/// Dead letters looked at in one step.
const STEP: usize = 1_000;
/// The most dead letters that are listed.
const MAX_DEAD: usize = 100_000;

/// `POST /vcon/ingress`: puts vCons that are known into a list.
pub(in crate::routes) async fn ingress(State(app): Shares, request: Request) -> Response {
    serve(app, request, Needs::Write, |mut asked| async move {
        let list = asked.query.list("ingress_list")?;
        let body = asked.body().await?;
        let uuids: Vec<Value> = serde_json::from_slice(&body).map_err(|_| {
            Refusal::input(vec![
                json!({"type": "list_type", "loc": ["body"], "msg": "Input should be a valid list",
                "input": null}),
            ])
        })?;
        if uuids.len() > MAX_UUIDS {
            let text = format!("At most {MAX_UUIDS} vCons at once");
            return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, text));
        }
        let mut wanted = Vec::with_capacity(uuids.len());
        for (index, uuid) in uuids.iter().enumerate() {
            match uuid.as_str().filter(|uuid| is_uuid(uuid)) {
                Some(uuid) => wanted.push(uuid.to_ascii_lowercase()),
                None => {
                    let error = json!({"type": "uuid_parsing", "loc": ["body", index],
                        "msg": "Input should be a valid UUID", "input": uuid});
                    return Err(Refusal::input(vec![error]));
                }
            }
        }
        let done = asked.there(move |c| async move { c.enqueue(&list, &wanted).await }).await?;
        done.map_err(|error| Refusal::seam(&error, "Failed to add to ingress list"))?;
        Ok(no_content())
    })
    .await
}

/// `GET /vcon/egress`: takes uuids off a list, the oldest first. With `lease=SECONDS` they are lent: each comes with a
/// receipt, and comes again unless it is settled in time.
pub(in crate::routes) async fn egress(State(app): Shares, request: Request) -> Response {
    serve(app, request, Needs::Write, |asked| async move {
        let list = asked.query.list("egress_list")?;
        let limit = asked.query.between("limit", 1, 0, 1_000)?.unsigned_abs() as usize;
        let failed = "Failed to pop from egress list";
        if asked.query.text("lease").is_some() {
            let lease = Duration::from_secs(asked.query.between("lease", 60, 1, 86_400)?.unsigned_abs());
            let lent = asked.there(move |c| async move { c.lend(&list, limit, lease).await }).await?;
            let lent = lent.map_err(|error| Refusal::seam(&error, failed))?;
            let all: Vec<Value> =
                lent.iter().map(|(uuid, receipt)| json!({"uuid": uuid, "receipt": receipt})).collect();
            return Ok(json_response(StatusCode::OK, &Value::Array(all)));
        }
        let taken = asked.there(move |c| async move { c.pop(&list, limit).await }).await?;
        let taken = taken.map_err(|error| Refusal::seam(&error, failed))?;
        Ok(json_response(StatusCode::OK, &json!(taken)))
    })
    .await
}

#[derive(Deserialize)]
struct Settle {
    receipts: Vec<String>,
    #[serde(default = "yes")]
    done: bool,
}

fn yes() -> bool {
    true
}

/// `POST /vcon/egress/settle`: what was lent is done, or (`"done": false`) comes again at once.
pub(in crate::routes) async fn settle(State(app): Shares, request: Request) -> Response {
    serve(app, request, Needs::Write, |mut asked| async move {
        let list = asked.query.list("egress_list")?;
        let body = asked.body().await?;
        let settle: Settle = serde_json::from_slice(&body).map_err(|error| {
            Refusal::input(vec![json!({"type": "value_error", "loc": ["body"], "msg": error.to_string(),
                "input": null})])
        })?;
        if settle.receipts.len() > STEP {
            return Err(Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("At most {STEP} receipts at once"),
            ));
        }
        let done = asked.there(move |c| async move {
            let mut lost = Vec::new();
            for receipt in settle.receipts {
                match c.settle(&list, &receipt, settle.done).await {
                    Ok(()) => {}
                    Err(base::seams::SeamError::LeaseLost { .. } | base::seams::SeamError::Invalid(_)) => {
                        lost.push(receipt);
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(lost)
        });
        let lost = done.await?.map_err(|error| Refusal::seam(&error, "Failed to settle"))?;
        // Those whose time was over: they come, or came, again.
        Ok(json_response(StatusCode::OK, &json!({"lost": lost})))
    })
    .await
}

/// `GET /vcon/count`: how many vCons wait in a list.
pub(in crate::routes) async fn count(State(app): Shares, request: Request) -> Response {
    serve(app, request, Needs::Read, |asked| async move {
        let list = asked.query.list("egress_list")?;
        Ok(json_response(StatusCode::OK, &Value::from(depth(&asked, list).await?)))
    })
    .await
}

/// `GET /stats/queue`: the same, for anyone.
pub(in crate::routes) async fn stats(State(app): Shares, request: Request) -> Response {
    serve(app, request, Needs::Nothing, |asked| async move {
        let list = asked.query.list("list_name")?;
        let depth = depth(&asked, list.clone()).await?;
        Ok(json_response(StatusCode::OK, &json!({"list_name": list, "depth": depth})))
    })
    .await
}

async fn depth(asked: &Asked, list: String) -> Result<u64, Refusal> {
    // The names under which the Conserver keeps dead letters show how many there are.
    let dead = list.strip_prefix("DLQ:").or_else(|| list.strip_suffix(":dlq")).map(str::to_owned);
    let depth = asked.there(move |c| async move {
        match dead {
            Some(of) => c.dead_depth(&of).await,
            None => c.depth(&list).await,
        }
    });
    depth.await?.map_err(|error| Refusal::seam(&error, "Failed to get queue depth"))
}

/// `GET /dlq`: the uuids of dead letters; with `detail=true` each with its reason.
pub(in crate::routes) async fn dead(State(app): Shares, request: Request) -> Response {
    serve(app, request, Needs::Read, |asked| async move {
        let list = asked.query.list("ingress_list")?;
        let detail = asked.query.flag("detail");
        let skip = asked.query.between("skip", 0, 0, i64::MAX)?.unsigned_abs();
        let limit =
            asked.query.between("limit", MAX_DEAD as i64, 0, MAX_DEAD as i64)?.unsigned_abs() as usize;
        let letters = asked.there(move |c| async move {
            let mut all: Vec<base::seams::DeadLetter> = Vec::new();
            loop {
                let step = STEP.min(limit - all.len());
                if step == 0 {
                    return Ok(all);
                }
                let some = c.dead(&list, skip + all.len() as u64, step).await?;
                if some.is_empty() {
                    return Ok::<_, base::seams::SeamError>(all);
                }
                all.extend(some);
            }
        });
        let letters = letters.await?.map_err(|error| Refusal::seam(&error, "Failed to read DLQ"))?;
        let shown = letters.iter().map(|letter| {
            let uuid = String::from_utf8_lossy(&letter.body);
            match detail {
                false => Value::from(uuid),
                true => json!({
                    "uuid": uuid, "id": letter.id, "reason": letter.reason, "attempts": letter.attempts,
                    "link": step_of(&letter.reason, "link "), "storage": step_of(&letter.reason, "storage "),
                    "enqueued_at": letter.enqueued_at, "died_at": letter.died_at,
                }),
            }
        });
        Ok(json_response(StatusCode::OK, &shown.collect()))
    })
    .await
}

/// The link or storage that a reason begins with.
fn step_of<'r>(reason: &'r str, kind: &str) -> Option<&'r str> {
    Some(reason.strip_prefix(kind)?.split_once(": ")?.0)
}

/// Which dead letters are asked for: those of these uuids, or the oldest.
async fn which(asked: &Asked, list: &str, default: Option<i64>) -> Result<Which, Refusal> {
    let uuids = asked.query.all("uuid");
    if uuids.is_empty() {
        return match (default, asked.query.text("count")) {
            (None, None) => Ok(Which::All),
            (default, _) => {
                let count = asked.query.between("count", default.unwrap_or(1_000), 1, 100_000)?;
                Ok(Which::Oldest(count.unsigned_abs()))
            }
        };
    }
    let list = list.to_owned();
    let ids = asked.there(move |c| async move {
        let (mut ids, mut skip) = (Vec::new(), 0);
        loop {
            let some = c.dead(&list, skip, STEP).await?;
            if some.is_empty() {
                return Ok::<_, base::seams::SeamError>(ids);
            }
            skip += some.len() as u64;
            let wanted = |letter: &base::seams::DeadLetter| {
                uuids.iter().any(|uuid| uuid.as_bytes() == &letter.body[..])
            };
            ids.extend(some.into_iter().filter(wanted).map(|letter| letter.id));
        }
    });
    Ok(Which::Ids(ids.await?.map_err(|error| Refusal::seam(&error, "Failed to read DLQ"))?))
}

/// `POST /dlq/reprocess`: puts dead letters back into their list; how many.
pub(in crate::routes) async fn reprocess(State(app): Shares, request: Request) -> Response {
    serve(app, request, Needs::Write, |asked| async move {
        let list = asked.query.list("ingress_list")?;
        let which = which(&asked, &list, Some(1_000)).await?;
        let moved = asked.there(move |c| async move { c.replay(&list, &which).await }).await?;
        let moved = moved.map_err(|error| Refusal::seam(&error, "Failed to reprocess DLQ"))?;
        Ok(json_response(StatusCode::OK, &Value::from(moved)))
    })
    .await
}

/// `POST /dlq/purge`: forgets dead letters; how many.
pub(in crate::routes) async fn purge(State(app): Shares, request: Request) -> Response {
    serve(app, request, Needs::Write, |asked| async move {
        let list = asked.query.list("ingress_list")?;
        let which = which(&asked, &list, None).await?;
        let gone = asked.there(move |c| async move { c.purge_dead(&list, &which).await }).await?;
        let gone = gone.map_err(|error| Refusal::seam(&error, "Failed to purge DLQ"))?;
        Ok(json_response(StatusCode::OK, &Value::from(gone)))
    })
    .await
}
