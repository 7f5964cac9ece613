use proptest::prelude::*;

use super::*;

const MINUTE: u64 = 60_000;

fn admit(window: &mut Window, now: u64, max: u64, amount: u64) -> bool {
    let fits = window.read(now, max, amount).wait == Wait::None;
    if fits {
        window.charge(now, amount);
    }
    fits
}

#[test]
fn a_small_limit_is_kept_to_the_millisecond() {
    let mut window = Window::new(Shape::new(MINUTE, 3, false), 1_000);
    for at in [1_000, 2_000, 2_000] {
        assert!(admit(&mut window, at, 3, 1));
    }
    let reading = window.read(2_500, 3, 1);
    assert_eq!(reading.used, 3);
    assert_eq!(reading.wait, Wait::Millis(1_000 + MINUTE + 1 - 2_500));
    assert_eq!(reading.frees_ms, 1_000 + MINUTE + 1 - 2_500);
    assert_eq!(reading.full_ms, 2_000 + MINUTE + 1 - 2_500);
    assert!(!admit(&mut window, 1_000 + MINUTE, 3, 1));
    assert!(admit(&mut window, 1_000 + MINUTE + 1, 3, 1), "the wait that was told suffices");
    assert!(!admit(&mut window, 1_000 + MINUTE + 1, 3, 1));
}

#[test]
fn what_can_never_fit_says_so() {
    let mut window = Window::new(Shape::new(MINUTE, 100, true), 0);
    assert_eq!(window.read(0, 100, 101).wait, Wait::Forever);
    assert_eq!(window.read(0, 0, 1).wait, Wait::Forever);
    assert_eq!(window.read(0, 100, 100).wait, Wait::None);
    window.charge(0, 150);
    assert_eq!(window.read(0, 100, 1).wait, Wait::Millis(MINUTE + 1_000), "over its limit, and it passes");
}

#[test]
fn refunds_go_to_what_was_charged_and_to_nothing_else() {
    let mut window = Window::new(Shape::new(MINUTE, 1_000, true), 0);
    window.charge(500, 100);
    window.charge(30_000, 7);
    window.refund(500, 31_000, 60);
    assert_eq!(window.read(31_000, 1_000, 1).used, 47);
    window.refund(500, 62_000, 40);
    assert_eq!(window.read(62_000, 1_000, 1).used, 7, "the first charge was over; the second is another's");
    window.refund(30_000, 62_000, 1_000);
    assert_eq!(window.read(62_000, 1_000, 1).used, 0);
}

#[test]
fn huge_amounts_are_kept() {
    let mut window = Window::new(Shape::new(MINUTE, u64::MAX, true), 0);
    window.charge(0, 10_000_000_000);
    window.charge(0, 1);
    assert_eq!(window.read(0, u64::MAX, 0).used, 10_000_000_001);
    window.refund(0, 0, 9_000_000_000);
    assert_eq!(window.read(0, u64::MAX, 0).used, 1_000_000_001);
    assert_eq!(window.read(2 * MINUTE, u64::MAX, 0).used, 0);
}

#[test]
fn a_clock_that_goes_back_frees_nothing() {
    let mut window = Window::new(Shape::new(MINUTE, 2, false), 100_000);
    assert!(admit(&mut window, 100_000, 2, 1) && admit(&mut window, 100_000, 2, 1));
    for back in [99_999, 40_000, 0] {
        assert!(!admit(&mut window, back, 2, 1));
    }
    assert!(admit(&mut window, 100_000 + MINUTE + 1, 2, 1));
}

#[test]
fn long_idle_windows_start_anew() {
    let mut window = Window::new(Shape::new(MINUTE, 2, false), 0);
    window.charge(0, 2);
    // So far ahead that the slots' numbers have come round to where they were.
    assert_eq!(window.read(1 << 32, 2, 1).used, 0);
}

#[test]
fn a_changed_limit_keeps_what_was_counted() {
    let mut window = Window::new(Shape::new(MINUTE, 10, false), 0);
    for at in [0, 1_500, 30_000] {
        window.charge(at, 1);
    }
    window.reshape(Shape::new(MINUTE, 1_000, false), 31_000);
    assert_eq!(window.read(31_000, 1_000, 1).used, 3);
    assert_eq!(window.read(61_999, 1_000, 1).used, 2);
    window.reshape(Shape::new(MINUTE, 10, false), 62_500);
    assert_eq!(window.read(62_500, 10, 1).used, 1);
    assert_eq!(window.read(92_000, 10, 1).used, 0);
}

proptest! {
    /// Mutation: `+ 1` left out in `Shape::new` lets a span through that holds more than its limit.
    #[test]
    fn no_span_holds_more_than_the_limit(
        max in 1u64..200,
        length in prop_oneof![Just(1_000u64), Just(60_000), 1u64..5_000],
        lumps in any::<bool>(),
        steps in prop::collection::vec((0u64..3_000, 1u64..20), 1..300),
    ) {
        let mut window = Window::new(Shape::new(length, max, lumps), 0);
        let (mut now, mut admitted) = (0, Vec::new());
        for (wait, amount) in steps {
            now += wait;
            let amount = if lumps { amount } else { 1 };
            if admit(&mut window, now, max, amount) {
                admitted.push((now, amount));
            }
        }
        for (index, (start, _)) in admitted.iter().enumerate() {
            // Whole milliseconds: two that are `length` apart may be less than that apart in truth.
            let within = admitted[index..].iter().take_while(|(at, _)| at - start <= length);
            prop_assert!(within.map(|(_, amount)| amount).sum::<u64>() <= max);
        }
    }

    /// The wait that is told is enough, and one millisecond less is not.
    #[test]
    fn waits_are_exact(max in 1u64..150, steps in prop::collection::vec(0u64..900, 1..200)) {
        let mut window = Window::new(Shape::new(10_000, max, false), 0);
        let mut now = 5;
        for step in steps {
            now += step;
            if let Wait::Millis(wait) = window.read(now, max, 1).wait {
                prop_assert!(window.read(now + wait - 1, max, 1).wait != Wait::None);
                prop_assert_eq!(window.read(now + wait, max, 1).wait, Wait::None);
                now += wait;
            }
            window.charge(now, 1);
            prop_assert!(window.entries.len() <= 64, "bounded");
        }
    }
}
