//! Say what went wrong in the codes and words that Ethereum's clients match on.

use alloy_primitives::Bytes;
use alloy_sol_types::{Revert, SolError as _};
use hodei_types::chain::ChainError;
use jsonrpsee::types::{
    ErrorObjectOwned,
    error::{INTERNAL_ERROR_CODE, INVALID_PARAMS_CODE, METHOD_NOT_FOUND_CODE},
};

/// geth's code for a refused transaction and other failures that are the caller's.
const REFUSED: i32 = -32000;
/// "Resource unavailable" of EIP-1474: try again.
const UNAVAILABLE: i32 = -32002;
/// "Limit exceeded" of EIP-1474.
const LIMIT: i32 = -32005;
/// A revert, whose `data` is what it returned.
const REVERTED: i32 = 3;

pub(super) type Result<T> = std::result::Result<T, ErrorObjectOwned>;

pub(super) fn chain(error: ChainError) -> ErrorObjectOwned {
    match error {
        ChainError::Refused(reason) => refused(reason),
        ChainError::Reverted(output) => reverted(&output),
        ChainError::Unavailable(reason) => ErrorObjectOwned::owned(UNAVAILABLE, reason, None::<()>),
        ChainError::Invalid(reason) => ErrorObjectOwned::owned(INTERNAL_ERROR_CODE, reason, None::<()>),
    }
}

pub(super) fn refused(reason: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(REFUSED, reason, None::<()>)
}

pub(super) fn limit(reason: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(LIMIT, reason, None::<()>)
}

pub(super) fn params(reason: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(INVALID_PARAMS_CODE, reason, None::<()>)
}

/// A subscription over HTTP, in geth's code and first words.
pub(super) fn pushless() -> ErrorObjectOwned {
    let reason = "notifications not supported: open a WebSocket on this port";
    ErrorObjectOwned::owned(METHOD_NOT_FOUND_CODE, reason, None::<()>)
}

/// `execution reverted`, with the reason in words where there is one, and the raw output as data.
pub(super) fn reverted(output: &Bytes) -> ErrorObjectOwned {
    let message = match Revert::abi_decode(output) {
        Ok(revert) => format!("execution reverted: {}", revert.reason),
        Err(_) => "execution reverted".to_owned(),
    };
    ErrorObjectOwned::owned(REVERTED, message, Some(output))
}

#[cfg(test)]
mod tests {
    use super::reverted;
    use alloy_primitives::Bytes;
    use alloy_sol_types::{Revert, SolError as _};

    #[test]
    fn a_revert_carries_its_reason_and_its_bytes() {
        let output: Bytes = Revert::from("too little").abi_encode().into();
        let error = reverted(&output);
        assert_eq!((error.code(), error.message()), (3, "execution reverted: too little"));
        assert_eq!(error.data().unwrap().get(), format!("\"{output}\""));
        assert_eq!(reverted(&Bytes::from_static(&[1, 2])).message(), "execution reverted");
    }
}
