use super::*;
use crate::testing::on_each_engine;

fn uuid(n: u32) -> String {
    format!("018e3d10-0c1f-8d8c-9b1a-{n:012}")
}

fn draft(n: u32, content: &str, terms: &[&str], lists: &[&str]) -> Draft {
    Draft {
        uuid: uuid(n),
        created_at: i64::from(n) * 1_000,
        body: format!("body {n} {content}").into(),
        content: content.into(),
        terms: terms.iter().map(|term| (*term).to_owned()).collect(),
        lists: lists.iter().map(|list| (*list).to_owned()).collect(),
        trace: Some("00-trace".into()),
        expires_at: None,
    }
}

fn words(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

async fn found(vcons: &StoreVcons, query: Query) -> Vec<String> {
    vcons.find(&Query { limit: 100, ..query }).await.unwrap()
}

#[tokio::test]
async fn the_same_content_is_kept_once_and_put_into_a_list_once() {
    on_each_engine(|db| async move {
        let vcons = StoreVcons::new(db);
        let kept = vcons.put(&[draft(1, "a", &[], &["in"]), draft(2, "b", &[], &[])]).await.unwrap();
        assert_eq!(kept, [Kept::default(), Kept::default()]);
        // Not sure yet: put again.
        let kept = vcons.put(&[draft(1, "a", &[], &["in"])]).await.unwrap();
        assert_eq!(kept, [Kept { same: true, queued: vec![] }]);
        let posted = Posted { uuid: uuid(1), list: "in".into(), content: "a".into() };
        vcons.posted(&[posted]).await.unwrap();
        let kept = vcons.put(&[draft(1, "a", &[], &["in", "other"])]).await.unwrap();
        assert_eq!(kept, [Kept { same: true, queued: vec!["in".into()] }]);
        let kept = vcons.put(&[draft(1, "changed", &[], &["in"])]).await.unwrap();
        assert_eq!(kept, [Kept::default()]);
        let stored = vcons.get(&[uuid(1), uuid(9)]).await.unwrap();
        assert_eq!(stored.len(), 1);
        assert_eq!(
            (&stored[0].body[..], stored[0].trace.as_deref()),
            (&b"body 1 changed"[..], Some("00-trace"))
        );
    })
    .await;
}

#[tokio::test]
async fn a_search_finds_what_has_all_of_it() {
    on_each_engine(|db| async move {
        let vcons = StoreVcons::new(db);
        let drafts = [
            draft(1, "the quick brown fox", &["tel:+1", "name:Ann"], &[]),
            draft(2, "the lazy dog", &["tel:+1", "name:Bob", "name:Bob"], &[]),
            draft(3, "quick dog", &["tel:+2"], &[]),
        ];
        vcons.put(&drafts).await.unwrap();
        assert!(!vcons.tidy(&words).await.unwrap());
        let terms = |terms: &[&str]| Query {
            terms: terms.iter().map(|term| (*term).to_owned()).collect(),
            ..Query::default()
        };
        let text = |text: &str| Query { text: Some(text.into()), ..Query::default() };
        assert_eq!(found(&vcons, Query::default()).await, [uuid(3), uuid(2), uuid(1)]);
        assert_eq!(found(&vcons, terms(&["tel:+1"])).await, [uuid(2), uuid(1)]);
        assert_eq!(found(&vcons, terms(&["tel:+1", "name:Bob"])).await, [uuid(2)]);
        assert!(found(&vcons, terms(&["tel:+1", "name:nobody"])).await.is_empty());
        assert_eq!(found(&vcons, text("QUICK")).await, [uuid(3), uuid(1)]);
        assert_eq!(found(&vcons, text("dog \"quick")).await, [uuid(3)]);
        assert!(found(&vcons, text("'; OR * -- )(")).await.is_empty());
        let span = Query { since: Some(2_000), until: Some(2_000), ..Query::default() };
        assert_eq!(found(&vcons, span).await, [uuid(2)]);
        let page = vcons.find(&Query { skip: 1, limit: 1, ..Query::default() }).await.unwrap();
        assert_eq!(page, [uuid(2)]);
        let change = Change {
            uuid: uuid(1),
            body: Some("slow".into()),
            terms: vec!["tag:a:b".into()],
            ..Change::default()
        };
        vcons.change(&[change]).await.unwrap();
        vcons.tidy(&words).await.unwrap();
        assert_eq!(found(&vcons, text("quick")).await, [uuid(3)]);
        assert_eq!(found(&vcons, terms(&["tag:a:b"])).await, [uuid(1)]);
        assert!(vcons.delete(&uuid(1)).await.unwrap() && !vcons.delete(&uuid(1)).await.unwrap());
        assert!(found(&vcons, terms(&["tag:a:b"])).await.is_empty());
        assert!(found(&vcons, text("slow")).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_a_list_waits_for_does_not_expire() {
    on_each_engine(|db| async move {
        let vcons = StoreVcons::new(db);
        vcons.put(&[draft(1, "a", &[], &["one", "two"])]).await.unwrap();
        let done = |list: &str| Change {
            uuid: uuid(1),
            done: Some(list.into()),
            expires_at: Some(1),
            ..Change::default()
        };
        vcons.change(&[done("one")]).await.unwrap();
        vcons.tidy(&words).await.unwrap();
        assert_eq!(vcons.get(&[uuid(1)]).await.unwrap().len(), 1, "two still waits");
        vcons.change(&[done("two")]).await.unwrap();
        vcons.tidy(&words).await.unwrap();
        assert!(vcons.get(&[uuid(1)]).await.unwrap().is_empty());
        // What was deleted meanwhile is not there again because a chain was at it.
        let change = Change { uuid: uuid(1), body: Some("late".into()), ..Change::default() };
        vcons.change(&[change]).await.unwrap();
        assert!(vcons.get(&[uuid(1)]).await.unwrap().is_empty());
    })
    .await;
}
