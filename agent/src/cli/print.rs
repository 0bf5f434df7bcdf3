//! What a command says on standard output and standard error, whoever listens.
use std::io::{self, Write};

/// Writes to standard output at once. Nobody reading any more (`certagent validate … | head`) is
/// no error.
pub(crate) fn stdout(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes to standard error. When that fails there is nobody left to tell.
pub(crate) fn stderr(text: &str) {
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

/// `error: …` with its causes, one line each.
///
/// Many of our messages contain their cause already; it is not said twice.
pub(crate) fn error_chain(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}\n");
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str("  because: ");
            text.push_str(&cause);
            text.push('\n');
        }
    }
    text
}

/// A path as it can be pasted into a shell.
#[cfg(any(test, feature = "emulator"))]
pub(crate) fn shell_quoted(path: &std::path::Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn an_error_is_printed_with_its_causes_and_no_cause_twice() {
        let error = anyhow!("disk full")
            .context("cannot write a.txt: disk full")
            .context("failed");
        assert_eq!(
            error_chain(&error),
            "error: failed\n  because: cannot write a.txt: disk full\n"
        );
    }

    #[test]
    fn a_path_with_odd_characters_is_quoted_for_the_shell() {
        assert_eq!(shell_quoted("/a/b-c.pem".as_ref()), "/a/b-c.pem");
        assert_eq!(shell_quoted("/a/it's here".as_ref()), r"'/a/it'\''s here'");
    }
}
