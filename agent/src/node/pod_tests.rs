use std::collections::BTreeMap;

use certagent_core::request::SubjectMode;
use certagent_csi::{Pod, ServiceAccountToken, VolumeId};

use super::*;
use crate::google::unsigned_jwt;

pub(in crate::node) fn settings(audience: Option<&str>) -> NodeSettings {
    NodeSettings {
        trust_domain: certagent_svid::TrustDomain::new("p.svc.id.goog").unwrap(),
        subject_mode: SubjectMode::ReflectedSpiffe,
        token_audience: audience.map(str::to_owned),
        by_controller: false,
    }
}

pub(in crate::node) fn dir() -> ContentDir {
    ContentDir {
        id: VolumeId::new("csi-1").unwrap(),
        root: "/plugin/volumes/csi-1".into(),
    }
}

pub(in crate::node) fn volume(attributes: &[(&str, &str)]) -> PodVolume {
    let attributes = attributes
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    PodVolume {
        pod: Pod {
            name: "web-1".to_owned(),
            namespace: "shop".to_owned(),
            uid: "u-1".to_owned(),
            service_account: "web".to_owned(),
        },
        name: "certs".to_owned(),
        fs_group: None,
        attributes: attributes.collect(),
        tokens: BTreeMap::new(),
    }
}

fn assigned(volume: &PodVolume) -> Result<Assignment, String> {
    assignment(&settings(None), &dir(), volume, None).map_err(|error| {
        assert_eq!(error.kind, FillErrorKind::Invalid);
        error.message
    })
}

#[test]
fn a_pod_s_volume_is_for_its_service_account_and_readable_by_all_of_it() {
    let assignment = assigned(&volume(&[(TRUST_DOMAIN, "p.svc.id.goog")])).unwrap();
    let id = "spiffe://p.svc.id.goog/ns/shop/sa/web";
    assert_eq!(assignment.spiffe_id.to_string(), id);
    assert_eq!(assignment.path, dir().data());
    let access = assignment.access().unwrap();
    assert_eq!((access.owner, access.group), (Some(0), Some(0)));
    assert_eq!(
        (access.directory_mode, access.key_mode, access.file_mode),
        (0o755, 0o444, 0o444)
    );
    assert_eq!(assignment.beside.unwrap().state, dir().root);
}

#[test]
fn with_a_group_only_that_group_reads_and_the_volume_s_own_wins() {
    let mut of_pod = volume(&[]);
    of_pod.fs_group = Some(1337);
    let mut of_volume = volume(&[(FS_GROUP, "7")]);
    of_volume.fs_group = Some(1337);
    for (volume, group) in [(of_pod, 1337), (of_volume, 7)] {
        let access = assigned(&volume).unwrap().access().unwrap();
        assert_eq!(access.group, Some(group));
        assert_eq!((access.directory_mode, access.key_mode), (0o750, 0o440));
    }
}

#[test]
fn an_attribute_that_is_wrong_is_named_with_what_is_right() {
    for (key, value, text) in [
        (
            "csi.cert-manager.io/fs-group",
            "1",
            "is not known; allowed are certagent.dev/fs-group",
        ),
        (
            "csi.storage.k8s.io/pod.labels",
            "1",
            "is not known; allowed are certagent.dev/fs-group",
        ),
        (
            TRUST_DOMAIN,
            "other.example",
            "this cluster's trust domain is \"p.svc.id.goog\"",
        ),
        (FS_GROUP, "users", "is no group id"),
        (FS_GROUP, "-1", "is no group id"),
        (FS_GROUP, "4294967295", "is no group id"),
    ] {
        let message = assigned(&volume(&[(key, value)])).unwrap_err();
        assert!(message.contains(key) && message.contains(text), "{message}");
    }
}

fn with_tokens(tokens: &[(&str, &str)]) -> PodVolume {
    let mut volume = volume(&[]);
    let tokens = tokens.iter().map(|(audience, subject)| {
        let jwt = unsigned_jwt(subject, audience);
        ((*audience).to_owned(), ServiceAccountToken::new(jwt))
    });
    volume.tokens = tokens.collect();
    volume
}

#[test]
fn the_one_token_that_is_meant_is_taken_and_only_of_the_pod_s_own_account() {
    let ours = "system:serviceaccount:shop:web";
    let now = Timestamp::UNIX_EPOCH;
    let take = |audience, tokens: &[(&str, &str)]| {
        token(&settings(audience), &with_tokens(tokens), None, now).map_err(|error| error.message)
    };
    take(None, &[("aud", ours)]).unwrap();
    take(Some("b"), &[("a", ours), ("b", ours)]).unwrap();
    for (audience, tokens, text) in [
        (None, &[][..], "let the CSIDriver object have tokenRequests"),
        (
            None,
            &[("a", ours), ("b", ours)],
            "say with --token-audience",
        ),
        (Some("c"), &[("a", ours)], "--token-audience is \"c\""),
        (
            None,
            &[("a", "system:serviceaccount:shop:other")],
            "not of system:serviceaccount:shop:web",
        ),
    ] {
        let message = take(audience, tokens).unwrap_err();
        assert!(message.contains(text), "{message}");
    }
}
