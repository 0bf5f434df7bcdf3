//! When a certificate is renewed: one pure function.
//!
//! ```text
//! usable = notAfter - max(notBefore, issued_at)      a pool may backdate
//! window = percentage/100 * min(validity, usable)    the share that REMAINS when renewal may begin
//! renew  = (notAfter - window) + u * window/5        u in [0, 1): one draw per certificate
//! floor  = never before issued_at + max(30 s, usable/100); under a minute of life, its half
//! ```
//! So renewal never begins before the window that the configuration names, certificates that were
//! issued together do not renew together, and no clock or pool can make it loop.
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

/// What is known of a certificate that runs. Percentage and validity are those recorded when it
/// was issued.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CertState {
    /// Start of its validity; before `issued_at` where the pool backdates.
    pub not_before: Timestamp,
    /// The effective end: of the first certificate of its path to end.
    pub not_after: Timestamp,
    /// The end of the first of the CAs above it to end, the root included; none if not known.
    pub authorities_until: Option<Timestamp>,
    /// When it was received.
    pub issued_at: Timestamp,
    /// The lifetime that was asked for.
    pub validity: SignedDuration,
    /// The share of the life that remains when renewal may begin, 1 to 99.
    pub rotation_window_percentage: u8,
    /// The certificate's place within the window, `[0, 1)`: see [`spread`].
    pub spread: f64,
}

/// What to do about a certificate now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing before this moment.
    Wait {
        /// When renewal begins.
        until: Timestamp,
    },
    /// Ask for the next one.
    Renew,
    /// Its CA is about to end, and a renewal would end with it: nothing before the CA is
    /// replaced.
    CaEnding {
        /// When the CA ends.
        at: Timestamp,
    },
    /// It has ended: ask at once.
    Expired,
}

/// Decides the step at `now`. `ca_until` is the latest end that the issuing pool could give to a
/// certificate asked for now, where that is known.
pub fn next(state: &CertState, ca_until: Option<Timestamp>, now: Timestamp) -> Step {
    if now > state.not_after {
        return Step::Expired;
    }
    if is_cut_short(state) {
        let worth_it = state
            .not_after
            .saturating_add(state.validity / 10)
            .unwrap_or(Timestamp::MAX);
        // A certificate can be short for other reasons: then its own CAs last.
        let ends = |until: Option<Timestamp>| until.is_none_or(|until| until < worth_it);
        if ends(state.authorities_until) && ends(ca_until) {
            return Step::CaEnding {
                at: state.not_after,
            };
        }
    }
    let due = due(state);
    if now < due {
        Step::Wait { until: due }
    } else {
        Step::Renew
    }
}

/// When renewal begins, whatever the CA's own end.
pub fn due(state: &CertState) -> Timestamp {
    let window = window(state);
    let spread = state.spread.clamp(0.0, 1.0);
    let drawn = window_start(state).saturating_add(scale(window, spread / 5.0));
    let floor = state.issued_at.saturating_add(least_age(usable(state)));
    drawn
        .unwrap_or(Timestamp::MAX)
        .max(floor.unwrap_or(Timestamp::MAX))
        .min(state.not_after)
}

/// The earliest moment at which renewal may begin.
pub fn window_start(state: &CertState) -> Timestamp {
    state
        .not_after
        .saturating_sub(window(state))
        .unwrap_or(Timestamp::MIN)
}

/// The certificate's place within its window: a draw that depends on nothing but the volume and
/// the serial, so that a restart does not draw again.
pub fn spread(volume: &str, serial: &str) -> f64 {
    let digest = Sha256::new()
        .chain_update(volume)
        .chain_update([0])
        .chain_update(serial)
        .finalize();
    let bytes: [u8; 4] = [digest[0], digest[1], digest[2], digest[3]];
    f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

/// The life that the certificate had left when it was issued.
pub fn usable(state: &CertState) -> SignedDuration {
    // A clock that was stepped far ahead at issue would leave no life at all; the certificate's
    // own dates then say more.
    let start = state.not_before.max(state.issued_at);
    let start = if start < state.not_after {
        start
    } else {
        state.not_before
    };
    state
        .not_after
        .duration_since(start)
        .max(SignedDuration::ZERO)
}

/// So little of the asked-for life was given that renewing would only halve it again, if that is
/// because the CA (or the root above it) ends.
fn is_cut_short(state: &CertState) -> bool {
    usable(state) < state.validity / 10
}

fn window(state: &CertState) -> SignedDuration {
    let share = f64::from(state.rotation_window_percentage.clamp(1, 99)) / 100.0;
    scale(
        state.validity.min(usable(state)).max(SignedDuration::ZERO),
        share,
    )
}

fn least_age(usable: SignedDuration) -> SignedDuration {
    let half_a_minute = SignedDuration::from_secs(30);
    if usable < half_a_minute * 2 {
        usable / 2
    } else {
        half_a_minute.max(usable / 100)
    }
}

fn scale(span: SignedDuration, share: f64) -> SignedDuration {
    SignedDuration::try_from_secs_f64(span.as_secs_f64() * share).unwrap_or_default()
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
