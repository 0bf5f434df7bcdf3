//! What the quickstart shows on a terminal: one live line per certificate.
use std::{collections::BTreeMap, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use jiff::{SignedDuration, Timestamp};

use crate::{
    clock::SharedClock,
    logging::LogOutput,
    status::{CertificateStatus, VolumeStatus},
    volume::VolumeId,
};

const REFRESH: Duration = Duration::from_millis(220);

/// A terminal that does not tell its width.
const USUAL_WIDTH: usize = 80;

/// A bar narrower than this says nothing; wider than that it says nothing more.
const BAR_WIDTH: std::ops::RangeInclusive<usize> = 10..=40;

/// Shows the volumes for ever; dropped, the lines stay as they were last.
pub(super) async fn show(
    statuses: impl Fn() -> Vec<VolumeStatus>,
    clock: &SharedClock,
    log: &LogOutput,
) {
    let view = View::new(log);
    let mut lines: BTreeMap<VolumeId, ProgressBar> = BTreeMap::new();
    let mut ticks = tokio::time::interval(REFRESH);
    loop {
        ticks.tick().await;
        let (statuses, now) = (statuses(), clock.now());
        // The last column stays free: some terminals wrap when it is written.
        let width = usize::from(console_width()).saturating_sub(1);
        lines.retain(|id, line| {
            let stays = statuses.iter().any(|status| status.id == *id);
            if !stays {
                view.lines.remove(line);
            }
            stays
        });
        for status in &statuses {
            let line = lines.entry(status.id.clone()).or_insert_with(|| view.add());
            line.set_message(text(status, now, width));
        }
    }
}

/// The live lines, with the log above them.
struct View<'a> {
    lines: MultiProgress,
    log: &'a LogOutput,
}

impl<'a> View<'a> {
    fn new(log: &'a LogOutput) -> Self {
        let lines = MultiProgress::new();
        log.show_above(Some(lines.clone()));
        Self { lines, log }
    }

    fn add(&self) -> ProgressBar {
        let line = ProgressBar::no_length();
        // The template is constant; without it the default would show, which is no harm.
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            line.set_style(style);
        }
        self.lines.add(line)
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        self.log.show_above(None);
    }
}

fn console_width() -> u16 {
    let width = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(0, |size| size.ws_col);
    if width == 0 {
        u16::try_from(USUAL_WIDTH).unwrap_or(u16::MAX)
    } else {
        width
    }
}

/// The line of a volume, at most `width` columns: what matters most stays longest.
fn text(status: &VolumeStatus, now: Timestamp, width: usize) -> String {
    let trouble = trouble(status, now);
    let Some(certificate) = &status.certificate else {
        return cut(
            &trouble.unwrap_or_else(|| "asking for the first certificate".to_owned()),
            width,
        );
    };
    let mut parts = vec![remains(certificate, now)];
    let optional = [
        trouble,
        Some(renews(certificate, status, now)),
        Some(match status.rotations {
            1 => "1 rotation".to_owned(),
            more => format!("{more} rotations"),
        }),
        Some(certificate.key.to_string()),
        Some(format!("serial {}", short(&certificate.serial))),
    ];
    let length = |parts: &[String]| {
        parts
            .iter()
            .map(|part| part.chars().count() + 2)
            .sum::<usize>()
    };
    let bar_min = *BAR_WIDTH.start();
    // First all that fits beside the narrowest bar, then the bar takes what is left.
    for part in optional.into_iter().flatten() {
        if length(&parts) + part.chars().count() + 2 + bar_min <= width {
            parts.push(part);
        }
    }
    let room = width.saturating_sub(length(&parts)).min(*BAR_WIDTH.end());
    if room >= bar_min {
        parts.insert(0, life_bar(room, certificate, now));
    }
    cut(&parts.join("  "), width)
}

fn trouble(status: &VolumeStatus, now: Timestamp) -> Option<String> {
    let error = status.last_error.as_deref()?;
    let again = span(status.next_attempt.duration_since(now));
    let times = status.failures;
    Some(format!(
        "failed {times}x, again in {again}: {}",
        cut(error, 60)
    ))
}

fn remains(certificate: &CertificateStatus, now: Timestamp) -> String {
    let left = certificate.not_after.duration_since(now);
    if left.is_negative() {
        format!("ENDED {} ago", span(-left))
    } else {
        format!("{} left", span(left))
    }
}

fn renews(certificate: &CertificateStatus, status: &VolumeStatus, now: Timestamp) -> String {
    let until = certificate.renew_at.duration_since(now);
    if until.is_positive() {
        format!("renews in {}", span(until))
    } else if status.failures == 0 {
        "renewing".to_owned()
    } else {
        "renewal due".to_owned()
    }
}

/// The beginning and the end of a serial.
fn short(serial: &str) -> String {
    match (
        serial.get(..6),
        serial.len().checked_sub(4).and_then(|at| serial.get(at..)),
    ) {
        (Some(start), Some(end)) if serial.len() > 12 => format!("{start}…{end}"),
        _ => serial.to_owned(),
    }
}

/// `47s`, `3m07s`, `2h05m`, `3d04h`; a begun second counts.
fn span(span: SignedDuration) -> String {
    let seconds = span.as_secs().max(0) + i64::from(span.subsec_nanos() > 0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, ..) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// The first `width` characters, on one line.
fn cut(text: &str, width: usize) -> String {
    let text = text.replace(['\n', '\r', '\t'], " ");
    if text.chars().count() <= width {
        return text;
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        cut.push('…');
    }
    cut
}

/// The life of a certificate in `width` cells, from its issue to its end: `█` has passed, `░` is
/// to come, and `▓` and `▒` are the same within the window in which it may be renewed; `│` is the
/// moment at which it will be.
fn life_bar(width: usize, certificate: &CertificateStatus, now: Timestamp) -> String {
    let start = certificate
        .not_before
        .max(certificate.issued_at)
        .min(certificate.not_after);
    let life = certificate.not_after.duration_since(start).as_millis();
    // The number of cells that begin before a moment.
    let cells = |moment: Timestamp| {
        let passed = moment.duration_since(start).as_millis().clamp(0, life);
        let cells = i128::try_from(width).unwrap_or_default();
        let scaled = if life == 0 {
            cells
        } else {
            passed * cells / life
        };
        usize::try_from(scaled).unwrap_or_default()
    };
    let (passed, window) = (cells(now), cells(certificate.window_start));
    let renewal = cells(certificate.renew_at).min(width.saturating_sub(1));
    (0..width)
        .map(|cell| match (cell < passed, cell < window) {
            (false, _) if cell == renewal => '│',
            (true, true) => '█',
            (true, false) => '▓',
            (false, true) => '░',
            (false, false) => '▒',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use certagent_svid::PublicKeyKind;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    /// A minute of life, a window of the last half, renewal 3 s into it.
    fn certificate() -> CertificateStatus {
        CertificateStatus {
            serial: "3fa95b21c0d4e8f7a1b2c3d4e5f60718".to_owned(),
            key: PublicKeyKind::EcP256,
            not_before: at(0),
            issued_at: at(0),
            not_after: at(60),
            window_start: at(30),
            renew_at: at(33),
            is_to_rotate: false,
        }
    }

    fn status(certificate: Option<CertificateStatus>) -> VolumeStatus {
        VolumeStatus {
            id: VolumeId::of("/v".as_ref()),
            path: "/v".into(),
            spiffe_id: "spiffe://example.org/ns/a/sa/b".to_owned(),
            certificate,
            generation: None,
            is_distrusted: false,
            is_misnamed: false,
            rotations: 2,
            failures: 0,
            last_error: None,
            is_hopeless: false,
            needs_token: false,
            next_attempt: at(33),
        }
    }

    #[test]
    fn the_bar_shows_what_has_passed_the_window_and_the_renewal() {
        let bar = |now| life_bar(20, &certificate(), at(now));
        assert_eq!(bar(-9), "░░░░░░░░░░▒│▒▒▒▒▒▒▒▒");
        assert_eq!(bar(0), "░░░░░░░░░░▒│▒▒▒▒▒▒▒▒");
        assert_eq!(bar(15), "█████░░░░░▒│▒▒▒▒▒▒▒▒");
        assert_eq!(bar(30), "██████████▒│▒▒▒▒▒▒▒▒");
        assert_eq!(bar(33), "██████████▓│▒▒▒▒▒▒▒▒");
        assert_eq!(bar(45), "██████████▓▓▓▓▓▒▒▒▒▒");
        assert_eq!(bar(60), "██████████▓▓▓▓▓▓▓▓▓▓");
        assert_eq!(bar(999), "██████████▓▓▓▓▓▓▓▓▓▓");
    }

    #[test]
    fn a_bar_of_a_backdated_certificate_begins_when_it_was_issued() {
        let backdated = CertificateStatus {
            not_before: at(-3600),
            ..certificate()
        };
        assert_eq!(
            life_bar(20, &backdated, at(15)),
            life_bar(20, &certificate(), at(15))
        );
    }

    #[test]
    fn a_bar_of_any_dates_has_its_width_and_never_fails() {
        let extremes = [Timestamp::MIN, at(0), at(30), Timestamp::MAX];
        for width in [0, 1, 2, 40] {
            for not_before in extremes {
                for not_after in extremes {
                    for now in extremes {
                        let odd = CertificateStatus {
                            not_before,
                            not_after,
                            window_start: now,
                            renew_at: not_before,
                            ..certificate()
                        };
                        assert_eq!(life_bar(width, &odd, now).chars().count(), width);
                    }
                }
            }
        }
    }

    #[test]
    fn a_line_fits_its_terminal_and_loses_the_least_important_first() {
        let line = |width| text(&status(Some(certificate())), at(15), width);
        assert_eq!(
            line(100),
            "███████░░░░░░░▒│▒▒▒▒▒▒▒▒▒▒▒▒▒  45s left  renews in 18s  2 rotations  ECDSA P-256  \
             serial 3fa95b…0718"
        );
        assert_eq!(
            line(50),
            "███░░░│▒▒▒▒▒  45s left  renews in 18s  2 rotations"
        );
        assert_eq!(line(24), "███░░░░│▒▒▒▒▒▒  45s left");
        assert_eq!(line(12), "45s left");
        assert_eq!(line(4), "45s…");
        for width in 0..200 {
            assert!(line(width).chars().count() <= width);
        }
    }

    #[test]
    fn a_failure_is_shown_before_all_else_on_one_line() {
        let failing = VolumeStatus {
            failures: 3,
            last_error: Some("the pool\nis away".to_owned()),
            next_attempt: at(50),
            ..status(Some(certificate()))
        };
        let line = text(&failing, at(45), 80);
        assert!(
            line.contains("15s left  failed 3x, again in 5s: the pool is away"),
            "{line}"
        );
        let first = VolumeStatus {
            certificate: None,
            ..failing
        };
        assert_eq!(
            text(&first, at(45), 80),
            "failed 3x, again in 5s: the pool is away"
        );
        assert_eq!(
            text(&status(None), at(45), 80),
            "asking for the first certificate"
        );
        assert!(text(&status(Some(certificate())), at(70), 80).contains("ENDED 10s ago"));
    }

    #[test]
    fn spans_are_short_whatever_their_size() {
        for (seconds, expected) in [
            (-5, "0s"),
            (47, "47s"),
            (187, "3m07s"),
            (7500, "2h05m"),
            (273_600, "3d04h"),
        ] {
            assert_eq!(span(SignedDuration::from_secs(seconds)), expected);
        }
        assert_eq!(span(SignedDuration::from_millis(1)), "1s");
    }
}
