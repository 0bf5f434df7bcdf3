//! The roles of CA Service and their permissions
//! (<https://docs.cloud.google.com/certificate-authority-service/docs/access-control>), and the
//! basic roles.

/// What every reading role may read.
const READ: &[&str] = &[
    "privateca.caPools.get",
    "privateca.caPools.getIamPolicy",
    "privateca.caPools.list",
    "privateca.certificateAuthorities.get",
    "privateca.certificateAuthorities.getIamPolicy",
    "privateca.certificateAuthorities.list",
    "privateca.certificateRevocationLists.get",
    "privateca.certificateRevocationLists.getIamPolicy",
    "privateca.certificateRevocationLists.list",
    "privateca.certificateTemplates.get",
    "privateca.certificateTemplates.getIamPolicy",
    "privateca.certificateTemplates.list",
    "privateca.certificates.get",
    "privateca.certificates.getIamPolicy",
    "privateca.certificates.list",
    "privateca.locations.get",
    "privateca.locations.list",
    "privateca.operations.get",
    "privateca.operations.list",
    "resourcemanager.projects.get",
    "resourcemanager.projects.list",
];

/// What the manager of CAs may do beyond reading. Not: give access, and create certificates.
const MANAGE_CAS: &[&str] = &[
    "privateca.caPools.create",
    "privateca.caPools.delete",
    "privateca.caPools.update",
    "privateca.certificateAuthorities.create",
    "privateca.certificateAuthorities.delete",
    "privateca.certificateAuthorities.update",
    "privateca.certificateRevocationLists.update",
    "privateca.certificateTemplates.create",
    "privateca.certificateTemplates.delete",
    "privateca.certificateTemplates.update",
    "privateca.certificates.update",
    "privateca.operations.cancel",
    "privateca.operations.delete",
];

const USE_TEMPLATES: &[&str] = &[
    "privateca.certificateTemplates.get",
    "privateca.certificateTemplates.list",
    "privateca.certificateTemplates.use",
];

const CREATE: &[&str] = &["privateca.certificates.create"];
const CREATE_FOR_SELF: &[&str] = &["privateca.certificates.createForSelf"];
const READ_POOL: &[&str] = &["privateca.caPools.get"];

enum Permits {
    /// Every permission.
    Everything,
    /// Every permission but those to give access.
    EverythingButAccess,
    /// Every permission of CA Service.
    Service,
    /// These.
    These(&'static [&'static [&'static str]]),
}

const ROLES: [(&str, Permits); 11] = [
    ("roles/privateca.admin", Permits::Service),
    ("roles/privateca.auditor", Permits::These(&[READ])),
    (
        "roles/privateca.caManager",
        Permits::These(&[READ, MANAGE_CAS]),
    ),
    (
        "roles/privateca.certificateManager",
        Permits::These(&[READ, CREATE]),
    ),
    (
        "roles/privateca.certificateRequester",
        Permits::These(&[CREATE]),
    ),
    ("roles/privateca.poolReader", Permits::These(&[READ_POOL])),
    (
        "roles/privateca.templateUser",
        Permits::These(&[USE_TEMPLATES]),
    ),
    (
        "roles/privateca.workloadCertificateRequester",
        Permits::These(&[CREATE_FOR_SELF]),
    ),
    ("roles/owner", Permits::Everything),
    ("roles/editor", Permits::EverythingButAccess),
    ("roles/viewer", Permits::These(&[READ])),
];

/// The roles that are known here.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ROLES.iter().map(|(name, _)| *name)
}

pub(super) fn is_role(role: &str) -> bool {
    names().any(|name| name == role)
}

/// Whether `role` has the `permission`; a role that is not known has none.
pub(super) fn permits(role: &str, permission: &str) -> bool {
    let Some((_, permits)) = ROLES.iter().find(|(name, _)| *name == role) else {
        return false;
    };
    match permits {
        Permits::Everything => true,
        Permits::EverythingButAccess => !permission.ends_with(".setIamPolicy"),
        Permits::Service => {
            permission.starts_with("privateca.")
                || matches!(
                    permission,
                    "resourcemanager.projects.get" | "resourcemanager.projects.list"
                )
        }
        Permits::These(lists) => lists.iter().any(|list| list.contains(&permission)),
    }
}
