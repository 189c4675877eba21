//! The errors of the gateway's routes as statuses: the same message, code, type and field, and when to try again.
//!
//! Which status an error has is said by the one table, `rescue.rs`. Reading on: `details.rs`.

use super::details;
use crate::ask::AskError;
use crate::rescue::{Rescue, grpc_code};
use axum::body::Body;
use http::{HeaderMap, HeaderName, Response, StatusCode, header};
use serde_json::Value;
use tonic::Status;
use tonic::metadata::MetadataMap;

/// Longest body of an error that is read.
const BODY_MAX: usize = 1 << 20;

/// Whether a header is Weir's own, and metadata of the same name.
pub(super) fn ours(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-weir-") || name == "x-request-id"
}

/// What an answer says about itself.
pub(super) fn said(headers: &HeaderMap) -> MetadataMap {
    let told = |name: &HeaderName| {
        ours(name) || name == header::RETRY_AFTER || name.as_str() == "x-should-retry"
    };
    let told = headers.iter().filter(|(name, _)| told(name));
    let told = told.map(|(name, value)| (name.clone(), value.clone()));
    MetadataMap::from_headers(told.collect())
}

/// The status of a request that was refused.
pub(super) async fn refused(response: Response<Body>) -> Status {
    let (head, body) = response.into_parts();
    let body = axum::body::to_bytes(body, BODY_MAX).await;
    let body = body
        .ok()
        .and_then(|body| serde_json::from_slice(&body).ok());
    of_body(&body.unwrap_or_default(), &head.headers)
}

/// The status of an error that no route has made.
pub(super) fn of(rescue: &Rescue, headers: &HeaderMap) -> Status {
    rescue.log();
    of_body(&rescue.body(), headers)
}

/// A field that cannot be served.
pub(super) fn field(error: AskError) -> Status {
    of(&Rescue::from(error), &HeaderMap::new())
}

/// An answer that is none.
pub(super) fn unreadable() -> Status {
    let message = "the model's engine sent an unreadable answer";
    let rescue = Rescue::new(StatusCode::BAD_GATEWAY, "engine_failed", message);
    of(&rescue, &HeaderMap::new())
}

/// The status of an error's body, `{"error": {message, type, param, code}}`.
pub(super) fn of_body(body: &Value, headers: &HeaderMap) -> Status {
    let error = &body["error"];
    let text = |name: &str| error[name].as_str();
    let (kind, code) = (
        text("type").unwrap_or("api_error"),
        text("code").unwrap_or("internal"),
    );
    let message = text("message").unwrap_or("the gateway failed");
    let grpc = grpc_code(kind, code);
    let wait = headers.get(header::RETRY_AFTER);
    let wait = wait.and_then(|wait| wait.to_str().ok()?.parse().ok());
    let error = details::Error {
        kind,
        code,
        message,
        param: text("param"),
        retry_after_s: wait,
    };
    Status::with_details_and_metadata(grpc, message, error.encode(grpc), said(headers))
}
