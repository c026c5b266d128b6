//! Read quantities as Kubernetes writes them: `100m`, `1.5Gi`, `128974848`, `1e3`.

/// Digits a quantity may have.
const DIGITS_MAX: usize = 18;

pub(super) const CPU: &str = "CPUs, as \"500m\", \"2\" or \"0.5\"";
pub(super) const SIZE: &str = "bytes, as \"128Mi\", \"1.5G\" or \"1e9\"";

/// A unit as a power of ten and a power of two.
const UNITS: [(&str, i32, u32); 16] = [
    ("n", -9, 0),
    ("u", -6, 0),
    ("m", -3, 0),
    ("", 0, 0),
    ("k", 3, 0),
    ("M", 6, 0),
    ("G", 9, 0),
    ("T", 12, 0),
    ("P", 15, 0),
    ("E", 18, 0),
    ("Ki", 0, 10),
    ("Mi", 0, 20),
    ("Gi", 0, 30),
    ("Ti", 0, 40),
    ("Pi", 0, 50),
    ("Ei", 0, 60),
];

/// Thousandths of a CPU, a part of one as a whole one.
pub(super) fn milli(text: &str) -> Option<u64> {
    scaled(text, 3)
}

/// Bytes, a part of one as a whole one.
pub(super) fn bytes(text: &str) -> Option<u64> {
    scaled(text, 0)
}

/// A quantity times a power of ten, rounded up.
fn scaled(text: &str, more: i32) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{part}");
    if digits.is_empty() || digits.len() > DIGITS_MAX || part.contains('.') {
        return None;
    }
    let (ten, two) = match UNITS.iter().find(|(name, ..)| *name == unit) {
        Some((_, ten, two)) => (*ten, *two),
        None => (exponent(unit.strip_prefix(['e', 'E'])?)?, 0),
    };
    let ten = ten + more - i32::try_from(part.len()).ok()?;
    let number = digits.parse::<u128>().ok()?.checked_mul(1 << two)?;
    let power = 10_u128.checked_pow(ten.unsigned_abs())?;
    let number = if ten < 0 { number.div_ceil(power) } else { number.checked_mul(power)? };
    u64::try_from(number).ok()
}

fn exponent(text: &str) -> Option<i32> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let is_short = (1..=2).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse::<i32>().ok().filter(|number| is_short && *number <= 18).map(|number| sign * number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, number) in [
            ("128Mi", 128 << 20),
            ("1.5Gi", 3 << 29),
            (".5Ki", 512),
            ("1.", 1),
            ("1e3", 1000),
            ("1E3", 1000),
            ("1E", 1_000_000_000_000_000_000),
            ("12E-1", 2),
            ("1k", 1000),
            ("2M", 2_000_000),
            ("1500m", 2),
            ("1n", 1),
            ("0", 0),
            ("+7", 7),
            ("8Pi", 8 << 50),
        ] {
            assert_eq!(bytes(text), Some(number), "{text}");
        }
        for (text, number) in
            [("500m", 500), ("0.5", 500), ("2", 2000), (".1", 100), ("1u", 1), ("100000u", 100), ("1e-1", 100)]
        {
            assert_eq!(milli(text), Some(number), "{text}");
        }
        for text in [
            "",
            ".",
            "-1",
            "1K",
            "1mi",
            "1e",
            "1e+",
            "1e99",
            "1 Mi",
            "Mi",
            "1.2.3",
            "1Gib",
            "9999999999999999999",
            "100Ei",
            "e3",
            "++1",
        ] {
            assert_eq!(bytes(text), None, "{text:?}");
        }
    }
}
