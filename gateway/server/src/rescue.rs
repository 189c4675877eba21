//! The one table from every error to what a client sees: status, body, headers; and gRPC's code.
//!
//! Outside and inside differ: a client reads what to change, never an address, a path or a key; the whole chain goes to
//! the log once, where a response is made. Bodies are OpenAI's: `{"error": {message, type, param, code}}`.
//! Reading on: `answer.rs` and weir-engine's `EngineError` for what can go wrong.

use crate::ask::AskError;
use crate::auth::{AuthError, Refused};
use crate::error::AnswerError;
use crate::jwt::TokenError;
use crate::quota::OverBudget;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use std::error::Error;
use std::time::Duration;
use tonic::Code;
use weir_engine::{EngineError, Fault};
use weir_memory_live::MemoryError;
use weir_plan::{GatewayPlan, chain};

/// Asked for when nothing says how long to wait.
const RETRY: Duration = Duration::from_secs(1);

/// Longest time that a client is told to wait and ask again by itself.
const WAITED_FOR: Duration = Duration::from_secs(60);

/// Code of a token that opens nothing, which is also its word in `WWW-Authenticate` (RFC 6750, section 3.1).
const INVALID_TOKEN: &str = "invalid_token";

/// An error on its way to the client.
#[derive(Debug)]
pub(crate) struct Rescue {
    status: StatusCode,
    code: &'static str,
    message: String,
    param: Option<String>,
    retry_after: Option<Duration>,
    should_retry: bool,
    inside: Option<String>,
}

impl Rescue {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            param: None,
            retry_after: None,
            should_retry: false,
            inside: None,
        }
    }

    /// 400 that names the field.
    pub(crate) fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            ..Self::new(StatusCode::BAD_REQUEST, "invalid_value", message)
        }
    }

    /// 404 with the models that there are.
    pub(crate) fn unknown_model(model: &str, plan: &GatewayPlan) -> Self {
        let shown: String = model.chars().take(80).collect();
        let known: Vec<&str> = plan.pools.iter().map(|pool| pool.model.as_str()).collect();
        let message = format!(
            "model {shown:?} is not served here: send auto, {}",
            known.join(", ")
        );
        let rescue = Self::new(StatusCode::NOT_FOUND, "model_not_found", message);
        Self {
            param: Some("model".to_owned()),
            ..rescue
        }
    }

    /// 403: the pool lies beyond what the request or the gateway allows.
    pub(crate) fn privacy(model: &str) -> Self {
        let message = format!("model {model:?} lies beyond the privacy limit of this request");
        let rescue = Self::new(StatusCode::FORBIDDEN, "privacy_limit", message);
        Self {
            param: Some("weir.privacy".to_owned()),
            ..rescue
        }
    }

    /// 404 of a thing that is not there, or not the caller's.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("{what} is not known here"),
        )
    }

    /// 422: readable, but it does not fit what is stored.
    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", message)
    }

    /// 429: there is capacity, and it is taken.
    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limit_exceeded",
            message,
        )
        .retry_in(RETRY)
    }

    /// 503: there is no capacity now.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message).retry_in(RETRY)
    }

    pub(crate) fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
    }

    /// 500 with the reason in the log only.
    pub(crate) fn internal(what: &str, error: &(dyn Error + 'static)) -> Self {
        let message = format!("{what} failed inside the gateway");
        let rescue = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message);
        Self {
            inside: Some(chain(error)),
            ..rescue
        }
    }

    fn retry_in(self, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            should_retry: true,
            ..self
        }
    }

    fn caused_by(self, error: &(dyn Error + 'static)) -> Self {
        Self {
            inside: Some(chain(error)),
            ..self
        }
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The body, also used as the last event of a stream that broke.
    pub(crate) fn body(&self) -> Value {
        json!({"error": {
            "message": self.message, "type": kind(self.status), "param": self.param, "code": self.code,
        }})
    }

    /// The same error of a request whose fields have other names: each pair is the name here and the client's.
    pub(crate) fn renamed(mut self, names: &[(&str, &str)]) -> Self {
        let Some(param) = self.param.clone() else {
            return self;
        };
        for (here, theirs) in names {
            let rest = param
                .strip_prefix(here)
                .filter(|rest| rest.is_empty() || rest.starts_with(['[', '.']));
            if let Some(rest) = rest {
                self.message = self.message.replace(&param, &format!("{theirs}{rest}"));
                self.param = Some(format!("{theirs}{rest}"));
                return self;
            }
        }
        self
    }

    /// The message for the client, and the code that goes with it.
    pub(crate) fn says(&self) -> (&str, &'static str) {
        (&self.message, self.code)
    }

    /// The body as the event that ends a broken stream.
    pub(crate) fn event(&self) -> String {
        format!("data: {}\n\n", self.body())
    }

    /// Says it to the log, with what the client does not see.
    pub(crate) fn log(&self) {
        let (status, code) = (self.status.as_u16(), self.code);
        match &self.inside {
            Some(inside) if self.status.is_server_error() => {
                tracing::error!(status, code, "{inside}");
            }
            Some(inside) => tracing::info!(status, code, "{inside}"),
            // The message may quote what the client sent.
            None => tracing::debug!(status, code, param = self.param, "refused"),
        }
    }
}

impl IntoResponse for Rescue {
    fn into_response(self) -> Response {
        self.log();
        let mut response = (self.status, axum::Json(self.body())).into_response();
        let headers = response.headers_mut();
        let retry = HeaderValue::from_static(if self.should_retry { "true" } else { "false" });
        headers.insert("x-should-retry", retry);
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            if let Ok(value) = HeaderValue::try_from(seconds.to_string()) {
                headers.insert(header::RETRY_AFTER, value);
            }
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = match self.code {
                INVALID_TOKEN => "Bearer error=\"invalid_token\"",
                _ => "Bearer",
            };
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(challenge),
            );
        }
        response
    }
}

/// OpenAI's error type of a status.
fn kind(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        503 => "service_unavailable_error",
        504 => "timeout_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// gRPC's code of an error with this type and code.
pub(crate) fn grpc_code(kind: &str, code: &str) -> Code {
    match (kind, code) {
        (_, "body_too_large") | ("rate_limit_error", _) => Code::ResourceExhausted,
        (_, "body_slow") | ("timeout_error", _) => Code::DeadlineExceeded,
        (_, "engine_failed") | ("service_unavailable_error", _) => Code::Unavailable,
        (_, "unprocessable") => Code::FailedPrecondition,
        ("authentication_error", _) => Code::Unauthenticated,
        ("permission_error", _) => Code::PermissionDenied,
        ("not_found_error", _) => Code::NotFound,
        ("api_error", _) => Code::Internal,
        _ => Code::InvalidArgument,
    }
}

impl From<AskError> for Rescue {
    fn from(error: AskError) -> Self {
        Self::field(error.param, error.message)
    }
}

impl From<AuthError> for Rescue {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Missing | AuthError::Unknown => Self::new(
                StatusCode::UNAUTHORIZED,
                "invalid_api_key",
                error.to_string(),
            ),
            AuthError::Scope(_) => {
                Self::new(StatusCode::FORBIDDEN, "missing_scope", error.to_string())
            }
        }
    }
}

impl From<Refused> for Rescue {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Key(error) => error.into(),
            Refused::Token(error) => error.into(),
        }
    }
}

impl From<TokenError> for Rescue {
    fn from(error: TokenError) -> Self {
        let forbidden = |code| Self::new(StatusCode::FORBIDDEN, code, error.to_string());
        match error {
            TokenError::KeysAway(wait) => Self {
                code: "issuer_unavailable",
                ..Self::unavailable(error.to_string()).retry_in(wait)
            },
            TokenError::NoTenant => forbidden("no_tenant"),
            TokenError::UnknownTenant => forbidden("unknown_tenant"),
            _ => Self::new(StatusCode::UNAUTHORIZED, INVALID_TOKEN, error.to_string()),
        }
    }
}

impl From<OverBudget> for Rescue {
    fn from(over: OverBudget) -> Self {
        let busy = Self::busy(over.to_string()).retry_in(over.wait);
        Self {
            should_retry: over.wait <= WAITED_FOR,
            ..busy
        }
    }
}

impl From<EngineError> for Rescue {
    fn from(error: EngineError) -> Self {
        Self::from(&error)
    }
}

impl From<&EngineError> for Rescue {
    fn from(error: &EngineError) -> Self {
        let bad_gateway =
            |message: &str| Self::new(StatusCode::BAD_GATEWAY, "engine_failed", message);
        let rescue = match error {
            EngineError::NoEndpoint { .. } | EngineError::Refused { .. } => {
                Self::unavailable("no replica of the model can answer now")
            }
            EngineError::Cold { .. } => {
                Self::unavailable("the model is being started: try again shortly")
            }
            EngineError::Busy { retry_after, .. } => {
                Self::busy("the model is busy").retry_in(*retry_after)
            }
            EngineError::BreakerOpen { retry_after, .. } => {
                Self::unavailable("every replica of the model failed lately").retry_in(*retry_after)
            }
            EngineError::TimedOut { waited, .. } => Self::timeout(format!(
                "the model did not finish within {} ms",
                waited.as_millis()
            )),
            EngineError::Context {
                prompt_tokens,
                context_tokens,
                ..
            } => Self {
                param: Some("messages".to_owned()),
                code: "context_length_exceeded",
                ..Self::field("messages", beyond_context(*prompt_tokens, *context_tokens))
            },
            EngineError::Status {
                status: 429,
                retry_after,
                ..
            } => Self::busy("the model is busy").retry_in(retry_after.unwrap_or(RETRY)),
            EngineError::Status {
                status: 503,
                retry_after,
                ..
            } => Self::unavailable("the model cannot answer now")
                .retry_in(retry_after.unwrap_or(RETRY)),
            EngineError::Status { status: 501, .. } => Self::field(
                "model",
                "the model's engine does not offer this: choose a model that does",
            ),
            EngineError::Status {
                status, message, ..
            } if error.fault() == Fault::Client => {
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_REQUEST);
                Self::new(status, "refused_by_engine", message.clone())
            }
            _ if error.fault() == Fault::Configuration => {
                bad_gateway("the gateway's access to the model is not configured rightly")
            }
            EngineError::BadEvent { .. } => {
                bad_gateway("the model's engine sent an unreadable answer")
            }
            _ => Self {
                should_retry: true,
                ..bad_gateway("the model's engine failed")
            },
        };
        Self {
            inside: Some(logged(error)),
            ..rescue
        }
    }
}

/// What the log says of an engine's failure. What the engine itself said of it may quote the prompt.
pub(crate) fn logged(error: &EngineError) -> String {
    match error {
        EngineError::Status { pool, status, .. } => format!("pool `{pool}` answered {status}"),
        _ => chain(error),
    }
}

impl From<AnswerError> for Rescue {
    fn from(error: AnswerError) -> Self {
        let rescue = match &error {
            AnswerError::Engine(error) => return Self::from(error),
            AnswerError::BadInput(error) => return Self::from(error.clone()),
            AnswerError::UnknownModel { .. } => Self {
                param: Some("model".to_owned()),
                ..Self::new(StatusCode::NOT_FOUND, "model_not_found", error.to_string())
            },
            AnswerError::Privacy { .. } => Self {
                param: Some("weir.privacy".to_owned()),
                ..Self::new(StatusCode::FORBIDDEN, "privacy_limit", error.to_string())
            },
            AnswerError::PromptTooLong { .. } => Self {
                code: "context_length_exceeded",
                ..Self::field("messages", error.to_string())
            },
            AnswerError::Unavailable { retry_after } => {
                Self::unavailable(error.to_string()).retry_in(*retry_after)
            }
            AnswerError::Late { .. } => Self::timeout(error.to_string()),
            AnswerError::Choose(_)
            | AnswerError::Judge(_)
            | AnswerError::NoSuchArm { .. }
            | AnswerError::Lost { .. } => return Self::internal("answering", &error),
        };
        rescue.caused_by(&error)
    }
}

/// The message of a prompt that does not fit, with both numbers where they are known.
pub(crate) fn beyond_context(prompt_tokens: u32, context_tokens: u32) -> String {
    format!(
        "the prompt has {prompt_tokens} tokens, the model takes {context_tokens}: shorten the messages"
    )
}

impl From<MemoryError> for Rescue {
    fn from(error: MemoryError) -> Self {
        match &error {
            MemoryError::Forbidden(message) => Self::new(StatusCode::FORBIDDEN, "tenant", message),
            MemoryError::Field { field, message } => Self::field(field, message),
            MemoryError::Refused(message) => Self::unprocessable(message),
            MemoryError::Full(message) => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "insufficient_storage",
                message,
            ),
            MemoryError::Away(message) => Self::unavailable(message),
            MemoryError::Late => Self::timeout(
                "the memory did not finish in time; what was sent may still be stored",
            ),
            MemoryError::Failed { what, .. } => Self::internal(what, &error),
        }
    }
}
