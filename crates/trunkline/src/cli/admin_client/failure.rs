//! What people read when it does not work: what happened, and what to do about it.

use std::error::Error as _;
use std::io;

use serde_json::Value;

use crate::cli::output::printable;

/// Why a command did not do what it should. The exit code is 1.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something here is missing or wrong, before anything was sent.
    #[error("{0}")]
    Setup(String),
    /// Nobody listens there, or who does is not trusted.
    #[error("nothing answers at {place}: {why}{}", remedy(why))]
    Unreachable {
        /// Where.
        place: String,
        /// What the system said.
        why: String,
    },
    /// It was sent, and nothing was heard.
    #[error("{place}: {why}")]
    Lost {
        /// Where.
        place: String,
        /// What happened.
        why: String,
    },
    /// The same, of a creation.
    #[error(
        "{place}: {why}. Whether it was done is not known: with `--idempotency-key {key}` the same command may be \
         repeated and is done once"
    )]
    Unknown {
        /// Where.
        place: String,
        /// What happened.
        why: String,
        /// The key that it was sent with.
        key: String,
    },
    /// The server refused.
    #[error("{}", refusal(*status, message, field.as_deref()))]
    Refused {
        /// Its status.
        status: u16,
        /// Its code.
        code: String,
        /// Its message.
        message: String,
        /// The field that is wrong.
        field: Option<String>,
    },
    /// Somebody else answers there.
    #[error(
        "{place} answered {status} and not as Trunkline's admin API does: is that its URL, and does it serve the role `admin`?"
    )]
    Strange {
        /// Where.
        place: String,
        /// What it answered.
        status: u16,
    },
    /// It is elsewhere.
    #[error(
        "{place} leads to `{}`: the key is sent nowhere but where you say; use `--url` with the new place",
        printable(to)
    )]
    Moved {
        /// Where it was asked.
        place: String,
        /// Where it leads.
        to: String,
    },
    /// More than is kept in memory.
    #[error("the answer of {place} is larger than {max} bytes")]
    TooLarge {
        /// Who answered.
        place: String,
        /// Bytes.
        max: usize,
    },
    /// What was asked has a bad answer, in these words.
    #[error("{0}")]
    Said(String),
    /// The same, and the words have been printed.
    #[error("")]
    Told,
    /// Our output went nowhere.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// Something is missing or wrong here.
    pub fn setup(why: impl Into<String>) -> Self {
        Failure::Setup(why.into())
    }

    /// What an answer says that is no success.
    pub fn of_answer(place: String, status: u16, bytes: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let text = |name: &str| body.get("error")?.get(name)?.as_str().map(str::to_owned);
        // A listener that only serves the models has another form for what it does not know.
        let ours = status != 404 || body.get("request_id").is_some();
        let code = text("code").unwrap_or_default();
        match text("message").filter(|_| ours) {
            Some(message) => Failure::Refused { status, code, message, field: text("field") },
            None => Failure::Strange { place, status },
        }
    }

    /// Whether the same request may find another answer: nothing was heard of it, or it is still under way.
    pub fn may_be_lost(&self) -> bool {
        match self {
            Failure::Lost { .. } => true,
            Failure::Refused { code, .. } => code == "idempotency_key_in_use",
            _ => false,
        }
    }

    /// Whether who reads our output stopped reading, as `head` does: that is no failure.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// The innermost reason, which is what the system said.
pub fn cause(error: &reqwest::Error) -> String {
    let mut reason: &dyn std::error::Error = error;
    while let Some(inner) = reason.source() {
        reason = inner;
    }
    // Without a deeper reason the error would repeat the URL.
    match error.source() {
        Some(_) => reason.to_string(),
        None => "the connection failed".into(),
    }
}

fn remedy(why: &str) -> &'static str {
    if why.contains("certificate") {
        "; `--cacert FILE` names the authority to trust"
    } else {
        "; is the server running, and is `--url` (or TRUNKLINE_URL) right?"
    }
}

/// The server's words, and what they mean to who holds a key.
fn refusal(status: u16, message: &str, field: Option<&str>) -> String {
    let message = printable(message);
    let message = match field {
        Some(field) if !message.contains(field) => format!("{}: {message}", printable(field)),
        _ => message,
    };
    match status {
        401 => format!(
            "{message}\nThe server does not know this key: TRUNKLINE_ADMIN_KEY (or --key-file) must be its admin key, or \
             an admin token made by `trunkline keys create --role`"
        ),
        403 => format!(
            "{message}\nThis key's role has not the permission: `trunkline roles list` shows what roles may do"
        ),
        _ => message,
    }
}
