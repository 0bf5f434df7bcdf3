//! The rules of `onRotate`.

use std::time::Duration;

use crate::config::policy::{Hook, HookSignal};
use crate::config::problem::{FieldProblem, did_you_mean, quote};
use crate::config::rule::Rule;
use crate::config::workload::{HookSpec, SignalSpec};

/// They run one after the other: a longer list belongs in a program of its own.
const MOST_HOOKS: usize = 8;

const MOST_ARGUMENTS: usize = 64;

/// Each path and argument, in bytes: what Linux allows for a path.
const LONGEST_TEXT: usize = 4096;

/// What is done after each new generation.
pub(super) fn hooks(specs: &[HookSpec], problems: &mut Vec<FieldProblem>) -> Vec<Hook> {
    if specs.len() > MOST_HOOKS {
        let message = format!("there are {} hooks; put them into one program", specs.len());
        let problem = FieldProblem::error(Rule::InvalidWorkload, "spec.onRotate", message);
        problems.push(problem.allowed(format!("at most {MOST_HOOKS}")));
        return Vec::new();
    }
    let hook = |(index, spec)| hook(&format!("spec.onRotate[{index}]"), spec, problems);
    specs.iter().enumerate().filter_map(hook).collect()
}

fn hook(field: &str, spec: &HookSpec, problems: &mut Vec<FieldProblem>) -> Option<Hook> {
    let mut refuse = |field: String, message: &str, allowed: &str| {
        let problem = FieldProblem::error(Rule::InvalidWorkload, field, message);
        problems.push(problem.allowed(allowed));
    };
    match (&spec.exec, &spec.signal) {
        (Some(command), None) => exec(field, command, spec.timeout_seconds, problems),
        (None, Some(signal)) => {
            if spec.timeout_seconds.is_some() {
                let field = format!("{field}.timeoutSeconds");
                refuse(field, "a signal has no time limit", "with exec only");
                return None;
            }
            self::signal(field, signal, problems)
        }
        (Some(_), Some(_)) => {
            let message = "there are both exec and signal; write two hooks, each after `- `";
            refuse(field.to_owned(), message, "exactly one of exec, signal");
            None
        }
        (None, None) => {
            let message = "the hook says nothing to do";
            refuse(field.to_owned(), message, "exactly one of exec, signal");
            None
        }
    }
}

fn exec(
    field: &str,
    command: &[String],
    seconds: Option<i64>,
    problems: &mut Vec<FieldProblem>,
) -> Option<Hook> {
    let before = problems.len();
    let mut refuse = |field: String, message: String, allowed: String| {
        let problem = FieldProblem::error(Rule::InvalidWorkload, field, message);
        problems.push(problem.allowed(allowed));
    };
    match command.first() {
        None => refuse(
            format!("{field}.exec"),
            "the list is empty".to_owned(),
            "the program, then its arguments".to_owned(),
        ),
        Some(program) => {
            if let Some(message) = path_trouble(program, "a program is not looked for in PATH") {
                let allowed = "an absolute path such as /usr/sbin/nginx".to_owned();
                refuse(format!("{field}.exec[0]"), message, allowed);
            }
        }
    }
    if command.len() > MOST_ARGUMENTS {
        let message = format!("there are {} texts", command.len());
        let allowed = format!("at most {MOST_ARGUMENTS}, the program included");
        refuse(format!("{field}.exec"), message, allowed);
    }
    for (index, argument) in command.iter().enumerate().skip(1) {
        if argument.contains('\0') || argument.len() > LONGEST_TEXT {
            let message = "the argument has a NUL character, or is too long".to_owned();
            let allowed = format!("at most {LONGEST_TEXT} bytes without NUL");
            refuse(format!("{field}.exec[{index}]"), message, allowed);
        }
    }
    let limit = match seconds.map(u64::try_from) {
        None => Hook::DEFAULT_SECONDS,
        Some(Ok(seconds @ 1..=Hook::MAX_SECONDS)) => seconds,
        Some(_) => {
            refuse(
                format!("{field}.timeoutSeconds"),
                "the time limit is out of range".to_owned(),
                format!("1 to {}", Hook::MAX_SECONDS),
            );
            Hook::DEFAULT_SECONDS
        }
    };
    let (program, arguments) = command.split_first()?;
    (problems.len() == before).then(|| Hook::Exec {
        program: program.clone(),
        arguments: arguments.to_vec(),
        limit: Duration::from_secs(limit),
    })
}

fn signal(field: &str, spec: &SignalSpec, problems: &mut Vec<FieldProblem>) -> Option<Hook> {
    let mut refuse = |name: &str, message: String, allowed: String| {
        let field = format!("{field}.signal.{name}");
        problems.push(FieldProblem::error(Rule::InvalidWorkload, field, message).allowed(allowed));
    };
    let trouble = match spec.pid_file.as_deref() {
        None => Some("the field is required: the file with the process id".to_owned()),
        Some(text) => path_trouble(text, "it does not start at the root directory"),
    };
    if let Some(message) = trouble {
        let allowed = "an absolute path such as /run/nginx.pid".to_owned();
        refuse("pidFile", message, allowed);
        return None;
    }
    let names = HookSignal::ALL.map(HookSignal::as_str);
    let typed = spec.signal.as_deref();
    let known = HookSignal::ALL
        .into_iter()
        .find(|signal| typed == Some(signal.as_str()));
    if known.is_none() {
        let message = match typed {
            None => "the field is required".to_owned(),
            Some(text) => format!(
                "{} is not a signal that can be sent{}",
                quote(text),
                did_you_mean(text.strip_prefix("SIG").unwrap_or(text), names)
            ),
        };
        refuse("signal", message, names.join(", "));
    }
    Some(Hook::Signal {
        pid_file: spec.pid_file.clone()?,
        signal: known?,
    })
}

/// What is wrong with the path of a file that must be absolute.
fn path_trouble(text: &str, relative: &str) -> Option<String> {
    if text.is_empty() {
        Some("the path is empty".to_owned())
    } else if text.contains('\0') || text.len() > LONGEST_TEXT {
        Some("the path has a NUL character, or is too long".to_owned())
    } else if !text.starts_with('/') {
        Some(format!("{} is a relative path: {relative}", quote(text)))
    } else if text.ends_with('/') {
        Some("a directory is named; name the file in it".to_owned())
    } else {
        None
    }
}
