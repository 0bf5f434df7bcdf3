//! The API's methods by name.

/// Declares the enum together with its list and its names, so that none can miss one.
macro_rules! methods {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// The methods of the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Method {
            $($(#[$doc])+ $name,)+
        }

        impl Method {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The name in Google's API, for example `CreateCertificate`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }
        }
    };
}

methods! {
    /// `POST …/certificates`
    CreateCertificate,
    /// `GET …/certificates/ID`
    GetCertificate,
    /// `GET …/certificates`
    ListCertificates,
    /// `PATCH …/certificates/ID`
    UpdateCertificate,
    /// `POST …/certificates/ID:revoke`
    RevokeCertificate,
    /// `POST …/caPools`
    CreateCaPool,
    /// `GET …/caPools/ID`
    GetCaPool,
    /// `GET …/caPools`
    ListCaPools,
    /// `PATCH …/caPools/ID`
    UpdateCaPool,
    /// `DELETE …/caPools/ID`
    DeleteCaPool,
    /// `POST …/caPools/ID:fetchCaCerts`
    FetchCaCerts,
    /// `GET …/caPools/ID:getIamPolicy`
    GetIamPolicy,
    /// `POST …/caPools/ID:setIamPolicy`
    SetIamPolicy,
    /// `POST …/caPools/ID:testIamPermissions`
    TestIamPermissions,
    /// `POST …/certificateAuthorities`
    CreateCertificateAuthority,
    /// `GET …/certificateAuthorities/ID`
    GetCertificateAuthority,
    /// `GET …/certificateAuthorities`
    ListCertificateAuthorities,
    /// `PATCH …/certificateAuthorities/ID`
    UpdateCertificateAuthority,
    /// `DELETE …/certificateAuthorities/ID`
    DeleteCertificateAuthority,
    /// `POST …/certificateAuthorities/ID:undelete`
    UndeleteCertificateAuthority,
    /// `GET …/certificateAuthorities/ID:fetch`
    FetchCertificateAuthorityCsr,
    /// `POST …/certificateAuthorities/ID:activate`
    ActivateCertificateAuthority,
    /// `POST …/certificateAuthorities/ID:enable`
    EnableCertificateAuthority,
    /// `POST …/certificateAuthorities/ID:disable`
    DisableCertificateAuthority,
    /// `GET …/locations/L`
    GetLocation,
    /// `GET …/locations`
    ListLocations,
    /// `GET …/operations/ID`
    GetOperation,
    /// `GET …/operations`
    ListOperations,
    /// `DELETE …/operations/ID`
    DeleteOperation,
    /// `POST …/operations/ID:cancel`
    CancelOperation,
    /// `POST …/projects/P:getIamPolicy`, of Resource Manager
    GetProjectIamPolicy,
    /// `POST …/projects/P:setIamPolicy`, of Resource Manager
    SetProjectIamPolicy,
    /// `POST …/projects/P:testIamPermissions`, of Resource Manager
    TestProjectIamPermissions,
    /// `POST …/services/NAME:generateServiceIdentity`, of Service Usage
    GenerateServiceIdentity,
    /// Everything else, known to the service or not.
    Other,
}

impl Method {
    /// The method of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|method| method.name() == name)
    }
}
