//! The sixteen faults, each with one target and with a fallback, streamed and not.

use testkit::Fault;

use super::case::{Case, Setting, play};

/// All four ways to meet a fault, at the same time.
async fn suite(fault: Fault) {
    let case = |setting, stream| play(Case { fault, setting, stream });
    tokio::join!(
        case(Setting::One, false),
        case(Setting::One, true),
        case(Setting::Fallback, false),
        case(Setting::Fallback, true),
    );
}

#[tokio::test]
async fn a_429_with_retry_after() {
    suite(Fault::RateLimitedOnce).await;
}

#[tokio::test]
async fn a_persistent_429() {
    suite(Fault::RateLimited).await;
}

#[tokio::test]
async fn one_500() {
    suite(Fault::ServerErrorOnce).await;
}

#[tokio::test]
async fn a_503() {
    suite(Fault::Unavailable).await;
}

#[tokio::test]
async fn a_connection_reset() {
    suite(Fault::Reset).await;
}

#[tokio::test]
async fn no_response() {
    suite(Fault::NoResponse).await;
}

#[tokio::test]
async fn a_slow_first_token() {
    suite(Fault::SlowFirstToken).await;
}

#[tokio::test]
async fn a_stream_cut_early() {
    suite(Fault::CutEarly).await;
}

#[tokio::test]
async fn a_stream_cut_late() {
    suite(Fault::CutLate).await;
}

#[tokio::test]
async fn a_stall() {
    suite(Fault::Stall).await;
}

#[tokio::test]
async fn a_malformed_chunk() {
    suite(Fault::MalformedChunk).await;
}

#[tokio::test]
async fn a_missing_done() {
    suite(Fault::MissingDone).await;
}

#[tokio::test]
async fn a_context_overflow() {
    suite(Fault::ContextOverflow).await;
}

#[tokio::test]
async fn a_content_filter() {
    suite(Fault::ContentFilter).await;
}

#[tokio::test]
async fn a_flapping_upstream() {
    suite(Fault::Flapping).await;
}

#[tokio::test]
async fn a_client_that_goes_away() {
    suite(Fault::ClientGone).await;
}
