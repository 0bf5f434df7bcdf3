//! Reading the JSON of requests as protobuf's JSON form wants it.
//!
//! Field names come in lowerCamelCase or as they stand in the `.proto` file, `null` means "not set",
//! what only the service itself fills in is ignored, and what this emulator does not know is refused
//! by name.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::errors::ApiError;

/// Fields that only the service itself fills in. Clients send them back when they read a resource,
/// change it and send it whole.
pub(crate) const OUTPUT_ONLY: [&str; 15] = [
    "accessUrls",
    "caCertificateDescriptions",
    "certificateDescription",
    "createTime",
    "deleteTime",
    "expireTime",
    "issuerCertificateAuthority",
    "pemCaCertificates",
    "pemCertificate",
    "pemCertificateChain",
    "revocationDetails",
    "satisfiesPzi",
    "satisfiesPzs",
    "state",
    "updateTime",
];

/// Fields of the real service that this emulator can do nothing with.
const UNSUPPORTED: [&str; 13] = [
    "additionalExtensions",
    "aiaOcspServers",
    "celExpression",
    "cloudKmsKeyVersion",
    "customSans",
    "encryptionSpec",
    "gcsBucket",
    "nameConstraints",
    "policyIds",
    "rdnSequence",
    "subjectKeyId",
    "unknownExtendedKeyUsages",
    "userDefinedAccessUrls",
];

/// Reads bytes as JSON with plain lowerCamelCase names; nothing at all counts as an empty object.
pub(crate) fn parse_json(body: &[u8]) -> Result<Value, ApiError> {
    if body.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let value = serde_json::from_slice(body)
        .map_err(|error| ApiError::invalid(format!("Invalid JSON payload received. {error}")))?;
    match value {
        Value::Object(fields) => object(fields, "").map(Value::Object),
        other => Ok(other),
    }
}

/// Reads a value as a request, worded like the service when that cannot be.
pub(crate) fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, ApiError> {
    T::deserialize(value).map_err(|error| ApiError::invalid(payload_message(&error.to_string())))
}

/// Reads bytes as a request.
pub(crate) fn from_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    from_value(&parse_json(body)?)
}

/// `lowerCamelCase` of a name that may be in `snake_case`.
pub(crate) fn camel_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut chars = name.chars().peekable();
    while let Some(char) = chars.next() {
        match chars.peek() {
            Some(next) if char == '_' && next.is_ascii_lowercase() && !out.is_empty() => {
                out.push(next.to_ascii_uppercase());
                chars.next();
            }
            _ => out.push(char),
        }
    }
    out
}

fn object(fields: Map<String, Value>, path: &str) -> Result<Map<String, Value>, ApiError> {
    let mut out = Map::new();
    for (name, value) in fields {
        let name = camel_case(&name);
        let here = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        if value.is_null() || OUTPUT_ONLY.contains(&name.as_str()) {
            continue;
        }
        if UNSUPPORTED.contains(&name.as_str()) {
            if is_empty(&value) {
                continue;
            }
            return Err(ApiError::invalid(format!(
                "{here} is not supported by this emulator."
            )));
        }
        // The keys of labels are the user's own.
        let value = if name == "labels" {
            value
        } else {
            tidy(value, &here)?
        };
        if out.insert(name, value).is_some() {
            return Err(ApiError::invalid(format!(
                "Invalid JSON payload received. The field {here} is set more than once."
            )));
        }
    }
    Ok(out)
}

fn tidy(value: Value, path: &str) -> Result<Value, ApiError> {
    match value {
        Value::Object(fields) => object(fields, path).map(Value::Object),
        Value::Array(items) => items
            .into_iter()
            .map(|item| tidy(item, path))
            .collect::<Result<_, _>>()
            .map(Value::Array),
        other => Ok(other),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// serde names an unknown field between backticks; the service names it between quotes.
fn payload_message(serde: &str) -> String {
    match serde
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.split_once('`'))
    {
        Some((name, _)) => {
            format!("Invalid JSON payload received. Unknown name \"{name}\": Cannot find field.")
        }
        None => format!("Invalid JSON payload received. {serde}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::CreateBody;

    #[test]
    fn an_unknown_field_is_named_as_the_service_names_it() {
        for body in [
            json!({ "lifetme": "60s" }),
            json!({ "config": { "lifetme": 1 } }),
            json!({ "config": { "x509Config": { "keyUsage": { "lifetme": {} } } } }),
        ] {
            let error = from_value::<CreateBody>(&body).unwrap_err();
            assert_eq!(
                error.message,
                "Invalid JSON payload received. Unknown name \"lifetme\": Cannot find field."
            );
        }
    }

    #[test]
    fn names_come_in_both_forms_and_null_is_not_there() {
        let body = json!({
            "pem_csr": "x",
            "subjectMode": null,
            "config": { "x509_config": { "ca_options": { "is_ca": true } } },
            "labels": { "my_label": "a", "null_label": null },
            "pemCertificate": "ignored",
            "list": [{ "sha256_hash": 1 }],
        });
        let expected = json!({
            "pemCsr": "x",
            "config": { "x509Config": { "caOptions": { "isCa": true } } },
            "labels": { "my_label": "a", "null_label": null },
            "list": [{ "sha256Hash": 1 }],
        });
        assert_eq!(parse_json(body.to_string().as_bytes()).unwrap(), expected);
        let twice = parse_json(br#"{"pem_csr": "x", "pemCsr": "y"}"#).unwrap_err();
        assert!(twice.message.contains("pemCsr is set more than once"));
        assert_eq!(camel_case("_a__b_1_c_"), "_a_B_1C_");
    }

    #[test]
    fn what_the_emulator_cannot_do_is_refused_by_its_path() {
        let policy = json!({ "issuancePolicy": { "identityConstraints": {
            "celExpression": { "expression": "true" },
        } } });
        let error = parse_json(policy.to_string().as_bytes()).unwrap_err();
        assert_eq!(
            error.message,
            "issuancePolicy.identityConstraints.celExpression is not supported by this emulator."
        );
        let empty = br#"{"config": {"x509Config": {"policyIds": [], "nameConstraints": {}}}}"#;
        let expected = json!({ "config": { "x509Config": {} } });
        assert_eq!(parse_json(empty).unwrap(), expected);
    }
}
