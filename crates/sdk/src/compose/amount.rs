//! Read durations, sizes and CPUs as docker writes them.

use crate::app::thousandths;

pub(super) const DURATION: &str = "a duration, as \"30s\", \"1m30s\" or \"500ms\"";
pub(super) const SIZE: &str = "a size, as \"64m\", \"512mb\" or \"1.5g\"";
pub(super) const CPUS: &str = "CPUs, as \"0.5\" or \"2\", in thousandths at finest";

/// What lasts longer is no duration of a deployment: 400 days.
const DURATION_MS_MAX: u64 = 400 * 86_400_000;

/// Milliseconds of `1m30s`.
pub(super) fn duration_ms(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 6] =
        [("ms", 1_000), ("us", 1), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000)];
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut micros) = (text, 0_u64);
    while !rest.is_empty() {
        let number = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (unit, scale) = UNITS.iter().find(|(unit, _)| rest[number..].starts_with(unit))?;
        micros = micros.checked_add(scaled(&rest[..number], *scale)?)?;
        rest = &rest[number + unit.len()..];
    }
    Some(micros / 1000).filter(|ms| !text.is_empty() && *ms <= DURATION_MS_MAX)
}

/// Bytes of `64m` or `1.5gb`: units are powers of 1024, as they are to docker.
pub(super) fn size_bytes(text: &str) -> Option<u64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let unit = text[end..].trim_start_matches(' ').to_ascii_lowercase();
    let scale = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if unit.len() < 2 => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    scaled(&text[..end], 1 << scale)
}

/// Thousandths of a CPU.
pub(super) fn cpu_milli(text: &str) -> Option<u64> {
    let is_number = text.contains(|letter: char| letter.is_ascii_digit());
    let text = if text.starts_with('.') { format!("0{text}") } else { text.to_owned() };
    let text = if text.contains('.') { text.trim_end_matches('0') } else { &text };
    let text = text.strip_suffix('.').unwrap_or(text);
    if is_number { thousandths(text) } else { None }
}

/// A decimal number of a unit, rounded down.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(part) || part.len() > 9 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    let part = u128::from(if part.is_empty() { 0 } else { part.parse::<u64>().ok()? }) * u128::from(scale)
        / 10_u128.pow(part.len() as u32);
    whole.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_docker_writes_them() {
        for (text, ms) in [
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("1h5m", 3_900_000),
            ("500ms", 500),
            ("1.5s", 1_500),
            ("2500us", 2),
            ("0", 0),
            ("1d", 86_400_000),
        ] {
            assert_eq!(duration_ms(text), Some(ms), "{text}");
        }
        for text in ["", "30", "s", "-1s", "1 s", "1x", "1s5", "999999999999999h", "401d", "1..5s", "∞s"] {
            assert_eq!(duration_ms(text), None, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("64m", 64 << 20),
            ("1.5gb", 3 << 29),
            ("512MB", 512 << 20),
            ("1GiB", 1 << 30),
            ("300", 300),
            ("10b", 10),
            ("2 k", 2048),
        ] {
            assert_eq!(size_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "m", "-1m", "1.m.m", "1x", "1mbb", "1ib", "1bm", "99999999999t", ".5g"] {
            assert_eq!(size_bytes(text), None, "{text:?}");
        }
    }

    #[test]
    fn cpus_are_thousandths() {
        for (text, milli) in [("0.50", 500), (".5", 500), ("2", 2000), ("10", 10_000), ("1.0", 1000), ("0.12500", 125)]
        {
            assert_eq!(cpu_milli(text), Some(milli), "{text}");
        }
        for text in ["", ".", "-1", "0.0001", "1e3", "half"] {
            assert_eq!(cpu_milli(text), None, "{text:?}");
        }
    }
}
