//! The report as people read it, and the small words that it is made of.
use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

use super::report::{Check, CheckName, Finding, NextStep, Report, Subject, Verdict};

/// More of a text that came from a file is not shown.
const LONGEST_TEXT: usize = 1000;

/// The whole report.
pub(super) fn render<S: Subject>(report: &Report<S>) -> String {
    let mut text = headline(report.verdict, &report.summary());
    if let Some(Check { id, finding }) = &report.cause {
        cause(&mut text, id.as_str(), finding.detail());
    }
    next_steps(&mut text, &report.next_steps);
    text.push_str("\nEvidence\n");
    line(&mut text, S::NAME, &report.subject);
    body(&mut text, report, report.cause.as_ref());
    text
}

/// The first line.
pub(super) fn headline(verdict: Verdict, summary: &str) -> String {
    format!("{}: {summary}\n", verdict.as_str())
}

/// The check that is the cause, and what it found.
pub(super) fn cause(text: &mut String, which: &str, detail: &str) {
    text.extend(["\nCause (", which, ")\n  ", detail, "\n"]);
}

/// What to do next, if there is something.
pub(super) fn next_steps(text: &mut String, steps: &[NextStep]) {
    if steps.is_empty() {
        return;
    }
    text.push_str("\nNext\n");
    for step in steps {
        text.extend(["  # ", &step.why, "\n  ", &step.command, "\n"]);
    }
}

/// The evidence, and the checks but for the one that was `told` already.
pub(super) fn body<S: Subject>(text: &mut String, report: &Report<S>, told: Option<&Check<S::Id>>) {
    for (name, value) in S::evidence(report) {
        line(text, name, &value);
    }
    checks(text, &report.checks, told);
}

/// Counts, then every check that did not pass and was not told: those with one reason together.
fn checks<I: CheckName>(text: &mut String, all: &[Check<I>], told: Option<&Check<I>>) {
    let count =
        |wanted: fn(&Finding) -> bool| all.iter().filter(|check| wanted(&check.finding)).count();
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
    for check in all {
        if matches!(check.finding, Finding::Passed(_)) || told == Some(check) {
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

pub(super) fn relative(moment: Timestamp, now: Timestamp) -> String {
    let distance = moment.duration_since(now);
    if distance.is_negative() {
        format!("{moment} ({} ago)", span(distance))
    } else {
        format!("{moment} (in {})", span(distance))
    }
}

pub(super) fn seconds_span(seconds: i64) -> SignedDuration {
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
        assert_eq!(
            clean(&"x".repeat(LONGEST_TEXT * 2)).chars().count(),
            LONGEST_TEXT + 1
        );
    }
}
