//! The report as people read it, and the small words that it is made of.
use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

use super::report::{Check, CheckId, Evidence, Finding, Report, Verdict};

/// More of a text that came from a file is not shown.
const LONGEST_TEXT: usize = 600;

/// More roots are counted, not shown.
const MOST_ROOTS: usize = 8;

/// The whole report.
pub(super) fn render(report: &Report) -> String {
    let mut text = format!("{}: {}\n", report.verdict.as_str(), summary(report));
    if let Some(Check { id, finding }) = &report.cause {
        text.extend(["\nCause (", id.as_str(), ")\n  ", finding.detail(), "\n"]);
    }
    if !report.next_steps.is_empty() {
        text.push_str("\nNext\n");
        for step in &report.next_steps {
            text.extend(["  # ", &step.why, "\n  ", &step.command, "\n"]);
        }
    }
    text.push_str("\nEvidence\n");
    evidence(&mut text, report);
    checks(&mut text, report);
    text
}

/// What is the matter, in a few words.
pub(super) fn summary(report: &Report) -> String {
    match &report.cause {
        None => match report.evidence.remaining_seconds {
            Some(seconds) => format!("valid for another {}", span(seconds_span(seconds))),
            None => "nothing is wrong".to_owned(),
        },
        Some(cause) if report.verdict == Verdict::Unknown => {
            format!("the check {} could not run", cause.id.as_str())
        }
        Some(Check {
            id: CheckId::Validity,
            finding: Finding::Failed(_),
        }) => match report.evidence.remaining_seconds {
            Some(seconds @ ..0) => {
                format!(
                    "the certificate expired {} ago",
                    span(seconds_span(seconds))
                )
            }
            _ => "the certificate is not valid yet".to_owned(),
        },
        Some(cause) => headline(cause).to_owned(),
    }
}

fn headline(cause: &Check) -> &'static str {
    let failed = matches!(cause.finding, Finding::Failed(_));
    match cause.id {
        CheckId::Directory => "there is no credential directory",
        CheckId::Generation => "the current generation is missing",
        CheckId::Links => "programs do not see the current files",
        CheckId::Certificates => "there is no usable certificate",
        CheckId::ChainOrder if failed => "the workload's certificate is not the first one",
        CheckId::ChainOrder => "the intermediates are out of order",
        CheckId::Svid => "the certificate is no X.509-SVID",
        CheckId::PrivateKey if failed => "there is no usable private key",
        CheckId::PrivateKey => "some TLS stacks cannot read the private key",
        CheckId::KeyMatch => "key and certificate do not belong together",
        CheckId::Validity => "renewal is overdue",
        CheckId::Roots => "there are no usable roots",
        CheckId::RootsValidity => "a root has ended, or soon will",
        CheckId::ChainVerifies => "the chain does not lead to the roots",
        CheckId::TrustBundles if failed => "trust_bundles.json cannot be used",
        CheckId::TrustBundles => "trust_bundles.json has other roots",
        CheckId::CredentialBundle if failed => "credential-bundle.pem cannot be used",
        CheckId::CredentialBundle => "credential-bundle.pem holds another credential",
        CheckId::KeyMode => "everybody can read the key",
        CheckId::KeyStorage => "the key is on a disk",
        CheckId::Leftovers => "a write was interrupted",
    }
}

fn evidence(text: &mut String, report: &Report) {
    let Evidence {
        identity,
        serial,
        algorithm,
        issuer,
        not_before,
        not_after,
        ..
    } = &report.evidence;
    let now = report.checked_at;
    line(text, "directory", &report.directory);
    for (name, value) in [
        ("identity", identity),
        ("serial", serial),
        ("algorithm", algorithm),
        ("issuer", issuer),
    ] {
        if let Some(value) = value {
            line(text, name, value);
        }
    }
    let path_not_after = &report.evidence.path_not_after;
    for (name, moment) in [
        ("valid from", not_before),
        ("valid until", not_after),
        ("path until", path_not_after),
    ] {
        if let Some(moment) = moment {
            line(text, name, &relative(*moment, now));
        }
    }
    if not_after.is_some() {
        let renews = match report.evidence.renews_at {
            Some(moment) => relative(moment, now),
            None => "unknown: no record of the agent for this certificate was given".to_owned(),
        };
        line(text, "renews", &renews);
    }
    if let Some(generation) = &report.evidence.generation {
        let age = generation.age_seconds.map_or_else(
            || "age unknown".to_owned(),
            |age| format!("{} old", span(seconds_span(age.max(0)))),
        );
        line(text, "generation", &format!("{} ({age})", generation.name));
    }
    if let Some(fits) = report.evidence.key_matches {
        let fits = if fits {
            "matches the certificate"
        } else {
            "of another certificate"
        };
        line(text, "key", fits);
    }
    match (
        report.evidence.chain_verifies,
        &report.evidence.verified_root,
    ) {
        (Some(true), Some(root)) => line(text, "chain", &format!("verifies to \"{root}\"")),
        (Some(_), _) => line(text, "chain", "does not verify to the roots"),
        (None, _) => {}
    }
    for root in report.evidence.roots.iter().take(MOST_ROOTS) {
        line(
            text,
            "root",
            &format!("\"{}\", ends {}", root.subject, root.not_after),
        );
        line(text, "", &format!("sha256 {}", root.sha256));
    }
    if let Some(more @ 1..) = report.evidence.roots.len().checked_sub(MOST_ROOTS) {
        line(text, "", &format!("and {more} more"));
    }
}

/// Counts, then every check that did not pass, but for the cause: those with one reason together.
fn checks(text: &mut String, report: &Report) {
    let count = |wanted: fn(&Finding) -> bool| {
        report
            .checks
            .iter()
            .filter(|check| wanted(&check.finding))
            .count()
    };
    let counts = [
        (
            count(|finding| matches!(finding, Finding::Passed(_))),
            "passed",
        ),
        (
            count(|finding| matches!(finding, Finding::Failed(_))),
            "failed",
        ),
        (
            count(|finding| matches!(finding, Finding::Warned(_))),
            "warned",
        ),
        (
            count(|finding| matches!(finding, Finding::Skipped(..))),
            "skipped",
        ),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} {word}"))
        .collect();
    line(text, "checks", &counts.join(", "));
    let mut groups: Vec<(&Finding, Vec<&str>)> = Vec::new();
    for check in &report.checks {
        if matches!(check.finding, Finding::Passed(_)) || report.cause.as_ref() == Some(check) {
            continue;
        }
        match groups
            .iter_mut()
            .find(|(finding, _)| **finding == check.finding)
        {
            Some((_, names)) => names.push(check.id.as_str()),
            None => groups.push((&check.finding, vec![check.id.as_str()])),
        }
    }
    for (finding, names) in groups {
        let outcome = match finding {
            Finding::Failed(_) => "failed",
            Finding::Warned(_) => "warned",
            _ => "skipped",
        };
        line(
            text,
            outcome,
            &format!("{}: {}", names.join(", "), finding.detail()),
        );
    }
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a String cannot fail.
    writeln!(text, "  {name:<11}  {value}").unwrap_or_default();
}

fn relative(moment: Timestamp, now: Timestamp) -> String {
    let distance = moment.duration_since(now);
    if distance.is_negative() {
        format!("{moment} ({} ago)", span(distance))
    } else {
        format!("{moment} (in {})", span(distance))
    }
}

fn seconds_span(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

/// A span in its two largest units, without a sign.
pub(super) fn span(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().unsigned_abs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let (large, small) = match (days, hours, minutes) {
        (1.., ..) => ((days, "d"), (hours % 24, "h")),
        (0, 1.., _) => ((hours, "h"), (minutes % 60, "min")),
        (0, 0, 1..) => ((minutes, "min"), (seconds % 60, "s")),
        (0, 0, 0) => ((seconds, "s"), (0, "")),
    };
    match small {
        (0, _) => format!("{} {}", large.0, large.1),
        (count, unit) => format!("{} {} {count} {unit}", large.0, large.1),
    }
}

/// So many of them, in words.
pub(super) fn count(number: usize, of_what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {of_what}{plural}")
}

/// What came from a file or a path, fit for a terminal: no control characters, none that turn the
/// direction of the text, and not without end.
pub(crate) fn clean(text: &str) -> String {
    let mut cleaned: String = text
        .chars()
        .take(LONGEST_TEXT)
        .map(|c| if is_unseen(c) { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(LONGEST_TEXT).is_some() {
        cleaned.push('…');
    }
    cleaned
}

/// A path as one word of a shell line, which no program takes for an option.
pub(crate) fn shell_word(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,@%=:".contains(c);
    let prefix = if path.starts_with('-') { "./" } else { "" };
    if !path.is_empty() && path.chars().all(plain) {
        format!("{prefix}{path}")
    } else if path.chars().any(is_unseen) {
        format!(
            "{prefix}$'{}'",
            path.chars().map(escaped).collect::<String>()
        )
    } else {
        format!("{prefix}'{}'", path.replace('\'', r"'\''"))
    }
}

fn is_unseen(c: char) -> bool {
    let invisible = matches!(
        c,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    c.is_control() || invisible
}

/// A character within `$'...'`.
fn escaped(c: char) -> String {
    match c {
        '\'' | '\\' => format!("\\{c}"),
        c if is_unseen(c) => {
            c.encode_utf8(&mut [0; 4])
                .bytes()
                .fold(String::new(), |mut text, byte| {
                    // Writing to a String cannot fail.
                    write!(text, "\\{byte:03o}").unwrap_or_default();
                    text
                })
        }
        c => c.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_its_two_largest_units() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (-61, "1 min 1 s"),
            (3600, "1 h"),
            (86399, "23 h 59 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(span(SignedDuration::from_secs(seconds)), expected);
        }
        assert_eq!(span(SignedDuration::MIN), span(SignedDuration::MAX));
    }

    #[test]
    fn a_path_is_one_word_whatever_is_in_it() {
        assert_eq!(shell_word("/a/b-c.d"), "/a/b-c.d");
        assert_eq!(shell_word("/a b"), "'/a b'");
        assert_eq!(shell_word("/a'; rm -rf ~ #"), r"'/a'\''; rm -rf ~ #'");
        assert_eq!(shell_word("/a\n'b\\"), r"$'/a\012\'b\\'");
        assert_eq!(shell_word("-rf"), "./-rf");
        assert_eq!(shell_word("-r f"), "./'-r f'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn what_is_shown_has_no_control_characters_and_an_end() {
        assert_eq!(clean("a\x1b[31mb\u{202e}c"), "a\u{fffd}[31mb\u{fffd}c");
        assert_eq!(clean(&"x".repeat(1000)).chars().count(), LONGEST_TEXT + 1);
    }
}
