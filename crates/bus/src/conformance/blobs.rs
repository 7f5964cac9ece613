//! What all blobs do.

use async_trait::async_trait;
use base::seams::{Blobs, Body, MAX_BLOB_PAGE, SeamError};
use bytes::Bytes;

/// A body of pieces, one of which may be a failure.
struct Pieces(std::vec::IntoIter<Result<Bytes, SeamError>>);

#[async_trait]
impl Body for Pieces {
    async fn next(&mut self) -> Result<Option<Bytes>, SeamError> {
        self.0.next().transpose()
    }
}

fn pieces(pieces: Vec<Result<Bytes, SeamError>>) -> Box<dyn Body> {
    Box::new(Pieces(pieces.into_iter()))
}

/// Runs all of it below the folder `name`, which is empty afterwards. `limit` is the largest blob that is
/// taken.
pub async fn blobs(blobs: &dyn Blobs, name: &str, limit: u64) -> Result<(), SeamError> {
    blobs.ping().await?;
    whole(blobs, &format!("{name}/whole")).await?;
    in_pieces(blobs, &format!("{name}/pieces")).await?;
    ranges(blobs, &format!("{name}/range.bin")).await?;
    replaced(blobs, &format!("{name}/replaced"), limit).await?;
    listed(blobs, &format!("{name}/list")).await?;
    bad_keys(blobs).await
}

async fn read(blobs: &dyn Blobs, key: &str) -> Result<Bytes, SeamError> {
    blobs.get(key).await?.1.collect(64 << 20).await
}

async fn whole(blobs: &dyn Blobs, key: &str) -> Result<(), SeamError> {
    assert!(matches!(blobs.get(key).await, Err(SeamError::NotFound { .. })));
    assert!(matches!(blobs.head(key).await, Err(SeamError::NotFound { .. })));
    assert_eq!(blobs.put(key, <dyn Body>::whole("hello")).await?, 5);
    assert_eq!(read(blobs, key).await?, "hello");
    let info = blobs.head(key).await?;
    assert_eq!((info.key.as_str(), info.size), (key, 5));
    assert!(info.modified_at > 1_700_000_000_000, "{info:?}");
    assert_eq!(blobs.put(key, <dyn Body>::whole(Bytes::new())).await?, 0);
    assert_eq!(read(blobs, key).await?, "", "an empty blob is a blob");
    blobs.delete(key).await?;
    assert!(matches!(blobs.get(key).await, Err(SeamError::NotFound { .. })));
    blobs.delete(key).await
}

/// More than one piece of any backend, and not a round number.
async fn in_pieces(blobs: &dyn Blobs, key: &str) -> Result<(), SeamError> {
    let piece = |n: u8| Bytes::from(vec![n; 1_000_003]);
    let size = blobs.put(key, pieces((0..20).map(|n| Ok(piece(n))).collect())).await?;
    assert_eq!(size, 20 * 1_000_003);
    let (info, mut body) = blobs.get(key).await?;
    assert_eq!(info.size, size);
    let mut at = 0_u64;
    while let Some(part) = body.next().await? {
        assert!(part.len() <= 16 << 20, "a piece of {} bytes", part.len());
        let fits = part.iter().zip(at..).all(|(byte, place)| u64::from(*byte) == place / 1_000_003);
        assert!(fits, "the bytes from {at} are not those that were written");
        at += part.len() as u64;
    }
    assert_eq!(at, size);
    blobs.delete(key).await
}

async fn ranges(blobs: &dyn Blobs, key: &str) -> Result<(), SeamError> {
    blobs.put(key, <dyn Body>::whole("0123456789")).await?;
    for (range, expected) in [(0..10, "0123456789"), (2..5, "234"), (9..10, "9"), (7..100, "789")] {
        let shown = format!("{range:?}");
        let part = blobs.get_range(key, range).await?.collect(100).await?;
        assert_eq!(part, expected, "{shown}");
    }
    #[expect(clippy::reversed_empty_ranges, reason = "what a careless caller may send")]
    for range in [10..11, 100..200, 3..3, 5..2] {
        let shown = format!("{range:?}");
        let refused = blobs.get_range(key, range).await.map(|_| ());
        assert!(matches!(refused, Err(SeamError::Invalid(_))), "{shown}: {refused:?}");
    }
    blobs.delete(key).await?;
    assert!(matches!(blobs.get_range(key, 0..1).await.map(|_| ()), Err(SeamError::NotFound { .. })));
    Ok(())
}

async fn replaced(blobs: &dyn Blobs, key: &str, limit: u64) -> Result<(), SeamError> {
    blobs.put(key, <dyn Body>::whole("old")).await?;
    let broken = SeamError::Invalid("the client went away".into());
    let piece = || Bytes::from(vec![1; 6 << 20]);
    for pieces_before in 0..3 {
        let mut all: Vec<_> = (0..pieces_before).map(|_| Ok(piece())).collect();
        all.push(Err(broken.clone()));
        assert!(blobs.put(key, pieces(all)).await.is_err());
        assert_eq!(read(blobs, key).await?, "old", "a write that fails leaves what was there");
    }
    let count = limit / (6 << 20) + 1;
    let refused = blobs.put(key, pieces((0..count).map(|_| Ok(piece())).collect())).await;
    assert!(matches!(refused, Err(SeamError::TooLarge { .. })), "{refused:?}");
    assert_eq!(read(blobs, key).await?, "old", "a write that is refused leaves what was there");
    blobs.put(key, <dyn Body>::whole("new")).await?;
    assert_eq!(read(blobs, key).await?, "new");
    blobs.delete(key).await
}

async fn listed(blobs: &dyn Blobs, folder: &str) -> Result<(), SeamError> {
    // Byte order is not the order of folders: `a.txt` lies between `a-` and `a/`.
    let names = ["a-1", "a.txt", "a/1", "a/2/x", "a/3", "a0", "b"];
    for name in names {
        blobs.put(&format!("{folder}/{name}"), <dyn Body>::whole(name)).await?;
    }
    for (prefix, expected) in
        [("", &names[..]), ("a/", &names[2..5]), ("a", &names[..6]), ("a/2", &names[3..4]), ("c", &[])]
    {
        for limit in [1, 2, 100] {
            let (mut found, mut after) = (Vec::new(), None::<String>);
            loop {
                let page = blobs.list(&format!("{folder}/{prefix}"), after.as_deref(), limit).await?;
                assert!(page.blobs.len() <= limit);
                found.extend(page.blobs.iter().map(|blob| (blob.key.clone(), blob.size)));
                match page.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
                assert!(found.len() <= names.len(), "the listing does not end: {found:?}");
            }
            let expected: Vec<_> =
                expected.iter().map(|name| (format!("{folder}/{name}"), name.len() as u64)).collect();
            assert_eq!(found, expected, "prefix {prefix:?}, pages of {limit}");
        }
    }
    for name in names {
        blobs.delete(&format!("{folder}/{name}")).await?;
    }
    assert!(blobs.list(folder, None, 10).await?.blobs.is_empty());
    assert!(matches!(blobs.list(folder, None, MAX_BLOB_PAGE + 1).await, Err(SeamError::Invalid(_))));
    assert!(matches!(blobs.list(folder, None, 0).await, Err(SeamError::Invalid(_))));
    Ok(())
}

async fn bad_keys(blobs: &dyn Blobs) -> Result<(), SeamError> {
    for key in ["", "../x", "a/../../x", "/etc/passwd", "a//b", "a\0", "é"] {
        assert!(
            matches!(blobs.put(key, <dyn Body>::whole("x")).await, Err(SeamError::Invalid(_))),
            "{key:?}"
        );
        assert!(matches!(blobs.get(key).await.map(|_| ()), Err(SeamError::Invalid(_))), "{key:?}");
        assert!(matches!(blobs.delete(key).await, Err(SeamError::Invalid(_))), "{key:?}");
    }
    assert!(matches!(blobs.list("../", None, 10).await, Err(SeamError::Invalid(_))));
    Ok(())
}
