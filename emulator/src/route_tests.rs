use super::*;

#[test]
fn paths_are_routed_by_their_shape() {
    let pool = "projects/example.com:p/locations/l/caPools/n";
    let certificate = format!("{pool}/certificates/c");
    let ca = format!("{pool}/certificateAuthorities/a");
    for (verb, path, method, resource) in [
        (Verb::GET, pool.to_owned(), Method::GetCaPool, pool),
        (
            Verb::POST,
            format!("{pool}:fetchCaCerts"),
            Method::FetchCaCerts,
            pool,
        ),
        (
            Verb::POST,
            format!("{pool}/certificates"),
            Method::CreateCertificate,
            pool,
        ),
        (
            Verb::GET,
            format!("{pool}/certificates"),
            Method::ListCertificates,
            pool,
        ),
        (
            Verb::GET,
            certificate.clone(),
            Method::GetCertificate,
            &certificate,
        ),
        (
            Verb::POST,
            format!("{certificate}:revoke"),
            Method::RevokeCertificate,
            &certificate,
        ),
        (
            Verb::GET,
            format!("{ca}:fetch"),
            Method::FetchCertificateAuthorityCsr,
            &ca,
        ),
        (
            Verb::GET,
            "projects/p/locations/l/caPools/-/certificateAuthorities".to_owned(),
            Method::ListCertificateAuthorities,
            "projects/p/locations/l/caPools/-",
        ),
        (
            Verb::POST,
            "projects/p/locations/l/caPools".to_owned(),
            Method::CreateCaPool,
            "projects/p/locations/l",
        ),
        (
            Verb::GET,
            "projects/p/locations".to_owned(),
            Method::ListLocations,
            "projects/p",
        ),
        (
            Verb::POST,
            "projects/example.com:p:getIamPolicy".to_owned(),
            Method::GetProjectIamPolicy,
            "projects/example.com:p",
        ),
        (
            Verb::GET,
            "projects/example.com%3Ap/locations/l/caPools/n%5F".to_owned(),
            Method::GetCaPool,
            "projects/example.com:p/locations/l/caPools/n_",
        ),
    ] {
        let expected = Call {
            method,
            resource: resource.to_owned(),
        };
        assert_eq!(
            Call::route(&verb, &format!("/v1/{path}")),
            Ok(expected),
            "{verb} {path}"
        );
    }
    let identity = "/v1beta1/projects/p/services/127.0.0.1:generateServiceIdentity";
    let call = Call::route(&Verb::POST, identity).unwrap();
    assert_eq!(call.method, Method::GenerateServiceIdentity);
    assert_eq!(call.resource, "projects/p/services/127.0.0.1");
}

#[test]
fn other_paths_are_not_found() {
    let pool = "/v1/projects/p/locations/l/caPools/n";
    for (verb, path, code) in [
        (Verb::POST, pool.to_owned(), Code::NotFound),
        (Verb::HEAD, pool.to_owned(), Code::NotFound),
        (Verb::OPTIONS, pool.to_owned(), Code::NotFound),
        (Verb::GET, format!("{pool}:fetchCaCerts"), Code::NotFound),
        (Verb::GET, format!("{pool}/"), Code::NotFound),
        (Verb::GET, format!("{pool}%2Fcertificates"), Code::NotFound),
        (Verb::GET, format!("{pool}%FF"), Code::NotFound),
        (Verb::GET, format!("{pool}%0A"), Code::NotFound),
        (
            Verb::DELETE,
            format!("{pool}/certificates/c"),
            Code::NotFound,
        ),
        (
            Verb::GET,
            "/v2/projects/p/locations".to_owned(),
            Code::NotFound,
        ),
        (Verb::GET, "/".to_owned(), Code::NotFound),
        (Verb::GET, String::new(), Code::NotFound),
        (Verb::OPTIONS, "*".to_owned(), Code::NotFound),
        (
            Verb::GET,
            "/v1/projects/p/locations/l/certificateTemplates".to_owned(),
            Code::Unimplemented,
        ),
    ] {
        let error = Call::route(&verb, &path).unwrap_err();
        assert_eq!(error.code, code, "{verb} {path}");
    }
}

#[test]
fn every_call_of_the_service_needs_a_permission() {
    for (verb, pattern, method) in ROUTES {
        let path = format!("/{}", pattern.replace('*', "x"));
        let call = Call::route(&verb.parse().unwrap(), &path).unwrap();
        assert_eq!(call.method, method);
        let free = matches!(
            method,
            Method::TestIamPermissions
                | Method::TestProjectIamPermissions
                | Method::GenerateServiceIdentity
        );
        assert_eq!(call.permission().is_none(), free, "{method:?}");
    }
}
