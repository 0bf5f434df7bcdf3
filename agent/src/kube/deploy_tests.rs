//! The manifests in `deploy/` are what Kubernetes' own types say, and fit to each other.
use std::{collections::BTreeMap, fs, path::Path};

use clap::{CommandFactory as _, Parser as _};
use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{Namespace, Pod, ResourceQuota, ServiceAccount},
        rbac::v1::{ClusterRole, ClusterRoleBinding},
        storage::v1::CSIDriver,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::ResourceExt as _;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{DriverObject, GROUP, Kind, OURS, Tokens};
use crate::cli::Cli;

const DRIVER: &str = "workloadcertificates.security.cloud.google.com";

fn documents(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name);
    let text = fs::read_to_string(path).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

/// The object of a document; fields that its type does not have are errors.
fn strict<T: Serialize + DeserializeOwned>(document: &Value) -> T {
    let object: T = serde_json::from_value(document.clone()).unwrap();
    assert_within(document, &serde_json::to_value(&object).unwrap(), "");
    object
}

fn assert_within(written: &Value, known: &Value, path: &str) {
    match (written, known) {
        (Value::Object(written), Value::Object(known)) => {
            for (key, value) in written {
                let path = format!("{path}.{key}");
                let known = known.get(key);
                assert_within(value, known.unwrap_or_else(|| panic!("{path}")), &path);
            }
        }
        (Value::Array(written), Value::Array(known)) => {
            assert_eq!(written.len(), known.len(), "{path}");
            for (index, pair) in written.iter().zip(known).enumerate() {
                assert_within(pair.0, pair.1, &format!("{path}[{index}]"));
            }
        }
        _ => assert_eq!(written, known, "{path}"),
    }
}

#[test]
fn every_manifest_has_only_fields_that_kubernetes_knows_and_our_label() {
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")).unwrap();
    let mut kinds = BTreeMap::<String, usize>::new();
    for file in files {
        let file = file.unwrap().path();
        if file.extension().is_none_or(|ending| ending != "yaml") {
            continue;
        }
        let name = file.file_name().unwrap().to_str().unwrap();
        for document in documents(name) {
            let kind = document["kind"].as_str().unwrap();
            match kind {
                "ClusterRole" => drop(strict::<ClusterRole>(&document)),
                "ClusterRoleBinding" => drop(strict::<ClusterRoleBinding>(&document)),
                "CSIDriver" => drop(strict::<CSIDriver>(&document)),
                "CustomResourceDefinition" => drop(strict::<CustomResourceDefinition>(&document)),
                "DaemonSet" => drop(strict::<DaemonSet>(&document)),
                "Namespace" => drop(strict::<Namespace>(&document)),
                "Pod" => drop(strict::<Pod>(&document)),
                "ResourceQuota" => drop(strict::<ResourceQuota>(&document)),
                "ServiceAccount" => drop(strict::<ServiceAccount>(&document)),
                other => panic!("{name}: {other}"),
            }
            if kind != "Pod" {
                let label = &document["metadata"]["labels"][OURS.0];
                assert_eq!(label, OURS.1, "{name}: {kind}");
            }
            *kinds.entry(kind.to_owned()).or_default() += 1;
        }
    }
    assert_eq!(
        (kinds["CSIDriver"], kinds["DaemonSet"]),
        (2, 1),
        "{kinds:?}"
    );
}

#[test]
fn both_driver_objects_are_right_for_their_mode() {
    let plain: CSIDriver = strict(&documents("csidriver.yaml")[0]);
    let judged = DriverObject::judge(Some(&plain), DRIVER, &Tokens::NotNeeded);
    assert_eq!(judged, DriverObject::Right);
    let spec = plain.spec;
    assert_eq!(
        (
            spec.token_requests,
            spec.requires_republish,
            spec.service_account_token_in_secrets
        ),
        (None, None, None)
    );

    let reflected: CSIDriver = strict(&documents("csidriver-reflected.yaml")[0]);
    let audience = setting("CERTAGENT_TOKEN_AUDIENCE").unwrap();
    let judged = DriverObject::judge(Some(&reflected), DRIVER, &Tokens::For(audience));
    assert_eq!(judged, DriverObject::Right);
    assert_eq!(reflected.spec.service_account_token_in_secrets, Some(true));
    for (one, other) in [
        (plain.metadata.name, reflected.metadata.name),
        (spec.fs_group_policy, reflected.spec.fs_group_policy),
    ] {
        assert_eq!(one, other);
    }
}

#[test]
fn the_node_may_read_what_it_reads_and_nothing_else() {
    let document = documents("node.yaml")
        .into_iter()
        .find(|document| document["kind"] == "ClusterRole")
        .unwrap();
    let rules = strict::<ClusterRole>(&document).rules.unwrap();
    for rule in &rules {
        let verbs = rule.verbs.iter().map(String::as_str);
        assert!(
            verbs
                .clone()
                .all(|verb| ["get", "list", "watch"].contains(&verb))
        );
        assert!(
            rule.resource_names
                .as_ref()
                .is_some_and(|names| !names.is_empty())
        );
    }
    let names = |resource: &str| -> Vec<String> {
        let rule = rules.iter().find(|rule| {
            let resources = rule.resources.as_deref().unwrap_or_default();
            resources.iter().any(|one| one == resource)
        });
        rule.unwrap().resource_names.clone().unwrap()
    };
    for kind in Kind::ALL {
        assert_eq!(names(kind.plural()), ["default"]);
        assert!(names("customresourcedefinitions").contains(&kind.definition()));
    }
    assert_eq!(names("csidrivers"), [DRIVER]);
    let objects = rules.iter().find(|rule| {
        let groups = rule.api_groups.as_deref().unwrap_or_default();
        groups.iter().any(|group| group == GROUP)
    });
    // They are followed, and never asked for one by one.
    assert_eq!(objects.unwrap().verbs, ["list", "watch"]);
}

#[test]
fn the_driver_and_its_directories_have_one_name_everywhere() {
    let node = daemon_set();
    let pod = node.spec.template.spec.unwrap();
    let mounts = pod.containers[0].volume_mounts.clone().unwrap();
    let paths: BTreeMap<_, _> = pod
        .volumes
        .unwrap()
        .into_iter()
        .map(|volume| (volume.name, volume.host_path.unwrap().path))
        .collect();
    for mount in &mounts {
        assert_eq!(
            mount.mount_path, paths[&mount.name],
            "the same path inside and outside"
        );
        let is_two_way = mount.mount_propagation.as_deref() == Some("Bidirectional");
        assert_eq!(is_two_way, mount.name != "registry", "{}", mount.name);
    }
    assert!(paths["plugin"].ends_with(&format!("/plugins/{DRIVER}")));
    for manifest in ["csidriver.yaml", "csidriver-reflected.yaml"] {
        let driver: CSIDriver = strict(&documents(manifest)[0]);
        assert_eq!(driver.name_any(), DRIVER);
    }
    let example: Pod = strict(&documents("example-pod.yaml")[0]);
    let volume = example.spec.unwrap().volumes.unwrap().remove(0);
    assert_eq!(volume.csi.unwrap().driver, DRIVER);
}

fn daemon_set() -> DaemonSet {
    let document = documents("node.yaml")
        .into_iter()
        .find(|document| document["kind"] == "DaemonSet");
    strict(&document.unwrap())
}

/// A setting in the environment of the node's container.
fn setting(name: &str) -> Option<String> {
    let pod = daemon_set().spec.template.spec?;
    let environment = pod.containers.first()?.env.clone()?;
    let found = environment.into_iter().find(|one| one.name == name);
    found?.value
}

#[test]
fn the_node_and_its_inspection_are_told_the_same() {
    let pod = daemon_set().spec.template.spec.unwrap();
    let container = &pod.containers[0];
    let mut environment = container.env.clone().unwrap();
    // Kubernetes fills this one in.
    let node = environment.iter().position(|one| one.name == "NODE_NAME");
    let field = environment.remove(node.unwrap()).value_from.unwrap();
    assert_eq!(field.field_ref.unwrap().field_path, "spec.nodeName");
    let mut root = Cli::command();
    root.build();
    let node = root.find_subcommand("node").unwrap();
    let inspect = root.find_subcommand("inspect").unwrap();
    let inspect = inspect.find_subcommand("node").unwrap();
    for name in environment.iter().map(|one| one.name.as_str()) {
        for command in [node, inspect] {
            let mut flags = command.get_arguments();
            let is_known = flags.any(|flag| flag.get_env() == Some(name.as_ref()));
            assert!(is_known, "{} does not read {name}", command.get_name());
        }
    }
    let arguments = container.args.clone().unwrap();
    assert_eq!(arguments[0], "node");
    let with_environment = environment.into_iter().filter_map(|one| {
        let flag = one.name.strip_prefix("CERTAGENT_")?.to_lowercase();
        Some(format!("--{}={}", flag.replace('_', "-"), one.value?))
    });
    let line = ["certagent".to_owned()].into_iter().chain(arguments);
    let line = line
        .chain(["--node-name=n".to_owned()])
        .chain(with_environment)
        .map(|word| word.replace("PROJECT_ID", "my-project"));
    let parsed = Cli::try_parse_from(line);
    assert!(parsed.is_ok(), "{}", parsed.unwrap_err());
}
