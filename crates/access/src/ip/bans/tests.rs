use super::*;
use crate::limits::ManualClock;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn bans(json: &str) -> (Bans, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(1_000));
    let settings: IpSettings = serde_json::from_str(json).unwrap();
    (Bans::with_clock(&settings, clock.clone()), clock)
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

/// Mutation: `- 1` left out of the number of failures lets a tenth wrong key go by.
#[test]
fn the_tenth_wrong_key_bans_for_half_an_hour() {
    let (bans, clock) = bans("{}");
    let (bad, good) = (ip("203.0.113.7"), ip("203.0.113.8"));
    for _ in 0..9 {
        assert_eq!(bans.failed(bad, Surface::Api), None);
        assert_eq!(bans.check(bad), Ok(()));
    }
    let ban = bans.failed(bad, Surface::Api).unwrap();
    assert_eq!((ban.ip, ban.reason.as_str()), (bad, "too many wrong keys"));
    assert_eq!(bans.check(bad), Err(Banned { retry_after: minutes(30) }));
    assert_eq!(bans.check(ip("::ffff:203.0.113.7")), Err(Banned { retry_after: minutes(30) }));
    assert_eq!(bans.check(good), Ok(()));
    assert_eq!(bans.failed(bad, Surface::Api), None, "told once");
    clock.advance(minutes(30) - Duration::from_millis(1));
    assert!(bans.check(bad).is_err());
    clock.advance(Duration::from_millis(1));
    assert_eq!(bans.check(bad), Ok(()));
    for _ in 0..9 {
        assert_eq!(bans.failed(bad, Surface::Api), None, "it starts anew");
    }
}

#[test]
fn a_right_key_and_time_forgive() {
    let (bans, clock) = bans("{}");
    let bad = ip("203.0.113.7");
    for _ in 0..100 {
        for _ in 0..9 {
            assert_eq!(bans.failed(bad, Surface::Api), None);
        }
        bans.succeeded(bad, Surface::Api);
    }
    for _ in 0..100 {
        clock.advance(Duration::from_secs(67));
        assert_eq!(bans.failed(bad, Surface::Api), None, "nine within ten minutes");
    }
    assert_eq!(bans.check(bad), Ok(()));
}

#[test]
fn the_admin_door_is_stricter_and_its_bans_hold_everywhere() {
    let (bans, _) = bans("{}");
    let bad = ip("203.0.113.7");
    for _ in 0..4 {
        assert_eq!(bans.failed(bad, Surface::Admin), None);
        bans.succeeded(bad, Surface::Api);
    }
    assert!(bans.failed(bad, Surface::Admin).is_some(), "a right key of the API does not forgive");
    assert!(bans.check(bad).is_err());
}

#[test]
fn a_network_of_ipv6_is_banned_whole() {
    let (bans, _) = bans(r#"{"bans": {"failures": 3}}"#);
    for last in 1..=3 {
        bans.failed(ip(&format!("2001:db8:1:2::{last}")), Surface::Api);
    }
    assert!(bans.check(ip("2001:db8:1:2:ffff::9")).is_err());
    assert_eq!(bans.check(ip("2001:db8:1:3::1")), Ok(()));
}

#[test]
fn proxies_and_the_exempt_are_never_banned() {
    let (bans, _) = bans(
        r#"{"bans": {"failures": 1, "exempt": ["192.0.2.0/24"]}, "trusted_proxies": ["10.0.0.1"],
            "admin_bans": {"enabled": false}}"#,
    );
    for free in ["192.0.2.9", "10.0.0.1", "::ffff:10.0.0.1"] {
        assert_eq!(bans.failed(ip(free), Surface::Api), None, "{free}");
    }
    assert_eq!(bans.failed(ip("10.0.0.2"), Surface::Admin), None, "off");
    assert!(bans.failed(ip("10.0.0.2"), Surface::Api).is_some(), "one is enough");
    assert!(bans.check(ip("10.0.0.2")).is_err());
}

#[test]
fn blocked_by_hand_listed_and_freed() {
    let (bans, clock) = bans("{}");
    let (one, two) = (ip("203.0.113.1"), ip("203.0.113.2"));
    bans.block(one, minutes(5), "abuse");
    bans.block(two, minutes(500_000_000), &"ü".repeat(300));
    let list = bans.list();
    assert_eq!(list.iter().map(|ban| ban.ip).collect::<Vec<_>>(), [two, one]);
    assert_eq!(list[1].reason, "abuse");
    assert!(list[0].reason.chars().count() <= MAX_REASON);
    assert!(bans.unblock(two) && !bans.unblock(two));
    assert_eq!((bans.check(two), bans.list().len()), (Ok(()), 1));
    clock.advance(minutes(5));
    assert!(bans.list().is_empty() && !bans.unblock(one));
}

#[test]
fn a_ban_of_another_replica_holds_here() {
    let (here, _) = bans("{}");
    let (there, _) = bans("{}");
    let ban = there.block(ip("203.0.113.1"), minutes(5), "abuse");
    let carried: Ban = serde_json::from_str(&serde_json::to_string(&ban).unwrap()).unwrap();
    here.apply(&carried);
    let left = here.check(ip("203.0.113.1")).unwrap_err().retry_after;
    assert!(left <= minutes(5) && left > minutes(4));
    here.apply(&Ban { until_ms: 1, ip: ip("203.0.113.2"), reason: "old".into() });
    assert_eq!(here.check(ip("203.0.113.2")), Ok(()));
    here.apply(&Ban { until_ms: i64::MAX, ip: ip("203.0.113.3"), reason: String::new() });
    assert!(here.check(ip("203.0.113.3")).is_err());
}

#[test]
fn a_flood_of_sources_takes_bounded_memory_and_a_ban_survives_it() {
    let (bans, clock) = bans(r#"{"bans": {"failures": 2}}"#);
    let bad = ip("203.0.113.7");
    bans.failed(bad, Surface::Api);
    assert!(bans.failed(bad, Surface::Api).is_some());
    for number in 0..150_000u32 {
        bans.failed(IpAddr::from((0x0a00_0000 + number).to_be_bytes()), Surface::Api);
        if number % 1_000 == 0 {
            clock.advance(Duration::from_millis(1));
            // Whoever comes again is not forgotten.
            bans.failed(bad, Surface::Api);
        }
    }
    assert!(bans.sources.len() <= MAX_SOURCES + 64, "{}", bans.sources.len());
    assert!(bans.check(bad).is_err());
}
