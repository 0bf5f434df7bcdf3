//! What a wrong command line, `--help` and `completions` give.
use std::fmt::Write as _;

use snapbox::{assert_data_eq, file};

use crate::program::{certagent, run};

const COMMANDS: [&str; 7] = [
    "quickstart",
    "run",
    "wait",
    "emulator",
    "validate",
    "inspect",
    "completions",
];

#[test]
fn a_wrong_command_line_exits_with_64_and_names_what_was_probably_meant() {
    let lines = [
        "qickstart",
        "run --confg objects.yaml",
        "run --config objects.yaml --volume v",
        "run --config objects.yaml --trust-domain spiffe://example.org/ns/a",
        "run --config objects.yaml --ca-endpoint ftp://privateca.googleapis.com --state-dir s",
        "run --config objects.yaml --ca-endpoint https://u:p@privateca.googleapis.com --state-dir s",
        "run --config objects.yaml --ca-endpoint http://192.0.2.1:8080 --state-dir s",
        "run --config objects.yaml --ca-endpoint 127.0.0.1:8080 --state-dir s",
        "run --config objects.yaml --ca-endpoint http://127.0.0.1:8080",
        "run --config objects.yaml --identity own",
        "wait v --timeout 60",
        "emulator",
        "emulator --listen 0.0.0.0:8080",
        "emulator --listen 127.0.0.1:0 --project UPPER",
        "validate",
        "inspect v --output yaml",
        "completions powershell",
        "quickstart --key-algorithm rsa-1024",
        "quickstart --validity 1500ms",
        "--log-level certagent=loud inspect v",
    ];
    let mut said = String::new();
    for line in lines {
        let ended = run(&mut certagent(line)).expect(64);
        assert_eq!(ended.stdout, "", "{line}");
        write!(said, "$ certagent {line}\n{}\n", ended.stderr).unwrap();
    }
    assert_data_eq!(said, file!["../../../testdata/cli/wrong-command-lines.txt"]);
}

#[test]
fn without_a_subcommand_the_commands_are_listed_and_the_exit_code_is_64() {
    let ended = run(&mut certagent("")).expect(64);
    assert_eq!(ended.stdout, "");
    assert_data_eq!(ended.stderr, file!["../../../testdata/cli/help.txt"]);
}

#[test]
fn the_help_of_every_command_has_an_example_and_the_exit_codes() {
    for command in COMMANDS {
        let ended = run(&mut certagent(&format!("{command} --help"))).expect(0);
        assert_eq!(ended.stderr, "");
        assert!(ended.stdout.contains("Example"), "{}", ended.stdout);
        assert!(
            ended.stdout.contains(&format!("certagent {command}")),
            "{}",
            ended.stdout
        );
        assert!(
            ended.stdout.contains("  64  the command line is wrong"),
            "{}",
            ended.stdout
        );
    }
    let ended = run(&mut certagent("--version")).expect(0);
    assert!(ended.stdout.starts_with("certagent "), "{}", ended.stdout);
}

#[test]
fn completions_for_each_shell_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = run(&mut certagent(&format!("completions {shell}"))).expect(0);
        assert_eq!(ended.stderr, "");
        for command in COMMANDS {
            assert!(
                ended.stdout.contains(command),
                "{shell} does not know {command}"
            );
        }
    }
}
