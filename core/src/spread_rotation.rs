//! A spread rotation: everything that was issued before a moment is renewed ahead of its time, not
//! all at once.
//!
//! Somebody asks for it by the annotation [`ROTATE_AFTER`] on the `WorkloadCertificateConfig`:
//!
//! ```text
//! certagent.dev/rotate-after: 2026-11-30T10:00:00Z        uniformly over two hours
//! certagent.dev/rotate-after: 2026-11-30T10:00:00Z/30m    over half an hour
//! due = max(the moment, when the annotation was written) + u * over     u in [0, 1): one draw per
//! certificate
//! ```
//! Whatever is renewed by that is issued after the moment, so nothing is renewed twice.
use std::fmt;

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use crate::{
    pool::shorten,
    rotation::{CertState, Step},
};

/// The annotation.
pub const ROTATE_AFTER: &str = "certagent.dev/rotate-after";

/// What the annotation may hold, for messages.
pub const ALLOWED: &str = "a time with its offset, such as 2026-11-30T10:00:00Z, and after a / for \
                           how long, if not 2h, such as 2026-11-30T10:00:00Z/30m; at most 30 days";

/// For how long, where nothing is said.
const OVER: SignedDuration = SignedDuration::from_hours(2);

/// And at most.
const LONGEST: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What is to be renewed, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpreadRotation {
    issued_before: Timestamp,
    from: Timestamp,
    over: SignedDuration,
}

/// Why a text is none. Its `Display` says what is wrong, not what is allowed: see [`ALLOWED`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpreadRotationError {
    /// The part before the `/`.
    #[error("\"{}\" is not a time", shorten(.0))]
    Time(String),
    /// The part after the `/`.
    #[error("\"{}\" is not a span of time, such as 30m, 12h or 7d", shorten(.0))]
    Over(String),
    /// The span is negative or too long.
    #[error("the span of time \"{}\" is out of range", shorten(.0))]
    OutOfRange(String),
}

impl SpreadRotation {
    /// Reads the annotation. With `written_at`, the moment at which it was put there if that is
    /// known, a time that is long past does not make everything due at once.
    pub fn parse(text: &str, written_at: Option<Timestamp>) -> Result<Self, SpreadRotationError> {
        let (time, over) = match text.split_once('/') {
            Some((time, over)) => (time, Some(over)),
            None => (text, None),
        };
        let wrong = |_unparsed| SpreadRotationError::Time(time.to_owned());
        let issued_before: Timestamp = time.trim().parse().map_err(wrong)?;
        let over = match over {
            None => OVER,
            Some(over) => span(over)?,
        };
        Ok(Self {
            issued_before,
            from: written_at.map_or(issued_before, |written| written.max(issued_before)),
            over,
        })
    }

    /// What was issued at that moment or later stays.
    pub fn issued_before(&self) -> Timestamp {
        self.issued_before
    }

    /// When the first is due.
    pub fn from(&self) -> Timestamp {
        self.from
    }

    /// When the last is.
    pub fn until(&self) -> Timestamp {
        self.from
            .saturating_add(self.over)
            .unwrap_or(Timestamp::MAX)
    }

    /// When a certificate has to be renewed because of this; none if it was issued late enough.
    pub fn due(&self, state: &CertState) -> Option<Timestamp> {
        if state.issued_at >= self.issued_before {
            return None;
        }
        let share = self.over.as_secs_f64() * state.spread.clamp(0.0, 1.0);
        let wait = SignedDuration::try_from_secs_f64(share).unwrap_or_default();
        Some(self.from.saturating_add(wait).unwrap_or(Timestamp::MAX))
    }

    /// The step of a certificate at `now`, where rotation by itself says `step`.
    pub fn hasten(&self, step: Step, state: &CertState, now: Timestamp) -> Step {
        let Some(due) = self.due(state) else {
            return step;
        };
        match step {
            Step::Wait { .. } | Step::CaEnding { .. } if due <= now => Step::Renew,
            Step::Wait { until } => Step::Wait {
                until: until.min(due),
            },
            step => step,
        }
    }
}

/// A day has 24 hours.
fn span(text: &str) -> Result<SignedDuration, SpreadRotationError> {
    let wrong = || SpreadRotationError::Over(text.to_owned());
    let span: Span = text.trim().parse().map_err(|_unparsed| wrong())?;
    let over = span.to_duration(SpanRelativeTo::days_are_24_hours());
    let over = over.map_err(|_months| wrong())?;
    if over.is_negative() || over > LONGEST {
        return Err(SpreadRotationError::OutOfRange(text.to_owned()));
    }
    Ok(over)
}

/// For reports: the three moments.
impl Serialize for SpreadRotation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut moments = serializer.serialize_struct("SpreadRotation", 3)?;
        moments.serialize_field("issuedBefore", &self.issued_before)?;
        moments.serialize_field("from", &self.from)?;
        moments.serialize_field("until", &self.until())?;
        moments.end()
    }
}

impl fmt::Display for SpreadRotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "what was issued before {} is renewed from {} to {}",
            self.issued_before,
            self.from,
            self.until()
        )
    }
}

#[cfg(test)]
#[path = "spread_rotation_tests.rs"]
mod tests;
