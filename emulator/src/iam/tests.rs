use serde_json::json;

use super::*;

/// The calls of the project's own client and what each needs.
const CALLS: [(&str, &str); 6] = [
    ("create", "privateca.certificates.create"),
    ("create for self", "privateca.certificates.createForSelf"),
    ("get", "privateca.certificates.get"),
    ("pool", "privateca.caPools.get"),
    ("roots", "privateca.caPools.get"),
    ("CAs", "privateca.certificateAuthorities.list"),
];

fn caller(administrators: &[&str]) -> Caller {
    let config = serde_json::from_value(json!({
        "users": [{ "email": "a@example.com", "accessToken": "a-made-up-token-1" }],
        "administrators": administrators,
    }));
    let identities = crate::identity::Identities::new(&config.unwrap()).unwrap();
    let now = jiff::Timestamp::from_second(0).unwrap();
    identities
        .authenticate(Some("Bearer a-made-up-token-1"), now)
        .unwrap()
}

fn policy(role: &str, members: &[&str]) -> Policy {
    let binding = json!({ "role": role, "members": members });
    serde_json::from_value(json!({ "version": 1, "etag": "x", "bindings": [binding] })).unwrap()
}

#[test]
fn every_role_permits_its_calls_and_no_other() {
    let caller = caller(&[]);
    for (role, expected) in [
        ("roles/privateca.certificateRequester", "create"),
        (
            "roles/privateca.workloadCertificateRequester",
            "create for self",
        ),
        ("roles/privateca.poolReader", "pool, roots"),
        ("roles/privateca.auditor", "get, pool, roots, CAs"),
        (
            "roles/privateca.certificateManager",
            "create, get, pool, roots, CAs",
        ),
        ("roles/privateca.caManager", "get, pool, roots, CAs"),
        ("roles/privateca.templateUser", ""),
        (
            "roles/privateca.admin",
            "create, create for self, get, pool, roots, CAs",
        ),
        (
            "roles/owner",
            "create, create for self, get, pool, roots, CAs",
        ),
        (
            "roles/editor",
            "create, create for self, get, pool, roots, CAs",
        ),
        ("roles/viewer", "get, pool, roots, CAs"),
        ("roles/storage.admin", ""),
    ] {
        let policy = policy(role, &["user:a@example.com"]);
        let granted: Vec<&str> = CALLS
            .iter()
            .filter(|(_, permission)| is_granted(&caller, permission, &[&policy]))
            .map(|(call, _)| *call)
            .collect();
        assert_eq!(granted.join(", "), expected, "{role}");
    }
}

#[test]
fn pools_and_access_are_for_those_who_manage_them() {
    let caller = caller(&[]);
    for (permission, roles) in [
        ("privateca.caPools.create", "admin caManager owner editor"),
        ("privateca.caPools.delete", "admin caManager owner editor"),
        (
            "privateca.certificateAuthorities.create",
            "admin caManager owner editor",
        ),
        (
            "privateca.certificateAuthorities.update",
            "admin caManager owner editor",
        ),
        (
            "privateca.certificates.update",
            "admin caManager owner editor",
        ),
        ("privateca.caPools.setIamPolicy", "admin owner"),
        (
            "privateca.caPools.getIamPolicy",
            "admin auditor caManager certificateManager owner editor viewer",
        ),
        (
            "privateca.certificates.list",
            "admin auditor caManager certificateManager owner editor viewer",
        ),
        (
            "privateca.certificateTemplates.use",
            "admin templateUser owner editor",
        ),
        ("resourcemanager.projects.setIamPolicy", "owner"),
    ] {
        let granted: Vec<&str> = roles::names()
            .filter(|role| {
                is_granted(
                    &caller,
                    permission,
                    &[&policy(role, &["user:a@example.com"])],
                )
            })
            .map(|role| {
                role.trim_start_matches("roles/")
                    .trim_start_matches("privateca.")
            })
            .collect();
        assert_eq!(granted.join(" "), roles, "{permission}");
    }
}

#[test]
fn a_role_may_come_from_any_policy_and_only_to_its_members() {
    let caller = caller(&[]);
    let permission = "privateca.caPools.get";
    let reader = "roles/privateca.poolReader";
    let mine = policy(reader, &["user:b@example.com", "user:A@Example.com"]);
    let others = policy(reader, &["user:b@example.com"]);
    assert!(is_granted(&caller, permission, &[&others, &mine]));
    for members in [
        &["user:b@example.com"][..],
        &["deleted:user:a@example.com?uid=123"],
        &["serviceAccount:a@example.com"],
        &["group:a@example.com", "domain:example.com"],
        &[],
    ] {
        assert!(
            !is_granted(&caller, permission, &[&policy(reader, members)]),
            "{members:?}"
        );
    }
    for everybody in ["allUsers", "allAuthenticatedUsers"] {
        assert!(is_granted(
            &caller,
            permission,
            &[&policy(reader, &[everybody])]
        ));
    }
    let mut conditional = mine.clone();
    conditional.bindings[0].condition = Some(json!({ "expression": "true" }));
    assert!(!is_granted(&caller, permission, &[&conditional]));
}

#[test]
fn a_refusal_names_permission_and_resource_and_an_administrator_meets_none() {
    let pool = "projects/p/locations/l/caPools/n";
    let error = authorize(&caller(&[]), "privateca.caPools.get", pool, &[]).unwrap_err();
    assert_eq!(error.code.http(), 403);
    let body = error.body().to_string();
    assert!(
        body.contains("privateca.caPools.get") && body.contains(pool),
        "{body}"
    );
    let administrator = caller(&["user:a@example.com"]);
    authorize(&administrator, "anything.at.all", pool, &[]).unwrap();
    authorize(&Caller::anybody(), "anything.at.all", pool, &[]).unwrap();
}

#[test]
fn a_policy_is_checked_before_it_is_stored() {
    let reader = "roles/privateca.poolReader";
    let members = [
        "user:a@example.com",
        "serviceAccount:service-123@container-engine-robot.iam.gserviceaccount.com",
        "principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/subject/s",
        "principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/*",
        "group:g@example.com",
        "deleted:user:a@example.com?uid=1",
        "allUsers",
    ];
    check_policy(&policy(reader, &members)).unwrap();
    let many = vec!["user:a@example.com"; MAX_MEMBERS + 1];
    let mut conditional = policy(reader, &["allUsers"]);
    conditional.bindings[0].condition = Some(json!({ "expression": "true" }));
    for (policy, word) in [
        (
            policy("roles/privateca.reader", &["allUsers"]),
            "roles/privateca.poolReader",
        ),
        (policy(reader, &["a@example.com"]), "type prefix"),
        (policy(reader, &["user:"]), "type prefix"),
        (policy(reader, &["user:a b"]), "type prefix"),
        (
            policy(reader, &["principal://example.com/x"]),
            "type prefix",
        ),
        (policy(reader, &many), "1501 members"),
        (conditional, "condition"),
    ] {
        let error = check_policy(&policy).unwrap_err();
        assert_eq!(error.code, crate::Code::InvalidArgument);
        assert!(error.message.contains(word), "{error}");
    }
}
