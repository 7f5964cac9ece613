//! W3C trace context (<https://www.w3.org/TR/trace-context/>), the `traceparent` header.

use crate::ids::random_u64;

/// One position in a distributed trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// 16 bytes, never all zero.
    pub trace_id: [u8; 16],
    /// 8 bytes, never all zero: the span we are in.
    pub span_id: [u8; 8],
    /// The caller's span, when the caller sent one.
    pub parent_span_id: Option<[u8; 8]>,
    /// Whether the trace is to be recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// Continues the caller's trace, or starts one when the header is missing or malformed (the
    /// specification says a malformed one is ignored, not refused).
    pub fn from_header(value: Option<&[u8]>) -> Self {
        let span_id = nonzero_span();
        match value.and_then(parse) {
            Some((trace_id, parent, sampled)) => {
                TraceContext { trace_id, span_id, parent_span_id: Some(parent), sampled }
            }
            None => {
                let (a, b) = (random_u64().max(1), random_u64());
                let mut trace_id = [0; 16];
                trace_id[..8].copy_from_slice(&a.to_be_bytes());
                trace_id[8..].copy_from_slice(&b.to_be_bytes());
                TraceContext { trace_id, span_id, parent_span_id: None, sampled: true }
            }
        }
    }

    /// A child of this span, for a call that we make.
    pub fn child(&self) -> Self {
        TraceContext { span_id: nonzero_span(), parent_span_id: Some(self.span_id), ..*self }
    }

    /// The header's text: `00-<trace id>-<span id>-<flags>`.
    pub fn to_header(&self) -> [u8; 55] {
        let mut text = *b"00-................................-................-00";
        write_hex(&mut text[3..35], &self.trace_id);
        write_hex(&mut text[36..52], &self.span_id);
        text[54] += u8::from(self.sampled);
        text
    }
}

fn nonzero_span() -> [u8; 8] {
    random_u64().max(1).to_be_bytes()
}

fn write_hex(text: &mut [u8], bytes: &[u8]) {
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
}

/// `version-traceid-parentid-flags`, lower-case hex only. A later version may carry more fields.
fn parse(value: &[u8]) -> Option<([u8; 16], [u8; 8], bool)> {
    let version = hex_bytes::<1>(value.get(0..2)?)?[0];
    let well_formed = value.get(2) == Some(&b'-')
        && value.get(35) == Some(&b'-')
        && value.get(52) == Some(&b'-')
        && version != 0xff
        && (if version == 0 { value.len() == 55 } else { value.len() == 55 || value.get(55) == Some(&b'-') });
    if !well_formed {
        return None;
    }
    let trace_id = hex_bytes::<16>(value.get(3..35)?)?;
    let parent = hex_bytes::<8>(value.get(36..52)?)?;
    let flags = hex_bytes::<1>(value.get(53..55)?)?[0];
    (trace_id != [0; 16] && parent != [0; 8]).then_some((trace_id, parent, flags & 1 == 1))
}

fn hex_bytes<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (i, pair) in text.chunks_exact(2).enumerate() {
        out[i] = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn continues_the_callers_trace() {
        let ctx = TraceContext::from_header(Some(GOOD.as_bytes()));
        assert_eq!(ctx.parent_span_id, Some([0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]));
        let header = String::from_utf8(ctx.to_header().to_vec()).unwrap();
        assert!(header.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && header.ends_with("-01"));
        assert_eq!(ctx.child().trace_id, ctx.trace_id);
        assert_eq!(ctx.child().parent_span_id, Some(ctx.span_id));
    }

    #[test]
    fn ignores_what_is_malformed() {
        let zero = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &GOOD.to_uppercase(),
            zero,
            &format!("{GOOD}x"),
            &GOOD.replacen("00", "ff", 1),
        ] {
            assert_eq!(TraceContext::from_header(Some(bad.as_bytes())).parent_span_id, None, "{bad}");
        }
    }
}
