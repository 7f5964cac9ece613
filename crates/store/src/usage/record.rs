//! One model call as it is charged and kept, and its form in bytes.
//!
//! The bytes are what a journal writes and what a page of the log of requests holds, so that what a worker wrote
//! goes into the Store as it is. They are short and cheap to make: numbers of variable length (LEB128), texts with
//! their length before them. What keeps them says which version of the form it has.

use base::{Money, Outcome};

/// The version of the bytes.
pub const USAGE_FORM: u8 = 1;

const STREAM: u8 = 1;
const ESTIMATED: u8 = 1 << 1;
const PRICED: u8 = 1 << 2;
const KEY: u8 = 1 << 3;
const GROUP: u8 = 1 << 4;
const USER: u8 = 1 << 5;
const FIRST_TOKEN: u8 = 1 << 6;
const TAGS: u8 = 1 << 7;

/// One model call, as it is charged and kept; `S` is how it has its texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageOf<S> {
    /// When it ended.
    pub at: i64,
    /// Its id, perhaps the caller's own.
    pub request_id: S,
    /// Whose key.
    pub key_id: Option<i64>,
    /// Who pays.
    pub group_id: Option<i64>,
    /// Which user.
    pub user: Option<S>,
    /// What was asked, as `chat`.
    pub operation: S,
    /// The model asked for.
    pub model: S,
    /// The provider that answered, or was tried last.
    pub provider: S,
    /// Its name for the model.
    pub provider_model: S,
    /// The HTTP status.
    pub status: u16,
    /// See `base::Outcome`.
    pub outcome: S,
    /// Whether it was streamed.
    pub stream: bool,
    /// How often providers were asked.
    pub attempts: u32,
    /// From arrival to the end, in microseconds.
    pub duration_us: u64,
    /// From arrival to the first content, in microseconds.
    pub first_token_us: Option<u64>,
    /// Tokens, as in `base::Usage`.
    pub input: u64,
    /// Of these, read from a cache.
    pub cached_input: u64,
    /// Tokens of the answer.
    pub output: u64,
    /// Of these, reasoning.
    pub reasoning: u64,
    /// The tokens were counted here, or the cost is a reservation that was never settled.
    pub estimated: bool,
    /// A price was known.
    pub priced: bool,
    /// What it cost, in nano-dollars.
    pub cost: i64,
    /// Labels of the key.
    pub tags: Vec<S>,
}

/// A call with texts of its own.
pub type UsageRecord = UsageOf<String>;

/// A call whose texts are elsewhere: how it is written down, and read from bytes.
pub type UsageCall<'a> = UsageOf<&'a str>;

impl<S> UsageOf<S> {
    /// The same call with its texts in another form.
    fn with_texts<'a, T>(&'a self, text: impl Fn(&'a S) -> T) -> UsageOf<T> {
        UsageOf {
            at: self.at,
            request_id: text(&self.request_id),
            key_id: self.key_id,
            group_id: self.group_id,
            user: self.user.as_ref().map(&text),
            operation: text(&self.operation),
            model: text(&self.model),
            provider: text(&self.provider),
            provider_model: text(&self.provider_model),
            status: self.status,
            outcome: text(&self.outcome),
            stream: self.stream,
            attempts: self.attempts,
            duration_us: self.duration_us,
            first_token_us: self.first_token_us,
            input: self.input,
            cached_input: self.cached_input,
            output: self.output,
            reasoning: self.reasoning,
            estimated: self.estimated,
            priced: self.priced,
            cost: self.cost,
            tags: self.tags.iter().map(&text).collect(),
        }
    }
}

impl UsageOf<String> {
    /// The call, borrowed.
    pub fn as_call(&self) -> UsageCall<'_> {
        self.with_texts(String::as_str)
    }
}

impl<'a> UsageOf<&'a str> {
    /// The call with texts of its own.
    pub fn to_record(&self) -> UsageRecord {
        self.with_texts(|text| (*text).to_owned())
    }

    /// A call of which nobody knows what it came to: it may have cost all that was set aside.
    pub fn unseen(self, group_id: Option<i64>, amount: Money) -> Self {
        let outcome = Outcome::Failed.as_str();
        UsageOf { group_id, cost: amount.as_nanos(), estimated: true, outcome, ..self }
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        out.push(
            flag(self.stream, STREAM)
                | flag(self.estimated, ESTIMATED)
                | flag(self.priced, PRICED)
                | flag(self.key_id.is_some(), KEY)
                | flag(self.group_id.is_some(), GROUP)
                | flag(self.user.is_some(), USER)
                | flag(self.first_token_us.is_some(), FIRST_TOKEN)
                | flag(!self.tags.is_empty(), TAGS),
        );
        out.extend_from_slice(&self.at.to_le_bytes());
        out.extend_from_slice(&self.cost.to_le_bytes());
        let ids = self.key_id.into_iter().chain(self.group_id).map(i64::cast_unsigned);
        ids.for_each(|id| push_number(out, id));
        push_number(out, self.status.into());
        push_number(out, self.attempts.into());
        push_number(out, self.duration_us);
        self.first_token_us.into_iter().for_each(|us| push_number(out, us));
        for count in [self.input, self.cached_input, self.output, self.reasoning] {
            push_number(out, count);
        }
        for text in
            [self.request_id, self.operation, self.model, self.provider, self.provider_model, self.outcome]
        {
            push_text(out, text);
        }
        self.user.into_iter().for_each(|user| push_text(out, user));
        if !self.tags.is_empty() {
            push_number(out, self.tags.len() as u64);
            self.tags.iter().for_each(|tag| push_text(out, tag));
        }
    }

    /// Reads the bytes of one call, all of them. `None` when they are none.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut bytes = Bytes(bytes);
        let flags = bytes.take(1)?[0];
        let has = |flag: u8| flags & flag != 0;
        let at = i64::from_le_bytes(bytes.take(8)?.try_into().ok()?);
        let cost = i64::from_le_bytes(bytes.take(8)?.try_into().ok()?);
        let key_id = if has(KEY) { Some(bytes.number()?.cast_signed()) } else { None };
        let group_id = if has(GROUP) { Some(bytes.number()?.cast_signed()) } else { None };
        let status = u16::try_from(bytes.number()?).ok()?;
        let attempts = u32::try_from(bytes.number()?).ok()?;
        let duration_us = bytes.number()?;
        let first_token_us = if has(FIRST_TOKEN) { Some(bytes.number()?) } else { None };
        let [input, cached_input, output, reasoning] =
            [bytes.number()?, bytes.number()?, bytes.number()?, bytes.number()?];
        let request_id = bytes.text()?;
        let [operation, model, provider] = [bytes.text()?, bytes.text()?, bytes.text()?];
        let [provider_model, outcome] = [bytes.text()?, bytes.text()?];
        let user = if has(USER) { Some(bytes.text()?) } else { None };
        let mut tags = Vec::new();
        if has(TAGS) {
            for _ in 0..bytes.number()? {
                tags.push(bytes.text()?);
            }
        }
        let call = UsageOf {
            at,
            request_id,
            key_id,
            group_id,
            user,
            operation,
            model,
            provider,
            provider_model,
            status,
            outcome,
            stream: has(STREAM),
            attempts,
            duration_us,
            first_token_us,
            input,
            cached_input,
            output,
            reasoning,
            estimated: has(ESTIMATED),
            priced: has(PRICED),
            cost,
            tags,
        };
        bytes.0.is_empty().then_some(call)
    }
}

/// Calls in bytes, one after the other, each with its length before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    bytes: Vec<u8>,
    count: usize,
}

impl Calls {
    /// Adds the bytes of a call that [`UsageCall::encode`] made.
    pub fn push_bytes(&mut self, call: &[u8]) {
        push_number(&mut self.bytes, call.len() as u64);
        self.bytes.extend_from_slice(call);
        self.count += 1;
    }

    /// Adds a call.
    pub fn push(&mut self, call: &UsageCall<'_>) {
        let mut bytes = Vec::with_capacity(256);
        call.encode(&mut bytes);
        self.push_bytes(&bytes);
    }

    /// A place without a call, so that the calls after it keep theirs.
    pub(crate) fn push_hole(&mut self) {
        push_number(&mut self.bytes, 0);
        self.count += 1;
    }

    /// The calls that bytes hold, which were made by [`Calls::as_bytes`].
    pub(crate) fn places(bytes: &[u8]) -> Places<'_> {
        Places(Bytes(bytes))
    }

    /// Each call. What cannot be read is passed over.
    pub fn iter(&self) -> impl Iterator<Item = UsageCall<'_>> {
        Calls::places(&self.bytes).filter_map(UsageCall::decode)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Their bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl<'a> FromIterator<&'a UsageRecord> for Calls {
    fn from_iter<I: IntoIterator<Item = &'a UsageRecord>>(records: I) -> Self {
        let mut calls = Calls::default();
        records.into_iter().for_each(|record| calls.push(&record.as_call()));
        calls
    }
}

/// The bytes of each call of a list, in order; none where a call was removed.
pub(crate) struct Places<'a>(Bytes<'a>);

impl<'a> Iterator for Places<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.0.number()?).ok()?;
        self.0.take(length)
    }
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    push_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Bytes that are being read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                // The tenth byte has room for one bit.
                return (shift < 63 || byte < 2).then_some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn any_record()(
            numbers in any::<(i64, i64, u16, u32, u64, u64, u64, u64, u64)>(),
            optional in any::<(Option<i64>, Option<i64>, Option<u64>)>(),
            flags in any::<(bool, bool, bool)>(),
            texts in proptest::collection::vec(".{0,20}", 6),
            user in proptest::option::of(".{0,200}"),
            tags in proptest::collection::vec(".{0,8}", 0..4),
        ) -> UsageRecord {
            let (at, cost, status, attempts, duration_us, input, cached_input, output, reasoning) = numbers;
            let (key_id, group_id, first_token_us) = optional;
            let (stream, estimated, priced) = flags;
            let text = |at: usize| texts[at].clone();
            UsageRecord {
                at, cost, status, attempts, duration_us, input, cached_input, output, reasoning, key_id, group_id,
                first_token_us, stream, estimated, priced, request_id: text(0), operation: text(1), model: text(2),
                provider: text(3), provider_model: text(4), outcome: text(5), user, tags,
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(records in proptest::collection::vec(any_record(), 0..5)) {
            let calls: Calls = records.iter().collect();
            prop_assert_eq!(calls.len(), records.len());
            let read: Vec<UsageRecord> = calls.iter().map(|call| call.to_record()).collect();
            prop_assert_eq!(read, records);
        }

        #[test]
        fn bytes_of_any_kind_are_borne(bytes in proptest::collection::vec(any::<u8>(), 0..200), record in any_record()) {
            let _ = UsageCall::decode(&bytes);
            let _ = Calls::places(&bytes).count();
            let mut whole = Vec::new();
            record.as_call().encode(&mut whole);
            for end in 0..whole.len() {
                prop_assert!(UsageCall::decode(&whole[..end]).is_none(), "cut off at {}", end);
            }
        }
    }

    #[test]
    fn a_hole_keeps_the_places_of_the_others() {
        let mut calls = Calls::default();
        calls.push_hole();
        calls.push(&UsageCall { request_id: "b", ..UsageCall::default() });
        let places: Vec<bool> = Calls::places(calls.as_bytes()).map(<[u8]>::is_empty).collect();
        assert_eq!((places, calls.iter().count()), (vec![true, false], 1));
    }
}
