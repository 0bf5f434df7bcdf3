//! Query parameters: strict, but for those that every Google API takes.

use axum::extract::Query;
use axum::http::Uri;

use crate::errors::ApiError;

/// The parameters of a request that nobody has taken yet.
#[derive(Debug)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Leaves out the parameters that every Google API takes.
    pub(crate) fn parse(uri: &Uri) -> Result<Self, ApiError> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_error| ApiError::invalid("The query string cannot be parsed."))?;
        let is_system = |name: &str| {
            name.starts_with('$')
                || matches!(
                    name,
                    "alt" | "fields" | "key" | "prettyPrint" | "quotaUser" | "uploadType"
                )
        };
        Ok(Self(
            pairs
                .into_iter()
                .filter(|(name, _)| !is_system(name))
                .collect(),
        ))
    }

    /// Takes a parameter; clients may send one that is not set as an empty one.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        let taken = self.0.extract_if(.., |(found, _)| found == name);
        taken
            .map(|(_, value)| value)
            .last()
            .filter(|value| !value.is_empty())
    }

    /// Takes a parameter that is true or false, in Python's spelling if it must be.
    pub(crate) fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        match self.text(name).as_deref() {
            Some("true" | "True") => Ok(true),
            Some("false" | "False") | None => Ok(false),
            Some(other) => Err(invalid(name, "TYPE_BOOL", other)),
        }
    }

    /// Takes a parameter that is an integer of 32 bits.
    pub(crate) fn number(&mut self, name: &str) -> Result<Option<i32>, ApiError> {
        self.text(name)
            .map(|text| {
                text.parse()
                    .map_err(|_error| invalid(name, "TYPE_INT32", &text))
            })
            .transpose()
    }

    /// Refuses what nobody has taken.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(ApiError::invalid(format!(
                "Invalid JSON payload received. Unknown name \"{name}\": Cannot bind query parameter."
            ))),
        }
    }
}

fn invalid(name: &str, kind: &str, value: &str) -> ApiError {
    ApiError::invalid(format!("Invalid value at '{name}' ({kind}), {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::parse(&format!("/v1/x?{query}").parse().unwrap()).unwrap()
    }

    #[test]
    fn parameters_are_strict_but_for_those_of_every_google_api() {
        let mut query =
            params("certificateId=a%2Db&requestId=&validateOnly=True&$alt=json&prettyPrint=0");
        assert_eq!(query.text("certificateId").as_deref(), Some("a-b"));
        assert_eq!(query.text("requestId"), None);
        assert_eq!(query.flag("validateOnly"), Ok(true));
        assert_eq!(query.finish(), Ok(()));

        let unknown = params("certificate_id=a").finish().unwrap_err();
        assert!(unknown.message.contains("\"certificate_id\""));
        assert!(params("validateOnly=yes").flag("validateOnly").is_err());
        assert_eq!(params("validateOnly=False").flag("validateOnly"), Ok(false));
        assert!(params("pageSize=3000000000").number("pageSize").is_err());
    }
}
