//! The REST face: routes, query parameters and bodies in, JSON out; faults of the transport.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{Method as Verb, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::connection::Switch;
use crate::emulator::Emulator;
use crate::errors::ApiError;
use crate::faults::{Fault, Method};
use crate::ledger::CreateRequest;
use crate::order::CreateQuery;
use crate::wire::{FetchCaCertsBody, from_value, parse_json};

/// The largest body that is read, in bytes.
const BODY_LIMIT: usize = 1 << 20;

impl Emulator {
    /// The REST API as a router. Served by other means than [`serve`](crate::serve), faults that
    /// close the connection break the answer's body off instead.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new().fallback(handle).with_state(Arc::clone(self))
    }
}

async fn handle(State(emulator): State<Arc<Emulator>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let call = Call::route(&parts.method, parts.uri.path());
    let method = call.as_ref().map_or(Method::Other, Call::method);
    emulator.count(method);
    let Ok(body) = to_bytes(body, BODY_LIMIT).await else {
        let message = format!("Request payload size exceeds the limit: {BODY_LIMIT} bytes.");
        return error_response(&ApiError::invalid(message));
    };
    if let Ok(Call::Create { parent }) = &call {
        emulator.remember(CreateRequest {
            parent: parent.clone(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            body: body.to_vec(),
        });
    }
    let mut lose_reply = false;
    if let Some(fault) = emulator.take_transport_fault(method) {
        match fault {
            Fault::Error { error, retry_after } => {
                let mut response = error_response(&error);
                if let Some(after) = retry_after {
                    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
                    response
                        .headers_mut()
                        .insert(header::RETRY_AFTER, seconds.into());
                }
                return response;
            }
            Fault::Html { status } => return html(status),
            Fault::HugeBody { bytes } => return json_bytes(StatusCode::OK, vec![b' '; bytes]),
            Fault::Hang => return std::future::pending().await,
            Fault::CloseBefore => return close(&parts).await,
            Fault::CloseAfter => lose_reply = true,
            // Not the transport's: the book keeps these for the signing.
            Fault::Certificate(_) => {}
        }
    }
    let uri = parts.uri.clone();
    // Signing and writing state are work for a blocking thread.
    let answer = tokio::task::spawn_blocking(move || match call {
        Ok(call) => call.run(&emulator, &uri, &body),
        Err(error) => Err(error),
    })
    .await;
    if lose_reply {
        return close(&parts).await;
    }
    match answer {
        Ok(Ok(json)) => json_bytes(StatusCode::OK, json),
        Ok(Err(error)) => error_response(&error),
        Err(error) => error_response(&ApiError::internal("The emulator failed", error)),
    }
}

/// What a request wants, from its verb and path.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    Create { parent: String },
    GetCertificate { name: String },
    List { parent: String },
    Revoke { parent: String },
    GetPool { name: String },
    FetchCaCerts { pool: String },
}

impl Call {
    fn route(verb: &Verb, path: &str) -> Result<Self, ApiError> {
        let unknown = || ApiError::not_found(path);
        let resource = path.strip_prefix("/v1/").ok_or_else(unknown)?;
        let (resource, action) = match resource.rsplit_once(':') {
            // A project may hold a colon, an action comes after the last slash.
            Some((resource, action)) if !action.contains('/') => (resource, Some(action)),
            _ => (resource, None),
        };
        let parts: Vec<&str> = resource.split('/').collect();
        let name = resource.to_owned();
        let parent = || parts.iter().take(6).copied().collect::<Vec<_>>().join("/");
        let (get, post) = (*verb == Verb::GET, *verb == Verb::POST);
        match (parts.as_slice(), action) {
            (["projects", _, "locations", _, "caPools", _], None) if get => {
                Ok(Self::GetPool { name })
            }
            (["projects", _, "locations", _, "caPools", _], Some("fetchCaCerts")) if post => {
                Ok(Self::FetchCaCerts { pool: name })
            }
            (["projects", _, "locations", _, "caPools", _, "certificates"], None) if post => {
                Ok(Self::Create { parent: parent() })
            }
            (["projects", _, "locations", _, "caPools", _, "certificates"], None) if get => {
                Ok(Self::List { parent: parent() })
            }
            (
                [
                    "projects",
                    _,
                    "locations",
                    _,
                    "caPools",
                    _,
                    "certificates",
                    _,
                ],
                None,
            ) if get => Ok(Self::GetCertificate { name }),
            (
                [
                    "projects",
                    _,
                    "locations",
                    _,
                    "caPools",
                    _,
                    "certificates",
                    _,
                ],
                Some("revoke"),
            ) if post => Ok(Self::Revoke { parent: parent() }),
            _ => Err(unknown()),
        }
    }

    fn method(&self) -> Method {
        match self {
            Self::Create { .. } => Method::CreateCertificate,
            Self::GetCertificate { .. } => Method::GetCertificate,
            Self::GetPool { .. } => Method::GetCaPool,
            Self::FetchCaCerts { .. } => Method::FetchCaCerts,
            Self::List { .. } | Self::Revoke { .. } => Method::Other,
        }
    }

    fn run(&self, emulator: &Emulator, uri: &Uri, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let query = query_pairs(uri)?;
        match self {
            Self::Create { parent } => {
                to_json(&emulator.create_certificate(parent, &create_query(query)?, body)?)
            }
            Self::GetCertificate { name } => {
                no_parameters(&query)?;
                to_json(&emulator.get_certificate(name)?)
            }
            Self::GetPool { name } => {
                no_parameters(&query)?;
                to_json(&emulator.get_ca_pool(name)?)
            }
            Self::FetchCaCerts { pool } => {
                no_parameters(&query)?;
                from_value::<FetchCaCertsBody>(&parse_json(body)?)?;
                to_json(&emulator.fetch_ca_certs(pool)?)
            }
            Self::List { parent } => Err(emulator.unsupported(parent, "listed")),
            Self::Revoke { parent } => Err(emulator.unsupported(parent, "revoked")),
        }
    }
}

/// The parameters but for those that every Google API takes.
fn query_pairs(uri: &Uri) -> Result<Vec<(String, String)>, ApiError> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_error| ApiError::invalid("The query string cannot be parsed."))?;
    let is_system = |name: &str| {
        name.starts_with('$')
            || matches!(
                name,
                "alt" | "fields" | "key" | "prettyPrint" | "quotaUser" | "uploadType"
            )
    };
    Ok(pairs
        .into_iter()
        .filter(|(name, _)| !is_system(name))
        .collect())
}

fn create_query(pairs: Vec<(String, String)>) -> Result<CreateQuery, ApiError> {
    let mut query = CreateQuery::default();
    for (name, value) in pairs {
        // Clients may send a field that is not set as an empty one.
        let given = Some(value.clone()).filter(|value| !value.is_empty());
        match name.as_str() {
            "certificateId" => query.certificate_id = given,
            "requestId" => query.request_id = given,
            "issuingCertificateAuthorityId" => query.issuing_certificate_authority_id = given,
            "validateOnly" => {
                query.validate_only = match value.as_str() {
                    "true" => true,
                    "false" | "" => false,
                    _ => {
                        return Err(ApiError::invalid(format!(
                            "Invalid value at 'validate_only' (TYPE_BOOL), {value:?}"
                        )));
                    }
                }
            }
            _ => return Err(unknown_parameter(&name)),
        }
    }
    Ok(query)
}

fn no_parameters(pairs: &[(String, String)]) -> Result<(), ApiError> {
    pairs
        .first()
        .map_or(Ok(()), |(name, _)| Err(unknown_parameter(name)))
}

fn unknown_parameter(name: &str) -> ApiError {
    ApiError::invalid(format!(
        "Invalid JSON payload received. Unknown name \"{name}\": Cannot bind query parameter."
    ))
}

/// Ends the connection without an answer.
async fn close(parts: &Parts) -> Response {
    if let Some(ConnectInfo(switch)) = parts.extensions.get::<ConnectInfo<Switch>>() {
        switch.cut();
        return std::future::pending().await;
    }
    let broken = futures::stream::once(async { Err::<Bytes, _>(io::Error::other("cut off")) });
    Response::new(Body::from_stream(broken))
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(|error| ApiError::internal("The answer", error))
}

fn json_bytes(status: StatusCode, body: Vec<u8>) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json; charset=UTF-8")],
        body,
    )
        .into_response()
}

fn error_response(error: &ApiError) -> Response {
    json_bytes(
        status(error.code.http()),
        error.body().to_string().into_bytes(),
    )
}

fn html(code: u16) -> Response {
    let page = "<!DOCTYPE html>\n<html><head><title>Error</title></head>\
                <body><h1>The proxy could not do that</h1></body></html>\n";
    (
        status(code),
        [(header::CONTENT_TYPE, "text/html; charset=UTF-8")],
        page,
    )
        .into_response()
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_routed_by_their_shape() {
        let pool = || "projects/example.com:p/locations/l/caPools/n".to_owned();
        let certificate = || format!("{}/certificates/c", pool());
        for (verb, path, call) in [
            (Verb::GET, pool(), Some(Call::GetPool { name: pool() })),
            (Verb::POST, pool(), None),
            (
                Verb::POST,
                format!("{}:fetchCaCerts", pool()),
                Some(Call::FetchCaCerts { pool: pool() }),
            ),
            (Verb::GET, format!("{}:fetchCaCerts", pool()), None),
            (
                Verb::POST,
                format!("{}/certificates", pool()),
                Some(Call::Create { parent: pool() }),
            ),
            (
                Verb::GET,
                format!("{}/certificates", pool()),
                Some(Call::List { parent: pool() }),
            ),
            (
                Verb::GET,
                certificate(),
                Some(Call::GetCertificate {
                    name: certificate(),
                }),
            ),
            (
                Verb::POST,
                format!("{}:revoke", certificate()),
                Some(Call::Revoke { parent: pool() }),
            ),
            (Verb::DELETE, certificate(), None),
            (Verb::GET, "projects/p".to_owned(), None),
            (Verb::GET, String::new(), None),
        ] {
            assert_eq!(
                Call::route(&verb, &format!("/v1/{path}")).ok(),
                call,
                "{verb} {path}"
            );
        }
    }

    #[test]
    fn query_parameters_are_strict_but_for_those_of_every_google_api() {
        let read = |query: &str| {
            let uri: Uri = format!("/v1/x?{query}").parse().unwrap();
            query_pairs(&uri).and_then(create_query)
        };
        let query =
            read("certificateId=a%2Db&requestId=&validateOnly=true&$alt=json&prettyPrint=0");
        let expected = CreateQuery {
            certificate_id: Some("a-b".to_owned()),
            validate_only: true,
            ..CreateQuery::default()
        };
        assert_eq!(query, Ok(expected));
        assert!(
            read("certificate_id=a")
                .unwrap_err()
                .message
                .contains("\"certificate_id\"")
        );
        assert!(read("validateOnly=yes").is_err());
    }
}
