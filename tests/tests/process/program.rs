//! The program under test as a child process, with everything that it says.
use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader, Read, Write as _},
    net::TcpStream,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    time::Instant,
};

use certagent_tests::GUARD;
use rustix::process::{Pid, Signal, kill_process};

use crate::secrets;

/// The program, with `arguments` separated by spaces, and with nothing of the test's own
/// environment.
pub(crate) fn certagent(arguments: &str) -> Command {
    program_at(env!("CARGO_BIN_EXE_certagent-under-test"), arguments)
}

/// The same for a copy of the program at `path`.
pub(crate) fn program_at(path: impl AsRef<std::ffi::OsStr>, arguments: &str) -> Command {
    let mut command = Command::new(path);
    command
        .arg0("certagent")
        .env_clear()
        .args(arguments.split_whitespace());
    command
}

/// What a process said, and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; none after a signal.
    pub(crate) code: Option<i32>,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// All of standard output.
    pub(crate) stdout: String,
    /// All of standard error, the log included.
    pub(crate) stderr: String,
}

impl Ended {
    /// Checks the exit code, and shows everything if it is another.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Checks that standard error has each of these texts.
    #[track_caller]
    pub(crate) fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "no {text:?} in {self:#?}");
        }
        self
    }
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Ended {
    Program::start(command).end()
}

/// A process that runs. It is killed when the value is dropped.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<(From, String)>,
    stdout: String,
    stderr: String,
}

#[derive(Clone, Copy)]
enum From {
    Stdout,
    Stderr,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> Self {
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let (sender, lines) = channel();
        forward(
            child.stdout.take().expect("piped"),
            From::Stdout,
            sender.clone(),
        );
        forward(child.stderr.take().expect("piped"), From::Stderr, sender);
        Self {
            child,
            lines,
            stdout: String::new(),
            stderr: String::new(),
        }
    }

    /// Waits for a line, on standard output or standard error, that has all of `texts`.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, texts: &[&str]) -> String {
        let began = Instant::now();
        while let Some(line) = self.next_line(began) {
            if texts.iter().all(|text| line.contains(text)) {
                return line;
            }
        }
        panic!(
            "no line with {texts:?} in\n{}\n{}",
            self.stdout, self.stderr
        );
    }

    /// What standard output had so far.
    pub(crate) fn printed(&self) -> &str {
        &self.stdout
    }

    pub(crate) fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Sends SIGTERM and waits for the end.
    #[track_caller]
    pub(crate) fn terminate(self) -> Ended {
        self.send(Signal::TERM);
        self.end()
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        let began = Instant::now();
        while self.next_line(began).is_some() {}
        // Both streams are closed, so it is ending.
        let status = self.child.wait().expect("it ends");
        let ended = Ended {
            code: status.code(),
            signal: status.signal(),
            stdout: std::mem::take(&mut self.stdout),
            stderr: std::mem::take(&mut self.stderr),
        };
        secrets::assert_no_key_in(&ended.stdout);
        secrets::assert_no_key_in(&ended.stderr);
        ended
    }

    /// The next line; none when both streams are closed.
    #[track_caller]
    fn next_line(&mut self, began: Instant) -> Option<String> {
        let left = GUARD.saturating_sub(began.elapsed());
        let (from, line) = match self.lines.recv_timeout(left) {
            Ok(line) => line,
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return None,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                panic!(
                    "it neither ends nor says it:\n{}\n{}",
                    self.stdout, self.stderr
                )
            }
        };
        let all = match from {
            From::Stdout => &mut self.stdout,
            From::Stderr => &mut self.stderr,
        };
        writeln!(all, "{line}").expect("a string");
        Some(line)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn forward(stream: impl Read + Send + 'static, from: From, to: Sender<(From, String)>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let line = line.expect("the program writes text");
            if to.send((from, line)).is_err() {
                break;
            }
        }
    });
}

/// The whole answer to a GET of `path` at `127.0.0.1:PORT`.
#[track_caller]
pub(crate) fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("an answer");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .expect("an answer");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}
