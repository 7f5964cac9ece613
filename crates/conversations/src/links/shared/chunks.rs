//! Long recordings in pieces that a model takes, cut where nobody speaks. ffmpeg does it; without ffmpeg, or when it
//! cannot read the recording, it goes out whole.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use super::process::{self, Ended, Limits};
use super::recording::Recording;
use crate::link::LinkError;

/// The names of these options.
pub(in crate::links) const OPTIONS: &[&str] =
    &["max_chunk_duration", "use_silence_chunking", "silence_thresh", "silence_len", "ffmpeg", "ffprobe"];

/// What a piece may not be longer than, in seconds, whatever the options say.
const MOST_PIECES: usize = 1_000;
/// No recording of fewer bytes a second is worth asking ffprobe about.
const SPARSE: f64 = 500.0;
/// The forms of files that ffmpeg may take a recording for: none that leads to other files.
const FORMATS: &str = "wav,w64,aiff,au,mp3,aac,flac,ogg,amr,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm";
const LIMITS: Limits = Limits { time: Duration::from_secs(300), memory: Some(2 << 30), output: 256 << 20 };

/// How recordings are cut.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub(in crate::links) struct Chunking {
    /// The longest piece, in seconds.
    max_chunk_duration: f64,
    /// Whether to cut where it is silent.
    use_silence_chunking: bool,
    /// What counts as silence, in dBFS.
    silence_thresh: f64,
    /// How long it must be silent, in milliseconds.
    silence_len: f64,
    /// The program.
    ffmpeg: String,
    /// The program that tells the duration.
    ffprobe: String,
}

impl Default for Chunking {
    fn default() -> Self {
        Chunking {
            max_chunk_duration: 480.0,
            use_silence_chunking: true,
            silence_thresh: -40.0,
            silence_len: 2000.0,
            ffmpeg: "ffmpeg".into(),
            ffprobe: "ffprobe".into(),
        }
    }
}

impl Chunking {
    /// The recording itself, or its pieces in their order.
    pub(in crate::links) async fn split(&self, recording: Recording) -> Result<Vec<Recording>, LinkError> {
        let longest = self.max_chunk_duration;
        if !longest.is_finite() || longest < 1.0 || (recording.audio.len() as f64) < longest * SPARSE {
            return Ok(vec![recording]);
        }
        match self.pieces(&recording, longest).await {
            Ok(pieces) if pieces.len() > 1 => Ok(pieces),
            Ok(_) => Ok(vec![recording]),
            // What cannot be cut may still be taken whole; if not, the model says so.
            Err(error) => {
                tracing::warn!(%error, "a long recording is not cut into pieces");
                Ok(vec![recording])
            }
        }
    }

    async fn pieces(&self, recording: &Recording, longest: f64) -> Result<Vec<Recording>, LinkError> {
        let io =
            |error: std::io::Error| LinkError::temporary(format!("a recording cannot be put aside: {error}"));
        let folder = tempfile::tempdir().map_err(io)?;
        let path = folder.path().join("recording");
        tokio::fs::write(&path, &recording.audio).await.map_err(io)?;
        let duration = self.duration(&path).await?;
        if duration <= longest {
            return Ok(Vec::new());
        }
        let silences = match self.use_silence_chunking {
            true => self.silences(&path).await?,
            false => Vec::new(),
        };
        let cuts = cuts(duration, longest, &silences);
        let mut pieces = Vec::with_capacity(cuts.len() + 1);
        let starts = std::iter::once(0.0).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().map(Some).chain([None]);
        for (number, (start, end)) in starts.zip(ends).enumerate() {
            let audio = self.cut(&path, start, end).await?;
            let stem = recording.file_name.rsplit_once('.').map_or(&*recording.file_name, |(stem, _)| stem);
            let file_name = format!("{stem}_chunk_{number:03}.mp3");
            pieces.push(Recording { audio, file_name, media_type: "audio/mpeg".into() });
        }
        Ok(pieces)
    }

    async fn duration(&self, path: &Path) -> Result<f64, LinkError> {
        let path = path.to_string_lossy();
        let arguments = [
            "-v",
            "error",
            "-format_whitelist",
            FORMATS,
            "-show_entries",
            "format=duration",
            "-of",
            "csv=p=0",
            &*path,
        ];
        let ended = run(&self.ffprobe, &arguments).await?;
        let text = String::from_utf8_lossy(&ended.stdout);
        text.trim()
            .parse()
            .map_err(|_| LinkError::permanent("ffprobe does not tell the recording's duration"))
    }

    /// When it is silent.
    async fn silences(&self, path: &Path) -> Result<Vec<Range<f64>>, LinkError> {
        let filter = format!("silencedetect=noise={}dB:d={}", self.silence_thresh, self.silence_len / 1000.0);
        let path = path.to_string_lossy();
        let arguments = [
            "-nostdin",
            "-hide_banner",
            "-nostats",
            "-v",
            "info",
            "-format_whitelist",
            FORMATS,
            "-i",
            &*path,
            "-vn",
            "-af",
            &*filter,
            "-f",
            "null",
            "-",
        ];
        Ok(read_silences(&run(&self.ffmpeg, &arguments).await?.stderr))
    }

    async fn cut(&self, path: &Path, start: f64, end: Option<f64>) -> Result<Bytes, LinkError> {
        let (start, path) = (format!("{start:.3}"), path.to_string_lossy());
        let end = end.map(|end| format!("{end:.3}"));
        let mut arguments = vec!["-nostdin", "-v", "error", "-format_whitelist", FORMATS, "-ss", &*start];
        if let Some(end) = &end {
            arguments.extend(["-to", end]);
        }
        arguments
            .extend(["-i", &*path, "-vn", "-ac", "1", "-ar", "16000", "-b:a", "128k", "-f", "mp3", "pipe:1"]);
        Ok(run(&self.ffmpeg, &arguments).await?.stdout.into())
    }
}

async fn run(program: &str, arguments: &[&str]) -> Result<Ended, LinkError> {
    let command: Vec<String> =
        std::iter::once(program).chain(arguments.iter().copied()).map(str::to_owned).collect();
    let ended = process::run(&command, &[], None, Bytes::new(), LIMITS).await?;
    match ended.code {
        Some(0) => Ok(ended),
        _ => Err(LinkError::permanent(format!("{program}: {}", ended.last_line()))),
    }
}

/// The times in lines as `[silencedetect @ 0x…] silence_end: 3.2 | silence_duration: 2.1`.
fn read_silences(text: &str) -> Vec<Range<f64>> {
    let mut silences = Vec::new();
    let mut open = None;
    let number = |text: &str| text.split_whitespace().next()?.parse::<f64>().ok();
    for line in text.lines() {
        if let Some((_, rest)) = line.split_once("silence_start:") {
            open = number(rest);
        } else if let Some((_, rest)) = line.split_once("silence_end:")
            && let (Some(start), Some(end)) = (open.take(), number(rest))
        {
            silences.push(start.max(0.0)..end);
        }
    }
    silences
}

/// Where to cut: in the middle of the last silence that ends a piece of at least half the longest length, else
/// after the longest length.
fn cuts(duration: f64, longest: f64, silences: &[Range<f64>]) -> Vec<f64> {
    let longest = longest.max(duration / MOST_PIECES as f64);
    let middles: Vec<f64> =
        silences.iter().map(|silence| f64::midpoint(silence.start, silence.end)).collect();
    let mut cuts = Vec::new();
    let mut start = 0.0;
    while duration - start > longest {
        let window = start + longest / 2.0..=start + longest;
        let quiet = middles.iter().copied().rfind(|middle| window.contains(middle) && *middle < duration);
        start = quiet.unwrap_or(start + longest);
        cuts.push(start);
    }
    cuts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_piece_is_longer_than_allowed_and_none_is_lost(
            duration in 0.0f64..20_000.0,
            longest in 1.0f64..1_000.0,
            starts in proptest::collection::vec((0.0f64..20_000.0, 0.1f64..30.0), 0..50),
        ) {
            let mut silences: Vec<Range<f64>> = starts.into_iter().map(|(start, length)| start..start + length).collect();
            silences.sort_by(|a, b| a.start.total_cmp(&b.start));
            let cuts = cuts(duration, longest, &silences);
            let bound = longest.max(duration / MOST_PIECES as f64);
            let mut last = 0.0;
            for cut in cuts.iter().copied().chain([duration]) {
                prop_assert!(cut >= last && cut - last <= bound + 1e-6, "{last} {cut}");
                prop_assert!(cut == duration || cut - last >= bound / 2.0 - 1e-6);
                last = cut;
            }
        }
    }

    #[test]
    fn it_cuts_in_the_silence() {
        assert_eq!(
            cuts(1000.0, 480.0, &[100.0..102.0, 300.0..304.0, 440.0..444.0, 470.0..500.0, 900.0..910.0]),
            [442.0, 905.0]
        );
        assert_eq!(cuts(481.0, 480.0, &[]), [480.0]);
        assert!(cuts(480.0, 480.0, &[]).is_empty());
        let text = "x\n[silencedetect @ 0x1] silence_start: -0.01\n[silencedetect @ 0x1] silence_end: 3.25 | silence_duration: 3\n\
            [silencedetect @ 0x1] silence_start: 10\n";
        assert_eq!(read_silences(text), [0.0..3.25]);
    }

    /// Eight thousand samples a second: a tone, with silence from 3 s to 6 s and from 12 s to 15 s.
    fn wav(seconds: usize) -> Bytes {
        let rate = 8_000usize;
        let loud = |at: usize| !matches!(at / rate, 3..=5 | 12..=14);
        let samples: Vec<u8> = (0..seconds * rate)
            .flat_map(|at| (if loud(at) { ((at % 16) as i16 - 8) * 2_000 } else { 0 }).to_le_bytes())
            .collect();
        let size = samples.len() as u32;
        let mut wav = Vec::new();
        wav.extend_from_slice(b"RIFF");
        wav.extend_from_slice(&(36 + size).to_le_bytes());
        wav.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
        wav.extend_from_slice(&(rate as u32).to_le_bytes());
        wav.extend_from_slice(&(rate as u32 * 2).to_le_bytes());
        wav.extend_from_slice(b"\x02\0\x10\0data");
        wav.extend_from_slice(&size.to_le_bytes());
        wav.extend_from_slice(&samples);
        wav.into()
    }

    fn recording(audio: Bytes) -> Recording {
        Recording { audio, file_name: "call.wav".into(), media_type: "audio/wav".into() }
    }

    #[tokio::test]
    async fn a_real_recording_is_cut_by_ffmpeg() {
        if std::process::Command::new("ffmpeg").arg("-version").output().is_err() {
            assert!(std::env::var_os("TRUNKLINE_REQUIRE_SERVICES").is_none(), "ffmpeg is required");
            println!("skipped: no ffmpeg on the PATH");
            return;
        }
        let chunking = Chunking { max_chunk_duration: 8.0, silence_len: 1000.0, ..Chunking::default() };
        let pieces = chunking.split(recording(wav(20))).await.unwrap();
        let names: Vec<&str> = pieces.iter().map(|piece| &*piece.file_name).collect();
        assert_eq!(names, ["call_chunk_000.mp3", "call_chunk_001.mp3", "call_chunk_002.mp3"]);
        let folder = tempfile::tempdir().unwrap();
        let mut durations = Vec::new();
        for piece in &pieces {
            let path = folder.path().join(&piece.file_name);
            std::fs::write(&path, &piece.audio).unwrap();
            durations.push(chunking.duration(&path).await.unwrap());
        }
        // Cut at 4.5 s and at 12.5 s (8 s later, within the second silence at 13.5 s − 1 s).
        for (duration, expected) in durations.iter().zip([4.5, 8.0, 7.5]) {
            assert!((duration - expected).abs() < 0.3, "{durations:?}");
        }
        let whole = chunking.split(recording(wav(7))).await.unwrap();
        assert_eq!((whole.len(), &*whole[0].file_name), (1, "call.wav"));
    }

    #[tokio::test]
    async fn without_ffmpeg_or_with_a_file_that_is_none_it_goes_whole() {
        let missing =
            Chunking { max_chunk_duration: 8.0, ffprobe: "/no/ffprobe".into(), ..Chunking::default() };
        assert_eq!(missing.split(recording(wav(20))).await.unwrap().len(), 1);
        // A list of other files is none of the forms that are read.
        let list = Bytes::from(format!("#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n{}", "#\n".repeat(4_000)));
        let chunking = Chunking { max_chunk_duration: 8.0, ..Chunking::default() };
        assert_eq!(chunking.split(recording(list.clone())).await.unwrap()[0].audio, list);
    }
}
