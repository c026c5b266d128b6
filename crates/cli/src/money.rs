//! Read and show coins.

use crate::fault::{self, Fault, Result};
use alloy_primitives::{Address, U256};
use hodei_sdk::wallet::{format_coins, parse_coins};

/// What a coin is called.
pub(crate) const SYMBOL: &str = "hod";

/// Coins as typed, in wei.
pub(crate) fn parse(text: &str) -> Result<U256> {
    parse_coins(text).ok_or_else(|| {
        Fault::new(&fault::USAGE, "that is not an amount", "write coins as 1 or 0.25")
            .between("digits, and at most 18 after the point", format!("{text:?}"))
    })
}

/// The same where nothing is no answer.
pub(crate) fn some(text: &str) -> Result<U256> {
    let wei = parse(text)?;
    if wei.is_zero() {
        return Err(Fault::new(&fault::USAGE, "that is nothing", "name an amount, as 1 or 0.25")
            .between(format!("at least {}", exact(U256::from(1))), format!("{text:?}")));
    }
    Ok(wei)
}

/// `1.5 hod`, for people: what is below a billionth of a coin is left out where there is more. JSON has every wei.
pub(crate) fn show(wei: U256) -> String {
    let billionth = U256::from(1_000_000_000u64);
    let shown = if wei < billionth { wei } else { wei - wei % billionth };
    format!("{} {SYMBOL}", format_coins(shown))
}

/// Every wei of it, where sums must be seen to add up.
pub(crate) fn exact(wei: U256) -> String {
    format!("{} {SYMBOL}", format_coins(wei))
}

/// An account as typed.
pub(crate) fn account(text: &str) -> Result<Address> {
    let digits = text.strip_prefix("0x").unwrap_or_default();
    let wrong = |expected: &str| {
        Fault::new(&fault::USAGE, "that is not an account", "copy it whole").between(expected, format!("{text:?}"))
    };
    let address: Address = text.parse().map_err(|_| wrong("0x and 40 hex digits"))?;
    if digits.is_empty() {
        return Err(wrong("0x and 40 hex digits"));
    }
    // Mixed case carries EIP-55's checksum: a mistyped digit would lose the money.
    let mixed =
        digits.bytes().any(|byte| byte.is_ascii_uppercase()) && digits.bytes().any(|byte| byte.is_ascii_lowercase());
    if mixed && Address::parse_checksummed(text, None).is_err() {
        return Err(wrong("the checksum in its upper and lower case letters to fit"));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_account_is_noticed() {
        let good = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
        account(good).unwrap();
        account(&good.to_lowercase()).unwrap();
        assert!(account(&good.replace("5a", "5A")).is_err());
        assert!(account(&good[2..]).is_err() && account(&good[..40]).is_err());
    }

    #[test]
    fn amounts_that_are_none_say_what_was_expected() {
        assert_eq!(show(parse("1.50").unwrap()), "1.5 hod");
        assert_eq!(show(parse("0.000002628326416015").unwrap()), "0.000002628 hod");
        assert_eq!(exact(parse("0.000002628326416015").unwrap()), "0.000002628326416015 hod");
        assert_eq!(show(U256::from(7)), "0.000000000000000007 hod", "little is not nothing");
        let fault = parse("1,5").unwrap_err();
        assert_eq!(fault.found.as_deref(), Some("\"1,5\""));
        let fault = some("0.000").unwrap_err();
        assert_eq!(fault.code.id, "HD1001");
        assert_eq!(fault.expected.as_deref(), Some("at least 0.000000000000000001 hod"));
        assert_eq!(some("0.000000000000000001").unwrap(), U256::from(1));
        assert_eq!(some("0.0000000000000000001").unwrap_err().code.id, "HD1001", "below a unit");
    }
}
