use proptest::prelude::*;

use super::*;
use crate::api::{AccessMode, BlockVolume, MountVolume};

const UID: &str = "11111111-2222-3333-4444-555555555555";

fn places() -> Places {
    Places::new(
        "/var/lib/kubelet".into(),
        "driver.example.com".parse().unwrap(),
    )
}

fn capability_of(access_type: AccessType) -> VolumeCapability {
    VolumeCapability {
        access_type: Some(access_type),
        access_mode: Some(AccessMode { mode: 1 }),
    }
}

fn mount_with(group: &str) -> VolumeCapability {
    capability_of(AccessType::Mount(MountVolume {
        volume_mount_group: group.to_owned(),
    }))
}

/// What kubelet sends for the volume `certs` of a pod.
fn kubelets() -> NodePublishVolumeRequest {
    let context = [
        ("csi.storage.k8s.io/ephemeral", "true"),
        ("csi.storage.k8s.io/pod.name", "web-1"),
        ("csi.storage.k8s.io/pod.namespace", "shop"),
        ("csi.storage.k8s.io/pod.uid", UID),
        ("csi.storage.k8s.io/serviceAccount.name", "web"),
        ("certagent.dev/fs-group", "7"),
    ];
    NodePublishVolumeRequest {
        volume_id: paths::inline_volume_id(UID, "certs"),
        target_path: format!("/var/lib/kubelet/pods/{UID}/volumes/kubernetes.io~csi/certs/mount"),
        volume_capability: Some(mount_with("")),
        readonly: true,
        secrets: HashMap::new(),
        volume_context: context
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    }
}

fn read(request: NodePublishVolumeRequest) -> Result<Publish, String> {
    publish(request, &places(), false)
}

#[test]
fn what_kubelet_says_is_taken_apart() {
    let publish = read(kubelets()).unwrap();
    assert_eq!(publish.volume.pod.namespace, "shop");
    assert_eq!(publish.volume.pod.service_account, "web");
    assert_eq!(publish.volume.name, "certs");
    assert!(publish.read_only);
    let attributes: Vec<_> = publish.volume.attributes.iter().collect();
    let (key, value) = ("certagent.dev/fs-group".to_owned(), "7".to_owned());
    assert_eq!(attributes, [(&key, &value)]);
    assert!(publish.volume.tokens.is_empty());
}

#[test]
fn a_key_that_only_looks_like_kubelet_s_is_the_pod_s_own_until_the_volume_is_bound() {
    let mut request = kubelets();
    for key in ["pod.labels", "more", ""] {
        let key = format!("{OURS}{key}");
        request.volume_context.insert(key, "x".to_owned());
    }
    let publish = read(request).unwrap();
    let keys = |volume: &PodVolume| volume.attributes.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        keys(&publish.volume),
        [
            "certagent.dev/fs-group",
            "csi.storage.k8s.io/",
            "csi.storage.k8s.io/more",
            "csi.storage.k8s.io/pod.labels",
        ]
    );
    assert_eq!(keys(&publish.of_bound()), ["certagent.dev/fs-group"]);
}

#[test]
fn tokens_come_with_the_secrets_or_with_the_context_and_are_never_shown() {
    let json = r#"{"aud":{"token":"a.secret.token","expirationTimestamp":"2026-01-01T00:00:00Z"}}"#;
    let mut in_context = kubelets();
    in_context
        .volume_context
        .insert(TOKENS.to_owned(), json.to_owned());
    let mut in_secrets = kubelets();
    in_secrets
        .secrets
        .insert(TOKENS.to_owned(), json.to_owned());
    for request in [in_context, in_secrets] {
        assert!(!format!("{request:?}").contains("secret"));
        let publish = read(request).unwrap();
        assert_eq!(publish.volume.tokens["aud"].expose(), "a.secret.token");
        assert!(!format!("{publish:?}").contains("secret"));
        assert!(!publish.volume.attributes.contains_key(TOKENS));
    }
    let mut broken = kubelets();
    broken
        .secrets
        .insert(TOKENS.to_owned(), r#"{"aud":"a.secret.token"}"#.to_owned());
    let error = read(broken).unwrap_err();
    assert!(
        error.contains("serviceAccount.tokens") && !error.contains("secret"),
        "{error}"
    );
}

#[test]
fn what_does_not_fit_together_is_refused_with_what_it_is() {
    type Spoil = fn(&mut NodePublishVolumeRequest);
    fn set(request: &mut NodePublishVolumeRequest, key: &str, value: &str) {
        let key = format!("csi.storage.k8s.io/{key}");
        request.volume_context.insert(key, value.to_owned());
    }
    fn unset(request: &mut NodePublishVolumeRequest, key: &str) {
        request
            .volume_context
            .remove(&format!("csi.storage.k8s.io/{key}"));
    }
    let cases: [(Spoil, &str); 16] = [
        (|r| r.volume_id.clear(), "volume_id is missing"),
        (|r| r.target_path.clear(), "target_path is missing"),
        (
            |r| r.volume_capability = None,
            "volume_capability is missing",
        ),
        (
            |r| r.volume_capability = Some(capability_of(AccessType::Block(BlockVolume {}))),
            "no block volumes",
        ),
        (
            |r| r.volume_capability = Some(VolumeCapability::default()),
            "neither mount nor block",
        ),
        (
            |r| r.volume_capability = Some(mount_with("users")),
            "\"users\" is no group id",
        ),
        (
            |r| r.volume_capability = Some(mount_with("4294967295")),
            "is no group id",
        ),
        (|r| r.target_path = "/etc".to_owned(), "not of the form"),
        (
            |r| r.target_path = r.target_path.replace("certs", "other"),
            "is not the one that kubelet gives",
        ),
        (
            |r| r.volume_id = "csi-1".to_owned(),
            "is not the one that kubelet gives",
        ),
        (|r| set(r, "pod.uid", "other"), "pod.uid is other"),
        (
            |r| set(r, "ephemeral", "false"),
            "inline volumes of pods only",
        ),
        (|r| unset(r, "ephemeral"), "podInfoOnMount: true"),
        (|r| unset(r, "pod.namespace"), "podInfoOnMount: true"),
        (|r| unset(r, "serviceAccount.name"), "podInfoOnMount: true"),
        (
            |r| set(r, "more", &"x".repeat(2000)),
            "longer than 1024 bytes",
        ),
    ];
    for (spoil, text) in cases {
        let mut request = kubelets();
        spoil(&mut request);
        let error = read(request).unwrap_err();
        assert!(error.contains(text), "{error:?} instead of {text:?}");
    }
    let mut many = kubelets();
    many.volume_context
        .extend((0..64).map(|n| (n.to_string(), String::new())));
    assert!(read(many).unwrap_err().contains("at most 64"));
}

#[test]
fn the_pods_group_is_read() {
    let mut request = kubelets();
    request.volume_capability = Some(mount_with("1337"));
    assert_eq!(read(request).unwrap().volume.fs_group, Some(1337));
}

#[test]
fn any_caller_is_taken_with_its_own_ids_but_not_into_the_driver_s_directory() {
    let mut request = kubelets();
    request.volume_id = "sanity-1".to_owned();
    request.target_path = "/tmp/csi-mount/target".to_owned();
    request.volume_context.clear();
    publish(request.clone(), &places(), true).unwrap();
    assert!(publish(request.clone(), &places(), false).is_err());
    for target in [
        "tmp",
        "/var/lib/kubelet/plugins/driver.example.com/volumes/x",
        "/",
        "/tmp/../var",
    ] {
        request.target_path = target.to_owned();
        assert!(
            publish(request.clone(), &places(), true).is_err(),
            "{target}"
        );
    }
}

proptest! {
    #[test]
    fn tokens_of_any_text_give_an_answer_that_does_not_repeat_it(text in ".{0,200}") {
        if let Err(error) = parse_tokens(&text) {
            prop_assert!(text.len() < 30 || !error.contains(&text));
        }
    }

    #[test]
    fn a_request_of_any_texts_gives_an_answer(
        id in ".{0,80}", target in ".{0,80}", key in ".{0,40}", value in ".{0,40}", any in any::<bool>(),
    ) {
        let mut request = kubelets();
        (request.volume_id, request.target_path) = (id, target);
        request.volume_context.insert(key, value);
        let _any_answer = publish(request, &places(), any);
    }
}
