use store::UsageRecord;

use super::*;

fn record(id: &str, cost: i64) -> UsageRecord {
    UsageRecord { request_id: id.into(), cost, ..UsageRecord::default() }
}

fn bytes(id: &str, cost: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    record(id, cost).as_call().encode(&mut bytes);
    bytes
}

fn open(journal: &Journal, amount: i64, id: &str) -> u64 {
    journal.open(amount, &record(id, 0).as_call()).unwrap()
}

fn settle(journal: &Journal, call: u64, id: &str, cost: i64) {
    journal.settle(call, &record(id, cost).as_call());
}

fn ids(chunk: &Chunk) -> Vec<&str> {
    chunk.calls.iter().map(|call| call.request_id).collect()
}

#[test]
fn what_is_written_is_read_again_and_half_an_entry_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::create(dir.path(), "r1-0".into()).unwrap();
    let call = open(&journal, 500, "a");
    settle(&journal, call, "a", 300);
    let open = open(&journal, 700, "b");
    let path = segment_path(dir.path(), "r1-0", 0);
    let len = journal.mark().len;
    let whole = std::fs::read(&path).unwrap();
    for cut in [1, 9, 20] {
        OpenOptions::new().append(true).open(&path).unwrap().write_all(&whole[8..8 + cut]).unwrap();
        let piece = read_piece(&path, 0, u64::MAX).unwrap();
        assert_eq!(piece.to, len);
        assert_eq!(piece.opened, [(call, 500, bytes("a", 0)), (open, 700, bytes("b", 0))]);
        assert_eq!((piece.settled.len(), piece.damaged), (1, 0));
        assert_eq!((piece.settled[0].0, &piece.settled[0].2), (call, &bytes("a", 300)));
        let rest = read_piece(&path, piece.settled[0].1, u64::MAX).unwrap();
        assert_eq!((rest.opened.len(), rest.settled.len()), (1, 0), "reading goes on where it ended");
        let before = read_piece(&path, 0, piece.settled[0].1).unwrap();
        assert_eq!((before.opened.len(), before.settled.len()), (1, 1), "and ends where it should");
        std::fs::write(&path, &whole).unwrap();
    }
    assert_eq!(parse_path(&path), Some(("r1".into(), "r1-0".into(), 0)));
}

#[test]
fn a_full_segment_hands_its_open_calls_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::create(dir.path(), "r1-0".into()).unwrap();
    let kept = open(&journal, 1, "kept");
    let gone = open(&journal, 1, "gone");
    settle(&journal, gone, "gone", 1);
    journal.lock().len = SEGMENT;
    let next = open(&journal, 2, "last");
    assert_eq!(journal.mark().segment, 1);
    settle(&journal, next, "last", 2);
    let piece = read_piece(&segment_path(dir.path(), "r1-0", 1), 0, u64::MAX).unwrap();
    assert_eq!(piece.opened, [(kept, 1, bytes("kept", 0)), (next, 2, bytes("last", 0))]);
    let chunks = journal.take();
    assert_eq!(chunks.iter().map(ids).collect::<Vec<_>>(), [["gone"], ["last"]], "a piece of each file");
    assert_eq!((chunks[0].to.segment, chunks[1].from), (0, Mark { segment: 1, len: 0 }));
    assert_eq!(journal.unsynced().unwrap().len(), 2);
    assert!(journal.take().is_empty() && journal.unsynced().unwrap().is_empty());
}

#[test]
fn damage_is_counted_and_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::create(dir.path(), "r-0".into()).unwrap();
    let calls: Vec<u64> = ["a", "b", "c"].map(|id| open(&journal, 1, id)).into();
    for (call, id) in calls.iter().zip(["a", "b", "c"]) {
        settle(&journal, *call, id, 5);
    }
    let path = segment_path(dir.path(), "r-0", 0);
    let places: Vec<u64> = read_piece(&path, 0, u64::MAX).unwrap().settled.iter().map(|s| s.1).collect();
    let mut damaged = std::fs::read(&path).unwrap();
    // Within the second of the three.
    damaged[usize::try_from(places[0]).unwrap() + 12] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    let piece = read_piece(&path, 0, u64::MAX).unwrap();
    assert_eq!((piece.damaged, piece.settled.len(), piece.to), (1, 2, places[2]));
}

#[test]
fn another_form_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r-0-000000.journal");
    std::fs::write(&path, b"TLJRNL\x63\x01").unwrap();
    let error = read_piece(&path, 0, u64::MAX).unwrap_err().to_string();
    assert!(error.contains("another version"), "{error}");
    std::fs::write(&path, b"TLJ").unwrap();
    assert_eq!(read_piece(&path, 0, u64::MAX).unwrap().to, 0, "it was being made");
    assert!(is_old(Path::new("/x/r-0-000000.jsonl"), "r") && !is_old(Path::new("/x/rr-0-000000.jsonl"), "r"));
}

/// Mutation: `keep` that goes on after calls were lost leaves a gap that nobody reads.
#[test]
fn what_was_lost_from_memory_is_told_by_a_gap() {
    let mark = |len| Mark { segment: 0, len };
    let mut memory = Memory::default();
    memory.keep(mark(10), b"a");
    memory.lose();
    memory.keep(mark(30), b"b");
    let places: Vec<_> = memory.take(mark(30)).iter().map(|chunk| (chunk.from.len, chunk.to.len)).collect();
    assert_eq!(places, [(0, 10), (30, 30)]);
    memory.keep(mark(40), b"c");
    let taken = memory.take(mark(40));
    assert_eq!((taken.len(), taken[0].from, taken[0].calls.len()), (1, mark(30), 1));
}

#[test]
fn a_call_with_more_than_an_entry_holds_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::create(dir.path(), "r-0".into()).unwrap();
    assert!(journal.open(1, &record(&"x".repeat(70_000), 0).as_call()).is_err());
    open(&journal, 1, "fits");
    let piece = read_piece(&segment_path(dir.path(), "r-0", 0), 0, u64::MAX).unwrap();
    assert_eq!((piece.opened.len(), piece.damaged), (1, 0));
}
