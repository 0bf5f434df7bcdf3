use super::{
    testing::{NODE, UID, check, csr, pod, settings},
    *,
};

fn wanted() -> Wanted {
    check(&csr(|_| {})).unwrap()
}

#[test]
fn the_pod_that_the_request_speaks_of_is_approved_and_what_was_checked_stays_with_it() {
    let approved = wanted().check_pod(Some(&pod()), &settings()).unwrap();
    assert_eq!(*approved.wanted(), wanted());
    for phase in ["Pending", "Running", "Unknown", ""] {
        let mut pod = pod();
        pod.phase = phase.into();
        wanted().check_pod(Some(&pod), &settings()).unwrap();
    }
}

#[test]
fn each_rule_alone_denies_with_its_reason_and_says_what_was_found() {
    type Twist = fn(&mut PodFacts);
    let rows: [(Twist, Reason, &str); 14] = [
        (
            |pod| pod.namespace = "bank".into(),
            Reason::PodNotFound,
            "\"bank/cart-0\" was found where shop/cart-0 was looked for",
        ),
        (
            |pod| pod.name = "cart-1".into(),
            Reason::PodNotFound,
            "\"shop/cart-1\" was found",
        ),
        (
            |pod| pod.uid = "00000000-0000-4000-8000-000000000000".into(),
            Reason::PodNotFound,
            "was deleted and made again",
        ),
        (|pod| pod.uid = UID.to_uppercase(), Reason::PodNotFound, UID),
        (
            |pod| pod.node_name = "node-2".into(),
            Reason::PodOnOtherNode,
            "runs on \"node-2\"",
        ),
        (
            |pod| pod.node_name = NODE.to_uppercase(),
            Reason::PodOnOtherNode,
            "the UID \"driver-pod\"",
        ),
        (
            |pod| pod.node_name.clear(),
            Reason::PodOnOtherNode,
            "runs on no node yet",
        ),
        (
            |pod| pod.service_account = "default".into(),
            Reason::WrongServiceAccount,
            "runs as the service account \"default\", and the request names \"cart\"",
        ),
        (
            |pod| pod.service_account.clear(),
            Reason::WrongServiceAccount,
            "the service account \"\"",
        ),
        (
            |pod| pod.csi_drivers.clear(),
            Reason::PodDidNotAsk,
            "has no inline volume of the CSI driver \"workloadcertificates.",
        ),
        (
            |pod| pod.csi_drivers.truncate(1),
            Reason::PodDidNotAsk,
            "add the volume",
        ),
        (
            |pod| pod.phase = "Succeeded".into(),
            Reason::PodFinished,
            "has ended (Succeeded)",
        ),
        (
            |pod| pod.phase = "Failed".into(),
            Reason::PodFinished,
            "has ended (Failed)",
        ),
        (
            |pod| pod.is_mirror = true,
            Reason::PodFinished,
            "is a mirror of a static pod",
        ),
    ];
    for (twist, reason, snippet) in rows {
        let mut pod = pod();
        twist(&mut pod);
        let denial = wanted().check_pod(Some(&pod), &settings()).unwrap_err();
        assert_eq!(denial.reason(), reason, "{pod:?}");
        assert!(denial.message().contains(snippet), "{}", denial.message());
    }
}

#[test]
fn a_pod_that_is_not_there_is_not_found() {
    let denial = wanted().check_pod(None, &settings()).unwrap_err();
    assert_eq!(denial.reason(), Reason::PodNotFound);
    assert!(denial.message().starts_with("there is no pod shop/cart-0"));
}

#[test]
fn a_pods_name_may_have_dots_and_253_characters() {
    let name = format!("{}.{}", "a".repeat(103), "b-2.".repeat(37) + "b");
    assert_eq!(name.len(), 253);
    let mut csr = csr(|_| {});
    csr.pod_name = Some(name.clone());
    let mut pod = pod();
    pod.name = name;
    let wanted = check(&csr).unwrap();
    wanted.check_pod(Some(&pod), &settings()).unwrap();
    pod.node_name = "n".repeat(253);
    let denial = wanted.check_pod(Some(&pod), &settings()).unwrap_err();
    assert!(denial.message().len() < MAX_MESSAGE_BYTES);
    assert!(
        denial
            .message()
            .contains("with the UID \"driver-pod\" on it")
    );
}
