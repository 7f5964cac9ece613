use std::sync::Mutex;
use std::thread;

use async_trait::async_trait;
use base::Kind;
use base::seams::SeamError;
use bus::windows::{Settle, SharedOutcome, SharedReading, SharedRequest};

use super::super::clock::ManualClock;
use super::super::rules::{Measure, Span};
use super::super::settings::Limits;
use super::*;

fn limiter(json: &str) -> (Arc<Limiter>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let settings: LimitSettings = serde_json::from_str(json).unwrap();
    (Arc::new(Limiter::with_clock(settings, None, clock.clone()).unwrap()), clock)
}

fn limits(json: &str) -> Limits {
    serde_json::from_str(json).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn user(name: &str) -> Subjects<'_> {
    Subjects { user: Some(name), key: Some(1), ..Subjects::default() }
}

fn with<'a>(id: i64, own: &'a Limits) -> Subjects<'a> {
    Subjects { key_limits: Some(own), ..key(id) }
}

fn key<'a>(id: i64) -> Subjects<'a> {
    Subjects { key: Some(id), ..Subjects::default() }
}

/// How many of `tries` are admitted; their permits are dropped.
fn admitted(limiter: &Limiter, subjects: &Subjects<'_>, tries: usize) -> usize {
    (0..tries).filter(|_| limiter.admit_local(subjects, 0).is_ok()).count()
}

fn refusal(limiter: &Limiter, subjects: &Subjects<'_>) -> Refusal {
    limiter.admit_local(subjects, 0).unwrap_err()
}

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// The guide's `rateLimiting`, with its names.
const RODGER: &str = r#"{
    "global": {"rpm": 1000, "rph": 50000, "rpd": 1000000},
    "perUser": {"rpm": 60, "burst": 10},
    "perIP": {"rpm": 100, "blockDuration": "1h"}
}"#;

fn window(measure: Measure, span: Span, limit: u64) -> Exceeded {
    Exceeded::Window { measure, span, limit }
}

/// Mutations: a burst of 11; a window without its extra slot.
#[test]
fn promise_r07_a_user_has_60_a_minute_in_bursts_of_10() {
    let (limiter, clock) = limiter(RODGER);
    let anna = user("anna");
    assert_eq!(admitted(&limiter, &anna, 50), 10);
    let burst = refusal(&limiter, &anna);
    assert_eq!(burst.exceeded, window(Measure::Requests, Span::Second, 10));
    assert_eq!((burst.scope, burst.retry_after_secs()), (Scope::User, Some(2)));
    assert_eq!(admitted(&limiter, &user("bert"), 50), 10, "another user has their own");
    for _ in 0..5 {
        clock.advance(Duration::from_millis(1_001));
        assert_eq!(admitted(&limiter, &anna, 50), 10);
    }
    clock.advance(secs(10));
    let minute = refusal(&limiter, &anna);
    assert_eq!(minute.exceeded, window(Measure::Requests, Span::Minute, 60));
    clock.advance(minute.retry_after.unwrap() - Duration::from_millis(1));
    assert!(limiter.admit_local(&anna, 0).is_err());
    clock.advance(Duration::from_millis(1));
    assert_eq!(admitted(&limiter, &anna, 50), 10, "the first ten are a minute old");
}

/// Mutation: `blocked_until_ms` never set.
#[test]
fn promise_r07_an_address_has_100_a_minute_and_is_blocked_for_an_hour() {
    let (limiter, clock) = limiter(RODGER);
    let address = Subjects::address(ip("203.0.113.7"));
    assert_eq!(admitted(&limiter, &address, 100), 100);
    let first = refusal(&limiter, &address);
    assert_eq!((first.scope, first.exceeded), (Scope::Ip, window(Measure::Requests, Span::Minute, 100)));
    assert_eq!(first.retry_after, Some(secs(3_600)));
    for _ in 0..59 {
        clock.advance(secs(60));
        assert_eq!(refusal(&limiter, &address).exceeded, Exceeded::Blocked, "whatever it does");
    }
    clock.advance(secs(59));
    assert_eq!(refusal(&limiter, &address).retry_after_secs(), Some(1));
    assert_eq!(
        admitted(&limiter, &Subjects::address(ip("203.0.113.8")), 1),
        1,
        "its neighbour is not blocked"
    );
    clock.advance(secs(1));
    assert_eq!(admitted(&limiter, &address, 200), 100, "after an hour it may again, and is blocked again");
    assert_eq!(refusal(&limiter, &address).exceeded, Exceeded::Blocked);
}

/// Mutation: `max` one higher in `Window::wait`.
#[test]
fn promise_r07_everybody_has_1000_a_minute_50000_an_hour_a_million_a_day() {
    let (limiter, clock) = limiter(RODGER);
    let everybody = Subjects { global: true, ..Subjects::default() };
    for hour in 0..20 {
        let mut in_the_hour = 0;
        for minute in 0..55 {
            let now = admitted(&limiter, &everybody, 1_001);
            assert!(now == 1_000 || minute >= 50, "{now} in minute {minute}");
            in_the_hour += now;
            clock.advance(secs(61));
        }
        assert_eq!(in_the_hour, 50_000, "hour {hour}");
        let (span, limit) = if hour < 19 { (Span::Hour, 50_000) } else { (Span::Day, 1_000_000) };
        assert_eq!(refusal(&limiter, &everybody).exceeded, window(Measure::Requests, span, limit));
        clock.advance(secs(3_660 - 55 * 61));
    }
    clock.advance(secs(3 * 3_600));
    assert_eq!(admitted(&limiter, &everybody, 10), 0, "23 hours after the first");
    clock.advance(secs(2 * 3_600));
    assert_eq!(admitted(&limiter, &everybody, 10), 10);
}

/// Mutation: checking and charging one subject after the other admits fewer for the second key here.
#[test]
fn exactly_n_of_many_threads_are_admitted() {
    let (limiter, _) =
        limiter(r#"{"global": {"rpm": 500}, "per_key": {"rpm": 300}, "per_group": {"rph": 1000}}"#);
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let limiter = Arc::clone(&limiter);
            thread::spawn(move || {
                let subjects =
                    Subjects { key: Some(thread % 2), group: Some(9), global: true, ..Subjects::default() };
                admitted(&limiter, &subjects, 400)
            })
        })
        .collect();
    let total: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(total, 500);
}

#[test]
fn what_is_refused_costs_nothing() {
    let (limiter, clock) = limiter(r#"{"global": {"rpm": 5}, "per_key": {"rpm": 2}}"#);
    let first = Subjects { global: true, ..key(1) };
    let second = Subjects { global: true, ..key(2) };
    assert_eq!(admitted(&limiter, &first, 100), 2);
    assert_eq!(admitted(&limiter, &second, 100), 2);
    assert_eq!(
        admitted(&limiter, &Subjects { global: true, ..key(3) }, 100),
        1,
        "98 refusals took nothing of 5"
    );
    let refused = refusal(&limiter, &Subjects { global: true, ..key(3) });
    assert_eq!(refused.scope, Scope::Global, "its own key has one left");
    clock.advance(secs(61));
    assert_eq!(admitted(&limiter, &first, 100), 2);
}

#[test]
fn the_wait_that_is_told_is_the_longest() {
    let (limiter, clock) = limiter(r#"{"global": {"rph": 1}, "per_key": {"rpm": 1}}"#);
    let subjects = Subjects { global: true, ..key(1) };
    assert_eq!(admitted(&limiter, &subjects, 2), 1);
    let refused = refusal(&limiter, &subjects);
    assert_eq!(refused.scope, Scope::Global);
    clock.advance(refused.retry_after.unwrap());
    assert_eq!(admitted(&limiter, &subjects, 2), 1);
}

#[test]
fn tokens_are_estimated_then_corrected() {
    let (limiter, clock) = limiter(r#"{"per_key": {"tpm": 1000, "rpm": 100}}"#);
    let mut permit = limiter.admit_local(&key(1), 600).unwrap();
    let tokens = permit.quota().tokens.unwrap();
    assert_eq!((tokens.limit, tokens.remaining), (1_000, 400));
    let refused = limiter.admit_local(&key(1), 500).unwrap_err();
    assert_eq!(refused.code(), "tokens_exceeded");
    permit.correct(100);
    assert!(limiter.admit_local(&key(1), 500).is_ok(), "what was not used is there again");
    let mut over = limiter.admit_local(&key(1), 400).unwrap();
    over.correct(2_000);
    drop(over);
    let refused = limiter.admit_local(&key(1), 0).unwrap_err();
    assert_eq!(refused.quota.tokens.unwrap().remaining, 0, "it went over, and the next ones wait");
    assert_eq!(refused.quota.requests.unwrap().remaining, 97, "refusals are no requests");
    let large = limiter.admit_local(&key(1), 1_001).unwrap_err();
    assert_eq!((large.code(), large.retry_after), ("request_too_large", None));
    clock.advance(secs(61));
    assert!(limiter.admit_local(&key(1), 1_000).is_ok());
}

#[test]
fn a_cancelled_request_has_never_been() {
    let (limiter, _) = limiter(r#"{"per_key": {"rpm": 1, "tpm": 100, "concurrent_requests": 1}}"#);
    for _ in 0..5 {
        limiter.admit_local(&key(1), 100).unwrap().cancel();
    }
    assert!(limiter.admit_local(&key(1), 100).is_ok());
    assert!(limiter.admit_local(&key(1), 0).is_err());
}

#[test]
fn places_come_back_when_permits_are_dropped() {
    let (limiter, clock) =
        limiter(r#"{"per_key": {"concurrent_requests": 2}, "global": {"concurrent_requests": 3}}"#);
    let subjects = |id| Subjects { global: true, ..key(id) };
    let one = limiter.admit_local(&subjects(1), 0).unwrap();
    let two = limiter.admit_local(&subjects(1), 0).unwrap();
    let refused = refusal(&limiter, &subjects(1));
    assert_eq!((refused.scope, refused.exceeded), (Scope::Key, Exceeded::Concurrent { limit: 2 }));
    assert_eq!((refused.retry_after_secs(), refused.kind()), (Some(1), Kind::RateLimited));
    let three = limiter.admit_local(&subjects(2), 0).unwrap();
    assert_eq!(refusal(&limiter, &subjects(2)).scope, Scope::Global);
    clock.advance(secs(100_000));
    assert!(limiter.admit_local(&subjects(1), 0).is_err(), "time alone frees nobody who is still there");
    drop(two);
    assert_eq!(admitted(&limiter, &subjects(1), 100), 100, "one at a time");
    drop((one, three));
}

#[test]
fn keys_and_groups_may_have_their_own() {
    let (limiter, _) = limiter(r#"{"per_key": {"rpm": 2, "rph": 3}, "per_group": {"rpm": 4}}"#);
    let own = limits(r#"{"rpm": 3}"#);
    let free = limits(r#"{"rpm": "unlimited", "rph": "unlimited"}"#);
    assert_eq!(admitted(&limiter, &key(1), 9), 2);
    assert_eq!(admitted(&limiter, &with(2, &own), 9), 3);
    assert_eq!(refusal(&limiter, &with(2, &own)).exceeded, window(Measure::Requests, Span::Hour, 3));
    assert_eq!(admitted(&limiter, &with(3, &free), 99), 99);
    let grouped = Subjects { group: Some(7), ..with(4, &free) };
    assert_eq!(admitted(&limiter, &grouped, 9), 4, "the group's default holds");
    let generous = limits(r#"{"rpm": 6}"#);
    assert_eq!(admitted(&limiter, &Subjects { group_limits: Some(&generous), ..grouped }, 9), 2);
    let none = limits(r#"{"rpm": 0}"#);
    assert_eq!(admitted(&limiter, &with(5, &none), 9), 0, "none at all");

    let (off, _) = self::limiter(r#"{"enforce_key_limits": false, "per_key": {"rpm": 1}}"#);
    assert_eq!(admitted(&off, &with(1, &own), 50), 50);
    let (off, _) = self::limiter(r#"{"enabled": false, "per_key": {"rpm": 1}, "global": {"rpm": 1}}"#);
    assert_eq!(admitted(&off, &Subjects { global: true, ..with(1, &own) }, 50), 50);
}

#[test]
fn users_of_two_groups_are_two_users_and_a_network_is_one_address() {
    let (limiter, _) =
        limiter(r#"{"per_user": {"rpm": 1}, "per_ip": {"rpm": 1}, "per_ip_admin": {"rpm": 2}}"#);
    let at = |group, key| Subjects { group, key: Some(key), user: Some("1"), ..Subjects::default() };
    assert_eq!(admitted(&limiter, &at(Some(1), 1), 3), 1);
    assert_eq!(admitted(&limiter, &at(Some(1), 2), 3), 0, "one user with two keys of a group");
    assert_eq!(admitted(&limiter, &at(Some(2), 1), 3), 1);
    assert_eq!(admitted(&limiter, &at(None, 1), 3), 1);
    assert_eq!(admitted(&limiter, &Subjects::address(ip("2001:db8::1")), 3), 1);
    assert_eq!(admitted(&limiter, &Subjects::address(ip("2001:db8::2")), 3), 0);
    assert_eq!(admitted(&limiter, &Subjects::address(ip("192.0.2.1")), 3), 1);
    assert_eq!(admitted(&limiter, &Subjects::address(ip("::ffff:192.0.2.1")), 3), 0);
    let admin = Subjects { admin: true, ..Subjects::address(ip("192.0.2.1")) };
    assert_eq!(admitted(&limiter, &admin, 3), 2, "another door, another count");
}

#[test]
fn a_request_without_limits_leaves_no_trace() {
    let (limiter, _) = limiter("{}");
    let subjects = Subjects {
        ip: Some(ip("192.0.2.1")),
        key: Some(1),
        group: Some(1),
        user: Some("anna"),
        global: true,
        ..Subjects::default()
    };
    let permit = limiter.admit_local(&subjects, 100).unwrap();
    assert!(matches!(permit.held, Held::Nothing) && permit.quota().headers().is_empty());
    assert_eq!(limiter.subjects(), 0);
}

#[test]
fn other_settings_take_effect_and_keep_what_was_counted() {
    let (limiter, _) = limiter(r#"{"per_key": {"rpm": 3}}"#);
    assert_eq!(admitted(&limiter, &key(1), 9), 3);
    limiter.reload(serde_json::from_str(r#"{"per_key": {"rpm": 200}}"#).unwrap()).unwrap();
    assert_eq!(admitted(&limiter, &key(1), 999), 197);
    limiter.reload(serde_json::from_str(r#"{"per_key": {"rph": 5}}"#).unwrap()).unwrap();
    assert_eq!(admitted(&limiter, &key(1), 9), 5);
    let redis: LimitSettings = serde_json::from_str(r#"{"shared": "redis"}"#).unwrap();
    assert_eq!(limiter.reload(redis), Err(LimiterError::NoRedis));
    assert_eq!(admitted(&limiter, &key(1), 9), 0, "the old ones stay");
}

#[test]
fn blocked_addresses_are_listed_and_can_be_freed() {
    let (limiter, _) = limiter(r#"{"per_ip": {"rpm": 1, "block": "10m"}}"#);
    let address = Subjects::address(ip("2001:db8::5"));
    assert_eq!(admitted(&limiter, &address, 2), 1);
    assert_eq!(limiter.blocked(), [(ip("2001:db8::"), secs(600))]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(runtime.block_on(limiter.unblock(ip("2001:db8::77"))));
    assert_eq!(limiter.blocked(), []);
    assert_eq!(admitted(&limiter, &address, 2), 1);
}

#[test]
fn floods_of_addresses_take_bounded_memory() {
    let (limiter, clock) = limiter(r#"{"per_ip": {"rpm": 3}, "max_subjects": 1000}"#);
    for number in 0..50_000u32 {
        let subjects = Subjects::address(IpAddr::from(number.to_be_bytes()));
        assert!(limiter.admit_local(&subjects, 0).is_ok());
    }
    assert!(limiter.subjects() <= 1_100, "{}", limiter.subjects());
    clock.advance(secs(3_600));
    assert_eq!(admitted(&limiter, &Subjects::address(ip("192.0.2.1")), 9), 3);
}

/// A place to count together that does what the test says.
#[derive(Default)]
struct Fake {
    answers: Mutex<Vec<Result<SharedOutcome, SeamError>>>,
    asked: Mutex<Vec<SharedRequest>>,
}

struct Nothing;

impl Settle for Nothing {
    fn correct(&mut self, _: u64) {}
    fn cancel(&mut self) {}
}

#[async_trait]
impl SharedWindows for Fake {
    async fn admit(&self, request: SharedRequest) -> Result<SharedOutcome, SeamError> {
        self.asked.lock().unwrap().push(request);
        self.answers.lock().unwrap().pop().unwrap_or(Err(gone()))
    }

    async fn unblock(&self, _: &str) -> Result<bool, SeamError> {
        Ok(false)
    }

    fn health(&self) -> WindowsHealth {
        WindowsHealth::Down { since: secs(3), reason: "gone".into() }
    }
}

fn gone() -> SeamError {
    SeamError::Unavailable { backend: "redis", reason: "gone".into() }
}

fn shared(json: &str, answers: Vec<Result<SharedOutcome, SeamError>>) -> (Limiter, Arc<Fake>) {
    let fake = Arc::new(Fake { answers: Mutex::new(answers), ..Fake::default() });
    let settings: LimitSettings = serde_json::from_str(json).unwrap();
    (Limiter::new(settings, Some(fake.clone())).unwrap(), fake)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Mutation: `Open` and `Closed` taken for each other.
#[test]
fn when_redis_is_gone_the_settings_say_what_happens() {
    let (open, _) = shared(r#"{"per_key": {"rpm": 2}}"#, vec![]);
    let results: Vec<bool> = (0..4).map(|_| block_on(open.admit(&key(1), 0)).is_ok()).collect();
    assert_eq!(results, [true, true, false, false], "counted here");
    assert!(matches!(open.health(), LimitsHealth::Degraded { on_failure: OnFailure::Open, .. }));

    let (closed, fake) = shared(r#"{"per_key": {"rpm": 2}, "on_failure": "closed"}"#, vec![]);
    let refused = block_on(closed.admit(&key(1), 0)).unwrap_err();
    assert_eq!((refused.kind(), refused.retry_after_secs()), (Kind::Unavailable, Some(1)));
    assert!(block_on(closed.admit(&Subjects::default(), 0)).is_ok(), "who has no limits is not concerned");
    assert_eq!(fake.asked.lock().unwrap().len(), 1, "and nobody is asked");
}

#[test]
fn what_is_counted_together_is_told_the_same_way() {
    let reading =
        |used, wait_ms| SharedReading { used, wait_ms, frees_ms: 900, full_ms: 2_000, fresh_ms: 61_000 };
    let permit = SharedPermit::new(Box::new(Nothing));
    let answers = vec![
        Ok(SharedOutcome::Blocked { millis: 5_000 }),
        Ok(SharedOutcome::Refused {
            readings: vec![reading(100, Some(900)), reading(2, Some(0))],
            in_use: vec![3],
        }),
        Ok(SharedOutcome::Admitted { readings: vec![reading(7, Some(0)), reading(2, Some(0))], permit }),
    ];
    let settings =
        r#"{"per_ip": {"rpm": 100, "block": "1h"}, "per_key": {"tpm": 1000, "concurrent_requests": 3}}"#;
    let (limiter, fake) = shared(settings, answers);
    let subjects = Subjects { ip: Some(ip("192.0.2.1")), ..key(5) };
    let permit = block_on(limiter.admit(&subjects, 50)).unwrap();
    let quota = permit.quota();
    assert_eq!((quota.requests.unwrap().remaining, quota.tokens.unwrap().remaining), (92, 948));
    let refused = block_on(limiter.admit(&subjects, 50)).unwrap_err();
    assert_eq!((refused.scope, refused.retry_after), (Scope::Ip, Some(secs(3_600))));
    assert_eq!(refused.quota.requests.unwrap().remaining, 0);
    let blocked = block_on(limiter.admit(&subjects, 50)).unwrap_err();
    assert_eq!((blocked.exceeded, blocked.retry_after), (Exceeded::Blocked, Some(secs(5))));
    let asked = fake.asked.lock().unwrap();
    let keys: Vec<&str> = asked[0].windows.iter().map(|window| window.key.as_str()).collect();
    assert_eq!(keys, ["w:ip:ffffc0000201:rm", "w:key:5:tm"]);
    assert_eq!(asked[0].places[0].key, "c:key:5");
    assert_eq!(asked[0].block.as_ref().unwrap().key, "b:ip:ffffc0000201");
    assert_eq!(shared::block_keys(ip("192.0.2.1"))[0], "b:ip:ffffc0000201");
}

/// Steps of a day of some keys and addresses. Whatever is asked, no span holds more than its limit, and
/// nothing that fits is refused for longer than it was told.
#[test]
fn a_random_day_keeps_every_limit() {
    let (limiter, clock) =
        limiter(r#"{"global": {"rpm": 40, "burst": 5}, "per_key": {"rpm": 25, "tpm": 3000}}"#);
    let mut random = 42u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut served: Vec<(u64, i64, u64)> = Vec::new();
    for _ in 0..20_000 {
        clock.advance(Duration::from_millis(next(900)));
        let (id, tokens) = (i64::try_from(next(3)).unwrap(), 1 + next(400));
        let subjects = Subjects { global: true, ..key(id) };
        match limiter.admit_local(&subjects, tokens) {
            Ok(_) => served.push((clock.now_ms(), id, tokens)),
            Err(refused) if next(10) == 0 => {
                clock.advance(refused.retry_after.unwrap());
                assert!(limiter.admit_local(&subjects, tokens).map(Permit::cancel).is_ok(), "{refused}");
            }
            Err(_) => {}
        }
    }
    assert!(served.len() > 3_000, "{}", served.len());
    for (index, (start, id, _)) in served.iter().enumerate() {
        let within = |millis| served[index..].iter().take_while(move |(at, _, _)| at - start < millis);
        assert!(within(1_000).count() <= 5 && within(60_000).count() <= 40);
        let own = || within(60_000).filter(|(_, other, _)| other == id);
        assert!(own().count() <= 25 && own().map(|(_, _, tokens)| tokens).sum::<u64>() <= 3_000);
    }
}
