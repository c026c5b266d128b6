//! Ask a module of the ledger a typed question.

use crate::chain::{Chain, ChainError};
use alloy_primitives::Address;
use alloy_sol_types::{SolCall, SolInterface};

/// Calls `function` of the module at `to` on the finalized head, from nobody, and decodes the answer.
pub async fn ask<C: SolCall>(chain: &dyn Chain, to: Address, function: &C) -> Result<C::Return, ChainError> {
    let answer = chain.call(Address::ZERO, to, function.abi_encode().into()).await?;
    C::abi_decode_returns(&answer).map_err(|error| ChainError::Invalid(format!("{}: {error}", C::SIGNATURE)))
}

/// The typed error of a revert, such as `IDealsErrors`, if `error` is one and the interface knows it.
pub fn revert<E: SolInterface>(error: &ChainError) -> Option<E> {
    match error {
        ChainError::Reverted(output) => E::abi_decode(output).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::IDeals::{ChallengeOpen, IDealsErrors};
    use alloy_primitives::B256;
    use alloy_sol_types::SolError;

    #[test]
    fn reverts_are_typed() {
        let wanted = ChallengeOpen { provider: B256::repeat_byte(3), window: 7 };
        let error = ChainError::Reverted(wanted.abi_encode().into());
        assert_eq!(revert::<IDealsErrors>(&error), Some(IDealsErrors::ChallengeOpen(wanted)));
        assert_eq!(revert::<IDealsErrors>(&ChainError::Reverted(vec![1, 2, 3, 4].into())), None);
        assert_eq!(revert::<IDealsErrors>(&ChainError::Unavailable("x".into())), None);
    }
}
