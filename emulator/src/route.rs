//! What a request wants, from its verb and path, and what a caller must be allowed for it.

use axum::http::Method as Verb;
use percent_encoding::percent_decode_str;

use crate::errors::{ApiError, Code};
use crate::faults::Method;
use crate::pool::PoolName;

/// The whole API: verb, path (`*` stands for one part of a name) and method.
const ROUTES: [(&str, &str, Method); 37] = {
    use Method as M;
    [
        ("GET", "v1/projects/*/locations", M::ListLocations),
        ("GET", "v1/projects/*/locations/*", M::GetLocation),
        (
            "GET",
            "v1/projects/*/locations/*/operations",
            M::ListOperations,
        ),
        (
            "GET",
            "v1/projects/*/locations/*/operations/*",
            M::GetOperation,
        ),
        (
            "DELETE",
            "v1/projects/*/locations/*/operations/*",
            M::DeleteOperation,
        ),
        (
            "POST",
            "v1/projects/*/locations/*/operations/*:cancel",
            M::CancelOperation,
        ),
        ("POST", "v1/projects/*/locations/*/caPools", M::CreateCaPool),
        ("GET", "v1/projects/*/locations/*/caPools", M::ListCaPools),
        ("GET", "v1/projects/*/locations/*/caPools/*", M::GetCaPool),
        (
            "PATCH",
            "v1/projects/*/locations/*/caPools/*",
            M::UpdateCaPool,
        ),
        (
            "DELETE",
            "v1/projects/*/locations/*/caPools/*",
            M::DeleteCaPool,
        ),
        (
            "POST",
            "v1/projects/*/locations/*/caPools/*:fetchCaCerts",
            M::FetchCaCerts,
        ),
        (
            "GET",
            "v1/projects/*/locations/*/caPools/*:getIamPolicy",
            M::GetIamPolicy,
        ),
        (
            "POST",
            "v1/projects/*/locations/*/caPools/*:setIamPolicy",
            M::SetIamPolicy,
        ),
        (
            "POST",
            "v1/projects/*/locations/*/caPools/*:testIamPermissions",
            M::TestIamPermissions,
        ),
        (
            "POST",
            "v1/projects/*/locations/*/caPools/*/certificateAuthorities",
            M::CreateCertificateAuthority,
        ),
        (
            "GET",
            "v1/projects/*/locations/*/caPools/*/certificateAuthorities",
            M::ListCertificateAuthorities,
        ),
        (
            "GET",
            "v1/projects/*/locations/*/caPools/*/certificateAuthorities/*",
            M::GetCertificateAuthority,
        ),
        (
            "PATCH",
            "v1/projects/*/locations/*/caPools/*/certificateAuthorities/*",
            M::UpdateCertificateAuthority,
        ),
        (
            "DELETE",
            "v1/projects/*/locations/*/caPools/*/certificateAuthorities/*",
            M::DeleteCertificateAuthority,
        ),
        (
            "GET",
            "v1/projects/*/locations/*/caPools/*/certificateAuthorities/*:fetch",
            M::FetchCertificateAuthorityCsr,
        ),
        (
            "POST",
            "v1/projects/*/locations/*/caPools/*/certificateAuthorities/*:activate",
            M::ActivateCertificateAuthority,
        ),
        (
            "POST",
            "v1/projects/*/locations/*/caPools/*/certificateAuthorities/*:enable",
            M::EnableCertificateAuthority,
        ),
        (
            "POST",
            "v1/projects/*/locations/*/caPools/*/certificateAuthorities/*:disable",
            M::DisableCertificateAuthority,
        ),
        (
            "POST",
            "v1/projects/*/locations/*/caPools/*/certificateAuthorities/*:undelete",
            M::UndeleteCertificateAuthority,
        ),
        (
            "POST",
            "v1/projects/*/locations/*/caPools/*/certificates",
            M::CreateCertificate,
        ),
        (
            "GET",
            "v1/projects/*/locations/*/caPools/*/certificates",
            M::ListCertificates,
        ),
        (
            "GET",
            "v1/projects/*/locations/*/caPools/*/certificates/*",
            M::GetCertificate,
        ),
        (
            "PATCH",
            "v1/projects/*/locations/*/caPools/*/certificates/*",
            M::UpdateCertificate,
        ),
        (
            "POST",
            "v1/projects/*/locations/*/caPools/*/certificates/*:revoke",
            M::RevokeCertificate,
        ),
        ("POST", "v1/projects/*:getIamPolicy", M::GetProjectIamPolicy),
        ("POST", "v3/projects/*:getIamPolicy", M::GetProjectIamPolicy),
        ("POST", "v1/projects/*:setIamPolicy", M::SetProjectIamPolicy),
        ("POST", "v3/projects/*:setIamPolicy", M::SetProjectIamPolicy),
        (
            "POST",
            "v1/projects/*:testIamPermissions",
            M::TestProjectIamPermissions,
        ),
        (
            "POST",
            "v3/projects/*:testIamPermissions",
            M::TestProjectIamPermissions,
        ),
        (
            "POST",
            "v1beta1/projects/*/services/*:generateServiceIdentity",
            M::GenerateServiceIdentity,
        ),
    ]
};

/// Collections of the real service that this emulator does not have.
const UNSUPPORTED: [&str; 2] = ["certificateTemplates", "certificateRevocationLists"];

/// What a request wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// The name of what the call is about: of the resource itself, or of the one in which others
    /// are made or listed. Its ids are not checked yet.
    pub(crate) resource: String,
}

impl Call {
    /// Finds the call of a verb and an undecoded path.
    pub(crate) fn route(verb: &Verb, path: &str) -> Result<Self, ApiError> {
        let unknown = || ApiError::not_found(path);
        let trimmed = path.strip_prefix('/').ok_or_else(unknown)?;
        let (name, action) = match trimmed.rsplit_once(':') {
            // A project may hold a colon; an action comes after the last slash.
            Some((name, action)) if !action.contains('/') => (name, Some(action)),
            _ => (trimmed, None),
        };
        let parts = name
            .split('/')
            .map(|part| {
                let part = percent_decode_str(part).decode_utf8().ok()?;
                // What was encoded to be no separator must not become one.
                let odd = part.is_empty() || part.contains(|c: char| c == '/' || c.is_control());
                (!odd).then(|| part.into_owned())
            })
            .collect::<Option<Vec<String>>>()
            .ok_or_else(unknown)?;
        let found = ROUTES
            .iter()
            .find(|(known, pattern, _)| *known == verb.as_str() && fits(pattern, &parts, action));
        let Some((_, _, method)) = found else {
            return Err(
                match parts
                    .iter()
                    .find(|part| UNSUPPORTED.contains(&part.as_str()))
                {
                    Some(part) => ApiError::new(
                        Code::Unimplemented,
                        format!("{part} are not supported by this emulator."),
                    ),
                    None => unknown(),
                },
            );
        };
        // Without the version, and without the collection in which something is made or listed.
        let is_name = parts.len() % 2 == 1;
        let end = if is_name {
            parts.len()
        } else {
            parts.len() - 1
        };
        Ok(Self {
            method: *method,
            resource: parts.get(1..end).unwrap_or_default().join("/"),
        })
    }

    /// The pool that the call is about, or about whose CAs or certificates.
    pub(crate) fn pool(&self) -> Option<PoolName> {
        let parts: Vec<&str> = self.resource.split('/').take(6).collect();
        parts.join("/").parse().ok()
    }

    /// What the caller must be allowed to do, and with which resource; nothing for what everybody
    /// may. `createForSelf`, which reflected identities need instead of `create`, depends on the
    /// body.
    pub(crate) fn permission(&self) -> Option<(&'static str, String)> {
        let permission = match self.method {
            Method::CreateCertificate => "privateca.certificates.create",
            Method::GetCertificate => "privateca.certificates.get",
            Method::ListCertificates => "privateca.certificates.list",
            Method::UpdateCertificate | Method::RevokeCertificate => {
                "privateca.certificates.update"
            }
            Method::CreateCaPool => "privateca.caPools.create",
            Method::GetCaPool | Method::FetchCaCerts => "privateca.caPools.get",
            Method::ListCaPools => "privateca.caPools.list",
            Method::UpdateCaPool => "privateca.caPools.update",
            Method::DeleteCaPool => "privateca.caPools.delete",
            Method::GetIamPolicy => "privateca.caPools.getIamPolicy",
            Method::SetIamPolicy => "privateca.caPools.setIamPolicy",
            Method::CreateCertificateAuthority => "privateca.certificateAuthorities.create",
            Method::GetCertificateAuthority | Method::FetchCertificateAuthorityCsr => {
                "privateca.certificateAuthorities.get"
            }
            Method::ListCertificateAuthorities => "privateca.certificateAuthorities.list",
            Method::UpdateCertificateAuthority
            | Method::UndeleteCertificateAuthority
            | Method::ActivateCertificateAuthority
            | Method::EnableCertificateAuthority
            | Method::DisableCertificateAuthority => "privateca.certificateAuthorities.update",
            Method::DeleteCertificateAuthority => "privateca.certificateAuthorities.delete",
            Method::GetLocation => "privateca.locations.get",
            Method::ListLocations => "privateca.locations.list",
            Method::GetOperation => "privateca.operations.get",
            Method::ListOperations => "privateca.operations.list",
            Method::DeleteOperation => "privateca.operations.delete",
            Method::CancelOperation => "privateca.operations.cancel",
            Method::GetProjectIamPolicy => "resourcemanager.projects.getIamPolicy",
            Method::SetProjectIamPolicy => "resourcemanager.projects.setIamPolicy",
            Method::TestIamPermissions
            | Method::TestProjectIamPermissions
            | Method::GenerateServiceIdentity
            | Method::ExchangeToken
            | Method::GenerateAccessToken
            | Method::GetMetadata
            | Method::Other => return None,
        };
        Some((permission, self.resource.clone()))
    }
}

/// Whether every call of this method is about a pool, as [`Call::pool`] finds it.
pub(crate) fn is_about_a_pool(method: Method) -> bool {
    ROUTES
        .iter()
        .any(|(_, pattern, known)| *known == method && pattern.contains("/caPools/*"))
}

fn fits(pattern: &str, parts: &[String], action: Option<&str>) -> bool {
    let (pattern, wanted) = match pattern.split_once(':') {
        Some((pattern, action)) => (pattern, Some(action)),
        None => (pattern, None),
    };
    wanted == action
        && pattern.split('/').count() == parts.len()
        && pattern
            .split('/')
            .zip(parts)
            .all(|(wanted, part)| wanted == "*" || wanted == part)
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
