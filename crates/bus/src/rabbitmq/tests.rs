//! Against the RabbitMQ of the machine, each test in a virtual host of its own.

use std::process::Command;

use base::Secret;
use base::seams::{Event, Events as _};

use super::*;
use crate::events::RabbitmqEvents;
use crate::testing::{free_port, metrics, there_is, unique, until};

/// What `rabbitmqctl` says.
pub(crate) fn ctl(arguments: &[&str]) -> String {
    let out =
        Command::new("rabbitmqctl").args(["-q", "--no-table-headers"]).args(arguments).output().unwrap();
    let out = match out.status.success() {
        true => out,
        // Not every command knows of tables.
        false => Command::new("rabbitmqctl").arg("-q").args(arguments).output().unwrap(),
    };
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// A virtual host that goes with the test.
pub(crate) struct Vhost(String);

impl Vhost {
    pub(crate) fn make() -> Option<Self> {
        if !there_is("RabbitMQ", 5672) {
            return None;
        }
        let name = unique("vhost");
        ctl(&["add_vhost", &name]);
        ctl(&["set_permissions", "-p", &name, "guest", ".*", ".*", ".*"]);
        Some(Vhost(name))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    pub(crate) fn settings(&self) -> RabbitmqSettings {
        RabbitmqSettings {
            host: Some("127.0.0.1".into()),
            vhost: self.0.clone(),
            ..RabbitmqSettings::default()
        }
    }

    pub(crate) fn open(&self, settings: &RabbitmqSettings) -> Rabbitmq {
        Rabbitmq::open(&"rabbitmq".into(), settings, &metrics().1).unwrap()
    }

    fn connections(&self) -> usize {
        let all = ctl(&["list_connections", "vhost"]);
        all.lines().filter(|line| line.trim() == self.0).count()
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        ctl(&["delete_vhost", &self.0]);
    }
}

/// MINCONNECTIONS, MAXCONNECTIONS. Mutations tried: `bounds` of (1, 1); of (1, 100).
#[tokio::test(flavor = "multi_thread")]
async fn promise_c05_connections_are_between_min_and_max() {
    let Some(vhost) = Vhost::make() else { return };
    let settings = RabbitmqSettings { min_connections: 2, max_connections: 3, ..vhost.settings() };
    let rabbitmq = vhost.open(&settings);
    until("the fewest are open from the start", || async { vhost.connections() == 2 }).await;
    let mut channels = Vec::new();
    for _ in 0..6 {
        channels.push(rabbitmq.channel().await.unwrap());
    }
    assert_eq!(rabbitmq.inner.links.lock().await.len(), 2, "two are enough for six channels");
    for _ in 0..20 {
        channels.push(rabbitmq.channel().await.unwrap());
    }
    until("the most are open under use", || async { vhost.connections() == 3 }).await;
    let users: Vec<usize> = rabbitmq.inner.links.lock().await.iter().map(Link::users).collect();
    assert!(users.iter().all(|users| (8..=10).contains(users)), "the channels are spread: {users:?}");
    drop(channels);
    ctl(&["close_all_connections", "-p", vhost.name(), "test"]);
    until("the fewest come back", || async { rabbitmq.inner.links.lock().await.len() == 2 }).await;
    rabbitmq.ping().await.unwrap();
    rabbitmq.close().await;
}

/// REQUESTEDHEARTBEAT. Mutation tried: the query of the URI left alone.
#[tokio::test(flavor = "multi_thread")]
async fn promise_c05_the_heartbeat_is_what_was_requested() {
    let Some(vhost) = Vhost::make() else { return };
    let settings = RabbitmqSettings { requested_heartbeat: base::Duration::from_secs(7), ..vhost.settings() };
    let rabbitmq = vhost.open(&settings);
    rabbitmq.ping().await.unwrap();
    let found = || {
        let all = ctl(&["list_connections", "vhost", "timeout"]);
        all.lines().filter(|line| line.starts_with(vhost.name())).all(|line| line.ends_with("\t7"))
    };
    until("the server has agreed", || async { vhost.connections() > 0 }).await;
    assert!(found());
}

/// HOST, PORT, USERNAME, PASSWORD, VHOST, and HOST alone.
#[tokio::test(flavor = "multi_thread")]
async fn promise_c05_the_server_and_the_user_are_those_of_the_settings() {
    let Some(vhost) = Vhost::make() else { return };
    let alone = RabbitmqSettings { host: Some("127.0.0.1".into()), ..RabbitmqSettings::default() };
    assert!(alone.is_configured() && !RabbitmqSettings::default().is_configured());
    vhost.open(&alone).ping().await.unwrap();

    let user = unique("user");
    ctl(&["add_user", &user, "s3 cret/"]);
    ctl(&["set_permissions", "-p", vhost.name(), &user, ".*", ".*", ".*"]);
    let settings = RabbitmqSettings {
        username: user.clone(),
        password: Secret::from("s3 cret/".to_owned()),
        ..vhost.settings()
    };
    vhost.open(&settings).ping().await.unwrap();
    let url = format!("amqp://{user}:s3%20cret%2F@127.0.0.1:5672/{}", vhost.name());
    Rabbitmq::open(&url.as_str().into(), &RabbitmqSettings::default(), &metrics().1)
        .unwrap()
        .ping()
        .await
        .unwrap();
    ctl(&["delete_user", &user]);

    let short = base::Duration::from_millis(500);
    for wrong in [
        RabbitmqSettings { password: Secret::from("hidden1".to_owned()), ..vhost.settings() },
        RabbitmqSettings { vhost: "no such".into(), ..vhost.settings() },
        RabbitmqSettings { port: free_port(), timeout: short, ..vhost.settings() },
    ] {
        let error = vhost.open(&wrong).ping().await.unwrap_err();
        assert!(error.is_temporary() && !format!("{error:?}").contains("hidden1"), "{error:?}");
    }
    for bad in ["rabbitmq", "http://h", "amqp://:hidden1@h:x"] {
        let error = Rabbitmq::open(&bad.into(), &RabbitmqSettings::default(), &metrics().1).err().unwrap();
        assert!(matches!(error, SeamError::Invalid(_)) && !error.to_string().contains("hidden1"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_c05_events_conform_on_rabbitmq_and_report_a_gap() {
    let Some(vhost) = Vhost::make() else { return };
    let here = RabbitmqEvents::new(vhost.open(&vhost.settings()), "t");
    let there = RabbitmqEvents::new(vhost.open(&vhost.settings()), "t");
    crate::conformance::events(&here, &there, "run").await.unwrap();

    // Mutation: without `hub.missed()` the subscriber never learns of the gap.
    let mut subscription = there.subscribe("gap").await.unwrap();
    ctl(&["close_all_connections", "-p", vhost.name(), "test"]);
    let event = tokio::time::timeout(Duration::from_secs(20), subscription.next()).await.unwrap();
    assert_eq!(event, Some(Event::Missed));
    until("it publishes again", || async { here.publish("gap", "after").await.is_ok() }).await;
    assert_eq!(subscription.next().await, Some(Event::Published("after".into())));
}
