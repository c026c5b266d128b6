//! Say in S3's codes what went wrong.

use hodei_sdk::{Fault, storage::PutError};
use hyper::StatusCode;
use s3s::{S3Error, S3ErrorCode, s3_error};

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
        Fault::NeedsOwner => s3_error!(AccessDenied, "{error}"),
        Fault::Funds { is_budget: true, .. } => {
            no_room(format!("The budget does not cover this: {error}. Raise it with: hodei wallet budget set"))
        }
        Fault::Funds { .. } => no_room(error.to_string()),
        Fault::Source(_) => s3_error!(IncompleteBody, "{error}"),
        Fault::Put(PutError::Full { .. }) => no_room(format!(
            "The bucket is full: {error}. Remove something, which gives its room back a minute later, or enlarge it with: \
             hodei data redundancy BUCKET --capacity SIZE"
        )),
        // Where more is to be had soon, `unplanned` says so.
        error if is_full(error) || matches!(error, Fault::NoRegion { .. }) => no_room(error.to_string()),
        error if error.is_temporary() => s3_error!(ServiceUnavailable, "{error}"),
        _ => s3_error!(InternalError, "{error}"),
    }
}

/// Whether what is on offer does not suffice.
pub(super) fn is_full(error: &Fault) -> bool {
    matches!(error, Fault::NoRoom { .. } | Fault::Shape(_) | Fault::TooFew { .. })
}

/// The same for a bucket that could not be planned: to be tried again where more room `is_due` by itself.
pub(super) fn unplanned(error: Fault, is_due: bool) -> S3Error {
    match is_due && is_full(&error) {
        true => s3_error!(ServiceUnavailable, "{error}; room that is given back soon may suffice"),
        false => fault(error),
    }
}

/// 403 `QuotaExceeded`, which no client retries: there is no room for it, or nothing to pay it with.
pub(super) fn no_room(message: String) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom("QuotaExceeded".into()), message);
    error.set_status_code(StatusCode::FORBIDDEN);
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::U256;

    #[test]
    fn what_has_no_room_is_refused_for_good() {
        let funds = |is_budget| Fault::Funds { has: U256::ZERO, needs: U256::ONE, is_budget };
        let full = Fault::NoRoom { needs: 1 << 30, found: 2 };
        let far = Fault::NoRegion { asked: vec!["moon".into()], there: vec!["attic".into()] };
        let used = Fault::Put(PutError::Full { full: 4, deals: 6, failure: "the last one's words".into() });
        assert!(fault(used.clone()).message().unwrap_or_default().contains("hodei data redundancy"));
        for error in [funds(true), funds(false), full, far, used] {
            let told = fault(error);
            assert_eq!((told.code().as_str(), told.status_code()), ("QuotaExceeded", Some(StatusCode::FORBIDDEN)));
        }
        let full = || Fault::NoRoom { needs: 1 << 30, found: 2 };
        let code = |error, is_due| unplanned(error, is_due).code().as_str().to_owned();
        assert_eq!((code(full(), false), code(full(), true)), ("QuotaExceeded".into(), "ServiceUnavailable".into()));
        assert_eq!(code(funds(true), true), "QuotaExceeded", "room is not what lacks");
        let says =
            |is_budget| fault(funds(is_budget)).message().unwrap_or_default().contains("hodei wallet budget set");
        assert!(says(true) && !says(false), "only who has a budget is told to raise it");
    }

    #[test]
    fn what_may_go_by_is_to_be_tried_again() {
        let acks = PutError::Acks { stripe: 0, acks: 4, want: 5, failure: "no answer".into() };
        for error in [Fault::Contended, Fault::Market("dearer".into()), Fault::Put(acks)] {
            assert_eq!(fault(error).code().as_str(), "ServiceUnavailable");
        }
        assert_eq!(fault(Fault::NeedsOwner).code().as_str(), "AccessDenied");
    }
}
