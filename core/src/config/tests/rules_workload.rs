//! The rules of `Workload` and of what all objects share, each broken alone.

use std::time::Duration;

use super::*;
use crate::config::{Hook, HookSignal};

#[test]
fn the_good_text_has_no_problem() {
    assert_eq!(load_text(GOOD).problems, []);
}

#[test]
fn each_rule_of_the_header_is_one_error_at_its_place() {
    check(
        &[
            (
                "apiVersion: security.cloud.google.com/v1\n",
                "apiVersion: »security.cloud.google.com/v2\n",
                "apiVersion",
                "did you mean security.cloud.google.com/v1?",
            ),
            (
                "certagent.dev/v1alpha1",
                "»certagent.dev/v1",
                "apiVersion",
                "did you mean certagent.dev/v1alpha1?",
            ),
            (
                "name: default",
                "name: »main",
                "metadata.name",
                "only the object default counts (allowed: default)",
            ),
            (
                "metadata:\n  name: default",
                "»metadata:\n  labels: {}",
                "metadata.name",
                "required",
            ),
            (
                "metadata:\n  name: server",
                "metadata: »server",
                "metadata",
                "expected a map, found the text \"server\"",
            ),
            (
                "name: server",
                "name: »Server_1",
                "metadata.name",
                "not a name that Kubernetes allows",
            ),
            (
                "name: server",
                "name: »7",
                "metadata.name",
                "expected a text, found the number 7",
            ),
            (
                "spec:\n  namespace",
                "»sepc: {}\nspec:\n  namespace",
                "sepc",
                "did you mean spec?",
            ),
        ],
        Severity::Error,
    );
}

#[test]
fn each_rule_of_a_workload_is_one_error_at_its_place() {
    check(
        &[
            (
                "namespace: default",
                "namespace: »Default",
                "spec.namespace",
                "\"Default\" is not a name",
            ),
            (
                "namespace: default",
                "namespace: »a.b",
                "spec.namespace",
                "1 to 63",
            ),
            (
                "namespace: default",
                "namespace: »8",
                "spec.namespace",
                "put it in quotes",
            ),
            (
                "serviceAccount: server-sa",
                "serviceAccount: »../admin",
                "spec.serviceAccount",
                "not a name",
            ),
            (
                "spec:\n  namespace: default\n",
                "»spec:\n",
                "spec.namespace",
                "required",
            ),
            (
                "spec:\n  namespace: default",
                "spec:\n  trustDomain: »spiffe://x\n  namespace: default",
                "spec.trustDomain",
                "without spiffe://",
            ),
            (
                "  volume:\n",
                "  tokenFile: »\"\"\n  volume:\n",
                "spec.tokenFile",
                "empty",
            ),
            (
                "  volume:\n",
                "  tokenFile: »tokens/\n  volume:\n",
                "spec.tokenFile",
                "name the file in it",
            ),
            (
                "  volume:\n",
                "  tokenFile: »[]\n  volume:\n",
                "spec.tokenFile",
                "found a list",
            ),
            (
                "  volume:\n",
                "  »tokenPath: token\n  volume:\n",
                "spec.tokenPath",
                "(allowed: trustDomain, namespace, serviceAccount, tokenFile, commonName, dnsNames, onRotate, volume)",
            ),
            (
                "  volume:\n    path: volume",
                "  volume: »volume",
                "spec.volume",
                "expected a map",
            ),
        ],
        Severity::Error,
    );
}

#[test]
fn each_rule_of_the_names_is_one_error_at_its_place() {
    let rows = [
        ("commonName: »\"\"", "spec.commonName", "the name is empty"),
        (
            "commonName: »\" db\"",
            "spec.commonName",
            "begins or ends with a space",
        ),
        (
            "commonName: »\"d\\tb\"",
            "spec.commonName",
            "outside printable ASCII",
        ),
        (
            "commonName: »dä",
            "spec.commonName",
            "outside printable ASCII",
        ),
        ("commonName: »7", "spec.commonName", "put it in quotes"),
        (
            "commonName: »aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggggg",
            "spec.commonName",
            "the name has 65 characters",
        ),
        ("dnsNames: »db", "spec.dnsNames", "expected a list"),
        (
            "dnsNames: [»\"*.example.com\"]",
            "spec.dnsNames[0]",
            "a wildcard would stand for",
        ),
        (
            "dnsNames: [a.b, »A.c]",
            "spec.dnsNames[1]",
            "in lower case here: a.c",
        ),
        (
            "dnsNames: [»10.0.0.1]",
            "spec.dnsNames[0]",
            "not the DNS name of a host",
        ),
        (
            "dnsNames: [»a_b.c]",
            "spec.dnsNames[0]",
            "not the DNS name of a host",
        ),
        (
            "dnsNames: [»a.b.]",
            "spec.dnsNames[0]",
            "not the DNS name of a host",
        ),
        (
            "dnsNames: [a.b, c.d, »a.b]",
            "spec.dnsNames[2]",
            "stands in dnsNames[0] already",
        ),
    ];
    for (line, field, message) in rows {
        broken_workload(line, field, message);
    }
    let many: Vec<String> = (0..33).map(|n| format!("h{n}.example.com")).collect();
    let many = format!("»dnsNames: [{}]", many.join(", "));
    broken_workload(&many, "spec.dnsNames", "there are 33 names");
}

#[test]
fn each_rule_of_a_hook_is_one_error_at_its_place() {
    let rows = [
        ("onRotate: »{}", "spec.onRotate", "expected a list"),
        ("onRotate: [»{}]", "spec.onRotate[0]", "says nothing to do"),
        ("onRotate: [»ls]", "spec.onRotate[0]", "expected a map"),
        (
            "onRotate: [»{exec: [/bin/true], signal: {pidFile: /run/a, signal: HUP}}]",
            "spec.onRotate[0]",
            "write two hooks",
        ),
        (
            "onRotate: [{»shell: ls}]",
            "spec.onRotate[0].shell",
            "no such field",
        ),
        (
            "onRotate: [{exec: »ls -l}]",
            "spec.onRotate[0].exec",
            "expected a list",
        ),
        (
            "onRotate: [{»exec: []}]",
            "spec.onRotate[0].exec",
            "the list is empty",
        ),
        (
            "onRotate: [{exec: [»nginx, -s, reload]}]",
            "spec.onRotate[0].exec[0]",
            "not looked for in PATH",
        ),
        (
            "onRotate: [{exec: [»/usr/]}]",
            "spec.onRotate[0].exec[0]",
            "a directory is named",
        ),
        (
            "onRotate: [{exec: [/bin/true, »\"a\\0b\"]}]",
            "spec.onRotate[0].exec[1]",
            "NUL character",
        ),
        (
            "onRotate: [{exec: [/bin/true], timeoutSeconds: »0}]",
            "spec.onRotate[0].timeoutSeconds",
            "(allowed: 1 to 300)",
        ),
        (
            "onRotate: [{exec: [/bin/true], timeoutSeconds: »301}]",
            "spec.onRotate[0].timeoutSeconds",
            "out of range",
        ),
        (
            "onRotate: [{exec: [/bin/true], timeoutSeconds: »-1}]",
            "spec.onRotate[0].timeoutSeconds",
            "out of range",
        ),
        (
            "onRotate: [{timeoutSeconds: »5, signal: {pidFile: /run/a, signal: HUP}}]",
            "spec.onRotate[0].timeoutSeconds",
            "a signal has no time limit",
        ),
        (
            "onRotate: [{signal: {pidFile: »nginx.pid, signal: HUP}}]",
            "spec.onRotate[0].signal.pidFile",
            "is a relative path",
        ),
        (
            "onRotate: [{signal: {pidFile: /run/a, signal: »SIGHUP}}]",
            "spec.onRotate[0].signal.signal",
            "did you mean HUP?",
        ),
        (
            "onRotate: [{signal: {pidFile: /run/a, signal: »KILL}}]",
            "spec.onRotate[0].signal.signal",
            "(allowed: HUP, INT, QUIT, TERM, USR1, USR2)",
        ),
        // Not "put it in quotes": "1" is none either.
        (
            "onRotate: [{signal: {pidFile: /run/a, signal: »1}}]",
            "spec.onRotate[0].signal.signal",
            "(allowed: HUP, INT, QUIT, TERM, USR1, USR2)",
        ),
    ];
    for (line, field, message) in rows {
        broken_workload(line, field, message);
    }
    let nine = format!("»onRotate: [{}]", ["{exec: [/bin/true]}"; 9].join(", "));
    broken_workload(&nine, "spec.onRotate", "there are 9 hooks");
    let long = format!("onRotate: [{{»exec: [{}]}}]", ["/bin/true"; 65].join(", "));
    broken_workload(&long, "spec.onRotate[0].exec", "there are 65 texts");
    let missing = "onRotate: [{signal: {signal: HUP}}]";
    let loaded = load_text(&edited("  volume:\n", &format!("  {missing}\n  volume:\n")));
    let problem = only_problem(&loaded);
    assert_eq!(
        problem.field.as_deref(),
        Some("spec.onRotate[0].signal.pidFile")
    );
}

/// The good workload with this line in its spec: one error, at the place of the mark `»`.
fn broken_workload(line: &str, field: &str, message: &str) {
    let text = edited("  volume:\n", &format!("  {line}\n  volume:\n"));
    let (text, line, column) = marked(&text);
    let loaded = load_text(&text);
    let problem = only_problem(&loaded);
    let shown = problem.to_string();
    assert_eq!(problem.field.as_deref(), Some(field), "{shown}");
    assert_eq!((problem.line, problem.column), (line, column), "{shown}");
    assert!(shown.contains(message), "no {message:?} in: {shown}");
    assert!(loaded.config.is_none(), "{shown}");
}

#[test]
fn names_and_hooks_are_read_as_they_are_typed() {
    let fields = "  commonName: app user
  dnsNames: [db.example.com, localhost]
  onRotate:
  - exec: [/usr/bin/pg_ctl, reload, -D, /data]
  - exec: [/bin/true]
    timeoutSeconds: 300
  - signal: {pidFile: /run/nginx.pid, signal: HUP}
  volume:
";
    let loaded = load_text(&edited("  volume:\n", fields));
    assert_eq!(loaded.problems, []);
    let workload = &loaded.config.unwrap().workloads[0];
    assert_eq!(workload.names.common_name.as_deref(), Some("app user"));
    assert_eq!(workload.names.dns_names, ["db.example.com", "localhost"]);
    let exec = |program: &str, arguments: &[&str], seconds| Hook::Exec {
        program: program.to_owned(),
        arguments: arguments.iter().map(|&one| one.to_owned()).collect(),
        limit: Duration::from_secs(seconds),
    };
    let signal = Hook::Signal {
        pid_file: "/run/nginx.pid".to_owned(),
        signal: HookSignal::Hup,
    };
    assert_eq!(
        workload.on_rotate,
        [
            exec("/usr/bin/pg_ctl", &["reload", "-D", "/data"], 30),
            exec("/bin/true", &[], 300),
            signal,
        ]
    );
}

#[test]
fn names_cannot_be_asked_for_where_the_service_takes_them_from_a_token() {
    let fields = "  tokenFile: token\n  commonName: db\n  dnsNames: [db.a]\n  volume:\n";
    let settings = Settings {
        subject_mode: Some(crate::request::SubjectMode::ReflectedSpiffe),
        ..Settings::default()
    };
    let text = edited("  volume:\n", fields);
    let loaded = load(&[source("all.yaml", &text)], &settings);
    let fields: Vec<_> = loaded
        .problems
        .iter()
        .map(|one| one.field.as_deref())
        .collect();
    assert_eq!(fields, [Some("spec.commonName"), Some("spec.dnsNames")]);
    let said = loaded.problems[0].to_string();
    assert!(said.contains("--identity reflected"), "{said}");
}

#[test]
fn each_rule_of_a_volume_is_one_error_at_its_place() {
    const PATH: &str = "    path: volume";
    check(
        &[
            (PATH, "    path: »\"\"", "spec.volume.path", "empty"),
            (PATH, "    path: »//", "spec.volume.path", "root directory"),
            (
                PATH,
                "    path: volume\n    keyMode: »640",
                "spec.volume.keyMode",
                "could be meant as octal or as decimal",
            ),
            (
                PATH,
                "    path: volume\n    keyMode: »0648",
                "spec.volume.keyMode",
                "not a file mode in octal",
            ),
            (
                PATH,
                "    path: volume\n    keyMode: »rw-r-----",
                "spec.volume.keyMode",
                "(allowed: \"0000\" to \"0777\", for example \"0640\")",
            ),
            (
                PATH,
                "    path: volume\n    directoryMode: »\"2755\"",
                "spec.volume.directoryMode",
                "bits outside 0777",
            ),
            (
                PATH,
                "    path: volume\n    fileMode: »[]",
                "spec.volume.fileMode",
                "found a list",
            ),
            (
                PATH,
                "    path: volume\n    owner: »4294967295",
                "spec.volume.owner",
                "not a user or group number",
            ),
            (
                PATH,
                "    path: volume\n    group: »\"a:b\"",
                "spec.volume.group",
                "not the name of a user or group",
            ),
            (
                PATH,
                "    path: volume\n    allowDisk: »yes",
                "spec.volume.allowDisk",
                "expected true or false",
            ),
            (
                PATH,
                "    path: volume\n    »keymode: \"0640\"",
                "spec.volume.keymode",
                "did you mean keyMode?",
            ),
        ],
        Severity::Error,
    );
}

#[test]
fn what_works_but_is_unwise_is_one_warning_at_its_place() {
    const PERCENT: &str = "spec.rotationWindowPercentage";
    const PATH: &str = "    path: volume";
    check(
        &[
            (
                "Percentage: 50",
                "Percentage: »9",
                PERCENT,
                "renewal starts late",
            ),
            (
                "Percentage: 50",
                "Percentage: »1",
                PERCENT,
                "renewal starts late",
            ),
            (
                "86400\n  rotationWindowPercentage: 50",
                "60\n  rotationWindowPercentage: »49",
                PERCENT,
                "49% of 60 s leaves 29.40 s",
            ),
            (
                PATH,
                "    path: volume\n    keyMode: »\"0644\"",
                "spec.volume.keyMode",
                "everybody on this machine may read",
            ),
            (
                PATH,
                "    path: volume\n    fileMode: »0666",
                "spec.volume.fileMode",
                "may replace",
            ),
        ],
        Severity::Warning,
    );
}

#[test]
fn a_private_key_in_the_wrong_field_is_not_shown() {
    let key = "\"-----BEGIN PRIVATE KEY-----\\nSECRET\"";
    for from in [
        "issuing-pool",
        "4096",
        "demo-project.svc.id.goog",
        "default",
        "volume",
        "50",
    ] {
        let shown = lines(&load_text(&edited(from, key)).problems);
        assert!(!shown.contains("SECRET"), "{shown}");
    }
}
