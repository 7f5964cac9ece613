use super::*;

const KEY: Binding<'static> = Binding { kind: "provider", name: "openai", field: "api_key" };

fn secret(text: &str) -> Secret {
    Secret::from(text.to_owned())
}

fn master() -> Secret {
    secret("tl-admin-0123456789abcdefghijklmnopqrstuvwxyzABCDEFG")
}

#[test]
fn what_was_sealed_opens_and_shows_nothing() {
    let (sealer, wrapped) = Sealer::create(&master()).unwrap();
    let (one, two) = (
        sealer.seal(&KEY, &secret("sk-very-secret")).unwrap(),
        sealer.seal(&KEY, &secret("sk-very-secret")).unwrap(),
    );
    assert_ne!(one, two, "each has a nonce of its own");
    assert!(is_sealed(&one) && !is_sealed("sk-very-secret"));
    assert!(one.starts_with(&format!("sealed:v1:{}:", sealer.current_key())), "{one}");
    let stored = serde_json::to_string(&wrapped).unwrap();
    let read: WrappedKeys = serde_json::from_str(&stored).unwrap();
    let again = Sealer::new(&master(), &read).unwrap();
    assert_eq!(again.open(&KEY, &one).unwrap().expose(), "sk-very-secret");
    for text in ["", "ü", &"x".repeat(MAX_PLAIN)] {
        let sealed = sealer.seal(&KEY, &secret(text)).unwrap();
        assert_eq!(again.open(&KEY, &sealed).unwrap().expose(), text);
    }
    assert_eq!(sealer.seal(&KEY, &secret(&"x".repeat(MAX_PLAIN + 1))), Err(SealingError::TooLong));
    let key = sealer.keys.values().next().unwrap().bytes().unwrap();
    let shown = format!("{sealer:?}{read:?}{stored}");
    assert!(!shown.contains(&hex::encode(key)) && !shown.contains("tl-admin"), "{shown}");
}

/// Mutations that made it fail: `Binding::bytes` without the name; without the lengths before the parts.
#[test]
fn a_sealed_secret_opens_only_where_it_belongs() {
    let (sealer, _) = Sealer::create(&master()).unwrap();
    let sealed = sealer.seal(&KEY, &secret("sk")).unwrap();
    for elsewhere in [
        Binding { name: "lab", ..KEY },
        Binding { kind: "webhook", ..KEY },
        Binding { field: "headers", ..KEY },
        // The same letters, cut elsewhere.
        Binding { kind: "provide", name: "ropenai", ..KEY },
        Binding { name: "openaiapi_key", field: "", ..KEY },
    ] {
        assert_eq!(sealer.open(&elsewhere, &sealed).unwrap_err(), SealingError::Tampered, "{elsewhere:?}");
    }
}

#[test]
fn every_changed_byte_and_every_cut_is_noticed() {
    let (sealer, _) = Sealer::create(&master()).unwrap();
    let sealed = sealer.seal(&KEY, &secret("sk-very-secret")).unwrap();
    for at in 0..sealed.len() {
        let mut changed = sealed.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(sealer.open(&KEY, &changed).is_err(), "changed at {at}");
        assert!(sealer.open(&KEY, &sealed[..at]).is_err(), "cut at {at}");
    }
    for (text, expected) in [
        ("", SealingError::Malformed),
        ("sk-plain", SealingError::Malformed),
        ("sealed:v1:", SealingError::Malformed),
        ("sealed:v2:0011223344556677:AAAA", SealingError::Malformed),
        ("sealed:v1:0011223344556677:AAAA", SealingError::UnknownKey("0011223344556677".into())),
        ("sealed:v1:a\nb:AAAA", SealingError::UnknownKey("ab".into())),
    ] {
        assert_eq!(sealer.open(&KEY, text).unwrap_err(), expected, "{text}");
    }
    let short = format!("sealed:v1:{}:AAAA", sealer.current_key());
    assert_eq!(sealer.open(&KEY, &short).unwrap_err(), SealingError::Malformed);
    let long = format!("sealed:v1:{}:{}", sealer.current_key(), "A".repeat(1 << 20));
    assert_eq!(sealer.open(&KEY, &long).unwrap_err(), SealingError::Malformed);
}

/// Mutation that made it fail: `rotate` that starts from an empty map.
#[test]
fn rotation_keeps_old_secrets_readable_until_they_are_sealed_anew() {
    let (sealer, _) = Sealer::create(&master()).unwrap();
    let old = sealer.seal(&KEY, &secret("sk")).unwrap();
    let (rotated, wrapped) = sealer.rotate(&master()).unwrap();
    assert_ne!(rotated.current_key(), sealer.current_key());
    let reopened = Sealer::new(&master(), &wrapped).unwrap();
    assert_eq!(reopened.open(&KEY, &old).unwrap().expose(), "sk");

    let new = reopened.reseal(&KEY, &old).unwrap().unwrap();
    assert!(new.contains(rotated.current_key()));
    assert_eq!(reopened.reseal(&KEY, &new).unwrap(), None, "already");
    assert_eq!(reopened.reseal(&Binding { name: "lab", ..KEY }, &old), Err(SealingError::Tampered));

    let (retired, wrapped) = reopened.retire_old(&master()).unwrap();
    assert_eq!(wrapped.keys.len(), 1);
    assert_eq!(retired.open(&KEY, &new).unwrap().expose(), "sk");
    assert!(matches!(retired.open(&KEY, &old), Err(SealingError::UnknownKey(_))));

    let mut many = retired;
    while many.keys.len() < MAX_KEYS {
        many = many.rotate(&master()).unwrap().0;
    }
    assert_eq!(many.rotate(&master()).unwrap_err(), SealingError::TooManyKeys);
}

#[test]
fn the_master_key_can_change_and_a_wrong_one_opens_nothing() {
    let (sealer, first) = Sealer::create(&master()).unwrap();
    let sealed = sealer.seal(&KEY, &secret("sk")).unwrap();
    let other = secret("tl-admin-another-0123456789abcdefghijklmnop");
    assert_eq!(Sealer::new(&other, &first).unwrap_err(), SealingError::WrongMaster);
    let second = sealer.wrap(&other).unwrap();
    assert_eq!(Sealer::new(&other, &second).unwrap().open(&KEY, &sealed).unwrap().expose(), "sk");
    assert_eq!(Sealer::new(&master(), &second).unwrap_err(), SealingError::WrongMaster);
    assert_eq!(Sealer::create(&secret("")).unwrap_err(), SealingError::NoMaster);
}

#[test]
fn a_short_master_key_is_stretched() {
    let short = secret("eight888");
    let (sealer, wrapped) = Sealer::create(&short).unwrap();
    assert_eq!(wrapped.derivation, Derivation::Pbkdf2Sha256 { rounds: 600_000 });
    assert_eq!(
        serde_json::to_value(wrapped.derivation).unwrap(),
        serde_json::json!({"pbkdf2-sha256": {"rounds": 600_000}})
    );
    let sealed = sealer.seal(&KEY, &secret("sk")).unwrap();
    assert_eq!(Sealer::new(&short, &wrapped).unwrap().open(&KEY, &sealed).unwrap().expose(), "sk");
    let quick = WrappedKeys { derivation: Derivation::HkdfSha256, ..wrapped.clone() };
    assert_eq!(Sealer::new(&short, &quick).unwrap_err(), SealingError::WrongMaster);
    for rounds in [0, u32::MAX] {
        let busy = WrappedKeys { derivation: Derivation::Pbkdf2Sha256 { rounds }, ..wrapped.clone() };
        assert_eq!(Sealer::new(&short, &busy).unwrap_err(), SealingError::Damaged("its rounds"));
    }
}

#[test]
fn damaged_wrapped_keys_are_refused() {
    let (_, good) = Sealer::create(&master()).unwrap();
    let refused = |damage: &dyn Fn(&mut WrappedKeys)| {
        let mut damaged = good.clone();
        damage(&mut damaged);
        Sealer::new(&master(), &damaged).unwrap_err()
    };
    assert!(matches!(refused(&|keys| keys.version = 2), SealingError::Damaged(_)));
    assert!(matches!(refused(&|keys| keys.keys.clear()), SealingError::Damaged(_)));
    assert!(matches!(refused(&|keys| keys.current = "x".into()), SealingError::Damaged(_)));
    assert!(matches!(refused(&|keys| keys.salt = "AAAA".into()), SealingError::Damaged(_)));
    assert!(matches!(refused(&|keys| keys.keys[0].wrapped = "AAAA".into()), SealingError::Damaged(_)));
    assert!(matches!(refused(&|keys| keys.keys[0].wrapped = "?".into()), SealingError::Damaged(_)));
    // The id is authenticated: a key cannot be passed off as another.
    assert_eq!(refused(&|keys| keys.keys[0].id = "0011223344556677".into()), SealingError::WrongMaster);
}

#[test]
fn compares_secrets() {
    assert!(same_secret("a", "a") && same_secret("", ""));
    assert!(!same_secret("a", "b") && !same_secret("a", "aa") && !same_secret("", "a"));
}
