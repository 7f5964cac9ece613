//! The Store goes away and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use testkit::{Behaviour, Upstream, services};

use super::exact::{ADMIN, replica};
use super::{chat, group_becomes};
use crate::admin::Admin;

/// Calls until told to stop; counts what was answered. Nothing but an answer and "try again" may come.
async fn client(url: String, key: String, stop: Arc<AtomicBool>, answered: Arc<AtomicUsize>) -> usize {
    let mut turned_away = 0;
    while !stop.load(Ordering::Relaxed) {
        let answer = chat(&url, &key, false).await;
        match answer.status {
            200 => drop(answered.fetch_add(1, Ordering::Relaxed)),
            503 => {
                assert_eq!(answer.json()["error"]["code"], "budget_unavailable");
                assert!(answer.header("retry-after").is_some());
                turned_away += 1;
            }
            status => panic!("{status} {}", answer.text()),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    turned_away
}

/// A replica serves from what it has leased, then asks callers to try again, and charges everything once the
/// database is back. Mutation: giving up on a journal piece after an error loses its records.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_stopped_under_load_costs_nobody_anything() {
    let Some(postgres) = tokio::task::spawn_blocking(services::PrivatePostgres::start).await.unwrap() else {
        return;
    };
    let postgres = Arc::new(postgres);
    let upstream = Upstream::start();
    upstream.set_default(Behaviour::delay(Duration::from_millis(2), Behaviour::ok()));
    let mut process = replica(&upstream, &postgres.url()).start();
    let admin = Admin::new(&process.url(), ADMIN);
    // A sixteenth is leased, at most 5 dollars: enough for thousands of calls of one, for a few of the other.
    let (rich, poor) = (admin.group("rich", "100").await, admin.group("poor", "0.1").await);
    let stop = Arc::new(AtomicBool::new(false));
    let begin = |key: String| {
        let answered = Arc::new(AtomicUsize::new(0));
        let one =
            || tokio::spawn(client(process.url(), key.clone(), Arc::clone(&stop), Arc::clone(&answered)));
        ([one(), one()], answered)
    };
    let (of_rich, rich_answered) = begin(admin.key("r", rich).await);
    let (of_poor, poor_answered) = begin(admin.key("p", poor).await);
    tokio::time::sleep(Duration::from_millis(150)).await;
    let server = Arc::clone(&postgres);
    tokio::task::spawn_blocking(move || server.stop()).await.unwrap();
    let before = rich_answered.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(3_000)).await;
    assert!(rich_answered.load(Ordering::Relaxed) > before + 50, "it serves on from its lease");
    let noticed = std::time::Instant::now();
    loop {
        let ready = process.get("/health/ready").await;
        assert_eq!(ready.status, 200, "{}", ready.text());
        if ready.json()["status"] == "degraded" {
            break;
        }
        assert!(noticed.elapsed() < Duration::from_secs(10), "{}", ready.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let server = Arc::clone(&postgres);
    tokio::task::spawn_blocking(move || server.start_again()).await.unwrap();
    let during = poor_answered.load(Ordering::Relaxed);
    let began = std::time::Instant::now();
    while poor_answered.load(Ordering::Relaxed) < during + 5 {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not serve again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let turned_away = async |clients: [tokio::task::JoinHandle<usize>; 2]| {
        let [one, other] = clients;
        one.await.unwrap() + other.await.unwrap()
    };
    assert_eq!(turned_away(of_rich).await, 0, "what is leased may be spent");
    assert!(turned_away(of_poor).await > 0, "the lease was used up while the database was away");
    let mut total = 0;
    for (group, answered) in [(rich, &rich_answered), (poor, &poor_answered)] {
        let answered = answered.load(Ordering::Relaxed);
        let spent = base::Money::nanos(1_000_000 * answered as i64).to_string();
        group_becomes(&admin, group, "spent", &spent).await;
        total += answered;
    }
    let usage = admin.get("/api/usage?group_by=group").await;
    assert_eq!(usage["total"]["requests"], total);
    assert_eq!(process.stop(), Some(0));
}
