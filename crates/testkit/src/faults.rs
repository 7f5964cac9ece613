//! The faults that a gateway must survive, by name.

use std::time::Duration;

use crate::behaviour::{Behaviour, Cut};

/// How long the first token of [`Fault::SlowFirstToken`] takes.
const SLOW: Duration = Duration::from_secs(20);

/// A fault of the suite. The first sixteen are the suite proper; the others are its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// One 429 with `Retry-After: 1`, then good.
    RateLimitedOnce,
    /// 429 with `Retry-After: 1`, always.
    RateLimited,
    /// One 500, then good.
    ServerErrorOnce,
    /// 503, always.
    Unavailable,
    /// One connection reset before any byte, then good.
    Reset,
    /// No answer, always.
    NoResponse,
    /// The role at once, the first token after 20 s; always.
    SlowFirstToken,
    /// One stream closed before its first content token, then good.
    CutEarly,
    /// One stream closed after three content tokens, then good.
    CutLate,
    /// One stream silent after two content tokens, then good.
    Stall,
    /// One stream with broken JSON after two content tokens, then good.
    MalformedChunk,
    /// One stream with its finish reason but no `[DONE]`, then good.
    MissingDone,
    /// 400 `context_length_exceeded`, always.
    ContextOverflow,
    /// 400 `content_filter`, always.
    ContentFilter,
    /// Failing and good in turn: 503, reset, 500.
    Flapping,
    /// Good, but silent after the first content token, so that the client can leave within the answer.
    ClientGone,
    /// One stream reset after three content tokens, then good.
    ResetLate,
    /// One stream whose body ends properly after three content tokens with no finish reason, then good.
    EndWithoutFinish,
    /// One stream with an error event before its first content token, then good.
    ErrorEventEarly,
    /// One stream with an error event after three content tokens, then good.
    ErrorEventLate,
    /// One answer shorter than its `content-length`, then good.
    TruncatedBody,
    /// One 502 with an HTML page, then good.
    HtmlError,
    /// One 200 whose body is not JSON, then good.
    NotJson,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Fault; 23] = [
        Fault::RateLimitedOnce,
        Fault::RateLimited,
        Fault::ServerErrorOnce,
        Fault::Unavailable,
        Fault::Reset,
        Fault::NoResponse,
        Fault::SlowFirstToken,
        Fault::CutEarly,
        Fault::CutLate,
        Fault::Stall,
        Fault::MalformedChunk,
        Fault::MissingDone,
        Fault::ContextOverflow,
        Fault::ContentFilter,
        Fault::Flapping,
        Fault::ClientGone,
        Fault::ResetLate,
        Fault::EndWithoutFinish,
        Fault::ErrorEventEarly,
        Fault::ErrorEventLate,
        Fault::TruncatedBody,
        Fault::HtmlError,
        Fault::NotJson,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Fault::RateLimitedOnce => "429 with Retry-After",
            Fault::RateLimited => "persistent 429",
            Fault::ServerErrorOnce => "one 500",
            Fault::Unavailable => "503",
            Fault::Reset => "connection reset",
            Fault::NoResponse => "no response",
            Fault::SlowFirstToken => "slow first token",
            Fault::CutEarly => "stream cut early",
            Fault::CutLate => "stream cut late",
            Fault::Stall => "stall",
            Fault::MalformedChunk => "malformed chunk",
            Fault::MissingDone => "missing [DONE]",
            Fault::ContextOverflow => "context overflow",
            Fault::ContentFilter => "content filter",
            Fault::Flapping => "flapping upstream",
            Fault::ClientGone => "client gone",
            Fault::ResetLate => "stream reset late",
            Fault::EndWithoutFinish => "stream ends without finish",
            Fault::ErrorEventEarly => "error event early",
            Fault::ErrorEventLate => "error event late",
            Fault::TruncatedBody => "truncated body",
            Fault::HtmlError => "HTML error page",
            Fault::NotJson => "body is not JSON",
        }
    }

    /// The faulty behaviour itself, once.
    pub fn behaviour(self) -> Behaviour {
        match self {
            Fault::RateLimitedOnce | Fault::RateLimited => Behaviour::rate_limited("1"),
            Fault::ServerErrorOnce => Behaviour::error(500, None),
            Fault::Unavailable | Fault::Flapping => Behaviour::error(503, None),
            Fault::Reset => Behaviour::reset(),
            Fault::NoResponse => Behaviour::no_response(),
            Fault::SlowFirstToken => Behaviour::slow_first_token(SLOW),
            Fault::CutEarly => Behaviour::cut_early(),
            Fault::CutLate => Behaviour::cut_late(),
            Fault::Stall => Behaviour::stall_after_events(3),
            Fault::MalformedChunk => Behaviour::malformed_chunk_after(3),
            Fault::MissingDone => Behaviour::missing_done(),
            Fault::ContextOverflow => Behaviour::context_overflow(),
            Fault::ContentFilter => Behaviour::content_filter_refusal(),
            Fault::ClientGone => Behaviour::stall_after_events(2),
            Fault::ResetLate => Behaviour::cut_after_events(4, Cut::Reset),
            Fault::EndWithoutFinish => Behaviour::cut_after_events(4, Cut::ChunkedEnd),
            Fault::ErrorEventEarly => Behaviour::error_event_after(1),
            Fault::ErrorEventLate => Behaviour::error_event_after(4),
            Fault::TruncatedBody => Behaviour::truncated_body(),
            Fault::HtmlError => Behaviour::html_error(502),
            Fault::NotJson => Behaviour::not_json(),
        }
    }

    /// What to give [`Upstream::script`](crate::Upstream::script) and
    /// [`Upstream::set_default`](crate::Upstream::set_default): the behaviours in turn, and the one after them.
    pub fn script(self) -> (Vec<Behaviour>, Behaviour) {
        match self {
            Fault::RateLimited
            | Fault::Unavailable
            | Fault::NoResponse
            | Fault::SlowFirstToken
            | Fault::ContextOverflow
            | Fault::ContentFilter => (Vec::new(), self.behaviour()),
            Fault::Flapping => {
                let down = [self.behaviour(), Behaviour::reset(), Behaviour::error(500, None)];
                (down.into_iter().flat_map(|fault| [fault, Behaviour::ok()]).collect(), Behaviour::ok())
            }
            _ => (vec![self.behaviour()], Behaviour::ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::ask::Ask;

    #[test]
    fn every_fault_is_listed_once_under_a_name_of_its_own() {
        let faults: HashSet<Fault> = Fault::ALL.into_iter().collect();
        let names: HashSet<&str> = Fault::ALL.into_iter().map(Fault::name).collect();
        assert_eq!((faults.len(), names.len()), (Fault::ALL.len(), Fault::ALL.len()));
        // The last variant closes the list: a new one must be added to it.
        assert_eq!(Fault::NotJson as usize + 1, Fault::ALL.len());
    }

    #[test]
    fn every_script_has_its_fault_and_no_fault_is_a_good_answer() {
        let good = Behaviour::ok().reply(&Ask::chat_stream(true));
        for fault in Fault::ALL {
            let faulty = fault.behaviour().reply(&Ask::chat_stream(true));
            assert_ne!(faulty, good, "{fault:?}");
            let (script, after) = fault.script();
            let first = script.first().unwrap_or(&after);
            assert_eq!(first.reply(&Ask::chat_stream(true)), faulty, "{fault:?}");
        }
    }

    #[test]
    fn flapping_ends_well() {
        let (script, after) = Fault::Flapping.script();
        let statuses: Vec<u16> =
            script.iter().map(|behaviour| behaviour.reply(&Ask::chat()).status).collect();
        assert_eq!(statuses, [503, 200, 0, 200, 500, 200]);
        assert_eq!(after.name(), "ok");
    }
}
