//! What a status says beyond its code, in the messages that gRPC's clients know: `google.rpc.Status` and its details.
//!
//! Only the fields that are used. Source: google/rpc/status.proto and error_details.proto, whose numbers these are.

use bytes::Bytes;
use prost::Message;
use std::collections::HashMap;
use tonic::Code;

/// Whose codes they are.
pub const DOMAIN: &str = "weir";

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub struct RpcStatus {
    /// As the call's own status.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// As the call's own status.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Messages of the types below.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub struct Any {
    /// `type.googleapis.com/` and the name of the type.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, Message)]
pub struct ErrorInfo {
    /// The `code` of the HTTP body.
    #[prost(string, tag = "1")]
    pub reason: String,
    /// [`DOMAIN`].
    #[prost(string, tag = "2")]
    pub domain: String,
    /// The `type` of the HTTP body.
    #[prost(map = "string, string", tag = "3")]
    pub metadata: HashMap<String, String>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
pub struct RetryInfo {
    /// When asking again helps.
    #[prost(message, optional, tag = "1")]
    pub retry_delay: Option<Seconds>,
}

/// `google.protobuf.Duration`, in whole seconds.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Seconds {
    /// How many.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
}

/// `google.rpc.BadRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct BadRequest {
    /// One.
    #[prost(message, repeated, tag = "1")]
    pub field_violations: Vec<FieldViolation>,
}

/// `google.rpc.BadRequest.FieldViolation`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct FieldViolation {
    /// The path of the field.
    #[prost(string, tag = "1")]
    pub field: String,
    /// What is wrong with it.
    #[prost(string, tag = "2")]
    pub description: String,
}

/// An error as the HTTP body and headers say it.
pub(super) struct Error<'a> {
    pub(super) kind: &'a str,
    pub(super) code: &'a str,
    pub(super) message: &'a str,
    pub(super) param: Option<&'a str>,
    pub(super) retry_after_s: Option<i64>,
}

impl Error<'_> {
    pub(super) fn encode(&self, grpc: Code) -> Bytes {
        let info = ErrorInfo {
            reason: self.code.to_owned(),
            domain: DOMAIN.to_owned(),
            metadata: HashMap::from([("type".to_owned(), self.kind.to_owned())]),
        };
        let mut details = vec![any("ErrorInfo", &info)];
        if let Some(param) = self.param {
            let violation = FieldViolation {
                field: param.to_owned(),
                description: self.message.to_owned(),
            };
            let field_violations = vec![violation];
            details.push(any("BadRequest", &BadRequest { field_violations }));
        }
        if let Some(seconds) = self.retry_after_s {
            let retry_delay = Some(Seconds { seconds });
            details.push(any("RetryInfo", &RetryInfo { retry_delay }));
        }
        let status = RpcStatus {
            code: grpc.into(),
            message: self.message.to_owned(),
            details,
        };
        status.encode_to_vec().into()
    }
}

fn any(name: &str, message: &impl Message) -> Any {
    Any {
        type_url: format!("type.googleapis.com/google.rpc.{name}"),
        value: message.encode_to_vec(),
    }
}
