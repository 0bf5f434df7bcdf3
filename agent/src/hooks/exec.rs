//! Running a program: without a shell, with an environment of our own, and not for ever.
use std::{
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process_group},
};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::{
    Occasion,
    said::{Said, Secret, shown},
};

/// What a program wrote is read for so long after its end: one that it left behind may hold its
/// output open for ever.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where a program looks for others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExecError {
    #[error("{program} cannot be started: {source}; {}", remedy(source))]
    Start { program: String, source: io::Error },
    #[error("{program} ended with {status}{}", said(output.as_deref()))]
    Failed {
        program: String,
        status: ExitStatus,
        output: Option<String>,
    },
    #[error("{program} was killed because it ran for longer than its timeoutSeconds, {} s{}", limit.as_secs(), said(output.as_deref()))]
    Slow {
        program: String,
        limit: Duration,
        output: Option<String>,
    },
    #[error("{program} cannot be waited for: {source}")]
    Wait { program: String, source: io::Error },
}

/// What helps where a program cannot be started: often it is not the program.
fn remedy(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE) => {
            "the agent has too many files open: raise its limit (LimitNOFILE of the service, ulimit -n)"
        }
        Some(Errno::AGAIN | Errno::NOMEM) => {
            "there are too many processes, or too little memory: raise the limit (TasksMax and MemoryMax of the service, ulimit -u)"
        }
        _ => "look at its path and mode, and whether the agent's user may run it",
    }
}

fn said(output: Option<&str>) -> String {
    output.map_or_else(String::new, |output| format!("; it said {output:?}"))
}

/// Runs a program for a generation, for `limit` at most. Gives the end of what it said; its whole
/// process group is killed when the limit is over, or the future is dropped.
pub(super) async fn run(
    program: &str,
    arguments: &[String],
    limit: Duration,
    workload: &str,
    occasion: &Occasion,
) -> Result<Option<String>, ExecError> {
    let named = || program.to_owned();
    let before = Secret::of(&occasion.path).await;
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment(workload, occasion))
        .env("CERTAGENT_VOLUME", &occasion.path)
        .current_dir(Path::new("/"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| ExecError::Start {
            program: named(),
            source,
        })?;
    let mut group = Group::of(&child);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Said::default(), Said::default());
    let mut reading = Box::pin(async {
        tokio::join!(out.keep(stdout), err.keep(stderr));
    });
    let mut is_read = false;
    let ended = timeout(limit, async {
        loop {
            tokio::select! {
                ended = child.wait() => break ended,
                () = &mut reading, if !is_read => is_read = true,
            }
        }
    })
    .await;
    if ended.is_ok() {
        group.forget();
        if !is_read {
            drop(timeout(LAST_WORDS, &mut reading).await);
        }
    } else {
        group.kill();
        // It is gone at once, and nobody else waits for it.
        drop(child.wait().await);
    }
    drop(reading);
    // It may have been replaced meanwhile.
    let after = Secret::of(&occasion.path).await;
    let output = shown([&out, &err], &[before, after]);
    match ended {
        Ok(Ok(status)) if status.success() => Ok(output),
        Ok(Ok(status)) => Err(ExecError::Failed {
            program: named(),
            status,
            output,
        }),
        Ok(Err(source)) => Err(ExecError::Wait {
            program: named(),
            source,
        }),
        Err(_elapsed) => Err(ExecError::Slow {
            program: named(),
            limit,
            output,
        }),
    }
}

/// All that a program is told, beside its arguments and the volume's path.
fn environment(workload: &str, occasion: &Occasion) -> [(&'static str, String); 6] {
    [
        ("PATH", PATH.to_owned()),
        ("CERTAGENT_WORKLOAD", workload.to_owned()),
        ("CERTAGENT_GENERATION", occasion.generation.clone()),
        ("CERTAGENT_SERIAL", occasion.serial.clone()),
        ("CERTAGENT_SPIFFE_ID", occasion.spiffe_id.clone()),
        ("CERTAGENT_NOT_AFTER", occasion.not_after.to_string()),
    ]
}

/// A program and those of its process group, killed when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    fn kill(&mut self) {
        if let Some(group) = self.0.take() {
            // It may have ended by itself just now.
            let _ended = kill_process_group(group, Signal::KILL);
        }
    }

    /// The program has ended, and what it left behind was meant to stay.
    fn forget(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
#[path = "exec_tests.rs"]
mod tests;
