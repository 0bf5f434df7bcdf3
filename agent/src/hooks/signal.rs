//! A signal to the program whose process id is in a file.
//!
//! A process id in a file may be anybody's by now, and the file may be written by somebody who may
//! not send signals to whom he likes. So the file must be out of reach of others than its owner, its
//! owner must be root, the agent's user, or the user of the process, and the process must have said
//! what it does at the signal: one that has not would be ended by it. Where the signal is there to
//! end it, the process must be older than the file.
use std::{
    fs::{Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use certagent_core::config::HookSignal;
use procfs::{CurrentSI as _, KernelStats, ProcError, process::Process};
use rustix::{
    fs::OFlags,
    io::Errno,
    process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal},
};

/// A process id is short; `postmaster.pid` has some lines more.
const MOST_BYTES: u64 = 4096;

/// A program writes its file after it began. That is known to a second or so, and clocks are set.
const MARGIN_SECONDS: i64 = 10;

/// Why nobody was signalled.
#[derive(Debug, thiserror::Error)]
pub(super) enum SignalError {
    #[error(
        "the pidFile {path} does not exist: the program does not run, or writes another file; it reads the new certificate when it starts"
    )]
    NoFile { path: PathBuf },
    #[error(
        "the pidFile {path} cannot be read: {source}; let the agent's user read it, and name the file itself and no link to it"
    )]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the pidFile {path} is not a file")]
    Special { path: PathBuf },
    #[error(
        "the pidFile {path} can be written by others (mode {mode:04o}), who could have any process signalled; chmod go-w it"
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error("the pidFile {path} does not begin with a process id")]
    NoPid { path: PathBuf },
    #[error(
        "the pidFile {path} names the process {pid}, which does not run; the program reads the new certificate when it starts"
    )]
    NotRunning { path: PathBuf, pid: i32 },
    #[error(
        "the process {pid} of the pidFile {path}, {command}, began {seconds} s after the file was written, so SIG{signal} was not sent: the file is left over from an earlier run, or this machine's clock was set forward since; restart the program"
    )]
    Younger {
        path: PathBuf,
        pid: i32,
        command: String,
        seconds: i64,
        signal: &'static str,
    },
    #[error("the process {pid} of the pidFile {path} cannot be looked at: {source}")]
    Unseen {
        path: PathBuf,
        pid: i32,
        source: ProcError,
    },
    #[error(
        "the pidFile {path} belongs to uid {owner}, and the process {pid} in it to uid {user}: only root, the agent's user and uid {user} may name it; is the file left over from an earlier run?"
    )]
    Foreign {
        path: PathBuf,
        pid: i32,
        owner: u32,
        user: u32,
    },
    #[error(
        "the process {pid} of the pidFile {path}, {command}, does nothing at SIG{signal} but end, or ignore it, so it was not sent: it is starting, or the file is left over from an earlier run"
    )]
    Unhandled {
        path: PathBuf,
        pid: i32,
        command: String,
        signal: &'static str,
    },
    #[error(
        "SIG{signal} to the process {pid} of the pidFile {path}: {source}; run the agent as the program's user or as root"
    )]
    Refused {
        path: PathBuf,
        pid: i32,
        signal: &'static str,
        source: io::Error,
    },
}

/// Sends the signal to the process that the file names.
pub(super) fn send(path: &Path, signal: HookSignal) -> Result<(), SignalError> {
    let (pid, file) = read(path)?;
    let owner = file.uid();
    let path = path.to_owned();
    let raw = pid.as_raw_nonzero().get();
    let refused = |path, error: Errno| SignalError::Refused {
        path,
        pid: raw,
        signal: signal.as_str(),
        source: error.into(),
    };
    // What is looked at below is what is signalled: the number may be another's in between.
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(Errno::SRCH) => return Err(SignalError::NotRunning { path, pid: raw }),
        Err(error) => return Err(refused(path, error)),
    };
    let seen = Process::new(raw).and_then(|process| {
        let (status, stat) = (process.status()?, process.stat()?);
        // Read each time: it moves when the clock is set.
        Ok((status, stat, KernelStats::current()?.btime))
    });
    let (status, stat, booted) = match seen {
        Ok(seen) => seen,
        Err(ProcError::NotFound(_)) => return Err(SignalError::NotRunning { path, pid: raw }),
        Err(source) => {
            return Err(SignalError::Unseen {
                path,
                pid: raw,
                source,
            });
        }
    };
    // It has ended, and its parent has not asked for its end yet.
    if matches!(stat.state, 'Z' | 'X') {
        return Err(SignalError::NotRunning { path, pid: raw });
    }
    let user = status.ruid;
    if !may_name(owner, geteuid().as_raw(), user) {
        return Err(SignalError::Foreign {
            path,
            pid: raw,
            owner,
            user,
        });
    }
    let number = number(signal);
    // A program may also block a signal and fetch it by signalfd(2).
    let handled = status.sigcgt | status.sigblk;
    if must_be_handled(signal) && handled & (1 << (number.as_raw() - 1)) == 0 {
        return Err(SignalError::Unhandled {
            path,
            pid: raw,
            command: printable(&status.name),
            signal: signal.as_str(),
        });
    }
    let began = booted.saturating_add(stat.starttime / procfs::ticks_per_second().max(1));
    let seconds = younger_by(began, file.mtime());
    if !must_be_handled(signal) && seconds > MARGIN_SECONDS {
        return Err(SignalError::Younger {
            path,
            pid: raw,
            command: printable(&status.name),
            seconds,
            signal: signal.as_str(),
        });
    }
    pidfd_send_signal(process, number).map_err(|error| refused(path, error))
}

/// Whether a file of `owner` may say that a process of `user` is signalled by the agent. Who owns the
/// process could send it the signal in any case.
fn may_name(owner: u32, agent: u32, user: u32) -> bool {
    [0, agent, user].contains(&owner)
}

/// By how many seconds a process that began then is younger than a file written then, both in
/// seconds since 1970.
fn younger_by(began: u64, written: i64) -> i64 {
    i64::try_from(began)
        .unwrap_or(i64::MAX)
        .saturating_sub(written)
}

/// The process id in the file, and what is known of the file.
fn read(path: &Path) -> Result<(Pid, Metadata), SignalError> {
    let path = path.to_owned();
    // Somebody may have put a link or a pipe there.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(&path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(SignalError::NoFile { path });
        }
        Err(source) => return Err(SignalError::Unreadable { path, source }),
    };
    let metadata = match file.metadata() {
        Ok(metadata) if metadata.is_file() => metadata,
        Ok(_) => return Err(SignalError::Special { path }),
        Err(source) => return Err(SignalError::Unreadable { path, source }),
    };
    let mode = metadata.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(SignalError::Exposed { path, mode });
    }
    let mut bytes = Vec::new();
    if let Err(source) = file.take(MOST_BYTES).read_to_end(&mut bytes) {
        return Err(SignalError::Unreadable { path, source });
    }
    let text = String::from_utf8_lossy(&bytes);
    let first = text.lines().next().unwrap_or_default().trim();
    let is_number = !first.is_empty() && first.bytes().all(|b| b.is_ascii_digit());
    let pid = first.parse().ok().filter(|_| is_number);
    match pid.and_then(Pid::from_raw) {
        Some(pid) => Ok((pid, metadata)),
        None => Err(SignalError::NoPid { path }),
    }
}

/// The signals that reload a program that knows them, and end one that does not. The others are
/// there to end it.
fn must_be_handled(signal: HookSignal) -> bool {
    match signal {
        HookSignal::Hup | HookSignal::Usr1 | HookSignal::Usr2 => true,
        HookSignal::Int | HookSignal::Quit | HookSignal::Term => false,
    }
}

fn number(signal: HookSignal) -> Signal {
    match signal {
        HookSignal::Hup => Signal::HUP,
        HookSignal::Int => Signal::INT,
        HookSignal::Quit => Signal::QUIT,
        HookSignal::Term => Signal::TERM,
        HookSignal::Usr1 => Signal::USR1,
        HookSignal::Usr2 => Signal::USR2,
    }
}

/// A process names itself as it likes.
fn printable(text: &str) -> String {
    text.chars().flat_map(char::escape_debug).collect()
}

#[cfg(test)]
#[path = "signal_tests.rs"]
mod tests;
