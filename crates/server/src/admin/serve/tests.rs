use store::AuditFilter;

use super::super::answer::{Answer as _, Done};
use super::*;

struct Bench {
    admin: Arc<Admin>,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = Db::sqlite_url(&dir.path().join("store.db"));
        let db = Db::open(&url, None, &store::settings::PoolSettings::default()).await.unwrap();
        db.migrate().await.unwrap();
        let (sealer, _) = Sealer::create(&base::Secret::from("a master key".to_owned())).unwrap();
        Bench { admin: Arc::new(Admin::new(db, None, sealer)), _dir: dir }
    }

    /// Does something under a key, and says how often it was really done.
    async fn work(&self, key: &str, fingerprint: &str, answering: Answering) -> Result<Answered, Refusal> {
        let who = Who { caller: None, ip: None, request_id: RequestId::generate() };
        let work = Work {
            answering,
            audit: Some(who.entry("things.create", "things", "ok")),
            admin: Arc::clone(&self.admin),
            changes: None,
            who,
            once: Some(Once { actor: "admin".into(), key: key.into(), fingerprint: fingerprint.into() }),
            _place: Arc::clone(&self.admin.places).try_acquire_owned().unwrap(),
        };
        work.run().await
    }

    async fn audited(&self) -> Vec<String> {
        let rows = self.admin.db.audit_log(&AuditFilter::default(), 0, 100).await.unwrap();
        rows.into_iter().rev().map(|row| row.entry.outcome).collect()
    }
}

fn done() -> Answering {
    Box::pin(async { Done.finish() })
}

fn refused() -> Answering {
    Box::pin(async { Err(Refusal::conflict("already_exists", "It is there.")) })
}

fn panics() -> Answering {
    Box::pin(async { panic!("on purpose") })
}

#[tokio::test]
async fn what_was_done_is_not_done_again() {
    let bench = Bench::new().await;
    let first = bench.work("k", "f", done()).await.unwrap();
    assert!(!first.headers.contains_key("idempotency-replayed"));
    // What would fail is not run.
    let again = bench.work("k", "f", panics()).await.unwrap();
    assert_eq!(
        (again.status, &again.headers["idempotency-replayed"]),
        (first.status, &"true".parse().unwrap())
    );
    let other = bench.work("k", "other", done()).await.unwrap_err();
    assert_eq!(other.code(), "idempotency_key_reused");
    assert_eq!(bench.audited().await, ["ok"]);
}

#[tokio::test]
async fn a_refusal_is_judged_anew() {
    let bench = Bench::new().await;
    assert_eq!(bench.work("k", "f", refused()).await.unwrap_err().code(), "already_exists");
    assert!(bench.work("k", "f", done()).await.is_ok());
    assert_eq!(bench.audited().await, ["already_exists", "ok"]);
}

#[tokio::test]
async fn a_handler_that_panics_is_our_fault_and_noted() {
    let bench = Bench::new().await;
    let refusal = bench.work("k", "f", panics()).await.unwrap_err();
    assert_eq!((refusal.code(), refusal.status().as_u16()), ("internal_error", 500));
    assert_eq!(bench.audited().await, ["internal_error"]);
    assert_eq!(bench.admin.places.available_permits(), MAX_IN_PROGRESS);
}

#[test]
fn our_paths_are_known_in_any_case() {
    for ours in ["/api", "/api/", "/API/virtualkeys", "/api/groups"] {
        assert!(is_admin(ours), "{ours}");
    }
    for other in ["/", "/apis", "/v1/api", "", "/ap"] {
        assert!(!is_admin(other), "{other}");
    }
}
