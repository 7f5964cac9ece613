//! How many requests and tokens, and how many requests at once: for each key, user, group and address, and
//! for everybody together.
//!
//! [`Limiter::admit`] is the one question. It answers with a [`Permit`], to be held for as long as the
//! request runs and told the true number of tokens, or with a [`Refusal`] that says what to do. Everything
//! that applies to a request is checked before anything is charged, and what is refused costs nothing.

mod clock;
mod judge;
mod limiter;
mod local;
mod quota;
mod registry;
mod rules;
mod settings;
mod shared;
mod subjects;
mod window;

pub use clock::{Clock, ManualClock, SystemClock};
pub use limiter::{Limiter, LimiterError, LimitsHealth, Permit};
pub use quota::{Allowance, Exceeded, Quota, Refusal};
pub use rules::{Measure, Scope, Span};
pub use settings::{IpLimits, Limit, LimitSettings, Limits, OnFailure, Sharing, WindowLimit};
pub use subjects::Subjects;

pub(crate) use registry::{Age, Aged, Registry};
pub(crate) use window::{Shape, Wait, Window};
