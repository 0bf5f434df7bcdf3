use std::path::PathBuf;

use rustix::process::kill_process;

use super::{super::said::MOST_OUTPUT, *};

const LONG: Duration = Duration::from_secs(60);

fn occasion() -> Occasion {
    Occasion {
        path: PathBuf::from("/run/volumes/db"),
        generation: "..2026_11_21_12_00_00.000000000".to_owned(),
        serial: "c0ffee".to_owned(),
        spiffe_id: "spiffe://example.org/ns/a/sa/db".to_owned(),
        not_after: "2026-11-21T13:00:00Z".parse().unwrap(),
    }
}

async fn shell(script: &str, limit: Duration) -> Result<Option<String>, ExecError> {
    let arguments = ["-c".to_owned(), script.to_owned()];
    run("/bin/sh", &arguments, limit, "db", &occasion()).await
}

#[tokio::test]
async fn a_program_has_this_environment_and_nothing_of_the_agents() {
    let said = run("/usr/bin/env", &[], LONG, "db", &occasion())
        .await
        .unwrap()
        .unwrap();
    let mut lines: Vec<_> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "CERTAGENT_GENERATION=..2026_11_21_12_00_00.000000000",
            "CERTAGENT_NOT_AFTER=2026-11-21T13:00:00Z",
            "CERTAGENT_SERIAL=c0ffee",
            "CERTAGENT_SPIFFE_ID=spiffe://example.org/ns/a/sa/db",
            "CERTAGENT_VOLUME=/run/volumes/db",
            "CERTAGENT_WORKLOAD=db",
            &format!("PATH={PATH}"),
        ]
    );
    let said = shell("pwd; cat", LONG).await.unwrap();
    assert_eq!(said.as_deref(), Some("/"), "an empty standard input, in /");
    assert_eq!(shell("true", LONG).await.unwrap(), None);
}

#[tokio::test]
async fn arguments_are_not_read_by_a_shell() {
    let arguments = ["$PATH; `id` *".to_owned()];
    let said = run("/bin/echo", &arguments, LONG, "db", &occasion()).await;
    assert_eq!(said.unwrap().as_deref(), Some("$PATH; `id` *"));
}

#[tokio::test]
async fn a_failure_tells_how_the_program_ended_and_what_it_said_on_both_outputs() {
    let error = shell("echo one; echo two >&2; exit 3", LONG)
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("/bin/sh ended with exit status: 3; it said "),
        "{text}"
    );
    assert!(text.contains("one") && text.contains("two"), "{text}");
    assert!(!text.contains('\n'), "{text}");

    let text = shell("kill -9 $$", LONG).await.unwrap_err().to_string();
    assert!(text.contains("signal: 9"), "{text}");

    let none = run("/nonexistent/program", &[], LONG, "db", &occasion()).await;
    let text = none.unwrap_err().to_string();
    assert!(
        text.contains("/nonexistent/program cannot be started"),
        "{text}"
    );
}

#[test]
fn where_a_limit_is_in_the_way_the_program_is_not_blamed() {
    for (cause, said) in [
        (Errno::MFILE, "LimitNOFILE"),
        (Errno::NFILE, "LimitNOFILE"),
        (Errno::AGAIN, "TasksMax"),
        (Errno::NOMEM, "MemoryMax"),
        (Errno::ACCESS, "path and mode"),
    ] {
        let error = ExecError::Start {
            program: "/bin/true".to_owned(),
            source: cause.into(),
        };
        let text = error.to_string();
        assert!(text.contains(said), "{text}");
        assert_eq!(
            text.contains("path and mode"),
            cause == Errno::ACCESS,
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_program_that_never_ends_is_killed_with_all_that_it_started() {
    let short = Duration::from_millis(300);
    let error = shell("sleep 600 & echo $!; wait", short).await.unwrap_err();
    let ExecError::Slow { output, .. } = &error else {
        panic!("{error}");
    };
    let child: i32 = output.as_deref().unwrap().parse().unwrap();
    gone(child).await;
    assert!(error.to_string().contains("timeoutSeconds"), "{error}");
}

#[tokio::test]
async fn a_program_whose_hook_is_dropped_is_killed_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!(
        "sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait",
        pid.display()
    );
    let running = tokio::spawn(async move { shell(&script, LONG).await });
    while !pid.exists() {
        tokio::task::yield_now().await;
    }
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    gone(
        std::fs::read_to_string(&pid)
            .unwrap()
            .trim()
            .parse()
            .unwrap(),
    )
    .await;
}

#[tokio::test]
async fn what_a_program_leaves_behind_stays_and_holds_nobody_up() {
    let said = shell("sleep 600 & echo $!", LONG).await.unwrap().unwrap();
    let left = Pid::from_raw(said.parse().unwrap()).unwrap();
    kill_process(left, Signal::KILL).expect("it was still there");
}

#[tokio::test]
async fn only_the_end_of_a_long_output_is_kept_and_never_a_key() {
    let script = "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done";
    let said = shell(script, LONG).await.unwrap().unwrap();
    assert!(
        said.len() <= MOST_OUTPUT && said.ends_with("\n19999"),
        "{}",
        said.len()
    );

    let key = "echo -----BEGIN PRIVATE KEY-----; i=0; while [ $i -lt 9000 ]; do echo SECRET; i=$((i+1)); done; exit 1";
    let text = shell(key, LONG).await.unwrap_err().to_string();
    assert!(
        text.contains("not shown") && !text.contains("SECRET"),
        "{text}"
    );
}

#[tokio::test]
async fn the_key_of_the_volume_is_not_told_whatever_way_a_program_prints_it() {
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(dir.path().join("private_key.pem"), key.serialize_pem()).unwrap();
    let occasion = Occasion {
        path: dir.path().to_owned(),
        ..occasion()
    };
    let body = key.serialize_pem().lines().nth(1).unwrap().to_owned();
    for print in [
        "sed 1d $CERTAGENT_VOLUME/private_key.pem",
        "sed 1d $CERTAGENT_VOLUME/private_key.pem >&2",
        "sed 1d $CERTAGENT_VOLUME/private_key.pem; rm $CERTAGENT_VOLUME/private_key.pem",
    ] {
        let arguments = ["-c".to_owned(), format!("{print}; exit 1")];
        let failed = run("/bin/sh", &arguments, LONG, "db", &occasion).await;
        let text = failed.unwrap_err().to_string();
        assert!(
            text.contains("not shown") && !text.contains(&body),
            "{text}"
        );
    }
}

/// Waits until the process does not run any more.
async fn gone(pid: i32) {
    let is_there = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        // Nobody may be there to wait for an orphan; a zombie is dead all the same.
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    while is_there() {
        tokio::task::yield_now().await;
    }
}
