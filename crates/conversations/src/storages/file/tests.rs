use std::os::unix::fs::MetadataExt as _;

use serde_json::json;

use super::*;
use crate::storages::conformance;
use crate::testing;

fn storage(options: Value) -> Box<dyn Storage> {
    make(options, &testing::environment()).unwrap()
}

fn permissions(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[tokio::test]
async fn conforms() {
    for (by_date, compression) in [(true, false), (true, true), (false, false)] {
        let dir = tempfile::tempdir().unwrap();
        let options =
            json!({"path": dir.path().join("a/b"), "organize_by_date": by_date, "compression": compression});
        conformance::keeps(&*storage(options)).await;
        let left = fs::read_dir(dir.path().join("a/b")).unwrap().count();
        assert_eq!(left, 0, "nothing unfinished, no empty folders");
    }
}

#[tokio::test]
async fn the_layout_is_the_conserver_s() {
    let dir = tempfile::tempdir().unwrap();
    let vcon = testing::vcon();
    for (options, name) in [
        (json!({"path": dir.path()}), "2026/11/20/UUID.json"),
        (json!({"path": dir.path(), "compression": true}), "2026/11/20/UUID.json.gz"),
        (json!({"path": dir.path(), "organize_by_date": false}), "UUID.json"),
    ] {
        let storage = storage(options);
        storage.save(&vcon, &testing::storage_context()).await.unwrap();
        let file = dir.path().join(name.replace("UUID", vcon.uuid()));
        let mut text = Vec::new();
        match name.ends_with(".gz") {
            true => MultiGzDecoder::new(fs::File::open(&file).unwrap()).read_to_end(&mut text).unwrap(),
            false => fs::File::open(&file).unwrap().read_to_end(&mut text).unwrap(),
        };
        assert_eq!(text, vcon.to_bytes(), "{name}");
        assert!(storage.delete(vcon.uuid()).await.unwrap());
    }
}

#[tokio::test]
async fn what_the_conserver_wrote_is_read_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let storage = storage(json!({"path": dir.path()}));
    // As Python's json.dumps writes it; a random uuid, so that the day cannot be told from it.
    let uuid = "6f2b1c9e-3d4a-4f5b-8a7c-0123456789ab";
    let text = format!(r#"{{"vcon": "0.4.0", "uuid": "{uuid}", "created_at": "2021-02-03T04:05:06+00:00"}}"#);
    for (folder, zipped) in [("", false), ("2021/02/03", false), ("2021/02/03", true)] {
        let folder = dir.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join(format!("{uuid}.json{}", if zipped { ".gz" } else { "" }));
        match zipped {
            true => {
                let mut gzip = GzEncoder::new(fs::File::create(&file).unwrap(), Compression::default());
                gzip.write_all(text.as_bytes()).unwrap();
                gzip.finish().unwrap();
            }
            false => fs::write(&file, &text).unwrap(),
        }
        let read = storage.get(&uuid.to_uppercase()).await.unwrap().unwrap();
        assert_eq!(read.to_bytes(), text);
        assert!(storage.delete(uuid).await.unwrap() && !file.exists());
    }
}

#[tokio::test]
async fn changing_the_compression_leaves_no_older_copy() {
    let dir = tempfile::tempdir().unwrap();
    let mut vcon = testing::vcon();
    storage(json!({"path": dir.path()})).save(&vcon, &testing::storage_context()).await.unwrap();
    vcon.set("subject", "changed");
    let zipping = storage(json!({"path": dir.path(), "compression": true}));
    zipping.save(&vcon, &testing::storage_context()).await.unwrap();
    let plain = storage(json!({"path": dir.path()}));
    assert_eq!(plain.get(vcon.uuid()).await.unwrap().unwrap().text("subject").unwrap(), "changed");
}

#[tokio::test]
async fn permissions_are_set_on_what_is_made_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    for (written, file, folder) in [
        (json!({}), 0o644, 0o755),
        (json!({"file_permissions": "0o640", "dir_permissions": "0750"}), 0o640, 0o750),
        (json!({"file_permissions": 420, "dir_permissions": 493}), 0o644, 0o755),
        (json!({"file_permissions": 600, "dir_permissions": 700}), 0o600, 0o700),
        (json!({"file_permissions": "666", "dir_permissions": "777"}), 0o666, 0o777),
    ] {
        let top = dir.path().join(format!("t{written}").replace(['"', '{', '}', ':', ',', ' '], ""));
        let mut options = written.clone();
        options["path"] = json!(top);
        let vcon = testing::vcon();
        storage(options).save(&vcon, &testing::storage_context()).await.unwrap();
        let made = top.join(format!("2026/11/20/{}.json", vcon.uuid()));
        assert_eq!(permissions(&made), file, "{written}");
        for folder_made in ["", "2026", "2026/11", "2026/11/20"] {
            assert_eq!(permissions(&top.join(folder_made)), folder, "{written} {folder_made}");
        }
    }
    assert_eq!(permissions(dir.path()), 0o700, "the folder above is not ours");
}

#[test]
fn permissions_that_are_none_are_refused() {
    for wrong in [json!("rw-r--r--"), json!("0o99"), json!(-1), json!(99_999), json!([6]), json!("77777")] {
        let error = make(json!({"file_permissions": wrong}), &testing::environment()).err().unwrap();
        assert!(error.to_string().contains("octal"), "{error}");
    }
}

#[tokio::test]
async fn one_that_is_too_large_is_refused_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let storage = storage(json!({"path": dir.path(), "max_file_size": 10}));
    let error = storage.save(&testing::vcon(), &testing::storage_context()).await.unwrap_err();
    assert!(!error.is_temporary() && error.to_string().contains("max_file_size"), "{error}");
}

#[tokio::test]
async fn a_place_that_cannot_be_written_may_be_mended() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("2026"), "in the way").unwrap();
    let storage = storage(json!({"path": dir.path()}));
    let error = storage.save(&testing::vcon(), &testing::storage_context()).await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing unfinished stays");
    fs::remove_file(dir.path().join("2026")).unwrap();
    storage.save(&testing::vcon(), &testing::storage_context()).await.unwrap();
}

#[tokio::test]
async fn no_uuid_leaves_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("secret.json"), "{}").unwrap();
    let top = dir.path().join("vcons");
    fs::create_dir(&top).unwrap();
    let storage = storage(json!({"path": top}));
    for uuid in ["../secret", "", "*", "/etc/passwd"] {
        assert!(storage.get(uuid).await.unwrap().is_none());
        assert!(!storage.delete(uuid).await.unwrap());
    }
    assert!(dir.path().join("secret.json").exists());
}
