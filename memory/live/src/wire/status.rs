//! Errors as gRPC statuses, both directions; the table is in memory.proto.

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use super::BadMessage;
use crate::calls::MemoryError;

/// Metadata of a status: the field that the message is about.
const FIELD: &str = "weir-field";

/// What the service answers instead of a result.
pub fn status_of(error: MemoryError) -> Status {
    match error {
        MemoryError::Forbidden(message) => Status::permission_denied(message),
        MemoryError::Field { field, message } => {
            let mut status = Status::invalid_argument(message);
            if let Ok(value) = MetadataValue::try_from(field) {
                status.metadata_mut().insert(FIELD, value);
            }
            status
        }
        MemoryError::Refused(message) => Status::failed_precondition(message),
        MemoryError::Full(message) => Status::resource_exhausted(message),
        MemoryError::Away(message) => Status::unavailable(message),
        MemoryError::Late => Status::deadline_exceeded(MemoryError::Late.to_string()),
        MemoryError::Failed { .. } => Status::internal(error.to_string()),
    }
}

/// What a status means.
pub fn error_of(status: &Status) -> MemoryError {
    let message = status.message().to_owned();
    let field = status.metadata().get(FIELD);
    let field = field.and_then(|value| value.to_str().ok());
    match (status.code(), field) {
        (Code::PermissionDenied, _) => MemoryError::Forbidden(message),
        (Code::InvalidArgument, Some(field)) => MemoryError::Field {
            field: field.to_owned(),
            message,
        },
        (Code::FailedPrecondition, _) => MemoryError::Refused(message),
        (Code::ResourceExhausted, _) => MemoryError::Full(message),
        (Code::Unavailable, _) => MemoryError::Away(message),
        // tonic says `Cancelled` when the time of a call is over.
        (Code::DeadlineExceeded | Code::Cancelled, _) => MemoryError::Late,
        (code, _) => MemoryError::Failed {
            what: "the memory service",
            why: format!("{code:?}: {message}"),
        },
    }
}

impl From<BadMessage> for Status {
    fn from(error: BadMessage) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

impl From<BadMessage> for MemoryError {
    fn from(error: BadMessage) -> Self {
        Self::Failed {
            what: "reading the memory service's answer",
            why: error.to_string(),
        }
    }
}
