//! Say in S3's codes what went wrong.

use hodei_sdk::Fault;
use s3s::{S3Error, s3_error};

/// The code that S3's clients act on: they retry what is temporary and nothing else.
pub(super) fn fault(error: Fault) -> S3Error {
    match &error {
        Fault::NoBucket(_) => s3_error!(NoSuchBucket, "{error}"),
        Fault::BucketExists(_) => s3_error!(BucketAlreadyOwnedByYou, "{error}"),
        Fault::Removing(_) => s3_error!(OperationAborted, "{error}"),
        Fault::NotEmpty(_) => s3_error!(BucketNotEmpty, "{error}"),
        Fault::NoObject { .. } => s3_error!(NoSuchKey, "{error}"),
        Fault::NoVersion { .. } => s3_error!(NoSuchVersion, "{error}"),
        Fault::Marker { .. } => s3_error!(MethodNotAllowed, "{error}"),
        Fault::ObjectExists { .. } | Fault::Condition { .. } => s3_error!(PreconditionFailed, "{error}"),
        Fault::Locked { .. } | Fault::Kept { .. } => s3_error!(AccessDenied, "{error}"),
        Fault::Setting(_) | Fault::KeptFull(_) | Fault::PayTooLow { .. } | Fault::ReadPriceTooLow { .. } => {
            s3_error!(InvalidBucketState, "{error}")
        }
        Fault::Customer(_) => s3_error!(InvalidRequest, "{error}"),
        Fault::Name(..) => s3_error!(InvalidArgument, "{error}"),
        Fault::Range { .. } => s3_error!(InvalidRange, "{error}"),
        Fault::Funds { .. } | Fault::NeedsOwner => {
            s3_error!(AccessDenied, "The budget does not cover this: {error}. Raise it with: hodei wallet budget set")
        }
        Fault::Source(_) => s3_error!(IncompleteBody, "{error}"),
        // Providers come and go; clients ask again.
        Fault::NoRoom { .. } | Fault::Shape(_) | Fault::TooFew { .. } | Fault::NoRegion { .. } => {
            s3_error!(ServiceUnavailable, "{error}")
        }
        error if error.is_temporary() => s3_error!(ServiceUnavailable, "{error}"),
        _ => s3_error!(InternalError, "{error}"),
    }
}
