use clap::{CommandFactory as _, error::ErrorKind};

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("certagent").chain(line.split_whitespace()))
}

#[test]
fn the_definition_of_the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_line_of_the_documentation_is_understood() {
    for line in [
        "quickstart",
        "quickstart --dir d --key-algorithm rsa-4096 --validity 60s --rotation-window 50 --for 90s",
        "quickstart --admin 127.0.0.1:9000 --log-format json --log-level debug",
        "run --config a.yaml",
        "run --config a.yaml b.yaml --config dir --once",
        "run --config a --volume v --namespace n --service-account s --trust-domain example.org",
        "run --config a --ca-endpoint http://127.0.0.1:1 --state-dir s --allow-disk --lift-minimums",
        "run --config a --quota-share 1",
        "run --config a --ca-endpoint https://privateca.googleapis.com --identity direct --ca-bundle b",
        "run --config a --identity none",
        "wait v --timeout 5m",
        "emulator --listen 127.0.0.1:0",
        "emulator --listen [::1]:8080 --state d --ca-key-algorithm rsa-2048 --project p --location l",
        "validate a b --output json --trust-domain example.org",
        "inspect v --output json --state-dir s",
        "inspect ./pool",
        "inspect pool projects/my-project/locations/l/caPools/p",
        "inspect pool //privateca.googleapis.com/projects/my-project/locations/l/caPools/p \
         --config a b --output json --spiffe-id spiffe://a/b --ca-endpoint http://127.0.0.1:1",
        "inspect config a b --output json --trust-domain example.org --lift-minimums \
         --ca-endpoint http://127.0.0.1:1",
        "inspect config --cluster",
        "inspect config --cluster --kubeconfig f --signer-name a.b/c --trust-domain example.org \
         --identity reflected --output json",
        "inspect node",
        "inspect node --driver-name d.example --kubelet-root /k --kubeconfig f --node-name n \
         --admin 127.0.0.1:9465 --token-audience a --trust-domain example.org --config a b \
         --adopt-foreign-objects --output json",
        "inspect ./node",
        "inspect pod shop/cart-7d9f",
        "inspect pod a/b.c --kubeconfig f --signer-name a.b/c --driver-name d.example \
         --trust-domain example.org --output json",
        "inspect ./pod",
        "completions bash",
        "completions zsh",
        "--log-level certagent=debug,warn completions fish",
    ] {
        let parsed = parse(line);
        assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error_that_names_what_was_probably_meant() {
    for (line, expected) in [
        ("", "Usage:"),
        ("quickstrat", "quickstart"),
        ("run", "--config"),
        ("run --confg a", "--config"),
        ("run --config a --volume v", "--namespace"),
        ("run --config a --namespace n", "--volume"),
        (
            "run --config a --trust-domain spiffe://x/y",
            "without spiffe://",
        ),
        ("run --config a --admin 9000", "invalid value '9000'"),
        ("run --config a --quota-share 0", "1..=100"),
        ("run --config a --quota-share 101", "1..=100"),
        ("run --config a --distrust ab12", "64 hex digits"),
        ("run --config a --distrust root.pem", "openssl x509"),
        ("run --config a --identity own", "none, direct, reflected"),
        ("wait", "<DIR>"),
        ("wait v --timeout 60", "60s, 5m or 24h"),
        ("quickstart --validity 1500ms", "whole seconds"),
        ("quickstart --key-algorithm rsa-1024", "rsa-2048"),
        ("quickstart --rotation-window 300", "300"),
        ("emulator", "--listen"),
        ("validate", "<PATH>"),
        ("inspect v --output yaml", "json"),
        ("inspect", "<DIR>"),
        ("inspect pool", "<URI>"),
        ("inspect pool my-pool", "caPools/POOL"),
        (
            "inspect pool projects/my-project/locations/l/caPools/p/certificateAuthorities/a",
            "name its pool",
        ),
        (
            "inspect pool projects/my-project/locations/l/caPools/p --spiffe-id web",
            "spiffe://",
        ),
        ("inspect config", "<PATH>"),
        ("inspect config --cluster a", "cannot be used with"),
        ("inspect config a --kubeconfig f", "cannot be used with"),
        ("inspect --output json config a", "cannot be used with"),
        ("inspect node n", "unexpected argument"),
        ("inspect node --driver-name A_B", "domain name"),
        (
            "inspect node --kubelet-root var/lib/kubelet",
            "begins with /",
        ),
        ("inspect node --kubelet-root=", "an empty path"),
        (
            "controller --trust-domain a.b --requester system:node:n",
            "system:serviceaccount:NAMESPACE:NAME",
        ),
        (
            "controller --trust-domain a.b --signer-name kubernetes.io/kubelet-serving",
            "Kubernetes' own",
        ),
        (
            "controller --trust-domain a.b --requester system:serviceaccount:a_b:c",
            "system:serviceaccount:NAMESPACE:NAME",
        ),
        (
            "controller --trust-domain a.b --namespace a.b",
            "name of a namespace",
        ),
        (
            "controller --trust-domain a.b --lease-name ../b",
            "a name that Kubernetes allows",
        ),
        ("inspect pod", "<NAMESPACE/NAME>"),
        ("inspect pod cart", "shop/cart-7d9f"),
        ("inspect pod a/b/c", "shop/cart-7d9f"),
        ("inspect pod a/../b", "shop/cart-7d9f"),
        ("inspect pod a.b/c", "shop/cart-7d9f"),
        ("inspect pod a/-b", "shop/cart-7d9f"),
        ("inspect pod a/b --signer-name b", "a domain and a path"),
        ("completions powershell", "bash"),
        (
            "--log-level certagent=loud inspect v",
            "info,certagent=debug",
        ),
    ] {
        let error = parse(line).unwrap_err();
        assert!(error.use_stderr(), "{line}");
        assert!(error.to_string().contains(expected), "{line}: {error}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for line in [
        "--help",
        "-h",
        "--version",
        "run --help",
        "help",
        "help quickstart",
    ] {
        let error = parse(line).unwrap_err();
        assert!(!error.use_stderr(), "{line}");
        assert!(matches!(
            error.kind(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
        ));
    }
}

#[test]
fn the_help_of_every_command_has_an_example_that_parses_and_the_exit_codes() {
    let mut root = Cli::command();
    root.build();
    let commands = std::iter::once(&root).chain(root.get_subcommands());
    // `inspect` has commands of its own.
    let commands = commands.chain(root.find_subcommand("inspect").unwrap().get_subcommands());
    for command in commands {
        if command.get_name() == "help" {
            continue;
        }
        let help = command.clone().render_long_help().to_string();
        assert!(help.contains("Exit codes:\n   0"), "{help}");
        let example = help.split_once("Example").unwrap().1;
        let line = example.lines().nth(1).unwrap().trim();
        let line = line.split(['|', '>']).next().unwrap();
        let line = line.strip_prefix("certagent").unwrap();
        assert!(parse(line).is_ok(), "{line}");
    }
}

#[test]
fn flags_for_one_workload_become_a_workload_without_its_own_trust_domain() {
    let line = "run --config a --volume v --namespace n --service-account s --allow-disk";
    let Command::Run(args) = parse(line).unwrap().command else {
        panic!()
    };
    let workload = args.settings().workload.unwrap();
    assert_eq!(workload.namespace.as_deref(), Some("n"));
    assert_eq!(workload.service_account.as_deref(), Some("s"));
    let volume = workload.volume.unwrap();
    assert_eq!(volume.path.as_deref(), Some("v"));
    assert_eq!(volume.allow_disk, Some(true));

    let Command::Run(args) = parse("run --config a").unwrap().command else {
        panic!()
    };
    let settings = Settings {
        subject_mode: Some(SubjectMode::Default),
        ..Settings::default()
    };
    assert_eq!(args.settings(), settings);

    let line = "run --config a --volume v --namespace n --service-account s --token-file t --identity reflected";
    let Command::Run(args) = parse(line).unwrap().command else {
        panic!()
    };
    let settings = args.settings();
    assert_eq!(settings.subject_mode, Some(SubjectMode::ReflectedSpiffe));
    assert_eq!(settings.workload.unwrap().token_file.as_deref(), Some("t"));
}

#[test]
fn every_process_setting_has_an_environment_twin_of_its_name() {
    for (command, flags) in [
        (
            "run",
            &[
                "config",
                "trust-domain",
                "ca-endpoint",
                "identity",
                "ca-bundle",
                "distrust",
                "state-dir",
                "allow-disk",
                "quota-share",
                "admin",
                "volume",
                "namespace",
                "service-account",
                "token-file",
                "sts-audience",
                "sts-endpoint",
                "impersonate",
                "iamcredentials-endpoint",
                "lift-minimums",
                "log-format",
            ][..],
        ),
        ("quickstart", &["admin"]),
        ("validate", &["trust-domain", "identity"]),
        ("inspect", &["state-dir"]),
        ("inspect pool", &["ca-endpoint"]),
        (
            "inspect config",
            &[
                "ca-endpoint",
                "trust-domain",
                "lift-minimums",
                "signer-name",
            ],
        ),
        (
            "inspect node",
            &[
                "driver-name",
                "kubelet-root",
                "config",
                "adopt-foreign-objects",
                "trust-domain",
                "token-audience",
                "admin",
                "lift-minimums",
            ],
        ),
        (
            "inspect pod",
            &["signer-name", "driver-name", "trust-domain"],
        ),
    ] {
        let mut root = Cli::command();
        root.build();
        let command = command.split(' ').fold(&root, |command, name| {
            command.find_subcommand(name).unwrap()
        });
        for flag in flags {
            let argument = command
                .get_arguments()
                .find(|one| one.get_long() == Some(flag))
                .unwrap();
            let expected = format!("CERTAGENT_{}", flag.to_uppercase().replace('-', "_"));
            assert_eq!(
                argument.get_env().and_then(|env| env.to_str()),
                Some(&*expected)
            );
        }
    }
}

#[test]
fn roots_to_distrust_are_given_one_by_one_or_with_commas() {
    let [one, two, three] = ["ab", "cd", "ef"].map(|byte| byte.repeat(32));
    let line = format!("run --config a --distrust {one},{two} --distrust {three}");
    let Command::Run(args) = parse(&line).unwrap().command else {
        panic!()
    };
    let read: Vec<_> = args.distrust.iter().map(ToString::to_string).collect();
    assert_eq!(read, [one, two, three]);
}
