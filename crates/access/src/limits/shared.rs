//! Limits counted by all replicas together: what [`super::local`] does, asked of [`SharedWindows`].

use std::net::IpAddr;

use base::seams::SeamError;
use bus::windows::{
    SharedBlock, SharedOutcome, SharedPermit, SharedPlaces, SharedReading, SharedRequest, SharedWindow,
    SharedWindows,
};

use super::judge::Judge;
use super::quota::{Quota, Refusal};
use super::rules::{Measure, Rule, Rules, Scope, Span};
use super::subjects::{Applicable, ip_id};
use super::window::{Reading, Wait};

type Verdict = Result<(SharedPermit, Quota), Refusal>;

/// Charges a request, or says why not; the error is that it cannot be said.
pub(crate) async fn admit(
    shared: &dyn SharedWindows,
    applicable: &Applicable<'_>,
    admin: bool,
    tokens: u64,
) -> Result<Verdict, SeamError> {
    let mut request = SharedRequest::default();
    for (scope, id, rules) in subjects(applicable) {
        let name = subject(scope, id, admin);
        let blocks = scope == Scope::Ip && rules.block_ms > 0;
        request.windows.extend(rules.iter().map(|rule| window(&name, rule, tokens, blocks)));
        request.places.extend(rules.concurrent.map(|max| SharedPlaces { key: format!("c:{name}"), max }));
        if blocks {
            request.block = Some(SharedBlock { key: format!("b:{name}"), millis: rules.block_ms });
        }
    }
    let block_ms = request.block.as_ref().map_or(0, |block| block.millis);
    Ok(match shared.admit(request).await? {
        SharedOutcome::Blocked { millis } => Err(Judge::blocked(millis)),
        SharedOutcome::Admitted { readings, permit } => {
            judge(applicable, tokens, &readings, &[]).finish(0, Quota::default).map(|quota| (permit, quota))
        }
        SharedOutcome::Refused { readings, in_use } => {
            let judge = judge(applicable, tokens, &readings, &in_use);
            let block_ms = if judge.blocks() { block_ms } else { 0 };
            let refusal = judge.finish(block_ms, || standing(applicable, &readings));
            // Refused by the backend and by nothing we see: its word counts.
            Err(refusal.err().unwrap_or_else(|| Judge::blocked(1_000)))
        }
    })
}

/// The keys of the blocks that an address can have.
pub(crate) fn block_keys(ip: IpAddr) -> [String; 2] {
    [false, true].map(|admin| format!("b:{}", subject(Scope::Ip, ip_id(ip), admin)))
}

fn subjects<'a>(applicable: &Applicable<'a>) -> impl Iterator<Item = (Scope, u128, &'a Rules)> {
    let both = Scope::ALL.into_iter().zip(applicable);
    both.filter_map(|(scope, applies)| applies.map(|(id, rules)| (scope, id, rules)))
}

fn subject(scope: Scope, id: u128, admin: bool) -> String {
    let admin = if admin { "-admin" } else { "" };
    format!("{}{admin}:{id:x}", scope.as_str())
}

fn window(name: &str, rule: &Rule, tokens: u64, blocks: bool) -> SharedWindow {
    let measure = match rule.measure {
        Measure::Requests => 'r',
        Measure::Tokens => 't',
    };
    let span = match rule.span {
        Span::Second => "s".to_owned(),
        Span::Minute => "m".to_owned(),
        Span::Hour => "h".to_owned(),
        Span::Day => "d".to_owned(),
        Span::Other(millis) => millis.to_string(),
    };
    SharedWindow {
        key: format!("w:{name}:{measure}{span}"),
        slot_ms: rule.shape.slot_ms,
        slots: rule.shape.slots,
        max: rule.max,
        amount: rule.amount(tokens),
        estimate: rule.measure == Measure::Tokens,
        blocks: blocks && rule.measure == Measure::Requests,
    }
}

fn judge(applicable: &Applicable<'_>, tokens: u64, readings: &[SharedReading], in_use: &[u64]) -> Judge {
    let mut judge = Judge::default();
    let (mut readings, mut in_use) = (readings.iter(), in_use.iter());
    for (scope, _, rules) in subjects(applicable) {
        for (rule, reading) in rules.iter().zip(&mut readings) {
            judge.window(scope, rule, reading_of(reading), rule.amount(tokens));
        }
        if let Some(limit) = rules.concurrent
            && let Some(in_use) = in_use.next()
        {
            judge.concurrent(scope, limit, *in_use);
        }
    }
    judge
}

fn standing(applicable: &Applicable<'_>, readings: &[SharedReading]) -> Quota {
    let mut quota = Quota::default();
    let mut readings = readings.iter();
    for (scope, _, rules) in subjects(applicable) {
        for (rule, reading) in rules.iter().zip(&mut readings) {
            quota.add(scope, rule, &reading_of(reading), 0);
        }
    }
    quota
}

fn reading_of(reading: &SharedReading) -> Reading {
    Reading {
        used: reading.used,
        wait: match reading.wait_ms {
            Some(0) => Wait::None,
            Some(millis) => Wait::Millis(millis),
            None => Wait::Forever,
        },
        frees_ms: reading.frees_ms,
        full_ms: reading.full_ms,
        fresh_ms: reading.fresh_ms,
    }
}

#[cfg(test)]
mod tests;
