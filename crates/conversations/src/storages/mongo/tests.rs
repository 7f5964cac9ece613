use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::storages::conformance::{self, Refusing, SECRET, Silent, uuid};
use crate::testing;

/// MongoDB's wire protocol (<https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/>), as far as it is
/// asked here, and its documents.
#[derive(Clone, Default)]
struct Service {
    documents: Arc<Mutex<BTreeMap<String, Document>>>,
    commands: Arc<Mutex<Vec<Document>>>,
}

impl Service {
    async fn start() -> (Service, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (service, port) = (Service::default(), listener.local_addr().unwrap().port());
        let serving = service.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        (service, port)
    }

    async fn serve(self, mut stream: TcpStream) {
        while let Ok(length) = stream.read_u32_le().await {
            let mut message = vec![0; length as usize - 4];
            stream.read_exact(&mut message).await.unwrap();
            let number = |at: usize| u32::from_le_bytes(message[at..at + 4].try_into().unwrap());
            let id = number(0);
            let (command, reply_code) = match number(8) {
                // OP_QUERY, which a client may begin with: flags, name, skip, count, document.
                2004 => {
                    let name = message[16..].iter().position(|byte| *byte == 0).unwrap();
                    (read(&message[16 + name + 1 + 8..]).0, 1)
                }
                2013 => (sections(&message[12..]), 2013),
                other => panic!("operation {other}"),
            };
            let mut body = Vec::new();
            self.answer(&command).to_writer(&mut body).unwrap();
            let head: Vec<u8> = match reply_code {
                // OP_REPLY: flags, cursor, from, count.
                1 => [&8_u32.to_le_bytes()[..], &[0; 12], &1_u32.to_le_bytes()].concat(),
                _ => vec![0; 5],
            };
            let mut reply = Vec::new();
            for number in [16 + (head.len() + body.len()) as u32, 1, id, reply_code] {
                reply.extend(number.to_le_bytes());
            }
            reply.extend(head);
            reply.extend(body);
            if stream.write_all(&reply).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, command: &Document) -> Document {
        let name = command.keys().next().unwrap().to_owned();
        let mut documents = self.documents.lock().unwrap();
        let lower = name.to_lowercase();
        if lower == "hello" || lower == "ismaster" {
            return doc! {"ok": 1, "helloOk": true, "ismaster": true, "isWritablePrimary": true, "maxWireVersion": 21,
            "minWireVersion": 0, "maxBsonObjectSize": 16_777_216, "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000, "localTime": DateTime::from_millis(0), "readOnly": false};
        }
        self.commands.lock().unwrap().push(command.clone());
        assert_eq!(command.get_str("$db").unwrap(), "conserver");
        if name != "endSessions" {
            assert_eq!(command.get_str(&name).unwrap(), "vcons");
        }
        match name.as_str() {
            "update" => {
                let update = command.get_array("updates").unwrap()[0].as_document().unwrap();
                let id = update.get_document("q").unwrap().get_str("_id").unwrap().to_owned();
                assert!(update.get_bool("upsert").unwrap());
                let change = update.get_document("u").unwrap();
                let old = documents.contains_key(&id);
                if change.contains_key("$set") {
                    let document = documents.entry(id.clone()).or_insert_with(|| doc! {"_id": &id});
                    document.extend(change.get_document("$set").unwrap().clone());
                    for member in change.get_document("$unset").unwrap().keys() {
                        document.remove(member);
                    }
                } else {
                    documents.insert(id.clone(), change.clone());
                }
                let mut answer = doc! {"ok": 1, "n": 1, "nModified": i32::from(old)};
                if !old {
                    answer.insert("upserted", vec![doc! {"index": 0, "_id": id}]);
                }
                answer
            }
            "find" => {
                let id = command.get_document("filter").unwrap().get_str("_id").unwrap();
                let found: Vec<Document> = documents.get(id).cloned().into_iter().collect();
                doc! {"ok": 1, "cursor": {"id": 0_i64, "ns": "conserver.vcons", "firstBatch": found}}
            }
            "delete" => {
                let delete = command.get_array("deletes").unwrap()[0].as_document().unwrap();
                let id = delete.get_document("q").unwrap().get_str("_id").unwrap();
                doc! {"ok": 1, "n": i32::from(documents.remove(id).is_some())}
            }
            _ => doc! {"ok": 1},
        }
    }
}

/// The document at the beginning, and its length.
fn read(bytes: &[u8]) -> (Document, usize) {
    let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    (Document::from_reader(Cursor::new(&bytes[..length])).unwrap(), length)
}

/// The command of an OP_MSG: flags, then its body and lists of documents that belong into it.
fn sections(message: &[u8]) -> Document {
    assert_eq!(u32::from_le_bytes(message[..4].try_into().unwrap()) & 1, 0, "a checksum was not asked for");
    let (mut rest, mut command, mut lists) = (&message[4..], Document::new(), Vec::new());
    while let Some((kind, bytes)) = rest.split_first() {
        let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
        match kind {
            0 => command = read(bytes).0,
            1 => {
                let name = bytes[4..].iter().position(|byte| *byte == 0).unwrap();
                let (mut at, mut list) = (4 + name + 1, Vec::new());
                while at < length {
                    let (document, taken) = read(&bytes[at..length]);
                    list.push(Bson::Document(document));
                    at += taken;
                }
                lists.push((String::from_utf8(bytes[4..4 + name].to_vec()).unwrap(), list));
            }
            other => panic!("section {other}"),
        }
        rest = &bytes[length..];
    }
    for (name, list) in lists {
        command.insert(name, list);
    }
    command
}

fn storage(port: u16) -> Box<dyn Storage> {
    let options = json!({"url": format!("mongodb://127.0.0.1:{port}/")});
    make(options, &testing::environment()).unwrap()
}

#[tokio::test]
async fn conforms() {
    let (_service, port) = Service::start().await;
    conformance::keeps(&*storage(port)).await;
}

#[tokio::test]
async fn the_layout_is_the_conserver_s() {
    let (service, port) = Service::start().await;
    let mut vcon = testing::vcon();
    vcon.set("created_at", "2026-11-20T05:00:00.123456-05:00");
    vcon.list_mut(crate::vcon::List::Dialog)[0].set("duration", 61.5);
    vcon.set("count", 5_000_000_000_i64);
    storage(port).save(&vcon, &testing::storage_context()).await.unwrap();
    let document = service.documents.lock().unwrap()[vcon.uuid()].clone();
    assert_eq!(document.get_str("_id").unwrap(), vcon.uuid());
    assert_eq!(document.get_str("uuid").unwrap(), vcon.uuid());
    let made = parse_time("2026-11-20T10:00:00.123Z").unwrap();
    assert_eq!(document.get_datetime("created_at").unwrap(), &DateTime::from_millis(made));
    let dialog = document.get_array("dialog").unwrap()[0].as_document().unwrap();
    let start = parse_time("2026-11-20T10:00:00Z").unwrap();
    assert_eq!(dialog.get_datetime("start").unwrap(), &DateTime::from_millis(start));
    assert_eq!(dialog.get_array("parties").unwrap()[1], Bson::Int32(1));
    assert_eq!(
        (dialog.get_f64("duration").unwrap(), document.get_i64("count").unwrap()),
        (61.5, 5_000_000_000)
    );
}

#[tokio::test]
async fn what_the_conserver_wrote_is_read_and_what_others_added_stays() {
    let (service, port) = Service::start().await;
    let uuid = uuid();
    let start = DateTime::from_millis(parse_time("2021-02-03T04:05:06.789Z").unwrap());
    let document = doc! {"_id": &uuid, "uuid": &uuid, "vcon": "0.0.1", "created_at": start, "group": [], "theirs": 1,
    "dialog": [{"start": start, "parties": [0]}]};
    service.documents.lock().unwrap().insert(uuid.clone(), document);
    let storage = storage(port);
    let mut read = storage.get(&uuid.to_uppercase()).await.unwrap().unwrap();
    let time = "2021-02-03T04:05:06.789+00:00";
    let expected = json!({"uuid": uuid, "vcon": "0.0.1", "created_at": time, "group": [], "theirs": 1,
        "dialog": [{"start": time, "parties": [0]}]});
    assert_eq!(read.to_value(), expected);
    read.remove("group");
    read.remove("theirs");
    storage.save(&read, &testing::storage_context()).await.unwrap();
    let read = storage.get(&uuid).await.unwrap().unwrap();
    assert!(read.get("group").is_none() && read.get("theirs").is_some());
}

#[tokio::test]
async fn names_that_an_update_would_take_for_something_else_are_kept() {
    let (_service, port) = Service::start().await;
    let storage = storage(port);
    let mut vcon = conformance::vcon(&uuid(), "x");
    vcon.set("a.b", json!({"c": 1}));
    vcon.set("$where", "x");
    storage.save(&vcon, &testing::storage_context()).await.unwrap();
    assert_eq!(storage.get(vcon.uuid()).await.unwrap().unwrap().to_value(), vcon.to_value());
}

#[tokio::test]
async fn one_that_is_too_large_is_refused_for_good() {
    let (service, port) = Service::start().await;
    let mut vcon = testing::vcon();
    vcon.add_attachment("audio", Value::String("QUJD".repeat(5 << 20)), "base64url");
    let error = storage(port).save(&vcon, &testing::storage_context()).await.unwrap_err();
    assert!(!error.is_temporary() && error.to_string().contains("16777216"), "{error}");
    assert!(service.commands.lock().unwrap().is_empty());
}

#[tokio::test]
async fn fails_for_now() {
    let (refusing, silent) = (Refusing::new(), Silent::new());
    for port in [refusing.port(), silent.port()] {
        let url = format!("mongodb://user:{SECRET}@127.0.0.1:{port}/");
        let options = json!({"url": url, "timeout": 0.3});
        conformance::fails_for_now(&*make(options, &testing::environment()).unwrap()).await;
    }
}

#[test]
fn an_address_that_is_none_is_told_without_its_password() {
    let url = format!("mongo://user:{SECRET}@x");
    let error = make(json!({"url": url}), &testing::environment()).err().unwrap().to_string();
    assert!(error.contains("`url`") && !error.contains(SECRET), "{error}");
    assert!(make(json!({"collection": "a$b"}), &testing::environment()).is_err());
}
