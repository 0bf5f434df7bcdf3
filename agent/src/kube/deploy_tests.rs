//! The manifests in `deploy/` are what Kubernetes' own types say, and fit to each other.
use std::{collections::BTreeMap, fs, path::Path};

use clap::{CommandFactory as _, Parser as _};
use k8s_openapi::{
    api::{
        admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
        apps::v1::{DaemonSet, Deployment},
        core::v1::{Container, Namespace, Pod, ResourceQuota, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
        storage::v1::CSIDriver,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::ResourceExt as _;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{DriverObject, OURS, Tokens};
use crate::cli::Cli;

const DRIVER: &str = "workloadcertificates.security.cloud.google.com";

/// What in node.yaml stands before the lines of the mode without a controller.
const REFLECTED: &str = "# reflected: ";

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name);
    fs::read_to_string(path).unwrap()
}

fn documents(name: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&text(name)).unwrap()
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
                "Deployment" => drop(strict::<Deployment>(&document)),
                "Namespace" => drop(strict::<Namespace>(&document)),
                "NetworkPolicy" => drop(strict::<NetworkPolicy>(&document)),
                "Pod" => drop(strict::<Pod>(&document)),
                "PodDisruptionBudget" => drop(strict::<PodDisruptionBudget>(&document)),
                "ResourceQuota" => drop(strict::<ResourceQuota>(&document)),
                "Role" => drop(strict::<Role>(&document)),
                "RoleBinding" => drop(strict::<RoleBinding>(&document)),
                "ServiceAccount" => drop(strict::<ServiceAccount>(&document)),
                "ValidatingAdmissionPolicy" => {
                    drop(strict::<ValidatingAdmissionPolicy>(&document));
                }
                "ValidatingAdmissionPolicyBinding" => {
                    drop(strict::<ValidatingAdmissionPolicyBinding>(&document));
                }
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
        (kinds["CSIDriver"], kinds["DaemonSet"], kinds["Deployment"]),
        (2, 1, 1),
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
    let audience = setting(&daemon_set(true), "CERTAGENT_TOKEN_AUDIENCE").unwrap();
    assert_eq!(
        setting(&daemon_set(false), "CERTAGENT_TOKEN_AUDIENCE"),
        None
    );
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

/// Each right as `GROUP/RESOURCE[NAMES] VERBS`.
fn rights(manifest: &str, kind: &str) -> Vec<String> {
    let document = documents(manifest)
        .into_iter()
        .find(|document| document["kind"] == kind);
    let rules = document.unwrap()["rules"].clone();
    let rules: Vec<k8s_openapi::api::rbac::v1::PolicyRule> = serde_json::from_value(rules).unwrap();
    let mut rights = Vec::new();
    for rule in rules {
        let names = rule.resource_names.unwrap_or_default();
        for (group, resource) in rule.api_groups.unwrap().iter().flat_map(|group| {
            let resources = rule.resources.iter().flatten();
            resources.map(move |resource| (group.clone(), resource))
        }) {
            let names = names.join(",");
            rights.push(format!(
                "{group}/{resource}[{names}] {}",
                rule.verbs.join(",")
            ));
        }
    }
    rights.sort();
    rights
}

#[test]
fn the_node_may_do_what_it_does_and_nothing_else() {
    assert_eq!(
        rights("node.yaml", "ClusterRole"),
        [
            "apiextensions.k8s.io/customresourcedefinitions[workloadcertificateconfigs.security.cloud.google.com,trustconfigs.security.cloud.google.com] get",
            "certificates.k8s.io/certificatesigningrequests[] create,get,watch",
            "security.cloud.google.com/trustconfigs[default] list,watch",
            "security.cloud.google.com/workloadcertificateconfigs[default] list,watch",
            "storage.k8s.io/csidrivers[workloadcertificates.security.cloud.google.com] get,list,watch",
        ]
    );
}

#[test]
fn the_controller_may_do_what_it_does_and_nothing_else() {
    assert_eq!(
        rights("controller.yaml", "ClusterRole"),
        [
            "/pods[] get",
            "apiextensions.k8s.io/customresourcedefinitions[workloadcertificateconfigs.security.cloud.google.com,trustconfigs.security.cloud.google.com] get",
            "certificates.k8s.io/certificatesigningrequests/approval[] update",
            "certificates.k8s.io/certificatesigningrequests/status[] update",
            "certificates.k8s.io/certificatesigningrequests[] get,list,watch",
            "certificates.k8s.io/signers[spiffe.gke.io/spiffe-leaf-signer] approve,sign",
            "events.k8s.io/events[] create",
            "security.cloud.google.com/trustconfigs/status[default] patch",
            "security.cloud.google.com/trustconfigs[default] get,list,watch",
            "security.cloud.google.com/workloadcertificateconfigs/status[default] patch",
            "security.cloud.google.com/workloadcertificateconfigs[default] get,list,watch",
            "storage.k8s.io/csidrivers[workloadcertificates.security.cloud.google.com] get",
        ]
    );
    assert_eq!(
        rights("controller.yaml", "Role"),
        [
            "coordination.k8s.io/leases[] create",
            "coordination.k8s.io/leases[certagent-controller] get,update",
        ]
    );
}

#[test]
fn the_policy_keeps_requests_away_that_are_too_long_to_be_read() {
    let policy = documents("controller.yaml").into_iter();
    let mut policy = policy.filter(|document| document["kind"] == "ValidatingAdmissionPolicy");
    let policy: ValidatingAdmissionPolicy = strict(&policy.next().unwrap());
    let rules = policy.spec.unwrap().validations.unwrap();
    let longest = certagent_core::approval::MAX_REQUEST_BYTES;
    let rule = format!("size(object.spec.request) <= {longest}");
    assert!(rules.iter().any(|one| one.expression == rule));
}

#[test]
fn the_driver_and_its_directories_have_one_name_everywhere() {
    let node = daemon_set(false);
    let pod = node.spec.template.spec.unwrap();
    let mounts = pod.containers[0].volume_mounts.clone().unwrap();
    let paths: BTreeMap<_, _> = pod
        .volumes
        .unwrap()
        .into_iter()
        .filter_map(|volume| Some((volume.name, volume.host_path?.path)))
        .collect();
    for mount in mounts.iter().filter(|mount| mount.name != "token") {
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

#[test]
fn the_policy_is_of_the_driver_s_pods_and_of_the_port_that_they_serve() {
    let node = daemon_set(false);
    let policy: NetworkPolicy = strict(&documents("network-policy.yaml")[0]);
    assert_eq!(policy.namespace(), node.namespace());
    let spec = policy.spec.unwrap();
    let template = node.spec.template;
    let selected = spec.pod_selector.unwrap().match_labels.unwrap();
    let labels = template.metadata.unwrap().labels.unwrap();
    assert!(selected.iter().all(|(key, value)| labels[key] == *value));
    // What the driver calls stays open.
    assert_eq!(spec.policy_types.unwrap(), ["Ingress"]);
    let ports = spec.ingress.unwrap().remove(0).ports.unwrap();
    let served = template.spec.unwrap().containers[0].ports.clone().unwrap();
    let name = served[0].name.clone().unwrap();
    assert_eq!(ports[0].port, Some(IntOrString::String(name)));
}

#[test]
fn the_driver_runs_on_every_node_of_linux_and_on_no_network_of_a_node() {
    let pod = daemon_set(false).spec.template.spec.unwrap();
    let selector = pod.node_selector.unwrap();
    let wanted = [("kubernetes.io/os".to_owned(), "linux".to_owned())];
    assert_eq!(selector, wanted.into());
    let tolerated = pod.tolerations.unwrap();
    let tolerates_all = tolerated[0].operator.as_deref() == Some("Exists");
    assert!(tolerates_all && tolerated[0].key.is_none() && tolerated[0].effect.is_none());
    // There no policy would keep anybody from its port.
    assert_eq!(pod.host_network, Some(false));
}

fn daemon_set(is_reflected: bool) -> DaemonSet {
    let text = text("node.yaml");
    let text = if is_reflected {
        text.replace(REFLECTED, "")
    } else {
        text
    };
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let found = documents
        .into_iter()
        .find(|document| document["kind"] == "DaemonSet");
    strict(&found.unwrap())
}

fn container(node: &DaemonSet) -> Container {
    let pod = node.spec.template.spec.clone().unwrap();
    pod.containers.into_iter().next().unwrap()
}

/// A setting in the environment of the node's container.
fn setting(node: &DaemonSet, name: &str) -> Option<String> {
    let environment = container(node).env.unwrap();
    let found = environment.into_iter().find(|one| one.name == name);
    found?.value
}

#[test]
fn the_node_and_its_inspection_are_told_the_same() {
    for is_reflected in [false, true] {
        told_the_same(&container(&daemon_set(is_reflected)));
    }
}

fn told_the_same(container: &Container) {
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

#[test]
fn the_controller_s_arguments_and_settings_are_those_of_its_command() {
    let document = documents("controller.yaml")
        .into_iter()
        .find(|document| document["kind"] == "Deployment");
    let deployment: Deployment = strict(&document.unwrap());
    let pod = deployment.spec.template.spec.unwrap();
    let container = &pod.containers[0];
    let mut root = Cli::command();
    root.build();
    let command = root.find_subcommand("controller").unwrap();
    let environment = container.env.clone().unwrap();
    for one in &environment {
        let mut flags = command.get_arguments();
        let is_known = flags.any(|flag| flag.get_env() == Some(one.name.as_ref()));
        assert!(is_known, "controller does not read {}", one.name);
    }
    // Whom it believes is who the node manifest makes the driver.
    let account = documents("node.yaml")
        .into_iter()
        .find(|document| document["kind"] == "ServiceAccount")
        .unwrap();
    let metadata = &account["metadata"];
    let (namespace, name) = (&metadata["namespace"], &metadata["name"]);
    let user = format!(
        "system:serviceaccount:{}:{}",
        namespace.as_str().unwrap(),
        name.as_str().unwrap()
    );
    let mut defaults = command
        .get_arguments()
        .filter(|flag| flag.get_id() == "requester")
        .flat_map(clap::Arg::get_default_values);
    assert_eq!(defaults.next().unwrap(), user.as_str());
    assert!(text("controller.yaml").contains(&format!("'{user}'")));
}
