//! Say what a network's coins stand for, and so how its members settle with each other.

/// How members settle, fixed when a network is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Settlement {
    /// Coins are money of their own, and who offers puts some at risk.
    #[default]
    Coins,
    /// A coin counts a unit of this currency. Who earned coins writes an invoice, and gives them back when it is paid.
    Invoice(Currency),
    /// Coins count what members do for each other: who uses more than they give runs out.
    Barter,
}

impl Settlement {
    /// Whether who offers must put coins at risk. Where coins are credit among members who know each other, nobody's word
    /// is worth more by them.
    pub fn stakes(&self) -> bool {
        *self == Self::Coins
    }

    /// As on the ledger, with the currency or zeros.
    pub fn numbers(&self) -> (u8, [u8; 3]) {
        match self {
            Self::Coins => (0, [0; 3]),
            Self::Invoice(currency) => (1, currency.0),
            Self::Barter => (2, [0; 3]),
        }
    }

    /// Reads [`Self::numbers`]; none for what stands for nothing.
    pub fn of(kind: u8, currency: [u8; 3]) -> Option<Self> {
        match (kind, currency) {
            (0, [0, 0, 0]) => Some(Self::Coins),
            (1, letters) => Currency::of(letters).map(Self::Invoice),
            (2, [0, 0, 0]) => Some(Self::Barter),
            _ => None,
        }
    }

    /// The currency of what is invoiced.
    pub fn currency(&self) -> Option<&str> {
        match self {
            Self::Invoice(currency) => Some(currency.as_str()),
            Self::Coins | Self::Barter => None,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Coins => "coins",
            Self::Invoice(_) => "invoice",
            Self::Barter => "barter",
        }
    }
}

/// Three capital letters, as ISO 4217 has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Currency([u8; 3]);

impl Currency {
    /// None for anything but three capitals.
    pub fn of(letters: [u8; 3]) -> Option<Self> {
        letters.iter().all(u8::is_ascii_uppercase).then_some(Self(letters))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::str::FromStr for Currency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let letters = text.as_bytes().try_into().ok().and_then(Self::of);
        letters.ok_or_else(|| format!("expected three capital letters, as EUR; found {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_settlement_is_read_from_its_numbers_and_no_others_are() {
        let euro = "EUR".parse().unwrap();
        for settlement in [Settlement::Coins, Settlement::Invoice(euro), Settlement::Barter] {
            let (kind, currency) = settlement.numbers();
            assert_eq!(Settlement::of(kind, currency), Some(settlement));
        }
        assert_eq!(euro.as_str(), "EUR");
        for (kind, currency) in [(0, *b"EUR"), (1, [0; 3]), (1, *b"eur"), (2, *b"EUR"), (3, [0; 3])] {
            assert_eq!(Settlement::of(kind, currency), None, "{kind}");
        }
        for text in ["", "EU", "EURO", "eur", "E R"] {
            assert!(text.parse::<Currency>().is_err(), "{text}");
        }
    }
}
