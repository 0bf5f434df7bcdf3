//! The rules of `Workload` and of what all objects share, each broken alone.

use super::*;

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
                "(allowed: trustDomain, namespace, serviceAccount, tokenFile, volume)",
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
