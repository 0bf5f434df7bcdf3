//! The REST face: routes, query parameters and bodies in, JSON out.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::admin;
use crate::authorities::{Deletion, Turn};
use crate::controls::Signer;
use crate::emulator::Emulator;
use crate::errors::{ApiError, Code, whole_seconds};
use crate::faults::{Fault, Method, meet};
use crate::identity::{Caller, Endpoint, authorization, challenge};
use crate::ledger::CreateRequest;
use crate::listing::Page;
use crate::mask::Mask;
use crate::neighbours::service_identity;
use crate::order::CreateQuery;
use crate::params::Params;
use crate::quota::Refusal;
use crate::route::Call;

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
    if let Some(path) = parts.uri.path().strip_prefix(admin::PREFIX) {
        return admin::answer(&emulator, &parts.method, path, body).await;
    }
    let endpoint = Endpoint::route(parts.uri.path());
    let call = Call::route(&parts.method, parts.uri.path());
    let method = match (&endpoint, &call) {
        (Some(endpoint), _) => endpoint.method(),
        (None, Ok(call)) => call.method,
        (None, Err(_)) => Method::Other,
    };
    emulator.count(method);
    tracing::debug!(?method, "request");
    let Ok(body) = to_bytes(body, BODY_LIMIT).await else {
        let message = format!("Request payload size exceeds the limit: {BODY_LIMIT} bytes.");
        return error_response(&ApiError::invalid(message));
    };
    if let Ok(call) = &call
        && method == Method::CreateCertificate
    {
        emulator.remember(CreateRequest {
            parent: call.resource.clone(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            body: body.to_vec(),
        });
    }
    let pool = call.as_ref().ok().and_then(Call::pool);
    let fault = emulator.take_transport_fault(method, pool.as_ref());
    let is_own = !matches!(fault, Some(Fault::Html { .. }));
    let delivery = match meet(fault, &parts).await {
        ControlFlow::Continue(delivery) => delivery,
        ControlFlow::Break(answer) => {
            return match endpoint {
                Some(endpoint) if is_own => endpoint.sign(answer),
                _ => answer,
            };
        }
    };
    if let Some(endpoint) = endpoint {
        let answer = endpoint.answer(&emulator.identities, &parts, &body, emulator.now());
        return delivery.of(answer, &parts).await;
    }
    let uri = parts.uri.clone();
    let caller = emulator
        .identities
        .authenticate(authorization(&parts.headers), emulator.now());
    // Signing and writing state are work for a blocking thread.
    let answer =
        tokio::task::spawn_blocking(move || respond(&emulator, call, caller, &uri, &body)).await;
    let answer = answer
        .unwrap_or_else(|error| error_response(&ApiError::internal("The emulator failed", error)));
    delivery.of(answer, &parts).await
}

fn respond(
    emulator: &Emulator,
    call: Result<Call, ApiError>,
    caller: Result<Caller, ApiError>,
    uri: &Uri,
    body: &[u8],
) -> Response {
    let (call, caller) = match (call, caller) {
        (Ok(call), Ok(caller)) => (call, caller),
        (Err(error), _) | (_, Err(error)) => return error_response(&error),
    };
    if let Err(Refusal { error, retry_after }) = charge(emulator, &call, uri) {
        return refusal(&error, retry_after);
    }
    // The one place where it is decided whether this caller may do this.
    let answer = emulator
        .check_access(&caller, &call, body)
        .and_then(|()| call.run(emulator, &caller, uri, body));
    match answer {
        Ok(json) => json_bytes(StatusCode::OK, json),
        Err(error) => error_response(&error),
    }
}

/// Charges a request to the quotas, before anything else is looked at.
fn charge(emulator: &Emulator, call: &Call, uri: &Uri) -> Result<(), Refusal> {
    let signer = (call.method == Method::CreateCertificate).then(|| {
        // What the query has wrong, the call itself tells.
        let query = Params::parse(uri).and_then(create_query).ok();
        query
            .and_then(|query| query.issuing_certificate_authority_id)
            .map_or(Signer::Any, Signer::Named)
    });
    emulator.charge(&call.resource, signer)
}

impl Call {
    /// Does what the request wants, and answers in JSON.
    fn run(
        &self,
        emulator: &Emulator,
        caller: &Caller,
        uri: &Uri,
        body: &[u8],
    ) -> Result<Vec<u8>, ApiError> {
        let name = self.resource.as_str();
        let mut query = Params::parse(uri)?;
        match self.method {
            Method::CreateCertificate => {
                let query = create_query(query)?;
                to_json(&*emulator.create_certificate_for(caller, name, &query, body)?)
            }
            Method::ListCertificates
            | Method::ListCaPools
            | Method::ListCertificateAuthorities
            | Method::ListLocations
            | Method::ListOperations => {
                let page = Page::from_params(&mut query)?;
                query.finish()?;
                to_json(&match self.method {
                    Method::ListCertificates => emulator.list_certificates(name, &page),
                    Method::ListCaPools => emulator.list_ca_pools(name, &page),
                    Method::ListCertificateAuthorities => emulator.list_cas(name, &page),
                    Method::ListLocations => emulator.list_locations(name, &page),
                    _ => emulator.list_operations(name, &page),
                }?)
            }
            Method::CreateCaPool
            | Method::CreateCertificateAuthority
            | Method::UpdateCaPool
            | Method::UpdateCertificateAuthority
            | Method::UpdateCertificate
            | Method::DeleteCaPool
            | Method::DeleteCertificateAuthority => self.change(emulator, query, body),
            Method::GetIamPolicy => {
                let version = query.number("options.requestedPolicyVersion")?;
                query.finish()?;
                to_json(&emulator.get_pool_policy(name, version.unwrap_or_default())?)
            }
            Method::TestIamPermissions | Method::TestProjectIamPermissions => {
                query.finish()?;
                if self.method == Method::TestIamPermissions {
                    emulator.pool(name)?;
                }
                to_json(&emulator.test_permissions(caller, name, body)?)
            }
            _ => {
                query.finish()?;
                self.run_without_parameters(emulator, body)
            }
        }
    }

    /// The calls that make, change or delete something and take their ids in the query.
    fn change(
        &self,
        emulator: &Emulator,
        mut query: Params,
        body: &[u8],
    ) -> Result<Vec<u8>, ApiError> {
        let name = self.resource.as_str();
        let request = query.text("requestId");
        let request = request.as_deref();
        let operation = match self.method {
            Method::CreateCaPool => {
                let id = query.text("caPoolId");
                query.finish()?;
                emulator.create_ca_pool(name, id.as_deref(), request, body)
            }
            Method::CreateCertificateAuthority => {
                let id = query.text("certificateAuthorityId");
                query.finish()?;
                emulator.create_ca(name, id.as_deref(), request, body)
            }
            Method::DeleteCaPool => {
                let ignore_dependents = query.flag("ignoreDependentResources")?;
                query.finish()?;
                emulator.delete_ca_pool(name, ignore_dependents, request)
            }
            Method::DeleteCertificateAuthority => {
                let deletion = Deletion {
                    ignore_active_certificates: query.flag("ignoreActiveCertificates")?,
                    skip_grace_period: query.flag("skipGracePeriod")?,
                };
                // Nothing here depends on a CA.
                query.flag("ignoreDependentResources")?;
                query.finish()?;
                emulator.delete_ca(name, deletion, request)
            }
            method => {
                let mask = Mask::parse(&query.text("updateMask").unwrap_or_default())?;
                query.finish()?;
                match method {
                    Method::UpdateCaPool => emulator.update_ca_pool(name, &mask, request, body),
                    Method::UpdateCertificateAuthority => {
                        emulator.update_ca(name, &mask, request, body)
                    }
                    _ => return to_json(&emulator.update_certificate(name, &mask, body)?),
                }
            }
        };
        to_json(&operation?.started())
    }

    fn run_without_parameters(
        &self,
        emulator: &Emulator,
        body: &[u8],
    ) -> Result<Vec<u8>, ApiError> {
        let name = self.resource.as_str();
        match self.method {
            Method::GetCertificate => to_json(&emulator.get_certificate(name)?),
            Method::RevokeCertificate => to_json(&emulator.revoke_certificate(name, body)?),
            Method::GetCaPool => to_json(&emulator.get_ca_pool(name)?),
            Method::FetchCaCerts => to_json(&emulator.fetch_ca_certs_with(name, body)?),
            Method::SetIamPolicy => to_json(&emulator.set_pool_policy(name, body)?),
            Method::GetCertificateAuthority => to_json(&emulator.get_ca(name)?),
            Method::FetchCertificateAuthorityCsr => to_json(&emulator.fetch_csr(name)?),
            Method::ActivateCertificateAuthority => {
                to_json(&emulator.activate_ca(name, body)?.started())
            }
            Method::EnableCertificateAuthority => {
                to_json(&emulator.turn_ca(name, Turn::Enable, body)?.started())
            }
            Method::DisableCertificateAuthority => {
                to_json(&emulator.turn_ca(name, Turn::Disable, body)?.started())
            }
            Method::UndeleteCertificateAuthority => {
                to_json(&emulator.turn_ca(name, Turn::Undelete, body)?.started())
            }
            Method::GetLocation => to_json(&emulator.get_location(name)?),
            Method::GetOperation => to_json(&emulator.get_operation(name)?),
            Method::DeleteOperation => to_json(&emulator.delete_operation(name)?),
            Method::CancelOperation => to_json(&emulator.cancel_operation(name, body)?),
            Method::GetProjectIamPolicy => to_json(&emulator.get_project_policy(name, body)?),
            Method::SetProjectIamPolicy => to_json(&emulator.set_project_policy(name, body)?),
            Method::GenerateServiceIdentity => to_json(&service_identity(name)),
            _ => Err(ApiError::not_found(name)),
        }
    }
}

fn create_query(mut query: Params) -> Result<CreateQuery, ApiError> {
    let read = CreateQuery {
        certificate_id: query.text("certificateId"),
        request_id: query.text("requestId"),
        validate_only: query.flag("validateOnly")?,
        issuing_certificate_authority_id: query.text("issuingCertificateAuthorityId"),
    };
    query.finish().map(|()| read)
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(|error| ApiError::internal("The answer", error))
}

pub(crate) fn json_bytes(status: StatusCode, body: Vec<u8>) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json; charset=UTF-8")],
        body,
    )
        .into_response()
}

pub(crate) fn error_response(error: &ApiError) -> Response {
    let body = error.body().to_string().into_bytes();
    let mut response = json_bytes(status(error.code.http()), body);
    if error.code == Code::Unauthenticated {
        let headers = response.headers_mut();
        headers.insert(header::WWW_AUTHENTICATE, challenge(error));
    }
    response
}

/// An error whose header says how long to wait, if anything does.
pub(crate) fn refusal(error: &ApiError, retry_after: Option<Duration>) -> Response {
    let mut answer = error_response(error);
    if let Some(after) = retry_after {
        let seconds = whole_seconds(after).into();
        answer.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    answer
}

pub(crate) fn html(code: u16) -> Response {
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
#[path = "rest_tests.rs"]
mod tests;
