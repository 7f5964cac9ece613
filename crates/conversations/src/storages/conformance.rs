//! What every storage that gives back what it has must pass.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use serde_json::{Value, json};

use crate::storage::{Storage, StorageError};
use crate::testing;
use crate::vcon::Vcon;

/// What no error may show.
pub(super) const SECRET: &str = "hunter2-do-not-show";

/// A uuid of nobody else; of the version that vCons have.
pub(super) fn uuid() -> String {
    let digits = || fastrand::u16(..0xfff);
    let (start, end) = (fastrand::u32(..), fastrand::u64(..1 << 48));
    format!("0199{:04x}-{:04x}-8{:03x}-9{:03x}-{end:012x}", start >> 16, start & 0xffff, digits(), digits())
}

/// A vCon of this uuid and subject.
pub(super) fn vcon(uuid: &str, subject: &str) -> Vcon {
    let mut vcon = testing::vcon();
    vcon.set("subject", subject);
    let text = String::from_utf8(vcon.to_bytes().to_vec()).unwrap();
    Vcon::parse(text.replace(testing::vcon().uuid(), uuid)).unwrap()
}

async fn there(storage: &dyn Storage, uuid: &str) -> Option<Value> {
    storage.get(uuid).await.unwrap().map(|vcon| vcon.to_value())
}

/// Save, overwrite, get, missing, delete; the huge and the strange; many at once.
pub(super) async fn keeps(storage: &dyn Storage) {
    keeps_up_to(storage, 6 << 20).await;
}

/// The same for a storage with a limit: a body of so many bytes is the largest.
pub(super) async fn keeps_up_to(storage: &dyn Storage, largest: usize) {
    let context = testing::storage_context();
    let (one, two) = (uuid(), uuid());

    assert_eq!(there(storage, &one).await, None, "missing");
    assert!(!storage.delete(&one).await.unwrap(), "nothing to delete");

    let first = vcon(&one, "first");
    storage.save(&first, &context).await.unwrap();
    assert_eq!(there(storage, &one).await.unwrap(), first.to_value());
    storage.save(&first, &context).await.unwrap();
    assert_eq!(there(storage, &one).await.unwrap(), first.to_value(), "the same again");

    let mut second = vcon(&one, "second");
    second.remove("analysis");
    second.add_tag("a", "b");
    storage.save(&second, &context).await.unwrap();
    assert_eq!(there(storage, &one).await.unwrap(), second.to_value(), "overwritten");

    let mut strange = vcon(&two, "Grüße 🦀 \u{202e}שלום\u{2028} \"\\ \t\n'; DROP TABLE vcons; --");
    let keys = json!({"$key": {"a.b": [1, -2, 1.5, true, null, 9_007_199_254_740_993_i64], "": {}}, "ключ": "значение"});
    strange.set("meta", keys);
    storage.save(&strange, &context).await.unwrap();
    assert_eq!(there(storage, &two).await.unwrap(), strange.to_value(), "strange characters");
    assert_eq!(there(storage, &one).await.unwrap(), second.to_value(), "the other one is as it was");

    let mut huge = vcon(&two, "huge");
    huge.add_attachment("audio", Value::String("QUJD".repeat(largest / 4)), "base64url");
    storage.save(&huge, &context).await.unwrap();
    assert!(there(storage, &two).await.unwrap() == huge.to_value(), "a huge one differs");

    assert!(storage.delete(&one).await.unwrap());
    assert_eq!(there(storage, &one).await, None, "deleted");
    assert!(!storage.delete(&one).await.unwrap(), "deleted twice");
    assert!(storage.get(&two).await.unwrap().is_some(), "the other one is still there");
    assert!(storage.delete(&two).await.unwrap());

    at_once(storage).await;
}

/// Many saves at once: of different vCons none is lost, of the same one is kept whole.
async fn at_once(storage: &dyn Storage) {
    let context = testing::storage_context();
    let same = uuid();
    let others: Vec<String> = (0..20).map(|_| uuid()).collect();
    let many: Vec<Vcon> = (0..10)
        .map(|n| vcon(&same, &format!("same {n}")))
        .chain(others.iter().map(|other| vcon(other, other)))
        .collect();
    let saves = many.iter().map(|vcon| storage.save(vcon, &context));
    for saved in futures_util::future::join_all(saves).await {
        saved.unwrap();
    }
    let kept = there(storage, &same).await.unwrap();
    assert!(many.iter().any(|vcon| vcon.to_value() == kept), "{kept}");
    for (other, vcon) in others.iter().zip(&many[10..]) {
        assert_eq!(there(storage, other).await.unwrap(), vcon.to_value());
        assert!(storage.delete(other).await.unwrap());
    }
    assert!(storage.delete(&same).await.unwrap());
}

/// A storage that cannot be reached, or does not answer: all fails for now, and says nothing secret.
pub(super) async fn fails_for_now(storage: &dyn Storage) {
    let one = vcon(&uuid(), "x");
    let failed = |what: &str, error: Option<StorageError>| {
        let error = error.unwrap_or_else(|| panic!("{what} must fail"));
        assert!(error.is_temporary(), "{what}: {error}");
        let text = format!("{error} {error:?}");
        assert!(!text.contains(SECRET) && !text.contains(one.uuid()), "{what}: {text}");
    };
    failed("save", storage.save(&one, &testing::storage_context()).await.err());
    failed("get", storage.get(one.uuid()).await.err());
    failed("delete", storage.delete(one.uuid()).await.err());
}

/// An address that refuses connections: it is ours, and nobody listens at it.
pub(super) struct Refusing(socket2::Socket);

impl Refusing {
    pub(super) fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        Refusing(socket)
    }

    pub(super) fn port(&self) -> u16 {
        self.0.local_addr().unwrap().as_socket().unwrap().port()
    }
}

/// An address that takes connections and never says a word.
pub(super) struct Silent(TcpListener);

impl Silent {
    pub(super) fn new() -> Self {
        Silent(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
    }

    pub(super) fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }
}
