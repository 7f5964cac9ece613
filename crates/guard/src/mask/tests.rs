use proptest::prelude::*;

use super::*;

fn masked(text: &str) -> String {
    mask(text, &Kind::ALL, Style::Label).into_owned()
}

#[test]
fn finds_what_people_write() {
    for (text, expected) in [
        ("write to ann.o'neil+x@mail.example.co.uk.", "write to [EMAIL]."),
        ("<bob@example.com>, \"eve@ex-ample.org\"", "<[EMAIL]>, \"[EMAIL]\""),
        ("jürgen@müller.de!", "[EMAIL]!"),
        ("mailto:bob@example.com?subject=x", "mailto:[EMAIL]?subject=x"),
        ("a@b.com,c@d.org", "[EMAIL],[EMAIL]"),
        ("card 4111 1111 1111 1111 exp 12/29", "card [CARD] exp 12/29"),
        ("4111-1111-1111-1111", "[CARD]"),
        ("378282246310005 amex", "[CARD] amex"),
        ("on 22 11 2026 4111 1111 1111 1111 was used", "on 22 11 2026 [CARD] was used"),
        ("IBAN DE89 3704 0044 0532 0130 00 and so on", "IBAN [IBAN] and so on"),
        ("gb82west12345698765432.", "[IBAN]."),
        ("NL91ABNA0417164300", "[IBAN]"),
        ("call +49 30 1234567 now", "call [PHONE] now"),
        ("call (415) 555-0123 or 415.555.0199.", "call [PHONE] or [PHONE]."),
        ("tel:+14155550123", "tel:[PHONE]"),
        ("1-800-555-0123", "[PHONE]"),
        ("4155550123", "[PHONE]"),
        ("030 / 12 34 56 7, 0044 20 7946 0958", "[PHONE], [PHONE]"),
        ("01 23 45 67 89", "[PHONE]"),
    ] {
        assert_eq!(masked(text), expected, "{text}");
    }
}

#[test]
fn leaves_what_only_looks_like_it() {
    for text in [
        "",
        "twitter @bob, 5 @ 3.50, a@b, x@localhost",
        "4111 1111 1111 1112 fails its sum",
        "DE89370400440532013001 fails too",
        "2026-11-21T10:30:00Z, 21.11.2026 10:30, 01.02.2026 10:30",
        "01890c5e-8f9a-8c3d-9e10-000000000000",
        "order 1763692800000, 1763692800, 12345678",
        "$4155550123, 3.14159265358979, v1.2.3.4",
        "192.168.100.200 and 10.0.0.1:8080",
        "page 12 of 345, 1,000,000 and 2 000 000",
    ] {
        assert_eq!(masked(text), text);
    }
}

#[test]
fn only_the_kinds_that_are_asked_for() {
    let text = "a@b.com +49 30 1234567";
    assert_eq!(mask(text, &[Kind::Phone], Style::Label), "a@b.com [PHONE]");
    assert!(matches!(mask(text, &[Kind::Card], Style::Label), Cow::Borrowed(_)));
    assert_eq!(mask("é a@b.com é", &[Kind::Email], Style::Stars), "é ******* é");
}

#[test]
fn the_known_numbers_of_the_networks_and_the_registry() {
    for card in [
        "4222222222222",
        "30569309025904",
        "371449635398431",
        "5555555555554444",
        "2223003122003222",
        "6011111111111117",
        "3530111333300000",
        "6304000000000000",
    ] {
        assert!(is_card(card), "{card}");
    }
    for iban in [
        "AT611904300234573201",
        "BE68539007547034",
        "CH9300762011623852957",
        "ES9121000418450200051332",
        "FR1420041010050500013M02606",
        "NO9386011117947",
        "MT84MALT011000012345MTLCAST001S",
        "SE4550000000058398257466",
    ] {
        assert!(is_iban(iban), "{iban}");
    }
    assert!(!is_iban("ZZ611904300234573201") && !is_iban("AT61") && !is_iban(""));
}

/// A card's digits with the last one that makes the sum right.
fn with_check_digit(mut digits: String) -> String {
    let last = (0..10).find(|last| luhn(&format!("{digits}{last}"))).expect("one of ten fits");
    digits.push_str(&last.to_string());
    digits
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_masked_holds_nothing_more_and_the_rest_is_untouched(text in "\\PC{0,200}") {
        let found = find(&text, &Kind::ALL);
        let once = masked(&text);
        let mut rest = once.as_str();
        let mut at = 0;
        for finding in &found {
            let kept = &text[at..finding.range.start];
            rest = rest.strip_prefix(kept).expect("what comes before").strip_prefix(finding.kind.label()).expect("the label");
            at = finding.range.end;
        }
        prop_assert_eq!(rest, &text[at..]);
        let stars = mask(&text, &Kind::ALL, Style::Stars);
        prop_assert_eq!(stars.chars().count(), text.chars().count());
    }

    #[test]
    fn text_made_of_the_parts_of_addresses_never_breaks_it(text in "[-a-zA-Z0-9@.+ ()/:é]{0,120}") {
        let once = masked(&text);
        prop_assert!(find(&once, &[Kind::Email, Kind::Card, Kind::Iban]).is_empty(), "{} → {}", text, once);
    }

    #[test]
    fn a_card_is_found_however_it_is_grouped(digits in "4[0-9]{14}", separator in "[ -]?", words in "[a-z]{0,8}") {
        let card = with_check_digit(digits);
        let groups: Vec<&str> = (0..4).map(|group| &card[group * 4..group * 4 + 4]).collect();
        let text = format!("{words} {} {words}", groups.join(&separator));
        prop_assert_eq!(masked(&text), format!("{words} [CARD] {words}"));
    }

    #[test]
    fn a_card_with_one_wrong_digit_is_none(digits in "4[0-9]{14}", place in 0usize..16, add in 1u8..10) {
        let mut card = with_check_digit(digits).into_bytes();
        card[place] = b'0' + (card[place] - b'0' + add) % 10;
        let card = String::from_utf8(card).expect("digits");
        prop_assert!(find(&card, &[Kind::Card]).is_empty());
    }

    #[test]
    fn an_account_is_found_however_it_is_grouped(account in "[0-9]{18}", group in 1usize..8) {
        // The check digits are 98 less the remainder with 00 in their place.
        let check = (2..99).map(|check| format!("DE{check:02}{account}")).find(|iban| is_iban(iban));
        let iban = check.expect("one of them fits");
        let groups: Vec<String> = iban.as_bytes().chunks(group).map(|group| String::from_utf8_lossy(group).into_owned()).collect();
        let together = masked(&format!("konto {iban}."));
        prop_assert_eq!(together, "konto [IBAN].");
        // The first group carries the country and the check digits.
        if group >= 4 {
            let text = groups.join(" ");
            prop_assert_eq!(masked(&text), "[IBAN]");
        }
    }

    #[test]
    fn an_address_is_found_wherever_it_stands(local in "[a-z0-9][a-z0-9._+-]{0,20}[a-z0-9]", domain in "[a-z]{1,10}(\\.[a-z]{2,6}){1,2}") {
        let text = format!("({local}@{domain})");
        prop_assert_eq!(masked(&text), "([EMAIL])");
    }
}
