use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, time::Duration};

use tokio::signal::unix::{SignalKind, signal};

use super::*;

struct File(tempfile::TempDir);

impl File {
    fn with(content: &str) -> Self {
        let file = Self(tempfile::tempdir().unwrap());
        fs::write(file.path(), content).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        file
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("program.pid")
    }

    fn refusal(&self) -> String {
        send(&self.path(), HookSignal::Hup).unwrap_err().to_string()
    }
}

#[tokio::test]
async fn a_process_that_handles_the_signal_gets_it() {
    let mut heard = signal(SignalKind::user_defined1()).unwrap();
    let own = std::process::id();
    // As nginx writes it, and as PostgreSQL does.
    for content in [format!("{own}\n"), format!("{own}\n/var/lib/postgresql\n")] {
        let file = File::with(&content);
        send(&file.path(), HookSignal::Usr1).unwrap();
        heard.recv().await.unwrap();
    }
}

#[test]
fn a_process_that_would_be_ended_by_a_reload_is_left_alone_and_one_that_is_to_end_ends() {
    let mut child = Command::new("/bin/sleep").arg("600").spawn().unwrap();
    let file = File::with(&child.id().to_string());
    for reload in [HookSignal::Hup, HookSignal::Usr1, HookSignal::Usr2] {
        let text = send(&file.path(), reload).unwrap_err().to_string();
        assert!(text.contains("does nothing at SIG"), "{text}");
    }
    assert_eq!(child.try_wait().unwrap(), None);
    send(&file.path(), HookSignal::Term).unwrap();
    assert!(!child.wait().unwrap().success());
    // Nobody has that number any more.
    let text = file.refusal();
    assert!(text.contains("which does not run"), "{text}");
}

#[test]
fn a_process_that_began_after_the_file_was_written_is_not_ended_by_a_signal_of_it() {
    let mut child = Command::new("/bin/sleep").arg("600").spawn().unwrap();
    let file = File::with(&child.id().to_string());
    let opened = fs::File::options().write(true).open(file.path()).unwrap();
    let written = opened.metadata().unwrap().modified().unwrap();
    opened
        .set_modified(written - Duration::from_secs(3600))
        .unwrap();
    for end in [HookSignal::Int, HookSignal::Quit, HookSignal::Term] {
        let text = send(&file.path(), end).unwrap_err().to_string();
        assert!(
            text.contains("after the file was written") && text.contains(end.as_str()),
            "{text}"
        );
    }
    assert_eq!(child.try_wait().unwrap(), None);
    opened.set_modified(written).unwrap();
    send(&file.path(), HookSignal::Term).unwrap();
    assert!(!child.wait().unwrap().success());
}

#[test]
fn a_process_that_has_ended_and_was_not_waited_for_does_not_run() {
    let mut child = Command::new("/bin/true").spawn().unwrap();
    let file = File::with(&child.id().to_string());
    let stat = format!("/proc/{}/stat", child.id());
    while !fs::read_to_string(&stat).unwrap().contains(") Z ") {
        std::thread::yield_now();
    }
    let text = send(&file.path(), HookSignal::Term)
        .unwrap_err()
        .to_string();
    assert!(text.contains("which does not run"), "{text}");
    child.wait().unwrap();
}

#[test]
fn a_file_that_is_not_text_is_no_pid_file() {
    let file = File::with("");
    fs::write(file.path(), [0xff, 0xfe, b'1']).unwrap();
    let text = file.refusal();
    assert!(text.contains("does not begin with a process id"), "{text}");
}

#[test]
fn a_file_that_is_not_a_pid_file_out_of_reach_of_others_is_refused() {
    for content in [
        "",
        "\n12\n",
        "-12",
        "0",
        "1 2",
        "+1",
        "99999999999",
        "nginx",
        "\u{0}",
    ] {
        let text = File::with(content).refusal();
        assert!(
            text.contains("does not begin with a process id"),
            "{content:?}: {text}"
        );
    }
    let file = File::with("1");
    for mode in [0o666, 0o664, 0o602] {
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        let text = file.refusal();
        assert!(text.contains("can be written by others (mode 06"), "{text}");
    }

    let missing = File(tempfile::tempdir().unwrap());
    assert!(
        missing.refusal().contains("does not exist"),
        "{}",
        missing.refusal()
    );
    std::os::unix::fs::symlink("/proc/self/stat", missing.path()).unwrap();
    assert!(
        missing.refusal().contains("no link to it"),
        "{}",
        missing.refusal()
    );
    fs::remove_file(missing.path()).unwrap();
    fs::create_dir(missing.path()).unwrap();
    assert!(
        missing.refusal().contains("is not a file"),
        "{}",
        missing.refusal()
    );
}

#[test]
fn only_root_the_agent_and_the_user_of_the_process_may_name_it() {
    let (agent, user) = (1000, 33);
    for owner in [0, agent, user] {
        assert!(may_name(owner, agent, user));
    }
    assert!(!may_name(34, agent, user));
    // A user's file never leads to a process of root, whoever the agent is.
    assert!(!may_name(user, 0, 0));
}
